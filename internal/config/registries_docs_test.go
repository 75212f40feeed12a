package config_test

import (
	"encoding/json"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

const registriesDir = "../../docs/registries"

// registryPages are the pages of docs/registries by their names.
func registryPages(t *testing.T) map[string]string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(registriesDir, "*.md"))
	if err != nil || len(files) < 8 {
		t.Fatalf("%d pages, %v", len(files), err)
	}
	pages := map[string]string{}
	for _, f := range files {
		content, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		pages[filepath.Base(f)] = string(content)
	}
	return pages
}

var fence = regexp.MustCompile("(?ms)^```([a-z]*)\n(.*?)^```$")

// blocksOf are the blocks of code of a page in one language.
func blocksOf(page, language string) []string {
	var found []string
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		if m[1] == language {
			found = append(found, m[2])
		}
	}
	return found
}

// example is what a block of YAML gives to airbyte-publish: an action's inputs, or a GitLab job's variables.
type example struct {
	inputs, variables map[string]string
	// job tells that it is whole: a workflow, or a job with a script. token tells that it may have an OIDC token.
	job, token bool
}

// examplesIn finds the examples in a document, wherever they stand: a step of a workflow, a list of steps, or what is
// under with or variables alone.
func examplesIn(t *testing.T, document any) []example {
	t.Helper()
	top, ok := document.(map[string]any)
	if !ok {
		t.Errorf("a document is no mapping: %v", document)
		return nil
	}
	var found []example
	step := func(s any, workflow, token bool) {
		m, _ := s.(map[string]any)
		if uses, _ := m["uses"].(string); strings.HasPrefix(uses, "airbyte-publish/airbyte-publish@") {
			found = append(found, example{inputs: texts(t, m["with"]), job: workflow, token: token})
		}
	}
	if jobs, ok := top["jobs"].(map[string]any); ok {
		rights, _ := top["permissions"].(map[string]any)
		if rights["contents"] != "read" {
			t.Errorf("a workflow that sets permissions needs contents: read for its checkout: %v", rights)
		}
		for _, j := range jobs {
			job, _ := j.(map[string]any)
			steps, _ := job["steps"].([]any)
			for _, s := range steps {
				step(s, true, rights["id-token"] == "write")
			}
		}
		return found
	}
	if steps, ok := top["steps"].([]any); ok {
		for _, s := range steps {
			step(s, false, true)
		}
		return found
	}
	if with, ok := top["with"]; ok {
		return []example{{inputs: texts(t, with), token: true}}
	}
	if variables, ok := top["variables"]; ok {
		return []example{{variables: texts(t, variables)}}
	}
	for _, j := range top {
		job, _ := j.(map[string]any)
		if job["script"] == nil {
			continue
		}
		tokens, _ := job["id_tokens"].(map[string]any)
		token, _ := tokens["AIRBYTE_PUBLISH_OIDC_TOKEN"].(map[string]any)
		e := example{variables: texts(t, job["variables"]), job: true, token: token["aud"] != nil}
		if e.token {
			e.variables["AIRBYTE_PUBLISH_OIDC_TOKEN"] = "a.b.c"
		}
		found = append(found, e)
	}
	return found
}

// texts is a mapping to scalars as GitHub and GitLab hand it on.
func texts(t *testing.T, mapping any) map[string]string {
	t.Helper()
	m, ok := mapping.(map[string]any)
	if !ok {
		t.Errorf("no mapping: %v", mapping)
	}
	found := map[string]string{}
	for name, v := range m {
		text, err := yaml.Marshal(v)
		if s, isText := v.(string); isText {
			text, err = []byte(s), nil
		}
		if err != nil {
			t.Error(err)
		}
		found[name] = strings.TrimSpace(string(text))
	}
	return found
}

// TestRegistryExamplesAreTaken loads every example as the program would, on GitHub and on GitLab: names, values and
// what they may not be given together.
func TestRegistryExamplesAreTaken(t *testing.T) {
	t.Parallel()
	for name, page := range registryPages(t) {
		github, gitlab := 0, 0
		for _, block := range blocksOf(page, "yaml") {
			decoder := yaml.NewDecoder(strings.NewReader(block))
			for {
				var document any
				err := decoder.Decode(&document)
				if errors.Is(err, io.EOF) {
					break
				}
				if err != nil {
					t.Errorf("%s: %v in\n%s", name, err, block)
					break
				}
				for _, e := range examplesIn(t, document) {
					if e.job && e.inputs != nil {
						github++
					} else if e.job {
						gitlab++
					}
					if err := takenExample(t, e); err != nil {
						t.Errorf("%s: %v in\n%s", name, err, block)
					}
				}
			}
		}
		if name != "README.md" && (github == 0 || gitlab == 0) {
			t.Errorf("%s has %d whole examples for GitHub and %d for GitLab, want one of each", name, github, gitlab)
		}
	}
}

