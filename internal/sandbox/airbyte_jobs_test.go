package sandbox

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func TestAirbyteSpecJobs(t *testing.T) {
	t.Parallel()
	trace := `{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"it broke","internal_message":"inside"}}}`
	fails := func(err error) RunSpec {
		return func(context.Context, string) (connector.SpecRun, error) { return connector.SpecRun{}, err }
	}
	ends := func(run connector.SpecRun) RunSpec {
		return func(context.Context, string) (connector.SpecRun, error) { return run, nil }
	}
	notRun := &fault.Error{Code: fault.SpecNotRun, Op: "run spec", Cause: "no namespaces"}
	for name, tc := range map[string]struct {
		run     RunSpec
		allow   bool
		status  string
		spec    bool
		message string
	}{
		"good":                   {prints("starting", `{"type":"LOG","log":{"level":"INFO","message":"hi"}}`, specOf("a"), specOf("b")), false, "succeeded", true, ""},
		"no image":               {fails(errors.New("MANIFEST_UNKNOWN")), false, "failed", false, "Failed to find output files from connector within timeout of 9 minute(s)"},
		"never ends":             {ends(connector.SpecRun{TimedOut: true}), false, "failed", false, "Failed to find output files"},
		"can't be run here":      {fails(notRun), false, "failed", false, "Unable to start the spec pod"},
		"can't be run, allowed":  {fails(notRun), true, "succeeded", true, ""},
		"crash":                  {ends(connector.SpecRun{ExitCode: 127}), false, "failed", false, "returned an exit code 127"},
		"crash after a spec":     {ends(connector.SpecRun{Stdout: []byte(specOf("a")), ExitCode: 1}), false, "failed", false, "returned an exit code 1"},
		"crash with a trace":     {ends(connector.SpecRun{Stdout: []byte(trace), ExitCode: 1}), false, "failed", false, "it broke"},
		"silence":                {prints(""), false, "failed", false, "The spec failed due to an internal error for connector: r/x:1"},
		"a trace and a good end": {prints(trace), false, "succeeded", false, ""},
		"not a spec":             {prints(`{"type":"SPEC","spec":{}}`), false, "failed", false, "internal error"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := serveAirbyte(t, AirbyteOptions{Version: "2.0.0", RunSpec: tc.run, AllowUnrunnable: tc.allow, CommandPolls: 2})
			ask := object{"id": "c-1", "workspace_id": DefaultWorkspaceID, "docker_image": "r/x", "docker_image_tag": "1"}
			i.must("commands/run/spec", ask)
			i.must("commands/run/spec", ask)
			var seen []string
			eventually(t, "the command completes", func() bool {
				seen = append(seen, i.must("commands/status", object{"id": "c-1"})["status"].(string))
				return seen[len(seen)-1] == "completed"
			})
			if seen[0] != "pending" || seen[1] != "running" || seen[len(seen)-1] != "completed" {
				t.Errorf("statuses %v", seen)
			}
			o := i.must("commands/output/spec", object{"id": "c-1", "with_logs": true})
			reason, _ := o["failureReason"].(object)
			message, _ := reason["externalMessage"].(string)
			if o["status"] != tc.status || (o["spec"] != nil) != tc.spec || !strings.Contains(message, tc.message) || (message == "") != (tc.message == "") {
				t.Errorf("output %v", o)
			}
			if name == "good" {
				if title := o["spec"].(object)["connectionSpecification"].(object)["title"]; title != "a" {
					t.Errorf("the spec is %v, want the first", title)
				}
				if lines := fmt.Sprint(o["logs"]); !strings.Contains(lines, "starting hi") {
					t.Errorf("logs %s", lines)
				}
			}
			want := 500
			if tc.spec {
				want = 200
			}
			b := createBody("A", "1")
			if status, o := i.post("source_definitions/create_custom", b); status != want {
				t.Errorf("create: %d %v, want %d", status, o, want)
			}
			if n := len(i.Definitions()); (n == 1) != tc.spec {
				t.Errorf("%d definitions", n)
			}
		})
	}
}

func TestAirbyteJobsTakeTime(t *testing.T) {
	t.Parallel()
	i := serveAirbyte(t, AirbyteOptions{SpecDelay: 20 * time.Millisecond, FailureDelay: 40 * time.Millisecond,
		RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) {
			if strings.HasSuffix(ref, ":none") {
				return connector.SpecRun{}, errors.New("no such image")
			}
			return prints(specOf("a"))(ctx, ref)
		}})
	for tag, want := range map[string]time.Duration{"1.0.0": 20 * time.Millisecond, "none": 60 * time.Millisecond} {
		begin := time.Now()
		i.post("source_definitions/create_custom", createBody("A", tag))
		if took := time.Since(begin); took < want {
			t.Errorf("%s took %s, want %s at least", tag, took, want)
		}
	}
}

