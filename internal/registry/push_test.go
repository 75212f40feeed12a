package registry

import (
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// TestAnswers holds what registries answer, step by step, against what we say of it.
func TestAnswers(t *testing.T) {
	t.Parallel()
	const html = "<html><head><title>413 Request Entity Too Large</title></head></html>"
	tests := []struct {
		step   string
		status int
		body   string
		code   fault.Code
		words  []string
	}{
		{atPing, 404, "not found", fault.RegistryUnreachable, []string{"404", "GET /v2/"}},
		{atPing, 403, code("DENIED", "firewall"), fault.PushDenied, []string{"firewall"}},
		{atPing, 501, "", fault.RegistryUnreachable, []string{"501"}},
		{atHead, 401, "", fault.NoCredentials, []string{"looked for"}},
		{atPost, 401, code("UNAUTHORIZED", ""), fault.NoCredentials, []string{"looked for"}},
		{atPost, 403, code("DENIED", "requested access to the resource is denied"), fault.PushDenied, []string{"requested access"}},
		{atPost, 401, code("DENIED", "insufficient_scope"), fault.PushDenied, nil},
		{atPost, 404, code("NAME_UNKNOWN", "repository name not known to registry"), fault.RepositoryMissing, []string{"Create the repository"}},
		{atPost, 404, "", fault.RepositoryMissing, nil},
		{atPost, 400, code("NAME_INVALID", "bad"), fault.ImageRefused, []string{"name"}},
		{atHeadBlob, 403, "", fault.PushDenied, nil},
		{atPatch, 413, html, fault.BodyTooLarge, []string{"client_max_body_size", "413"}},
		{atPutBlob, 400, code("DIGEST_INVALID", "did not match"), fault.ImageRefused, []string{"changed the bytes"}},
		{atPutBlob, 400, code("SIZE_INVALID", ""), fault.ImageRefused, []string{"changed the bytes"}},
		{atPutManifest, 400, code("MANIFEST_INVALID", "manifest invalid"), fault.ImageRefused, []string{"MANIFEST_INVALID", "kind of image"}},
		{atPutManifest, 415, "", fault.ImageRefused, []string{"kind of image"}},
		{atPutManifest, 405, code("UNSUPPORTED", "read only"), fault.ImageRefused, []string{"read only"}},
		{atPutManifest, 429, code("TOOMANYREQUESTS", "slow"), fault.RateLimited, []string{"slow"}},
		{atPutTag, 400, code("TAG_INVALID", "The image tag '1.0.0' already exists and cannot be overwritten because the repository is immutable."), fault.TagImmutable, []string{"new tag"}},
		{atPutTag, 409, "", fault.TagImmutable, []string{"new tag"}},
		{atPutTag, 412, code("PRECONDITION", "configured as immutable"), fault.TagImmutable, nil},
		{atPutTag, 400, code("FAILED_PRECONDITION", "tag is immutable"), fault.TagImmutable, nil},
		{atPutTag, 403, code("DENIED", "protected tag rule"), fault.TagImmutable, nil},
		{atPutTag, 403, code("DENIED", "no"), fault.PushDenied, nil},
		{atPutTag, 500, "boom", fault.PushFailed, []string{"500 Internal Server Error (boom)"}},
	}
	for _, tt := range tests {
		t.Run(tt.step+" "+string(tt.code)+tt.body[:min(len(tt.body), 30)], func(t *testing.T) {
			t.Parallel()
			f := newFake(t).always(tt.step, answer(tt.status, tt.body))
			if tt.step == atHeadBlob || tt.step == atHead {
				f.always(map[string]string{atHeadBlob: atGetBlob, atHead: atGet}[tt.step], answer(tt.status, tt.body))
			}
			c, _, log := f.client(Options{})
			err := publish(t.Context(), c, f.repo(), "1.0.0", randomImage(t, 100, 1), log)
			wantFault(t, err, tt.code, append(tt.words, f.host())...)
		})
	}
}

func TestAnswersToSignedIn(t *testing.T) {
	t.Parallel()
	f := newFake(t).basic("alice", "secret-password").always(atPost, answer(401, code("UNAUTHORIZED", "expired")))
	c, _, _ := f.client(Options{Username: "alice", Password: "secret-password"})
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.CredentialsRefused, "expired", `user "alice"`)

	tok, _ := tokens(t)
	tok.always(atPost, answer(401, code("UNAUTHORIZED", "authentication required"), "WWW-Authenticate",
		tok.challenge+`,scope="repository:acme/source-erp:pull,push",error="insufficient_scope"`))
	c, _, _ = tok.client(Options{Username: "alice", Password: "secret-password"})
	wantFault(t, c.CheckPush(t.Context(), tok.repo()), fault.PushDenied, "accepted", `Give user "alice" the right to push`)

	tok, _ = tokens(t)
	c, _, _ = tok.client(Options{Username: "alice", Password: "wrong"})
	wantFault(t, c.CheckPush(t.Context(), tok.repo()), fault.CredentialsRefused, "the token server", "who are you")
}

