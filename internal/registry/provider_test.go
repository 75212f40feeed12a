package registry

import (
	"context"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// TestProviderOfHost holds above all that a host which only looks like a cloud's is not taken for it.
func TestProviderOfHost(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com":       "ecr",
		"123456789012.dkr.ecr-fips.us-gov-west-1.amazonaws.com": "ecr",
		"123456789012.dkr.ecr.cn-north-1.amazonaws.com.cn":      "ecr",
		"123456789012.dkr-ecr.eu-central-1.on.aws":              "ecr",
		"public.ecr.aws":              "ecr",
		"europe-west3-docker.pkg.dev": "gar",
		"us-docker.pkg.dev":           "gar",
		"gcr.io":                      "gar",
		"eu.gcr.io":                   "gar",
		"acme.azurecr.io":             "acr",
		"acme-a1b2c3d4.azurecr.io":    "acr",
		"acme.azurecr.us":             "acr",
		"acme.azurecr.cn":             "acr",
		"docker.io":                   "dockerhub",
		"registry-1.docker.io":        "dockerhub",
		"ghcr.io":                     "ghcr",
		"containers.acme.ghe.com":     "ghcr",
		"registry.gitlab.com":         "gitlab",
		"registry.ci.example":         "gitlab",
		"registry.example":            "generic",
		"localhost:5000":              "generic",
		"x.azurecr.io.evil.example":   "generic",
		"xazurecr.io":                 "generic",
		"acme.azurecr.io:8443":        "generic",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com.evil.example": "generic",
		"evil-123456789012.dkr.ecr.eu-central-1.amazonaws.com":         "generic",
		"123456789012.dkr.ecr.eu-central-1.amazonaws.com:8443":         "generic",
		"docker.pkg.dev.evil.example":                                  "generic",
		"evil.gcr.io":                                                  "generic",
		"gcr.io.evil.example":                                          "generic",
		"ghcr.io.evil.example":                                         "generic",
		"public.ecr.aws.evil.example":                                  "generic",
	} {
		k := (&machine{env: map[string]string{"CI_REGISTRY": "registry.ci.example"}}).keychain(Options{})
		if got := k.providerOf(hostOf(host)).id; got != want {
			t.Errorf("%s is of %s, want %s", host, got, want)
		}
	}
}

func TestInputsAgainstTheRegistry(t *testing.T) {
	t.Parallel()
	const (
		ecrRepo, garRepo = "123456789012.dkr.ecr.eu-central-1.amazonaws.com/source-erp", "europe-west3-docker.pkg.dev/acme/connectors/source-erp"
		role             = "arn:aws:iam::123456789012:role/publish"
	)
	for name, tt := range map[string]struct {
		repo  image.Repository
		o     Options
		code  fault.Code
		words string
		warns string
	}{
		"told by the host":             {repo: "registry.example/a/b", o: Options{Provider: "auto"}},
		"right":                        {repo: ecrRepo, o: Options{AWSRoleARN: role}},
		"provider said and right":      {repo: garRepo, o: Options{Provider: "gar"}},
		"generic instead of a cloud":   {repo: garRepo, o: Options{Provider: "generic"}},
		"GitLab on a host of its own":  {repo: "registry.example/group/project", o: Options{Provider: "gitlab"}},
		"key without a user":           {repo: garRepo, o: Options{Password: `{"type":"service_account"}`}},
		"GitHub token without a user":  {repo: "ghcr.io/acme/x", o: Options{Password: "token"}},
		"provider of another host":     {repo: "registry.example/a/b", o: Options{Provider: "ecr"}, code: fault.InvalidInput, words: "dkr.ecr"},
		"cloud's name in a wrong host": {repo: "acme.azurecr.io.evil.example/x", o: Options{Provider: "acr"}, code: fault.InvalidInput, words: "azurecr.io"},
		"two parts on Google":          {repo: "europe-west3-docker.pkg.dev/acme/source-erp", o: Options{}, code: fault.BadRepository, words: "PROJECT/REPOSITORY/IMAGE"},
		"one part on gcr.io":           {repo: "gcr.io/source-erp", o: Options{}, code: fault.BadRepository, words: "gcr.io/PROJECT/source-erp"},
		"no namespace on Docker Hub":   {repo: "docker.io/source-erp", o: Options{}, code: fault.BadRepository, words: "docker.io/NAMESPACE/source-erp"},
		"three parts on Docker Hub":    {repo: "docker.io/acme/x/source-erp", o: Options{}, code: fault.BadRepository, words: "two parts"},
		"no owner on GitHub":           {repo: "ghcr.io/source-erp", o: Options{}, code: fault.BadRepository, words: "OWNER"},
		"no group on GitLab":           {repo: "registry.gitlab.com/source-erp", o: Options{}, code: fault.BadRepository, words: "GROUP"},
		"host twice on ECR":            {repo: "123456789012.dkr.ecr.eu-central-1.amazonaws.com/123456789012.dkr.ecr.eu-central-1.amazonaws.com/x", o: Options{}, code: fault.BadRepository, words: "once"},
		"no alias on ECR Public":       {repo: "public.ecr.aws/source-erp", o: Options{}, code: fault.BadRepository, words: "ALIAS"},
		"a role for no AWS":            {repo: garRepo, o: Options{AWSRoleARN: role}, warns: "aws-role-arn"},
		"nothing to create on Google":  {repo: garRepo, o: Options{CreateRepository: true}, warns: "create-repository"},
		"one token for two clouds": {repo: ecrRepo, o: Options{AWSRoleARN: role, GCPProvider: "projects/1", OIDCGiven: true}, code: fault.ConflictingInputs,
			words: "several clouds", warns: "gcp-workload-identity-provider"},
		"project of a domain":        {repo: "europe-west3-docker.pkg.dev/example.com/acme/connectors/source-erp", o: Options{}},
		"project of a domain, short": {repo: "europe-west3-docker.pkg.dev/example.com/acme/source-erp", o: Options{}, code: fault.BadRepository, words: "PROJECT/REPOSITORY/IMAGE"},
		"a token for nothing":        {repo: ecrRepo, o: Options{OIDCGiven: true}, code: fault.MissingInput, words: "aws-role-arn"},
		"no user":                    {repo: "registry.example/a/b", o: Options{Password: "p"}, code: fault.MissingInput, words: "registry-username"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tt.o.Getenv = func(string) string { return "" }
			tt.o.Repositories = []image.Repository{tt.repo}
			warnings, err := Check(tt.o)
			if tt.warns != "" && (len(warnings) != 1 || !strings.Contains(warnings[0].Message, tt.warns)) || tt.warns == "" && len(warnings) > 0 {
				t.Errorf("warnings: %v", warnings)
			}
			if tt.code == "" {
				if err != nil {
					t.Error(err)
				}
				return
			}
			f := wantFault(t, err, tt.code, tt.words)
			if strings.Contains(f.Remedy, "{") {
				t.Errorf("a blank is left: %s", f.Remedy)
			}
		})
	}
}

