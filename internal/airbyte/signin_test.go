package airbyte_test

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"log"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

const tokenPath = "/applications/token"

// list is the simplest request that needs credentials.
func (r *rig) list(t *testing.T) error {
	t.Helper()
	_, err := r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source)
	return err
}

func TestSignIn(t *testing.T) {
	t.Parallel()
	client := sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: clientID, ClientSecret: clientSecret}
	basic := sandbox.Auth{Mode: sandbox.BasicAuth, User: "airbyte", Password: password}
	tests := []struct {
		name   string
		o      sandbox.AirbyteOptions
		change func(*airbyte.Options)
		code   fault.Code // empty means that it works
		words  []string
	}{
		{name: "nothing asked", o: sandbox.AirbyteOptions{}},
		{name: "nothing asked, credentials given", o: sandbox.AirbyteOptions{}, change: func(o *airbyte.Options) { o.ClientID, o.ClientSecret = clientID, clientSecret }},
		{name: "nothing asked by an old version, credentials given", o: sandbox.AirbyteOptions{Version: "0.50.20"},
			change: func(o *airbyte.Options) { o.ClientID, o.ClientSecret = clientID, clientSecret }},
		{name: "basic", o: sandbox.AirbyteOptions{Version: "0.50.56", Auth: basic}},
		{name: "basic in the address", o: sandbox.AirbyteOptions{Version: "0.50.56", Auth: basic}, change: func(o *airbyte.Options) {
			o.Username, o.Password = "", ""
			o.URL = o.URL.JoinPath("api")
			o.URL.User = url.UserPassword("airbyte", password)
		}},
		{name: "basic, wrong", o: sandbox.AirbyteOptions{Version: "0.50.56", Auth: basic}, change: func(o *airbyte.Options) { o.Password = clientSecret },
			code: fault.AirbyteSignIn, words: []string{"401", "in front of Airbyte refused the username"}},
		{name: "basic, none given", o: sandbox.AirbyteOptions{Version: "0.50.56", Auth: basic}, change: func(o *airbyte.Options) { o.Username = "" },
			code: fault.AirbyteSignIn, words: []string{"airbyte-username"}},
		{name: "client credentials", o: sandbox.AirbyteOptions{Auth: client}},
		{name: "client credentials of Enterprise", o: sandbox.AirbyteOptions{Auth: client, Edition: sandbox.Enterprise}},
		{name: "client credentials, wrong", o: sandbox.AirbyteOptions{Version: "1.8.0", Auth: client}, change: func(o *airbyte.Options) { o.ClientSecret = password },
			code: fault.AirbyteSignIn, words: []string{"Invalid client id", "abctl local credentials"}},
		{name: "client credentials, wrong, no reason given", o: sandbox.AirbyteOptions{Version: "2.2.0", Auth: client},
			change: func(o *airbyte.Options) { o.ClientSecret = password }, code: fault.AirbyteSignIn, words: []string{"400", "errorId"}},
		{name: "client credentials of Enterprise, wrong", o: sandbox.AirbyteOptions{Auth: client, Edition: sandbox.Enterprise},
			change: func(o *airbyte.Options) { o.ClientSecret = password }, code: fault.AirbyteSignIn, words: []string{"401", "refused the client credentials"}},
		{name: "none given", o: sandbox.AirbyteOptions{Auth: client}, change: func(o *airbyte.Options) { o.ClientID = "" },
			code: fault.AirbyteSignIn, words: []string{"simple", "no credentials were given"}},
		{name: "none given to an old version", o: sandbox.AirbyteOptions{Version: "0.59.0", Auth: client}, change: func(o *airbyte.Options) { o.ClientID = "" },
			code: fault.AirbyteSignIn, words: []string{"401", "asks for credentials"}},
		{name: "token, wrong", o: sandbox.AirbyteOptions{Auth: client}, change: func(o *airbyte.Options) { o.AccessToken = clientSecret },
			code: fault.AirbyteSignIn, words: []string{"access token was refused", "15 minutes"}},
		{name: "username where client credentials are asked", o: sandbox.AirbyteOptions{Auth: client},
			change: func(o *airbyte.Options) { o.ClientID, o.Username, o.Password = "", "me", password },
			code:   fault.AirbyteSignIn, words: []string{"username and password were refused", "airbyte-client-id"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, tt.o, nil, tt.change)
			err := r.list(t)
			if tt.code == "" {
				if err != nil {
					t.Fatal(err)
				}
				return
			}
			want(t, err, tt.code, tt.words...)
			if r.clock.total() > 10*time.Second {
				t.Errorf("waited %s", r.clock.total())
			}
		})
	}
}

