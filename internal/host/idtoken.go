package host

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	// idTokenTries is how often GitHub is asked for a token; its own toolkit asks ten times. go-githubactions asks once.
	idTokenTries = 6
	idTokenWait  = 500 * time.Millisecond
	idTokenTime  = 20 * time.Second
)

// IDToken implements Host.
func (l *logger) IDToken(ctx context.Context, audience string) (string, error) {
	token, err := l.idToken(ctx, audience)
	if err != nil {
		return "", err
	}
	l.Mask(token)
	return token, nil
}

func noIDToken(audience, cause, remedy string) error {
	return &fault.Error{Code: fault.NoIDToken, Op: "get the job's OIDC token for", Object: audience, Cause: cause, Remedy: remedy}
}

func (p *plain) idToken(_ context.Context, audience string) (string, error) {
	return "", noIDToken(audience, "this is no CI host that gives one when asked",
		"Give it by the input oidc-token (AIRBYTE_PUBLISH_OIDC_TOKEN), made for this audience by the CI host.")
}

func (g *gitLab) idToken(_ context.Context, audience string) (string, error) {
	return "", noIDToken(audience, "GitLab gives tokens only to jobs that declare them",
		fmt.Sprintf("Add to the job: id_tokens: { AIRBYTE_PUBLISH_OIDC_TOKEN: { aud: %q } }.", audience))
}

// idToken asks the service that GitHub names in two variables; Forgejo and Gitea have the same.
func (g *gitHub) idToken(ctx context.Context, audience string) (string, error) {
	address, bearer := g.getenv("ACTIONS_ID_TOKEN_REQUEST_URL"), g.getenv("ACTIONS_ID_TOKEN_REQUEST_TOKEN")
	if address == "" || bearer == "" {
		return "", noIDToken(audience, "GitHub has not given the job the right to ask for one",
			"Add `permissions: { id-token: write, contents: read }` to the job. Jobs of pull requests from forks never get it.")
	}
	u, err := url.Parse(address)
	if err != nil || u.Host == "" {
		return "", noIDToken(audience, "ACTIONS_ID_TOKEN_REQUEST_URL is no address", "Run on a runner that GitHub or its like provides.")
	}
	query := u.Query()
	query.Set("audience", audience)
	u.RawQuery = query.Encode()
	for try := 1; ; try++ {
		token, status, err := requestIDToken(ctx, u.String(), bearer)
		switch {
		case err == nil && token != "":
			return token, nil
		case ctx.Err() != nil:
			return "", &fault.Error{Code: fault.Interrupted, Op: "get the job's OIDC token for", Object: audience, Cause: "interrupted", Err: context.Cause(ctx)}
		case try < idTokenTries && (err != nil || status == http.StatusTooManyRequests || status >= 500):
			select {
			case <-time.After(idTokenWait << (try - 1)):
			case <-ctx.Done():
			}
		case err != nil:
			return "", noIDToken(audience, "GitHub's token service can't be reached", "Run again; check the proxy of a self-hosted runner.")
		case status == http.StatusOK:
			return "", noIDToken(audience, "GitHub's token service answered without a token", "Run the job again.")
		default:
			return "", noIDToken(audience, fmt.Sprintf("GitHub's token service answered %d", status),
				"Run the job again, and check `permissions: id-token: write`; the right to ask ends with the job.")
		}
	}
}

// requestIDToken asks once. Its error holds no address: GitHub's has a part that is nobody else's business.
func requestIDToken(ctx context.Context, address, bearer string) (token string, status int, err error) {
	ctx, cancel := context.WithTimeout(ctx, idTokenTime)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, address, nil)
	if err != nil {
		return "", 0, err
	}
	req.Header.Set("Authorization", "Bearer "+bearer)
	req.Header.Set("Accept", "application/json")
	client := http.Client{CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }}
	res, err := client.Do(req)
	if err != nil {
		return "", 0, err
	}
	defer func() { _ = res.Body.Close() }()
	var answer struct {
		Value string `json:"value"`
	}
	if res.StatusCode != http.StatusOK {
		return "", res.StatusCode, nil
	}
	err = json.NewDecoder(io.LimitReader(res.Body, 64<<10)).Decode(&answer)
	return answer.Value, res.StatusCode, err
}
