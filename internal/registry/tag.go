package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Digest is the digest that the repository's tag points to, or "" when there is no such tag or repository. It costs
// one HEAD beside the sign-in, which later calls share. Its error is a *fault.Error.
func (c *Client) Digest(ctx context.Context, repository image.Repository, tag string) (string, error) {
	const op = "read the tag"
	repo, err := c.repository(repository)
	if err != nil {
		return "", err
	}
	s, err := c.signIn(ctx, op, repo, true)
	if err != nil {
		return "", err
	}
	ref := repo.Tag(tag)
	digest, err := c.digestOf(ctx, s, ref)
	if next := c.renewed(ctx, s, op, err); next != nil {
		s = next
		digest, err = c.digestOf(ctx, s, ref)
	}
	if te, ok := errors.AsType[*transport.Error](err); ok && te.StatusCode == http.StatusForbidden {
		return "", c.hidden(ctx, s, repository, ref, te)
	}
	return digest, c.explain(ctx, err, s.step(op, ref.Name()))
}

// hidden decides what a 403 on a tag means. Some registries (Artifactory) answer so for a tag that does not exist;
// others to those who may not read. The tag counts as absent only when the registry's list of tags agrees: taking it
// for absent wrongly would move a tag that others rely on.
func (c *Client) hidden(ctx context.Context, s *session, repository image.Repository, ref name.Tag, denied error) error {
	if err := c.CheckPush(ctx, repository); err != nil {
		return err
	}
	listed, err := c.listed(ctx, s, ref)
	if te, ok := errors.AsType[*transport.Error](err); ok && te.StatusCode == http.StatusNotFound {
		return nil
	}
	if err == nil && !listed {
		return nil
	}
	f := c.explain(ctx, denied, s.step("read the tag", ref.Name()))
	if known, ok := errors.AsType[*fault.Error](f); ok && known.Code == fault.PushDenied {
		known.Remedy = fmt.Sprintf("Give %s the right to pull as well: it may push, but not read what the tag holds.", s.cred.who())
	}
	return f
}

// maxTagPages bounds how many pages of tags are read. Registries put 50 to 10,000 on one.
const maxTagPages = 100

// listed tells whether the registry's list of tags has this one.
func (c *Client) listed(ctx context.Context, s *session, ref name.Tag) (bool, error) {
	puller, err := remote.NewPuller(c.remote(ctx, s)...)
	if err != nil {
		return false, err
	}
	pages, err := puller.Lister(ctx, ref.Repository)
	if err != nil {
		return false, err
	}
	seen := map[string]bool{}
	for pages.HasNext() {
		page, err := pages.Next(ctx)
		if err != nil {
			return false, err
		}
		if slices.Contains(page.Tags, ref.TagStr()) {
			return true, nil
		}
		if page.Next != "" && (seen[page.Next] || len(seen) == maxTagPages-1) {
			return false, fmt.Errorf("the list of tags of %s has no end", ref.Repository)
		}
		seen[page.Next] = true
	}
	return false, nil
}

// Tag points the tag to the artifact, which Push has put into the repository, and reads it back: what the registry
// then names as the tag's digest is the artifact's, or Tag fails. Its error is a *fault.Error.
func (c *Client) Tag(ctx context.Context, repository image.Repository, tag string, a image.Artifact) error {
	const op = "tag the image as"
	repo, err := c.repository(repository)
	if err != nil {
		return err
	}
	s, err := c.signIn(ctx, op, repo, true)
	if err != nil {
		return err
	}
	ref := repo.Tag(tag)
	st := s.step(op, ref.Name())
	st.tag = true
	want, err := a.Digest()
	if err != nil {
		return c.explain(ctx, &sourceError{"the image's manifest can't be read", err}, st)
	}
	err = c.put(ctx, s, ref, a)
	if next := c.renewed(ctx, s, op, err); next != nil {
		s, err = next, c.put(ctx, next, ref, a)
	}
	refused := c.explain(ctx, err, st)
	if refused != nil && fault.CodeOf(refused) != fault.TagImmutable {
		return refused
	}
	st.op, st.tag = "read back", false
	tries := readBackTries
	if refused != nil {
		tries = 1
	}
	have, err := c.readBack(ctx, s, ref, want, tries)
	if err != nil {
		return c.explain(ctx, err, st)
	}
	switch {
	case have == want:
		// Also when the PUT was refused: another run of the same commit was first.
		return nil
	case refused != nil:
		if f, ok := errors.AsType[*fault.Error](refused); ok && have != "" {
			f.Cause += fmt.Sprintf("; the tag holds %s, this image is %s", have, want)
		}
		return refused
	case have == "":
		have = "nothing"
	}
	return &fault.Error{Code: fault.ReadBackDiffers, Op: st.op, Object: st.object,
		Cause: fmt.Sprintf("the tag was set to %s, but the registry says that it holds %s", want, have),
		Remedy: "Make sure that nobody else publishes this tag, and run again; a mirror or cache in front of the " +
			"registry can be the cause too."}
}

