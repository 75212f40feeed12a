//go:build linux

package buildtest

import (
	"archive/tar"
	"bytes"
	"fmt"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// Base is a base image. All are for linux/amd64 and have a shell, the users root and airbyte (1000), and nothing of a
// distribution that could be asked for packages.
type Base string

// The base images.
const (
	// Busybox is Debian's busybox-static, with a link for each of its commands.
	Busybox Base = "base/busybox"
)

// Push pushes a base image to a registry on loopback and returns its reference, with a tag.
func (b Base) Push(t testing.TB, registryHost string, options ...remote.Option) string {
	t.Helper()
	tag, err := name.NewTag(registryHost + "/" + string(b) + ":1")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(tag, b.Image(t), options...); err != nil {
		t.Fatalf("push the base image %s: %v", tag, err)
	}
	return tag.String()
}

// images are the base images that were made in this test binary.
var images struct {
	sync.Mutex
	made map[Base]v1.Image
}

// Image returns a base image. It is made once in a test binary.
func (b Base) Image(t testing.TB) v1.Image {
	t.Helper()
	images.Lock()
	defer images.Unlock()
	if images.made == nil {
		images.made = map[Base]v1.Image{}
	}
	if images.made[b] == nil {
		images.made[b] = busybox(t)
	}
	return images.made[b]
}

// busybox makes the image that the others are made on.
func busybox(t testing.TB) v1.Image {
	t.Helper()
	path := lookPath(t, "busybox", "busybox-static")
	program, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	applets, err := exec.Command(path, "--list").Output()
	if err != nil {
		t.Fatal(err)
	}
	layer := newLayer()
	for _, dir := range []string{"bin", "etc", "root", "home", "usr", "usr/bin", "usr/local", "usr/local/bin", "var"} {
		layer.dir(dir, 0o755, 0)
	}
	layer.dir("tmp", 0o1777, 0)
	layer.dir("home/airbyte", 0o755, 1000)
	layer.file("bin/busybox", 0o755, program)
	for applet := range strings.FieldsSeq(string(applets)) {
		if applet != "busybox" {
			layer.symlink("bin/"+applet, "busybox")
		}
	}
	layer.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nairbyte:x:1000:1000::/home/airbyte:/bin/sh\n"))
	layer.file("etc/group", 0o644, []byte("root:x:0:\nairbyte:x:1000:\n"))
	config := v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Cmd: []string{"sh"}}
	return image(t, empty.Image, config, layer.build(t))
}

// image adds layers to an image and gives it a configuration.
func image(t testing.TB, base v1.Image, config v1.Config, layers ...v1.Layer) v1.Image {
	t.Helper()
	img, err := mutate.AppendLayers(mutate.MediaType(base, types.OCIManifestSchema1), layers...)
	if err != nil {
		t.Fatal(err)
	}
	file, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config, file.Created = "linux", "amd64", config, v1.Time{Time: epoch}
	if img, err = mutate.ConfigFile(mutate.ConfigMediaType(img, types.OCIConfigJSON), file); err != nil {
		t.Fatal(err)
	}
	return img
}

// epoch is the time of everything in a base image, so that it has the same digest on every run.
var epoch = time.Unix(0, 0).UTC()

// layer collects what goes into a layer.
type layer struct {
	content bytes.Buffer
	tar     *tar.Writer
	err     error
}

func newLayer() *layer {
	l := &layer{}
	l.tar = tar.NewWriter(&l.content)
	return l
}

func (l *layer) add(h tar.Header, content []byte) {
	h.ModTime, h.Size, h.Format = epoch, int64(len(content)), tar.FormatPAX
	if l.err == nil {
		l.err = l.tar.WriteHeader(&h)
	}
	if l.err == nil {
		_, l.err = l.tar.Write(content)
	}
}

func (l *layer) dir(path string, mode int64, owner int) {
	l.add(tar.Header{Typeflag: tar.TypeDir, Name: path + "/", Mode: mode, Uid: owner, Gid: owner}, nil)
}

func (l *layer) file(path string, mode int64, content []byte) {
	l.add(tar.Header{Typeflag: tar.TypeReg, Name: path, Mode: mode}, content)
}

func (l *layer) symlink(path, target string) {
	l.add(tar.Header{Typeflag: tar.TypeSymlink, Name: path, Linkname: target, Mode: 0o777}, nil)
}

func (l *layer) build(t testing.TB) v1.Layer {
	t.Helper()
	if l.err == nil {
		l.err = l.tar.Close()
	}
	if l.err != nil {
		t.Fatal(fmt.Errorf("make a layer: %w", l.err))
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(l.content.Bytes())), nil }
	made, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	return made
}
