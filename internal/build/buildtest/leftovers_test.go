//go:build linux

package buildtest_test

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// machine is what engines could leave behind and other tests don't change meanwhile.
func machine(t *testing.T) string {
	t.Helper()
	var b strings.Builder
	interfaces, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range interfaces {
		fmt.Fprintf(&b, "interface %s\n", i.Name)
	}
	for _, table := range []string{"nat", "filter"} {
		rules, err := exec.Command("iptables", "-t", table, "-S").Output()
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s:\n%s", table, rules)
	}
	dirs := []string{"/etc/docker", "/run/docker", "/run/containerd", "/var/lib/docker", "/var/lib/containerd", "/var/lib/buildkit"}
	for _, dir := range dirs {
		entries, err := os.ReadDir(dir)
		if err != nil && !errors.Is(err, os.ErrNotExist) {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %v\n", dir, entries)
	}
	for _, file := range []string{"/proc/sys/net/ipv4/ip_forward", "/etc/passwd", "/etc/subuid"} {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(&b, "%s: %s\n", file, content)
	}
	return b.String()
}

// remains is what there is of an engine with a folder: processes, mounts, control groups, the folder itself.
func remains(dir string) (found []string) {
	key := filepath.Base(dir)
	if _, err := os.Stat(dir); err == nil {
		found = append(found, dir)
	}
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return append(found, err.Error())
	}
	for line := range strings.Lines(string(mounts)) {
		if strings.Contains(line, key) {
			found = append(found, "mount "+line)
		}
	}
	processes, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		return append(found, err.Error())
	}
	for _, process := range processes {
		line, _ := os.ReadFile(process) // a process that has ended meanwhile has none
		cgroup, _ := os.ReadFile(filepath.Join(filepath.Dir(process), "cgroup"))
		if strings.Contains(string(line), key) || strings.Contains(string(cgroup), key) {
			found = append(found, fmt.Sprintf("process %s %q", process, line))
		}
	}
	_ = filepath.WalkDir("/sys/fs/cgroup", func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return nil // a control group of others that is gone by now
		}
		if strings.Contains(d.Name(), key) {
			found = append(found, path)
		}
		return nil
	})
	return found
}

// building starts a build that does not end by itself, and returns when its command runs. What it returns tells how the
// build has ended.
func building(t *testing.T, e engine, base string) (ended chan error) {
	t.Helper()
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM "+base+"\nRUN echo it runs; sleep 600\n")
	runs := &announcement{text: "it runs", made: make(chan struct{})}
	ended = make(chan error, 1)
	go func() { ended <- e.solve(context.Background(), dir, nil, runs) }()
	select {
	case <-runs.made:
	case err := <-ended:
		t.Fatalf("the build has ended: %v", err)
	}
	return ended
}

// announcement is a writer that waits for a text.
type announcement struct {
	text string
	seen strings.Builder
	made chan struct{} // closed when the text was written
}

func (a *announcement) Write(p []byte) (int, error) {
	if before := a.seen.String(); !strings.Contains(before, a.text) && strings.Contains(before+string(p), a.text) {
		close(a.made)
	}
	return a.seen.Write(p)
}

// TestNothingIsLeft ends each engine in the middle of a build.
func TestNothingIsLeft(t *testing.T) {
	t.Parallel()
	before := machine(t)
	registry := registrytest.Start(t, registrytest.Config{})
	base := buildtest.Busybox.Push(t, registry.Addr)
	var dirs []string
	var builds []chan error
	t.Run("engines", func(t *testing.T) {
		for _, rootless := range []bool{false, true} {
			d := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{Rootless: rootless})
			dirs = append(dirs, d.Dir)
			builds = append(builds, building(t, engine{buildkit: connect(t, d.Address)}, base))
		}
		for _, o := range []buildtest.DockerOptions{{}, {Modern: true}, {Modern: true, Containerd: true}} {
			d := buildtest.Docker(t, o)
			dirs = append(dirs, d.Dir)
			builds = append(builds, building(t, throughDocker(t, d, o), base))
		}
		for _, dir := range dirs {
			if found := remains(dir); len(found) < 2 {
				t.Errorf("of an engine that runs only this is found: %q", found)
			}
		}
	})
	for i, dir := range dirs {
		if err := <-builds[i]; err == nil {
			t.Errorf("a build whose engine was stopped has succeeded")
		}
		if found := remains(dir); found != nil {
			t.Errorf("left behind: %q", found)
		}
	}
	if after := machine(t); after != before {
		t.Errorf("the machine was\n%s\nand is now\n%s", before, after)
	}
}

