package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// versions are those that the reference describes.
var versions = []string{"0.50.0", "0.50.56", "0.63.0", "1.0.0", "1.5.0", "1.6.0", "1.6.1", "1.7.0", "1.8.0", "2.0.0", "2.1.0", "2.2.0", "dev"}

// instance is a stand-in that is being tested.
type instance struct {
	*Airbyte
	t     *testing.T
	url   string
	token string
}

func serveAirbyte(t *testing.T, o AirbyteOptions) *instance {
	t.Helper()
	if o.RunSpec == nil {
		o.RunSpec = prints(specOf("a"))
	}
	a := NewAirbyte(o)
	s := httptest.NewServer(a)
	t.Cleanup(func() { s.Close(); a.Close() })
	return &instance{Airbyte: a, t: t, url: s.URL}
}

func specOf(title string) string {
	return fmt.Sprintf(`{"type":"SPEC","spec":{"documentationUrl":"https://example.com","connectionSpecification":{"type":"object","title":%q,"required":["host"],"properties":{}}}}`, title)
}

// prints is a RunSpec of connectors that print the lines.
func prints(lines ...string) RunSpec {
	return func(context.Context, string) (connector.SpecRun, error) {
		return connector.SpecRun{Stdout: []byte(strings.Join(lines, "\n") + "\n")}, nil
	}
}

// eventually waits for what happens after an answer.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("%s: never", what)
		}
	}
}

type object = map[string]any

// ask sends one request and returns the answer's status, text, and JSON object if it is one.
func (i *instance) ask(method, path string, body any) (int, string, object) {
	i.t.Helper()
	var sent io.Reader
	switch b := body.(type) {
	case nil:
	case string:
		sent = strings.NewReader(b)
	default:
		raw, err := json.Marshal(b)
		if err != nil {
			i.t.Fatal(err)
		}
		sent = bytes.NewReader(raw)
	}
	req, err := http.NewRequestWithContext(i.t.Context(), method, i.url+path, sent)
	if err != nil {
		i.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if i.token != "" {
		req.Header.Set("Authorization", i.token)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, err.Error(), nil
	}
	defer resp.Body.Close() //nolint:errcheck // It was read whole.
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		i.t.Fatal(err)
	}
	var o object
	_ = json.Unmarshal(raw, &o) // Not every answer is an object.
	return resp.StatusCode, string(raw), o
}

// post sends to the Config API.
func (i *instance) post(path string, body any) (int, object) {
	i.t.Helper()
	status, _, o := i.ask("POST", "/api/v1/"+path, body)
	return status, o
}

// must sends to the Config API and expects a 200.
func (i *instance) must(path string, body any) object {
	i.t.Helper()
	status, text, o := i.ask("POST", "/api/v1/"+path, body)
	if status != 200 {
		i.t.Fatalf("%s: %d %s", path, status, text)
	}
	return o
}

func createBody(name, tag string) object {
	return object{"workspaceId": DefaultWorkspaceID, "sourceDefinition": object{"name": name,
		"dockerRepository": "127.0.0.1:5000/acme/source-x", "dockerImageTag": tag, "documentationUrl": ""}}
}

// create makes a definition "Acme" with the tag 1.0.0 and returns its id.
func (i *instance) create() string {
	i.t.Helper()
	return i.must("source_definitions/create_custom", createBody("Acme", "1.0.0"))["sourceDefinitionId"].(string)
}

func (i *instance) update(id, tag string) (int, object) {
	i.t.Helper()
	return i.post("source_definitions/update", object{"sourceDefinitionId": id, "dockerImageTag": tag, "workspaceId": DefaultWorkspaceID})
}

// listed returns the definitions of the default workspace with the id.
func (i *instance) listed(id string) (list []object) {
	i.t.Helper()
	all := i.must("source_definitions/list_for_workspace", object{"workspaceId": DefaultWorkspaceID})["sourceDefinitions"].([]any)
	for _, d := range all {
		if d.(object)["sourceDefinitionId"] == id {
			list = append(list, d.(object))
		}
	}
	return list
}

// storedTitle is the title of the stored specification that the workspace sees.
func (i *instance) storedTitle(id string) any {
	i.t.Helper()
	o := i.must("source_definition_specifications/get", object{"sourceDefinitionId": id, "workspaceId": DefaultWorkspaceID})
	return o["connectionSpecification"].(object)["title"]
}

