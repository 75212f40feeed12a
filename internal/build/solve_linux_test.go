package build

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	docker "github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// anEngine is a build engine that tests run on, started when the first of them wants it.
type anEngine struct {
	name string
	// options start it and name it.
	options func(*testing.T) Options
	// tags tells that it can push by a tag only.
	tags bool
}

func onBuildkit(o buildtest.BuildkitdOptions) func(*testing.T) Options {
	return func(t *testing.T) Options {
		t.Helper()
		daemon := buildtest.Shared
		if o != (buildtest.BuildkitdOptions{}) {
			daemon = func(t testing.TB) *buildtest.Daemon { return buildtest.Buildkitd(t, o) }
		}
		return Options{Builder: "buildkit", BuildkitHosts: []string{daemon(t).Address}}
	}
}

func onDocker(o buildtest.DockerOptions) anEngine {
	return anEngine{"docker " + o.String(), func(t *testing.T) Options {
		t.Helper()
		host := buildtest.SharedDocker(t, o).Host
		return Options{Builder: "docker", Getenv: env(map[string]string{"DOCKER_HOST": host, "HOME": t.TempDir()})}
	}, !o.Containerd}
}

var allEngines = []anEngine{
	{"buildkitd", onBuildkit(buildtest.BuildkitdOptions{}), false},
	{"rootless buildkitd", onBuildkit(buildtest.BuildkitdOptions{Rootless: true}), false},
	onDocker(buildtest.DockerOptions{}),
	onDocker(buildtest.DockerOptions{Modern: true}),
	onDocker(buildtest.DockerOptions{Modern: true, Containerd: true}),
}

// target is a registry with base images, and a builder that builds into it.
type target struct {
	*registrytest.Registry
	Builder *Builder
	auth    authn.Authenticator
}

func newTarget(t *testing.T, c registrytest.Config, o Options) *target {
	t.Helper()
	r := &target{Registry: registrytest.Start(t, c), auth: authn.Anonymous}
	getenv := o.getenv
	o.Getenv = func(name string) string {
		if name == "SOURCE_DATE_EPOCH" {
			return "1767323045" // 2026-01-02T03:04:05Z
		}
		return getenv(name)
	}
	for user, password := range c.Users {
		r.auth = &authn.Basic{Username: user, Password: password}
	}
	o.Open = r.open
	o.PlainHTTP = func(string) bool { return !c.TLS }
	o.Credentials = func(_ context.Context, host string) (authn.AuthConfig, error) {
		if host != r.Addr {
			return authn.AuthConfig{}, nil
		}
		a, err := r.auth.Authorization()
		return *a, err
	}
	r.Builder = newBuilder(t, o)
	return r
}

func (r *target) remote(ctx context.Context) []remote.Option {
	return []remote.Option{remote.WithContext(ctx), remote.WithAuth(r.auth)}
}

// open is what a registry client's Open does.
func (r *target) open(ctx context.Context, ref string) (image.Artifact, error) {
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return image.Artifact{}, err
	}
	if parsed.Context().RegistryStr() != r.Addr {
		return image.Artifact{}, &fault.Error{Code: fault.RegistryUnreachable, Op: "read", Object: ref, Cause: "tests reach no registry but their own"}
	}
	d, err := remote.Get(parsed, r.remote(ctx)...)
	if err != nil {
		return image.Artifact{}, &fault.Error{Code: fault.SourceImage, Op: "read", Object: ref, Cause: err.Error(), Err: err}
	}
	if d.MediaType.IsIndex() {
		index, err := d.ImageIndex()
		return image.Artifact{Index: index}, err
	}
	img, err := d.Image()
	return image.Artifact{Image: img}, err
}

// base pushes a base image and returns its reference.
func (r *target) base(t *testing.T, b buildtest.Base) string {
	t.Helper()
	return b.Push(t, r.Addr, r.remote(t.Context())...)
}

// connector is one in a folder, whose image goes to the target.
func (r *target) connector(dir string) connector.Connector {
	return connector.Connector{Dir: dir, Label: filepath.Base(dir), Type: connector.Source, Name: "Numbers", Tag: "1.2.3",
		Repository: image.Repository(r.Addr + "/acme/" + filepath.Base(dir)), DocumentationURL: "https://example.com/numbers"}
}

