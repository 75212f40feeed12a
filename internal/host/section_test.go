package host

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestBufferedSectionsDoNotTangle(t *testing.T) {
	t.Parallel()
	for _, env := range []string{"GITHUB_ACTIONS=true", "GITLAB_CI=true", "CI=1"} {
		w := newWorld(t, env)
		h := Detect(w.options())
		var wg sync.WaitGroup
		for i := range 8 {
			wg.Go(func() {
				name := fmt.Sprintf("connector-%d", i)
				s := h.Section(name, Buffered(true))
				for range 50 {
					h.Mask(name + "-secret")
					end := s.Group(name + " group")
					s.Info("%s line", name)
					s.Untrusted(name+" log", name+" quoted")
					set, done := s.Progress(name, 100)
					set(50)
					done()
					end()
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			})
		}
		wg.Wait()
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		// Each connector's lines must be one run of lines.
		var order []string
		for _, m := range regexp.MustCompile(`connector-\d (?:line|quoted)`).FindAllString(w.stdout.String()+w.stderr.String(), -1) {
			if name := strings.Fields(m)[0]; len(order) == 0 || order[len(order)-1] != name {
				order = append(order, name)
			}
		}
		if len(order) != 8 {
			t.Errorf("%s: the order of the lines is %q", env, order)
		}
	}
}

func TestUnbufferedLinesAreWhole(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := Detect(w.options())
	var wg sync.WaitGroup
	for i := range 8 {
		s := h.Section("")
		wg.Go(func() {
			for range 200 {
				s.Info("%s", strings.Repeat(fmt.Sprint(i), 100))
			}
		})
	}
	wg.Wait()
	lines := strings.Split(strings.TrimSpace(w.stderr.String()), "\n")
	if len(lines) != 1600 {
		t.Errorf("got %d lines", len(lines))
	}
	for _, l := range lines {
		if l != strings.Repeat(l[:1], 100) {
			t.Errorf("tangled: %q", l)
		}
	}
}

func TestBufferedSectionIsBounded(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	s := h.Section("big", Buffered(true))
	s.Group("group")
	for range 200 {
		s.Untrusted("log", strings.Repeat("x", 60<<10))
	}
	s.Annotate(Annotation{Level: LevelError, Message: "why it failed"})
	if w.stdout.Len() != 0 {
		t.Error("a buffered section was printed before it was closed")
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if n := w.stdout.Len(); n > bufferLimit+4096 || n < bufferLimit-untrustedLimit {
		t.Errorf("%d bytes were printed", n)
	}
	commands, lines := runLog(t, w.stdout.String())
	if diff := cmp.Diff([]executed{{"group", "group"}, {"error", "why it failed"}, {"endgroup", ""}}, commands, cmp.AllowUnexported(executed{})); diff != "" {
		t.Error(diff)
	}
	if last := lines[len(lines)-1]; !regexp.MustCompile(`^\[… \d+ bytes of this log left out …\]$`).MatchString(last) {
		t.Errorf("got last line %q", last)
	}
	s.Info("said late")
	if !strings.HasSuffix(w.stdout.String(), "said late\n") {
		t.Error("what was said after the end was lost")
	}
}

func TestHostCloseClosesSections(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	h := Detect(w.options())
	h.Section("one", Buffered(true)).Info("interrupted")
	if err := h.Close(); err != nil {
		t.Fatal(err)
	}
	if got := w.stderr.String(); got != "one\n  interrupted\n" {
		t.Errorf("got %q", got)
	}
}

type failingWriter struct{ err error }

func (f failingWriter) Write([]byte) (int, error) { return 0, f.err }

func TestLogThatCannotBeWritten(t *testing.T) {
	t.Parallel()
	broken := errors.New("broken pipe")
	for _, env := range []string{"GITHUB_ACTIONS=true", "GITLAB_CI=true", "CI=1"} {
		o := newWorld(t, env).options()
		o.Log = failingWriter{broken}
		h := Detect(o)
		h.Mask("secret-value")
		s := h.Section("x")
		s.Group("y")
		s.Annotate(Annotation{Level: LevelError, Message: "z"})
		if err := s.Close(); !errors.Is(err, broken) {
			t.Errorf("%s: section: got %v", env, err)
		}
		if err := h.Close(); !errors.Is(err, broken) {
			t.Errorf("%s: got %v", env, err)
		}
	}
}

func TestProgressOnCIIsRare(t *testing.T) {
	t.Parallel()
	w := newWorld(t, "GITLAB_CI=true")
	s := Detect(w.options()).Section("")
	set, end := s.Progress("Pushing", 100<<20)
	for i := range 101 {
		set(int64(i) << 20)
		w.now = w.now.Add(time.Second)
	}
	set(100 << 20)
	end()
	want := "Pushing: 25.0 of 100.0 MiB (25 %)\nPushing: 50.0 of 100.0 MiB (50 %)\nPushing: 75.0 of 100.0 MiB (75 %)\nPushing: 100.0 of 100.0 MiB (100 %)\n"
	if diff := cmp.Diff(want, w.stdout.String()); diff != "" {
		t.Error(diff)
	}
}

func TestProgressOnCI(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		total int64
		step  time.Duration
		done  []int64
		want  string
	}{
		"quick says nothing": {4 << 20, time.Second, []int64{1 << 20, 2 << 20, 3 << 20, 4 << 20}, ""},
		"slow lives":         {1 << 30, 61 * time.Second, []int64{1 << 20, 2 << 20}, "P: 1.0 of 1024.0 MiB (0 %)\nP: 2.0 of 1024.0 MiB (0 %)\n"},
		"unknown total":      {0, time.Minute, []int64{1 << 20}, "P: 1.0 MiB\n"},
		"beyond its bounds":  {1 << 20, time.Minute, []int64{5 << 20, -1}, "P: 1.0 of 1.0 MiB (100 %)\nP: 0.0 of 1.0 MiB (0 %)\n"},
	} {
		w := newWorld(t)
		set, end := Detect(w.options()).Section("").Progress("P", tc.total)
		for _, d := range tc.done {
			w.now = w.now.Add(tc.step)
			set(d)
		}
		end()
		if got := w.stderr.String(); got != tc.want {
			t.Errorf("%s: got %q, want %q", name, got, tc.want)
		}
	}
}
