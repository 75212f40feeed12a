package build

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

func TestMain(m *testing.M) {
	if socket := os.Getenv(relayVariable); socket != "" {
		relay(socket)
		return
	}
	if handled, code := SpecMain(os.Args); handled {
		os.Exit(code)
	}
	code := m.Run()
	if dir := programs.dir; dir != "" {
		_ = os.RemoveAll(dir)
	}
	os.Exit(code)
}

// programs are static programs for test images, built once and only when a test wants them.
var programs struct {
	once             sync.Once
	dir              string
	err              error
	shell, connector []byte
}

// programsVariable names a folder with the programs, for a test binary that was started by another one.
const programsVariable = "BUILD_TEST_PROGRAMS"

// buildPrograms returns a shell (mvdan.cc/sh's gosh) and the connector of testdata, so that tests need only Go.
func buildPrograms(t *testing.T) (shell, connector []byte) {
	t.Helper()
	programs.once.Do(func() { programs.err = makePrograms() })
	if programs.err != nil {
		t.Fatal(programs.err)
	}
	return programs.shell, programs.connector
}

func makePrograms() (err error) {
	dir := os.Getenv(programsVariable)
	if dir == "" {
		if dir, err = os.MkdirTemp("", "airbyte-publish-test-"); err != nil {
			return err
		}
		programs.dir = dir
		cmd := exec.Command("go", "build", "-ldflags=-s -w", "-o", dir, "mvdan.cc/sh/v3/cmd/gosh", "./testdata/connector")
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
		if output, err := cmd.CombinedOutput(); err != nil {
			return fmt.Errorf("%w: %s", err, output)
		}
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	if programs.shell, err = os.ReadFile(filepath.Join(dir, "gosh")); err != nil {
		return err
	}
	programs.connector, err = os.ReadFile(filepath.Join(dir, "connector"))
	return err
}

// entry is one entry of a test layer.
type entry struct {
	tar.Header
	body string
}

func file(name, body string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeReg, Name: name, Mode: mode, Size: int64(len(body))}, body}
}

func dir(name string, mode int64) entry {
	return entry{tar.Header{Typeflag: tar.TypeDir, Name: name, Mode: mode}, ""}
}

func owned(e entry, uid, gid int) entry {
	e.Uid, e.Gid = uid, gid
	return e
}

func symlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeSymlink, Name: name, Linkname: target, Mode: 0o777}, ""}
}

func hardlink(name, target string) entry {
	return entry{tar.Header{Typeflag: tar.TypeLink, Name: name, Linkname: target, Mode: 0o644}, ""}
}

func tarOf(t *testing.T, entries ...entry) []byte {
	t.Helper()
	var b bytes.Buffer
	w := tar.NewWriter(&b)
	for _, e := range entries {
		h := e.Header
		if err := w.WriteHeader(&h); err != nil {
			t.Fatal(err)
		}
		if _, err := io.WriteString(w, e.body); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func layerOf(t *testing.T, content []byte) v1.Layer {
	t.Helper()
	l, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content)), nil })
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// imageOf makes an image for a platform ("linux/amd64") of layers.
func imageOf(t *testing.T, platform string, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(empty.Image, layers...)
	if err != nil {
		t.Fatal(err)
	}
	cf, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	cf.OS, cf.Architecture, _ = strings.Cut(platform, "/")
	cf.Config = config
	if img, err = mutate.ConfigFile(img, cf); err != nil {
		t.Fatal(err)
	}
	return img
}

// staticLayer is an uncompressed layer.
type staticLayer struct{ content []byte }

func (l staticLayer) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.content))
	return h, err
}
func (l staticLayer) DiffID() (v1.Hash, error)            { return l.Digest() }
func (l staticLayer) Size() (int64, error)                { return int64(len(l.content)), nil }
func (l staticLayer) MediaType() (types.MediaType, error) { return types.OCIUncompressedLayer, nil }
func (l staticLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.content)), nil
}
func (l staticLayer) Uncompressed() (io.ReadCloser, error) { return l.Compressed() }
