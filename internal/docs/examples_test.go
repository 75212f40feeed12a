package docs_test

import (
	"errors"
	"fmt"
	"io"
	"maps"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

// action is what a workflow calls the action by; "./" is this repository's own.
var action = regexp.MustCompile(`^(airbyte-publish/airbyte-publish@\S+|\./)$`)

func inputs() map[string]config.Input {
	all := map[string]config.Input{}
	for _, i := range config.Inputs() {
		all[i.Name] = i
	}
	return all
}

// examples are all blocks of code of the documentation.
func examples(t *testing.T) []block {
	t.Helper()
	var all []block
	for _, p := range pages(t) {
		found, _ := p.blocks(t)
		all = append(all, found...)
	}
	return all
}

// documents parses a block of YAML, which may hold several documents.
func (b block) documents(t *testing.T) []*yaml.Node {
	t.Helper()
	var all []*yaml.Node
	decoder := yaml.NewDecoder(strings.NewReader(b.text))
	for {
		var n yaml.Node
		err := decoder.Decode(&n)
		if errors.Is(err, io.EOF) {
			return all
		}
		if err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
			return all
		}
		all = append(all, &n)
	}
}

// mappings calls see with every mapping of the tree.
func mappings(n *yaml.Node, see func(map[string]*yaml.Node)) {
	if n.Kind == yaml.MappingNode {
		m := map[string]*yaml.Node{}
		for i := 0; i+1 < len(n.Content); i += 2 {
			m[n.Content[i].Value] = n.Content[i+1]
		}
		see(m)
	}
	for _, child := range n.Content {
		mappings(child, see)
	}
}

// with checks the inputs of a step that uses the action.
func with(n *yaml.Node) error {
	if n.Kind != yaml.MappingNode {
		return errors.New("with is no mapping")
	}
	known := inputs()
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		name, value := n.Content[i].Value, n.Content[i+1]
		input, found := known[name]
		switch {
		case !found:
			errs = append(errs, fmt.Errorf("there is no input %q", name))
		case value.Kind != yaml.ScalarNode:
			errs = append(errs, fmt.Errorf("%s is not one value: GitHub takes text only", name))
		case strings.Contains(value.Value, "${{"):
		case input.Secret:
			errs = append(errs, fmt.Errorf("%s stands there in the open", name))
		case input.Kind == config.Enum && !slices.Contains(input.Values, value.Value):
			errs = append(errs, fmt.Errorf("%s is none of %q: %q", name, input.Values, value.Value))
		case input.Kind == config.Bool && value.Value != "true" && value.Value != "false":
			errs = append(errs, fmt.Errorf("%s is neither true nor false: %q", name, value.Value))
		}
	}
	return errors.Join(errs...)
}

// componentInputs checks the inputs of GitLab's component against its file.
func componentInputs(t *testing.T, n *yaml.Node) error {
	t.Helper()
	var component struct {
		Spec struct{ Inputs map[string]any }
	}
	// The component's second document is the job.
	head, _, _ := strings.Cut(readFile(t, "templates/publish.yml"), "\n---")
	if err := yaml.Unmarshal([]byte(head), &component); err != nil {
		return err
	}
	var errs []error
	for i := 0; i+1 < len(n.Content); i += 2 {
		if _, found := component.Spec.Inputs[n.Content[i].Value]; !found {
			errs = append(errs, fmt.Errorf("the component has no input %q", n.Content[i].Value))
		}
	}
	return errors.Join(errs...)
}

// outputsOf checks the outputs that a block takes of the steps that use the action.
func (b block) outputsOf(ids []string) error {
	var errs []error
	for _, id := range ids {
		for _, match := range regexp.MustCompile(`steps\.`+regexp.QuoteMeta(id)+`\.outputs\.([\w-]+)`).FindAllStringSubmatch(b.text, -1) {
			if !slices.ContainsFunc(config.Outputs(), func(o config.Output) bool { return o.Name == match[1] }) {
				errs = append(errs, fmt.Errorf("there is no output %q", match[1]))
			}
		}
	}
	return errors.Join(errs...)
}

// check holds a block of YAML against the table of inputs and that of outputs.
func (b block) check(t *testing.T) (steps int) {
	t.Helper()
	for _, document := range b.documents(t) {
		var ids []string
		mappings(document, func(m map[string]*yaml.Node) {
			if component, values := m["component"], m["inputs"]; component != nil && values != nil && strings.Contains(component.Value, "/airbyte-publish/") {
				steps++
				if err := componentInputs(t, values); err != nil {
					t.Errorf("%s:%d: %v", b.page, b.line, err)
				}
			}
			uses, values := m["uses"], m["with"]
			ours := uses != nil && action.MatchString(uses.Value)
			if ours && m["id"] != nil {
				ids = append(ids, m["id"].Value)
			}
			// A part of a step that says what to give, without the step, is one of ours.
			if values != nil && (ours || uses == nil) {
				steps++
				if err := with(values); err != nil {
					t.Errorf("%s:%d: %v", b.page, b.line, err)
				}
			}
		})
		if err := b.outputsOf(ids); err != nil {
			t.Errorf("%s:%d: %v", b.page, b.line, err)
		}
	}
	return steps
}

