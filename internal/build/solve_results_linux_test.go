package build

import (
	"bytes"
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	docker "github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// built builds a connector and returns its digest.
func (r *target) built(t *testing.T, b *Builder, c connector.Connector) (digest, log string) {
	t.Helper()
	l, j := &recorder{}, &judging{}
	a, err := b.Build(t.Context(), c, l, j.checks())
	if err != nil {
		t.Fatalf("%v\n%s", err, l)
	}
	if digest, err = a.Digest(); err != nil {
		t.Fatal(err)
	}
	return digest, l.String()
}

func TestSameSourcesGiveTheSameDigestOnTwoEngines(t *testing.T) {
	t.Parallel()
	r := newTarget(t, registrytest.Config{}, onBuildkit(buildtest.BuildkitdOptions{})(t))
	o := r.Builder.options
	o.BuildkitHosts = []string{buildtest.Buildkitd(t, buildtest.BuildkitdOptions{}).Address}
	other := newBuilder(t, o)
	for _, c := range []connector.Connector{r.goConnector(t), r.pythonConnector(t)} {
		// Out of the repository that these tests are in, whose commit is a label and may change meanwhile.
		copied := filepath.Join(t.TempDir(), c.Label)
		if err := os.CopyFS(copied, os.DirFS(c.Dir)); err != nil {
			t.Fatal(err)
		}
		c.Dir = copied
		// A secret is no part of what BuildKit caches a step by, and another test builds the same connector with one.
		for _, program := range []string{"main.py", "main.go"} {
			if isFile(copied, program) {
				appendTo(t, c, program, "\n")
			}
		}
		first, _ := r.built(t, r.Builder, c)
		second, _ := r.built(t, other, c)
		if first != second {
			t.Errorf("%s: %s and %s", c.Label, first, second)
		}
	}
}

func TestUnchangedSourcesNeedNoEngine(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			c := r.shellConnector(t, printsSpec, map[string]string{".dockerignore": "notes\n", "notes/today": "one\n"})
			c.Held, _ = r.built(t, r.Builder, c)

			o := r.Builder.options
			o.Builder, o.BuildkitHosts = "buildkit", []string{"unix:///nowhere/buildkitd.sock"}
			engineless := newBuilder(t, o)
			try := func(c connector.Connector) (string, *recorder, error) {
				log, j := &recorder{}, &judging{}
				a, err := engineless.Build(t.Context(), c, log, connector.Checks{Plan: j.checks().Plan,
					Candidate: func(context.Context, connector.Candidate) error { return nil }})
				digest, _ := a.Digest()
				return digest, log, err
			}
			unchanged := func(why string, c connector.Connector) {
				t.Helper()
				if digest, log, err := try(c); err != nil || digest != c.Held {
					t.Errorf("%s: got %s, %v, want %s\n%s", why, digest, err, c.Held, log)
				}
			}
			changed := func(why string, c connector.Connector) {
				t.Helper()
				if digest, _, err := try(c); fault.CodeOf(err) != fault.EngineUnreachable {
					t.Errorf("%s: got %s, %v, want that it needs an engine", why, digest, err)
				}
			}
			unchanged("nothing", c)
			appendTo(t, c, "notes/today", "two\n")
			unchanged("an ignored file", c)
			later := time.Now().Add(time.Hour)
			if err := os.Chtimes(filepath.Join(c.Dir, "run.sh"), later, later); err != nil {
				t.Fatal(err)
			}
			unchanged("a time", c)
			other := c
			other.Recipe.Args = map[string]string{"X": "y"}
			changed("an argument", other)
			other = c
			other.Recipe.Secrets = map[string][]byte{"token": []byte("x")}
			changed("a secret's name", other)
			appendTo(t, c, "run.sh", "# more\n")
			changed("a file", c)
		})
	}
}

func TestMovedBaseIsANotice(t *testing.T) {
	t.Parallel()
	r := newTarget(t, registrytest.Config{}, onBuildkit(buildtest.BuildkitdOptions{})(t))
	c := r.shellConnector(t, printsSpec, nil)
	c.Held, _ = r.built(t, r.Builder, c)
	r.changedBase(t, "amd64", "base/busybox:1")

	second := newBuilder(t, r.Builder.options)
	log := &recorder{}
	a, err := second.Build(t.Context(), c, log, connector.Checks{Plan: (&judging{}).checks().Plan})
	if digest, _ := a.Digest(); err != nil || digest != c.Held {
		t.Errorf("got %s, %v", digest, err)
	}
	if len(log.findings) != 1 || log.findings[0].Code != fault.BaseMoved || log.findings[0].Severity != connector.Notice {
		t.Errorf("got %+v", log.findings)
	}
}

