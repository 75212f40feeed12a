package registry

import (
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// hints are what to know of well-known registries when something fails there, from their own documentation.
var hints = []struct {
	host string // the end of the registry's host
	code fault.Code
	text string
}{
	{"ghcr.io", fault.NoCredentials, "In a workflow, GITHUB_TOKEN is the password and the job needs `permissions: packages: write`."},
	{"ghcr.io", fault.CredentialsRefused, "GitHub takes GITHUB_TOKEN or a classic personal access token."},
	{"ghcr.io", fault.PushDenied, "The job needs `permissions: packages: write`; a package that was first pushed by hand must be opened to " +
		"the repository under \"Manage Actions access\"."},
	{"docker.io", fault.NoCredentials, "Docker Hub takes a personal access token as the password."},
	{"docker.io", fault.CredentialsRefused, "Docker Hub takes a personal access token as the password; for an organisation's token the user " +
		"name is the organisation."},
	{"docker.io", fault.PushDenied, "On Docker Hub the namespace must be yours and the token needs Read & Write."},
	{"registry.gitlab.com", fault.NoCredentials, "In GitLab CI they are $CI_REGISTRY_USER and $CI_REGISTRY_PASSWORD."},
	{"registry.gitlab.com", fault.PushDenied, "On GitLab the image's path must lie under the project's, the token needs read_registry and " +
		"write_registry, and the tag must not be protected."},
	{".pkg.dev", fault.CredentialsRefused, "An access token's user name is oauth2accesstoken, a service account key's is _json_key."},
	{".pkg.dev", fault.PushDenied, "On Artifact Registry the repository (LOCATION-docker.pkg.dev/PROJECT/REPOSITORY) must exist and you need " +
		"roles/artifactregistry.writer on it."},
	{".amazonaws.com", fault.NoCredentials, "`aws ecr get-login-password` prints ECR's password; the user name is AWS."},
	{".amazonaws.com", fault.CredentialsRefused, "ECR's user name is AWS and its password lives for 12 hours."},
	{".amazonaws.com", fault.RepositoryMissing, "ECR ends the connection when the repository does not exist: " +
		"`aws ecr create-repository --repository-name NAME`, without the host."},
	{".azurecr.io", fault.CredentialsRefused, "A service principal's id and secret are user name and password."},
	{".azurecr.io", fault.PushDenied, "On Azure the role AcrPush is needed, and the registry's firewall must let this machine in."},
}

// hint is what to know of this registry when it fails with code, with a space in front; mostly empty.
func hint(host string, code fault.Code) string {
	for _, h := range hints {
		if h.code == code && strings.HasSuffix(host, h.host) {
			return " " + h.text
		}
	}
	return ""
}
