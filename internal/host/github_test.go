package host

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// world is what a host under test finds around it.
type world struct {
	env            map[string]string
	stdout, stderr bytes.Buffer
	now            time.Time
	dir            string
}

func (w *world) options() Options {
	return Options{Getenv: func(k string) string { return w.env[k] }, Stdout: &w.stdout, Stderr: &w.stderr, Dir: w.dir,
		Now: func() time.Time { return w.now }}
}

func newWorld(t *testing.T, env ...string) *world {
	t.Helper()
	w := &world{env: map[string]string{}, now: time.Unix(1_700_000_000, 0), dir: t.TempDir()}
	for _, e := range env {
		k, v, _ := strings.Cut(e, "=")
		w.env[k] = v
	}
	return w
}

// gitHubWorld is a step on GitHub, with its files.
func gitHubWorld(t *testing.T) *world {
	t.Helper()
	w := newWorld(t, "GITHUB_ACTIONS=true")
	w.env["GITHUB_WORKSPACE"] = w.dir
	w.env["GITHUB_OUTPUT"] = filepath.Join(w.dir, "output")
	w.env["GITHUB_STEP_SUMMARY"] = filepath.Join(w.dir, "summary")
	return w
}

func read(t *testing.T, file string) string {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestDetect(t *testing.T) {
	t.Parallel()
	for env, want := range map[string]string{"GITHUB_ACTIONS=true": "github", "GITLAB_CI=true": "gitlab", "CI=true": "plain", "GITHUB_ACTIONS=false": "plain"} {
		if got := Detect(newWorld(t, env).options()).Name(); got != want {
			t.Errorf("%s: got %s, want %s", env, got, want)
		}
	}
}

func TestGitHubRunsNoCommandFromText(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gitHubWorld(t)
			h := Detect(w.options())
			s := h.Section(text)
			s.Info("%s", text)
			s.Untrusted(text, text)
			end := s.Group(text)
			s.Info("%s", text)
			s.Untrusted(text, text)
			inner := s.Group(text)
			inner()
			end()
			s.Annotate(Annotation{Level: LevelWarning, Title: text, Message: text, File: text})
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			if strings.Contains(w.stdout.String(), "##[") {
				t.Error("the log holds the older mark of a command")
			}
			commands, _ := runLog(t, w.stdout.String())
			var names []string
			for _, c := range commands {
				names = append(names, c.name)
			}
			want := []string{"group", "endgroup", "group", "endgroup", "warning"}
			if strings.TrimSpace(text) == "" {
				want = want[2:] // nothing is printed of a text that is nothing
			}
			if diff := cmp.Diff(want, names); diff != "" {
				t.Errorf("commands (-want +got):\n%s", diff)
			}
		})
	}
}

func TestGitHubRunsNoCommandFromWhatIsPrintedBesideTheLog(t *testing.T) {
	t.Parallel()
	for name, text := range hostile {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			text = strings.ReplaceAll(text, "\x1b", "") // a terminal's commands are not the runner's
			blanks := strings.Repeat(" ", heldBack)
			for _, text := range []string{text, "\n" + text, blanks + text, blanks + " " + text, blanks + "  " + text, strings.Repeat("x", heldBack) + text} {
				for size := range 3 {
					var b bytes.Buffer
					w := Detect(gitHubWorld(t).options()).Redacting(&b)
					for part := range slices.Chunk([]byte(text), heldBack+size) {
						if _, err := w.Write(part); err != nil {
							t.Fatal(err)
						}
					}
					if err := w.Close(); err != nil {
						t.Fatal(err)
					}
					if commands, _ := runLog(t, b.String()); len(commands) > 0 {
						t.Fatalf("commands %q", commands)
					}
				}
			}
		})
	}
}

func TestGitHubKeepsTextReadable(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	s := Detect(w.options()).Section("source-hello")
	s.Info("a: b :: c, 50%% # [x]")
	s.Untrusted("The connector's log", "\x1b[31mred\x1b[0m\r\nplain\n  ::error::x\n##[error]y")
	_, lines := runLog(t, w.stdout.String())
	want := []string{"== source-hello", "a: b :: c, 50% # [x]", "red", "plain", "  : :error::x", "# #[error]y"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Errorf("lines (-want +got):\n%s", diff)
	}
}

