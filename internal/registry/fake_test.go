package registry

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// The steps of a conversation that a fake can be told to fail at.
const (
	atPing        = "ping"
	atToken       = "token"
	atHead        = "head manifest"
	atGet         = "get manifest"
	atList        = "list tags"
	atHeadBlob    = "head blob"
	atGetBlob     = "get blob"
	atPost        = "post upload"
	atPatch       = "patch upload"
	atPutBlob     = "put upload"
	atPutManifest = "put manifest"
	atPutTag      = "put tag"
	atDelete      = "delete upload"
)

// fake is a small registry that keeps blobs by repository, checks digests and what a manifest refers to, and can be
// told to misbehave as real ones do.
type fake struct {
	*httptest.Server
	t *testing.T
	// challenge is the WWW-Authenticate header; empty is an open registry. check tells whether an Authorization is good.
	challenge string
	check     func(authorization string) bool
	// location makes an upload's Location of its path; nil means the path alone.
	location func(path string) string

	mu        sync.Mutex
	scripts   map[string][]http.HandlerFunc
	blobs     map[string]bool // by "repository digest"
	manifests map[string][]byte
	types     map[string]string
	tags      map[string]string // by "repository:tag"
	uploads   map[string]string // the digest of what an upload holds
	counter   int
	log       []seen
}

// seen is a request as it came in.
type seen struct {
	step, host, authorization string
}

func newFake(t *testing.T) *fake {
	f := newUnstarted(t)
	f.Start()
	return f
}

func newTLSFake(t *testing.T) *fake {
	f := newUnstarted(t)
	f.StartTLS()
	return f
}

func newUnstarted(t *testing.T) *fake {
	t.Helper()
	f := &fake{t: t, scripts: map[string][]http.HandlerFunc{}, blobs: map[string]bool{}, manifests: map[string][]byte{},
		types: map[string]string{}, tags: map[string]string{}, uploads: map[string]string{}}
	f.Server = httptest.NewUnstartedServer(f)
	f.Config.ErrorLog = nil
	t.Cleanup(func() {
		f.Close()
		f.mu.Lock()
		defer f.mu.Unlock()
		for step, rest := range f.scripts {
			if len(rest) > 0 && !t.Failed() {
				t.Errorf("%d answers at %q were never asked for", len(rest), step)
			}
		}
	})
	return f
}

func (f *fake) host() string { return f.Listener.Addr().String() }

func (f *fake) repo() image.Repository { return image.Repository(f.host() + "/acme/source-erp") }

func (f *fake) tls() *tls.Config {
	pool := x509.NewCertPool()
	pool.AddCert(f.Certificate())
	return &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}
}

// then makes the next n requests at step be answered by h.
func (f *fake) then(step string, n int, h http.HandlerFunc) *fake {
	f.mu.Lock()
	defer f.mu.Unlock()
	for range n {
		f.scripts[step] = append(f.scripts[step], h)
	}
	return f
}

// always is many times; what is left of it is no failure.
func (f *fake) always(step string, h http.HandlerFunc) *fake {
	f.then(step, 100, h)
	f.t.Cleanup(func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		delete(f.scripts, step)
	})
	return f
}

func answer(status int, body string, headers ...string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		for i := 0; i < len(headers); i += 2 {
			w.Header().Add(headers[i], headers[i+1])
		}
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func code(c, message string) string {
	return fmt.Sprintf(`{"errors":[{"code":%q,"message":%q}]}`, c, message)
}

// hangUp closes the connection without an answer.
func hangUp(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }

func (f *fake) requests(step string) []seen {
	f.mu.Lock()
	defer f.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(f.log), func(s seen) bool { return step != "" && s.step != step })
}

var (
	manifestPath = regexp.MustCompile(`^/v2/(.+)/manifests/([^/]+)$`)
	blobPath     = regexp.MustCompile(`^/v2/(.+)/blobs/(sha256:[0-9a-f]{64})$`)
	uploadPath   = regexp.MustCompile(`^/v2/(.+)/blobs/uploads/(\d*)$`)
)

func stepOf(r *http.Request) string {
	p := r.URL.Path
	switch {
	case p == "/v2/":
		return atPing
	case p == "/token":
		return atToken
	case strings.HasSuffix(p, "/tags/list"):
		return atList
	case manifestPath.MatchString(p) && r.Method == http.MethodPut && !strings.Contains(p, "sha256:"):
		return atPutTag
	case manifestPath.MatchString(p):
		return map[string]string{"HEAD": atHead, "GET": atGet, "PUT": atPutManifest}[r.Method]
	case blobPath.MatchString(p):
		return map[string]string{"HEAD": atHeadBlob, "GET": atGetBlob}[r.Method]
	case uploadPath.MatchString(p):
		return map[string]string{"POST": atPost, "PATCH": atPatch, "PUT": atPutBlob, "DELETE": atDelete}[r.Method]
	}
	return "unknown " + r.Method + " " + p
}

