package cli_test

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// openSandbox is an open registry and a stand-in with these options, and the environment to publish into them.
func openSandbox(t *testing.T, o sandbox.AirbyteOptions, ro sandbox.RegistryOptions) (environment, *standIn, *sandbox.Registry) {
	t.Helper()
	images := sandbox.NewRegistry(ro)
	address := serve(t, images)
	t.Cleanup(func() { _ = images.Close() })
	if o.RunSpec == nil {
		o.RunSpec = sandbox.PullAndRun(sandbox.PullOptions{})
	}
	airbyte := startAirbyte(t, o)
	return signIn(o.Auth).with(
		"HOME", t.TempDir(),
		"AIRBYTE_PUBLISH_AIRBYTE_URL", airbyte.url,
		"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP", "true",
		"AIRBYTE_PUBLISH_IMAGE", address+"/sandbox/{connector}",
	), airbyte, images
}

const hello = "../../testdata/connectors/source-hello"

// A create whose answer is lost ends as one definition, never two.
func TestCreateWhoseAnswerIsLost(t *testing.T) {
	t.Parallel()
	source := "oci:" + layoutOf(t, "source-hello")
	const create = "/source_definitions/create_custom"
	for _, version := range []string{"0.63.0", "1.8.0", "2.0.0", "2.2.0"} {
		for name, fault := range map[string]sandbox.Fault{
			"504 after the work":          {At: create, Kind: sandbox.AnswerAfterWork},
			"504 long before the work":    {At: create, Kind: sandbox.AnswerBeforeWork, Delay: 700 * time.Millisecond},
			"connection cut after it":     {At: create, Kind: sandbox.DropAfterWork},
			"502 without a body after it": {At: create, Kind: sandbox.AnswerAfterWork, Status: http.StatusBadGateway, Body: " "},
		} {
			t.Run(version+" "+name, func(t *testing.T) {
				t.Parallel()
				env, airbyte, _ := openSandbox(t, sandbox.AirbyteOptions{Version: version, Faults: []sandbox.Fault{fault}}, sandbox.RegistryOptions{})
				o := env.with("AIRBYTE_PUBLISH_SOURCE", source).run(t, "publish", "--output", "json", hello)
				if row := o.result(t).Rows[0]; o.code != 0 || row.Action != "created" || row.DefinitionID == "" {
					t.Errorf("exit code %d\n%s", o.code, o)
				}
				if n := len(airbyte.Definitions()); n != 1 {
					t.Errorf("%d definitions\n%s", n, o)
				}
			})
		}
	}
}

// A create that was never carried out is not repeated: the run says that it can't tell.
func TestCreateThatNeverCame(t *testing.T) {
	t.Parallel()
	env, airbyte, _ := openSandbox(t, sandbox.AirbyteOptions{Version: "1.8.0", Faults: []sandbox.Fault{
		{At: "/source_definitions/create_custom", Kind: sandbox.Answer, Status: http.StatusGatewayTimeout, Body: sandbox.GatewayTimeoutHTML}}}, sandbox.RegistryOptions{})
	o := env.with("AIRBYTE_PUBLISH_SOURCE", "oci:"+layoutOf(t, "source-hello"), "AIRBYTE_PUBLISH_AIRBYTE_TIMEOUT", "2s").
		run(t, "publish", "--output", "json", hello)
	if row := o.result(t).Rows[0]; o.code != 1 || row.Code != "AP514" || row.Action != "none" || !row.Pushed {
		t.Errorf("exit code %d\n%s", o.code, o)
	}
	if n := len(airbyte.Definitions()); n != 0 {
		t.Errorf("%d definitions", n)
	}
}

// Two runs that create the same connector at the same time can't be kept apart by Airbyte; the twins are named.
func TestTwoRunsAtOnceNameTheTwins(t *testing.T) {
	t.Parallel()
	for _, version := range []string{"1.8.0", "2.2.0"} {
		t.Run(version, func(t *testing.T) {
			t.Parallel()
			var both sync.WaitGroup
			both.Add(2)
			env, airbyte, _ := openSandbox(t, sandbox.AirbyteOptions{Version: version, OnRequest: func(r *http.Request, _ []byte) {
				if strings.HasSuffix(r.URL.Path, "/create_custom") {
					// Neither creates before the other one wants to.
					both.Done()
					both.Wait()
				}
			}}, sandbox.RegistryOptions{})
			env = env.with("AIRBYTE_PUBLISH_SOURCE", "oci:"+layoutOf(t, "source-hello"))
			var outcomes [2]outcome
			var wg sync.WaitGroup
			for i := range outcomes {
				wg.Go(func() { outcomes[i] = env.runContext(context.Background(), "publish", "--output", "json", hello) })
			}
			wg.Wait()
			definitions := airbyte.Definitions()
			if len(definitions) != 2 {
				t.Fatalf("%d definitions, the collision did not come about", len(definitions))
			}
			named := 0
			for _, o := range outcomes {
				row := o.result(t).Rows[0]
				if row.Code != "AP515" {
					continue
				}
				named++
				for _, d := range definitions {
					if !strings.Contains(row.Error, d.ID) {
						t.Errorf("the error does not name %s: %s", d.ID, row.Error)
					}
				}
				if o.code != 1 {
					t.Errorf("exit code %d", o.code)
				}
			}
			if named == 0 {
				t.Errorf("no run names the twins:\n%s\n%s", outcomes[0], outcomes[1])
			}
		})
	}
}

