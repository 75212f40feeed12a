package airbyte_test

import (
	"context"
	"errors"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

const (
	createPath = "/source_definitions/create_custom"
	updatePath = "/source_definitions/update"
	listPath   = "/source_definitions/list_for_workspace"
)

// TestLostCreate has the answer to a create got lost after, or before, or without the work being done: it is sent
// once, and there is one definition or none.
func TestLostCreate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		fault sandbox.Fault
	}{
		{"504 of a proxy after the work", sandbox.Fault{Kind: sandbox.AnswerAfterWork}},
		{"502 without a body", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 502}},
		{"503 in JSON", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 503, Body: `{"message":"no healthy upstream"}`}},
		{"500 of a proxy", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 500, Body: "<html>oops</html>"}},
		{"500 without a body", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 500}},
		{"408", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 408}},
		{"connection dropped after the work", sandbox.Fault{Kind: sandbox.DropAfterWork}},
		{"failure in Airbyte's own words though it was done", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 500, Body: `{"errorId":"7"}`}},
		{"success that is a web page", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 200, Body: "<html><title>Airbyte</title></html>"}},
	}
	for _, version := range []string{"1.5.0", "2.2.0"} {
		for _, tt := range tests {
			t.Run(version+"/"+tt.name, func(t *testing.T) {
				t.Parallel()
				r := setUp(t, withCredentials(version), nil, nil)
				tt.fault.At = createPath
				r.standIn.AddFault(tt.fault)
				d := must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), r.log))
				stored := r.standIn.Definitions()
				if len(stored) != 1 || stored[0].ID != d.ID || d.Tag != "1.0.0" {
					t.Errorf("returned %+v, the instance holds %+v", d, stored)
				}
				if n := r.asked(createPath); n != 1 {
					t.Errorf("%d creates were sent", n)
				}
			})
		}
	}
}

func TestCreateThatAppearsLate(t *testing.T) {
	t.Parallel()
	var g *gateway
	r := setUp(t, withCredentials("1.8.0"), func(next http.Handler) http.Handler {
		g = &gateway{next: next, at: createPath, status: http.StatusGatewayTimeout}
		return g
	}, nil)
	r.clock.at[6] = g.release
	d := must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), r.log))
	if stored := r.standIn.Definitions(); len(stored) != 1 || stored[0].ID != d.ID {
		t.Errorf("returned %+v, the instance holds %+v", d, stored)
	}
	if total := r.clock.total(); total < 30*time.Second || total > 5*time.Minute {
		t.Errorf("waited %s", total)
	}
}

func TestCreateThatNeverAppears(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name  string
		fault sandbox.Fault
		words string
	}{
		{"gateway", sandbox.Fault{Kind: sandbox.Answer, Status: 504, Body: sandbox.GatewayTimeoutHTML}, "504 Gateway Time-out"},
		{"dropped", sandbox.Fault{Kind: sandbox.DropBeforeWork}, "EOF"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, withCredentials("1.8.0"), nil, func(o *airbyte.Options) { o.Timeout = 10 * time.Minute })
			tt.fault.At = createPath
			r.standIn.AddFault(tt.fault)
			_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
			want(t, err, fault.CreateUnknown, tt.words, "Run again", "pull")
			if n := r.asked(createPath); n != 1 {
				t.Errorf("%d creates were sent", n)
			}
			if total := r.clock.total(); total < 10*time.Minute || total > 11*time.Minute {
				t.Errorf("waited %s", total)
			}
		})
	}
}

// TestSlowCreate has the client's own time run out.
func TestSlowCreate(t *testing.T) {
	t.Parallel()
	r := setUp(t, withCredentials("1.8.0"), nil, func(o *airbyte.Options) { o.Timeout = 20 * time.Millisecond })
	r.standIn.AddFault(sandbox.Fault{At: createPath, Kind: sandbox.Slow, Delay: time.Hour})
	_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
	want(t, err, fault.CreateUnknown, "deadline")
	if n := r.asked(listPath); n < 3 {
		t.Errorf("looked %d times only", n)
	}
}

