//go:build linux

package buildtest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"
)

// startTime is how long an engine may take to answer, on a busy machine.
const startTime = 60 * time.Second

// prefix begins the name of every folder and control group that an engine has, all of them gone when the test binary is.
const prefix = "abp-engine-"

// home is the folder of one engine, short because the paths of sockets are bounded, with the shell that deletes it.
type home struct {
	dir     string
	release io.Closer
	janitor *exec.Cmd
}

// The janitor outlives the test binary, so that a killed one leaves nothing. It waits for the end of its standard input.
// The engine's processes are ended by then or about to be: until the last is gone, a folder or a control group can be
// busy.
const janitor = `read -r _ || :
n=0
while [ $n -lt 100 ]; do
  find /sys/fs/cgroup -depth -type d -path "*/$2*" -exec rmdir {} + 2>/dev/null
  rm -rf --one-file-system "$1" 2>/dev/null
  if [ ! -e "$1" ] && [ -z "$(find /sys/fs/cgroup -type d -path "*/$2*" -print -quit)" ]; then exit 0; fi
  n=$((n+1))
  sleep 0.05
done
rm -rf --one-file-system "$1"
exit 1`

// newHome makes the folder of an engine. It is deleted by remove, or when the test binary ends.
func newHome(t testing.TB) *home {
	t.Helper()
	if os.Getuid() != 0 {
		unavailable(t, "it is started in namespaces of its own, which takes root")
	}
	dir, err := os.MkdirTemp("", prefix)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	h := &home{dir: dir, janitor: exec.Command("/bin/sh", "-c", janitor, "sh", dir, filepath.Base(dir))}
	// A signal for the test binary's process group, as a terminal sends it, is not for the janitor.
	h.janitor.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if h.release, err = h.janitor.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	if err := h.janitor.Start(); err != nil {
		t.Fatal(err)
	}
	return h
}

// remove deletes the folder and the control groups.
func (h *home) remove() error {
	_ = h.release.Close()
	if err := h.janitor.Wait(); err != nil {
		return fmt.Errorf("delete what the engine in %s left: %w", h.dir, err)
	}
	return nil
}

// path is a path in the folder.
func (h *home) path(elem ...string) string { return filepath.Join(append([]string{h.dir}, elem...)...) }

func (h *home) write(t testing.TB, name, content string) string {
	t.Helper()
	path := h.path(name)
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
	return path
}

func (h *home) mkdir(t testing.TB, name string, owner int) {
	t.Helper()
	if err := os.Mkdir(h.path(name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.Chown(h.path(name), owner, owner); err != nil {
		t.Fatal(err)
	}
}

// share lets the ordinary user open a socket, and no other one.
func (h *home) share(t testing.TB, socket string) {
	t.Helper()
	if err := os.Chown(h.path(socket), -1, userID); err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(h.path(socket), 0o660); err != nil {
		t.Fatal(err)
	}
}

// process is an engine that runs.
type process struct {
	home *home
	cmd  *exec.Cmd
	done chan struct{} // closed when it has ended
	err  error         // how it ended; to be read after done
}

// command says how to start an engine.
type command struct {
	// prelude are shell commands that run in the new namespaces before the engine, as root.
	prelude string
	args    []string
	env     []string
	// network gives it a network namespace of its own.
	network bool
}

// start starts an engine as process 1 of new namespaces. Its output goes to the file "log" of its folder.
func (h *home) start(t testing.TB, c command) *process {
	t.Helper()
	log, err := os.Create(h.path("log"))
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close()
	// Engines and runc keep state in /run, which nothing but the end of the machine would delete.
	script := "set -e\nmount --make-rprivate /\nmount -t proc proc /proc\nmount -t tmpfs tmpfs /run\n" + c.prelude + "\nexec \"$@\"\n"
	p := &process{home: h, done: make(chan struct{})}
	p.cmd = exec.Command("/bin/sh", append([]string{"-c", script, "sh"}, c.args...)...)
	p.cmd.Dir = h.dir
	p.cmd.Env = c.env
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: syscall.CLONE_NEWNS | syscall.CLONE_NEWPID,
		Setpgid:    true,
		Pdeathsig:  syscall.SIGKILL,
	}
	if c.network {
		p.cmd.SysProcAttr.Cloneflags |= syscall.CLONE_NEWNET
	}
	started := make(chan error)
	go func() {
		// The signal at the parent's death is one at the death of the thread that started the child. Go ends a thread with
		// a goroutine that has locked it: this one is let go, since another child may be one of the same thread.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := p.cmd.Start()
		started <- err
		if err == nil {
			p.err = p.cmd.Wait()
		}
		close(p.done)
	}()
	if err := <-started; err != nil {
		_ = h.remove()
		unavailable(t, "start %s: %v", c.args[0], err)
	}
	return p
}

// await polls until ready answers without an error. An engine that ends before, or takes too long, ends the test.
func (p *process) await(t testing.TB, ready func() error) {
	t.Helper()
	timeout := time.After(startTime)
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		err := ready()
		if err == nil {
			return
		}
		var reason string
		select {
		case <-tick.C:
			continue
		case <-p.done:
			reason = fmt.Sprintf("it ended: %v", p.err)
		case <-timeout:
			reason = fmt.Sprintf("it does not answer: %v", err)
		}
		log := p.log()
		if err := p.stop(); err != nil {
			t.Error(err)
		}
		unavailable(t, "start %s: %s\n%s", strings.Join(p.cmd.Args[4:], " "), reason, log)
	}
}

// log is what it has written.
func (p *process) log() string {
	content, err := os.ReadFile(p.home.path("log"))
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err.Error()
	}
	return string(bytes.TrimSpace(content))
}

// kill ends it and everything in its namespaces at once.
func (p *process) kill() {
	_ = p.cmd.Process.Kill()
	<-p.done
}

// stop kills it, which is quicker than letting it put things in order that are deleted then, and deletes what it has.
func (p *process) stop() error {
	p.kill()
	return p.home.remove()
}

// stopWith stops it at the end of a test, and shows the end of its log if the test has failed.
func (p *process) stopWith(t testing.TB) {
	t.Cleanup(func() {
		if t.Failed() {
			lines := strings.Split(p.log(), "\n")
			t.Logf("the last lines of %s:\n%s", p.cmd.Args[4], strings.Join(lines[max(0, len(lines)-40):], "\n"))
		}
		if err := p.stop(); err != nil {
			t.Error(err)
		}
	})
}