func TestAirbyteCommands(t *testing.T) {
	t.Parallel()
	begun, hang := make(chan struct{}), make(chan struct{})
	i := serveAirbyte(t, AirbyteOptions{RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) {
		close(begun)
		select {
		case <-hang:
		case <-ctx.Done():
		}
		return connector.SpecRun{}, ctx.Err()
	}})
	for _, path := range []string{"commands/status", "commands/output/spec", "commands/cancel"} {
		if status, _ := i.post(path, object{"id": "none"}); status != 403 {
			t.Errorf("%s of an unknown id: %d, want 403", path, status)
		}
	}
	if status, _ := i.post("commands/run/spec", object{"id": "a", "workspaceId": DefaultWorkspaceID, "dockerImage": "r/x", "dockerImageTag": "1"}); status != 400 {
		t.Errorf("camel case: %d, want 400", status)
	}
	i.must("commands/run/spec", object{"id": "a", "workspace_id": DefaultWorkspaceID, "docker_image": "r/x", "docker_image_tag": "1"})
	<-begun
	if status, _ := i.post("commands/output/spec", object{"id": "a"}); status != 404 {
		t.Errorf("the output of a running command: %d", status)
	}
	i.must("commands/cancel", object{"id": "a"})
	if got := i.must("commands/status", object{"id": "a"})["status"]; got != "cancelled" {
		t.Errorf("after cancel: %v", got)
	}
	close(hang)
}

func TestAirbyteActors(t *testing.T) {
	t.Parallel()
	results := map[string]CheckResult{
		"good":    {Status: CheckSucceeded},
		"refused": {Status: CheckFailed, Message: "wrong password"},
		"crashed": {Status: NoCheckStatus, JobFailure: "it crashed"},
	}
	check := func(x Actor, tag string) CheckResult {
		r := results[x.Name]
		r.Message += "@" + tag
		return r
	}
	for _, v := range []string{"1.5.0", "1.8.0"} {
		i := serveAirbyte(t, AirbyteOptions{Version: v, Check: check})
		def := i.create()
		ids := map[string]string{}
		for name := range results {
			ids[name] = i.must("sources/create", object{"name": name, "sourceDefinitionId": def, "workspaceId": DefaultWorkspaceID,
				"connectionConfiguration": object{}})["sourceId"].(string)
		}
		for n := range 30 {
			i.AddActor(Actor{Type: connector.Source, Name: fmt.Sprint(n), DefinitionID: def, WorkspaceID: DefaultWorkspaceID, Pin: "0.9.0"})
		}
		page := i.must("sources/list", object{"workspaceId": DefaultWorkspaceID})["sources"].([]any)
		if want := map[string]int{"1.5.0": 33, "1.8.0": 20}[v]; len(page) != want {
			t.Errorf("%s: %d sources, want %d", v, len(page), want)
		}
		if v == "1.8.0" {
			next := i.must("sources/list", object{"workspaceId": DefaultWorkspaceID, "cursor": page[19].(object)["sourceId"]})["sources"].([]any)
			if len(next) != 13 || next[0].(object)["name"] != "17" {
				t.Errorf("second page %v", next)
			}
		}
		if n := len(i.must("sources/search", object{"sourceDefinitionId": def})["sources"].([]any)); n != 33 {
			t.Errorf("%d found", n)
		}
		for name, want := range results {
			o := i.must("sources/check_connection", object{"sourceId": ids[name]})
			status, _ := o["status"].(string)
			job := o["jobInfo"].(object)
			if status != string(want.Status) || o["message"] != want.Message+"@1.0.0" || (job["failureReason"] != nil) != (want.JobFailure != "") {
				t.Errorf("check of %s: %v", name, o)
			}
		}
		pinned := i.must("sources/get", object{"sourceId": page[19].(object)["sourceId"]})
		ver := i.must("actor_definition_versions/get_for_source", object{"sourceId": pinned["sourceId"]})
		if pinned["isVersionOverrideApplied"] != true || ver["dockerImageTag"] != "0.9.0" || ver["isVersionOverrideApplied"] != true {
			t.Errorf("pinned %v, version %v", pinned, ver)
		}
		if v == "1.8.0" {
			i.must("commands/run/check", object{"id": "k", "actor_id": ids["crashed"]})
			eventually(t, "the check completes", func() bool { return i.must("commands/status", object{"id": "k"})["status"] == "completed" })
			if o := i.must("commands/output/check", object{"id": "k"}); o["status"] != "failed" || o["failureReason"] == nil {
				t.Errorf("check command %v", o)
			}
		}
		i.post("source_definitions/delete", object{"sourceDefinitionId": def})
		if n := len(i.must("sources/search", object{})["sources"].([]any)); n != 0 {
			t.Errorf("%d sources left after their definition was deleted", n)
		}
	}
}

func TestAirbyteDestinationSpecification(t *testing.T) {
	t.Parallel()
	for v, want := range map[string]int{"1.7.0": 500, "1.8.0": 200} {
		i := serveAirbyte(t, AirbyteOptions{Version: v, RunSpec: prints(`{"type":"SPEC","spec":{"connectionSpecification":{},"supported_destination_sync_modes":["append"]}}`)})
		id := i.must("destination_definitions/create_custom", object{"workspaceId": DefaultWorkspaceID, "destinationDefinition": object{
			"name": "Lake", "dockerRepository": "r/d", "dockerImageTag": "1", "documentationUrl": ""}})["destinationDefinitionId"]
		status, o := i.post("destination_definition_specifications/get", object{"destinationDefinitionId": id, "workspaceId": DefaultWorkspaceID})
		if status != want || want == 200 && fmt.Sprint(o["supportedDestinationSyncModes"]) != "[append]" {
			t.Errorf("%s: a destination's spec without documentationUrl: %d %v, want %d", v, status, o, want)
		}
	}
}