func TestSeveralPlatforms(t *testing.T) {
	t.Parallel()
	for _, e := range []anEngine{allEngines[0], allEngines[4]} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			index := indexOf(t, map[string]v1.Image{"linux/amd64": buildtest.Busybox.Image(t), "linux/arm64": r.changedBase(t, "arm64", "")})
			tag, err := name.NewTag(r.Addr + "/base/both:1")
			if err == nil {
				err = remote.WriteIndex(tag, index)
			}
			if err != nil {
				t.Fatal(err)
			}
			c := r.goConnector(t)
			c.Recipe.Args["BASE"] = tag.String()
			c.Recipe.Platforms = []string{"linux/arm64", "linux/amd64"}
			log, j := &recorder{}, &judging{}
			a, err := r.Builder.Build(t.Context(), c, log, j.checks())
			if err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			facts, err := connector.Describe(a)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(j.planned[0], j.judged[0]); diff != "" {
				t.Errorf("what was planned is not what was built: %s", diff)
			}
			var got []string
			for _, p := range facts.Platforms {
				got = append(got, p.Claimed+" "+p.Platform)
				if p.Labels[baseNameLabel] != tag.String() {
					t.Errorf("%s is on %q", p.Platform, p.Labels[baseNameLabel])
				}
			}
			if want := []string{"linux/arm64 linux/arm64", "linux/amd64 linux/amd64"}; !facts.Index || !slices.Equal(got, want) {
				t.Errorf("got %q, want %q", got, want)
			}
			if !strings.Contains(string(j.spec.Stdout), "SPEC") {
				t.Errorf("spec was not run: %+v", j.spec)
			}
			if f := connector.Inspect(c, facts); slices.ContainsFunc(f, func(f connector.Finding) bool { return f.Severity == connector.Error }) {
				t.Errorf("findings: %+v", f)
			}
		})
	}
	t.Run("not on the oldest", func(t *testing.T) {
		t.Parallel()
		r := newTarget(t, registrytest.Config{}, allEngines[2].options(t))
		c := r.shellConnector(t, printsSpec, map[string]string{"Dockerfile": "FROM scratch\nCOPY run.sh /\n"})
		c.Recipe.Platforms = []string{"linux/arm64", "linux/amd64"}
		if _, err := r.Builder.Build(t.Context(), c, quiet{}, (&judging{}).checks()); fault.CodeOf(err) != fault.EngineLacks {
			t.Errorf("got %v", err)
		}
	})
}

func TestProvenanceMakesAnIndex(t *testing.T) {
	t.Parallel()
	for _, e := range []anEngine{allEngines[0], allEngines[4]} {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			c := r.shellConnector(t, printsSpec, nil)
			c.Recipe.Provenance = true
			log, j := &recorder{}, &judging{}
			a, err := r.Builder.Build(t.Context(), c, log, j.checks())
			if err != nil || a.Index == nil {
				t.Fatalf("%v\n%s", err, log)
			}
			manifest, err := a.Index.IndexManifest()
			if err != nil {
				t.Fatal(err)
			}
			if len(manifest.Manifests) != 2 || !connector.IsAttestation(manifest.Manifests[1]) {
				t.Errorf("the index holds %+v", manifest.Manifests)
			}
			c.Held, _ = a.Digest()
			if _, log := r.built(t, r.Builder, c); !strings.Contains(log, "was made from these sources") {
				t.Errorf("it was built again:\n%s", log)
			}
		})
	}
}

func TestCaches(t *testing.T) {
	t.Parallel()
	r := newTarget(t, registrytest.Config{}, onBuildkit(buildtest.BuildkitdOptions{})(t))
	c := r.shellConnector(t, printsSpec, nil)
	appendTo(t, c, "Dockerfile", "RUN echo made $RANDOM > /made\n")
	folder := t.TempDir()
	c.Recipe.CacheTo = []string{"type=registry,mode=max,ref=" + r.Addr + "/acme/cache:1", "type=local,mode=max,dest=" + folder, "type=gha"}
	_, log := r.built(t, r.Builder, c)
	if !strings.Contains(log, "type gha is left out") {
		t.Errorf("the log does not say that gha is left out:\n%s", log)
	}
	for _, from := range []string{r.Addr + "/acme/cache:1", "type=local,src=" + folder} {
		c := c
		c.Recipe.CacheTo, c.Recipe.CacheFrom = nil, []string{from, r.Addr + "/acme/none:1"}
		// BuildKit now and then runs a step on a busy machine before it has read the cache that has it: seen twice with the
		// local one, with the step before taken from the cache. A cache that was not used would never make it cached.
		for try := 1; ; try++ {
			o := r.Builder.options
			o.BuildkitHosts = []string{buildtest.Buildkitd(t, buildtest.BuildkitdOptions{}).Address}
			_, log := r.built(t, newBuilder(t, o), c)
			if strings.Contains(log, "RUN echo made $RANDOM > /made: cached") {
				break
			}
			if try == 3 {
				t.Errorf("%s: the step was not cached:\n%s", from, log)
				break
			}
		}
	}
	c.Recipe.CacheTo, c.Recipe.CacheFrom = []string{"type=registry,ref=127.0.0.1:1/none:1"}, nil
	_, err := r.Builder.Build(t.Context(), c, quiet{}, (&judging{}).checks())
	if fault.CodeOf(err) != fault.CacheFailed || !strings.Contains(err.Error(), "connection refused") {
		t.Errorf("got %v", err)
	}
}

