package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"golang.org/x/sys/unix"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// The sandbox is this program, started again: a mount or user namespace can't be set up from within a process that has
// several threads, and /proc/self/exe can be executed wherever the program lies.
const (
	sandboxExe  = "/proc/self/exe"
	sandboxName = "airbyte-publish-spec-sandbox"
)

// runSpec tries out the namespaces first, because that takes milliseconds and unpacking takes seconds.
func runSpec(ctx context.Context, img v1.Image, o SpecOptions) (run connector.SpecRun, err error) {
	config, err := img.ConfigFile()
	if err != nil {
		return run, badImage(err)
	}
	dir, err := os.MkdirTemp(o.TempDir, "airbyte-publish-spec-")
	if err != nil {
		return run, specNotRun(err.Error(), err)
	}
	defer func() {
		if cleanErr := removeAll(dir); cleanErr != nil && err == nil {
			err = specNotRun("its temporary folder can't be removed: "+cleanErr.Error(), cleanErr)
		}
	}()
	s := &sandbox{dir: dir}
	if err := s.probe(ctx); err != nil {
		return run, err
	}
	root, err := os.OpenRoot(s.rootfs())
	if err != nil {
		return run, specNotRun(err.Error(), err)
	}
	err = unpack(ctx, img, root, s.ids)
	_ = root.Close()
	if err != nil {
		return run, unpackFault(err)
	}
	return s.run(ctx, config.Config.Env, o.Timeout)
}

// unpackFault tells a machine that has no room from an image that is no good.
func unpackFault(err error) error {
	_, path := errors.AsType[*fs.PathError](err)
	_, link := errors.AsType[*os.LinkError](err)
	if path || link || errors.Is(err, errTooLarge) {
		return specNotRun("the image can't be unpacked here: "+err.Error(), err)
	}
	return badImage(err)
}

// removeAll removes a folder also when folders in it forbid that to their owner.
func removeAll(dir string) error {
	if err := os.RemoveAll(dir); err == nil {
		return nil
	}
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	// Every folder is made passable before it is entered; what fails shows in the second removal.
	_ = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, _ error) error {
		if entry != nil && entry.IsDir() {
			_ = root.Chmod(name, 0o700)
		}
		return nil
	})
	return errors.Join(root.Close(), os.RemoveAll(dir))
}

// sandbox is a private folder in which one spec command is run. It holds rootfs, the unpacked image, and config.json,
// what the started program has to know.
type sandbox struct {
	dir string
	ids identity
}

func (s *sandbox) rootfs() string { return filepath.Join(s.dir, "rootfs") }

// probe finds the identity under which this machine lets the sandbox be set up, or says why there is none.
func (s *sandbox) probe(ctx context.Context) error {
	var stat unix.Statfs_t
	if err := unix.Statfs(s.dir, &stat); err == nil && stat.Flags&unix.ST_NOEXEC != 0 {
		return specNotRun("no program can be executed in "+s.dir+", it is mounted noexec", nil)
	}
	if err := os.Mkdir(s.rootfs(), 0o755); err != nil {
		return specNotRun(err.Error(), err)
	}
	for _, name := range mountPoints {
		if err := os.Mkdir(filepath.Join(s.rootfs(), name), 0o755); err != nil {
			return specNotRun(err.Error(), err)
		}
	}
	var err error
	for _, ranged := range []bool{true, false} {
		if ranged && os.Geteuid() != 0 {
			continue
		}
		s.ids.ranged = ranged
		if err = s.try(ctx); err == nil || ctx.Err() != nil {
			return err
		}
	}
	return err
}

// try sets a sandbox up and takes it down again.
func (s *sandbox) try(ctx context.Context) error {
	owner := os.Geteuid()
	if s.ids.ranged {
		owner = idBase
	}
	for _, dir := range []string{s.dir, s.rootfs()} {
		if err := os.Chown(dir, owner, -1); err != nil {
			return specNotRun(err.Error(), err)
		}
	}
	outcome, err := s.start(ctx, sandboxConfig{Probe: true}, time.Minute)
	if err != nil {
		return err
	}
	if !outcome.report.Ready {
		return forbidden(outcome.report)
	}
	return nil
}