func TestUntrustedIsBounded(t *testing.T) {
	t.Parallel()
	for _, text := range []string{strings.Repeat("x", 1<<20), strings.Repeat("0123456789\n", 1<<17), "head\n" + strings.Repeat("é", 1<<20) + "\ntail"} {
		w := newWorld(t)
		s := Detect(w.options()).Section("")
		s.Untrusted("log", text)
		got := w.stderr.String()
		if len(got) > 2*untrustedLimit {
			t.Errorf("%d bytes were printed", len(got))
		}
		if !strings.Contains(got, "bytes left out …]") {
			t.Error("nothing tells that text was left out")
		}
		if strings.ContainsRune(got, '\uFFFD') {
			t.Error("a character was cut")
		}
	}
}

func TestCutMiddleTellsHowMuch(t *testing.T) {
	t.Parallel()
	got := cutMiddle([]string{"first", strings.Repeat("x", 100), "last"}, 20)
	want := []string{"first", "xxx", "[… 93 bytes left out …]", "xxxx", "last"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
	if got := cutMiddle([]string{"a", "b"}, 4); len(got) != 2 {
		t.Errorf("what fits was cut: %q", got)
	}
}

func TestGitHubOutputsSurviveTheRunner(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	var want []Output
	for name, value := range hostile {
		name = strings.NewReplacer(" ", "-").Replace(name)
		want = append(want, Output{name, strings.ToValidUTF8(value, "\uFFFD")})
	}
	if err := os.WriteFile(w.env["GITHUB_OUTPUT"], []byte("earlier=without a line break"), 0o600); err != nil {
		t.Fatal(err)
	}
	h := Detect(w.options())
	if err := h.WriteOutputs(want[:3]); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteOutputs(want[3:]); err != nil {
		t.Fatal(err)
	}
	got, err := parseFileCommands(read(t, w.env["GITHUB_OUTPUT"]))
	if err != nil {
		t.Fatal(err)
	}
	want = append([]Output{{"earlier", "without a line break"}}, want...)
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("outputs (-want +got):\n%s", diff)
	}
}

func TestGitHubDelimiterIsNeverInTheValue(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	g := newGitHub(w.options())
	words := []string{"FIRST", "SECOND"}
	g.random = func() string { word := words[0]; words = words[1:]; return word }
	if _, err := g.writeOutputs([]Output{{"image", "x\nghadelimiter_FIRST\nforged=1"}}); err != nil {
		t.Fatal(err)
	}
	got, err := parseFileCommands(read(t, w.env["GITHUB_OUTPUT"]))
	if err != nil || len(got) != 1 || got[0].Value != "x\nghadelimiter_FIRST\nforged=1" {
		t.Errorf("got %q, %v", got, err)
	}
}

func TestGitHubWithoutFiles(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "GITHUB_ACTIONS=true")
	h := Detect(w.options())
	if err := h.WriteOutputs([]Output{{"tag", "1.0.0"}, {"image", "x\n::error::forged"}}); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteSummary("# Summary"); err != nil {
		t.Fatal(err)
	}
	commands, lines := runLog(t, w.stdout.String())
	if len(commands) != 0 || !slices.Contains(lines, "output tag: 1.0.0") {
		t.Errorf("got commands %q, lines %q", commands, lines)
	}
}

func TestOutputNamesAreChecked(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"", "a b", "a\nb", "a=b", "a<<b", "1a", "-a"} {
		w := gitHubWorld(t)
		err := Detect(w.options()).WriteOutputs([]Output{{"ok", "1"}, {name, "x"}})
		if fault.CodeOf(err) != fault.OutputsFailed {
			t.Errorf("%q: got %v", name, err)
		}
		if _, err := os.Stat(w.env["GITHUB_OUTPUT"]); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%q: something was written", name)
		}
	}
}

func TestFilesThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	missing := filepath.Join(t.TempDir(), "missing")
	gitHub := newWorld(t, "GITHUB_ACTIONS=true", "GITHUB_OUTPUT="+missing+"/o", "GITHUB_STEP_SUMMARY="+missing+"/s")
	gitLab := newWorld(t, "GITLAB_CI=true", "CI_PROJECT_DIR="+missing)
	for _, w := range []*world{gitHub, gitLab} {
		h := Detect(w.options())
		for _, err := range []error{h.WriteOutputs([]Output{{"tag", "1"}}), h.WriteSummary("x")} {
			var f *fault.Error
			if !errors.As(err, &f) || f.Code != fault.OutputsFailed || f.Remedy == "" || !strings.HasPrefix(f.Object, missing) {
				t.Errorf("%s: got %v", h.Name(), err)
			}
		}
	}
}

func TestGitHubSummaryFits(t *testing.T) {
	t.Parallel()
	row := "| " + strings.Repeat("x", 1000) + " |\n"
	for name, tc := range map[string]struct{ before, text string }{
		"short":         {"", "# One\n"},
		"no line break": {"# Zero", "# One"},
		"long":          {"", "| a |\n|---|\n" + strings.Repeat(row, 2000)},
		"long, second":  {"# Zero\n", "| a |\n|---|\n" + strings.Repeat(row, 2000)},
		"just too long": {"", strings.Repeat("x\n", stepSummaryLimit/2)},
		"no room":       {strings.Repeat("x\n", stepSummaryLimit/2), "# One\n"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := gitHubWorld(t)
			if err := os.WriteFile(w.env["GITHUB_STEP_SUMMARY"], []byte(tc.before), 0o600); err != nil {
				t.Fatal(err)
			}
			if err := Detect(w.options()).WriteSummary(tc.text); err != nil {
				t.Fatal(err)
			}
			got := read(t, w.env["GITHUB_STEP_SUMMARY"])
			if len(got) > stepSummaryLimit {
				t.Errorf("the summary has %d bytes", len(got))
			}
			added := strings.TrimPrefix(strings.TrimPrefix(got, tc.before), "\n")
			if cut := len(tc.text) > 1000; !cut && tc.before != strings.Repeat("x\n", stepSummaryLimit/2) {
				if strings.TrimSpace(added) != strings.TrimSpace(tc.text) {
					t.Errorf("got %q", added)
				}
				return
			}
			if !strings.Contains(w.stdout.String(), "rest of it was left out") {
				t.Error("the log doesn't tell that the summary was cut")
			}
			if body, found := strings.CutSuffix(added, summaryCut); found && !strings.HasPrefix(tc.text, body) || found && !strings.HasSuffix(body, "\n") {
				t.Error("the summary was not cut at the end of a line")
			} else if !found && added != "" {
				t.Error("the summary doesn't tell that it was cut")
			}
		})
	}
}

func TestGitHubAnnotations(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	s := Detect(w.options()).Section("")
	s.Annotate(Annotation{Level: LevelError, Title: "AP201: no, entrypoint", Message: "50% wrong\nsecond", File: filepath.Join(w.dir, "a", "manifest.yaml"), Line: 3})
	s.Annotate(Annotation{Level: LevelWarning, Message: "elsewhere", File: "/etc/passwd", Line: 1})
	s.Annotate(Annotation{Level: "bogus", Message: "relative", File: "a/b.yaml"})
	s.Annotate(Annotation{Level: LevelNotice, Message: "above", File: "../b.yaml"})
	want := "::error file=a/manifest.yaml,line=3,title=AP201%3A no%2C entrypoint::50%25 wrong%0Asecond\n" +
		"::warning::elsewhere (/etc/passwd:1)\n" +
		"::notice file=a/b.yaml::relative\n" +
		"::notice::above (../b.yaml)\n"
	if diff := cmp.Diff(want, w.stdout.String()); diff != "" {
		t.Error(diff)
	}
}

