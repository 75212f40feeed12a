package deployment

import (
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// hangingEngine is an engine that answers until it is to take or to tell something.
func hangingEngine(t *testing.T) string {
	t.Helper()
	end := make(chan struct{})
	hang := func(r *http.Request) {
		select {
		case <-end:
		case <-r.Context().Done():
		}
	}
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Api-Version", "1.41")
		w.Header().Set("Content-Type", "application/json")
		switch path := r.URL.Path; {
		case strings.HasSuffix(path, "/_ping"):
			fmt.Fprint(w, "OK")
		case strings.HasSuffix(path, "/version"):
			fmt.Fprintf(w, `{"Version": "24.0.0", "ApiVersion": "1.41", "MinAPIVersion": "1.24", "Os": "linux", "Arch": %q}`, "amd64"+strings.Repeat("\n", 3000))
		case strings.HasSuffix(path, "/containers/json"):
			fmt.Fprint(w, `[{"Id": "a", "Names": ["/node"], "State": "running", "Labels": {"io.x-k8s.kind.cluster": "kind"}}]`)
		case strings.HasSuffix(path, "/exec"):
			fmt.Fprint(w, `{"Id": "b"}`)
		case strings.HasSuffix(path, "/exec/b/start"):
			// The connection is taken over, and nothing comes.
			conn, buffered, err := w.(http.Hijacker).Hijack()
			if err != nil {
				return
			}
			defer conn.Close()
			fmt.Fprint(buffered, "HTTP/1.1 101 UPGRADED\r\nContent-Type: application/vnd.docker.raw-stream\r\nConnection: Upgrade\r\nUpgrade: tcp\r\n\r\n")
			_ = buffered.Flush()
			<-end
		case strings.HasSuffix(path, "/images/load"):
			hang(r)
		default:
			http.Error(w, `{"message": "No such image"}`, http.StatusNotFound)
		}
	}))
	t.Cleanup(func() {
		close(end)
		server.CloseClientConnections()
		server.Close()
	})
	return "tcp://" + server.Listener.Addr().String()
}

// TestLoadHasALimit loads into an engine, and by its kind node, that takes nothing.
func TestLoadHasALimit(t *testing.T) {
	t.Parallel()
	for name, target := range map[string]Target{"engine": {}, "kind": {Cluster: "kind"}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img, err := mutate.ConfigFile(empty.Image, &v1.ConfigFile{OS: "linux", Architecture: "amd64"})
			if err != nil {
				t.Fatal(err)
			}
			h := NewHost(HostOptions{Address: hangingEngine(t), Getenv: func(string) string { return "" },
				Open: func(context.Context, string) (image.Artifact, error) { return image.Artifact{Image: img}, nil }})
			h.loadTimeout = time.Second
			ended := make(chan error, 1)
			go func() { ended <- h.Load(t.Context(), target, "registry.acme.example/x", "1", "", quiet{}) }()
			select {
			case err = <-ended:
			case <-time.After(20 * time.Second):
				t.Fatal("it does not end")
			}
			if fault.CodeOf(err) != fault.LoadFailed || !strings.Contains(err.Error(), "did not end within 1s") {
				t.Error(err)
			}
		})
	}
}

// quiet is a log of which nothing is kept.
type quiet struct{}

func (quiet) Group(string) func()       { return func() {} }
func (quiet) Info(string, ...any)       {}
func (quiet) Finding(connector.Finding) {}
func (quiet) Untrusted(string, string)  {}
