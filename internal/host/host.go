// Package host is the CI host that a run happens on, as a few small acts: hide a secret, write a log that parallel
// work can't tangle, point at a problem, hand over outputs and a summary. Only this package knows GitHub from GitLab.
//
// Everything that it writes has gone through the same two gates: secrets are taken out, and text is made harmless, so
// that nothing a connector or a server says can be read as a command by the host or move a terminal's cursor.
//
// It is not for reading inputs (package config does that) nor for deciding what is told (package report does).
package host

import (
	"context"
	"io"
	"os"
	"reflect"
	"time"
)

// Level is how bad an annotation is.
type Level string

// The levels, as GitHub names its workflow commands.
const (
	LevelError   Level = "error"
	LevelWarning Level = "warning"
	LevelNotice  Level = "notice"
)

// Annotation is a message that the host shows where people look first, if it has such a place.
type Annotation struct {
	Level Level
	// Title is a few words, without a line break.
	Title string
	// Message may have several lines.
	Message string
	// File is a path, absolute or relative to the working directory; empty when the message is about no file. Line
	// counts from 1, 0 is unknown.
	File string
	Line int
}

// Output is a value for later steps or jobs.
type Output struct {
	// Name is made of letters, digits, _ and -, and begins with a letter or _.
	Name, Value string
}

// Section is a stretch of the log, such as all that one connector has to say. Its methods may be called from several
// goroutines at once.
type Section interface {
	// Group puts what follows under a title until end is called. Calling end again does nothing.
	Group(title string) (end func())
	// Info prints one or more lines of our own, which may quote others.
	Info(format string, args ...any)
	// Annotate shows a message where people look first: on GitHub as an annotation, elsewhere as a marked line.
	Annotate(a Annotation)
	// Untrusted prints text that another party wrote, at most 64 KiB of it, so that nothing reads a command in it.
	Untrusted(title, text string)
	// Progress tells how far a long transfer has come: on a terminal as a bar, elsewhere as a rare line. Both numbers
	// are bytes; a total below 1 is unknown. set and end may be called from any goroutine.
	Progress(title string, total int64) (set func(done int64), end func())
	// Close ends the section and the groups still open in it, and prints it if it was held back.
	Close() error
}

// SectionOption is a choice for one section.
type SectionOption func(*section)

// Buffered holds a section's lines back until it is closed, so that sections written at the same time come out one
// after the other. At most 4 MiB are held; a note tells how much was left out. Annotations are never left out.
func Buffered(on bool) SectionOption { return func(s *section) { s.buffered = on } }

// Host is where a run happens. Its methods may be called from several goroutines at once.
type Host interface {
	// Name is "github", "gitlab" or "plain".
	Name() string
	// Mask hides secrets from now on, in every form that they are likely to be printed in (base64, URL, JSON): by the
	// host's own masking where it has one, and on every host in all that this package writes. A value of six
	// characters or more is hidden wherever it stands, one of three to five only where it stands as a word, and a
	// shorter one never: hiding it would blank ordinary text and protect nothing.
	Mask(secrets ...string)
	// Redact returns s with all masked secrets replaced by three asterisks.
	Redact(s string) string
	// Redacting returns a writer for what is printed beside the log, such as the report. It passes on to w what is
	// written to it without the masked secrets, even those that are split over two writes, and so that no CI
	// host's agent reads a command in it. It works line by line; Close passes on an unfinished last line and leaves w open.
	Redacting(w io.Writer) io.WriteCloser
	// Section begins a stretch of the log. An empty title gives one without heading, for the run itself.
	Section(title string, options ...SectionOption) Section
	// IDToken returns the job's OIDC token for an audience, masked already. Its error is a *fault.Error, also on hosts
	// that give none when asked.
	IDToken(ctx context.Context, audience string) (string, error)
	// WriteOutputs hands values to later steps or jobs, as the host does that. Its errors are *fault.Error.
	WriteOutputs(outputs []Output) error
	// WriteSummary hands over a Markdown summary, as the host does that. Its errors are *fault.Error.
	WriteSummary(markdown string) error
	// Close closes the sections that are still open. Its error is the first that writing the log met.
	Close() error
}

// Options are what a host needs of the world around it.
type Options struct {
	Getenv         func(string) string
	Stdout, Stderr io.Writer
	// StdoutIsTerminal and StderrIsTerminal tell whether a person watches. Only the plain host asks.
	StdoutIsTerminal, StderrIsTerminal bool
	// Log is where the log goes: standard output on GitHub and GitLab and standard error elsewhere, unless it is set,
	// for instance because standard output is to be read by a machine. GitHub's runner takes commands from both.
	Log io.Writer
	// Dir is the working directory; the process's own when it is empty.
	Dir string
	// Now is the clock; time.Now when it is nil.
	Now func() time.Time
}

// Detect finds out which host the run happens on: GITHUB_ACTIONS=true is GitHub (or one that speaks its language, such
// as Forgejo), GITLAB_CI=true is GitLab, and everything else is plain.
func Detect(o Options) Host {
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Dir == "" {
		// Where the working directory can't be told, paths stay as they were given.
		o.Dir, _ = os.Getwd()
	}
	switch {
	case o.Getenv("GITHUB_ACTIONS") == "true":
		return newLogger(o, newGitHub(o), o.Stdout, false)
	case o.Getenv("GITLAB_CI") == "true":
		return newLogger(o, newGitLab(o), o.Stdout, false)
	default:
		return newLogger(o, newPlain(o), o.Stderr, o.StderrIsTerminal && !dumb(o))
	}
}

// dumb tells whether the terminal takes no escape sequences.
func dumb(o Options) bool { return o.Getenv("TERM") == "dumb" }

// colourful tells whether the log may be coloured on something that shows colours (https://no-color.org).
func colourful(o Options) bool { return o.Getenv("NO_COLOR") == "" && !dumb(o) }

// logIsTerminal tells whether a person watches the log.
func logIsTerminal(o Options) bool {
	switch {
	case o.Log == nil || same(o.Log, o.Stderr):
		return o.StderrIsTerminal
	case same(o.Log, o.Stdout):
		return o.StdoutIsTerminal
	}
	return false
}

// same compares writers, of which some have types that can't be compared.
func same(a, b io.Writer) bool {
	return a != nil && b != nil && reflect.ValueOf(a).Comparable() && reflect.ValueOf(b).Comparable() && a == b
}
