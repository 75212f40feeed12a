//go:build !race

package cli_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// toolName is the image's name in the store of a Docker engine.
const toolName = "ghcr.io/airbyte-publish/airbyte-publish:1"

// container runs this program's image as a CI does: with the job's folder, its environment, and no Docker socket.
type container struct {
	environment
	engine *buildtest.DockerEngine
	// options are those of "docker run".
	options []string
}

// startContainers loads the image into Debian's Docker engine.
func startContainers(t testing.TB, env environment) container {
	t.Helper()
	if _, err := exec.LookPath("docker"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skipf("NOT TESTED, there is no docker command: %v", err)
	}
	c := container{environment: maps.Clone(env), engine: buildtest.SharedDocker(t, buildtest.DockerOptions{})}
	// These are the image's own business.
	for _, name := range []string{"HOME", "PATH", "TMPDIR", "DOCKER_HOST"} {
		delete(c.environment, name)
	}
	c.engine.Load(t, toolName, toolImage(t))
	return c
}

// with returns a copy with more options of "docker run".
func (c container) with(options ...string) container {
	c.options = slices.Concat(c.options, options)
	return c
}

// run runs the image with dir as its working directory.
func (c container) run(t testing.TB, dir string, args ...string) outcome {
	t.Helper()
	return docker(t, c.engine, c.arguments(dir, args...)...)
}

func (c container) arguments(dir string, args ...string) []string {
	command := []string{"run", "--rm", "--network", "host", "--volume", dir + ":" + dir, "--workdir", dir}
	for _, name := range slices.Sorted(maps.Keys(c.environment)) {
		command = append(command, "--env", name+"="+c.environment[name])
	}
	return slices.Concat(command, c.options, []string{toolName}, args)
}

func docker(t testing.TB, engine *buildtest.DockerEngine, args ...string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "docker", args...)
	cmd.Env = []string{"DOCKER_HOST=" + engine.Host, "PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir()}
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// published checks that a run has published one connector.
func (o outcome) published(t *testing.T, action string) {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o)
	}
	if row := o.result(t).Rows[0]; row.Action != action || row.Digest == "" || row.DefinitionID == "" {
		t.Errorf("%+v\n%s", row, o)
	}
}

// TestImageHasWhatJobsNeed starts the image in the ways in which CIs do.
func TestImageHasWhatJobsNeed(t *testing.T) {
	t.Parallel()
	c := startContainers(t, environment{})
	dir := t.TempDir()
	for name, tc := range map[string]struct {
		options, args []string
		code          int
		phrase        string
	}{
		"no arguments":      {nil, nil, 2, "airbyte-publish --help"},
		"version":           {nil, []string{"version"}, 0, "devel"},
		"gitlab's shell":    {[]string{"--entrypoint", ""}, []string{"sh", "-c", "echo 'a b' | grep -c b && command -v airbyte-publish"}, 0, "1\n/usr/local/bin/airbyte-publish\n"},
		"git":               {[]string{"--entrypoint", "git"}, []string{"--version"}, 0, "git version"},
		"git over https":    {[]string{"--entrypoint", "git"}, []string{"ls-remote", "https://127.0.0.1:1/x"}, 128, "unable to access"},
		"certificates":      {[]string{"--entrypoint", "grep"}, []string{"-c", "BEGIN CERTIFICATE", "/etc/ssl/certs/ca-certificates.crt"}, 0, "\n"},
		"buildkitd":         {[]string{"--entrypoint", "buildkitd"}, []string{"--version"}, 0, "buildkitd"},
		"an ordinary user":  {[]string{"--user", "1000", "--entrypoint", "sh"}, []string{"-c", "id -u && airbyte-publish version"}, 0, "1000\n"},
		"a user of a host":  {[]string{"--user", "115"}, []string{"version"}, 0, "devel"},
		"read-only root fs": {[]string{"--read-only"}, []string{"version"}, 0, "devel"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.with(tc.options...).run(t, dir, tc.args...)
			if o.code != tc.code || !strings.Contains(o.stdout+o.stderr, tc.phrase) {
				t.Errorf("exit code %d, want %d and %q\n%s", o.code, tc.code, tc.phrase, o)
			}
		})
	}
}