func TestSpecOfAnImageThatExistsOnAnEngine(t *testing.T) {
	t.Parallel()
	for _, e := range allEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			r := newTarget(t, registrytest.Config{}, e.options(t))
			img := imageOf(t, "linux/amd64", v1.Config{Env: []string{"AIRBYTE_ENTRYPOINT=/run.sh"}},
				append(layers(t, buildtest.Busybox.Image(t)), layerOf(t, tarOf(t, file("run.sh", "#!/bin/sh\nid -u >&2\n"+printsSpec, 0o755))))...)
			c := r.connector(t.TempDir())
			run, err := r.Builder.specInEngine(c, &recorder{})(t.Context(), img)
			if e.tags {
				// With a graph driver, BuildKit knows no OCI layouts, and the reason why this machine could not run it stays.
				reason := specNotRun("forbidden", nil)
				if _, err := r.Builder.specInEngine(c, &recorder{}).elsewhere(t.Context(), img, reason); !errors.Is(err, reason) {
					t.Errorf("got %v", err)
				}
				return
			}
			if err != nil || string(run.Stdout) != printsSpec[len("echo '"):len(printsSpec)-2]+"\n" || string(run.Stderr) != "1000\n" {
				t.Errorf("got %v, %q %q", err, run.Stdout, run.Stderr)
			}
			empty := imageOf(t, "linux/amd64", v1.Config{}, layerOf(t, tarOf(t, file("x", "", 0o644))))
			if _, err := r.Builder.specInEngine(c, &recorder{}).elsewhere(t.Context(), empty, specNotRun("forbidden", nil)); fault.CodeOf(err) != fault.NoShell {
				t.Errorf("got %v", err)
			}
		})
	}
}

