package airbyte_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// TestInstance has each kind of instance introduced in the log, once.
func TestInstance(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		o    sandbox.AirbyteOptions
		want string
	}{
		{withCredentials("2.2.0"), "Airbyte 2.2.0 (community) at "},
		{sandbox.AirbyteOptions{Version: "1.8.0", Edition: sandbox.Enterprise}, "Airbyte 1.8.0 (enterprise) at "},
		{sandbox.AirbyteOptions{Version: "0.58.0"}, "Airbyte 0.58.0 (community) at "},
		{sandbox.AirbyteOptions{Version: "0.50.56"}, "Airbyte before 0.57.4 (community) at "},
		{sandbox.AirbyteOptions{Version: "0.50.5"}, "Airbyte before 0.57.4 at "},
		{sandbox.AirbyteOptions{Version: "0.50.5", Auth: sandbox.Auth{Mode: sandbox.BasicAuth, User: "airbyte", Password: password}},
			"Airbyte before 0.57.4 at "},
		{sandbox.AirbyteOptions{Version: "dev"}, "Airbyte dev (community) at "},
	} {
		t.Run(tt.o.Version, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, tt.o, nil, nil)
			for range 2 {
				if err := ask(t, r.Client); err != nil {
					t.Error(err)
				}
			}
			if got, want := r.log.text(), tt.want+r.server.URL; got != want {
				t.Errorf("the log is %q, want %q", got, want)
			}
			if n := r.asked("/instance_configuration"); n > 2 {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

// ask is the simplest request: it needs nothing but the instance's configuration.
func ask(t *testing.T, c *airbyte.Client) error {
	t.Helper()
	_, err := c.Check(t.Context(), connector.Change{})
	return err
}

// TestAddresses reaches the instance by every form of its address, also behind a proxy's path.
func TestAddresses(t *testing.T) {
	t.Parallel()
	r := setUp(t, sandbox.AirbyteOptions{PathPrefix: "/data/airbyte"}, nil, nil)
	for _, suffix := range []string{"", "/", "/api", "/api/v1", "/api/v1/", "/api/public/v1"} {
		client := airbyte.New(airbyte.Options{URL: parse(t, r.server.URL+"/data/airbyte"+suffix)})
		if err := ask(t, client); err != nil {
			t.Errorf("%s: %v", suffix, err)
		}
	}
	client := airbyte.New(airbyte.Options{URL: parse(t, r.server.URL+"/data")})
	want(t, ask(t, client), fault.NotAirbyte, "404", "airbyte-url")
}

func TestCloud(t *testing.T) {
	t.Parallel()
	for _, address := range []string{"https://api.airbyte.com/v1", "https://cloud.airbyte.com", "https://API.airbyte.com"} {
		client := airbyte.New(airbyte.Options{URL: parse(t, address), ClientID: clientID, ClientSecret: clientSecret})
		_, err := client.Workspaces(t.Context(), nil)
		want(t, err, fault.AirbyteCloud, "self-managed")
	}
}

// TestNotAirbyte has addresses at which something else answers, or nothing.
func TestNotAirbyte(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name        string
		status      int
		contentType string
		body        string
		code        fault.Code
		words       []string
	}{
		{"web page", 200, "text/html", "<html><head><title>Welcome &amp; hello</title></head></html>", fault.NotAirbyte, []string{`"Welcome & hello"`, "airbyte-headers"}},
		{"web page without a title", 200, "text/html", "hello", fault.NotAirbyte, []string{"web page"}},
		{"other JSON", 200, "application/json", `{"status":"up"}`, fault.NotAirbyte, []string{"not an Airbyte"}},
		{"JSON with a version", 200, "application/json", `{"version":"3.7.1","auth":{"mode":"none"}}`, fault.NotAirbyte, []string{"not an Airbyte"}},
		{"JSON list", 200, "application/json", `[1]`, fault.NotAirbyte, []string{"not an Airbyte"}},
		{"nothing", 200, "", "", fault.NotAirbyte, []string{"nothing at all"}},
		{"not found", 404, "text/html", "<title>404</title>", fault.NotAirbyte, []string{"404", "airbyte-url"}},
		{"not found, in words", 404, "text/plain", "default backend - 404", fault.NotAirbyte, []string{"default backend"}},
		{"sign-in of a proxy", 401, "text/html", "<title>Invalid IAP credentials</title>", fault.AirbyteSignIn, []string{"Invalid IAP credentials", "airbyte-headers"}},
		{"proxy's proxy", 407, "", "", fault.AirbyteSignIn, []string{"407"}},
		{"bad gateway", 502, "text/html", "<title>502 Bad Gateway</title>", fault.AirbyteFailed, []string{"502 Bad Gateway", "proxy"}},
		{"failure", 500, "application/json", `{"errorId":"e-5"}`, fault.AirbyteFailed, []string{"e-5", "airbyte-server log"}},
		{"failure in words", 500, "application/json", `{"message":"Internal Server Error: no database"}`, fault.AirbyteFailed, []string{`"no database"`}},
		{"control characters", 400, "text/plain", "::error::\x1b[31m\nboo", fault.AirbyteRefused, []string{"boo"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Type", tt.contentType)
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(server.Close)
			c := newClock()
			client := airbyte.New(airbyte.Options{URL: parse(t, server.URL), Now: c.Now, Sleep: c.Sleep})
			err := ask(t, client)
			want(t, err, tt.code, append(tt.words, server.URL)...)
			if strings.ContainsAny(err.Error(), "\n\x1b") {
				t.Errorf("%q is not one line of plain text", err)
			}
			if slow := c.total() > 0; slow != (tt.status >= 500) {
				t.Errorf("waited %s", c.total())
			}
		})
	}
	t.Run("endless error", func(t *testing.T) {
		t.Parallel()
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			w.WriteHeader(http.StatusBadRequest)
			for r.Context().Err() == nil {
				if _, err := io.WriteString(w, strings.Repeat("x", 1<<16)); err != nil {
					return
				}
			}
		}))
		t.Cleanup(server.Close)
		err := ask(t, airbyte.New(airbyte.Options{URL: parse(t, server.URL)}))
		want(t, err, fault.AirbyteRefused, "xxx")
		if len(err.Error()) > 2000 {
			t.Errorf("the error has %d bytes", len(err.Error()))
		}
	})
	t.Run("nobody", func(t *testing.T) {
		t.Parallel()
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		address := "http://" + l.Addr().String()
		l.Close()
		c := newClock()
		err = ask(t, airbyte.New(airbyte.Options{URL: parse(t, address), Now: c.Now, Sleep: c.Sleep}))
		want(t, err, fault.AirbyteUnreachable, "nothing listens", "container")
		if c.naps != 4 {
			t.Errorf("tried %d times", c.naps+1)
		}
	})
}