// TestUnrunnableImage has the instance fail to run the image, which each version tells in its own way.
func TestUnrunnableImage(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, version string
		run           sandbox.RunSpec
		words         []string
	}{
		{"not pulled, 1.5", "1.5.0", unpullable, []string{"Get Spec job failed", "can't pull", "AIRBYTE_ENTRYPOINT", "architecture", "prefix"}},
		{"not pulled, 2.0", "2.0.0", unpullable, []string{"Failed to find output files", "can't be pulled", "pull secret"}},
		{"not pulled, 2.2", "2.2.0", unpullable, []string{"Failed to find output files", "can't be pulled"}},
		{"crash", "2.2.0", func(context.Context, string) (connector.SpecRun, error) {
			return connector.SpecRun{ExitCode: 3, Stderr: []byte("boom\n")}, nil
		}, []string{"exit code 3", "crashed"}},
		{"no entrypoint", "2.2.0", func(context.Context, string) (connector.SpecRun, error) { return connector.SpecRun{ExitCode: 127}, nil },
			[]string{"exit code 127", "AIRBYTE_ENTRYPOINT"}},
		{"no SPEC message", "2.2.0", func(context.Context, string) (connector.SpecRun, error) { return connector.SpecRun{}, nil },
			[]string{"internal error for connector", "without a SPEC"}},
		{"success without a specification", "2.2.0", func(context.Context, string) (connector.SpecRun, error) {
			return connector.SpecRun{Stdout: []byte(`{"type":"TRACE","trace":{"type":"ERROR","error":{"message":"bad"}}}` + "\nplain log\n")}, nil
		}, []string{"ended without a specification"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			o := withCredentials(tt.version)
			o.RunSpec, o.CommandPolls = tt.run, 3
			r := setUp(t, o, nil, nil)
			_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
			want(t, err, fault.ServerSpecFailed, append(tt.words, repository+":1.0.0")...)
			if total := r.clock.total(); total > time.Minute {
				t.Errorf("waited %s for a definite answer", total)
			}
			if strings.HasPrefix(tt.version, "2") && r.standIn.Writes() != 0 {
				t.Error("a create was sent though the spec had failed already")
			}
			if n := len(r.standIn.Definitions()); n != 0 {
				t.Errorf("there are %d definitions", n)
			}
			current := r.existing(t, "0.9.0")
			_, err = r.Apply(t.Context(), moved(current, "1.0.0"), r.log)
			want(t, err, fault.ServerSpecFailed, tt.words[0])
			if n := r.asked(updatePath); n > 1 {
				t.Errorf("%d updates were sent for an image that can't be run", n)
			}
		})
	}
}

func TestCommandLogIsShown(t *testing.T) {
	t.Parallel()
	o := withCredentials("2.2.0")
	o.RunSpec = func(context.Context, string) (connector.SpecRun, error) {
		return connector.SpecRun{ExitCode: 1, Stderr: []byte("the first\n" + strings.Repeat("x\n", 500) + "the last, with " + clientSecret)}, nil
	}
	r := setUp(t, o, nil, nil)
	_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
	want(t, err, fault.ServerSpecFailed)
	text := r.log.text()
	if !strings.Contains(text, "the last") || strings.Contains(text, "the first") || strings.Contains(text, clientSecret) {
		t.Errorf("the log is not the end of what the connector printed, without secrets: %.300s", text)
	}
}

// TestBareErrorID has a create fail in 2.x without a command before it that would tell why.
func TestBareErrorID(t *testing.T) {
	t.Parallel()
	o := withCredentials("2.0.0")
	o.RunSpec = unpullable
	r := setUp(t, o, nil, nil)
	r.standIn.AddFault(sandbox.Fault{At: "/commands/run/spec", Kind: sandbox.Answer, Status: 403, Body: `{"status":403,"title":"forbidden"}`})
	_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
	want(t, err, fault.ServerSpecFailed, "errorId", "can't pull", "airbyte-server log")
	if !strings.Contains(r.log.text(), "going on without") {
		t.Errorf("the log does not tell that there was no run ahead: %s", r.log.text())
	}
}

