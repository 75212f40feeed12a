//go:build !race

package cli_test

import (
	"bufio"
	"errors"
	"io"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// The tests of this file run without the race detector, under which the stand-in would take minutes to unpack the images
// that are built here; the packages' own tests have it.

// builds is a registry with base images, a stand-in that pulls from it, and the environment to publish into them.
type builds struct {
	environment
	images  *registrytest.Registry
	airbyte *standIn
}

func startBuilds(t testing.TB, bases ...buildtest.Base) builds {
	t.Helper()
	const user, password = "publisher", "password-of-the-publisher"
	b := builds{images: registrytest.Start(t, registrytest.Config{Users: map[string]string{user: password}})}
	arguments := []string{}
	for _, base := range bases {
		ref := base.Push(t, b.images.Addr, remote.WithAuth(&authn.Basic{Username: user, Password: password}))
		if base == buildtest.Golang {
			arguments = append(arguments, "BASE_GO="+ref)
		} else {
			arguments = append(arguments, "BASE="+ref)
		}
	}
	b.airbyte = startAirbyte(t, sandbox.AirbyteOptions{RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: b.images.Addr, Username: user, Password: password})})
	home := t.TempDir()
	if err := os.Chmod(home, 0o777); err != nil {
		t.Fatal(err)
	}
	b.environment = environment{
		"HOME": home, "PATH": os.Getenv("PATH"), "TMPDIR": home, "SOURCE_DATE_EPOCH": "1700000000",
		"DOCKER_HOST":                         "unix:///nowhere.sock",
		"AIRBYTE_PUBLISH_AIRBYTE_URL":         b.airbyte.url,
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME":   user,
		"AIRBYTE_PUBLISH_REGISTRY_PASSWORD":   password,
		"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP": "true",
		"AIRBYTE_PUBLISH_IMAGE":               b.images.Addr + "/builds/{connector}",
		"AIRBYTE_PUBLISH_BUILD_ARGS":          strings.Join(arguments, "\n"),
	}
	return b
}

func (b builds) with(pairs ...string) builds {
	b.environment = b.environment.with(pairs...)
	return b
}

// TestDockerfilesThroughEveryEngine publishes connectors with real Dockerfiles by each kind of engine, each twice.
func TestDockerfilesThroughEveryEngine(t *testing.T) {
	t.Parallel()
	for engine, env := range map[string]func(*testing.T) []string{
		"buildkitd": func(t *testing.T) []string { return []string{"BUILDKIT_HOST", buildtest.Shared(t).Address} },
		"rootless": func(t *testing.T) []string {
			return []string{"AIRBYTE_PUBLISH_BUILDKIT_HOST", buildtest.Buildkitd(t, buildtest.BuildkitdOptions{Rootless: true}).Address}
		},
		"docker": func(t *testing.T) []string {
			return []string{"DOCKER_HOST", buildtest.SharedDocker(t, buildtest.DockerOptions{}).Host}
		},
		"modern docker": func(t *testing.T) []string {
			return []string{"DOCKER_HOST", buildtest.SharedDocker(t, buildtest.DockerOptions{Modern: true, Containerd: true}).Host}
		},
		"child": func(t *testing.T) []string {
			return []string{"PATH", buildtest.Programs(t) + ":" + os.Getenv("PATH"), "AIRBYTE_PUBLISH_BUILDER", "buildkitd"}
		},
	} {
		t.Run(engine, func(t *testing.T) {
			t.Parallel()
			golang := startBuilds(t, buildtest.Busybox, buildtest.Golang).with(env(t)...)
			golang.publishTwice(t, "source-go-docker")
			python := startBuilds(t, buildtest.Python)
			for _, k := range []string{"BUILDKIT_HOST", "AIRBYTE_PUBLISH_BUILDKIT_HOST", "DOCKER_HOST", "PATH", "AIRBYTE_PUBLISH_BUILDER"} {
				if v, ok := golang.environment[k]; ok {
					python.environment[k] = v
				}
			}
			python.with("AIRBYTE_PUBLISH_BUILD_SECRETS", "id=token,env=TOKEN", "TOKEN", "secret-of-the-build-7c1e").publishTwice(t, "source-python-docker")
			for file, content := range files(t, python.images.Dir) {
				if strings.Contains(content, "secret-of-the-build-7c1e") {
					t.Errorf("the build's secret is in the registry's file %s", file)
				}
			}
		})
	}
}

