package build

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// notDocker answers like an engine whose /version says this, and to nothing else.
func notDocker(t *testing.T, version map[string]string) string {
	t.Helper()
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", version["ApiVersion"])
		switch {
		case strings.HasSuffix(r.URL.Path, "/_ping"):
		case strings.HasSuffix(r.URL.Path, "/version"):
			_ = json.NewEncoder(w).Encode(version)
		case strings.HasSuffix(r.URL.Path, "/containers/json"):
			_, _ = io.WriteString(w, `[{"Names":["/buildx_buildkit_one0"]},{"Names":["/buildx_buildkit_two0"]}]`)
		default:
			http.NotFound(w, r)
		}
	}))
	t.Cleanup(s.Close)
	return "tcp://" + s.Listener.Addr().String()
}

// silent accepts connections and says nothing.
func silent(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l.Addr().String()
}

func TestNoEngine(t *testing.T) {
	t.Parallel()
	podman := notDocker(t, map[string]string{"Version": "4.3.1", "ApiVersion": "1.41", "Os": "linux"})
	windows := notDocker(t, map[string]string{"Version": "28.0.0", "ApiVersion": "1.48", "Os": "windows"})
	instance := func(content string) string {
		return folderOf(t, map[string]string{"buildx/current": `{"Name":"mine","Global":true}`, "buildx/instances/mine": content})
	}
	for name, tt := range map[string]struct {
		builder string
		env     []string
		code    fault.Code
		causes  []string
	}{
		"nothing at all": {"", nil, fault.NoBuilder, []string{"neither buildkit-host nor BUILDKIT_HOST", "there is no Docker engine at unix:///var/run/",
			"there is no program buildkitd on PATH", "input source"}},
		"refused": {"auto", []string{"DOCKER_HOST", "tcp://127.0.0.1:1"}, fault.NoBuilder, []string{"the Docker engine at tcp://127.0.0.1:1 can't be used: it refuses connections;"}},
		"podman":  {"docker", []string{"DOCKER_HOST", podman}, fault.EngineUnreachable, []string{podman, "has no BuildKit", "received 404"}},
		"Windows": {"", []string{"DOCKER_HOST", windows}, fault.NoBuilder, []string{"windows containers"}},
		"BUILDKIT_HOST of an image": {"", []string{"BUILDKIT_HOST", "unix:///nowhere/x.sock"}, fault.NoBuilder, []string{
			"BUILDKIT_HOST is unix:///nowhere/x.sock, where nothing is"}},
		"BUILDKIT_HOST that was meant": {"buildkit", []string{"BUILDKIT_HOST", "unix:///nowhere/x.sock"}, fault.EngineUnreachable, []string{"no such file"}},
		"BUILDKIT_HOST, refused":       {"", []string{"BUILDKIT_HOST", "tcp://127.0.0.1:1"}, fault.EngineUnreachable, []string{"connection refused"}},
		"buildkit without an address":  {"buildkit", nil, fault.EngineUnreachable, []string{"neither buildkit-host nor BUILDKIT_HOST"}},
		"docker that is not there":     {"docker", []string{"DOCKER_HOST", "unix:///nowhere/d.sock"}, fault.EngineUnreachable, []string{"unix:///nowhere/d.sock"}},
		"docker context that is not there": {"docker", []string{"DOCKER_CONTEXT", "x", "DOCKER_CONFIG", "/nowhere"}, fault.EngineUnreachable,
			[]string{`the docker context "x" can't be read`}},
		"buildkitd that is not there": {"buildkitd", []string{"PATH", "relative:/nowhere"}, fault.EngineUnreachable, []string{"no program buildkitd on PATH"}},
		"buildx without a builder":    {"buildx", []string{"DOCKER_HOST", "unix:///nowhere/d.sock"}, fault.EngineUnreachable, []string{"unix:///nowhere/d.sock"}},
		"buildx by name":              {"buildx", []string{"BUILDX_BUILDER", "x", "DOCKER_CONFIG", "/nowhere"}, fault.EngineUnreachable, []string{"no builder of its own"}},
		"buildx by a bad name":        {"buildx", []string{"BUILDX_BUILDER", "../x"}, fault.EngineUnreachable, []string{`"../x" is no name`}},
		"several builders run":        {"buildx", []string{"DOCKER_HOST", podman}, fault.EngineUnreachable, []string{"one0, buildx_buildkit_two0", "docker-container://"}},
		"buildx of another driver":    {"buildx", []string{"DOCKER_CONFIG", instance(`{"Name":"mine","Driver":"kubernetes","Nodes":[{}]}`)}, fault.EngineUnreachable, []string{"mine", "kubernetes"}},
		"buildx with a broken file":   {"buildx", []string{"DOCKER_CONFIG", instance(`{`)}, fault.EngineUnreachable, []string{"mine can't be read"}},
		"buildx with a remote that is not there": {"buildx", []string{"DOCKER_CONFIG",
			instance(`{"Name":"mine","Driver":"remote","Nodes":[{"Endpoint":"tcp://127.0.0.1:1","DriverOpts":{"cacert":"/nowhere/ca.pem"}}]}`)},
			fault.EngineUnreachable, []string{"mine", "/nowhere/ca.pem"}},
		"buildx with an engine that is not there": {"buildx", []string{"DOCKER_CONFIG",
			instance(`{"Name":"mine","Driver":"docker-container","Nodes":[{"Name":"a","Endpoint":"tcp://127.0.0.1:1"},{"Name":"b","Endpoint":"ctx"}]}`)},
			fault.EngineUnreachable, []string{"it refuses connections; ", `the docker context "ctx" can't be read`}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			env := tt.env
			if !strings.Contains(strings.Join(env, " "), "DOCKER_HOST") {
				env = append(env, "HOME", "/nowhere")
			}
			b := New(Options{Builder: tt.builder, Getenv: environment(env...)})
			start := time.Now()
			err := b.pool.ready(t.Context(), quiet{})
			if took := time.Since(start); took > 2*time.Second {
				t.Errorf("it took %s", took)
			}
			if fault.CodeOf(err) != tt.code {
				t.Errorf("the error is %v, want a %s", err, tt.code)
			}
			for _, cause := range tt.causes {
				if !strings.Contains(err.Error(), cause) {
					t.Errorf("the error is %v, which does not tell %q", err, cause)
				}
			}
			if b.Close() != nil || len(b.Engines()) > 0 {
				t.Errorf("used: %q", b.Engines())
			}
		})
	}
}

