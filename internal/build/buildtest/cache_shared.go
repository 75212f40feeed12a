//go:build linux

package buildtest

import "testing"

// Cached is cached for the tests of other packages that have something dear to make.
func Cached(t testing.TB, entry string, produce func(dir, scratch string) error) string {
	t.Helper()
	return cached(t, entry, produce)
}
