package build

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// findingLog is a log that keeps findings.
type findingLog struct {
	quiet
	all  []connector.Finding
	said strings.Builder
}

func (f *findingLog) Info(format string, args ...any) { fmt.Fprintf(&f.said, format+"\n", args...) }

func (f *findingLog) Finding(found connector.Finding) { f.all = append(f.all, found) }

// planned plans a connector as plan and lint do.
func planned(t *testing.T, b *Builder, c connector.Connector) (connector.Image, []connector.Finding, error) {
	t.Helper()
	var found connector.Image
	log := &findingLog{}
	a, err := b.Build(t.Context(), c, log, connector.Checks{Plan: func(_ context.Context, i connector.Image) error { found = i; return nil }})
	if a.Image != nil || a.Index != nil {
		t.Errorf("planning gave an image")
	}
	return found, log.all, err
}

// dockerfileIn is a connector in a folder with a Dockerfile.
func dockerfileIn(t *testing.T, text string) connector.Connector {
	t.Helper()
	return connector.Connector{Dir: folderOf(t, map[string]string{"Dockerfile": text}), Label: "source-x", Repository: "127.0.0.1:1/acme/source-x",
		Tag: "1", Name: "X", Recipe: connector.Recipe{Args: map[string]string{}}}
}

func TestPlanOfADockerfile(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	amd, arm := baseImage(t, "linux/amd64"), baseImage(t, "linux/arm64")
	index := indexOf(t, map[string]v1.Image{"linux/amd64": amd, "linux/arm64": arm})
	r.push(t, "base/both:1", image.Artifact{Index: index})
	c := dockerfileIn(t, `# syntax=docker/dockerfile:1
ARG BASE=scratch
FROM scratch AS other
COPY a /b
FROM ${BASE} AS plain
LABEL kept=no own=yes
WORKDIR /airbyte/integration_code/sub
RUN --mount=type=secret,id=x <<EOF
make
EOF
ENV AIRBYTE_ENTRYPOINT="/run me"
USER 1000
CMD ["x"]
FROM plain AS last
ENTRYPOINT ["/last"]
`)
	c.Recipe.Args["BASE"] = r.host + "/base/both:1"
	c.Recipe.Target = "plain"
	c.Recipe.Platforms = []string{"linux/amd64", "linux/arm64/v8"}
	b := newBuilder(t, Options{Open: r.open})
	begun := time.Now()
	got, found, err := planned(t, b, c)
	if err != nil || len(found) > 0 {
		t.Fatalf("%v %+v", err, found)
	}
	t.Logf("planned in %v", time.Since(begun))
	if len(got.Platforms) != 2 || !got.Index || got.Digest != "" {
		t.Fatalf("got %+v", got)
	}
	for i, want := range []struct {
		platform string
		base     v1.Image
	}{{"linux/amd64", amd}, {"linux/arm64", arm}} {
		p := got.Platforms[i]
		if p.Platform != want.platform || p.Claimed != want.platform {
			t.Errorf("%d is for %s, %s", i, p.Platform, p.Claimed)
		}
		if p.WorkingDir != "/airbyte/integration_code/sub" || p.User != "1000" || !slices.Equal(p.Cmd, []string{"x"}) ||
			!slices.Equal(p.Entrypoint, []string{"python", "/airbyte/integration_code/main.py"}) || !slices.Contains(p.Env, "AIRBYTE_ENTRYPOINT=/run me") {
			t.Errorf("got %+v", p)
		}
		if l, err := want.base.Layers(); err != nil || len(p.Layers) != len(l) || p.Layers[0].Digest != digestOf(t, l[0]) {
			t.Errorf("got the layers %+v (%v)", p.Layers, err)
		}
		if p.Labels["kept"] != "no" || p.Labels["own"] != "yes" || p.Labels["io.airbyte.name"] != string(c.Repository) ||
			p.Labels[baseNameLabel] != r.host+"/base/both:1" || p.Labels[baseDigestLabel] != digestOf(t, index) || !strings.HasPrefix(p.Labels[sourceLabel], "sha256:") {
			t.Errorf("got the labels %v", p.Labels)
		}
	}
}

