package sandbox

import (
	"crypto/rand"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// RegistryAuthMode is how callers sign in to the registry.
type RegistryAuthMode int

// The ways to sign in to the registry.
const (
	// RegistryOpen asks for nothing.
	RegistryOpen RegistryAuthMode = iota
	// RegistryBasic asks every request for a user and password.
	RegistryBasic
	// RegistryBearer asks for a token of a token server.
	RegistryBearer
)

// RegistryAuth says how callers sign in to the registry, and what they may do then.
type RegistryAuth struct {
	Mode  RegistryAuthMode
	Users []RegistryUser
	// IdentityToken is a refresh token that stands for the first user; empty means that there is none.
	IdentityToken string
	// Realm is the URL of the token server, where TokenServer is served; empty means that the registry's own
	// listener is the token server, at /token.
	Realm string
	// Lifetime is how long a token is good; 0 means five minutes.
	Lifetime time.Duration
	// Uses is how many requests a token is good for; 0 means any number.
	Uses int
}

// RegistryUser is somebody who may sign in.
type RegistryUser struct {
	Name, Password string
	// ReadOnly users may pull, not push.
	ReadOnly bool
}

const (
	tokenPath = "/token"
	service   = "sandbox-registry"
)

// user finds who signs in with the name and password.
func (o RegistryAuth) user(name, password string) (RegistryUser, bool) {
	for _, u := range o.Users {
		if same(u.Name, name) && same(u.Password, password) {
			return u, true
		}
	}
	return RegistryUser{}, false
}

// token is an access token that the token server issued.
type token struct {
	expires time.Time
	// uses is how many requests it is good for; below 0 is any number.
	uses int
	// asked and granted are scopes as "repository:NAME:ACTION".
	asked, granted []string
}

type tokens struct {
	mu     sync.Mutex
	issued map[string]*token
}

func (t *tokens) expire() {
	t.mu.Lock()
	defer t.mu.Unlock()
	clear(t.issued)
}

// use finds a token that is still good and counts it off.
func (t *tokens) use(secret string, now time.Time) *token {
	t.mu.Lock()
	defer t.mu.Unlock()
	k := t.issued[secret]
	if k == nil || !now.Before(k.expires) || k.uses == 0 {
		return nil
	}
	k.uses--
	return k
}

// ExpireTokens makes every token issued so far invalid.
func (g *Registry) ExpireTokens() { g.tokens.expire() }

// needs are the actions on the repository that a step needs.
func (t target) needs() []string {
	switch t.step {
	case StepUploadStart, StepUploadChunk, StepUploadFinish, StepUploadStatus, StepUploadCancel, StepManifestPut:
		return []string{"push"}
	case StepPing:
		return nil
	}
	return []string{"pull"}
}

// authorise tells whether the request may do what it does; when not, it has been answered.
func (g *Registry) authorise(w http.ResponseWriter, r *http.Request, t target) bool {
	switch g.o.Auth.Mode {
	case RegistryBasic:
		name, password, _ := r.BasicAuth()
		u, ok := g.o.Auth.user(name, password)
		if !ok {
			w.Header().Set("WWW-Authenticate", `Basic realm="sandbox"`)
			refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
			return false
		}
		if u.ReadOnly && slices.Contains(t.needs(), "push") {
			refuse(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil)
			return false
		}
	case RegistryBearer:
		return g.authoriseBearer(w, r, t)
	}
	return true
}

func (g *Registry) authoriseBearer(w http.ResponseWriter, r *http.Request, t target) bool {
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	k := g.tokens.use(secret, g.o.Now())
	if k == nil {
		g.challenge(w, r, t, "")
		return false
	}
	for _, action := range t.needs() {
		scope := "repository:" + t.repository + ":" + action
		switch {
		case slices.Contains(k.granted, scope):
		case slices.Contains(k.asked, scope):
			// It has asked for this before and was not given it: another token would not help.
			refuse(w, http.StatusForbidden, "DENIED", "requested access to the resource is denied", nil)
			return false
		default:
			g.challenge(w, r, t, "insufficient_scope")
			return false
		}
	}
	return true
}

func (g *Registry) challenge(w http.ResponseWriter, r *http.Request, t target, reason string) {
	realm := g.o.Auth.Realm
	if realm == "" {
		realm = scheme(r) + "://" + r.Host + tokenPath
	}
	c := fmt.Sprintf("Bearer realm=%q,service=%q", realm, service)
	if actions := t.needs(); len(actions) > 0 {
		if actions[0] == "push" {
			actions = []string{"pull", "push"}
		}
		c += fmt.Sprintf(",scope=%q", "repository:"+t.repository+":"+strings.Join(actions, ","))
	}
	if reason != "" {
		c += fmt.Sprintf(",error=%q", reason)
	}
	w.Header().Set("WWW-Authenticate", c)
	refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "authentication required", nil)
}

