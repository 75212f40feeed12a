package build

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// told is a log that keeps what it is told, a line for each.
type told struct{ lines []string }

func (*told) Group(string) func() { return func() {} }
func (l *told) Info(format string, args ...any) {
	l.lines = append(l.lines, "info "+fmt.Sprintf(format, args...))
}
func (l *told) Finding(f connector.Finding) {
	l.lines = append(l.lines, fmt.Sprintf("%s %s:%d %s", f.Severity, f.File, f.Line, f.Message))
}
func (l *told) Untrusted(title, text string) {
	l.lines = append(l.lines, "untrusted "+title+"|"+strings.ReplaceAll(text, "\n", "|"))
}

var second0 = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func at(seconds float64) *time.Time {
	t := second0.Add(time.Duration(seconds * float64(time.Second)))
	return &t
}

func vertex(name string, started, completed *time.Time) *buildkit.Vertex {
	return &buildkit.Vertex{Digest: digest.FromString(name), Name: name, Started: started, Completed: completed}
}

func printed(name, text string) *buildkit.VertexLog {
	return &buildkit.VertexLog{Vertex: digest.FromString(name), Data: []byte(text)}
}

// follows gives statuses to a progress and returns what it told.
func follows(t *testing.T, p *blueprint, v *preview, statuses ...*buildkit.SolveStatus) []string {
	t.Helper()
	l := &told{}
	progress := newProgress(l, p, v)
	channel := make(chan *buildkit.SolveStatus, len(statuses))
	for _, s := range statuses {
		channel <- s
	}
	close(channel)
	progress.follow(channel)
	return l.lines
}

func TestProgress(t *testing.T) {
	t.Parallel()
	failed, cached, moved := vertex("[2/2] RUN b", at(1), at(3)), vertex("[1/2] FROM a", at(0), at(0)), vertex("importing cache", at(0), at(1))
	failed.Error = "exit code: 1"
	cached.Cached = true
	moved.Error = "context canceled"
	for name, tc := range map[string]struct {
		statuses []*buildkit.SolveStatus
		want     []string
	}{
		"a line for each, in the order of their ends": {[]*buildkit.SolveStatus{
			{Vertexes: []*buildkit.Vertex{vertex("c", nil, nil), vertex("b", nil, nil), cached, vertex("[internal] x", at(0), at(1))}},
			{Vertexes: []*buildkit.Vertex{vertex("c", at(1), nil), vertex("b", at(1), at(2))}},
			{Vertexes: []*buildkit.Vertex{vertex("c", at(1), at(4.5))}},
		}, []string{"info [1/2] FROM a: cached", "info b: 1.0 s", "info c: 3.5 s"}},
		"once for a step that begins again": {[]*buildkit.SolveStatus{
			{Vertexes: []*buildkit.Vertex{vertex("a", at(0), at(1))}}, {Vertexes: []*buildkit.Vertex{vertex("a", at(2), nil)}},
			{Vertexes: []*buildkit.Vertex{vertex("a", at(2), at(3))}},
		}, []string{"info a: 3.0 s"}},
		"output with its step": {[]*buildkit.SolveStatus{
			{Vertexes: []*buildkit.Vertex{vertex("a", at(0), nil)}, Logs: []*buildkit.VertexLog{printed("a", "one\n::error::tw")}},
			{Logs: []*buildkit.VertexLog{printed("a", "o\nthree")}}, {Vertexes: []*buildkit.Vertex{vertex("a", at(0), at(2))}},
		}, []string{"untrusted a: 2.0 s|one|::error::two|three"}},
		"what failed": {[]*buildkit.SolveStatus{{Vertexes: []*buildkit.Vertex{failed, moved}}},
			[]string{"info importing cache: cancelled", "info [2/2] RUN b: failed: exit code: 1"}},
		"what never ended": {[]*buildkit.SolveStatus{{Vertexes: []*buildkit.Vertex{vertex("a", at(0), nil)}, Logs: []*buildkit.VertexLog{printed("a", "x"), printed("unknown", "y")}}},
			[]string{"untrusted a|x"}},
		"a name of several lines": {[]*buildkit.SolveStatus{{Vertexes: []*buildkit.Vertex{vertex("RUN <<EOF\n::stop\n"+strings.Repeat("x", 200), at(0), at(1))}}},
			[]string{"info RUN <<EOF ::stop " + strings.Repeat("x", 103) + " …: 1.0 s"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if got := follows(t, &blueprint{}, nil, tc.statuses...); !slices.Equal(got, tc.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tc.want, "\n"))
			}
		})
	}
}

func TestProgressGroupsAreOneStep(t *testing.T) {
	t.Parallel()
	one, two := vertex("copy", at(0), at(1)), vertex("merge", at(1), at(2))
	one.ProgressGroup = &pb.ProgressGroup{Id: "g", Name: "COPY --link"}
	two.ProgressGroup = one.ProgressGroup
	if got := follows(t, &blueprint{}, nil, &buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{one, two}}); !slices.Equal(got, []string{"info COPY --link: 2.0 s"}) {
		t.Errorf("got %q", got)
	}
}

