package cloudtest

import (
	"fmt"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// column is one of the things that every way is held against.
type column struct {
	name string
	run  func(t *testing.T, s *scene)
}

var columns = []column{
	{"push", pushes},
	{"wrong credential", wrongCredential},
	{"expired mid-push", expires},
	{"missing repository", missing},
	{"denied", denied},
	{"throttled", throttles},
	{"tag immutable", immutable},
}

// atOnce is how many cells run at the same time: most of their time is waiting.
const atOnce = 6

// TestMatrix holds every way to sign in against everything that goes wrong, with the shipped program as a child, and
// prints what came of it. "push" is two columns: the same image once more is the second.
func TestMatrix(t *testing.T) {
	all := ways()
	table := newTable(all)
	start := time.Now()
	type cell struct {
		way    way
		column column
	}
	queue := make(chan cell)
	var workers sync.WaitGroup
	for range atOnce {
		workers.Go(func() {
			for c := range queue {
				// A subtest tells its parent when it fails, and goes on in the others.
				t.Run(c.way.provider+"/"+c.way.name+"/"+c.column.name, func(t *testing.T) { table.fill(t, c.way, c.column) })
			}
		})
	}
	for _, c := range columns {
		for _, w := range all {
			queue <- cell{w, c}
		}
	}
	close(queue)
	workers.Wait()
	t.Logf("%d cells in %s\n%s", len(all)*(len(columns)+1), time.Since(start).Round(time.Second), table)
	if file := os.Getenv("AIRBYTE_PUBLISH_TEST_MATRIX"); file != "" {
		if err := os.WriteFile(file, []byte(table.String()), 0o644); err != nil {
			t.Error(err)
		}
	}
}

// table is the outcome.
type table struct {
	ways  []way
	mu    sync.Mutex
	cells map[string]string
}

func newTable(ways []way) *table { return &table{ways: ways, cells: map[string]string{}} }

const again = "re-push"

func (m *table) fill(t *testing.T, w way, c column) {
	result := "FAILED"
	defer func() {
		if t.Failed() {
			result = "FAILED"
		}
		m.mu.Lock()
		defer m.mu.Unlock()
		m.cells[w.provider+w.name+c.name] = result
		if c.name == "push" {
			m.cells[w.provider+w.name+again] = result
		}
	}()
	s := w.set(newWorld(t))
	if why := s.not[c.name]; why != "" {
		result = "n/a: " + why
		return
	}
	c.run(t, s)
	result = "ok"
}

// String is the table as Markdown.
func (m *table) String() string {
	heads := []string{"provider", "way in"}
	for _, c := range columns {
		heads = append(heads, c.name)
		if c.name == "push" {
			heads = append(heads, again)
		}
	}
	var b strings.Builder
	line := func(cells []string) { fmt.Fprintf(&b, "| %s |\n", strings.Join(cells, " | ")) }
	line(heads)
	line(slices.Repeat([]string{"---"}, len(heads)))
	for _, w := range m.ways {
		row := []string{w.provider, w.name}
		for _, h := range heads[2:] {
			cell := m.cells[w.provider+w.name+h]
			if cell == "" {
				cell = "not run"
			}
			row = append(row, cell)
		}
		line(row)
	}
	return b.String()
}

// succeed fails the test when the run did not end well.
func (s *scene) succeed(t *testing.T, o outcome) bool {
	t.Helper()
	if o.exit != 0 {
		t.Errorf("the run failed:\n%s", o)
		return false
	}
	if s.front.tagged(s.repository) == "" {
		t.Errorf("nothing has the tag:\n%s", o)
		return false
	}
	return true
}

// fail fails the test when the run did not end with one of the codes, or wrote something.
func (s *scene) fail(t *testing.T, o outcome, codes ...string) {
	t.Helper()
	if o.exit != 1 {
		t.Errorf("exit %d, want 1", o.exit)
	}
	if got := o.codes(); len(got) != 1 || !slices.Contains(codes, got[0]) {
		t.Errorf("the codes are %q, want one of %q", got, codes)
	}
	if t.Failed() {
		t.Logf("%s", o)
	}
}

func pushes(t *testing.T, s *scene) {
	o := s.c.run()
	if !s.succeed(t, o) {
		return
	}
	using := s.front.host
	if image := s.c.env[inputVariable("image")]; using == "index.docker.io" || using == "plain registry" {
		using, _, _ = strings.Cut(image, "/")
	}
	if !saysSource(o.log(), s.source) {
		t.Errorf("no line says \"%s: using … %s …\":\n%s", using, s.source, o)
	}
	if anonymous := anonymousPush(s); anonymous != "" {
		t.Errorf("something was written without credentials: %s", anonymous)
	}
	digest := s.front.tagged(s.repository)
	s.w.forget()
	if o := s.c.run(); s.succeed(t, o) {
		if s.front.wrote() || s.front.tagged(s.repository) != digest {
			t.Errorf("the same image was written once more:\n%s", o)
		}
		if !strings.Contains(o.log(), "already in place") {
			t.Errorf("nothing says that the image was there:\n%s", o)
		}
	}
}

// saysSource tells whether the log has a line "HOST: using SOURCE".
func saysSource(log, source string) bool {
	for line := range strings.Lines(log) {
		if _, rest, ok := strings.Cut(line, ": using "); ok && strings.Contains(rest, source) {
			return true
		}
	}
	return false
}

// anonymousPush is a request that wrote something without credentials.
func anonymousPush(s *scene) string {
	for _, r := range s.w.seen(s.front.host) {
		if r.auth == "" && r.status/100 == 2 && (r.method == http.MethodPost || r.method == http.MethodPut || r.method == http.MethodPatch) && strings.HasPrefix(r.path, "/v2/") {
			return r.String()
		}
	}
	return ""
}

func wrongCredential(t *testing.T, s *scene) {
	s.spoil()
	s.fail(t, s.c.run(), s.refused...)
	if s.front.wrote() {
		t.Error("something was written")
	}
}

func expires(t *testing.T, s *scene) {
	if s.expire != nil {
		s.front.gate = &otherEnd{s.front.gate, s.expire}
	}
	// Once while blobs are sent, and once when all of them are there.
	s.front.expireAt(sandbox.StepUploadChunk, 0)
	if s.lasting == nil {
		s.front.expireAt(sandbox.StepManifestPut, 0)
	}
	o := s.c.run()
	if s.lasting != nil {
		s.fail(t, o, s.lasting...)
		return
	}
	s.succeed(t, o)
	if n := s.front.hit(); n != 2 {
		t.Errorf("%d of 2 ends came to pass", n)
	}
}

// otherEnd is a gate whose credentials end in another way.
type otherEnd struct {
	gate
	end func()
}

func (e *otherEnd) expire() { e.end() }

func missing(t *testing.T, s *scene) {
	s.missing()
	o := s.c.run()
	s.fail(t, o, s.missingCodes...)
	for part := range strings.SplitSeq(s.repository, "/") {
		if !strings.Contains(o.log(), part) {
			t.Errorf("nothing names %q:\n%s", part, o)
		}
	}
}

func denied(t *testing.T, s *scene) {
	if s.deny != nil {
		s.deny()
	} else {
		s.front.set(func(f *front) { f.closed = true })
	}
	s.fail(t, s.c.run(), s.denied...)
	if s.front.wrote() {
		t.Error("something was written")
	}
}

func throttles(t *testing.T, s *scene) {
	s.front.throttle(sandbox.StepUploadStart, 1, "1")
	s.front.throttle(sandbox.StepManifestPut, 1, "1")
	o := s.c.run()
	s.succeed(t, o)
	if n := s.front.hit(); n != 2 {
		t.Errorf("the registry asked %d times to wait, not 2", n)
	}
	if o.took < 2*time.Second {
		t.Errorf("the run took %s, but was asked twice to wait for a second:\n%s", o.took, o)
	}
}

func immutable(t *testing.T, s *scene) {
	was := s.front.seed(s.repository)
	s.front.set(func(f *front) { f.fixed = true })
	s.c.input("if-tag-exists", "overwrite")
	s.fail(t, s.c.run(), "AP309")
	if now := s.front.tagged(s.repository); now != was {
		t.Errorf("the tag was moved from %s to %s", was, now)
	}
}
