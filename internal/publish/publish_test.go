package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

func mustPublish(t *testing.T, w *world, cs ...connector.Connector) publish.Result {
	t.Helper()
	r := w.Publish(context.Background(), cs)
	if err := r.Err(); err != nil {
		t.Fatalf("publish: %v\nevents: %v", err, w.events)
	}
	return r
}

func TestCreatesThenUnchangedThenUpdates(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
	if first.Action != publish.Created || !first.Pushed || first.Digest == "" || first.DefinitionID == "" || first.PreviousTag != "" {
		t.Errorf("first: %+v", first)
	}
	writes := len(w.writes())
	w.events = nil
	second := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
	if second.Action != publish.Unchanged || second.Pushed || second.DefinitionID != first.DefinitionID {
		t.Errorf("second: %+v", second)
	}
	// Rule 5: the same commit published twice writes nothing, and does not even run the image.
	if got := w.writes(); len(got) != 0 {
		t.Errorf("second publish wrote %v after %d writes", got, writes)
	}
	if slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "spec ") || strings.HasPrefix(e, "check-push") }) {
		t.Errorf("second publish did more than read: %v", w.events)
	}
	w.builder.images["x"] = testImage(t, "two")
	third := mustPublish(t, w, source("x", "1.1.0")).Rows[0]
	if third.Action != publish.Updated || third.PreviousTag != "1.0.0" || third.DefinitionID != first.DefinitionID {
		t.Errorf("third: %+v", third)
	}
}

// Rule 1: nothing is registered that was not pushed and read back.
func TestNothingIsRegisteredWithoutAPush(t *testing.T) {
	t.Parallel()
	for _, step := range []string{"digest", "check-push", "push registry.example/acme/source-x", "tag"} {
		w := newWorld(t)
		w.registry.fail[step] = errors.New(step + " failed")
		r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
		if r.Err() == nil {
			t.Errorf("%s failed and the run did not", step)
		}
		if slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "apply ") }) {
			t.Errorf("%s failed and the definition was registered: %v", step, w.events)
		}
		if r.Rows[0].Action != publish.None {
			t.Errorf("%s failed and the row says %s", step, r.Rows[0].Action)
		}
	}
	w := newWorld(t)
	mustPublish(t, w, source("x", "1.0.0"))
	order := w.writes()
	want := []string{"push ", "tag ", "apply "}
	if len(order) != 3 || !strings.HasPrefix(order[0], want[0]) || !strings.HasPrefix(order[1], want[1]) || !strings.HasPrefix(order[2], want[2]) {
		t.Errorf("writes in the order %v", order)
	}
}

func TestChecksBeforeAnythingLeaves(t *testing.T) {
	t.Parallel()
	for name, breakIt := range map[string]func(*world){
		"contract":   func(w *world) { w.builder.facts = func(i *connector.Image) { i.Platforms[0].Env = nil } },
		"spec fails": func(w *world) { w.builder.run = connector.SpecRun{ExitCode: 1} },
		"no spec":    func(w *world) { w.builder.run = connector.SpecRun{} },
		"run error":  func(w *world) { w.builder.runErr = errors.New("archive is hostile") },
	} {
		w := newWorld(t)
		breakIt(w)
		if err := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")}).Err(); err == nil {
			t.Errorf("%s: published", name)
		}
		if got := w.writes(); len(got) != 0 {
			t.Errorf("%s: wrote %v", name, got)
		}
	}
}

func TestSpecThatCantBeRunHereIsSaidAndGoesOn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.builder.runErr = &fault.Error{Code: fault.SpecNotRun, Op: "run spec", Cause: "the kernel forbids user namespaces"}
	row := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
	if !slices.ContainsFunc(row.Findings, func(f connector.Finding) bool {
		return f.Code == fault.SpecNotRun && strings.Contains(f.Message, "kernel forbids")
	}) {
		t.Errorf("findings: %+v", row.Findings)
	}
}

