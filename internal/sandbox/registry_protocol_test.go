package sandbox

import (
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
)

func call(t *testing.T, method, url, body string, header ...string) *http.Response {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	client := &http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	resp.Body = io.NopCloser(bytes.NewReader(raw))
	return resp
}

func code(t *testing.T, resp *http.Response) string {
	t.Helper()
	var e struct {
		Errors []struct{ Code string }
	}
	if err := json.NewDecoder(resp.Body).Decode(&e); err != nil || len(e.Errors) == 0 {
		return ""
	}
	return e.Errors[0].Code
}

func TestRegistryUploads(t *testing.T) {
	t.Parallel()
	for _, style := range []LocationStyle{RelativeLocation, AbsoluteLocation, QueryLocation} {
		t.Run(strconv.Itoa(int(style)), func(t *testing.T) {
			t.Parallel()
			g, host := serveRegistry(t, RegistryOptions{Location: style})
			base := "http://" + host
			start := base + "/v2/acme/x/blobs/uploads/"
			at := func(resp *http.Response) string {
				l := resp.Header.Get("Location")
				if strings.HasPrefix(l, "/") != (style == RelativeLocation) || strings.Contains(l, "?") != (style == QueryLocation) {
					t.Errorf("Location %q", l)
				}
				if style == RelativeLocation {
					return base + l
				}
				return l
			}
			content := "hello, registry"
			resp := call(t, "POST", start, "")
			if resp.StatusCode != 202 {
				t.Fatal(resp.Status)
			}
			first := at(resp)
			resp = call(t, "PATCH", first, content[:5], "Content-Range", "0-4")
			if resp.StatusCode != 202 || resp.Header.Get("Range") != "0-4" {
				t.Fatal(resp.Status, resp.Header)
			}
			second := at(resp)
			if resp = call(t, "PATCH", second, content[:5], "Content-Range", "0-4"); resp.StatusCode != 416 {
				t.Errorf("a chunk out of order got %s", resp.Status)
			}
			if resp = call(t, "GET", second, ""); resp.StatusCode != 204 || resp.Header.Get("Range") != "0-4" {
				t.Errorf("status %s, range %q", resp.Status, resp.Header.Get("Range"))
			}
			if style == QueryLocation {
				if resp = call(t, "PATCH", first, content[5:]); code(t, resp) != "BLOB_UPLOAD_INVALID" {
					t.Errorf("a stale state got %s", resp.Status)
				}
			}
			sep := map[bool]string{true: "&", false: "?"}[style == QueryLocation]
			d := digestOf([]byte(content))
			resp = call(t, "PUT", second+sep+"digest="+d, content[5:], "Content-Range", fmt.Sprintf("5-%d", len(content)-1))
			if resp.StatusCode != 201 || resp.Header.Get("Docker-Content-Digest") != d {
				t.Fatal(resp.Status, resp.Header)
			}
			if resp = call(t, "GET", base+"/v2/acme/x/blobs/"+d, "", "Range", "bytes=7-9"); resp.StatusCode != 206 || text(t, resp) != "reg" {
				t.Errorf("a range got %s", resp.Status)
			}
			if resp = call(t, "HEAD", base+"/v2/acme/x/blobs/"+d, ""); resp.ContentLength != int64(len(content)) {
				t.Errorf("HEAD length %d", resp.ContentLength)
			}
			if resp = call(t, "GET", second, ""); code(t, resp) != "BLOB_UPLOAD_UNKNOWN" {
				t.Errorf("an ended session got %s", resp.Status)
			}
			// A session that was cancelled leaves nothing.
			resp = call(t, "POST", start, "")
			if resp = call(t, "DELETE", at(resp), ""); resp.StatusCode != 204 {
				t.Errorf("cancel got %s", resp.Status)
			}
			entries, err := os.ReadDir(g.dir)
			if err != nil || len(entries) != 1 {
				t.Errorf("%v on disk, %v", entries, err)
			}
		})
	}
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestRegistryRefuses(t *testing.T) {
	t.Parallel()
	_, host := serveRegistry(t, RegistryOptions{})
	base := "http://" + host + "/v2/"
	content := `{"architecture":"amd64","os":"linux"}`
	d := digestOf([]byte(content))
	if resp := call(t, "POST", base+"acme/x/blobs/uploads/?digest="+d, content); resp.StatusCode != 201 {
		t.Fatal(resp.Status)
	}
	manifestOf := func(config string, size int) string {
		return fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"config":{"mediaType":"application/vnd.oci.image.config.v1+json","digest":%q,"size":%d},"layers":[]}`,
			ociManifest, config, size)
	}
	good := manifestOf(d, len(content))
	other := digestOf([]byte("other"))
	index := fmt.Sprintf(`{"schemaVersion":2,"mediaType":%q,"manifests":[{"mediaType":%q,"digest":%q,"size":3}]}`, ociIndex, ociManifest, other)
	for _, tc := range []struct {
		name, method, path, mediaType, body string
		status                              int
		code                                string
	}{
		{"unknown repository", "GET", "acme/unknown/manifests/1", "", "", 404, "NAME_UNKNOWN"},
		{"unknown repository's tags", "GET", "acme/unknown/tags/list", "", "", 404, "NAME_UNKNOWN"},
		{"unknown tag", "GET", "acme/x/manifests/1", "", "", 404, "MANIFEST_UNKNOWN"},
		{"unknown blob", "GET", "acme/x/blobs/" + other, "", "", 404, "BLOB_UNKNOWN"},
		{"another repository's blob", "GET", "acme/y/blobs/" + d, "", "", 404, "BLOB_UNKNOWN"},
		{"no digest", "GET", "acme/x/blobs/latest", "", "", 400, "DIGEST_INVALID"},
		{"illegal name", "GET", "Acme/x/manifests/1", "", "", 400, "NAME_INVALID"},
		{"unknown session", "PATCH", "acme/x/blobs/uploads/1", "", "a", 404, "BLOB_UPLOAD_UNKNOWN"},
		{"wrong digest of a blob", "POST", "acme/x/blobs/uploads/?digest=" + other, "", "a", 400, "DIGEST_INVALID"},
		{"missing config", "PUT", "acme/x/manifests/1", ociManifest, manifestOf(other, 5), 400, "MANIFEST_BLOB_UNKNOWN"},
		{"wrong size of config", "PUT", "acme/x/manifests/1", ociManifest, manifestOf(d, 5), 400, "MANIFEST_BLOB_UNKNOWN"},
		{"config in another repository", "PUT", "acme/y/manifests/1", ociManifest, good, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"missing child", "PUT", "acme/x/manifests/1", ociIndex, index, 400, "MANIFEST_BLOB_UNKNOWN"},
		{"wrong digest of a manifest", "PUT", "acme/x/manifests/" + other, ociManifest, good, 400, "DIGEST_INVALID"},
		{"illegal tag", "PUT", "acme/x/manifests/.x", ociManifest, good, 400, "TAG_INVALID"},
		{"media types differ", "PUT", "acme/x/manifests/1", dockerManifest, good, 400, "MANIFEST_INVALID"},
		{"no media type", "PUT", "acme/x/manifests/1", "", good, 400, "MANIFEST_INVALID"},
		{"no JSON", "PUT", "acme/x/manifests/1", ociManifest, "{", 400, "MANIFEST_INVALID"},
		{"schema 1", "PUT", "acme/x/manifests/1", ociManifest, `{"schemaVersion":1}`, 400, "MANIFEST_INVALID"},
		{"an index with layers", "PUT", "acme/x/manifests/1", ociIndex, `{"schemaVersion":2,"layers":[]}`, 400, "MANIFEST_INVALID"},
		{"an image with manifests", "PUT", "acme/x/manifests/1", ociManifest, `{"schemaVersion":2,"manifests":[]}`, 400, "MANIFEST_INVALID"},
		{"too large", "PUT", "acme/x/manifests/1", ociManifest, strings.Repeat(" ", maxManifest+1), 413, "SIZE_INVALID"},
		{"delete", "DELETE", "acme/x/manifests/1", "", "", 405, "UNSUPPORTED"},
		{"catalog", "GET", "_catalog", "", "", 404, ""},
		{"good", "PUT", "acme/x/manifests/1", ociManifest, good, 201, ""},
	} {
		resp := call(t, tc.method, base+tc.path, tc.body, "Content-Type", tc.mediaType)
		if got := code(t, resp); resp.StatusCode != tc.status || got != tc.code {
			t.Errorf("%s: %d %q, want %d %q", tc.name, resp.StatusCode, got, tc.status, tc.code)
		}
	}
	for _, tag := range []string{"3", "2"} {
		call(t, "PUT", base+"acme/x/manifests/"+tag, good, "Content-Type", ociManifest)
	}
	resp := call(t, "GET", base+"acme/x/tags/list?n=2", "")
	if got := strings.TrimSpace(text(t, resp)); got != `{"name":"acme/x","tags":["1","2"]}` || !strings.Contains(resp.Header.Get("Link"), "last=2") {
		t.Errorf("page %s, link %q", got, resp.Header.Get("Link"))
	}
	resp = call(t, "GET", base+"acme/x/tags/list?n=2&last=2", "")
	if got := strings.TrimSpace(text(t, resp)); got != `{"name":"acme/x","tags":["3"]}` || resp.Header.Get("Link") != "" {
		t.Errorf("page %s, link %q", got, resp.Header.Get("Link"))
	}
}

func TestRegistryCountsBytes(t *testing.T) {
	t.Parallel()
	var seen atomic.Int64
	g, host := serveRegistry(t, RegistryOptions{OnRequest: func(r RegistryRequest) { seen.Add(r.BytesIn) }})
	content := strings.Repeat("x", 5000)
	call(t, "POST", "http://"+host+"/v2/acme/x/blobs/uploads/?digest="+digestOf([]byte(content)), content, "Authorization", "Basic eDp5")
	r := g.Requests()[0]
	if r.BytesIn != 5000 || seen.Load() != 5000 || r.Scheme != "Basic" || r.Repository != "acme/x" || r.Status != 201 {
		t.Errorf("request %+v, hook saw %d bytes", r, seen.Load())
	}
	call(t, "GET", "http://"+host+"/v2/acme/x/blobs/"+digestOf([]byte(content)), "")
	if r := g.Requests()[1]; r.BytesOut != 5000 {
		t.Errorf("request %+v", r)
	}
}

func TestRegistryCloseRemovesBlobs(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	g := NewRegistry(RegistryOptions{Dir: dir})
	s := httptest.NewServer(g)
	call(t, "POST", s.URL+"/v2/acme/x/blobs/uploads/?digest="+digestOf([]byte("x")), "x")
	call(t, "POST", s.URL+"/v2/acme/x/blobs/uploads/", "")
	s.Close()
	if entries, _ := os.ReadDir(dir); len(entries) != 1 {
		t.Errorf("%v while it is open", entries)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 0 {
		t.Errorf("%v left, %v", entries, err)
	}
}