func TestGitHubAnnotationThroughALink(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(w.dir, link); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(w.dir, "metadata.yaml"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	w.env["GITHUB_WORKSPACE"] = link
	Detect(w.options()).Section("").Annotate(Annotation{Level: LevelError, Message: "m", File: "metadata.yaml"})
	if got := w.stdout.String(); got != "::error file=metadata.yaml::m\n" {
		t.Errorf("got %q", got)
	}
}

func TestGitHubAnnotationsBeyondTheLimitAreLines(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	for i := range 12 {
		s := h.Section("")
		s.Annotate(Annotation{Level: LevelWarning, Title: "T", Message: fmt.Sprint("w", i)})
		s.Annotate(Annotation{Level: LevelError, Message: fmt.Sprint("e", i), File: "f", Line: 2})
	}
	commands, lines := runLog(t, w.stdout.String())
	if len(commands) != 20 {
		t.Errorf("got %d annotations", len(commands))
	}
	want := []string{"warning: T: w10", "error: e10 (f:2)", "warning: T: w11", "error: e11 (f:2)"}
	if diff := cmp.Diff(want, lines); diff != "" {
		t.Error(diff)
	}
}

func TestGitHubFlattensGroups(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	s := h.Section("one")
	outer := s.Group("outer")
	inner := s.Group("inner")
	s.Info("text")
	inner()
	s.Untrusted("log", "quoted")
	outer()
	outer()
	next := s.Group("next")
	next()
	_ = s.Group("left open")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	got := stopToken.ReplaceAllString(w.stdout.String(), "TOKEN")
	want := "== one\n::group::outer\ninner\ntext\nlog\n::stop-commands::TOKEN\nquoted\n::TOKEN::\n::endgroup::\n" +
		"::group::next\n::endgroup::\n::group::left open\n::endgroup::\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Error(diff)
	}
}

func TestGitHubBufferedSectionEndsAnOpenGroup(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	run := h.Section("")
	end := run.Group("plan")
	s := h.Section("one", Buffered(true))
	s.Group("build")()
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	end()
	want := "::group::plan\n::endgroup::\n== one\n::group::build\n::endgroup::\n"
	if diff := cmp.Diff(want, w.stdout.String()); diff != "" {
		t.Error(diff)
	}
}

func TestGitHubMasks(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	h.Mask("p%ss word", "", "on", "abcd", "p%ss word")
	h.Mask("line one is long\nshort\n}\nline two is long")
	h.Section("").Info("p%%ss word, on, abcd, abcde, line two is long")
	commands, lines := runLog(t, w.stdout.String())
	masked := map[string]int{}
	for _, c := range commands {
		if c.name != "add-mask" || strings.Contains(c.data, "\n") || len(c.data) < anywhereLength {
			t.Errorf("got command %q", c)
		}
		masked[c.data]++
	}
	for _, want := range []string{"p%ss word", "p%25ss+word", "cCVzcyB3b3Jk", "line one is long", "line two is long"} {
		if masked[want] != 1 {
			t.Errorf("%q is masked %d times", want, masked[want])
		}
	}
	for _, not := range []string{"short", "}", "abcd"} {
		if masked[not] != 0 {
			t.Errorf("%q is masked", not)
		}
	}
	if diff := cmp.Diff([]string{"***, on, ***, abcde, ***"}, lines); diff != "" {
		t.Error(diff)
	}
}

func TestGitHubCommandsAreNotRedacted(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	h.Mask("warning", "endgroup", "commands")
	s := h.Section("")
	s.Group("x")()
	s.Annotate(Annotation{Level: LevelWarning, Message: "a warning"})
	if !strings.HasSuffix(w.stdout.String(), "::group::x\n::endgroup::\n::warning::a ***\n") {
		t.Errorf("got %q", w.stdout.String())
	}
}

func TestLogGoesWhereOptionsSay(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	o := w.options()
	o.Log = &w.stderr
	h := Detect(o)
	h.Mask("secret-value")
	h.Section("").Info("hello")
	if w.stdout.Len() != 0 || !strings.HasSuffix(w.stderr.String(), "hello\n") {
		t.Errorf("stdout %q, stderr %q", w.stdout.String(), w.stderr.String())
	}
}