// What an image does wrong stops the publish before anything is pushed or registered.
func TestBrokenImagesGoNowhere(t *testing.T) {
	t.Parallel()
	for variant, code := range map[string]string{
		connectors.NoEntrypoint: "AP201", connectors.RelativeEntrypoint: "AP202", connectors.ARM64Only: "AP204", connectors.ZstdLayer: "AP205",
		connectors.Crash: "AP210", connectors.NoSpec: "AP212", connectors.ErrorTrace: "AP213", connectors.NoShell: "AP222",
		connectors.HugeOutput: "AP223", connectors.NeedsNetwork: "AP210",
	} {
		t.Run(variant, func(t *testing.T) {
			t.Parallel()
			env, airbyte, images := openSandbox(t, sandbox.AirbyteOptions{}, sandbox.RegistryOptions{})
			o := env.with("AIRBYTE_PUBLISH_SOURCE", "oci:"+variantOf(t, variant)).run(t, "publish", "--output", "json", hello)
			if row := o.result(t).Rows[0]; o.code != 1 || row.Code != code || row.Pushed || row.Action != "none" {
				t.Errorf("exit code %d, want the code %s\n%s", o.code, code, o)
			}
			if n := images.Count(sandbox.StepManifestPut) + images.Count(sandbox.StepUploadFinish) + airbyte.Writes(); n != 0 {
				t.Errorf("%d writes", n)
			}
		})
	}
}

// A create that is under way when the run is interrupted can't be called off: its answer is waited for a while, and
// where it does not come, the run says that a definition will appear.
func TestInterruptedCreate(t *testing.T) {
	t.Parallel()
	for name, delay := range map[string]time.Duration{"answered in time": 300 * time.Millisecond, "not answered": time.Minute} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			ctx, interrupt := context.WithCancel(t.Context())
			// Only the delay is to count: a busy machine takes seconds to pull and run an image.
			spec := func(context.Context, string) (connector.SpecRun, error) {
				return connector.SpecRun{Stdout: []byte(`{"type":"SPEC","spec":{"connectionSpecification":{"type":"object"}}}`)}, nil
			}
			env, _, _ := openSandbox(t, sandbox.AirbyteOptions{Version: "1.8.0", SpecDelay: delay, RunSpec: spec, OnRequest: func(r *http.Request, _ []byte) {
				if strings.HasSuffix(r.URL.Path, "/create_custom") {
					interrupt()
				}
			}}, sandbox.RegistryOptions{})
			o := env.with("AIRBYTE_PUBLISH_SOURCE", "oci:"+layoutOf(t, "source-hello")).runContext(ctx, "publish", "--output", "json", hello)
			row := o.result(t).Rows[0]
			if o.code != 130 || row.Code != "AP902" || (row.DefinitionID != "") != (delay < time.Minute) {
				t.Errorf("exit code %d\n%s", o.code, o)
			}
			if delay == time.Minute && !strings.Contains(row.Error, "Airbyte goes on with that") {
				t.Errorf("nothing is said of the definition that will appear: %s", row.Error)
			}
		})
	}
}

// An interrupted run ends soon, with its own exit code, and the next one finishes the job.
func TestInterruptedRun(t *testing.T) {
	t.Parallel()
	ctx, interrupt := context.WithCancel(t.Context())
	env, airbyte, _ := openSandbox(t, sandbox.AirbyteOptions{OnRequest: func(r *http.Request, _ []byte) {
		if strings.HasSuffix(r.URL.Path, "/commands/run/spec") {
			interrupt()
		}
	}}, sandbox.RegistryOptions{})
	env = env.with("AIRBYTE_PUBLISH_SOURCE", "oci:"+layoutOf(t, "source-hello"))
	o := env.runContext(ctx, "publish", "--output", "json", hello)
	if row := o.result(t).Rows[0]; o.code != 130 || row.Code != "AP902" || !row.Pushed {
		t.Errorf("exit code %d\n%s", o.code, o)
	}
	o = env.run(t, "publish", "--output", "json", hello)
	if row := o.result(t).Rows[0]; o.code != 0 || row.Action != "created" || row.Pushed {
		t.Errorf("exit code %d\n%s", o.code, o)
	}
	if n := len(airbyte.Definitions()); n != 1 {
		t.Errorf("%d definitions", n)
	}
}