// Rule 3: one match is updated, none created, several stop the run.
func TestMatching(t *testing.T) {
	t.Parallel()
	def := func(id, name, repository string) connector.Definition {
		return connector.Definition{ID: id, Name: name, Repository: repository, Tag: "0.9.0", Custom: true}
	}
	mine := "registry.example/acme/source-x"
	catalogue := connector.Definition{ID: "cat", Name: "X x", Repository: mine, Tag: "1", Custom: false}
	cases := []struct {
		name   string
		defs   []connector.Definition
		id     string
		action publish.Action
		target string
		code   fault.Code
	}{
		{name: "none", action: publish.Created},
		{name: "repository", defs: []connector.Definition{def("d1", "Other", mine), def("d2", "Y", "registry.example/y")}, action: publish.Updated, target: "d1"},
		{name: "repository spelled otherwise", defs: []connector.Definition{def("d1", "X", "Registry.Example/acme/source-x/")}, action: publish.Updated, target: "d1"},
		{name: "two", defs: []connector.Definition{def("d1", "A", mine), def("d2", "B", mine)}, code: fault.AmbiguousDefinition},
		{name: "two but one is meant", defs: []connector.Definition{def("d1", "A", mine), def("d2", "B", mine)}, id: "d2", action: publish.Updated, target: "d2"},
		{name: "name only", defs: []connector.Definition{def("d1", "X x", "registry.example/old")}, code: fault.RepositoryImmutable},
		{name: "repository before name", defs: []connector.Definition{def("d1", "X x", "registry.example/old"), def("d2", "Z", mine)}, action: publish.Updated, target: "d2"},
		{name: "catalogue is no match", defs: []connector.Definition{catalogue}, action: publish.Created},
		{name: "builder connector is no match", defs: []connector.Definition{def("d1", "X x", "airbyte/source-declarative-manifest")}, action: publish.Created},
		{name: "id not there", id: "nope", code: fault.DefinitionNotFound},
		{name: "id of the catalogue", defs: []connector.Definition{catalogue}, id: "cat", code: fault.DefinitionNotFound},
		{name: "id with another repository", defs: []connector.Definition{def("d1", "X", "registry.example/old")}, id: "d1", code: fault.RepositoryImmutable},
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			w.airbyte.defs[workspaceA] = tc.defs
			c := source("x", "1.0.0")
			c.DefinitionID = tc.id
			r := w.Publish(context.Background(), []connector.Connector{c})
			row := r.Rows[0]
			if tc.code != "" {
				if got := fault.CodeOf(r.Err()); got != tc.code {
					t.Fatalf("code %s, want %s: %v", got, tc.code, r.Err())
				}
				for _, d := range tc.defs {
					if d.Custom && !strings.Contains(r.Err().Error(), d.ID) {
						t.Errorf("the error does not name %s: %v", d.ID, r.Err())
					}
				}
				if got := w.writes(); len(got) != 0 {
					t.Errorf("wrote %v", got)
				}
				return
			}
			if row.Err != nil || row.Action != tc.action || (tc.target != "" && row.DefinitionID != tc.target) {
				t.Errorf("%s %s, want %s %s: %v", row.Action, row.DefinitionID, tc.action, tc.target, row.Err)
			}
		})
	}
}

