package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	ocilayout "github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/validate"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// layoutDir writes images and indexes, by their tags, as an OCI layout.
func layoutDir(t *testing.T, images map[string]any) string {
	t.Helper()
	dir := t.TempDir()
	path, err := ocilayout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	for tag, what := range images {
		option := ocilayout.WithAnnotations(map[string]string{refName: tag})
		switch what := what.(type) {
		case v1.Image:
			err = path.AppendImage(what, option)
		case v1.ImageIndex:
			err = path.AppendIndex(what, option)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

// tarDir makes a tar of a folder, as "tar -c -C DIR ." does, names beginning with "./".
func tarDir(t *testing.T, dir string) string {
	t.Helper()
	out := filepath.Join(t.TempDir(), "image.tar")
	f, err := os.Create(out)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	w := tar.NewWriter(f)
	err = filepath.WalkDir(dir, func(file string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		body, err := os.ReadFile(file)
		if err != nil {
			return err
		}
		relative, _ := filepath.Rel(dir, file)
		if err := w.WriteHeader(&tar.Header{Typeflag: tar.TypeReg, Name: "./" + filepath.ToSlash(relative), Mode: 0o644, Size: int64(len(body))}); err != nil {
			return err
		}
		_, err = w.Write(body)
		return err
	})
	if err := errors.Join(err, w.Close()); err != nil {
		t.Fatal(err)
	}
	return out
}

func gzipFile(t *testing.T, file string) string {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	if _, err := z.Write(must(os.ReadFile(file))); err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(z.Close(), os.WriteFile(file+".gz", b.Bytes(), 0o644)); err != nil {
		t.Fatal(err)
	}
	return file + ".gz"
}

func saved(t *testing.T, images map[string]v1.Image) string {
	t.Helper()
	refs := map[name.Reference]v1.Image{}
	for tag, img := range images {
		refs[must(name.NewTag(tag))] = img
	}
	file := filepath.Join(t.TempDir(), "saved.tar")
	if err := tarball.MultiRefWriteToFile(file, refs); err != nil {
		t.Fatal(err)
	}
	return file
}

// withAttestation adds what BuildKit adds for provenance.
func withAttestation(t *testing.T, index v1.ImageIndex) v1.ImageIndex {
	t.Helper()
	return mutate.AppendManifests(index, mutate.IndexAddendum{Add: imageOf(t, "unknown/unknown", v1.Config{}),
		Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "unknown", Architecture: "unknown"},
			Annotations: map[string]string{"vnd.docker.reference.type": "attestation-manifest"}}})
}

func TestSources(t *testing.T) {
	t.Parallel()
	one, two := baseImage(t, "linux/amd64"), baseImage(t, "linux/amd64")
	index := withAttestation(t, indexOf(t, map[string]v1.Image{"linux/amd64": one, "linux/arm64": baseImage(t, "linux/arm64")}))
	single := layoutDir(t, map[string]any{"1.0": one})
	whole := layoutDir(t, map[string]any{"latest": index})
	both := layoutDir(t, map[string]any{"one": one, "two": two, "example.com/full:three": index})
	colon := filepath.Join(t.TempDir(), "a:b")
	if err := os.Rename(layoutDir(t, map[string]any{"x": two}), colon); err != nil {
		t.Fatal(err)
	}
	docker := saved(t, map[string]v1.Image{"acme/one:1": one})
	dockers := saved(t, map[string]v1.Image{"acme/one:1": one, "example.com:5000/acme/two:2": two})
	r := newRegistry(t)
	r.push(t, "acme/one:1", image.Artifact{Image: one})
	r.push(t, "acme/all:1", image.Artifact{Index: index})
	tests := []struct {
		source, digest string
		index          bool
	}{
		{"oci:" + single, digestOf(t, one), false},
		{"oci:" + single + ":1.0", digestOf(t, one), false},
		{"oci:" + whole, digestOf(t, index), true},
		{"oci:" + both + ":two", digestOf(t, two), false},
		{"oci:" + both + "@" + digestOf(t, one), digestOf(t, one), false},
		{"oci:" + both + ":three", digestOf(t, index), true},
		{"oci:" + both + ":example.com/full:three", digestOf(t, index), true},
		{"oci:" + colon, digestOf(t, two), false},
		{"oci-archive:" + tarDir(t, single), digestOf(t, one), false},
		{"oci-archive:" + tarDir(t, both) + ":three", digestOf(t, index), true},
		{"oci-archive:" + gzipFile(t, tarDir(t, whole)), digestOf(t, index), true},
		{"docker-archive:" + docker, "", false},
		{"docker-archive:" + docker + ":acme/one:1", "", false},
		{"docker-archive:" + dockers + ":example.com:5000/acme/two:2", "", false},
		{"docker-archive:" + gzipFile(t, docker), "", false},
		{"docker://" + r.host + "/acme/one:1", digestOf(t, one), false},
		{"docker://" + r.host + "/acme/all:1", digestOf(t, index), true},
		{"docker://" + r.host + "/acme/all@" + digestOf(t, index), digestOf(t, index), true},
	}
	for _, tt := range tests {
		t.Run(tt.source, func(t *testing.T) {
			t.Parallel()
			a, err := newBuilder(t, Options{Open: r.open}).Build(t.Context(), connector.Connector{Source: tt.source}, quiet{}, noCheck)
			if err != nil {
				t.Fatal(err)
			}
			got, err := a.Digest()
			if err != nil || tt.digest != "" && got != tt.digest || (a.Index != nil) != tt.index || a.Origin != tt.source {
				t.Errorf("%+v with the digest %s (%v), want %s, an index: %t", a, got, err, tt.digest, tt.index)
			}
			if a.Index != nil {
				err = validate.Index(a.Index)
			} else {
				err = validate.Image(a.Image)
			}
			if err != nil {
				t.Error(err)
			}
		})
	}
}

func TestSourcesRefused(t *testing.T) {
	t.Parallel()
	one, two := baseImage(t, "linux/amd64"), baseImage(t, "linux/amd64")
	single := layoutDir(t, map[string]any{"x": one})
	both := layoutDir(t, map[string]any{"one": one, "two": two})
	damage := func(change func(dir string, m *v1.Manifest)) string {
		dir := layoutDir(t, map[string]any{"x": one})
		change(dir, must(one.Manifest()))
		return dir
	}
	blob := func(dir string, h v1.Hash) string { return filepath.Join(dir, filepath.FromSlash(blobName(h))) }
	truncated := func(file string) string {
		out := file + ".cut"
		raw := must(os.ReadFile(file))
		if err := os.WriteFile(out, raw[:len(raw)/2], 0o644); err != nil {
			t.Fatal(err)
		}
		return out
	}
	text := filepath.Join(t.TempDir(), "text")
	if err := os.WriteFile(text, []byte("hello"), 0o644); err != nil {
		t.Fatal(err)
	}
	write := func(file string, body string) {
		if err := errors.Join(os.Remove(file), os.WriteFile(file, []byte(body), 0o644)); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct{ name, source, says string }{
		{"no kind", "dir", "known kinds"},
		{"an unknown kind", "podman:x", "known kinds"},
		{"nothing named", "oci:", "nothing follows"},
		{"a reference that is none", "docker://UPPER CASE", "parse"},
		{"a missing folder", "oci:" + single + "-missing", "no such file"},
		{"a missing file", "oci-archive:" + single + "-missing.tar", "no such file"},
		{"a file for a folder", "oci:" + text, "not a directory"},
		{"a folder for a file", "docker-archive:" + single, "not a regular file"},
		{"no layout", "oci:" + t.TempDir(), "not an OCI image layout"},
		{"no archive", "oci-archive:" + text, "not a tar archive"},
		{"half an archive", "oci-archive:" + truncated(tarDir(t, single)), "cut off"},
		{"several", "oci:" + both, "several images"},
		{"several in an archive", "docker-archive:" + saved(t, map[string]v1.Image{"a:1": one, "b:1": two}), "several images"},
		{"another tag", "oci:" + both + ":three", "no image three"},
		{"another digest", "oci:" + both + "@sha256:" + strings.Repeat("0", 64), "no image sha256:0000"},
		{"another image of an archive", "docker-archive:" + saved(t, map[string]v1.Image{"a:1": one}) + ":b:1", "only: a:1"},
		{"the other kind of archive", "oci-archive:" + saved(t, map[string]v1.Image{"a:1": one}), "docker-archive:FILE"},
		{"the other kind of archive again", "docker-archive:" + tarDir(t, single), "oci-archive:FILE"},
		{"a missing layer", "oci:" + damage(func(dir string, m *v1.Manifest) { _ = os.Remove(blob(dir, m.Layers[0].Digest)) }), "is missing"},
		{"a missing config", "oci:" + damage(func(dir string, m *v1.Manifest) { _ = os.Remove(blob(dir, m.Config.Digest)) }), "is missing"},
		{"a cut layer", "oci:" + damage(func(dir string, m *v1.Manifest) { write(blob(dir, m.Layers[0].Digest), "x") }), "has 1 bytes"},
		{"a changed config", "oci:" + damage(func(dir string, m *v1.Manifest) { write(blob(dir, m.Config.Digest), "{}") }), "is damaged"},
		{"an index that is no JSON", "oci:" + damage(func(dir string, _ *v1.Manifest) { write(filepath.Join(dir, "index.json"), "{") }), "not JSON"},
		{"an empty index", "oci:" + damage(func(dir string, _ *v1.Manifest) { write(filepath.Join(dir, "index.json"), "{}") }), "no image"},
		{"a huge index", "oci:" + damage(func(dir string, _ *v1.Manifest) {
			if err := os.Truncate(filepath.Join(dir, "index.json"), 1<<40); err != nil {
				t.Fatal(err)
			}
		}), "at most"},
		{"an index that is a link to outside", "oci:" + damage(func(dir string, _ *v1.Manifest) {
			file := filepath.Join(dir, "index.json")
			if err := errors.Join(os.Remove(file), os.Symlink(text, file)); err != nil {
				t.Fatal(err)
			}
		}), "escapes"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := newBuilder(t, Options{}).Build(t.Context(), connector.Connector{Source: tt.source}, quiet{}, noCheck)
			if fault.CodeOf(err) != fault.SourceImage || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %s and %q", err, fault.SourceImage, tt.says)
			}
		})
	}
}

