//go:build linux

package buildtest

import (
	"path/filepath"
	"testing"
)

const (
	actVersion        = "v0.2.89"
	actionlintVersion = "v1.7.12"
)

var (
	act = program{
		folder:   "act-" + actVersion,
		module:   "github.com/nektos/act@" + actVersion,
		packages: []string{"github.com/nektos/act"},
	}
	actionlint = program{
		folder:   "actionlint-" + actionlintVersion,
		module:   "github.com/rhysd/actionlint@" + actionlintVersion,
		packages: []string{"github.com/rhysd/actionlint/cmd/actionlint"},
	}
)

// Act returns the path of act, which runs workflows of GitHub Actions on this machine.
func Act(t testing.TB) string {
	t.Helper()
	return filepath.Join(act.built(t), "act")
}

// Actionlint returns the path of actionlint, which finds mistakes in workflows of GitHub Actions.
func Actionlint(t testing.TB) string {
	t.Helper()
	return filepath.Join(actionlint.built(t), "actionlint")
}
