package registry

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/partial"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

const signInPage = "<html><title>Sign in</title></html>"

// TestWebPageIsNoRegistry: a proxy or a sign-in page that answers everything with 200.
func TestWebPageIsNoRegistry(t *testing.T) {
	t.Parallel()
	page := answer(200, signInPage, "Content-Type", "text/html; charset=utf-8")
	f := newFake(t).always(atPing, page)
	c, _, log := f.client(Options{Username: "u", Password: "the-password"})
	_, err := c.Digest(t.Context(), f.repo(), "1")
	wantFault(t, err, fault.RegistryUnreachable, f.host(), "text/html", "instead of")
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.RegistryUnreachable, "text/html")
	wantFault(t, c.Push(t.Context(), f.repo(), randomImage(t, 10, 1), log), fault.RegistryUnreachable, "text/html")
	if n := len(f.requests("")); n != len(f.requests(atPing)) {
		t.Errorf("%d requests, more than pings", n)
	}
	for _, headers := range [][]string{
		{"Content-Type", "application/json"},
		// Some registries have their framework's type on an empty answer.
		{"Content-Type", "text/html", "Docker-Distribution-Api-Version", "registry/2.0"},
	} {
		f := newFake(t).then(atPing, 1, answer(200, "{}", headers...))
		c, _, _ := f.client(Options{})
		if d, err := c.Digest(t.Context(), f.repo(), "1"); d != "" || err != nil {
			t.Errorf("%v: %q, %v", headers, d, err)
		}
	}
}

// TestDigestOfAPage: what is no manifest has no digest, whoever answers with it.
func TestDigestOfAPage(t *testing.T) {
	t.Parallel()
	for _, mediaType := range []string{"text/html", "application/json", ""} {
		page := answer(200, signInPage, "Content-Type", mediaType)
		f := newFake(t).then(atHead, 1, page).then(atGet, 1, page)
		c, _, _ := f.client(Options{})
		d, err := c.Digest(t.Context(), f.repo(), "1")
		wantFault(t, err, fault.RegistryUnreachable, "a manifest", mediaType)
		if d != "" {
			t.Errorf("%s: digest %s", mediaType, d)
		}
	}
}

// TestEndlessTags: a list of tags that goes on, or in a circle, proves nothing.
func TestEndlessTags(t *testing.T) {
	t.Parallel()
	denied := answer(403, code("DENIED", "forbidden"))
	for name, tt := range map[string]struct{ circle, pages int }{"on and on": {1 << 30, maxTagPages}, "in a circle": {3, 4}} {
		f := newFake(t).basic("u", "the-password").then(atHead, 1, denied).then(atGet, 1, denied)
		n := 0
		f.always(atList, func(w http.ResponseWriter, r *http.Request) {
			n++
			w.Header().Set("Link", fmt.Sprintf(`<%s?n=%d>; rel="next"`, r.URL.Path, n%tt.circle))
			_, _ = fmt.Fprint(w, `{"tags":["a"]}`)
		})
		c, _, _ := f.client(Options{Username: "u", Password: "the-password"})
		_, err := c.Digest(t.Context(), f.repo(), "1")
		wantFault(t, err, fault.PushDenied)
		if got := len(f.requests(atList)); got != tt.pages {
			t.Errorf("%s: %d pages read, want %d", name, got, tt.pages)
		}
	}
	f := newFake(t).then(atHead, 1, denied).then(atGet, 1, denied).
		then(atList, 1, answer(200, `{"tags":["a"]}`, "Link", `</v2/acme/source-erp/tags/list?n=2>; rel="next"`)).
		then(atList, 1, answer(200, `{"tags":["b"]}`))
	c, _, _ := f.client(Options{})
	if d, err := c.Digest(t.Context(), f.repo(), "1"); d != "" || err != nil {
		t.Errorf("two pages: %q, %v", d, err)
	}
}

// TestLyingMount: a registry that answers 201 to any mount, whether it has the blob or not.
func TestLyingMount(t *testing.T) {
	t.Parallel()
	first := "/acme/one"
	f := newFake(t)
	c, _, log := f.client(Options{Jobs: 1})
	a := randomImage(t, 1000, 2)
	if err := publish(t.Context(), c, image.Repository(f.host()+first), "1", a, log); err != nil {
		t.Fatal(err)
	}
	mounts := 0
	lie := func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Query().Get("mount") == "" {
			f.serve(atPost, w, r)
			return
		}
		mounts++
		w.WriteHeader(http.StatusCreated)
	}
	f.always(atPost, lie)
	content := map[string]string{}
	config, err := partial.ConfigLayer(a.Image)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range append(layersOf(t, a.Image), config) {
		rc, err := l.Compressed()
		if err != nil {
			t.Fatal(err)
		}
		b, err := io.ReadAll(rc)
		if err != nil {
			t.Fatal(err)
		}
		content[sum(b)] = string(b)
	}
	f.always(atGetBlob, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.WriteString(w, content[blobPath.FindStringSubmatch(r.URL.Path)[2]])
	})
	// By what this run has pushed, and by the image that it has opened.
	if err := publish(t.Context(), c, image.Repository(f.host()+"/acme/two"), "1", a, log); err != nil {
		t.Error(err)
	}
	other, _, otherLog := f.client(Options{Jobs: 1})
	opened, err := other.Open(t.Context(), f.host()+first+":1")
	if err != nil {
		t.Fatal(err)
	}
	if err := publish(t.Context(), other, image.Repository(f.host()+"/acme/three"), "1", opened, otherLog); err != nil {
		t.Error(err)
	}
	if mounts != 6 {
		t.Errorf("%d mounts, want one of each blob in each push", mounts)
	}
	for _, l := range []*recorder{log, otherLog} {
		if !strings.Contains(l.String(), "pushing once more") || !strings.Contains(l.String(), "in 3 blobs, mounted 0 blobs") {
			t.Errorf("log:\n%s", l)
		}
	}
}

// TestMountIsNoProof: where a blob was only said to be mounted, nothing is mounted from.
func TestMountIsNoProof(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, log := f.client(Options{Jobs: 1})
	a := randomImage(t, 1000, 1)
	one := image.Repository(f.host() + "/acme/one")
	if err := publish(t.Context(), c, one, "1", a, log); err != nil {
		t.Fatal(err)
	}
	other, _, otherLog := f.client(Options{Jobs: 1})
	opened, err := other.Open(t.Context(), string(one)+":1")
	if err != nil {
		t.Fatal(err)
	}
	if err := publish(t.Context(), other, image.Repository(f.host()+"/acme/two"), "1", opened, otherLog); err != nil {
		t.Fatal(err)
	}
	other.blobs.Range(func(key, repo any) bool {
		t.Errorf("%v counts as being in %v", key, repo)
		return true
	})
	if !strings.Contains(otherLog.String(), "mounted 2 blobs") {
		t.Errorf("log:\n%s", otherLog)
	}
}
