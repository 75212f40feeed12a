package sandbox

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

func TestAirbyteCreate(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			i := serveAirbyte(t, AirbyteOptions{Version: v})
			one, two := i.create(), i.create()
			if one == two || len(i.Definitions()) != 2 {
				t.Errorf("two creates made %v", i.Definitions())
			}
			if i.storedTitle(one) != "a" {
				t.Errorf("stored spec %v", i.storedTitle(one))
			}
			d := i.listed(one)[0]
			if d["releaseStage"] != "custom" || d["dockerImageTag"] != "1.0.0" || d["protocolVersion"] != "0.2.0" {
				t.Errorf("listed as %v", d)
			}
			if _, has := d["custom"]; has != (v != "0.50.0") {
				t.Errorf("custom: %v", d["custom"])
			}
			dest := i.must("destination_definitions/create_custom", object{"workspaceId": DefaultWorkspaceID, "destinationDefinition": object{
				"name": "Lake", "dockerRepository": "r/d", "dockerImageTag": "1", "documentationUrl": "https://example.com"}})
			if _, has := dest["normalizationConfig"]; has != (v[0] == '0') {
				t.Errorf("destination %v", dest)
			}
			if i.Writes() != 3 {
				t.Errorf("%d writes, want 3", i.Writes())
			}
		})
	}
}

func TestAirbyteCreateScopes(t *testing.T) {
	t.Parallel()
	for _, tc := range []struct {
		version, scope string
		status         int
	}{
		{"0.50.0", "workspace", 400},
		{"1.5.0", "organization", 200}, {"1.5.0", "workspace", 200}, {"1.5.0", "", 500},
		{"1.6.0", "organization", 500},
		{"1.7.0", "organization", 422}, {"1.7.0", "workspace", 200}, {"1.7.0", "", 422},
		{"2.2.0", "organization", 422},
	} {
		i := serveAirbyte(t, AirbyteOptions{Version: tc.version})
		b := createBody("A", "1")
		delete(b, "workspaceId")
		if tc.scope != "" {
			b["scopeType"], b["scopeId"] = tc.scope, map[string]string{"workspace": DefaultWorkspaceID, "organization": DefaultOrganizationID}[tc.scope]
		}
		status, text, o := i.ask("POST", "/api/v1/source_definitions/create_custom", b)
		if status != tc.status {
			t.Errorf("%s, scope %q: %d %s, want %d", tc.version, tc.scope, status, text, tc.status)
		}
		if status == 422 && o["data"].(object)["message"] == nil {
			t.Errorf("%s: no problem body: %s", tc.version, text)
		}
	}
}

func TestAirbyteUpdate(t *testing.T) {
	t.Parallel()
	for _, v := range versions {
		t.Run(v, func(t *testing.T) {
			t.Parallel()
			var title atomic.Value
			title.Store("first")
			var runs atomic.Int64
			i := serveAirbyte(t, AirbyteOptions{Version: v, RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) {
				runs.Add(1)
				return prints(specOf(title.Load().(string)))(ctx, ref)
			}})
			id := i.create()
			title.Store("second")

			broken := v == "1.6.0" || v == "1.6.1"
			status, o := i.update(id, "2.0.0")
			if broken {
				if status != 500 || i.listed(id)[0]["dockerImageTag"] != "1.0.0" {
					t.Errorf("an update to a new tag: %d %v", status, o)
				}
			} else if status != 200 || i.storedTitle(id) != "second" {
				t.Errorf("an update to a new tag: %d %v, spec %v", status, o, i.storedTitle(id))
			}

			title.Store("third")
			ran := runs.Load()
			if status, o := i.update(id, "1.0.0"); status != 200 || i.storedTitle(id) != "first" || runs.Load() != ran {
				t.Errorf("back to a known tag: %d %v, spec %v, %d runs", status, o, i.storedTitle(id), runs.Load()-ran)
			}
			if !broken {
				for _, want := range []string{"third", "fourth"} {
					title.Store(want)
					if status, o := i.update(id, "dev"); status != 200 || i.storedTitle(id) != want {
						t.Errorf("dev: %d %v, spec %v", status, o, i.storedTitle(id))
					}
				}
			}

			status, o = i.post("source_definitions/update", object{"sourceDefinitionId": id, "dockerImageTag": "1.0.0", "workspaceId": DefaultWorkspaceID,
				"name": "Renamed", "dockerRepository": "other/x", "documentationUrl": "https://other.example", "resourceRequirements": object{"default": object{"cpu_limit": "1"}}})
			want := "Acme"
			if !strings.HasPrefix(v, "0.") && v != "1.0.0" {
				want = "Renamed"
			}
			d := i.listed(id)[0]
			if status != 200 || d["name"] != want || d["dockerRepository"] != "127.0.0.1:5000/acme/source-x" || d["documentationUrl"] != "" || d["resourceRequirements"] == nil {
				t.Errorf("%d %v, listed as %v, want name %s", status, o, d, want)
			}
			if _, o := i.update(id, "1.0.0"); o["resourceRequirements"] == nil {
				t.Error("an update without resourceRequirements dropped them")
			}

			status, o = i.post("source_definitions/update", object{"sourceDefinitionId": id, "dockerImageTag": "1.0.0"})
			modern := v == "dev" || v[0] == '2' || v == "1.7.0" || v == "1.8.0"
			if (status == 400) != modern || (status == 200) == modern {
				t.Errorf("without a workspace: %d %v", status, o)
			}
		})
	}
}

