package build

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// someEngines are a new and the oldest engine, which differ most.
var someEngines = []anEngine{allEngines[0], allEngines[2]}

// judgedAsPublished are the checks of a publish as far as the spec goes.
func judgedAsPublished(c connector.Connector, run *connector.SpecRun) connector.Checks {
	return connector.Checks{
		Plan: func(context.Context, connector.Image) error { return nil },
		Candidate: func(ctx context.Context, candidate connector.Candidate) (err error) {
			if *run, err = candidate.RunSpec(ctx); err != nil {
				return err
			}
			_, findings := connector.ReadSpec(c, *run)
			for _, f := range findings {
				if f.Severity == connector.Error {
					return &fault.Error{Code: f.Code, Op: "check", Cause: f.Message}
				}
			}
			return nil
		},
	}
}

func TestSpecThatFailsKeepsTheImageBack(t *testing.T) {
	t.Parallel()
	listener, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	_, port, _ := net.SplitHostPort(listener.Addr().String())
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			o := e.options(t)
			o.SpecTimeout = 5 * time.Second
			r := newTarget(t, registrytest.Config{}, o)
			for name, tc := range map[string]struct {
				script string
				code   fault.Code
				stderr string
			}{
				"crashes":         {"echo no such column >&2; exit 3", fault.SpecFailed, "no such column"},
				"exits with 255":  {"exit 255", fault.SpecFailed, ""},
				"is not there":    {"exec /nothing", fault.SpecFailed, "not found"},
				"kills its shell": {"kill -9 $PPID; kill -9 1; kill -9 $$", fault.SpecFailed, ""},
				"prints no spec":  {"echo hello; echo a word >&2", fault.NoSpec, "a word"},
				"needs network":   {"nc -w 2 127.0.0.1 " + port + " </dev/null || { echo network is needed >&2; exit 1; }\n" + printsSpec, fault.SpecFailed, "network is needed"},
				"wants root":      {"id >&2; mkdir /root/x || exit 1\n" + printsSpec, fault.SpecFailed, "uid=1000(airbyte) gid=1000(airbyte)"},
				"prints too much": {"while :; do echo 0123456789012345678901234567890123456789012345678901234567890123456789; done",
					fault.SpecOutputTooLarge, ""},
				"hangs": {"echo waiting >&2; sleep 600 & wait", fault.SpecTimeout, "waiting"},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					c := r.shellConnector(t, tc.script+"\n", nil)
					var run connector.SpecRun
					begun := time.Now()
					_, err := r.Builder.Build(t.Context(), c, quiet{}, judgedAsPublished(c, &run))
					if fault.CodeOf(err) != tc.code {
						t.Errorf("got %v, want %s\n%+v", err, tc.code, run.ExitCode)
					}
					if !strings.Contains(string(run.Stderr), tc.stderr) {
						t.Errorf("standard error is %q, want %q in it", run.Stderr, tc.stderr)
					}
					if len(run.Stdout) > maxStdout {
						t.Errorf("%d bytes of output were kept", len(run.Stdout))
					}
					if took := time.Since(begun); took > 60*time.Second {
						t.Errorf("it took %v", took)
					}
				})
			}
			// After all of them, because they share the repository.
			t.Cleanup(func() { r.untouched(t, r.connector("source-shell")) })
		})
	}
}

func TestSpecSeesWhatAirbyteGives(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			c := r.shellConnector(t, `echo "$PWD $WORD $1" >&2; touch /config/x /tmp/y || exit 1; ip a >&2`+"\n"+printsSpec, map[string]string{})
			c.Recipe.Args = map[string]string{"BUILDKIT_INLINE_CACHE": "0"}
			appendTo(t, c, "Dockerfile", "WORKDIR /elsewhere\nENV WORD=good\nUSER 0\n")
			var run connector.SpecRun
			if _, err := r.Builder.Build(t.Context(), c, quiet{}, judgedAsPublished(c, &run)); err != nil {
				t.Fatalf("%v\n%s", err, run.Stderr)
			}
			if !strings.Contains(string(run.Stderr), "/config good spec\n") {
				t.Errorf("the connector saw %q", run.Stderr)
			}
			if strings.Contains(string(run.Stderr), "eth0") {
				t.Errorf("the connector has a network: %s", run.Stderr)
			}
		})
	}
}