// TestAnotherService has addresses of services that are no Airbyte and stand in front of none: they get no credential.
func TestAnotherService(t *testing.T) {
	t.Parallel()
	registry := http.Header{"Docker-Distribution-Api-Version": {"registry/2.0"}}
	for name, tt := range map[string]struct {
		status int
		header http.Header
		body   string
	}{
		"registry, 401":                 {401, http.Header{"Www-Authenticate": {`Bearer realm="https://auth.example/token",service="registry.example"`}}, `{"errors":[{"code":"UNAUTHORIZED"}]}`},
		"registry, 401 without a body":  {401, http.Header{"Www-Authenticate": {`Bearer realm="https://auth.example/token",service="registry.example"`}}, ""},
		"registry with basic, 401":      {401, http.Header{"Www-Authenticate": {`Basic realm="Registry Realm"`}}, `{"errors":[{"code":"UNAUTHORIZED"}]}`},
		"registry with basic, no body":  {401, http.Header{"Www-Authenticate": {`Basic realm="x"`}, "Docker-Distribution-Api-Version": registry["Docker-Distribution-Api-Version"]}, ""},
		"registry, 404":                 {404, registry, `{"errors":[{"code":"NOT_FOUND"}]}`},
		"a service's API, 404":          {404, nil, `{"message":"Not Found","documentation_url":"https://docs.example"}`},
		"a cluster's API, 401":          {401, nil, `{"kind":"Status","status":"Failure","message":"Unauthorized","reason":"Unauthorized","code":401}`},
		"a cluster's API, 403":          {403, nil, `{"kind":"Status","status":"Failure","message":"forbidden: User \"system:anonymous\"","code":403}`},
		"a list":                        {401, nil, `["no"]`},
		"something healthy of its kind": {404, http.Header{"X-Health": {`{"available":"yes"}`}}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				body, _ := io.ReadAll(r.Body)
				if r.Method != http.MethodGet || r.Header.Get("Authorization") != "" || len(body) > 0 {
					t.Errorf("%s %s with %q and %q", r.Method, r.URL.Path, r.Header.Get("Authorization"), body)
				}
				if health := tt.header.Get("X-Health"); health != "" && strings.HasSuffix(r.URL.Path, "/health") {
					_, _ = io.WriteString(w, health)
					return
				}
				for k, v := range tt.header {
					w.Header()[k] = v
				}
				w.WriteHeader(tt.status)
				_, _ = io.WriteString(w, tt.body)
			}))
			t.Cleanup(server.Close)
			c := newClock()
			for _, o := range []airbyte.Options{
				{ClientID: clientID, ClientSecret: clientSecret},
				{Username: "me", Password: password},
				{AccessToken: clientSecret},
				{ClientID: clientID, ClientSecret: clientSecret, Username: "me", Password: password, AccessToken: clientSecret},
			} {
				o.URL, o.Now, o.Sleep = parse(t, server.URL), c.Now, c.Sleep
				_, err := airbyte.New(o).List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source)
				want(t, err, fault.NotAirbyte, fmt.Sprint(tt.status), server.URL, "airbyte-url")
			}
		})
	}
}

