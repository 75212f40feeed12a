//go:build linux

package buildtest

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
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
	// Golang is Busybox with the Go that runs the tests, in /usr/local/go. It has the standard library compiled as
	// "go build -trimpath" for a static program wants it, so that a build takes no longer than its own packages.
	Golang Base = "base/golang"
	// Python is Busybox with Debian's python3 and what it needs, without pip.
	Python Base = "base/python"
	// Modules is Golang with the modules that this program is built from, their packages compiled.
	Modules Base = "base/modules"
	// Rootless stands for moby/buildkit's image without root.
	Rootless Base = "base/rootless"
	// GitLabHelper is Busybox with bash and rsync, for what gitlab-ci-local does beside a job.
	GitLabHelper Base = "base/gitlab-helper"
)

// Bases are all of them.
var Bases = []Base{Busybox, Golang, Python, Modules, Rootless, GitLabHelper}

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
	if runtime.GOARCH != "amd64" {
		unavailable(t, "the base images are made of this machine's programs, which are not for linux/amd64")
	}
	images.Lock()
	defer images.Unlock()
	if images.made == nil {
		images.made = map[Base]v1.Image{}
	}
	if images.made[Busybox] == nil {
		images.made[Busybox] = busybox(t)
	}
	switch {
	case images.made[b] != nil:
	case b == Golang:
		images.made[b] = golang(t, images.made[Busybox])
	case b == Modules:
		images.made[b] = modules(t, golang(t, images.made[Busybox]))
	case b == Rootless:
		images.made[b] = rootless(t, images.made[Busybox])
	case b == GitLabHelper:
		images.made[b] = gitlabHelper(t, images.made[Busybox])
	case b == Python:
		images.made[b] = python(t, images.made[Busybox])
	default:
		t.Fatalf("there is no base image %s", b)
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
	var content bytes.Buffer
	layer := newLayer(&content)
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
	if err := layer.close(); err != nil {
		t.Fatal(err)
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil }
	made, err := tarball.LayerFromOpener(open, tarball.WithMediaType(types.OCILayer))
	if err != nil {
		t.Fatal(err)
	}
	img, err := image(empty.Image, config, made)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// cachedImage returns an image that is kept in the cache as an OCI layout, which knows all digests. What produce leaves
// in its folder is not kept.
func cachedImage(t testing.TB, entry string, produce func(scratch string) (v1.Image, error)) v1.Image {
	t.Helper()
	dir := cached(t, entry, func(dir, scratch string) error {
		img, err := produce(scratch)
		if err != nil {
			return err
		}
		written, err := layout.Write(dir, empty.Index)
		if err != nil {
			return err
		}
		return written.AppendImage(img)
	})
	index, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := index.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := index.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// image adds layers to an image and gives it a configuration.
func image(base v1.Image, config v1.Config, layers ...v1.Layer) (v1.Image, error) {
	img, err := mutate.AppendLayers(mutate.MediaType(base, types.OCIManifestSchema1), layers...)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture, file.Config, file.Created = "linux", "amd64", config, v1.Time{Time: epoch}
	return mutate.ConfigFile(mutate.ConfigMediaType(img, types.OCIConfigJSON), file)
}

// epoch is the time of everything in a base image, so that it has the same digest on every run.
var epoch = time.Unix(0, 0).UTC()

// layer writes what goes into a layer. Its first error is told by close.
type layer struct {
	tar *tar.Writer
	err error
}

func newLayer(w io.Writer) *layer { return &layer{tar: tar.NewWriter(w)} }

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

// tree adds a folder with what is in it that wanted says. It is asked with paths relative to the folder.
func (l *layer) tree(root, at string, wanted func(path string, d fs.DirEntry) bool) error {
	return filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, err := filepath.Rel(root, path)
		if err != nil {
			return err
		}
		if name != "." && !wanted(name, d) {
			if d.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		at := filepath.Join(at, name)
		switch {
		case name == ".":
		case d.IsDir():
			l.dir(at, int64(info.Mode().Perm()), 0)
		case d.Type() == fs.ModeSymlink:
			target, err := os.Readlink(path)
			if err != nil {
				return err
			}
			l.symlink(at, target)
		default:
			content, err := os.ReadFile(path)
			if err != nil {
				return err
			}
			l.file(at, int64(info.Mode().Perm()), content)
		}
		return l.err
	})
}

func (l *layer) close() error {
	if l.err == nil {
		l.err = l.tar.Close()
	}
	return l.err
}

// compressedLayer makes a layer in a file.
func compressedLayer(path string, fill func(*layer) error) (_ v1.Layer, err error) {
	f, err := os.Create(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	compressed, err := gzip.NewWriterLevel(f, gzip.BestSpeed)
	if err != nil {
		return nil, err
	}
	l := newLayer(compressed)
	if err := errors.Join(fill(l), l.close(), compressed.Close()); err != nil {
		return nil, err
	}
	return tarball.LayerFromFile(path, tarball.WithMediaType(types.OCILayer))
}

// run runs a command of a cache entry's making.
func run(dir string, env []string, name string, args ...string) error {
	cmd := exec.Command(name, args...)
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), env...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", cmd, err, bytes.TrimSpace(out))
	}
	return nil
}
