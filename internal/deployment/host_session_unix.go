//go:build unix

package deployment

import (
	"os/exec"
	"syscall"
)

// ownSession keeps a command from the terminal: an interrupt from there is for this program, which still has to clean up
// on the host over the command's connection.
func ownSession(cmd *exec.Cmd) { cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true} }