func TestPlanReadsEachBaseOnce(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.push(t, "base/x:1", image.Artifact{Image: baseImage(t, "linux/amd64")})
	var opened atomic.Int32
	b := newBuilder(t, Options{Open: func(ctx context.Context, ref string) (image.Artifact, error) {
		opened.Add(1)
		return r.open(ctx, ref)
	}})
	for range 3 {
		c := dockerfileIn(t, "FROM "+r.host+"/base/x:1 AS a\nFROM "+r.host+"/base/x:1\nCOPY --from=a /usr /usr\n")
		if _, _, err := planned(t, b, c); err != nil {
			t.Fatal(err)
		}
	}
	if n := opened.Load(); n != 1 {
		t.Errorf("the base was opened %d times", n)
	}
}

func TestPlanTellsWhatIsWrong(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.push(t, "base/arm:1", image.Artifact{Image: baseImage(t, "linux/arm64")})
	r.push(t, "base/index:1", image.Artifact{Index: indexOf(t, map[string]v1.Image{"linux/arm64": baseImage(t, "linux/arm64")})})
	for name, tc := range map[string]struct {
		text, target string
		code         fault.Code
		line         int
		says         string
	}{
		"misspelled":        {"FROM scratch\n\nCOPPY a b\n", "", fault.BadDockerfile, 3, "unknown instruction: COPPY"},
		"empty":             {"", "", fault.BadDockerfile, 0, "empty"},
		"no such target":    {"FROM scratch AS a\n", "b", fault.BadDockerfile, 0, "\"b\" could not be found"},
		"a check's error":   {"# check=error=true\nFROM scratch as a\n", "", fault.BadDockerfile, 0, "FromAsCasing"},
		"no such base":      {"FROM scratch\nFROM " + r.host + "/base/none:1\n", "", fault.BaseImage, 2, "NAME_UNKNOWN"},
		"base lacks amd64":  {"FROM " + r.host + "/base/index:1\n", "", fault.BaseImage, 1, "it has no linux/amd64, only: linux/arm64"},
		"illegal base":      {"FROM UPPER/x\n", "", fault.BaseImage, 1, "could not parse reference"},
		"foreign language":  {"# syntax=example.com/lang:1\nnot a Dockerfile\n", "", fault.BadDockerfile, 2, "only a build can ask"},
		"labs' instruction": {"# syntax=docker/dockerfile:1-labs\nFROM scratch\nNEW x\n", "", fault.BadDockerfile, 3, "only a build can ask"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := dockerfileIn(t, tc.text)
			c.Recipe.Target = tc.target
			_, _, err := planned(t, newBuilder(t, Options{Open: r.open}), c)
			if fault.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Fatalf("got %v, want %s and %q", err, tc.code, tc.says)
			}
			if e, _ := errors.AsType[*fault.Error](err); tc.line > 0 && !strings.Contains(e.Object, fmt.Sprintf("/Dockerfile:%d", tc.line)) {
				t.Errorf("the error is about %s, want line %d", e.Object, tc.line)
			}
		})
	}
	const away = "example.com/base/x:1.2"
	for code, wrong := range map[fault.Code]bool{fault.RegistryUnreachable: false, fault.RegistryTLS: false, fault.CredentialsRefused: false,
		fault.RateLimited: false, fault.SourceImage: true, fault.Internal: true} {
		t.Run("a base that can't be read: "+string(code), func(t *testing.T) {
			t.Parallel()
			log := &findingLog{}
			b := newBuilder(t, Options{Open: func(context.Context, string) (image.Artifact, error) {
				return image.Artifact{}, &fault.Error{Code: code, Op: "reach", Object: "example.com", Cause: "it says nothing", Remedy: `Set "registry-plain-http".`}
			}})
			_, err := b.Build(t.Context(), dockerfileIn(t, "FROM "+away+"\n"), log, connector.Checks{Plan: func(context.Context, connector.Image) error {
				t.Error("an image was judged that nobody knows")
				return nil
			}})
			if wrong {
				if fault.CodeOf(err) != code || !strings.Contains(err.Error(), away) {
					t.Errorf("got %v", err)
				}
				return
			}
			if said := log.said.String(); err != nil || !strings.Contains(said, "The build engine has to find out what can't be told here: "+away) {
				t.Errorf("%v, and the log says\n%s", err, said)
			}
		})
	}
	t.Run("the remedy is one for bases", func(t *testing.T) {
		t.Parallel()
		unreachable := &fault.Error{Code: fault.RegistryTLS, Object: "example.com", Remedy: `Set "registry-plain-http".`}
		for hosts, want := range map[string]string{"other.example": "Check FROM.", "example.com": unreachable.Remedy} {
			b := newBuilder(t, Options{Hosts: []string{hosts}})
			if got := b.baseFault(away, "Check FROM.", unreachable); got.Remedy != want || got.Object != away {
				t.Errorf("%s: got %v", hosts, got)
			}
		}
	})
	t.Run("another architecture", func(t *testing.T) {
		t.Parallel()
		c := dockerfileIn(t, "FROM "+r.host+"/base/arm:1\n")
		got, found, err := planned(t, newBuilder(t, Options{Open: r.open}), c)
		if err != nil || len(got.Platforms) != 1 || got.Platforms[0].Platform != "linux/arm64" {
			t.Errorf("got %+v, %v", got, err)
		}
		if f := connector.Inspect(c, got); !slices.ContainsFunc(f, func(f connector.Finding) bool { return f.Code == fault.NoAMD64 }) {
			t.Errorf("inspecting it finds %+v", f)
		}
		if len(found) != 1 || !strings.HasPrefix(found[0].Message, "InvalidBaseImagePlatform: ") {
			t.Errorf("got %+v", found)
		}
	})
}