// TestHostileArchives gives archives whose names, links and sizes would do harm to whoever unpacked them or believed them.
func TestHostileArchives(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name    string
		entries []entry
		says    string
	}{
		{"a link for an index", []entry{symlink("index.json", "/etc/passwd")}, "not an OCI image layout"},
		{"names that climb", []entry{file("../index.json", "{}", 0o644), file("a/../../index.json", "{}", 0o644)}, "not an OCI image layout"},
		{"indexes in a row", nested(t, 10), "nested too deeply"},
		{"more images than there are", wide(t), "more than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			out := filepath.Join(t.TempDir(), "x.tar")
			if err := os.WriteFile(out, tarOf(t, tt.entries...), 0o644); err != nil {
				t.Fatal(err)
			}
			_, err := newBuilder(t, Options{}).Build(t.Context(), connector.Connector{Source: "oci-archive:" + out}, quiet{}, noCheck)
			if fault.CodeOf(err) != fault.SourceImage || !strings.Contains(err.Error(), tt.says) {
				t.Errorf("%v, want %s and %q", err, fault.SourceImage, tt.says)
			}
		})
	}
}

const indexType = "application/vnd.oci.image.index.v1+json"

func hashOf(body string) v1.Hash {
	h, _, _ := v1.SHA256(strings.NewReader(body))
	return h
}

