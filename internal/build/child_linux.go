package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	buildkit "github.com/moby/buildkit/client"
	"golang.org/x/sys/unix"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	// childStartTime is how long a buildkitd may take until it answers. It tries out snapshotters and emulators first.
	childStartTime = 30 * time.Second
	// childStopTime is how long it may take to end in order; then it is killed.
	childStopTime = 5 * time.Second
	// childPoll is the time between two looks whether it answers.
	childPoll = 20 * time.Millisecond
)

// systemPrograms are folders of programs that an ordinary user's PATH often lacks, and that have runc.
const systemPrograms = "/usr/local/sbin:/usr/sbin:/sbin"

// buildkitd starts a BuildKit daemon from PATH that ends with the Builder: as root in a process namespace and a mount
// namespace of its own, and for everyone else, and root of a container, by rootlesskit in a user namespace. Whatever ends this program, the
// kernel ends the daemon with it, and with the daemon's namespaces all of its containers and mounts.
//
// Its layers and caches stay in the folder airbyte-publish/buildkit of the user's cache folder (XDG_CACHE_HOME), so
// that the next run on the machine finds them; BuildKit's own garbage collection bounds them. A run at the same time
// has a folder of its own beside it.
func (d *dialing) buildkitd(ctx context.Context, log connector.Log) ([]*engine, error) {
	c, err := d.newChild()
	if err != nil {
		return nil, err
	}
	var errs []error
	for _, args := range c.ways() {
		e, err := c.start(ctx, args)
		if err == nil {
			return []*engine{e}, nil
		}
		if said := c.output.String(); said != "" && ctx.Err() == nil {
			log.Untrusted("buildkitd, which did not start", said)
		}
		errs = append(errs, err)
		if ctx.Err() != nil {
			break
		}
	}
	_ = c.release()
	return nil, fmt.Errorf("the program buildkitd did not start: %w", errors.Join(errs...))
}

// child is a buildkitd that this program starts.
type child struct {
	program, rootlesskit string
	env                  []string
	flags                []string
	state                *stateDir

	cmd    *exec.Cmd
	output *tail
	// done is closed when it has ended, and err is how then.
	done chan struct{}
	err  error
}

func (d *dialing) newChild() (*child, error) {
	search := d.options.Getenv("PATH") + ":" + systemPrograms
	c := &child{}
	var err error
	if c.program, err = lookProgram(search, "buildkitd"); err != nil {
		return nil, absent("there is no program buildkitd on PATH")
	}
	if _, err := lookProgram(search, "buildkit-runc", "runc", "crun"); err != nil {
		return nil, errors.New("the program buildkitd needs runc, which is not on PATH")
	}
	if !mayMount() {
		if c.rootlesskit, err = lookProgram(search, "rootlesskit"); err != nil {
			return nil, errors.New("the program buildkitd needs rootlesskit to run for users who may not mount file systems, which is not on PATH")
		}
	}
	if c.state, err = takeState(stateBases(d.options)); err != nil {
		return nil, fmt.Errorf("there is no folder for buildkitd's data: %w", err)
	}
	if err := c.configure(d.options); err != nil {
		_ = c.release()
		return nil, err
	}
	// The environment holds credentials, which are none of its business. What it leaves behind when it is killed, the next
	// run removes.
	c.env = []string{"PATH=" + search, "XDG_RUNTIME_DIR=" + c.state.run, "TMPDIR=" + c.state.run}
	for _, name := range []string{"HOME", "USER", "LOGNAME", "XDG_CONFIG_HOME", "SSL_CERT_FILE", "SSL_CERT_DIR",
		"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "http_proxy", "https_proxy", "all_proxy", "no_proxy"} {
		if value := d.options.Getenv(name); value != "" {
			c.env = append(c.env, name+"="+value)
		}
	}
	if user := d.options.Getenv("USER"); c.rootlesskit != "" && (user == "" || user == "root") {
		// By this variable buildkitd tells whether to keep its sockets out of /run, which belongs to root. A container mostly
		// lacks it. Who the user is, rootlesskit finds out by the id.
		c.env = append(c.env, "USER=rootless")
	}
	return c, nil
}