// TestDeniedConfiguration has an Airbyte that denies the endpoint that it does not have, as old ones with
// authentication do, but tells its health.
func TestDeniedConfiguration(t *testing.T) {
	t.Parallel()
	for _, status := range []int{401, 403, 404} {
		r := setUp(t, sandbox.AirbyteOptions{Version: "0.50.5"}, func(next http.Handler) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				if strings.HasSuffix(r.URL.Path, "/instance_configuration") {
					w.WriteHeader(status)
					return
				}
				next.ServeHTTP(w, r)
			})
		}, nil)
		if err := r.list(t); err != nil {
			t.Errorf("%d: %v", status, err)
		}
	}
}

// TestReadsAreRetried has reads fail for a while.
func TestReadsAreRetried(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name        string
		fault       sandbox.Fault
		least, most time.Duration
	}{
		{"429 with Retry-After", sandbox.Fault{Kind: sandbox.Answer, Status: 429, Header: http.Header{"Retry-After": {"7"}}}, 7 * time.Second, 8 * time.Second},
		{"503 with an endless Retry-After", sandbox.Fault{Kind: sandbox.Answer, Status: 503, Header: http.Header{"Retry-After": {"999999999"}}}, time.Minute, time.Minute},
		{"503 with a wrong Retry-After", sandbox.Fault{Kind: sandbox.Answer, Status: 503, Header: http.Header{"Retry-After": {"-5"}}}, 0, time.Second},
		{"500 four times", sandbox.Fault{Kind: sandbox.Answer, Status: 500, Times: 4}, 5 * time.Second, 10 * time.Second},
		{"dropped connection", sandbox.Fault{Kind: sandbox.DropBeforeWork}, 100 * time.Millisecond, time.Second},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, sandbox.AirbyteOptions{}, nil, nil)
			tt.fault.At = listPath
			r.standIn.AddFault(tt.fault)
			if err := r.list(t); err != nil {
				t.Fatal(err)
			}
			if got := r.clock.total(); got < tt.least || got > tt.most {
				t.Errorf("waited %s, want %s to %s", got, tt.least, tt.most)
			}
		})
	}
	t.Run("Retry-After with a date", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, sandbox.AirbyteOptions{}, nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: listPath, Kind: sandbox.Answer, Status: 503,
			Header: http.Header{"Retry-After": {r.clock.Now().Add(30 * time.Second).UTC().Format(http.TimeFormat)}}})
		if err := r.list(t); err != nil {
			t.Fatal(err)
		}
		if got := r.clock.total(); got < 28*time.Second || got > 30*time.Second {
			t.Errorf("waited %s", got)
		}
	})
	t.Run("not for ever", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, sandbox.AirbyteOptions{}, nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: listPath, Kind: sandbox.Answer, Status: 502, Body: "<html><title>502</title></html>", Times: -1})
		want(t, r.list(t), fault.AirbyteFailed, "502", "list the source definitions of workspace "+sandbox.DefaultWorkspaceID)
		if n := r.asked(listPath); n != 5 {
			t.Errorf("asked %d times", n)
		}
	})
}

