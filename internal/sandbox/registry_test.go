package sandbox

import (
	"bytes"
	"encoding/base64"
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
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
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

func TestRegistryPushDenied(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		auth RegistryAuth
		user RegistryUser
		want string
	}{
		"basic, wrong password":  {RegistryAuth{Mode: RegistryBasic, Users: []RegistryUser{anna}}, RegistryUser{Name: "anna", Password: "no"}, "401 Unauthorized"},
		"basic, read only":       {RegistryAuth{Mode: RegistryBasic, Users: []RegistryUser{reader}}, reader, "DENIED"},
		"bearer, wrong password": {RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{anna}}, RegistryUser{Name: "anna", Password: "no"}, "UNAUTHORIZED"},
		"bearer, read only":      {RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{reader}}, reader, "DENIED"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g, host := serveRegistry(t, RegistryOptions{Auth: tc.auth})
			err := remote.Write(reference(t, host+"/acme/source-x:1.0.0"), randomImage(t, 100, 1), as(tc.user), quick)
			if err == nil || !strings.Contains(err.Error(), tc.want) {
				t.Errorf("error %v, want %s", err, tc.want)
			}
			if n := g.Count(StepUploadChunk); n != 0 {
				t.Errorf("%d uploads were begun", n)
			}
		})
	}
}

func TestRegistryTokenServerElsewhere(t *testing.T) {
	t.Parallel()
	g := NewRegistry(RegistryOptions{Dir: t.TempDir()})
	tokenServer := httptest.NewServer(g.TokenServer())
	t.Cleanup(tokenServer.Close)
	_, port, _ := strings.Cut(strings.TrimPrefix(tokenServer.URL, "http://"), ":")
	// The library refuses a realm whose host is a private address, but takes a name.
	g.o.Auth = RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{anna}, Realm: "http://localhost:" + port + "/auth"}
	s := httptest.NewServer(g)
	t.Cleanup(s.Close)
	ref := reference(t, strings.TrimPrefix(s.URL, "http://")+"/acme/source-x:1.0.0")
	if err := remote.Write(ref, randomImage(t, 100, 1), as(anna)); err != nil {
		t.Fatal(err)
	}
	if g.Count(StepToken) == 0 {
		t.Error("the token server was not asked")
	}
	for _, r := range g.Requests() {
		if (r.Step == StepToken) != (r.Scheme == "Basic") && r.Step != StepPing {
			t.Errorf("%s %s had authorization %q", r.Method, r.Path, r.Scheme)
		}
	}
}

func TestRegistryTokenExpiry(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	start := time.Now()
	now := func() time.Time { return start.Add(time.Duration(clock.Load())) }
	g, host := serveRegistry(t, RegistryOptions{Now: now, Auth: RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{anna}, Lifetime: time.Minute}})
	ref := reference(t, host+"/acme/source-x:1.0.0")
	if err := remote.Write(ref, randomImage(t, 100, 1), as(anna)); err != nil {
		t.Fatal(err)
	}
	puller, err := remote.NewPuller(as(anna))
	if err != nil {
		t.Fatal(err)
	}
	head := func() {
		t.Helper()
		if _, err := puller.Head(t.Context(), ref); err != nil {
			t.Fatal(err)
		}
	}
	head()
	n := g.Count(StepToken)
	head()
	if g.Count(StepToken) != n {
		t.Error("a good token was not used again")
	}
	clock.Store(int64(2 * time.Minute))
	head()
	if g.Count(StepToken) != n+1 {
		t.Errorf("%d tokens after the first expired, want %d", g.Count(StepToken), n+1)
	}
	g.AddFault(Fault{Kind: ExpireTokens})
	head()
	if g.Count(StepToken) != n+2 {
		t.Errorf("%d tokens after ExpireTokens, want %d", g.Count(StepToken), n+2)
	}
}

func TestRegistryTokenUses(t *testing.T) {
	t.Parallel()
	g, host := serveRegistry(t, RegistryOptions{Auth: RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{anna}, Uses: 1}})
	puller, err := remote.NewPuller(as(anna), quick)
	if err != nil {
		t.Fatal(err)
	}
	ref := reference(t, host+"/acme/source-x:1.0.0")
	for range 3 {
		if _, err := puller.Get(t.Context(), ref); err == nil || !strings.Contains(err.Error(), "NAME_UNKNOWN") {
			t.Fatal(err)
		}
	}
	if n := g.Count(StepToken); n != 3 {
		t.Errorf("%d tokens for 3 requests, want 3", n)
	}
}

func TestRegistryMountNeedsPull(t *testing.T) {
	t.Parallel()
	_, host := serveRegistry(t, RegistryOptions{Auth: RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{anna}}})
	token := func(scope string) string {
		var answer struct{ Token string }
		resp := call(t, "GET", "http://"+host+"/token?scope="+scope, "", "Authorization", basic(anna))
		if err := json.NewDecoder(resp.Body).Decode(&answer); err != nil {
			t.Fatal(err)
		}
		return "Bearer " + answer.Token
	}
	d := digestOf([]byte("x"))
	uploads := "http://" + host + "/v2/acme/%s/blobs/uploads/?%s"
	resp := call(t, "POST", fmt.Sprintf(uploads, "x", "digest="+d), "x", "Authorization", token("repository:acme/x:push"))
	if resp.StatusCode != 201 {
		t.Fatal(resp.Status)
	}
	mount := fmt.Sprintf(uploads, "y", "mount="+d+"&from=acme/x")
	if resp = call(t, "POST", mount, "", "Authorization", token("repository:acme/y:push")); resp.StatusCode != 202 {
		t.Errorf("without the right to pull: %s, want an upload", resp.Status)
	}
	both := token("repository:acme/y:push&scope=repository:acme/x:pull")
	if resp = call(t, "POST", mount, "", "Authorization", both); resp.StatusCode != 201 {
		t.Errorf("with the right to pull: %s, want a mount", resp.Status)
	}
	resp = call(t, "POST", mount, "", "Authorization", token("repository:acme/y:pull"))
	if resp.StatusCode != 401 || !strings.Contains(resp.Header.Get("WWW-Authenticate"), `error="insufficient_scope"`) {
		t.Errorf("a token that never asked for push: %s, %q", resp.Status, resp.Header.Get("WWW-Authenticate"))
	}
}

func basic(u RegistryUser) string {
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(u.Name+":"+u.Password))
}

func TestRegistryIdentityToken(t *testing.T) {
	t.Parallel()
	_, host := serveRegistry(t, RegistryOptions{Auth: RegistryAuth{Mode: RegistryBearer, Users: []RegistryUser{anna}, IdentityToken: "refresh-4711"}})
	ref := reference(t, host+"/acme/source-x:1.0.0")
	if err := remote.Write(ref, randomImage(t, 100, 1), remote.WithAuth(authn.FromConfig(authn.AuthConfig{IdentityToken: "refresh-4711"}))); err != nil {
		t.Fatal(err)
	}
	if _, err := remote.Head(ref, remote.WithAuth(authn.FromConfig(authn.AuthConfig{IdentityToken: "other"})), quick); err == nil {
		t.Error("a wrong refresh token was taken")
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

// code is the first error code of an answer.
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
