package sandbox

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
)

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
	g.ExpireTokens()
	head()
	if g.Count(StepToken) != n+3 {
		t.Errorf("%d tokens after two ends of all tokens, want %d", g.Count(StepToken), n+3)
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