// TestAirbyteEndpointsByVersion holds which endpoints there are, without authentication, where a missing one is a 404.
func TestAirbyteEndpointsByVersion(t *testing.T) {
	t.Parallel()
	for _, e := range []struct{ from, until, method, path string }{
		{"0.50.9", "", "GET", "/api/v1/instance_configuration"},
		{"", "1.7.0", "POST", "/api/v1/workspaces/list"},
		{"0.50.25", "", "POST", "/api/v1/workspaces/list_by_organization_id"},
		{"0.63.9", "", "GET", "/api/public/v1/workspaces"},
		{"1.7.0", "", "POST", "/api/v1/commands/run/check"},
		{"2.0.0", "", "POST", "/api/v1/commands/run/spec"},
		{"2.0.0", "", "POST", "/api/v1/commands/output/spec"},
		{"", "", "POST", "/api/v1/source_definitions/create_custom"},
		{"", "", "POST", "/api/v1/destination_definitions/list_for_workspace"},
		{"9.9.9", "", "POST", "/api/v1/source_definitions/create"},
		{"9.9.9", "", "POST", "/api/v1/applications/token"},
	} {
		for _, v := range versions {
			i := serveAirbyte(t, AirbyteOptions{Version: v})
			from, _ := parseVersion(e.from)
			until, _ := parseVersion(e.until)
			is, ok := parseVersion(v)
			if !ok {
				is = version{9, 0, 0}
			}
			want := (e.from == "" || !is.less(from)) && (e.until == "" || is.less(until))
			status, text, _ := i.ask(e.method, e.path, nil)
			if status == 404 && !strings.Contains(text, "Page Not Found") {
				t.Errorf("%s: %s", e.path, text)
			}
			if got := status != 404; got != want {
				t.Errorf("%s: %s %s: %d %s, want it there: %v", v, e.method, e.path, status, text, want)
			}
		}
	}
}

func TestAirbyteInstanceConfiguration(t *testing.T) {
	t.Parallel()
	credentials := Auth{Mode: ClientCredentials, ClientID: "id", ClientSecret: "secret"}
	for _, tc := range []struct {
		o                      AirbyteOptions
		edition, version, mode any
	}{
		{AirbyteOptions{Version: "0.50.56"}, "community", nil, nil},
		{AirbyteOptions{Version: "0.63.0"}, "community", "0.63.0", "none"},
		{AirbyteOptions{Version: "v1.8.0", Auth: credentials}, "community", "1.8.0", "simple"},
		{AirbyteOptions{Version: "1.0.0", Auth: credentials, Edition: Enterprise}, "pro", "1.0.0", "oidc"},
		{AirbyteOptions{Version: "2.0.0", Auth: credentials, Edition: Enterprise}, "enterprise", "2.0.0", "oidc"},
		{AirbyteOptions{Version: "dev"}, "community", "dev", "none"},
		{AirbyteOptions{}, "community", NewestAirbyte, "none"},
	} {
		i := serveAirbyte(t, tc.o)
		status, _, c := i.ask("GET", "/api/v1/instance_configuration", nil)
		mode := any(nil)
		if auth, ok := c["auth"].(object); ok {
			mode = auth["mode"]
		}
		if status != 200 || c["edition"] != tc.edition || c["version"] != tc.version || mode != tc.mode {
			t.Errorf("%s: %d %v", tc.o.Version, status, c)
		}
		if _, ok := c["defaultWorkspaceId"]; ok {
			t.Errorf("%s: it tells a default workspace, which no Airbyte does", tc.o.Version)
		}
	}
	status, _, _ := serveAirbyte(t, AirbyteOptions{Edition: Cloud}).ask("GET", "/api/v1/instance_configuration", nil)
	if status != 404 {
		t.Errorf("Cloud has it: %d", status)
	}
}

func TestAirbyteWithoutSignIn(t *testing.T) {
	t.Parallel()
	i := serveAirbyte(t, AirbyteOptions{})
	if status, _ := i.post("applications/token", object{"client_id": "a", "client_secret": "b"}); status != 404 {
		t.Errorf("token without authentication: %d, want 404", status)
	}
}