// repositories has the registry's repositories but those of base images.
func (r *target) tags(t *testing.T, c connector.Connector) []string {
	t.Helper()
	repository, err := name.NewRepository(string(c.Repository))
	if err != nil {
		t.Fatal(err)
	}
	tags, err := remote.List(repository, r.remote(t.Context())...)
	if err != nil {
		return nil
	}
	return tags
}

// untouched makes sure that a repository does not exist: neither a tag nor a manifest nor a blob.
func (r *target) untouched(t *testing.T, c connector.Connector) {
	t.Helper()
	_, path, _ := strings.Cut(string(c.Repository), "/")
	if _, err := os.Stat(filepath.Join(r.Dir, "docker/registry/v2/repositories", path)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the repository %s exists (%v)", path, err)
	}
}

// judging are checks that find nothing wrong and keep what they saw.
type judging struct {
	planned, judged []connector.Image
	spec            connector.SpecRun
}

func (j *judging) checks() connector.Checks {
	return connector.Checks{
		Plan: func(_ context.Context, i connector.Image) error { j.planned = append(j.planned, i); return nil },
		Candidate: func(ctx context.Context, c connector.Candidate) (err error) {
			j.judged = append(j.judged, c.Image())
			j.spec, err = c.RunSpec(ctx)
			return err
		},
	}
}

const testdata = "../../testdata/connectors/"

// goConnector is the one of testdata, on base images in the target.
func (r *target) goConnector(t *testing.T) connector.Connector {
	t.Helper()
	c := r.connector(testdata + "source-go-docker")
	c.Recipe.Args = map[string]string{"BASE_GO": r.base(t, buildtest.Golang), "BASE": r.base(t, buildtest.Busybox)}
	return c
}

func (r *target) pythonConnector(t *testing.T) connector.Connector {
	t.Helper()
	c := r.connector(testdata + "source-python-docker")
	c.Recipe.Args = map[string]string{"BASE": r.base(t, buildtest.Python)}
	return c
}

// shellConnector writes a folder whose connector is a shell script.
func (r *target) shellConnector(t *testing.T, script string, more map[string]string) connector.Connector {
	t.Helper()
	files := map[string]string{"run.sh": "#!/bin/sh\n" + script, "Dockerfile": "FROM " + r.base(t, buildtest.Busybox) + "\n" +
		"COPY --chmod=755 run.sh /run.sh\nENV AIRBYTE_ENTRYPOINT=/run.sh\nENTRYPOINT [\"/run.sh\"]\n"}
	maps.Copy(files, more)
	dir := filepath.Join(t.TempDir(), "source-shell")
	if err := os.Rename(folderOf(t, files), dir); err != nil {
		t.Fatal(err)
	}
	return r.connector(dir)
}

// appendTo adds to a file of a connector's folder.
func appendTo(t *testing.T, c connector.Connector, file, text string) {
	t.Helper()
	f, err := os.OpenFile(filepath.Join(c.Dir, file), os.O_APPEND|os.O_WRONLY, 0)
	if err == nil {
		_, err = f.WriteString(text)
		err = errors.Join(err, f.Close())
	}
	if err != nil {
		t.Fatal(err)
	}
}

const printsSpec = `echo '{"type":"SPEC","spec":{"connectionSpecification":{"type":"object"}}}'` + "\n"

func TestBuildOnEveryEngine(t *testing.T) {
	t.Parallel()
	for _, e := range allEngines {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			o := e.options(t)
			r := newTarget(t, registrytest.Config{Users: map[string]string{"me": "pa55-word"}}, o)
			t.Run("go", func(t *testing.T) {
				c := r.goConnector(t)
				c.Recipe.Target = "verbose"
				r.builds(t, e, c, "/airbyte/source-numbers")
			})
			t.Run("python", func(t *testing.T) {
				c := r.pythonConnector(t)
				c.Recipe.Secrets = map[string][]byte{"token": []byte("tok-secret-value")}
				c.Recipe.Labels = map[string]string{"com.example.team": "data", "org.opencontainers.image.title": "Mine"}
				log := r.builds(t, e, c, "/usr/local/bin/source-regions")
				noTrace(t, "tok-secret-value", log.String(), r.Dir)
			})
			if host := o.getenv("DOCKER_HOST"); host != "" {
				nothingLeft(t, host)
			}
		})
	}
}

func (o Options) getenv(name string) string {
	if o.Getenv == nil {
		return ""
	}
	return o.Getenv(name)
}

