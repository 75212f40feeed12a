package host

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// dialect is how one host wants to be written to. It gets text without secrets and control characters, and gives back
// whole lines, or nothing.
type dialect interface {
	name() string
	// nests tells whether a group may stand in a group.
	nests() bool
	// heading begins a section. closing is nil when nothing ends it.
	heading(id int, title string, at time.Time) (opening string, closing func(at time.Time) string)
	// group begins a group that lies depth titles deep. closing is nil when nothing ends it.
	group(id int, title string, depth int, at time.Time) (opening string, closing func(at time.Time) string)
	// lines are our own lines, guarded those that another party wrote.
	lines(lines []string, depth int) string
	guarded(lines []string, depth int) string
	annotation(a Annotation, depth int) string
	// harmless returns what keeps text of many lines from being read as commands.
	harmless() func(text string, atStart bool) string
	// mask makes the host hide texts; "" when it can't.
	mask(forms []string) string
	// writeOutputs and writeSummary return lines for the log where the host has no better place, or to say what was
	// left out.
	writeOutputs(outputs []Output) (notes []string, err error)
	writeSummary(markdown string) (notes []string, err error)
	// idToken gets the job's OIDC token for an audience.
	idToken(ctx context.Context, audience string) (string, error)
}

// logger is a Host: what all hosts have in common, around a dialect.
type logger struct {
	dialect
	redactor redactor
	now      func() time.Time

	// mu guards everything below, in sections too: whole lines are written at a time, and one after the other.
	mu       sync.Mutex
	w        io.Writer
	err      error
	lastID   int
	stream   stream
	sections []*section
	bars     barStack
}

// stream is where lines go one after the other. On hosts that don't nest groups, at most one is open in it.
type stream struct{ open *group }

// group is a title with what follows under it. Its closing is nil when nothing ends it.
type group struct{ closing func(time.Time) string }

func newLogger(o Options, d dialect, w io.Writer, withBars bool) *logger {
	if o.Log != nil {
		w = o.Log
	}
	l := &logger{dialect: d, now: o.Now, w: w}
	if withBars {
		l.bars.w = o.Stderr
	}
	return l
}

// Name implements Host.
func (l *logger) Name() string { return l.name() }

// Mask implements Host.
func (l *logger) Mask(secrets ...string) {
	for _, s := range secrets {
		if forms := l.redactor.add(s); len(forms) > 0 {
			l.mu.Lock()
			l.emit(l.mask(forms))
			l.mu.Unlock()
		}
	}
}

// Redact implements Host.
func (l *logger) Redact(s string) string { return l.redactor.redact(s) }

// Redacting implements Host.
func (l *logger) Redacting(w io.Writer) io.WriteCloser {
	return &redactingWriter{r: &l.redactor, w: w, harmless: l.harmless()}
}

// WriteOutputs implements Host.
func (l *logger) WriteOutputs(outputs []Output) error {
	clean := make([]Output, len(outputs))
	for i, o := range outputs {
		if !outputName.MatchString(o.Name) {
			return &fault.Error{Code: fault.OutputsFailed, Op: "write the output", Object: fmt.Sprintf("%q", fault.Bounded(o.Name)),
				Cause: "its name is not made of letters, digits, _ and -"}
		}
		clean[i] = Output{Name: o.Name, Value: strings.ToValidUTF8(l.Redact(o.Value), "\uFFFD")}
	}
	notes, err := l.writeOutputs(clean)
	l.note(notes)
	return err
}

// WriteSummary implements Host.
func (l *logger) WriteSummary(markdown string) error {
	notes, err := l.writeSummary(strings.ToValidUTF8(l.Redact(markdown), "\uFFFD"))
	l.note(notes)
	return err
}

func (l *logger) note(notes []string) {
	if len(notes) == 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.emit(l.lines(l.clean(strings.Join(notes, "\n")), 0))
}

// Close implements Host.
func (l *logger) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.sections) > 0 {
		l.sections[0].close()
	}
	l.bars.clear(l)
	return l.err
}

// clean makes text fit to be printed: without secrets, control characters and commands for a CI host's agent, in lines. Secrets are taken out on
// both sides of it, because a colour may stand in the middle of one.
func (l *logger) clean(text string) []string {
	lines := cleanLines(l.Redact(text))
	for i, line := range lines {
		lines[i] = breakCommands(l.Redact(line))
	}
	return lines
}

// titleLimit is how many bytes of a title are shown.
const titleLimit = 200

func (l *logger) cleanTitle(title string) string {
	return shorten(strings.Join(l.clean(title), " "), titleLimit)
}

// emit writes text, which is whole lines, at once. It is called with mu held. Only the first error is kept: a log that
// can't be written must not stop a publish halfway.
func (l *logger) emit(text string) {
	if text == "" {
		return
	}
	l.bars.clear(l)
	l.write(l.w, text)
	l.bars.draw(l)
}

func (l *logger) write(w io.Writer, text string) {
	if _, err := io.WriteString(w, text); err != nil && l.err == nil {
		l.err = err
	}
}

