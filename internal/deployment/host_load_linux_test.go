package deployment

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// writeContext makes a docker context, and makes it current.
func writeContext(dir, name, host string) error {
	sum := sha256.Sum256([]byte(name))
	meta := filepath.Join(dir, "contexts", "meta", hex.EncodeToString(sum[:]))
	if err := os.MkdirAll(meta, 0o755); err != nil {
		return err
	}
	content, err := json.Marshal(map[string]any{"Name": name, "Endpoints": map[string]any{"docker": map[string]any{"Host": host}}})
	return errors.Join(err, os.WriteFile(filepath.Join(meta, "meta.json"), content, 0o600),
		os.WriteFile(filepath.Join(dir, "config.json"), []byte(`{"currentContext":"`+name+`"}`), 0o600))
}

func TestLoadIntoEngine(t *testing.T) {
	t.Parallel()
	for _, o := range engines {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.SharedDocker(t, o)
			wire := engine.Tap(t)
			ssh := engine.SSH(t, wire.Path)
			registry := private(t)
			content := indexOf(map[string]v1.Image{"linux/amd64": hello(t), "linux/arm64": variant(t, connectors.ARM64Only)})
			// Of one platform and of two, over a socket and over ssh.
			for tag, way := range map[string]struct {
				img     Image
				address string
			}{
				"one": {pushed(t, registry, "1.0.0", hello(t)), wire.Address},
				"two": {pushed(t, registry, "2.0.0", content), ssh.Address},
			} {
				log := &hostLog{}
				h := hostAt(t, way.address, environment(t))
				h.sshFlags = []string{"-F", ssh.ClientConfig}
				if err := h.load(t, "", way.img, log); err != nil {
					t.Fatalf("%s: %v", tag, err)
				}
				if !strings.Contains(log.String(), "loaded") || !strings.Contains(log.String(), "spec ran") {
					t.Errorf("%s: it told %q", tag, log)
				}
				if idOn(t, engine, way.img.Reference()) == "" {
					t.Errorf("%s: the host has no image", tag)
				}
				again := &hostLog{}
				if err := h.load(t, "", way.img, again); err != nil {
					t.Fatalf("%s: %v", tag, err)
				}
				if !strings.Contains(again.String(), "already") || strings.Contains(again.String(), "loaded") {
					t.Errorf("%s, again: it told %q", tag, again)
				}
			}
			silent(t, "requests", wire.String())
			if strings.Contains(strings.ToLower(wire.String()), "x-registry-auth") {
				t.Error("credentials were sent along")
			}
			// What was loaded is what would have been pulled, also where the store knows the two by other digests.
			ssh.Login(t, registry.Addr, basic(hostUser, hostPassword))
			h := hostAt(t, ssh.Address, environment(t))
			h.sshFlags = []string{"-F", ssh.ClientConfig}
			log := &hostLog{}
			if err := h.verify(t, pushed(t, registry, "2.0.0", content), log); err != nil || !strings.Contains(log.String(), "the host has "+registry.Addr) {
				t.Errorf("a pull after the load: %v, it told %q", err, log)
			}
		})
	}
}

// An engine that can't read a layer says so, and the tag does not come to be.
func TestLoadOfALayerThatOldEnginesCannotRead(t *testing.T) {
	t.Parallel()
	// Of its own, since an engine does not read what it has from another image.
	engine := buildtest.Docker(t, buildtest.DockerOptions{})
	img := pushed(t, private(t), "1.0.0", variant(t, connectors.ZstdLayer))
	want(t, hostAt(t, engine.Host, environment(t)).load(t, "", img, &hostLog{}), fault.LoadFailed)
	if idOn(t, engine, img.Reference()) != "" {
		t.Error("the image is there")
	}
}

