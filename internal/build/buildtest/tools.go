//go:build linux

package buildtest

import (
	"path/filepath"
	"testing"
)

const actVersion = "v0.2.89"

var act = program{
	folder:   "act-" + actVersion,
	module:   "github.com/nektos/act@" + actVersion,
	packages: []string{"github.com/nektos/act"},
}

// Act returns the path of act, which runs workflows of GitHub Actions on this machine.
func Act(t testing.TB) string {
	t.Helper()
	return filepath.Join(act.built(t), "act")
}
