//go:build !race

package cli_test

import (
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
)

// rounds is how many pairs of runs a comparison takes, after one that is not counted.
const rounds = 11

// compare runs ours and theirs in turn and reports both medians and the median of the ratios, pair by pair.
func compare(b *testing.B, ours, theirs func(round int)) {
	b.Helper()
	timed := func(run func(int), round int) time.Duration {
		began := time.Now()
		run(round)
		return time.Since(began)
	}
	var own, other, ratios []float64
	for round := range rounds + 1 {
		a, t := timed(ours, round), timed(theirs, round)
		if round > 0 {
			own, other, ratios = append(own, a.Seconds()*1000), append(other, t.Seconds()*1000), append(ratios, a.Seconds()/t.Seconds())
		}
	}
	b.ReportMetric(median(own), "ours-ms")
	b.ReportMetric(median(other), "theirs-ms")
	b.ReportMetric(median(ratios), "ratio")
	b.ReportMetric(0, "ns/op")
}

func median(values []float64) float64 {
	slices.Sort(values)
	return values[len(values)/2]
}

func must(b *testing.B, cmd *exec.Cmd) {
	b.Helper()
	if out, err := cmd.CombinedOutput(); err != nil {
		b.Fatalf("%v: %v\n%s", cmd.Args, err, out)
	}
}

// BenchmarkBuild holds a publish of a Dockerfile (plan, context digest, build with a warm cache, spec, push, tag, read
// back; no Airbyte) against buildctl's build and push of the same Dockerfile by the same BuildKit to the same registry.
func BenchmarkBuild(b *testing.B) {
	w := startBuilds(b, buildtest.Python)
	address := buildtest.Shared(b).Address
	dir := copyConnector(b, "source-python-docker", "1.0.0")
	env := w.environment.with("BUILDKIT_HOST", address, "AIRBYTE_PUBLISH_REGISTER", "false")
	buildctl := filepath.Join(buildtest.Programs(b), "buildctl")
	login := dockerLogin(b, w.images.Addr)
	compare(b, func(round int) {
		if o := env.runBinary(b, "publish", "--tag", fmt.Sprintf("1.%d.0", round), dir); o.code != 0 {
			b.Fatal(o)
		}
	}, func(round int) {
		cmd := exec.Command(buildctl, "--addr", address, "build", "--frontend", "dockerfile.v0", "--opt", "cmdline=builtin",
			"--local", "context="+dir, "--local", "dockerfile="+dir, "--opt", "build-arg:"+w.environment["AIRBYTE_PUBLISH_BUILD_ARGS"],
			"--output", fmt.Sprintf("type=image,name=%s/builds/peer:1.%d.0,push=true,registry.insecure=true", w.images.Addr, round))
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + login, "DOCKER_CONFIG=" + login}
		must(b, cmd)
	})
}

// BenchmarkUnchangedBuild holds a publish that finds nothing to do against the same build by buildctl, which has it all
// in its cache and in the registry.
func BenchmarkUnchangedBuild(b *testing.B) {
	w := startBuilds(b, buildtest.Python)
	address := buildtest.Shared(b).Address
	dir := copyConnector(b, "source-python-docker", "1.0.0")
	env := w.environment.with("BUILDKIT_HOST", address)
	buildctl := filepath.Join(buildtest.Programs(b), "buildctl")
	login := dockerLogin(b, w.images.Addr)
	compare(b, func(int) {
		if o := env.runBinary(b, "publish", dir); o.code != 0 {
			b.Fatal(o)
		}
	}, func(int) {
		cmd := exec.Command(buildctl, "--addr", address, "build", "--frontend", "dockerfile.v0", "--opt", "cmdline=builtin",
			"--local", "context="+dir, "--local", "dockerfile="+dir, "--opt", "build-arg:"+w.environment["AIRBYTE_PUBLISH_BUILD_ARGS"],
			"--output", fmt.Sprintf("type=image,name=%s/builds/peer:1.0.0,push=true,registry.insecure=true", w.images.Addr))
		cmd.Env = []string{"PATH=/usr/bin:/bin", "HOME=" + login, "DOCKER_CONFIG=" + login}
		must(b, cmd)
	})
}

// dockerLogin is a folder with the docker configuration that signs in to the registry of startBuilds.
func dockerLogin(t testing.TB, host string) string {
	t.Helper()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "config.json"), fmt.Sprintf(`{"auths":{%q:{"username":"publisher","password":"password-of-the-publisher"}}}`, host))
	return dir
}
