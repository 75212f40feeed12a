package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// connectorImage is an image with a shell and the test connector, as which it does what mode says.
func connectorImage(t *testing.T, mode string, env ...string) v1.Image {
	t.Helper()
	shell, connector := buildPrograms(t)
	return imageOf(t, hostPlatform, v1.Config{Env: append(env, "AIRBYTE_ENTRYPOINT=/bin/connector "+mode)},
		layerOf(t, tarOf(t,
			file("bin/sh", string(shell), 0o755),
			file("bin/connector", string(connector), 0o755),
			owned(dir("airbyte", 0o755), 1000, 1000),
			file("etc/secret-of-root", "x", 0o600),
			file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nairbyte:x:1000:1000::/airbyte:/bin/sh\n", 0o644))))
}

// runSpecIn runs spec and makes sure that nothing is left of it.
func runSpecIn(t *testing.T, img v1.Image, timeout time.Duration) (connector.SpecRun, error) {
	t.Helper()
	temp := t.TempDir()
	run, err := RunSpec(t.Context(), img, SpecOptions{TempDir: temp, Timeout: timeout})
	skipWhereForbidden(t, err)
	left, readErr := os.ReadDir(temp)
	if readErr != nil || len(left) > 0 {
		t.Errorf("the temporary folder still holds %v (%v)", left, readErr)
	}
	return run, err
}

// skipWhereForbidden skips a test that the kernel does not allow, but never in CI, which has to prove it.
func skipWhereForbidden(t *testing.T, err error) {
	t.Helper()
	if fault.CodeOf(err) != fault.SpecNotRun {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	t.Skipf("this machine can't run the sandbox: %v", err)
}

// report is what the test connector tells of its surroundings.
type report struct {
	UID, GID, PID          int
	Env                    []string
	Dir                    string
	Interfaces, Errors     map[string]string
	Root, Processes, Files []string
	Status                 map[string]string
}

func TestRunSpecShowsTheConnectorOnlyItsImage(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("x"), 0o644); err != nil {
		t.Fatal(err)
	}
	env := []string{"DIAL=" + listener.Addr().String(), "HOST_FILE=" + secret}
	run, err := runSpecIn(t, connectorImage(t, "report", env...), 0)
	if err != nil {
		t.Fatal(err)
	}
	var got report
	if err := json.Unmarshal(run.Stdout, &got); err != nil || run.ExitCode != 0 || run.TimedOut || run.Truncated {
		t.Fatalf("%+v: %v", run, err)
	}
	if got.UID != 1000 || got.GID != 1000 || got.Dir != "/config" {
		t.Errorf("it runs as %d:%d in %s", got.UID, got.GID, got.Dir)
	}
	slices.Sort(got.Env)
	want := append(env, "AIRBYTE_ENTRYPOINT=/bin/connector report", "HOME=/airbyte", defaultPath)
	slices.Sort(want)
	if !slices.Equal(got.Env, want) {
		t.Errorf("its environment is %q, want %q", got.Env, want)
	}
	if len(got.Interfaces) != 1 || strings.Contains(got.Interfaces["lo"], "up") {
		t.Errorf("its interfaces are %v, want only lo, down", got.Interfaces)
	}
	if want := []string{"airbyte", "bin", "config", "dev", "etc", "proc", "tmp"}; !slices.Equal(got.Root, want) {
		t.Errorf("its root holds %q, want %q", got.Root, want)
	}
	if len(got.Processes) > 2 {
		t.Errorf("it sees the processes %q, want its own and its shell", got.Processes)
	}
	for name, want := range map[string]string{"CapEff": "0000000000000000", "CapPrm": "0000000000000000",
		"CapInh": "0000000000000000", "CapAmb": "0000000000000000", "CapBnd": "0000000000000000", "NoNewPrivs": "1"} {
		if got.Status[name] != want {
			t.Errorf("its %s is %s, want %s", name, got.Status[name], want)
		}
	}
	allowed := []string{"write /config", "write /tmp", "write /dev/shm", "write /dev/null", "write /airbyte", "read /etc/hosts", "open /dev/stderr"}
	denied := []string{"dial", "read host file", "write /dev", "write /", "write /bin", "read root's file", "mknod", "mount", "chroot",
		"setuid", "user namespace"}
	for _, name := range allowed {
		if cause, ok := got.Errors[name]; !ok || cause != "" {
			t.Errorf("it can't %s: %s", name, cause)
		}
	}
	for _, name := range denied {
		if cause, ok := got.Errors[name]; !ok || cause == "" {
			t.Errorf("it can %s", name)
		}
	}
	for _, file := range got.Files {
		if strings.Contains(file, "/tmp/") || strings.Contains(file, "socket:") {
			t.Errorf("it was given the file %q", file)
		}
	}
}

func TestRunSpecReportsWhatTheConnectorDid(t *testing.T) {
	t.Parallel()
	tests := []struct {
		mode      string
		exit      int
		stdout    string
		stderr    string
		truncated bool
	}{
		{mode: "crash", exit: 3, stderr: "Traceback: no module named airbyte"},
		{mode: "flood", exit: -1, stdout: "xxx", truncated: true},
		{mode: "chatter", exit: 0, stdout: `{"type":"SPEC"}`, stderr: "yyy", truncated: true},
		{mode: "unwritable", exit: 0, stdout: "done"},
	}
	for _, tt := range tests {
		t.Run(tt.mode, func(t *testing.T) {
			t.Parallel()
			run, err := runSpecIn(t, connectorImage(t, tt.mode), 0)
			if err != nil {
				t.Fatal(err)
			}
			if run.ExitCode != tt.exit || run.Truncated != tt.truncated || run.TimedOut {
				t.Errorf("exit code %d, truncated %t, timed out %t, want %d, %t, false", run.ExitCode, run.Truncated, run.TimedOut, tt.exit, tt.truncated)
			}
			if !strings.HasPrefix(string(run.Stdout), tt.stdout) || !strings.HasPrefix(string(run.Stderr), tt.stderr) {
				t.Errorf("it printed %.100q and %.100q", run.Stdout, run.Stderr)
			}
			if len(run.Stdout) > maxStdout || len(run.Stderr) > maxStderr {
				t.Errorf("%d and %d bytes were kept", len(run.Stdout), len(run.Stderr))
			}
		})
	}
}

func TestRunSpecEndsAHangWithAllItsProcesses(t *testing.T) {
	t.Parallel()
	mark := "hang-of-" + t.Name() + filepath.Base(t.TempDir()) + time.Now().String()
	run, err := runSpecIn(t, connectorImage(t, "hang", "MARK="+mark), 3*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	if !run.TimedOut || run.ExitCode != -1 || string(run.Stdout) != "hanging\n" {
		t.Errorf("%+v, want a time-out after it began to hang", run)
	}
	if isRunning(t, mark) {
		t.Error("a process of the connector is still there")
	}
}

func TestRunSpecEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	mark := "cancel-of-" + t.Name() + time.Now().String()
	go func() {
		for !isRunning(t, mark) && ctx.Err() == nil {
			time.Sleep(5 * time.Millisecond)
		}
		cancel()
	}()
	temp := t.TempDir()
	_, err := RunSpec(ctx, connectorImage(t, "hang", "MARK="+mark), SpecOptions{TempDir: temp, Timeout: time.Minute})
	cancel()
	skipWhereForbidden(t, err)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 || isRunning(t, mark) {
		t.Errorf("it left %v, or a process", left)
	}
}

// orphanVariable holds the mark under which the test below is to hang.
const orphanVariable = "BUILD_TEST_ORPHAN"

// TestSandboxEndsWithThisProgram kills a program that runs a connector, as a CI host does when a job is cancelled.
func TestSandboxEndsWithThisProgram(t *testing.T) {
	t.Parallel()
	if mark := os.Getenv(orphanVariable); mark != "" {
		_, err := RunSpec(t.Context(), connectorImage(t, "hang", "MARK="+mark), SpecOptions{})
		t.Fatalf("it was not killed: %v", err)
	}
	_, err := runSpecIn(t, connectorImage(t, "crash"), 0) // Skips where there is no sandbox.
	if err != nil {
		t.Fatal(err)
	}
	mark := "orphan-of-" + t.Name() + time.Now().String()
	temp := t.TempDir()
	t.Cleanup(func() {
		// What a killed program leaves may forbid its removal to an ordinary user.
		if err := removeAll(temp); err != nil {
			t.Error(err)
		}
	})
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run=^TestSandboxEndsWithThisProgram$")
	cmd.Env = append(os.Environ(), programsVariable+"="+cmp.Or(programs.dir, os.Getenv(programsVariable)), "TMPDIR="+temp, orphanVariable+"="+mark)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	wait := func(running bool) {
		t.Helper()
		for deadline := time.Now().Add(20 * time.Second); isRunning(t, mark) != running; time.Sleep(5 * time.Millisecond) {
			if time.Now().After(deadline) {
				t.Errorf("the connector's process is there: %t, want %t", !running, running)
				return
			}
		}
	}
	wait(true)
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	wait(false)
}

// isRunning looks for a process with this name in its command line.
func isRunning(t *testing.T, mark string) bool {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Errorf("no processes: %v", err)
	}
	for _, file := range files {
		if raw, err := os.ReadFile(file); err == nil && strings.HasPrefix(string(raw), mark) {
			return true
		}
	}
	return false
}

func TestRunSpecJudgesTheShell(t *testing.T) {
	t.Parallel()
	shell, _ := buildPrograms(t)
	config := v1.Config{Env: []string{"AIRBYTE_ENTRYPOINT=/nowhere"}}
	tests := []struct {
		name    string
		config  v1.Config
		entries []entry
		code    fault.Code
		exit    int
	}{
		{"missing", config, []entry{file("airbyte/x", "", 0o644)}, fault.NoShell, 0},
		{"dangling", config, []entry{symlink("bin/sh", "/etc/passwd-")}, fault.NoShell, 0},
		{"not executable", config, []entry{file("bin/sh", string(shell), 0o644)}, fault.SpecFailed, 0},
		{"no program", config, []entry{file("bin/sh", "\x7fELF", 0o755)}, fault.SpecFailed, 0},
		{"only root's", config, []entry{file("bin/sh", string(shell), 0o700)}, fault.SpecFailed, 0},
		{"behind absolute links", config, []entry{file("usr/bin/busybox", string(shell), 0o755), symlink("bin", "/usr/bin"),
			symlink("usr/bin/sh", "/bin/busybox")}, "", 127},
		{"no entrypoint", v1.Config{}, []entry{file("bin/sh", string(shell), 0o755)}, "", 127},
		{"wrong entrypoint", config, []entry{file("bin/sh", string(shell), 0o755)}, "", 127},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			run, err := runSpecIn(t, imageOf(t, hostPlatform, tt.config, layerOf(t, tarOf(t, tt.entries...))), 0)
			if tt.code != "" {
				if fault.CodeOf(err) != tt.code {
					t.Errorf("%+v, %v; want %s", run, err, tt.code)
				}
				return
			}
			if err != nil || run.ExitCode != tt.exit {
				t.Errorf("%+v, %v; want exit code %d", run, err, tt.exit)
			}
		})
	}
}

