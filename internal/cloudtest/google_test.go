package cloudtest

import (
	"crypto/rsa"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"
)

// What all worlds' Google is made of.
const (
	googlePool       = "projects/1234567/locations/global/workloadIdentityPools/ci/providers/main"
	googleAccount    = "publisher@acme-prod.iam.gserviceaccount.com"
	cloudPlatform    = "https://www.googleapis.com/auth/cloud-platform"
	googleTokens     = "oauth2.googleapis.com"
	googleSTS        = "sts.googleapis.com"
	googleIAM        = "iamcredentials.googleapis.com"
	googleAR         = "artifactregistry.googleapis.com"
	metadataServer   = "metadata.google.internal"
	tokenExchange    = "urn:ietf:params:oauth:grant-type:token-exchange"
	accessTokenType  = "urn:ietf:params:oauth:token-type:access_token"
	googleClient     = "764086051850-acme.apps.googleusercontent.com"
	wordsOfNoGCloud  = "(or it may not exist)"
	googleRepository = "acme-prod/connectors/source-hello"
)

// googleCloud is the part of Google Cloud that has to do with registries.
type googleCloud struct {
	w *world
	// front is the registry, tokens its gate.
	front  *front
	tokens *bearer

	mu sync.Mutex
	// key is the service account's, by its id.
	key   *rsa.PrivateKey
	keyID string
	// access are the access tokens that are good, with whose they are.
	access map[string]googleAccess
	// life is how long they are.
	life time.Duration
	// user is somebody who has signed in with gcloud: a client secret and a refresh token.
	clientSecret, refreshToken string
	trust                      *oidcTrust
	// impersonation tells whether the pool may become the service account.
	impersonation bool
	// projectRight lets the caller see that a repository is missing.
	projectRight bool
	// throttles is how many exchanges are refused for their number.
	throttles int
}

type googleAccess struct {
	who     string
	expires time.Time
}

// newGoogle makes Google and one registry of it.
func (w *world) newGoogle(host string) *googleCloud {
	g := &googleCloud{w: w, key: rsaKey("service account"), keyID: "c0ffee", access: map[string]googleAccess{}, life: time.Hour}
	g.tokens = &bearer{w: w, host: host, realm: "https://" + host + "/v2/token", service: host}
	g.tokens.also = func(token string) (string, bool) { return g.holder(token) }
	g.front = w.newFront(host, &googleGate{g})
	g.front.other = http.HandlerFunc(g.serveToken)
	g.front.repositories = map[string]bool{googleRepository: true}
	g.tokens.may = func(_, _, action string) bool {
		g.front.mu.Lock()
		defer g.front.mu.Unlock()
		return action != "push" || !g.front.closed
	}
	g.front.denied = func(rw http.ResponseWriter, c call) { g.deny(rw, c.repository) }
	g.front.missing = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusNotFound, "NAME_UNKNOWN", fmt.Sprintf("Repository %q not found", repositoryPart(c.repository)), nil)
	}
	g.front.immutable = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusBadRequest, "MANIFEST_INVALID", fmt.Sprintf("cannot update tag %s. The repository has enabled tag immutability", c.reference), nil)
	}
	s := w.sites[host]
	s.http2 = true
	for name, h := range map[string]http.HandlerFunc{googleTokens: g.serveOAuth, googleSTS: g.serveSTS, googleIAM: g.serveIAM, googleAR: g.serveAR} {
		w.site(name, h).http2 = true
	}
	return g
}

// googleGate also ends access tokens.
type googleGate struct{ g *googleCloud }

func (k *googleGate) admit(rw http.ResponseWriter, r *http.Request, c call) bool {
	return k.g.tokens.admit(rw, r, c)
}

func (k *googleGate) expire() {
	k.g.tokens.expire()
	k.g.mu.Lock()
	defer k.g.mu.Unlock()
	clear(k.g.access)
}

