//go:build linux

package buildtest_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/moby/buildkit/client"
	docker "github.com/moby/moby/client"
	"github.com/tonistiigi/fsutil"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

func TestDocker(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			start := time.Now()
			d := buildtest.Docker(t, o)
			t.Logf("ready after %v", time.Since(start))
			registry := registrytest.Start(t, registrytest.Config{})
			base := buildtest.Busybox.Push(t, registry.Addr)
			dc, err := docker.New(docker.WithHost(d.Host))
			if err != nil {
				t.Fatal(err)
			}
			c, err := client.New(t.Context(), "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
				return dc.DialHijack(ctx, "/grpc", "h2c", nil)
			}), client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
				return dc.DialHijack(ctx, "/session", proto, meta)
			}))
			if err != nil {
				t.Fatal(err)
			}
			dir := t.TempDir()
			write(t, dir, "Dockerfile", "FROM "+base+"\nRUN id && ip a && cat /proc/1/cgroup && echo built > /built\n")
			mount, err := fsutil.NewFS(dir)
			if err != nil {
				t.Fatal(err)
			}
			name := registry.Addr + "/built:1"
			export := client.ExportEntry{Type: "moby", Attrs: map[string]string{"name": name}}
			if o.Containerd {
				export = client.ExportEntry{Type: "image", Attrs: map[string]string{"name": name, "push": "true"}}
			}
			status := make(chan *client.SolveStatus)
			go func() {
				for s := range status {
					for _, l := range s.Logs {
						t.Logf("%s", l.Data)
					}
				}
			}()
			resp, err := c.Solve(t.Context(), nil, client.SolveOpt{Frontend: "dockerfile.v0", Exports: []client.ExportEntry{export},
				LocalMounts: map[string]fsutil.FS{"context": mount, "dockerfile": mount}}, status)
			if err != nil {
				t.Fatal(err)
			}
			t.Log(resp.ExporterResponse, time.Since(start))
			if !o.Containerd {
				r, err := dc.ImagePush(t.Context(), name, docker.ImagePushOptions{RegistryAuth: "e30="})
				if err != nil {
					t.Fatal(err)
				}
				if err := r.Wait(t.Context()); err != nil {
					t.Fatal(err)
				}
			}
			t.Log(registry.Requests(t))
		})
	}
}
