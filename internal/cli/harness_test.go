package cli_test

import (
	"bytes"
	"context"
	"maps"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/cli"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

func TestMain(m *testing.M) {
	// The test binary is the one that runs connectors' spec as its child.
	if handled, code := build.SpecMain(os.Args); handled {
		os.Exit(code)
	}
	testscript.Main(m, map[string]func(){"airbyte-publish": func() {
		os.Exit(cli.Main(context.Background(), cli.Process{Args: os.Args, Getenv: os.Getenv, Environ: os.Environ(),
			Stdin: os.Stdin, Stdout: os.Stdout, Stderr: os.Stderr}))
	}})
}

// outcome is what a run of the command left.
type outcome struct {
	code           int
	stdout, stderr string
}

func (o outcome) String() string { return "stdout:\n" + o.stdout + "\nstderr:\n" + o.stderr }

// environment is the whole environment of a run of the command.
type environment map[string]string

// with returns a copy with more variables; "" unsets.
func (e environment) with(pairs ...string) environment {
	more := maps.Clone(e)
	for i := 0; i < len(pairs); i += 2 {
		more[pairs[i]] = pairs[i+1]
	}
	return more
}

// run runs the command in this process.
func (e environment) run(t *testing.T, args ...string) outcome {
	t.Helper()
	return e.runContext(t.Context(), args...)
}

func (e environment) runContext(ctx context.Context, args ...string) outcome {
	var stdout, stderr bytes.Buffer
	var list []string
	for _, k := range slices.Sorted(maps.Keys(e)) {
		list = append(list, k+"="+e[k])
	}
	code := cli.Main(ctx, cli.Process{Args: append([]string{"airbyte-publish"}, args...), Getenv: func(k string) string { return e[k] },
		Environ: list, Stdout: &stdout, Stderr: &stderr})
	return outcome{code, stdout.String(), stderr.String()}
}

// standIn is an Airbyte stand-in on loopback.
type standIn struct {
	*sandbox.Airbyte
	url      string
	requests atomic.Int64
}

func startAirbyte(t testing.TB, o sandbox.AirbyteOptions) *standIn {
	t.Helper()
	s := &standIn{}
	observe := o.OnRequest
	o.OnRequest = func(r *http.Request, body []byte) {
		s.requests.Add(1)
		if observe != nil {
			observe(r, body)
		}
	}
	s.Airbyte = sandbox.NewAirbyte(o)
	server := httptest.NewServer(s.Airbyte)
	s.url = server.URL
	t.Cleanup(func() {
		// What it is still at ends first: the server waits for it.
		s.Airbyte.Close()
		server.Close()
	})
	return s
}

// signIn is the environment that signs in to a stand-in with this authentication.
func signIn(a sandbox.Auth) environment {
	switch a.Mode {
	case sandbox.BasicAuth:
		return environment{"AIRBYTE_PUBLISH_AIRBYTE_USERNAME": a.User, "AIRBYTE_PUBLISH_AIRBYTE_PASSWORD": a.Password}
	case sandbox.ClientCredentials:
		return environment{"AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID": a.ClientID, "AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET": a.ClientSecret}
	}
	return environment{}
}

// layouts are the OCI layouts of test connectors, each made once for all tests of the package.
var layouts = struct {
	sync.Mutex
	dirs map[string]string
}{dirs: map[string]string{}}

// layoutOf is the folder of an OCI layout with the connector's image.
func layoutOf(t *testing.T, connectorName string) string {
	t.Helper()
	layouts.Lock()
	defer layouts.Unlock()
	if dir, ok := layouts.dirs[connectorName]; ok {
		return dir
	}
	img, err := connectors.Image(context.Background(), connectorName)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(sharedDir(t), connectorName)
	if err := connectors.WriteLayout(img, dir); err != nil {
		t.Fatal(err)
	}
	layouts.dirs[connectorName] = dir
	return dir
}

// variantOf is the folder of an OCI layout with an image that is wrong in one way.
func variantOf(t *testing.T, variant string, options ...connectors.Option) string {
	t.Helper()
	img, err := connectors.Variant(t.Context(), variant, options...)
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(t.TempDir(), "layout")
	if err := connectors.WriteLayout(img, dir); err != nil {
		t.Fatal(err)
	}
	return dir
}

// sharedDir outlives a single test; the system removes it with the other temporary files of the package's run.
func sharedDir(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "airbyte-publish-test-")
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

// pushBase pushes the stand-in for Airbyte's base image of manifest-only connectors and returns its reference by digest.
func pushBase(t testing.TB, repository, user, password string) string {
	t.Helper()
	base, err := connectors.DeclarativeBase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return push(t, base, repository, user, password)
}

func push(t testing.TB, img v1.Image, repository, user, password string) string {
	t.Helper()
	ref, err := name.ParseReference(repository+":1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	auth := authn.Anonymous
	if user != "" {
		auth = &authn.Basic{Username: user, Password: password}
	}
	if err := remote.Write(ref, img, remote.WithAuth(auth)); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return repository + "@" + digest.String()
}

// folder is a connector's folder with this metadata.yaml.
func folder(t testing.TB, metadata string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "metadata.yaml"), metadata)
	return dir
}

func write(t testing.TB, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

// copyConnector copies a connector of testdata and gives it another version.
func copyConnector(t testing.TB, connectorName, version string) string {
	t.Helper()
	dir := filepath.Join(t.TempDir(), connectorName)
	if err := os.CopyFS(dir, os.DirFS(filepath.Join("..", "..", "testdata", "connectors", connectorName))); err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(dir, "metadata.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(text), "\n")
	for i, line := range lines {
		if strings.HasPrefix(strings.TrimSpace(line), "dockerImageTag:") {
			lines[i] = line[:strings.Index(line, ":")] + ": " + version
		}
	}
	write(t, file, strings.Join(lines, "\n"))
	return dir
}

// serve serves h on loopback and returns its host and port.
func serve(t *testing.T, h http.Handler) string {
	t.Helper()
	server := httptest.NewServer(h)
	t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}
