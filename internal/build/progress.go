package build

import (
	"bytes"
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	buildkit "github.com/moby/buildkit/client"
	"github.com/opencontainers/go-digest"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// What of a step's output is shown, in bytes: a step that runs for long shows what has come every flushInterval or at
// flushSize, and not more than maxOutput in all. Of each step the end is kept for the error that it may lead to.
const (
	flushInterval = time.Second
	flushSize     = 32 << 10
	maxOutput     = 1 << 20
	stepTailSize  = 4 << 10
)

// progress tells the log how a build fares: a line for each step, with the output of those that have some.
//
// Steps run at the same time, and their output would tangle. One that ends quickly is shown when it has; of those that
// take longer, one at a time is followed, and what the others print is shown when they end. BuildKit goes back to some
// steps several times, to look them up in a cache, to fetch, to unpack; such a step has one line, when it rests.
type progress struct {
	log connector.Log
	// secrets takes the values of build secrets out.
	secrets *strings.Replacer
	// file is the Dockerfile's path, for warnings; told are those that were shown already.
	file string
	told map[string]bool

	mu sync.Mutex
	// steps are by vertex; those that the frontend calls one thing are one step. order is that of their beginning.
	steps  map[digest.Digest]*step
	groups map[string]*step
	order  []*step
	// followed is the step whose output is shown while it runs.
	followed *step
}

// step is one step of a build.
type step struct {
	name string
	// begun and ended span all the times that it ran; running counts its vertices that do.
	begun, ended time.Time
	running      map[digest.Digest]bool
	cached       bool
	failure      string
	// due tells that its line is to be printed, told that it was.
	due, told bool
	// noticed is when it began by this machine's clock, announced tells that it was said that it runs.
	noticed   time.Time
	announced bool
	// output is what has not been shown yet, since when; shown and dropped count bytes; tail is the end of all.
	output         []byte
	since          time.Time
	shown, dropped int
	tail           []byte
}

func newProgress(log connector.Log, p *blueprint, v *preview) *progress {
	told := map[string]bool{}
	if v != nil {
		for _, f := range v.findings {
			told[warningKey(f)] = true
		}
	}
	return &progress{log: log, secrets: secretReplacer(p.connector.Recipe.Secrets), file: p.file, told: told,
		steps: map[digest.Digest]*step{}, groups: map[string]*step{}}
}

func warningKey(f connector.Finding) string { return fmt.Sprintf("%d %s", f.Line, f.Message) }

// shortestSecret is how many bytes a secret has at least that is taken out of texts: hiding a shorter one would blank
// ordinary text and protect nothing.
const shortestSecret = 4

// secretReplacer takes secrets out of texts: whole, and each line of them.
func secretReplacer(secrets map[string][]byte) *strings.Replacer {
	values := map[string]bool{}
	for _, secret := range secrets {
		values[strings.TrimSpace(string(secret))] = true
		for line := range strings.Lines(string(secret)) {
			values[strings.TrimSpace(line)] = true
		}
	}
	// The longest first, because the first that fits is replaced.
	all := slices.SortedFunc(maps.Keys(values), func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var pairs []string
	for _, value := range all {
		if len(value) >= shortestSecret {
			pairs = append(pairs, value, "***")
		}
	}
	return strings.NewReplacer(pairs...)
}

// follow tells of what comes from the channel, until it is closed.
func (p *progress) follow(statuses <-chan *buildkit.SolveStatus) {
	ticker := time.NewTicker(flushInterval)
	defer ticker.Stop()
	for {
		select {
		case status, open := <-statuses:
			if !open {
				p.end()
				return
			}
			p.take(status)
		case <-ticker.C:
			p.flush(time.Now())
		}
	}
}

// rest shows the lines of steps that are done so far, so that they stand before what is told next.
func (p *progress) rest() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(func(*step) bool { return true })
}

func (p *progress) take(status *buildkit.SolveStatus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, v := range status.Vertexes {
		p.vertex(v)
	}
	for _, l := range status.Logs {
		p.output(l)
	}
	for _, w := range status.Warnings {
		p.warning(w)
	}
	for _, v := range status.Vertexes {
		s := p.steps[v.Digest]
		if len(s.running) > 0 {
			continue
		}
		if len(s.output) > 0 {
			p.settle(func(other *step) bool { return other.ended.Before(s.ended) })
			p.show(s, s.outcome(), true)
		}
		if p.followed == s {
			p.followed = nil
		}
	}
}

// vertex takes what became of a vertex. That it has completed does not mean that it won't begin again.
func (p *progress) vertex(v *buildkit.Vertex) {
	s := p.steps[v.Digest]
	if g := v.ProgressGroup; s == nil && g != nil {
		s = p.groups[g.GetId()]
	}
	if s == nil {
		s = &step{name: p.secrets.Replace(v.Name), running: map[digest.Digest]bool{}}
		p.order = append(p.order, s)
		if g := v.ProgressGroup; g != nil {
			s.name = p.secrets.Replace(g.GetName())
			p.groups[g.GetId()] = s
		}
	}
	p.steps[v.Digest] = s
	if v.Started != nil && (s.begun.IsZero() || v.Started.Before(s.begun)) {
		s.begun = *v.Started
	}
	if v.Started != nil && s.noticed.IsZero() {
		s.noticed = time.Now()
	}
	if v.Started != nil && v.Completed == nil {
		s.running[v.Digest], s.due = true, false
	}
	if v.Error != "" {
		s.failure = p.secrets.Replace(v.Error)
	}
	if v.Completed == nil {
		return
	}
	delete(s.running, v.Digest)
	if v.Completed.After(s.ended) {
		s.ended = *v.Completed
	}
	// What came out of a cache may begin again, to be fetched.
	s.cached = s.cached || v.Cached
	s.due = !s.told
}

// outcome is how a step ended, for the end of its line.
func (s *step) outcome() string {
	switch {
	case strings.Contains(s.failure, "context canceled"):
		return ": cancelled"
	case s.failure != "":
		return ": failed"
	case s.cached:
		return ": cached"
	case s.begun.IsZero():
		return ": done"
	default:
		return fmt.Sprintf(": %.1f s", s.ended.Sub(s.begun).Seconds())
	}
}

// internal tells that it is none of the Dockerfile's.
func (s *step) internal() bool {
	return strings.HasPrefix(s.name, "[internal]") || strings.HasPrefix(s.name, "[auth]")
}

// settle prints the lines of steps that rest, of those that are wanted, in the order in which they ended.
func (p *progress) settle(wanted func(*step) bool) {
	resting := slices.DeleteFunc(slices.Clone(p.order), func(s *step) bool {
		return !s.due || len(s.running) > 0 || !wanted(s)
	})
	slices.SortStableFunc(resting, func(a, b *step) int { return a.ended.Compare(b.ended) })
	for _, s := range resting {
		s.due, s.told = false, true
		outcome := s.outcome()
		if outcome == ": failed" {
			p.log.Info("%s%s: %s", stepName(s.name), outcome, fault.Bounded(s.failure))
		} else if !s.internal() {
			p.log.Info("%s%s", stepName(s.name), outcome)
		}
	}
}

// output takes what a step printed.
func (p *progress) output(l *buildkit.VertexLog) {
	s := p.steps[l.Vertex]
	if s == nil {
		return
	}
	if len(s.output) == 0 {
		s.since = time.Now()
	}
	s.output = append(s.output, l.Data...)
	s.tail = append(s.tail, l.Data...)
	if extra := len(s.tail) - 2*stepTailSize; extra > 0 {
		s.tail = append(s.tail[:0], afterLine(s.tail[extra:])...)
	}
	if extra := len(s.output) - maxOutput; extra > 0 {
		rest := afterLine(s.output[extra:])
		s.dropped += len(s.output) - len(rest)
		s.output = append(s.output[:0], rest...)
	}
	if len(s.output) >= flushSize && (p.followed == nil || p.followed == s) {
		p.followed = s
		p.show(s, "", false)
	}
}

// afterLine leaves out the rest of a line that was cut, of which a part may be half a secret.
func afterLine(text []byte) []byte { return text[bytes.IndexByte(text, '\n')+1:] }

// flush shows what has come of the step that is followed, or begins to follow the one that has waited longest, and the
// lines of steps that seem to be done.
func (p *progress) flush(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(func(s *step) bool { return now.Sub(s.ended) >= flushInterval })
	if p.followed == nil {
		for _, s := range p.order {
			waits := len(s.output) > 0 && now.Sub(s.since) >= flushInterval
			if waits && (p.followed == nil || s.since.Before(p.followed.since)) {
				p.followed = s
			}
		}
	}
	if p.followed != nil {
		p.show(p.followed, "", false)
	}
	for _, s := range p.order {
		// A step that says nothing for long, such as a download, must not look like nothing at all.
		quiet := len(s.output) == 0 && s.shown == 0 && !s.announced && !s.told && !s.internal()
		if quiet && len(s.running) > 0 && now.Sub(s.noticed) >= flushInterval {
			s.announced = true
			p.log.Info("%s: running", stepName(s.name))
		}
	}
}

// show prints a step's output under its name; not the line that it is in the middle of, unless it is all.
func (p *progress) show(s *step, outcome string, all bool) {
	text := s.output
	if !all {
		text = text[:bytes.LastIndexByte(text, '\n')+1]
	}
	if len(text) == 0 {
		return
	}
	cut := len(text)
	if room := maxOutput - s.shown; cut > room {
		s.dropped += cut - max(room, 0)
		text = afterLine(text[cut-max(room, 0):])
	}
	s.shown += len(text)
	shown := p.secrets.Replace(string(text))
	if s.dropped > 0 {
		shown = fmt.Sprintf("[… %d bytes left out …]\n%s", s.dropped, shown)
		s.dropped = 0
	}
	s.output = s.output[cut:]
	if all {
		s.due, s.told = false, true
	}
	p.log.Untrusted(stepName(s.name)+outcome, shown)
}

// end shows what is left.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.settle(func(*step) bool { return true })
	for _, s := range p.order {
		p.show(s, "", true)
	}
}

