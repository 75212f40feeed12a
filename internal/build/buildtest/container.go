//go:build linux

package buildtest

import (
	"context"
	"io"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// BuildkitContainer starts a container of a Docker engine that stands for one of moby/buildkit's: it has buildctl, and
// buildkitd's socket where buildctl looks for it. The buildkitd itself is one that runs outside, because one in a
// container needs more privileges than every machine has to give. buildx names its containers buildx_buildkit_<node>.
// The container ends with the test.
func (d *DockerEngine) BuildkitContainer(t testing.TB, containerName string, b *Daemon) {
	t.Helper()
	c, err := client.New(client.WithHost(d.Host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	image := d.load(t, c, Busybox)
	created, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name:   containerName,
		Config: &container.Config{Image: image, Cmd: []string{"sh", "-c", "while :; do sleep 3600; done"}},
		HostConfig: &container.HostConfig{NetworkMode: "none", Binds: []string{
			filepath.Dir(b.Address[len("unix://"):]) + ":/run/buildkit",
			filepath.Join(Programs(t), "buildctl") + ":/usr/bin/buildctl:ro",
		}},
	})
	if err != nil {
		t.Fatalf("create the container %s: %v", containerName, err)
	}
	t.Cleanup(func() {
		// The engine may have been killed by its test, with all that it ran.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, _ = c.ContainerRemove(ctx, created.ID, client.ContainerRemoveOptions{Force: true})
	})
	if _, err := c.ContainerStart(t.Context(), created.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatalf("start the container %s: %v", containerName, err)
	}
}

// load puts a base image into an engine's store and returns its name there.
func (d *DockerEngine) load(t testing.TB, c *client.Client, b Base) string {
	t.Helper()
	reference := "buildtest/" + filepath.Base(string(b)) + ":1"
	loadImage(t, c, reference, b.Image(t))
	return reference
}

// Load puts an image into the engine's store under a name, as "docker load" does.
func (d *DockerEngine) Load(t testing.TB, reference string, img v1.Image) {
	t.Helper()
	c, err := client.New(client.WithHost(d.Host))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	loadImage(t, c, reference, img)
}

func loadImage(t testing.TB, c *client.Client, reference string, img v1.Image) {
	t.Helper()
	tag, err := name.NewTag(reference)
	if err != nil {
		t.Fatal(err)
	}
	read, write := io.Pipe()
	go func() { write.CloseWithError(tarball.Write(tag, img, write)) }()
	loaded, err := c.ImageLoad(t.Context(), read)
	if err != nil {
		t.Fatalf("load %s: %v", tag, err)
	}
	defer loaded.Close()
	if _, err := io.Copy(io.Discard, loaded); err != nil {
		t.Fatalf("load %s: %v", tag, err)
	}
}
