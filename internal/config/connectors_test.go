package config_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// lines writes each connector as "label type name reference source".
func lines(c *config.Config) []string {
	var all []string
	for _, one := range c.Connectors {
		all = append(all, strings.TrimSpace(strings.Join([]string{one.Label, string(one.Type), one.Name, one.Reference(), one.Source}, " ")))
	}
	return all
}

func TestConnectorsAreFound(t *testing.T) {
	t.Parallel()
	const (
		erpLine = "source-erp source ERP ghcr.io/acme/source-erp:1.2.3"
		crmLine = "destination-crm destination CRM ghcr.io/acme/destination-crm:4.5.6"
	)
	bare := map[string]string{"c/source-a/manifest.yaml": "", "c/destination-b/Dockerfile": "", "c/docs/README.md": "", "c/a,b/Dockerfile": "", "c/README.md": ""}
	with := env("image", "ghcr.io/acme/{connector}", "tag", "7")
	none := map[string]string{"README.md": ""}
	tests := []struct {
		name  string
		world world
		want  []string
	}{
		{"arguments in their order", world{files: two(), args: []string{"source-erp", "destination-crm"}}, []string{erpLine, crmLine}},
		{"glob in alphabetical order", world{files: two(), args: []string{"*"}}, []string{crmLine, erpLine}},
		{"each once", world{files: two(), args: []string{"./source-erp/", "*", "destination-crm/../source-erp"}}, []string{erpLine, crmLine}},
		{"input over lines and commas", world{files: two(), env: env("connectors", " source-erp ,\n\n*crm")}, []string{erpLine, crmLine}},
		{"arguments over a variable", world{files: two(), args: []string{"source-erp"}, env: env("connectors", "nowhere")}, []string{erpLine}},
		{"by manifest and Dockerfile, others passed over", world{files: bare, args: []string{"c/[sd]*"}, env: with},
			[]string{"c/destination-b destination destination-b ghcr.io/acme/destination-b:7", "c/source-a source source-a ghcr.io/acme/source-a:7"}},
		{"a comma in an argument", world{files: bare, args: []string{"c/a,b"}, env: env("image", "ghcr.io/acme/source-x", "tag", "7")},
			[]string{"c/a,b source source-x ghcr.io/acme/source-x:7"}},
		{"an empty argument", world{files: two(), args: []string{"", "source-erp", " "}}, []string{erpLine}},
		{"only empty arguments", world{files: two(), args: []string{""}, env: env("connectors", "source-erp")}, []string{erpLine}},
		{"a folder named like a glob", world{files: map[string]string{"[source-a]/Dockerfile": ""}, args: []string{"[source-a]"}, env: env("image", "ghcr.io/acme/source-x", "tag", "7")},
			[]string{"[source-a] source source-x ghcr.io/acme/source-x:7"}},
		{"one source for many", world{files: two(), args: []string{"*"}, env: env("source", "docker-archive:out/{connector}.tar")},
			[]string{crmLine + " docker-archive:out/destination-crm.tar", erpLine + " docker-archive:out/source-erp.tar"}},
		{"one tag for many", world{files: two(), args: []string{"*"}, env: env("tag", "9.9.9")},
			[]string{strings.Replace(crmLine, "4.5.6", "9.9.9", 1), strings.Replace(erpLine, "1.2.3", "9.9.9", 1)}},
		{"metadata's type over the prefix", world{files: map[string]string{"source-x/metadata.yaml": strings.Replace(erp, "connectorType: source", "connectorType: destination", 1)}, args: []string{"source-x"}},
			[]string{"source-x destination ERP ghcr.io/acme/source-erp:1.2.3"}},
		{"an image and no folder", world{files: none, env: env("source", "oci:{connector}", "image", "ghcr.io/acme/source-x", "tag", "7")},
			[]string{"source-x source source-x ghcr.io/acme/source-x:7 oci:source-x"}},
		{"an image and no folder, for a git tag", world{files: none, env: map[string]string{"AIRBYTE_PUBLISH_SOURCE": "oci:x", "AIRBYTE_PUBLISH_IMAGE": "ghcr.io/acme/source-x", "CI_COMMIT_TAG": "source-x-v8.0.0"}},
			[]string{"source-x source source-x ghcr.io/acme/source-x:8.0.0 oci:x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(tt.want, lines(tt.world.mustLoad(t))); diff != "" {
				t.Errorf("-want +got:\n%s", diff)
			}
		})
	}
}

