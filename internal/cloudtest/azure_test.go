package cloudtest

import (
	"crypto/rand"
	"crypto/sha1" //nolint:gosec // Entra names certificates by it.
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// What all worlds' Azure is made of.
const (
	azureTenant   = "11111111-2222-3333-4444-555555555555"
	azureClient   = "aaaaaaaa-bbbb-cccc-dddd-eeeeeeeeeeee"
	azureIdentity = "99999999-8888-7777-6666-555555555555"
	nobodyGUID    = "00000000-0000-0000-0000-000000000000"
	acrAudience   = "https://containerregistry.azure.net"
	assertionType = "urn:ietf:params:oauth:client-assertion-type:jwt-bearer"
)

// azure is Entra and one registry.
type azure struct {
	w *world
	// login is the host of the cloud's Entra.
	login string
	front *front
	// tokens issues the registry's access tokens.
	tokens *bearer

	mu sync.Mutex
	// clientSecret and certificate are the application's.
	clientSecret string
	certificate  *x509.Certificate
	trust        *oidcTrust
	// entra are the access tokens that are good; refresh are the registry's.
	entra, refresh map[string]time.Time
	// users may sign in at the registry with a password.
	users map[string]string
	// refreshLife is how long the registry's refresh tokens are good.
	refreshLife time.Duration
	// exchange refuses what the registry gets from Entra: a status and a message.
	exchangeStatus  int
	exchangeMessage string
	// entraLife is how long Entra's tokens are good.
	entraLife time.Duration
	// late tells that the client secret has expired.
	late      bool
	throttles int
	exchanges int
}

// newAzure makes the Azure that the registry's host belongs to.
func (w *world) newAzure(host string) *azure {
	a := &azure{w: w, entra: map[string]time.Time{}, refresh: map[string]time.Time{}, users: map[string]string{}, refreshLife: 3 * time.Hour, entraLife: time.Hour}
	logins := []string{"login.microsoftonline.com"}
	switch {
	case strings.HasSuffix(host, ".azurecr.us"):
		logins = []string{"login.microsoftonline.us"}
	case strings.HasSuffix(host, ".azurecr.cn"):
		logins = []string{"login.chinacloudapi.cn", "login.partner.microsoftonline.cn"}
	}
	a.login = logins[0]
	for _, login := range logins {
		w.site(login, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { a.serveEntra(rw, r, login) })).http2 = true
	}
	a.tokens = &bearer{w: w, host: host, realm: "https://" + host + "/oauth2/token", service: host, life: 75 * time.Minute}
	a.front = w.newFront(host, a.tokens)
	a.tokens.may = a.front.mayPush
	a.front.other = http.HandlerFunc(a.serveRegistry)
	a.front.denied = func(rw http.ResponseWriter, _ call) {
		refuse(rw, http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil)
	}
	a.front.immutable = func(rw http.ResponseWriter, _ call) {
		refuse(rw, http.StatusMethodNotAllowed, "REGISTRY_DISALLOWED_OPERATION", "The operation is disallowed on this registry, repository "+
			"or image. View troubleshooting steps at https://aka.ms/acr/faq/#why-does-my-pull-or-push-request-fail-with-disallowed-operation", map[string]any{})
	}
	return a
}

// mayPush lets everybody do everything unless the registry is closed.
func (f *front) mayPush(_, _, action string) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return action == "pull" || !f.closed
}

// set changes what it does.
func (a *azure) set(change func(*azure)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

// useSecret gives the application a client secret.
func (a *azure) useSecret(hosts ...string) string {
	a.clientSecret = a.w.secret("Azure client secret", "8Q~"+a.w.random(), hosts...)
	return a.clientSecret
}

// useCertificate gives the application a certificate and returns it with its key, in PEM.
func (a *azure) useCertificate() string {
	key := rsaKey("azure application")
	template := &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: "publisher"},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	if a.certificate, err = x509.ParseCertificate(der); err != nil {
		panic(err)
	}
	private, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		panic(err)
	}
	text := string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}))
	a.w.secretPEM("Azure application's private key", text)
	return text + string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))
}

