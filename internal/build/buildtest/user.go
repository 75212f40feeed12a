//go:build linux

package buildtest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// The ordinary user that engines without root run as, and the first of the 65536 ids that stand for the users of
// their containers. The user exists in a mount namespace only: /etc/passwd, /etc/subuid and /etc/subgid are bound over
// there, so that the machine's own files stay as they are.
const (
	userID   = 64100
	userName = "airbyte-publish-test"
	firstID  = 6410000
)

// asUser returns the shell commands that make the user in a mount namespace, and the arguments that go before a command to
// run it as the user. The user's home is the folder "home".
func (h *home) asUser(t testing.TB) (prelude string, args, env []string) {
	t.Helper()
	setpriv := lookPath(t, "setpriv", "util-linux")
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"passwd": fmt.Sprintf("%s\n%s:x:%d:%d::%s:/bin/sh\n",
			strings.TrimSpace(string(passwd)), userName, userID, userID, h.path("home")),
		"group":  fmt.Sprintf("%s\n%s:x:%d:\n", strings.TrimSpace(string(group)), userName, userID),
		"subuid": fmt.Sprintf("%s:%d:65536\n", userName, firstID),
		"subgid": fmt.Sprintf("%s:%d:65536\n", userName, firstID),
	}
	for name, content := range files {
		prelude += fmt.Sprintf("mount --bind %s /etc/%s\n", h.write(t, name, content), name)
	}
	for _, dir := range []string{"home", "run", "tmp"} {
		h.mkdir(t, dir, userID)
	}
	id := strconv.Itoa(userID)
	args = []string{setpriv, "--reuid", id, "--regid", id, "--clear-groups", "--pdeathsig", "KILL", "--"}
	env = []string{"HOME=" + h.path("home"), "USER=" + userName, "XDG_RUNTIME_DIR=" + h.path("run"), "TMPDIR=" + h.path("tmp")}
	return prelude, args, env
}

// User is the ordinary user, for tests of programs that must work without root.
type User struct {
	// Home is the user's folder, which is deleted with the test.
	Home string

	prelude   string
	args, env []string
}

// OrdinaryUser makes the user.
func OrdinaryUser(t testing.TB) *User {
	t.Helper()
	h := newHome(t)
	t.Cleanup(func() {
		if err := h.remove(); err != nil {
			t.Error(err)
		}
	})
	u := &User{Home: h.path("home")}
	u.prelude, u.args, u.env = h.asUser(t)
	return u
}

// Command makes a command that runs as the user, in a mount namespace but no other, with HOME, XDG_RUNTIME_DIR and
// TMPDIR in the user's folder and the caller's PATH. Its process is the program's own: a signal reaches it. What it
// reads must be readable for everyone, which files in a test's temporary folders are.
func (u *User) Command(args ...string) *exec.Cmd {
	script := "set -e\nmount --make-rprivate /\n" + u.prelude + "\nexec \"$@\"\n"
	cmd := exec.Command("/bin/sh", append(append([]string{"-c", script, "sh"}, u.args...), args...)...)
	cmd.Dir = u.Home
	cmd.Env = append([]string{"PATH=" + os.Getenv("PATH")}, u.env...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	return cmd
}