func TestAirbyteBasicSignIn(t *testing.T) {
	t.Parallel()
	i := serveAirbyte(t, AirbyteOptions{Version: "0.50.56", Auth: Auth{Mode: BasicAuth, User: "airbyte", Password: "password"}})
	if status, text, _ := i.ask("GET", "/api/v1/health", nil); status != 401 || !strings.Contains(text, "<html>") {
		t.Errorf("without a password: %d %s", status, text)
	}
	i.token = basic(RegistryUser{Name: "airbyte", Password: "password"})
	if status, text, _ := i.ask("GET", "/api/v1/health", nil); status != 200 {
		t.Errorf("with the password: %d %s", status, text)
	}
	if status, _ := i.post("commands/run/spec", nil); status != 404 {
		t.Errorf("a missing endpoint behind the proxy: %d, want 404", status)
	}
}

func TestAirbyteClientCredentials(t *testing.T) {
	t.Parallel()
	var clock atomic.Int64
	now := func() time.Time { return time.Unix(1_700_000_000+clock.Load(), 0) }
	i := serveAirbyte(t, AirbyteOptions{Version: "1.8.0", Now: now, Auth: Auth{Mode: ClientCredentials, ClientID: "id", ClientSecret: "secret"}})
	list := func() int {
		status, _ := i.post("source_definitions/list", nil)
		return status
	}
	if status := list(); status != 401 {
		t.Errorf("without a token: %d", status)
	}
	if status, _ := i.post("workspaces/list", nil); status != 401 {
		t.Errorf("a missing endpoint without a token: %d, want 401", status)
	}
	if status, o := i.post("applications/token", object{"client_id": "id", "client_secret": "no"}); status != 400 {
		t.Errorf("bad credentials: %d %v, want 400", status, o)
	}
	sign := func() {
		i.token = "Bearer " + i.must("applications/token", object{"client_id": "id", "client_secret": "secret"})["access_token"].(string)
	}
	sign()
	if status := list(); status != 200 {
		t.Errorf("with a token: %d", status)
	}
	if status, _ := i.post("workspaces/list", nil); status != 403 {
		t.Errorf("a missing endpoint with a token: %d, want 403", status)
	}
	clock.Store(15*60 - 1)
	if status := list(); status != 200 {
		t.Errorf("a second before the token expires: %d", status)
	}
	clock.Store(15 * 60)
	if status := list(); status != 401 {
		t.Errorf("when the token has expired: %d", status)
	}
	sign()
	i.AddFault(Fault{At: "/source_definitions/list", Kind: ExpireTokens})
	if status := list(); status != 401 {
		t.Errorf("a token that was revoked: %d", status)
	}
	i.token = "Bearer a.b.c"
	if status := list(); status != 401 {
		t.Errorf("a forged token: %d", status)
	}
	req, err := http.NewRequestWithContext(t.Context(), "POST", i.url+"/api/public/v1/applications/token",
		strings.NewReader("client_id=id&client_secret=secret&grant-type=client_credentials"))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	var o struct {
		ExpiresIn int `json:"expires_in"`
	}
	if err := json.NewDecoder(resp.Body).Decode(&o); err != nil || o.ExpiresIn != 900 {
		t.Errorf("the public endpoint: %s %+v %v", resp.Status, o, err)
	}
	_ = resp.Body.Close()
}

func TestAirbyteTokenLifetimes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		o    AirbyteOptions
		want time.Duration
	}{
		{AirbyteOptions{Version: "1.5.0"}, 24 * time.Hour},
		{AirbyteOptions{Version: "1.6.0"}, 15 * time.Minute},
		{AirbyteOptions{Edition: Cloud}, 3 * time.Minute},
		{AirbyteOptions{Auth: Auth{Lifetime: time.Second}}, time.Second},
	} {
		if got := NewAirbyte(tc.o).lifetime(); got != tc.want {
			t.Errorf("%+v: %s, want %s", tc.o, got, tc.want)
		}
	}
}

