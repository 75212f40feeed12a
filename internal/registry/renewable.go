package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
)

const (
	// unknownAge is how old a credential may be of which nobody says how long it lives. Clouds' helpers give tokens
	// that live an hour or less, and a build or a large push outlives what was left of one.
	unknownAge = 10 * time.Minute
	// pushAge is how old a credential may be when a push begins: it was found out before a build that takes longer
	// than many tokens live.
	pushAge = time.Minute
	// expiryMargin is how long before its end a credential is replaced, but no more than a tenth of its life.
	expiryMargin = time.Minute
)

// fetched is a credential as it was got just now.
type fetched struct {
	authn.AuthConfig
	// expires is when it ends; zero is unknown.
	expires time.Time
}

// renewable is a credential that is got again when it is about to end. It is a go-containerregistry authenticator,
// which is asked for each request (basic authentication) or each token (token servers).
type renewable struct {
	fetch   func(ctx context.Context) (fetched, error)
	now     func() time.Time
	secrets *secrets

	asks shared[authn.AuthConfig]
	mu   sync.Mutex
	// at is when value was got; zero when it has to be got.
	at    time.Time
	value fetched
	// stale tells that a newer one would be better, and this one will do.
	stale bool
}

// Authorization is AuthorizationContext without a context.
func (r *renewable) Authorization() (*authn.AuthConfig, error) {
	return r.AuthorizationContext(context.Background())
}

// AuthorizationContext returns the credential, which is good for a while.
func (r *renewable) AuthorizationContext(ctx context.Context) (*authn.AuthConfig, error) {
	v, err := r.asks.do(ctx, func() (authn.AuthConfig, error) {
		old, good, stale := r.kept()
		if good && !stale {
			return old.AuthConfig, nil
		}
		limited, cancel := context.WithTimeoutCause(ctx, signInTime, errSignInTime)
		defer cancel()
		v, err := r.fetch(limited)
		if err != nil && good {
			// What it is got with may have ended: a CI job's OIDC token does within minutes.
			r.mu.Lock()
			r.stale = false
			r.mu.Unlock()
			return old.AuthConfig, nil
		}
		if err != nil {
			return authn.AuthConfig{}, err
		}
		r.secrets.addAuth(v.AuthConfig)
		r.mu.Lock()
		r.value, r.at, r.stale = v, r.now(), false
		r.mu.Unlock()
		return v.AuthConfig, nil
	})
	return &v, err
}

// kept returns the value that was got last, whether it is still good, and whether a newer one would be better.
func (r *renewable) kept() (value fetched, good, stale bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	now := r.now()
	switch {
	case r.at.IsZero():
		return fetched{}, false, false
	case r.value.expires.IsZero():
		return r.value, now.Sub(r.at) <= unknownAge, r.stale
	}
	margin := min(expiryMargin, r.value.expires.Sub(r.at)/10)
	return r.value, now.Before(r.value.expires.Add(-margin)), r.stale
}

// freshen has the credential got again by the next one who asks, if it is too old for a push to begin with. Where that
// fails, the old one goes on while it is good.
func (r *renewable) freshen() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.stale = r.stale || r.now().Sub(r.at) > pushAge
}

// drop has the credential got again by the next one who asks: it was refused.
func (r *renewable) drop() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.at = time.Time{}
}

// renewable returns the one for key, so that all sessions and repositories of a run share what was got.
func (k *keychain) renewable(key string, fetch func(ctx context.Context) (fetched, error)) *renewable {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.made == nil {
		k.made = map[string]*renewable{}
	}
	if k.made[key] == nil {
		k.made[key] = &renewable{fetch: fetch, now: k.now, secrets: k.secrets}
	}
	return k.made[key]
}

// shared returns the credential for key, which is made once.
func (k *keychain) shared(key string, make func() credential) credential {
	k.mu.Lock()
	c, ok := k.kept[key]
	k.mu.Unlock()
	if ok {
		return c
	}
	c = make()
	k.mu.Lock()
	defer k.mu.Unlock()
	if first, ok := k.kept[key]; ok {
		return first
	}
	if k.kept == nil {
		k.kept = map[string]credential{}
	}
	k.kept[key] = c
	return c
}

// claims are what a JWT says of itself, read without checking its signature: for messages and for its end only.
type claims struct {
	Issuer   string   `json:"iss"`
	Subject  string   `json:"sub"`
	Audience audience `json:"aud"`
	Expires  float64  `json:"exp"`
}

// audience is one string or a list of them.
type audience []string

// UnmarshalJSON implements json.Unmarshaler.
func (a *audience) UnmarshalJSON(b []byte) error {
	var one string
	if json.Unmarshal(b, &one) == nil {
		*a = audience{one}
		return nil
	}
	return json.Unmarshal(b, (*[]string)(a))
}

// readClaims returns false for what is no JWT.
func readClaims(token string) (claims, bool) {
	var c claims
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return c, false
	}
	body, err := base64.RawURLEncoding.DecodeString(strings.TrimRight(parts[1], "="))
	return c, err == nil && json.Unmarshal(body, &c) == nil
}

// ends is when the token ends; zero when it does not say.
func (c claims) ends() time.Time {
	if c.Expires <= 0 {
		return time.Time{}
	}
	return time.Unix(int64(c.Expires), 0)
}
