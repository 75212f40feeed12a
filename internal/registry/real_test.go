package registry

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

const password = "correct-horse-battery"

func basicRegistry(t *testing.T) *registrytest.Registry {
	return registrytest.Start(t, registrytest.Config{Users: map[string]string{"alice": password}})
}

// summary is what the registry was asked, without the ping's and uploads' details.
func summary(requests []registrytest.Request, from int) []string {
	var all []string
	for _, r := range requests[from:] {
		s := r.String()
		if i := strings.Index(s, "/blobs/uploads/"); i >= 0 {
			s = s[:i] + "/blobs/uploads" + s[strings.LastIndexByte(s, ' '):]
		}
		all = append(all, s)
	}
	return all
}

func TestRealPublishAndAgain(t *testing.T) {
	t.Parallel()
	r := basicRegistry(t)
	var log recorder
	o := Options{Username: "alice", Password: password, Hosts: []string{r.Addr}, PlainHTTP: true, Log: log.add}
	c := New(o)
	ctx := t.Context()
	repo := image.Repository(r.Addr + "/acme/source-erp")
	a := randomImage(t, 4096, 2)

	if err := c.CheckPush(ctx, repo); err != nil {
		t.Fatal(err)
	}
	if d, err := c.Digest(ctx, repo, "1.0.0"); err != nil || d != "" {
		t.Fatalf("Digest = %q, %v; want none", d, err)
	}
	if err := publish(ctx, c, repo, "1.0.0", a, &log); err != nil {
		t.Fatal(err)
	}
	if d, err := c.Digest(ctx, repo, "1.0.0"); err != nil || d != digestOf(t, a) {
		t.Fatalf("Digest = %q, %v; want %s", d, err, digestOf(t, a))
	}
	got, err := c.Open(ctx, string(repo)+":1.0.0")
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(got.Image); err != nil {
		t.Errorf("what was pushed is not whole: %v", err)
	}
	requests := r.Requests(t)
	last := -1
	for i, q := range requests {
		if q.Method == "PUT" {
			last = i
		}
	}
	if got := requests[last].Path; got != "/v2/acme/source-erp/manifests/1.0.0" {
		t.Errorf("the last write is %s, want the tag", got)
	}
	pings := 0
	for _, q := range requests {
		if q.Path == "/v2/" {
			pings++
		}
	}
	if pings != 1 {
		t.Errorf("%d pings, want 1", pings)
	}

	// A second run: an unchanged publish costs the ping and one HEAD.
	before := len(r.Requests(t))
	if d, err := New(o).Digest(ctx, repo, "1.0.0"); err != nil || d != digestOf(t, a) {
		t.Fatalf("Digest = %q, %v", d, err)
	}
	want := []string{"GET /v2/ 401", "HEAD /v2/acme/source-erp/manifests/1.0.0 200"}
	if got := summary(r.Requests(t), before); !slices.Equal(got, want) {
		t.Errorf("the second run asked %q, want %q", got, want)
	}
	// What is there already is found by one HEAD.
	before = len(r.Requests(t))
	if err := New(o).Push(ctx, repo, a, &log); err != nil {
		t.Fatal(err)
	}
	want = []string{"GET /v2/ 401", "HEAD /v2/acme/source-erp/manifests/" + digestOf(t, a) + " 200"}
	if got := summary(r.Requests(t), before); !slices.Equal(got, want) {
		t.Errorf("pushing again asked %q, want %q", got, want)
	}
	if n := strings.Count(log.String(), r.Addr+`: using the inputs registry-username and registry-password (user "alice")`); n != 3 {
		t.Errorf("the log says %d times how three clients signed in:\n%s", n, log.String())
	}
	for _, s := range []string{"pushed 0.0 MB in 3 blobs, mounted 0 blobs, already there 0 blobs", "has the image already"} {
		if strings.Count(log.String(), s) != 1 {
			t.Errorf("the log does not say once %q:\n%s", s, log.String())
		}
	}
	if strings.Contains(log.String(), password) {
		t.Error("the log holds the password")
	}
}