func TestTwins(t *testing.T) {
	t.Parallel()
	twin := sandbox.Definition{ID: "99999999-2222-4333-8444-555555555555", Type: connector.Source, Name: "Acme ERP", Repository: repository, Tag: "1.0.0",
		Custom: true, Workspaces: []string{sandbox.DefaultWorkspaceID}}
	t.Run("made at the same time", func(t *testing.T) {
		t.Parallel()
		o := withCredentials("2.2.0")
		var r *rig
		o.OnRequest = func(q *http.Request, _ []byte) {
			if strings.HasSuffix(q.URL.Path, createPath) {
				r.standIn.AddDefinition(twin)
			}
		}
		r = setUp(t, o, nil, nil)
		_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
		ours := r.standIn.Definitions()[1].ID
		want(t, err, fault.TwinDefinitions, twin.ID, ours)
	})
	t.Run("made at the same time, the answer lost", func(t *testing.T) {
		t.Parallel()
		o := withCredentials("2.2.0")
		var r *rig
		o.OnRequest = func(q *http.Request, _ []byte) {
			if strings.HasSuffix(q.URL.Path, createPath) {
				r.standIn.AddDefinition(twin)
			}
		}
		r = setUp(t, o, nil, nil)
		r.standIn.AddFault(sandbox.Fault{At: createPath, Kind: sandbox.AnswerAfterWork})
		_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
		want(t, err, fault.TwinDefinitions, twin.ID, r.standIn.Definitions()[1].ID)
	})
	t.Run("the same, made since the plan", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		must[[]connector.Definition](t)(r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source))
		r.standIn.AddDefinition(twin)
		if d := must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), r.log)); d.ID != twin.ID || r.standIn.Writes() != 0 {
			t.Errorf("%+v after %d writes, want the one that is there", d, r.standIn.Writes())
		}
	})
	t.Run("another version, made since the plan", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		must[[]connector.Definition](t)(r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source))
		twin := twin
		twin.Tag = "0.9.0"
		r.standIn.AddDefinition(twin)
		_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
		want(t, err, fault.TwinDefinitions, twin.ID, "Nothing was created")
		if r.standIn.Writes() != 0 {
			t.Error("a second definition was created knowingly")
		}
	})
	t.Run("another repository of the same name, made since the plan", func(t *testing.T) {
		t.Parallel()
		for _, version := range []string{"1.8.0", "2.2.0"} {
			r := setUp(t, withCredentials(version), nil, nil)
			must[[]connector.Definition](t)(r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source))
			namesake := twin
			namesake.Repository = "ghcr.io/acme/source-other"
			r.standIn.AddDefinition(namesake)
			_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
			want(t, err, fault.RepositoryImmutable, namesake.ID, namesake.Repository, "Nothing was created")
			if r.standIn.Writes() != 0 {
				t.Error("a second definition of the name was created knowingly")
			}
		}
	})
	t.Run("of the Connector Builder", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		r.standIn.AddDeclarative(sandbox.DefaultWorkspaceID, "Acme ERP")
		must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), r.log))
	})
}