func (b builds) publishTwice(t *testing.T, name string) {
	t.Helper()
	dir := copyConnector(t, name, "1.0.0")
	first := b.runBinary(t, "publish", "--output", "json", dir)
	if first.code != 0 {
		t.Fatalf("exit code %d\n%s", first.code, first)
	}
	row := first.result(t).Rows[0]
	if row.Action != "created" || !row.Pushed || row.Digest == "" {
		t.Errorf("first publish: %+v", row)
	}
	if strings.Contains(first.String(), "secret-of-the-build-7c1e") {
		t.Errorf("the build's secret was printed:\n%s", first)
	}

	before := len(b.images.Requests(t))
	began := time.Now()
	second := b.runBinary(t, "publish", "--output", "json", dir)
	took := time.Since(began)
	again := second.result(t).Rows[0]
	if second.code != 0 || again.Action != "unchanged" || again.Pushed || again.Digest != row.Digest {
		t.Errorf("second publish: exit code %d, %+v\n%s", second.code, again, second)
	}
	for _, r := range b.images.Requests(t)[before:] {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("the second publish wrote to the registry: %s", r)
		}
	}
	if n := len(b.images.Requests(t)) - before; n > 10 {
		t.Errorf("the second publish made %d requests to the registry", n)
	}
	t.Logf("the second publish took %v", took)
}

// TestWhatChangesABuild: an ignored file is none of the source, another file is.
func TestWhatChangesABuild(t *testing.T) {
	t.Parallel()
	b := startBuilds(t, buildtest.Python).with("BUILDKIT_HOST", buildtest.Shared(t).Address)
	dir := copyConnector(t, "source-python-docker", "1.0.0")
	publish := func(args ...string) outcome {
		return b.runBinary(t, append([]string{"publish", "--output", "json", dir}, args...)...)
	}
	if o := publish(); o.code != 0 {
		t.Fatal(o)
	}
	write(t, filepath.Join(dir, "data", "drafts.csv"), "changed, but ignored\n")
	if o := publish(); o.code != 0 || o.result(t).Rows[0].Action != "unchanged" {
		t.Errorf("an ignored file changed something: %s", o)
	}
	main, err := os.ReadFile(filepath.Join(dir, "main.py"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "main.py"), string(main)+"# more\n")
	if o := publish(); o.code != 1 || o.result(t).Rows[0].Code != "AP308" {
		t.Errorf("another source under the same tag: %s", o)
	}
	if o := publish("--tag", "1.1.0"); o.code != 0 || o.result(t).Rows[0].Action != "updated" {
		t.Errorf("another source under a new tag: %s", o)
	}
}

// TestBrokenBuildsGoNowhere: an image whose spec fails is not exported at all.
func TestBrokenBuildsGoNowhere(t *testing.T) {
	t.Parallel()
	b := startBuilds(t, buildtest.Busybox).with("BUILDKIT_HOST", buildtest.Shared(t).Address)
	for name, tc := range map[string]struct{ entrypoint, script, code string }{
		"crash":    {"/spec.sh", "echo broken-because >&2; exit 3", "AP210"},
		"no-spec":  {"/spec.sh", "echo hello", "AP212"},
		"network":  {"/spec.sh", "wget -q -T 3 http://" + b.images.Addr + "/v2/ -O - && exit 0; echo no-network-here >&2; exit 4", "AP210"},
		"relative": {"./spec.sh", "echo", "AP202"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir := filepath.Join(t.TempDir(), "source-"+name)
			write(t, filepath.Join(dir, "metadata.yaml"), "data:\n  name: "+name+"\n  connectorType: source\n  dockerRepository: example.com/x/source-"+name+"\n  dockerImageTag: 1.0.0\n")
			write(t, filepath.Join(dir, "spec.sh"), "#!/bin/sh\n"+tc.script+"\n")
			write(t, filepath.Join(dir, "Dockerfile"), "ARG BASE\nFROM ${BASE}\nCOPY --chmod=0755 spec.sh /spec.sh\nENV AIRBYTE_ENTRYPOINT="+tc.entrypoint+"\nENTRYPOINT [\""+tc.entrypoint+"\"]\n")
			o := b.runBinary(t, "publish", "--output", "json", dir)
			row := o.result(t).Rows[0]
			if o.code != 1 || row.Code != tc.code || row.Pushed {
				t.Errorf("exit code %d, want the code %s\n%s", o.code, tc.code, o)
			}
			if tc.code == "AP210" && !strings.Contains(o.stderr, "broken-because") && !strings.Contains(o.stderr, "no-network-here") {
				t.Errorf("the connector's own words are missing:\n%s", o.stderr)
			}
			_, err := os.Stat(filepath.Join(b.images.Dir, "docker", "registry", "v2", "repositories", "builds", "source-"+name, "_manifests", "revisions"))
			if !errors.Is(err, fs.ErrNotExist) {
				t.Errorf("the registry has a manifest of it: %v", err)
			}
		})
	}
	if n := len(b.airbyte.Definitions()); n != 0 {
		t.Errorf("%d definitions", n)
	}
}

