package config

import "strings"

// gitRef is the git tag that the CI job runs for, by the variables of the CI hosts; empty when it runs for none. Only
// Jenkins' has a name that means nothing elsewhere.
func (r *reader) gitRef() string {
	for _, variable := range []string{"GITHUB_REF", "BUILD_SOURCEBRANCH"} {
		if tag, isTag := strings.CutPrefix(r.getenv(variable), "refs/tags/"); isTag {
			return tag
		}
	}
	variables := []string{"CI_COMMIT_TAG", "CIRCLE_TAG", "BITBUCKET_TAG"}
	if r.getenv("JENKINS_URL") != "" {
		variables = append(variables, "TAG_NAME")
	}
	for _, variable := range variables {
		if tag := r.getenv(variable); tag != "" {
			return tag
		}
	}
	return ""
}