func TestLostUpdate(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		fault   sandbox.Fault
		updates int
	}{
		{"504 after the work", sandbox.Fault{Kind: sandbox.AnswerAfterWork}, 1},
		{"dropped after the work", sandbox.Fault{Kind: sandbox.DropAfterWork}, 1},
		{"dropped before the work", sandbox.Fault{Kind: sandbox.DropBeforeWork}, 2},
		{"503, twice", sandbox.Fault{Kind: sandbox.Answer, Status: 503, Times: 2}, 3},
		{"200 of something in front, after the work", sandbox.Fault{Kind: sandbox.AnswerAfterWork, Status: 200, Body: "<html><title>Sign in</title></html>"}, 1},
		{"200 of something in front", sandbox.Fault{Kind: sandbox.Answer, Status: 200, Body: "<html><title>Sign in</title></html>"}, 2},
		{"200 without a body, twice", sandbox.Fault{Kind: sandbox.Answer, Status: 200, Times: 2}, 3},
		{"200 with other JSON", sandbox.Fault{Kind: sandbox.Answer, Status: 200, Body: `{"status":"ok"}`}, 2},
		{"200 with another definition", sandbox.Fault{Kind: sandbox.Answer, Status: 200,
			Body: `{"sourceDefinitionId":"99999999-2222-4333-8444-555555555555","dockerImageTag":"1.1.0"}`}, 2},
		{"a passing failure of Airbyte's own", sandbox.Fault{Kind: sandbox.Answer, Status: 500, Body: `{"errorId":"1"}`, Times: 2}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, withCredentials("2.2.0"), nil, nil)
			current := r.existing(t, "1.0.0")
			tt.fault.At = updatePath
			r.standIn.AddFault(tt.fault)
			d := must[connector.Definition](t)(r.Apply(t.Context(), moved(current, "1.1.0"), r.log))
			if d.Tag != "1.1.0" || d.ID != current.ID {
				t.Errorf("updated to %+v", d)
			}
			if n := r.asked(updatePath); n != tt.updates {
				t.Errorf("%d updates were sent, want %d", n, tt.updates)
			}
		})
	}
	t.Run("never", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		current := r.existing(t, "1.0.0")
		r.standIn.AddFault(sandbox.Fault{At: updatePath, Kind: sandbox.Answer, Status: 504, Body: sandbox.GatewayTimeoutHTML, Times: -1})
		_, err := r.Apply(t.Context(), moved(current, "1.1.0"), r.log)
		want(t, err, fault.AirbyteFailed, "504", "Run again")
		if n := r.asked(updatePath); n != 3 {
			t.Errorf("%d updates were sent, want 3", n)
		}
		if total := r.clock.total(); total < 14*time.Minute || total > 16*time.Minute {
			t.Errorf("waited %s", total)
		}
	})
	t.Run("never, by something in front that answers 200", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("1.8.0"), nil, nil)
		current := r.existing(t, "1.0.0")
		r.standIn.AddFault(sandbox.Fault{At: updatePath, Kind: sandbox.Answer, Status: 200, Body: "<html><title>Sign in</title></html>", Times: -1})
		_, err := r.Apply(t.Context(), moved(current, "1.1.0"), r.log)
		want(t, err, fault.NotAirbyte, "Sign in", "the definition shows no change", "airbyte-headers")
		if n := r.asked(updatePath); n != 3 {
			t.Errorf("%d updates were sent, want 3", n)
		}
		if total := r.clock.total(); total > 5*time.Minute {
			t.Errorf("waited %s", total)
		}
	})
	t.Run("resource requirements alone, by something in front that answers 200", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		ch := moved(r.existing(t, "1.0.0"), "1.0.0")
		ch.ResourceRequirements = []byte(`{"default":{"cpu_limit":"1"}}`)
		r.standIn.AddFault(sandbox.Fault{At: updatePath, Kind: sandbox.Answer, Status: 200, Body: "<html></html>", Times: -1})
		_, err := r.Apply(t.Context(), ch, r.log)
		want(t, err, fault.NotAirbyte, "web page")
	})
	t.Run("resource requirements alone", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		ch := moved(r.existing(t, "1.0.0"), "1.0.0")
		ch.ResourceRequirements = []byte(`{"default":{"cpu_limit":"1"}}`)
		r.standIn.AddFault(sandbox.Fault{At: updatePath, Kind: sandbox.DropBeforeWork})
		d := must[connector.Definition](t)(r.Apply(t.Context(), ch, r.log))
		if !sameJSON(string(d.ResourceRequirements), string(ch.ResourceRequirements)) {
			t.Errorf("updated to %s", d.ResourceRequirements)
		}
		if n := r.asked("/commands/run/spec"); n != 0 {
			t.Error("the spec of a tag was run that stays as it is")
		}
	})
}

func TestAirGapped(t *testing.T) {
	t.Parallel()
	for version, tt := range map[string]struct {
		code  fault.Code
		words []string
	}{
		"1.8.0": {fault.AirGapped, []string{"Failed to fetch connector registry entry", "CONNECTOR_REGISTRY_BASE_URL"}},
		"2.2.0": {fault.AirbyteFailed, []string{"errorId", "registry", "AP513"}},
	} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			o := withCredentials(version)
			o.AirGapped = true
			r := setUp(t, o, nil, nil)
			_, err := r.Apply(t.Context(), moved(r.existing(t, "1.0.0"), "1.1.0"), r.log)
			want(t, err, tt.code, tt.words...)
		})
	}
}