func TestImageWithoutShell(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			for name, last := range map[string]string{"empty": "FROM scratch\n", "a file": "FROM scratch\nCOPY run.sh /run.sh\n"} {
				c := r.shellConnector(t, printsSpec, map[string]string{"Dockerfile": last + "ENV AIRBYTE_ENTRYPOINT=/run.sh\n"})
				var run connector.SpecRun
				_, err := r.Builder.Build(t.Context(), c, quiet{}, judgedAsPublished(c, &run))
				if fault.CodeOf(err) != fault.NoShell {
					t.Errorf("%s: got %v", name, err)
				}
				r.untouched(t, c)
			}
		})
	}
}

func TestBuildThatFails(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			base := r.base(t, buildtest.Busybox)
			for name, tc := range map[string]struct {
				dockerfile string
				change     func(*connector.Connector)
				code       fault.Code
				line       int
				says       []string
			}{
				"command": {dockerfile: "FROM " + base + "\nENV A=b\nRUN echo one; echo the compiler is missing >&2; exit 7\n",
					code: fault.BuildFailed, line: 3, says: []string{"RUN echo one", "exit code: 7", "the compiler is missing"}},
				"missing file": {dockerfile: "FROM " + base + "\nCOPY nothing.txt /\n", code: fault.BuildFailed, line: 2, says: []string{"nothing.txt"}},
				"missing secret": {dockerfile: "FROM " + base + "\nRUN --mount=type=secret,id=token,required=true true\n",
					code: fault.BuildFailed, line: 2, says: []string{"the secret token was not given (given: other)", "id=token,env=VARIABLE"},
					change: func(c *connector.Connector) { c.Recipe.Secrets = map[string][]byte{"other": []byte("x")} }},
				"no such base": {dockerfile: "FROM " + r.Addr + "/base/none:1\n", code: fault.BaseImage, line: 1, says: []string{"base/none:1"}},
				"foreign frontend": {dockerfile: "# syntax=" + r.Addr + "/frontend/none:1\nFROM " + base + "\n", code: fault.BaseImage, line: 1,
					says: []string{"frontend/none:1"}},
				"secret in output": {dockerfile: "FROM " + base + "\nRUN --mount=type=secret,id=token cat /run/secrets/token; exit 1\n",
					code: fault.BuildFailed, line: 2, says: []string{"it printed last: ***"},
					change: func(c *connector.Connector) {
						c.Recipe.Secrets = map[string][]byte{"token": []byte("tok-secret-value\n")}
					}},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					c := r.shellConnector(t, printsSpec, map[string]string{"Dockerfile": tc.dockerfile})
					if tc.change != nil {
						tc.change(&c)
					}
					log, j := &recorder{}, &judging{}
					_, err := r.Builder.Build(t.Context(), c, log, j.checks())
					e, ok := errors.AsType[*fault.Error](err)
					if !ok || e.Code != tc.code {
						t.Fatalf("got %v, want %s\n%s", err, tc.code, log)
					}
					want := c.Label
					if tc.line > 0 {
						want = fmt.Sprintf("%s:%d", filepath.Join(c.Dir, "Dockerfile"), tc.line)
					}
					if e.Object != want {
						t.Errorf("the error is about %q, want %q", e.Object, want)
					}
					for _, says := range tc.says {
						if !strings.Contains(err.Error(), says) {
							t.Errorf("the error lacks %q: %v", says, err)
						}
					}
					if strings.Contains(err.Error(), "rpc error") || strings.Contains(err.Error()+log.String(), "tok-secret-value") {
						t.Errorf("the error or the log tells too much: %v\n%s", err, log)
					}
					if len(j.judged) > 0 {
						t.Error("a candidate was judged")
					}
				})
			}
		})
	}
}