// federating are the inputs for which a job needs an OIDC token.
var federating = []string{"aws-role-arn", "gcp-workload-identity-provider", "azure-client-id", "dockerhub-connection-id"}

// takenExample loads an example, with something in the place of each of the host's own variables.
func takenExample(t *testing.T, e example) error {
	cert, key := certificate(t)
	w := world{env: map[string]string{}, files: map[string]string{"metadata.yaml": erp, "ca.pem": cert, "client.pem": cert, "key.pem": key,
		// As Google writes a key file.
		"key.json": "{\n  \"type\": \"service_account\"\n}\n"}}
	inputs := map[string]string{}
	for _, i := range config.Inputs() {
		text, given := e.variables[i.Env()]
		if e.inputs != nil {
			text, given = e.inputs[i.Name]
		}
		if !given {
			continue
		}
		if e.job && !e.token && slices.Contains(federating, i.Name) {
			return errors.New(i.Name + " in a job that gets no OIDC token")
		}
		inputs[i.Name] = filled(i, text, key)
		delete(e.inputs, i.Name)
		delete(e.variables, i.Env())
	}
	for name := range e.inputs {
		return errors.New(name + " is no input")
	}
	for name := range e.variables {
		return errors.New(name + " is no variable of an input")
	}
	if inputs["oidc-token"] != "" && !slices.ContainsFunc(federating, func(i string) bool { return inputs[i] != "" }) {
		return errors.New("an OIDC token that nothing is asked for")
	}
	all, err := json.Marshal(inputs)
	if err != nil {
		return err
	}
	w.env["AIRBYTE_PUBLISH_INPUTS"] = string(all)
	_, err = w.load(t)
	return err
}

var placeholder = regexp.MustCompile(`\$\{\{[^}]*\}\}|\$[A-Z_]+`)

// filled has something of the right kind where an example takes a value from the CI host.
func filled(i config.Input, text, key string) string {
	switch {
	case !placeholder.MatchString(text):
		return text
	case i.Kind == config.PEM && i.Secret:
		return key
	case i.Kind == config.PEM:
		return "ca.pem"
	case i.Name == "registry-client-key-file":
		return "key.pem"
	case i.Kind == config.File:
		return "key.json"
	}
	return placeholder.ReplaceAllString(strings.ReplaceAll(text, "$CI_REGISTRY_IMAGE", "registry.gitlab.com/acme/connectors"), "x")
}

func TestRegistryPolicies(t *testing.T) {
	t.Parallel()
	found := 0
	for name, page := range registryPages(t) {
		for _, block := range blocksOf(page, "json") {
			found++
			if !json.Valid([]byte(block)) {
				t.Errorf("%s has JSON that is not valid:\n%s", name, block)
			}
		}
	}
	if found < 8 {
		t.Errorf("only %d policies and credentials", found)
	}
}

// commandsOf are the commands in blocks of shell that begin with a word, with their continued lines joined.
func commandsOf(blocks []string, word string) []string {
	var found []string
	for _, b := range blocks {
		for line := range strings.Lines(strings.ReplaceAll(b, "\\\n", "")) {
			if strings.HasPrefix(line, word) {
				found = append(found, strings.TrimSpace(line))
			}
		}
	}
	return found
}

// TestRegistryPagesHaveAllParts: whoever has found one page knows the way through the others.
func TestRegistryPagesHaveAllParts(t *testing.T) {
	t.Parallel()
	parts := []string{"## Ways to sign in", "## Least rights", "## OIDC set-up", "## The pulling side", "## Errors", "## Limits"}
	for name, page := range registryPages(t) {
		if name == "README.md" {
			continue
		}
		rest := page
		for _, p := range parts {
			_, after, found := strings.Cut(rest, "\n"+p+"\n")
			if !found {
				t.Errorf("%s has no %q behind what comes before it on the other pages", name, p)
				break
			}
			rest = after
		}
		if len(commandsOf(blocksOf(page, "sh"), "airbyte-publish ")) == 0 {
			t.Errorf("%s has no example for a laptop", name)
		}
	}
}
