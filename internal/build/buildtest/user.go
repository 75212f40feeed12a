//go:build linux

package buildtest

import (
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
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
	lookPath(t, "newuidmap", "uidmap")
	passwd, err := os.ReadFile("/etc/passwd")
	if err != nil {
		t.Fatal(err)
	}
	group, err := os.ReadFile("/etc/group")
	if err != nil {
		t.Fatal(err)
	}
	files := map[string]string{
		"passwd": fmt.Sprintf("%s\n%s:x:%d:%d::%s:/bin/sh\n", strings.TrimSpace(string(passwd)), userName, userID, userID, h.path("home")),
		"group":  fmt.Sprintf("%s\n%s:x:%d:\n", strings.TrimSpace(string(group)), userName, userID),
		"subuid": fmt.Sprintf("%s:%d:65536\n", userName, firstID),
		"subgid": fmt.Sprintf("%s:%d:65536\n", userName, firstID),
	}
	for name, content := range files {
		prelude += fmt.Sprintf("mount --bind %s /etc/%s\n", h.write(t, name, content), name)
	}
	for _, dir := range []string{"home", "run", "tmp"} {
		if err := os.Mkdir(h.path(dir), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.Chown(h.path(dir), userID, userID); err != nil {
			t.Fatal(err)
		}
	}
	id := strconv.Itoa(userID)
	args = []string{setpriv, "--reuid", id, "--regid", id, "--clear-groups", "--bounding-set", "+all", "--pdeathsig", "KILL", "--"}
	env = []string{"HOME=" + h.path("home"), "USER=" + userName, "XDG_RUNTIME_DIR=" + h.path("run"), "TMPDIR=" + h.path("tmp")}
	return prelude, args, env
}
