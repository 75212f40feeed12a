package registry

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// TestRenewable holds when a credential is got again: near its end, when it is old and nobody knows its end, and when
// that was asked for.
func TestRenewable(t *testing.T) {
	t.Parallel()
	start := time.Unix(1_700_000_000, 0)
	now, got, life := start, 0, time.Duration(0)
	r := &renewable{now: func() time.Time { return now }, secrets: &secrets{}, fetch: func(context.Context) (fetched, error) {
		got++
		f := fetched{AuthConfig: authn.AuthConfig{Username: "u", Password: fmt.Sprint("password-", got)}}
		if life > 0 {
			f.expires = now.Add(life)
		}
		return f, nil
	}}
	after := func(d time.Duration, want int, why string) {
		t.Helper()
		now = now.Add(d)
		a, err := r.AuthorizationContext(t.Context())
		if err != nil || got != want || a.Password != fmt.Sprint("password-", want) {
			t.Errorf("%s: %q, got %d times, want %d, %v", why, a.Password, got, want, err)
		}
	}
	after(0, 1, "first")
	after(unknownAge, 1, "end unknown, not old")
	life = 12 * time.Hour
	after(time.Second, 2, "end unknown, old")
	after(12*time.Hour-expiryMargin-time.Second, 2, "a second before the margin")
	life = 2 * time.Second
	after(time.Second, 3, "within the margin of its end")
	after(1700*time.Millisecond, 3, "short life, not near its end")
	life = time.Hour
	after(200*time.Millisecond, 4, "short life, near its end")
	r.freshen()
	after(pushAge, 4, "new enough for a push")
	r.freshen()
	after(time.Second, 4, "asked before it was too old")
	r.freshen()
	after(0, 5, "too old for a push")
	r.drop()
	after(0, 6, "refused")

	// What it is got with has ended before the credential itself.
	failed := errors.New("the OIDC token has ended")
	fetch := r.fetch
	r.fetch = func(context.Context) (fetched, error) { return fetched{}, failed }
	now = now.Add(pushAge + time.Second)
	r.freshen()
	if a, err := r.AuthorizationContext(t.Context()); err != nil || a.Password != "password-6" {
		t.Errorf("a credential that is good was given up: %v", err)
	}
	r.drop()
	if _, err := r.AuthorizationContext(t.Context()); !errors.Is(err, failed) {
		t.Errorf("a credential that was refused was used again: %v", err)
	}
	r.fetch = fetch
	after(0, 7, "got at last")
}

func TestClaims(t *testing.T) {
	t.Parallel()
	jwt := func(body string) string { return "e30." + base64.RawURLEncoding.EncodeToString([]byte(body)) + ".sig" }
	one, ok := readClaims(jwt(`{"iss":"https://i","sub":"s","aud":"a","exp":1700000000}`))
	if !ok || one.Issuer != "https://i" || one.Subject != "s" || len(one.Audience) != 1 || !one.ends().Equal(time.Unix(1_700_000_000, 0)) {
		t.Errorf("%+v %v", one, ok)
	}
	if many, ok := readClaims(jwt(`{"aud":["a","b"]}`)); !ok || len(many.Audience) != 2 || !many.ends().IsZero() {
		t.Errorf("%+v %v", many, ok)
	}
	for _, bad := range []string{"", "a.b", "a.b.c", jwt(`[]`), "a.!.c"} {
		if _, ok := readClaims(bad); ok {
			t.Errorf("%q was taken for a JWT", bad)
		}
	}
}

