//go:build linux

package buildtest_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
)

// TestPrograms makes all that is kept in the cache.
func TestPrograms(t *testing.T) {
	buildtest.Programs(t)
	buildtest.Act(t)
	buildtest.Actionlint(t)
	buildtest.Docker(t, buildtest.DockerOptions{Modern: true})
	buildtest.GitLabCILocal(t)
	for _, base := range buildtest.Bases {
		base.Image(t)
	}
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
