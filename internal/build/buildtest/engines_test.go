//go:build linux

package buildtest_test

import (
	"archive/tar"
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/buildkit/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	docker "github.com/moby/moby/client"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// token is the secret that builds get.
const token = "a token"

// engine is a way to build, as plain clients go it.
type engine struct {
	buildkit *client.Client
	docker   *docker.Client // set for an engine that pushes by itself
}

// engines start every engine that there is here.
var engines = map[string]func(t *testing.T) engine{
	"buildkitd":                 func(t *testing.T) engine { return buildkitd(t, buildtest.BuildkitdOptions{}) },
	"buildkitd rootless":        func(t *testing.T) engine { return buildkitd(t, buildtest.BuildkitdOptions{Rootless: true}) },
	"buildkitd TLS":             func(t *testing.T) engine { return buildkitd(t, buildtest.BuildkitdOptions{TLS: true}) },
	"buildkitd rootless TLS":    func(t *testing.T) engine { return buildkitd(t, buildtest.BuildkitdOptions{Rootless: true, TLS: true}) },
	"docker debian":             func(t *testing.T) engine { return dockerEngine(t, buildtest.DockerOptions{}) },
	"docker modern graphdriver": func(t *testing.T) engine { return dockerEngine(t, buildtest.DockerOptions{Modern: true}) },
	"docker modern containerd": func(t *testing.T) engine {
		return dockerEngine(t, buildtest.DockerOptions{Modern: true, Containerd: true})
	},
}

func buildkitd(t *testing.T, o buildtest.BuildkitdOptions) engine {
	t.Helper()
	d := buildtest.Buildkitd(t, o)
	if !o.TLS {
		return engine{buildkit: connect(t, d.Address)}
	}
	if _, err := ask(t, d.TCPAddress); err == nil {
		t.Error("buildkitd takes a client without a certificate")
	}
	file := func(name string) string { return filepath.Join(d.TLSDir, name) }
	return engine{buildkit: connect(t, d.TCPAddress,
		client.WithServerConfig("127.0.0.1", file("ca.pem")), client.WithCredentials(file("cert.pem"), file("key.pem")))}
}

func connect(t *testing.T, address string, options ...client.ClientOpt) *client.Client {
	t.Helper()
	c, err := client.New(t.Context(), address, options...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// ask asks an engine for its workers.
func ask(t *testing.T, address string) ([]*client.WorkerInfo, error) {
	t.Helper()
	return connect(t, address).ListWorkers(t.Context())
}

func dockerEngine(t *testing.T, o buildtest.DockerOptions) engine {
	t.Helper()
	return throughDocker(t, buildtest.Docker(t, o), o)
}

// throughDocker builds with the BuildKit in a Docker engine.
func throughDocker(t *testing.T, d *buildtest.DockerEngine, o buildtest.DockerOptions) engine {
	t.Helper()
	c, err := docker.New(docker.WithHost(d.Host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	e := engine{buildkit: connect(t, "", client.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return c.DialHijack(ctx, "/grpc", "h2c", nil)
	}), client.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
		return c.DialHijack(ctx, "/session", proto, meta)
	}))}
	if !o.Containerd {
		e.docker = c
	}
	return e
}

// solve builds a folder with a Dockerfile. The output of its commands goes to log.
func (e engine) solve(
	ctx context.Context, dir string, args map[string]string, log io.Writer, exports ...client.ExportEntry,
) error {
	mount, err := fsutil.NewFS(dir)
	if err != nil {
		return err
	}
	// The engine's own frontend takes the Dockerfile, not the one of its syntax line, which would have to be pulled.
	attrs := map[string]string{"cmdline": "builtin"}
	for name, value := range args {
		attrs["build-arg:"+name] = value
	}
	status := make(chan *client.SolveStatus)
	var group errgroup.Group
	group.Go(func() error {
		for s := range status {
			for _, l := range s.Logs {
				_, _ = log.Write(l.Data)
			}
		}
		return nil
	})
	_, err = e.buildkit.Solve(ctx, nil, client.SolveOpt{
		Frontend:      "dockerfile.v0",
		FrontendAttrs: attrs,
		Exports:       exports,
		LocalMounts:   map[string]fsutil.FS{"context": mount, "dockerfile": mount},
		Session:       []session.Attachable{secretsprovider.FromMap(map[string][]byte{"token": []byte(token)})},
	}, status)
	_ = group.Wait()
	return err
}

// publish builds a folder with a Dockerfile and pushes the result.
func (e engine) publish(ctx context.Context, dir, target string, args map[string]string) error {
	export := client.ExportEntry{Type: client.ExporterImage, Attrs: map[string]string{"name": target, "push": "true"}}
	if e.docker != nil {
		export = client.ExportEntry{Type: "moby", Attrs: map[string]string{"name": target}}
	}
	var log bytes.Buffer
	if err := e.solve(ctx, dir, args, &log, export); err != nil {
		return fmt.Errorf("%w\n%s", err, &log)
	}
	if e.docker == nil {
		return nil
	}
	pushed, err := e.docker.ImagePush(ctx, target, docker.ImagePushOptions{RegistryAuth: "e30="})
	if err != nil {
		return err
	}
	return pushed.Wait(ctx)
}

// pulled reads an image back from its registry: its configuration and its files.
func pulled(t *testing.T, reference string) (*v1.ConfigFile, map[string][]byte) {
	t.Helper()
	parsed, err := name.ParseReference(reference)
	if err != nil {
		t.Fatal(err)
	}
	img, err := remote.Image(parsed, remote.WithPlatform(v1.Platform{OS: "linux", Architecture: "amd64"}))
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	content := mutate.Extract(img)
	defer content.Close()
	files := map[string][]byte{}
	for r := tar.NewReader(content); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return config, files
		}
		if err != nil {
			t.Fatal(err)
		}
		if files[strings.Trim(h.Name, "/")], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// TestEngines publishes through every engine: each pulls from a registry on loopback, runs commands in a container, and
// pushes to the registry.
func TestEngines(t *testing.T) {
	t.Parallel()
	for name, start := range engines {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			registry := registrytest.Start(t, registrytest.Config{})
			dir := t.TempDir()
			write(t, dir, "Dockerfile", "# syntax=docker/dockerfile:1\nFROM "+buildtest.Busybox.Push(t, registry.Addr)+
				"\nRUN id -u >/said && id -u airbyte >>/said\nUSER airbyte\n")
			target := registry.Addr + "/built:1"
			if err := start(t).publish(t.Context(), dir, target, nil); err != nil {
				t.Fatal(err)
			}
			config, files := pulled(t, target)
			if config.OS != "linux" || config.Architecture != "amd64" || config.Config.User != "airbyte" {
				t.Errorf("the image is for %s/%s and runs as %q", config.OS, config.Architecture, config.Config.User)
			}
			if got := string(files["said"]); got != "0\n1000\n" {
				t.Errorf("the command wrote %q", got)
			}
		})
	}
}

