package build

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/moby/api/types/container"
	docker "github.com/moby/moby/client"
	"github.com/tonistiigi/fsutil"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// recorder is a log that remembers.
type recorder struct {
	mu       sync.Mutex
	lines    []string
	findings []connector.Finding
	said     []string
}

func (r *recorder) Group(string) func() { return func() {} }
func (r *recorder) Info(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}
func (r *recorder) Finding(f connector.Finding) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.findings = append(r.findings, f)
}
func (r *recorder) Untrusted(_, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.said = append(r.said, text)
}

// String is all that was told.
func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	all := slices.Clone(r.lines)
	for _, f := range r.findings {
		all = append(all, string(f.Code)+" "+f.Message)
	}
	return strings.Join(append(all, r.said...), "\n")
}

// dialed chooses engines, which are let go with the test.
func dialed(t *testing.T, o Options) ([]*engine, *recorder) {
	t.Helper()
	log := &recorder{}
	engines, err := choose(t, o, log)
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	return engines, log
}

func choose(t *testing.T, o Options, log connector.Log) ([]*engine, error) {
	t.Helper()
	b := New(o)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	if err := b.pool.ready(t.Context(), log); err != nil {
		return nil, err
	}
	var all []*engine
	for _, s := range b.pool.seats {
		all = append(all, s.engine)
	}
	return all, nil
}

// execute runs a shell script in a build on an engine, with busybox from a local folder for a root: that takes a session,
// a mount and a process.
func execute(ctx context.Context, t *testing.T, e *engine, script string) error {
	t.Helper()
	busybox, err := os.ReadFile("/bin/busybox")
	if err != nil {
		t.Skipf("NOT TESTED, there is no busybox for a build's root: %v", err)
	}
	dir := t.TempDir()
	if err := os.Mkdir(filepath.Join(dir, "bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "bin", "busybox"), busybox, 0o755); err != nil {
		t.Fatal(err)
	}
	local, err := fsutil.NewFS(dir)
	if err != nil {
		t.Fatal(err)
	}
	root := llb.Scratch().File(llb.Copy(llb.Local("root", llb.SharedKeyHint(dir)), "/", "/"))
	state := root.Run(llb.Args([]string{"/bin/busybox", "sh", "-c", script}), llb.IgnoreCache, llb.Network(llb.NetModeNone)).Root()
	definition, err := state.Marshal(ctx, llb.LinuxAmd64)
	if err != nil {
		t.Fatal(err)
	}
	_, err = e.client.Solve(ctx, definition, buildkit.SolveOpt{LocalMounts: map[string]fsutil.FS{"root": local}}, nil)
	return err
}

// works tells whether an engine really builds.
func works(t *testing.T, e *engine) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	if err := execute(ctx, t, e, "exit 0"); err != nil {
		t.Errorf("%s does not build: %v", e.name, err)
	}
	if err := execute(ctx, t, e, "exit 3"); err == nil || !strings.Contains(err.Error(), "exit code: 3") {
		t.Errorf("%s builds what must fail: %v", e.name, err)
	}
}

func TestDialBuildkit(t *testing.T) {
	t.Parallel()
	root := buildtest.Shared(t)
	secure := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{TLS: true, Rootless: true})
	tls := secure.TCPAddress + "?cacert=" + secure.TLSDir + "/ca.pem&cert=" + secure.TLSDir + "/cert.pem&key=" + secure.TLSDir + "/key.pem"
	for name, tt := range map[string]struct {
		options Options
		name    string
	}{
		"by input":    {Options{BuildkitHosts: []string{root.Address}}, root.Address},
		"by variable": {Options{Getenv: environment("BUILDKIT_HOST", root.Address)}, root.Address},
		"input before variable": {Options{Getenv: environment("BUILDKIT_HOST", "unix:///nowhere"),
			BuildkitHosts: []string{root.Address}}, root.Address},
		"rootless":          {Options{BuildkitHosts: []string{secure.Address}}, secure.Address},
		"TLS":               {Options{BuildkitHosts: []string{tls}}, secure.TCPAddress},
		"TLS, another name": {Options{BuildkitHosts: []string{tls + "&servername=localhost"}, Builder: "buildkit"}, secure.TCPAddress},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engines, log := dialed(t, tt.options)
			if len(engines) != 1 || !strings.HasSuffix(engines[0].name, " at "+tt.name) || engines[0].kind != kindBuildkit {
				t.Fatalf("chosen: %+v", engines)
			}
			works(t, engines[0])
			if caps := engines[0].caps; !caps.multiPlatform || !caps.attestations || !slices.Contains(caps.platforms, "linux/amd64") {
				t.Errorf("it can do %+v", caps)
			}
			if told := log.String(); told != "" {
				t.Errorf("it told %q", told)
			}
		})
	}
}

