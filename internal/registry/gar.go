package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"cloud.google.com/go/compute/metadata"
	"github.com/google/go-containerregistry/pkg/authn"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/google/externalaccount"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// cloudPlatform is the scope that Artifact Registry takes; what an identity may do is said by its roles.
const cloudPlatform = "https://www.googleapis.com/auth/cloud-platform"

// garUser is the user name for an access token of Google.
const garUser = "oauth2accesstoken"

// gar is Google Artifact Registry, and the hosts of the old Container Registry that it serves now.
func gar() *provider {
	return &provider{
		id: "gar", title: "Google Artifact Registry", matches: hostPattern(isGAR), hosts: "LOCATION-docker.pkg.dev, gcr.io and REGION.gcr.io",
		inputs: []string{"gcp-workload-identity-provider", "gcp-service-account"}, path: garPath, noUser: garNoUser, given: garGiven,
		federated: garFederated, ambient: garAmbient, readsAmbient: true, frozen: garFrozen,
		rules: []rule{
			{step: "tag", text: "tag immutability", is: fault.TagImmutable},
			{text: "service_disabled", is: fault.PushDenied, remedy: "Enable the API in the project: `gcloud services enable artifactregistry.googleapis.com --project {first}`."},
			{text: "has not been used in project", is: fault.PushDenied, remedy: "Enable the API in the project: `gcloud services enable artifactregistry.googleapis.com --project {first}`."},
			{step: "token", status: 401, is: fault.CredentialsRefused},
			{status: 404, text: "not found", is: fault.RepositoryMissing},
		},
		remedies: map[fault.Code]string{
			fault.NoCredentials: "Set gcp-workload-identity-provider for OIDC, or registry-username _json_key with a service account's key as " +
				"registry-password, or give application default credentials (GOOGLE_APPLICATION_CREDENTIALS).",
			fault.CredentialsRefused: "An access token's user name is oauth2accesstoken and it lives for an hour; a service account's key goes with _json_key.",
			fault.PushDenied: "Google says the same for a repository that does not exist and for one that you have no right to. Either create it: " +
				"`gcloud artifacts repositories create {second} --project {first} --location {location} --repository-format docker`; or grant the right: " +
				"`gcloud artifacts repositories add-iam-policy-binding {second} --project {first} --location {location} --member MEMBER --role roles/artifactregistry.writer`.",
			fault.RepositoryMissing: "Create it: `gcloud artifacts repositories create {second} --project {first} --location {location} --repository-format docker`.",
			fault.PullDenied: "Nodes of GKE pull as their node service account, which needs roles/artifactregistry.reader; elsewhere a pull secret with " +
				"_json_key and a service account's key is needed.",
		},
	}
}

var garHost = regexp.MustCompile(`^(?:[a-z0-9]+(?:-[a-z0-9]+)*-docker\.pkg\.dev|(?:(?:us|eu|asia)\.)?gcr\.io)$`)

func isGAR(host string) bool { return garHost.MatchString(host) }

// garPlace is where the repository of Artifact Registry is that serves a host, and its name: for the old hosts, the host's
// own name, in a location of the same continent.
func garPlace(at place) (location, repository string) {
	first, rest, _ := strings.Cut(at.host, ".")
	switch {
	case at.host == "gcr.io":
		return "us", at.host
	case rest == "gcr.io" && first == "eu":
		return "europe", at.host
	case rest == "gcr.io":
		return first, at.host
	}
	repository = "REPOSITORY"
	if _, rest := garProject(at); len(rest) > 0 {
		repository = rest[0]
	}
	return strings.TrimSuffix(first, "-docker"), repository
}

// garProject is the path's project, which for those of a domain is written in two parts, and what is left.
func garProject(at place) (project string, rest []string) {
	if strings.Contains(at.parts[0], ".") && len(at.parts) > 1 {
		return at.parts[0] + ":" + at.parts[1], at.parts[2:]
	}
	return at.parts[0], at.parts[1:]
}

func garPath(at place) (cause, remedy string) {
	if strings.HasSuffix(at.host, ".pkg.dev") {
		if _, rest := garProject(at); len(rest) < 2 {
			return fmt.Sprintf("a path on Artifact Registry has three parts or more: project, repository and image; this has %d", len(at.parts)),
				"Write {host}/PROJECT/REPOSITORY/IMAGE; the repository is made once by `gcloud artifacts repositories create`."
		}
	} else if len(at.parts) < 2 {
		return "a path on gcr.io begins with the project", "Write {host}/PROJECT/{repository}."
	}
	return "", ""
}

