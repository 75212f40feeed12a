package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

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
	err = c.pull(ctx, s, digest)
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
	case c.PullsAs() || ctx.Err() != nil:
		return c.explain(ctx, err, st)
	default:
		// It was worth a question, and is not worth a failure.
		log.Info("it could not be told whether the image is public: %v", c.explain(ctx, err, st))
	}
	return nil
}

// publicTime is how long it may take to find out whether an image is public.
const publicTime = 15 * time.Second

// pull fetches the manifest. Without credentials it only asks for it: that counts against no limit of pulls.
func (c *Client) pull(ctx context.Context, s *session, digest string) error {
	if s.cred.anonymous() {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, publicTime)
		defer cancel()
	}
	err := s.end.ping(ctx)
	if err == nil {
		s.rt, err = transport.NewWithContext(ctx, s.repo.Registry, s.cred.auth, s.end.remembered(), []string{s.repo.Scope(transport.PullScope)})
	}
	if err != nil {
		return err
	}
	ref := s.repo.Digest(digest)
	if s.cred.anonymous() {
		_, err = remote.Head(ref, c.remote(ctx, s)...)
		return err
	}
	return c.again(ctx, s.repo.RegistryStr(), func() error {
		_, err := remote.Get(ref, c.remote(ctx, s)...)
		return err
	})
}