// stepName is a step's name on one line.
func stepName(name string) string {
	name = fault.Bounded(name)
	if short := []rune(name); len(short) > 120 {
		name = string(short[:120]) + " …"
	}
	return name
}

// warning shows what a frontend on the engine says of the Dockerfile.
func (p *progress) warning(w *buildkit.VertexWarning) {
	f := connector.Finding{Code: fault.DockerfileLint, Severity: connector.Warning, Message: string(w.Short)}
	if len(w.Range) > 0 {
		f.File, f.Line = p.file, int(w.Range[0].GetStart().GetLine())
		f.Message = strings.TrimSuffix(f.Message, fmt.Sprintf(" (line %d)", f.Line))
	}
	f.Message = fault.Bounded(f.Message) + "."
	p.warn(f)
}

// finding shows what was found in the Dockerfile.
func (p *progress) finding(f connector.Finding) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.warn(f)
}

// warn shows a finding, unless it was shown already.
func (p *progress) warn(f connector.Finding) {
	f.Message = p.secrets.Replace(f.Message)
	if key := warningKey(f); !p.told[key] {
		p.told[key] = true
		p.log.Finding(f)
	}
}

// lastLines are the last lines that a step printed, without secrets; at most n.
func (s *step) lastLines(secrets *strings.Replacer, n int) []string {
	var lines []string
	for line := range strings.Lines(secrets.Replace(string(s.tail))) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, line)
		}
	}
	return lines[max(0, len(lines)-n):]
}

// failed is the step that failed last, which is the one that ended the build: a cache that could not be read fails
// before, and ends nothing. It is nil when there is none.
func (p *progress) failed() *step {
	var last *step
	for _, s := range p.order {
		if s.failure == "" || strings.Contains(s.failure, "context canceled") || strings.HasPrefix(s.name, "importing cache") {
			continue
		}
		if last == nil || s.ended.After(last.ended) {
			last = s
		}
	}
	return last
}
