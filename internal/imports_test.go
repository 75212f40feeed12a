// Package internal_test holds what is true of all packages together.
package internal_test

import (
	"os/exec"
	"slices"
	"strings"
	"testing"
)

const module = "github.com/airbyte-publish/airbyte-publish"

// allowed names, for each package, the packages of this module that it may import. The arrows run one way: cli wires
// everything, publish knows only what is pure, and the parts that contact something never know each other.
var allowed = map[string][]string{
	"":                               {"internal/cli"},
	"internal/cli":                   {"internal/airbyte", "internal/build", "internal/config", "internal/connector", "internal/deployment", "internal/fault", "internal/git", "internal/host", "internal/image", "internal/publish", "internal/registry", "internal/report", "internal/sandbox"},
	"internal/config":                {"internal/connector", "internal/fault", "internal/image"},
	"internal/config/gen":            {"internal/config", "internal/connector", "internal/fault", "internal/image"},
	"internal/host":                  {"internal/fault"},
	"internal/report":                {"internal/connector", "internal/fault", "internal/image", "internal/publish"},
	"internal/publish":               {"internal/connector", "internal/fault", "internal/image"},
	"internal/registry":              {"internal/connector", "internal/fault", "internal/image"},
	"internal/build":                 {"internal/connector", "internal/fault", "internal/image"},
	"internal/airbyte":               {"internal/connector", "internal/fault", "internal/image"},
	"internal/deployment":            {"internal/connector", "internal/fault", "internal/image"},
	"internal/connector":             {"internal/fault", "internal/image"},
	"internal/image":                 {"internal/fault"},
	"internal/fault":                 nil,
	"internal/git":                   {"internal/fault"},
	"internal/sandbox":               {"internal/build", "internal/connector", "internal/fault", "internal/image"},
	"internal/sandbox/apidoc":        nil,
	"internal/sandbox/connectors":    nil,
	"internal/registry/registrytest": nil,
	"internal/cloudtest":             nil, // tests alone
	"internal/build/buildtest":       {"internal/registry/registrytest"},
	"internal/selfimage":             {"internal/build", "internal/connector", "internal/fault", "internal/image", "internal/registry"},
	"internal/selfimage/strip":       nil,
	"internal/selfimage/push":        {"internal/build", "internal/connector", "internal/fault", "internal/image", "internal/registry", "internal/selfimage"},
	"internal/docs":                  nil,
	"internal/release":               nil,
	"internal/deployment/kubetest":   {"internal/build/buildtest"},
	"internal":                       nil, // this test's own package

	// The programs that go into the images of connectors: an import would tie them to what they are there to try.
	"internal/sandbox/connectors/applets":     nil,
	"internal/sandbox/connectors/declarative": nil,
	"internal/sandbox/connectors/misbehave":   nil,
}

// standardOnly are the packages that import nothing but this module's own packages and the standard library.
var standardOnly = []string{"internal/publish", "internal/fault", "internal/git"}

func TestImportsRunOneWay(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "list", "-f", "{{.ImportPath}}|{{join .Imports \",\"}}|{{join .Deps \",\"}}", module+"/...").Output()
	if err != nil {
		t.Fatalf("go list: %v", err)
	}
	for line := range strings.Lines(string(out)) {
		fields := strings.Split(strings.TrimSpace(line), "|")
		name := strings.TrimPrefix(strings.TrimPrefix(fields[0], module), "/")
		may, known := allowed[name]
		if !known {
			t.Errorf("package %q is not in the table of allowed imports", name)
			continue
		}
		for imported := range strings.SplitSeq(fields[1], ",") {
			if own, ok := strings.CutPrefix(imported, module+"/"); ok && !slices.Contains(may, own) {
				t.Errorf("%s imports %s, which it may not", name, own)
			}
			if slices.Contains(standardOnly, name) && strings.Contains(imported, ".") && !strings.HasPrefix(imported, module) {
				t.Errorf("%s imports %s, but may import only the standard library and its own module", name, imported)
			}
		}
		// What a package reaches through others counts as well: no detour leads from one part to another.
		for dep := range strings.SplitSeq(fields[2], ",") {
			if own, ok := strings.CutPrefix(dep, module+"/"); ok && name != "" && name != "internal/cli" && !reachable(name, own) {
				t.Errorf("%s depends on %s, which no allowed import leads to", name, own)
			}
		}
	}
}

func reachable(from, to string) bool {
	seen := map[string]bool{}
	queue := []string{from}
	for len(queue) > 0 {
		p := queue[0]
		queue = queue[1:]
		for _, next := range allowed[p] {
			if next == to {
				return true
			}
			if !seen[next] {
				seen[next] = true
				queue = append(queue, next)
			}
		}
	}
	return false
}

// TestModuleInstalls guards "go install …@version", which refuses a module with replace or exclude directives.
func TestModuleInstalls(t *testing.T) {
	t.Parallel()
	out, err := exec.Command("go", "mod", "edit", "-json").Output()
	if err != nil {
		t.Fatalf("go mod edit: %v", err)
	}
	for _, directive := range []string{`"Path": "` + module + `"`, `"Go": "1.26.8"`, `"Replace": null`, `"Exclude": null`} {
		if !strings.Contains(string(out), directive) {
			t.Errorf("go.mod lacks %s", directive)
		}
	}
}
