package registry

import (
	"context"
	"errors"
	"net/http"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Prepare makes the repository ready for a push that comes at once: credentials that were found out before a long build
// are got again, and a missing repository is made where that was asked for. Its error is a *fault.Error.
func (c *Client) Prepare(ctx context.Context, repository image.Repository) error {
	repo, err := c.repository(repository)
	if err != nil {
		return err
	}
	s, err := c.signIn(ctx, "sign in to push to", repo, true)
	if err != nil {
		return err
	}
	if s.cred.renewable != nil {
		s.cred.renewable.freshen()
	}
	c.mu.Lock()
	missing := c.missing[repo.Name()]
	c.mu.Unlock()
	if !missing {
		return nil
	}
	if err := s.cred.steward.create(ctx, repo); err != nil {
		return err
	}
	c.options.Log("created the repository " + repo.Name())
	c.mu.Lock()
	delete(c.missing, repo.Name())
	c.mu.Unlock()
	return nil
}

// creatable notes that a repository which does not exist will be made before the push, and tells whether it can be.
func (c *Client) creatable(s *session, err error) bool {
	f, ok := errors.AsType[*fault.Error](err)
	if !ok || f.Code != fault.RepositoryMissing || !c.options.CreateRepository || !s.end.provider.creates {
		return false
	}
	if s.cred.steward == nil {
		f.Remedy = "create-repository needs credentials for the provider's own API, not only a password for the registry. " + f.Remedy
		return false
	}
	c.options.Log(s.repo.Name() + " does not exist and will be created")
	c.mu.Lock()
	c.missing[s.repo.Name()] = true
	c.mu.Unlock()
	return true
}

// CheckMove tells before a build, as far as the registry tells, that a tag which exists can't be moved. Its error is a
// *fault.Error.
func (c *Client) CheckMove(ctx context.Context, repository image.Repository, tag string) error {
	const op = "move the tag"
	repo, err := c.repository(repository)
	if err != nil {
		return err
	}
	s, err := c.signIn(ctx, op, repo, true)
	if err != nil {
		return err
	}
	why := ""
	if frozen := s.end.provider.frozen; frozen != nil {
		why = frozen(ctx, c, s, tag)
	}
	if why == "" || ctx.Err() != nil {
		return nil
	}
	return &fault.Error{Code: fault.TagImmutable, Op: op, Object: repo.Tag(tag).Name(), Cause: why,
		Remedy: "Publish under a new tag; this registry does not let the tag be moved."}
}

// ended tells whether the registry refused a credential that it took before: its time is over. Where tokens are used,
// only the token server tells: what the registry refuses with a token that is new is a matter of rights.
func (s *session) ended(err error) bool {
	te, ok := errors.AsType[*transport.Error](err)
	if !ok || !s.end.worked.Load() || te.Request == nil || !s.end.owns(te.Request.URL) {
		return false
	}
	if _, source := errors.AsType[*sourceError](err); source {
		return false
	}
	if te.StatusCode == http.StatusForbidden {
		return (rule{text: "authorization token has expired"}).fits("", te)
	}
	refused := te.StatusCode == http.StatusUnauthorized || hasCode(te, transport.UnauthorizedErrorCode)
	return refused && (!s.end.usesTokens() || s.end.isRealm(te.Request.URL))
}

// renewed returns a new session with a credential that was got anew, when err tells that the old one's time is over. It
// is nil when there is none to be got: then err stands.
func (c *Client) renewed(ctx context.Context, s *session, op string, err error) *session {
	if s.cred.renewable == nil || ctx.Err() != nil || !s.ended(err) {
		return nil
	}
	c.options.Log(s.repo.RegistryStr() + ": the credential has ended; getting a new one")
	s.cred.renewable.drop()
	c.mu.Lock()
	for key, cell := range c.sessions {
		if v, made := cell.kept(); made && v.cred.renewable == s.cred.renewable {
			delete(c.sessions, key)
		}
	}
	c.mu.Unlock()
	next, rerr := c.signIn(ctx, op, s.repo, true)
	if rerr != nil {
		c.options.Log("there is none: " + rerr.Error())
		return nil
	}
	return next
}