// Rule 4: a tag is a version.
func TestTagThatHoldsAnotherImage(t *testing.T) {
	t.Parallel()
	publishOther := func(t *testing.T, policy publish.TagPolicy) (*world, string, publish.Result) {
		w := newWorld(t)
		old := mustPublish(t, w, source("x", "1.0.0")).Rows[0].Digest
		w.builder.images["x"] = testImage(t, "two")
		w.events = nil
		w.IfTagExists = policy
		return w, old, w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
	}
	t.Run("fail", func(t *testing.T) {
		t.Parallel()
		w, old, r := publishOther(t, publish.Fail)
		if got := fault.CodeOf(r.Err()); got != fault.TagExists || !strings.Contains(r.Err().Error(), old) {
			t.Errorf("error %v", r.Err())
		}
		if got := w.writes(); len(got) != 0 {
			t.Errorf("wrote %v", got)
		}
	})
	t.Run("skip", func(t *testing.T) {
		t.Parallel()
		w, old, r := publishOther(t, publish.Skip)
		if r.Err() != nil || r.Rows[0].Digest != old || r.Rows[0].Pushed || r.Rows[0].Action != publish.Unchanged {
			t.Errorf("%+v", r.Rows[0])
		}
		if got := w.writes(); len(got) != 0 {
			t.Errorf("wrote %v", got)
		}
	})
	t.Run("overwrite", func(t *testing.T) {
		t.Parallel()
		w, old, r := publishOther(t, publish.Overwrite)
		if r.Err() != nil || r.Rows[0].Digest == old || !r.Rows[0].Pushed {
			t.Errorf("%+v", r.Rows[0])
		}
		if w.registry.tags["registry.example/acme/source-x:1.0.0"] != r.Rows[0].Digest {
			t.Error("the tag was not moved")
		}
	})
	t.Run("a plan that can't read the base image", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.builder.unread = true
		if r := w.Plan(context.Background(), []connector.Connector{source("x", "1.0.0")}); r.Err() != nil || !r.Rows[0].Pushed || r.Rows[0].Action != publish.Created {
			t.Errorf("%+v", r.Rows)
		}
		mustPublish(t, w, source("x", "1.0.0"))
		if r := w.Plan(context.Background(), []connector.Connector{source("x", "1.0.0")}); fault.CodeOf(r.Err()) != fault.TagExists {
			t.Errorf("%v", r.Err())
		}
		if r := w.Lint(context.Background(), []connector.Connector{source("x", "1.0.0")}); r.Err() != nil {
			t.Error(r.Err())
		}
	})
	t.Run("another run made the tag meanwhile", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		w.registry.onPush = func() { w.registry.tags["registry.example/acme/source-x:1.0.0"] = "sha256:other" }
		r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
		if fault.CodeOf(r.Err()) != fault.TagExists || w.registry.tags["registry.example/acme/source-x:1.0.0"] != "sha256:other" {
			t.Errorf("the other run's tag was moved: %v", r.Err())
		}
	})
}

func TestStoredSpecIsCompared(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.airbyte.specs["new-0"] = json.RawMessage(`{"type":"object","properties":{"old":{"type":"string"}}}`)
	r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if fault.CodeOf(r.Err()) != fault.StoredSpecDiffers || r.Rows[0].DefinitionID != "new-0" || r.Rows[0].Action != publish.Created {
		t.Errorf("%+v", r.Rows[0])
	}
}

// Rule 7: connectors and workspaces are independent of each other.
func TestFailuresStopNothingElse(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.WorkspaceIDs = []string{workspaceA, workspaceB}
	w.builder.images["y"] = testImage(t, "y")
	w.airbyte.fail["apply "+workspaceA] = errors.New("A is broken")
	w.registry.fail["push registry.example/acme/source-y"] = errors.New("no push for y")
	r := w.Publish(context.Background(), []connector.Connector{source("y", "1.0.0"), source("x", "1.0.0"), source("missing", "1.0.0")})
	if len(r.Rows) != 6 {
		t.Fatalf("%d rows", len(r.Rows))
	}
	var got []string
	for _, row := range r.Rows {
		state := string(row.Action)
		if row.Err != nil {
			state = "failed"
		}
		got = append(got, row.Connector+"/"+row.WorkspaceID[:1]+" "+state)
	}
	want := []string{"y/1 failed", "y/2 failed", "x/1 failed", "x/2 created", "missing/1 failed", "missing/2 failed"}
	if !slices.Equal(got, want) {
		t.Errorf("rows %v, want %v", got, want)
	}
}

func TestOneWorkspaceThatCantBePlannedStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.WorkspaceIDs = []string{workspaceA, workspaceB}
	w.airbyte.fail["list "+workspaceA] = errors.New("A is broken")
	r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if r.Rows[0].Err == nil || r.Rows[1].Err != nil || r.Rows[1].Action != publish.Created {
		t.Errorf("%+v", r.Rows)
	}
}

