package registry

import (
	"context"
	"fmt"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Open reads the manifest of an image or index that exists in any registry, by tag or digest ("python:3.11",
// "docker.io/airbyte/source-declarative-manifest:6@sha256:…"), with the credentials that belong to its registry, or
// none if there are none. Its layers are read when they are needed, by ctx, which must last until then; a push to the
// same registry mounts them instead. Its error is a *fault.Error; SourceImage means that there is no such image.
func (c *Client) Open(ctx context.Context, ref string) (image.Artifact, error) {
	const op = "read the image"
	bad := func(cause, remedy string, err error) (image.Artifact, error) {
		return image.Artifact{}, &fault.Error{Code: fault.SourceImage, Op: op, Object: fmt.Sprintf("%q", fault.Bounded(ref)),
			Cause: cause, Remedy: remedy, Err: err}
	}
	r, err := name.ParseReference(ref)
	if err == nil {
		r, err = name.ParseReference(ref, c.nameOptions(r.Context().RegistryStr())...)
	}
	if err != nil {
		return bad("it is not a legal reference", "Write it as HOST/NAME:TAG or HOST/NAME@sha256:….", err)
	}
	s, err := c.signIn(ctx, op, r.Context(), false)
	if err != nil {
		return image.Artifact{}, err
	}
	st := step{op: op, object: r.Name(), end: s.end, cred: s.cred}
	var d *remote.Descriptor
	err = c.again(ctx, r.Context().RegistryStr(), func() error {
		d, err = remote.Get(r, c.remote(ctx, s)...)
		return err
	})
	if err != nil {
		return image.Artifact{}, c.explain(ctx, err, st)
	}
	a := image.Artifact{Origin: "docker://" + r.Context().Name() + "@" + d.Digest.String()}
	switch {
	case d.MediaType.IsIndex():
		a.Index, err = d.ImageIndex()
	case d.MediaType.IsImage():
		a.Image, err = d.Image()
	default:
		return bad("it is of the type "+fault.Bounded(string(d.MediaType)),
			"Give an image, or an index of images, in Docker's format 2 or OCI's.", nil)
	}
	return a, c.explain(ctx, err, st)
}
