package registry

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// cancelTime is how long cancelling an upload may take. It is a courtesy, and many registries refuse it.
const cancelTime = 5 * time.Second

// CheckPush proves the right to push to the repository by opening an upload and cancelling it: only that tells,
// since token servers answer 200 with fewer rights. Success is remembered for the run. Its error is a *fault.Error.
func (c *Client) CheckPush(ctx context.Context, repository image.Repository) error {
	repo, err := c.repository(repository)
	if err != nil {
		return err
	}
	const op = "prove the right to push to"
	_, err = cellOf(&c.mu, c.checks, repo.Name()).get(ctx, func() (struct{}, error) {
		return struct{}{}, c.checkPush(ctx, op, repo)
	})
	return c.explain(ctx, err, step{op: op, object: repo.Name(), at: placeOf(repo), end: c.endpoint(repo.Registry), push: true})
}

func (c *Client) checkPush(ctx context.Context, op string, repo name.Repository) error {
	s, err := c.signIn(ctx, op, repo, true)
	if err != nil {
		return err
	}
	err = c.openUpload(ctx, s, repo)
	if again := c.renewed(ctx, s, op, err); again != nil {
		s, err = again, c.openUpload(ctx, again, repo)
	}
	err = c.explain(ctx, err, s.step(op, repo.Name()))
	if c.creatable(s, err) {
		return nil
	}
	return err
}

func (c *Client) openUpload(ctx context.Context, s *session, repo name.Repository) error {
	base := s.end.scheme() + "://" + repo.RegistryStr() + "/v2/" + repo.RepositoryStr()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, base+"/blobs/uploads/", nil)
	if err != nil {
		return err
	}
	tags := base + "/tags/list?n=1"
	var res *http.Response
	if s.end.provider.hangsUp {
		// Where a hang-up has a meaning it is not waited out; where it turns out to have none, the request is sent as ever.
		if res, err = do(s.rt, req.WithContext(context.WithValue(ctx, hangUpTells{}, true))); err != nil && transient(err) {
			if err := c.exists(ctx, s, tags); err != nil {
				return err
			}
			res = nil
		} else if err != nil {
			return err
		}
	}
	if res == nil {
		res, err = do(s.rt, req)
	}
	if err != nil {
		return c.instead(ctx, s, err, tags)
	}
	defer drain(res)
	// A registry that sends us elsewhere to upload has let us in.
	if err := transport.CheckError(res, http.StatusAccepted, http.StatusCreated,
		http.StatusTemporaryRedirect, http.StatusPermanentRedirect); err != nil {
		return err
	}
	if res.StatusCode == http.StatusAccepted {
		c.cancelUpload(ctx, s, res)
	}
	return nil
}

// exists asks for the repository's tags, and returns what the registry says when there is no repository.
func (c *Client) exists(ctx context.Context, s *session, url string) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return err
	}
	res, err := do(s.rt, req)
	if err != nil {
		return err
	}
	defer drain(res)
	if res.StatusCode == http.StatusNotFound {
		return transport.CheckError(res, http.StatusOK)
	}
	return nil
}

// instead returns what the registry says of url when it broke the connection over something else: ECR does so when an
// upload is opened in a repository that does not exist, and says NAME_UNKNOWN when asked for its tags.
func (c *Client) instead(ctx context.Context, s *session, err error, url string) error {
	if !transient(err) {
		return err
	}
	if said, ok := errors.AsType[*transport.Error](c.exists(ctx, s, url)); ok {
		return said
	}
	return err
}

// learn asks by GET for what a HEAD has failed with, because an answer to HEAD has no text.
func (c *Client) learn(ctx context.Context, s *session, err error) error {
	te, ok := errors.AsType[*transport.Error](err)
	if !ok || te.Request == nil || te.Request.Method != http.MethodHead || len(te.Errors) > 0 {
		return err
	}
	req, rerr := http.NewRequestWithContext(ctx, http.MethodGet, te.Request.URL.String(), nil)
	if rerr != nil {
		return err
	}
	res, rerr := do(s.rt, req)
	if rerr != nil {
		return err
	}
	defer drain(res)
	if said, ok := errors.AsType[*transport.Error](transport.CheckError(res, http.StatusOK)); ok && said.StatusCode >= 400 {
		return said
	}
	return err
}

// cancelUpload deletes the upload that res has opened, if it is on the registry itself. Whether that works does not
// matter: registries drop uploads that nobody goes on with. It signs in for itself, because where tokens are used it
// needs the right to delete, and a session asks for that ever after, which some token servers refuse.
func (c *Client) cancelUpload(ctx context.Context, s *session, res *http.Response) {
	location, err := res.Location()
	if err != nil || !s.end.owns(location) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, cancelTime)
	defer cancel()
	scopes := []string{s.repo.Scope(transport.DeleteScope)}
	rt, err := transport.NewWithContext(ctx, s.repo.Registry, s.cred.auth, s.end.remembered(), scopes)
	if err != nil {
		return
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodDelete, location.String(), nil)
	if err != nil {
		return
	}
	if res, err := do(rt, req); err == nil {
		drain(res)
	}
}