// run runs the spec command in the unpacked image.
func (s *sandbox) run(ctx context.Context, env []string, timeout time.Duration) (connector.SpecRun, error) {
	outcome, err := s.start(ctx, sandboxConfig{Env: env}, timeout)
	if err != nil {
		return connector.SpecRun{}, err
	}
	switch report := outcome.report; {
	case report.Stage == stageShell && report.Ready:
		if report.NoShell {
			return connector.SpecRun{}, noShell()
		}
		return connector.SpecRun{}, &fault.Error{Code: fault.SpecFailed, Op: "run spec",
			Cause:  "the image's /bin/sh can't be executed: " + report.Text,
			Remedy: "Check that /bin/sh is for the image's own architecture, has its loader and libraries, and may be executed by everyone."}
	case !report.Ready:
		return connector.SpecRun{}, forbidden(report)
	}
	return outcome.run, nil
}

// outcome is what came of starting a sandbox.
type outcome struct {
	report sandboxReport
	run    connector.SpecRun
}

// start starts this program again in new namespaces and waits for its end, which is the end of everything in them.
// Its error is a *fault.Error with the code SpecNotRun.
func (s *sandbox) start(ctx context.Context, config sandboxConfig, timeout time.Duration) (outcome, error) {
	config.Ranged = s.ids.ranged
	raw, err := json.Marshal(config)
	if err != nil {
		return outcome{}, err
	}
	file := filepath.Join(s.dir, configFile)
	// The mode again, because a strict umask would keep the sandbox's user out.
	if err := errors.Join(os.WriteFile(file, raw, 0o644), os.Chmod(file, 0o644)); err != nil {
		return outcome{}, specNotRun(err.Error(), err)
	}
	pipes, err := s.pipes()
	if err != nil {
		return outcome{}, specNotRun(err.Error(), err)
	}
	defer pipes.close()
	cmd := &exec.Cmd{Path: sandboxExe, Args: []string{sandboxName}, Env: []string{}, Stdout: pipes.stdout.w, Stderr: pipes.stderr.w,
		ExtraFiles: []*os.File{pipes.status.w}, SysProcAttr: s.attributes()}
	ended := make(chan struct{})
	defer close(ended)
	if err := startIn(s.dir, cmd, ended); err != nil {
		return outcome{}, forbidden(sandboxReport{Stage: "make namespaces", Text: err.Error()})
	}
	pipes.closeWriters()
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	kill := func() { _ = cmd.Process.Kill() }
	stop := context.AfterFunc(ctx, kill)
	defer stop()

	stdout := collect(pipes.stdout.r, maxStdout, kill)
	stderr := collect(pipes.stderr.r, maxStderr, nil)
	report := readReport(pipes.status.r)
	out, errs := <-stdout, <-stderr
	waitErr := cmd.Wait()
	if _, exited := errors.AsType[*exec.ExitError](waitErr); waitErr != nil && !exited {
		return outcome{}, specNotRun(waitErr.Error(), waitErr)
	}
	return outcome{report: report, run: connector.SpecRun{
		Stdout: out.kept, Stderr: errs.kept, Truncated: out.truncated || errs.truncated,
		ExitCode: cmd.ProcessState.ExitCode(), TimedOut: ctx.Err() != nil && cmd.ProcessState.ExitCode() < 0,
		How: "in its own namespaces, as user 1000, without a network"}}, nil
}

// startIn starts cmd in a folder, which the new user may not be able to reach by its path, and which can't be handed
// over as an open file either, because that would belong to the old mount namespace. A thread with a working folder of
// its own starts it, and stays until ended is closed: the signal by which the kernel ends the sandbox when this program
// dies is tied to that thread.
func startIn(dir string, cmd *exec.Cmd, ended <-chan struct{}) error {
	started := make(chan error, 1)
	go func() {
		// Never unlocked, so that the thread is not used for anything else.
		runtime.LockOSThread()
		err := unix.Unshare(unix.CLONE_FS)
		if err == nil {
			err = unix.Chdir(dir)
		}
		if err == nil {
			err = cmd.Start()
		}
		if started <- err; err == nil {
			<-ended
		}
	}()
	return <-started
}