func TestAirbyteRefusesUpdates(t *testing.T) {
	t.Parallel()
	i := serveAirbyte(t, AirbyteOptions{Version: "1.8.0", AirGapped: true})
	id := i.create()
	if status, o := i.update(id, "2.0.0"); status != 500 || !strings.Contains(fmt.Sprint(o["message"]), "Failed to fetch connector registry entry for") {
		t.Errorf("air-gapped: %d %v", status, o)
	}
	cloud := serveAirbyte(t, AirbyteOptions{Edition: Cloud})
	for _, path := range []string{"source_definitions/create_custom", "source_definitions/update"} {
		b := createBody("A", "1")
		b["sourceDefinitionId"], b["dockerImageTag"] = "dfd88b22-b603-4c3d-aad7-3701784586b1", "1"
		status, text, _ := cloud.ask("POST", "/api/v1/"+path, b)
		if status != 400 || !strings.Contains(text, "Non-declarative definitions cannot be created or updated in Airbyte Cloud.") {
			t.Errorf("Cloud, %s: %d %s", path, status, text)
		}
	}
}

func TestAirbyteTakesSpecification(t *testing.T) {
	t.Parallel()
	for v, ran := range map[string]int64{"2.0.0": 1, "2.1.0": 0, "2.2.0": 0} {
		var runs atomic.Int64
		i := serveAirbyte(t, AirbyteOptions{Version: v, RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) {
			runs.Add(1)
			return prints(specOf("run"))(ctx, ref)
		}})
		b := createBody("A", "1")
		b["sourceDefinition"].(object)["connectorSpecification"] = object{"connectionSpecification": object{"title": "given"}}
		id := i.must("source_definitions/create_custom", b)["sourceDefinitionId"].(string)
		if want := map[int64]string{0: "given", 1: "run"}[ran]; runs.Load() != ran || i.storedTitle(id) != want {
			t.Errorf("%s: %d runs, spec %v", v, runs.Load(), i.storedTitle(id))
		}
	}
}

func TestAirbyteLists(t *testing.T) {
	t.Parallel()
	other := "11111111-2222-4333-8444-555555555555"
	i := serveAirbyte(t, AirbyteOptions{Version: "1.8.0", Workspaces: []connector.Workspace{{ID: DefaultWorkspaceID, Name: "One"}, {ID: other, Name: "Two"}}})
	id := i.create()
	twin := i.AddDeclarative(DefaultWorkspaceID, "Acme")
	if got := i.listed(twin); len(got) != 1 || got[0]["custom"] != true || got[0]["name"] != "Acme" {
		t.Errorf("the Connector Builder's definition is listed as %v", got)
	}
	inOther := func(path string) bool {
		for _, d := range i.must(path, object{"workspaceId": other})["sourceDefinitions"].([]any) {
			if d.(object)["sourceDefinitionId"] == id {
				return true
			}
		}
		return false
	}
	if inOther("source_definitions/list_for_workspace") || !inOther("source_definitions/list") || inOther("source_definitions/list_private") || inOther("source_definitions/list_latest") {
		t.Error("a custom definition is in the lists that it should not be in, or not in those that it should")
	}
	scope := object{"actorDefinitionId": id, "scopeId": DefaultOrganizationID, "scopeType": "organization"}
	if status, _ := i.post("source_definitions/get_for_scope", scope); status != 404 {
		t.Errorf("get_for_scope of one that is not granted: %d", status)
	}
	if status, _ := i.post("source_definitions/get_for_workspace", object{"sourceDefinitionId": id, "workspaceId": other}); status != 404 {
		t.Errorf("get_for_workspace of one that is not granted: %d", status)
	}

	i.must("source_definitions/grant_definition", scope)
	i.must("source_definitions/get_for_scope", scope)
	if got := i.listed(id); len(got) != 2 {
		t.Errorf("granted twice, listed %d times", len(got))
	}
	if !inOther("source_definitions/list_for_workspace") {
		t.Error("granted to the organization, but not listed for its other workspace")
	}
	if status, _ := i.post("source_definitions/revoke_definition", scope); status != 204 || len(i.listed(id)) != 1 {
		t.Errorf("revoke: %d, listed %d times", status, len(i.listed(id)))
	}

	i.update(id, "2.0.0")
	i.Pin(id, DefaultWorkspaceID, "1.0.0")
	get := func() any {
		return i.must("source_definitions/get", object{"sourceDefinitionId": id})["dockerImageTag"]
	}
	if i.listed(id)[0]["dockerImageTag"] != "1.0.0" || get() != "2.0.0" {
		t.Errorf("pinned: listed with %v, get has %v", i.listed(id)[0]["dockerImageTag"], get())
	}
	i.Pin(id, DefaultWorkspaceID, "")

	if status, _ := i.post("source_definitions/delete", object{"sourceDefinitionId": id}); status != 204 {
		t.Errorf("delete: %d", status)
	}
	if len(i.listed(id)) != 0 || get() != "2.0.0" {
		t.Error("a deleted definition is listed, or get does not return it")
	}
	if status, _ := i.update(id, "3.0.0"); status != 200 || len(i.listed(id)) != 0 {
		t.Errorf("an update of a deleted definition: %d, listed %d times", status, len(i.listed(id)))
	}
	if status, _ := i.post("source_definitions/list_for_workspace", object{"workspaceId": id}); status != 404 {
		t.Errorf("an unknown workspace: %d", status)
	}
}
