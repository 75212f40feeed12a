package sandbox

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// serveRegistry starts a registry and returns it with its host and port.
func serveRegistry(t *testing.T, o RegistryOptions) (*Registry, string) {
	t.Helper()
	o.Dir = t.TempDir()
	g := NewRegistry(o)
	s := httptest.NewServer(g)
	t.Cleanup(func() {
		s.Close()
		if err := g.Close(); err != nil {
			t.Error(err)
		}
	})
	return g, strings.TrimPrefix(s.URL, "http://")
}

func reference(t *testing.T, s string) name.Reference {
	t.Helper()
	ref, err := name.ParseReference(s)
	if err != nil {
		t.Fatal(err)
	}
	return ref
}

func randomImage(t *testing.T, size, layers int64) v1.Image {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func digest(t *testing.T, x interface{ Digest() (v1.Hash, error) }) string {
	t.Helper()
	h, err := x.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

var anna = RegistryUser{Name: "anna", Password: "anna-password-4711"}
var reader = RegistryUser{Name: "reader", Password: "reader-password-4711", ReadOnly: true}

func as(u RegistryUser) remote.Option {
	return remote.WithAuth(&authn.Basic{Username: u.Name, Password: u.Password})
}

// quick makes the library try once.
var quick = remote.WithRetryBackoff(remote.Backoff{Duration: time.Millisecond, Steps: 1})

func TestRegistryPushAndPull(t *testing.T) {
	t.Parallel()
	users := []RegistryUser{anna, reader}
	for name, o := range map[string]RegistryOptions{
		"open":              {},
		"basic":             {Auth: RegistryAuth{Mode: RegistryBasic, Users: users}},
		"bearer":            {Auth: RegistryAuth{Mode: RegistryBearer, Users: users}},
		"absolute location": {Location: AbsoluteLocation},
		"query location":    {Location: QueryLocation},
		"immutable tags":    {ImmutableTags: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, host := serveRegistry(t, o)
			img := randomImage(t, 3000, 3)
			ref := reference(t, host+"/acme/source-x:1.0.0")
			if err := remote.Write(ref, img, as(anna)); err != nil {
				t.Fatal(err)
			}
			back, err := remote.Image(ref, as(reader))
			if err != nil {
				t.Fatal(err)
			}
			if err := validate.Image(back); err != nil {
				t.Fatal(err)
			}
			if got, want := digest(t, back), digest(t, img); got != want {
				t.Errorf("digest %s, want %s", got, want)
			}
			if got := g.Tag("acme/source-x", "1.0.0"); got != digest(t, img) {
				t.Errorf("Tag() = %s", got)
			}
			tags, err := remote.List(ref.Context(), as(reader))
			if err != nil || len(tags) != 1 || tags[0] != "1.0.0" {
				t.Errorf("tags = %v, %v", tags, err)
			}
		})
	}
}

func TestRegistryIndex(t *testing.T) {
	t.Parallel()
	_, host := serveRegistry(t, RegistryOptions{})
	idx, err := random.Index(2000, 2, 2)
	if err != nil {
		t.Fatal(err)
	}
	ref := reference(t, host+"/acme/source-x:1.0.0")
	if err := remote.WriteIndex(ref, idx); err != nil {
		t.Fatal(err)
	}
	back, err := remote.Index(ref)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(back); err != nil {
		t.Fatal(err)
	}
	docker := mutate.IndexMediaType(mutate.AppendManifests(empty.Index, mutate.IndexAddendum{Add: randomImage(t, 500, 1)}), types.DockerManifestList)
	if err := remote.WriteIndex(reference(t, host+"/acme/source-x:2.0.0"), docker); err != nil {
		t.Fatal(err)
	}
}

func TestRegistryMount(t *testing.T) {
	t.Parallel()
	for name, auth := range map[string]RegistryAuth{
		"open":   {},
		"bearer": {Mode: RegistryBearer, Users: []RegistryUser{anna}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, host := serveRegistry(t, RegistryOptions{Auth: auth})
			first := reference(t, host+"/acme/source-x:1.0.0")
			if err := remote.Write(first, randomImage(t, 3000, 2), as(anna)); err != nil {
				t.Fatal(err)
			}
			from, err := remote.Image(first, as(anna))
			if err != nil {
				t.Fatal(err)
			}
			chunks := g.Count(StepUploadChunk)
			if err := remote.Write(reference(t, host+"/acme/source-y:1.0.0"), from, as(anna)); err != nil {
				t.Fatal(err)
			}
			if got := g.Count(StepUploadChunk) - chunks; got != 0 {
				t.Errorf("%d blobs sent, want all mounted", got)
			}
		})
	}
}

func TestRegistryImmutableTag(t *testing.T) {
	t.Parallel()
	_, host := serveRegistry(t, RegistryOptions{ImmutableTags: true})
	ref := reference(t, host+"/acme/source-x:1.0.0")
	img := randomImage(t, 100, 1)
	for range 2 {
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
	}
	if err := remote.Write(ref, randomImage(t, 100, 1), quick); err == nil || !strings.Contains(err.Error(), "TAG_INVALID") {
		t.Errorf("error %v, want TAG_INVALID", err)
	}
}