// changedBase is busybox as a base image with another config, which says that it is for an architecture. It is pushed
// where ref is not empty.
func (r *target) changedBase(t *testing.T, architecture, ref string) v1.Image {
	t.Helper()
	file, err := buildtest.Busybox.Image(t).ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture, file.Author = architecture, "somebody else"
	img, err := mutate.ConfigFile(buildtest.Busybox.Image(t), file)
	if err != nil {
		t.Fatal(err)
	}
	if ref != "" {
		tag, err := name.NewTag(r.Addr + "/" + ref)
		if err == nil {
			err = remote.Write(tag, img, r.remote(t.Context())...)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return img
}

func TestBaseOfAnotherArchitectureIsFoundOut(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			r.changedBase(t, "arm64", "base/arm:1")
			c := r.shellConnector(t, printsSpec, map[string]string{"Dockerfile": "FROM " + r.Addr + "/base/arm:1\nCOPY run.sh /\nENV AIRBYTE_ENTRYPOINT=/run.sh\n"})
			var planned, judged connector.Image
			_, err := r.Builder.Build(t.Context(), c, quiet{}, connector.Checks{
				Plan: func(_ context.Context, i connector.Image) error { planned = i; return nil },
				Candidate: func(_ context.Context, candidate connector.Candidate) error {
					judged = candidate.Image()
					return errors.New("enough")
				}})
			if err == nil || err.Error() != "enough" {
				t.Errorf("got %v", err)
			}
			for what, i := range map[string]connector.Image{"plan": planned, "candidate": judged} {
				if len(i.Platforms) != 1 || i.Platforms[0].Platform != "linux/arm64" {
					t.Errorf("the %s is for %+v", what, i.Platforms)
				}
			}
		})
	}
}

func TestPushThatFails(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{Users: map[string]string{"me": "pa55-word"}}, e.options(t))
			dead, err := net.Listen("tcp4", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			nowhere := dead.Addr().String()
			dead.Close()
			for name, tc := range map[string]struct {
				auth authn.AuthConfig
				host string
				code fault.Code
			}{
				"wrong password": {authn.AuthConfig{Username: "me", Password: "wr0ng-word"}, "", fault.CredentialsRefused},
				"none":           {authn.AuthConfig{}, "", fault.NoCredentials},
				"nobody there":   {authn.AuthConfig{}, nowhere, fault.RegistryUnreachable},
			} {
				t.Run(name, func(t *testing.T) {
					t.Parallel()
					o := r.Builder.options
					o.Credentials = func(context.Context, string) (authn.AuthConfig, error) { return tc.auth, nil }
					// The base is on a registry without passwords, so that only the push wants them.
					open := newTarget(t, registrytest.Config{}, o)
					open.Builder.options.Credentials = o.Credentials
					c := open.shellConnector(t, printsSpec, nil)
					host := cmp.Or(tc.host, r.Addr)
					c.Repository = image.Repository(host) + c.Repository[len(open.Addr):]
					log, j := &recorder{}, &judging{}
					_, err := open.Builder.Build(t.Context(), c, log, j.checks())
					if fault.CodeOf(err) != tc.code {
						t.Errorf("got %v, want %s", err, tc.code)
					}
					if strings.Contains(fmt.Sprint(err)+log.String(), "wr0ng-word") {
						t.Error("the password is shown")
					}
				})
			}
		})
	}
}

func TestInterruptedBuildEndsAtOnce(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			c := r.shellConnector(t, "echo waiting >&2; sleep 600\n", nil)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			begun := make(chan time.Time, 1)
			_, err := r.Builder.Build(ctx, c, quiet{}, connector.Checks{
				Plan: func(context.Context, connector.Image) error { return nil },
				Candidate: func(ctx context.Context, candidate connector.Candidate) error {
					time.AfterFunc(300*time.Millisecond, func() { begun <- time.Now(); cancel() })
					_, err := candidate.RunSpec(ctx)
					return err
				}})
			if !errors.Is(err, context.Canceled) {
				t.Errorf("got %v", err)
			}
			if took := time.Since(<-begun); took > 10*time.Second {
				t.Errorf("it took %v to end", took)
			}
			r.untouched(t, c)
		})
	}
}
