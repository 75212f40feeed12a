package registry

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	dockerHubTokens   = "https://identity.docker.com/oauth/token" //nolint:gosec // An address, no credential.
	dockerHubAudience = "https://identity.docker.com"
)

// dockerHub is Docker Hub.
func dockerHub() *provider {
	return &provider{
		id: "dockerhub", title: "Docker Hub", matches: func(host string) bool { return host == name.DefaultRegistry }, hosts: "docker.io",
		inputs: []string{"dockerhub-connection-id"}, path: dockerHubPath, federated: dockerHubFederated,
		rules: []rule{
			{text: "insufficient_scope", is: fault.PushDenied},
			{text: "requested access to the resource is denied", is: fault.PushDenied},
			{step: "token", text: "incorrect username or password", is: fault.CredentialsRefused},
			{step: "token", text: "too many failed login attempts", is: fault.RateLimited, remedy: "Docker Hub has locked the account for a while: wait some minutes, correct the password or token, and run again."},
			{text: "private repositories", is: fault.PushDenied, remedy: "The plan's number of private repositories is used up: make the repository public before, or raise the plan."},
		},
		remedies: map[fault.Code]string{
			fault.NoCredentials: "Docker Hub takes a personal access token as registry-password, an organisation's access token with the organisation as " +
				"registry-username, or OIDC by dockerhub-connection-id.",
			fault.CredentialsRefused: "Docker Hub takes a personal access token as the password; for an organisation's token the user name is the organisation.",
			fault.PushDenied: "On Docker Hub the namespace \"{first}\" must be yours or your organisation's, and the token needs Read & Write (an " +
				"organisation's token also this repository in its list).",
			fault.RateLimited: "Docker Hub counts pulls per account and per address, and limits pushes too; sign in, and pull base images from a mirror.",
			fault.PullDenied:  "A pull secret for Docker Hub has the server https://index.docker.io/v1/ and a read-only access token.",
		},
	}
}

func dockerHubPath(at place) (cause, remedy string) {
	switch {
	case len(at.parts) == 1:
		return "a repository without a namespace is one of Docker's official images", "Write docker.io/NAMESPACE/{repository}."
	case len(at.parts) > 2:
		return fmt.Sprintf("a path on Docker Hub has two parts, namespace and repository; this has %d", len(at.parts)), "Write docker.io/NAMESPACE/REPOSITORY."
	}
	return "", ""
}

// dockerHubFederated exchanges the CI job's OIDC token for an access token of the organisation that the repository is in.
func dockerHubFederated(k *keychain, at place) (credential, bool) {
	connection := k.explicit.DockerHubConnectionID
	if connection == "" {
		return credential{}, false
	}
	organisation := k.dockerHubOrganisation(at)
	from := "the OIDC connection " + connection
	r := k.renewable("dockerhub "+organisation+" "+connection, func(ctx context.Context) (fetched, error) {
		return k.dockerHubToken(ctx, organisation, connection)
	})
	return credential{auth: r, from: from, user: organisation, renewable: r}, true
}

// dockerHubOrganisation is the one whose connection it is: that of what is published, whatever is read.
func (k *keychain) dockerHubOrganisation(at place) string {
	for _, r := range k.explicit.Repositories {
		if hostOf(r.Registry()) == name.DefaultRegistry {
			organisation, _, _ := strings.Cut(strings.TrimPrefix(string(r), r.Registry()+"/"), "/")
			return organisation
		}
	}
	return at.part(0, "")
}

func (k *keychain) dockerHubToken(ctx context.Context, organisation, connection string) (fetched, error) {
	token, err := k.idToken(ctx, dockerHubAudience)
	if err != nil {
		return fetched{}, err
	}
	form := url.Values{"grant_type": {"urn:ietf:params:oauth:grant-type:token-exchange"}, "subject_token": {token},
		"subject_token_type": {"urn:ietf:params:oauth:token-type:id_token"}, "connection_id": {connection}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, dockerHubTokens, strings.NewReader(form.Encode()))
	if err != nil {
		return fetched{}, err
	}
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded")
	req.Header.Set("User-Agent", k.explicit.UserAgent)
	const op = "exchange the OIDC token with"
	res, err := k.client.cloudClient(true).Do(req)
	if err != nil {
		return fetched{}, k.cloudFault(ctx, op, "Docker Hub", err, "Check that this machine may reach identity.docker.com.")
	}
	defer drain(res)
	body, err := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	if err != nil {
		return fetched{}, k.cloudFault(ctx, op, "Docker Hub", err, "Run again.")
	}
	var answer struct {
		AccessToken string  `json:"access_token"`
		ExpiresIn   float64 `json:"expires_in"`
	}
	switch {
	case res.StatusCode != http.StatusOK:
		said := fmt.Sprintf("it answered %d (%s)", res.StatusCode, strings.TrimSpace(string(body)))
		c, _ := readClaims(token)
		return fetched{}, k.exchangeFault(exchange{with: "Docker Hub for the connection " + connection, audience: dockerHubAudience, token: token}, res.StatusCode, said,
			"Check dockerhub-connection-id and the connection's ruleset in the organisation's settings. "+subjectForms(c.Subject), nil)
	case json.Unmarshal(body, &answer) != nil || answer.AccessToken == "":
		return fetched{}, &fault.Error{Code: fault.TokenServer, Op: op, Object: "Docker Hub", Cause: "it answered without an access token",
			Remedy: "Run again; check what stands between this machine and identity.docker.com."}
	}
	f := fetched{AuthConfig: authn.AuthConfig{Username: organisation, Password: answer.AccessToken}}
	if answer.ExpiresIn > 0 {
		f.expires = k.now().Add(time.Duration(answer.ExpiresIn * float64(time.Second)))
	}
	return f, nil
}