// TestImagePublishes is the main job inside a container that has no Docker socket and no rights beyond a container's own.
func TestImagePublishes(t *testing.T) {
	t.Parallel()
	b := startBuilds(t, buildtest.Busybox, buildtest.Golang)
	c := startContainers(t, b.environment)

	t.Run("an image that exists", func(t *testing.T) {
		t.Parallel()
		c := container{environment: c.environment.with("AIRBYTE_PUBLISH_SOURCE", "oci:image"), engine: c.engine}
		dir := copyConnector(t, "source-hello", "1.0.0")
		if err := os.CopyFS(filepath.Join(dir, "image"), os.DirFS(layoutOf(t, "source-hello"))); err != nil {
			t.Fatal(err)
		}
		c.run(t, dir, "publish", "--output", "json").published(t, "created")
		c.run(t, dir, "publish", "--output", "json").published(t, "unchanged")
	})
	t.Run("manifest-only", func(t *testing.T) {
		t.Parallel()
		base := pushBase(t, b.images.Addr+"/airbyte/source-declarative-manifest", "publisher", "password-of-the-publisher")
		dir, err := connectors.WithBase(t.Context(), t.TempDir(), base)
		if err != nil {
			t.Fatal(err)
		}
		c.run(t, dir, "publish", "--output", "json").published(t, "created")
	})
	t.Run("remote BuildKit", func(t *testing.T) {
		t.Parallel()
		remote := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{TLS: true})
		address := remote.TCPAddress + "?cacert=/certs/ca.pem&cert=/certs/cert.pem&key=/certs/key.pem"
		c := container{environment: c.environment.with("AIRBYTE_PUBLISH_BUILDKIT_HOST", address, "AIRBYTE_PUBLISH_NAME", "Remote"), engine: c.engine}
		dir := copyConnector(t, "source-go-docker", "1.0.0")
		c.with("--volume", remote.TLSDir+":/certs:ro").run(t, dir, "publish", "--output", "json").published(t, "created")
	})
	t.Run("no engine", func(t *testing.T) {
		t.Parallel()
		dir := copyConnector(t, "source-go-docker", "2.0.0")
		o := c.run(t, dir, "publish", "--output", "json")
		if row := o.result(t).Rows[0]; o.code != 1 || row.Code != "AP401" || row.Pushed {
			t.Errorf("exit code %d\n%s", o.code, o)
		}
	})
	t.Run("as a GitHub action", func(t *testing.T) {
		t.Parallel()
		dir := copyConnector(t, "source-hello", "1.0.0")
		if err := os.CopyFS(filepath.Join(dir, "image"), os.DirFS(layoutOf(t, "source-hello"))); err != nil {
			t.Fatal(err)
		}
		env := environment{"GITHUB_ACTIONS": "true", "HOME": "/github/home", "INPUT_SOURCE": "oci:image", "INPUT_NAME": "Action",
			"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary.md"),
			"INPUT_IMAGE": b.images.Addr + "/action/{connector}"}
		for _, name := range []string{"AIRBYTE_URL", "REGISTRY_USERNAME", "REGISTRY_PASSWORD", "REGISTRY_PLAIN_HTTP"} {
			env["INPUT_"+strings.ReplaceAll(name, "_", "-")] = c.environment["AIRBYTE_PUBLISH_"+name]
		}
		// The runner makes these files before it starts a step.
		write(t, env["GITHUB_OUTPUT"], "")
		write(t, env["GITHUB_STEP_SUMMARY"], "")
		o := container{environment: env, engine: c.engine}.run(t, dir)
		output, err := os.ReadFile(env["GITHUB_OUTPUT"])
		if o.code != 0 || err != nil || !strings.Contains(string(output), "sha256:") || !strings.Contains(o.stdout, "::group::") {
			t.Errorf("exit code %d, outputs %q, %v\n%s", o.code, output, err, o)
		}
	})
	for _, user := range []string{"0", "1000"} {
		// Docker's own filter of system calls forbids new namespaces.
		t.Run("own BuildKit as user "+user, func(t *testing.T) {
			t.Parallel()
			c := container{environment: c.environment.with("AIRBYTE_PUBLISH_IMAGE", b.images.Addr+"/own-"+user+"/{connector}",
				"AIRBYTE_PUBLISH_NAME", "Own "+user), engine: c.engine}
			dir := copyConnector(t, "source-go-docker", "1.0.0")
			o := c.with("--security-opt", "seccomp=unconfined", "--security-opt", "apparmor=unconfined", "--user", user).run(t, dir, "publish", "--output", "json")
			o.published(t, "created")
			t.Log(o.stderr)
		})
	}
}