// attributes are the new namespaces. Root starts as the sandbox's root, which gives its rights up at the end; anyone
// else starts as user 1000 already, and needs the rights to set up as ambient capabilities to keep them.
func (s *sandbox) attributes() *syscall.SysProcAttr {
	a := &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWUSER | unix.CLONE_NEWNS | unix.CLONE_NEWPID | unix.CLONE_NEWNET | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
		Setsid:     true,
		Pdeathsig:  syscall.SIGKILL,
	}
	a.UidMappings, a.GidMappings = s.ids.mapping()
	if s.ids.ranged {
		a.GidMappingsEnableSetgroups = true
		a.Credential = &syscall.Credential{}
	} else {
		a.AmbientCaps = []uintptr{unix.CAP_SYS_ADMIN, unix.CAP_SETPCAP, unix.CAP_SYS_RESOURCE}
	}
	return a
}

type pipe struct{ r, w *os.File }

type pipes struct{ stdout, stderr, status pipe }

// pipes opens what the sandbox is given. The connector owns its own output, as a container's process does, because
// some programs open /dev/stdout anew.
func (s *sandbox) pipes() (p *pipes, err error) {
	p = &pipes{}
	defer func() {
		if err != nil {
			p.close()
		}
	}()
	for _, each := range []*pipe{&p.stdout, &p.stderr, &p.status} {
		if each.r, each.w, err = os.Pipe(); err != nil {
			return nil, err
		}
	}
	if s.ids.ranged {
		for _, each := range []pipe{p.stdout, p.stderr} {
			if err := each.w.Chown(hostID(connectorID), hostID(connectorID)); err != nil {
				return nil, err
			}
		}
	}
	return p, nil
}

func (p *pipes) closeWriters() {
	for _, each := range []pipe{p.stdout, p.stderr, p.status} {
		_ = each.w.Close()
	}
}

func (p *pipes) close() {
	for _, f := range []*os.File{p.stdout.r, p.stdout.w, p.stderr.r, p.stderr.w, p.status.r, p.status.w} {
		_ = f.Close() // Closing twice, or nil, only gives an error.
	}
}

type collected struct {
	kept      []byte
	truncated bool
}

// collect reads to the end and keeps the first limit bytes. When there is more it calls full, if that is not nil.
func collect(r io.Reader, limit int64, full func()) <-chan collected {
	done := make(chan collected, 1)
	go func() {
		var c collected
		var kept bytes.Buffer
		_, _ = io.Copy(&kept, io.LimitReader(r, limit))
		c.kept = kept.Bytes()
		if n, _ := io.CopyN(io.Discard, r, 1); n > 0 {
			c.truncated = true
			if full != nil {
				full()
			}
			_, _ = io.Copy(io.Discard, r)
		}
		done <- c
	}()
	return done
}

// forbidden says in words why the sandbox could not be set up.
func forbidden(r sandboxReport) error {
	if r.Stage == "" {
		return specNotRun("the sandbox ended before it was set up", nil)
	}
	cause := fmt.Sprintf("this machine does not allow it to %s: %s", r.Stage, r.Text)
	for _, h := range hints {
		if raw, err := os.ReadFile(h.file); err == nil && (h.value == "" || strings.TrimSpace(string(raw)) == h.value) {
			cause += " (" + h.meaning + ")"
			break
		}
	}
	return specNotRun(cause, nil)
}

// hints are the usual reasons, by the file that tells.
var hints = []struct{ file, value, meaning string }{
	{"/proc/sys/user/max_user_namespaces", "0", "user namespaces are switched off by the sysctl user.max_user_namespaces"},
	{"/proc/sys/kernel/unprivileged_userns_clone", "0", "the sysctl kernel.unprivileged_userns_clone is 0"},
	{"/proc/sys/kernel/apparmor_restrict_unprivileged_userns", "1",
		"Ubuntu's sysctl kernel.apparmor_restrict_unprivileged_userns is 1; sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0 allows it"},
	{"/.dockerenv", "", "this looks like a container, whose seccomp profile or masked /proc usually forbids it"},
	{"/run/.containerenv", "", "this looks like a container, whose seccomp profile or masked /proc usually forbids it"},
}
