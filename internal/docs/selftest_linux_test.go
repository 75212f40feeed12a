package docs_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
)

// TestSelfTest runs this repository's own self-test workflow, in which the action is built from source.
func TestSelfTest(t *testing.T) {
	t.Parallel()
	r := repository{dir: t.TempDir(), home: t.TempDir(), actions: map[string]string{}, args: []string{"--matrix", "os:ubuntu-24.04"}}
	copyTree(t, r.dir)
	r.git(t, "init", "-q", "-b", "main")
	r.commit(t)
	// There is Go already and no network to get another one from, and act's own checkout takes no ref.
	for name, script := range map[string]string{"checkout": "git clone -q file://" + r.dir + " .", "setup-go": "go version"} {
		stub := t.TempDir()
		write(t, filepath.Join(stub, "action.yml"), "name: stub\ndescription: A stub.\nruns: { using: composite, steps: [{ run: '"+script+"', shell: bash }] }\n")
		for line := range strings.Lines(readFile(t, ".github/workflows/self-test.yml")) {
			if _, rest, found := strings.Cut(line, "uses: actions/"+name+"@"); found {
				commit, _, _ := strings.Cut(rest, " ")
				r.actions["actions/"+name+"@"+commit] = stub
			}
		}
	}
	t.Cleanup(func() { endBelow(t, r.home) })
	log, err := r.run(t, "self-test.yml", "push", map[string]any{"ref": "refs/heads/main"})
	if err != nil || !strings.Contains(log, "Success - Main See that nothing was left to do") || !strings.Contains(log, "| published sha256:") {
		t.Fatalf("%v\n%s", err, log)
	}
}

// copyTree copies what git knows or would add.
func copyTree(t *testing.T, to string) {
	t.Helper()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for name := range strings.SplitSeq(strings.TrimSuffix(string(out), "\x00"), "\x00") {
		info, err := os.Stat(filepath.Join(root, name))
		if os.IsNotExist(err) {
			continue // It was deleted and not committed yet.
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(to, name), readFile(t, name))
		if err := os.Chmod(filepath.Join(to, name), info.Mode().Perm()); err != nil {
			t.Fatal(err)
		}
	}
}

// endBelow ends the processes whose program lies below a folder: what a workflow leaves running ends with the machine at
// GitHub, and with the test here.
func endBelow(t *testing.T, folder string) {
	t.Helper()
	links, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil {
		t.Fatal(err)
	}
	for _, link := range links {
		program, err := os.Readlink(link)
		if err != nil || !strings.HasPrefix(program, folder+"/") {
			continue
		}
		if pid, err := strconv.Atoi(filepath.Base(filepath.Dir(link))); err == nil {
			_ = syscall.Kill(pid, syscall.SIGKILL)
		}
	}
}