// entraToken makes an access token for the registries.
func (a *azure) entraToken() string {
	now := a.w.now()
	token := sign(rsaKey("azure"), map[string]any{"kid": "a"}, map[string]any{"aud": acrAudience, "iss": "https://sts.windows.net/" + azureTenant + "/",
		"tid": azureTenant, "appid": azureClient, "iat": now.Unix(), "exp": now.Add(a.entraLife).Unix(), "uti": a.w.random()})
	a.w.secret("Entra access token", token, a.front.host)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.entra[token] = now.Add(a.entraLife)
	return token
}

// serveEntra is login.microsoftonline.com or its like.
func (a *azure) serveEntra(rw http.ResponseWriter, r *http.Request, login string) {
	switch path := r.URL.Path; {
	case path == "/common/discovery/instance" && r.Method == http.MethodGet:
		answerJSON(rw, http.StatusOK, map[string]any{
			"tenant_discovery_endpoint": "https://" + login + "/" + azureTenant + "/v2.0/.well-known/openid-configuration", "api-version": "1.1",
			"metadata": []any{map[string]any{"preferred_network": login, "preferred_cache": login, "aliases": []string{login}}}})
	case strings.HasSuffix(path, "/v2.0/.well-known/openid-configuration") && r.Method == http.MethodGet:
		tenant := strings.Split(path, "/")[1]
		if tenant != azureTenant {
			a.entraError(rw, http.StatusBadRequest, "invalid_tenant", 90002, fmt.Sprintf("Tenant '%s' not found. Check to make sure you have the correct tenant ID and are signing into the correct cloud.", tenant))
			return
		}
		base := "https://" + login + "/" + azureTenant
		answerJSON(rw, http.StatusOK, map[string]any{"token_endpoint": base + "/oauth2/v2.0/token", "issuer": base + "/v2.0",
			"authorization_endpoint": base + "/oauth2/v2.0/authorize"})
	case path == "/"+azureTenant+"/oauth2/v2.0/token":
		a.serveEntraToken(rw, r, login)
	case strings.HasSuffix(path, "/oauth2/v2.0/token"):
		a.entraError(rw, http.StatusBadRequest, "invalid_request", 90002, fmt.Sprintf("Tenant '%s' not found.", strings.Split(path, "/")[1]))
	default:
		http.NotFound(rw, r)
	}
}

func (a *azure) entraError(rw http.ResponseWriter, status int, code string, number int, text string) {
	answerJSON(rw, status, map[string]any{"error": code, "error_description": fmt.Sprintf("AADSTS%d: %s Trace ID: 1 Correlation ID: 2 Timestamp: %s",
		number, text, a.w.now().UTC().Format("2006-01-02 15:04:05Z")), "error_codes": []int{number},
		"error_uri": fmt.Sprintf("https://%s/error?code=%d", a.login, number)})
}

func (a *azure) serveEntraToken(rw http.ResponseWriter, r *http.Request, login string) {
	form, err := formOf(r)
	if err != nil {
		a.entraError(rw, http.StatusBadRequest, "invalid_request", 900144, err.Error())
		return
	}
	a.mu.Lock()
	throttle := a.throttles > 0
	if throttle {
		a.throttles--
	}
	a.mu.Unlock()
	switch {
	case throttle:
		rw.Header().Set("Retry-After", "1")
		a.entraError(rw, http.StatusTooManyRequests, "temporarily_unavailable", 50196, "The server terminated an operation because it encountered a client request loop.")
		return
	case form.Get("grant_type") != "client_credentials":
		a.entraError(rw, http.StatusBadRequest, "unsupported_grant_type", 70003, "The app requested an unsupported grant type '"+form.Get("grant_type")+"'.")
		return
	case !slices.Contains(strings.Fields(form.Get("scope")), acrAudience+"/.default"):
		a.entraError(rw, http.StatusBadRequest, "invalid_scope", 70011, "The provided value for the input parameter 'scope' is not valid: "+form.Get("scope"))
		return
	case form.Get("client_id") != azureClient:
		a.entraError(rw, http.StatusBadRequest, "unauthorized_client", 700016, fmt.Sprintf("Application with identifier '%s' was not found in the directory 'Acme'.", form.Get("client_id")))
		return
	}
	if number, text := a.refusal(form.Get("client_secret"), form.Get("client_assertion_type"), form.Get("client_assertion"), login); number != 0 {
		a.entraError(rw, http.StatusUnauthorized, "invalid_client", number, text)
		return
	}
	answerJSON(rw, http.StatusOK, map[string]any{"token_type": "Bearer", "expires_in": int(a.entraLife.Seconds()), "access_token": a.entraToken()})
}

