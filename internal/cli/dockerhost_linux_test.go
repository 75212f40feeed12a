package cli_test

import (
	"context"
	"encoding/base64"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// compose is an Airbyte on a Docker host: like docker-compose's worker it takes the image that the host has, and has no
// credentials to pull another.
func compose(engine *buildtest.DockerEngine, images *registrytest.Registry, password string) sandbox.RunSpec {
	run := sandbox.PullAndRun(sandbox.PullOptions{Registry: images.Addr, Username: "publisher", Password: password})
	return func(ctx context.Context, ref string) (connector.SpecRun, error) {
		c, err := client.New(client.WithHost(engine.Host))
		if err != nil {
			return connector.SpecRun{}, err
		}
		defer func() { _ = c.Close() }()
		if _, err := c.ImageInspect(ctx, ref); err != nil {
			return connector.SpecRun{}, errors.New("Could not find image: " + ref)
		}
		return run(ctx, ref)
	}
}

// dockerHostWorld is a registry that wants credentials, and an Airbyte on a Docker host that is reached by ssh.
type dockerHostWorld struct {
	environment
	images *registrytest.Registry
	engine *buildtest.DockerEngine
	wire   *buildtest.Tap
	ssh    *buildtest.SSHHost
}

func startDockerHost(t *testing.T, o buildtest.DockerOptions) dockerHostWorld {
	t.Helper()
	w := dockerHostWorld{engine: buildtest.SharedDocker(t, o),
		images: registrytest.Start(t, registrytest.Config{Users: map[string]string{"publisher": registryPassword, "host": "the-hosts-own"}})}
	w.wire = w.engine.Tap(t)
	w.ssh = w.engine.SSH(t, w.wire.Path)
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{RunSpec: compose(w.engine, w.images, registryPassword)})
	w.environment = environment{
		"HOME": t.TempDir(), "PATH": w.ssh.Bin + ":" + os.Getenv("PATH"),
		"DOCKER_HOST":                         w.ssh.Address,
		"AIRBYTE_PUBLISH_AIRBYTE_URL":         airbyte.url,
		"AIRBYTE_PUBLISH_SOURCE":              "oci:" + layoutOf(t, "source-hello"),
		"AIRBYTE_PUBLISH_IMAGE":               w.images.Addr + "/" + strings.ToLower(filepath.Base(t.Name())) + "/source-hello",
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME":   "publisher",
		"AIRBYTE_PUBLISH_REGISTRY_PASSWORD":   registryPassword,
		"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP": "true",
	}
	return w
}

// silent looks for the publisher's password in all that reached the host.
func (w dockerHostWorld) silent(t *testing.T) {
	t.Helper()
	commands, err := os.ReadFile(w.ssh.Commands)
	if err != nil {
		t.Fatal(err)
	}
	if len(commands) == 0 || w.wire.String() == "" {
		t.Error("nothing was recorded on the host")
	}
	for _, form := range forms(t) {
		if strings.Contains(w.wire.String(), form) || strings.Contains(string(commands), form) {
			t.Error("the host got the publisher's credentials")
		}
	}
	// An engine takes them as a JSON document in base64.
	for _, line := range strings.Split(w.wire.String(), "\n") {
		if name, value, found := strings.Cut(line, ":"); found && strings.EqualFold(name, "X-Registry-Auth") {
			raw, err := base64.URLEncoding.DecodeString(strings.TrimSpace(value))
			if err != nil || strings.Contains(string(raw), "publisher") {
				t.Errorf("the host got the credentials %s, %v", raw, err)
			}
		}
	}
}

func TestDockerHostPullsBeforeRegistration(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			w := startDockerHost(t, o)
			connector := copyConnector(t, "source-hello", "1.0.0")
			// Airbyte itself can't tell why it has no image.
			bare := w.runBinary(t, connector)
			if bare.code != 1 || !strings.Contains(bare.stderr, "AP512") {
				t.Errorf("without it: %s", bare)
			}
			denied := w.runBinary(t, connector, "--verify-pull", "docker-host")
			if denied.code != 1 || !strings.Contains(denied.stderr, "AP621") || strings.Contains(denied.stderr, "AP512") {
				t.Errorf("without the host's credentials: %s", denied)
			}
			w.ssh.Login(t, w.images.Addr, base64.StdEncoding.EncodeToString([]byte("host:the-hosts-own")))
			for i, action := range []string{"created", "unchanged"} {
				got := w.runBinary(t, connector, "--verify-pull", "docker-host", "--output", "json")
				if got.code != 0 || got.result(t).Rows[0].Action != action || !strings.Contains(got.stderr, "AP627") {
					t.Fatalf("publish %d: %s", i, got)
				}
			}
			w.silent(t)
		})
	}
}

func TestLoadBeforeRegistration(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			w := startDockerHost(t, o)
			first := w.runBinary(t, copyConnector(t, "source-hello", "1.0.0"), "--load", "docker-host", "--output", "json")
			if first.code != 0 || first.result(t).Rows[0].Action != "created" || !strings.Contains(first.stderr, "loaded ") {
				t.Fatalf("publish: %s", first)
			}
			again := w.with("DOCKER_HOST", "", "AIRBYTE_PUBLISH_DOCKER_HOST", w.ssh.Address).runBinary(t, copyConnector(t, "source-hello", "1.0.0"), "--load", "docker-host", "--output", "json")
			if again.code != 0 || again.result(t).Rows[0].Action != "unchanged" || !strings.Contains(again.stderr, "already") {
				t.Fatalf("publish again: %s", again)
			}
			wrong := w.runBinary(t, copyConnector(t, "source-hello", "1.0.1"), "--load", "kind:airbyte-abctl")
			if wrong.code != 1 || !strings.Contains(wrong.stderr, "AP629") {
				t.Errorf("into a cluster that is not there: %s", wrong)
			}
			w.silent(t)
		})
	}
}