func TestMissingRepositoryThatHangsUp(t *testing.T) {
	t.Parallel()
	f := newFake(t).always(atPost, hangUp).then(atList, 1, answer(404, code("NAME_UNKNOWN", "The repository with name 'acme/source-erp' does not exist")))
	c, _, _ := f.client(Options{})
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.RepositoryMissing, "does not exist")

	f = newFake(t).always(atPost, hangUp).then(atList, 1, answer(200, `{"tags":[]}`))
	c, _, _ = f.client(Options{})
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.PushFailed, "broke the connection each time")
}

func TestCheckPushWhereUploadsCannotBeCancelled(t *testing.T) {
	t.Parallel()
	f := newFake(t).always(atDelete, answer(405, code("UNSUPPORTED", "")))
	c, _, _ := f.client(Options{})
	if err := c.CheckPush(t.Context(), f.repo()); err != nil {
		t.Error(err)
	}
	// A registry whose uploads are elsewhere has let us in.
	f = newFake(t).then(atPost, 1, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, "http://localhost:1/upload", http.StatusTemporaryRedirect)
	})
	c, _, _ = f.client(Options{})
	if err := c.CheckPush(t.Context(), f.repo()); err != nil {
		t.Error(err)
	}
	// Nothing is sent to where a registry says that its upload is, if that is elsewhere.
	other, auths := elsewhere(t, answer(204, ""))
	f = newFake(t)
	f.location = func(path string) string { return other + path }
	c, _, _ = f.client(Options{})
	if err := c.CheckPush(t.Context(), f.repo()); err != nil || len(auths()) != 0 {
		t.Errorf("%v, %d requests elsewhere", err, len(auths()))
	}
}

func TestCheckPushFailureIsNotRemembered(t *testing.T) {
	t.Parallel()
	f := newFake(t).then(atPost, 1, answer(403, code("DENIED", "")))
	c, _, _ := f.client(Options{})
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.PushDenied)
	if err := c.CheckPush(t.Context(), f.repo()); err != nil {
		t.Error(err)
	}
}

func TestReadBack(t *testing.T) {
	t.Parallel()
	a := randomImage(t, 100, 1)
	other := "sha256:" + strings.Repeat("0", 64)
	head := func(digest string) http.HandlerFunc {
		return answer(200, "", "Docker-Content-Digest", digest, "Content-Type", "application/vnd.docker.distribution.manifest.v2+json", "Content-Length", "10")
	}
	push := func(t *testing.T, f *fake) (*Client, *waits) {
		c, w, log := f.client(Options{})
		if err := c.Push(t.Context(), f.repo(), a, log); err != nil {
			t.Fatal(err)
		}
		return c, w
	}
	t.Run("differs", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		c, w := push(t, f)
		f.always(atHead, head(other))
		wantFault(t, c.Tag(t.Context(), f.repo(), "1", a), fault.ReadBackDiffers, other, digestOf(t, a))
		if len(w.list()) != readBackTries-1 {
			t.Errorf("waited %v", w.list())
		}
	})
	t.Run("is late", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		c, _ := push(t, f)
		f.then(atHead, 1, answer(404, "")).then(atHead, 1, head(other))
		if err := c.Tag(t.Context(), f.repo(), "1", a); err != nil {
			t.Error(err)
		}
	})
	t.Run("is gone", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		c, _ := push(t, f)
		f.always(atHead, answer(404, ""))
		wantFault(t, c.Tag(t.Context(), f.repo(), "1", a), fault.ReadBackDiffers, "holds nothing")
	})
	t.Run("without the digest's header", func(t *testing.T) {
		t.Parallel()
		f := newFake(t)
		c, _ := push(t, f)
		f.then(atHead, 1, answer(200, "", "Content-Type", "x/y", "Content-Length", "10"))
		if err := c.Tag(t.Context(), f.repo(), "1", a); err != nil {
			t.Error(err)
		}
		if n := len(f.requests(atGet)); n != 1 {
			t.Errorf("%d GETs", n)
		}
	})
	for name, held := range map[string]string{"immutable, equal": digestOf(t, a), "immutable, another": other} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			c, _ := push(t, f)
			f.then(atPutTag, 1, answer(400, code("TAG_INVALID", "the tag is immutable"))).then(atHead, 1, head(held))
			err := c.Tag(t.Context(), f.repo(), "1", a)
			if held == other {
				wantFault(t, err, fault.TagImmutable, "the tag is immutable", "holds "+other, digestOf(t, a))
			} else if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestDigestOfHiddenTag(t *testing.T) {
	t.Parallel()
	denied := answer(403, code("DENIED", "forbidden"))
	t.Run("not in the list", func(t *testing.T) {
		t.Parallel()
		f := newFake(t).then(atHead, 1, denied).then(atGet, 1, denied).then(atList, 1, answer(200, `{"name":"x","tags":["0.9"]}`))
		c, _, _ := f.client(Options{})
		if d, err := c.Digest(t.Context(), f.repo(), "1"); err != nil || d != "" {
			t.Errorf("%q, %v", d, err)
		}
	})
	t.Run("no repository", func(t *testing.T) {
		t.Parallel()
		f := newFake(t).then(atHead, 1, denied).then(atGet, 1, denied).then(atList, 1, answer(404, code("NAME_UNKNOWN", "")))
		c, _, _ := f.client(Options{})
		if d, err := c.Digest(t.Context(), f.repo(), "1"); err != nil || d != "" {
			t.Errorf("%q, %v", d, err)
		}
	})
	t.Run("may push but not read", func(t *testing.T) {
		t.Parallel()
		f := newFake(t).basic("alice", "pw").then(atHead, 1, denied).then(atGet, 1, denied).then(atList, 1, denied)
		c, _, _ := f.client(Options{Username: "alice", Password: "pw"})
		_, err := c.Digest(t.Context(), f.repo(), "1")
		wantFault(t, err, fault.PushDenied, `Give user "alice" the right to pull as well`)
	})
	t.Run("may not push", func(t *testing.T) {
		t.Parallel()
		f := newFake(t).then(atHead, 1, denied).then(atGet, 1, denied).then(atPost, 1, answer(403, code("DENIED", "no uploads for you")))
		c, _, _ := f.client(Options{})
		_, err := c.Digest(t.Context(), f.repo(), "1")
		wantFault(t, err, fault.PushDenied, "no uploads for you")
	})
}