// refusal is the number and text of AADSTS's error for what the client has shown; 0 means none.
func (a *azure) refusal(secretText, kind, assertion, login string) (int, string) {
	switch {
	case secretText != "" && a.late:
		return 7000222, "The provided client secret keys for app '" + azureClient + "' are expired."
	case secretText != "":
		if a.clientSecret == "" || secretText != a.clientSecret {
			return 7000215, "Invalid client secret provided. Ensure the secret being sent in the request is the client secret value, not the " +
				"client secret ID, for a secret added to app '" + azureClient + "'."
		}
		return 0, ""
	case kind != assertionType || assertion == "":
		return 7000218, "The request body must contain the following parameter: 'client_assertion' or 'client_secret'."
	case a.certificate != nil:
		return a.certified(assertion, login)
	case a.trust == nil:
		return 70025, "The client has no configured federated identity credentials."
	}
	body, err := a.trust.check(assertion, a.w.now())
	switch {
	case err == nil:
		return 0, ""
	case errors.Is(err, errSubject):
		return 700213, "No matching federated identity record found for presented assertion subject '" + body.text("sub") + "'. Check your federated identity credential Subject, Audience and Issuer against the presented assertion."
	case errors.Is(err, errIssuer):
		return 700211, "No matching federated identity record found for presented assertion issuer '" + body.text("iss") + "'."
	case errors.Is(err, errAudience):
		return 700212, "No matching federated identity record found for presented assertion audience '" + body.text("aud") + "'."
	case errors.Is(err, errExpired):
		return 700024, "Client assertion is not within its valid time range."
	}
	return 50027, "JWT token is invalid or malformed."
}

// certified checks what the application's certificate has signed.
func (a *azure) certified(assertion, login string) (int, string) {
	header, body, err := verify(assertion, &rsaKey("azure application").PublicKey)
	one, two := sha1.Sum(a.certificate.Raw), sha256.Sum256(a.certificate.Raw) //nolint:gosec // Entra names certificates by it.
	thumb := header.text("x5t") == base64.RawURLEncoding.EncodeToString(one[:]) ||
		header.text("x5t") == base64.StdEncoding.EncodeToString(one[:]) ||
		header.text("x5t#S256") == base64.RawURLEncoding.EncodeToString(two[:]) ||
		header.text("x5t#S256") == base64.StdEncoding.EncodeToString(two[:])
	now := a.w.now()
	switch {
	case err != nil || !thumb:
		return 700027, "The certificate with identifier used to sign the client assertion is not registered on application."
	case body.text("iss") != azureClient || body.text("sub") != azureClient:
		return 700021, "Client assertion application identifier doesn't match 'client_id' parameter."
	case body.text("aud") != "https://"+login+"/"+azureTenant+"/oauth2/v2.0/token":
		return 700023, "Client assertion audience claim does not match Realm issuer."
	case !now.Before(body.time("exp")) || body.time("nbf").After(now.Add(5*time.Minute)):
		return 700024, "Client assertion is not within its valid time range."
	}
	return 0, ""
}