func TestRealCheckPushIsRemembered(t *testing.T) {
	t.Parallel()
	r := basicRegistry(t)
	c := New(Options{Username: "alice", Password: password, Hosts: []string{r.Addr}, PlainHTTP: true})
	repo := image.Repository(r.Addr + "/acme/source-erp")
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			if err := c.CheckPush(t.Context(), repo); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	want := []string{"GET /v2/ 401", "POST /v2/acme/source-erp/blobs/uploads 202", "DELETE /v2/acme/source-erp/blobs/uploads 204"}
	if got := summary(r.Requests(t), 0); !slices.Equal(got, want) {
		t.Errorf("asked %q, want %q", got, want)
	}
	// docker-registry itself leaves hash states of an upload behind; its start is what makes it one.
	uploads, err := filepath.Glob(filepath.Join(r.Dir, "docker/registry/v2/repositories/acme/source-erp/_uploads/*/startedat"))
	if err != nil || len(uploads) != 0 {
		t.Errorf("uploads are left open: %v, %v", uploads, err)
	}
}

func TestRealIndexChildrenFirst(t *testing.T) {
	t.Parallel()
	r := basicRegistry(t)
	c := New(Options{Username: "alice", Password: password, Hosts: []string{r.Addr}, PlainHTTP: true})
	amd, arm := platformImage(t, "amd64"), platformImage(t, "arm64")
	shared := layersOf(t, amd)[0]
	arm, err := mutate.AppendLayers(arm, shared)
	if err != nil {
		t.Fatal(err)
	}
	idx := mutate.IndexMediaType(mutate.AppendManifests(empty.Index,
		mutate.IndexAddendum{Add: amd, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}}),
		types.OCIImageIndex)
	a := image.Artifact{Index: idx}
	repo := image.Repository(r.Addr + "/acme/source-multi")
	var log recorder
	if err := publish(t.Context(), c, repo, "2.0.0", a, &log); err != nil {
		t.Fatal(err)
	}
	var puts []string
	for _, q := range r.Requests(t) {
		if q.Method == "PUT" && strings.Contains(q.Path, "/manifests/") {
			puts = append(puts, filepath.Base(q.Path))
		}
	}
	amdDigest, _ := amd.Digest()
	armDigest, _ := arm.Digest()
	want := []string{amdDigest.String(), armDigest.String(), digestOf(t, a), "2.0.0"}
	if !slices.Equal(puts, want) {
		t.Errorf("manifests were put as %v, want %v", puts, want)
	}
	// Two layers, two configs: the shared layer is pushed once.
	if !strings.Contains(log.String(), "in 4 blobs, mounted 0 blobs, already there 0 blobs") {
		t.Errorf("log: %s", log.String())
	}
	got, err := c.Open(t.Context(), string(repo)+"@"+digestOf(t, a))
	if err != nil || got.Index == nil {
		t.Fatalf("Open = %v, %v", got, err)
	}
	if err := validate.Index(got.Index); err != nil {
		t.Error(err)
	}
}

func platformImage(t *testing.T, architecture string) v1.Image {
	t.Helper()
	img := randomImage(t, 1000, 1).Image
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config = config.DeepCopy()
	config.OS, config.Architecture = "linux", architecture
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// TestRealMount proves that no layer bytes travel when base and target are on the same registry.
func TestRealMount(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"basic", "token"} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			users := map[string]string{"alice": password}
			config := registrytest.Config{Users: users}
			if kind == "token" {
				config = registrytest.Config{Token: &registrytest.Token{Users: users}}
			}
			r := registrytest.Start(t, config)
			o := Options{Username: "alice", Password: password, Hosts: []string{r.Addr}, PlainHTTP: true}
			ctx := t.Context()
			var log recorder
			base := randomImage(t, 100_000, 3)
			if err := publish(ctx, New(o), image.Repository(r.Addr+"/base/python"), "3.11", base, &log); err != nil {
				t.Fatal(err)
			}
			before := len(r.Requests(t))
			c := New(o)
			opened, err := c.Open(ctx, r.Addr+"/base/python@"+digestOf(t, base))
			if err != nil {
				t.Fatal(err)
			}
			img, err := mutate.AppendLayers(opened.Image, layersOf(t, randomImage(t, 500, 1).Image)...)
			if err != nil {
				t.Fatal(err)
			}
			a := image.Artifact{Image: img}
			if err := publish(ctx, c, image.Repository(r.Addr+"/acme/source-one"), "1.0.0", a, &log); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "in 2 blobs, mounted 3 blobs, already there 0 blobs") {
				t.Errorf("log: %s", log.String())
			}
			// The second connector gets from the first what did not come from the base.
			if err := publish(ctx, c, image.Repository(r.Addr+"/acme/source-two"), "1.0.0", a, &log); err != nil {
				t.Fatal(err)
			}
			if !strings.Contains(log.String(), "pushed 0.0 MB in 0 blobs, mounted 5 blobs, already there 0 blobs") {
				t.Errorf("log: %s", log.String())
			}
			for _, q := range summary(r.Requests(t), before) {
				if strings.HasPrefix(q, "GET ") && strings.Contains(q, "/blobs/") && !strings.Contains(q, configOf(t, base)) {
					t.Errorf("a layer was read: %s", q)
				}
				if kind == "token" && strings.HasSuffix(q, " 401") && !strings.HasPrefix(q, "GET /v2/ ") {
					t.Errorf("a request went out with a token that does not reach: %s", q)
				}
			}
		})
	}
}