// TestBuildsMoveToALivingWorker spreads builds over two workers, of which one dies in the middle.
func TestBuildsMoveToALivingWorker(t *testing.T) {
	t.Parallel()
	b := startBuilds(t, buildtest.Busybox)
	living, dying := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{}), buildtest.Buildkitd(t, buildtest.BuildkitdOptions{})
	var dirs []string
	for _, name := range []string{"one", "two", "three"} {
		dir := filepath.Join(t.TempDir(), "source-"+name)
		write(t, filepath.Join(dir, "metadata.yaml"), "data:\n  name: "+name+"\n  connectorType: source\n  dockerRepository: example.com/x/source-"+name+"\n  dockerImageTag: 1.0.0\n")
		write(t, filepath.Join(dir, "Dockerfile"), "ARG BASE\nFROM ${BASE}\nRUN echo building-"+name+"; sleep 3\n"+
			"COPY --chmod=0755 spec.sh /spec.sh\nENV AIRBYTE_ENTRYPOINT=/spec.sh\nENTRYPOINT [\"/spec.sh\"]\n")
		write(t, filepath.Join(dir, "spec.sh"), "#!/bin/sh\necho '{\"type\":\"SPEC\",\"spec\":{\"connectionSpecification\":{\"type\":\"object\",\"properties\":{}}}}'\n")
		dirs = append(dirs, dir)
	}
	cmd, stdout, stderr := b.environment.with("AIRBYTE_PUBLISH_BUILDKIT_HOST", living.Address+","+dying.Address).
		command(t, append([]string{"publish", "--output", "json"}, dirs...)...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The worker dies while it runs a step.
	deadline := time.Now().Add(30 * time.Second)
	for !strings.Contains(running(t, dying.PID()), "sleep") && time.Now().Before(deadline) {
		time.Sleep(50 * time.Millisecond)
	}
	dying.Kill()
	_ = cmd.Wait()
	o := outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o)
	}
	for _, row := range o.result(t).Rows {
		if row.Action != "created" {
			t.Errorf("%+v", row)
		}
	}
}

// running lists the command lines of the processes below pid.
func running(t *testing.T, pid int) string {
	t.Helper()
	parents, commands := map[string]string{}, map[string]string{}
	processes, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		t.Fatal(err)
	}
	for _, dir := range processes {
		// A process may have ended meanwhile; then it has no parent.
		stat, _ := os.ReadFile(filepath.Join(dir, "stat"))
		_, rest, _ := strings.Cut(string(stat), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 {
			parents[filepath.Base(dir)] = fields[1]
		}
		command, _ := os.ReadFile(filepath.Join(dir, "cmdline"))
		commands[filepath.Base(dir)] = strings.ReplaceAll(string(command), "\x00", " ")
	}
	var below strings.Builder
	for process, command := range commands {
		for p := parents[process]; p != ""; p = parents[p] {
			if p == strconv.Itoa(pid) {
				below.WriteString(command + "\n")
			}
		}
	}
	return below.String()
}

