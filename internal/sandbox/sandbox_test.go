package sandbox

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func TestMain(m *testing.M) {
	if handled, code := build.SpecMain(os.Args); handled {
		os.Exit(code)
	}
	os.Exit(m.Run())
}

// shell builds a static shell for test images, which needs nothing but Go.
func shell(t *testing.T) []byte {
	t.Helper()
	out := filepath.Join(t.TempDir(), "sh")
	cmd := exec.CommandContext(t.Context(), "go", "build", "-ldflags=-s -w", "-o", out, "mvdan.cc/sh/v3/cmd/gosh")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if output, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, output)
	}
	program, err := os.ReadFile(out)
	if err != nil {
		t.Fatal(err)
	}
	return program
}

// connectorImage is an image with a shell and an AIRBYTE_ENTRYPOINT for it; an empty one is not set.
func connectorImage(t *testing.T, shell []byte, entrypoint string) v1.Image {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "bin/sh", Mode: 0o755, Size: int64(len(shell))}); err != nil {
		t.Fatal(err)
	}
	if _, err := w.Write(shell); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	layer, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(b.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(empty.Image, layer)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.OS, cf.Architecture = "linux", runtime.GOARCH
	if entrypoint != "" {
		cf.Config.Env = []string{"AIRBYTE_ENTRYPOINT=" + entrypoint}
	}
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// watch is a log that sees when this machine can't run spec.
func watch(t *testing.T, cantRun *atomic.Bool) func(string, ...any) {
	return func(format string, args ...any) {
		t.Logf(format, args...)
		if strings.Contains(fmt.Sprintf(format, args...), string(fault.SpecNotRun)) {
			cantRun.Store(true)
		}
	}
}

// environment is what the sandbox tells those who use it.
func environment(s *Sandbox) map[string]string {
	env := map[string]string{}
	for _, e := range s.Env() {
		k, v, _ := strings.Cut(e, "=")
		env[k] = v
	}
	return env
}

// signedIn is the sandbox's Airbyte with an access token for it.
func signedIn(t *testing.T, s *Sandbox, env map[string]string) *instance {
	t.Helper()
	i := &instance{Airbyte: s.Airbyte, t: t, url: env["AIRBYTE_PUBLISH_AIRBYTE_URL"]}
	i.token = "Bearer " + i.must("applications/token", object{"client_id": env["AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID"],
		"client_secret": env["AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET"]})["access_token"].(string)
	return i
}

// TestSandbox publishes by hand what airbyte-publish publishes: into the registry, then into Airbyte, which pulls the
// image and runs it.
func TestSandbox(t *testing.T) {
	t.Parallel()
	var cantRun atomic.Bool
	dir := t.TempDir()
	s, err := Start(t.Context(), Options{AirbyteVersion: "2.0.0", Dir: dir, Log: watch(t, &cantRun)})
	if err != nil {
		t.Fatal(err)
	}
	env := environment(s)
	image, ok := strings.CutSuffix(env["AIRBYTE_PUBLISH_IMAGE"], "{connector}")
	if !ok || !strings.HasPrefix(image, env["SANDBOX_REGISTRY"]+"/") || env["AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP"] != "true" {
		t.Errorf("environment %v", env)
	}
	pusher := as(RegistryUser{Name: env["AIRBYTE_PUBLISH_REGISTRY_USERNAME"], Password: env["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"]})
	sh := shell(t)
	// Airbyte evaluates "$AIRBYTE_ENTRYPOINT spec" in the image's shell.
	says := func(line string) string { return "echo '" + line + "' #" }
	push := func(ref string, img v1.Image) {
		t.Helper()
		if err := remote.Write(reference(t, image+ref), img, pusher); err != nil {
			t.Fatal(err)
		}
	}
	push("source-x:1.0.0", connectorImage(t, sh, says(specOf("first"))))
	push("source-x:crash", connectorImage(t, sh, "exit 3 #"))
	push("source-x:none", connectorImage(t, sh, ""))

	i := signedIn(t, s, env)
	create := func(repository, tag string) (int, object) {
		b := createBody("X", tag)
		b["sourceDefinition"].(object)["dockerRepository"] = repository
		return i.post("source_definitions/create_custom", b)
	}
	mustCreate := func() string {
		status, o := create(image+"source-x", "1.0.0")
		if cantRun.Load() && os.Getenv("CI") != "true" {
			t.Skip("this machine can't run spec in namespaces of its own, as the log says")
		}
		if status != 200 {
			t.Fatal(status, o)
		}
		return o["sourceDefinitionId"].(string)
	}
	id := mustCreate()
	if title := i.storedTitle(id); title != "first" {
		t.Errorf("stored spec %v", title)
	}
	for _, ref := range []string{"source-x:crash", "source-x:none", "source-x:missing", "source-y:1.0.0"} {
		repository, tag, _ := strings.Cut(ref, ":")
		if status, o := create(image+repository, tag); status != 500 {
			t.Errorf("%s: %d %v, want 500", ref, status, o)
		}
	}

	// A node keeps the image that a tag had when it was first pulled.
	push("source-x:1.0.0", connectorImage(t, sh, says(specOf("second"))))
	if status, o := i.update(id, "1.0.0"); status != 200 || i.storedTitle(id) != "first" {
		t.Errorf("%d %v, spec %v after the tag was pushed again", status, o, i.storedTitle(id))
	}
	if title := i.storedTitle(mustCreate()); title != "first" {
		t.Errorf("spec %v of another definition after the tag was pushed again", title)
	}

	var shown bytes.Buffer
	if err := s.Show(&shown); err != nil || !strings.Contains(shown.String(), image+"source-x:1.0.0") {
		t.Errorf("shown %v:\n%s", err, shown.String())
	}
	resp, err := http.Get(env["SANDBOX_DEFINITIONS"])
	if err != nil {
		t.Fatal(err)
	}
	if got := text(t, resp); got != shown.String() {
		t.Errorf("served %s", got)
	}
	_ = resp.Body.Close()

	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(dir); err != nil || len(left) != 0 {
		t.Errorf("%v left behind, %v", left, err)
	}
}

func TestSandboxNeedsAVersion(t *testing.T) {
	t.Parallel()
	if _, err := Start(t.Context(), Options{AirbyteVersion: "newest"}); fault.CodeOf(err) != fault.InvalidInput {
		t.Errorf("error %v", err)
	}
}

func TestSandboxEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	s, err := Start(ctx, Options{Dir: t.TempDir()})
	if err != nil {
		t.Fatal(err)
	}
	get := func() error {
		req, err := http.NewRequestWithContext(t.Context(), "GET", s.airbyteURL+"/api/v1/health", nil)
		if err != nil {
			return err
		}
		resp, err := (&http.Client{Transport: &http.Transport{DisableKeepAlives: true}}).Do(req)
		if err == nil {
			err = resp.Body.Close()
		}
		return err
	}
	if err := get(); err != nil {
		t.Fatal(err)
	}
	cancel()
	eventually(t, "the stand-in stops", func() bool { return get() != nil })
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

func TestPullAndRunStaysOnThisMachine(t *testing.T) {
	t.Parallel()
	run := PullAndRun(PullOptions{Registry: "127.0.0.1:1", Username: "a", Password: "b"})
	for _, ref := range []string{"registry.example/x:1", "192.0.2.1:5000/x:1", "docker.io/acme/x:1"} {
		if _, err := run(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "registries on this machine only") {
			t.Errorf("%s: %v", ref, err)
		}
	}
}

// TestPullSendsCredentialsToTheirHostOnly pulls from two registries with the credentials of one.
func TestPullSendsCredentialsToTheirHostOnly(t *testing.T) {
	t.Parallel()
	o := RegistryOptions{Auth: RegistryAuth{Mode: RegistryBasic, Users: []RegistryUser{anna}}}
	mine, host := serveRegistry(t, o)
	foreign, foreignHost := serveRegistry(t, o)
	for _, h := range []string{host, foreignHost} {
		if err := remote.Write(reference(t, h+"/acme/x:1"), connectorImage(t, nil, ""), as(anna)); err != nil {
			t.Fatal(err)
		}
	}
	writes := len(foreign.Requests())
	run := PullAndRun(PullOptions{Registry: host, Username: anna.Name, Password: anna.Password})
	if _, err := run(t.Context(), host+"/acme/x:1"); !errors.Is(err, errNoEntrypoint) {
		t.Errorf("from its registry: %v, want %v", err, errNoEntrypoint)
	}
	if mine.Count(StepBlobGet) == 0 {
		t.Error("the config was not pulled")
	}
	if _, err := run(t.Context(), foreignHost+"/acme/x:1"); err == nil || !strings.Contains(fmt.Sprint(err), "UNAUTHORIZED") {
		t.Errorf("from another registry: %v", err)
	}
	for _, r := range foreign.Requests()[writes:] {
		if r.Scheme != "" {
			t.Errorf("%s %s had authorization %q", r.Method, r.Path, r.Scheme)
		}
	}
}
