package docs_test

import (
	"archive/tar"
	"bytes"
	"io"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// TestInAContainer runs the first example on a runner whose jobs are containers of a Docker engine. The job's image has
// neither Go nor curl, and the released binary where the documentation says that it may be put beforehand.
func TestInAContainer(t *testing.T) {
	t.Parallel()
	engine := buildtest.Docker(t, buildtest.DockerOptions{})
	w := newWorld(t)
	w.connector(t, ".", "source-erp", "1.4.0")
	w.workflow(t, "docs/ci/github.md", "publish.yml")
	w.commit(t)
	w.platform = jobImage(t, w.release)
	w.args = append(w.args, "--network", "host", "--container-daemon-socket", "-", "--pull=false")
	w.env = append(w.env, "DOCKER_HOST="+engine.Host)
	log := w.must(t, "publish.yml", "push", tag("v1.4.0"))
	if seen := published.FindStringSubmatch(log); seen == nil || !strings.Contains(holds(t, w.airbyte), seen[2]) {
		t.Errorf("the later step did not see the outputs:\n%s", log)
	}
	if !strings.Contains(log, "docker create image="+w.platform) {
		t.Errorf("the job was no container:\n%s", log)
	}
	if got := w.release.downloaded(); len(got) != 0 {
		t.Errorf("it downloaded %q", got)
	}
}

// jobImage pushes an image for jobs to a registry and returns its reference. It has what every runner has: a bash.
func jobImage(t *testing.T, r *release) string {
	t.Helper()
	bash, err := exec.LookPath("bash-static")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("jobs in containers can't be tried (Debian: apt-get install bash-static): %v", err)
		}
		t.Skip(err)
	}
	var content bytes.Buffer
	layer := tar.NewWriter(&content)
	_, arch := runnerArch()
	for at, file := range map[string]string{"bin/bash": bash, "opt/hostedtoolcache/airbyte-publish/" + version + "/" + arch + "/airbyte-publish": r.binary} {
		program, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		if err := layer.WriteHeader(&tar.Header{Name: at, Mode: 0o755, Size: int64(len(program))}); err != nil {
			t.Fatal(err)
		}
		if _, err := layer.Write(program); err != nil {
			t.Fatal(err)
		}
	}
	if err := layer.Close(); err != nil {
		t.Fatal(err)
	}
	made, err := tarball.LayerFromOpener(func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(content.Bytes())), nil })
	if err != nil {
		t.Fatal(err)
	}
	image, err := mutate.AppendLayers(buildtest.Busybox.Image(t), made)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(registrytest.Start(t, registrytest.Config{}).Addr+"/job:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, image); err != nil {
		t.Fatal(err)
	}
	return ref.Name()
}
