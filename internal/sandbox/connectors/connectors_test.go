package connectors

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/google/go-containerregistry/pkg/v1/validate"
)

// must fails the test on an error of a call that makes an image.
func must(t *testing.T) func(v1.Image, error) v1.Image {
	return func(img v1.Image, err error) v1.Image {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return img
	}
}

func config(t *testing.T, img v1.Image) *v1.ConfigFile {
	t.Helper()
	c, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func digest(t *testing.T, img v1.Image) string {
	t.Helper()
	d, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d.String()
}

// valid writes the image as a layout, checks every digest and size of it, and returns it as it reads back.
func valid(t *testing.T, img v1.Image) v1.ImageIndex {
	t.Helper()
	dir := filepath.Join(t.TempDir(), "layout")
	if err := WriteLayout(img, dir); err != nil {
		t.Fatal(err)
	}
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	if err := validate.Index(index); err != nil {
		t.Error(err)
	}
	return index
}

// unpack writes an image's file system below dir, without its owners, and returns its headers by name.
func unpack(t *testing.T, img v1.Image, dir string) map[string]*tar.Header {
	t.Helper()
	flat := mutate.Extract(img)
	defer flat.Close()
	headers := map[string]*tar.Header{}
	for r := tar.NewReader(flat); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return headers
		}
		if err != nil {
			t.Fatal(err)
		}
		headers[h.Name] = h
		path := filepath.Join(dir, h.Name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		switch h.Typeflag {
		case tar.TypeDir:
			err = os.MkdirAll(path, 0o755)
		case tar.TypeSymlink:
			err = os.Symlink(h.Linkname, path)
		case tar.TypeReg:
			var content []byte
			if content, err = io.ReadAll(r); err == nil {
				err = os.WriteFile(path, content, h.FileInfo().Mode().Perm())
			}
		}
		if err != nil {
			t.Fatal(err)
		}
	}
}

func TestBaseIsWhatAirbyteExpects(t *testing.T) {
	t.Parallel()
	headers := unpack(t, must(t)(Base(t.Context())), t.TempDir())
	for _, want := range []struct {
		name  string
		mode  int64
		owner int
	}{
		{"bin/sh", 0o755, 0}, {"etc/passwd", 0o644, 0}, {"tmp", 0o1777, 0}, {"airbyte", 0o755, 1000},
	} {
		h := headers[want.name]
		if h == nil {
			h = headers[want.name+"/"]
		}
		if h == nil || h.Mode != want.mode || h.Uid != want.owner || h.Gid != want.owner {
			t.Errorf("%s is %+v, want mode %o and owner %d", want.name, h, want.mode, want.owner)
		}
	}
}

// The base of manifest-only connectors leaves the manifest's folder to whoever puts a manifest there, as Airbyte's does.
func TestDeclarativeBaseHasARunnerAndNoManifest(t *testing.T) {
	t.Parallel()
	img := must(t)(DeclarativeBase(t.Context()))
	c := config(t, img)
	if entrypointOf(c) != "/airbyte/integration_code/main" || c.Config.WorkingDir != "/airbyte/integration_code" {
		t.Errorf("the config is %+v", c.Config)
	}
	headers := unpack(t, img, t.TempDir())
	if headers["airbyte/integration_code/main"] == nil {
		t.Error("there is no runner")
	}
	for name := range headers {
		if strings.Contains(name, "source_declarative_manifest") {
			t.Errorf("the base holds %s", name)
		}
	}
}

// Two makings of the same thing are the same image, and each image is one that a registry would take.
func TestImagesAreReproducible(t *testing.T) {
	t.Parallel()
	for name := range data {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			first := must(t)(Image(t.Context(), name))
			valid(t, first)
			program, err := compile(t.Context(), inImages, "./testdata/connectors/"+name)
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			unpack(t, first, dir)
			packed, err := os.ReadFile(filepath.Join(dir, "airbyte", name))
			if err != nil {
				t.Fatal(err)
			}
			if !bytes.Equal(program, packed) {
				t.Error("two compilations differ")
			}
			if again := digest(t, must(t)(Image(t.Context(), name))); again != digest(t, first) {
				t.Errorf("the second image is %s, the first %s", again, digest(t, first))
			}
			other := must(t)(Image(t.Context(), name, As("127.0.0.1:5000/x", "0.2.0")))
			if digest(t, other) == digest(t, first) {
				t.Error("another tag in the labels gives the same digest")
			}
			if got := config(t, other).Config.Labels; got["io.airbyte.name"] != "127.0.0.1:5000/x" || got["io.airbyte.version"] != "0.2.0" {
				t.Errorf("labels are %v", got)
			}
		})
	}
}

func TestImageSaysWhatAirbyteReads(t *testing.T) {
	t.Parallel()
	c := config(t, must(t)(Image(t.Context(), "source-hello", Env("EXTRA", "1"))))
	if c.OS != "linux" || c.Architecture != "amd64" || c.Config.User != "airbyte" {
		t.Errorf("the config is for %s/%s as %s", c.OS, c.Architecture, c.Config.User)
	}
	if !slices.Equal(c.Config.Entrypoint, []string{"/airbyte/source-hello"}) {
		t.Errorf("ENTRYPOINT is %q", c.Config.Entrypoint)
	}
	for _, want := range []string{"AIRBYTE_ENTRYPOINT=/airbyte/source-hello", "EXTRA=1"} {
		if !slices.Contains(c.Config.Env, want) {
			t.Errorf("the environment %q lacks %s", c.Config.Env, want)
		}
	}
	if got := c.Config.Labels; got["io.airbyte.name"] != "ghcr.io/airbyte-publish/source-hello" || got["io.airbyte.version"] != "0.1.0" {
		t.Errorf("labels are %v", got)
	}
}

