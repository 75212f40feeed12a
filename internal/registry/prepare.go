package registry

import (
	"context"
	"errors"

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
	if !ok || f.Code != fault.RepositoryMissing || !c.options.CreateRepository {
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
	if frozen := c.keys.providerOf(hostOf(repo.RegistryStr())).frozen; frozen != nil {
		why = frozen(ctx, c, s, tag)
	} else if s.cred.steward != nil {
		why = s.cred.steward.frozen(ctx, repo, tag)
	}
	if why == "" || ctx.Err() != nil {
		return nil
	}
	return &fault.Error{Code: fault.TagImmutable, Op: op, Object: repo.Tag(tag).Name(), Cause: why,
		Remedy: "Publish under a new tag; this registry does not let the tag be moved."}
}

// ended tells whether a registry refused a credential that it took before: its time is over.
func ended(err error) bool {
	te, ok := errors.AsType[*transport.Error](err)
	if !ok {
		return false
	}
	return te.StatusCode == 401 || hasCode(te, transport.UnauthorizedErrorCode) ||
		te.StatusCode == 403 && (rule{text: "authorization token has expired"}).fits("", te)
}

// renewed returns a new session with a credential that was got anew, when err tells that the old one's time is over.
// It is nil when there is none to be got.
func (c *Client) renewed(ctx context.Context, s *session, op string, err error) (*session, error) {
	if !ended(err) || s.cred.renewable == nil || ctx.Err() != nil {
		return nil, nil
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
	return c.signIn(ctx, op, s.repo, true)
}
