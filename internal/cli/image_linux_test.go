//go:build !race

package cli_test

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"debug/elf"
	"encoding/base64"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"golang.org/x/sys/unix"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/selfimage"
)

// maxImageBytes is what the image may have for one platform, its layers unpacked.
const maxImageBytes = 150_000_000

// testLog is a log that goes to the test's.
type testLog struct{ t testing.TB }

func (l testLog) Group(title string) func() {
	l.t.Log(title)
	return func() {}
}
func (l testLog) Info(format string, args ...any) { l.t.Logf(format, args...) }
func (l testLog) Finding(f connector.Finding)     { l.t.Logf("%s: %s", f.Severity, f.Message) }
func (l testLog) Untrusted(title, text string)    { l.t.Logf("%s: %s", title, text) }

// sources copies what git knows of this repository, and what is about to be added to it, to a folder without a history.
func sources(t testing.TB) string {
	t.Helper()
	root, dir := filepath.Join("..", ".."), t.TempDir()
	cmd := exec.Command("git", "ls-files", "-z", "--cached", "--others", "--exclude-standard")
	cmd.Dir = root
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	for file := range strings.SplitSeq(strings.Trim(string(out), "\x00"), "\x00") {
		content, err := os.ReadFile(filepath.Join(root, file))
		if os.IsNotExist(err) {
			continue // deleted, and not committed yet
		}
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(dir, file), string(content))
	}
	return dir
}

// toolBases pushes what the image is made from and returns the build arguments that name it. The base for arm64 says
// that it is for arm64, which is all that a build asks of it: nothing of it is run.
func toolBases(t testing.TB, addr string, auth remote.Option) map[string]string {
	t.Helper()
	base := buildtest.Rootless.Image(t)
	file, err := base.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	file = file.DeepCopy()
	file.Architecture = "arm64"
	arm, err := mutate.ConfigFile(base, file)
	if err != nil {
		t.Fatal(err)
	}
	index := mutate.AppendManifests(mutate.IndexMediaType(empty.Index, types.OCIImageIndex),
		mutate.IndexAddendum{Add: base, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "amd64"}}},
		mutate.IndexAddendum{Add: arm, Descriptor: v1.Descriptor{Platform: &v1.Platform{OS: "linux", Architecture: "arm64"}}})
	ref, err := name.ParseReference(addr + "/base/buildkit:rootless")
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.WriteIndex(ref, index, auth); err != nil {
		t.Fatal(err)
	}
	return map[string]string{"GO_IMAGE": buildtest.Modules.Push(t, addr, auth), "BUILDKIT_IMAGE": ref.String()}
}

// publishTool builds this program's own image by a BuildKit, pushes it to a registry as the release does, and returns
// its digest.
func publishTool(t testing.TB, images *registrytest.Registry, buildkit *buildtest.Daemon, o selfimage.Options) string {
	t.Helper()
	hosts := []string{images.Addr}
	r := registry.New(registry.Options{Username: "releaser", Password: "password-of-the-releaser", Hosts: hosts, PlainHTTP: true})
	b := build.New(build.Options{
		Open: r.Open, Builder: "buildkit", BuildkitHosts: []string{buildkit.Address}, Credentials: r.Credentials, Hosts: hosts, PlainHTTP: r.PlainHTTP,
		Getenv: func(name string) string {
			return map[string]string{"SOURCE_DATE_EPOCH": "1767323045"}[name] // 2026-01-02T03:04:05Z
		},
	})
	defer func() {
		if err := b.Close(); err != nil {
			t.Error(err)
		}
	}()
	began := time.Now()
	o.Dir, o.Log = sources(t), testLog{t}
	digest, err := selfimage.Publish(t.Context(), b, r, o)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s:%s took %v", o.Repository, strings.Join(o.Tags, ","), time.Since(began).Round(time.Second))
	return digest
}

func toolRegistry(t testing.TB) (*registrytest.Registry, remote.Option) {
	t.Helper()
	const user, password = "releaser", "password-of-the-releaser"
	images := registrytest.Start(t, registrytest.Config{Users: map[string]string{user: password}})
	return images, remote.WithAuth(&authn.Basic{Username: user, Password: password})
}

