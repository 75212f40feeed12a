package build

import (
	"context"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// dialing finds the engines of a run.
type dialing struct {
	options Options
}

// choose returns the engines of the first way that leads to some.
func (d dialing) choose(ctx context.Context, log connector.Log) ([]*engine, error) {
	return nil, &fault.Error{Code: fault.NoBuilder, Op: "find a build engine", Cause: "there is none",
		Remedy: "Start Docker, set BUILDKIT_HOST, or install buildkit."}
}