func (l *logger) nextID() int {
	l.lastID++
	return l.lastID
}

// Section implements Host.
func (l *logger) Section(title string, options ...SectionOption) Section {
	s := &section{l: l}
	for _, o := range options {
		o(s)
	}
	title = l.cleanTitle(title)
	l.mu.Lock()
	defer l.mu.Unlock()
	s.stream = &l.stream
	if s.buffered {
		s.stream = &stream{}
	}
	l.sections = append(l.sections, s)
	if title != "" {
		opening, closing := l.heading(l.nextID(), title, l.now())
		s.open = append(s.open, &group{closing})
		s.keep(opening)
	}
	return s
}

// bufferLimit is how many bytes a section holds back.
const bufferLimit = 4 << 20

// section is a Section.
type section struct {
	l        *logger
	buffered bool
	stream   *stream
	held     bytes.Buffer
	leftOut  int
	// open are the titles that what comes next stands under, outermost first.
	open   []*group
	closed bool
}

// keep writes text that the section can't do without; put writes text that a full section leaves out.
func (s *section) keep(text string) {
	if s.buffered {
		s.held.WriteString(text)
		return
	}
	s.l.emit(text)
}

func (s *section) put(text string) {
	if s.buffered && s.held.Len()+len(text) > bufferLimit {
		s.leftOut += len(text)
		return
	}
	s.keep(text)
}

// Group implements Section.
func (s *section) Group(title string) (end func()) {
	title = s.l.cleanTitle(title)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	g := s.begin(title)
	return func() {
		s.l.mu.Lock()
		defer s.l.mu.Unlock()
		if i := slices.Index(s.open, g); i >= 0 {
			s.endFrom(i)
		}
	}
}

// begin opens a group, or where a host doesn't nest groups and one is open already, prints its title.
func (s *section) begin(title string) *group {
	g := &group{}
	depth := len(s.open)
	s.open = append(s.open, g)
	if !s.l.nests() && s.stream.open != nil {
		s.keep(s.l.lines([]string{title}, depth))
		return g
	}
	var opening string
	opening, g.closing = s.l.group(s.l.nextID(), title, depth, s.l.now())
	s.stream.open = g
	s.keep(opening)
	return g
}

// endFrom ends the open groups from the i-th on, innermost first.
func (s *section) endFrom(i int) {
	for j := len(s.open) - 1; j >= i; j-- {
		g := s.open[j]
		if g.closing != nil && (s.l.nests() || s.stream.open == g) {
			s.keep(g.closing(s.l.now()))
		}
		if s.stream.open == g {
			s.stream.open = nil
		}
	}
	s.open = s.open[:i]
}

// Info implements Section.
func (s *section) Info(format string, args ...any) {
	lines := s.l.clean(fmt.Sprintf(format, args...))
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.put(s.l.lines(lines, len(s.open)))
}

// messageLimit is how many bytes of an annotation's message are shown.
const messageLimit = 4096

// Annotate implements Section.
func (s *section) Annotate(a Annotation) {
	if a.Level != LevelError && a.Level != LevelWarning {
		a.Level = LevelNotice
	}
	a.Title = s.l.cleanTitle(a.Title)
	a.Message = shorten(strings.Join(s.l.clean(a.Message), "\n"), messageLimit)
	a.File = strings.Join(s.l.clean(a.File), " ")
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.keep(s.l.annotation(a, len(s.open)))
}

// Untrusted implements Section.
func (s *section) Untrusted(title, text string) {
	if strings.TrimSpace(text) == "" {
		return
	}
	lines := cutMiddle(s.l.clean(text), untrustedLimit)
	title = s.l.cleanTitle(title)
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	depth := len(s.open)
	if !s.l.nests() && s.stream.open != nil {
		s.put(s.l.lines([]string{title}, depth) + s.l.guarded(lines, depth+1))
		return
	}
	opening, closing := s.l.group(s.l.nextID(), title, depth, s.l.now())
	block := opening + s.l.guarded(lines, depth+1)
	if closing != nil {
		block += closing(s.l.now())
	}
	s.put(block)
}

// Close implements Section.
func (s *section) Close() error {
	s.l.mu.Lock()
	defer s.l.mu.Unlock()
	s.close()
	return s.l.err
}

func (s *section) close() {
	if s.closed {
		return
	}
	s.closed = true
	s.l.sections = slices.DeleteFunc(s.l.sections, func(o *section) bool { return o == s })
	if s.leftOut > 0 {
		s.keep(s.l.lines([]string{fmt.Sprintf("[… %d bytes of this log left out …]", s.leftOut)}, len(s.open)))
	}
	s.endFrom(0)
	if !s.buffered {
		return
	}
	text := s.held.String()
	if g := s.l.stream.open; g != nil && !s.l.nests() && g.closing != nil {
		text = g.closing(s.l.now()) + text
		s.l.stream.open = nil
	}
	s.l.emit(text)
	// Whatever is still said in it goes straight to the log.
	s.held, s.buffered, s.stream = bytes.Buffer{}, false, &s.l.stream
}