// TestLostBlob: the registry says that a blob is there, and does not know it when the manifest comes.
func TestLostBlob(t *testing.T) {
	t.Parallel()
	lost := answer(400, code("MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"))
	f := newFake(t).then(atPutManifest, 1, lost)
	c, _, log := f.client(Options{})
	if err := publish(t.Context(), c, f.repo(), "1", randomImage(t, 100, 1), log); err != nil {
		t.Error(err)
	}
	if !strings.Contains(log.String(), "pushing once more") {
		t.Errorf("log:\n%s", log.String())
	}
	f = newFake(t).then(atPutManifest, 2, lost)
	c, _, log = f.client(Options{})
	wantFault(t, c.Push(t.Context(), f.repo(), randomImage(t, 100, 1), log), fault.ImageRefused, "lost a blob")
	c.blobs.Range(func(key, repo any) bool {
		t.Errorf("%v counts as being in %v", key, repo)
		return true
	})
}

// TestMountRefused: a registry that does not mount gets the bytes.
func TestMountRefused(t *testing.T) {
	t.Parallel()
	for _, h := range []http.HandlerFunc{answer(400, code("UNSUPPORTED", "")), answer(403, code("DENIED", "")), nil} {
		f := newFake(t)
		c, _, log := f.client(Options{Jobs: 1})
		a := randomImage(t, 1000, 1)
		first, second := image.Repository(f.host()+"/acme/one"), image.Repository(f.host()+"/acme/two")
		if err := c.Push(t.Context(), first, a, log); err != nil {
			t.Fatal(err)
		}
		if h != nil {
			f.then(atPost, 1, h)
		}
		if err := c.Push(t.Context(), second, a, log); err != nil {
			t.Fatal(err)
		}
		want := "in 0 blobs, mounted 2 blobs"
		if h != nil {
			want = "in 1 blob, mounted 1 blob,"
		}
		if !strings.Contains(log.String(), want) {
			t.Errorf("log lacks %q:\n%s", want, log.String())
		}
	}
}

// brokenLayer can't be read to its end.
type brokenLayer struct {
	v1.Layer
	err error
}

func (b brokenLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("the beginning"), failing{b.err})), nil
}

type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }

func TestSourceThatFails(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, _, log := f.client(Options{})
	img, err := mutate.AppendLayers(empty.Image, brokenLayer{layersOf(t, randomImage(t, 1000, 1).Image)[0], errors.New("disk on fire")})
	if err != nil {
		t.Fatal(err)
	}
	wantFault(t, c.Push(t.Context(), f.repo(), image.Artifact{Image: img}, log), fault.SourceImage, "disk on fire", "whole")
}

