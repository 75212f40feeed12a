package cloudtest

import (
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

// accounts are who may sign in with a password, for registries with a token server.
type accounts struct {
	w      *world
	front  *front
	tokens *bearer

	mu        sync.Mutex
	passwords map[string]string
	// identity is a refresh token that counts as somebody's.
	identity string
	// public lets everybody read.
	public bool
	// refused answers who is not known.
	refused func(http.ResponseWriter)
	path    string
}

// newAccounts makes a registry whose token server is at realm.
func (w *world) newAccounts(host, realm, service string) *accounts {
	a := &accounts{w: w, passwords: map[string]string{}}
	rest := strings.TrimPrefix(realm, "https://")
	server, path, _ := strings.Cut(rest, "/")
	a.path = "/" + path
	a.tokens = &bearer{w: w, host: host, realm: realm, service: service}
	a.front = w.newFront(host, a.tokens)
	a.tokens.may = a.front.mayPush
	a.refused = func(rw http.ResponseWriter) {
		refuse(rw, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password", nil)
	}
	if server == host {
		a.front.other = http.HandlerFunc(a.serveToken)
	} else {
		w.site(server, http.HandlerFunc(a.serveToken))
	}
	return a
}

// user lets somebody in; the password may be seen by the token server alone.
func (a *accounts) user(name, kind, password string) string {
	server, _, _ := strings.Cut(strings.TrimPrefix(a.tokens.realm, "https://"), "/")
	a.w.secret(kind, password, server)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.passwords[name] = password
	return password
}

func (a *accounts) serveToken(rw http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	scopes, service := scopesOf(q["scope"]), q.Get("service")
	user, password, _ := r.BasicAuth()
	identity := ""
	if r.URL.Path != a.path {
		http.NotFound(rw, r)
		return
	}
	if r.Method == http.MethodPost {
		form, err := formOf(r)
		if err != nil {
			refuse(rw, http.StatusBadRequest, "UNSUPPORTED", err.Error(), nil)
			return
		}
		scopes, service = scopesOf(form["scope"]), form.Get("service")
		if form.Get("grant_type") == "refresh_token" {
			identity = form.Get("refresh_token")
		} else {
			user, password = form.Get("username"), form.Get("password")
		}
	}
	if service != a.tokens.service {
		refuse(rw, http.StatusBadRequest, "UNSUPPORTED", "service "+service, nil)
		return
	}
	a.mu.Lock()
	want, known := a.passwords[user]
	ok := known && password == want || identity != "" && identity == a.identity
	a.mu.Unlock()
	if user == "" && identity == "" && a.public && !strings.Contains(strings.Join(scopes, " "), "push") {
		a.tokens.answerToken(rw, "", scopes)
		return
	}
	if !ok {
		a.refused(rw)
		return
	}
	a.tokens.answerToken(rw, user, scopes)
}

// dockerHub is Docker Hub.
type dockerHub struct {
	*accounts
	trust      *oidcTrust
	connection string
	// throttles is how many exchanges are refused for their number.
	throttles int
}

const hubIdentity = "identity.docker.com"

// newDockerHub makes it.
func (w *world) newDockerHub() *dockerHub {
	h := &dockerHub{accounts: w.newAccounts("index.docker.io", "https://auth.docker.io/token", "registry.docker.io")}
	h.front.headers = http.Header{"Ratelimit-Limit": {"200;w=21600"}, "Ratelimit-Remaining": {"199;w=21600"},
		"Docker-Ratelimit-Source": {"11111111-0000-0000-0000-000000000000"}}
	h.front.immutable = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusForbidden, "DENIED", "the tag "+c.reference+" is immutable and cannot be overwritten", nil)
	}
	w.site(hubIdentity, http.HandlerFunc(h.serveIdentity))
	return h
}

