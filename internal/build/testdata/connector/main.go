// Command connector is what the tests run as a connector: it tells what it sees of its surroundings, or misbehaves.
// It is called as Airbyte calls one: connector MODE spec.
package main

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"
)

func main() {
	if len(os.Args) != 3 || os.Args[2] != "spec" {
		fmt.Fprintln(os.Stderr, "usage: connector MODE spec")
		os.Exit(2)
	}
	switch os.Args[1] {
	case "report":
		_ = json.NewEncoder(os.Stdout).Encode(report())
	case "crash":
		fmt.Fprintln(os.Stderr, "Traceback: no module named airbyte")
		os.Exit(3)
	case "hang":
		// A child of its own, in a session of its own, which must not outlive the sandbox either.
		child := &exec.Cmd{Path: "/bin/connector", Args: []string{os.Getenv("MARK"), "sleep", "spec"}}
		child.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
		if err := child.Start(); err != nil {
			fmt.Println(err)
			os.Exit(4)
		}
		fmt.Println("hanging")
		time.Sleep(time.Hour)
	case "sleep":
		time.Sleep(time.Hour)
	case "flood":
		line := strings.Repeat("x", 1<<16)
		for {
			fmt.Println(line)
		}
	case "chatter":
		for range 40 {
			fmt.Fprintln(os.Stderr, strings.Repeat("y", 1<<16))
		}
		fmt.Println(`{"type":"SPEC"}`)
	case "unwritable":
		_ = os.MkdirAll("/airbyte/deep/er", 0o755)
		_ = os.WriteFile("/airbyte/deep/er/file", nil, 0)
		_ = os.Chmod("/airbyte/deep/er", 0)
		_ = os.Chmod("/airbyte/deep", 0)
		fmt.Println("done")
	}
}

// Report is what a connector sees.
type Report struct {
	UID, GID, PID      int
	Env                []string
	Dir                string
	Interfaces, Errors map[string]string
	Root, Processes    []string
	Status             map[string]string
	Files              []string
}

func report() Report {
	r := Report{UID: os.Getuid(), GID: os.Getgid(), PID: os.Getpid(), Env: os.Environ(), Interfaces: map[string]string{},
		Errors: map[string]string{}, Status: map[string]string{}}
	r.Dir, _ = os.Getwd()
	interfaces, _ := net.Interfaces()
	for _, i := range interfaces {
		r.Interfaces[i.Name] = i.Flags.String()
	}
	entries, _ := os.ReadDir("/")
	for _, e := range entries {
		r.Root = append(r.Root, e.Name())
	}
	r.Processes, _ = filepath.Glob("/proc/[0-9]*")
	status, _ := os.ReadFile("/proc/self/status")
	for line := range strings.Lines(string(status)) {
		if name, value, ok := strings.Cut(line, ":"); ok {
			r.Status[name] = strings.TrimSpace(value)
		}
	}
	fds, _ := os.ReadDir("/proc/self/fd")
	for _, fd := range fds {
		target, _ := os.Readlink("/proc/self/fd/" + fd.Name())
		r.Files = append(r.Files, fd.Name()+" "+target)
	}
	tries(r.Errors)
	return r
}

// tries notes the error of everything that a connector may want to do; "" means that it could.
func tries(errors map[string]string) {
	try := func(name string, err error) {
		errors[name] = ""
		if err != nil {
			errors[name] = err.Error()
		}
	}
	if address := os.Getenv("DIAL"); address != "" {
		c, err := net.DialTimeout("tcp", address, 2*time.Second)
		if err == nil {
			_ = c.Close()
		}
		try("dial", err)
	}
	if path := os.Getenv("HOST_FILE"); path != "" {
		_, err := os.ReadFile(path)
		try("read host file", err)
	}
	try("write /config", os.WriteFile("/config/out.json", []byte("{}"), 0o600))
	try("write /tmp", os.WriteFile("/tmp/x", nil, 0o600))
	try("write /dev/shm", os.WriteFile("/dev/shm/x", nil, 0o600))
	try("write /dev/null", os.WriteFile("/dev/null", []byte("x"), 0))
	try("write /dev", os.WriteFile("/dev/x", nil, 0o600))
	try("write /", os.WriteFile("/x", nil, 0o600))
	try("write /airbyte", os.WriteFile("/airbyte/x", nil, 0o600))
	try("write /bin", os.WriteFile("/bin/x", nil, 0o600))
	_, err := os.ReadFile("/etc/secret-of-root")
	try("read root's file", err)
	_, err = os.ReadFile("/etc/hosts")
	try("read /etc/hosts", err)
	f, err := os.OpenFile("/dev/stderr", os.O_WRONLY, 0)
	try("open /dev/stderr", err)
	_ = f.Close()
	try("mknod", syscall.Mknod("/config/null", syscall.S_IFCHR|0o666, 1<<8|3))
	try("mount", syscall.Mount("tmpfs", "/tmp", "tmpfs", 0, ""))
	try("chroot", syscall.Chroot("/tmp"))
	try("setuid", syscall.Setuid(0))
	child := exec.Command("/bin/connector", "nothing", "spec")
	child.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWUSER}
	try("user namespace", child.Run())
}