// TestConnectors builds the connectors of testdata that have Dockerfiles.
func TestConnectors(t *testing.T) {
	t.Parallel()
	e := engine{buildkit: connect(t, buildtest.Shared(t).Address)}
	registry := registrytest.Start(t, registrytest.Config{})
	publish := func(t *testing.T, connector string, args map[string]string) map[string][]byte {
		t.Helper()
		target := registry.Addr + "/" + connector + ":1"
		if err := e.publish(t.Context(), filepath.Join("../../../testdata/connectors", connector), target, args); err != nil {
			t.Fatal(err)
		}
		config, files := pulled(t, target)
		if config.Config.User != "1000:1000" || len(config.Config.Entrypoint) != 1 {
			t.Errorf("the image runs %q as %q", config.Config.Entrypoint, config.Config.User)
		}
		return files
	}
	t.Run("go", func(t *testing.T) {
		t.Parallel()
		files := publish(t, "source-go-docker", map[string]string{
			"BASE": buildtest.Busybox.Push(t, registry.Addr), "BASE_GO": buildtest.Golang.Push(t, registry.Addr), "VERSION": "1.2.3",
		})
		program := filepath.Join(t.TempDir(), "source-numbers")
		if err := os.WriteFile(program, files["airbyte/source-numbers"], 0o755); err != nil {
			t.Fatal(err)
		}
		cmd := exec.Command(program, "spec")
		cmd.Env = []string{"NUMBERS_VERBOSE=1"}
		out, err := cmd.CombinedOutput()
		if err != nil || !bytes.Contains(out, []byte(`"type":"SPEC"`)) || !bytes.Contains(out, []byte("source-numbers 1.2.3")) {
			t.Errorf("the connector says %q, %v", out, err)
		}
	})
	t.Run("python", func(t *testing.T) {
		t.Parallel()
		files := publish(t, "source-python-docker", map[string]string{"BASE": buildtest.Python.Push(t, registry.Addr)})
		var got []string
		for path := range files {
			if rest, ok := strings.CutPrefix(path, "airbyte/integration_code/"); ok && !strings.Contains(rest, "__pycache__") {
				got = append(got, rest)
			}
		}
		slices.Sort(got)
		if want := []string{"data", "data/regions.csv", "main.py", "token.sha256"}; !slices.Equal(got, want) {
			t.Errorf("the image has %q of the connector, want %q", got, want)
		}
		want := fmt.Sprintf("%x\n", sha256.Sum256([]byte(token)))
		if got := string(files["airbyte/integration_code/token.sha256"]); got != want {
			t.Errorf("the secret's hash is %q, want %q", got, want)
		}
	})
}

// TestBuildkitContainer reaches a buildkitd as buildx reaches one in a container.
func TestBuildkitContainer(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.Docker(t, o)
			engine.BuildkitContainer(t, "buildx_buildkit_builder0", buildtest.Shared(t))
			c, err := docker.New(docker.WithHost(engine.Host))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			created, err := c.ExecCreate(t.Context(), "buildx_buildkit_builder0", docker.ExecCreateOptions{
				Cmd: []string{"buildctl", "debug", "workers"}, AttachStdout: true, AttachStderr: true,
			})
			if err != nil {
				t.Fatal(err)
			}
			attached, err := c.ExecAttach(t.Context(), created.ID, docker.ExecAttachOptions{})
			if err != nil {
				t.Fatal(err)
			}
			defer attached.Close()
			out, err := io.ReadAll(attached.Reader)
			if err != nil || !bytes.Contains(out, []byte("linux/amd64")) {
				t.Errorf("buildctl in the container says %q, %v", out, err)
			}
		})
	}
}
