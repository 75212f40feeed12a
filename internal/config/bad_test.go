package config_test

import (
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// env makes an environment out of pairs of an input's name and its value.
func env(pairs ...string) map[string]string {
	m := map[string]string{}
	for i := 0; i+1 < len(pairs); i += 2 {
		m[variable(pairs[i])] = pairs[i+1]
	}
	return m
}

func variable(input string) string {
	return "AIRBYTE_PUBLISH_" + strings.ToUpper(strings.ReplaceAll(input, "-", "_"))
}

// metadata is erp with a line replaced.
func metadata(old, replacement string) map[string]string {
	if !strings.Contains(erp, old) {
		panic(old)
	}
	return map[string]string{"metadata.yaml": strings.Replace(erp, old, replacement, 1)}
}

func two() map[string]string {
	return map[string]string{
		"source-erp/metadata.yaml": erp,
		"destination-crm/metadata.yaml": strings.NewReplacer("ERP", "CRM", "connectorType: source", "connectorType: destination",
			"source-erp", "destination-crm", "1.2.3", "4.5.6").Replace(erp),
	}
}

// TestBadInput has one mistake per case, which gives one problem with its code, the input's name and a remedy.
func TestBadInput(t *testing.T) {
	t.Parallel()
	cert, key := certificate(t)
	otherCert, _ := certificate(t)
	const id = "12345678-90ab-cdef-1234-567890abcdef"
	both := []string{"source-erp", "destination-crm"}
	tests := []struct {
		name    string
		world   world
		code    fault.Code
		phrases []string
	}{
		// Names and sources.
		{"variable unknown", world{env: env("airbyte-uri", "x")}, fault.UnknownInput, []string{`"AIRBYTE_PUBLISH_AIRBYTE_URI"`, "Did you mean AIRBYTE_PUBLISH_AIRBYTE_URL?"}},
		{"variable turned round", world{env: env("ids-workspace", "x")}, fault.UnknownInput, []string{"Did you mean AIRBYTE_PUBLISH_WORKSPACE_IDS?"}},
		{"variable like none", world{env: env("frobnicate", "x")}, fault.UnknownInput, []string{`"AIRBYTE_PUBLISH_FROBNICATE"`, "README"}},
		{"variable in lower case", world{env: map[string]string{"AIRBYTE_PUBLISH_jobs": "2"}}, fault.UnknownInput, []string{"Did you mean AIRBYTE_PUBLISH_JOBS?"}},
		{"variable of a later capability", world{env: env("check-actors", "x")}, fault.UnknownInput, []string{`"AIRBYTE_PUBLISH_CHECK_ACTORS"`}},
		{"action input unknown", world{env: env("inputs", `{"airbyte-ur":"x"}`)}, fault.UnknownInput, []string{`"airbyte-ur"`, "Did you mean airbyte-url?"}},
		{"action inputs no JSON", world{env: env("inputs", `jobs=2`)}, fault.InvalidInput, []string{"AIRBYTE_PUBLISH_INPUTS", "not a JSON object", "toJSON(inputs)"}},
		{"action inputs a list", world{env: env("inputs", `["jobs"]`)}, fault.InvalidInput, []string{"not a JSON object"}},
		{"action inputs twice", world{env: env("inputs", `{} {}`)}, fault.InvalidInput, []string{"something follows"}},
		{"action input a list", world{env: env("inputs", `{"jobs":[1]}`)}, fault.InvalidInput, []string{`the value of "jobs"`}},
		{"flag unknown", world{flags: map[string]string{"airbyte-ulr": "x"}}, fault.UnknownInput, []string{`"--airbyte-ulr"`, "Did you mean --airbyte-url?"}},
		{"flag for a secret", world{flags: map[string]string{"airbyte-password": "hunter22"}}, fault.UnknownInput,
			[]string{"AIRBYTE_PUBLISH_AIRBYTE_PASSWORD", "--airbyte-password-file"}},

		// Kinds.
		{"number", world{env: env("jobs", "many")}, fault.InvalidInput, []string{`input "jobs": "many" (from AIRBYTE_PUBLISH_JOBS) is not a whole number. Give a number from 1 to 64`}},
		{"number too low", world{flags: map[string]string{"jobs": "0"}}, fault.InvalidInput, []string{`"0" (from --jobs) is out of range`, "from 1 to 64"}},
		{"number too high", world{env: env("inputs", `{"jobs": 65}`)}, fault.InvalidInput, []string{`"65" (from the action's inputs)`}},
		{"boolean yes", world{env: env("dry-run", "yes")}, fault.InvalidInput, []string{`input "dry-run": "yes"`, "Write true or false"}},
		{"boolean 1", world{env: env("register", "1")}, fault.InvalidInput, []string{`input "register": "1"`, "Write true or false"}},
		{"boolean tRUE", world{env: env("registry-plain-http", "tRUE")}, fault.InvalidInput, []string{"Write true or false"}},
		{"duration without unit", world{env: env("airbyte-timeout", "900")}, fault.InvalidInput, []string{`input "airbyte-timeout": "900"`, "15m"}},
		{"duration too short", world{env: env("airbyte-timeout", "-1m")}, fault.InvalidInput, []string{"from 1s to 24h"}},
		{"enum", world{env: env("if-tag-exists", "replace")}, fault.InvalidInput, []string{`"replace"`, "Write fail, skip or overwrite"}},
		{"enum in upper case", world{env: env("connector-type", "Source")}, fault.InvalidInput, []string{`"Source"`, "Write source or destination"}},
		{"line break", world{env: env("name", "a\nb")}, fault.InvalidInput, []string{`input "name"`, "one line"}},
		{"no UTF-8", world{env: env("name", "a\xffb")}, fault.InvalidInput, []string{`input "name"`, "UTF-8"}},
		{"no UUID", world{env: env("workspace-ids", id+", default")}, fault.InvalidInput, []string{`input "workspace-ids": "default"`, "not a UUID"}},
		{"UUID in braces", world{env: env("definition-id", "{"+id+"}")}, fault.InvalidInput, []string{`input "definition-id"`, "not a UUID"}},
		{"several definitions", world{env: env("definition-id", id+","+strings.Replace(id, "1", "2", 1))}, fault.InvalidInput, []string{"several ids"}},
		{"resources no object", world{env: env("resource-requirements", "2 GB")}, fault.InvalidInput, []string{`input "resource-requirements"`}},
		{"resources with unknown key", world{env: env("resource-requirements", "default: {cpus: '1'}")}, fault.InvalidInput, []string{`input "resource-requirements"`, "cpus", "cpu_limit"}},

		// Files.
		{"secret's file missing", world{env: env("airbyte-access-token-file", "the file that it names")}, fault.UnreadableFile, []string{`input "airbyte-access-token-file"`, "the file that it names", "no such file"}},
		{"secret's file empty", world{env: env("airbyte-access-token-file", "empty"), files: map[string]string{"metadata.yaml": erp, "empty": "\n"}}, fault.UnreadableFile, []string{"it is empty"}},
		{"secret's file a folder", world{env: env("airbyte-access-token-file", ".")}, fault.UnreadableFile, []string{"is a directory"}},
		{"secret's file large", world{env: env("airbyte-access-token-file", "large"), files: map[string]string{"metadata.yaml": erp, "large": strings.Repeat("x", 1<<20+1)}}, fault.UnreadableFile, []string{"more than 1048576 bytes"}},
		{"secret and its file", world{env: env("airbyte-access-token", "hunter22", "airbyte-access-token-file", "x")}, fault.ConflictingInputs, []string{`input "airbyte-access-token"`, "airbyte-access-token-file", "Give one"}},
		{"secret with a line break", world{env: env("airbyte-access-token", "hunter\n22")}, fault.InvalidInput, []string{`input "airbyte-access-token"`, "line break"}},
		{"certificate's file missing", world{env: env("airbyte-ca-certificate", "ca.pem")}, fault.UnreadableFile, []string{`input "airbyte-ca-certificate"`, `"ca.pem"`}},
		{"certificate's file holds none", world{env: env("airbyte-ca-certificate", "metadata.yaml")}, fault.InvalidInput, []string{"no certificate in PEM form"}},
		{"certificate's text holds none", world{env: env("registry-ca-certificate", "two\nlines")}, fault.InvalidInput, []string{"no certificate in PEM form"}},
		{"certificate is a key", world{env: env("registry-ca-certificate", key)}, fault.InvalidInput, []string{`input "registry-ca-certificate"`, "block 1 is no certificate"}},
		{"certificate broken", world{env: env("registry-ca-certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n")}, fault.InvalidInput, []string{"certificate 1 can't be parsed"}},
		{"client key missing", world{env: env("registry-client-certificate", cert)}, fault.MissingInput, []string{`input "registry-client-key"`, "AIRBYTE_PUBLISH_REGISTRY_CLIENT_KEY", "registry-client-key-file"}},
		{"client certificate missing", world{env: env("registry-client-key", key)}, fault.MissingInput, []string{`input "registry-client-certificate"`}},
		{"client key of another", world{env: env("registry-client-certificate", otherCert, "registry-client-key", key)}, fault.InvalidInput, []string{`input "registry-client-key"`, "not the key of the first certificate"}},
		{"client key a path", world{env: env("registry-client-certificate", cert, "registry-client-key", "key.pem")}, fault.InvalidInput, []string{"no private key in PEM form", "registry-client-key-file"}},
		{"client key encrypted", world{env: env("registry-client-certificate", cert, "registry-client-key", strings.ReplaceAll(key, "PRIVATE", "ENCRYPTED PRIVATE"))}, fault.InvalidInput, []string{"is encrypted", "openssl"}},

		// Signing in.
		{"registry password missing", world{env: env("registry-username", "u")}, fault.MissingInput, []string{`input "registry-password"`, "AIRBYTE_PUBLISH_REGISTRY_PASSWORD"}},
		{"registry password and token", world{env: env("registry-password", "hunter22", "registry-token", "hunter23")}, fault.ConflictingInputs, []string{`input "registry-password"`, "registry-token", "Keep one"}},
		{"role and user", world{env: env("registry-username", "u", "registry-password", "hunter22", "aws-role-arn", "arn:aws:iam::123456789012:role/p")}, fault.ConflictingInputs, []string{`input "aws-role-arn"`, "registry-username", "Keep one"}},
		{"role of another form", world{env: env("aws-role-arn", "publish")}, fault.InvalidInput, []string{`input "aws-role-arn"`, "arn:aws:iam::123456789012:role/publish"}},
		{"workload identity of another form", world{env: env("gcp-workload-identity-provider", "ci/github")}, fault.InvalidInput, []string{`input "gcp-workload-identity-provider"`, "workloadIdentityPools"}},
		{"service account without a provider", world{env: env("gcp-service-account", "a@b.iam.gserviceaccount.com")}, fault.MissingInput, []string{`input "gcp-workload-identity-provider"`}},
		{"tenant missing", world{env: env("azure-client-id", "11111111-2222-3333-4444-555555555555")}, fault.MissingInput, []string{`input "azure-tenant-id"`}},
		{"client with an address", world{env: env("azure-client-id", "https://x/", "azure-tenant-id", "contoso.onmicrosoft.com")}, fault.InvalidInput, []string{`input "azure-client-id"`}},
		{"pull password missing", world{env: env("pull-username", "u")}, fault.MissingInput, []string{`input "pull-password"`}},
		{"unknown provider", world{env: env("registry-provider", "aws")}, fault.InvalidInput, []string{`input "registry-provider"`, "ecr"}},
		{"registry token and user", world{env: env("registry-username", "u", "registry-password", "hunter22", "registry-token", "hunter23")}, fault.ConflictingInputs, []string{`input "registry-username"`, "registry-token", "Keep one"}},
		{"registry username with colon", world{env: env("registry-username", "u:p", "registry-password", "hunter22")}, fault.InvalidInput, []string{`input "registry-username"`, "colon"}},
		{"airbyte secret missing", world{env: env("airbyte-client-id", "c")}, fault.MissingInput, []string{`input "airbyte-client-secret"`}},
		{"airbyte client id missing", world{env: env("airbyte-client-secret", "hunter22")}, fault.MissingInput, []string{`input "airbyte-client-id"`}},
		{"airbyte password missing", world{env: env("airbyte-username", "u")}, fault.MissingInput, []string{`input "airbyte-password"`}},
		{"airbyte two ways", world{env: env("airbyte-client-id", "c", "airbyte-client-secret", "hunter22", "airbyte-access-token", "hunter23")}, fault.ConflictingInputs, []string{`input "airbyte-client-id"`, "airbyte-access-token"}},
		{"airbyte header without colon", world{env: env("airbyte-headers", "X-A: b\nhunter22")}, fault.InvalidInput, []string{`input "airbyte-headers": line 2`, "Name: value"}},
		{"airbyte header without value", world{env: env("airbyte-headers", "X-A:")}, fault.InvalidInput, []string{"line 1 is not a header"}},
		{"airbyte header of the request", world{env: env("airbyte-headers", "host: a")}, fault.InvalidInput, []string{"line 1 sets Host"}},
		{"airbyte header against sign-in", world{env: env("airbyte-headers", "authorization: Bearer hunter22", "airbyte-access-token", "hunter23")}, fault.ConflictingInputs, []string{"Authorization", "Proxy-Authorization"}},
		{"airbyte url missing", world{env: env("airbyte-url", "")}, fault.MissingInput, []string{`input "airbyte-url"`, "register to false"}},
		{"airbyte url missing for plan", world{verb: config.Plan, env: env("airbyte-url", "")}, fault.MissingInput, []string{`input "airbyte-url"`}},
		{"airbyte url without scheme", world{env: env("airbyte-url", "localhost:8000")}, fault.InvalidInput, []string{`input "airbyte-url"`, "https:// in front"}},
		{"airbyte url with another scheme", world{env: env("airbyte-url", "ftp://example.com")}, fault.InvalidInput, []string{"https:// or http://"}},
		{"airbyte url with user", world{env: env("airbyte-url", "https://u:hunter22@example.com")}, fault.InvalidInput, []string{"airbyte-username and airbyte-password"}},
		{"airbyte url with odd user", world{env: env("airbyte-url", "https://u:hunter22%zz@example.com")}, fault.InvalidInput, []string{"airbyte-username and airbyte-password"}},
		{"airbyte url with query", world{env: env("airbyte-url", "https://example.com/?token=hunter22")}, fault.InvalidInput, []string{"query or a fragment"}},
		{"airbyte url without host", world{env: env("airbyte-url", "https:///api")}, fault.InvalidInput, []string{"not a URL"}},
		{"airbyte url with line break", world{env: env("airbyte-url", "https://exam\nple.com")}, fault.InvalidInput, []string{"not a URL"}},
		{"airbyte url with bad port", world{env: env("airbyte-url", "https://example.com:99999")}, fault.InvalidInput, []string{"port"}},

		// Connectors.
		{"no connector here", world{files: map[string]string{"README.md": ""}}, fault.NoConnector, []string{`input "connectors": "."`, "metadata.yaml"}},
		{"no such folder", world{args: []string{"source-x"}}, fault.NoConnector, []string{`"source-x"`, "no such file"}},
		{"a file", world{args: []string{"metadata.yaml"}}, fault.NoConnector, []string{`"metadata.yaml" is a file. Give its folder: "."`}},
		{"folder without connector", world{args: []string{"sub"}, files: map[string]string{"sub/x": ""}}, fault.NoConnector, []string{`"sub" is no connector`}},
		{"glob without match", world{args: []string{"connectors/*"}}, fault.NoConnector, []string{`"connectors/*" matches nothing`}},
		{"glob without connector", world{args: []string{"*"}}, fault.NoConnector, []string{"matches 1 paths and no connector"}},
		{"glob broken", world{args: []string{"source-["}}, fault.InvalidInput, []string{`"source-["`, "not a glob"}},
		{"glob of two stars", world{args: []string{"a/**"}}, fault.InvalidInput, []string{"**", "connectors/*"}},
		{"changed since an option", world{env: env("changed-since", "--output=x")}, fault.InvalidInput, []string{`input "changed-since"`, "origin/main"}},
		{"changed since two words", world{env: env("changed-since", "a b")}, fault.InvalidInput, []string{`input "changed-since"`}},
		{"changed without a folder", world{files: map[string]string{"README.md": ""}, env: env("changed-since", "v1", "source", "oci:x", "image", "ghcr.io/acme/source-x", "tag", "1")},
			fault.ConflictingInputs, []string{`input "changed-since"`, "name the folders"}},
		{"arguments and flag", world{args: []string{"."}, flags: map[string]string{"connectors": "."}}, fault.ConflictingInputs, []string{`input "connectors"`}},
		{"list of nothing", world{env: env("connectors", ",")}, fault.MissingInput, []string{`input "connectors"`, "no folder"}},
		{"metadata broken", world{files: map[string]string{"metadata.yaml": "data: [\n"}}, fault.BadMetadata, []string{"metadata.yaml"}},
		{"metadata with a number as tag", world{files: metadata("1.2.3", "1.2")}, fault.BadMetadata, []string{"metadata.yaml:6", "dockerImageTag"}},
		{"name too long", world{env: env("name", strings.Repeat("ü", 257))}, fault.InvalidInput, []string{`input "name"`, "257 characters", "256"}},
		{"name in metadata too long", world{files: metadata("ERP", strings.Repeat("x", 257))}, fault.InvalidInput, []string{`input "name" (data.name of metadata.yaml)`}},
		{"name in metadata with line break", world{files: metadata("ERP", `"a\nb"`)}, fault.InvalidInput, []string{"data.name", "line break"}},
		{"documentation no URI", world{env: env("documentation-url", "see the wiki")}, fault.InvalidInput, []string{`input "documentation-url": "see the wiki" is not a URI`}},
		{"documentation too long", world{env: env("documentation-url", "https://x/"+strings.Repeat("a", 250))}, fault.InvalidInput, []string{"260 characters"}},
		{"type unknown", world{files: metadata("  connectorType: source\n  dockerRepository: ghcr.io/acme/source-erp", "  dockerRepository: ghcr.io/acme/erp")}, fault.MissingInput, []string{`input "connector-type"`, "source or destination"}},
		{"source of no kind", world{env: env("source", "image.tar")}, fault.InvalidInput, []string{`input "source": "image.tar"`, "docker-archive:FILE"}},
		{"source empty", world{env: env("source", "oci:")}, fault.InvalidInput, []string{`input "source"`}},

		// Builds.
		{"platform of no form", world{env: env("platforms", "linux/amd64,arm64")}, fault.InvalidInput, []string{`input "platforms": "arm64" is not a platform`}},
		{"platforms without amd64", world{env: env("platforms", "linux/arm64")}, fault.InvalidInput, []string{"lacks linux/amd64"}},
		{"build argument without name", world{env: env("build-args", "=x")}, fault.InvalidInput, []string{`input "build-args"`, "NAME=value"}},
		{"build argument of no variable", world{env: env("build-args", "NOT_SET")}, fault.InvalidInput, []string{`"NOT_SET" has no value`}},
		{"label without value", world{env: env("labels", "team")}, fault.InvalidInput, []string{`input "labels": "team" has no value`}},
		{"cache of no type", world{env: env("cache-to", "type=foo")}, fault.InvalidInput, []string{`input "cache-to"`, "type=foo"}},
		{"cache without reference", world{env: env("cache-from", "type=registry")}, fault.InvalidInput, []string{`input "cache-from"`, "lacks ref="}},
		{"cache without folder", world{env: env("cache-to", "type=local,src=x")}, fault.InvalidInput, []string{`input "cache-to"`, "lacks dest="}},
		{"secret without id", world{env: env("build-secrets", "env=HOME")}, fault.InvalidInput, []string{`input "build-secrets": a line has no id`}},
		{"secret itself", world{env: env("build-secrets", "npm=npm_x8F")}, fault.InvalidInput, []string{`input "build-secrets": a line has a field that is none of id, env and src`}},
		{"secret of two places", world{env: env("build-secrets", "id=a,env=A,src=b")}, fault.InvalidInput, []string{`the secret "a" needs one of env and src`}},
		{"secret of no variable", world{env: env("build-secrets", "id=a,env=NOT_SET")}, fault.InvalidInput, []string{"NOT_SET, which is not set"}},
		{"secret of no file", world{env: env("build-secrets", "id=a,src=nowhere")}, fault.UnreadableFile, []string{`input "build-secrets"`, `"nowhere"`}},
		{"builder unknown", world{env: env("builder", "kaniko")}, fault.InvalidInput, []string{`input "builder"`, "buildkitd"}},
		{"address of no kind", world{env: env("buildkit-host", "10.0.0.1:1234")}, fault.InvalidInput, []string{`input "buildkit-host": "10.0.0.1:1234"`, "tcp://HOST:PORT"}},
		{"address for docker", world{env: env("buildkit-host", "unix:///x", "builder", "docker")}, fault.ConflictingInputs, []string{`input "buildkit-host"`, "builder is docker"}},

		// Images and tags.
		{"repository missing", world{files: metadata("  dockerRepository: ghcr.io/acme/source-erp\n", "")}, fault.MissingInput, []string{`input "image"`, "dockerRepository"}},
		{"repository without registry", world{env: env("image", "acme/source-erp")}, fault.BadRepository, []string{`input "image": "acme/source-erp"`, "docker.io/acme/source-erp"}},
		{"repository with tag", world{env: env("image", "ghcr.io/acme/source-erp:1")}, fault.BadRepository, []string{"holds a tag"}},
		{"repository in metadata", world{files: metadata("ghcr.io/acme", "registry.example/Acme")}, fault.BadRepository, []string{"data.dockerRepository of metadata.yaml", "upper-case"}},
		{"repository with odd placeholder", world{env: env("image", "ghcr.io/acme/{name}")}, fault.BadRepository, []string{"{connector}"}},
		{"tag not legal", world{env: env("tag", "1.2.3+4")}, fault.BadTag, []string{`input "tag": "1.2.3+4"`}},
		{"tag in metadata not legal", world{files: metadata("1.2.3", "-x")}, fault.BadTag, []string{"data.dockerImageTag of metadata.yaml"}},
		{"tag missing", world{files: metadata("  dockerImageTag: 1.2.3\n", "")}, fault.NoTag, []string{`input "tag"`, "dockerImageTag"}},
		{"tag mutable", world{env: env("tag", "latest")}, fault.MutableTag, []string{`input "tag": "latest"`, "extra-tags", "overwrite"}},
		{"tag in metadata mutable", world{files: metadata("1.2.3", "dev"), verb: config.Lint}, fault.MutableTag, []string{`"dev"`}},
		{"extra tag not legal", world{env: env("extra-tags", "latest,a b")}, fault.BadTag, []string{`input "extra-tags": "a b"`}},
		{"extra tag is the tag", world{env: env("extra-tags", "1.2.3")}, fault.ConflictingInputs, []string{`input "extra-tags"`, `"1.2.3"`}},
		{"tag pattern broken", world{env: env("tag-pattern", "v(")}, fault.InvalidInput, []string{`input "tag-pattern": "v("`, "regular expression"}},
		{"tag pattern without version", world{env: env("tag-pattern", "v.*")}, fault.InvalidInput, []string{`group named "version"`}},
		{"git tag of no version", world{env: map[string]string{"GITHUB_REF": "refs/tags/stable"}}, fault.NoTag, []string{`input "tag"`, `"stable"`, "tag-pattern"}},
		{"git tag with plus", world{env: map[string]string{"CI_COMMIT_TAG": "v1.2.3+4"}}, fault.NoTag, []string{`"v1.2.3+4"`, "without a +"}},
		{"git tag against metadata", world{env: map[string]string{"GITHUB_REF": "refs/tags/v1.3.0"}}, fault.TagsDisagree, []string{`"v1.3.0" says 1.3.0`, "metadata.yaml says 1.2.3"}},
		{"git tag of another", world{env: map[string]string{"CI_COMMIT_TAG": "source-crm/v1.2.3"}}, fault.NoTag, []string{`"source-crm"`, `"ERP"`, `"source-erp"`}},
		{"git tag of none of many", world{files: two(), args: both, env: map[string]string{"CI_COMMIT_TAG": "source-x/v1.2.3"}}, fault.NoTag, []string{`"source-erp"`, `"destination-crm"`}},

		// The cluster.
		{"verify-pull elsewhere", world{env: env("verify-pull", "swarm")}, fault.InvalidInput, []string{`"swarm"`, "off, kubernetes or docker-host"}},
		{"namespace with capitals", world{env: env("kube-namespace", "Airbyte")}, fault.InvalidInput, []string{`input "kube-namespace"`, "lower-case"}},
		{"secret with a space", world{env: env("pull-secret", "my secret")}, fault.InvalidInput, []string{`input "pull-secret"`}},
		{"no such kubeconfig", world{env: env("kubeconfig", "nowhere")}, fault.UnreadableFile, []string{`input "kubeconfig"`, `"nowhere"`}},
		{"kubeconfig's text as a flag", world{flags: map[string]string{"kubeconfig": "users: [{name: hunter2}]\n"}}, fault.InvalidInput, []string{"list of processes", "AIRBYTE_PUBLISH_KUBECONFIG"}},
		{"verify-pull without a tag", world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/source-erp"}}, fault.NoTag, []string{"ghcr.io/acme/source-erp:1.2.3"}},
		{"verify-pull of a registry", world{verb: config.VerifyPull, args: []string{"ghcr.io"}}, fault.BadRepository, []string{`"ghcr.io" is a registry`}},
		{"verify-pull of nothing", world{verb: config.VerifyPull, files: map[string]string{"x": ""}}, fault.MissingInput, []string{"no image is named"}},
		{"verify-pull of no folder", world{verb: config.VerifyPull, args: []string{"nowhere"}}, fault.NoConnector, []string{`"nowhere"`}},
		{"verify-pull of a bad image", world{verb: config.VerifyPull, args: []string{"ghcr.io/Acme/x:1"}}, fault.BadRepository, []string{"upper-case"}},
		{"verify-pull of a bad tag", world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/x:-1"}}, fault.BadTag, nil},
		{"pull-secret of a URL", world{verb: config.PullSecret, args: []string{"https://robot:hunter22@ghcr.io"}}, fault.BadRepository, []string{`"https://ghcr.io" is an address`}},
		{"pull-secret of a short form", world{verb: config.PullSecret, args: []string{"acme/source-erp"}}, fault.BadRepository, []string{"docker.io/acme/source-erp"}},
		{"verify-pull of a digest", world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/source-erp@sha256:" + strings.Repeat("a", 64)}}, fault.NoTag, []string{"Give the tag"}},
		{"verify-pull of half a digest", world{verb: config.VerifyPull, args: []string{"ghcr.io/acme/source-erp:1@sha256:aa"}}, fault.NoTag, []string{"Give the tag"}},
		{"one password for two registries", world{verb: config.PullSecret, args: []string{"ghcr.io/acme/x", "quay.io/acme/x"}, env: env("pull-username", "u", "pull-password", "p")}, fault.ConflictingInputs, []string{"ghcr.io, quay.io"}},

		// The Docker host.
		{"load somewhere", world{env: env("load", "somewhere")}, fault.InvalidInput, []string{`input "load": "somewhere"`, "kind:CLUSTER"}},
		{"load true", world{env: env("load", "true")}, fault.InvalidInput, []string{"docker-host or kind:CLUSTER"}},
		{"load into no cluster", world{env: env("load", "kind:")}, fault.InvalidInput, []string{"kind:airbyte-abctl"}},
		{"load into a bad cluster", world{env: env("load", "kind:A B")}, fault.InvalidInput, []string{`"A B"`}},
		{"loaded and pulled", world{env: env("load", "docker-host", "verify-pull", "docker-host")}, fault.ConflictingInputs, []string{`input "load"`, "not pulled"}},
		{"docker host without scheme", world{env: env("docker-host", "host:2375")}, fault.InvalidInput, []string{`input "docker-host"`, "ssh://USER@HOST"}},
		{"docker host by another scheme", world{env: env("docker-host", "https://host")}, fault.InvalidInput, []string{"not the address"}},
		{"docker host with a password", world{env: env("docker-host", "ssh://me:hunter22@host")}, fault.InvalidInput, []string{"holds a password"}},
		{"docker host no address", world{env: env("docker-host", "ssh://me:hunter22@ho st")}, fault.InvalidInput, []string{"not an address"}},

		// Several connectors.
		{"one repository, two tags", world{files: map[string]string{"a/metadata.yaml": erp, "b/metadata.yaml": strings.ReplaceAll(strings.ReplaceAll(erp, "1.2.3", "2.0.0"), "ERP", "Other")}, args: []string{"*"}}, fault.SameImageTwice, []string{"one definition in Airbyte"}},
		{"one name, two repositories", world{files: map[string]string{"a/metadata.yaml": erp, "b/metadata.yaml": strings.ReplaceAll(erp, "source-erp", "source-other")}, args: []string{"*"}}, fault.ConflictingInputs, []string{`have the name "ERP"`}},
		{"one password, two registries", world{files: map[string]string{"a/metadata.yaml": erp, "b/metadata.yaml": strings.ReplaceAll(strings.ReplaceAll(erp, "ghcr.io", "evil.example"), "ERP", "Other")}, args: []string{"*"},
			env: env("registry-username", "u", "registry-password", "p")}, fault.ConflictingInputs, []string{`input "registry-username"`, "evil.example, ghcr.io"}},
		{"workspaces of none", world{env: env("workspace-ids", ",")}, fault.InvalidInput, []string{`input "workspace-ids"`, "names none"}},
		{"Airbyte user with a colon", world{env: env("airbyte-username", "a:b", "airbyte-password", "p")}, fault.InvalidInput, []string{`input "airbyte-username": it holds a colon`}},
		{"one image for two", world{files: two(), args: both, env: env("image", "ghcr.io/acme/x")}, fault.ConflictingInputs, []string{`input "image"`, "2 connectors", "{connector}"}},
		{"one source for two", world{files: two(), args: both, env: env("source", "oci:x")}, fault.ConflictingInputs, []string{`input "source"`, "{connector}"}},
		{"one name for two", world{files: two(), args: both, env: env("name", "x")}, fault.ConflictingInputs, []string{`input "name"`, "2 connectors"}},
		{"one definition for two", world{files: two(), args: both, env: env("definition-id", id)}, fault.ConflictingInputs, []string{`input "definition-id"`}},
		{"one documentation for two", world{files: two(), args: both, env: env("documentation-url", "https://x")}, fault.ConflictingInputs, []string{`input "documentation-url"`}},
		{"same image twice", world{files: map[string]string{"a/metadata.yaml": erp, "b/metadata.yaml": strings.ReplaceAll(erp, "ghcr.io/acme", "GHCR.io/acme")}, args: []string{"*"}, env: env("image", "ghcr.io/acme/{connector}")},
			fault.SameImageTwice, []string{"a and b", "ghcr.io/acme/source-erp:1.2.3"}},
		{"same extra tag twice", world{files: map[string]string{"a/metadata.yaml": erp, "b/metadata.yaml": strings.ReplaceAll(erp, "1.2.3", "2.0.0")}, args: []string{"*"}, env: env("extra-tags", "latest", "register", "false")},
			fault.SameImageTwice, []string{"source-erp:latest"}},
		{"no folder for a placeholder", world{files: map[string]string{"x": ""}, env: env("source", "oci:x", "image", "ghcr.io/acme/{connector}", "tag", "1", "connector-type", "source")}, fault.MissingInput, []string{`input "image"`, "no connector's folder"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := tt.world.load(t)
			problems := fault.List(err)
			if c == nil || len(problems) != 1 || problems[0].Code != tt.code {
				t.Fatalf("want one problem with the code %s, got:\n%v", tt.code, err)
			}
			if problems[0].Remedy == "" || problems[0].Object == "" || problems[0].Cause == "" {
				t.Errorf("lacks an object, a cause or a remedy: %v", err)
			}
			for _, phrase := range tt.phrases {
				if !strings.Contains(err.Error(), phrase) {
					t.Errorf("lacks %q:\n%v", phrase, err)
				}
			}
			for _, secret := range []string{"hunter", "MIG", "PRIVATE KEY-----\nM"} {
				if strings.Contains(err.Error(), secret) {
					t.Errorf("shows a secret:\n%v", err)
				}
			}
		})
	}
	if len(tests) < 45 {
		t.Errorf("%d cases", len(tests))
	}
}

// What the inputs alone say is checked also where no connector's folder can be read.
func TestInputsAreCheckedWithoutAConnector(t *testing.T) {
	t.Parallel()
	_, err := world{args: []string{"nowhere"}, env: env("connector-type", "sink", "image", "Bad/Image", "tag", "***", "source", "zz", "jobs", "x")}.load(t)
	for _, want := range []string{`"connectors"`, `"connector-type"`, `"image"`, `"tag"`, `"source"`, `"jobs"`, "verb"} {
		if err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("nothing about %s: %v", want, err)
		}
	}
}
