package build

import (
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func TestLayoutsSayWhatIsMissing(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		language, base string
		files          map[string]string
		code           fault.Code
		says           string
	}{
		"no base":                {"python", "", map[string]string{"setup.py": "x"}, fault.LayoutIncomplete, "names no base image"},
		"an odd base":            {"python", "x\nRUN y", map[string]string{"setup.py": "x"}, fault.LayoutIncomplete, "not a reference"},
		"python without package": {"python", "b", map[string]string{"main.py": "x"}, fault.LayoutIncomplete, "no pyproject.toml"},
		"python without script":  {"python", "b", map[string]string{"pyproject.toml": "[project.scripts]\nother = \"x\"\n"}, fault.LayoutIncomplete, "no console script \"source-erp\""},
		"java not built":         {"java", "b", nil, fault.LayoutIncomplete, "there is no build/distributions/source-erp.tar"},
		"java built twice":       {"java", "b", map[string]string{"build/distributions/a.tar": "", "build/distributions/b.tar": ""}, fault.LayoutIncomplete, "several archives"},
		"java's odd archive":     {"java", "b", map[string]string{"build/distributions/a,b.tar": ""}, fault.LayoutIncomplete, "characters"},
		"a bad manifest":         {"manifest-only", "b", map[string]string{"manifest.yaml": "x", "requirements.txt": "y"}, fault.BadManifestYAML, "not a YAML mapping"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connector.Connector{Dir: folderOf(t, tc.files), Label: "erp", Repository: "r.io/acme/source-erp",
				Metadata: &connector.Metadata{Tags: []string{"language:" + tc.language}, BaseImage: tc.base, DockerRepository: "acme/Bad Name"}}
			_, err := newBuilder(t, Options{}).blueprint(t.Context(), c, wayOf(c))
			if fault.CodeOf(err) != tc.code || !strings.Contains(err.Error(), tc.says) {
				t.Errorf("got %v, want %s: %q", err, tc.code, tc.says)
			}
		})
	}
}

func TestLayoutDockerfiles(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		language  string
		files     map[string]string
		has, lack []string
		ignores   []string
	}{
		"git for a dependency": {"python", map[string]string{"pyproject.toml": "[tool.poetry.scripts]\nsource-erp = \"x\"\n[tool.poetry.dependencies]\nx = {git = \"https://example.com/x\"}\n"},
			[]string{"apt-get install -y --no-install-recommends git", "exec source-erp"}, []string{"main.py"}, ignoredByDefault},
		"no git": {"python", map[string]string{"setup.py": "entry_points={\"console_scripts\": [\"source-erp=x:run\"]}", ".dockerignore": "mine\n"},
			[]string{"exec source-erp"}, []string{"apt-get"}, []string{"mine"}},
		"java": {"java", map[string]string{"build/distributions/source-erp.tar": "", "build/distributions/other.tar": ""},
			[]string{"source=build/distributions/source-erp.tar", "ENV APPLICATION=source-erp"}, []string{"other"}, []string{"*", "!build/distributions/source-erp.tar"}},
		"pyproject of a manifest": {"manifest-only", map[string]string{"manifest.yaml": goodManifest, "pyproject.toml": "[project]\ndependencies = [\n  \"pydantic\",\n]\n"},
			[]string{"-r pyproject.toml", "COPY manifest.yaml /airbyte"}, []string{"components.py", "USER airbyte"}, ignoredByDefault},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connector.Connector{Dir: folderOf(t, tc.files), Label: "erp", Repository: "r.io/acme/source-erp",
				Metadata: &connector.Metadata{Tags: []string{"language:" + tc.language}, BaseImage: "r.io/base:1"}}
			p, err := newBuilder(t, Options{}).blueprint(t.Context(), c, wayOf(c))
			if err != nil {
				t.Fatal(err)
			}
			for _, want := range append(tc.has, "FROM r.io/base:1\n", "FROM r.io/base:1 AS package\n") {
				if !strings.Contains(string(p.text), want) {
					t.Errorf("it lacks %q:\n%s", want, p.text)
				}
			}
			for _, not := range tc.lack {
				if strings.Contains(string(p.text), not) {
					t.Errorf("it has %q:\n%s", not, p.text)
				}
			}
			if !slices.Equal(p.patterns, tc.ignores) || strings.TrimSpace(string(p.ignore)) != strings.Join(tc.ignores, "\n") {
				t.Errorf("it leaves out %q, by %q", p.patterns, p.ignore)
			}
		})
	}
}

func TestRequirementsOfAManifest(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		file, text string
		want       bool
	}{
		"a requirement":        {"requirements.txt", "# x\n pydantic==2\n", true},
		"only comments":        {"requirements.txt", "# x\n\n", false},
		"dependencies":         {"pyproject.toml", "[project]\ndependencies = [\"x\"]\n", true},
		"no dependencies":      {"pyproject.toml", "[project]\ndependencies = []\n[tool.x]\ny = 1\n", false},
		"poetry's":             {"pyproject.toml", "[tool.poetry.dependencies]\npython = \"^3.11\"\nx = \"*\"\n", true},
		"poetry's own":         {"pyproject.toml", "[tool.poetry.dependencies]\npython = \"^3.11\"\nairbyte-cdk = \"*\"\n\n[tool.poetry.scripts]\nx = \"y\"\n", false},
		"poetry's development": {"pyproject.toml", "[tool.poetry.group.dev.dependencies]\npytest = \"*\"\n", false},
	} {
		if got := hasRequirements(folderOf(t, map[string]string{tc.file: tc.text})); got != tc.want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