// TestRefusedTokenTellsItsClaims and never itself.
func TestRefusedTokenTellsItsClaims(t *testing.T) {
	t.Parallel()
	now := time.Unix(1_700_000_000, 0)
	k := &keychain{secrets: &secrets{}, now: func() time.Time { return now }}
	token := func(aud string, exp int64) string {
		body := fmt.Sprintf(`{"iss":"https://token.actions.githubusercontent.com","sub":"repo:acme@1/erp@2:ref:refs/tags/v1","aud":%q,"exp":%d}`, aud, exp)
		return "e30." + base64.RawURLEncoding.EncodeToString([]byte(body)) + ".the-signature"
	}
	for name, tt := range map[string]struct {
		token  string
		remedy string
	}{
		"policy":         {token("sts.amazonaws.com", 1_700_000_060), "REMEDY"},
		"wrong audience": {token("api://other", 1_700_000_060), `"sts.amazonaws.com"`},
		"expired":        {token("sts.amazonaws.com", 1_699_999_000), "lives for minutes"},
		"no JWT":         {"ghs_something", "three parts"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			f := wantFault(t, k.refused(exchange{"AWS STS", "sts.amazonaws.com", tt.token}, "it answered AccessDenied", "REMEDY", nil), fault.OIDCRefused, tt.remedy)
			if strings.Contains(f.Error(), "the-signature") || strings.Contains(f.Error(), "ghs_") {
				t.Errorf("the token is in the error: %v", f)
			}
			if name != "no JWT" && !strings.Contains(f.Cause, `"repo:acme@1/erp@2:ref:refs/tags/v1"`) {
				t.Errorf("no subject: %v", f)
			}
		})
	}
	if got := subjectForms("repo:acme/erp:ref:refs/tags/v1"); !strings.Contains(got, "have ids in their subject, older ones have not") {
		t.Error(got)
	}
	if got := subjectForms("repo:acme@1/erp@2:environment:prod"); !strings.Contains(got, "holds ids") || !strings.Contains(got, "repo:acme@1/erp@2:*") {
		t.Error(got)
	}
	if got := subjectForms("project_path:g/p:ref_type:tag:ref:v1"); !strings.Contains(got, "project_path:g/p") {
		t.Error(got)
	}
}

func TestWildcard(t *testing.T) {
	t.Parallel()
	for pattern, texts := range map[string][2]string{
		"latest": {"latest", "latest1"}, "rc-*": {"rc-1", "1-rc-"}, "*": {"anything", ""}, "*-dev*": {"1-dev2", "1-de"}, "a*b": {"ab", "abc"},
	} {
		if !wildcard(pattern, texts[0]) || texts[1] != "" && wildcard(pattern, texts[1]) {
			t.Errorf("%q", pattern)
		}
	}
}

// TestPushRenewsAnEndedCredential: the registry says before the clock does that a password's time is over.
func TestPushRenewsAnEndedCredential(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	var valid atomic.Int32
	valid.Store(1)
	f.challenge = `Basic realm="fake"`
	f.check = func(a string) bool { return a == "Basic "+basicAuth("u", fmt.Sprint("password-", valid.Load())) }
	// The second of several uploads finds the password changed.
	f.then(atPutBlob, 1, func(w http.ResponseWriter, r *http.Request) {
		valid.Store(2)
		f.serve(atPutBlob, w, r)
	})
	c, _, log := f.client(Options{Jobs: 1})
	var asked atomic.Int32
	c.keys.providers[len(c.keys.providers)-1].ambient = func(_ context.Context, k *keychain, _ place) (credential, []string, error) {
		r := k.renewable("test", func(context.Context) (fetched, error) {
			return fetched{AuthConfig: authn.AuthConfig{Username: "u", Password: fmt.Sprint("password-", asked.Add(1))}}, nil
		})
		return credential{auth: r, from: "a test", user: "u", renewable: r}, nil, nil
	}
	a := randomImage(t, 1<<10, 3)
	if err := publish(t.Context(), c, f.repo(), "1.0.0", a, log); err != nil {
		t.Fatal(err)
	}
	if asked.Load() != 2 || !strings.Contains(log.String(), "the credential has ended") {
		t.Errorf("asked %d times:\n%s", asked.Load(), log)
	}
	// A credential that stays refused ends the push.
	valid.Store(100)
	other := randomImage(t, 1<<10, 1)
	wantFault(t, publish(t.Context(), c, f.repo(), "1.0.1", other, log), fault.CredentialsRefused, "a test")
	if asked.Load() > 4 {
		t.Errorf("asked %d times for a credential that is refused", asked.Load())
	}
}
