package config_test

import "testing"

// TestGitTagOfEachHost reads the git tag from the variables of each CI host.
func TestGitTagOfEachHost(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		env  map[string]string
		want string
	}{
		"GitHub":                {map[string]string{"GITHUB_REF": "refs/tags/v1.2.3"}, "1.2.3"},
		"a branch on GitHub":    {map[string]string{"GITHUB_REF": "refs/heads/v9.9.9"}, "1.2.3"},
		"GitLab and Woodpecker": {map[string]string{"CI_COMMIT_TAG": "v1.2.3"}, "1.2.3"},
		"CircleCI":              {map[string]string{"CIRCLE_TAG": "source-erp/v1.2.3"}, "1.2.3"},
		"Bitbucket":             {map[string]string{"BITBUCKET_TAG": "v1.2.3"}, "1.2.3"},
		"Azure Pipelines":       {map[string]string{"BUILD_SOURCEBRANCH": "refs/tags/v1.2.3"}, "1.2.3"},
		"Jenkins":               {map[string]string{"JENKINS_URL": "https://ci.example", "TAG_NAME": "v1.2.3"}, "1.2.3"},
		"another's TAG_NAME":    {map[string]string{"TAG_NAME": "v9.9.9"}, "1.2.3"},
	} {
		// metadata.yaml says the same where a git tag counts, and is all that counts where none does.
		if got := (world{env: tc.env}).mustLoad(t).Connectors[0].Tag; got != tc.want {
			t.Errorf("%s: the tag is %s", name, got)
		}
		if tc.env["TAG_NAME"] == "v9.9.9" || tc.env["GITHUB_REF"] == "refs/heads/v9.9.9" {
			continue
		}
		other := map[string]string{}
		for k, v := range tc.env {
			other[k] = v
		}
		for _, k := range []string{"GITHUB_REF", "BUILD_SOURCEBRANCH", "CI_COMMIT_TAG", "CIRCLE_TAG", "BITBUCKET_TAG", "TAG_NAME"} {
			if other[k] != "" {
				other[k] = other[k][:len(other[k])-1] + "4"
			}
		}
		if _, err := (world{env: other}).load(t); codes(err)["AP108"] != 1 {
			t.Errorf("%s: a git tag that metadata.yaml contradicts is not noticed: %v", name, err)
		}
	}
}
