package registry

import (
	"cmp"
	"context"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// gitLab is GitLab's registry: that of gitlab.com, the one that a job's CI_REGISTRY names, and any that is said to be one.
func gitLab() *provider {
	return &provider{
		id: "gitlab", title: "GitLab's container registry", matches: func(host string) bool { return host == "registry.gitlab.com" },
		ambient: gitLabAmbient, path: gitLabPath, readsAmbient: true,
		rules: []rule{
			{step: "token", text: "access denied", is: fault.CredentialsRefused},
			{step: "token", text: "access forbidden", is: fault.CredentialsRefused},
			{step: "tag", text: "protected", is: fault.TagImmutable},
			{step: "tag", text: "immutable", is: fault.TagImmutable},
		},
		remedies: map[fault.Code]string{
			fault.NoCredentials: "In GitLab CI they are $CI_REGISTRY_USER and $CI_REGISTRY_PASSWORD, which are seen by themselves for $CI_REGISTRY; " +
				"elsewhere a deploy token with read_registry and write_registry.",
			fault.CredentialsRefused: "A job's token ends with the job; a deploy token goes with its own user name; check that the registry is enabled for the project.",
			fault.PushDenied: "On GitLab the image's path must lie under the project's ($CI_REGISTRY_IMAGE), the token needs read_registry and " +
				"write_registry, and the tag must not be protected.",
			fault.TagImmutable: "A rule of the project protects this tag or makes it immutable: publish under a new tag.",
			fault.PullDenied:   "Give the deployment a pull secret with a deploy token that has read_registry; CI_JOB_TOKEN and CI_REGISTRY_PASSWORD die with the job.",
		},
	}
}

func gitLabPath(at place) (cause, remedy string) {
	if len(at.parts) < 2 {
		return "a path on GitLab begins with the project's, which has a group or a user in front", "Write {host}/GROUP/PROJECT or {host}/GROUP/PROJECT/IMAGE."
	}
	return "", ""
}

// gitLabAmbient are a job's own variables. They are for the registry that CI_REGISTRY names and for no other.
func gitLabAmbient(_ context.Context, k *keychain, at place) (credential, []string, error) {
	env := k.explicit.Getenv
	if !k.isCIRegistry(at.host) {
		return credential{}, []string{"GitLab's CI_REGISTRY (not this registry)"}, nil
	}
	if password := env("CI_REGISTRY_PASSWORD"); password != "" {
		user := cmp.Or(env("CI_REGISTRY_USER"), "gitlab-ci-token")
		return credential{auth: authn.FromConfig(authn.AuthConfig{Username: user, Password: password}),
			from: "the variables CI_REGISTRY_USER and CI_REGISTRY_PASSWORD", user: user}, nil, nil
	}
	if token := env("CI_JOB_TOKEN"); token != "" {
		return credential{auth: authn.FromConfig(authn.AuthConfig{Username: "gitlab-ci-token", Password: token}), from: "the variable CI_JOB_TOKEN",
			user: "gitlab-ci-token"}, nil, nil
	}
	return credential{}, []string{"the variables CI_REGISTRY_PASSWORD and CI_JOB_TOKEN (not set)"}, nil
}

// isCIRegistry tells whether the host is the registry of the GitLab job that this is.
func (k *keychain) isCIRegistry(host string) bool {
	registry := k.explicit.Getenv("CI_REGISTRY")
	return registry != "" && hostOf(registry) == host
}
