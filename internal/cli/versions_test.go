package cli_test

import (
	"encoding/json"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/apidoc"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// airbyteVersions are those with API documents to hold requests against, each with the authentication that its
// installations have.
var airbyteVersions = map[string]sandbox.Auth{
	"0.50.56": {Mode: sandbox.BasicAuth, User: "airbyte", Password: "basic-password-of-the-proxy"},
	"0.63.0":  {Mode: sandbox.BasicAuth, User: "airbyte", Password: "basic-password-of-the-proxy"},
	"1.0.0":   {Mode: sandbox.NoAuth},
	"1.5.0":   {Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "secret-of-the-application"},
	"1.6.0":   {Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "secret-of-the-application"},
	"1.8.0":   {Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "secret-of-the-application"},
	"2.0.0":   {Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "secret-of-the-application"},
	"2.1.0":   {Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "secret-of-the-application"},
	"2.2.0":   {Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "secret-of-the-application"},
}

// result is what the tests read of --output json.
type result struct {
	OK   bool `json:"ok"`
	Rows []struct {
		Connector    string `json:"connector"`
		Action       string `json:"action"`
		Pushed       bool   `json:"pushed"`
		Digest       string `json:"digest"`
		Tag          string `json:"tag"`
		PreviousTag  string `json:"previous-tag"`
		WorkspaceID  string `json:"workspace-id"`
		DefinitionID string `json:"definition-id"`
		Code         string `json:"code"`
		Error        string `json:"error"`
		Findings     []struct {
			Code     string `json:"code"`
			Severity string `json:"severity"`
			Message  string `json:"message"`
		} `json:"findings"`
	} `json:"rows"`
	Errors []struct {
		Code  string `json:"code"`
		Cause string `json:"cause"`
	} `json:"errors"`
}

func (o outcome) result(t *testing.T) result {
	t.Helper()
	var r result
	if err := json.Unmarshal([]byte(o.stdout), &r); err != nil {
		t.Fatalf("standard output is no JSON: %v\n%s", err, o)
	}
	return r
}

// TestEveryConnectorInEveryVersion publishes each connector of testdata to a real registry and to a stand-in of each
// version: created, then unchanged without a write, then updated by a new tag, with every request held against that
// version's API document.
func TestEveryConnectorInEveryVersion(t *testing.T) {
	t.Parallel()
	const user, password = "publisher", "password-of-the-publisher"
	images := registrytest.Start(t, registrytest.Config{Users: map[string]string{user: password}})
	base := pushBase(t, images.Addr+"/airbyte/source-declarative-manifest", user, password)
	documents, noDocuments := apidoc.Dir(os.Getenv)

	for version, auth := range airbyteVersions {
		t.Run(version, func(t *testing.T) {
			var document *apidoc.Doc
			if noDocuments != nil {
				t.Logf("requests are not held against Airbyte's API document: %v", noDocuments)
			} else {
				var err error
				if document, err = apidoc.Load(documents, version); err != nil {
					t.Fatal(err)
				}
			}
			var mu sync.Mutex
			airbyte := startAirbyte(t, sandbox.AirbyteOptions{Version: version, Auth: auth,
				RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: images.Addr, Username: user, Password: password}),
				OnRequest: func(r *http.Request, body []byte) {
					if document == nil {
						return
					}
					mu.Lock()
					defer mu.Unlock()
					if err := document.Check(r, body); err != nil {
						t.Errorf("%s %s does not fit the API document: %v\n%s", r.Method, r.URL.Path, err, body)
					}
				},
			})
			env := signIn(auth).with(
				"HOME", t.TempDir(),
				"AIRBYTE_PUBLISH_AIRBYTE_URL", airbyte.url,
				"AIRBYTE_PUBLISH_REGISTRY_USERNAME", user,
				"AIRBYTE_PUBLISH_REGISTRY_PASSWORD", password,
				"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP", "true",
				"AIRBYTE_PUBLISH_IMAGE", images.Addr+"/"+strings.ReplaceAll(version, ".", "-")+"/{connector}",
			)
			manifestOnly, err := connectors.WithBase(t.Context(), t.TempDir(), base)
			if err != nil {
				t.Fatal(err)
			}
			for _, c := range []struct{ name, dir, source string }{
				{"source-hello", "../../testdata/connectors/source-hello", "oci:" + layoutOf(t, "source-hello")},
				{"destination-jsonl", "../../testdata/connectors/destination-jsonl", "oci:" + layoutOf(t, "destination-jsonl")},
				{"source-manifest", manifestOnly, ""},
			} {
				t.Run(c.name, func(t *testing.T) {
					publishThrice(t, env.with("AIRBYTE_PUBLISH_SOURCE", c.source), c.dir, version, airbyte, images)
				})
			}
		})
	}
}

func publishThrice(t *testing.T, env environment, dir, version string, airbyte *standIn, images *registrytest.Registry) {
	publish := func(args ...string) result {
		t.Helper()
		o := env.run(t, append([]string{"publish", "--output", "json", dir}, args...)...)
		r := o.result(t)
		if o.code != 0 || !r.OK || len(r.Rows) != 1 {
			t.Fatalf("exit code %d\n%s", o.code, o)
		}
		return r
	}
	first := publish().Rows[0]
	if first.Action != "created" || !first.Pushed || first.DefinitionID == "" || first.PreviousTag != "" {
		t.Errorf("first publish: %+v", first)
	}

	writes, before, pulls := airbyte.Writes(), airbyte.requests.Load(), len(images.Requests(t))
	began := time.Now()
	second := publish().Rows[0]
	took := time.Since(began)
	if second.Action != "unchanged" || second.Pushed || second.DefinitionID != first.DefinitionID || second.Digest != first.Digest {
		t.Errorf("second publish: %+v", second)
	}
	if n := airbyte.Writes() - writes; n != 0 {
		t.Errorf("the second publish wrote to Airbyte %d times", n)
	}
	after := images.Requests(t)
	for _, r := range after[pulls:] {
		if r.Method != http.MethodGet && r.Method != http.MethodHead {
			t.Errorf("the second publish wrote to the registry: %s", r)
		}
	}
	if n := int(airbyte.requests.Load()-before) + len(after) - pulls; n > 10 {
		t.Errorf("the second publish took %d requests, at most 10 are allowed: %v", n, after[pulls:])
	}
	t.Logf("the second publish took %v", took)

	third := env.run(t, "publish", "--output", "json", "--tag", "0.2.0", dir)
	row := third.result(t).Rows[0]
	if version == "1.6.0" {
		// Airbyte 1.6.0 can create custom definitions and can't update them.
		if third.code != 1 || row.Code != "AP507" || row.Pushed {
			t.Errorf("update on 1.6.0: exit code %d\n%s", third.code, third)
		}
		return
	}
	if third.code != 0 || row.Action != "updated" || row.PreviousTag != "0.1.0" || row.DefinitionID != first.DefinitionID || row.Tag != "0.2.0" {
		t.Errorf("third publish: exit code %d\n%s", third.code, third)
	}
}