func TestPlanSeesTheBasesLayers(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.push(t, "base/zstd:1", image.Artifact{Image: imageOf(t, "linux/amd64", v1.Config{}, zstdLayer{staticLayer{[]byte("x")}})})
	c := dockerfileIn(t, "FROM "+r.host+"/base/zstd:1\nENV AIRBYTE_ENTRYPOINT=/x\nENTRYPOINT [\"/x\"]\n")
	got, _, err := planned(t, newBuilder(t, Options{Open: r.open}), c)
	if err != nil {
		t.Fatal(err)
	}
	if f := connector.Inspect(c, got); len(f) != 1 || f[0].Code != fault.LayerCompression {
		t.Errorf("got %+v", f)
	}
}

type zstdLayer struct{ staticLayer }

func (zstdLayer) MediaType() (types.MediaType, error) { return types.OCILayerZStd, nil }

func TestLintTellsFileAndLine(t *testing.T) {
	t.Parallel()
	c := dockerfileIn(t, "FROM scratch as base\nENV API_TOKEN=x\n# check=skip=nothing\nCMD run me\n")
	_, found, err := planned(t, newBuilder(t, Options{}), c)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, f := range found {
		if f.Code != fault.DockerfileLint || f.Severity != connector.Warning || !strings.HasSuffix(f.File, "/Dockerfile") {
			t.Errorf("got %+v", f)
		}
		rule, _, _ := strings.Cut(f.Message, ":")
		got = append(got, fmt.Sprintf("%d %s", f.Line, rule))
	}
	slices.Sort(got)
	if want := []string{"1 FromAsCasing", "2 SecretsUsedInArgOrEnv", "4 JSONArgsRecommended"}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}