func TestLoadIntoKind(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			// Names of containers are the engine's, so that it is not shared.
			engine := buildtest.Docker(t, o)
			const node = "airbyte-abctl-control-plane"
			engine.KindNode(t, node, "airbyte-abctl")
			wire := engine.Tap(t)
			registry := private(t)
			img := pushed(t, registry, "1.0.0", indexOf(map[string]v1.Image{"linux/amd64": hello(t), "linux/arm64": variant(t, connectors.ARM64Only)}))
			h := hostAt(t, wire.Address, environment(t))
			log := &hostLog{}
			if err := h.load(t, "airbyte-abctl", img, log); err != nil {
				t.Fatal(err)
			}
			// What the kubelet would see: the CRI plug-in has taken the image as its own, and it can be unpacked.
			digest, err := hello(t).Digest()
			if err != nil {
				t.Fatal(err)
			}
			_, listed := engine.Exec(t, node, "ctr", "--namespace=k8s.io", "images", "ls", "name=="+img.Reference())
			for _, text := range []string{img.Reference(), digest.String(), "io.cri-containerd.image=managed"} {
				if !strings.Contains(listed, text) {
					t.Errorf("the node has %s, which lacks %s", listed, text)
				}
			}
			engine.Exec(t, node, "mkdir", "/tmp/mounted")
			if code, out := engine.Exec(t, node, "ctr", "--namespace=k8s.io", "images", "mount", img.Reference(), "/tmp/mounted"); code != 0 {
				t.Errorf("the image can't be mounted in the node: %s", out)
			}
			if _, out := engine.Exec(t, node, "/tmp/mounted/airbyte/source-hello", "spec"); !strings.Contains(out, `"SPEC"`) {
				t.Errorf("the connector says in the node %q", out)
			}
			again := &hostLog{}
			if err := h.load(t, "airbyte-abctl", img, again); err != nil || !strings.Contains(again.String(), "already") {
				t.Errorf("again: %v, it told %q", err, again)
			}
			changed := pushed(t, registry, "1.0.0", hello(t, connectors.Env("CHANGED", "yes")))
			want(t, h.load(t, "airbyte-abctl", changed, log), fault.HostTagDiffers, node, "new tag", "images rm")
			h.options.Overwrite = true
			if err := h.load(t, "airbyte-abctl", changed, log); err != nil {
				t.Error(err)
			}
			want(t, h.load(t, "kind", img, log), fault.NoKindNode, "airbyte-abctl")
			// The kubelet knows names in one form only.
			open := h.options.Open
			h.options.Open = func(ctx context.Context, _ string) (image.Artifact, error) { return open(ctx, img.ByDigest()) }
			for repository, name := range map[image.Repository]string{
				"docker.io/acme/hello": "docker.io/acme/hello", "index.docker.io/acme/other": "docker.io/acme/other", "docker.io/hello": "docker.io/library/hello",
			} {
				for _, cluster := range []string{"airbyte-abctl", ""} {
					if err := h.load(t, cluster, Image{Repository: repository, Tag: "1.0.0"}, log); err != nil {
						t.Errorf("%s into %q: %v", repository, cluster, err)
					}
				}
				if _, listed := engine.Exec(t, node, "ctr", "--namespace=k8s.io", "images", "ls", "-q", "name=="+name+":1.0.0"); !strings.Contains(listed, name) {
					t.Errorf("the node lacks %s", name)
				}
			}
			silent(t, "requests", wire.String())
			if _, err := direct(t, engine).ContainerKill(t.Context(), node, client.ContainerKillOptions{}); err != nil {
				t.Fatal(err)
			}
			want(t, h.load(t, "airbyte-abctl", img, log), fault.NoKindNode, node, "docker start")
		})
	}
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		engine := buildtest.SharedDocker(t, buildtest.DockerOptions{})
		img := pushed(t, private(t), "1.0.0", hello(t))
		want(t, hostAt(t, engine.Host, environment(t)).load(t, "airbyte-abctl", img, &hostLog{}), fault.NoKindNode, "no kind cluster")
	})
}

// brokenLayer is one whose registry breaks off.
type brokenLayer struct{ v1.Layer }

var errBroken = errors.New("the registry broke off")

func (b brokenLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(io.MultiReader(strings.NewReader("begun"), failing{})), nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errBroken }

// brokenImage has its layers as brokenLayers.
type brokenImage struct{ v1.Image }

func (b brokenImage) Layers() ([]v1.Layer, error) {
	layers, err := b.Image.Layers()
	for i := range layers {
		layers[i] = brokenLayer{layers[i]}
	}
	return layers, err
}

func TestLoadTellsOfTheRegistry(t *testing.T) {
	t.Parallel()
	for _, o := range engines {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.SharedDocker(t, o)
			h := hostAt(t, engine.Host, environment(t))
			h.options.Open = func(context.Context, string) (image.Artifact, error) {
				return image.Artifact{Image: brokenImage{hello(t)}}, nil
			}
			img := Image{Repository: "127.0.0.1:1/broken/image", Tag: "1"}
			want(t, h.load(t, "", img, &hostLog{}), fault.LoadFailed, errBroken.Error())
			if idOn(t, engine, img.Reference()) != "" {
				t.Error("the host has it all the same")
			}
		})
	}
}

// A layer whose content is not what its image says is the engine's to refuse.
func TestEngineRefusesWhatIsNotTheImage(t *testing.T) {
	t.Parallel()
	// An engine reads only what it has not got.
	mine, err := random.Layer(1000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	other, err := random.Layer(1000, types.OCILayer)
	if err != nil {
		t.Fatal(err)
	}
	img, err := mutate.AppendLayers(hello(t), mine)
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range engines {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			h := hostAt(t, buildtest.SharedDocker(t, o).Host, environment(t))
			h.options.Open = func(context.Context, string) (image.Artifact, error) {
				return image.Artifact{Image: swapped{img, other}}, nil
			}
			code := fault.LoadFailed
			if o.Containerd {
				// This store notices when it unpacks, which is for the first container.
				code = fault.HostSpecNotRun
			}
			want(t, h.load(t, "", Image{Repository: "127.0.0.1:1/swapped/image", Tag: "1"}, &hostLog{}), code)
		})
	}
}

// swapped is an image that hands out another layer's content.
type swapped struct {
	v1.Image
	layer v1.Layer
}

func (s swapped) Layers() ([]v1.Layer, error) {
	layers, err := s.Image.Layers()
	layers[len(layers)-1] = swappedLayer{layers[len(layers)-1], s.layer}
	return layers, err
}

type swappedLayer struct {
	v1.Layer
	other v1.Layer
}

func (s swappedLayer) Size() (int64, error)               { return s.other.Size() }
func (s swappedLayer) Compressed() (io.ReadCloser, error) { return s.other.Compressed() }