func configOf(t *testing.T, a image.Artifact) string {
	t.Helper()
	h, err := a.Image.ConfigName()
	if err != nil {
		t.Fatal(err)
	}
	return h.String()
}

func TestRealCopyBetweenRegistries(t *testing.T) {
	t.Parallel()
	from := registrytest.Start(t, registrytest.Config{TLS: true, Users: map[string]string{"bob": "bobs-secret"}})
	to := basicRegistry(t)
	ctx := t.Context()
	a := randomImage(t, 50_000, 2)
	if err := publish(ctx, New(Options{Username: "bob", Password: "bobs-secret", Hosts: []string{from.Addr}, TLS: from.TLSConfig(t)}),
		image.Repository(from.Addr+"/lib/x"), "1", a, &recorder{}); err != nil {
		t.Fatal(err)
	}
	config := dockerConfigFile(t, map[string]any{"auths": map[string]any{from.Addr: map[string]string{"username": "bob", "password": "bobs-secret"}}})
	c := New(Options{Username: "alice", Password: password, Hosts: []string{to.Addr}, PlainHTTP: true, Getenv: env("DOCKER_CONFIG", config)})
	// The source's authority is nobody's business here, so trust it as a system authority would be.
	trusting := newTransport(from.TLSConfig(t))
	c.others = trusting
	opened, err := c.Open(ctx, from.Addr+"/lib/x:1")
	if err != nil {
		t.Fatal(err)
	}
	var log recorder
	repo := image.Repository(to.Addr + "/acme/copy")
	if err := publish(ctx, c, repo, "1.0.0", opened, &log); err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(log.String(), "pushed 0.1 MB in 3 blobs") {
		t.Errorf("log: %s", log.String())
	}
	if d, err := c.Digest(ctx, repo, "1.0.0"); err != nil || d != digestOf(t, a) {
		t.Errorf("the copy is %s, %v; want %s", d, err, digestOf(t, a))
	}
	gets := 0
	for _, q := range from.Requests(t) {
		if q.Method == "GET" && strings.Contains(q.Path, "/blobs/") {
			gets++
		}
	}
	if gets != 3 {
		t.Errorf("the source was asked for blobs %d times, want each of the 3 once", gets)
	}
	for _, q := range to.Requests(t) {
		if strings.Contains(q.Path, "from=") {
			t.Errorf("a mount from another registry was tried: %s", q)
		}
	}
}

func env(pairs ...string) func(string) string {
	return func(name string) string {
		for i := 0; i < len(pairs); i += 2 {
			if pairs[i] == name {
				return pairs[i+1]
			}
		}
		return ""
	}
}

// dockerConfigFile writes a config.json and returns its folder.
func dockerConfigFile(t *testing.T, content map[string]any) string {
	t.Helper()
	b, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "config.json"), b, 0o600); err != nil {
		t.Fatal(err)
	}
	return dir
}