// A name that nobody gave renames nothing; one that somebody gave does, and so do other resources.
func TestWhatMakesAnUpdate(t *testing.T) {
	t.Parallel()
	resources := json.RawMessage(`{"default":{"cpu_limit":"1","memory_limit":null},"jobSpecific":[]}`)
	for name, tc := range map[string]struct {
		change func(*connector.Connector)
		want   publish.Action
	}{
		"nothing":            {func(*connector.Connector) {}, publish.Unchanged},
		"name made of image": {func(c *connector.Connector) { c.Name = "other" }, publish.Unchanged},
		"name given":         {func(c *connector.Connector) { c.Name, c.NameGiven = "other", true }, publish.Updated},
		"same resources": {func(c *connector.Connector) {
			c.ResourceRequirements = json.RawMessage(`{"default":{"cpu_limit":"1"}}`)
		}, publish.Unchanged},
		"other resources": {func(c *connector.Connector) {
			c.ResourceRequirements = json.RawMessage(`{"default":{"cpu_limit":"2"}}`)
		}, publish.Updated},
		"another documentation": {func(c *connector.Connector) { c.DocumentationURL = "https://other.example" }, publish.Unchanged},
	} {
		w := newWorld(t)
		c := source("x", "1.0.0")
		mustPublish(t, w, c)
		w.airbyte.defs[workspaceA][0].ResourceRequirements = resources
		w.airbyte.defs[workspaceA][0].DocumentationURL = "https://first.example"
		tc.change(&c)
		row := mustPublish(t, w, c).Rows[0]
		if row.Action != tc.want || w.airbyte.defs[workspaceA][0].Name != "X x" && tc.want == publish.Unchanged {
			t.Errorf("%s: %s, want %s", name, row.Action, tc.want)
		}
	}
}

// The right to push is proven before anything is built wherever something may have to be pushed.
func TestPushRightIsProvenFirst(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		policy publish.TagPolicy
		held   bool
		want   bool
	}{
		"no tag yet": {publish.Fail, false, true}, "tag exists": {publish.Fail, true, false}, "tag may move": {publish.Overwrite, true, true},
	} {
		w := newWorld(t)
		w.IfTagExists = tc.policy
		if tc.held {
			mustPublish(t, w, source("x", "1.0.0"))
		}
		w.registry.fail["check-push"] = errors.New("read only")
		r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
		if (r.Err() != nil) != tc.want {
			t.Errorf("%s: %v", name, r.Err())
		}
	}
}

func TestJobsBoundsTheConnectorsAtWork(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	var mu sync.Mutex
	working, most := 0, 0
	w.NewLog = func(connector.Connector) (connector.Log, func()) {
		mu.Lock()
		defer mu.Unlock()
		working++
		most = max(most, working)
		mu.Unlock()
		time.Sleep(time.Millisecond) // Long enough for one more to come in, if it may.
		mu.Lock()
		return silentLog{}, func() {
			mu.Lock()
			defer mu.Unlock()
			working--
		}
	}
	var all []connector.Connector
	for range 20 {
		all = append(all, source("missing", "1.0.0"))
	}
	w.Jobs = 3
	w.Publish(context.Background(), all)
	if most > 3 {
		t.Errorf("%d at once, want at most 3", most)
	}
}

func TestUnknownWorkspaceStopsNoOther(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.WorkspaceIDs = []string{workspaceA, workspaceB}
	w.airbyte.fail["workspace "+workspaceA] = errors.New("there is no such workspace")
	r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if len(r.Rows) != 2 || r.Rows[0].Err == nil || r.Rows[0].WorkspaceID != workspaceA || r.Rows[1].Err != nil || r.Rows[1].Action != publish.Created {
		t.Errorf("%+v", r.Rows)
	}
}