func TestReadyToken(t *testing.T) {
	t.Parallel()
	r := setUp(t, withCredentials("2.2.0"), nil, nil)
	resp, err := http.Post(r.server.URL+"/api/public/v1/applications/token", "application/json",
		strings.NewReader(`{"client_id":"`+clientID+`","client_secret":"`+clientSecret+`"}`))
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	body, _ := io.ReadAll(resp.Body)
	_, rest, _ := strings.Cut(string(body), `"access_token":"`)
	token, _, _ := strings.Cut(rest, `"`)
	withToken := airbyte.New(airbyte.Options{URL: parse(t, r.server.URL), AccessToken: token, Now: r.clock.Now, Sleep: r.clock.Sleep})
	must[[]connector.Definition](t)(withToken.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source))
}

// TestDoorInFront has a gateway that lets nothing through without its own sign-in, the configuration included.
func TestDoorInFront(t *testing.T) {
	t.Parallel()
	token := func(o *airbyte.Options) { o.AccessToken = clientSecret }
	basic := func(o *airbyte.Options) { o.Username, o.Password = "me", password }
	client := func(o *airbyte.Options) { o.ClientID, o.ClientSecret = clientID, clientSecret }
	for name, tt := range map[string]struct {
		status    int
		challenge string
		body      string
		words     string // of the error that those get who have no key
	}{
		"basic":                      {401, `Basic realm="gateway"`, "", "username and password"},
		"basic with a page":          {401, `Basic realm="gateway"`, "<html><title>401</title></html>", "username and password"},
		"basic with JSON":            {401, `Basic realm="gateway"`, `{"message":"Unauthorized"}`, "username and password"},
		"bearer in words":            {401, `Bearer realm="gateway"`, "Jwt is missing", "Jwt is missing"},
		"bearer with JSON":           {401, "Bearer", `{"message":"Unauthorized"}`, "in front of Airbyte"},
		"page":                       {401, "", "<html><title>Invalid IAP credentials</title></html>", "Invalid IAP credentials"},
		"page of a sign-in":          {403, "", "<html><title>Sign in</title></html>", "Sign in"},
		"redirect to a sign-in page": {302, "", "", "redirects to"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			door := func(next http.Handler) http.Handler {
				return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					user, secret, _ := r.BasicAuth()
					if r.Header.Get("Authorization") == "Bearer "+clientSecret || user == "me" && secret == password {
						next.ServeHTTP(w, r)
						return
					}
					if r.Method != http.MethodGet {
						t.Errorf("%s %s in front of a closed door", r.Method, r.URL.Path)
					}
					if tt.challenge != "" {
						w.Header().Set("WWW-Authenticate", tt.challenge)
					}
					if tt.status == http.StatusFound {
						w.Header().Set("Location", "https://login.example/start")
					}
					w.WriteHeader(tt.status)
					_, _ = io.WriteString(w, tt.body)
				})
			}
			for _, key := range []func(*airbyte.Options){token, basic} {
				if err := setUp(t, sandbox.AirbyteOptions{}, door, key).list(t); err != nil {
					t.Error(err)
				}
			}
			for _, key := range []func(*airbyte.Options){nil, client} {
				err := setUp(t, sandbox.AirbyteOptions{}, door, key).list(t)
				if code := fault.CodeOf(err); code != fault.AirbyteSignIn && tt.status == 401 {
					t.Errorf("code is %s", code)
				}
				want(t, err, fault.CodeOf(err), tt.words)
				if strings.Contains(err.Error(), "refused") && tt.status == 401 {
					t.Errorf("%v: but nothing was given that could be refused", err)
				}
			}
		})
	}
}

