//go:build linux

package buildtest

import (
	"bytes"
	"context"
	"testing"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"
)

// KindNode starts a container that stands for a node of a kind cluster, as abctl has one: it is named and labelled as
// kind's, and Debian's containerd, with its CRI plug-in, runs in it at the usual place. There is no kubelet. The
// container ends with the test.
func (d *DockerEngine) KindNode(t testing.TB, name, cluster string) {
	t.Helper()
	lookPath(t, "ctr", "containerd")
	c, err := client.New(client.WithHost(d.Host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	image := d.load(t, c, Busybox)
	created, err := c.ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Name: name,
		Config: &container.Config{Image: image, Cmd: []string{"/usr/bin/containerd"}, Env: []string{"PATH=" + systemPath},
			Labels: map[string]string{"io.x-k8s.kind.cluster": cluster, "io.x-k8s.kind.role": "control-plane"}},
		HostConfig: &container.HostConfig{NetworkMode: "none",
			// Not privileged, because not every machine has all capabilities to give.
			CapAdd: []string{"SYS_ADMIN"}, SecurityOpt: []string{"seccomp=unconfined", "apparmor=unconfined"},
			Tmpfs: map[string]string{"/run": "", "/var/lib/containerd": "", "/tmp": ""},
			// containerd and ctr are this machine's, with the libraries that they need.
			Binds: []string{"/usr:/usr:ro", "/lib:/lib:ro", "/lib64:/lib64:ro"}},
	})
	if err != nil {
		t.Fatalf("create the container %s: %v", name, err)
	}
	t.Cleanup(func() {
		// The engine may have been killed by its test, with all that it ran.
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		_, _ = c.ContainerRemove(ctx, created.ID, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
	})
	if _, err := c.ContainerStart(t.Context(), created.ID, client.ContainerStartOptions{}); err != nil {
		t.Fatalf("start the container %s: %v", name, err)
	}
	deadline := time.Now().Add(startTime)
	for {
		code, out := d.Exec(t, name, "ctr", "version")
		if code == 0 {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("containerd in %s does not answer: %s", name, out)
		}
		time.Sleep(100 * time.Millisecond)
	}
}

// Exec runs a command in a container of the engine and returns its exit code and what it printed.
func (d *DockerEngine) Exec(t testing.TB, containerName string, command ...string) (int, string) {
	t.Helper()
	c, err := client.New(client.WithHost(d.Host))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	created, err := c.ExecCreate(t.Context(), containerName, client.ExecCreateOptions{Cmd: command, AttachStdout: true, AttachStderr: true})
	if err != nil {
		t.Fatalf("run %q in %s: %v", command, containerName, err)
	}
	attached, err := c.ExecAttach(t.Context(), created.ID, client.ExecAttachOptions{})
	if err != nil {
		t.Fatalf("run %q in %s: %v", command, containerName, err)
	}
	defer attached.Close()
	var out bytes.Buffer
	if _, err := stdcopy.StdCopy(&out, &out, attached.Reader); err != nil {
		t.Fatalf("run %q in %s: %v", command, containerName, err)
	}
	inspected, err := c.ExecInspect(t.Context(), created.ID, client.ExecInspectOptions{})
	if err != nil {
		t.Fatal(err)
	}
	return inspected.ExitCode, out.String()
}