// TestAnEngineIsLentTheOrganisationsToken: a build engine asks for a host, and Docker Hub's user name is in the repository.
func TestAnEngineIsLentTheOrganisationsToken(t *testing.T) {
	t.Parallel()
	c := New(Options{Hosts: []string{"docker.io"}, Repositories: []image.Repository{"docker.io/acme/source-erp"}, DockerHubConnectionID: "id"})
	k := c.keys
	k.explicit.Repositories = []image.Repository{"docker.io/acme/source-erp"}
	k.made = map[string]*renewable{"dockerhub acme id": {now: k.now, secrets: k.secrets, fetch: func(context.Context) (fetched, error) {
		return fetched{AuthConfig: authn.AuthConfig{Username: "acme", Password: "p"}}, nil
	}}}
	if a, err := c.Credentials(t.Context(), "index.docker.io"); err != nil || a.Username != "acme" || a.Password != "p" {
		t.Errorf("%q, %v", a.Username, err)
	}
}

func TestPlacesOfGoogle(t *testing.T) {
	t.Parallel()
	for host, want := range map[string]string{"gcr.io": "us gcr.io", "us.gcr.io": "us us.gcr.io", "eu.gcr.io": "europe eu.gcr.io",
		"asia.gcr.io": "asia asia.gcr.io", "europe-west3-docker.pkg.dev": "europe-west3 connectors"} {
		if got := (place{host, []string{"acme", "connectors", "x"}}).words("{location} {second}"); got != want {
			t.Errorf("%s: %q, want %q", host, got, want)
		}
	}
}

// TestRemediesFillTheirBlanks: no table may hold a word that nothing stands for.
func TestRemediesFillTheirBlanks(t *testing.T) {
	t.Parallel()
	hosts := map[string]string{"ecr": "123456789012.dkr.ecr.eu-central-1.amazonaws.com", "gar": "europe-west3-docker.pkg.dev", "acr": "acme.azurecr.io"}
	for _, p := range providers() {
		at := place{hosts[p.id], []string{"acme", "connectors", "source-erp"}}
		for code, text := range p.remedies {
			if got := at.words(text); strings.ContainsAny(got, "{}") {
				t.Errorf("%s %s: %s", p.id, code, got)
			}
		}
		for _, r := range p.rules {
			if got := at.words(r.remedy); strings.ContainsAny(got, "{}") {
				t.Errorf("%s: %s", p.id, got)
			}
		}
	}
}
