package airbyte_test

import (
	"encoding/json"
	"errors"
	"net/http"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/apidoc"
)

// The client is what the order of things asks for.
var (
	_ publish.Workspaces  = (*airbyte.Client)(nil)
	_ publish.Definitions = (*airbyte.Client)(nil)
)

// TestEveryVersion goes the whole way with each version: create, nothing to do, update. What is sent is held against
// that version's API document where the documents are on this machine.
func TestEveryVersion(t *testing.T) {
	t.Parallel()
	dir, err := apidoc.Dir(os.Getenv)
	if err != nil && !errors.Is(err, apidoc.ErrNoDocuments) {
		t.Fatal(err)
	}
	for _, version := range append([]string{"0.50.0", "0.50.40", "1.6.1", "1.6.2", "dev"}, apidoc.Versions...) {
		for _, kind := range []connector.Type{connector.Source, connector.Destination} {
			t.Run(version+"/"+string(kind), func(t *testing.T) {
				t.Parallel()
				wholeWay(t, version, kind, func(*http.Request, []byte) {})
			})
		}
	}
	t.Run("documents", func(t *testing.T) {
		t.Parallel()
		if dir == "" {
			t.Skipf("%v; set %s to their folder", err, apidoc.DirVariable)
		}
		for _, version := range apidoc.Versions {
			for _, kind := range []connector.Type{connector.Source, connector.Destination} {
				t.Run(version+"/"+string(kind), func(t *testing.T) {
					t.Parallel()
					doc, err := apidoc.Load(dir, version)
					if err != nil {
						t.Fatal(err)
					}
					var checked sync.Map
					wholeWay(t, version, kind, func(r *http.Request, body []byte) {
						checked.Store(r.URL.Path, true)
						if err := doc.Check(r, body); err != nil {
							t.Error(err)
						}
					})
					for _, path := range []string{"instance_configuration", string(kind) + "_definitions/create_custom", string(kind) + "_definitions/update"} {
						if _, ok := checked.Load("/api/v1/" + path); !ok {
							t.Errorf("no request to %s was checked", path)
						}
					}
				})
			}
		}
	})
}

func wholeWay(t *testing.T, version string, kind connector.Type, see func(*http.Request, []byte)) {
	o := sandbox.AirbyteOptions{Version: version, OnRequest: see, CommandPolls: 2}
	switch {
	case strings.HasPrefix(version, "0.50"):
	case strings.HasPrefix(version, "0.63"):
		o.Auth = sandbox.Auth{Mode: sandbox.BasicAuth, User: "airbyte", Password: password}
	default:
		o.Auth = sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: clientID, ClientSecret: clientSecret}
	}
	r := setUp(t, o, nil, nil)
	ctx := t.Context()
	ws := must[[]connector.Workspace](t)(r.Workspaces(ctx, nil))
	if len(ws) != 1 || ws[0] != (connector.Workspace{ID: sandbox.DefaultWorkspaceID, Name: "Default Workspace"}) {
		t.Fatalf("workspaces are %v", ws)
	}
	must[[]connector.Workspace](t)(r.Workspaces(ctx, []string{ws[0].ID}))
	before := must[[]connector.Definition](t)(r.List(ctx, ws[0].ID, kind))

	ch := connector.Change{WorkspaceID: ws[0].ID, Type: kind, Name: "Acme ERP", Repository: "ghcr.io/acme/erp", Tag: "1.0.0",
		DocumentationURL:     "https://docs.acme.example/erp",
		ResourceRequirements: json.RawMessage(`{"jobSpecific":[{"jobType":"sync","resourceRequirements":{"memory_limit":"2Gi"}}]}`)}
	ch = must[connector.Change](t)(r.Check(ctx, ch))
	d := must[connector.Definition](t)(r.Apply(ctx, ch, r.log))
	if d.ID == "" || d.Name != ch.Name || d.Repository != ch.Repository || d.Tag != ch.Tag || !d.Custom || d.DocumentationURL != ch.DocumentationURL ||
		!sameJSON(string(d.ResourceRequirements), string(ch.ResourceRequirements)) {
		t.Errorf("created %+v", d)
	}
	after := must[[]connector.Definition](t)(r.List(ctx, ws[0].ID, kind))
	if len(after) != len(before)+1 {
		t.Errorf("the workspace lists %d definitions after a create, %d before", len(after), len(before))
	}
	spec := must[json.RawMessage](t)(r.Spec(ctx, ws[0].ID, kind, d.ID))
	if !sameJSON(string(spec), `{"type":"object","properties":{"path":{"type":"string"}}}`) {
		t.Errorf("the stored spec is %s", spec)
	}

	if writes := r.standIn.Writes(); writes != 1 {
		t.Errorf("%d writes for a create", writes)
	}
	ch.Current, ch.Tag, ch.Name = &d, "1.1.0", "Acme ERP 2"
	ch.ResourceRequirements = json.RawMessage(`{"default":{"cpu_limit":"1"}}`)
	updated, err := r.Apply(ctx, ch, r.log)
	if version == "1.6.0" || version == "1.6.1" {
		want(t, err, fault.BrokenVersion, "59123", "1.7", version)
		if r.standIn.Writes() != 1 {
			t.Error("an update was sent that can't succeed")
		}
		// A rename is something else, and works.
		ch.Tag = d.Tag
		updated, err = r.Apply(ctx, ch, r.log)
	}
	if err != nil {
		t.Fatal(err)
	}
	canRename := !strings.HasPrefix(version, "0.") && version != "1.0.0"
	if updated.ID != d.ID || updated.Tag != ch.Tag || (updated.Name == "Acme ERP 2") != canRename ||
		!sameJSON(string(updated.ResourceRequirements), string(ch.ResourceRequirements)) {
		t.Errorf("updated to %+v", updated)
	}
	if n := len(r.standIn.Definitions()); n != 1 {
		t.Errorf("there are %d custom definitions", n)
	}
}

// TestUnchanged counts what a publish costs that finds everything in place.
func TestUnchanged(t *testing.T) {
	t.Parallel()
	for _, version := range apidoc.Versions {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, withCredentials(version), nil, nil)
			d := r.existing(t, "1.0.0")
			ctx := t.Context()
			must[[]connector.Workspace](t)(r.Workspaces(ctx, nil))
			defs := must[[]connector.Definition](t)(r.List(ctx, sandbox.DefaultWorkspaceID, connector.Source))
			if len(defs) < 2 {
				t.Fatalf("only %d definitions", len(defs))
			}
			must[connector.Change](t)(r.Check(ctx, moved(d, "1.0.0")))
			must[json.RawMessage](t)(r.Spec(ctx, sandbox.DefaultWorkspaceID, connector.Source, d.ID))
			if n := len(r.standIn.Requests()); n != 5 || r.standIn.Writes() != 0 {
				t.Errorf("%d requests, %d writes: %v", n, r.standIn.Writes(), r.standIn.Requests())
			}
		})
	}
}
