package registry

import (
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// TestJobTokenStaysWithItsGitHub: Enterprise Server, Forgejo and Gitea have the same variables, and tokens of their own.
func TestJobTokenStaysWithItsGitHub(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		server, repo string
		goes         bool
	}{
		"github.com":                 {"https://github.com", "ghcr.io/acme/x", true},
		"no server named":            {"", "ghcr.io/acme/x", true},
		"Enterprise Server":          {"https://code.acme.internal", "ghcr.io/acme/x", false},
		"github.com to a tenant":     {"https://github.com", "containers.acme.ghe.com/acme/x", false},
		"a tenant to itself":         {"https://acme.ghe.com", "containers.acme.ghe.com/acme/x", true},
		"a tenant to another":        {"https://acme.ghe.com", "containers.evil.ghe.com/acme/x", false},
		"a tenant to ghcr.io":        {"https://acme.ghe.com", "ghcr.io/acme/x", false},
		"a host that looks like one": {"https://github.com.evil.example", "ghcr.io/acme/x", false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			repo := mustRepository(t, tt.repo)
			m := machine{env: map[string]string{"GITHUB_TOKEN": "job-token", "GITHUB_SERVER_URL": tt.server}}
			c, err := m.keychain(Options{}, repo.RegistryStr()).resolve(t.Context(), repo)
			if err != nil || c.anonymous() == tt.goes {
				t.Errorf("%s, %v", c, err)
			}
		})
	}
}

func mustRepository(t *testing.T, s string) name.Repository {
	t.Helper()
	repo, err := name.NewRepository(s)
	if err != nil {
		t.Fatal(err)
	}
	return repo
}

// TestHangUpAtAnUpload: where a provider is known to hang up for what does not exist, the repository is asked for at
// once; where the upload is answered, as with a template that makes repositories by a push, nothing is asked.
func TestHangUpAtAnUpload(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, waited, _ := f.client(Options{})
	c.keys.providers[len(c.keys.providers)-1].hangsUp = true
	f.then(atPost, 1, hangUp).then(atList, 1, answer(http.StatusNotFound, code("NAME_UNKNOWN", "no such repository")))
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.RepositoryMissing, "NAME_UNKNOWN")
	if n := len(waited.list()); n != 0 {
		t.Errorf("it waited %d times", n)
	}
	// A hang-up without a meaning is what it is for others: passing.
	f.then(atPost, 1, hangUp).then(atList, 1, answer(http.StatusOK, `{"tags":[]}`))
	if err := c.CheckPush(t.Context(), f.repo()); err != nil {
		t.Error(err)
	}
	asked := len(f.requests(atList))
	c2, _, _ := f.client(Options{})
	c2.keys.providers[len(c2.keys.providers)-1].hangsUp = true
	if err := c2.CheckPush(t.Context(), f.repo()); err != nil || len(f.requests(atList)) != asked {
		t.Errorf("%v, asked for tags %d times", err, len(f.requests(atList))-asked)
	}
}

// TestRulesReadAnswersOnly: a repository may be called like what a rule looks for.
func TestRulesReadAnswersOnly(t *testing.T) {
	t.Parallel()
	request, err := http.NewRequest(http.MethodPut, "https://acme.azurecr.io/v2/source-firewall-locked/manifests/1", nil)
	if err != nil {
		t.Fatal(err)
	}
	said := func(status int, message string) *transport.Error {
		return &transport.Error{StatusCode: status, Request: request, Errors: []transport.Diagnostic{{Code: transport.DeniedErrorCode, Message: message}}}
	}
	firewall := rule{text: "firewall", is: fault.PushDenied}
	if firewall.fits("tag", said(http.StatusForbidden, "denied")) || !firewall.fits("tag", said(http.StatusForbidden, "blocked by the Firewall")) ||
		firewall.fits("tag", said(http.StatusBadGateway, "firewall")) {
		t.Error("a rule took the address, or a server out of order, for an answer")
	}
	if immutable(said(http.StatusForbidden, "denied")) || strings.Contains(answerText(said(http.StatusForbidden, "denied")), "source-firewall") {
		t.Error("the address is part of the answer")
	}
}

// TestBrokenSurroundings are an error where something is published, and no more than a word where something is read,
// which may be public or have an entry in docker's configuration.
func TestBrokenSurroundings(t *testing.T) {
	t.Parallel()
	repo := mustRepository(t, "europe-west3-docker.pkg.dev/acme/connectors/base")
	m := machine{env: map[string]string{"HOME": "/h", "GOOGLE_APPLICATION_CREDENTIALS": "/nowhere.json"},
		files: map[string]string{"/h/.docker/config.json": `{"auths":{"europe-west3-docker.pkg.dev":{"auth":"` + basicAuth("docker", "p") + `"}}}`}}
	_, err := m.keychain(Options{}, repo.RegistryStr()).resolve(t.Context(), repo)
	wantFault(t, err, fault.CloudSignIn, "GOOGLE_APPLICATION_CREDENTIALS")
	var log recorder
	c, err := m.keychain(Options{Log: log.add}).resolve(t.Context(), repo)
	if err != nil || c.user != "docker" || !strings.Contains(log.String(), "not using the credentials that are around") {
		t.Errorf("%s, %v\n%s", c, err, log.String())
	}
}
