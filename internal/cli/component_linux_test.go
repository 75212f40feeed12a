//go:build !race

package cli_test

import (
	"bytes"
	"errors"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// pipelineSecret is a masked variable of the project.
const pipelineSecret = "client-secret-3f9a"

// pipeline is a project that includes the GitLab component, and what gitlab-ci-local needs to run it.
type pipeline struct {
	dir string
	// variables are the project's, as its settings have them; masked ones are among them.
	variables map[string]string
	// env is added to the runner's own environment.
	env  environment
	args []string
}

// show is a later job that uses what the component reports.
const show = `
show:
  stage: after
  needs: [publish-connector]
  script:
    - echo "released $AIRBYTE_PUBLISHED_TAG as $AIRBYTE_PUBLISHED_DIGEST, definition $AIRBYTE_PUBLISHED_DEFINITION_ID"
    - grep -c Airbyte airbyte-publish.md
`

// newPipeline makes a project with a .gitlab-ci.yml of these inputs, at a git tag. The component lies where
// gitlab-ci-local keeps what it has fetched.
func newPipeline(t testing.TB, b builds, inputs string) *pipeline {
	t.Helper()
	p := &pipeline{dir: t.TempDir(), env: environment{}, variables: map[string]string{
		"GITLAB_CI": "true", "CI_COMMIT_TAG": "v1.4.0",
		// What the component has no inputs for.
		"AIRBYTE_PUBLISH_REGISTRY_PASSWORD":     b.environment["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"],
		"AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET": pipelineSecret,
	}}
	component, err := os.ReadFile(filepath.Join("..", "..", "templates", "publish.yml"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(p.dir, ".gitlab-ci-local/includes/gitlab.com/airbyte-publish/airbyte-publish/1.0.0/templates/publish.yml"), string(component))
	write(t, filepath.Join(p.dir, ".gitignore"), ".gitlab-ci-local\n")
	write(t, filepath.Join(p.dir, ".gitlab-ci.yml"), fmt.Sprintf(`stages: [deploy, after]
include:
  - component: $CI_SERVER_FQDN/airbyte-publish/airbyte-publish/publish@1.0.0
    inputs:
      registry-plain-http: true
      registry-username: %s
      airbyte-url: %s
      airbyte-client-id: client
%s`, b.environment["AIRBYTE_PUBLISH_REGISTRY_USERNAME"], b.airbyte.url, inputs)+show)
	return p
}

// commit makes a repository of the project.
func (p *pipeline) commit(t testing.TB) {
	t.Helper()
	for _, args := range [][]string{{"init", "-q", "-b", "main"}, {"remote", "add", "origin", "https://gitlab.com/acme/connectors.git"}, {"add", "-A"},
		{"-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "Begin"}} {
		p.git(t, args...)
	}
}

// git runs git in the project and returns what it printed.
func (p *pipeline) git(t testing.TB, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir = p.dir
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %v: %v\n%s", args, err, out)
	}
	return strings.TrimSpace(string(out))
}

// run runs the whole pipeline.
func (p *pipeline) run(t testing.TB) outcome {
	t.Helper()
	home := t.TempDir()
	args := slices.Concat([]string{"--home", home, "--fetch-includes", "false", "--shell-isolation", "--artifacts-to-source", "false",
		"--ignore-predefined-vars", "GITLAB_CI,CI_PROJECT_DIR,CI_PIPELINE_SOURCE"}, p.args)
	for _, name := range slices.Sorted(maps.Keys(p.variables)) {
		args = append(args, "--variable", name+"="+p.variables[name])
	}
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), buildtest.GitLabCILocal(t), args...)
	cmd.Env = []string{"HOME=" + home, "TMPDIR=" + home, "PATH=" + os.Getenv("PATH"), "NO_COLOR=1"}
	for _, name := range slices.Sorted(maps.Keys(p.env)) {
		cmd.Env = append(cmd.Env, name+"="+p.env[name])
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = p.dir, &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

// released is what the later job prints.
var released = regexp.MustCompile(`released 1\.4\.0 as (sha256:[0-9a-f]{64}), definition ([0-9a-f-]{36})`)

// reported checks that the later job saw the outputs of the component, and that they are what Airbyte holds.
func (b builds) reported(t testing.TB, o outcome) {
	t.Helper()
	if o.code != 0 {
		t.Fatalf("exit code %d\n%s", o.code, o)
	}
	told := released.FindStringSubmatch(o.stdout)
	if told == nil {
		t.Fatalf("the later job prints no outputs\n%s", o)
	}
	held := b.airbyte.Definitions()
	if len(held) != 1 || held[0].ID != told[2] || held[0].Tag != "1.4.0" {
		t.Errorf("the later job prints %q, and Airbyte holds %+v", told[0], held)
	}
	// This is what gitlab-ci-local makes of a section's two marks.
	if !strings.Contains(o.stdout, "airbyte_publish_2_plan_started") || !strings.Contains(o.stdout, "airbyte_publish_2_plan took") {
		t.Errorf("the log has no sections\n%s", o)
	}
	for _, secret := range []string{pipelineSecret, b.environment["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"]} {
		if strings.Contains(o.String(), secret) {
			t.Errorf("a secret was printed\n%s", o)
		}
	}
}

// startPipelines is startBuilds with an Airbyte that wants the secrets which pipelines have.
func startPipelines(t testing.TB, bases ...buildtest.Base) builds {
	t.Helper()
	b := startBuilds(t, bases...)
	b.airbyte = startAirbyte(t, sandbox.AirbyteOptions{
		Auth: sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: pipelineSecret},
		RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: b.images.Addr,
			Username: b.environment["AIRBYTE_PUBLISH_REGISTRY_USERNAME"], Password: b.environment["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"]}),
	})
	return b
}

