package deployment

import (
	"regexp"
	"strings"
)

// advice is what is known of one kind of registry from the side of those who pull.
type advice struct {
	name string
	host *regexp.Regexp
	// lasting names the credentials that may stand in a pull secret, as a sentence.
	lasting string
	// denied is what to do when a pull was denied, as sentences.
	denied string
	// none tells that there are no credentials that last.
	none bool
}

// registries are the kinds of registries whose pulling differs. The last one is every other. Only what pulls is known
// here; package registry knows what pushes.
var registries = []advice{
	{
		name: "Amazon ECR", none: true,
		host: regexp.MustCompile(`^(\d{12}\.dkr[.-]ecr(-fips)?\.[a-z0-9-]+\.(amazonaws\.com(\.cn)?|on\.(aws|amazonwebservices\.com\.cn))|public\.ecr\.aws)$`),
		lasting: "ECR has none: its tokens end after 12 hours. On EKS give the nodes' role the policy AmazonEC2ContainerRegistryPullOnly; elsewhere use the kubelet's" +
			" ecr-credential-provider, or a job that renews the secret (airbyte-publish pull-secret --ecr-refresher).",
		denied: "On EKS the nodes' role needs the policy AmazonEC2ContainerRegistryPullOnly, and in another account the repository a policy for it; roles of service accounts (IRSA)" +
			" pull no images. Elsewhere the secret must be renewed at least every 12 hours: airbyte-publish pull-secret --ecr-refresher prints a job for that.",
	},
	{
		name:    "Google Artifact Registry",
		host:    regexp.MustCompile(`^([a-z0-9-]+-docker\.pkg\.dev|([a-z]+\.)?gcr\.io)$`),
		lasting: "Use the user name _json_key with a service account's key that has the role roles/artifactregistry.reader; access tokens end after an hour. On GKE the nodes' own service account with that role needs no secret.",
		denied: "On GKE the nodes' service account needs the role roles/artifactregistry.reader on the repository; Workload Identity of pods pulls no images. Elsewhere a pull secret" +
			" with the user name _json_key and a service account's key is needed.",
	},
	{
		name:    "Azure Container Registry",
		host:    regexp.MustCompile(`^[a-z0-9-]+\.azurecr\.(io|cn|us)$`),
		lasting: "Use a service principal with the role AcrPull (the user name is its client id), or a token of the registry with a scope map; refresh tokens end after about three hours. On AKS az aks update --attach-acr needs no secret.",
		denied:  "On AKS run az aks update --attach-acr, which gives the kubelet's identity the role AcrPull. Elsewhere a pull secret with a service principal or a repository-scoped token is needed; their passwords expire.",
	},
	{
		name:    "Docker Hub",
		host:    regexp.MustCompile(`^(docker\.io|index\.docker\.io|registry-1\.docker\.io)$`),
		lasting: "Use a personal or organization access token with the right to read.",
		denied:  "A private repository needs a pull secret whose key is https://index.docker.io/v1/; airbyte-publish pull-secret writes it so.",
	},
	{
		name:    "GitHub's registry",
		host:    regexp.MustCompile(`^(ghcr\.io|docker\.pkg\.github\.com)$`),
		lasting: "Use a classic personal access token with the scope read:packages, of a user that lasts; GITHUB_TOKEN ends with the job, and fine-grained tokens are not taken.",
		denied:  "A package is private when it is pushed for the first time: make it public, or have a pull secret with a classic personal access token (read:packages), whose user may read the package.",
	},
	{
		name:    "GitLab's registry",
		host:    regexp.MustCompile(`^registry\.gitlab\.com$|^registry\.gitlab\.|^gitlab\.`),
		lasting: "Use a deploy token with the scope read_registry; CI_JOB_TOKEN and CI_REGISTRY_PASSWORD end with the job.",
		denied:  "A pull secret with a deploy token (scope read_registry) of the project or its group is needed; a job's own token has ended by now.",
	},
	{
		name:    "the registry",
		host:    regexp.MustCompile(``),
		lasting: "Use a user or robot account of the registry that may only read and that does not expire.",
		denied:  "A pull secret with a user of the registry that may read this repository is needed.",
	},
}

// adviceFor finds the kind of a registry by its host, with or without a port.
func adviceFor(host string) advice {
	name, _, _ := strings.Cut(strings.ToLower(host), ":")
	for _, a := range registries {
		if a.host.MatchString(name) {
			return a
		}
	}
	return registries[len(registries)-1]
}

// hubKey is the key under which kubelets and docker look for Docker Hub's credentials.
const hubKey = "https://index.docker.io/v1/"

// authKey is the key of a registry in a docker configuration.
func authKey(host string) string {
	if adviceFor(host).name == "Docker Hub" {
		return hubKey
	}
	return strings.ToLower(host)
}