func (f *fake) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	step := stepOf(r)
	f.mu.Lock()
	f.log = append(f.log, seen{step, r.Host, r.Header.Get("Authorization")})
	var script http.HandlerFunc
	if len(f.scripts[step]) > 0 {
		script, f.scripts[step] = f.scripts[step][0], f.scripts[step][1:]
	}
	f.mu.Unlock()
	switch {
	case script != nil:
		script(w, r)
	case f.challenge != "" && step != atToken && !f.check(r.Header.Get("Authorization")):
		w.Header().Set("WWW-Authenticate", f.challenge)
		answer(http.StatusUnauthorized, code("UNAUTHORIZED", "authentication required"))(w, r)
	default:
		f.serve(step, w, r)
	}
}

func (f *fake) serve(step string, w http.ResponseWriter, r *http.Request) {
	body := sha256.New()
	var kept []byte
	if step == atPutManifest || step == atPutTag {
		kept, _ = io.ReadAll(r.Body)
	} else if n, err := io.Copy(body, r.Body); err != nil || r.ContentLength > 0 && n != r.ContentLength {
		answer(http.StatusBadRequest, code("SIZE_INVALID", "short body"))(w, r)
		return
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	switch step {
	case atPing:
		w.WriteHeader(http.StatusOK)
	case atHead, atGet:
		m := manifestPath.FindStringSubmatch(r.URL.Path)
		digest := m[2]
		if d, ok := f.tags[m[1]+":"+m[2]]; ok {
			digest = d
		}
		content, ok := f.manifests[m[1]+" "+digest]
		if !ok {
			answer(http.StatusNotFound, code("MANIFEST_UNKNOWN", "manifest unknown"))(w, r)
			return
		}
		w.Header().Set("Content-Type", f.types[digest])
		w.Header().Set("Docker-Content-Digest", digest)
		w.Header().Set("Content-Length", fmt.Sprint(len(content)))
		_, _ = w.Write(content)
	case atHeadBlob:
		m := blobPath.FindStringSubmatch(r.URL.Path)
		if !f.blobs[m[1]+" "+m[2]] {
			w.WriteHeader(http.StatusNotFound)
		}
	case atPost:
		m := uploadPath.FindStringSubmatch(r.URL.Path)
		q := r.URL.Query()
		if q.Get("mount") != "" && f.blobs[q.Get("from")+" "+q.Get("mount")] {
			f.blobs[m[1]+" "+q.Get("mount")] = true
			w.WriteHeader(http.StatusCreated)
			return
		}
		f.counter++
		f.sendLocation(w, fmt.Sprintf("/v2/%s/blobs/uploads/%d", m[1], f.counter))
	case atPatch:
		f.uploads[r.URL.Path] = "sha256:" + hex.EncodeToString(body.Sum(nil))
		f.sendLocation(w, r.URL.Path)
	case atPutBlob:
		digest := r.URL.Query().Get("digest")
		if f.uploads[r.URL.Path] != digest {
			answer(http.StatusBadRequest, code("DIGEST_INVALID", "provided digest did not match uploaded content"))(w, r)
			return
		}
		f.blobs[uploadPath.FindStringSubmatch(r.URL.Path)[1]+" "+digest] = true
		w.WriteHeader(http.StatusCreated)
	case atPutManifest, atPutTag:
		f.putManifest(w, r, kept)
	case atDelete:
		w.WriteHeader(http.StatusNoContent)
	default:
		f.t.Errorf("unexpected request: %s %s", r.Method, r.URL)
		w.WriteHeader(http.StatusTeapot)
	}
}

func (f *fake) sendLocation(w http.ResponseWriter, path string) {
	if f.location != nil {
		path = f.location(path)
	}
	w.Header().Set("Location", path)
	w.WriteHeader(http.StatusAccepted)
}

var anyDigest = regexp.MustCompile(`sha256:[0-9a-f]{64}`)

func (f *fake) putManifest(w http.ResponseWriter, r *http.Request, content []byte) {
	m := manifestPath.FindStringSubmatch(r.URL.Path)
	digest := sum(content)
	for _, d := range anyDigest.FindAllString(string(content), -1) {
		if !f.blobs[m[1]+" "+d] && f.manifests[m[1]+" "+d] == nil {
			answer(http.StatusBadRequest, code("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"))(w, r)
			return
		}
	}
	f.manifests[m[1]+" "+digest] = content
	f.types[digest] = r.Header.Get("Content-Type")
	if strings.HasPrefix(m[2], "sha256:") {
		if m[2] != digest {
			answer(http.StatusBadRequest, code("DIGEST_INVALID", "digest"))(w, r)
			return
		}
	} else {
		f.tags[m[1]+":"+m[2]] = digest
	}
	w.WriteHeader(http.StatusCreated)
}

// basic makes the fake want this user.
func (f *fake) basic(user, password string) *fake {
	want := "Basic " + base64.StdEncoding.EncodeToString([]byte(user+":"+password))
	f.challenge = `Basic realm="fake"`
	f.check = func(a string) bool { return a == want }
	return f
}

// client is a client for the fake over plain http that does not really wait.
func (f *fake) client(o Options) (*Client, *waits, *recorder) {
	w, log := &waits{}, &recorder{}
	o.Hosts = append(o.Hosts, f.host())
	o.PlainHTTP = o.TLS == nil
	o.Log = log.add
	if o.Sleep == nil {
		o.Sleep = w.sleep
	}
	return New(o), w, log
}

func sum(content []byte) string {
	h := sha256.Sum256(content)
	return "sha256:" + hex.EncodeToString(h[:])
}
