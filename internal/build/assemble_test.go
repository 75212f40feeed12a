package build

import (
	"archive/tar"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

const goodManifest = "version: 6.1.0\ntype: DeclarativeSource\nstreams:\n  - name: x\nspec:\n  connection_specification:\n    type: object\n"

// quiet is a log that nobody reads.
type quiet struct{}

func (quiet) Group(string) func()       { return func() {} }
func (quiet) Info(string, ...any)       {}
func (quiet) Finding(connector.Finding) {}
func (quiet) Untrusted(string, string)  {}

// noCheck finds nothing wrong.
var noCheck = checkedBy(func(context.Context, connector.Candidate) error { return nil })

// checkedBy has the candidate alone judged.
func checkedBy(check func(context.Context, connector.Candidate) error) connector.Checks {
	return connector.Checks{Plan: func(context.Context, connector.Image) error { return nil }, Candidate: check}
}

// folderOf writes files into a new folder.
func folderOf(t *testing.T, files map[string]string) string {
	t.Helper()
	dir := t.TempDir()
	for name, body := range files {
		file := filepath.Join(dir, filepath.FromSlash(name))
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(file, []byte(body), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func newBuilder(t *testing.T, o Options) *Builder {
	t.Helper()
	o.TempDir = t.TempDir()
	b := New(o)
	t.Cleanup(func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
		if left, err := os.ReadDir(o.TempDir); err != nil || len(left) > 0 {
			t.Errorf("after Close the temporary folder holds %v (%v)", left, err)
		}
	})
	return b
}

func manifestOnlyConnector(dir, base string) connector.Connector {
	return connector.Connector{Dir: dir, Label: dir, Type: connector.Source, Name: "Hello", Repository: "127.0.0.1:1/acme/source-hello",
		Tag: "1.2.3", DocumentationURL: "https://example.com/hello",
		Metadata: &connector.Metadata{BaseImage: base, Tags: []string{"language:manifest-only"}}}
}

// baseImage is a base for a platform with a layer of random bytes, which can't be compressed.
func baseImage(t *testing.T, platform string) v1.Image {
	t.Helper()
	noise := make([]byte, 1<<20)
	if _, err := rand.Read(noise); err != nil {
		t.Fatal(err)
	}
	return imageOf(t, platform, v1.Config{Env: []string{"AIRBYTE_ENTRYPOINT=python /airbyte/integration_code/main.py"},
		Entrypoint: []string{"python", "/airbyte/integration_code/main.py"}, User: "airbyte", WorkingDir: "/airbyte/integration_code",
		Labels: map[string]string{"io.airbyte.name": "airbyte/source-declarative-manifest", "kept": "yes"}},
		layerOf(t, tarOf(t, file("usr/lib/noise", string(noise), 0o644))))
}

func indexOf(t *testing.T, images map[string]v1.Image) v1.ImageIndex {
	t.Helper()
	index := v1.ImageIndex(empty.Index)
	for _, platform := range slices.Sorted(maps.Keys(images)) {
		goos, arch, _ := strings.Cut(platform, "/")
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: images[platform],
			Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: goos, Architecture: arch}}})
	}
	return index
}

// contents reads a layer: "name mode uid:gid content", in the layer's order.
func contents(t *testing.T, layer v1.Layer) []string {
	t.Helper()
	rc, err := layer.Uncompressed()
	if err != nil {
		t.Fatal(err)
	}
	defer rc.Close()
	var all []string
	for r := tar.NewReader(rc); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Fatal(err)
		}
		body, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if !h.ModTime.Equal(epoch) {
			t.Errorf("%s was modified at %v", h.Name, h.ModTime)
		}
		all = append(all, strings.TrimSpace(fmt.Sprintf("%s %o %d:%d %s%s", h.Name, h.Mode, h.Uid, h.Gid, h.Linkname, body)))
	}
}

