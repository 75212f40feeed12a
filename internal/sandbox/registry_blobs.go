package sandbox

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"hash"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/google/uuid"
)

// blobFile is the name of a blob's file. All repositories share it; which blobs a repository has is in its map.
func blobFile(digest string) string { return "sha256-" + strings.TrimPrefix(digest, "sha256:") }

func (g *Registry) hasBlob(repositoryName, digest string) (int64, bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.repositories[repositoryName]
	if r == nil {
		return 0, false
	}
	size, ok := r.blobs[digest]
	return size, ok
}

func (g *Registry) serveBlob(w http.ResponseWriter, r *http.Request, t target) {
	if !digestGrammar.MatchString(t.reference) {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest is not a sha256 digest", t.reference)
		return
	}
	size, ok := g.hasBlob(t.repository, t.reference)
	if !ok {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry", map[string]any{"digest": t.reference})
		return
	}
	w.Header().Set("Docker-Content-Digest", t.reference)
	if r.Method == http.MethodHead {
		w.Header().Set("Content-Type", "application/octet-stream")
		w.Header().Set("Accept-Ranges", "bytes")
		w.Header().Set("Content-Length", strconv.FormatInt(size, 10))
		w.WriteHeader(http.StatusOK)
		return
	}
	if g.o.RedirectBlobs != "" {
		w.Header().Set("Location", strings.TrimSuffix(g.o.RedirectBlobs, "/")+"/"+t.reference+"?signature=1")
		w.WriteHeader(http.StatusTemporaryRedirect)
		return
	}
	g.sendBlob(w, r, t.reference)
}

func (g *Registry) sendBlob(w http.ResponseWriter, r *http.Request, digest string) {
	dir, err := g.folder()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error(), nil)
		return
	}
	f, err := os.Open(filepath.Join(dir, blobFile(digest)))
	if err != nil {
		refuse(w, http.StatusNotFound, "BLOB_UNKNOWN", "blob unknown to registry", digest)
		return
	}
	defer f.Close() //nolint:errcheck // It was only read.
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+digest+`"`)
	http.ServeContent(w, r, "", time.Time{}, f)
}

// BlobHost is the other host that RedirectBlobs leads to, to be served on a listener of its own. As object stores do,
// it refuses a request that has an Authorization header besides its signed URL.
func (g *Registry) BlobHost() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.observed(w, r, target{step: StepBlobHost}, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			digest := strings.TrimPrefix(r.URL.Path, "/")
			switch {
			case r.Header.Get("Authorization") != "":
				http.Error(w, "<Error><Code>InvalidArgument</Code><Message>Only one auth mechanism allowed</Message></Error>",
					http.StatusBadRequest)
			case r.URL.Query().Get("signature") == "" || !digestGrammar.MatchString(digest):
				http.Error(w, "<Error><Code>AccessDenied</Code></Error>", http.StatusForbidden)
			default:
				g.sendBlob(w, r, digest)
			}
		}))
	})
}

// upload is a session in which a blob comes in.
type upload struct {
	id, repository string

	mu   sync.Mutex
	file *os.File
	hash hash.Hash
	size int64
	// over tells that the session has ended; a request that waited for the lock finds nothing.
	over bool
}

// startUpload begins a session, takes a whole blob at once, or mounts one that another repository has.
func (g *Registry) startUpload(w http.ResponseWriter, r *http.Request, t target) {
	q := r.URL.Query()
	if digest, from := q.Get("mount"), q.Get("from"); digest != "" && from != "" {
		if size, ok := g.hasBlob(from, digest); ok && g.mayPull(r, from) {
			g.mu.Lock()
			g.repository(t.repository).blobs[digest] = size
			g.mu.Unlock()
			created(w, t.repository, digest)
			return
		}
	}
	file, err := g.uploadFile()
	if err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", err.Error(), nil)
		return
	}
	u := &upload{id: uuid.NewString(), repository: t.repository, file: file, hash: sha256.New()}
	if digest := q.Get("digest"); digest != "" {
		if u.take(r.Body) {
			g.finish(w, u, digest)
		} else {
			u.end()
			refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "blob upload invalid", nil)
		}
		return
	}
	g.mu.Lock()
	g.uploads[u.id] = u
	g.mu.Unlock()
	g.progress(w, r, u, http.StatusAccepted)
}

func (g *Registry) uploadFile() (*os.File, error) {
	dir, err := g.folder()
	if err != nil {
		return nil, err
	}
	return os.CreateTemp(dir, "upload-")
}

// take appends what is sent and tells whether all of it came.
func (u *upload) take(from io.Reader) bool {
	n, err := io.Copy(io.MultiWriter(u.file, u.hash), from)
	u.size += n
	return err == nil
}

// end closes and removes what came in.
func (u *upload) end() {
	u.over = true
	_ = u.file.Close()
	_ = os.Remove(u.file.Name())
}

