package registry

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// TestRetries holds every step against every passing failure, twice in a row, whatever the body says.
func TestRetries(t *testing.T) {
	t.Parallel()
	failures := map[string]http.HandlerFunc{
		"429 empty":        answer(429, ""),
		"429 other code":   answer(429, code("SLOW_DOWN", "please")),
		"408":              answer(408, ""),
		"500 other code":   answer(500, code("INTERNAL_ERROR", "oops")),
		"502 html":         answer(502, "<html>Bad Gateway</html>"),
		"503 other code":   answer(503, code("BAD_GATEWAY", "oops")),
		"504":              answer(504, ""),
		"hang-up":          hangUp,
		"429 with seconds": answer(429, "", "Retry-After", "7"),
		"503 with seconds": answer(503, code("UNAVAILABLE", ""), "Retry-After", "7"),
	}
	for _, step := range []string{atPing, atHead, atHeadBlob, atPost, atPatch, atPutBlob, atPutManifest, atPutTag} {
		for name, h := range failures {
			t.Run(step+" "+name, func(t *testing.T) {
				t.Parallel()
				f := newFake(t).then(step, 2, h)
				c, w, log := f.client(Options{Jobs: 1})
				a := randomImage(t, 100, 1)
				if err := publish(t.Context(), c, f.repo(), "1.0.0", a, log); err != nil {
					t.Fatal(err)
				}
				all := w.list()
				// net/http itself repeats what can be repeated when a connection that was kept breaks.
				if len(all) != 2 && (name != "hang-up" || len(all) != 1) {
					t.Fatalf("waited %v, want twice", all)
				}
				for i, d := range all {
					want := time.Second << i
					if strings.Contains(name, "seconds") {
						want = 7 * time.Second
					}
					if d < want*9/10 || d > want*11/10 {
						t.Errorf("wait %d was %s, want some %s", i, d, want)
					}
				}
				if n := strings.Count(log.String(), "trying again in"); n != len(all) {
					t.Errorf("the log tells of %d waits:\n%s", n, log.String())
				}
			})
		}
	}
}

// TestLostUploads: registries forget an upload with a 404 now and then; the blob is begun anew.
func TestLostUploads(t *testing.T) {
	t.Parallel()
	for _, h := range []http.HandlerFunc{
		answer(404, code("BLOB_UPLOAD_UNKNOWN", "blob upload unknown")),
		answer(400, code("BLOB_UPLOAD_INVALID", "blob upload invalid")),
		answer(416, ""),
	} {
		f := newFake(t).then(atPatch, 1, h)
		c, w, log := f.client(Options{Jobs: 1})
		if err := publish(t.Context(), c, f.repo(), "1.0.0", randomImage(t, 100, 1), log); err != nil {
			t.Fatal(err)
		}
		if len(w.list()) != 1 {
			t.Errorf("waited %v", w.list())
		}
	}
}

func TestNoRetries(t *testing.T) {
	t.Parallel()
	for _, status := range []int{400, 401, 403, 404, 405, 413, 501} {
		f := newFake(t).always(atPost, answer(status, code("WHATEVER", "no")))
		c, w, log := f.client(Options{})
		if err := c.Push(t.Context(), f.repo(), randomImage(t, 100, 0), log); err == nil {
			t.Errorf("%d: no error", status)
		}
		if n := len(f.requests(atPost)); n != 1 || len(w.list()) != 0 {
			t.Errorf("%d: sent %d times, waited %v", status, n, w.list())
		}
	}
}

func TestGivesUpAfterFiveAttempts(t *testing.T) {
	t.Parallel()
	for step, want := range map[string]fault.Code{atPost: fault.PushFailed, atPatch: fault.PushFailed, atPutManifest: fault.PushFailed, atPing: fault.RegistryUnreachable} {
		f := newFake(t).always(step, answer(503, code("UNAVAILABLE", "down for maintenance")))
		c, w, log := f.client(Options{Jobs: 1})
		err := c.Push(t.Context(), f.repo(), randomImage(t, 100, 0), log)
		wantFault(t, err, want, "503", "down for maintenance")
		if n := len(f.requests(step)); n != maxAttempts || len(w.list()) != maxAttempts-1 {
			t.Errorf("%s: sent %d times, waited %v", step, n, w.list())
		}
	}
}

