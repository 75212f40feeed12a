package cloudtest

import (
	"crypto"
	"crypto/rand"
	"crypto/rsa"
	"crypto/sha256"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"strings"
	"sync"
	"time"
)

// rsaKeys are keys that are made once for all worlds, since each takes a while. What they are used for tells them apart.
var rsaKeys = struct {
	sync.Mutex
	made map[string]*rsa.PrivateKey
}{made: map[string]*rsa.PrivateKey{}}

func rsaKey(purpose string) *rsa.PrivateKey {
	rsaKeys.Lock()
	defer rsaKeys.Unlock()
	k := rsaKeys.made[purpose]
	if k == nil {
		var err error
		if k, err = rsa.GenerateKey(rand.Reader, 2048); err != nil {
			panic(err)
		}
		rsaKeys.made[purpose] = k
	}
	return k
}

type claims map[string]any

func (c claims) text(name string) string {
	s, _ := c[name].(string)
	return s
}

func (c claims) time(name string) time.Time {
	n, _ := c[name].(float64)
	return time.Unix(int64(n), 0)
}

// sign makes a JWT.
func sign(key *rsa.PrivateKey, header, body map[string]any) string {
	h := map[string]any{"alg": "RS256", "typ": "JWT"}
	maps.Copy(h, header)
	text := encodeJSON(h) + "." + encodeJSON(body)
	sum := sha256.Sum256([]byte(text))
	signature, err := rsa.SignPKCS1v15(rand.Reader, key, crypto.SHA256, sum[:])
	if err != nil {
		panic(err)
	}
	return text + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encodeJSON(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}

// verify returns the header and claims of a JWT whose signature is the key's.
func verify(token string, key *rsa.PublicKey) (header, body claims, err error) {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil, nil, errors.New("not a JWT")
	}
	for i, to := range []*claims{&header, &body} {
		raw, err := base64.RawURLEncoding.DecodeString(parts[i])
		if err != nil {
			return nil, nil, fmt.Errorf("part %d of the JWT: %w", i, err)
		}
		if err := json.Unmarshal(raw, to); err != nil {
			return nil, nil, fmt.Errorf("part %d of the JWT: %w", i, err)
		}
	}
	signature, err := base64.RawURLEncoding.DecodeString(parts[2])
	if err != nil {
		return nil, nil, fmt.Errorf("the JWT's signature: %w", err)
	}
	sum := sha256.Sum256([]byte(parts[0] + "." + parts[1]))
	switch header.text("alg") {
	case "RS256":
		err = rsa.VerifyPKCS1v15(key, crypto.SHA256, sum[:], signature)
	case "PS256":
		err = rsa.VerifyPSS(key, crypto.SHA256, sum[:], signature, nil)
	default:
		err = fmt.Errorf("the algorithm %q", header["alg"])
	}
	return header, body, err
}

// issuer is who issues OIDC tokens: a CI host.
type issuer struct {
	w *world
	// url is its iss claim, subject what its tokens are about.
	url, subject string
	key          *rsa.PrivateKey
	// life is how long its tokens are good.
	life time.Duration
	// hosts may see its tokens.
	hosts []string
	more  claims
}

// gitHubIssuer is GitHub's issuer of OIDC tokens, with the subject that new repositories have.
func (w *world) gitHubIssuer(hosts ...string) *issuer {
	return &issuer{w: w, url: "https://token.actions.githubusercontent.com", key: rsaKey("github"), life: 5 * time.Minute, hosts: hosts,
		subject: "repo:acme@9919/connectors@140:ref:refs/heads/main",
		more:    claims{"repository": "acme/connectors", "repository_owner": "acme", "ref": "refs/heads/main"}}
}

// gitLabIssuer is GitLab's.
func (w *world) gitLabIssuer(hosts ...string) *issuer {
	return &issuer{w: w, url: "https://gitlab.com", key: rsaKey("gitlab"), life: time.Hour, hosts: hosts,
		subject: "project_path:acme/connectors:ref_type:branch:ref:main", more: claims{"project_path": "acme/connectors"}}
}

// token issues a token for an audience.
func (i *issuer) token(audience string) string {
	now := i.w.now()
	body := map[string]any{"iss": i.url, "sub": i.subject, "aud": audience, "jti": i.w.random(),
		"iat": now.Unix(), "nbf": now.Unix() - 5, "exp": now.Add(i.life).Unix()}
	maps.Copy(body, i.more)
	return i.w.secret("OIDC token", sign(i.key, map[string]any{"kid": "1"}, body), i.hosts...)
}

// oidcTrust is what a cloud believes of OIDC tokens.
type oidcTrust struct {
	issuer *issuer
	// audience and subject are what its tokens must name.
	audience, subject string
}

// The ways in which an OIDC token is not believed.
var (
	errIssuer    = errors.New("issuer")
	errSignature = errors.New("signature")
	errAudience  = errors.New("audience")
	errSubject   = errors.New("subject")
	errExpired   = errors.New("expired")
)

// check tells whether a token is believed, and its claims as far as they can be read.
func (o oidcTrust) check(token string, now time.Time) (claims, error) {
	_, body, err := verify(token, &o.issuer.key.PublicKey)
	switch {
	case body == nil:
		return nil, err
	case body.text("iss") != o.issuer.url:
		return body, errIssuer
	case err != nil:
		return body, errSignature
	case body.text("aud") != o.audience:
		return body, errAudience
	case !now.Before(body.time("exp")):
		return body, errExpired
	case body.text("sub") != o.subject:
		return body, errSubject
	}
	return body, nil
}

// oidcHost is where a job of GitHub's asks for tokens.
const oidcHost = "run-actions-3-azure-eastus.actions.githubusercontent.com"

// gitHubOIDC gives a child the permission id-token: write.
func (c *child) gitHubOIDC(i *issuer) {
	c.onGitHub()
	bearer := c.w.secret("ACTIONS_ID_TOKEN_REQUEST_TOKEN", "gh-request-"+c.w.random(), oidcHost)
	c.env["ACTIONS_ID_TOKEN_REQUEST_URL"] = "https://" + oidcHost + "/9/idtoken/1/2?api-version=2.0"
	c.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = bearer
	c.w.site(oidcHost, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		q := r.URL.Query()
		switch {
		case r.Method != http.MethodGet || r.URL.Path != "/9/idtoken/1/2":
			http.NotFound(rw, r)
		case q.Get("api-version") != "2.0" || len(q["audience"]) != 1:
			http.Error(rw, `{"message":"audience and api-version are wanted"}`, http.StatusBadRequest)
		case r.Header.Get("Authorization") != "Bearer "+bearer:
			http.Error(rw, `{"message":"Unauthorized"}`, http.StatusUnauthorized)
		default:
			token := i.token(q.Get("audience"))
			answerJSON(rw, http.StatusOK, map[string]any{"count": len(token), "value": token})
		}
	}))
}

func answerJSON(rw http.ResponseWriter, status int, v any) {
	rw.Header().Set("Content-Type", "application/json; charset=utf-8")
	rw.WriteHeader(status)
	_ = json.NewEncoder(rw).Encode(v)
}