// garNoUser is the user name that goes with a password by its form.
func garNoUser(password string) string {
	switch {
	case serviceAccountKey(password) != nil:
		return "_json_key"
	case strings.HasPrefix(password, "ya29."):
		return garUser
	}
	return ""
}

// serviceAccountKey is the key file as JSON, also from base64; nil for anything else.
func serviceAccountKey(text string) []byte {
	text = strings.TrimSpace(text)
	if b, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(text), "")); err == nil {
		text = strings.TrimSpace(string(b))
	}
	var kind struct{ Type string }
	if !strings.HasPrefix(text, "{") || json.Unmarshal([]byte(text), &kind) != nil || kind.Type == "" {
		return nil
	}
	return []byte(text)
}

// garGiven exchanges a service account's key for access tokens here, so that the key itself is sent nowhere.
func garGiven(k *keychain, at place, user, password string) (credential, bool, error) {
	if user == "" {
		user = garNoUser(password)
	}
	if user != "_json_key" && user != "_json_key_base64" {
		return credential{}, false, nil
	}
	const from = "the service account's key of registry-password"
	key := serviceAccountKey(password)
	if key == nil {
		return credential{}, true, &fault.Error{Code: fault.CloudSignIn, Op: "read", Object: from, Cause: "it is not the JSON of a key file",
			Remedy: "Give the whole file, as it is or in base64, or by registry-password-file."}
	}
	k.addKey(key)
	source := func() (oauth2.TokenSource, error) { return keySource(k.oauth(), key, google.ServiceAccount) }
	if _, err := source(); err != nil {
		return credential{}, true, &fault.Error{Code: fault.CloudSignIn, Op: "read", Object: from, Cause: k.secrets.bounded(err.Error()),
			Remedy: "Give a service account's key file (\"type\": \"service_account\").", Err: err}
	}
	return k.googleCredential(at, from, source), true, nil
}

// addKey notes what is secret in a credentials file of Google.
func (k *keychain) addKey(file []byte) {
	var f struct {
		Key     string `json:"private_key"`
		Secret  string `json:"client_secret"`
		Refresh string `json:"refresh_token"`
	}
	if json.Unmarshal(file, &f) == nil {
		k.secrets.add(f.Key, f.Secret, f.Refresh)
	}
}

// oauth is the context in which x/oauth2 makes its requests. It outlives the call in which a token source is made.
func (k *keychain) oauth() context.Context {
	return context.WithValue(context.Background(), oauth2.HTTPClient, k.client.cloudClient(true))
}

// keySource gives the tokens of a credentials file of this type.
func keySource(ctx context.Context, file []byte, kind google.CredentialsType) (oauth2.TokenSource, error) {
	creds, err := google.CredentialsFromJSONWithType(ctx, file, kind, cloudPlatform)
	if err != nil {
		return nil, err
	}
	return creds.TokenSource, nil
}

// googleCredential signs in with access tokens. source is asked anew each time, since x/oauth2's sources keep a token
// until the clock says that it has ended, and it may have ended before.
func (k *keychain) googleCredential(at place, from string, source func() (oauth2.TokenSource, error)) credential {
	r := k.renewable("gar "+at.host+" "+from, func(ctx context.Context) (fetched, error) {
		return k.googleToken(ctx, at.host, from, source)
	})
	return credential{auth: r, from: from, user: garUser, renewable: r}
}

func (k *keychain) googleToken(ctx context.Context, host, from string, source func() (oauth2.TokenSource, error)) (fetched, error) {
	type outcome struct {
		t   *oauth2.Token
		err error
	}
	// A token source knows no context; what it is still at when ours ends may end by itself.
	done := make(chan outcome, 1)
	go func() {
		var o outcome
		s, err := source()
		if o.err = err; err == nil {
			o.t, o.err = s.Token()
		}
		done <- o
	}()
	select {
	case <-ctx.Done():
		return fetched{}, k.googleFault(ctx, host, from, ctx.Err())
	case o := <-done:
		if o.err != nil {
			return fetched{}, k.googleFault(ctx, host, from, o.err)
		}
		return fetched{authn.AuthConfig{Username: garUser, Password: o.t.AccessToken}, o.t.Expiry}, nil
	}
}

