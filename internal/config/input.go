package config

import (
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Group is a heading under which inputs are listed.
type Group string

// The groups, in the order in which they are listed.
const (
	GroupWhat     Group = "What to publish"
	GroupImage    Group = "Image"
	GroupBuild    Group = "Build"
	GroupRegistry Group = "Registry"
	GroupAirbyte  Group = "Airbyte"
	GroupPulling  Group = "Pulling side"
)

// Kind is the form of an input's value.
type Kind string

// The kinds of inputs.
const (
	// Text is one line, taken as it is.
	Text Kind = "text"
	// List is one item per line or comma-separated; items are trimmed, empty ones dropped.
	List Kind = "list"
	// Lines is one item per line, because the items may hold commas.
	Lines Kind = "lines"
	// Bool is true or false, also in the spellings True, TRUE, False and FALSE of YAML 1.2's core schema.
	Bool Kind = "true or false"
	// Int is a whole number.
	Int Kind = "number"
	// Duration is a number with a unit, as in 90s, 15m or 1h30m.
	Duration Kind = "duration"
	// Enum is one of the input's Values.
	Enum Kind = "one of"
	// PEM is a certificate or key as PEM text; a certificate may also be the path of a file that holds it.
	PEM Kind = "PEM"
	// File is the path of a file.
	File Kind = "file"
	// Object is an object as JSON or YAML text.
	Object Kind = "JSON or YAML"
	// Kubeconfig is the path of a kubeconfig or, from anywhere but a flag, its text.
	Kubeconfig Kind = "kubeconfig"
)

// Input is one row of the table from which the flags, the environment variables, action.yml and the documentation are
// made.
type Input struct {
	// Name is the name in action.yml and, behind two dashes, the flag.
	Name  string
	Group Group
	Kind  Kind
	// Values are those that an Enum takes.
	Values []string
	// Help is one or more sentences.
	Help string
	// Default is what an input that is not given stands for; empty when that depends on others or is nothing.
	Default string
	// Secret tells that the value must not be shown. A secret has no flag, because a process list shows flags.
	Secret bool
}

// Env is the input's environment variable.
func (i Input) Env() string {
	return envPrefix + strings.ToUpper(strings.ReplaceAll(i.Name, "-", "_"))
}

const (
	envPrefix = "AIRBYTE_PUBLISH_"
	// envInputs holds all of an action's inputs as one JSON object, because GitHub gives a composite action's steps no
	// variable per input.
	envInputs = envPrefix + "INPUTS"
	// fileSuffix makes the input that names a file out of a secret's name.
	fileSuffix = "-file"
)

//go:generate go run ./gen

// Inputs is the table of all inputs, in the order in which they are documented. Behind each secret stands the input
// that names a file which holds it.
func Inputs() []Input {
	var all []Input
	for _, i := range slices.Concat(whatInputs(), imageInputs(), buildInputs(), registryInputs(), airbyteInputs(), pullingInputs(), dockerHostInputs()) {
		all = append(all, i)
		if i.Secret {
			all = append(all, Input{Name: i.Name + fileSuffix, Group: i.Group, Kind: File,
				Help: "File that holds " + i.Name + ". Line breaks at its end are dropped."})
		}
	}
	return all
}

func whatInputs() []Input {
	return []Input{
		{Name: "connectors", Group: GroupWhat, Kind: List, Default: ".",
			Help: "Folders of the connectors, or globs of them; on the command line also the arguments. A folder is a connector by its metadata.yaml, manifest.yaml or Dockerfile."},
		{Name: "changed-since", Group: GroupWhat, Kind: Text,
			Help: "Commit, tag or branch of git. Of the connectors only those are worked on whose folder changed since, or whose dockerfile or source outside of it."},
		{Name: "connector-type", Group: GroupWhat, Kind: Enum, Values: []string{"source", "destination"},
			Help: "Direction of the connector. Taken from metadata.yaml, else from the prefix source- or destination- of the folder or the image."},
		{Name: "name", Group: GroupWhat, Kind: Text,
			Help: "Name of the connector in Airbyte, at most 256 characters. Taken from metadata.yaml, else from the image."},
		{Name: "documentation-url", Group: GroupWhat, Kind: Text,
			Help: "Where the connector is documented. Taken from metadata.yaml. Airbyte keeps the one that a definition was created with."},
		{Name: "resource-requirements", Group: GroupWhat, Kind: Object,
			Help: "CPU and memory for the connector's pods, as Airbyte's object with the keys default and jobSpecific. Taken from metadata.yaml."},
		{Name: "dry-run", Group: GroupWhat, Kind: Bool, Default: "false",
			Help: "Only tell what would be done; reads, writes nothing."},
		{Name: "jobs", Group: GroupWhat, Kind: Int, Default: "4",
			Help: "How many connectors are worked on at the same time, from 1 to 64."},
	}
}

func imageInputs() []Input {
	return []Input{
		{Name: "image", Group: GroupImage, Kind: Text,
			Help: "Repository to push to, with its registry and without a tag, such as ghcr.io/acme/source-erp. {connector} stands for the connector's image name. Taken from metadata.yaml."},
		{Name: "tag", Group: GroupImage, Kind: Text,
			Help: "Tag to push. Taken from the git tag that the CI job runs for, else from metadata.yaml."},
		{Name: "tag-pattern", Group: GroupImage, Kind: Text, Default: image.DefaultTagPattern,
			Help: "Regular expression that reads a git tag: its group version is the image's tag, its group name, if any, the connector that is meant."},
		{Name: "extra-tags", Group: GroupImage, Kind: List,
			Help: "More tags for the same image, such as latest. They are moved if they exist; Airbyte is never told of them."},
		{Name: "if-tag-exists", Group: GroupImage, Kind: Enum, Values: []string{"fail", "skip", "overwrite"}, Default: "fail",
			Help: "What to do when the tag holds another image: fail, skip the push and register what is there, or overwrite it."},
		{Name: "source", Group: GroupImage, Kind: Text,
			Help: "Image that exists already, instead of building one: oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG or docker://REFERENCE. {connector} stands for the connector's image name."},
	}
}

func registryInputs() []Input {
	return []Input{
		{Name: "registry-provider", Group: GroupRegistry, Kind: Enum, Default: "auto",
			Values: []string{"auto", "ecr", "gar", "acr", "dockerhub", "ghcr", "gitlab", "generic"},
			Help:   "Kind of the registry: ecr (Amazon), gar (Google), acr (Azure), dockerhub, ghcr (GitHub), gitlab or generic. With auto it is told by the registry's host."},
		{Name: "registry-username", Group: GroupRegistry, Kind: Text,
			Help: "User name for the registry; on ECR also an access key's id, on Google _json_key for a service account's key. Without it, a token and OIDC, the provider's own credentials on this machine are used, else the docker configuration and its credential helpers."},
		{Name: "registry-password", Group: GroupRegistry, Kind: Text, Secret: true,
			Help: "Password, access token or key that belongs to registry-username."},
		{Name: "registry-token", Group: GroupRegistry, Kind: Text, Secret: true,
			Help: "Bearer token for the registry, instead of user name and password."},
		{Name: "oidc-token", Group: GroupRegistry, Kind: Text, Secret: true,
			Help: "OIDC token of the CI job, to be exchanged for the registry's credentials. On GitHub it is asked for when it is needed and need not be set."},
		{Name: "aws-role-arn", Group: GroupRegistry, Kind: Text,
			Help: "Role in AWS to assume by OIDC for ECR, such as arn:aws:iam::123456789012:role/publish."},
		{Name: "gcp-workload-identity-provider", Group: GroupRegistry, Kind: Text,
			Help: "Workload identity provider for Artifact Registry by OIDC: projects/NUMBER/locations/global/workloadIdentityPools/POOL/providers/PROVIDER."},
		{Name: "gcp-service-account", Group: GroupRegistry, Kind: Text,
			Help: "Service account to act as behind gcp-workload-identity-provider. Without it the identity of the pool itself needs the rights."},
		{Name: "azure-tenant-id", Group: GroupRegistry, Kind: Text,
			Help: "Tenant of the application that azure-client-id names."},
		{Name: "azure-client-id", Group: GroupRegistry, Kind: Text,
			Help: "Application in Microsoft Entra to sign in as by OIDC for Azure Container Registry. It needs a federated credential for the CI job."},
		{Name: "dockerhub-connection-id", Group: GroupRegistry, Kind: Text,
			Help: "OIDC connection of a Docker Hub organisation, by which the CI job signs in to it."},
		{Name: "registry-ca-certificate", Group: GroupRegistry, Kind: PEM,
			Help: "Certificates to trust for the registry beside the system's, as PEM text or as a file's path."},
		{Name: "registry-client-certificate", Group: GroupRegistry, Kind: PEM,
			Help: "Client certificate to show to the registry, as PEM text or as a file's path."},
		{Name: "registry-client-key", Group: GroupRegistry, Kind: PEM, Secret: true,
			Help: "Private key that belongs to registry-client-certificate, as PEM text, not encrypted."},
		{Name: "registry-plain-http", Group: GroupRegistry, Kind: Bool, Default: "false",
			Help: "Talk to the registry over plain http. Credentials then go over the network readable by all on the way."},
		{Name: "create-repository", Group: GroupRegistry, Kind: Bool, Default: "false",
			Help: "Create a missing repository on ECR, with immutable tags and scan on push. Other registries make repositories by a push, or want them made by hand."},
		{Name: "pull-username", Group: GroupRegistry, Kind: Text,
			Help: "User name that the Airbyte deployment pulls with. The pushed image is then fetched with it, to prove that it can."},
		{Name: "pull-password", Group: GroupRegistry, Kind: Text, Secret: true,
			Help: "Password or access token that belongs to pull-username."},
	}
}

func airbyteInputs() []Input {
	return []Input{
		{Name: "airbyte-url", Group: GroupAirbyte, Kind: Text,
			Help: "Address of the Airbyte instance, such as https://airbyte.example.com. Required unless register is false."},
		{Name: "airbyte-client-id", Group: GroupAirbyte, Kind: Text,
			Help: "Client id of an application of Airbyte."},
		{Name: "airbyte-client-secret", Group: GroupAirbyte, Kind: Text, Secret: true,
			Help: "Client secret that belongs to airbyte-client-id."},
		{Name: "airbyte-username", Group: GroupAirbyte, Kind: Text,
			Help: "User name for an Airbyte behind HTTP basic authentication."},
		{Name: "airbyte-password", Group: GroupAirbyte, Kind: Text, Secret: true,
			Help: "Password that belongs to airbyte-username."},
		{Name: "airbyte-access-token", Group: GroupAirbyte, Kind: Text, Secret: true,
			Help: "Access token of Airbyte, instead of a client id or a user name."},
		{Name: "airbyte-headers", Group: GroupAirbyte, Kind: Lines, Secret: true,
			Help: "Further headers of every request to Airbyte, for a proxy in front of it: one Name: value per line."},
		{Name: "airbyte-ca-certificate", Group: GroupAirbyte, Kind: PEM,
			Help: "Certificates to trust for Airbyte beside the system's, as PEM text or as a file's path."},
		{Name: "workspace-ids", Group: GroupAirbyte, Kind: List,
			Help: "Workspaces to register the connector in. Without it the only one that the instance lists."},
		{Name: "definition-id", Group: GroupAirbyte, Kind: Text,
			Help: "Definition to update. Without it the one with the same image repository is updated, else one is created."},
		{Name: "register", Group: GroupAirbyte, Kind: Bool, Default: "true",
			Help: "Create or update the definition in Airbyte. With false only the image is published."},
		{Name: "airbyte-timeout", Group: GroupAirbyte, Kind: Duration, Default: "15m",
			Help: "How long to wait for Airbyte to create or update a definition, from 1s to 24h; it starts a pod and reads the image's spec."},
	}
}

func pullingInputs() []Input {
	return []Input{
		{Name: "verify-pull", Group: GroupPulling, Kind: Enum, Values: []string{"off", "kubernetes", "docker-host"}, Default: "off",
			Help: "Prove, after a definition was created or updated, that the deployment can pull the image and run its spec: kubernetes by a pod like Airbyte's own. docker-host has the engine of docker-host pull the image and run its spec before the definition is created or updated."},
		{Name: "kubeconfig", Group: GroupPulling, Kind: Kubeconfig,
			Help: "Kubeconfig of the cluster that Airbyte runs in, as a file's path or, in the environment and the action, as its text. Without it KUBECONFIG, the pod's own service account, and ~/.kube/config, the first of these that is there."},
		{Name: "kube-context", Group: GroupPulling, Kind: Text,
			Help: "Context of the kubeconfig. Without it the current one."},
		{Name: "kube-namespace", Group: GroupPulling, Kind: Text,
			Help: "Namespace in which Airbyte is installed. Without it the context's, or the only one that has an Airbyte."},
		{Name: "pull-secret", Group: GroupPulling, Kind: Text, Default: "airbyte-publish-pull",
			Help: "Name of the secret that the verb pull-secret makes or adds to."},
	}
}

// Output is a value that a run gives to the CI host.
type Output struct {
	Name, Help string
}

// Outputs is the table of all outputs, in the order in which they are documented.
func Outputs() []Output {
	return []Output{
		{"image", "Repository and tag, such as ghcr.io/acme/source-erp:1.2.3."},
		{"digest", "Digest of the image, such as sha256:…."},
		{"image-ref", "Repository and digest, joined by @."},
		{"tag", "Tag of the image."},
		{"pushed", "Whether something was pushed: true or false."},
		{"definition-id", "Id of the definition in Airbyte."},
		{"action", "What became of the definition: created, updated, unchanged or none."},
		{"previous-tag", "Tag that the definition had before, if there was one."},
		{"workspace-id", "Workspace that the definition belongs to."},
		{"matrix", "In a plan, a matrix for GitHub's strategy as one line of JSON: an entry under include for each connector that has something to do. Otherwise empty."},
		{"results", "One line of JSON: an array with a row for each connector and workspace. The other outputs describe the first connector."},
		{"summary", "The job's summary as Markdown, cut to what a comment on GitHub can hold. On GitHub only."},
	}
}