func TestRunSpecRefusesWhatThisMachineCannotRun(t *testing.T) {
	t.Parallel()
	_, err := RunSpec(t.Context(), imageOf(t, "linux/s390x", v1.Config{}), SpecOptions{TempDir: t.TempDir()})
	if fault.CodeOf(err) != fault.SpecNotRun || !strings.Contains(err.Error(), "linux/s390x") {
		t.Errorf("%v, want %s", err, fault.SpecNotRun)
	}
}

// again starts this test binary again, for one test.
func again(t *testing.T, attributes *syscall.SysProcAttr, run string, env ...string) {
	t.Helper()
	buildPrograms(t)
	temp := t.TempDir()
	if c := attributes.Credential; c != nil {
		if err := errors.Join(os.Chown(temp, int(c.Uid), int(c.Gid)), os.Chmod(filepath.Dir(temp), 0o755)); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.CommandContext(t.Context(), "/proc/self/exe", "-test.run="+run, "-test.v")
	cmd.Dir = "/"
	cmd.Env = append(os.Environ(), programsVariable+"="+cmp.Or(programs.dir, os.Getenv(programsVariable)), "TMPDIR="+temp)
	cmd.Env = append(cmd.Env, env...)
	cmd.SysProcAttr = attributes
	output, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(output), "--- PASS") {
		t.Errorf("%v\n%s", err, output)
	}
	if strings.Contains(string(output), "--- SKIP") {
		skipWhereForbidden(t, &fault.Error{Code: fault.SpecNotRun, Op: "run as another user", Cause: string(output)})
	}
}

