package build

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// configFile is in the sandbox's folder.
const configFile = "config.json"

// statusFD is where the sandbox tells how it fares, behind the three standard files.
const statusFD = 3

// sandboxConfig is what the started program has to know.
type sandboxConfig struct {
	// Probe ends it when everything is set up.
	Probe bool
	// Ranged is identity's.
	Ranged bool
	// Env is the image's environment.
	Env []string
}

// sandboxReport is what the started program tells. Ready means that the sandbox was set up: what failed after that is
// the image's doing. Otherwise Stage and Text say what this machine did not allow.
type sandboxReport struct {
	Ready       bool
	Stage, Text string
	NoShell     bool
}

// stageShell is the only stage behind Ready.
const stageShell = "execute /bin/sh"

// readReport reads reports until the program has gone or become the connector; the last one counts. The program that
// writes them is ours, and the connector does not have the file.
func readReport(r io.Reader) (last sandboxReport) {
	decoder := json.NewDecoder(io.LimitReader(r, 1<<16))
	for {
		var next sandboxReport
		if err := decoder.Decode(&next); err != nil {
			return last
		}
		last = next
	}
}

// SpecMain is the first thing that main, and a test binary's TestMain, must call: when the process was started by
// RunSpec to become a connector's sandbox, or by a Builder to become a buildkitd in namespaces of its own, it does that,
// handled is true, and the process must exit with exitCode. args are os.Args.
func SpecMain(args []string) (handled bool, exitCode int) {
	if handled, exitCode := childMain(args); handled {
		return true, exitCode
	}
	if len(args) != 1 || args[0] != sandboxName {
		return false, 0
	}
	// Capabilities belong to threads; the thread that drops them must be the one that becomes the connector.
	runtime.LockOSThread()
	status := os.NewFile(statusFD, "status")
	if err := enterSandbox(json.NewEncoder(status)); err != nil {
		return true, 1
	}
	return true, 0
}

// enterSandbox sets the sandbox up and becomes the connector. When it returns without an error it was a probe.
func enterSandbox(status *json.Encoder) error {
	var config sandboxConfig
	steps := []struct {
		name string
		do   func() error
	}{
		{"read its configuration", func() error { return readSandboxConfig(&config) }},
		{"make the mounts private", func() error { return unix.Mount("", "/", "", unix.MS_REC|unix.MS_PRIVATE, "") }},
		{"mount the image", bindRoot},
		{"mount /proc", func() error { return unix.Mount("proc", "proc", "proc", noDevices|unix.MS_NOEXEC, "") }},
		{"forbid more namespaces", forbidNamespaces},
		{"mount /dev", mountDevices},
		{"mount /tmp", func() error { return unix.Mount("tmpfs", "tmp", "tmpfs", noDevices, "mode=1777,size=256m") }},
		{"mount /config", func() error {
			return unix.Mount("tmpfs", "config", "tmpfs", noDevices, fmt.Sprintf("mode=0755,size=64m,uid=%d,gid=%[1]d", connectorID))
		}},
		{"set the host name", func() error { return unix.Sethostname([]byte("localhost")) }},
		{"change the root", pivot},
		{"set limits", setLimits},
		{"drop its rights", func() error { return dropRights(config.Ranged) }},
		{"close files", closeOnExec},
	}
	for _, step := range steps {
		if err := step.do(); err != nil {
			_ = status.Encode(sandboxReport{Stage: step.name, Text: err.Error()})
			return err
		}
	}
	if err := status.Encode(sandboxReport{Ready: true}); err != nil || config.Probe {
		return err
	}
	err := becomeConnector(config.Env)
	_, missing := os.Stat("/bin/sh")
	_ = status.Encode(sandboxReport{Ready: true, Stage: stageShell, Text: err.Error(), NoShell: errors.Is(missing, fs.ErrNotExist)})
	return err
}

const noDevices = unix.MS_NOSUID | unix.MS_NODEV

// readSandboxConfig reads it from the sandbox's folder, in which the program was started. All paths are relative to
// that, because the folders above it may not be passable for the sandbox's user.
func readSandboxConfig(config *sandboxConfig) error {
	raw, err := os.ReadFile(configFile)
	if err != nil {
		return err
	}
	unix.Umask(0o022)
	return json.Unmarshal(raw, config)
}

