//go:build linux

package buildtest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// The versions of what is built here. BuildKit's is that of the client in go.mod. A module that has exclude or replace
// directives can't be installed by "go install …@version", so each is built in a module that requires it.
const (
	buildkitVersion = "v0.33.1"
	mobyVersion     = "v2.0.0-beta.24"
	runcVersion     = "v1.5.2"
)

// program is a set of programs of one module.
type program struct {
	folder   string // in the cache, with the version
	module   string // with the version
	packages []string
	flags    []string
	cgo      bool
}

var (
	buildkit = program{
		folder:   "buildkit-" + buildkitVersion,
		module:   "github.com/moby/buildkit@" + buildkitVersion,
		packages: []string{"github.com/moby/buildkit/cmd/buildkitd", "github.com/moby/buildkit/cmd/buildctl"},
	}
	moby = program{
		folder:   "moby-" + mobyVersion,
		module:   "github.com/moby/moby/v2@" + mobyVersion,
		packages: []string{"github.com/moby/moby/v2/cmd/dockerd"},
		flags:    []string{"-tags", "exclude_graphdriver_btrfs no_systemd"},
		cgo:      true,
	}
	// The runc of Debian 12 knows no time namespaces, which moby's main line puts every container into.
	runc = program{
		folder:   "runc-" + runcVersion,
		module:   "github.com/opencontainers/runc@" + runcVersion,
		packages: []string{"github.com/opencontainers/runc"},
		flags:    []string{"-tags", "seccomp"},
		cgo:      true,
	}
)

// unavailable ends a test that can't have its engine: loudly, and as a failure where CI has to prove it.
func unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("no build engine, and CI must prove this: %s", reason)
	}
	t.Skipf("NOT TESTED, no build engine: %s", reason)
}

// lookPath finds a program of a Debian package. It looks where an ordinary user's PATH does not lead as well.
func lookPath(t testing.TB, name, debianPackage string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	for _, dir := range []string{"/usr/sbin", "/sbin"} {
		if path, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return path
		}
	}
	unavailable(t, "%s is not installed (Debian: apt-get install %s)", name, debianPackage)
	return ""
}

// systemPath leads to the programs of Debian's packages.
const systemPath = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

// folder is that of Programs. The cache itself is often one that only its owner can read.
var folder struct {
	sync.Mutex
	home *home // kept: the janitor takes a pipe that is collected for the end of the test binary
}

// Programs returns a folder with what a buildkitd of one's own needs: buildkitd, buildctl, runc and rootlesskit. It
// belongs in front of a PATH that leads to newuidmap, and an ordinary user can read it.
func Programs(t testing.TB) string {
	t.Helper()
	built := buildkit.built(t)
	lookPath(t, "newuidmap", "uidmap")
	found := map[string]string{
		"buildkitd":   filepath.Join(built, "buildkitd"),
		"buildctl":    filepath.Join(built, "buildctl"),
		"runc":        lookPath(t, "runc", "runc"),
		"rootlesskit": lookPath(t, "rootlesskit", "rootlesskit"),
	}
	folder.Lock()
	defer folder.Unlock()
	if folder.home != nil {
		return folder.home.dir
	}
	h := newHome(t)
	for name, path := range found {
		if err := copyProgram(path, h.path(name)); err != nil {
			t.Fatal(err)
		}
	}
	folder.home = h
	return h.dir
}

// copyProgram makes another name for a file where that is possible, and copies it where not.
func copyProgram(from, to string) error {
	if err := os.Link(from, to); err == nil {
		return nil
	}
	content, err := os.ReadFile(from)
	if err != nil {
		return err
	}
	return os.WriteFile(to, content, 0o755)
}

// cacheDir is where what is dear to make is kept between runs.
func cacheDir() string {
	if dir := os.Getenv("AIRBYTE_PUBLISH_TEST_CACHE"); dir != "" {
		return dir
	}
	if dir, err := os.UserCacheDir(); err == nil {
		return filepath.Join(dir, "airbyte-publish-test")
	}
	return filepath.Join(os.TempDir(), "airbyte-publish-test-"+strconv.Itoa(os.Getuid()))
}

// cached returns the path of an entry of the cache, which produce makes in an empty folder when it isn't there. What it
// writes to scratch is not kept. Test binaries that want the same at once wait for the first of them; one that is killed
// leaves nothing that counts as done. The name of an entry has to change with what it is made of.
func cached(t testing.TB, entry string, produce func(dir, scratch string) error) string {
	t.Helper()
	path := filepath.Join(cacheDir(), entry)
	if _, err := os.Stat(path); err == nil {
		return path
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := os.OpenFile(path+".lock", os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		t.Fatal(err)
	}
	defer lock.Close()
	if err := unix.Flock(int(lock.Fd()), unix.LOCK_EX); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err == nil {
		return path
	}
	// The lock is held, so that a folder of this name is what a killed run left.
	made := path + ".part"
	if err := os.RemoveAll(made); err != nil {
		t.Fatal(err)
	}
	if err := os.Mkdir(made, 0o755); err != nil {
		t.Fatal(err)
	}
	fmt.Fprintf(os.Stderr, "buildtest: making %s, once\n", path)
	if err := produce(made, t.TempDir()); err != nil {
		_ = os.RemoveAll(made)
		unavailable(t, "make %s: %v", path, err)
	}
	if err := os.Rename(made, path); err != nil {
		t.Fatal(err)
	}
	return path
}

// built returns the folder that holds a set of programs.
func (p program) built(t testing.TB) string {
	t.Helper()
	return cached(t, p.folder+"-"+runtime.GOARCH, func(dir, wrapper string) error {
		get := []string{"get", p.module}
		build := append([]string{"build", "-trimpath", "-buildvcs=false", "-mod=mod", "-ldflags=-s -w", "-o", dir + "/"}, p.flags...)
		env := []string{"CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off"}
		if p.cgo {
			env[0] = "CGO_ENABLED=1"
		}
		for _, args := range [][]string{{"mod", "init", "buildtest.invalid/programs"}, get, append(build, p.packages...)} {
			if err := run(wrapper, env, "nice", append([]string{"-n", "10", "go"}, args...)...); err != nil {
				return err
			}
		}
		return nil
	})
}