// TestStorageThatRefuses: what an object store behind the registry says is not the registry's verdict on our rights.
func TestStorageThatRefuses(t *testing.T) {
	t.Parallel()
	other, _ := elsewhere(t, func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "<Error><Code>RequestTimeTooSkewed</Code></Error>")
	})
	f := newFake(t)
	f.location = func(path string) string { return other + path + "?X-Signature=signed-secret" }
	c, _, log := f.client(Options{})
	err := c.Push(t.Context(), f.repo(), randomImage(t, 100, 0), log)
	refused := wantFault(t, err, fault.PushFailed, "localhost:", "which "+f.host()+" refers to", "RequestTimeTooSkewed", "clocks")
	if strings.Contains(refused.Error(), "signed-secret") {
		t.Errorf("the error holds a signed address: %v", refused)
	}

	// The same while reading what is copied from there.
	from, to := newFake(t), newFake(t)
	c, _, log = to.client(Options{Hosts: []string{from.host()}})
	if err := publish(t.Context(), c, from.repo(), "1", randomImage(t, 100, 1), log); err != nil {
		t.Fatal(err)
	}
	from.always(atGetBlob, func(w http.ResponseWriter, r *http.Request) {
		http.Redirect(w, r, other+"/blob?X-Signature=signed-secret", http.StatusFound)
	})
	a, err := c.Open(t.Context(), string(from.repo())+":1")
	if err != nil {
		t.Fatal(err)
	}
	refused = wantFault(t, c.Push(t.Context(), to.repo(), a, log), fault.SourceImage, "RequestTimeTooSkewed", "localhost:")
	if strings.Contains(refused.Error(), "signed-secret") {
		t.Errorf("the error holds a signed address: %v", refused)
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	_ = l.Close()
	var w waits
	c := New(Options{Hosts: []string{addr}, Sleep: w.sleep})
	wantFault(t, c.CheckPush(t.Context(), image.Repository(addr+"/acme/x")), fault.RegistryUnreachable, "connection refused", addr)
	if len(w.list()) != 0 {
		t.Errorf("a refused connection was tried again: %v", w.list())
	}
}

// TestNetworkErrors are those that need more than loopback to come up.
func TestNetworkErrors(t *testing.T) {
	t.Parallel()
	repo, err := name.NewRepository("registry.example/acme/x")
	if err != nil {
		t.Fatal(err)
	}
	c := New(Options{})
	st := step{op: "push the image to", object: repo.Name(), end: c.endpoint(repo.Registry), push: true}
	in := func(err error) error { return &url.Error{Op: "Get", URL: "https://registry.example/v2/", Err: err} }
	dial := func(err error) error { return in(&net.OpError{Op: "dial", Net: "tcp", Err: err}) }
	for _, tt := range []struct {
		err   error
		code  fault.Code
		words []string
	}{
		{dial(&net.DNSError{Err: "no such host", Name: "registry.example", IsNotFound: true}), fault.RegistryUnreachable, []string{"registry.example can't be resolved"}},
		{dial(syscall.EHOSTUNREACH), fault.RegistryUnreachable, []string{"no connection"}},
		{in(&net.OpError{Op: "proxyconnect", Net: "tcp", Err: syscall.ECONNREFUSED}), fault.RegistryUnreachable, []string{"proxy", "NO_PROXY"}},
		{in(io.EOF), fault.PushFailed, []string{"broke the connection"}},
		{in(errors.New("net/http: TLS handshake timeout")), fault.PushFailed, nil},
		{in(errors.New("remote error: tls: handshake failure")), fault.RegistryTLS, []string{"no TLS connection"}},
	} {
		wantFault(t, c.explain(t.Context(), tt.err, st), tt.code, tt.words...)
	}
}

func TestConcurrentPushesShareWhatTheyCan(t *testing.T) {
	t.Parallel()
	f, _ := tokens(t)
	c, _, log := f.client(Options{Username: "alice", Password: "secret-password"})
	var all sync.WaitGroup
	for i := range 8 {
		all.Go(func() {
			img, err := random.Image(1000, 3)
			if err != nil {
				t.Error(err)
				return
			}
			a := image.Artifact{Image: img}
			if err := publish(t.Context(), c, f.repo(), "1."+string(rune('0'+i)), a, log); err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if p, n := len(f.requests(atPing)), len(f.requests(atToken)); p != 1 || n != 1 {
		t.Errorf("%d pings and %d tokens, want one of each", p, n)
	}
}