// garFederated is workload identity federation: direct, or by way of a service account.
func garFederated(k *keychain, at place) (credential, bool) {
	provider := k.explicit.GCPProvider
	if provider == "" {
		return credential{}, false
	}
	f := &googleFederation{k: k, provider: strings.TrimPrefix(provider, "//iam.googleapis.com/"), account: k.explicit.GCPServiceAccount}
	from := "the workload identity " + f.provider
	if f.account != "" {
		from = "the service account " + f.account + " by " + f.provider
	}
	return k.googleCredential(at, from, func() (oauth2.TokenSource, error) { return f, nil }), true
}

// googleFederation exchanges the CI job's OIDC token each time, since the exchange gives tokens that live for an hour
// and none to renew them with.
type googleFederation struct {
	k                 *keychain
	provider, account string
}

// Token implements oauth2.TokenSource.
func (f *googleFederation) Token() (*oauth2.Token, error) {
	supplier := &subjectToken{k: f.k, audience: "https://iam.googleapis.com/" + f.provider}
	c := externalaccount.Config{Audience: "//iam.googleapis.com/" + f.provider, SubjectTokenType: "urn:ietf:params:oauth:token-type:jwt",
		Scopes: []string{cloudPlatform}, SubjectTokenSupplier: supplier}
	if f.account != "" {
		c.ServiceAccountImpersonationURL = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + f.account + ":generateAccessToken"
	}
	source, err := externalaccount.NewTokenSource(f.k.oauth(), c)
	if err != nil {
		return nil, err
	}
	t, err := source.Token()
	if err != nil {
		return nil, f.k.federationFault(f, supplier, err)
	}
	return t, nil
}

type subjectToken struct {
	k               *keychain
	audience, token string
}

// SubjectToken implements externalaccount.SubjectTokenSupplier.
func (s *subjectToken) SubjectToken(ctx context.Context, _ externalaccount.SupplierOptions) (string, error) {
	var err error
	s.token, err = s.k.idToken(ctx, s.audience)
	return s.token, err
}

// oauthAnswer is how an answer of Google's STS begins when it refuses.
var oauthAnswer = regexp.MustCompile(`"error"\s*:\s*"`)

// googleStatus finds the status in what x/oauth2 makes of an answer.
var googleStatus = regexp.MustCompile(`oauth2/google: status code (\d{3})`)

// federationFault explains a failure of Google's exchange. x/oauth2 has the answer's status and body in its text only.
func (k *keychain) federationFault(f *googleFederation, s *subjectToken, err error) error {
	text := rootText(err)
	found := googleStatus.FindStringSubmatch(text)
	if _, known := errors.AsType[*fault.Error](err); known || s.token == "" || found == nil {
		return err
	}
	status, _ := strconv.Atoi(found[1])
	// Google's STS answers as OAuth does, {"error":"invalid_grant"}, its other services with an object that has a status.
	if f.account != "" && !oauthAnswer.MatchString(text) && status < 500 && status != http.StatusTooManyRequests {
		c, _ := readClaims(s.token)
		pool, _, _ := strings.Cut(f.provider, "/providers/")
		return &fault.Error{Code: fault.CloudDenied, Op: "act as the service account", Object: f.account, Err: err,
			Cause: k.secrets.bounded(text),
			Remedy: fmt.Sprintf("Let the pool's identities act as it: `gcloud iam service-accounts add-iam-policy-binding %s --role roles/iam.workloadIdentityUser "+
				"--member 'principal://iam.googleapis.com/%s/subject/%s'`, and check its name.", f.account, pool, fault.Bounded(c.Subject))}
	}
	x := exchange{with: "Google STS for " + f.provider, audience: s.audience, token: s.token}
	c, _ := readClaims(s.token)
	remedy := "Check the provider's issuer, allowed audiences, attribute mapping and attribute condition (`gcloud iam workload-identity-pools providers describe`). " +
		subjectForms(c.Subject)
	return k.exchangeFault(x, status, text, remedy, err)
}