func TestDialBuildkitRefused(t *testing.T) {
	t.Parallel()
	secure := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{TLS: true})
	ca := "?cacert=" + secure.TLSDir + "/ca.pem"
	for name, tt := range map[string]struct{ address, cause string }{
		"nothing there":      {"unix:///nowhere/buildkitd.sock", "no such file"},
		"nobody listens":     {"tcp://127.0.0.1:1", "connection refused"},
		"no TLS":             {secure.TCPAddress, "error reading server preface"},
		"no certificate":     {secure.TCPAddress + ca, "no cert and key are given"},
		"unknown authority":  {secure.TCPAddress + "?servername=127.0.0.1", "certificate signed by unknown authority"},
		"another name":       {secure.TCPAddress + ca + "&servername=example.com", "example.com"},
		"missing file":       {secure.TCPAddress + "?cacert=/nowhere/ca.pem", "no such file"},
		"key is missing":     {secure.TCPAddress + ca + "&cert=" + secure.TLSDir + "/cert.pem", "no such file"},
		"misspelt parameter": {secure.TCPAddress + "?ca=x", `"ca"`},
		"scheme":             {"kube-pod://x", "scheme"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, err := choose(t, Options{BuildkitHosts: []string{tt.address}}, quiet{})
			address, _, _ := strings.Cut(tt.address, "?")
			if fault.CodeOf(err) != fault.EngineUnreachable || !strings.Contains(err.Error(), tt.cause) || !strings.Contains(err.Error(), address) {
				t.Errorf("the error is %v, want one about %s with %q", err, address, tt.cause)
			}
		})
	}
}

func TestDialDocker(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			d := buildtest.SharedDocker(t, o)
			for _, env := range [][]string{
				{"DOCKER_HOST", d.Host},
				{"DOCKER_CONFIG", dockerContext(t, "mine", d.Host, true)},
			} {
				engines, log := dialed(t, Options{Getenv: environment(env...)})
				e := engines[0]
				if len(engines) != 1 || e.kind != kindDocker || e.docker == nil || !strings.HasSuffix(e.name, " at "+d.Host) {
					t.Fatalf("chosen: %+v\n%s", engines, log)
				}
				works(t, e)
				if caps := e.caps; e.containerdStore != o.Containerd || caps.multiPlatform != o.Containerd || caps.attestations != o.Containerd ||
					slices.Contains(caps.cacheExports, "registry") != o.Containerd || !slices.Contains(caps.cacheExports, "inline") ||
					!slices.Contains(caps.platforms, "linux/amd64") {
					t.Errorf("containerd's store: %t, it can do %+v", e.containerdStore, caps)
				}
			}
		})
	}
}

