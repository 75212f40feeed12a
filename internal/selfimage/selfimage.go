// Package selfimage builds the image of airbyte-publish itself, from the Dockerfile at the top of this repository, and
// pushes it: in the same way and by the same packages as connectors, but without what Airbyte wants of those. It is for
// this project's releases and tests, and no part of the program.
package selfimage

import (
	"context"
	"errors"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry"
)

// Platforms are those that the image is released for.
var Platforms = []string{"linux/amd64", "linux/arm64"}

// Options say what to build and where to.
type Options struct {
	// Dir is the repository's folder.
	Dir        string
	Repository image.Repository
	// Tags are pointed to the image once it is there. None is moved before.
	Tags []string
	// Platforms are Platforms when there are none.
	Platforms []string
	// Args are build arguments of the Dockerfile, Labels further labels.
	Args, Labels map[string]string
	Log          connector.Log
}

// Publish builds the image, pushes it by its digest, points the tags to it and returns the digest. Its errors are
// *fault.Error.
func Publish(ctx context.Context, b *build.Builder, r *registry.Client, o Options) (string, error) {
	platforms := o.Platforms
	if len(platforms) == 0 {
		platforms = Platforms
	}
	c := connector.Connector{
		Dir: o.Dir, Label: "airbyte-publish", Name: "airbyte-publish", Repository: o.Repository,
		Recipe: connector.Recipe{Dockerfile: "Dockerfile", Platforms: platforms, Args: o.Args, Labels: o.Labels},
	}
	if len(o.Tags) > 0 {
		c.Tag = o.Tags[0]
	}
	artifact, err := b.Build(ctx, c, o.Log, connector.Checks{
		Plan: func(context.Context, connector.Image) error { return nil },
		Candidate: func(_ context.Context, candidate connector.Candidate) error {
			if n := len(candidate.Image().Platforms); n != len(platforms) {
				return errors.New("the image has other platforms than were asked for")
			}
			return nil
		},
	})
	if err != nil {
		return "", err
	}
	// An engine that keeps its images has pushed under a tag of its own; for all others there is nothing left to push.
	if err := r.Push(ctx, o.Repository, artifact, o.Log); err != nil {
		return "", err
	}
	for _, tag := range o.Tags {
		if err := r.Tag(ctx, o.Repository, tag, artifact); err != nil {
			return "", err
		}
	}
	return artifact.Digest()
}