func TestNothingIsContactedWithoutABuild(t *testing.T) {
	t.Parallel()
	asked := false
	b := New(Options{Getenv: func(string) string { asked = true; return "" }})
	if err := b.Close(); err != nil || asked {
		t.Errorf("it looked for an engine: %t, %v", asked, err)
	}
}

func TestSilentEngineIsGivenUp(t *testing.T) {
	t.Parallel()
	host := silent(t)
	for _, o := range []Options{
		{Builder: "buildkit", BuildkitHosts: []string{"tcp://" + host, "tcp://" + host}},
		{Builder: "docker", Getenv: environment("DOCKER_HOST", "tcp://"+host)},
	} {
		d := &dialing{options: o, timeout: 50 * time.Millisecond}
		_, err := d.choose(t.Context(), quiet{})
		if fault.CodeOf(err) != fault.EngineUnreachable || !strings.Contains(err.Error(), "no answer within 50ms") {
			t.Errorf("the error is %v", err)
		}
	}
}

func TestExposed(t *testing.T) {
	t.Parallel()
	for address, want := range map[string]bool{
		"tcp://10.0.0.1:1234": true, "tcp://buildkit:1234": true, "tcp://[fe80::1]:1": true,
		"tcp://127.0.0.1:1": false, "tcp://localhost:1": false, "tcp://[::1]:1": false, "unix:///x": false,
		"tcp://buildkit:1?cacert=x": false, "docker-container://x": false,
	} {
		if got := exposed(address); got != want {
			t.Errorf("exposed(%q) is %t", address, got)
		}
	}
	log := &findings{}
	engines, err := usable([]string{"tcp://10.0.0.1:1234"}, []*engine{{}}, []error{nil}, log)
	if err != nil || len(engines) != 1 || len(*log) != 1 || (*log)[0].Code != fault.PlainBuilder || (*log)[0].Severity != connector.Warning {
		t.Errorf("engines %v, %v, and it told %v", engines, err, *log)
	}
}

// findings is a log that keeps those.
type findings []connector.Finding

func (*findings) Group(string) func()           { return func() {} }
func (*findings) Info(string, ...any)           {}
func (f *findings) Finding(c connector.Finding) { *f = append(*f, c) }
func (*findings) Untrusted(string, string)      {}