// tool is this program's own image for linux/amd64, built once for all tests of the package.
var tool struct {
	sync.Mutex
	dir string
}

// toolImage builds the image where that has not been done, and returns it.
func toolImage(t testing.TB) v1.Image {
	t.Helper()
	tool.Lock()
	defer tool.Unlock()
	if tool.dir == "" {
		images, auth := toolRegistry(t)
		repository := image.Repository(images.Addr + "/airbyte-publish/airbyte-publish")
		digest := publishTool(t, images, buildtest.Shared(t), selfimage.Options{Repository: repository, Platforms: []string{"linux/amd64"},
			Tags: []string{"1"}, Args: toolBases(t, images.Addr, auth)})
		dir := filepath.Join(sharedDir(t), "tool")
		keep(t, string(repository)+"@"+digest, auth, dir)
		tool.dir = dir
	}
	l, err := layout.ImageIndexFromPath(tool.dir)
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := l.IndexManifest()
	if err != nil {
		t.Fatal(err)
	}
	img, err := l.Image(manifest.Manifests[0].Digest)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// keep copies an image out of a registry.
func keep(t testing.TB, ref string, auth remote.Option, dir string) {
	t.Helper()
	img := pull(t, ref, auth, "amd64")
	written, err := layout.Write(dir, empty.Index)
	if err != nil {
		t.Fatal(err)
	}
	if err := written.AppendImage(img); err != nil {
		t.Fatal(err)
	}
}

func pull(t testing.TB, ref string, auth remote.Option, arch string) v1.Image {
	t.Helper()
	parsed, err := name.ParseReference(ref)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed, auth, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch}))
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// pushTool builds and pushes the image by the release's own command.
func pushTool(t testing.TB, images *registrytest.Registry, buildkit *buildtest.Daemon, o selfimage.Options) string {
	t.Helper()
	home := t.TempDir()
	program := filepath.Join(home, "push")
	build := exec.Command("go", "build", "-o", program, "../selfimage/push")
	build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := build.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	login := base64.StdEncoding.EncodeToString([]byte("releaser:password-of-the-releaser"))
	write(t, filepath.Join(home, ".docker", "config.json"), `{"auths":{"`+images.Addr+`":{"auth":"`+login+`"}}}`)
	args := []string{"--plain-http"}
	for name, value := range o.Args {
		args = append(args, "--build-arg", name+"="+value)
	}
	cmd := exec.CommandContext(t.Context(), program, append(append(args, string(o.Repository)), o.Tags...)...)
	cmd.Dir = sources(t)
	cmd.Env = []string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "BUILDKIT_HOST=" + buildkit.Address, "SOURCE_DATE_EPOCH=1767323045"}
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s", err, stderr.String())
	}
	return strings.TrimSpace(string(out))
}

