package sandbox

import (
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/getkin/kin-openapi/openapi3"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/apidoc"
)

// TestAirbyteAnswersFitTheDocuments holds the stand-in's answers against Airbyte's own API documents: what they require
// is there, and nothing is there that they do not know.
func TestAirbyteAnswersFitTheDocuments(t *testing.T) {
	t.Parallel()
	dir, err := apidoc.Dir(os.Getenv)
	if errors.Is(err, apidoc.ErrNoDocuments) {
		t.Skipf("%v; set %s to their folder", err, apidoc.DirVariable)
	}
	if err != nil {
		t.Fatal(err)
	}
	for _, v := range apidoc.Versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			doc, err := openapi3.NewLoader().LoadFromFile(filepath.Join(dir, "config-v"+v+".yaml"))
			if err != nil {
				t.Fatal(err)
			}
			i := serveAirbyte(t, AirbyteOptions{Version: v, Check: func(Actor, string) CheckResult {
				return CheckResult{Status: CheckFailed, Message: "no", JobFailure: "no"}
			}})
			check := func(path string, body any) object {
				t.Helper()
				answer := i.must(path, body)
				schema := doc.Paths.Value("/v1/" + path).Post.Responses.Value("200").Value.Content.Get("application/json").Schema.Value
				if err := schema.VisitJSON(answer, openapi3.VisitAsResponse(), openapi3.MultiErrors()); err != nil {
					raw, _ := json.Marshal(answer)
					t.Errorf("%s: %v\n%s", path, err, raw)
				}
				unknownProperties(t, path, schema, answer)
				return answer
			}
			workspace := object{"workspaceId": DefaultWorkspaceID}
			for _, k := range kinds {
				def := check(k.word+"_definitions/create_custom", object{"workspaceId": DefaultWorkspaceID, k.word + "Definition": object{
					"name": "A", "dockerRepository": "r/a", "dockerImageTag": "1", "documentationUrl": ""}})[k.idKey()]
				both := object{k.idKey(): def, "workspaceId": DefaultWorkspaceID}
				check(k.word+"_definitions/list", nil)
				check(k.word+"_definitions/list_for_workspace", workspace)
				check(k.word+"_definitions/list_private", workspace)
				check(k.word+"_definitions/list_latest", nil)
				check(k.word+"_definitions/get", both)
				check(k.word+"_definitions/get_for_workspace", both)
				check(k.word+"_definitions/get_for_scope", object{"actorDefinitionId": def, "scopeId": DefaultWorkspaceID, "scopeType": "workspace"})
				check(k.word+"_definition_specifications/get", both)
				check(k.word+"_definitions/grant_definition", object{"actorDefinitionId": def, "scopeId": DefaultOrganizationID, "scopeType": "organization"})
				actor := check(k.word+"s/create", object{k.idKey(): def, "workspaceId": DefaultWorkspaceID, "name": "a", "connectionConfiguration": object{}})[k.word+"Id"]
				check(k.word+"s/list", workspace)
				check(k.word+"s/search", both)
				check(k.word+"s/get", object{k.word + "Id": actor})
				check(k.word+"s/check_connection", object{k.word + "Id": actor})
				check("actor_definition_versions/get_for_"+k.word, object{k.word + "Id": actor})
				if v != "1.6.0" {
					check(k.word+"_definitions/update", object{k.idKey(): def, "workspaceId": DefaultWorkspaceID, "dockerImageTag": "2"})
				}
			}
			check("workspaces/list_by_organization_id", object{"organizationId": DefaultOrganizationID})
			check("workspaces/get", workspace)
			if i.is(hasSpecCommand) {
				check("commands/run/spec", object{"id": "c", "workspace_id": DefaultWorkspaceID, "docker_image": "r/a", "docker_image_tag": "1"})
				eventually(t, "the command completes", func() bool { return check("commands/status", object{"id": "c"})["status"] == "completed" })
				check("commands/output/spec", object{"id": "c", "with_logs": true})
			}
		})
	}
}

// unknownProperties finds what an answer has and its schema does not.
func unknownProperties(t *testing.T, at string, schema *openapi3.Schema, value any) {
	t.Helper()
	switch value := value.(type) {
	case map[string]any:
		if len(schema.Properties) == 0 {
			return
		}
		for name, v := range value {
			if p := schema.Properties[name]; p == nil {
				t.Errorf("%s/%s is not in the document", at, name)
			} else {
				unknownProperties(t, at+"/"+name, p.Value, v)
			}
		}
	case []any:
		for _, v := range value {
			if schema.Items != nil {
				unknownProperties(t, at, schema.Items.Value, v)
			}
		}
	}
}
