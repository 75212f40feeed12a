// Package publish is the order of things: plan, build, check, push, register, verify, report. It knows neither a CI
// host nor a flag, and neither a registry's nor Airbyte's wire format: it declares what it needs of them here.
package publish

import (
	"context"
	"encoding/json"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Builder turns a connector into an image.
type Builder interface {
	// Build makes or takes c's image and has it judged by checks on the way; nothing leaves this machine before that.
	Build(ctx context.Context, c connector.Connector, log connector.Log, checks connector.Checks) (image.Artifact, error)
}

// Registry is where images are pushed to.
type Registry interface {
	// CheckPush proves the right to push to the repository by opening an upload and cancelling it.
	CheckPush(ctx context.Context, repository image.Repository) error
	// CheckMove tells before a build, as far as the registry tells, that the tag can't be moved.
	CheckMove(ctx context.Context, repository image.Repository, tag string) error
	// Prepare makes the repository ready for a push that comes at once: fresh credentials, and the repository itself.
	Prepare(ctx context.Context, repository image.Repository) error
	// PullsAs tells whether it is known what the deployment pulls with.
	PullsAs() bool
	// CheckPull fetches the pushed manifest as the deployment will.
	CheckPull(ctx context.Context, repository image.Repository, digest string, log connector.Log) error
	// Digest is the digest that the repository's tag points to, or "" when there is no such tag.
	Digest(ctx context.Context, repository image.Repository, tag string) (string, error)
	// Push uploads the artifact's blobs and its manifest by digest, without a tag.
	Push(ctx context.Context, repository image.Repository, a image.Artifact, log connector.Log) error
	// Tag points the tag to the artifact, which the repository already holds, and reads it back.
	Tag(ctx context.Context, repository image.Repository, tag string, a image.Artifact) error
}

// Workspaces finds the workspaces of an Airbyte instance.
type Workspaces interface {
	// Workspaces returns those with the ids; with no ids, the only one that the instance lists.
	Workspaces(ctx context.Context, ids []string) ([]connector.Workspace, error)
}

// Definitions are an Airbyte instance's connector definitions.
type Definitions interface {
	// List returns the definitions of a workspace, each once.
	List(ctx context.Context, workspaceID string, t connector.Type) ([]connector.Definition, error)
	// Check tells, without writing, whether this instance can carry out the change. What it returns is the change as
	// the instance can carry it out: an instance that can't rename a definition leaves its name as it is.
	Check(ctx context.Context, c connector.Change) (connector.Change, error)
	// Apply creates or updates the definition, and returns it as the instance lists it afterwards. It never creates
	// twice: when the outcome of a create is uncertain it lists until the definition is there or the time is up.
	Apply(ctx context.Context, c connector.Change, log connector.Log) (connector.Definition, error)
	// Spec is the connector specification's connectionSpecification that the instance stores for the definition.
	Spec(ctx context.Context, workspaceID string, t connector.Type, definitionID string) (json.RawMessage, error)
}

// Deployment is where Airbyte runs connectors, and can be asked for the reason when it can't.
type Deployment interface {
	// VerifyPull proves that the deployment can pull the image with its own credentials and run its spec, as Airbyte
	// would. The digest is what the tag points to.
	VerifyPull(ctx context.Context, repository image.Repository, tag, digest string, log connector.Log) error
}