// TestToken counts how often a token is fetched.
func TestToken(t *testing.T) {
	t.Parallel()
	t.Run("once for many", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		var wg sync.WaitGroup
		for range 20 {
			wg.Go(func() {
				if err := r.list(t); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if n := len(r.standIn.Requests()); n != 3 {
			t.Errorf("%d requests for configuration, token and list: %v", n, r.standIn.Requests())
		}
	})
	t.Run("again after 60 % of its life", func(t *testing.T) {
		t.Parallel()
		o := withCredentials("2.2.0")
		o.Auth.Lifetime = 10 * time.Minute
		r := setUp(t, o, nil, nil)
		ch := newConnector("1.0.0")
		for n, tt := range []struct {
			pass time.Duration
			want int
		}{{0, 1}, {5 * time.Minute, 1}, {61 * time.Second, 2}, {time.Hour, 3}} {
			_ = r.clock.Sleep(t.Context(), tt.pass)
			must[[]connector.Workspace](t)(r.Workspaces(t.Context(), []string{ch.WorkspaceID}))
			if got := r.asked(tokenPath); got != tt.want {
				t.Errorf("step %d: %d tokens fetched, want %d", n, got, tt.want)
			}
		}
	})
	t.Run("again when it is refused", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		must[[]connector.Workspace](t)(r.Workspaces(t.Context(), nil))
		r.standIn.AddFault(sandbox.Fault{At: createPath, Kind: sandbox.ExpireTokens})
		must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), r.log))
		if n := r.asked(tokenPath); n != 2 {
			t.Errorf("%d tokens fetched", n)
		}
		if n := len(r.standIn.Definitions()); n != 1 {
			t.Errorf("%d definitions", n)
		}
	})
	t.Run("only once when it stays refused", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: listPath, Kind: sandbox.Answer, Status: 401, Times: -1})
		want(t, r.list(t), fault.AirbyteSignIn, "token made from the client credentials was refused")
		if a, b := r.asked(tokenPath), r.asked(listPath); a != 2 || b != 2 {
			t.Errorf("%d tokens, %d lists", a, b)
		}
	})
	t.Run("408 and 5xx pass", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.Answer, Status: 408, Body: `{"title":"error:request-timeout-exceeded"}`, Times: 2})
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.Answer, Status: 503, Skip: 2})
		if err := r.list(t); err != nil {
			t.Error(err)
		}
		if n := r.asked(tokenPath); n < 3 {
			t.Errorf("%d tries", n)
		}
	})
	t.Run("given up once for all that wait for it", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.DropBeforeWork, Times: -1})
		want(t, r.list(t), fault.AirbyteUnreachable, "sign in to")
		if n := r.asked(tokenPath); n != 5 {
			t.Errorf("%d tries", n)
		}
	})
	t.Run("lost, which says nothing of the create that waits for it", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("1.8.0"), nil, nil)
		log := &stopper{recorder: r.log, stop: func() {
			r.standIn.ExpireTokens()
			r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.DropBeforeWork, Times: -1})
		}}
		_, err := r.Apply(t.Context(), newConnector("1.0.0"), log)
		want(t, err, fault.AirbyteUnreachable, "sign in to")
		if total := r.clock.total(); total > time.Minute {
			t.Errorf("waited %s", total)
		}
	})
	t.Run("denied, which says nothing of the workspace", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.Answer, Status: 404, Body: `{"message":"Page Not Found"}`})
		_, err := r.Workspaces(t.Context(), []string{sandbox.DefaultWorkspaceID})
		want(t, err, fault.AirbyteSignIn, "404", tokenPath)
	})
	t.Run("no endpoint though authentication is on", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.Answer, Status: 404, Body: `{"message":"Page Not Found"}`})
		want(t, r.list(t), fault.AirbyteSignIn, "404", tokenPath)
	})
	t.Run("a page", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.Answer, Status: 200, Body: "<html><title>Sign in</title></html>"})
		want(t, r.list(t), fault.NotAirbyte, "Sign in")
	})
	t.Run("nothing in it", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: tokenPath, Kind: sandbox.Answer, Status: 200, Body: "{}"})
		want(t, r.list(t), fault.AirbyteSignIn, "no token")
	})
}

