package main

import (
	"encoding/json"
	"maps"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

type gitlabSpec struct {
	Spec struct {
		Inputs map[string]struct {
			Description, Type string
			Options           []string
			Default           any
		}
	}
}

// interpolation is what GitLab replaces in a component's text.
var interpolation = regexp.MustCompile(`\$\[\[\s*inputs\.([\w-]+)\s*\]\]`)

// interpolate does what GitLab does with a component that is included: it puts the inputs into the text, strings as they
// are and everything else as JSON (lib/gitlab/ci/config/interpolation/text_template.rb), and reads that as YAML.
func interpolate(t *testing.T, text string, given map[string]any) (gitlabSpec, map[string]map[string]any) {
	t.Helper()
	header, body, found := strings.Cut(text, "\n---\n")
	if !found {
		t.Fatal("the component has one document")
	}
	var spec gitlabSpec
	if err := yaml.Unmarshal([]byte(header), &spec); err != nil {
		t.Fatal(err)
	}
	used := map[string]bool{}
	body = interpolation.ReplaceAllStringFunc(body, func(s string) string {
		name := interpolation.FindStringSubmatch(s)[1]
		used[name] = true
		declared, known := spec.Spec.Inputs[name]
		if !known {
			t.Errorf("%s is no input", name)
		}
		value, isGiven := given[name]
		if !isGiven {
			value = declared.Default
		}
		if s, ok := value.(string); ok {
			return s
		}
		encoded, err := json.Marshal(value)
		if err != nil {
			t.Fatal(err)
		}
		return string(encoded)
	})
	for name := range spec.Spec.Inputs {
		if !used[name] {
			t.Errorf("the input %s has no effect", name)
		}
	}
	var jobs map[string]map[string]any
	if err := yaml.Unmarshal([]byte(body), &jobs); err != nil {
		t.Fatalf("%v\n%s", err, body)
	}
	return spec, jobs
}

// variables are those that a job sets.
func variables(t *testing.T, job map[string]any) map[string]string {
	t.Helper()
	all := map[string]string{}
	declared, _ := job["variables"].(map[string]any)
	for name, v := range declared {
		if options, ok := v.(map[string]any); ok {
			v = options["value"]
		}
		text, ok := v.(string)
		if !ok {
			t.Errorf("the variable %s is no text: %v", name, v)
		}
		all[name] = text
	}
	return all
}

var withOIDC = append(config.Inputs(), config.Input{Name: oidcInput, Kind: config.Text, Secret: true, Help: "A token."})

func TestComponentSaysWhatTheTableSays(t *testing.T) {
	t.Parallel()
	for _, table := range [][]config.Input{config.Inputs(), withOIDC} {
		text := string(component(table))
		spec, jobs := interpolate(t, text, nil)
		job := jobs["publish-connector"]
		set := variables(t, job)
		own := gitlabInputs
		tokens, _ := job["id_tokens"].(map[string]any)
		if slices.ContainsFunc(table, func(i config.Input) bool { return i.Name == oidcInput }) {
			own = append(slices.Clone(own), audienceInput)
			if token, _ := tokens["AIRBYTE_PUBLISH_OIDC_TOKEN"].(map[string]any); token["aud"] != "sts.amazonaws.com" {
				t.Errorf("id_tokens: %v", tokens)
			}
		} else if tokens != nil {
			t.Errorf("id_tokens: %v", tokens)
		}
		count := len(own)
		for _, i := range table {
			got, shown := spec.Spec.Inputs[i.Name]
			_, isSet := set[i.Env()]
			if hidden(i, table) {
				if shown || isSet {
					t.Errorf("the secret %s is an input or a variable of the component", i.Name)
				}
				continue
			}
			count++
			if !shown || !isSet || got.Description != i.Help || got.Default == nil {
				t.Errorf("input %s: %+v, set: %v", i.Name, got, isSet)
			}
			if i.Kind == config.Enum && !slices.Contains(got.Options, got.Default.(string)) {
				t.Errorf("input %s: its default %q is none of %q", i.Name, got.Default, got.Options)
			}
		}
		if len(spec.Spec.Inputs) != count {
			t.Errorf("%d inputs, want %d: a name is there twice", len(spec.Spec.Inputs), count)
		}
	}
}

// TestComponentsDefaultsChangeNothing reads the component's variables as the program does.
func TestComponentsDefaultsChangeNothing(t *testing.T) {
	t.Parallel()
	_, jobs := interpolate(t, string(component(config.Inputs())), nil)
	dir := t.TempDir()
	with, without := load(t, dir, variables(t, jobs["publish-connector"])), load(t, dir, nil)
	if !reflect.DeepEqual(with, without) {
		t.Errorf("with the component's defaults\n%+v\nwithout\n%+v", with, without)
	}
}

// load reads the inputs of a connector in the working directory.
func load(t *testing.T, dir string, env map[string]string) *config.Config {
	t.Helper()
	metadata := "data:\n  name: ERP\n  connectorType: source\n  dockerRepository: ghcr.io/acme/source-erp\n  dockerImageTag: 1.0.0\n"
	if err := os.WriteFile(filepath.Join(dir, "metadata.yaml"), []byte(metadata), 0o600); err != nil {
		t.Fatal(err)
	}
	env = maps.Clone(env)
	if env == nil {
		env = map[string]string{}
	}
	env["AIRBYTE_PUBLISH_AIRBYTE_URL"] = "https://airbyte.acme.example"
	var environ []string
	for name, value := range env {
		environ = append(environ, name+"="+value)
	}
	c, err := config.Load(config.Lookup{Getenv: func(name string) string { return env[name] }, Environ: environ, Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// TestComponentKeepsValues gives inputs that would mean something to YAML or to a shell.
func TestComponentKeepsValues(t *testing.T) {
	t.Parallel()
	for _, value := range []string{`it's "quoted"`, "a: b", "- a", "# no comment", "{a: b}", "[a", "*a", "&a", "!a", "|", ">-", "%a", "@a", "`a`", "true", "null", "1_000", `back\slash`, "$CI_REGISTRY_IMAGE/x", "---", "ä"} {
		_, jobs := interpolate(t, string(component(config.Inputs())), map[string]any{"job-name": "publish", "name": value, "tag-pattern": value,
			"build-args": []string{value, "B=1,2"}, "rules": []any{map[string]any{"when": "always"}}})
		job := jobs["publish"]
		set := variables(t, job)
		for _, name := range []string{"AIRBYTE_PUBLISH_NAME", "AIRBYTE_PUBLISH_TAG_PATTERN"} {
			if got := strings.TrimSuffix(set[name], "\n"); got != value {
				t.Errorf("%s: %q became %q", name, value, got)
			}
		}
		var items []string
		if err := json.Unmarshal([]byte(set["AIRBYTE_PUBLISH_BUILD_ARGS"]), &items); err != nil || !slices.Equal(items, []string{value, "B=1,2"}) {
			t.Errorf("%q became %q, %v", value, items, err)
		}
		if len(jobs) != 3 || job["rules"].([]any)[0].(map[string]any)["when"] != "always" {
			t.Errorf("%q: %v", value, jobs)
		}
	}
}
