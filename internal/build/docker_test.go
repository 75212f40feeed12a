package build

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// dockerEngine answers what a Docker engine answers to ping, inspect and save.
type dockerEngine struct {
	api     string
	archive string
	// refuses has it refuse a platform, as an engine without that platform does.
	refuses bool

	mu       sync.Mutex
	requests []string
	agents   []string
}

func (e *dockerEngine) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	e.mu.Lock()
	e.requests = append(e.requests, r.URL.RequestURI())
	e.agents = append(e.agents, r.UserAgent())
	e.mu.Unlock()
	w.Header().Set("Api-Version", e.api)
	path := r.URL.Path
	switch {
	case path == "/_ping":
	case strings.HasSuffix(path, "/images/acme/hello:1/json"):
		_ = json.NewEncoder(w).Encode(map[string]any{"Id": "sha256:" + strings.Repeat("0", 64)})
	case strings.HasSuffix(path, "/images/get") && (!e.refuses || r.URL.Query().Get("platform") == ""):
		http.ServeFile(w, r, e.archive)
	default:
		w.Header().Set("Content-Type", "application/json")
		w.WriteHeader(http.StatusNotFound)
		_, _ = w.Write([]byte(`{"message":"No such image"}`))
	}
}

func environment(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// dockerContext writes a docker configuration with a context for an engine.
func dockerContext(t *testing.T, name, host string, current bool) string {
	t.Helper()
	sum := sha256.Sum256([]byte(name))
	meta := string(must(json.Marshal(map[string]any{"Name": name, "Endpoints": map[string]any{"docker": map[string]any{"Host": host}}})))
	files := map[string]string{"contexts/meta/" + hex.EncodeToString(sum[:]) + "/meta.json": meta, "config.json": "{}"}
	if current {
		files["config.json"] = `{"currentContext":"` + name + `"}`
	}
	return folderOf(t, files)
}

func TestDockerDaemon(t *testing.T) {
	t.Parallel()
	archive := saved(t, map[string]v1.Image{"acme/hello:1": baseImage(t, "linux/amd64")})
	start := func(e *dockerEngine) (host string) {
		e.archive = archive
		server := httptest.NewServer(e)
		t.Cleanup(server.Close)
		return "tcp://" + strings.TrimPrefix(server.URL, "http://")
	}
	socket := filepath.Join(must(os.MkdirTemp("", "s")), "d.sock")
	t.Cleanup(func() { _ = os.RemoveAll(filepath.Dir(socket)) })
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	onSocket := &dockerEngine{api: "1.41", archive: archive}
	server := &httptest.Server{Listener: listener, Config: &http.Server{Handler: onSocket}}
	server.Start()
	t.Cleanup(server.Close)

	old, containerd, single := &dockerEngine{api: "1.41"}, &dockerEngine{api: "1.56"}, &dockerEngine{api: "1.48", refuses: true}
	contexts := &dockerEngine{api: "1.45"}
	contextHost := start(contexts)
	tests := []struct {
		name   string
		engine *dockerEngine
		env    []string
		// platforms is what each save asks for.
		platforms []string
	}{
		{"by DOCKER_HOST, an old engine", old, []string{"DOCKER_HOST", start(old)}, []string{""}},
		{"a store of several platforms", containerd, []string{"DOCKER_HOST", start(containerd)}, []string{`{"architecture":"amd64","os":"linux"}`}},
		{"a store without that platform", single, []string{"DOCKER_HOST", start(single)}, []string{`{"architecture":"amd64","os":"linux"}`, ""}},
		{"on a socket", onSocket, []string{"DOCKER_HOST", "unix://" + socket}, []string{""}},
		{"by DOCKER_CONTEXT", contexts, []string{"DOCKER_CONTEXT", "ci", "DOCKER_CONFIG", dockerContext(t, "ci", contextHost, false)}, []string{""}},
		{"by the current context", contexts, []string{"DOCKER_CONFIG", dockerContext(t, "mine", contextHost, true)}, []string{""}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := newBuilder(t, Options{Getenv: environment(tt.env...), UserAgent: "airbyte-publish/1"})
			tt.engine.requests, tt.engine.agents = nil, nil
			a, err := b.Build(t.Context(), connector.Connector{Source: "docker-daemon:acme/hello:1"}, quiet{}, noCheck)
			if err != nil || a.Image == nil {
				t.Fatalf("%+v, %v", a, err)
			}
			var platforms []string
			for _, r := range tt.engine.requests {
				if req := must(http.NewRequest("GET", r, nil)); strings.HasSuffix(req.URL.Path, "/images/get") {
					platforms = append(platforms, req.URL.Query().Get("platform"))
				}
			}
			if !slices.Equal(platforms, tt.platforms) || tt.engine.agents[0] != "airbyte-publish/1" {
				t.Errorf("it asked for %q as %q, want %q", platforms, tt.engine.agents, tt.platforms)
			}
		})
	}
}