func TestAirbytePaths(t *testing.T) {
	t.Parallel()
	i := serveAirbyte(t, AirbyteOptions{PathPrefix: "/airbyte/"})
	if status, text, _ := i.ask("GET", "/airbyte/api/v1/health", nil); status != 200 || !strings.Contains(text, "true") {
		t.Errorf("below the prefix: %d %s", status, text)
	}
	if status, text, _ := i.ask("GET", "/airbyte/api/public/v1/health", nil); status != 200 || text != "Successful operation" {
		t.Errorf("the public API's health: %d %s", status, text)
	}
	if status, text, _ := i.ask("POST", "/airbyte/api/v1/source_definitions/get", strings.Repeat(" ", maxAirbyteBody+1)); status != 413 {
		t.Errorf("a huge body: %d %s", status, text)
	}
	if status, text, _ := i.ask("GET", "/api/v1/health", nil); status != 404 || !strings.Contains(text, "<html>") {
		t.Errorf("beside the prefix: %d %s", status, text)
	}
	if status, text, _ := i.ask("GET", "/airbyte/workspaces", nil); status != 200 || !strings.Contains(text, "<html") {
		t.Errorf("the web pages: %d %s", status, text)
	}
	if status, _, _ := i.ask("POST", "/airbyte/source_definitions/list", nil); status != 405 {
		t.Errorf("a POST to the web pages: %d", status)
	}
	cloud := serveAirbyte(t, AirbyteOptions{Edition: Cloud, Auth: Auth{Mode: ClientCredentials, ClientID: "id", ClientSecret: "secret"}})
	if status, text, _ := cloud.ask("POST", "/v1/applications/token", object{"client_id": "id", "client_secret": "secret"}); status != 200 {
		t.Errorf("Cloud's token: %d %s", status, text)
	}
	if status, text, _ := cloud.ask("POST", "/v1/applications/token", object{"client_id": "id", "client_secret": "no"}); status != 401 {
		t.Errorf("Cloud, bad credentials: %d %s", status, text)
	}
}

func TestAirbyteWorkspaces(t *testing.T) {
	t.Parallel()
	other := "11111111-2222-4333-8444-555555555555"
	i := serveAirbyte(t, AirbyteOptions{Version: "1.6.0", Workspaces: []connector.Workspace{{ID: DefaultWorkspaceID, Name: "One"}, {ID: other, Name: "Two"}}})
	if n := len(i.must("workspaces/list", nil)["workspaces"].([]any)); n != 2 {
		t.Errorf("%d workspaces, want 2", n)
	}
	page := i.must("workspaces/list_by_organization_id", object{"organizationId": DefaultOrganizationID, "pagination": object{"pageSize": 1, "rowOffset": 1}})["workspaces"].([]any)
	if len(page) != 1 || page[0].(object)["workspaceId"] != other {
		t.Errorf("page %v", page)
	}
	if n := len(i.must("workspaces/list_by_organization_id", object{"organizationId": other})["workspaces"].([]any)); n != 0 {
		t.Errorf("%d workspaces in another organization", n)
	}
	if got := i.must("workspaces/get", object{"workspaceId": other})["name"]; got != "Two" {
		t.Errorf("workspace %v", got)
	}
	if status, _ := i.post("workspaces/get", object{"workspaceId": "11111111-2222-4333-8444-555555555556"}); status != 404 {
		t.Errorf("an unknown workspace: %d", status)
	}
	_, _, o := i.ask("GET", "/api/public/v1/workspaces?limit=1&offset=1", nil)
	if data := o["data"].([]any); len(data) != 1 || data[0].(object)["name"] != "Two" {
		t.Errorf("public page %v", data)
	}
}

