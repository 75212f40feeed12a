package apidoc

import (
	"errors"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func documents(t *testing.T) string {
	t.Helper()
	dir, err := Dir(os.Getenv)
	if errors.Is(err, ErrNoDocuments) {
		t.Skipf("%v; set %s to their folder", err, DirVariable)
	}
	if err != nil {
		t.Fatal(err)
	}
	return dir
}

const id = "11111111-2222-4333-8444-555555555555"

func TestCheck(t *testing.T) {
	t.Parallel()
	dir := documents(t)
	tests := []struct {
		name, version, method, path, body string
		// want is part of the error; empty means that the request fits.
		want string
	}{
		{"get without a body", "0.50.56", "GET", "/api/v1/instance_configuration", "", ""},
		{"under a prefix", "2.2.0", "GET", "/proxy/api/v1/instance_configuration", "", ""},
		{"elsewhere", "2.2.0", "GET", "/api/public/v1/health", "", "not under /api/v1"},
		{"endpoint gone", "1.8.0", "POST", "/api/v1/workspaces/list", "", "is no endpoint"},
		{"endpoint not gone yet", "1.6.0", "POST", "/api/v1/workspaces/list", "", ""},
		{"body where none belongs", "1.6.0", "POST", "/api/v1/workspaces/list", "{}", "takes no body"},
		{"method", "2.2.0", "GET", "/api/v1/source_definitions/update", "", "has not this method"},
		{"id is no uuid", "2.2.0", "POST", "/api/v1/source_definitions/list_for_workspace", `{"workspaceId":"mine"}`, "uuid"},
		{"missing property", "2.2.0", "POST", "/api/v1/source_definitions/list_for_workspace", `{}`, `"workspaceId" is missing`},
		{"wrong type", "2.2.0", "POST", "/api/v1/workspaces/list_by_organization_id",
			`{"organizationId":"` + id + `","pagination":{"pageSize":"100"}}`, "integer"},
		{"not JSON", "2.2.0", "POST", "/api/v1/source_definitions/list_for_workspace", `workspaceId`, "not JSON"},
		{"update without the workspace", "1.8.0", "POST", "/api/v1/source_definitions/update",
			`{"sourceDefinitionId":"` + id + `","dockerImageTag":"1"}`, `"workspaceId" is missing`},
		{"update with a workspace too early", "1.6.0", "POST", "/api/v1/source_definitions/update",
			`{"sourceDefinitionId":"` + id + `","workspaceId":"` + id + `","dockerImageTag":"1"}`, "/workspaceId is not in the document"},
		{"rename too early", "1.0.0", "POST", "/api/v1/source_definitions/update",
			`{"sourceDefinitionId":"` + id + `","dockerImageTag":"1","name":"x"}`, "/name is not in the document"},
		{"misspelt requirement", "1.0.0", "POST", "/api/v1/destination_definitions/update",
			`{"destinationDefinitionId":"` + id + `","dockerImageTag":"1"}`, ""},
		{"requirement beside the misspelt one", "1.0.0", "POST", "/api/v1/destination_definitions/update",
			`{"dockerImageTag":"1"}`, `"destinationDefinitionId" is missing`},
		{"specification too early", "2.0.0", "POST", "/api/v1/source_definitions/create_custom", `{"workspaceId":"` + id + `","sourceDefinition":` +
			`{"name":"n","dockerRepository":"r","dockerImageTag":"1","documentationUrl":"","connectorSpecification":{}}}`,
			"/sourceDefinition/connectorSpecification is not in the document"},
		{"specification", "2.1.0", "POST", "/api/v1/source_definitions/create_custom", `{"workspaceId":"` + id + `","sourceDefinition":` +
			`{"name":"n","dockerRepository":"r","dockerImageTag":"1","documentationUrl":"","connectorSpecification":{"connectionSpecification":{}}}}`, ""},
		{"resource requirements with something else", "1.0.0", "POST", "/api/v1/source_definitions/create_custom", `{"sourceDefinition":` +
			`{"name":"n","dockerRepository":"r","dockerImageTag":"1","documentationUrl":"https://x.example","resourceRequirements":{"jobs":[]}}}`, "jobs"},
		{"no address", "2.2.0", "POST", "/api/v1/source_definitions/create_custom", `{"sourceDefinition":` +
			`{"name":"n","dockerRepository":"r","dockerImageTag":"1","documentationUrl":"://"}}`, "uri"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			doc, err := Load(dir, tt.version)
			if err != nil {
				t.Fatal(err)
			}
			r := httptest.NewRequest(tt.method, tt.path, strings.NewReader(tt.body))
			r.Header.Set("Content-Type", "application/json")
			err = doc.Check(r, []byte(tt.body))
			if tt.want == "" && err != nil {
				t.Error(err)
			}
			if tt.want != "" && (err == nil || !strings.Contains(err.Error(), tt.want)) {
				t.Errorf("got %v, want it to tell of %q", err, tt.want)
			}
		})
	}
	t.Run("content type", func(t *testing.T) {
		t.Parallel()
		doc, err := Load(dir, "2.2.0")
		if err != nil {
			t.Fatal(err)
		}
		r := httptest.NewRequest(http.MethodPost, "/api/v1/commands/status", nil)
		r.Header.Set("Content-Type", "text/plain")
		if err := doc.Check(r, []byte(`{"id":"1"}`)); err == nil || !strings.Contains(err.Error(), "application/json") {
			t.Errorf("got %v, want it to refuse the content type", err)
		}
	})
}

func TestAllVersionsLoad(t *testing.T) {
	t.Parallel()
	dir := documents(t)
	files, err := filepath.Glob(filepath.Join(dir, "config-v*.yaml"))
	if err != nil || len(files) != len(Versions) {
		t.Errorf("the folder holds %d documents, Versions names %d (%v)", len(files), len(Versions), err)
	}
	for _, v := range Versions {
		if _, err := Load(dir, v); err != nil {
			t.Error(err)
		}
	}
	if _, err := Load(dir, "0.1.0"); err == nil {
		t.Error("a version without a document must be an error")
	}
}

func TestDir(t *testing.T) {
	t.Parallel()
	here := t.TempDir()
	if dir, err := Dir(func(string) string { return here }); err != nil || dir != here {
		t.Errorf("got %q, %v; want the folder that the environment names", dir, err)
	}
	if _, err := Dir(func(string) string { return filepath.Join(here, "no") }); err == nil || errors.Is(err, ErrNoDocuments) {
		t.Errorf("got %v; a folder that was named and is not there must not be skipped over", err)
	}
}