// TestRefused has answers that leave no doubt: nothing is waited for and nothing sent again.
func TestRefused(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name   string
		status int
		body   string
		code   fault.Code
		words  []string
	}{
		{"Cloud", 400, `{"status":400,"title":"bad-request","detail":"The request could not be processed.","data":{"message":` +
			`"Non-declarative definitions cannot be created or updated in Airbyte Cloud."}}`, fault.AirbyteCloud, []string{"self-managed"}},
		{"protocol", 400, `{"message":"Airbyte Protocol Version 1.0.0 is not supported. (Must be within [0.0.0:0.3.0])","errorId":"e-1"}`,
			fault.ProtocolNotSupported, []string{"1.0.0"}},
		{"Enterprise role", 422, `{"message":"Could not validate user access to actor definition 1 due to error"}`, fault.AirbyteForbidden, []string{"administrator"}},
		{"validation", 400, `{"message":"Some properties contained invalid input.","validationErrors":[{"propertyPath":"name","message":"must not be null"}]}`,
			fault.AirbyteRefused, []string{"invalid input", "name: must not be null"}},
		{"bare errorId", 400, `{"errorId":"e-77"}`, fault.AirbyteRefused, []string{"e-77", "airbyte-server log"}},
		{"problem", 422, `{"status":422,"title":"unprocessable-entity","detail":"No.","data":{"message":"Cannot determine workspace ID"}}`,
			fault.AirbyteRefused, []string{"Cannot determine workspace ID"}},
		{"JSON string", 409, `"state conflict"`, fault.AirbyteRefused, []string{"state conflict"}},
		{"wrong types inside", 409, `{"message":"Failed to access database","data":"x"}`, fault.AirbyteRefused, []string{"Failed to access database"}},
		{"forbidden", 403, "", fault.AirbyteForbidden, []string{"403"}},
		{"forbidden by a proxy", 403, "<html><title>Access denied</title></html>", fault.AirbyteForbidden, []string{"Access denied", "in front"}},
		{"too many", 429, "", fault.AirbyteRefused, []string{"429"}},
		{"plain text", 413, "", fault.AirbyteRefused, []string{"413"}},
		{"a page", 405, "<!doctype html>\n<TITLE>405 Not\nAllowed</TITLE>", fault.NotAirbyte, []string{"405 Not Allowed", "web page"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, withCredentials("2.2.0"), nil, nil)
			for _, at := range []string{createPath, updatePath} {
				r.standIn.AddFault(sandbox.Fault{At: at, Kind: sandbox.Answer, Status: tt.status, Body: tt.body})
			}
			slept := r.clock.total()
			_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
			want(t, err, tt.code, tt.words...)
			_, err = r.Apply(t.Context(), moved(r.existing(t, "0.9.0"), "1.0.0"), r.log)
			want(t, err, tt.code, tt.words...)
			if r.asked(createPath) != 1 || r.asked(updatePath) != 1 {
				t.Errorf("%d creates and %d updates were sent", r.asked(createPath), r.asked(updatePath))
			}
			if waited := r.clock.total() - slept; waited > 5*time.Second {
				t.Errorf("waited %s", waited)
			}
		})
	}
}

func TestReadBack(t *testing.T) {
	t.Parallel()
	t.Run("pinned", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		current := r.existing(t, "1.0.0")
		r.standIn.Pin(current.ID, sandbox.DefaultWorkspaceID, "1.0.0")
		_, err := r.Apply(t.Context(), moved(current, "1.1.0"), r.log)
		want(t, err, fault.DefinitionDiffers, "1.0.0 instead of 1.1.0", "pinned")
	})
	t.Run("deleted", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		id := r.standIn.AddDefinition(sandbox.Definition{Type: connector.Source, Name: "Acme ERP", Repository: repository, Tag: "1.0.0", Custom: true,
			Tombstone: true, Workspaces: []string{sandbox.DefaultWorkspaceID}})
		_, err := r.Apply(t.Context(), moved(connector.Definition{ID: id, Name: "Acme ERP", Repository: repository, Tag: "1.0.0", Custom: true}, "1.1.0"), r.log)
		want(t, err, fault.DefinitionDiffers, "does not list it")
	})
	t.Run("not custom", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		id := r.standIn.AddDefinition(sandbox.Definition{Type: connector.Source, Name: "Acme ERP", Repository: repository, Tag: "1.0.0",
			Workspaces: []string{sandbox.DefaultWorkspaceID}})
		_, err := r.Apply(t.Context(), moved(connector.Definition{ID: id, Name: "Acme ERP", Repository: repository, Tag: "1.0.0", Custom: true}, "1.1.0"), r.log)
		want(t, err, fault.DefinitionDiffers, "does not list it as a custom definition")
	})
	t.Run("another repository", func(t *testing.T) {
		t.Parallel()
		r := setUp(t, withCredentials("2.2.0"), nil, nil)
		id := r.standIn.AddDefinition(sandbox.Definition{Type: connector.Source, Name: "Acme ERP", Repository: "ghcr.io/acme/other", Tag: "1.0.0", Custom: true,
			Workspaces: []string{sandbox.DefaultWorkspaceID}})
		_, err := r.Apply(t.Context(), moved(connector.Definition{ID: id, Name: "Acme ERP", Repository: repository, Tag: "1.0.0", Custom: true}, "1.1.0"), r.log)
		want(t, err, fault.DefinitionDiffers, "ghcr.io/acme/other")
	})
}

