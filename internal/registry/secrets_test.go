package registry

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// told is an Options.Secret that keeps what it is told.
type told struct {
	mu  sync.Mutex
	all []string
}

func (s *told) add(values ...string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all = append(s.all, values...)
}

func (s *told) list() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Sorted(slices.Values(s.all))
}

// TestSecretsAreToldAndHidden: each kind of credential, with a registry and a token server that send back whatever
// they were given or have given, in warnings and in errors.
func TestSecretsAreToldAndHidden(t *testing.T) {
	t.Parallel()
	basic := base64.StdEncoding.EncodeToString([]byte("alice:the-password"))
	const bearer, access, refresh = "bearer-token-1", "access-token-2", "refresh-token-3"
	for name, tt := range map[string]struct {
		options Options
		file    map[string]any
		tokens  bool
		answer  string
		want    []string
	}{
		"a password":        {options: Options{Username: "alice", Password: "the-password"}, want: []string{"the-password", basic}},
		"a file's password": {file: map[string]any{"auth": basic}, want: []string{"the-password", basic}},
		"a registry token":  {options: Options{Token: "as-it-is"}, tokens: true, want: []string{"as-it-is"}},
		"a token": {options: Options{Username: "alice", Password: "the-password"}, tokens: true,
			answer: `{"token":"` + bearer + `"}`, want: []string{"the-password", basic, bearer}},
		"an identity token": {file: map[string]any{"identitytoken": "the-identity"}, tokens: true,
			answer: `{"access_token":"` + access + `","refresh_token":"` + refresh + `"}`, want: []string{"the-identity", access, refresh}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := newFake(t)
			echo := "you know " + strings.Join(tt.want, " and ")
			f.challenge, f.check = `Basic realm="fake"`, func(a string) bool { return a != "" }
			if tt.tokens {
				f.challenge = `Bearer realm="http://` + f.host() + `/token",service="fake"`
				f.always(atToken, answer(200, tt.answer, "Warning", `299 - "`+echo+`"`))
			}
			f.always(atPost, answer(403, code("DENIED", echo), "Warning", `299 - "now `+echo+`"`))
			f.always(atHead, answer(429, "", "Retry-After", "3600", "RateLimit-Limit", strings.Repeat("x", 84)+echo))
			o := tt.options
			var secret told
			o.Secret = secret.add
			if tt.file != nil {
				o.Getenv = env("DOCKER_CONFIG", dockerConfigFile(t, map[string]any{"auths": map[string]any{f.host(): tt.file}}))
			}
			c, _, log := f.client(o)
			denied := wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.PushDenied, "you know ***")
			_, err := c.Digest(t.Context(), f.repo(), "1")
			limited := wantFault(t, err, fault.RateLimited, "RateLimit-Limit")
			shown := denied.Error() + limited.Error() + log.String()
			for _, s := range tt.want {
				if strings.Contains(shown, s[:5]) {
					t.Errorf("%q is shown: %s", s, shown)
				}
			}
			if !strings.Contains(log.String(), "warns: now you know ***") {
				t.Errorf("the warning is not shown: %s", log.String())
			}
			have := secret.list()
			if want := slices.Sorted(slices.Values(tt.want)); !slices.Equal(have, want) {
				t.Errorf("told %q, want %q", have, want)
			}
		})
	}
}

// TestSecretOfAHelper: the engine that builds gets credentials too, and a helper answers anew.
func TestSecretOfAHelper(t *testing.T) {
	t.Parallel()
	m := machine{env: map[string]string{"HOME": "/h"}, files: map[string]string{"/h/.docker/config.json": `{"credsStore":"test"}`},
		helpers: map[string]func(string) (string, string, error){"docker-credential-test": func(string) (string, string, error) {
			b, err := json.Marshal(map[string]string{"Username": "u", "Secret": "the-answer"})
			return string(b), "", err
		}}}
	var secret told
	c := New(Options{})
	c.keys = m.keychain(Options{})
	c.keys.secrets = &secrets{tell: secret.add}
	if a, err := c.Credentials(t.Context(), "registry.example"); err != nil || a.Password != "the-answer" {
		t.Fatalf("%+v, %v", a, err)
	}
	want := []string{"the-answer", base64.StdEncoding.EncodeToString([]byte("u:the-answer"))}
	if slices.Sort(want); !slices.Equal(secret.list(), want) {
		t.Errorf("told %q", secret.list())
	}
}

func TestRedact(t *testing.T) {
	t.Parallel()
	s := &secrets{}
	s.add("abc", "abcdef", "")
	s.addAuth(authn.AuthConfig{Username: "u"})
	s.addHeader(http.Header{"Authorization": {"Bearer "}})
	if got := s.bounded("abcdef abc\n"); got != "*** ***" {
		t.Error(got)
	}
	if got := (*secrets)(nil).bounded("abc"); got != "abc" {
		t.Error(got)
	}
}
