package sandbox

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"regexp"
	"strings"
	"sync"
	"time"
)

// Step is what a request to the registry does.
type Step string

// The steps of talking to a registry.
const (
	StepPing         Step = "ping"
	StepToken        Step = "token"
	StepBlobHead     Step = "blob-head"
	StepBlobGet      Step = "blob-get"
	StepUploadStart  Step = "upload-start"
	StepUploadChunk  Step = "upload-chunk"
	StepUploadFinish Step = "upload-finish"
	StepUploadStatus Step = "upload-status"
	StepUploadCancel Step = "upload-cancel"
	StepManifestHead Step = "manifest-head"
	StepManifestGet  Step = "manifest-get"
	StepManifestPut  Step = "manifest-put"
	StepTags         Step = "tags"
	// StepBlobHost is a request to the other host that blobs are redirected to.
	StepBlobHost Step = "blob-host"
	StepOther    Step = "other"
)

// LocationStyle is how the registry names the URL that an upload goes on at.
type LocationStyle int

// The styles of Location headers.
const (
	// RelativeLocation is a path.
	RelativeLocation LocationStyle = iota
	// AbsoluteLocation has scheme and host.
	AbsoluteLocation
	// QueryLocation is absolute and has a query with the upload's state, which must come back.
	QueryLocation
)

// RegistryOptions say how the registry behaves.
type RegistryOptions struct {
	Auth RegistryAuth
	// ImmutableTags refuses to point a tag to another manifest.
	ImmutableTags bool
	// Location is the style of upload URLs.
	Location LocationStyle
	// RedirectBlobs is the base URL ("http://localhost:5001") of another host that the bytes of blobs come from: where
	// BlobHost is served. Empty means that the registry sends them itself.
	RedirectBlobs string
	// Warning is the text of a Warning header on every answer; empty means none.
	Warning string
	// Faults go wrong from the start; AddFault adds more. Their At is a Step.
	Faults []Fault
	// OnRequest sees every request after it was answered.
	OnRequest func(RegistryRequest)
	// Dir is the folder to keep blobs below; empty means the system's folder for temporary files.
	Dir string
	// Now is the clock that tokens expire by; nil means time.Now.
	Now func() time.Time
}

// Registry is a strict OCI distribution registry: what the specification lets a registry refuse, it refuses. Blobs are
// on disk and belong to repositories. It is safe for concurrent use.
type Registry struct {
	o      RegistryOptions
	script *script
	tokens tokens

	mu sync.Mutex
	// dir is the folder of the blobs; empty until there is one.
	dir          string
	repositories map[string]*repository
	uploads      map[string]*upload
	requests     []RegistryRequest
}

// repository is what one repository holds.
type repository struct {
	// blobs are the sizes of its blobs by digest.
	blobs     map[string]int64
	manifests map[string]manifest
	tags      map[string]string
}

type manifest struct {
	mediaType string
	raw       []byte
}

// RegistryRequest is a request that the registry answered.
type RegistryRequest struct {
	Step         Step
	Method, Path string
	Query        string
	Repository   string
	Host         string
	// Scheme is that of the Authorization header ("Basic", "Bearer"); empty means that there was none.
	Scheme string
	// Status is the answer's; 0 when the connection was dropped.
	Status int
	// BytesIn and BytesOut are the lengths of the bodies.
	BytesIn, BytesOut int64
}

// NewRegistry makes an empty registry. Close removes what it keeps on disk.
func NewRegistry(o RegistryOptions) *Registry {
	if o.Now == nil {
		o.Now = time.Now
	}
	return &Registry{o: o, script: newScript(o.Faults), tokens: tokens{issued: map[string]*token{}},
		repositories: map[string]*repository{}, uploads: map[string]*upload{}}
}

// Close removes the registry's blobs. It must not be serving any more.
func (g *Registry) Close() error {
	g.mu.Lock()
	defer g.mu.Unlock()
	for _, u := range g.uploads {
		_ = u.file.Close() // Its folder goes.
	}
	if g.dir == "" {
		return nil
	}
	return os.RemoveAll(g.dir)
}

// folder is where blobs are, made when the first one comes.
func (g *Registry) folder() (string, error) {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.dir == "" {
		dir, err := os.MkdirTemp(g.o.Dir, "airbyte-publish-registry-")
		if err != nil {
			return "", err
		}
		g.dir = dir
	}
	return g.dir, nil
}

// AddFault makes something go wrong with requests to come.
func (g *Registry) AddFault(f Fault) { g.script.add(f) }

// Requests returns every request answered so far, in the order of their ends.
func (g *Registry) Requests() []RegistryRequest {
	g.mu.Lock()
	defer g.mu.Unlock()
	return append([]RegistryRequest(nil), g.requests...)
}

// Count is the number of requests of a step so far.
func (g *Registry) Count(step Step) int {
	n := 0
	for _, r := range g.Requests() {
		if r.Step == step {
			n++
		}
	}
	return n
}

// Tag is the digest that a repository's tag points to, or "" when there is no such tag.
func (g *Registry) Tag(repositoryName, tag string) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	if r := g.repositories[repositoryName]; r != nil {
		return r.tags[tag]
	}
	return ""
}

// repository returns the repository, made if need be. The caller holds the lock.
func (g *Registry) repository(name string) *repository {
	r := g.repositories[name]
	if r == nil {
		r = &repository{blobs: map[string]int64{}, manifests: map[string]manifest{}, tags: map[string]string{}}
		g.repositories[name] = r
	}
	return r
}