// A row tells its own failure and the connector's, never another workspace's.
func TestRowsKeepTheirErrorsApart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.WorkspaceIDs = []string{workspaceA, workspaceB}
	w.airbyte.fail["list "+workspaceA] = errors.New("A is broken")
	w.registry.fail["digest"] = errors.New("no registry")
	r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if r.Rows[0].Err.Error() != "A is broken\nno registry" || r.Rows[1].Err.Error() != "no registry" {
		t.Errorf("%v, %v", r.Rows[0].Err, r.Rows[1].Err)
	}
}

// A tag that was moved under a definition stays an error until the definition has the new spec, however often it is run.
func TestMovedTagWithAnOldSpecStaysAnError(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.IfTagExists = publish.Overwrite
	mustPublish(t, w, source("x", "1.0.0"))
	w.builder.images["x"] = testImage(t, "two")
	w.airbyte.specs["new-0"] = json.RawMessage(`{"type":"object","properties":{"old":{"type":"string"}}}`)
	for run := range 2 {
		r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
		if fault.CodeOf(r.Err()) != fault.StoredSpecDiffers || r.Rows[0].Pushed != (run == 0) {
			t.Errorf("run %d: %+v", run, r.Rows[0])
		}
	}
}

// Airbyte reads the spec again for the tag "dev" alone, and only when it is told to.
func TestMovedDevIsUpdated(t *testing.T) {
	t.Parallel()
	for tag, want := range map[string]publish.Action{"dev": publish.Updated, "1.0.0": publish.Unchanged} {
		w := newWorld(t)
		w.IfTagExists = publish.Overwrite
		mustPublish(t, w, source("x", tag))
		w.builder.images["x"] = testImage(t, "two")
		if row := mustPublish(t, w, source("x", tag)).Rows[0]; row.Action != want {
			t.Errorf("%s: %s, want %s", tag, row.Action, want)
		}
	}
}

// A plan reads only, and says what would be done.
func TestPlanWritesNothing(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := source("x", "1.0.0")
	c.ExtraTags = []string{"latest"}
	r := w.Plan(context.Background(), []connector.Connector{c})
	if r.Err() != nil || !r.Planned || r.Rows[0].Action != publish.Created || !r.Rows[0].Pushed || r.Rows[0].Digest == "" {
		t.Errorf("%+v", r.Rows[0])
	}
	if got := w.writes(); len(got) != 0 {
		t.Errorf("wrote %v", got)
	}
	if slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "spec ") }) {
		t.Error("a plan ran the image")
	}
}

func TestExtraTagsFollowTheImage(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	c := source("x", "1.0.0")
	c.ExtraTags = []string{"latest", "1.0"}
	row := mustPublish(t, w, c).Rows[0]
	for _, tag := range []string{"1.0.0", "latest", "1.0"} {
		if w.registry.tags["registry.example/acme/source-x:"+tag] != row.Digest {
			t.Errorf("%s does not hold the image", tag)
		}
	}
	w.events = nil
	mustPublish(t, w, c)
	if got := w.writes(); len(got) != 0 {
		t.Errorf("second publish wrote %v", got)
	}
}

// Rule 8: a run that ends after the push is finished by the next one.
func TestNextRunFinishesTheJob(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ctx, cancel := context.WithCancel(context.Background())
	w.airbyte.fail["apply "+workspaceA] = context.Canceled
	w.registry.onPush = cancel
	r := w.Publish(ctx, []connector.Connector{source("x", "1.0.0")})
	if !slices.Contains(codes(r.Err()), fault.Interrupted) {
		t.Fatalf("error %v", r.Err())
	}
	w.registry.onPush = nil
	delete(w.airbyte.fail, "apply "+workspaceA)
	row := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
	if row.Action != publish.Created || row.Pushed {
		t.Errorf("%+v", row)
	}
}

func TestWithoutRegisterAirbyteIsNotAsked(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Register = false
	w.Workspaces, w.Definitions = nil, nil
	row := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
	if row.Action != publish.None || !row.Pushed {
		t.Errorf("%+v", row)
	}
}

