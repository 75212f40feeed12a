package registry

import "github.com/airbyte-publish/airbyte-publish/internal/fault"

// generic is any other registry: distribution, Harbor, Nexus, Artifactory, Gitea, Quay and the like.
func generic() *provider {
	return &provider{
		id: "generic", title: "a registry of your own", matches: func(string) bool { return true },
		rules: []rule{
			{step: "tag", status: 412, is: fault.TagImmutable},
		},
		remedies: map[fault.Code]string{
			fault.RepositoryMissing: "Some registries (Harbor, Nexus, Quay) want the project \"{first}\" to be made before.",
			fault.PullDenied:        "Give the deployment a pull secret for {host}; a node must trust the registry's certificate too.",
		},
	}
}