func TestGlobInAFolderNamedLikeOne(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "[team]*")
	if err := os.MkdirAll(filepath.Join(dir, "source-erp"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "source-erp", "metadata.yaml"), []byte(erp), 0o600); err != nil {
		t.Fatal(err)
	}
	c, err := config.Load(config.Lookup{Args: []string{"source-*"}, Dir: dir, Verb: config.Lint})
	if err != nil || len(c.Connectors) != 1 || c.Connectors[0].Label != "source-erp" || c.Connectors[0].Dir != filepath.Join(dir, "source-erp") {
		t.Errorf("%v, %+v", err, c.Connectors)
	}
}

func TestSourceWithoutFolderNamesWhatIsMissing(t *testing.T) {
	t.Parallel()
	c, err := world{files: map[string]string{"x": ""}, env: env("source", "oci:x")}.load(t)
	want := map[fault.Code]int{fault.MissingInput: 2, fault.NoTag: 1}
	if diff := cmp.Diff(want, codes(err)); diff != "" || len(c.Connectors) != 0 {
		t.Errorf("codes (-want +got):\n%s\n%v", diff, err)
	}
	for _, input := range []string{`"image"`, `"connector-type"`, `"tag"`} {
		if !strings.Contains(err.Error(), input) {
			t.Errorf("does not name %s:\n%v", input, err)
		}
	}
}

func TestTagFromGit(t *testing.T) {
	t.Parallel()
	untagged := metadata("  dockerImageTag: 1.2.3\n", "")
	tests := []struct {
		name  string
		world world
		want  string
	}{
		{"GitHub", world{files: untagged, env: map[string]string{"GITHUB_REF": "refs/tags/v2.0.0"}}, "2.0.0"},
		{"GitHub on a branch", world{env: map[string]string{"GITHUB_REF": "refs/heads/v2.0.0"}}, "1.2.3"},
		{"GitLab", world{files: untagged, env: map[string]string{"CI_COMMIT_TAG": "2.0.0-rc.1"}}, "2.0.0-rc.1"},
		{"agreeing with metadata", world{env: map[string]string{"GITHUB_REF": "refs/tags/v1.2.3"}}, "1.2.3"},
		{"by the image's name", world{env: map[string]string{"GITHUB_REF": "refs/tags/source-erp/v1.2.3"}}, "1.2.3"},
		{"by metadata's name", world{env: map[string]string{"CI_COMMIT_TAG": "erp-v1.2.3"}}, "1.2.3"},
		{"the input decides", world{env: map[string]string{"AIRBYTE_PUBLISH_TAG": "7", "CI_COMMIT_TAG": "v2.0.0"}}, "7"},
		{"the input decides on a tag of no version", world{env: map[string]string{"AIRBYTE_PUBLISH_TAG": "7", "CI_COMMIT_TAG": "stable"}}, "7"},
		{"by a pattern", world{files: untagged, env: map[string]string{"AIRBYTE_PUBLISH_TAG_PATTERN": `release/(?P<version>\d+)`, "CI_COMMIT_TAG": "release/12"}}, "12"},
		{"one of many", world{files: two(), args: []string{"*"}, env: map[string]string{"CI_COMMIT_TAG": "destination-crm/v4.5.6"}}, "4.5.6 1.2.3"},
		{"one of many by its folder", world{files: map[string]string{"a/metadata.yaml": erp, "crm/metadata.yaml": two()["destination-crm/metadata.yaml"]},
			args: []string{"*"}, env: map[string]string{"CI_COMMIT_TAG": "crm/v4.5.6"}}, "1.2.3 4.5.6"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var tags []string
			for _, c := range tt.world.mustLoad(t).Connectors {
				tags = append(tags, c.Tag)
			}
			if got := strings.Join(tags, " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// TestGitTagAgainstOneOfMany: the git tag without a name is meant for all, so each that disagrees is named.
func TestGitTagAgainstOneOfMany(t *testing.T) {
	t.Parallel()
	_, err := world{files: two(), args: []string{"*"}, env: map[string]string{"CI_COMMIT_TAG": "v1.2.3"}}.load(t)
	if diff := cmp.Diff(map[fault.Code]int{fault.TagsDisagree: 1}, codes(err)); diff != "" || !strings.Contains(err.Error(), "destination-crm/metadata.yaml") {
		t.Errorf("%s\n%v", diff, err)
	}
}
