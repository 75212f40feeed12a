//go:build !race

package cli_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// aSandbox is one with a base image in its registry.
type aSandbox struct {
	env  []string
	base string
}

func startSandbox(t testing.TB) aSandbox {
	t.Helper()
	s, err := sandbox.Start(t.Context(), sandbox.Options{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	values := map[string]string{}
	for _, variable := range s.Env() {
		name, value, _ := strings.Cut(variable, "=")
		values[name] = value
	}
	base := buildtest.Busybox.Push(t, values["SANDBOX_REGISTRY"], remote.WithAuth(&authn.Basic{
		Username: values["AIRBYTE_PUBLISH_REGISTRY_USERNAME"], Password: values["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"]}))
	return aSandbox{env: s.Env(), base: base}
}

// TestGettingStarted does what docs/getting-started.md says, from the connector on to its second version.
func TestGettingStarted(t *testing.T) {
	t.Parallel()
	text, err := os.ReadFile(filepath.Join("..", "..", "docs", "getting-started.md"))
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## 2. ")
	steps, _, alsoFound := strings.Cut(rest, "\n## 7. ")
	if !found || !alsoFound {
		t.Fatal("the page has other steps than this test knows")
	}
	s := startSandbox(t)
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	env := append(slices.Clone(s.env), "PATH="+filepath.Dir(path)+":"+os.Getenv("PATH"), "HOME="+t.TempDir(), "BUILDKIT_HOST="+buildtest.Shared(t).Address,
		"DOCKER_HOST=unix:///nowhere.sock")
	dir, printed := t.TempDir(), ""
	for _, block := range regexp.MustCompile("(?s)```(sh|text)\n(.*?)```").FindAllStringSubmatch(steps, -1) {
		language, block := block[1], block[2]
		switch {
		case language == "text":
			if !strings.Contains(printed, strings.TrimSpace(block)) {
				t.Fatalf("the page promises %q, and there is\n%s", block, printed)
			}
		case strings.HasPrefix(block, "airbyte-publish sandbox"):
			// The sandbox is there already: the base image has to be in its registry before.
		default:
			cmd := exec.CommandContext(t.Context(), "sh", "-euxc", strings.ReplaceAll(block, "alpine:3.22", s.base))
			cmd.Dir, cmd.Env = dir, env
			out, err := cmd.CombinedOutput()
			printed = string(out)
			if err != nil {
				t.Fatalf("%v\n%s", err, printed)
			}
		}
	}
	if !strings.Contains(printed, "1 updated") {
		t.Errorf("the last step printed\n%s", printed)
	}
}