// TestImageIsReproducible builds the image for all platforms by two BuildKits that share nothing.
func TestImageIsReproducible(t *testing.T) {
	t.Parallel()
	images, auth := toolRegistry(t)
	arguments := toolBases(t, images.Addr, auth)
	repository := image.Repository(images.Addr + "/airbyte-publish/airbyte-publish")
	tags := []string{"1.0.0", "1"}
	first := publishTool(t, images, buildtest.Shared(t), selfimage.Options{Repository: repository, Tags: tags, Args: arguments})
	again := pushTool(t, images, buildtest.Buildkitd(t, buildtest.BuildkitdOptions{}), selfimage.Options{Repository: repository, Tags: tags, Args: arguments})
	if first != again {
		for _, arch := range []string{"amd64", "arm64"} {
			t.Error(differences(t, pull(t, string(repository)+"@"+first, auth, arch), pull(t, string(repository)+"@"+again, auth, arch)))
		}
		t.Errorf("two builds of the same sources have the digests %s and %s", first, again)
	}
	for arch, machine := range map[string]elf.Machine{"amd64": elf.EM_X86_64, "arm64": elf.EM_AARCH64} {
		img := pull(t, string(repository)+":1", auth, arch)
		size, compressed := imageSize(t, img)
		t.Logf("%s: %.1f MB, compressed %.1f MB", arch, float64(size)/1e6, float64(compressed)/1e6)
		if size > maxImageBytes {
			t.Errorf("%s: the image has %d bytes, and may have %d", arch, size, maxImageBytes)
		}
		root := t.TempDir()
		extract(t, img, root)
		program, err := elf.Open(filepath.Join(root, "usr/local/bin/airbyte-publish"))
		if err != nil {
			t.Fatal(err)
		}
		if program.Machine != machine {
			t.Errorf("%s: the program is for %s", arch, program.Machine)
		}
		_ = program.Close()
		for path, wanted := range map[string]bool{"bin/sh": true, "bin/grep": true, "usr/bin/git": true, "etc/ssl/certs/ca-certificates.crt": true, "usr/bin/buildkitd": true,
			"usr/bin/buildkit-runc": true, "usr/bin/rootlesskit": true, "usr/bin/buildkit-qemu-aarch64": true, "usr/bin/buildkit-qemu-riscv64": false,
			"usr/bin/buildctl": false, "usr/bin/buildkit-cni-bridge": false} {
			if _, err := os.Lstat(filepath.Join(root, path)); (err == nil) != wanted {
				t.Errorf("%s: %s: %v", arch, path, err)
			}
		}
		for _, path := range []string{"usr/bin/newuidmap", "usr/bin/newgidmap"} {
			if n, err := unix.Getxattr(filepath.Join(root, path), "security.capability", nil); err != nil || n == 0 {
				t.Errorf("%s: %s has lost its capability: %v", arch, path, err)
			}
		}
	}
}

// imageSize is how large an image's layers are, unpacked and as they are pulled.
func imageSize(t testing.TB, img v1.Image) (unpacked, compressed int64) {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range layers {
		size, err := l.Size()
		if err != nil {
			t.Fatal(err)
		}
		compressed += size
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		n, err := io.Copy(io.Discard, content)
		_ = content.Close()
		if err != nil {
			t.Fatal(err)
		}
		unpacked += n
	}
	return unpacked, compressed
}

func extract(t testing.TB, img v1.Image, dir string) {
	t.Helper()
	content := mutate.Extract(img)
	defer content.Close()
	cmd := exec.CommandContext(context.Background(), "tar", "-x", "-p", "--xattrs", "--xattrs-include=*", "-C", dir)
	cmd.Stdin = content
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
}

// differences tells what two images have that is not the same.
func differences(t testing.TB, a, b v1.Image) string {
	t.Helper()
	var configs [2]string
	var entries [2]map[string]string
	for i, img := range []v1.Image{a, b} {
		raw, err := img.RawConfigFile()
		if err != nil {
			t.Fatal(err)
		}
		configs[i], entries[i] = string(raw), entriesOf(t, img)
	}
	var found strings.Builder
	for _, name := range slices.Sorted(maps.Keys(entries[0])) {
		if entries[0][name] != entries[1][name] {
			fmt.Fprintf(&found, "%s: %s, %s\n", name, entries[0][name], entries[1][name])
		}
	}
	return found.String() + cmp.Diff(configs[0], configs[1])
}

// entriesOf are the entries of an image's layers in a word each.
func entriesOf(t testing.TB, img v1.Image) map[string]string {
	t.Helper()
	layers, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]string{}
	for i, l := range layers {
		content, err := l.Uncompressed()
		if err != nil {
			t.Fatal(err)
		}
		archive := tar.NewReader(content)
		for {
			header, err := archive.Next()
			if err == io.EOF {
				break
			}
			if err != nil {
				t.Fatal(err)
			}
			sum := sha256.New()
			if _, err := io.Copy(sum, archive); err != nil {
				t.Fatal(err)
			}
			all[fmt.Sprintf("%d %s", i, header.Name)] = fmt.Sprintf("%o %d:%d %s %s %x", header.Mode, header.Uid, header.Gid,
				header.ModTime.UTC().Format(time.RFC3339Nano), header.Linkname, sum.Sum(nil)[:6])
		}
		_ = content.Close()
	}
	return all
}