func TestOrdinaryUserRunsSpecToo(t *testing.T) {
	t.Parallel()
	if os.Geteuid() != 0 {
		t.Skip("the other tests have been run as an ordinary user already")
	}
	again(t, &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 12345, Gid: 23456}}, "^TestRunSpec|^TestSandbox")
}

// forbiddenVariable tells the test below that it was started where namespaces are forbidden.
const forbiddenVariable = "BUILD_TEST_FORBIDDEN"

// TestForbiddenNamespaces starts itself in a user namespace in which no others can be made, as in a container.
func TestForbiddenNamespaces(t *testing.T) {
	t.Parallel()
	if os.Getenv(forbiddenVariable) == "" {
		self := []syscall.SysProcIDMap{{ContainerID: os.Geteuid(), HostID: os.Geteuid(), Size: 1}}
		group := []syscall.SysProcIDMap{{ContainerID: os.Getegid(), HostID: os.Getegid(), Size: 1}}
		again(t, &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER, UidMappings: self, GidMappings: group,
			AmbientCaps: []uintptr{24}}, "^TestForbiddenNamespaces$", forbiddenVariable+"=1")
		return
	}
	if err := os.WriteFile("/proc/sys/user/max_user_namespaces", []byte("0"), 0); err != nil {
		t.Fatal(err)
	}
	temp := t.TempDir()
	_, err := RunSpec(t.Context(), connectorImage(t, "report"), SpecOptions{TempDir: temp})
	if fault.CodeOf(err) != fault.SpecNotRun || !strings.Contains(err.Error(), "user.max_user_namespaces") {
		t.Errorf("%v, want %s and the reason", err, fault.SpecNotRun)
	}
	if left, _ := os.ReadDir(temp); len(left) > 0 {
		t.Errorf("it left %v", left)
	}
}