func TestCheck(t *testing.T) {
	t.Parallel()
	r := setUp(t, withCredentials("1.0.0"), nil, nil)
	current := r.existing(t, "1.0.0")
	renamed := moved(current, "1.1.0")
	renamed.Name = "Another"
	if ch := must[connector.Change](t)(r.Check(t.Context(), renamed)); ch.Name != current.Name {
		t.Errorf("the name is %q, which Airbyte 1.0 can't give", ch.Name)
	}
	other := moved(current, "1.1.0")
	other.Repository = "ghcr.io/acme/elsewhere"
	_, err := r.Check(t.Context(), other)
	want(t, err, fault.RepositoryImmutable, repository, "elsewhere")
	catalogue := current
	catalogue.Custom = false
	_, err = r.Check(t.Context(), moved(catalogue, "1.1.0"))
	want(t, err, fault.AirbyteRefused, "catalogue")
	if r.standIn.Writes() != 0 {
		t.Error("a check wrote")
	}
}

func TestDoubtfulUpdate(t *testing.T) {
	t.Parallel()
	r := setUp(t, withCredentials("1.6.3"), nil, nil)
	r.standIn.AddFault(sandbox.Fault{At: updatePath, Kind: sandbox.Answer, Status: 500, Times: -1,
		Body: `{"message":"Internal Server Error: Id not found: Could not find configuration for STANDARD_WORKSPACE: 00000000-0000-0000-0000-000000000000."}`})
	_, err := r.Apply(t.Context(), moved(r.existing(t, "1.0.0"), "1.1.0"), r.log)
	want(t, err, fault.AirbyteFailed, "59123", "1.6.3", "1.7")
}

func TestCancelledRun(t *testing.T) {
	t.Parallel()
	o := withCredentials("2.2.0")
	o.CommandPolls = 1000
	r := setUp(t, o, nil, nil)
	ctx, cancel := context.WithCancel(t.Context())
	r.clock.at[3] = cancel
	_, err := r.Apply(ctx, newConnector("1.0.0"), r.log)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want the context's error", err)
	}
	if r.asked("/commands/cancel") != 1 || r.standIn.Writes() != 0 {
		t.Errorf("the command was cancelled %d times, %d writes", r.asked("/commands/cancel"), r.standIn.Writes())
	}
	_, err = r.List(ctx, sandbox.DefaultWorkspaceID, connector.Source)
	if err == nil {
		t.Error("a cancelled context lists")
	}
	must[[]connector.Definition](t)(r.List(t.Context(), sandbox.DefaultWorkspaceID, connector.Source))
}

func TestCommandThatNeverEnds(t *testing.T) {
	t.Parallel()
	o := withCredentials("2.2.0")
	o.CommandPolls = 1 << 30
	r := setUp(t, o, nil, func(o *airbyte.Options) { o.Timeout = time.Minute })
	_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
	want(t, err, fault.ServerSpecFailed, "1m0s")
	if r.asked("/commands/cancel") != 1 {
		t.Error("the command was left running")
	}
}

// TestRestart has nothing listen when the create is to be sent: no connection, so it can be sent later.
func TestRestart(t *testing.T) {
	t.Parallel()
	r := setUp(t, withCredentials("1.8.0"), nil, nil)
	address := r.server.Listener.Addr().String()
	handler := r.server.Config.Handler
	log := &stopper{recorder: r.log, stop: r.server.Close}
	r.clock.at[1] = func() {
		l, err := net.Listen("tcp", address)
		if err != nil {
			t.Error(err)
			return
		}
		again := &http.Server{Handler: handler, ReadHeaderTimeout: time.Minute}
		t.Cleanup(func() { _ = again.Close() })
		go func() { _ = again.Serve(l) }() // It ends with Close.
	}
	must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), log))
	if n, m := r.asked(createPath), len(r.standIn.Definitions()); n != 1 || m != 1 {
		t.Errorf("%d creates, %d definitions", n, m)
	}
}

// stopper stops the server when the client is about to create.
type stopper struct {
	*recorder
	stop func()
}

