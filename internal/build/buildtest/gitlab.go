//go:build linux

package buildtest

import (
	"path/filepath"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
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

func gitlabHelper(t testing.TB, base v1.Image) v1.Image {
	t.Helper()
	programs := map[string]string{"bin/bash": lookPath(t, "bash", "bash"), "usr/bin/rsync": lookPath(t, "rsync", "rsync")}
	return cachedImage(t, "image-gitlab-helper-"+debian(t), func(scratch string) (v1.Image, error) {
		made, err := compressedLayer(filepath.Join(scratch, "helper.tar.gz"), func(l *layer) error {
			for _, dir := range []string{"lib", "lib64", "usr/lib"} {
				l.dir(dir, 0o755, 0)
			}
			return addPrograms(l, programs)
		})
		if err != nil {
			return nil, err
		}
		return image(base, v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin"}, Cmd: []string{"sh"}}, made)
	})
}