func TestRetryAfter(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	clock := func() time.Time { return now }
	for value, want := range map[string]time.Duration{
		"0":   0,
		"120": 2 * time.Minute,
		now.Add(90 * time.Second).Format(http.TimeFormat): 90 * time.Second,
		now.Add(-time.Hour).Format(http.TimeFormat):       0,
	} {
		f := newFake(t).then(atHead, 1, answer(429, "", "Retry-After", value))
		c, w, _ := f.client(Options{Now: clock})
		if _, err := c.Digest(t.Context(), f.repo(), "1"); err != nil {
			t.Errorf("%s: %v", value, err)
		}
		if got := w.list(); len(got) != 1 || got[0] != want {
			t.Errorf("Retry-After: %s: waited %v, want %s", value, got, want)
		}
	}
	for _, step := range []string{atHead, atPatch} {
		f := newFake(t).then(step, 1, answer(429, "", "Retry-After", "3600", "RateLimit-Limit", "100;w=21600", "RateLimit-Remaining", "0"))
		c, w, log := f.client(Options{})
		err := c.Push(t.Context(), f.repo(), randomImage(t, 10, 0), log)
		wantFault(t, err, fault.RateLimited, "asks to wait 1h0m0s", "RateLimit-Limit: 100;w=21600", "RateLimit-Remaining: 0")
		if len(w.list()) != 0 || len(f.requests(step)) != 1 {
			t.Errorf("waited %v, sent %d times", w.list(), len(f.requests(step)))
		}
	}
}