// TestLintAndPlanNeedNoEngine reads a Dockerfile where there is nothing that could build it.
func TestLintAndPlanNeedNoEngine(t *testing.T) {
	t.Parallel()
	b := startBuilds(t, buildtest.Busybox, buildtest.Golang).with("PATH", "/nowhere", "XDG_RUNTIME_DIR", "/nowhere")
	dir := copyConnector(t, "source-go-docker", "1.0.0")
	if o := b.runBinary(t, "lint", dir); o.code != 0 || !strings.Contains(o.stdout, "fit for Airbyte") {
		t.Errorf("lint: exit code %d\n%s", o.code, o)
	}
	o := b.runBinary(t, "plan", "--output", "json", dir)
	if row := o.result(t).Rows[0]; o.code != 0 || row.Action != "created" || !row.Pushed {
		t.Errorf("plan: exit code %d\n%s", o.code, o)
	}
	o = b.runBinary(t, "publish", "--output", "json", dir)
	if row := o.result(t).Rows[0]; o.code != 1 || row.Code != "AP401" || row.Pushed {
		t.Errorf("publish: exit code %d\n%s", o.code, o)
	}
	write(t, filepath.Join(dir, "Dockerfile"), "ARG BASE\nFROM ${BASE}\nENTRYPOINT [\"/x\"]\n")
	if o := b.runBinary(t, "lint", dir); o.code != 1 || !strings.Contains(o.stderr, "AP201") {
		t.Errorf("lint without AIRBYTE_ENTRYPOINT: exit code %d\n%s", o.code, o)
	}
}

// TestABuildIsFollowed: what a step prints is shown while it runs, as a group of its own where the host has groups.
func TestABuildIsFollowed(t *testing.T) {
	t.Parallel()
	for host, env := range map[string][]string{"plain": nil, "github": {"GITHUB_ACTIONS", "true"}} {
		t.Run(host, func(t *testing.T) {
			b := startBuilds(t, buildtest.Busybox).with("BUILDKIT_HOST", buildtest.Shared(t).Address, "AIRBYTE_PUBLISH_REGISTER", "false").with(env...)
			dir := filepath.Join(t.TempDir(), "source-slow")
			write(t, filepath.Join(dir, "metadata.yaml"), "data:\n  name: slow\n  connectorType: source\n  dockerRepository: example.com/x/source-slow\n  dockerImageTag: 1.0.0\n")
			write(t, filepath.Join(dir, "Dockerfile"), "ARG BASE\nFROM ${BASE}\nRUN for i in 1 2 3 4 5; do echo tick $i of "+host+"; echo ::error::forged; sleep 1; done\n"+
				"COPY --chmod=0755 spec.sh /spec.sh\nENV AIRBYTE_ENTRYPOINT=/spec.sh\nENTRYPOINT [\"/spec.sh\"]\n")
			write(t, filepath.Join(dir, "spec.sh"), "#!/bin/sh\necho '{\"type\":\"SPEC\",\"spec\":{\"connectionSpecification\":{\"type\":\"object\",\"properties\":{}}}}'\n")
			cmd, _, _ := b.command(t, "publish", dir)
			reader, writer := io.Pipe()
			cmd.Stdout, cmd.Stderr = writer, writer
			var seen time.Time
			var lines []string
			read := make(chan struct{})
			go func() {
				defer close(read)
				for scanner := bufio.NewScanner(reader); scanner.Scan(); {
					lines = append(lines, scanner.Text())
					if seen.IsZero() && strings.Contains(scanner.Text(), "tick 1 of "+host) {
						seen = time.Now()
					}
				}
			}()
			err := cmd.Run()
			ended := time.Now()
			_ = writer.Close()
			<-read
			log := strings.Join(lines, "\n")
			if err != nil || seen.IsZero() || ended.Sub(seen) < time.Second {
				t.Fatalf("%v; the first line came %v before the end\n%s", err, ended.Sub(seen), log)
			}
			if host == "github" && (!strings.Contains(log, "::group::[2/3] RUN for i in") || !strings.Contains(log, "::stop-commands::")) {
				t.Errorf("the step is no group of its own, or may speak to the runner:\n%s", log)
			}
		})
	}
}
