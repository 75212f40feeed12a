package cloudtest

import (
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
)

// TestDistribution is for distribution's main line, version 3.
func TestDistribution(t *testing.T) {
	t.Parallel()
	tryReal(t, buildtest.Distribution(t))
}