func TestWayOf(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		files      []string
		tag        string
		dockerfile string
		source     string
		want       way
	}{
		"nothing":                      {nil, "", "", "", wayNone},
		"a source":                     {[]string{"Dockerfile"}, "", "Dockerfile", "oci:x", waySource},
		"a Dockerfile":                 {[]string{"Dockerfile"}, "python", "", "", wayDockerfile},
		"a manifest":                   {[]string{"manifest.yaml"}, "", "", "", wayAssemble},
		"both":                         {[]string{"manifest.yaml", "Dockerfile"}, "", "", "", wayDockerfile},
		"both, manifest-only":          {[]string{"manifest.yaml", "Dockerfile"}, "manifest-only", "", "", wayAssemble},
		"both, Dockerfile asked for":   {[]string{"manifest.yaml", "Dockerfile"}, "manifest-only", "Dockerfile", "", wayDockerfile},
		"python":                       {[]string{"pyproject.toml"}, "python", "", "", wayLayout},
		"java":                         {nil, "java", "", "", wayLayout},
		"another language":             {nil, "go", "", "", wayNone},
		"a manifest with requirements": {[]string{"manifest.yaml", "requirements.txt"}, "manifest-only", "", "", wayLayout},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{}
			for _, f := range tc.files {
				files[f] = "x\n"
			}
			c := connector.Connector{Dir: folderOf(t, files), Source: tc.source, Recipe: connector.Recipe{Dockerfile: tc.dockerfile},
				Metadata: &connector.Metadata{Tags: []string{"language:" + tc.tag}}}
			if got := wayOf(c); got != tc.want {
				t.Errorf("got %d, want %d", got, tc.want)
			}
		})
	}
}

func TestForeignFrontend(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]string{
		"FROM scratch": "", "# syntax=docker/dockerfile:1": "", "# syntax = docker.io/docker/dockerfile:1.7@sha256:" + strings.Repeat("0", 64): "",
		"#syntax=docker/dockerfile-upstream:master": "", "# syntax=docker/dockerfile:1-labs": "docker/dockerfile:1-labs",
		"# syntax=registry.example.com/docker/dockerfile:1": "registry.example.com/docker/dockerfile:1", "// syntax=a/b": "a/b", "# syntax=UPPER": "UPPER",
	} {
		if got := foreignFrontend([]byte(line+"\nFROM scratch\n"), nil); got != want {
			t.Errorf("%s: got %q, want %q", line, got, want)
		}
	}
	if got := foreignFrontend([]byte("FROM scratch\n"), map[string]string{"BUILDKIT_SYNTAX": "example.com/x:1 option"}); got != "example.com/x:1" {
		t.Errorf("by argument: got %q", got)
	}
}

func TestEpochArgument(t *testing.T) {
	t.Parallel()
	for line, want := range map[string]bool{"ARG SOURCE_DATE_EPOCH": true, "arg SOURCE_DATE_EPOCH=0": true, "ARG A B=c SOURCE_DATE_EPOCH D": true,
		"ENV SOURCE_DATE_EPOCH=1": false, "ARG OTHER": false, "# ARG SOURCE_DATE_EPOCH": false, "ARG MY_SOURCE_DATE_EPOCH": false} {
		p := &blueprint{text: []byte("FROM x\n" + line + "\nRUN y\n"), commit: commit{epoch: "7"}}
		if got := p.args()["SOURCE_DATE_EPOCH"]; (got == "7") != want {
			t.Errorf("%s: got %q", line, got)
		}
	}
}

func TestFinishConfigKeepsWhatItDoesNotKnow(t *testing.T) {
	t.Parallel()
	const config = `{"architecture":"amd64","os":"linux","config":{"Labels":null,"Healthcheck":{"Test":["CMD","x"]},"Odd":1},"rootfs":{"type":"layers"},"moby.buildkit.x":"y"}`
	facts, finished, err := finishConfig([]byte(config), nil, map[string]string{"a": "b"}, "2026-01-02T03:04:05Z")
	if err != nil || facts.Labels["a"] != "b" || facts.Platform != "linux/amd64" {
		t.Fatalf("got %+v, %v", facts, err)
	}
	for _, want := range []string{`"Odd":1`, `"moby.buildkit.x":"y"`, `"Healthcheck":{"Test":["CMD","x"]}`, `"created":"2026-01-02T03:04:05Z"`, `"Labels":{"a":"b"}`} {
		if !strings.Contains(string(finished), want) {
			t.Errorf("%s lacks %s", finished, want)
		}
	}
	if _, _, err := finishConfig([]byte("{"), nil, nil, ""); err == nil {
		t.Error("half a config was read")
	}
}