func layers(t *testing.T, img v1.Image) []v1.Layer {
	t.Helper()
	all, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func TestLayouts(t *testing.T) {
	t.Parallel()
	// A stand-in for pip, which installs nothing but the console scripts: there is no index of packages here.
	pip := `#!/bin/sh
for last; do :; done
if [ "$last" = requirements.txt ]; then cp requirements.txt /usr/local/installed; exit 0; fi
sed -n 's/^\(source-[a-z]*\) = .*/\1/p' "$last/pyproject.toml" | while read -r name; do
  printf '#!/bin/sh\ntest "$1" = spec || exit 1\n' >"/usr/local/bin/$name"
  cat "$last/spec.sh" >>"/usr/local/bin/$name"
  chmod 755 "/usr/local/bin/$name"
done
`
	base := `#!/bin/sh
exec /airbyte/bin/"$APPLICATION" "$@"
`
	python := "#!/bin/sh\nexec /bin/sh \"$@\"\n"
	r := newTarget(t, registrytest.Config{}, onBuildkit(buildtest.BuildkitdOptions{})(t))
	img := imageOf(t, "linux/amd64", v1.Config{User: "airbyte", Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin",
		"AIRBYTE_ENTRYPOINT=python /airbyte/integration_code/main.py"}},
		append(layers(t, buildtest.Busybox.Image(t)), layerOf(t, tarOf(t, file("usr/local/bin/pip", pip, 0o755),
			file("airbyte/base.sh", base, 0o755), file("usr/local/bin/python", python, 0o755))))...)
	tag, err := name.NewTag(r.Addr + "/airbyte/base:1")
	if err == nil {
		err = remote.Write(tag, img)
	}
	if err != nil {
		t.Fatal(err)
	}
	app := string(tarOf(t, dir("source-erp-1.0/", 0o755), dir("source-erp-1.0/bin/", 0o755),
		file("source-erp-1.0/bin/source-erp", "#!/bin/sh\nid -u >&2\n"+printsSpec, 0o755)))
	for name, tc := range map[string]struct {
		language   string
		files      map[string]string
		entrypoint string
	}{
		"python": {"python", map[string]string{"pyproject.toml": "[project.scripts]\nsource-erp = \"source_erp.run:run\"\n", "spec.sh": "id -u >&2\n" + printsSpec,
			"secrets/config.json": "tok-secret-value"}, "/entrypoint.sh"},
		"python with main.py": {"python", map[string]string{"setup.py": "setup()\n", "pyproject.toml": "[project]\n",
			"main.py": "id -u >&2\n" + printsSpec}, "python /airbyte/integration_code/main.py"},
		"java": {"java", map[string]string{"build/distributions/airbyte-app.tar": app, "build.gradle": "x"}, "/airbyte/base.sh"},
		"manifest-only with requirements": {"manifest-only", map[string]string{"manifest.yaml": goodManifest, "requirements.txt": "# none\npydantic==2\n",
			"components.py": "pass\n", "main.py": "test -f /usr/local/installed && cd /airbyte/integration_code/source_declarative_manifest && " +
				"test -f components.py && test -f manifest.yaml || exit 1\nid -u >&2\n" + printsSpec}, "python /airbyte/integration_code/main.py"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := r.connector(folderOf(t, tc.files))
			c.Repository = image.Repository(r.Addr + "/acme/source-erp")
			c.Metadata = &connector.Metadata{Tags: []string{"language:" + tc.language}, BaseImage: tag.String(), DockerRepository: "acme/source-erp"}
			log, j := &recorder{}, &judging{}
			if _, err := r.Builder.Build(t.Context(), c, log, j.checks()); err != nil {
				t.Fatalf("%v\n%s", err, log)
			}
			if string(j.spec.Stderr) != "1000\n" || !strings.Contains(string(j.spec.Stdout), "SPEC") {
				t.Errorf("spec: %+v %s%s\n%s", j.spec, j.spec.Stdout, j.spec.Stderr, log)
			}
			got := j.judged[0].Platforms[0]
			if !slices.Contains(got.Env, "AIRBYTE_ENTRYPOINT="+tc.entrypoint) || got.User != "airbyte" {
				t.Errorf("the image has %q and the user %q", got.Env, got.User)
			}
			noTrace(t, "tok-secret-value", log.String(), r.Dir)
		})
	}
}

func TestRegistryWithATokenServer(t *testing.T) {
	t.Parallel()
	for _, e := range someEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			users := map[string]string{"me": "pa55-word"}
			r := newTarget(t, registrytest.Config{Token: &registrytest.Token{Users: users}}, e.options(t))
			r.auth = &authn.Basic{Username: "me", Password: "pa55-word"}
			c := r.shellConnector(t, printsSpec, nil)
			r.built(t, r.Builder, c)
			if got := r.TokenServer.Scopes(); len(got) == 0 {
				t.Error("nobody asked for a token")
			}
		})
	}
}

// TestBaseThatOnlyTheEngineHas is an image in the engine's own store, which no registry has.
func TestBaseThatOnlyTheEngineHas(t *testing.T) {
	t.Parallel()
	r := newTarget(t, registrytest.Config{}, someEngines[1].options(t))
	d, err := docker.New(docker.WithHost(r.Builder.options.Getenv("DOCKER_HOST")))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	tag, err := name.NewTag("buildtest/local:1")
	if err != nil {
		t.Fatal(err)
	}
	var saved bytes.Buffer
	if err := tarball.Write(tag, buildtest.Busybox.Image(t), &saved); err != nil {
		t.Fatal(err)
	}
	loaded, err := d.ImageLoad(t.Context(), &saved)
	if err != nil {
		t.Fatal(err)
	}
	_, err = io.Copy(io.Discard, loaded)
	if err = errors.Join(err, loaded.Close()); err != nil {
		t.Fatal(err)
	}
	c := r.shellConnector(t, printsSpec, map[string]string{"Dockerfile": "FROM buildtest/local:1\nCOPY --chmod=755 run.sh /\nENV AIRBYTE_ENTRYPOINT=/run.sh\n"})
	if found, _, err := planned(t, r.Builder, c); err != nil || len(found.Platforms) > 0 {
		t.Errorf("planning gave %+v, %v", found, err)
	}
	if _, log := r.built(t, r.Builder, c); !strings.Contains(log, "The build engine has to find out") {
		t.Errorf("the log does not say it:\n%s", log)
	}
}