// progress answers how far an upload is and where it goes on.
func (g *Registry) progress(w http.ResponseWriter, r *http.Request, u *upload, status int) {
	location := "/v2/" + u.repository + "/blobs/uploads/" + u.id
	if g.o.Location != RelativeLocation {
		location = scheme(r) + "://" + r.Host + location
	}
	if g.o.Location == QueryLocation {
		location += fmt.Sprintf("?_state=%s.%d", u.id, u.size)
	}
	h := w.Header()
	h.Set("Location", location)
	h.Set("Docker-Upload-Uuid", u.id)
	h.Set("Range", fmt.Sprintf("0-%d", max(u.size-1, 0)))
	h.Set("Content-Length", "0")
	w.WriteHeader(status)
}

// serveUpload goes on with a session.
func (g *Registry) serveUpload(w http.ResponseWriter, r *http.Request, t target) {
	g.mu.Lock()
	u := g.uploads[t.reference]
	g.mu.Unlock()
	if u == nil || u.repository != t.repository {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", nil)
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.over {
		refuse(w, http.StatusNotFound, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry", nil)
		return
	}
	if state := fmt.Sprintf("%s.%d", u.id, u.size); g.o.Location == QueryLocation && r.URL.Query().Get("_state") != state {
		refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "the upload's state is missing or stale", nil)
		return
	}
	switch t.step {
	case StepUploadStatus:
		g.progress(w, r, u, http.StatusNoContent)
	case StepUploadCancel:
		g.forget(u)
		u.end()
		w.WriteHeader(http.StatusNoContent)
	case StepUploadChunk:
		if g.takeChunk(w, r, u) {
			g.progress(w, r, u, http.StatusAccepted)
		}
	case StepUploadFinish:
		if g.takeChunk(w, r, u) {
			g.forget(u)
			g.finish(w, u, r.URL.Query().Get("digest"))
		}
	}
}

func (g *Registry) forget(u *upload) {
	g.mu.Lock()
	defer g.mu.Unlock()
	delete(g.uploads, u.id)
}

// takeChunk appends a request's body, which must begin where the last one ended when it says where it begins.
// When it is not in order the request has been answered.
func (g *Registry) takeChunk(w http.ResponseWriter, r *http.Request, u *upload) bool {
	if span := r.Header.Get("Content-Range"); span != "" {
		first, last, _ := strings.Cut(strings.TrimPrefix(span, "bytes "), "-")
		from, err := strconv.ParseInt(first, 10, 64)
		to, err2 := strconv.ParseInt(last, 10, 64)
		if err != nil || err2 != nil || from != u.size || r.ContentLength >= 0 && to-from+1 != r.ContentLength {
			g.progress(w, r, u, http.StatusRequestedRangeNotSatisfiable)
			return false
		}
	}
	if !u.take(r.Body) {
		g.forget(u)
		u.end()
		refuse(w, http.StatusBadRequest, "BLOB_UPLOAD_INVALID", "blob upload invalid", nil)
		return false
	}
	return true
}

// finish makes a blob of an upload when the digest is right, and ends the session in any case.
func (g *Registry) finish(w http.ResponseWriter, u *upload, digest string) {
	defer u.end()
	actual := "sha256:" + hex.EncodeToString(u.hash.Sum(nil))
	if digest != actual {
		refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content",
			map[string]any{"digest": digest})
		return
	}
	if err := os.Rename(u.file.Name(), filepath.Join(filepath.Dir(u.file.Name()), blobFile(digest))); err != nil {
		refuse(w, http.StatusInternalServerError, "UNKNOWN", "the blob could not be kept", nil)
		return
	}
	g.mu.Lock()
	g.repository(u.repository).blobs[digest] = u.size
	g.mu.Unlock()
	created(w, u.repository, digest)
}

func created(w http.ResponseWriter, repositoryName, digest string) {
	w.Header().Set("Location", "/v2/"+repositoryName+"/blobs/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// serveTags lists a repository's tags, by pages when asked for them.
func (g *Registry) serveTags(w http.ResponseWriter, r *http.Request, t target) {
	if t.reference != "list" {
		http.NotFound(w, r)
		return
	}
	tags, known := g.tagsOf(t.repository)
	if !known {
		nameUnknown(w, t.repository)
		return
	}
	q := r.URL.Query()
	if last := q.Get("last"); last != "" {
		tags = after(tags, last)
	}
	if n, err := strconv.Atoi(q.Get("n")); err == nil && n >= 0 && n < len(tags) {
		tags = tags[:n]
		if n > 0 {
			w.Header().Set("Link", fmt.Sprintf("</v2/%s/tags/list?n=%d&last=%s>; rel=\"next\"", t.repository, n, tags[n-1]))
		}
	}
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"name": t.repository, "tags": tags})
}