// target is what a request's path names.
type target struct {
	step       Step
	repository string
	// reference is a tag, a digest or an upload's id.
	reference string
}

// The grammars of the OCI distribution specification.
var (
	repositoryGrammar = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)
	tagGrammar        = regexp.MustCompile(`^[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}$`)
	digestGrammar     = regexp.MustCompile(`^sha256:[a-f0-9]{64}$`)
	pathGrammar       = regexp.MustCompile(`^/v2/(.+)/(blobs/uploads|blobs|manifests|tags)/([^/]*)$`)
)

// steps are the steps by method and the part of the path that tells them.
var steps = map[string]Step{
	"HEAD blobs": StepBlobHead, "GET blobs": StepBlobGet,
	"POST blobs/uploads": StepUploadStart, "PATCH blobs/uploads": StepUploadChunk, "PUT blobs/uploads": StepUploadFinish,
	"GET blobs/uploads": StepUploadStatus, "DELETE blobs/uploads": StepUploadCancel,
	"HEAD manifests": StepManifestHead, "GET manifests": StepManifestGet, "PUT manifests": StepManifestPut,
	"GET tags": StepTags,
}

func parseTarget(r *http.Request) target {
	switch r.URL.Path {
	case "/v2/", "/v2":
		return target{step: StepPing}
	case tokenPath:
		return target{step: StepToken}
	}
	path := r.URL.Path
	if strings.HasSuffix(path, "/blobs/uploads") {
		path += "/"
	}
	m := pathGrammar.FindStringSubmatch(path)
	if m == nil {
		return target{step: StepOther}
	}
	step, ok := steps[r.Method+" "+m[2]]
	if !ok {
		step = StepOther
	}
	return target{step: step, repository: m[1], reference: m[3]}
}

// ServeHTTP answers as a registry.
func (g *Registry) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	t := parseTarget(r)
	g.observed(w, r, t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { g.serve(w, r, t) }))
}

// observed serves a request with the fault that is due, and writes it down.
func (g *Registry) observed(w http.ResponseWriter, r *http.Request, t target, work http.Handler) {
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	log := RegistryRequest{Step: t.step, Method: r.Method, Path: r.URL.Path, Query: r.URL.RawQuery, Repository: t.repository,
		Host: r.Host, Scheme: scheme}
	in, out := &countReader{ReadCloser: r.Body}, &countWriter{statusWriter: statusWriter{ResponseWriter: w}}
	r.Body = in
	defer func() {
		log.Status, log.BytesIn, log.BytesOut = out.status, in.n, out.n
		g.mu.Lock()
		g.requests = append(g.requests, log)
		g.mu.Unlock()
		if g.o.OnRequest != nil {
			g.o.OnRequest(log)
		}
	}()
	w.Header().Set("Docker-Distribution-Api-Version", "registry/2.0")
	if g.o.Warning != "" {
		w.Header().Set("Warning", fmt.Sprintf("299 - %q", g.o.Warning))
	}
	f := g.script.take(r, func(at string) bool { return Step(at) == t.step })
	server{work: work, expire: g.tokens.expire, later: func(time.Duration, func()) {}}.befall(f, out, r)
}

func (g *Registry) serve(w http.ResponseWriter, r *http.Request, t target) {
	if t.step == StepToken && g.o.Auth.Mode == RegistryBearer && g.o.Auth.Realm == "" {
		g.serveToken(w, r)
		return
	}
	if !g.authorise(w, r, t) {
		return
	}
	if t.repository != "" && !repositoryGrammar.MatchString(t.repository) {
		refuse(w, http.StatusBadRequest, "NAME_INVALID", "invalid repository name", t.repository)
		return
	}
	switch t.step {
	case StepPing:
		writeJSON(w, http.StatusOK, struct{}{})
	case StepBlobHead, StepBlobGet:
		g.serveBlob(w, r, t)
	case StepUploadStart:
		g.startUpload(w, r, t)
	case StepUploadChunk, StepUploadFinish, StepUploadStatus, StepUploadCancel:
		g.serveUpload(w, r, t)
	case StepManifestHead, StepManifestGet:
		g.serveManifest(w, r, t)
	case StepManifestPut:
		g.putManifest(w, r, t)
	case StepTags:
		g.serveTags(w, r, t)
	default:
		if t.repository != "" {
			refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "The operation is unsupported.", nil)
			return
		}
		http.NotFound(w, r)
	}
}

// refuse answers with an error as the distribution specification words it.
func refuse(w http.ResponseWriter, status int, code, message string, detail any) {
	e := map[string]any{"code": code, "message": message}
	if detail != nil {
		e["detail"] = detail
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(map[string]any{"errors": []any{e}})
}

func nameUnknown(w http.ResponseWriter, repositoryName string) {
	refuse(w, http.StatusNotFound, "NAME_UNKNOWN", "repository name not known to registry", map[string]any{"name": repositoryName})
}

// countReader counts what is read.
type countReader struct {
	io.ReadCloser
	n int64
}

func (c *countReader) Read(p []byte) (int, error) {
	n, err := c.ReadCloser.Read(p)
	c.n += int64(n)
	return n, err
}

// countWriter counts what is written.
type countWriter struct {
	statusWriter
	n int64
}

func (c *countWriter) Write(p []byte) (int, error) {
	n, err := c.statusWriter.Write(p)
	c.n += int64(n)
	return n, err
}
