package airbyte

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"net/http"
	"strings"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// token is a bearer token made from client credentials.
type token struct {
	// value is empty when the instance has no such endpoint because it asks for no authentication.
	value string
	// stale is when to fetch another; the zero time means only when it is refused.
	stale time.Time
}

// credential is what goes into a request's Authorization header.
type credential struct {
	// authorization is the header's value; empty leaves the header as the extra headers have it.
	authorization string
	// renewable tells that another can be had when this one is refused.
	renewable bool
}

func bearer(token string) string { return "Bearer " + token }

// basic is the Authorization header for the username and password, or "".
func (c *Client) basic() string {
	if c.options.Username == "" {
		return ""
	}
	return "Basic " + base64.StdEncoding.EncodeToString([]byte(c.options.Username+":"+c.options.Password))
}

// credential finds what to sign a request in with. A token that equals refused is not used again.
func (c *Client) credential(ctx context.Context, i instance, refused string) (credential, error) {
	o := c.options
	switch {
	case o.AccessToken != "":
		return credential{authorization: bearer(o.AccessToken)}, nil
	case o.ClientID == "" && o.Username == "":
		if (i.authMode == "simple" || i.authMode == "oidc") && len(o.Headers) == 0 {
			return credential{}, &fault.Error{Code: fault.AirbyteSignIn, Op: "sign in to", Object: i.base.String(),
				Cause: "it asks for authentication (" + i.authMode + ") and no credentials were given", Remedy: clientRemedy}
		}
		return credential{}, nil
	case o.ClientID == "" || i.authMode == "none":
		return credential{authorization: c.basic()}, nil
	}
	t, err := c.token.get(ctx, func(t token) bool {
		return (t.value == "" || bearer(t.value) != refused) && (t.stale.IsZero() || c.options.Now().Before(t.stale))
	}, func(ctx context.Context) (token, error) {
		t, err := c.fetchToken(ctx, i)
		return t, settled(err)
	})
	if err != nil {
		return credential{}, err
	}
	if t.value == "" {
		return credential{authorization: c.basic()}, nil
	}
	return credential{authorization: bearer(t.value), renewable: true}, nil
}

// fetchToken exchanges the client credentials for a token. The endpoint answers 408 when the server needs more than a
// second for it, which is tried again like any other passing failure.
func (c *Client) fetchToken(ctx context.Context, i instance) (token, error) {
	var body struct {
		AccessToken string `json:"access_token"`
		ExpiresIn   int64  `json:"expires_in"`
	}
	q := call{method: http.MethodPost, path: "applications/token", op: "sign in to", object: i.base.String(), timeout: readTimeout, anonymous: true,
		body: map[string]string{"client_id": c.options.ClientID, "client_secret": c.options.ClientSecret}}
	asked := c.options.Now()
	err := c.read(ctx, q, &body)
	if a, ok := errors.AsType[*answer](err); ok {
		return c.noToken(q, i, a, err)
	}
	if err != nil {
		return token{}, err
	}
	if body.AccessToken == "" {
		return token{}, &fault.Error{Code: fault.AirbyteSignIn, Op: q.op, Object: q.object, Cause: "the answer to the client credentials holds no token",
			Remedy: addressRemedy}
	}
	c.conceal(body.AccessToken)
	t := token{value: body.AccessToken}
	life := tokenLife(body.AccessToken, asked)
	if life == 0 {
		life = time.Duration(body.ExpiresIn) * time.Second
	}
	if life > 0 {
		t.stale = asked.Add(life * 6 / 10)
	}
	return t, nil
}

// noToken explains an answer of the token endpoint that is no token.
func (c *Client) noToken(q call, i instance, a *answer, err error) (token, error) {
	refused := &fault.Error{Code: fault.AirbyteSignIn, Op: q.op, Object: q.object, Err: err}
	switch {
	case a.problem.html || a.location != nil:
		return token{}, err
	case a.status == http.StatusNotFound && i.authMode != "simple" && i.authMode != "oidc":
		// The endpoint is only there where authentication is on.
		c.options.Log("%s gives no tokens: going on without one", i.describe())
		return token{}, nil
	case a.status == http.StatusNotFound:
		refused.Cause = "it has no endpoint for client credentials (404), though it asks for authentication"
		refused.Remedy = "Check that a proxy in front of it passes " + apiPath + "applications/token on."
	case a.status == http.StatusBadRequest || a.status == http.StatusUnauthorized || a.status == http.StatusForbidden || a.status == http.StatusUnprocessableEntity,
		a.status == http.StatusInternalServerError && a.problem.json:
		// In simple mode a wrong secret is a 400, in some versions a 500; with OIDC a 401.
		refused.Cause = "it refused the client credentials (" + a.said() + ")"
		refused.Remedy = clientRemedy
	default:
		return token{}, err
	}
	return token{}, refused
}

const clientRemedy = "Set airbyte-client-id and airbyte-client-secret to those of an application of this very instance:" +
	" in Airbyte under Settings, Applications; for abctl, \"abctl local credentials\" prints them."

// tokenLife is how long a JWT lives from its issue on, measured by its own claims so that this machine's clock does
// not matter; where it has no time of issue, from asked on. It is 0 for what is no JWT or never ends.
func tokenLife(jwt string, asked time.Time) time.Duration {
	parts := strings.Split(jwt, ".")
	if len(parts) != 3 {
		return 0
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return 0
	}
	var claims struct {
		Exp float64 `json:"exp"`
		Iat float64 `json:"iat"`
	}
	if json.Unmarshal(payload, &claims) != nil || claims.Exp <= 0 {
		return 0
	}
	if claims.Iat <= 0 {
		claims.Iat = float64(asked.Unix())
	}
	// A token that is over before it began counts as living a second: it is used once, and then fetched anew.
	return time.Duration(max(claims.Exp-claims.Iat, 1) * float64(time.Second))
}
