package sandbox

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"mime"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// maxManifest is the size of a manifest that a registry must take, in bytes; this one takes no more.
const maxManifest = 4 << 20

// The media types of manifests.
const (
	ociIndex       = "application/vnd.oci.image.index.v1+json"
	ociManifest    = "application/vnd.oci.image.manifest.v1+json"
	dockerList     = "application/vnd.docker.distribution.manifest.list.v2+json"
	dockerManifest = "application/vnd.docker.distribution.manifest.v2+json"
)

func digestOf(raw []byte) string {
	sum := sha256.Sum256(raw)
	return "sha256:" + hex.EncodeToString(sum[:])
}

// tagsOf are a repository's tags in order; it is known when anything is in it.
func (g *Registry) tagsOf(name string) (tags []string, known bool) {
	g.mu.Lock()
	defer g.mu.Unlock()
	r := g.repositories[name]
	if r == nil {
		return nil, false
	}
	return slices.Sorted(maps.Keys(r.tags)), true
}

// after returns the tags that come after last.
func after(tags []string, last string) []string {
	i, found := slices.BinarySearch(tags, last)
	if found {
		i++
	}
	return tags[i:]
}

func (g *Registry) serveManifest(w http.ResponseWriter, r *http.Request, t target) {
	g.mu.Lock()
	repo := g.repositories[t.repository]
	digest := t.reference
	var m manifest
	found := false
	if repo != nil {
		if tagged, ok := repo.tags[t.reference]; ok {
			digest = tagged
		}
		m, found = repo.manifests[digest]
	}
	g.mu.Unlock()
	switch {
	case repo == nil:
		nameUnknown(w, t.repository)
		return
	case !found:
		refuse(w, http.StatusNotFound, "MANIFEST_UNKNOWN", "manifest unknown",
			map[string]any{"name": t.repository, "reference": t.reference})
		return
	}
	w.Header().Set("Content-Type", m.mediaType)
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Length", strconv.Itoa(len(m.raw)))
	w.WriteHeader(http.StatusOK)
	if r.Method == http.MethodGet {
		_, _ = w.Write(m.raw)
	}
}

// descriptor is a reference from one manifest to a blob or another manifest.
type descriptor struct {
	MediaType string   `json:"mediaType"`
	Digest    string   `json:"digest"`
	Size      int64    `json:"size"`
	URLs      []string `json:"urls"`
}

// document is what all sorts of manifests may hold.
type document struct {
	SchemaVersion int          `json:"schemaVersion"`
	MediaType     string       `json:"mediaType"`
	Config        *descriptor  `json:"config"`
	Layers        []descriptor `json:"layers"`
	Manifests     []descriptor `json:"manifests"`
}

// putManifest takes a manifest when everything that it names is there already.
func (g *Registry) putManifest(w http.ResponseWriter, r *http.Request, t target) {
	raw, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxManifest))
	if err != nil {
		refuse(w, http.StatusRequestEntityTooLarge, "SIZE_INVALID", "the manifest is too large", nil)
		return
	}
	digest := digestOf(raw)
	if strings.Contains(t.reference, ":") {
		if t.reference != digest {
			refuse(w, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content", t.reference)
			return
		}
	} else if !tagGrammar.MatchString(t.reference) {
		refuse(w, http.StatusBadRequest, "TAG_INVALID", "manifest tag did not match URI", t.reference)
		return
	}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	d, err := parseDocument(raw, mediaType)
	if err != nil {
		refuse(w, http.StatusBadRequest, "MANIFEST_INVALID", "manifest invalid", err.Error())
		return
	}

	g.mu.Lock()
	defer g.mu.Unlock()
	repo := g.repositories[t.repository]
	if missing := repo.missing(d); missing != "" {
		refuse(w, http.StatusBadRequest, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", map[string]any{"digest": missing})
		return
	}
	repo = g.repository(t.repository)
	if t.reference != digest {
		if old, there := repo.tags[t.reference]; there && old != digest && g.o.ImmutableTags {
			refuse(w, http.StatusBadRequest, "TAG_INVALID", fmt.Sprintf("The image tag '%s' already exists in the '%s' repository "+
				"and cannot be overwritten because the repository is immutable.", t.reference, t.repository), nil)
			return
		}
		repo.tags[t.reference] = digest
	}
	repo.manifests[digest] = manifest{mediaType: mediaType, raw: raw}
	w.Header().Set("Location", "/v2/"+t.repository+"/manifests/"+digest)
	w.Header().Set("Docker-Content-Digest", digest)
	w.Header().Set("Content-Length", "0")
	w.WriteHeader(http.StatusCreated)
}

// parseDocument reads a manifest of the media type that the request names.
func parseDocument(raw []byte, mediaType string) (document, error) {
	var d document
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(&d); err != nil {
		return d, fmt.Errorf("not JSON: %w", err)
	}
	if d.SchemaVersion != 2 {
		return d, fmt.Errorf("schemaVersion is %d, not 2", d.SchemaVersion)
	}
	docker := mediaType == dockerList || mediaType == dockerManifest
	if d.MediaType != mediaType && (d.MediaType != "" || docker) {
		return d, fmt.Errorf("mediaType is %q, the request says %q", d.MediaType, mediaType)
	}
	switch mediaType {
	case ociManifest, dockerManifest:
		if d.Config == nil || d.Manifests != nil {
			return d, fmt.Errorf("an image manifest has a config and no manifests")
		}
	case ociIndex, dockerList:
		if d.Config != nil || d.Layers != nil {
			return d, fmt.Errorf("an index has neither config nor layers")
		}
	default:
		return d, fmt.Errorf("media type %q is not supported", mediaType)
	}
	return d, nil
}

// missing returns the first digest that the manifest names and the repository does not have with the size that it
// names, or "". A nil repository has nothing. Layers that name URLs live elsewhere.
func (r *repository) missing(d document) string {
	if r == nil {
		r = &repository{}
	}
	blobs := d.Layers
	if d.Config != nil {
		blobs = append([]descriptor{*d.Config}, blobs...)
	}
	for _, b := range blobs {
		if size, ok := r.blobs[b.Digest]; (!ok || size != b.Size) && len(b.URLs) == 0 {
			return b.Digest
		}
	}
	for _, c := range d.Manifests {
		if m, ok := r.manifests[c.Digest]; !ok || int64(len(m.raw)) != c.Size {
			return c.Digest
		}
	}
	return ""
}