// repositoryPart is PROJECT/REPOSITORY of an image's path.
func repositoryPart(path string) string {
	parts := strings.SplitN(path, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// deny refuses in Artifact Registry's words, which don't tell missing from forbidden.
func (g *googleCloud) deny(rw http.ResponseWriter, path string) {
	project, repository, _ := strings.Cut(repositoryPart(path), "/")
	location, _, _ := strings.Cut(g.front.host, "-docker.")
	refuse(rw, http.StatusForbidden, "DENIED", fmt.Sprintf("Permission \"artifactregistry.repositories.uploadArtifacts\" denied on "+
		"resource \"projects/%s/locations/%s/repositories/%s\" "+wordsOfNoGCloud, project, location, repository), nil)
}

// set changes what it does.
func (g *googleCloud) set(change func(*googleCloud)) {
	g.mu.Lock()
	defer g.mu.Unlock()
	change(g)
}

// grantAccess makes an access token.
func (g *googleCloud) grantAccess(who string) string {
	token := g.w.secret("Google access token of "+who, "ya29.c."+g.w.random()+g.w.random(), g.front.host, googleAR)
	g.mu.Lock()
	defer g.mu.Unlock()
	g.access[token] = googleAccess{who, g.w.now().Add(g.life)}
	return token
}

// holder is whose access token it is, if it is still good.
func (g *googleCloud) holder(token string) (string, bool) {
	now := g.w.now()
	g.mu.Lock()
	defer g.mu.Unlock()
	a, ok := g.access[token]
	return a.who, ok && now.Before(a.expires)
}

// keyFile is the JSON of the service account's key, as Google hands it out. Its private key goes nowhere but, if
// passed is set, to the registry itself, which takes the whole file for a password.
func (g *googleCloud) keyFile(passed bool) string {
	der, err := x509.MarshalPKCS8PrivateKey(g.key)
	if err != nil {
		panic(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}))
	var hosts []string
	if passed {
		hosts = []string{g.front.host}
	}
	g.w.secretPEM("service account's private key", text, hosts...)
	b, err := json.MarshalIndent(map[string]string{"type": "service_account", "project_id": "acme-prod", "private_key_id": g.keyID,
		"private_key": text, "client_email": googleAccount, "client_id": "1", "auth_uri": "https://accounts.google.com/o/oauth2/auth",
		"token_uri": "https://" + googleTokens + "/token", "universe_domain": "googleapis.com"}, "", "  ")
	if err != nil {
		panic(err)
	}
	return string(b)
}

// userFile is the JSON that "gcloud auth application-default login" leaves.
func (g *googleCloud) userFile() string {
	g.clientSecret = g.w.secret("OAuth client secret", "d-"+g.w.random(), googleTokens)
	g.refreshToken = g.w.secret("Google refresh token", "1//0"+g.w.random(), googleTokens)
	b, _ := json.Marshal(map[string]string{"type": "authorized_user", "client_id": googleClient, "client_secret": g.clientSecret,
		"refresh_token": g.refreshToken})
	return string(b)
}

// federationFile is the JSON of an external account whose token is in a file.
func (g *googleCloud) federationFile(tokenFile string, impersonate bool) string {
	v := map[string]any{"type": "external_account", "audience": "//iam.googleapis.com/" + googlePool,
		"subject_token_type": "urn:ietf:params:oauth:token-type:jwt", "token_url": "https://" + googleSTS + "/v1/token",
		"credential_source": map[string]any{"file": tokenFile}}
	if impersonate {
		v["service_account_impersonation_url"] = "https://" + googleIAM + "/v1/projects/-/serviceAccounts/" + googleAccount + ":generateAccessToken"
	}
	b, _ := json.Marshal(v)
	return string(b)
}

func oauthError(rw http.ResponseWriter, status int, code, description string) {
	answerJSON(rw, status, map[string]string{"error": code, "error_description": description})
}

// formOf reads a form that was posted as one.
func formOf(r *http.Request) (url.Values, error) {
	if r.Method != http.MethodPost || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded") {
		return nil, errors.New("a form must be posted")
	}
	b, err := io.ReadAll(r.Body)
	if err != nil {
		return nil, err
	}
	return url.ParseQuery(string(b))
}

func (g *googleCloud) throttled(rw http.ResponseWriter) bool {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.throttles == 0 {
		return false
	}
	g.throttles--
	rw.Header().Set("Retry-After", "1")
	answerJSON(rw, http.StatusTooManyRequests, map[string]any{"error": map[string]any{"code": 429, "message": "Quota exceeded", "status": "RESOURCE_EXHAUSTED"}})
	return true
}

// serveOAuth is oauth2.googleapis.com/token: signed assertions and refresh tokens.
func (g *googleCloud) serveOAuth(rw http.ResponseWriter, r *http.Request) {
	form, err := formOf(r)
	if err != nil || r.URL.Path != "/token" {
		oauthError(rw, http.StatusBadRequest, "invalid_request", fmt.Sprint(err))
		return
	}
	if g.throttled(rw) {
		return
	}
	who := googleAccount
	switch form.Get("grant_type") {
	case "urn:ietf:params:oauth:grant-type:jwt-bearer":
		if code, text := g.assertion(form.Get("assertion")); code != "" {
			oauthError(rw, http.StatusBadRequest, code, text)
			return
		}
	case "refresh_token":
		id, secretText := form.Get("client_id"), form.Get("client_secret")
		if id == "" {
			id, secretText, _ = r.BasicAuth()
		}
		if id != googleClient || secretText != g.clientSecret || g.clientSecret == "" {
			oauthError(rw, http.StatusUnauthorized, "invalid_client", "Unauthorized")
			return
		}
		if form.Get("refresh_token") != g.refreshToken {
			oauthError(rw, http.StatusBadRequest, "invalid_grant", "Token has been expired or revoked.")
			return
		}
		who = "jo@acme.example"
	default:
		oauthError(rw, http.StatusBadRequest, "unsupported_grant_type", "Invalid grant_type: "+form.Get("grant_type"))
		return
	}
	g.answerAccess(rw, who)
}