// nested is a layout of indexes in indexes.
func nested(t *testing.T, depth int) []entry {
	t.Helper()
	var entries []entry
	body := `{"schemaVersion":2,"manifests":[]}`
	for range depth {
		h := hashOf(body)
		entries = append(entries, file(blobName(h), body, 0o644))
		body = fmt.Sprintf(`{"schemaVersion":2,"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, indexType, h, len(body))
	}
	return append(entries, file("index.json", body, 0o644))
}

// wide is a layout of one index with very many children, all the same.
func wide(t *testing.T) []entry {
	t.Helper()
	var children []string
	for range 2 * maxLayoutImages {
		children = append(children, fmt.Sprintf(`{"mediaType":%q,"digest":%q,"size":1}`, indexType, hashOf("{}")))
	}
	body := `{"manifests":[` + strings.Join(children, ",") + `]}`
	top := fmt.Sprintf(`{"manifests":[{"mediaType":%q,"digest":%q,"size":%d}]}`, indexType, hashOf(body), len(body))
	return []entry{file(blobName(hashOf(body)), body, 0o644), file(blobName(hashOf("{}")), "{}", 0o644), file("index.json", top, 0o644)}
}

func TestBuildChooses(t *testing.T) {
	t.Parallel()
	base := baseImage(t, "linux/amd64")
	open := func(context.Context, string) (image.Artifact, error) { return image.Artifact{Image: base}, nil }
	tests := []struct {
		name  string
		files map[string]string
		tags  []string
		code  fault.Code
		says  string
	}{
		{"a manifest alone", map[string]string{"manifest.yaml": goodManifest}, nil, "", ""},
		{"a manifest beside a Dockerfile, with the tag", map[string]string{"manifest.yaml": goodManifest, "Dockerfile": "FROM x"},
			[]string{"language:manifest-only"}, "", ""},
		{"a manifest beside a Dockerfile", map[string]string{"manifest.yaml": goodManifest, "Dockerfile": "FROM x"},
			[]string{"language:python"}, fault.NoBuilder, "oci:DIR"},
		{"a Dockerfile", map[string]string{"Dockerfile": "FROM x"}, nil, fault.NoBuilder, "docker-daemon:NAME:TAG"},
		{"nothing", map[string]string{"README.md": ""}, nil, fault.NoBuilder, "neither"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c := manifestOnlyConnector(folderOf(t, tt.files), "example.com/base:1")
			c.Metadata.Tags = tt.tags
			_, err := newBuilder(t, Options{Open: open}).Build(t.Context(), c, quiet{}, noCheck)
			if tt.code == "" && err != nil || tt.code != "" && (fault.CodeOf(err) != tt.code || !strings.Contains(err.Error(), tt.says)) {
				t.Errorf("%v, want %q and %q", err, tt.code, tt.says)
			}
		})
	}
}

func TestBuildReturnsTheErrorOfTheCheck(t *testing.T) {
	t.Parallel()
	want := errors.New("not good enough")
	source := "oci:" + layoutDir(t, map[string]any{"x": baseImage(t, "linux/amd64")})
	a, err := newBuilder(t, Options{}).Build(t.Context(), connector.Connector{Source: source}, quiet{},
		checkedBy(func(context.Context, connector.Candidate) error { return want }))
	if !errors.Is(err, want) || err.Error() != want.Error() || a.Image != nil {
		t.Errorf("%+v, %v; want the check's own error", a, err)
	}
}

func TestBuildEndsWithItsContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	open := func(context.Context, string) (image.Artifact, error) {
		cancel()
		return image.Artifact{}, errors.New("something else")
	}
	_, err := newBuilder(t, Options{Open: open}).Build(ctx, connector.Connector{Source: "docker://example.com/x:1"}, quiet{}, noCheck)
	if !errors.Is(err, context.Canceled) {
		t.Errorf("%v, want that it was cancelled", err)
	}
}

func TestAClosedBuilderMakesNothing(t *testing.T) {
	t.Parallel()
	b := New(Options{TempDir: t.TempDir()})
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := b.spool(t.Context(), strings.NewReader("x")); err == nil {
		t.Error("a temporary file was made that nobody removes")
	}
}

// TestCandidateRunsSpec goes from a layout with an index to the connector's output.
func TestCandidateRunsSpec(t *testing.T) {
	t.Parallel()
	shell, _ := buildPrograms(t)
	mine := imageOf(t, hostPlatform, v1.Config{Env: []string{"AIRBYTE_ENTRYPOINT=echo hello"}}, layerOf(t, tarOf(t, file("bin/sh", string(shell), 0o755))))
	other := "linux/s390x"
	source := "oci:" + layoutDir(t, map[string]any{"x": withAttestation(t, indexOf(t, map[string]v1.Image{other: imageOf(t, other, v1.Config{}), hostPlatform: mine}))})
	var run connector.SpecRun
	_, err := newBuilder(t, Options{}).Build(t.Context(), connector.Connector{Source: source}, quiet{}, checkedBy(func(ctx context.Context, c connector.Candidate) (err error) {
		run, err = c.RunSpec(ctx)
		return err
	}))
	if fault.CodeOf(err) == fault.SpecNotRun && os.Getenv("CI") != "true" {
		t.Skipf("this machine can't run the sandbox: %v", err)
	}
	if err != nil || string(run.Stdout) != "hello spec\n" {
		t.Errorf("%+v, %v", run, err)
	}
}

var _ io.Closer = (*Builder)(nil)
