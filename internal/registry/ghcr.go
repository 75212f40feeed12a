package registry

import (
	"cmp"
	"context"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// ghcr is GitHub's container registry, also that of GitHub Enterprise with data residency.
func ghcr() *provider {
	return &provider{
		id: "ghcr", title: "GitHub's container registry", matches: hostPattern(ghcrHost.MatchString), hosts: "ghcr.io and containers.SUBDOMAIN.ghe.com",
		path: ghcrPath, noUser: func(string) string { return "x-access-token" }, ambient: ghcrAmbient,
		rules: []rule{
			// To credentials that it doesn't know, GitHub's token server answers 403, not 401.
			{step: "token", text: "denied: denied", is: fault.CredentialsRefused},
			{text: "permission_denied", is: fault.PushDenied},
			{text: "installation not allowed", is: fault.PushDenied, remedy: "The organisation does not let workflows make packages: allow it in its settings under Packages, or push the first version by hand and open the package to the repository under \"Manage Actions access\"."},
			{text: "token provided does not match expected scopes", is: fault.PushDenied, remedy: "The personal access token needs the scope write:packages; fine-grained ones don't work, use a classic one."},
		},
		remedies: map[fault.Code]string{
			fault.NoCredentials:      "In a workflow, GITHUB_TOKEN is the password and the job needs `permissions: packages: write`.",
			fault.CredentialsRefused: "GitHub takes GITHUB_TOKEN, which ends with its job, or a classic personal access token.",
			fault.PushDenied: "The job needs `permissions: packages: write`; a package that was first pushed by hand must be opened to the repository under " +
				"\"Manage Actions access\"; {first} must be the repository's owner.",
			fault.PullDenied: "A package is private after its first push: make it public in its settings, or give the deployment a pull secret with a classic " +
				"personal access token that has read:packages. GITHUB_TOKEN dies with its job.",
		},
	}
}

var ghcrHost = regexp.MustCompile(`^(?:ghcr\.io|containers\.[a-z0-9]+(?:-[a-z0-9]+)*\.ghe\.com)$`)

func ghcrPath(at place) (cause, remedy string) {
	if len(at.parts) < 2 {
		return "a path on GitHub's registry begins with the owner", "Write {host}/OWNER/{repository}."
	}
	return "", ""
}

// ghcrAmbient is the workflow's token, where it was put into the environment. It is for the registry of the GitHub that
// runs the workflow: GitHub Enterprise Server, Forgejo and Gitea have the same variables, and tokens of their own.
func ghcrAmbient(_ context.Context, k *keychain, at place) (credential, []string, error) {
	server := cmp.Or(strings.TrimRight(k.explicit.Getenv("GITHUB_SERVER_URL"), "/"), "https://github.com")
	home := "ghcr.io"
	if tenant, ok := strings.CutPrefix(server, "https://"); ok && strings.HasSuffix(tenant, ".ghe.com") {
		home = "containers." + tenant
	} else if server != "https://github.com" {
		home = ""
	}
	if home != at.host {
		return credential{}, []string{"the variable GITHUB_TOKEN (not of this registry's GitHub)"}, nil
	}
	for _, v := range []string{"GITHUB_TOKEN", "GH_TOKEN"} {
		if token := k.explicit.Getenv(v); token != "" {
			user := cmp.Or(k.explicit.Getenv("GITHUB_ACTOR"), "x-access-token")
			return credential{auth: authn.FromConfig(authn.AuthConfig{Username: user, Password: token}), from: "the variable " + v, user: user}, nil, nil
		}
	}
	return credential{}, []string{"the variable GITHUB_TOKEN (not set)"}, nil
}