// TestAirbyteErrors holds the shapes of error bodies by version.
func TestAirbyteErrors(t *testing.T) {
	t.Parallel()
	broken := func(context.Context, string) (connector.SpecRun, error) {
		return connector.SpecRun{}, errors.New("no such image")
	}
	unknown := object{"sourceDefinitionId": "9a0c0000-0000-4000-8000-000000000000", "dockerImageTag": "1", "workspaceId": DefaultWorkspaceID}
	long := createBody(strings.Repeat("x", 257), "1")
	for _, tc := range []struct {
		name, path string
		body       any
		run        RunSpec
		status     int
		message    string
		// known messages are there in every version.
		known bool
	}{
		{"failed spec", "source_definitions/create_custom", createBody("A", "1"), broken, 500, "Get Spec job failed.", false},
		{"unknown id", "source_definitions/update", unknown, nil, 404, "Could not find configuration for STANDARD_SOURCE_DEFINITION", false},
		{"missing name", "source_definitions/create_custom", object{"workspaceId": DefaultWorkspaceID, "sourceDefinition": object{}}, nil, 400, "invalid input", false},
		{"wrong types", "source_definitions/create_custom", object{"workspaceId": DefaultWorkspaceID, "sourceDefinition": "x"}, nil, 400, "must be an object", false},
		{"bad URI", "source_definitions/create_custom", object{"workspaceId": DefaultWorkspaceID, "sourceDefinition": object{"name": "A", "dockerRepository": "r/a",
			"dockerImageTag": "1", "documentationUrl": "http://[bad"}}, nil, 400, "must be a URI", false},
		{"bad uuid", "source_definitions/get", object{"sourceDefinitionId": "x"}, nil, 400, "invalid input", false},
		{"bad JSON", "source_definitions/get", "{", nil, 422, "json", false},
		{"an array", "source_definitions/get", "[]", nil, 422, "json", false},
		{"protocol", "source_definitions/create_custom", createBody("A", "1"),
			prints(`{"type":"SPEC","spec":{"protocol_version":"1.0.0","connectionSpecification":{}}}`), 400, "Protocol Version 1.0.0 is not supported", true},
	} {
		for _, v := range []string{"0.50.56", "1.5.0", "1.8.0", "2.0.0", "2.2.0"} {
			i := serveAirbyte(t, AirbyteOptions{Version: v, RunSpec: tc.run})
			status, text, o := i.ask("POST", "/api/v1/"+tc.path, tc.body)
			if status != tc.status {
				t.Errorf("%s, %s: %d %s, want %d", tc.name, v, status, text, tc.status)
			}
			modern := v[0] == '2'
			if modern != (o["errorId"] != nil) {
				t.Errorf("%s, %s: errorId in %s", tc.name, v, text)
			}
			if got := strings.Contains(text, tc.message); got != (!modern || tc.known) {
				t.Errorf("%s, %s: message in %s", tc.name, v, text)
			}
			if got := o["exceptionStack"] != nil; got != (v == "0.50.56") {
				t.Errorf("%s, %s: stack in %s", tc.name, v, text)
			}
			if tc.status == 400 && !tc.known && !modern && o["validationErrors"] == nil {
				t.Errorf("%s, %s: no validationErrors in %s", tc.name, v, text)
			}
		}
	}
	for v, want := range map[string]int{"1.0.0": 500, "1.5.0": 409, "2.2.0": 409} {
		if status, o := serveAirbyte(t, AirbyteOptions{Version: v}).post("source_definitions/create_custom", long); status != want {
			t.Errorf("%s: a name too long: %d %v, want %d", v, status, o, want)
		}
	}
	i := serveAirbyte(t, AirbyteOptions{})
	for _, key := range []string{"dockerRepository", "dockerImageTag", "documentationUrl", "icon"} {
		b := createBody("A", "1")
		b["sourceDefinition"].(object)[key] = strings.Repeat("x", 257)
		if status, _ := i.post("source_definitions/create_custom", b); status != 409 {
			t.Errorf("%s too long: %d", key, status)
		}
	}
	if n := len(i.Definitions()); n != 0 {
		t.Errorf("%d definitions made by failed creates", n)
	}
}

// TestAirbyteUpdate holds what an update changes, by version.
// TestAirbyteSpecJobs holds what the commands API says of each end that a spec job can come to, and what create does.
func TestAirbyteHooksAndShow(t *testing.T) {
	t.Parallel()
	var bodies sync.Map
	i := serveAirbyte(t, AirbyteOptions{Version: "2.1.0", OnRequest: func(r *http.Request, body []byte) { bodies.Store(r.URL.Path, string(body)) }})
	if _, text, _ := i.ask("GET", "/sandbox/definitions", nil); text != "Airbyte 2.1.0 holds no custom definitions.\n" {
		t.Errorf("empty: %q", text)
	}
	id := i.create()
	if b, _ := bodies.Load("/api/v1/source_definitions/create_custom"); !strings.Contains(fmt.Sprint(b), `"name":"Acme"`) {
		t.Errorf("the hook saw %v", b)
	}
	want := fmt.Sprintf(`Airbyte 2.1.0 holds these custom definitions:

source Acme
  id          %s
  workspace   %s
  image       127.0.0.1:5000/acme/source-x:1.0.0
  spec        a
  requires    host
`, id, DefaultWorkspaceID)
	if _, text, _ := i.ask("GET", "/sandbox/definitions", nil); text != want {
		t.Errorf("listing:\n%s\nwant:\n%s", text, want)
	}
}

func TestCheckAirbyteVersion(t *testing.T) {
	t.Parallel()
	for _, good := range []string{"0.50.56", "v1.8.0", "2.2", "dev", "1.8.0-rc1"} {
		if err := CheckAirbyteVersion(good); err != nil {
			t.Errorf("%s: %v", good, err)
		}
	}
	for _, bad := range []string{"", "latest", "1.2.3.4", "1.x", "-1"} {
		if err := CheckAirbyteVersion(bad); fault.CodeOf(err) != fault.InvalidInput {
			t.Errorf("%q: %v", bad, err)
		}
	}
}
