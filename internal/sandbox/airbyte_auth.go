package sandbox

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"time"
)

// AuthMode is how callers sign in to the stand-in.
type AuthMode int

// The ways to sign in.
const (
	// NoAuth asks for nothing, as Helm charts before 2 did.
	NoAuth AuthMode = iota
	// BasicAuth is a proxy in front that asks every request for a user and password, as docker-compose had it.
	BasicAuth
	// ClientCredentials gives a bearer token for a client id and secret.
	ClientCredentials
)

// Auth says how callers sign in.
type Auth struct {
	Mode AuthMode
	// User and Password are those of BasicAuth.
	User, Password string
	// ClientID and ClientSecret are those of ClientCredentials.
	ClientID, ClientSecret string
	// Lifetime is how long a token is good; 0 means what the version and edition have: 24 hours before 1.6.0,
	// then 15 minutes; 3 minutes in Cloud.
	Lifetime time.Duration
	// Roles go into the tokens of ClientCredentials, as those of an application's user do.
	Roles []string
}

func (o Auth) basicOK(r *http.Request) bool {
	user, password, ok := r.BasicAuth()
	return ok && same(user, o.User) && same(password, o.Password)
}

func same(a, b string) bool { return subtle.ConstantTimeCompare([]byte(a), []byte(b)) == 1 }

func (a *Airbyte) lifetime() time.Duration {
	switch {
	case a.o.Auth.Lifetime > 0:
		return a.o.Auth.Lifetime
	case a.o.Edition == Cloud:
		return 3 * time.Minute
	case a.is(hasLongTokens):
		return 24 * time.Hour
	}
	return 15 * time.Minute
}

// claims are those of an access token. Generation tells tokens apart that ExpireTokens has made invalid.
type claims struct {
	Issuer     string `json:"iss"`
	Subject    string `json:"sub"`
	IssuedAt   int64  `json:"iat"`
	ExpiresAt  int64  `json:"exp"`
	Generation int    `json:"gen"`

	Roles []string `json:"roles,omitempty"`
}

// ExpireTokens makes every access token issued so far invalid.
func (a *Airbyte) ExpireTokens() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.tokensFrom++
}

func (a *Airbyte) token(_ context.Context, b *body) (any, error) {
	token, err := a.issue(b)
	if err != nil {
		return nil, err
	}
	return map[string]any{"access_token": token}, nil
}

func (a *Airbyte) publicToken(_ context.Context, b *body) (any, error) {
	token, err := a.issue(b)
	if err != nil {
		return nil, err
	}
	return map[string]any{"access_token": token, "token_type": "Bearer", "expires_in": int(a.lifetime().Seconds())}, nil
}

func (a *Airbyte) issue(b *body) (string, error) {
	id, secret := b.required("client_id"), b.required("client_secret")
	if err := b.check(); err != nil {
		return "", err
	}
	if !same(id, a.o.Auth.ClientID) || !same(secret, a.o.Auth.ClientSecret) {
		if a.o.Edition == Community {
			return "", &apiError{status: http.StatusBadRequest, message: "Invalid client id or token",
				class: "jakarta.ws.rs.BadRequestException"}
		}
		return "", &apiError{status: http.StatusUnauthorized, message: "Invalid client credentials", known: true,
			class: "io.airbyte.data.auth.InvalidClientCredentialsException"}
	}
	a.mu.Lock()
	generation := a.tokensFrom
	a.mu.Unlock()
	now := a.o.Now()
	return a.sign(claims{Issuer: "http://localhost", Subject: a.o.Auth.ClientID, IssuedAt: now.Unix(),
		ExpiresAt: now.Add(a.lifetime()).Unix(), Generation: generation, Roles: a.o.Auth.Roles}), nil
}

func (a *Airbyte) sign(c claims) string {
	payload, _ := json.Marshal(c) // A struct of texts and numbers always has a JSON form.
	enc := base64.RawURLEncoding
	head := enc.EncodeToString([]byte(`{"alg":"HS256","typ":"JWT"}`)) + "." + enc.EncodeToString(payload)
	mac := hmac.New(sha256.New, a.signKey)
	mac.Write([]byte(head))
	return head + "." + enc.EncodeToString(mac.Sum(nil))
}

// tokenOK tells whether the request has an access token that this stand-in issued and that is still good.
func (a *Airbyte) tokenOK(r *http.Request) bool {
	token, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	parts := strings.Split(token, ".")
	if !ok || len(parts) != 3 {
		return false
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return false
	}
	var c claims
	if json.Unmarshal(payload, &c) != nil || !same(a.sign(c), token) {
		return false
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return c.Generation >= a.tokensFrom && a.o.Now().Unix() < c.ExpiresAt
}