// TestRedirects has each kind of redirect, and sees that no credential goes along.
func TestRedirects(t *testing.T) {
	t.Parallel()
	var (
		mu   sync.Mutex
		seen []http.Header
	)
	elsewhere := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		defer mu.Unlock()
		seen = append(seen, r.Header)
	}))
	t.Cleanup(elsewhere.Close)
	other := strings.Replace(elsewhere.URL, "127.0.0.1", "localhost", 1)
	for name, status := range map[string]int{"found": 302, "permanent, with the body": 308} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, at := range []string{"/instance_configuration", tokenPath, listPath} {
				r := setUp(t, withCredentials("2.2.0"), nil, func(o *airbyte.Options) { o.Headers = http.Header{"X-Iap": {password}} })
				r.standIn.AddFault(sandbox.Fault{At: at, Kind: sandbox.Answer, Status: status,
					Header: http.Header{"Location": {other + "/login?state=" + clientSecret}}})
				err := r.list(t)
				want(t, err, fault.NotAirbyte, other+"/login", "sign-in", "airbyte-headers")
			}
		})
	}
	t.Cleanup(func() {
		mu.Lock()
		defer mu.Unlock()
		if len(seen) > 0 {
			t.Errorf("a redirect was followed: %v", seen)
		}
	})
	t.Run("without a place", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: listPath, Kind: sandbox.Answer, Status: 302})
		want(t, r.list(t), fault.NotAirbyte, "302")
	})
}

func TestTLS(t *testing.T) {
	t.Parallel()
	standIn := sandbox.NewAirbyte(withCredentials("2.2.0"))
	t.Cleanup(standIn.Close)
	secure := httptest.NewUnstartedServer(standIn)
	secure.Config.ErrorLog = log.New(io.Discard, "", 0)
	secure.StartTLS()
	t.Cleanup(secure.Close)
	trust := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	trust.RootCAs.AddCert(secure.Certificate())
	list := func(address string, trust *tls.Config) error {
		c := newClock()
		client := airbyte.New(airbyte.Options{URL: parse(t, address), ClientID: clientID, ClientSecret: clientSecret, TLS: trust, Now: c.Now, Sleep: c.Sleep})
		_, err := client.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source)
		if c.total() > 0 {
			t.Errorf("%s: waited %s", address, c.total())
		}
		return err
	}
	if err := list(secure.URL, trust); err != nil {
		t.Error(err)
	}
	want(t, list(secure.URL, nil), fault.AirbyteTLS, "unknown authority", "airbyte-ca-certificate")
	want(t, list(strings.Replace(secure.URL, "127.0.0.1", "localhost", 1), trust), fault.AirbyteTLS, "localhost")
	plain := httptest.NewServer(standIn)
	t.Cleanup(plain.Close)
	want(t, list(strings.Replace(plain.URL, "http:", "https:", 1), trust), fault.AirbyteTLS, "plain http", "http://")

	// A redirect from http to https on the same host is what an ingress does: the client goes on with https.
	before := len(standIn.Requests())
	upgrade := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Header.Get("Authorization") != "" {
			t.Error("a credential went over plain http")
		}
		http.Redirect(w, r, secure.URL+r.URL.Path, http.StatusPermanentRedirect)
	}))
	t.Cleanup(upgrade.Close)
	if err := list(upgrade.URL, trust); err != nil {
		t.Error(err)
	}
	if n := len(standIn.Requests()) - before; n != 3 {
		t.Errorf("%d requests over https", n)
	}
	// To another host it is not followed, whatever that host proves to be: it would get the credentials.
	before = len(standIn.Requests())
	want(t, list(strings.Replace(upgrade.URL, "127.0.0.1", "localhost", 1), trust), fault.NotAirbyte, "redirects to "+secure.URL)
	if n := len(standIn.Requests()) - before; n != 0 {
		t.Errorf("%d requests to another host", n)
	}
	// The other way is a downgrade.
	down := httptest.NewTLSServer(http.RedirectHandler(plain.URL+"/api/v1/instance_configuration", http.StatusFound))
	t.Cleanup(down.Close)
	trust.RootCAs.AddCert(down.Certificate())
	want(t, list(down.URL, trust), fault.NotAirbyte, plain.URL, "not followed")
}