func TestYAMLUsesWhatThereIs(t *testing.T) {
	t.Parallel()
	steps := 0
	for _, b := range examples(t) {
		if b.language == "yaml" {
			steps += b.check(t)
		}
	}
	if steps < 20 {
		t.Errorf("only %d steps were found", steps)
	}
}

var (
	// variable is one of ours; what is cut short ("AIRBYTE_PUBLISH_…", "AIRBYTE_PUBLISH_<NAME>") is none.
	variable = regexp.MustCompile(`\bAIRBYTE_PUBLISH(ED)?_([A-Z][A-Z0-9_]*[A-Z0-9])\b`)
	flags    = regexp.MustCompile(`(?:^|\s)--([a-z][a-z0-9-]*)`)
	command  = regexp.MustCompile(`(?m)^(?:\$ )?(?:exec )?airbyte-publish((?:\\\n|.)*)$`)
)

// others are variables of the program that are no inputs, and flags of the command that are none.
var (
	otherVariables = []string{"AIRBYTE_PUBLISH_INPUTS", "AIRBYTE_PUBLISH_TEST_CACHE"}
	otherFlags     = []string{"output", "help", "version", "airbyte-version", "apply", "wire", "helm-values", "ecr-refresher"}
)

// words checks the variables and flags of a text.
func words(text string) error {
	known := inputs()
	var errs []error
	for _, match := range variable.FindAllStringSubmatch(text, -1) {
		name := strings.ReplaceAll(strings.ToLower(match[2]), "_", "-")
		isOutput := slices.ContainsFunc(config.Outputs(), func(o config.Output) bool { return o.Name == name })
		if _, isInput := known[name]; match[1] == "" && !isInput && !slices.Contains(otherVariables, match[0]) || match[1] != "" && !isOutput {
			errs = append(errs, fmt.Errorf("there is no variable %s", match[0]))
		}
	}
	for _, line := range command.FindAllStringSubmatch(text, -1) {
		for _, match := range flags.FindAllStringSubmatch(line[1], -1) {
			if input, found := known[match[1]]; (!found || input.Secret) && !slices.Contains(otherFlags, match[1]) {
				errs = append(errs, fmt.Errorf("there is no flag --%s", match[1]))
			}
		}
	}
	return errors.Join(errs...)
}

func TestVariablesAndFlagsAreThere(t *testing.T) {
	t.Parallel()
	for _, p := range pages(t) {
		if err := words(p.text); err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
	}
}

func TestShellParses(t *testing.T) {
	t.Parallel()
	bash, err := exec.LookPath("bash")
	if err != nil {
		t.Skip(err)
	}
	found := 0
	for _, b := range examples(t) {
		if b.language != "sh" {
			continue
		}
		found++
		cmd := exec.Command(bash, "-n")
		cmd.Stdin = strings.NewReader(b.text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
		}
	}
	if found < 5 {
		t.Errorf("only %d blocks were found", found)
	}
}

// TestTheChecksFindMistakes keeps the checks above from agreeing to everything.
func TestTheChecksFindMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{airbyte-ur: x}`:                    "no input",
		`{airbyte-client-secret: hunter2}`:   "in the open",
		`{builder: kaniko}`:                  "none of",
		`{dry-run: yes}`:                     "neither",
		`{connectors: [a, b]}`:               "text only",
		`[a]`:                                "no mapping",
		`{dry-run: true, builder: "${{x}}"}`: "",
	} {
		var n yaml.Node
		if err := yaml.Unmarshal([]byte(text), &n); err != nil {
			t.Fatal(err)
		}
		if got := fmt.Sprint(with(n.Content[0])); want == "" && got != "<nil>" || !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
	for text, want := range map[string]string{
		"AIRBYTE_PUBLISH_AIRBYTE_URI=x":                  "AIRBYTE_PUBLISH_AIRBYTE_URI",
		"AIRBYTE_PUBLISHED_DIGESTS":                      "AIRBYTE_PUBLISHED_DIGESTS",
		"airbyte-publish plan --airbyte-client-secret x": "--airbyte-client-secret",
		"airbyte-publish \\\n  --dryrun":                 "--dryrun",
		"AIRBYTE_PUBLISH_… AIRBYTE_PUBLISHED_<OUTPUT> AIRBYTE_PUBLISHED_DIGEST\nairbyte-publish plan --dry-run --output matrix": "<nil>",
	} {
		if got := fmt.Sprint(words(text)); !strings.Contains(got, want) {
			t.Errorf("%s: %s", text, got)
		}
	}
	bad := block{text: "steps: [{uses: ./, id: p}, {run: '${{ steps.p.outputs.digset }}'}]"}
	if bad.outputsOf([]string{"p"}) == nil || (block{text: "${{ steps.p.outputs.digest }} ${{ steps.q.outputs.x }}"}).outputsOf([]string{"p"}) != nil {
		t.Error("outputs")
	}
	known := slices.Sorted(maps.Keys(anchors("# A `b-c`, D_e!\n## Ä 1\n")))
	if !slices.Equal(known, []string{"a-b-c-d_e", "ä-1"}) {
		t.Errorf("%q", known)
	}
}
