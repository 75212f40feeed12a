package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// childOptions lead to the buildkitd of the tests, with a cache folder that ends with the test.
func childOptions(t *testing.T, pairs ...string) (o Options, cache string) {
	t.Helper()
	cache = t.TempDir()
	return Options{Getenv: environment(append(pairs, "PATH", buildtest.Programs(t), "DOCKER_HOST", "unix:///nowhere/docker.sock",
		"XDG_CACHE_HOME", cache)...)}, cache
}

// eventually polls until done, and gives up after a time in which a busy machine should have it.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	timeout := time.After(30 * time.Second)
	for !done() {
		select {
		case <-timeout:
			t.Fatalf("not in time: %s", what)
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// processes are those with a text in their command line.
func processes(t *testing.T, text string) []string {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil || len(files) == 0 {
		t.Fatalf("processes: %v %v", files, err)
	}
	var found []string
	for _, file := range files {
		// A process may have ended since.
		line, err := os.ReadFile(file)
		if err == nil && bytes.Contains(line, []byte(text)) {
			found = append(found, string(bytes.ReplaceAll(line, []byte{0}, []byte{' '})))
		}
	}
	return found
}

// mountsAndCgroups are the mounts of this test's namespace with a text in them, and the control groups of a name.
func mountsAndCgroups(t *testing.T, text, cgroup string) []string {
	t.Helper()
	var found []string
	for line := range strings.Lines(string(must(os.ReadFile("/proc/self/mountinfo")))) {
		if strings.Contains(line, text) {
			found = append(found, line)
		}
	}
	for _, pattern := range []string{"/sys/fs/cgroup/", "/sys/fs/cgroup/*/"} {
		found = append(found, must(filepath.Glob(pattern+cgroup))...)
	}
	return found
}

func TestChild(t *testing.T) {
	t.Parallel()
	o, cache := childOptions(t)
	var ids []string
	// The second finds what the first has left.
	for range 2 {
		b := New(o)
		log := &recorder{}
		if err := b.pool.ready(t.Context(), log); err != nil {
			t.Fatalf("%v\n%s", err, log)
		}
		e := b.pool.seats[0].engine
		if !strings.HasSuffix(e.name, "as a child process") {
			t.Errorf("it is %s", e.name)
		}
		works(t, e)
		workers, err := e.client.ListWorkers(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		ids = append(ids, workers[0].ID)
		if found := processes(t, cache); len(found) != 1 {
			t.Errorf("there are the processes %q", found)
		}
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		dir := filepath.Join(cache, "airbyte-publish", "buildkit")
		left := append(processes(t, cache), mountsAndCgroups(t, cache, (&stateDir{dir: dir}).cgroup())...)
		if len(left) > 0 {
			t.Errorf("it left %q", left)
		}
		if names := must(filepath.Glob(dir + "/*")); len(names) != 3 {
			t.Errorf("its folder holds %q, not the data, the lock and the configuration", names)
		}
	}
	if ids[0] != ids[1] {
		t.Errorf("the second buildkitd is %s and the first was %s", ids[1], ids[0])
	}
}

func TestChildrenAtTheSameTime(t *testing.T) {
	t.Parallel()
	o, cache := childOptions(t)
	for _, builder := range []string{"", "buildkitd"} {
		o.Builder = builder
		engines, _ := dialed(t, o)
		works(t, engines[0])
	}
	if names := must(filepath.Glob(cache + "/airbyte-publish/*/run/buildkitd.sock")); len(names) != 2 {
		t.Errorf("there are the sockets %q", names)
	}
}

// helperVariable has the test binary do what TestHelper does, as the process that is killed.
const helperVariable = "BUILD_TEST_HELPER"

// TestHelper is no test of its own: it is the other process of TestKilled.
func TestHelper(t *testing.T) {
	script := os.Getenv(helperVariable)
	if script == "" {
		t.Skip("only for TestKilled, which runs it in a process of its own")
	}
	log := &recorder{}
	engines, err := choose(t, Options{Getenv: os.Getenv, Builder: "buildkitd"}, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	fmt.Println("the engine is", engines[0].name)
	t.Fatal(execute(t.Context(), t, engines[0], script))
}

// TestKilled kills a process in the middle of a build in its buildkitd, and looks for what it leaves.
func TestKilled(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name     string
		rootless bool
		// masked stands for a container where rootlesskit can make no process namespace.
		masked bool
	}{
		{"root", false, false},
		{"rootless", true, false},
		{"rootless in a container", true, true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			programs := buildtest.Programs(t)
			home := t.TempDir()
			cmd := exec.Command(os.Args[0], "-test.run=^TestHelper$")
			cmd.Env = append(os.Environ(), "HOME="+home)
			if tt.rootless {
				user := buildtest.OrdinaryUser(t)
				home = user.Home
				binary := filepath.Join(home, "test")
				if err := os.WriteFile(binary, must(os.ReadFile(os.Args[0])), 0o755); err != nil {
					t.Fatal(err)
				}
				cmd = user.Command(binary, "-test.run=^TestHelper$")
			}
			if tt.masked {
				script := "#!/bin/sh\ncase \"$*\" in *--pidns*) echo masked >&2; exit 1;; esac\nexec " + programs + "/rootlesskit \"$@\"\n"
				if err := os.WriteFile(filepath.Join(home, "rootlesskit"), []byte(script), 0o755); err != nil {
					t.Fatal(err)
				}
				programs = home + ":" + programs
			}
			marker := "marker-" + strings.ReplaceAll(tt.name, " ", "-") + "-of-" + strconv.Itoa(os.Getpid())
			cmd.Env = append(cmd.Env, "PATH="+programs+":"+os.Getenv("PATH"), helperVariable+"=while :; do /bin/busybox sleep 1; done; : "+marker)
			var output tail
			cmd.Stdout, cmd.Stderr = &output, &output
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			ended := make(chan error, 1)
			go func() { ended <- cmd.Wait() }()
			eventually(t, "the build runs", func() bool {
				select {
				case err := <-ended:
					t.Fatalf("the process ended: %v\n%s", err, output.String())
				default:
				}
				return slices.ContainsFunc(processes(t, marker), func(p string) bool { return strings.HasPrefix(p, "/bin/busybox sh -c") })
			})
			if !strings.Contains(output.String(), map[bool]string{false: "as a child process", true: "without root"}[tt.rootless]) {
				t.Errorf("it says %s", output.String())
			}
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
			if err := <-ended; err == nil {
				t.Error("it ended well although it was killed")
			}
			eventually(t, "everything has ended", func() bool { return len(processes(t, home))+len(processes(t, marker)) == 0 })
			if left := mountsAndCgroups(t, home, "none"); len(left) > 0 {
				t.Errorf("it left %q", left)
			}
			if tt.rootless {
				return
			}
			// What the kernel leaves, the next run on the machine cleans up: control groups without a process.
			next, err := takeState([]string{filepath.Join(home, ".cache", "airbyte-publish")})
			if err != nil {
				t.Fatal(err)
			}
			if left := mountsAndCgroups(t, home, next.cgroup()); len(left) == 0 {
				t.Error("there is nothing to clean up, so that this proves nothing")
			}
			eventually(t, "nothing is left", func() bool {
				next.removeCgroups()
				return len(mountsAndCgroups(t, home, next.cgroup())) == 0
			})
			if err := next.release(); err != nil {
				t.Error(err)
			}
		})
	}
}

func TestChildDoesNotStart(t *testing.T) {
	t.Parallel()
	program := func(text string) string {
		dir := t.TempDir()
		for _, name := range []string{"buildkitd", "runc"} {
			if err := os.WriteFile(filepath.Join(dir, name), []byte("#!/bin/sh\n"+text+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	log := &recorder{}
	_, err := choose(t, Options{Getenv: environment("PATH", program("echo first; echo the reason >&2; exit 7"), "HOME", t.TempDir()),
		Builder: "buildkitd"}, log)
	if fault.CodeOf(err) != fault.EngineUnreachable || !strings.Contains(err.Error(), "it ended (exit status 7): the reason") {
		t.Errorf("the error is %v", err)
	}
	if !slices.Contains(log.said, "first\nthe reason\n") {
		t.Errorf("it told %q", log.said)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	b := New(Options{Getenv: environment("PATH", program("exec /bin/sleep 1000"), "HOME", t.TempDir())})
	t.Cleanup(func() { _ = b.Close() })
	if err := b.pool.ready(ctx, quiet{}); !errors.Is(err, ctx.Err()) || err == nil {
		t.Errorf("the error is %v", err)
	}
}

func TestStateDir(t *testing.T) {
	t.Parallel()
	base := filepath.Join(t.TempDir(), "airbyte-publish")
	take := func(bases ...string) *stateDir {
		t.Helper()
		s, err := takeState(bases)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = s.release() })
		return s
	}
	first, second := take(base), take(base)
	if first.dir != base+"/buildkit" || second.dir != base+"/buildkit-2" {
		t.Errorf("the folders are %s and %s", first.dir, second.dir)
	}
	if info := must(os.Stat(first.dir)); info.Mode().Perm() != 0o700 {
		t.Errorf("its mode is %s", info.Mode())
	}
	// A buildkitd of a run that was killed still has its lock.
	if err := first.clean(); err != nil {
		t.Fatal(err)
	}
	theirs := must(lockFile(filepath.Join(first.root(), "buildkitd.lock"), os.O_CREATE))
	if err := first.release(); err != nil {
		t.Fatal(err)
	}
	if third := take(base); third.dir != base+"/buildkit-3" {
		t.Errorf("the folder is %s", third.dir)
	}
	_ = theirs.Close()
	if fourth := take(base); fourth.dir != first.dir {
		t.Errorf("the folder is %s", fourth.dir)
	}
	// A place that anyone may write to is not taken.
	open := t.TempDir()
	if err := os.Chmod(open, 0o777); err != nil {
		t.Fatal(err)
	}
	if next := take(open, base); next.dir != base+"/buildkit-4" {
		t.Errorf("the folder is %s", next.dir)
	}
	if _, err := takeState([]string{"/proc/nowhere", open}); err == nil || !strings.Contains(err.Error(), "only its user") {
		t.Errorf("the error is %v", err)
	}
	// A socket's path is bounded.
	long := take(filepath.Join(t.TempDir(), strings.Repeat("x", 100)))
	if err := long.clean(); err != nil || len(long.socket()) > maxSocketPath {
		t.Errorf("the socket is %s, %v", long.socket(), err)
	}
	if err := long.release(); err != nil {
		t.Error(err)
	}
	if _, err := os.Stat(long.run); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("it left %s", long.run)
	}
}

// TestStateWhereTemporaryFilesLieDeep sets a variable, so it is not parallel.
func TestStateWhereTemporaryFilesLieDeep(t *testing.T) {
	deep := filepath.Join(t.TempDir(), strings.Repeat("x", 100))
	if err := os.MkdirAll(deep, 0o700); err != nil {
		t.Fatal(err)
	}
	t.Setenv("TMPDIR", deep)
	s, err := takeState([]string{filepath.Join(deep, "state")})
	if err != nil {
		t.Fatal(err)
	}
	if len(s.socket()) > maxSocketPath {
		t.Errorf("the socket is %s", s.socket())
	}
	if err := s.release(); err != nil {
		t.Error(err)
	}
	for _, dir := range []string{s.run, deep} {
		left, err := filepath.Glob(filepath.Join(dir, "airbyte-publish-*"))
		if err != nil || len(left) > 0 {
			t.Errorf("it left %q, %v", left, err)
		}
	}
}

func TestStateBases(t *testing.T) {
	t.Parallel()
	temp := "/temp/airbyte-publish-" + strconv.Itoa(os.Geteuid())
	for name, tt := range map[string]struct{ env, want []string }{
		"cache":          {[]string{"XDG_CACHE_HOME", "/c", "HOME", "/h"}, []string{"/c/airbyte-publish", temp}},
		"home":           {[]string{"HOME", "/h"}, []string{"/h/.cache/airbyte-publish", temp}},
		"a broken cache": {[]string{"XDG_CACHE_HOME", "c", "HOME", "/h"}, []string{"/h/.cache/airbyte-publish", temp}},
		"nothing":        {nil, []string{temp}},
	} {
		if got := stateBases(Options{Getenv: environment(tt.env...), TempDir: "/temp"}); !slices.Equal(got, tt.want) {
			t.Errorf("%s: the folders are %q", name, got)
		}
	}
}

func TestStateConfig(t *testing.T) {
	t.Parallel()
	s := &stateDir{dir: "/x"}
	own := folderOf(t, map[string]string{"buildkitd.toml": "debug = true\n[registry.\"b.example\"]\nmirrors = [\"m\"]\n"})
	o := Options{Hosts: []string{"a.example:5000", "b.example", "c.example", "a.example:5000"},
		PlainHTTP: func(host string) bool { return host != "c.example" }}
	got, err := s.config(filepath.Join(own, "buildkitd.toml"), o)
	want := "debug = true\n[registry.\"b.example\"]\nmirrors = [\"m\"]\n\n[worker.oci]\ndefaultCgroupParent = \"" + s.cgroup() +
		"\"\n\n[registry.\"a.example:5000\"]\nhttp = true\n"
	if diff := cmp.Diff(want, got); err != nil || diff != "" {
		t.Errorf("%v\n%s", err, diff)
	}
}

func TestProcMasked(t *testing.T) {
	t.Parallel()
	for mountinfo, want := range map[string]bool{
		"": false,
		"22 28 0:21 / /proc rw,nosuid - proc proc rw\n35 22 0:33 / /proc/sys/fs/binfmt_misc rw - autofs systemd-1 rw\n": false,
		"60 59 0:50 / /proc rw - proc proc rw\n61 60 0:52 / /proc/acpi ro - tmpfs tmpfs ro\n":                           true,
	} {
		if got := procMasked(mountinfo); got != want {
			t.Errorf("%v for\n%s", got, mountinfo)
		}
	}
}