// mayMount tells whether namespaces and mounts can be made without a user namespace. Root of a container mostly can't.
func mayMount() bool {
	var data [2]unix.CapUserData
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	return unix.Capget(&header, &data[0]) == nil && data[0].Effective&(1<<unix.CAP_SYS_ADMIN) != 0
}

// configure decides on the daemon's arguments. The variable BUILDKITD_FLAGS adds to them, as it does for BuildKit's own
// buildctl-daemonless.sh.
func (c *child) configure(o Options) error {
	config, err := c.state.config(ownConfig(o), o)
	if err != nil {
		return err
	}
	file := filepath.Join(c.state.dir, "buildkitd.toml")
	// A containerd of the machine would keep what it was told to run when this program is gone.
	c.flags = append([]string{"--config", file, "--root", c.state.root(), "--addr", c.state.address(),
		"--oci-worker=true", "--containerd-worker=false"}, strings.Fields(o.Getenv("BUILDKITD_FLAGS"))...)
	return os.WriteFile(file, []byte(config), 0o600)
}

// ways are the commands to try. A container often has a masked /proc, and then a process namespace can't have one of its
// own; there the daemon, and with it the programs that it runs, have to share ours.
func (c *child) ways() [][]string {
	if c.rootlesskit == "" {
		return [][]string{slices.Concat([]string{childName, c.program}, c.flags)}
	}
	kit := []string{c.rootlesskit, "--net=host", "--state-dir", filepath.Join(c.state.run, "rootlesskit")}
	daemon := slices.Concat([]string{c.program}, c.flags, []string{"--rootless"})
	shared := slices.Concat([]string{supervisorName}, kit, daemon, []string{"--oci-worker-no-process-sandbox"})
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil || procMasked(string(mounts)) {
		// Older versions of rootlesskit go on without a /proc of their own, and no program can be run then.
		return [][]string{shared}
	}
	return [][]string{slices.Concat(kit, []string{"--pidns"}, daemon), shared}
}

// procMasked tells whether something is mounted over a part of /proc, so that the kernel lets no user namespace mount a
// whole one. One mount point there is always empty, and does not count.
func procMasked(mountinfo string) bool {
	for line := range strings.Lines(mountinfo) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], "/proc/") && fields[4] != "/proc/sys/fs/binfmt_misc" {
			return true
		}
	}
	return false
}

// start starts the daemon and waits until it answers.
func (c *child) start(ctx context.Context, args []string) (*engine, error) {
	if err := c.state.clean(); err != nil {
		return nil, err
	}
	c.output, c.done = &tail{}, make(chan struct{})
	c.cmd = &exec.Cmd{Path: args[0], Args: args, Env: c.env, Stdout: c.output, Stderr: c.output, WaitDelay: time.Second,
		SysProcAttr: &syscall.SysProcAttr{Setsid: true, Pdeathsig: syscall.SIGKILL}}
	switch args[0] {
	case childName:
		c.cmd.Path = sandboxExe
		c.cmd.SysProcAttr.Cloneflags = unix.CLONE_NEWNS | unix.CLONE_NEWPID
	case supervisorName:
		c.cmd.Path = sandboxExe
		c.cmd.SysProcAttr.Pdeathsig = syscall.SIGTERM
	}
	if err := c.spawn(); err != nil {
		return nil, err
	}
	e, err := c.ready(ctx)
	if err != nil {
		c.stop(0)
		return nil, err
	}
	e.name = e.caps.versioned("buildkitd") + " as a child process"
	if c.rootlesskit != "" {
		e.name += " without root"
	}
	e.closers = append(e.closers, closer(c.Close))
	e.exited = c.exited
	return e, nil
}

// spawn starts the process. The signal by which the kernel ends it when this program dies is tied to the thread that
// started it, which is why that stays, and waits for the end.
func (c *child) spawn() error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
		}
		close(c.done)
	}()
	return <-started
}

// ready waits until the daemon answers.
func (c *child) ready(ctx context.Context) (*engine, error) {
	ctx, cancel := context.WithTimeout(ctx, childStartTime)
	defer cancel()
	for {
		if _, err := os.Stat(c.state.socket()); err == nil {
			b, err := buildkit.New(ctx, c.state.address(), buildkit.WithContextDialer(dialAddress))
			if err != nil {
				return nil, err
			}
			if e, err := open(ctx, dialTimeout, b); err == nil {
				return e, nil
			}
		}
		select {
		case <-c.done:
			return nil, c.exited()
		case <-ctx.Done():
			if errors.Is(ctx.Err(), context.DeadlineExceeded) {
				return nil, fmt.Errorf("it does not answer after %s", childStartTime)
			}
			return nil, ctx.Err()
		case <-time.After(childPoll):
		}
	}
}