// garAmbient are application default credentials: the file of GOOGLE_APPLICATION_CREDENTIALS, gcloud's own, or the
// metadata server. gcloud itself is never run.
func garAmbient(ctx context.Context, k *keychain, at place) (credential, []string, error) {
	file, named := k.explicit.Getenv("GOOGLE_APPLICATION_CREDENTIALS"), true
	if file == "" {
		file, named = k.gcloudFile(), false
	}
	if file != "" {
		content, err := k.readFile(file)
		switch {
		case err == nil:
			from := "application default credentials, " + file
			k.addKey(content)
			source := func() (oauth2.TokenSource, error) { return adc(k.oauth(), content) }
			if _, err := source(); err != nil {
				return credential{}, nil, &fault.Error{Code: fault.CloudSignIn, Op: "read", Object: from, Cause: k.secrets.bounded(err.Error()),
					Remedy: "Correct the file, or unset GOOGLE_APPLICATION_CREDENTIALS.", Err: err}
			}
			return k.googleCredential(at, from, source), nil, nil
		case named || !errors.Is(err, os.ErrNotExist):
			return credential{}, nil, &fault.Error{Code: fault.CloudSignIn, Op: "read", Object: "the application default credentials",
				Cause: fault.Bounded(err.Error()), Remedy: "Correct GOOGLE_APPLICATION_CREDENTIALS, or unset it.", Err: err}
		}
	}
	probe, cancel := context.WithTimeout(ctx, metadataTime)
	defer cancel()
	if !metadata.OnGCEWithContext(probe) {
		return credential{}, []string{"application default credentials (no GOOGLE_APPLICATION_CREDENTIALS, no file of gcloud, no metadata server)"}, nil
	}
	source := func() (oauth2.TokenSource, error) { return google.ComputeTokenSource("", cloudPlatform), nil }
	return k.googleCredential(at, "the service account of this machine (metadata server)", source), nil, nil
}

// adc gives the tokens of a file whose type it names itself, as gcloud and google-github-actions/auth write them.
func adc(ctx context.Context, content []byte) (oauth2.TokenSource, error) {
	var kind struct{ Type string }
	if err := json.Unmarshal(content, &kind); err != nil {
		return nil, errors.New("it is not JSON")
	}
	return keySource(ctx, content, google.CredentialsType(kind.Type))
}

// gcloudFile is where `gcloud auth application-default login` puts its credentials.
func (k *keychain) gcloudFile() string {
	const file = "application_default_credentials.json"
	if dir := k.explicit.Getenv("CLOUDSDK_CONFIG"); dir != "" {
		return filepath.Join(dir, file)
	}
	if dir := k.explicit.Getenv("APPDATA"); dir != "" {
		return filepath.Join(dir, "gcloud", file)
	}
	if home := k.explicit.Getenv("HOME"); home != "" {
		return filepath.Join(home, ".config", "gcloud", file)
	}
	return ""
}

// googleFault explains why there is no access token.
func (k *keychain) googleFault(ctx context.Context, host, from string, err error) error {
	const op = "get an access token for"
	if _, known := errors.AsType[*fault.Error](err); known || ctx.Err() != nil {
		return k.cloudFault(ctx, op, host, err, "")
	}
	said, ok := errors.AsType[*oauth2.RetrieveError](err)
	if !ok {
		return k.cloudFault(ctx, op, host, err, "Check the credentials: "+from+".")
	}
	text := strings.TrimSpace(said.ErrorCode + ": " + said.ErrorDescription)
	if said.ErrorCode == "" {
		text = strings.TrimSpace(string(said.Body))
	}
	cause := fmt.Sprintf("Google answered %d (%s); signed in with %s", said.Response.StatusCode, text, from)
	if strings.Contains(text, "reasonable timeframe") || strings.Contains(text, "short-lived token") {
		return k.clockFault(op, host, cause, err)
	}
	f := &fault.Error{Code: fault.CloudSignIn, Op: op, Object: host, Cause: k.secrets.bounded(cause), Err: err,
		Remedy: "The key or the session was deleted, disabled or revoked, or is of another account; make a new one."}
	if said.Response.StatusCode == http.StatusTooManyRequests {
		f.Code, f.Remedy = fault.RateLimited, "Wait and run again."
	}
	return f
}

// garFrozen asks Artifact Registry's own API.
func garFrozen(ctx context.Context, c *Client, s *session, _ string) string {
	if s.cred.renewable == nil || s.cred.user != garUser {
		return ""
	}
	t, err := s.cred.renewable.AuthorizationContext(ctx)
	if err != nil {
		return ""
	}
	at := placeOf(s.repo)
	location, repository := garPlace(at)
	project, _ := garProject(at)
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	url := fmt.Sprintf("https://artifactregistry.googleapis.com/v1/projects/%s/locations/%s/repositories/%s", project, location, repository)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	req.Header.Set("Authorization", "Bearer "+t.Password)
	res, err := c.cloudClient(false).Do(req)
	if err != nil {
		return ""
	}
	defer drain(res)
	var r struct {
		DockerConfig struct {
			ImmutableTags bool `json:"immutableTags"`
		} `json:"dockerConfig"`
	}
	// Who may push need not be allowed to describe; then the push tells.
	if res.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&r) != nil || !r.DockerConfig.ImmutableTags {
		return ""
	}
	return "the repository has immutable tags"
}