// bindRoot makes the unpacked image a mount, which is what a root has to be, and enters it.
func bindRoot() error {
	if err := unix.Mount("rootfs", "rootfs", "", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Chdir("rootfs")
}

// forbidNamespaces keeps the connector from getting capabilities over a namespace of its own, and with them at more of
// the kernel. A kernel that does not offer it is no reason to stop.
func forbidNamespaces() error {
	_ = os.WriteFile("proc/sys/user/max_user_namespaces", []byte("0"), 0)
	return nil
}

// mountDevices gives the five devices that any program may expect, and what every container has beside them.
func mountDevices() error {
	if err := unix.Mount("tmpfs", "dev", "tmpfs", noDevices|unix.MS_NOEXEC, "mode=0755,size=64k"); err != nil {
		return err
	}
	for _, name := range []string{"null", "zero", "full", "random", "urandom"} {
		target := filepath.Join("dev", name)
		if err := os.WriteFile(target, nil, 0o666); err != nil {
			return err
		}
		if err := unix.Mount("/dev/"+name, target, "", unix.MS_BIND, ""); err != nil {
			return err
		}
	}
	for name, target := range map[string]string{"fd": "/proc/self/fd", "stdin": "/proc/self/fd/0", "stdout": "/proc/self/fd/1", "stderr": "/proc/self/fd/2"} {
		if err := os.Symlink(target, filepath.Join("dev", name)); err != nil {
			return err
		}
	}
	if err := os.Mkdir("dev/shm", 0o755); err != nil {
		return err
	}
	if err := unix.Mount("tmpfs", "dev/shm", "tmpfs", noDevices|unix.MS_NOEXEC, "mode=1777,size=64m"); err != nil {
		return err
	}
	return unix.Mount("", "dev", "", unix.MS_REMOUNT|unix.MS_RDONLY|noDevices|unix.MS_NOEXEC, "mode=0755,size=64k")
}

// pivot makes the image the root and lets go of everything else.
func pivot() error {
	if err := unix.PivotRoot(".", "."); err != nil {
		return err
	}
	if err := unix.Unmount(".", unix.MNT_DETACH); err != nil {
		return err
	}
	return unix.Chdir("/config")
}

// setLimits lowers what one process may use; raising needs a right that containers rarely have.
func setLimits() error {
	for resource, limit := range map[int]uint64{unix.RLIMIT_CORE: 0, unix.RLIMIT_NPROC: 4096, unix.RLIMIT_FSIZE: 1 << 30} {
		var current unix.Rlimit
		if err := unix.Getrlimit(resource, &current); err != nil {
			return err
		}
		limit = min(limit, current.Max)
		if err := unix.Setrlimit(resource, &unix.Rlimit{Cur: limit, Max: limit}); err != nil {
			return err
		}
	}
	return nil
}

// dropRights leaves user 1000 without any capability, and without a way to get one.
func dropRights(ranged bool) error {
	for capability := uintptr(0); ; capability++ {
		if err := unix.Prctl(unix.PR_CAPBSET_DROP, capability, 0, 0, 0); errors.Is(err, unix.EINVAL) {
			break
		} else if err != nil {
			return err
		}
	}
	if ranged {
		if err := syscall.Setresgid(connectorID, connectorID, connectorID); err != nil {
			return err
		}
		if err := syscall.Setresuid(connectorID, connectorID, connectorID); err != nil {
			return err
		}
	}
	if err := unix.Prctl(unix.PR_CAP_AMBIENT, unix.PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0); err != nil {
		return err
	}
	header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
	var none [2]unix.CapUserData
	if err := unix.Capset(&header, &none[0]); err != nil {
		return err
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return err
	}
	// A change of user clears it.
	return unix.Prctl(unix.PR_SET_PDEATHSIG, uintptr(unix.SIGKILL), 0, 0, 0)
}

// closeOnExec keeps every file but the standard ones from the connector, also those that this program was itself
// started with.
func closeOnExec() error {
	if err := unix.CloseRange(statusFD, ^uint(0), unix.CLOSE_RANGE_CLOEXEC); err == nil {
		return nil
	}
	// Before Linux 5.11, or where a seccomp profile does not know the call.
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return err
	}
	for _, entry := range entries {
		var fd int
		if _, err := fmt.Sscan(entry.Name(), &fd); err == nil && fd >= statusFD {
			unix.CloseOnExec(fd)
		}
	}
	return nil
}

// defaultPath is what container runtimes set where an image does not.
const defaultPath = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// becomeConnector only returns when /bin/sh can't be executed.
func becomeConnector(env []string) error {
	// Container runtimes set these two where the image does not.
	if !hasVariable(env, "PATH") {
		env = append(env, defaultPath)
	}
	if !hasVariable(env, "HOME") {
		env = append(env, "HOME="+homeOf(connectorID))
	}
	return unix.Exec("/bin/sh", []string{"/bin/sh", "-c", specCommand}, env)
}

func hasVariable(env []string, name string) bool {
	for _, e := range env {
		if strings.HasPrefix(e, name+"=") {
			return true
		}
	}
	return false
}

// homeOf is a user's home by the image's /etc/passwd, or /.
func homeOf(id int) string {
	f, err := os.OpenFile("/etc/passwd", os.O_RDONLY|unix.O_NONBLOCK, 0)
	if err != nil {
		return "/"
	}
	defer f.Close()
	lines := bufio.NewScanner(io.LimitReader(f, 1<<20))
	for lines.Scan() {
		if fields := strings.Split(lines.Text(), ":"); len(fields) == 7 && fields[2] == fmt.Sprint(id) && fields[5] != "" {
			return fields[5]
		}
	}
	return "/"
}