func TestDialBuildx(t *testing.T) {
	t.Parallel()
	d := buildtest.Docker(t, buildtest.DockerOptions{})
	b := buildtest.Shared(t)
	d.BuildkitContainer(t, "buildx_buildkit_mine0", b)
	getenv := func(pairs ...string) func(string) string { return environment(append(pairs, "DOCKER_HOST", d.Host)...) }
	store := func(current, instance string) string {
		return folderOf(t, map[string]string{"buildx/current": current, "buildx/instances/mine": instance})
	}
	inContainer := `{"Name":"mine","Driver":"docker-container","Nodes":[{"Name":"mine0","Endpoint":"` + d.Host + `"}]}`
	for name, tt := range map[string]struct {
		options Options
		name    string
	}{
		"the only one that runs": {Options{Getenv: getenv()}, "in the container buildx_buildkit_mine0"},
		"an address":             {Options{Getenv: getenv(), BuildkitHosts: []string{"docker-container://buildx_buildkit_mine0"}}, "in the container buildx_buildkit_mine0"},
		"current": {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"`+d.Host+`","Name":"mine"}`, inContainer))},
			"in the container buildx_buildkit_mine0 (buildx builder mine)"},
		"current for all contexts": {Options{Builder: "buildx", Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"x","Name":"mine","Global":true}`, inContainer))},
			"in the container buildx_buildkit_mine0 (buildx builder mine)"},
		"current for another context": {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"x","Name":"mine"}`, inContainer))}, " at " + d.Host},
		"the engine is current":       {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"`+d.Host+`"}`, inContainer))}, " at " + d.Host},
		"by variable":                 {Options{Getenv: getenv("BUILDX_BUILDER", "Mine", "BUILDX_CONFIG", store(`{}`, inContainer)+"/buildx")}, "(buildx builder mine)"},
		"remote": {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"`+d.Host+`","Name":"mine"}`,
			`{"Name":"mine","Driver":"remote","Nodes":[{"Name":"mine0","Endpoint":"`+b.Address+`"}]}`))}, b.Address + " (buildx builder mine)"},
		"docker": {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"`+d.Host+`","Name":"mine"}`,
			`{"Name":"mine","Driver":"docker","Nodes":[{"Name":"mine0","Endpoint":"default"}]}`))}, d.Host + " (buildx builder mine)"},
		"one node of two": {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"`+d.Host+`","Name":"mine"}`,
			`{"Name":"mine","Driver":"docker-container","Nodes":[{"Name":"gone0","Endpoint":"`+d.Host+`"},{"Name":"mine0","Endpoint":"`+d.Host+`"}]}`))},
			"in the container buildx_buildkit_mine0 (buildx builder mine)"},
		"kubernetes": {Options{Getenv: getenv("DOCKER_CONFIG", store(`{"Key":"`+d.Host+`","Name":"mine"}`,
			`{"Name":"mine","Driver":"kubernetes","Nodes":[{"Name":"mine0","Endpoint":"kubernetes:///mine"}]}`))}, " at " + d.Host},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			engines, log := dialed(t, tt.options)
			if len(engines) != 1 || !strings.HasSuffix(engines[0].name, tt.name) {
				t.Fatalf("chosen: %s\n%s", engines[0].name, log)
			}
			works(t, engines[0])
			want := map[string]string{"kubernetes": "its driver kubernetes is not supported", "one node of two": "has 2 nodes, of which mine0 is used"}[name]
			if told := log.String(); !strings.Contains(told, want) || want == "" && told != "" {
				t.Errorf("it told %q, want %q", told, want)
			}
		})
	}
}

// TestDialDockerBySSH is not parallel, because the ssh command is found on the process's PATH.
func TestDialDockerBySSH(t *testing.T) {
	d := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	dir := t.TempDir()
	script := "#!/bin/sh\necho \"$*\" >> " + dir + "/calls\n" + relayVariable + "=" + strings.TrimPrefix(d.Host, "unix://") + " exec " + os.Args[0] + "\n"
	if err := os.WriteFile(filepath.Join(dir, "ssh"), []byte(script), 0o755); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	engines, log := dialed(t, Options{Getenv: environment("DOCKER_HOST", "ssh://me@engine.example:22")})
	if len(engines) != 1 || !strings.HasSuffix(engines[0].name, " at ssh://me@engine.example:22") {
		t.Fatalf("chosen: %+v\n%s", engines, log)
	}
	works(t, engines[0])
	if calls := string(must(os.ReadFile(dir + "/calls"))); !strings.Contains(calls, "-l me") || !strings.Contains(calls, "engine.example docker system dial-stdio") {
		t.Errorf("ssh was called with %s", calls)
	}
}

func TestDialContainerRefused(t *testing.T) {
	t.Parallel()
	d := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	d.BuildkitContainer(t, "with-buildctl", buildtest.Shared(t)) // It brings the image.
	c, err := docker.New(docker.WithHost(d.Host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	images, err := c.ImageList(t.Context(), docker.ImageListOptions{})
	if err != nil || len(images.Items) == 0 {
		t.Fatalf("images: %v, %v", images, err)
	}
	created, err := c.ContainerCreate(t.Context(), docker.ContainerCreateOptions{Name: "without-buildctl",
		Config:     &container.Config{Image: images.Items[0].ID, Cmd: []string{"sh", "-c", "while :; do sleep 3600; done"}},
		HostConfig: &container.HostConfig{NetworkMode: "none"}})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_, _ = c.ContainerRemove(context.Background(), created.ID, docker.ContainerRemoveOptions{Force: true})
	})
	for _, tt := range [][2]string{{"not-there", "No such container"}, {"without-buildctl", "is not running"}, {"without-buildctl", "executable file not found"}} {
		name, cause := tt[0], tt[1]
		if cause == "executable file not found" {
			if _, err := c.ContainerStart(t.Context(), created.ID, docker.ContainerStartOptions{}); err != nil {
				t.Fatal(err)
			}
		}
		_, err := choose(t, Options{Getenv: environment("DOCKER_HOST", d.Host), BuildkitHosts: []string{"docker-container://" + name}}, quiet{})
		if fault.CodeOf(err) != fault.EngineUnreachable || !strings.Contains(err.Error(), cause) {
			t.Errorf("the error is %v, want %q", err, cause)
		}
	}
}