func TestUnknownNamesAreErrors(t *testing.T) {
	t.Parallel()
	if _, err := Image(t.Context(), "source-manifest"); err == nil {
		t.Error("a manifest-only connector became an image without an assembler")
	}
	if _, err := Variant(t.Context(), "no-such-variant"); err == nil {
		t.Error("there is a variant no-such-variant")
	}
	if _, err := Dir(t.Context(), "no-such-connector"); err == nil {
		t.Error("there is a connector no-such-connector")
	}
}

func TestLayoutReadsBack(t *testing.T) {
	t.Parallel()
	img := must(t)(Image(t.Context(), "source-hello"))
	manifest, err := valid(t, img).IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	if len(manifest.Manifests) != 1 || manifest.Manifests[0].Digest.String() != digest(t, img) {
		t.Errorf("the layout holds %v, want %s", manifest.Manifests, digest(t, img))
	}
}

func TestWithBase(t *testing.T) {
	t.Parallel()
	const base = "127.0.0.1:1/base@sha256:0000000000000000000000000000000000000000000000000000000000000000"
	dir, err := WithBase(t.Context(), t.TempDir(), base)
	if err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(dir, "metadata.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(text), "baseImage: "+base+"\n") || strings.Contains(string(text), placeholder) {
		t.Errorf("metadata.yaml is\n%s", text)
	}
	for _, name := range []string{"manifest.yaml", "components.py"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
}

// Airbyte starts a connector by a shell and what it finds by PATH. The image's own do it here, without the image's
// root: they are static, and paths are put in front.
func TestTheImagesShellRunsTheConnector(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" || runtime.GOARCH != "amd64" {
		t.Skip("the programs in the images are for linux/amd64")
	}
	for _, name := range []string{"source-hello", "destination-jsonl"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			root, work := t.TempDir(), t.TempDir()
			unpack(t, must(t)(Image(t.Context(), name)), root)
			cmd := exec.CommandContext(t.Context(), filepath.Join(root, "bin", "sh"), "-c",
				`test -n "$AIRBYTE_ENTRYPOINT" && eval "$AIRBYTE_ENTRYPOINT spec" > out; echo $? > code; sleep 0.01; mv out jobOutput.json`)
			cmd.Dir = work
			cmd.Env = []string{"PATH=" + filepath.Join(root, "bin"), "AIRBYTE_ENTRYPOINT=" + filepath.Join(root, "airbyte", name)}
			if out, err := cmd.CombinedOutput(); err != nil {
				t.Fatalf("%v\n%s", err, out)
			}
			out, err := os.ReadFile(filepath.Join(work, "jobOutput.json"))
			if err != nil {
				t.Fatal(err)
			}
			code, err := os.ReadFile(filepath.Join(work, "code"))
			if err != nil {
				t.Fatal(err)
			}
			if string(code) != "0\n" || !strings.Contains(string(out), `"type":"SPEC"`) {
				t.Errorf("spec ended with %s and\n%s", code, out)
			}
		})
	}
}

func TestVariantsAreWrongInTheirOwnWay(t *testing.T) {
	t.Parallel()
	good := must(t)(Variant(t.Context(), Print, Env("MISBEHAVE", "")))
	if got := entrypointOf(config(t, good)); got != "/airbyte/misbehave" {
		t.Errorf("a variant's own entry point is %q", got)
	}
	wrong := map[string]func(v1.Image, *v1.ConfigFile) bool{
		NoEntrypoint:        func(_ v1.Image, c *v1.ConfigFile) bool { return entrypointOf(c) == "" && len(c.Config.Entrypoint) == 1 },
		RelativeEntrypoint:  func(_ v1.Image, c *v1.ConfigFile) bool { return entrypointOf(c) == "./misbehave" },
		DifferentEntrypoint: func(_ v1.Image, c *v1.ConfigFile) bool { return entrypointOf(c) != c.Config.Entrypoint[0] },
		ARM64Only:           func(_ v1.Image, c *v1.ConfigFile) bool { return c.Architecture == "arm64" },
		ZstdLayer: func(img v1.Image, _ *v1.ConfigFile) bool {
			all, err := img.Layers()
			if err != nil || len(all) != 2 {
				return false
			}
			mediaType, err := all[1].MediaType()
			compressed, readErr := all[1].Compressed()
			magic := make([]byte, 4)
			if readErr == nil {
				_, readErr = io.ReadFull(compressed, magic)
			}
			return errors.Join(err, readErr) == nil && mediaType == types.OCILayerZStd && bytes.Equal(magic, []byte{0x28, 0xb5, 0x2f, 0xfd})
		},
		NoShell: func(img v1.Image, _ *v1.ConfigFile) bool {
			all, err := img.Layers()
			return err == nil && len(all) == 1
		},
	}
	for _, name := range Variants() {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			img := must(t)(Variant(t.Context(), name))
			c := config(t, img)
			if is, ok := wrong[name]; ok {
				if !is(img, c) {
					t.Errorf("the config is %+v", c)
				}
			} else if !slices.Contains(c.Config.Env, "MISBEHAVE="+name) {
				t.Errorf("the environment %q lacks the mode", c.Config.Env)
			}
		})
	}
}

func entrypointOf(c *v1.ConfigFile) string {
	for _, variable := range c.Config.Env {
		if value, ok := strings.CutPrefix(variable, "AIRBYTE_ENTRYPOINT="); ok {
			return value
		}
	}
	return ""
}