func TestAssemble(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	amd := baseImage(t, "linux/amd64")
	index := indexOf(t, map[string]v1.Image{"linux/amd64": amd, "linux/arm64": baseImage(t, "linux/arm64")})
	r.push(t, "airbyte/base:6.1.0", image.Artifact{Index: index})
	dir := folderOf(t, map[string]string{
		"manifest.yaml": goodManifest, "components.py": "pass\n", "metadata.yaml": "data: {}\n", "sub/dir/x.txt": "x",
		"source_declarative_manifest/manifest.yaml": "stale", "source_declarative_manifest/other": "o",
		".git/config": "secret", "secrets/config.json": "secret", "__pycache__/components.pyc": "pyc", "run.sh": "#!/bin/sh\n",
	})
	if err := os.Chmod(filepath.Join(dir, "run.sh"), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink("sub/dir/x.txt", filepath.Join(dir, "link")); err != nil {
		t.Fatal(err)
	}
	b := newBuilder(t, Options{Open: r.open})
	r.reset()
	checked := 0
	a, err := b.Build(t.Context(), manifestOnlyConnector(dir, r.host+"/airbyte/base:6.1.0"), quiet{}, checkedBy(func(_ context.Context, c connector.Candidate) error {
		checked++
		if got := c.Image(); got.Index || len(got.Platforms) != 1 || got.Platforms[0].Platform != "linux/amd64" {
			t.Errorf("the check was shown %+v", got)
		}
		return nil
	}))
	if err != nil || checked != 1 || a.Image == nil {
		t.Fatalf("%+v, checked %d times: %v", a, checked, err)
	}
	layers, err := a.Image.Layers()
	if err != nil || len(layers) != 2 {
		t.Fatalf("%d layers, %v", len(layers), err)
	}
	if got := digestOf(t, layers[0]); got != digestOf(t, must(amd.Layers())[0]) {
		t.Errorf("the first layer is %s, not the base's", got)
	}
	code := "airbyte/integration_code/"
	want := []string{
		code + "components.py 644 0:0 pass",
		code + "link 777 0:0 sub/dir/x.txt",
		code + "manifest.yaml 644 0:0 " + strings.TrimSpace(goodManifest),
		code + "metadata.yaml 644 0:0 data: {}",
		code + "run.sh 755 0:0 #!/bin/sh",
		code + "source_declarative_manifest/components.py 644 0:0 pass",
		code + "source_declarative_manifest/manifest.yaml 644 0:0 " + strings.TrimSpace(goodManifest),
		code + "source_declarative_manifest/other 644 0:0 o",
		code + "sub/dir/x.txt 644 0:0 x",
	}
	if got := contents(t, layers[1]); !slices.Equal(got, want) {
		t.Errorf("the layer holds\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(want, "\n"))
	}
	config, err := a.Image.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	wantLabels := map[string]string{
		"io.airbyte.name": "127.0.0.1:1/acme/source-hello", "io.airbyte.version": "1.2.3", "kept": "yes",
		"org.opencontainers.image.title": "Hello", "org.opencontainers.image.version": "1.2.3",
		"org.opencontainers.image.documentation": "https://example.com/hello",
		"org.opencontainers.image.base.name":     r.host + "/airbyte/base:6.1.0", "org.opencontainers.image.base.digest": digestOf(t, index),
	}
	if !maps.Equal(config.Config.Labels, wantLabels) {
		t.Errorf("the labels are %v, want %v", config.Config.Labels, wantLabels)
	}
	if config.Config.User != "airbyte" || len(config.Config.Env) != 1 || !config.Created.Equal(epoch) || len(config.History) != 2 {
		t.Errorf("the config is %+v", config)
	}
	if err := validate.Image(a.Image); err != nil {
		t.Error(err)
	}
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestAssembledImageMountsItsBase(t *testing.T) {
	t.Parallel()
	r := newRegistry(t)
	r.push(t, "airbyte/base:1", image.Artifact{Index: indexOf(t, map[string]v1.Image{"linux/amd64": baseImage(t, "linux/amd64")})})
	r.reset()
	b := newBuilder(t, Options{Open: r.open})
	a, err := b.Build(t.Context(), manifestOnlyConnector(folderOf(t, map[string]string{"manifest.yaml": goodManifest}), r.host+"/airbyte/base:1"), quiet{}, noCheck)
	if err != nil {
		t.Fatal(err)
	}
	r.push(t, "acme/source-hello:1.2.3", a)
	if r.mounts != 1 || r.uploaded > 8<<10 || r.fetched > 8<<10 {
		t.Errorf("%d mounts, %d bytes uploaded, %d fetched; want the base's megabyte to stay where it is", r.mounts, r.uploaded, r.fetched)
	}
	pulled, err := r.open(t.Context(), r.host+"/acme/source-hello:1.2.3")
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Image(pulled.Image); err != nil {
		t.Error(err)
	}
}

// TestAssembledDigestIsReproducible pins the digest of a fixed base and folder: a change of it, also by a new version
// of Go or of a library, would make every published manifest-only connector look changed.
func TestAssembledDigestIsReproducible(t *testing.T) {
	t.Parallel()
	const want = "sha256:8a36b968fd3f146dcd237ce438d02b02b872175a5807921318855bb7ad06d536"
	files := map[string]string{"manifest.yaml": goodManifest, "components.py": "pass\n", "sub/größer.txt": strings.Repeat("x", 200_000)}
	config := v1.Config{Env: []string{"AIRBYTE_ENTRYPOINT=/x"}}
	base := imageOf(t, "linux/amd64", config, staticLayer{tarOf(t, file("bin/sh", "x", 0o755))})
	open := func(context.Context, string) (image.Artifact, error) { return image.Artifact{Image: base}, nil }
	for i, mode := range []os.FileMode{0o644, 0o600, 0o664} {
		dir := folderOf(t, files)
		for name := range files {
			file := filepath.Join(dir, filepath.FromSlash(name))
			when := time.Date(2000+i, 1, 2, 3, 4, 5, 6, time.UTC)
			if err := errors.Join(os.Chmod(file, mode), os.Chtimes(file, when, when)); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Mkdir(filepath.Join(dir, fmt.Sprintf("empty%d", i)), 0o700); err != nil {
			t.Fatal(err)
		}
		a, err := newBuilder(t, Options{Open: open}).Build(t.Context(), manifestOnlyConnector(dir, "example.com/base:1"), quiet{}, noCheck)
		if err != nil {
			t.Fatal(err)
		}
		if got := digestOf(t, a.Image); got != want {
			t.Errorf("with mode %o the digest is %s, want %s", mode, got, want)
		}
	}
}

func TestAssembledLayerMatchesItsBase(t *testing.T) {
	t.Parallel()
	docker := baseImage(t, "linux/amd64")
	oci := mutate.ConfigMediaType(mutate.MediaType(docker, types.OCIManifestSchema1), types.OCIConfigJSON)
	for mediaType, base := range map[types.MediaType]v1.Image{types.DockerLayer: docker, types.OCILayer: oci} {
		open := func(context.Context, string) (image.Artifact, error) { return image.Artifact{Image: base}, nil }
		dir := folderOf(t, map[string]string{"manifest.yaml": goodManifest})
		a, err := newBuilder(t, Options{Open: open}).Build(t.Context(), manifestOnlyConnector(dir, "example.com/base"), quiet{}, noCheck)
		if err != nil {
			t.Fatal(err)
		}
		manifest := must(a.Image.Manifest())
		if got := manifest.Layers[1].MediaType; got != mediaType {
			t.Errorf("the layer is a %s, want %s", got, mediaType)
		}
	}
}

func TestBasesAreLookedUpOnce(t *testing.T) {
	t.Parallel()
	base := baseImage(t, "linux/amd64")
	var opened atomic.Int32
	release := make(chan struct{})
	open := func(context.Context, string) (image.Artifact, error) {
		opened.Add(1)
		<-release
		return image.Artifact{Image: base}, nil
	}
	b := newBuilder(t, Options{Open: open})
	var group sync.WaitGroup
	digests := make([]string, 8)
	for i := range digests {
		dir := folderOf(t, map[string]string{"manifest.yaml": goodManifest})
		group.Go(func() {
			a, err := b.Build(t.Context(), manifestOnlyConnector(dir, "example.com/base:1"), quiet{}, noCheck)
			if err != nil {
				t.Error(err)
				return
			}
			digests[i], _ = a.Digest()
		})
	}
	close(release)
	group.Wait()
	if opened.Load() != 1 {
		t.Errorf("the base was opened %d times", opened.Load())
	}
	if slices.Sort(digests); digests[0] != digests[7] || digests[0] == "" {
		t.Errorf("the digests differ: %v", digests)
	}
}

func TestACancelledLookUpDoesNotSpoilTheNext(t *testing.T) {
	t.Parallel()
	base := baseImage(t, "linux/amd64")
	asked := make(chan struct{}, 2)
	open := func(ctx context.Context, _ string) (image.Artifact, error) {
		asked <- struct{}{}
		if len(asked) == 1 {
			<-ctx.Done()
			return image.Artifact{}, ctx.Err()
		}
		return image.Artifact{Image: base}, nil
	}
	b := newBuilder(t, Options{Open: open})
	dir := folderOf(t, map[string]string{"manifest.yaml": goodManifest})
	ctx, cancel := context.WithCancel(t.Context())
	first := make(chan error)
	go func() {
		_, err := b.Build(ctx, manifestOnlyConnector(dir, "example.com/base:1"), quiet{}, noCheck)
		first <- err
	}()
	for len(asked) == 0 {
		time.Sleep(time.Millisecond)
	}
	second := make(chan error)
	go func() {
		_, err := b.Build(t.Context(), manifestOnlyConnector(dir, "example.com/base:1"), quiet{}, noCheck)
		second <- err
	}()
	cancel()
	if err := <-first; !errors.Is(err, context.Canceled) {
		t.Errorf("the first ended with %v", err)
	}
	if err := <-second; err != nil {
		t.Errorf("the second ended with %v", err)
	}
}

func TestAssembleRefuses(t *testing.T) {
	t.Parallel()
	amd := baseImage(t, "linux/amd64")
	arm := baseImage(t, "linux/arm64")
	registryFault := &fault.Error{Code: fault.CredentialsRefused, Op: "read"}
	open := func(_ context.Context, ref string) (image.Artifact, error) {
		switch ref {
		case "example.com/arm":
			return image.Artifact{Image: arm}, nil
		case "example.com/arm-index":
			return image.Artifact{Index: indexOf(t, map[string]v1.Image{"linux/arm64": arm})}, nil
		case "example.com/lying-index":
			return image.Artifact{Index: indexOf(t, map[string]v1.Image{"linux/amd64": arm})}, nil
		case "example.com/refused":
			return image.Artifact{}, registryFault
		case "example.com/broken":
			return image.Artifact{}, errors.New("connection reset")
		}
		return image.Artifact{Image: amd}, nil
	}
	good := map[string]string{"manifest.yaml": goodManifest}
	tests := []struct {
		name, base string
		files      map[string]string
		link       [2]string
		code       fault.Code
		says       string
	}{
		{name: "no base", files: good, code: fault.BaseImage, says: "names no base image"},
		{name: "a base that is no reference", base: "UPPER CASE", files: good, code: fault.BaseImage},
		{name: "a base for arm64", base: "example.com/arm", files: good, code: fault.BaseImage, says: "linux/arm64"},
		{name: "an index without amd64", base: "example.com/arm-index", files: good, code: fault.BaseImage, says: "only: linux/arm64"},
		{name: "an index that claims amd64", base: "example.com/lying-index", files: good, code: fault.BaseImage, says: "no linux/amd64"},
		{name: "a registry that refuses", base: "example.com/refused", files: good, code: fault.CredentialsRefused},
		{name: "a registry that breaks", base: "example.com/broken", files: good, code: fault.BaseImage, says: "connection reset"},
		{name: "a credential file", base: "example.com/ok", files: map[string]string{"manifest.yaml": goodManifest, "sub/gha-creds-0123.json": "{}"},
			code: fault.CredentialFile, says: "sub/gha-creds-0123.json"},
		{name: "a link out of the folder", base: "example.com/ok", files: good, link: [2]string{"out", "../../etc/passwd"}, code: fault.AssemblyFailed, says: "out"},
		{name: "an absolute link", base: "example.com/ok", files: good, link: [2]string{"out", "/etc/passwd"}, code: fault.AssemblyFailed, says: "/etc/passwd"},
		{name: "an ignored manifest", base: "example.com/ok", files: map[string]string{"manifest.yaml": goodManifest, ".dockerignore": "*.yaml"},
			code: fault.AssemblyFailed, says: ".dockerignore"},
		{name: "an ignore file that is no good", base: "example.com/ok", files: map[string]string{"manifest.yaml": goodManifest, ".dockerignore": "[\n"},
			code: fault.AssemblyFailed, says: ".dockerignore"},
		{name: "a bad manifest", base: "example.com/ok", files: map[string]string{"manifest.yaml": "type: x"}, code: fault.BadManifestYAML},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			dir := folderOf(t, tt.files)
			if tt.link[0] != "" {
				if err := os.Symlink(tt.link[1], filepath.Join(dir, tt.link[0])); err != nil {
					t.Fatal(err)
				}
			}
			_, err := newBuilder(t, Options{Open: open}).Build(t.Context(), manifestOnlyConnector(dir, tt.base), quiet{}, noCheck)
			if fault.CodeOf(err) != tt.code || !strings.Contains(fmt.Sprint(err), tt.says) {
				t.Errorf("%v, want %s and %q", err, tt.code, tt.says)
			}
		})
	}
}

func TestCheckManifest(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name, manifest string
		says           []string
	}{
		{"good", goodManifest, nil},
		{"dynamic streams, no spec", "type: DeclarativeSource\nversion: \"1\"\ndynamic_streams: [{}]\n", nil},
		{"streams by an anchor", "a: &s [1]\ntype: DeclarativeSource\nversion: 1.0.0\nstreams: *s\n", nil},
		{"nothing in it", "", []string{"not a YAML mapping"}},
		{"a list", "- 1\n", []string{":1: it is not a YAML mapping"}},
		{"no YAML", "a: 1\nb: [\n}\n", []string{"manifest.yaml:2: did not find"}},
		{"everything wrong", "type: CustomSource\nstreams: []\nspec:\n  documentation_url: x\n",
			[]string{":1: its type", "no version", ":2: it has no streams", ":4: its spec has no connection_specification"}},
		{"null values", "type: ~\nversion:\nstreams: ~\n", []string{"its type", "no version", "no streams"}},
		{"a spec that is a list", "type: DeclarativeSource\nversion: 1\nstreams: [1]\nspec: [1]\n", []string{"connection_specification"}},
		{"aliases that would explode", "a: &a [x,x,x,x]\nb: &b [*a,*a,*a,*a]\nc: &c [*b,*b,*b,*b]\ntype: DeclarativeSource\nversion: 1\nstreams: [*c]\n", nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := checkManifest(folderOf(t, map[string]string{"manifest.yaml": tt.manifest}))
			if len(tt.says) == 0 {
				if err != nil {
					t.Error(err)
				}
				return
			}
			faults := fault.List(err)
			if len(faults) != len(tt.says) {
				t.Fatalf("%v, want %d problems", err, len(tt.says))
			}
			for i, f := range faults {
				if f.Code != fault.BadManifestYAML || !strings.Contains(f.Error(), tt.says[i]) {
					t.Errorf("%v, want %s and %q", f, fault.BadManifestYAML, tt.says[i])
				}
			}
		})
	}
}