func TestProgressFollowsWhatTakesLong(t *testing.T) {
	t.Parallel()
	l := &told{}
	p := newProgress(l, &blueprint{}, nil)
	p.take(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), nil), vertex("b", at(0), nil)},
		Logs: []*buildkit.VertexLog{printed("a", "one\ntw"), printed("b", "other\n")}})
	p.flush(time.Now())
	if len(l.lines) > 0 {
		t.Errorf("at once it told %q", l.lines)
	}
	p.flush(time.Now().Add(2 * flushInterval))
	p.take(&buildkit.SolveStatus{Logs: []*buildkit.VertexLog{printed("a", "o\n"), printed("b", "more\n")}})
	p.flush(time.Now())
	p.take(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("b", at(0), at(9))}})
	p.take(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), at(10))}})
	p.end()
	want := []string{"untrusted a|one|", "untrusted a|two|", "untrusted b: 9.0 s|other|more|", "info a: 10.0 s"}
	if !slices.Equal(l.lines, want) {
		t.Errorf("got %q, want %q", l.lines, want)
	}
}

func TestProgressTellsOfASilentStepOnce(t *testing.T) {
	t.Parallel()
	l := &told{}
	p := newProgress(l, &blueprint{}, nil)
	p.take(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), nil), vertex("[internal] b", at(0), nil)}})
	p.flush(time.Now())
	p.flush(time.Now().Add(2 * flushInterval))
	p.flush(time.Now().Add(3 * flushInterval))
	if !slices.Equal(l.lines, []string{"info a: running"}) {
		t.Errorf("got %q", l.lines)
	}
}

func TestProgressIsBounded(t *testing.T) {
	t.Parallel()
	l := &told{}
	p := newProgress(l, &blueprint{}, nil)
	p.take(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), nil), vertex("b", at(0), nil)}})
	line := strings.Repeat("x", 99) + "\n"
	for range 100 {
		p.take(&buildkit.SolveStatus{Logs: []*buildkit.VertexLog{printed("a", strings.Repeat(line, 1000)), printed("b", strings.Repeat("y", 50_000))}})
	}
	p.take(&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), at(1)), vertex("b", at(0), at(1))}})
	p.end()
	shown := len(strings.Join(l.lines, ""))
	if shown > 2*maxOutput+10_000 || shown < maxOutput {
		t.Errorf("%d bytes were shown", shown)
	}
	if s := p.steps[digest.FromString("b")]; len(s.tail) > 2*stepTailSize || len(s.output) > maxOutput {
		t.Errorf("%d and %d bytes are kept", len(s.tail), len(s.output))
	}
	if !strings.Contains(strings.Join(l.lines, ""), "bytes left out") {
		t.Error("it does not say that something was left out")
	}
}

func TestProgressShowsNoSecret(t *testing.T) {
	t.Parallel()
	p := &blueprint{connector: connector.Connector{Recipe: connector.Recipe{Secrets: map[string][]byte{
		"a": []byte("tok-one\n"), "b": []byte("-----BEGIN KEY-----\nMIIabc/def\n-----END KEY-----\n"), "c": []byte("x"), "d": nil}}}}
	failed := vertex("RUN tok-one", at(0), at(1))
	failed.Error = "MIIabc/def failed"
	got := strings.Join(follows(t, p, nil,
		&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), nil), failed}, Logs: []*buildkit.VertexLog{printed("a", "x tok-o")}},
		&buildkit.SolveStatus{Vertexes: []*buildkit.Vertex{vertex("a", at(0), at(1))}, Logs: []*buildkit.VertexLog{printed("a", "ne y\nMIIabc/def\n")},
			Warnings: []*buildkit.VertexWarning{{Short: []byte("R: tok-one (line 2)"), Range: []*pb.Range{{Start: &pb.Position{Line: 2}}}}}}), "\n")
	for _, secret := range []string{"tok-one", "MIIabc/def"} {
		if strings.Contains(got, secret) {
			t.Errorf("%s is in %s", secret, got)
		}
	}
	if !strings.Contains(got, "x *** y") {
		t.Errorf("got %s", got)
	}
}

func TestWarningsAreToldOnce(t *testing.T) {
	t.Parallel()
	p := &blueprint{file: "c/Dockerfile"}
	v := &preview{findings: []connector.Finding{p.lint("Known", "it is known", nil)}}
	v.findings[0].Line = 2
	at := func(line int32) []*pb.Range { return []*pb.Range{{Start: &pb.Position{Line: line}}} }
	got := follows(t, p, v, &buildkit.SolveStatus{Warnings: []*buildkit.VertexWarning{
		{Short: []byte("Known: it is known (line 2)"), Range: at(2)}, {Short: []byte("New: look (line 3)"), Range: at(3)},
		{Short: []byte("New: look (line 3)"), Range: at(3)}, {Short: []byte("no line")}}})
	if want := []string{"warning c/Dockerfile:3 New: look.", "warning :0 no line."}; !slices.Equal(got, want) {
		t.Errorf("got %q, want %q", got, want)
	}
}