// childVariable makes TestNothingIsLeftOfAKilledTest what is killed.
const childVariable = "BUILDTEST_CHILD"

// TestNothingIsLeftOfAKilledTest kills a test binary that has engines, which leaves it no time to stop them.
func TestNothingIsLeftOfAKilledTest(t *testing.T) {
	if base := os.Getenv(childVariable); base != "" {
		user, d := buildtest.OrdinaryUser(t), buildtest.Shared(t)
		building(t, engine{buildkit: connect(t, d.Address)}, base)
		docker := buildtest.SharedDocker(t, buildtest.DockerOptions{})
		fmt.Println("folders:", filepath.Dir(user.Home), d.Dir, docker.Dir, buildtest.Programs(t))
		select {}
	}
	t.Parallel()
	registry := registrytest.Start(t, registrytest.Config{})
	cmd := exec.Command(os.Args[0], "-test.run=^TestNothingIsLeftOfAKilledTest$")
	cmd.Env = append(os.Environ(), childVariable+"="+buildtest.Busybox.Push(t, registry.Addr))
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var dirs, said []string
	for lines := bufio.NewScanner(stdout); dirs == nil && lines.Scan(); {
		said = append(said, lines.Text())
		if list, ok := strings.CutPrefix(lines.Text(), "folders: "); ok {
			dirs = strings.Fields(list)
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	if len(dirs) != 4 {
		t.Fatalf("the child has started no engines: %q", said)
	}
	deadline := time.Now().Add(20 * time.Second)
	for _, dir := range dirs {
		found := remains(dir)
		for ; found != nil && time.Now().Before(deadline); found = remains(dir) {
			time.Sleep(20 * time.Millisecond)
		}
		if found != nil {
			t.Errorf("left behind: %q", found)
		}
	}
}

// TestOrdinaryUser runs a buildkitd the way that a program without root has to run it.
func TestOrdinaryUser(t *testing.T) {
	t.Parallel()
	bin, user := buildtest.Programs(t), buildtest.OrdinaryUser(t)
	said, err := user.Command("sh", "-c", "id -un; id -u; cd; pwd; touch here $TMPDIR/there $XDG_RUNTIME_DIR/too").CombinedOutput()
	if got, want := string(said), fmt.Sprintf("airbyte-publish-test\n64100\n%s\n", user.Home); err != nil || got != want {
		t.Fatalf("the user says %q, %v, want %q", got, err, want)
	}
	buildctl := []string{filepath.Join(bin, "buildctl"), "--addr", buildtest.Shared(t).Address, "debug", "workers"}
	if said, err := user.Command(buildctl...).CombinedOutput(); err != nil {
		t.Errorf("the user can't reach root's buildkitd: %v\n%s", err, said)
	}
	socket := "unix://" + filepath.Join(user.Home, "buildkitd.sock")
	cmd := user.Command(filepath.Join(bin, "rootlesskit"), "--net=host", "--copy-up=/etc",
		filepath.Join(bin, "buildkitd"), "--rootless", "--oci-worker-no-process-sandbox", "--containerd-worker=false",
		"--root", filepath.Join(user.Home, "data"), "--addr", socket)
	cmd.Env = append(cmd.Env, "PATH="+bin+":/usr/bin:/bin")
	var log strings.Builder
	runs := &announcement{text: "running server on", made: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = &log, runs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	select {
	case <-runs.made:
	case err := <-ended:
		t.Fatalf("buildkitd has ended: %v\n%s%s", err, &log, &runs.seen)
	}
	registry := registrytest.Start(t, registrytest.Config{})
	dir := t.TempDir()
	write(t, dir, "Dockerfile", "FROM "+buildtest.Busybox.Push(t, registry.Addr)+"\nRUN id\n")
	if err := (engine{buildkit: connect(t, socket)}).publish(t.Context(), dir, registry.Addr+"/built:1", nil); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if err := <-ended; err != nil {
		t.Logf("rootlesskit ended with %v", err)
	}
}

// TestKill kills a buildkitd, as a test of what becomes of its builds does.
func TestKill(t *testing.T) {
	t.Parallel()
	d := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{})
	if _, err := ask(t, d.Address); err != nil {
		t.Fatal(err)
	}
	d.Kill()
	if _, err := ask(t, d.Address); err == nil {
		t.Error("a killed buildkitd answers")
	}
	if !strings.Contains(d.Log(), "running server") {
		t.Errorf("the log of a killed buildkitd is %q", d.Log())
	}
}