func TestContextFiles(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name  string
		files []string
		rules string
		want  []string
	}{
		{"by default", []string{"manifest.yaml", "airbyte-publish.env", "airbyte-publish.md", ".git/x", "sub/.git", "secrets/a", ".env", "a/__pycache__/b.pyc", "build/x", "data/build/x"}, "",
			[]string{"data/build/x", "manifest.yaml"}},
		{"by its own rules", []string{"manifest.yaml", "secrets/a", "a/b.tmp", "a/c"}, "**/*.tmp\n# comment\n",
			[]string{".dockerignore", "a/c", "manifest.yaml", "secrets/a"}},
		{"taken back", []string{"a/b/c", "a/b/d", "x"}, "*\n!a/b/c\n", []string{"a/b/c"}},
		{"git is never taken back", []string{".git/config", "x"}, "!.git\n!**/.git\n!.git/config\n", []string{".dockerignore", "x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			files := map[string]string{}
			for _, f := range tt.files {
				files[f] = ""
			}
			if tt.rules != "" {
				files[ignoreFile] = tt.rules
			}
			root := must(os.OpenRoot(folderOf(t, files)))
			defer root.Close()
			var got []string
			for _, f := range must(contextFiles(root)) {
				got = append(got, f.path)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestContextFindings(t *testing.T) {
	t.Parallel()
	dir := folderOf(t, map[string]string{"gha-creds-1.json": "", "a/gha-creds-2.json": "", "my-gha-creds-.json": ""})
	got := ContextFindings(dir)
	if len(got) != 2 || got[0].Code != fault.CredentialFile || got[0].Severity != connector.Error || got[0].File != filepath.Join(dir, "a", "gha-creds-2.json") {
		t.Errorf("%+v", got)
	}
	if got := ContextFindings(folderOf(t, map[string]string{"gha-creds-1.json": "", ".dockerignore": "gha-creds-*.json"})); len(got) != 0 {
		t.Errorf("%+v although it is ignored", got)
	}
	if got := ContextFindings(filepath.Join(dir, "missing")); len(got) != 0 {
		t.Errorf("%+v of no folder", got)
	}
}
