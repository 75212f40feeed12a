//go:build !race

package cli_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

// example is the job of a page in docs/ci: what it sets and what it runs.
type example struct {
	Image       string
	Environment map[string]any
	Script      string
}

// example reads the first example of a page.
func readExample(t testing.TB, page, language string, read func(text string) example) example {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "ci", page))
	if err != nil {
		t.Fatal(err)
	}
	block := regexp.MustCompile("(?s)```" + language + "\n(.*?)```").FindSubmatch(text)
	if block == nil {
		t.Fatalf("%s has no example", page)
	}
	found := read(string(block[1]))
	if found.Script == "" || !strings.Contains(found.Image+found.Script, toolName) {
		t.Fatalf("%s: %+v", page, found)
	}
	for name := range found.Environment {
		if strings.HasPrefix(name, "AIRBYTE_PUBLISH_") && !slices.ContainsFunc(config.Inputs(), func(i config.Input) bool { return i.Env() == name }) {
			t.Errorf("%s: %s is no input", page, name)
		}
	}
	return found
}

// readYAML reads an example that is YAML into the shape of its CI.
func readYAML[T any](t testing.TB, text string, job func(T) example) example {
	t.Helper()
	var parsed T
	decoder := yaml.NewDecoder(strings.NewReader(text))
	if err := decoder.Decode(&parsed); err != nil {
		t.Fatal(err)
	}
	return job(parsed)
}

type circleCI struct {
	Jobs map[string]struct {
		Docker      []struct{ Image string }
		Environment map[string]any
		Steps       []any
	}
}

type bitbucket struct {
	Image     string
	Pipelines struct {
		Tags map[string][]struct{ Step struct{ Script []string } }
	}
}

type azurePipelines struct {
	Variables map[string]any
	Steps     []struct {
		Script string
		Env    map[string]any
	}
}

type woodpecker struct {
	Steps map[string]struct {
		Image       string
		Environment map[string]any
		Commands    []string
	}
}

var (
	jenkinsVariable = regexp.MustCompile(`(?m)^ +([A-Z_]+) = (.+)$`)
	jenkinsScript   = regexp.MustCompile(`sh '(.+)'`)
	jenkinsImage    = regexp.MustCompile(`image '(.+)'`)
)

func examples(t testing.TB) map[string]example {
	return map[string]example{
		"circleci": readExample(t, "circleci.md", "yaml", func(text string) example {
			return readYAML(t, text, func(c circleCI) example {
				job := c.Jobs["publish"]
				return example{job.Docker[0].Image, job.Environment, job.Steps[len(job.Steps)-1].(map[string]any)["run"].(string)}
			})
		}),
		"bitbucket": readExample(t, "bitbucket.md", "yaml", func(text string) example {
			return readYAML(t, text, func(b bitbucket) example {
				return example{b.Image, nil, strings.Join(b.Pipelines.Tags["v*"][0].Step.Script, "\n")}
			})
		}),
		"azure-pipelines": readExample(t, "azure-pipelines.md", "yaml", func(text string) example {
			return readYAML(t, text, func(a azurePipelines) example {
				all := maps.Clone(a.Variables)
				maps.Copy(all, a.Steps[0].Env)
				return example{"", all, a.Steps[0].Script}
			})
		}),
		"woodpecker": readExample(t, "woodpecker.md", "yaml", func(text string) example {
			return readYAML(t, text, func(w woodpecker) example {
				step := w.Steps["publish"]
				return example{step.Image, step.Environment, strings.Join(step.Commands, "\n")}
			})
		}),
		"jenkins": readExample(t, "jenkins.md", "groovy", func(text string) example {
			e := example{Image: jenkinsImage.FindStringSubmatch(text)[1], Environment: map[string]any{}, Script: jenkinsScript.FindStringSubmatch(text)[1]}
			for _, variable := range jenkinsVariable.FindAllStringSubmatch(text, -1) {
				e.Environment[variable[1]] = strings.Trim(variable[2], "'")
			}
			return e
		}),
	}
}

// TestOtherCIs runs the scripts of the pages in docs/ci as those hosts do: in the image, by its shell, with the variables
// that a host sets for a git tag, and with the credentials that the page says to configure. The hosts' own part is not
// there: it is their programs.
func TestOtherCIs(t *testing.T) {
	t.Parallel()
	hostVariables := map[string]environment{
		"circleci":        {"CIRCLECI": "true", "CIRCLE_TAG": "v1.4.0"},
		"bitbucket":       {"BITBUCKET_BUILD_NUMBER": "1", "BITBUCKET_TAG": "v1.4.0"},
		"azure-pipelines": {"TF_BUILD": "True", "BUILD_SOURCEBRANCH": "refs/tags/v1.4.0"},
		"woodpecker":      {"CI": "woodpecker", "CI_COMMIT_TAG": "v1.4.0"},
		"jenkins":         {"JENKINS_URL": "https://jenkins.acme.example", "TAG_NAME": "v1.4.0"},
	}
	for host, e := range examples(t) {
		t.Run(host, func(t *testing.T) {
			t.Parallel()
			b := startPipelines(t)
			c := startContainers(t, environment{})
			for name, value := range e.Environment {
				if text, ok := value.(string); ok {
					c.environment[name] = text
				}
			}
			delete(c.environment, "AIRBYTE_PUBLISH_BUILDKIT_HOST") // The image exists.
			c.environment = c.environment.with("AIRBYTE_PUBLISH_AIRBYTE_URL", b.airbyte.url, "AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID", "client",
				"AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET", pipelineSecret, "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP", "true",
				"AIRBYTE_PUBLISH_REGISTRY_USERNAME", b.environment["AIRBYTE_PUBLISH_REGISTRY_USERNAME"],
				"AIRBYTE_PUBLISH_REGISTRY_PASSWORD", b.environment["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"],
				"AIRBYTE_PUBLISH_IMAGE", b.images.Addr+"/"+host+"/{connector}", "AIRBYTE_PUBLISH_SOURCE", "oci:connectors/source-erp/image")
			maps.Copy(c.environment, hostVariables[host])
			dir := t.TempDir()
			connector := filepath.Join(dir, "connectors", "source-erp")
			if err := os.CopyFS(connector, os.DirFS(copyConnector(t, "source-hello", "1.4.0"))); err != nil {
				t.Fatal(err)
			}
			if err := os.CopyFS(filepath.Join(connector, "image"), os.DirFS(layoutOf(t, "source-hello"))); err != nil {
				t.Fatal(err)
			}
			script := strings.ReplaceAll(e.Script, "https://airbyte.acme.example", b.airbyte.url)
			var o outcome
			if e.Image == "" {
				o = c.onHost(t, dir, strings.Replace(script, "docker run", "docker run --network host", 1))
			} else {
				o = c.with("--entrypoint", "").run(t, dir, "sh", "-ec", script)
			}
			held := b.airbyte.Definitions()
			if o.code != 0 || len(held) != 1 || held[0].Tag != "1.4.0" {
				t.Errorf("exit code %d, Airbyte holds %+v\n%s", o.code, held, o)
			}
		})
	}
}

// onHost runs a script beside the containers, as a CI's agent does.
func (c container) onHost(t testing.TB, dir, script string) outcome {
	t.Helper()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), "bash", "-ec", script)
	temp := t.TempDir()
	cmd.Env = []string{"DOCKER_HOST=" + c.engine.Host, "PATH=" + os.Getenv("PATH"), "HOME=" + temp, "AGENT_TEMPDIRECTORY=" + temp}
	for name, value := range c.environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &stdout, &stderr
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}