// exited says how the daemon ended, or nil while it runs.
func (c *child) exited() error {
	select {
	case <-c.done:
	default:
		return nil
	}
	reason := fault.Bounded(lastWord(c.output.String()))
	if c.err == nil {
		return fmt.Errorf("it ended: %s", reason)
	}
	return fmt.Errorf("it ended (%w): %s", c.err, reason)
}

// lastWord is the line of a log that says why the program ended: what buildkitd or rootlesskit says in its own name,
// before a stack trace, else the last line.
func lastWord(log string) string {
	lines := strings.Split(strings.TrimSpace(log), "\n")
	for _, line := range slices.Backward(lines) {
		if strings.HasPrefix(line, "buildkitd: ") || strings.HasPrefix(line, "[rootlesskit:") {
			return line
		}
	}
	return lines[len(lines)-1]
}

// Close ends the daemon.
func (c *child) Close() error {
	c.stop(childStopTime)
	return c.release()
}

// stop ends the process, after a while by force. How it ends when it was told to says nothing.
func (c *child) stop(patience time.Duration) {
	if patience > 0 {
		_ = c.cmd.Process.Signal(syscall.SIGTERM)
	}
	select {
	case <-c.done:
	case <-time.After(patience):
		_ = c.cmd.Process.Kill()
		<-c.done
	}
}

func (c *child) release() error { return c.state.release() }

// lookProgram finds the first of several programs in a list of folders such as PATH.
func lookProgram(search string, names ...string) (string, error) {
	for _, name := range names {
		for _, dir := range filepath.SplitList(search) {
			if !filepath.IsAbs(dir) {
				continue
			}
			if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
				return path, nil
			}
		}
	}
	return "", exec.ErrNotFound
}

// tail keeps the end of what is written to it.
type tail struct {
	mu   sync.Mutex
	kept []byte
}

// tailSize is how much is kept, in bytes.
const tailSize = 16 << 10

func (t *tail) Write(p []byte) (int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.kept = append(t.kept, p...)
	t.kept = t.kept[max(0, len(t.kept)-tailSize):]
	return len(p), nil
}

func (t *tail) String() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return string(t.kept)
}

var _ io.Writer = (*tail)(nil)

// childMain does what this program is started again for by a Builder.
func childMain(args []string) (handled bool, exitCode int) {
	if len(args) < 2 {
		return false, 0
	}
	var err error
	switch args[0] {
	case childName:
		exitCode, err = 1, becomeBuildkitd(args[1:])
	case supervisorName:
		exitCode, err = supervise(args[1:])
	default:
		return false, 0
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return true, exitCode
}

// childName is the name under which this program, started again, sets up the namespaces of buildkitd and becomes it.
const childName = "airbyte-publish-buildkitd"

// becomeBuildkitd only returns when it fails. args are the daemon's command. The process is the first of a process
// namespace, which needs a /proc of its own. Where runc keeps its state, which nothing would clean up, and where BuildKit
// has a socket that only one can have, temporary file systems are mounted.
func becomeBuildkitd(args []string) error {
	if err := unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, ""); err != nil {
		return fmt.Errorf("make the mounts private: %w", err)
	}
	if err := unix.Mount("proc", "/proc", "proc", unix.MS_NOSUID|unix.MS_NODEV|unix.MS_NOEXEC, ""); err != nil {
		return fmt.Errorf("mount /proc: %w", err)
	}
	for _, dir := range []string{"/run/runc", "/run/buildkit"} {
		if err := os.MkdirAll(dir, 0o700); err != nil {
			return err
		}
		if err := unix.Mount("tmpfs", dir, "tmpfs", unix.MS_NOSUID|unix.MS_NODEV, "mode=0700"); err != nil {
			return fmt.Errorf("mount %s: %w", dir, err)
		}
	}
	return unix.Exec(args[0], args, os.Environ())
}