func TestCapabilities(t *testing.T) {
	t.Parallel()
	full := capabilities{multiPlatform: true, attestations: true, cacheExports: []string{"inline", "registry", "local", "gha"},
		platforms: []string{"linux/amd64", "linux/386", "linux/arm64"}}
	graph := full.withGraphDriver()
	old := full
	old.attestations, old.platforms = false, nil
	for name, tt := range map[string]struct {
		caps    capabilities
		recipe  connector.Recipe
		causes  []string
		warning string
	}{
		"everything": {caps: full, recipe: connector.Recipe{Platforms: []string{"linux/amd64", "linux/arm64"}, Provenance: true, SBOM: true,
			CacheTo: []string{"type=registry,ref=x", "acme/cache", "type=inline", "mode=max,type=gha"}}},
		"what a graph driver can": {caps: graph, recipe: connector.Recipe{Platforms: []string{"linux/amd64"},
			CacheFrom: []string{"type=registry,ref=x"}, CacheTo: []string{"type=inline"}}},
		"what it can't": {caps: graph, recipe: connector.Recipe{Platforms: []string{"linux/amd64", "linux/arm64"}, SBOM: true,
			CacheTo: []string{"acme/cache", "type=inline", "type=local,dest=x"}},
			causes: []string{"several platforms at once (platforms is linux/amd64, linux/arm64)", "attach provenance or an SBOM",
				"type registry", "type local", "containerd-snapshotter"}},
		"an unknown cache": {caps: full, recipe: connector.Recipe{CacheTo: []string{"type=moon"}}, causes: []string{"type moon"}},
		"old BuildKit":     {caps: old, recipe: connector.Recipe{Provenance: true}, causes: []string{"provenance"}},
		"another platform": {caps: full, recipe: connector.Recipe{Platforms: []string{"linux/amd64", "linux/s390x"}}, warning: "can't run programs for linux/s390x"},
		"a variant":        {caps: full, recipe: connector.Recipe{Platforms: []string{"linux/arm64/v8", "linux/arm/v7"}}},
		"it does not tell": {caps: old, recipe: connector.Recipe{Platforms: []string{"linux/s390x"}}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			log := &findings{}
			kind := kindBuildkit
			if !tt.caps.multiPlatform {
				kind = kindDocker
			}
			err := (&engine{name: "the engine", kind: kind, caps: tt.caps}).check(tt.recipe, log)
			if len(tt.causes) == 0 && err != nil || len(tt.causes) > 0 && fault.CodeOf(err) != fault.EngineLacks {
				t.Fatalf("the error is %v", err)
			}
			for _, cause := range tt.causes {
				if !strings.Contains(err.Error(), cause) {
					t.Errorf("the error is %v, which does not tell %q", err, cause)
				}
			}
			if told := fmt.Sprint(*log); tt.warning == "" && len(*log) > 0 || !strings.Contains(told, tt.warning) {
				t.Errorf("it told %s", told)
			}
		})
	}
}

// frame is a piece of an attached process's output.
func frame(stream byte, text string) string {
	return string([]byte{stream, 0, 0, 0, 0, 0, byte(len(text) >> 8), byte(len(text))}) + text
}

func TestExecConn(t *testing.T) {
	t.Parallel()
	settings := "\x00\x00\x00\x04\x00\x00\x00\x00\x00"
	long := strings.Repeat("x", 1000)
	for name, tt := range map[string]struct{ stream, want, cause string }{
		"a protocol":               {frame(1, settings) + frame(1, "a") + frame(1, "") + frame(1, "bc"), settings + "abc", "EOF"},
		"words between":            {frame(1, settings) + frame(2, "a warning") + frame(1, "bc"), settings + "bc", "a warning"},
		"an error of the engine":   {frame(1, "OCI runtime exec failed: not found\r\n"), "", "OCI runtime exec failed: not found"},
		"a short one":              {frame(1, "no"), "", "no"},
		"an error of the process":  {frame(2, long+long), "", strings.Repeat("x", maxSaid)},
		"a stream that is cut off": {frame(1, settings+"abc")[:19], settings + "ab", "EOF"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			// A byte at a time, as a connection may give it.
			c := &execConn{reader: iotest.OneByteReader(strings.NewReader(tt.stream))}
			var got []byte
			var err error
			for err == nil {
				var p [3]byte
				var n int
				n, err = c.Read(p[:])
				got = append(got, p[:n]...)
			}
			if !strings.Contains(err.Error(), tt.cause) {
				t.Errorf("the error is %v, want %q", err, tt.cause)
			}
			if diff := cmp.Diff(tt.want, string(got)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestRefusedSocketCostsNothing(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	// The file stays, and nobody listens.
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	_ = l.Close()
	if _, err := os.Stat(path); err != nil {
		t.Fatal(err)
	}
	start := time.Now()
	_, err = New(Options{Getenv: environment("DOCKER_HOST", "unix://"+path)}).pool.choose(t.Context(), quiet{})
	if took := time.Since(start); fault.CodeOf(err) != fault.NoBuilder || took > 300*time.Millisecond {
		t.Errorf("after %s the error is %v", took, err)
	}
}

// relayVariable names a socket, and has the test binary do what "docker system dial-stdio" does on the other side of ssh.
const relayVariable = "BUILD_TEST_RELAY"

func relay(socket string) {
	conn, err := net.Dial("unix", socket)
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	go func() {
		_, _ = io.Copy(conn, os.Stdin)
		_ = conn.(*net.UnixConn).CloseWrite()
	}()
	_, _ = io.Copy(os.Stdout, conn)
}