// builds makes sure that a connector is built, judged and pushed.
func (r *target) builds(t *testing.T, e anEngine, c connector.Connector, entrypoint string) *recorder {
	t.Helper()
	log, j := &recorder{}, &judging{}
	a, err := r.Builder.Build(t.Context(), c, log, j.checks())
	if err != nil {
		t.Fatalf("%v\n%s", err, log)
	}
	if !strings.Contains(string(j.spec.Stdout), `"SPEC"`) || j.spec.ExitCode != 0 || j.spec.How != "in BuildKit, as user 1000, without a network" {
		t.Errorf("spec: %+v\n%s%s", j.spec, j.spec.Stdout, j.spec.Stderr)
	}
	if len(j.planned) != 1 || len(j.judged) != 1 {
		t.Fatalf("%d plans and %d candidates were judged", len(j.planned), len(j.judged))
	}
	if diff := cmp.Diff(j.planned[0], j.judged[0]); diff != "" {
		t.Errorf("what was planned is not what was built: %s", diff)
	}
	facts, err := connector.Describe(a)
	if err != nil {
		t.Fatal(err)
	}
	got, planned := facts.Platforms[0], j.planned[0].Platforms[0]
	got.Digest, planned.Digest, got.Layers, planned.Layers = "", "", nil, nil
	if diff := cmp.Diff(planned, got); diff != "" {
		t.Errorf("what was planned is not what was pushed: %s", diff)
	}
	if want := []string{entrypoint}; !slices.Equal(got.Entrypoint, want) || got.Platform != "linux/amd64" || got.Claimed != "" {
		t.Errorf("the image has the entrypoint %q and is for %s, %s", got.Entrypoint, got.Platform, got.Claimed)
	}
	want := map[string]string{
		"io.airbyte.name": string(c.Repository), "io.airbyte.version": "1.2.3",
		"org.opencontainers.image.version": "1.2.3", "org.opencontainers.image.title": "Numbers",
		"org.opencontainers.image.documentation": "https://example.com/numbers",
		baseNameLabel:                            c.Recipe.Args["BASE"], baseDigestLabel: r.digest(t, c.Recipe.Args["BASE"]),
		"org.opencontainers.image.created": "2026-01-02T03:04:05Z",
	}
	maps.Copy(want, c.Recipe.Labels)
	for label, value := range want {
		if got.Labels[label] != value {
			t.Errorf("the label %s is %q, want %q", label, got.Labels[label], value)
		}
	}
	var tags []string
	if e.tags {
		tags = []string{"1.2.3"}
	}
	if got := r.tags(t, c); !slices.Equal(got, tags) {
		t.Errorf("the repository has the tags %q, want %q", got, tags)
	}
	return log
}

func (r *target) digest(t *testing.T, ref string) string {
	t.Helper()
	a, err := r.open(t.Context(), ref)
	if err != nil {
		t.Fatal(err)
	}
	digest, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return digest
}

// noTrace makes sure that a secret is neither in a text nor in any layer or other file of a registry.
func noTrace(t *testing.T, secret, text, registryDir string) {
	t.Helper()
	if strings.Contains(text, secret) {
		t.Errorf("the log holds the secret:\n%s", text)
	}
	files := 0
	err := filepath.WalkDir(registryDir, func(path string, entry os.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() {
			return err
		}
		files++
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		if z, err := gzip.NewReader(bytes.NewReader(content)); err == nil {
			if content, err = io.ReadAll(z); err != nil {
				return err
			}
		}
		if bytes.Contains(content, []byte(secret)) {
			t.Errorf("%s holds the secret", path)
		}
		return nil
	})
	if err != nil || files == 0 {
		t.Errorf("%d files of the registry were read: %v", files, err)
	}
}

// nothingLeft makes sure that a Docker engine has no image that a build has left. Other tests have theirs there.
func nothingLeft(t *testing.T, host string) {
	t.Helper()
	d, err := docker.New(docker.WithHost(host))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	images, err := d.ImageList(t.Context(), docker.ImageListOptions{All: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, i := range images.Items {
		if !slices.ContainsFunc(i.RepoTags, func(tag string) bool { return strings.HasPrefix(tag, "buildtest/") }) {
			t.Errorf("the engine has the image %s %q %q", i.ID, i.RepoTags, i.RepoDigests)
		}
	}
}