func TestDockerDaemonRefused(t *testing.T) {
	t.Parallel()
	server := httptest.NewServer(&dockerEngine{api: "1.41"})
	t.Cleanup(server.Close)
	gone := httptest.NewServer(nil)
	gone.Close()
	tests := []struct {
		name, ref string
		env       []string
		code      fault.Code
		says      string
	}{
		{"no such image", "acme/other:1", []string{"DOCKER_HOST", "tcp://" + server.Listener.Addr().String()}, fault.SourceImage, "no such image"},
		{"no tag means latest", "acme/other", []string{"DOCKER_HOST", "tcp://" + server.Listener.Addr().String()}, fault.SourceImage, "no such image"},
		{"no name", "Not A Name", nil, fault.SourceImage, "parse"},
		{"no engine", "acme/hello:1", []string{"DOCKER_HOST", "tcp://" + gone.Listener.Addr().String()}, fault.EngineUnreachable, "docker save"},
		{"no socket", "acme/hello:1", []string{"DOCKER_HOST", "unix:///nowhere/docker.sock"}, fault.EngineUnreachable, "/nowhere/docker.sock"},
		{"behind ssh", "acme/hello:1", []string{"DOCKER_HOST", "ssh://me:secret@host"}, fault.EngineUnreachable, "plain-text password is not supported"},
		{"no address", "acme/hello:1", []string{"DOCKER_HOST", "nonsense"}, fault.EngineUnreachable, "nonsense"},
		{"a context that is not there", "acme/hello:1", []string{"DOCKER_CONTEXT", "ci", "DOCKER_CONFIG", t.TempDir()}, fault.EngineUnreachable, `"ci"`},
		{"a context without an engine", "acme/hello:1", []string{"DOCKER_CONFIG", dockerContext(t, "x", "", true)}, fault.EngineUnreachable, "names no engine"},
		{"a configuration that is no JSON", "acme/hello:1", []string{"HOME", folderOf(t, map[string]string{".docker/config.json": "{"})}, fault.EngineUnreachable, "config.json"},
		{"certificates that are missing", "acme/hello:1", []string{"DOCKER_HOST", "tcp://127.0.0.1:1", "DOCKER_CERT_PATH", folderOf(t, map[string]string{"ca.pem": "x"})},
			fault.EngineUnreachable, "no certificate"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			b := newBuilder(t, Options{Getenv: environment(tt.env...)})
			_, err := b.Build(t.Context(), connector.Connector{Source: "docker-daemon:" + tt.ref}, quiet{}, noCheck)
			if fault.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %s and %q", err, tt.code, tt.says)
			}
		})
	}
}

func TestDockerDaemonOverTLS(t *testing.T) {
	t.Parallel()
	server := httptest.NewTLSServer(&dockerEngine{api: "1.41", archive: saved(t, map[string]v1.Image{"acme/hello:1": baseImage(t, "linux/amd64")})})
	t.Cleanup(server.Close)
	host := "tcp://" + server.Listener.Addr().String()
	ca := string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw}))
	build := func(env ...string) error {
		b := newBuilder(t, Options{Getenv: environment(env...)})
		_, err := b.Build(t.Context(), connector.Connector{Source: "docker-daemon:acme/hello:1"}, quiet{}, noCheck)
		return err
	}
	if err := build("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CERT_PATH", folderOf(t, map[string]string{"ca.pem": ca})); err != nil {
		t.Errorf("with its certificate: %v", err)
	}
	if err := build("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CONFIG", folderOf(t, map[string]string{"ca.pem": ca})); err != nil {
		t.Errorf("with its certificate in the configuration: %v", err)
	}
	if err := build("DOCKER_HOST", host, "DOCKER_TLS_VERIFY", "1", "DOCKER_CERT_PATH", t.TempDir()); fault.CodeOf(err) != fault.EngineUnreachable {
		t.Errorf("without its certificate: %v", err)
	}
}

func TestFindEngineByDefault(t *testing.T) {
	t.Parallel()
	for _, env := range [][]string{{"HOME", t.TempDir()}, {"DOCKER_CONTEXT", "default", "HOME", t.TempDir()},
		{"DOCKER_CONFIG", dockerContext(t, "default", "tcp://x", true)}} {
		e, err := findDocker(environment(env...))
		if err != nil || e.certificates != "" || !strings.Contains(e.host, "docker") || strings.Contains(e.host, "tcp://") {
			t.Errorf("%v gives %+v, %v", env, e, err)
		}
	}
}
