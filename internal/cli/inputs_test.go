package cli_test

import (
	"path/filepath"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// Bad input ends with exit code 2, its code and its sentence, before anything is contacted.
func TestBadInput(t *testing.T) {
	t.Parallel()
	const metadata = "data:\n  name: X\n  connectorType: source\n  dockerRepository: registry.example/acme/source-x\n  dockerImageTag: 1.0.0\n"
	good := folder(t, metadata)
	other := folder(t, strings.ReplaceAll(metadata, "source-x", "source-y"))
	in := func(name, value string) []string { return []string{"AIRBYTE_PUBLISH_" + name, value} }
	cases := []struct {
		name   string
		dirs   []string
		args   []string
		env    []string
		code   string
		phrase string
	}{
		{name: "unknown flag", args: []string{"--airbite-url", "x"}, code: "AP101", phrase: "airbite-url"},
		{name: "mistyped flag", args: []string{"--airbite-url", "x"}, code: "AP101", phrase: "Did you mean --airbyte-url?"},
		{name: "mistyped flag of the command", args: []string{"--outptu", "x"}, code: "AP101", phrase: "Did you mean --output?"},
		{name: "flag that is like none", args: []string{"--frobnicate-everything"}, code: "AP101", phrase: "--help lists the flags"},
		{name: "mistyped secret as a flag", args: []string{"--registry-pasword=x"}, code: "AP101", phrase: "AIRBYTE_PUBLISH_REGISTRY_PASSWORD or name a file by --registry-password-file"},
		{name: "secret as a flag", args: []string{"--airbyte-client-secret", "x"}, code: "AP101", phrase: "secret"},
		{name: "unknown variable", env: in("AIRBITE_URL", "x"), code: "AP101", phrase: "AIRBYTE_PUBLISH_AIRBYTE_URL"},
		{name: "unknown action input", env: []string{"AIRBYTE_PUBLISH_INPUTS", `{"tagg":"1"}`}, code: "AP101", phrase: "tag"},
		{name: "inputs that are no JSON", env: []string{"AIRBYTE_PUBLISH_INPUTS", "{"}, code: "AP102", phrase: "toJSON(inputs)"},
		{name: "output form", args: []string{"--output", "xml"}, code: "AP102", phrase: "json"},
		{name: "jobs as a word", env: in("JOBS", "many"), code: "AP102", phrase: "64"},
		{name: "no jobs", env: in("JOBS", "0"), code: "AP102", phrase: "64"},
		{name: "yes is no boolean", env: in("REGISTER", "yes"), code: "AP102", phrase: "true"},
		{name: "timeout without a unit", env: in("AIRBYTE_TIMEOUT", "90"), code: "AP102", phrase: "90s"},
		{name: "policy", env: in("IF_TAG_EXISTS", "ask"), code: "AP102", phrase: "overwrite"},
		{name: "type", env: in("CONNECTOR_TYPE", "sink"), code: "AP102", phrase: "destination"},
		{name: "source", env: in("SOURCE", "tar:x.tar"), code: "AP102", phrase: "oci:"},
		{name: "no Airbyte", env: in("AIRBYTE_URL", ""), code: "AP103", phrase: "airbyte-url"},
		{name: "Airbyte by ftp", env: in("AIRBYTE_URL", "ftp://airbyte.example"), code: "AP102", phrase: "http"},
		{name: "password in the URL", env: in("AIRBYTE_URL", "https://user:pw@airbyte.example"), code: "AP102", phrase: "airbyte-password"},
		{name: "client id alone", env: in("AIRBYTE_CLIENT_ID", "id"), code: "AP103", phrase: "airbyte-client-secret"},
		{name: "user name alone", env: in("AIRBYTE_USERNAME", "u"), code: "AP103", phrase: "airbyte-password"},
		{name: "two ways to sign in", env: append(in("AIRBYTE_ACCESS_TOKEN", "token-token"), append(in("AIRBYTE_USERNAME", "u"), in("AIRBYTE_PASSWORD", "password-x")...)...), code: "AP104", phrase: "airbyte-access-token"},
		{name: "registry user alone", env: in("REGISTRY_USERNAME", "u"), code: "AP103", phrase: "registry-password"},
		{name: "token and password", env: append(in("REGISTRY_TOKEN", "token-token"), append(in("REGISTRY_USERNAME", "u"), in("REGISTRY_PASSWORD", "password-x")...)...), code: "AP104", phrase: "registry-token"},
		{name: "CA that is none", env: in("REGISTRY_CA_CERTIFICATE", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----"), code: "AP102", phrase: "registry-ca-certificate"},
		{name: "CA file missing", env: in("AIRBYTE_CA_CERTIFICATE", "/does/not/exist.pem"), code: "AP112", phrase: "airbyte-ca-certificate"},
		{name: "client certificate without key", env: in("REGISTRY_CLIENT_CERTIFICATE", "/does/not/exist.pem"), code: "AP103", phrase: "registry-client-key"},
		{name: "secret file missing", env: in("REGISTRY_PASSWORD_FILE", "/does/not/exist"), code: "AP112", phrase: "registry-password"},
		{name: "workspace by name", env: in("WORKSPACE_IDS", "default"), code: "AP102", phrase: "workspace-ids"},
		{name: "definition by name", env: in("DEFINITION_ID", "mine"), code: "AP102", phrase: "definition-id"},
		{name: "repository without registry", env: in("IMAGE", "acme/source-x"), code: "AP110", phrase: "docker.io/acme/source-x"},
		{name: "repository with a tag", env: in("IMAGE", "ghcr.io/acme/source-x:1"), code: "AP110", phrase: "tag"},
		{name: "repository with capitals", env: in("IMAGE", "registry.example/Acme/source-x"), code: "AP110", phrase: "registry.example/acme/source-x"},
		{name: "repository with a scheme", env: in("IMAGE", "https://ghcr.io/acme/source-x"), code: "AP110", phrase: "scheme"},
		{name: "repository too long", env: in("IMAGE", "ghcr.io/"+strings.Repeat("a/", 140)+"x"), code: "AP110", phrase: "256"},
		{name: "tag with a space", env: in("TAG", "1 0"), code: "AP111", phrase: "letters, digits"},
		{name: "tag too long", env: in("TAG", strings.Repeat("1", 129)), code: "AP111", phrase: "128"},
		{name: "latest", env: in("TAG", "latest"), code: "AP109", phrase: "if-tag-exists"},
		{name: "git tag against metadata", env: []string{"GITHUB_REF", "refs/tags/v2.0.0"}, code: "AP108", phrase: "1.0.0"},
		{name: "git tag of no known shape", env: []string{"CI_COMMIT_TAG", "release-of-today"}, code: "AP107", phrase: "tag-pattern"},
		{name: "git tag of another connector", env: []string{"GITHUB_REF", "refs/tags/source-z/v1.0.0"}, code: "AP107", phrase: "source-z"},
		{name: "pattern that is none", env: append(in("TAG_PATTERN", "v("), "GITHUB_REF", "refs/tags/v1"), code: "AP102", phrase: "tag-pattern"},
		{name: "no connector there", dirs: []string{"does-not-exist"}, code: "AP106", phrase: "does-not-exist"},
		{name: "glob without a match", dirs: []string{filepath.Join(t.TempDir(), "*")}, code: "AP106", phrase: "glob"},
		{name: "empty folder", dirs: []string{t.TempDir()}, code: "AP106", phrase: "metadata.yaml"},
		{name: "metadata that is no YAML", dirs: []string{folder(t, "data: [")}, code: "AP105", phrase: "metadata.yaml"},
		{name: "metadata with a number as name", dirs: []string{folder(t, "data:\n  name: [1]\n")}, code: "AP105", phrase: "name"},
		{name: "no repository anywhere", dirs: []string{folder(t, "data:\n  name: X\n  connectorType: source\n  dockerImageTag: 1.0.0\n")}, code: "AP103", phrase: "image"},
		{name: "no type anywhere", dirs: []string{folder(t, "data:\n  name: X\n  dockerRepository: registry.example/acme/x\n  dockerImageTag: 1.0.0\n")}, code: "AP103", phrase: "connector-type"},
		{name: "one image for two connectors", dirs: []string{good, other}, env: in("IMAGE", "registry.example/acme/x"), code: "AP104", phrase: "{connector}"},
		{name: "the same image twice", dirs: []string{good, folder(t, metadata)}, code: "AP113", phrase: "source-x"},
		{name: "resource requirements", env: in("RESOURCE_REQUIREMENTS", `{"default":{"memory":"1Gi"}}`), code: "AP102", phrase: "memory_limit"},
		{name: "documentation that is no URL", env: in("DOCUMENTATION_URL", "see the wiki"), code: "AP102", phrase: "documentation-url"},
		{name: "extra tag", env: in("EXTRA_TAGS", "a b"), code: "AP111", phrase: "extra-tags"},
	}
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{})
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			env := environment{"HOME": t.TempDir(), "AIRBYTE_PUBLISH_AIRBYTE_URL": airbyte.url}.with(tc.env...)
			dirs := tc.dirs
			if dirs == nil {
				dirs = []string{good}
			}
			for _, verb := range []string{"publish", "plan"} {
				o := env.run(t, append(append([]string{verb}, tc.args...), dirs...)...)
				if o.code != 2 || !strings.Contains(o.stderr, tc.code+" ") && !strings.Contains(o.stderr, tc.code+":") || !strings.Contains(o.stderr, tc.phrase) {
					t.Errorf("%s: exit code %d, want 2 with %s and %q\n%s", verb, o.code, tc.code, tc.phrase, o)
				}
			}
		})
	}
	t.Cleanup(func() {
		if n := airbyte.requests.Load(); n != 0 {
			t.Errorf("Airbyte was contacted %d times", n)
		}
	})
}

func TestAllProblemsAtOnce(t *testing.T) {
	t.Parallel()
	o := environment{"HOME": t.TempDir(), "AIRBYTE_PUBLISH_JOBS": "many", "AIRBYTE_PUBLISH_IMAGE": "Acme/x", "AIRBYTE_PUBLISH_WORKSPACE_IDS": "mine",
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME": "u"}.run(t, "publish", "does-not-exist")
	for _, want := range []string{"jobs", "workspace-ids", "registry-password", "airbyte-url", "does-not-exist"} {
		if !strings.Contains(o.stderr, want) {
			t.Errorf("nothing is said about %s", want)
		}
	}
	if o.code != 2 {
		t.Errorf("exit code %d", o.code)
	}
	if t.Failed() {
		t.Log(o)
	}
}
