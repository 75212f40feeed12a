//go:build linux

package buildtest

import (
	"path/filepath"
	"testing"
)

// distributionVersion is of the registry that others are made of, of which Debian has an older one.
const distributionVersion = "v3.1.2"

var distribution = program{
	folder:   "distribution-" + distributionVersion,
	module:   "github.com/distribution/distribution/v3@" + distributionVersion,
	packages: []string{"github.com/distribution/distribution/v3/cmd/registry"},
}

// Distribution returns the registry program of distribution's main line, for registrytest.Config.
func Distribution(t testing.TB) string {
	t.Helper()
	return filepath.Join(distribution.built(t), "registry")
}
