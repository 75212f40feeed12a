package deployment

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Credentials are what a pull secret holds for one registry.
type Credentials struct {
	// Host is the registry's, with its port if it has one: "ghcr.io", "registry.acme.example:5000".
	Host               string
	Username, Password string
}

// shortest is how long credentials have to last at least. What ends earlier was made for a job.
const shortest = 24 * time.Hour

// nullUser is the user name that goes with a refresh token of Azure's registry.
const nullUser = "00000000-0000-0000-0000-000000000000"

// jobVariables hold credentials that end with a CI job.
var jobVariables = []string{"GITHUB_TOKEN", "ACTIONS_RUNTIME_TOKEN", "ACTIONS_ID_TOKEN_REQUEST_TOKEN", "CI_JOB_TOKEN", "CI_REGISTRY_PASSWORD",
	"CI_DEPENDENCY_PROXY_PASSWORD", "CI_JOB_JWT", "SYSTEM_ACCESSTOKEN", "BITBUCKET_STEP_OIDC_TOKEN"}

// lastingTokens are the beginnings of tokens that people put into the variables above and that do last.
var lastingTokens = []string{"ghp_", "github_pat_", "glpat-", "gldt-"}

// shortTokens are the beginnings of tokens that end soon.
var shortTokens = []struct{ prefix, what string }{
	{"ghs_", "it is a token of a GitHub App, such as GITHUB_TOKEN, which ends with the job or after an hour"},
	{"ghu_", "it is a token that a GitHub App has for a user, which ends after eight hours"},
	{"glcbt-", "it is GitLab's CI_JOB_TOKEN, which ends with the job"},
	{"ya29.", "it is an access token of Google's, which ends after an hour"},
}

// shortUsers are user names that go with nothing but short-lived tokens.
var shortUsers = map[string]string{
	"oauth2accesstoken": "that user name goes with an access token of Google's, which ends after an hour",
	"_dcgcloud_token":   "that user name goes with an access token of gcloud's, which ends after an hour",
	"gitlab-ci-token":   "that user name goes with GitLab's CI_JOB_TOKEN, which ends with the job",
	nullUser:            "that user name goes with a refresh token of Azure's registry, which ends after about three hours",
}

// Lasting refuses credentials that end with the CI job or within a day: in a pull secret they work when they are tried
// and fail some hours later. Its error is a *fault.Error that names the credentials to use instead.
func Lasting(c Credentials, getenv func(string) string, now time.Time) error {
	why := c.short(getenv, now)
	if why == "" {
		return nil
	}
	return &fault.Error{Code: fault.ShortLivedCredentials, Op: "put the credentials into a pull secret for", Object: c.Host,
		Cause: why, Remedy: adviceFor(c.Host).lasting}
}

// short says why the credentials do not last, or "".
func (c Credentials) short(getenv func(string) string, now time.Time) string {
	for _, variable := range jobVariables {
		if c.Password != "" && c.Password == getenv(variable) && !hasPrefix(c.Password, lastingTokens) {
			return "it is the value of " + variable + ", which ends with the job"
		}
	}
	for _, t := range shortTokens {
		if strings.HasPrefix(c.Password, t.prefix) {
			return t.what
		}
	}
	if why := shortUsers[strings.ToLower(c.Username)]; why != "" {
		return why
	}
	a := adviceFor(c.Host)
	if a.none {
		return a.name + " gives no credentials that last longer than 12 hours"
	}
	if a.name == "GitHub's registry" && strings.HasPrefix(c.Password, "github_pat_") {
		return "it is a fine-grained token, which GitHub's registry does not take"
	}
	if end, ok := expiry(c.Password); ok && end.Before(now.Add(shortest)) {
		when := "it ends at " + end.UTC().Format(time.RFC3339)
		if end.Before(now) {
			when = "it ended at " + end.UTC().Format(time.RFC3339)
		}
		return when + ", and a pull secret has to last"
	}
	return ""
}

func hasPrefix(s string, prefixes []string) bool {
	for _, p := range prefixes {
		if strings.HasPrefix(s, p) {
			return true
		}
	}
	return false
}

// expiry is when a token ends that says so itself: a JWT by its claim exp, an ECR token by its field expiration. Nothing
// is verified: who hands over a token with a false date harms nobody else.
func expiry(token string) (time.Time, bool) {
	parts := strings.Split(token, ".")
	if len(parts) == 3 && strings.HasPrefix(token, "eyJ") {
		return dated(base64.RawURLEncoding, strings.TrimRight(parts[1], "="), "exp")
	}
	return dated(base64.RawStdEncoding, strings.TrimRight(token, "="), "expiration")
}

func dated(encoding *base64.Encoding, text, field string) (time.Time, bool) {
	content, err := encoding.DecodeString(text)
	if err != nil {
		return time.Time{}, false
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(content, &fields) != nil {
		return time.Time{}, false
	}
	var seconds float64
	if json.Unmarshal(fields[field], &seconds) != nil || seconds <= 0 || seconds > 1e12 {
		return time.Time{}, false
	}
	return time.Unix(int64(seconds), 0), true
}

// Notice says of credentials that are taken what is worth knowing, or "".
func (c Credentials) Notice() string {
	if end, ok := expiry(c.Password); ok {
		return fmt.Sprintf("the credentials for %s end at %s: renew the secret before", c.Host, end.UTC().Format(time.RFC3339))
	}
	return ""
}

// LastingCredentials says, as a sentence, which credentials of the registry may stand in a pull secret.
func LastingCredentials(host string) string { return adviceFor(host).lasting }