func (c *Client) put(ctx context.Context, s *session, ref name.Tag, a image.Artifact) error {
	pusher, err := remote.NewPusher(c.remote(ctx, s)...)
	if err != nil {
		return err
	}
	return c.again(ctx, ref.RegistryStr(), func() error { return pusher.Put(ctx, ref, manifestOf(a)) })
}

// readBackTries is how often a tag is read back when it does not hold what it should: some registries need a moment.
const readBackTries = 3

func (c *Client) readBack(ctx context.Context, s *session, ref name.Tag, want string, tries int) (have string, err error) {
	for try := 1; ; try++ {
		have, err = c.digestOf(ctx, s, ref)
		if err != nil || have == want || try == tries {
			return have, err
		}
		if err := c.options.Sleep(ctx, backoff(try)); err != nil {
			return "", err
		}
	}
}

// digestOf returns the digest that a reference stands for, "" when there is none. It asks by HEAD, which counts
// against no limit, and by GET where the answer is of no use: without the digest's header, or an error, which in an
// answer to HEAD has no text.
func (c *Client) digestOf(ctx context.Context, s *session, ref name.Reference) (string, error) {
	options := c.remote(ctx, s)
	d, err := remote.Head(ref, options...)
	if err == nil {
		return d.Digest.String(), nil
	}
	if te, ok := errors.AsType[*transport.Error](err); ok {
		if te.StatusCode == http.StatusNotFound {
			return "", nil
		}
		if passing(te.StatusCode) {
			return "", err
		}
	}
	if _, ok := errors.AsType[*url.Error](err); ok {
		return "", err
	}
	var got *remote.Descriptor
	gerr := c.again(ctx, ref.Context().RegistryStr(), func() error {
		got, err = remote.Get(ref, options...)
		return err
	})
	if gerr == nil {
		if !manifestType(string(got.MediaType)) {
			return "", notARegistry(ref.Context().RegistryStr(), "a manifest", string(got.MediaType))
		}
		return got.Digest.String(), nil
	}
	if te, ok := errors.AsType[*transport.Error](gerr); ok && te.StatusCode == http.StatusNotFound {
		return "", nil
	}
	return "", gerr
}

// manifestType tells whether a media type is one of those for manifests. The digest of anything else that comes with a
// 200, such as a proxy's page, is none of an image.
func manifestType(mediaType string) bool {
	return strings.HasPrefix(mediaType, "application/vnd.docker.") || strings.HasPrefix(mediaType, "application/vnd.oci.")
}

// remote are the options for go-containerregistry to use the session: it signs in no more, and repeats nothing, which
// is done above and below it, because its own repetition sleeps on when the context is done.
func (c *Client) remote(ctx context.Context, s *session) []remote.Option {
	return []remote.Option{
		remote.WithContext(ctx),
		remote.WithTransport(s.rt),
		remote.WithJobs(c.options.Jobs),
		remote.WithRetryBackoff(remote.Backoff{Steps: 1}),
		remote.WithRetryPredicate(func(error) bool { return false }),
	}
}

// manifestOf is the artifact as what is put under a tag.
func manifestOf(a image.Artifact) remote.Taggable {
	if a.Index != nil {
		return a.Index
	}
	return a.Image
}