// managed gives the machine an identity, as a virtual machine has it.
func (a *azure) managed() {
	a.w.site(metadataHost, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case r.URL.Path != "/metadata/identity/oauth2/token" || r.Method != http.MethodGet:
			http.NotFound(rw, r)
		case r.Header.Get("Metadata") != "true" || q.Get("api-version") == "":
			answerJSON(rw, http.StatusBadRequest, map[string]string{"error": "bad_request_102", "error_description": "Required metadata header not specified"})
		default:
			a.answerManaged(rw, q.Get("resource"), q.Get("client_id"))
		}
	})).plain = true
}

func (a *azure) answerManaged(rw http.ResponseWriter, resource, client string) {
	switch {
	case strings.TrimSuffix(resource, "/") != acrAudience:
		answerJSON(rw, http.StatusBadRequest, map[string]string{"error": "invalid_resource", "error_description": "AADSTS500011: The resource principal named " + resource + " was not found"})
	case client != "" && client != azureIdentity:
		answerJSON(rw, http.StatusBadRequest, map[string]string{"error": "invalid_request", "error_description": "Identity not found"})
	default:
		expires := a.w.now().Add(a.entraLife)
		answerJSON(rw, http.StatusOK, map[string]string{"access_token": a.entraToken(), "client_id": azureIdentity, "expires_in": fmt.Sprint(int(a.entraLife.Seconds())),
			"expires_on": fmt.Sprint(expires.Unix()), "not_before": fmt.Sprint(a.w.now().Unix()), "resource": resource, "token_type": "Bearer"})
	}
}

// appService gives the machine an identity, as App Service and Container Apps have it.
func (a *azure) appService() (endpoint, header string) {
	const host = "app-service-identity"
	header = a.w.secret("IDENTITY_HEADER", "identity-"+a.w.random(), host)
	addr := a.w.loopback(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case r.URL.Path != "/msi/token" || q.Get("api-version") != "2019-08-01":
			http.NotFound(rw, r)
		case r.Header.Get("X-Identity-Header") != header:
			answerJSON(rw, http.StatusUnauthorized, map[string]any{"statusCode": 401, "message": "Unauthorized"})
		default:
			a.answerManaged(rw, q.Get("resource"), q.Get("client_id"))
		}
	}))
	return "http://" + addr + "/msi/token", header
}

// session is what an az program says that somebody has signed in with.
func (a *azure) session(c *child) {
	c.az = true
	c.script("az", fmt.Sprintf(`case " $* " in
*" --resource https://containerregistry.azure.net "*|*" --scope https://containerregistry.azure.net/.default "*) ;;
*) echo "ERROR: the resource is not what registries want: $*" >&2; exit 1 ;;
esac
cat <<'END'
{"accessToken": "%s", "expiresOn": "%s", "expires_on": %d, "subscription": "s", "tenant": "%s", "tokenType": "Bearer"}
END
`, a.entraToken(), time.Now().Add(time.Hour).Format("2006-01-02 15:04:05.000000"), time.Now().Add(time.Hour).Unix(), azureTenant))
}

// serveRegistry is what a registry has besides its protocol.
func (a *azure) serveRegistry(rw http.ResponseWriter, r *http.Request) {
	switch {
	case r.URL.Path == "/oauth2/exchange" && r.Method == http.MethodPost:
		a.serveExchange(rw, r)
	case r.URL.Path == "/oauth2/token":
		a.serveToken(rw, r)
	case strings.HasPrefix(r.URL.Path, "/acr/v1/"):
		a.serveAttributes(rw, r)
	default:
		http.NotFound(rw, r)
	}
}

