//go:build linux

package buildtest

import (
	"path/filepath"
	"testing"
)

// gitlabCILocalVersion is the last that runs on Node 20.
const gitlabCILocalVersion = "4.70.1"

// GitLabCILocal returns the path of gitlab-ci-local, which runs GitLab's pipelines on this machine. It needs node, rsync
// and git, and for jobs in containers the docker command.
func GitLabCILocal(t testing.TB) string {
	t.Helper()
	lookPath(t, "node", "nodejs")
	lookPath(t, "rsync", "rsync")
	npm := lookPath(t, "npm", "npm")
	dir := cached(t, "gitlab-ci-local-"+gitlabCILocalVersion, func(dir, _ string) error {
		return run(dir, nil, npm, "install", "--no-audit", "--no-fund", "--no-save", "--ignore-scripts", "--prefix", dir,
			"gitlab-ci-local@"+gitlabCILocalVersion)
	})
	return filepath.Join(dir, "node_modules", ".bin", "gitlab-ci-local")
}