// serveIdentity gives a password for an OIDC token.
func (h *dockerHub) serveIdentity(rw http.ResponseWriter, r *http.Request) {
	form, err := formOf(r)
	if err != nil || r.URL.Path != "/oauth/token" || form.Get("grant_type") != tokenExchange ||
		form.Get("subject_token_type") != "urn:ietf:params:oauth:token-type:id_token" {
		oauthError(rw, http.StatusBadRequest, "invalid_request", fmt.Sprint(err))
		return
	}
	h.mu.Lock()
	throttle := h.throttles > 0
	if throttle {
		h.throttles--
	}
	h.mu.Unlock()
	if throttle {
		rw.Header().Set("Retry-After", "1")
		oauthError(rw, http.StatusTooManyRequests, "slow_down", "too many requests")
		return
	}
	life := 300 * time.Second
	if text := form.Get("expires_in"); text != "" {
		seconds, err := time.ParseDuration(text + "s")
		if err != nil || seconds < 300*time.Second || seconds > time.Hour {
			oauthError(rw, http.StatusBadRequest, "invalid_request", "expires_in must be between 300 and 3600")
			return
		}
		life = seconds
	}
	if form.Get("connection_id") != h.connection {
		oauthError(rw, http.StatusNotFound, "invalid_request", "connection not found")
		return
	}
	if h.trust == nil {
		oauthError(rw, http.StatusUnauthorized, "invalid_grant", "no rule matches the token")
		return
	}
	if _, err := h.trust.check(form.Get("subject_token"), h.w.now()); err != nil {
		oauthError(rw, http.StatusUnauthorized, "invalid_grant", "no rule matches the token: "+err.Error())
		return
	}
	password := h.user("acme", "Docker Hub OIDC token", "dckr_oidc_"+h.w.random())
	answerJSON(rw, http.StatusOK, map[string]any{"access_token": password, "expires_in": int(life.Seconds()), "token_type": "Bearer"})
}

// newGHCR makes GitHub's registry.
func (w *world) newGHCR() *accounts {
	a := w.newAccounts("ghcr.io", "https://ghcr.io/token", "ghcr.io")
	w.sites["ghcr.io"].http2 = true
	a.tokens.may = nil
	a.refused = func(rw http.ResponseWriter) { refuse(rw, http.StatusForbidden, "DENIED", "denied", nil) }
	a.front.denied = func(rw http.ResponseWriter, _ call) {
		refuse(rw, http.StatusForbidden, "DENIED", "permission_denied: write_package", nil)
	}
	return a
}

// newGitLab makes the registry of a GitLab and the GitLab itself.
func (w *world) newGitLab(registry, gitlab string) *accounts {
	a := w.newAccounts(registry, "https://"+gitlab+"/jwt/auth", "container_registry")
	a.refused = func(rw http.ResponseWriter) {
		refuse(rw, http.StatusUnauthorized, "UNAUTHORIZED", "HTTP Basic: Access denied. If a password was provided for Git authentication, the "+
			"password was incorrect or you're required to use a token instead of a password.", nil)
	}
	a.front.immutable = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusForbidden, "DENIED", "tag '"+c.reference+"' is immutable", nil)
	}
	return a
}

// newTokenServer makes a registry of somebody's own that has a token server on another host.
func (w *world) newTokenServer() *accounts {
	return w.newAccounts("registry.acme.example", "https://auth.acme.example/token", "acme-registry")
}

// basicRegistry is a registry of somebody's own with user names and passwords.
type basicRegistry struct {
	front *front
	mu    sync.Mutex
	users map[string]string
	// bearer is a token that it takes as it is.
	bearer string
	// ended are the passwords that are not good any more.
	ended map[string]bool
}

func (w *world) newBasic(host string) *basicRegistry {
	b := &basicRegistry{users: map[string]string{}, ended: map[string]bool{}}
	b.front = w.newFront(host, b)
	return b
}

func (b *basicRegistry) expire() {
	b.mu.Lock()
	defer b.mu.Unlock()
	for user := range b.users {
		b.ended[user] = true
	}
	b.bearer = ""
}

func (b *basicRegistry) admit(rw http.ResponseWriter, r *http.Request, _ call) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.bearer != "" && r.Header.Get("Authorization") == "Bearer "+b.bearer {
		return true
	}
	user, password, ok := r.BasicAuth()
	if want, known := b.users[user]; ok && known && want == password && !b.ended[user] {
		return true
	}
	rw.Header().Set("WWW-Authenticate", `Basic realm="Acme"`)
	refuse(rw, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
	return false
}