func (g *googleCloud) answerAccess(rw http.ResponseWriter, who string) {
	answerJSON(rw, http.StatusOK, map[string]any{"access_token": g.grantAccess(who), "expires_in": int(g.life.Seconds()), "token_type": "Bearer"})
}

// assertion checks what the service account's key has signed; an empty code means that it is right.
func (g *googleCloud) assertion(text string) (code, description string) {
	header, body, err := verify(text, &g.key.PublicKey)
	now := g.w.now()
	switch {
	case err != nil:
		return "invalid_grant", "Invalid JWT Signature."
	case header.text("kid") != g.keyID:
		return "invalid_grant", "Invalid JWT Signature."
	case body.text("iss") != googleAccount:
		return "invalid_grant", "Invalid grant: account not found"
	case body.text("aud") != "https://"+googleTokens+"/token":
		return "invalid_grant", "Invalid JWT: Failed audience check."
	case body.time("iat").After(now.Add(5*time.Minute)) || body.time("exp").Before(now) || body.time("exp").Sub(body.time("iat")) > time.Hour:
		return "invalid_grant", "Invalid JWT: Token must be a short-lived token (60 minutes) and in a reasonable timeframe. Check your iat and exp values in the JWT claim."
	case !slices.Contains(strings.Fields(body.text("scope")), cloudPlatform):
		return "invalid_scope", "Invalid OAuth scope or ID token audience provided."
	}
	return "", ""
}

// serveSTS is Google's token service.
func (g *googleCloud) serveSTS(rw http.ResponseWriter, r *http.Request) {
	form, err := formOf(r)
	switch {
	case err != nil || r.URL.Path != "/v1/token":
		oauthError(rw, http.StatusBadRequest, "invalid_request", fmt.Sprint(err))
		return
	case form.Get("grant_type") != tokenExchange || form.Get("requested_token_type") != accessTokenType ||
		form.Get("subject_token_type") != "urn:ietf:params:oauth:token-type:jwt" || form.Get("scope") == "":
		oauthError(rw, http.StatusBadRequest, "invalid_request", "Invalid form: "+form.Get("grant_type")+" "+form.Get("subject_token_type"))
		return
	case form.Get("audience") != "//iam.googleapis.com/"+googlePool || g.trust == nil:
		oauthError(rw, http.StatusBadRequest, "invalid_target", "The target service indicated by the \"audience\" parameters is invalid. "+
			"This might either be because the pool or provider is disabled or deleted or because it doesn't exist.")
		return
	}
	if g.throttled(rw) {
		return
	}
	_, err = g.trust.check(form.Get("subject_token"), g.w.now())
	switch {
	case err == nil:
		who := "principal://iam.googleapis.com/" + googlePool
		token := g.grantAccess(who)
		// With it, one may also ask to become the service account.
		g.w.permit("Google access token of "+who, googleIAM)
		answerJSON(rw, http.StatusOK, map[string]any{"access_token": token, "issued_token_type": accessTokenType, "token_type": "Bearer",
			"expires_in": int(g.life.Seconds())})
	case errors.Is(err, errSubject):
		oauthError(rw, http.StatusBadRequest, "unauthorized_client", "The given credential is rejected by the attribute condition.")
	case errors.Is(err, errAudience):
		oauthError(rw, http.StatusBadRequest, "invalid_grant", "The audience in ID Token does not match the expected audience.")
	case errors.Is(err, errExpired):
		oauthError(rw, http.StatusBadRequest, "invalid_grant", "ID Token issued is stale to sign-in.")
	case errors.Is(err, errIssuer):
		oauthError(rw, http.StatusBadRequest, "invalid_grant", "The issuer in ID Token does not match the expected ones.")
	default:
		oauthError(rw, http.StatusBadRequest, "invalid_grant", "Error connecting to the given credential's issuer or: "+err.Error())
	}
}

