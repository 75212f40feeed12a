//go:build linux

package buildtest_test

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// TestPrograms makes all that is kept in the cache.
func TestPrograms(t *testing.T) {
	buildtest.Programs(t)
	buildtest.Docker(t, buildtest.DockerOptions{Modern: true})
	for _, base := range buildtest.Bases {
		base.Image(t)
	}
}

func TestBuildkitd(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]buildtest.BuildkitdOptions{
		"root": {}, "rootless": {Rootless: true}, "root TLS": {TLS: true}, "rootless TLS": {Rootless: true, TLS: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := buildtest.Buildkitd(t, o)
			registry := registrytest.Start(t, registrytest.Config{})
			base := buildtest.Busybox.Push(t, registry.Addr)
			args := []string{"--addr", d.Address}
			if o.TLS {
				args = []string{"--addr", d.TCPAddress, "--tlsdir", d.TLSDir}
			}
			dir := t.TempDir()
			write(t, dir, "Dockerfile", "FROM "+base+"\nRUN id && echo built > /built\n")
			args = append(args, "build", "--progress=plain", "--frontend=dockerfile.v0", "--local=context="+dir, "--local=dockerfile="+dir,
				"--output=type=image,push=true,name="+registry.Addr+"/built:1")
			cmd := exec.Command(filepath.Join(buildtest.Programs(t), "buildctl"), args...)
			if out, err := cmd.CombinedOutput(); err != nil || !bytes.Contains(out, []byte("uid=0")) {
				t.Fatalf("%s: %v\n%s", cmd, err, out)
			}
		})
	}
}

func write(t testing.TB, dir, name, content string) {
	t.Helper()
	if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