func scheme(r *http.Request) string {
	if r.TLS != nil {
		return "https"
	}
	return "http"
}

// TokenServer is the token server, to be served on a listener of its own at Auth.Realm.
func (g *Registry) TokenServer() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.observed(w, r, target{step: StepToken}, http.HandlerFunc(g.serveToken))
	})
}

// serveToken issues a token: to a GET with basic authentication, or to a POST as OAuth2 has it.
func (g *Registry) serveToken(w http.ResponseWriter, r *http.Request) {
	var u RegistryUser
	var ok bool
	scopes := r.URL.Query()["scope"]
	switch r.Method {
	case http.MethodGet:
		name, password, _ := r.BasicAuth()
		u, ok = g.o.Auth.user(name, password)
	case http.MethodPost:
		r.Body = http.MaxBytesReader(w, r.Body, 64<<10)
		if err := r.ParseForm(); err != nil {
			refuse(w, http.StatusBadRequest, "UNSUPPORTED", "the form can't be read", nil)
			return
		}
		scopes = strings.Fields(r.PostForm.Get("scope"))
		switch r.PostForm.Get("grant_type") {
		case "refresh_token":
			if ok = g.o.Auth.IdentityToken != "" && same(r.PostForm.Get("refresh_token"), g.o.Auth.IdentityToken); ok {
				u = g.o.Auth.Users[0]
			}
		case "password":
			u, ok = g.o.Auth.user(r.PostForm.Get("username"), r.PostForm.Get("password"))
		}
	default:
		refuse(w, http.StatusMethodNotAllowed, "UNSUPPORTED", "The operation is unsupported.", nil)
		return
	}
	if !ok {
		refuse(w, http.StatusUnauthorized, "UNAUTHORIZED", "incorrect username or password", nil)
		return
	}
	secret, lifetime := g.issue(u, scopes)
	writeJSON(w, http.StatusOK, map[string]any{"token": secret, "access_token": secret, "expires_in": int(lifetime.Seconds()),
		"issued_at": g.o.Now().UTC().Format(time.RFC3339)})
}

// issue makes a token for the scopes ("repository:NAME:pull,push"), with as much of them as the user may have.
func (g *Registry) issue(u RegistryUser, scopes []string) (string, time.Duration) {
	lifetime := g.o.Auth.Lifetime
	if lifetime == 0 {
		lifetime = 5 * time.Minute
	}
	k := &token{expires: g.o.Now().Add(lifetime), uses: g.o.Auth.Uses}
	if k.uses == 0 {
		k.uses = -1
	}
	for _, s := range scopes {
		name, actions, ok := cutLast(s, ":")
		if !ok || !strings.HasPrefix(name, "repository:") {
			continue
		}
		for action := range strings.SplitSeq(actions, ",") {
			k.asked = append(k.asked, name+":"+action)
			if action == "pull" || action == "push" && !u.ReadOnly {
				k.granted = append(k.granted, name+":"+action)
			}
		}
	}
	secret := rand.Text()
	g.tokens.mu.Lock()
	defer g.tokens.mu.Unlock()
	g.tokens.issued[secret] = k
	return secret, lifetime
}

func cutLast(s, sep string) (before, after string, ok bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

// mayPull tells whether the request, which was let through, may also pull from another repository.
func (g *Registry) mayPull(r *http.Request, repositoryName string) bool {
	if g.o.Auth.Mode != RegistryBearer {
		return true
	}
	secret, _ := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	g.tokens.mu.Lock()
	defer g.tokens.mu.Unlock()
	k := g.tokens.issued[secret]
	return k != nil && slices.Contains(k.granted, "repository:"+repositoryName+":pull")
}
