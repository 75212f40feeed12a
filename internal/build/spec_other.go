//go:build !linux

package build

import (
	"context"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// SpecMain has nothing to do where spec can't be run: handled is false.
func SpecMain(_ []string) (handled bool, exitCode int) { return false, 0 }

// runSpec is never reached: RunSpec finds before that an image for Linux and this machine differ.
func runSpec(context.Context, v1.Image, SpecOptions) (connector.SpecRun, error) {
	return connector.SpecRun{}, specNotRun("it needs Linux", nil)
}
