package publish

import (
	"context"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Place is where Airbyte runs connectors, where that has to have an image before Airbyte is told of it.
type Place interface {
	// Prepare brings the image there, or proves that the place can bring it itself. The digest is what the tag points to.
	Prepare(ctx context.Context, repository image.Repository, tag, digest string, log connector.Log) error
	// Action says in a few words what Prepare does.
	Action() string
}

// prepare has the place ready for the image, which the registry holds by now.
func (j *job) prepare(ctx context.Context, rows []Row) error {
	if j.Place == nil {
		return nil
	}
	c := j.connector
	if !j.planning {
		if err := j.Place.Prepare(ctx, c.Repository, c.Tag, j.digest, j.log); err != nil {
			return err
		}
	}
	for i := range rows {
		rows[i].Actions = append(rows[i].Actions, j.Place.Action())
	}
	return nil
}