func TestRegistryRedirectsBlobs(t *testing.T) {
	t.Parallel()
	g, host := serveRegistry(t, RegistryOptions{Auth: RegistryAuth{Mode: RegistryBasic, Users: []RegistryUser{anna}}})
	blobs := httptest.NewServer(g.BlobHost())
	t.Cleanup(blobs.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(blobs.URL, "http://"), ":")
	g.o.RedirectBlobs = "http://localhost:" + port
	ref := reference(t, host+"/acme/source-x:1.0.0")
	if err := remote.Write(ref, randomImage(t, 3000, 2), as(anna)); err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(ref, as(anna))
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(img); err != nil {
		t.Fatal(err)
	}
	if g.Count(StepBlobHost) == 0 {
		t.Error("no blob came from the other host")
	}
	for _, r := range g.Requests() {
		if r.Step == StepBlobHost && r.Scheme != "" {
			t.Errorf("%s had authorization %q", r.Path, r.Scheme)
		}
	}
	resp := call(t, "GET", blobs.URL+"/"+digestOf([]byte("x"))+"?signature=1", "", "Authorization", "Basic eDp5")
	if resp.StatusCode != http.StatusBadRequest {
		t.Errorf("a request with Authorization got %d, want 400", resp.StatusCode)
	}
}

func TestRegistryFaults(t *testing.T) {
	t.Parallel()
	img := randomImage(t, 100, 1)
	try := func(t *testing.T, f Fault, o ...remote.Option) (*Registry, error) {
		t.Helper()
		g, host := serveRegistry(t, RegistryOptions{Faults: []Fault{f}, Warning: "soon gone"})
		return g, remote.Write(reference(t, host+"/acme/source-x:1.0.0"), img, append(o, quick)...)
	}
	t.Run("answer", func(t *testing.T) {
		t.Parallel()
		_, err := try(t, Fault{At: string(StepUploadStart), Status: 403, Body: `{"errors":[{"code":"DENIED","message":"no"}]}`})
		if err == nil || !strings.Contains(err.Error(), "DENIED") {
			t.Errorf("error %v", err)
		}
	})
	t.Run("hang up", func(t *testing.T) {
		t.Parallel()
		g, err := try(t, Fault{At: string(StepUploadStart), Kind: DropBeforeWork, Times: -1})
		if err == nil || !strings.Contains(err.Error(), "EOF") {
			t.Errorf("error %v", err)
		}
		for _, r := range g.Requests() {
			if r.Step == StepUploadStart && r.Status != 0 {
				t.Errorf("status %d of a dropped request", r.Status)
			}
		}
	})
	t.Run("retry after", func(t *testing.T) {
		t.Parallel()
		g, host := serveRegistry(t, RegistryOptions{Warning: "soon gone", Faults: []Fault{{At: string(StepManifestHead), Skip: 1,
			Status: 429, Header: http.Header{"retry-after": {"7"}}}}})
		url := "http://" + host + "/v2/acme/x/manifests/1"
		for i, want := range []int{404, 429, 404} {
			resp := call(t, "HEAD", url, "")
			if resp.StatusCode != want || (resp.Header.Get("Retry-After") == "7") != (want == 429) {
				t.Errorf("request %d: %d, Retry-After %q", i, resp.StatusCode, resp.Header.Get("Retry-After"))
			}
			if got := resp.Header.Get("Warning"); got != `299 - "soon gone"` {
				t.Errorf("Warning %q", got)
			}
		}
		if got := g.Count(StepManifestHead); got != 3 {
			t.Errorf("%d requests counted", got)
		}
	})
	t.Run("work done, no answer", func(t *testing.T) {
		t.Parallel()
		g, err := try(t, Fault{At: string(StepManifestPut), Kind: DropAfterWork})
		if err == nil {
			t.Error("no error")
		}
		if got := g.Tag("acme/source-x", "1.0.0"); got != digest(t, img) {
			t.Errorf("the tag is %q: the work was not done", got)
		}
	})
	t.Run("corrupt digest", func(t *testing.T) {
		t.Parallel()
		_, host := serveRegistry(t, RegistryOptions{Faults: []Fault{{At: string(StepManifestHead), Skip: 1, Times: -1, Kind: CorruptDigest}}})
		ref := reference(t, host+"/acme/source-x:1.0.0")
		if err := remote.Write(ref, img); err != nil {
			t.Fatal(err)
		}
		d, err := remote.Head(ref)
		if err != nil || d.Digest.Hex != zeros {
			t.Errorf("digest %v, %v", d, err)
		}
	})
	t.Run("slow", func(t *testing.T) {
		t.Parallel()
		begin := time.Now()
		if _, err := try(t, Fault{At: string(StepPing), Kind: Slow, Delay: 60 * time.Millisecond}); err != nil || time.Since(begin) < 60*time.Millisecond {
			t.Errorf("after %s: %v", time.Since(begin), err)
		}
	})
}

// call sends one request; header is a list of names and values.
// code is the first error code of an answer.