func unauthorized(rw http.ResponseWriter) {
	refuse(rw, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required, visit https://aka.ms/acr/authorization for more information.", nil)
}

// serveExchange gives a refresh token for one of Entra's.
func (a *azure) serveExchange(rw http.ResponseWriter, r *http.Request) {
	form, err := formOf(r)
	now := a.w.now()
	a.mu.Lock()
	a.exchanges++
	expires, ok := a.entra[form.Get("access_token")]
	status, message := a.exchangeStatus, a.exchangeMessage
	a.mu.Unlock()
	switch {
	case err != nil || form.Get("grant_type") != "access_token" || form.Get("service") != a.front.host:
		refuse(rw, http.StatusBadRequest, "UNSUPPORTED", "The request is not right", nil)
	case form.Get("tenant") != "" && form.Get("tenant") != azureTenant, !ok || !now.Before(expires):
		unauthorized(rw)
	case status == http.StatusUnauthorized:
		unauthorized(rw)
	case status != 0:
		refuse(rw, status, "DENIED", message, nil)
	default:
		token := sign(rsaKey("azure"), nil, map[string]any{"jti": a.w.random(), "sub": azureClient, "iat": now.Unix(), "nbf": now.Unix(),
			"exp": now.Add(a.refreshLife).Unix(), "iss": "Azure Container Registry", "aud": a.front.host, "grant_type": "refresh_token", "tenant": azureTenant})
		a.w.secret("ACR refresh token", token, a.front.host)
		a.mu.Lock()
		a.refresh[token] = now.Add(a.refreshLife)
		a.mu.Unlock()
		answerJSON(rw, http.StatusOK, map[string]string{"refresh_token": token})
	}
}

// serveToken gives an access token for a refresh token, or for user name and password.
func (a *azure) serveToken(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	user, password, basic := r.BasicAuth()
	scopes, given := scopesOf(q["scope"]), q.Get("service")
	if r.Method == http.MethodPost {
		form, err := formOf(r)
		if err != nil {
			refuse(rw, http.StatusBadRequest, "UNSUPPORTED", err.Error(), nil)
			return
		}
		scopes, given = scopesOf(form["scope"]), form.Get("service")
		switch form.Get("grant_type") {
		case "refresh_token":
			user, password = nobodyGUID, form.Get("refresh_token")
		case "password":
			user, password = form.Get("username"), form.Get("password")
		}
	} else if !basic {
		unauthorized(rw)
		return
	}
	if given != a.front.host {
		refuse(rw, http.StatusBadRequest, "UNSUPPORTED", "service "+given, nil)
		return
	}
	if !a.known(user, password) {
		unauthorized(rw)
		return
	}
	token, _, err := a.tokens.issue(user, scopes)
	if err != nil {
		refuse(rw, http.StatusBadRequest, "UNSUPPORTED", err.Error(), nil)
		return
	}
	// It tells neither a "token" nor how long it is good.
	answerJSON(rw, http.StatusOK, map[string]string{"access_token": token})
}

func (a *azure) known(user, password string) bool {
	now := a.w.now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if user == nobodyGUID {
		expires, ok := a.refresh[password]
		return ok && now.Before(expires)
	}
	if user == azureClient && a.clientSecret != "" && password == a.clientSecret {
		return true
	}
	want, ok := a.users[user]
	return ok && password == want
}

// serveAttributes tells whether a tag is locked, to those who may know.
func (a *azure) serveAttributes(rw http.ResponseWriter, r *http.Request) {
	repository, name, ok := strings.Cut(strings.TrimPrefix(r.URL.Path, "/acr/v1/"), "/_tags/")
	token, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a.tokens.mu.Lock()
	g := a.tokens.issued[token]
	a.tokens.mu.Unlock()
	if !ok || r.Method != http.MethodGet || g == nil || !slices.Contains(g.granted, repository+":metadata_read") {
		unauthorized(rw)
		return
	}
	a.front.mu.Lock()
	fixed := a.front.fixed
	a.front.mu.Unlock()
	answerJSON(rw, http.StatusOK, map[string]any{"registry": a.front.host, "imageName": repository, "tag": map[string]any{"name": name,
		"changeableAttributes": map[string]bool{"deleteEnabled": !fixed, "writeEnabled": !fixed, "readEnabled": true, "listEnabled": true}}})
}
