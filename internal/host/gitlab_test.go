package host

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestGitLabSections(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "GITLAB_CI=true", "NO_COLOR=1")
	s := Detect(w.options()).Section("source/Hello World!")
	end := s.Group("Build")
	s.Info("made")
	w.now = w.now.Add(5 * time.Second)
	end()
	s.Group("Build")
	s.Annotate(Annotation{Level: LevelWarning, Title: "AP218", Message: "one\ntwo", File: "manifest.yaml", Line: 7})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := "\x1b[0Ksection_start:1700000000:airbyte_publish_1_source_hello_world\r\x1b[0Ksource/Hello World!\n" +
		"\x1b[0Ksection_start:1700000000:airbyte_publish_2_build[collapsed=true]\r\x1b[0KBuild\n" +
		"made\n" +
		"\x1b[0Ksection_end:1700000005:airbyte_publish_2_build\r\x1b[0K\n" +
		"\x1b[0Ksection_start:1700000005:airbyte_publish_3_build[collapsed=true]\r\x1b[0KBuild\n" +
		"warning: AP218: one\n  two (manifest.yaml:7)\n" +
		"\x1b[0Ksection_end:1700000005:airbyte_publish_3_build\r\x1b[0K\n" +
		"\x1b[0Ksection_end:1700000005:airbyte_publish_1_source_hello_world\r\x1b[0K\n"
	if diff := cmp.Diff(want, w.stdout.String()); diff != "" {
		t.Error(diff)
	}
}

// gitLabMark is a section's mark as GitLab reads it (lib/gitlab/ci/ansi2json).
var gitLabMark = regexp.MustCompile(`section_(start|end):(\d+):([a-zA-Z0-9_.-]+)(\[[^\]]*\])?\r\x1b\[0K`)

func TestNothingIsForgedOnGitLabOrATerminal(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, env := range []string{"GITLAB_CI=true", "CI=1"} {
				w := newWorld(t, env, "NO_COLOR=1")
				s := Detect(w.options()).Section(text)
				end := s.Group(text)
				s.Info("%s", text)
				s.Untrusted(text, text)
				s.Annotate(Annotation{Level: LevelError, Title: text, Message: text, File: text})
				end()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				log := w.stdout.String() + w.stderr.String()
				open := 0
				for _, m := range gitLabMark.FindAllStringSubmatch(log, -1) {
					if !strings.HasPrefix(m[3], "airbyte_publish_") {
						t.Errorf("%s: forged section %q", env, m[3])
					}
					if m[1] == "start" {
						open++
					} else {
						open--
					}
				}
				if open != 0 {
					t.Errorf("%s: sections are not balanced", env)
				}
				rest := strings.ReplaceAll(gitLabMark.ReplaceAllString(log, ""), "\x1b[0K", "")
				if i := strings.IndexFunc(rest, func(r rune) bool { return r < ' ' && r != '\n' && r != '\t' || r == 0x7f || unseen(r) || r == '\r' }); i >= 0 {
					t.Errorf("%s: the log holds %q", env, rest[i:min(i+10, len(rest))])
				}
			}
		})
	}
}

// parseDotenv reads a report as GitLab does (app/services/ci/parse_dotenv_artifact_service.rb), with its default
// limits.
func parseDotenv(text string) (map[string]string, error) {
	if len(text) > 5*1024 {
		return nil, fmt.Errorf("dotenv artifact too big: %d bytes", len(text))
	}
	variables := map[string]string{}
	for _, line := range strings.SplitAfter(strings.TrimSuffix(text, "\n"), "\n") {
		key, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		key = strings.TrimSpace(key)
		if !found || !regexp.MustCompile(`^[a-zA-Z0-9_]+$`).MatchString(key) {
			return nil, fmt.Errorf("invalid format: %q", line)
		}
		variables[key] = strings.TrimSpace(value)
	}
	if len(variables) > 20 {
		return nil, fmt.Errorf("%d variables", len(variables))
	}
	return variables, nil
}

func TestGitLabDotenv(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "GITLAB_CI=true")
	w.env["CI_PROJECT_DIR"] = filepath.Join(w.dir, "project")
	if err := os.Mkdir(w.env["CI_PROJECT_DIR"], 0o755); err != nil {
		t.Fatal(err)
	}
	target := filepath.Join(w.dir, "target")
	if err := os.Symlink(target, filepath.Join(w.env["CI_PROJECT_DIR"], dotenvFile)); err != nil {
		t.Fatal(err)
	}
	h := Detect(w.options())
	outputs := []Output{{"image", "ghcr.io/acme/source-hello:1.0.0"}, {"previous-tag", ""}, {"name", "two\nFORGED=1\r\nlines"},
		{"quoted", `"a" 'b' #c`}, {"results", strings.Repeat("x", dotenvSize)}, {"action", "created"}}
	for _, o := range [][]Output{{{"gone", "1"}}, outputs} {
		if err := h.WriteOutputs(o); err != nil {
			t.Fatal(err)
		}
	}
	got, err := parseDotenv(read(t, filepath.Join(w.env["CI_PROJECT_DIR"], dotenvFile)))
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]string{
		"AIRBYTE_PUBLISHED_IMAGE": "ghcr.io/acme/source-hello:1.0.0", "AIRBYTE_PUBLISHED_PREVIOUS_TAG": "",
		"AIRBYTE_PUBLISHED_NAME": "two FORGED=1 lines", "AIRBYTE_PUBLISHED_QUOTED": `"a" 'b' #c`, "AIRBYTE_PUBLISHED_ACTION": "created",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if !strings.Contains(w.stdout.String(), "AIRBYTE_PUBLISHED_RESULTS is left out") {
		t.Errorf("the log doesn't tell what was left out: %q", w.stdout.String())
	}
	if _, err := os.Lstat(target); err == nil {
		t.Error("a link was followed")
	}
	if entries, err := os.ReadDir(w.env["CI_PROJECT_DIR"]); err != nil || len(entries) != 1 {
		t.Errorf("a temporary file was left: %v, %v", entries, err)
	}
}

func TestGitLabDotenvHasFewVariables(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "GITLAB_CI=true")
	var outputs []Output
	for i := range 30 {
		outputs = append(outputs, Output{fmt.Sprintf("o%d", i), "x"})
	}
	if err := Detect(w.options()).WriteOutputs(outputs); err != nil {
		t.Fatal(err)
	}
	got, err := parseDotenv(read(t, filepath.Join(w.dir, dotenvFile)))
	if err != nil || len(got) != 20 {
		t.Errorf("got %d variables, %v", len(got), err)
	}
}

func TestGitLabSummary(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "GITLAB_CI=true")
	h := Detect(w.options())
	for _, text := range []string{"# Earlier and longer\n", "# One\n"} {
		if err := h.WriteSummary(text); err != nil {
			t.Fatal(err)
		}
	}
	if got := read(t, filepath.Join(w.dir, summaryFile)); got != "# One\n" {
		t.Errorf("got %q", got)
	}
}

func TestReplaceFileLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	// A folder in the file's place makes the last act fail.
	file := filepath.Join(dir, dotenvFile)
	if err := os.MkdirAll(filepath.Join(file, "x"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := replaceFile("write", file, "x"); err == nil {
		t.Fatal("a folder was replaced")
	}
	if entries, err := os.ReadDir(dir); err != nil || len(entries) != 1 {
		t.Errorf("a temporary file was left: %v, %v", entries, err)
	}
}