// TestHeaders sees what goes to the server.
func TestHeaders(t *testing.T) {
	t.Parallel()
	var r *rig
	checks := 0
	o := withCredentials("2.2.0")
	o.OnRequest = func(q *http.Request, _ []byte) {
		checks++
		if got := q.Header.Get("Proxy-Authorization"); got != "Bearer "+password {
			t.Errorf("%s: Proxy-Authorization is %q", q.URL.Path, got)
		}
		if q.Host != "airbyte.internal" || q.Header.Get("User-Agent") != "airbyte-publish/test" || q.Header.Get("Accept") != "application/json" {
			t.Errorf("%s: host %q, headers %v", q.URL.Path, q.Host, q.Header)
		}
		authorization := q.Header.Get("Authorization")
		switch {
		case strings.HasSuffix(q.URL.Path, listPath):
			if !strings.HasPrefix(authorization, "Bearer ey") {
				t.Errorf("the list is asked for with %q", authorization)
			}
		case authorization != "Basic of-the-proxy":
			t.Errorf("%s is asked for with %q", q.URL.Path, authorization)
		}
	}
	r = setUp(t, o, nil, func(o *airbyte.Options) {
		o.Headers = http.Header{"proxy-authorization": {"Bearer " + password}, "Host": {"airbyte.internal"}, "Authorization": {"Basic of-the-proxy"}}
	})
	if err := r.list(t); err != nil {
		t.Fatal(err)
	}
	if checks != 3 {
		t.Errorf("%d requests", checks)
	}
}

// TestSecretsStayHidden has servers that repeat what they were sent.
func TestSecretsStayHidden(t *testing.T) {
	t.Parallel()
	parrot := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		if strings.HasSuffix(r.URL.Path, "/instance_configuration") {
			_, _ = io.WriteString(w, `{"version":"2.2.0","edition":"community"}`)
			return
		}
		if strings.HasSuffix(r.URL.Path, tokenPath) && r.Header.Get("X-Give") != "" {
			_, _ = io.WriteString(w, `{"access_token":"the-token-that-was-made"}`)
			return
		}
		w.WriteHeader(http.StatusBadRequest)
		_, _ = io.WriteString(w, r.Header.Get("Authorization")+" "+r.Header.Get("X-Proxy")+" "+string(body))
	}))
	t.Cleanup(parrot.Close)
	for name, o := range map[string]airbyte.Options{
		"client":   {ClientID: clientID, ClientSecret: clientSecret, Headers: http.Header{"X-Proxy": {"Token " + password}}},
		"token":    {ClientID: clientID, ClientSecret: clientSecret, Headers: http.Header{"X-Give": {"1234"}}},
		"ready":    {AccessToken: clientSecret},
		"password": {Username: "me", Password: password},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, log := newClock(), &recorder{}
			o.URL, o.Now, o.Sleep, o.Log = parse(t, parrot.URL), c.Now, c.Sleep, log.Info
			_, err := airbyte.New(o).List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source)
			if err == nil {
				t.Fatal("no error")
			}
			text := err.Error() + log.text()
			for _, secret := range []string{clientSecret, password, "the-token-that-was-made", "bWU6czNjcjN0LXBhc3N3b3Jk"} {
				if strings.Contains(text, secret) {
					t.Errorf("%q shows %q", text, secret)
				}
			}
			if !strings.Contains(text, "***") {
				t.Errorf("%q: the server's text is missing", text)
			}
		})
	}
}