func TestLintAsksNeitherRegistryNorAirbyte(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.builder.facts = func(i *connector.Image) { i.Platforms[0].Env = nil }
	w.Publisher.Registry, w.Workspaces, w.Definitions = nil, nil, nil
	r := w.Lint(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if fault.CodeOf(r.Err()) != fault.NoEntrypoint {
		t.Errorf("%v", r.Err())
	}
}

// order are the positions of events in the journal; an event that did not happen fails the test.
func (w *world) order(t *testing.T, prefixes ...string) {
	t.Helper()
	w.mu.Lock()
	defer w.mu.Unlock()
	from := 0
	for _, p := range prefixes {
		at := slices.IndexFunc(w.events[from:], func(e string) bool { return strings.HasPrefix(e, p) })
		if at < 0 {
			t.Fatalf("%q did not happen in its turn:\n%s", p, strings.Join(w.events, "\n"))
		}
		from += at + 1
	}
}

func (w *world) happened(prefix string) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, prefix) })
}

// TestRightBeforeAndAfterThePush: what has to be fresh is made so when the image has proven good, and the deployment's
// pull is tried before Airbyte is told.
func TestRightBeforeAndAfterThePush(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	if err := w.Publish(t.Context(), []connector.Connector{source("x", "1.0.0")}).Err(); err != nil {
		t.Fatal(err)
	}
	w.order(t, "check-push", "spec", "prepare", "push", "tag", "check-pull", "apply")
	if w.happened("check-move") {
		t.Error("a tag that is new was asked to be movable")
	}

	// Nothing changed: asked again only with credentials to try.
	w.events = nil
	if err := w.Publish(t.Context(), []connector.Connector{source("x", "1.0.0")}).Err(); err != nil {
		t.Fatal(err)
	}
	if w.happened("check-pull") || w.happened("prepare") {
		t.Errorf("an unchanged run: %q", w.events)
	}
	w.registry.pullsAs = true
	if err := w.Publish(t.Context(), []connector.Connector{source("x", "1.0.0")}).Err(); err != nil {
		t.Fatal(err)
	}
	w.order(t, "check-pull")
}

func TestNothingGoesOutWhatCanNotBePushedOrPulled(t *testing.T) {
	t.Parallel()
	for step, forbidden := range map[string]string{"prepare": "push", "check-pull": "apply"} {
		w := newWorld(t)
		w.registry.fail[step] = errors.New("no")
		if err := w.Publish(t.Context(), []connector.Connector{source("x", "1.0.0")}).Err(); err == nil || w.happened(forbidden) {
			t.Errorf("%s failed: %v, %q", step, err, w.events)
		}
	}
}

// TestTagsThatCanNotBeMovedStopTheRunBeforeTheBuild, for the tag and for the extra ones.
func TestTagsThatCanNotBeMovedStopTheRunBeforeTheBuild(t *testing.T) {
	t.Parallel()
	c := source("x", "1.0.0")
	extra := source("x", "1.0.1")
	extra.ExtraTags = []string{"latest"}
	for name, tt := range map[string]struct {
		connector connector.Connector
		held      string
		policy    publish.TagPolicy
	}{
		"overwritten": {c, string(c.Repository) + ":1.0.0", publish.Overwrite},
		"extra":       {extra, string(c.Repository) + ":latest", publish.Fail},
	} {
		w := newWorld(t)
		w.IfTagExists = tt.policy
		w.registry.tags[tt.held] = "sha256:" + strings.Repeat("0", 64)
		w.registry.fail["check-move"] = &fault.Error{Code: fault.TagImmutable, Op: "move", Cause: "immutable"}
		err := w.Publish(t.Context(), []connector.Connector{tt.connector}).Err()
		if got := codes(err); !slices.Contains(got, fault.TagImmutable) || w.happened("spec") || w.happened("push") {
			t.Errorf("%s: %v, %q", name, err, w.events)
		}
	}
}
