package host

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestPlain(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := Detect(w.options())
	h.Mask("secret-value")
	s := h.Section("source-hello")
	end := s.Group("Build")
	s.Info("one\ntwo")
	s.Untrusted("The connector's log", "quoted\n\nsecret-value")
	end()
	s.Annotate(Annotation{Level: LevelError, Title: "AP201", Message: "no entrypoint"})
	if err := h.WriteOutputs([]Output{{"tag", "1"}}); err != nil {
		t.Fatal(err)
	}
	if err := h.WriteSummary("# x"); err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	want := "source-hello\n  Build\n    one\n    two\n    The connector's log\n      | quoted\n      |\n      | ***\n  error: AP201: no entrypoint\n"
	if diff := cmp.Diff(want, w.stderr.String()); diff != "" {
		t.Error(diff)
	}
	if w.stdout.Len() != 0 {
		t.Errorf("standard output got %q", w.stdout.String())
	}
	if entries, err := os.ReadDir(w.dir); err != nil || len(entries) != 0 {
		t.Errorf("files were written: %v, %v", entries, err)
	}
}

func TestPlainColour(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		env            string
		stdout, stderr bool
		log            string
		want           bool
	}{
		"terminal":                {"", false, true, "", true},
		"no terminal":             {"", true, false, "", false},
		"NO_COLOR":                {"NO_COLOR=1", true, true, "", false},
		"dumb":                    {"TERM=dumb", true, true, "", false},
		"log to standard output":  {"", true, false, "stdout", true},
		"log to standard error":   {"", false, true, "stderr", true},
		"log to a redirected one": {"", false, true, "stdout", false},
		"log to elsewhere":        {"", true, true, "other", false},
	} {
		w := newWorld(t, tc.env)
		o := w.options()
		o.StdoutIsTerminal, o.StderrIsTerminal = tc.stdout, tc.stderr
		var other strings.Builder
		switch tc.log {
		case "stdout":
			o.Log = o.Stdout
		case "stderr":
			o.Log = o.Stderr
		case "other":
			o.Log = &other
		}
		s := Detect(o).Section("title")
		s.Annotate(Annotation{Level: LevelWarning, Message: "m"})
		got := w.stdout.String() + w.stderr.String() + other.String()
		want := "title\n  warning: m\n"
		if tc.want {
			want = "\x1b[1mtitle\x1b[0m\n  \x1b[33;1mwarning\x1b[0m: m\n"
		}
		if got != want {
			t.Errorf("%s: got %q, want %q", name, got, want)
		}
	}
}

func TestPlainBar(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	o := w.options()
	o.StderrIsTerminal = true
	h := Detect(o)
	s := h.Section("", Buffered(true))
	set, end := s.Progress("Pushing a layer with a long name", 8<<20)
	set(1) // too soon after the first drawing to be drawn
	w.now = w.now.Add(time.Second)
	set(4 << 20)
	_, end2 := s.Progress("Second", 0)
	h.Section("").Info("a line")
	end()
	end2()
	const (
		clear = "\r\x1b[2K"
		none  = "Pushing a layer with …"
		half  = none + " [========        ] 4.0 of 8.0 MiB (50 %)"
	)
	want := clear + none + " [                ] 0.0 of 8.0 MiB (0 %)" +
		clear + half +
		clear + half + " +1" +
		clear + "a line\n" + clear + half + " +1" +
		clear + clear + "Second 0.0 MiB" +
		clear
	if diff := cmp.Diff(want, w.stderr.String()); diff != "" {
		t.Error(diff)
	}
}

func TestBarOnlyOnATerminal(t *testing.T) {
	t.Parallel()
	for _, env := range []string{"TERM=dumb", "GITHUB_ACTIONS=true", "GITLAB_CI=true"} {
		w := newWorld(t, env)
		o := w.options()
		o.StderrIsTerminal, o.StdoutIsTerminal = true, true
		set, end := Detect(o).Section("").Progress("Pushing", 8<<20)
		set(4 << 20)
		end()
		if got := w.stdout.String() + w.stderr.String(); got != "" {
			t.Errorf("%s: got %q", env, got)
		}
	}
}