func (s *stopper) Info(format string, args ...any) {
	if strings.HasPrefix(format, "creating") {
		s.stop()
	}
}

// TestListFailsMeanwhile has the instance restart after a lost create.
func TestListFailsMeanwhile(t *testing.T) {
	t.Parallel()
	r := setUp(t, withCredentials("1.8.0"), nil, nil)
	r.standIn.AddFault(sandbox.Fault{At: createPath, Kind: sandbox.DropAfterWork})
	r.standIn.AddFault(sandbox.Fault{At: listPath, Skip: 1, Times: 12, Kind: sandbox.Answer, Status: 503})
	must[connector.Definition](t)(r.Apply(t.Context(), newConnector("1.0.0"), r.log))

	r.standIn.AddFault(sandbox.Fault{At: listPath, Times: -1, Kind: sandbox.Answer, Status: 503})
	_, err := r.Apply(t.Context(), moved(connector.Definition{ID: r.standIn.Definitions()[0].ID, Name: "Acme ERP", Repository: repository, Tag: "1.0.0",
		Custom: true}, "1.1.0"), r.log)
	want(t, err, fault.DefinitionDiffers, "does not list")
}

func TestVanishedDefinition(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.8.0", "2.2.0"} {
		r := setUp(t, withCredentials(version), nil, nil)
		gone := r.existing(t, "1.0.0")
		gone.ID = "99999999-2222-4333-8444-555555555555"
		_, err := r.Apply(t.Context(), moved(gone, "1.1.0"), r.log)
		want(t, err, fault.DefinitionNotFound, gone.ID, "404")
	}
}

// TestCommandAnswers has answers of the commands API that the stand-in does not give by itself.
func TestCommandAnswers(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, at string
		status   int
		body     string
		code     fault.Code
		words    []string
		logged   string
	}{
		{"cancelled by somebody", "/commands/status", 200, `{"id":"1","status":"cancelled"}`, fault.ServerSpecFailed, []string{"cancelled"}, ""},
		{"structured log", "/commands/output/spec", 200, `{"status":"failed","failureReason":{"externalMessage":"","internalMessage":"no such thing"},"logs":` +
			`{"logType":"structured","logEvents":{"events":[{"level":"error","message":"it broke","stackTrace":"at Main.java"}]}}}`,
			fault.ServerSpecFailed, []string{"no such thing", "AIRBYTE_ENTRYPOINT"}, "ERROR it broke\nat Main.java"},
		{"long log", "/commands/output/spec", 200, `{"status":"failed","logs":{"logLines":["` + strings.Repeat("ä", 100_000) + `END"]}}`,
			fault.ServerSpecFailed, nil, "äEND"},
		{"no room", "/commands/output/spec", 200, `{"status":"failed","failureReason":{"externalMessage":"Unable to start the spec pod."}}`,
			fault.ServerSpecFailed, []string{"no room"}, ""},
		{"started by something in front", "/commands/run/spec", 200, "<html><title>Sign in</title></html>", fault.NotAirbyte, []string{"Sign in"}, ""},
		{"no status", "/commands/status", 200, `{"ok":true}`, fault.NotAirbyte, []string{"no status"}, ""},
		{"failure to start", "/commands/run/spec", 500, `{"errorId":"e-9"}`, fault.AirbyteFailed, []string{"e-9", "run the spec of " + repository}, ""},
		{"failure to ask", "/commands/status", 500, `{"errorId":"e-9"}`, fault.AirbyteFailed, []string{"e-9"}, ""},
		{"failure to tell", "/commands/output/spec", 404, `{"errorId":"e-9"}`, fault.AirbyteRefused, []string{"e-9"}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			r := setUp(t, withCredentials("2.2.0"), nil, nil)
			r.standIn.AddFault(sandbox.Fault{At: tt.at, Kind: sandbox.Answer, Status: tt.status, Body: tt.body, Times: -1})
			_, err := r.Apply(t.Context(), newConnector("1.0.0"), r.log)
			want(t, err, tt.code, tt.words...)
			if text := r.log.text(); !strings.Contains(text, tt.logged) || len(text) > 40_000 {
				t.Errorf("the log has %d bytes and ends with %q", len(text), text[max(0, len(text)-100):])
			}
			if r.standIn.Writes() != 0 {
				t.Error("something was written")
			}
		})
	}
}
