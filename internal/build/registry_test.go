package build

import (
	"context"
	"fmt"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/registry"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// countingRegistry is go-containerregistry's own with two real habits added: a repository has only the blobs that were
// uploaded to it or mounted into it, and a mount from where the blob is succeeds.
type countingRegistry struct {
	host string

	mu                sync.Mutex
	blobs             map[string]bool // "repository digest"
	requests          []string
	mounts            int
	uploaded, fetched int64
}

func newRegistry(t *testing.T) *countingRegistry {
	t.Helper()
	r := &countingRegistry{blobs: map[string]bool{}}
	inner := registry.New(registry.Logger(log.New(io.Discard, "", 0)))
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, req *http.Request) { r.serve(inner, w, req) }))
	t.Cleanup(server.Close)
	r.host = strings.TrimPrefix(server.URL, "http://")
	return r
}

func (r *countingRegistry) serve(inner http.Handler, w http.ResponseWriter, req *http.Request) {
	repository, rest, _ := strings.Cut(strings.TrimPrefix(req.URL.Path, "/v2/"), "/blobs/")
	r.mu.Lock()
	r.requests = append(r.requests, req.Method+" "+req.URL.Path)
	known := r.blobs[repository+" "+rest]
	from, mount := req.URL.Query().Get("from"), req.URL.Query().Get("mount")
	mountable := from != "" && r.blobs[from+" "+mount]
	if mountable {
		r.mounts++
		r.blobs[repository+" "+mount] = true
	}
	r.mu.Unlock()
	switch {
	case req.Method == http.MethodHead && rest != "" && !known:
		w.WriteHeader(http.StatusNotFound)
		return
	case mountable:
		w.Header().Set("Location", "/v2/"+repository+"/blobs/"+mount)
		w.WriteHeader(http.StatusCreated)
		return
	}
	body := &countingReader{r: req.Body}
	req.Body = io.NopCloser(body)
	counted := &countingWriter{ResponseWriter: w}
	inner.ServeHTTP(counted, req)
	r.mu.Lock()
	defer r.mu.Unlock()
	if rest == "" {
		return
	}
	r.uploaded += body.n
	r.fetched += counted.n
	if digest := req.URL.Query().Get("digest"); digest != "" {
		r.blobs[repository+" "+digest] = true
	}
}

type countingReader struct {
	r io.Reader
	n int64
}

func (c *countingReader) Read(p []byte) (int, error) {
	n, err := c.r.Read(p)
	c.n += int64(n)
	return n, err
}

type countingWriter struct {
	http.ResponseWriter
	n int64
}

func (c *countingWriter) Write(p []byte) (int, error) {
	n, err := c.ResponseWriter.Write(p)
	c.n += int64(n)
	return n, err
}

// reset forgets what was counted.
func (r *countingRegistry) reset() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.requests, r.mounts, r.uploaded, r.fetched = nil, 0, 0, 0
}

func (r *countingRegistry) push(t *testing.T, ref string, a image.Artifact) {
	t.Helper()
	parsed, err := name.ParseReference(r.host + "/" + ref)
	if err != nil {
		t.Fatal(err)
	}
	if a.Index != nil {
		err = remote.WriteIndex(parsed, a.Index)
	} else {
		err = remote.Write(parsed, a.Image)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// open is what a registry client's Open does.
func (r *countingRegistry) open(ctx context.Context, ref string) (image.Artifact, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return image.Artifact{}, err
	}
	if parsed.Context().RegistryStr() != r.host {
		return image.Artifact{}, fmt.Errorf("no registry at %s", parsed.Context().RegistryStr())
	}
	d, err := remote.Get(parsed, remote.WithContext(ctx))
	if err != nil {
		return image.Artifact{}, err
	}
	if d.MediaType.IsIndex() {
		index, err := d.ImageIndex()
		return image.Artifact{Index: index}, err
	}
	img, err := d.Image()
	return image.Artifact{Image: img}, err
}

func digestOf(t *testing.T, d interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := d.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}