// addHello adds a connector with an image that exists.
func (p *pipeline) addHello(t *testing.T, folder string) {
	t.Helper()
	if err := os.CopyFS(filepath.Join(p.dir, folder), os.DirFS(copyConnector(t, "source-hello", "1.4.0"))); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(filepath.Join(p.dir, folder, "image"), os.DirFS(layoutOf(t, "source-hello"))); err != nil {
		t.Fatal(err)
	}
}

// TestComponentInAShell runs the component by GitLab's shell executor, with the program on PATH.
func TestComponentInAShell(t *testing.T) {
	t.Parallel()
	b := startPipelines(t)
	p := newPipeline(t, b, "      connectors: [source-hello]\n      source: oci:source-hello/image\n      image: "+b.images.Addr+"/shell/{connector}\n"+
		"      extra-tags: [latest, stable]\n")
	p.addHello(t, "source-hello")
	p.commit(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p.env["PATH"] = filepath.Dir(path) + ":" + os.Getenv("PATH")
	p.args = append(p.args, "--force-shell-executor")
	// gitlab-ci-local names the folder of a container here, as the job has an image. GitLab's runner names the one that the
	// script starts in.
	p.variables["CI_PROJECT_DIR"] = "."
	o := p.run(t)
	b.reported(t, o)
	for _, tag := range []string{"tag latest", "tag stable"} {
		if !strings.Contains(o.stdout, tag) {
			t.Errorf("the list extra-tags did not arrive: no %q\n%s", tag, o)
		}
	}
}

// block is the first YAML example of a page behind a heading.
func block(t testing.TB, page, heading string) string {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", page))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), heading+"\n")
	example := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindStringSubmatch(rest)
	if !found || example == nil {
		t.Fatalf("%s has no example below %q", page, heading)
	}
	return example[1]
}

// documented makes a project of what the pages show, with a connector in connectors/source-erp. What only stand-ins need is
// set as the project's variables, which count for more than inputs.
func documented(t *testing.T, b builds, pipelines ...string) *pipeline {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	p := newPipeline(t, b, "")
	text := strings.NewReplacer("publish@1\n", "publish@1.0.0\n", "https://airbyte.acme.example", b.airbyte.url).Replace(strings.Join(pipelines, ""))
	write(t, filepath.Join(p.dir, ".gitlab-ci.yml"), text)
	p.addHello(t, "connectors/source-erp")
	p.commit(t)
	delete(p.variables, "AIRBYTE_PUBLISH_REGISTRY_PASSWORD")
	maps.Copy(p.variables, map[string]string{
		"CI_REGISTRY": b.images.Addr, "CI_REGISTRY_IMAGE": b.images.Addr + "/acme/connectors", "CI_REGISTRY_USER": b.environment["AIRBYTE_PUBLISH_REGISTRY_USERNAME"],
		"CI_REGISTRY_PASSWORD": b.environment["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"], "AIRBYTE_CLIENT_ID": "client", "CI_PROJECT_DIR": ".",
		"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP": "true", "AIRBYTE_PUBLISH_SOURCE": "oci:connectors/source-erp/image",
	})
	p.env["PATH"] = filepath.Dir(path) + ":" + os.Getenv("PATH")
	p.args = append(p.args, "--force-shell-executor")
	return p
}

// TestComponentAsDocumented runs the pipelines that the README and the page on GitLab show, each with the later job of the
// page.
func TestComponentAsDocumented(t *testing.T) {
	t.Parallel()
	for page, heading := range map[string]string{"README.md": "### GitLab CI", "docs/ci/gitlab.md": "## The smallest pipeline"} {
		t.Run(page, func(t *testing.T) {
			t.Parallel()
			b := startPipelines(t)
			o := documented(t, b, "stages: [deploy, .post]\n", block(t, page, heading), block(t, "docs/ci/gitlab.md", "## Later jobs")).run(t)
			held := b.airbyte.Definitions()
			if o.code != 0 || len(held) != 1 || held[0].Tag != "1.4.0" ||
				!regexp.MustCompile(`/acme/connectors/source-erp:1\.4\.0 is sha256:[0-9a-f]{64}, definition `+held[0].ID).MatchString(o.stdout) {
				t.Errorf("exit code %d, Airbyte holds %+v\n%s", o.code, held, o)
			}
		})
	}
	t.Run("a plan in a merge request", func(t *testing.T) {
		t.Parallel()
		b := startPipelines(t)
		p := documented(t, b, "stages: [test]\n", block(t, "docs/ci/gitlab.md", "## Plan in merge requests"))
		delete(p.variables, "CI_COMMIT_TAG")
		p.variables["CI_PIPELINE_SOURCE"] = "merge_request_event"
		if o := p.run(t); o.code != 0 || len(b.airbyte.Definitions()) != 0 || !strings.Contains(o.stdout, "1 would be created") {
			t.Errorf("exit code %d\n%s", o.code, o)
		}
	})
	t.Run("what changed with a merge", func(t *testing.T) {
		t.Parallel()
		b := startPipelines(t)
		p := documented(t, b, "stages: [deploy]\n", block(t, "docs/monorepo.md", "## Not on GitHub"))
		p.rename(t, "source-erp")
		p.variables["CI_COMMIT_BEFORE_SHA"] = p.git(t, "rev-parse", "HEAD")
		p.addHello(t, "connectors/source-crm")
		p.rename(t, "source-crm")
		delete(p.variables, "CI_COMMIT_TAG")
		maps.Copy(p.variables, map[string]string{"CI_COMMIT_BRANCH": "main", "CI_DEFAULT_BRANCH": "main",
			"AIRBYTE_PUBLISH_SOURCE": "oci:connectors/{connector}/image"})
		o := p.run(t)
		held := b.airbyte.Definitions()
		if o.code != 0 || len(held) != 1 || !strings.HasSuffix(held[0].Repository, "/acme/connectors/source-crm") ||
			!strings.Contains(o.stdout, "passed over: connectors/source-erp") {
			t.Errorf("exit code %d, Airbyte holds %+v\n%s", o.code, held, o)
		}
	})
	for tag, published := range map[string]int{"source-erp/v1.4.0": 1, "source-erp-v1.4.0": 1, "source-crm/v1.4.0": 0} {
		t.Run("the tag "+tag, func(t *testing.T) {
			t.Parallel()
			b := startPipelines(t)
			p := documented(t, b, "stages: [deploy]\n", block(t, "docs/monorepo.md", "For a tag for each connector, include the component once per connector:"))
			p.rename(t, "source-erp")
			p.variables["CI_COMMIT_TAG"] = tag
			o := p.run(t)
			held := b.airbyte.Definitions()
			if len(held) != published || published == 1 && (o.code != 0 || !strings.HasSuffix(held[0].Repository, "/acme/connectors/source-erp")) {
				t.Errorf("exit code %d, Airbyte holds %+v\n%s", o.code, held, o)
			}
		})
	}
}

// rename gives a connector's image the name of its folder, and commits that.
func (p *pipeline) rename(t testing.TB, name string) {
	t.Helper()
	file := filepath.Join(p.dir, "connectors", name, "metadata.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	write(t, file, strings.NewReplacer("source-hello", name, "name: Hello", "name: "+name).Replace(string(text)))
	p.git(t, "add", "-A")
	p.git(t, "-c", "user.name=Test", "-c", "user.email=test@example.com", "commit", "-q", "-m", "Rename")
}

// TestComponentWithDockerInDocker reads what GitLab makes of the job. The service itself takes a privileged container.
func TestComponentWithDockerInDocker(t *testing.T) {
	t.Parallel()
	b := startPipelines(t)
	p := newPipeline(t, b, "      docker-in-docker: true\n      job-name: publish-connector\n")
	p.commit(t)
	p.args = append(p.args, "--preview")
	o := p.run(t)
	for _, phrase := range []string{"docker:29-dind", "alias: docker", "DOCKER_HOST: tcp://docker:2376", "DOCKER_CERT_PATH: /certs/client", "AIRBYTE_PUBLISH_AIRBYTE_URL: |"} {
		if o.code != 0 || !strings.Contains(o.stdout, phrase) {
			t.Errorf("exit code %d, no %q\n%s", o.code, phrase, o)
		}
	}
}

// TestComponentInContainers runs the component by GitLab's executor with containers, in the image that it names and
// without a Docker socket: once with an image that exists, once with a BuildKit elsewhere.
func TestComponentInContainers(t *testing.T) {
	t.Parallel()
	engine := startContainers(t, environment{}).engine
	const helper, small = "buildtest/gitlab-helper:1", "buildtest/busybox:1"
	engine.Load(t, helper, buildtest.GitLabHelper.Image(t))
	engine.Load(t, small, buildtest.Busybox.Image(t))
	run := func(t *testing.T, b builds, p *pipeline, args ...string) {
		t.Helper()
		file := filepath.Join(p.dir, ".gitlab-ci.yml")
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		write(t, file, string(text)+"  image: "+small+"\n")
		p.commit(t)
		p.env["DOCKER_HOST"] = engine.Host
		p.args = slices.Concat(p.args, []string{"--network", "host", "--pull-policy", "if-not-present", "--helper-image", helper}, args)
		b.reported(t, p.run(t))
	}
	t.Run("an image that exists", func(t *testing.T) {
		t.Parallel()
		b := startPipelines(t)
		p := newPipeline(t, b, "      connectors: [source-hello]\n      source: oci:source-hello/image\n      image: "+b.images.Addr+"/container/{connector}\n")
		p.addHello(t, "source-hello")
		run(t, b, p)
	})
	t.Run("remote BuildKit", func(t *testing.T) {
		t.Parallel()
		b := startPipelines(t, buildtest.Busybox, buildtest.Golang)
		remote := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{TLS: true})
		arguments := strings.Split(b.environment["AIRBYTE_PUBLISH_BUILD_ARGS"], "\n")
		p := newPipeline(t, b, "      connectors: [source-go-docker]\n      image: "+b.images.Addr+"/container/{connector}\n"+
			"      build-args: ['"+strings.Join(arguments, "', '")+"']\n"+
			"      buildkit-host: ['"+remote.TCPAddress+"?cacert=/certs/ca.pem&cert=/certs/cert.pem&key=/certs/key.pem']\n")
		if err := os.CopyFS(filepath.Join(p.dir, "source-go-docker"), os.DirFS(copyConnector(t, "source-go-docker", "1.4.0"))); err != nil {
			t.Fatal(err)
		}
		run(t, b, p, "--volume", remote.TLSDir+":/certs:ro")
	})
}
