package build

import (
	"bytes"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// supervisorName is the name under which this program, started again, becomes the supervisor of a command.
const supervisorName = "airbyte-publish-supervisor"

// supervisorPatience is how long the command may take to end in order. It is less than the supervisor itself gets.
const supervisorPatience = childStopTime / 2

// supervise runs a command, and ends it with everything that it has started and left behind: when it ends itself, and
// on SIGTERM, which the kernel sends when this program's parent dies. It stands in where there is no process namespace
// to end. The result is the command's exit code.
func supervise(args []string) (int, error) {
	// Processes whose parent has ended become children of this one.
	if err := unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0); err != nil {
		return 1, err
	}
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM)
	// The command's own signal is tied to this thread.
	runtime.LockOSThread()
	command, err := os.StartProcess(args[0], args, &os.ProcAttr{Files: []*os.File{nil, os.Stdout, os.Stderr},
		Sys: &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}})
	if err != nil {
		return 1, err
	}
	go func() {
		<-signals
		_ = unix.Kill(command.Pid, unix.SIGTERM)
		time.Sleep(supervisorPatience)
		_ = unix.Kill(command.Pid, unix.SIGKILL)
	}()
	var status unix.WaitStatus
	for {
		pid, err := unix.Wait4(-1, &status, 0, nil)
		if err != nil && err != unix.EINTR {
			return 1, fmt.Errorf("wait for %s: %w", args[0], err)
		}
		if pid == command.Pid {
			break
		}
	}
	endChildren()
	if status.Exited() {
		return status.ExitStatus(), nil
	}
	return 1, fmt.Errorf("%s: %s", filepath.Base(args[0]), status.Signal())
}

// endChildren kills this process's children until there are none. Each may leave children of its own.
func endChildren() {
	for {
		for _, pid := range childrenOf(os.Getpid()) {
			_ = unix.Kill(pid, unix.SIGKILL)
		}
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case err != nil && err != unix.EINTR:
			return
		case pid == 0:
			time.Sleep(time.Millisecond)
		}
	}
}

// childrenOf are the processes whose parent is the given one.
func childrenOf(parent int) []int {
	files, _ := filepath.Glob("/proc/[0-9]*/stat")
	var found []int
	for _, file := range files {
		// The name, in parentheses, may hold anything. After it come the state and the parent.
		content, err := os.ReadFile(file)
		if err != nil {
			continue
		}
		fields := bytes.Fields(content[bytes.LastIndexByte(content, ')')+1:])
		if len(fields) > 1 && string(fields[1]) == strconv.Itoa(parent) {
			if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil {
				found = append(found, pid)
			}
		}
	}
	return found
}