// TestLoadIntoAbctl publishes to an Airbyte in kind, whose node has no way to the registry.
func TestLoadIntoAbctl(t *testing.T) {
	t.Parallel()
	const node = "airbyte-abctl-control-plane"
	engine := buildtest.Docker(t, buildtest.DockerOptions{Modern: true, Containerd: true})
	engine.KindNode(t, node, "airbyte-abctl")
	images := registrytest.Start(t, registrytest.Config{})
	run := sandbox.PullAndRun(sandbox.PullOptions{})
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) {
		if _, listed := engine.Exec(t, node, "ctr", "--namespace=k8s.io", "images", "ls", "-q", "name=="+ref); !strings.Contains(listed, ref) {
			return connector.SpecRun{}, errors.New("ErrImagePull")
		}
		return run(ctx, ref)
	}})
	env := environment{"HOME": t.TempDir(), "PATH": os.Getenv("PATH"), "DOCKER_HOST": engine.Host,
		"AIRBYTE_PUBLISH_AIRBYTE_URL": airbyte.url, "AIRBYTE_PUBLISH_SOURCE": "oci:" + layoutOf(t, "source-hello"),
		"AIRBYTE_PUBLISH_IMAGE": images.Addr + "/acme/source-hello", "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP": "true"}
	dir := copyConnector(t, "source-hello", "1.0.0")
	if got := env.runBinary(t, dir); got.code != 1 || !strings.Contains(got.stderr, "AP512") {
		t.Errorf("without it: %s", got)
	}
	planned := env.runBinary(t, "plan", dir, "--load", "kind:airbyte-abctl", "--output", "json")
	if planned.code != 0 || !strings.Contains(planned.stdout, "load into the kind cluster airbyte-abctl") || strings.Contains(planned.stderr, "loaded ") {
		t.Errorf("plan: %s", planned)
	}
	for _, action := range []string{"created", "unchanged"} {
		got := env.runBinary(t, dir, "--load", "kind:airbyte-abctl", "--output", "json")
		if got.code != 0 || got.result(t).Rows[0].Action != action {
			t.Fatalf("it should be %s: %s", action, got)
		}
	}
}

// A build hands the publisher's credentials to its engine, which is not the one of Airbyte's host.
func TestNothingIsBuiltOnAirbytesHost(t *testing.T) {
	t.Parallel()
	w := startDockerHost(t, buildtest.DockerOptions{})
	dir := t.TempDir()
	write(t, filepath.Join(dir, "Dockerfile"), "FROM scratch\nENV AIRBYTE_ENTRYPOINT=/nothing\nENTRYPOINT [\"/nothing\"]\n")
	env := w.with("AIRBYTE_PUBLISH_SOURCE", "", "AIRBYTE_PUBLISH_CONNECTOR_TYPE", "source", "AIRBYTE_PUBLISH_TAG", "1.0.0", "AIRBYTE_PUBLISH_BUILDER", "docker")
	for _, flags := range [][]string{{"--verify-pull", "docker-host"}, {"--load", "kind:airbyte-abctl"}} {
		if got := env.runBinary(t, append(flags, dir)...); got.code != 1 || w.wire.String() != "" {
			t.Errorf("%q: Airbyte's host was asked %q: %s", flags, w.wire, got)
		}
	}
	// Without either, DOCKER_HOST is what builds.
	if got := env.runBinary(t, dir); w.wire.String() == "" {
		t.Errorf("DOCKER_HOST was not asked, so that this proves nothing: %s", got)
	}
}

// TestVerifyPullOnADockerHost is the verb, about images that are published already.
func TestVerifyPullOnADockerHost(t *testing.T) {
	t.Parallel()
	w := startDockerHost(t, buildtest.DockerOptions{})
	if got := w.runBinary(t, copyConnector(t, "source-hello", "1.0.0"), "--register=false"); got.code != 0 {
		t.Fatal(got)
	}
	published := w.environment["AIRBYTE_PUBLISH_IMAGE"] + ":1.0.0"
	env := w.with("AIRBYTE_PUBLISH_SOURCE", "", "AIRBYTE_PUBLISH_AIRBYTE_URL", "")
	denied := env.runBinary(t, "verify-pull", "--verify-pull", "docker-host", published)
	if denied.code != 1 || !strings.Contains(denied.stderr, "AP621") || !strings.Contains(denied.stdout, "AP621") {
		t.Errorf("without the host's credentials: %s", denied)
	}
	loaded := env.runBinary(t, "verify-pull", "--load", "docker-host", published)
	if loaded.code != 0 || !strings.Contains(loaded.stdout, published+": it is on the Docker host") {
		t.Errorf("load: %s", loaded)
	}
	w.ssh.Login(t, w.images.Addr, base64.StdEncoding.EncodeToString([]byte("host:the-hosts-own")))
	pulled := env.runBinary(t, "verify-pull", "--verify-pull", "docker-host", published, "--output", "json")
	if pulled.code != 0 || !strings.Contains(pulled.stdout, `"ok": true`) || !strings.Contains(pulled.stderr, "its own credentials") {
		t.Errorf("with the host's credentials: %s", pulled)
	}
	missing := env.runBinary(t, "verify-pull", "--verify-pull", "docker-host", w.environment["AIRBYTE_PUBLISH_IMAGE"]+":2.0.0")
	if missing.code != 1 || !strings.Contains(missing.stderr, "AP405") {
		t.Errorf("a tag that is not there: %s", missing)
	}
	w.silent(t)
}
