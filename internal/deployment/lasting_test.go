package deployment_test

import (
	"encoding/base64"
	"fmt"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

var now = time.Date(2026, 11, 27, 12, 0, 0, 0, time.UTC)

func jwt(lasts time.Duration) string {
	part := func(s string) string { return base64.RawURLEncoding.EncodeToString([]byte(s)) }
	return part(`{"alg":"RS256","typ":"JWT"}`) + "." + part(fmt.Sprintf(`{"sub":"x","exp":%d}`, now.Add(lasts).Unix())) + ".c2lnbmF0dXJl"
}

func TestShortLivedCredentialsAreRefused(t *testing.T) {
	t.Parallel()
	env := map[string]string{"GITHUB_TOKEN": "made-by-an-old-runner", "CI_JOB_TOKEN": "jobtoken123", "CI_REGISTRY_PASSWORD": "registrypassword123"}
	ecrToken := base64.StdEncoding.EncodeToString([]byte(fmt.Sprintf(`{"payload":"x","datakey":"y","version":"2","type":"DATA_KEY","expiration":%d}`, now.Add(12*time.Hour).Unix())))
	const ecr = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	for _, c := range []struct{ name, host, user, password, why, remedy string }{
		{"GITHUB_TOKEN by its prefix", "ghcr.io", "octocat", "ghs_16C7e42F292c6912E7710c838347Ae178B4a", "GitHub App", "read:packages"},
		{"GITHUB_TOKEN by its variable", "ghcr.io", "octocat", "made-by-an-old-runner", "the value of GITHUB_TOKEN", "read:packages"},
		{"a user's token of an App", "ghcr.io", "octocat", "ghu_16C7e42F292c6912E7710c838347Ae178B4a", "eight hours", "read:packages"},
		{"fine-grained token", "ghcr.io", "octocat", "github_pat_11ABCDE", "fine-grained", "classic"},
		{"CI_JOB_TOKEN by its prefix", "registry.gitlab.com", "someone", "glcbt-64_abc", "CI_JOB_TOKEN", "deploy token"},
		{"CI_JOB_TOKEN by its variable", "gitlab.acme.example:5050", "someone", "jobtoken123", "CI_JOB_TOKEN", "deploy token"},
		{"CI_REGISTRY_PASSWORD", "registry.acme.example", "someone", "registrypassword123", "CI_REGISTRY_PASSWORD", "robot account"},
		{"CI_JOB_TOKEN by its user", "registry.gitlab.com", "gitlab-ci-token", "anything", "CI_JOB_TOKEN", "deploy token"},
		{"ECR", ecr, "AWS", ecrToken, "12 hours", "ecr-credential-provider"},
		{"ECR with any name", ecr, "me", "password", "12 hours", "AmazonEC2ContainerRegistryPullOnly"},
		{"public ECR", "public.ecr.aws", "AWS", "x", "12 hours", "--ecr-refresher"},
		{"ECR's token for a mirror", "mirror.acme.example", "AWS", ecrToken, "2026-11-28T00:00:00Z", "robot account"},
		{"Google's access token", "europe-docker.pkg.dev", "x", "ya29.a0AfH6SMB", "an hour", "_json_key"},
		{"Google's user name", "gcr.io", "oauth2accesstoken", "x", "an hour", "_json_key"},
		{"Azure's refresh token", "acme.azurecr.io", "00000000-0000-0000-0000-000000000000", "x", "three hours", "AcrPull"},
		{"JWT", "registry.acme.example", "u", jwt(time.Hour), "2026-11-27T13:00:00Z", "robot account"},
		{"JWT that ended", "registry.acme.example", "u", jwt(-time.Hour), "it ended at 2026-11-27T11:00:00Z", "robot account"},
		{"JWT of nearly a day", "registry.acme.example", "u", jwt(24*time.Hour - time.Second), "it ends at", "robot account"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := deployment.Lasting(deployment.Credentials{Host: c.host, Username: c.user, Password: c.password}, func(k string) string { return env[k] }, now)
			if err == nil {
				t.Fatal("it was taken")
			}
			f := fault.List(err)[0]
			if f.Code != fault.ShortLivedCredentials || !contains(f.Cause, c.why) || !contains(f.Remedy, c.remedy) {
				t.Errorf("%v", f)
			}
			if len(c.password) > 8 && contains(f.Error(), c.password) {
				t.Errorf("the error shows the password: %v", f)
			}
		})
	}
}

func TestLastingCredentialsAreTaken(t *testing.T) {
	t.Parallel()
	env := map[string]string{"GITHUB_TOKEN": "ghp_of_a_user_who_put_it_there"}
	for _, c := range []deployment.Credentials{
		{Host: "ghcr.io", Username: "octocat", Password: "ghp_16C7e42F292c6912E7710c838347Ae178B4a"},
		{Host: "ghcr.io", Username: "octocat", Password: "ghp_of_a_user_who_put_it_there"},
		{Host: "docker.io", Username: "acme", Password: "dckr_oat_abc"},
		{Host: "registry.gitlab.com", Username: "gitlab+deploy-token-1", Password: "gldt-abc"},
		{Host: "europe-docker.pkg.dev", Username: "_json_key", Password: `{"type":"service_account","private_key":"x"}`},
		{Host: "acme.azurecr.io", Username: "7a5c2f6e-1111-2222-3333-444455556666", Password: "secret"},
		{Host: "registry.acme.example:5000", Username: "robot$pull", Password: "plain.old.password"},
		{Host: "registry.acme.example:5000", Username: "u", Password: jwt(90 * 24 * time.Hour)},
		{Host: "registry.acme.example:5000", Username: "u", Password: "eyJub3QiOiJhIn0.x.y"},
	} {
		if err := deployment.Lasting(c, func(k string) string { return env[k] }, now); err != nil {
			t.Errorf("%s: %v", c.Host, err)
		}
	}
	long := deployment.Credentials{Host: "h", Username: "u", Password: jwt(90 * 24 * time.Hour)}
	if !contains(long.Notice(), "2027-02-25") {
		t.Errorf("no word of its end: %q", long.Notice())
	}
}