// serveIAM lets the pool become the service account.
func (g *googleCloud) serveIAM(rw http.ResponseWriter, r *http.Request) {
	fail := func(status int, state, message string) {
		answerJSON(rw, status, map[string]any{"error": map[string]any{"code": status, "message": message, "status": state}})
	}
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	who, ok := g.holder(token)
	var in struct {
		Lifetime string   `json:"lifetime"`
		Scope    []string `json:"scope"`
	}
	err := json.NewDecoder(r.Body).Decode(&in)
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/v1/projects/-/serviceAccounts/"+googleAccount+":generateAccessToken":
		fail(http.StatusNotFound, "NOT_FOUND", "Requested entity was not found.")
	case !ok:
		fail(http.StatusUnauthorized, "UNAUTHENTICATED", "Request had invalid authentication credentials.")
	case err != nil || !slices.Contains(in.Scope, cloudPlatform) || in.Lifetime != "" && !strings.HasSuffix(in.Lifetime, "s"):
		fail(http.StatusBadRequest, "INVALID_ARGUMENT", "Request contains an invalid argument.")
	case !g.impersonation || !strings.HasPrefix(who, "principal://"):
		fail(http.StatusForbidden, "PERMISSION_DENIED", "Permission 'iam.serviceAccounts.getAccessToken' denied on resource "+wordsOfNoGCloud+".")
	default:
		answerJSON(rw, http.StatusOK, map[string]string{"accessToken": g.grantAccess(googleAccount),
			"expireTime": g.w.now().Add(g.life).UTC().Format(time.RFC3339)})
	}
}

// serveAR is Artifact Registry's own API: what is set of a repository.
func (g *googleCloud) serveAR(rw http.ResponseWriter, r *http.Request) {
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	if _, ok := g.holder(token); !ok || r.Method != http.MethodGet {
		answerJSON(rw, http.StatusUnauthorized, map[string]any{"error": map[string]any{"code": 401, "status": "UNAUTHENTICATED"}})
		return
	}
	location, _, _ := strings.Cut(g.front.host, "-docker.")
	name := "projects/acme-prod/locations/" + location + "/repositories/connectors"
	if r.URL.Path != "/v1/"+name {
		answerJSON(rw, http.StatusForbidden, map[string]any{"error": map[string]any{"code": 403, "status": "PERMISSION_DENIED"}})
		return
	}
	g.front.mu.Lock()
	fixed := g.front.fixed
	g.front.mu.Unlock()
	answerJSON(rw, http.StatusOK, map[string]any{"name": name, "format": "DOCKER", "dockerConfig": map[string]bool{"immutableTags": fixed}})
}

// metadata makes the child a machine of Google's and returns the address to ask.
func (g *googleCloud) metadata() string {
	return g.w.loopback(metadataServer, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		rw.Header().Set("Metadata-Flavor", "Google")
		if r.Header.Get("Metadata-Flavor") != "Google" {
			http.Error(rw, "Missing Metadata-Flavor:Google header", http.StatusForbidden)
			return
		}
		switch r.URL.Path {
		case "/computeMetadata/v1/instance/service-accounts/default/token":
			g.answerAccess(rw, googleAccount)
		case "/computeMetadata/v1/instance/service-accounts/default/email":
			_, _ = io.WriteString(rw, googleAccount)
		case "/computeMetadata/v1/project/project-id":
			_, _ = io.WriteString(rw, "acme-prod")
		default:
			http.NotFound(rw, r)
		}
	}))
}

// serveToken is the registry's token server.
func (g *googleCloud) serveToken(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if r.Method != http.MethodGet || r.URL.Path != "/v2/token" || q.Get("service") != g.front.host {
		http.NotFound(rw, r)
		return
	}
	user, password, _ := r.BasicAuth()
	who, ok := g.basic(user, password)
	if !ok {
		refuse(rw, http.StatusUnauthorized, "UNAUTHORIZED", "authentication failed", nil)
		return
	}
	scopes := scopesOf(q["scope"])
	for _, scope := range scopes {
		m := scopeGrammar.FindStringSubmatch(scope)
		if m == nil {
			continue
		}
		g.front.mu.Lock()
		missing, closed := !g.front.repositories[m[1]], g.front.closed
		g.front.mu.Unlock()
		// That a repository is missing is told only to those who may see the project.
		if pushes := strings.Contains(m[2], "push"); missing && !g.projectRight || closed && pushes {
			g.deny(rw, m[1])
			return
		}
	}
	g.tokens.answerToken(rw, who, scopes)
}

// basic is who signs in with user name and password.
func (g *googleCloud) basic(user, password string) (string, bool) {
	switch user {
	case "oauth2accesstoken", "_token":
		return g.holder(password)
	case "_json_key_base64":
		raw, err := base64.StdEncoding.DecodeString(password)
		if err != nil {
			return "", false
		}
		password = string(raw)
		fallthrough
	case "_json_key":
		var file struct {
			Email string `json:"client_email"`
			Key   string `json:"private_key"`
		}
		if json.Unmarshal([]byte(password), &file) != nil {
			return "", false
		}
		block, _ := pem.Decode([]byte(file.Key))
		if block == nil {
			return "", false
		}
		key, err := x509.ParsePKCS8PrivateKey(block.Bytes)
		if err != nil {
			return "", false
		}
		return file.Email, file.Email == googleAccount && g.key.Equal(key)
	}
	return "", false
}
