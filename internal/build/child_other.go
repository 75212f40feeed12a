//go:build !linux

package build

import (
	"context"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

func (d *dialing) buildkitd(context.Context, connector.Log) ([]*engine, error) {
	return nil, absent("buildkitd builds Linux images on Linux only")
}