func TestRealTLS(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{TLS: true, Users: map[string]string{"alice": password}})
	repo := image.Repository(r.Addr + "/acme/source-erp")
	o := Options{Username: "alice", Password: password, Hosts: []string{r.Addr}}

	wantFault(t, New(o).CheckPush(t.Context(), repo), fault.RegistryTLS, "does not know the authority", "registrytest authority", "registry-ca-certificate")

	plain := o
	plain.PlainHTTP = true
	wantFault(t, New(plain).CheckPush(t.Context(), repo), fault.RegistryTLS, "registry-plain-http")

	o.TLS = r.TLSConfig(t)
	if err := publish(t.Context(), New(o), repo, "1.0.0", randomImage(t, 100, 1), &recorder{}); err != nil {
		t.Fatal(err)
	}
}

func TestRealClientCertificate(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{ClientCertificate: true})
	repo := image.Repository(r.Addr + "/acme/source-erp")
	without := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	without.RootCAs.AppendCertsFromPEM(r.CAPEM)
	wantFault(t, New(Options{Hosts: []string{r.Addr}, TLS: without}).CheckPush(t.Context(), repo),
		fault.RegistryTLS, "client certificate", "registry-client-key")
	stranger := registrytest.Start(t, registrytest.Config{ClientCertificate: true}).TLSConfig(t)
	stranger.RootCAs = without.RootCAs
	wantFault(t, New(Options{Hosts: []string{r.Addr}, TLS: stranger}).CheckPush(t.Context(), repo), fault.RegistryTLS, "client certificate")
	if err := publish(t.Context(), New(Options{Hosts: []string{r.Addr}, TLS: r.TLSConfig(t)}), repo, "1.0.0", randomImage(t, 100, 1), &recorder{}); err != nil {
		t.Fatal(err)
	}
}

// TestRealPlainHTTPIsNeverSilent proves that nothing reaches a registry over http that was not asked for, although
// go-containerregistry would try it for localhost.
func TestRealPlainHTTPIsNeverSilent(t *testing.T) {
	t.Parallel()
	r := basicRegistry(t)
	for _, host := range []string{r.Addr, "localhost:" + strings.Split(r.Addr, ":")[1]} {
		c := New(Options{Username: "alice", Password: password, Hosts: []string{host}})
		wantFault(t, c.CheckPush(t.Context(), image.Repository(host+"/acme/source-erp")), fault.RegistryTLS, "speaks http", "registry-plain-http")
		_, err := c.Open(t.Context(), host+"/acme/source-erp:1")
		wantFault(t, err, fault.RegistryTLS, "speaks http")
	}
	if got := r.Requests(t); len(got) != 0 {
		t.Errorf("the registry was asked over http: %v", got)
	}
}

func TestRealOpenRegistryNeedsNoCredentials(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	c := New(Options{Hosts: []string{r.Addr}, PlainHTTP: true})
	repo := image.Repository(r.Addr + "/acme/source-erp")
	if err := c.CheckPush(t.Context(), repo); err != nil {
		t.Fatal(err)
	}
	if err := publish(t.Context(), c, repo, "1.0.0", randomImage(t, 100, 1), &recorder{}); err != nil {
		t.Fatal(err)
	}
}

func TestRealNoCredentials(t *testing.T) {
	t.Parallel()
	r := basicRegistry(t)
	c := New(Options{Hosts: []string{r.Addr}, PlainHTTP: true, Getenv: env("HOME", "/nonexistent")})
	f := wantFault(t, c.CheckPush(t.Context(), image.Repository(r.Addr+"/acme/source-erp")), fault.NoCredentials,
		"registry-username", "DOCKER_AUTH_CONFIG (not set)", "/nonexistent/.docker/config.json (no such file)", "docker login "+r.Addr)
	if strings.Contains(f.Error(), "inputs registry-username and registry-password (user") {
		t.Error("it says that credentials were used")
	}
	for _, q := range r.Requests(t) {
		if q.Path != "/v2/" {
			t.Errorf("an anonymous push was tried: %s", q)
		}
	}
	_, err := c.Open(t.Context(), r.Addr+"/acme/source-erp:1")
	wantFault(t, err, fault.NoCredentials)
}

