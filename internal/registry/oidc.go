package registry

import (
	"cmp"
	"context"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// IDTokenSource gets the CI job's OIDC token for an audience: a JWT that says which repository and which job it is of.
type IDTokenSource interface {
	IDToken(ctx context.Context, audience string) (string, error)
}

// StaticIDToken is a token that was got by other means, whatever its audience: the input oidc-token.
type StaticIDToken string

// IDToken implements IDTokenSource.
func (t StaticIDToken) IDToken(context.Context, string) (string, error) { return string(t), nil }

// idToken gets a token for the audience and notes it among the secrets.
func (k *keychain) idToken(ctx context.Context, audience string) (string, error) {
	if k.explicit.IDTokens == nil {
		return "", &fault.Error{Code: fault.NoIDToken, Op: "get an OIDC token for", Object: audience, Cause: "nothing here gives one",
			Remedy: "Set oidc-token."}
	}
	token, err := k.explicit.IDTokens.IDToken(ctx, audience)
	if err != nil {
		return "", err
	}
	k.secrets.add(token)
	return token, nil
}

// exchangeFault is the error of an exchange that a cloud answered with this status: only a refusal has to do with the
// token.
func (k *keychain) exchangeFault(x exchange, status int, said, remedy string, err error) error {
	f := &fault.Error{Op: "exchange the OIDC token with", Object: x.with, Cause: k.secrets.bounded(said), Err: err}
	switch {
	case status == http.StatusTooManyRequests:
		f.Code, f.Remedy = fault.RateLimited, "Wait and run again."
	case status >= 500:
		f.Code, f.Remedy = fault.TokenServer, "Run again; if it stays so, see the cloud's status page."
	default:
		return k.refused(x, said, remedy, err)
	}
	return f
}

// exchange is an OIDC token on its way to a cloud, for messages.
type exchange struct {
	// with is who is asked to take it: "AWS STS for the role arn:…".
	with string
	// audience is the one that is expected.
	audience string
	token    string
	// err is why there is no token.
	err error
}

// refused is the error of an exchange that failed, with all that has to fit together: who issued the token, about whom,
// for whom. Nothing helps more, since the other side only ever says that something does not fit.
func (k *keychain) refused(x exchange, said, remedy string, err error) error {
	f := &fault.Error{Code: fault.OIDCRefused, Op: "exchange the OIDC token with", Object: x.with, Cause: k.secrets.bounded(said), Remedy: remedy, Err: err}
	c, ok := readClaims(x.token)
	if !ok {
		f.Cause += "; the token is no JWT"
		f.Remedy = "Check where oidc-token comes from: it must be the token itself, three parts joined by dots."
		return f
	}
	aud := strings.Join(c.Audience, ", ")
	f.Cause = k.secrets.bounded(fmt.Sprintf("%s; the token has iss %q, sub %q, aud %q", said, c.Issuer, c.Subject, aud))
	now := k.now()
	switch end := c.ends(); {
	case !end.IsZero() && now.After(end):
		f.Cause += fmt.Sprintf(" and ended %s ago", now.Sub(end).Round(time.Second))
		f.Remedy = "Get the token right before this step: it lives for minutes. If it is new, this machine's clock is wrong."
	case !slices.Contains(c.Audience, x.audience):
		f.Remedy = fmt.Sprintf("The expected audience is %q: ask the CI host for a token with that one, unless the other side is set up for another. %s",
			x.audience, remedy)
	}
	return f
}

// subjectForms says how the two forms of GitHub's subject look, of which a trust policy must have the right one:
// repositories made or renamed since 2026-07-15 have ids in theirs (GitHub's documentation of OIDC subjects).
func subjectForms(sub string) string {
	repo, rest, ok := strings.Cut(strings.TrimPrefix(sub, "repo:"), ":")
	if !strings.HasPrefix(sub, "repo:") || !ok {
		return fmt.Sprintf("It must let in the subject %q.", fault.Bounded(sub))
	}
	form := "Repositories on GitHub that were made or renamed since 2026-07-15 have ids in their subject, older ones have not, as this one."
	if strings.Contains(repo, "@") {
		form = "This repository's subject holds ids (OWNER@ID/REPO@ID), as for all that were made or renamed on GitHub since 2026-07-15; a policy with the names alone does not match."
	}
	return fmt.Sprintf("It must let in the subject %q (or \"repo:%s:*\" for all of the repository, instead of %q at the end). %s",
		fault.Bounded(sub), fault.Bounded(repo), fault.Bounded(cmp.Or(rest, "…")), form)
}