// tokens is a fake with a token server whose tokens can be made to expire.
func tokens(t *testing.T) (f *fake, expire func()) {
	f = newFake(t)
	var valid atomic.Int64
	f.challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="fake"`, f.host())
	f.check = func(a string) bool { return a == fmt.Sprintf("Bearer token-%d", valid.Load()) }
	f.always(atToken, func(w http.ResponseWriter, r *http.Request) {
		if _, p, ok := r.BasicAuth(); !ok || p != "secret-password" {
			answer(401, code("UNAUTHORIZED", "who are you"))(w, r)
			return
		}
		_, _ = fmt.Fprintf(w, `{"token":"token-%d"}`, valid.Load())
	})
	return f, func() { valid.Add(1) }
}

// TestTokenExpiresDuringUpload: a 401 comes at PATCH, after the body was sent.
func TestTokenExpiresDuringUpload(t *testing.T) {
	t.Parallel()
	for _, step := range []string{atHeadBlob, atPost, atPatch, atPutBlob, atPutManifest, atPutTag} {
		f, expire := tokens(t)
		f.then(step, 1, func(w http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			expire()
			w.Header().Set("WWW-Authenticate", f.challenge)
			answer(401, code("UNAUTHORIZED", "token expired"))(w, r)
		})
		c, w, log := f.client(Options{Username: "alice", Password: "secret-password", Jobs: 1})
		if err := publish(t.Context(), c, f.repo(), "1.0.0", randomImage(t, 300_000, 1), log); err != nil {
			t.Errorf("%s: %v", step, err)
		}
		if n := len(f.requests(atToken)); n != 2 || len(w.list()) != 0 {
			t.Errorf("%s: %d tokens fetched, waited %v", step, n, w.list())
		}
	}
}

// TestCancel proves that an interrupted run ends at once, in a request and in a wait.
func TestCancel(t *testing.T) {
	t.Parallel()
	for _, step := range []string{atPing, atPost, atPatch, atPutTag} {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFake(t).then(step, 1, func(_ http.ResponseWriter, r *http.Request) {
			_, _ = io.Copy(io.Discard, r.Body)
			cancel()
			<-r.Context().Done()
		})
		c, _, log := f.client(Options{})
		start := time.Now()
		err := publish(ctx, c, f.repo(), "1.0.0", randomImage(t, 100, 1), log)
		wantFault(t, err, fault.Interrupted)
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v is not context.Canceled", step, err)
		}
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %s", step, d)
		}
	}
	for _, step := range []string{atPost, atPatch} {
		ctx, cancel := context.WithCancel(t.Context())
		f := newFake(t).then(step, 1, answer(503, "", "Retry-After", "60"))
		c, _, log := f.client(Options{Sleep: func(ctx context.Context, d time.Duration) error {
			cancel()
			return sleep(ctx, d)
		}})
		start := time.Now()
		err := c.Push(ctx, f.repo(), randomImage(t, 100, 0), log)
		wantFault(t, err, fault.Interrupted)
		if d := time.Since(start); d > 2*time.Second {
			t.Errorf("%s: took %s", step, d)
		}
	}
}

func TestSleep(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		start := time.Now()
		if err := sleep(t.Context(), time.Minute); err != nil || time.Since(start) != time.Minute {
			t.Errorf("slept %s, %v", time.Since(start), err)
		}
	})
}

// elsewhere is another server that notes whether an Authorization came to it. It is on localhost instead of 127.0.0.1.
func elsewhere(t *testing.T, h http.HandlerFunc) (url string, authorizations func() []string) {
	var mu sync.Mutex
	var all []string
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		all = append(all, r.Header.Get("Authorization"))
		mu.Unlock()
		h(w, r)
	}))
	t.Cleanup(s.Close)
	return strings.Replace(s.URL, "127.0.0.1", "localhost", 1), func() []string {
		mu.Lock()
		defer mu.Unlock()
		return all
	}
}

// TestCredentialsStayHome: uploads and blobs that refer to another host get no credential there.
func TestCredentialsStayHome(t *testing.T) {
	t.Parallel()
	t.Run("upload location", func(t *testing.T) {
		t.Parallel()
		for name, make := range map[string]func() *fake{
			"basic":  func() *fake { return newFake(t).basic("alice", "secret-password") },
			"bearer": func() *fake { f, _ := tokens(t); return f },
		} {
			f := make()
			other, auths := elsewhere(t, func(w http.ResponseWriter, r *http.Request) {
				// An object store: its own signature is in the query, and it takes the upload.
				f.mu.Lock()
				f.check = func(string) bool { return true }
				f.mu.Unlock()
				f.ServeHTTP(w, r)
			})
			f.location = func(path string) string { return other + path + "?X-Signature=abc" }
			c, _, log := f.client(Options{Username: "alice", Password: "secret-password", Jobs: 1})
			if err := c.Push(t.Context(), f.repo(), randomImage(t, 100, 1), log); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got := auths(); len(got) == 0 || strings.Join(got, "") != "" {
				t.Errorf("%s: the other host saw %q", name, got)
			}
		}
	})
	t.Run("blob redirect", func(t *testing.T) {
		t.Parallel()
		f := newFake(t).basic("alice", "secret-password")
		c, _, log := f.client(Options{Username: "alice", Password: "secret-password"})
		a := randomImage(t, 100, 1)
		if err := publish(t.Context(), c, f.repo(), "1", a, log); err != nil {
			t.Fatal(err)
		}
		config, err := a.Image.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		other, auths := elsewhere(t, func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(config) })
		f.then(atGetBlob, 1, func(w http.ResponseWriter, r *http.Request) {
			http.Redirect(w, r, other+"/blob", http.StatusTemporaryRedirect)
		})
		got, err := c.Open(t.Context(), string(f.repo())+":1")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := got.Image.ConfigFile(); err != nil {
			t.Fatal(err)
		}
		if got := auths(); len(got) != 1 || got[0] != "" {
			t.Errorf("the other host saw %q", got)
		}
	})
}

// TestSignInStaysHome: neither the ping nor the token server may lead a credential to another host.
func TestSignInStaysHome(t *testing.T) {
	t.Parallel()
	for _, kind := range []string{"password", "identity token"} {
		t.Run("token server redirects "+kind, func(t *testing.T) {
			t.Parallel()
			other, auths := elsewhere(t, func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if strings.Contains(string(body), "identity-secret") {
					t.Errorf("the other host got the identity token")
				}
				_, _ = io.WriteString(w, `{"token":"x"}`)
			})
			f := newFake(t)
			f.challenge = fmt.Sprintf(`Bearer realm="http://%s/token",service="fake"`, f.host())
			f.check = func(string) bool { return false }
			f.always(atToken, func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, other+"/token", http.StatusTemporaryRedirect)
			})
			o := Options{Username: "alice", Password: "secret-password"}
			if kind == "identity token" {
				o = Options{Getenv: env("DOCKER_AUTH_CONFIG", `{"auths":{"`+f.host()+`":{"identitytoken":"identity-secret"}}}`)}
			}
			c, _, _ := f.client(o)
			err := c.CheckPush(t.Context(), f.repo())
			if kind == "identity token" {
				wantFault(t, err, fault.TokenServer, "redirects to another host")
			} else if err == nil {
				t.Error("signed in with another host's token")
			}
			if got := strings.Join(auths(), ""); got != "" {
				t.Errorf("the other host saw %q", got)
			}
		})
	}
	t.Run("ping redirects", func(t *testing.T) {
		t.Parallel()
		other, auths := elsewhere(t, answer(401, "", "WWW-Authenticate", `Basic realm="evil"`))
		f := newFake(t).then(atPing, 1, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other+"/v2/", http.StatusFound) })
		c, _, _ := f.client(Options{Username: "alice", Password: "secret-password"})
		wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.RegistryUnreachable, "redirects to another host, localhost:")
		if len(auths()) != 0 {
			t.Error("the redirect was followed")
		}
	})
}

// TestGuarded holds the guard itself to its rule, which go-containerregistry keeps today as well.
func TestGuarded(t *testing.T) {
	t.Parallel()
	repo, err := name.NewRepository("registry.example/acme/x")
	if err != nil {
		t.Fatal(err)
	}
	e := &endpoint{registry: repo.Registry}
	e.realm.Store(&url.URL{Scheme: "https", Host: "auth.example:8443", Path: "/token"})
	for address, want := range map[string]string{
		"https://registry.example/v2/":           "Basic secret",
		"https://REGISTRY.example:443/v2/":       "Basic secret",
		"https://auth.example:8443/token":        "Basic secret",
		"https://auth.example/token":             "",
		"https://registry.example:8443/v2/":      "",
		"https://registry.example.evil/v2/":      "",
		"https://evil.example/registry.example/": "",
		"http://registry.example/v2/":            "refused",
		"http://127.0.0.1/v2/":                   "refused",
	} {
		got := "refused"
		next := roundTripper(func(r *http.Request) (*http.Response, error) {
			got = r.Header.Get("Authorization")
			return &http.Response{StatusCode: 200, Body: http.NoBody}, nil
		})
		req := httptest.NewRequest(http.MethodGet, address, nil)
		req.Header.Set("Authorization", "Basic secret")
		_, err := guarded{e, next}.RoundTrip(req)
		if got != want || (err != nil) != (want == "refused") {
			t.Errorf("%s: %q, %v; want %q", address, got, err, want)
		}
		if req.Header.Get("Authorization") == "" {
			t.Errorf("%s: the caller's request was changed", address)
		}
	}
}

type roundTripper func(*http.Request) (*http.Response, error)

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

// TestClientCertificateStaysHome: the certificate names who we are, and is shown to nobody that the registry merely
// redirects to.
func TestClientCertificateStaysHome(t *testing.T) {
	t.Parallel()
	var atHome, elsewhere atomic.Int64
	wanting := func(f *fake, h http.Handler, n *atomic.Int64) {
		f.TLS = &tls.Config{ClientAuth: tls.RequestClientCert, MinVersion: tls.VersionTLS12}
		f.Config.Handler = http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			n.Add(int64(len(r.TLS.PeerCertificates)))
			h.ServeHTTP(w, r)
		})
		f.StartTLS()
	}
	f, other := newUnstarted(t), newUnstarted(t)
	wanting(f, f, &atHome)
	trust := f.tls()
	trust.Certificates = []tls.Certificate{f.TLS.Certificates[0]}
	c, _, log := f.client(Options{TLS: trust})
	a := randomImage(t, 100, 1)
	if err := publish(t.Context(), c, f.repo(), "1", a, log); err != nil {
		t.Fatal(err)
	}
	config, err := a.Image.RawConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	wanting(other, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write(config) }), &elsewhere)
	f.then(atGetBlob, 1, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other.URL+"/blob", http.StatusFound) })
	opened, err := c.Open(t.Context(), string(f.repo())+":1")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := opened.Image.RawConfigFile(); err != nil {
		t.Fatal(err)
	}
	if atHome.Load() == 0 || elsewhere.Load() != 0 {
		t.Errorf("shown %d times to the registry and %d times elsewhere", atHome.Load(), elsewhere.Load())
	}
}

// TestExplicitCredentialsBelongToTheirHosts: a base image's registry does not see the inputs.
func TestExplicitCredentialsBelongToTheirHosts(t *testing.T) {
	t.Parallel()
	f, other := newFake(t), newTLSFake(t)
	c, _, _ := f.client(Options{Username: "alice", Password: "secret-password", Token: "secret-token"})
	c.others = newTransport(other.tls())
	other.challenge, other.check = `Basic realm="other"`, func(string) bool { return false }
	_, err := c.Open(t.Context(), other.host()+"/library/python:3.11")
	wantFault(t, err, fault.NoCredentials)
	for _, r := range other.requests("") {
		if r.authorization != "" {
			t.Errorf("the other registry saw %q at %s", r.authorization, r.step)
		}
	}
}

func TestRegistryTokenIsSentAsItIs(t *testing.T) {
	t.Parallel()
	for _, challenge := range []string{`Basic realm="fake"`, `Bearer realm="http://localhost:1/never",service="fake"`} {
		f := newFake(t)
		f.challenge, f.check = challenge, func(a string) bool { return a == "Bearer secret-token" }
		c, _, log := f.client(Options{Token: "secret-token", Username: "ignored", Password: "ignored"})
		if err := publish(t.Context(), c, f.repo(), "1", randomImage(t, 10, 1), log); err != nil {
			t.Fatal(err)
		}
		wrong, _, _ := f.client(Options{Token: "other-token"})
		refused := wantFault(t, wrong.CheckPush(t.Context(), f.repo()), fault.CredentialsRefused, "the input registry-token")
		if strings.Contains(refused.Error(), "other-token") {
			t.Error("the error holds the token")
		}
	}
}

func TestHTTPSRegistryNeverLeadsToHTTP(t *testing.T) {
	t.Parallel()
	other, auths := elsewhere(t, answer(200, `{"token":"x"}`))
	t.Run("blob", func(t *testing.T) {
		f := newTLSFake(t)
		c, _, log := f.client(Options{TLS: f.tls()})
		if err := publish(t.Context(), c, f.repo(), "1", randomImage(t, 10, 1), log); err != nil {
			t.Fatal(err)
		}
		f.then(atGetBlob, 1, func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, other+"/blob", http.StatusFound) })
		a, err := c.Open(t.Context(), string(f.repo())+":1")
		if err != nil {
			t.Fatal(err)
		}
		_, err = a.Image.RawConfigFile()
		wantFault(t, err, fault.PlainHTTPRefused, "localhost", "registry-plain-http")
	})
	t.Run("realm", func(t *testing.T) {
		f := newTLSFake(t)
		f.challenge, f.check = `Bearer realm="`+other+`/token",service="fake"`, func(string) bool { return false }
		c, _, _ := f.client(Options{TLS: f.tls(), Username: "alice", Password: "secret-password"})
		wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.TokenServer, "in clear", other)
	})
	if len(auths()) != 0 {
		t.Errorf("it was asked over http %d times", len(auths()))
	}
}

func TestTokenServerTrouble(t *testing.T) {
	t.Parallel()
	for challenge, words := range map[string][]string{
		`Bearer realm="https://10.1.2.3/token",service="x"`: {"https://10.1.2.3/token", "IP address in a private network", "DNS name"},
		`Bearer service="x"`: {"does not say where"},
	} {
		f := newTLSFake(t)
		f.challenge, f.check = challenge, func(string) bool { return false }
		c, _, _ := f.client(Options{TLS: f.tls(), Username: "alice", Password: "secret-password"})
		wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.TokenServer, words...)
	}
	for body, words := range map[string][]string{
		`{"tokens":"none"}`:  {"did not answer with a token"},
		`<html>hello</html>`: {"did not answer with a token"},
		``:                   {"did not answer with a token"},
	} {
		f, _ := tokens(t)
		f.mu.Lock()
		f.scripts[atToken] = nil
		f.mu.Unlock()
		f.always(atToken, answer(200, body))
		c, _, _ := f.client(Options{Username: "alice", Password: "secret-password"})
		wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.TokenServer, words...)
	}
	f, _ := tokens(t)
	f.mu.Lock()
	f.scripts[atToken] = nil
	f.mu.Unlock()
	f.always(atToken, answer(404, "nothing here"))
	c, _, _ := f.client(Options{Username: "alice", Password: "secret-password"})
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.TokenServer, "the token server "+f.host()+" answered 404", "nothing here")
}

func TestWarningsAreShownOnce(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	for range 5 {
		f.then(atHead, 1, answer(404, "", "Warning", `299 - "this registry goes away in \"March\""`, "Warning", `110 - "stale"`))
	}
	c, _, log := f.client(Options{})
	for range 5 {
		if _, err := c.Digest(t.Context(), f.repo(), "1"); err != nil {
			t.Fatal(err)
		}
	}
	want := "the registry " + f.host() + ` warns: this registry goes away in "March"`
	if strings.Count(log.String(), want) != 1 || strings.Contains(log.String(), "stale") {
		t.Errorf("log:\n%s", log.String())
	}
	var many recorder
	n := newNotices(many.add, nil)
	for i := range 100 {
		n.collect("h", http.Header{"Warning": {fmt.Sprintf(`299 - "%d"`, i)}})
	}
	if len(many.lines) != maxWarnings {
		t.Errorf("%d warnings shown, want %d", len(many.lines), maxWarnings)
	}
}

// TestErrorsHoldNoSecret: a server that sends back what it was sent.
func TestErrorsHoldNoSecret(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("alice:secret-password"))
	for _, body := range []string{
		code("DENIED", "alice:secret-password / "+basic),
		"<html>you sent Authorization: Basic " + basic + " and secret-password</html>",
		strings.Repeat("x", 450) + "secret-password secret-password",
	} {
		f := newFake(t).basic("alice", "secret-password").always(atPost, answer(403, body))
		c, _, log := f.client(Options{Username: "alice", Password: "secret-password"})
		f2 := wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.PushDenied)
		for _, secret := range []string{"secret-password", basic, "secret-pass"} {
			if strings.Contains(f2.Error(), secret) || strings.Contains(log.String(), secret) {
				t.Errorf("the secret is shown: %v", f2)
			}
		}
	}
}

func TestUserAgent(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var got []string
	h := func(w http.ResponseWriter, r *http.Request) {
		got = append(got, r.UserAgent())
		w.WriteHeader(404)
	}
	f.then(atHead, 1, h).then(atPing, 1, func(w http.ResponseWriter, r *http.Request) { got = append(got, r.UserAgent()) })
	c, _, _ := f.client(Options{UserAgent: "airbyte-publish/1.2.3"})
	if _, err := c.Digest(t.Context(), f.repo(), "1"); err != nil {
		t.Fatal(err)
	}
	for _, ua := range got {
		if !strings.HasPrefix(ua, "airbyte-publish/1.2.3 go-containerregistry") {
			t.Errorf("User-Agent: %s", ua)
		}
	}
	if len(got) != 2 {
		t.Errorf("%d requests", len(got))
	}
}
