package build

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

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

// mounts are those of this test's namespace, and control groups those of the machine, with a text in their names.
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
			<-ended
			eventually(t, "everything has ended", func() bool { return len(processes(t, home))+len(processes(t, marker)) == 0 })
			if left := mountsAndCgroups(t, home, "nothing"); len(left) > 0 {
				t.Errorf("it left %q", left)
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
	defer b.Close()
	if err := b.pool.ready(ctx, quiet{}); err != ctx.Err() || err == nil {
		t.Errorf("the error is %v", err)
	}
}