func TestWorkspaces(t *testing.T) {
	t.Parallel()
	several := func(n int) (all []connector.Workspace) {
		for i := range n {
			all = append(all, connector.Workspace{ID: fmt.Sprintf("00000000-0000-4000-8000-%012d", i), Name: fmt.Sprintf("Team %d", i)})
		}
		return all
	}
	for _, version := range []string{"0.50.56", "2.2.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			o := withCredentials(version)
			o.Workspaces = several(230)
			r := setUp(t, o, nil, nil)
			_, err := r.Workspaces(t.Context(), nil)
			want(t, err, fault.WorkspaceChoice, "230 workspaces", `"Team 0" → 00000000-0000-4000-8000-000000000000`, "and 210 more", "workspace-ids")
			all := several(230)
			got := must[[]connector.Workspace](t)(r.Workspaces(t.Context(), []string{all[229].ID, all[3].ID}))
			if len(got) != 2 || got[0] != all[229] || got[1] != all[3] {
				t.Errorf("got %v", got)
			}
			_, err = r.Workspaces(t.Context(), []string{all[0].ID, "11111111-0000-4000-8000-000000000000"})
			want(t, err, fault.WorkspaceChoice, "no such workspace", "11111111-0000-4000-8000-000000000000")
		})
	}
	for name, body := range map[string]string{
		"none":    `{"workspaces":[]}`,
		"deleted": `{"workspaces":[{"workspaceId":"1","name":"Old","tombstone":true}]}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, withCredentials("2.2.0"), nil, nil)
			r.standIn.AddFault(sandbox.Fault{At: "/workspaces/list_by_organization_id", Kind: sandbox.Answer, Status: 200, Body: body})
			_, err := r.Workspaces(t.Context(), nil)
			want(t, err, fault.WorkspaceChoice, "no workspace")
		})
	}
	t.Run("denied", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: "/workspaces/list_by_organization_id", Kind: sandbox.Answer, Status: 403})
		_, err := r.Workspaces(t.Context(), nil)
		want(t, err, fault.WorkspaceChoice, "403", "workspace-ids")
	})
}

func TestList(t *testing.T) {
	t.Parallel()
	r := setUp(t, sandbox.AirbyteOptions{Version: "0.50.20"}, nil, nil)
	id := r.standIn.AddDefinition(sandbox.Definition{Type: connector.Source, Name: "Twice", Repository: repository, Tag: "1", Custom: true,
		Workspaces: []string{sandbox.DefaultWorkspaceID}, Organizations: []string{sandbox.DefaultOrganizationID},
		ResourceRequirements: json.RawMessage(`{"default":{"cpu_limit":"1"}}`)})
	r.standIn.AddDeclarative(sandbox.DefaultWorkspaceID, "Built")
	defs := must[[]connector.Definition](t)(r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source))
	seen, custom := 0, 0
	for _, d := range defs {
		if d.ID == id {
			seen++
			if !d.Custom || d.Declarative() || d.Repository != repository || !sameJSON(string(d.ResourceRequirements), `{"default":{"cpu_limit":"1"}}`) {
				t.Errorf("listed as %+v", d)
			}
		}
		if d.Custom {
			custom++
		}
	}
	if seen != 1 || custom != 2 {
		t.Errorf("listed %d times, %d custom definitions in all: %+v", seen, custom, defs)
	}
	// What a caller does to its list is nobody else's business.
	defs[0].Name = "mine"
	if again := must[[]connector.Definition](t)(r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source)); again[0].Name == "mine" {
		t.Error("the list is shared with its callers")
	}
	if n := r.asked(listPath); n != 1 {
		t.Errorf("listed %d times", n)
	}
}

// TestListMustBeThere has answers that hold no list: taken for an empty one they would lead to a second definition.
func TestListMustBeThere(t *testing.T) {
	t.Parallel()
	for _, body := range []string{`{}`, `{"sourceDefinitions":null}`, `{"sourceDefinitions":{}}`, `{"destinationDefinitions":[]}`, `[]`, `null`, ``, `{"sourceDefinitions":[`} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, sandbox.AirbyteOptions{}, nil, nil)
			r.standIn.AddFault(sandbox.Fault{At: listPath, Kind: sandbox.Answer, Status: 200, Body: body})
			want(t, r.list(t), fault.NotAirbyte)
		})
	}
}

func TestSpec(t *testing.T) {
	t.Parallel()
	r := setUp(t, sandbox.AirbyteOptions{}, nil, nil)
	for _, body := range []string{`{}`, `{"connectionSpecification":null}`} {
		r.standIn.AddFault(sandbox.Fault{At: "/source_definition_specifications/get", Kind: sandbox.Answer, Status: 200, Body: body})
		_, err := r.Spec(t.Context(), sandbox.DefaultWorkspaceID, connector.Source, "1")
		want(t, err, fault.StoredSpecDiffers, "no specification")
	}
}
