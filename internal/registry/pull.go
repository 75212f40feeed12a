package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// PullsAs tells whether there are credentials that the deployment is known to pull with.
func (c *Client) PullsAs() bool { return c.options.PullPassword != "" }

// CheckPull fetches the pushed manifest as the deployment will: with the credentials that it pulls with, which must
// work, or without any, to tell whether it needs some. Its error is a *fault.Error.
func (c *Client) CheckPull(ctx context.Context, repository image.Repository, digest string, log connector.Log) error {
	const op = "pull as the deployment from"
	repo, err := c.repository(repository)
	if err != nil {
		return err
	}
	cred := credential{auth: authn.Anonymous}
	if c.PullsAs() {
		user := c.options.PullUsername
		cred = credential{auth: authn.FromConfig(authn.AuthConfig{Username: user, Password: c.options.PullPassword}), user: user,
			from: "the inputs pull-username and pull-password"}
		if err := c.keys.note(ctx, cred); err != nil {
			return err
		}
	}
	s := &session{repo: repo, end: c.endpoint(repo.Registry), cred: cred}
	st := s.step(op, repo.Name())
	st.push = false
	err = s.end.ping(ctx)
	if err == nil {
		s.rt, err = transport.NewWithContext(ctx, repo.Registry, cred.auth, s.end.remembered(), []string{repo.Scope(transport.PullScope)})
	}
	if err == nil {
		err = c.again(ctx, repo.RegistryStr(), func() error {
			_, err := remote.Get(repo.Digest(digest), c.remote(ctx, s)...)
			return err
		})
	}
	te, answered := errors.AsType[*transport.Error](err)
	refused := answered && (te.StatusCode == http.StatusUnauthorized || te.StatusCode == http.StatusForbidden || te.StatusCode == http.StatusNotFound)
	switch {
	case err == nil && c.PullsAs():
		log.Info("the image can be pulled by %s", cred.who())
	case err == nil:
		log.Info("anyone can pull the image: the deployment needs no credentials for it")
	case refused && !c.PullsAs():
		log.Info("the image is private: the deployment needs credentials to pull it.%s", st.hint(fault.PullDenied))
	case refused:
		return &fault.Error{Code: fault.PullDenied, Op: op, Object: repo.Name(), Err: err,
			Cause:  fmt.Sprintf("%s can't read the image that was just pushed: the registry answered %s", cred.who(), c.secrets.bounded(saidBy(te))),
			Remedy: "Give them the right to pull from this repository, or correct pull-username and pull-password." + st.hint(fault.PullDenied)}
	default:
		return c.explain(ctx, err, st)
	}
	return nil
}
