package docs_test

import (
	"bytes"
	"cmp"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
)

func TestMain(m *testing.M) {
	// The stand-in for Airbyte runs connectors' spec as this binary's child.
	if handled, code := build.SpecMain(os.Args); handled {
		os.Exit(code)
	}
	code := m.Run()
	if built.dir != "" {
		_ = os.RemoveAll(built.dir)
	}
	os.Exit(code)
}

// version is that of the release that the tests make up.
const version = "v9.8.7"

// release is the action as a release has it, with its binary behind a server that passes for github.com.
type release struct {
	// action is the folder with action.yml; home has the .curlrc that leads curl to the server.
	action, home string
	binary       string

	mu        sync.Mutex
	downloads []string
}

// built is what is made once for all tests: the program as a release builds it, and the action with its sum.
var built struct {
	sync.Mutex
	dir string
}

// buildRelease makes the program and action.yml in a folder that outlives the test.
func buildRelease(t *testing.T) (dir string) {
	t.Helper()
	built.Lock()
	defer built.Unlock()
	if built.dir != "" {
		return built.dir
	}
	dir, err := os.MkdirTemp("", "airbyte-publish-docs-")
	if err != nil {
		t.Fatal(err)
	}
	goCommand := func(args ...string) {
		t.Helper()
		cmd := exec.Command("go", args...)
		cmd.Dir, cmd.Env = root, append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if out, err := cmd.CombinedOutput(); err != nil {
			_ = os.RemoveAll(dir)
			t.Fatalf("go %s: %v\n%s", strings.Join(args, " "), err, out)
		}
	}
	binary := filepath.Join(dir, binaryName)
	goCommand("build", "-trimpath", "-buildvcs=false", "-o", binary, ".")
	content, err := os.ReadFile(binary)
	if err != nil {
		t.Fatal(err)
	}
	sums := filepath.Join(dir, "release.txt")
	write(t, sums, fmt.Sprintf("%s\n%x  %s\n", version, sha256.Sum256(content), binaryName))
	goCommand("run", "./internal/config/gen", "-release", sums, "-root", filepath.Join(dir, "action"))
	built.dir = dir
	return dir
}

// binaryName is the name of a release's binary for this machine.
const binaryName = "airbyte-publish_linux_" + runtime.GOARCH

// runnerArch is how a runner calls this machine's architecture, toolArch how its tool cache does.
func runnerArch() (runnerArch, toolArch string) {
	if runtime.GOARCH == "arm64" {
		return "ARM64", "arm64"
	}
	return "X64", "x64"
}

// newRelease makes a release that can be downloaded.
func newRelease(t *testing.T) *release {
	t.Helper()
	dir := buildRelease(t)
	r := &release{action: filepath.Join(dir, "action"), home: t.TempDir(), binary: filepath.Join(dir, binaryName)}
	ca, server := r.serve(t)
	write(t, filepath.Join(r.home, "ca.pem"), ca)
	write(t, filepath.Join(r.home, ".curlrc"), fmt.Sprintf("cacert = %q\nconnect-to = \"github.com:443:%s\"\n", filepath.Join(r.home, "ca.pem"), server))
	return r
}

// serve answers as github.com does for the files of a release, on loopback.
func (r *release) serve(t *testing.T) (ca, address string) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "github.com"}, DNSNames: []string{"github.com"}, NotAfter: time.Now().Add(time.Hour),
		IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, request *http.Request) {
		r.mu.Lock()
		r.downloads = append(r.downloads, request.URL.Path)
		r.mu.Unlock()
		if request.URL.Path != "/airbyte-publish/airbyte-publish/releases/download/"+version+"/"+filepath.Base(r.binary) {
			http.NotFound(w, request)
			return
		}
		http.ServeFile(w, request, r.binary)
	}))
	server.TLS = &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	server.StartTLS()
	t.Cleanup(server.Close)
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})), server.Listener.Addr().String()
}

// downloaded are the paths that were asked for so far.
func (r *release) downloaded() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.downloads)
}

// repository is a user's, on a machine with act for a runner.
type repository struct {
	dir, home string
	// actions are what "uses" names, by the folders to take instead.
	actions map[string]string
	// platform is the image that jobs run in; empty means that they run on this machine itself.
	platform string
	// args are further arguments of act, env are variables of its process.
	args, env []string
}

// git runs git in the repository.
func (r repository) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = r.dir
	cmd.Env = append(os.Environ(), "HOME="+r.home, "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
		"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// commit commits everything that is there.
func (r repository) commit(t *testing.T) string {
	t.Helper()
	r.git(t, "add", "-A")
	r.git(t, "commit", "-q", "-m", "c")
	return r.git(t, "rev-parse", "HEAD")
}

// push makes act run a workflow as for an event, and returns what it printed. The workflow's name is its file's.
func (r repository) run(t *testing.T, workflow, event string, payload map[string]any) (log string, err error) {
	t.Helper()
	text, err := json.Marshal(payload)
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "event.json")
	write(t, file, string(text))
	platform := cmp.Or(r.platform, "-self-hosted")
	args := []string{event, "-W", filepath.Join(".github", "workflows", workflow), "-e", file, "-P", "ubuntu-latest=" + platform, "-P", "ubuntu-24.04=" + platform,
		"--no-cache-server", "--action-offline-mode", "--strict", "--actor", actor, "-s", "GITHUB_TOKEN=" + token}
	for name, dir := range r.actions {
		args = append(args, "--local-repository", name+"="+dir)
	}
	cmd := exec.CommandContext(t.Context(), buildtest.Act(t), append(args, r.args...)...)
	cmd.Dir = r.dir
	for _, variable := range os.Environ() {
		// What CI says of this very test is not for a workflow that it runs, nor is an input.
		if name, _, _ := strings.Cut(variable, "="); !strings.HasPrefix(name, "GITHUB_") && !strings.HasPrefix(name, "RUNNER_") &&
			!strings.HasPrefix(name, "AIRBYTE_PUBLISH_") && !strings.HasPrefix(name, "ACT") && name != "CI" {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Env = append(cmd.Env, "HOME="+r.home, "XDG_CACHE_HOME="+filepath.Join(r.home, "cache"), "XDG_CONFIG_HOME="+filepath.Join(r.home, "config"),
		"GOCACHE="+goEnv(t, "GOCACHE"), "GOMODCACHE="+goEnv(t, "GOMODCACHE"), "GOENV="+goEnv(t, "GOENV"), "GOTELEMETRY=off", "DOCKER_HOST=unix:///nowhere")
	cmd.Env = append(cmd.Env, r.env...)
	// Steps that outlive act would keep the pipe open.
	cmd.WaitDelay = 10 * time.Second
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err = cmd.Run()
	return out.String(), err
}

var goVariables sync.Map

func goEnv(t *testing.T, name string) string {
	t.Helper()
	if value, known := goVariables.Load(name); known {
		return value.(string)
	}
	out, err := exec.Command("go", "env", name).Output()
	if err != nil {
		t.Fatal(err)
	}
	value := strings.TrimSpace(string(out))
	goVariables.Store(name, value)
	return value
}

func write(t *testing.T, file, content string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
