package docs_test

import (
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
)

// TestWorkflowsAreClean holds actionlint to the workflows of this repository and of the documentation.
func TestWorkflowsAreClean(t *testing.T) {
	t.Parallel()
	lint := buildtest.Actionlint(t)
	cmd := exec.Command(lint, "-no-color")
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	found := 0
	for _, b := range examples(t) {
		if !strings.HasPrefix(b.name(), ".github/workflows/") {
			continue
		}
		found++
		cmd := exec.Command(lint, "-no-color", "-stdin-filename", b.name(), "-")
		cmd.Dir, cmd.Stdin = t.TempDir(), strings.NewReader(b.text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("%s:%d: %v\n%s", b.page, b.line, err, out)
		}
	}
	if found < 8 {
		t.Errorf("only %d workflows were found", found)
	}
}

var uses = regexp.MustCompile(`uses: *(\S+)(.*)`)

// TestActionsArePinned wants each action of another party as a commit, with its version beside it, and no workflow with
// more rights than a job asks for.
func TestActionsArePinned(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, ".github/workflows/*.yml"))
	if err != nil || len(files) < 3 {
		t.Fatalf("%q, %v", files, err)
	}
	pinned := regexp.MustCompile(`^[\w./-]+@[0-9a-f]{40}$`)
	for _, file := range files {
		name := filepath.Join(".github/workflows", filepath.Base(file))
		text := readFile(t, name)
		if !strings.Contains(text, "\npermissions: {}\n") {
			t.Errorf("%s does not begin without any permission", name)
		}
		for _, match := range uses.FindAllStringSubmatch(text, -1) {
			if !strings.HasPrefix(match[1], "./") && (!pinned.MatchString(match[1]) || !strings.HasPrefix(match[2], " # v")) {
				t.Errorf("%s uses %s", name, match[0])
			}
		}
	}
}