func TestRealWrongPassword(t *testing.T) {
	t.Parallel()
	r := basicRegistry(t)
	c := New(Options{Username: "alice", Password: "wrong-secret", Hosts: []string{r.Addr}, PlainHTTP: true})
	repo := image.Repository(r.Addr + "/acme/source-erp")
	f := wantFault(t, c.CheckPush(t.Context(), repo), fault.CredentialsRefused, "registry-username", `"alice"`, "401")
	if strings.Contains(f.Error(), "wrong-secret") {
		t.Error("the error holds the password")
	}
	_, err := c.Digest(t.Context(), repo, "1")
	wantFault(t, err, fault.CredentialsRefused)
	wantFault(t, c.Push(t.Context(), repo, randomImage(t, 10, 1), &recorder{}), fault.CredentialsRefused)
}

func TestRealTokens(t *testing.T) {
	t.Parallel()
	for _, overTLS := range []bool{false, true} {
		r := registrytest.Start(t, registrytest.Config{TLS: overTLS, Token: &registrytest.Token{
			Users:         map[string]string{"alice": password, "reader": "readers-secret"},
			RefreshTokens: map[string]string{"identity-secret": "alice"},
			Rights:        map[string][]string{"reader": {"pull"}},
		}})
		repo := image.Repository(r.Addr + "/acme/source-erp")
		o := Options{Username: "alice", Password: password, Hosts: []string{r.Addr}, PlainHTTP: !overTLS, TLS: r.TLSConfig(t)}
		c := New(o)
		a := randomImage(t, 100, 2)
		if err := c.CheckPush(t.Context(), repo); err != nil {
			t.Fatal(err)
		}
		if err := publish(t.Context(), c, repo, "1.0.0", a, &recorder{}); err != nil {
			t.Fatal(err)
		}
		// One for all, and one to cancel the upload with.
		tokens := fmt.Sprint(r.TokenServer.Scopes())
		if tokens != "[[repository:acme/source-erp:push,pull] [repository:acme/source-erp:push,pull,delete]]" {
			t.Errorf("tokens were fetched for %s", tokens)
		}
		// An unchanged publish: ping, token, HEAD.
		before := len(r.Requests(t))
		if d, err := New(o).Digest(t.Context(), repo, "1.0.0"); err != nil || d != digestOf(t, a) {
			t.Fatalf("Digest = %q, %v", d, err)
		}
		if got := summary(r.Requests(t), before); len(got) != 2 || len(r.TokenServer.Scopes()) != 3 {
			t.Errorf("the second run asked %q and fetched %d tokens", got, len(r.TokenServer.Scopes())-2)
		}

		identity := o
		identity.Username, identity.Password = "", ""
		identity.Getenv = env("DOCKER_AUTH_CONFIG", `{"auths":{"`+r.Addr+`":{"identitytoken":"identity-secret"}}}`)
		if d, err := New(identity).Digest(t.Context(), repo, "1.0.0"); err != nil || d == "" {
			t.Errorf("with an identity token: %q, %v", d, err)
		}

		reader := o
		reader.Username, reader.Password = "reader", "readers-secret"
		wantFault(t, New(reader).CheckPush(t.Context(), repo), fault.PushDenied, `user "reader"`, "accepted", "right to push")
		wrong := o
		wrong.Password = "wrong"
		wantFault(t, New(wrong).CheckPush(t.Context(), repo), fault.CredentialsRefused, "token server localhost", `"alice"`)
	}
}

func TestRealProgress(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	var done, total int64
	c := New(Options{Hosts: []string{r.Addr}, PlainHTTP: true, Progress: func(d, n int64) { done, total = d, n }})
	a := randomImage(t, 100_000, 3)
	if err := c.Push(t.Context(), image.Repository(r.Addr+"/acme/source-erp"), a, &recorder{}); err != nil {
		t.Fatal(err)
	}
	if done != total || total < 300_000 {
		t.Errorf("progress ended at %d of %d", done, total)
	}
}

func TestRealMissingSource(t *testing.T) {
	t.Parallel()
	r := registrytest.Start(t, registrytest.Config{})
	c := New(Options{Hosts: []string{r.Addr}, PlainHTTP: true})
	_, err := c.Open(t.Context(), r.Addr+"/acme/nothing:1")
	wantFault(t, err, fault.SourceImage, "MANIFEST_UNKNOWN")
	_, err = c.Open(t.Context(), "Bad Reference")
	wantFault(t, err, fault.SourceImage, "not a legal reference")
}
