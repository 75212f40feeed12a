package host

import (
	"fmt"
	"strings"
	"time"
)

// plain is a terminal, or a CI host without a language of its own: text, indented under its titles.
type plain struct {
	colour bool
}

func newPlain(o Options) *plain {
	return &plain{colour: logIsTerminal(o) && colourful(o)}
}

func (p *plain) name() string { return "plain" }

func (p *plain) nests() bool { return true }

func (p *plain) harmless() func(string, bool) string { return harmlessAnywhere }

func (p *plain) mask([]string) string { return "" }

func (p *plain) heading(_ int, title string, _ time.Time) (string, func(time.Time) string) {
	if p.colour {
		title = bold(title)
	}
	return p.lines([]string{title}, 0), nil
}

func (p *plain) group(_ int, title string, depth int, _ time.Time) (string, func(time.Time) string) {
	return p.lines([]string{title}, depth), nil
}

func (p *plain) lines(lines []string, depth int) string {
	return indented(lines, strings.Repeat("  ", depth))
}

// guarded puts a bar before each line, so that a person sees whose words these are.
func (p *plain) guarded(lines []string, depth int) string {
	return indented(lines, strings.Repeat("  ", depth)+"| ")
}

func indented(lines []string, indent string) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(strings.TrimRight(indent+l, " ") + "\n")
	}
	return b.String()
}

func (p *plain) annotation(a Annotation, depth int) string {
	return p.lines(strings.Split(coloured(a.Level, annotationText(a), p.colour), "\n"), depth)
}

// writeOutputs does nothing: there is no later step, and the report shows the values.
func (p *plain) writeOutputs([]Output) ([]string, error) { return nil, nil }

// writeSummary does nothing: a terminal shows no Markdown, and the report is there as text.
func (p *plain) writeSummary(string) ([]string, error) { return nil, nil }

// annotationText is an annotation where there are none: "error: title: message (file:line)".
func annotationText(a Annotation) string {
	text := string(a.Level) + ": "
	if a.Title != "" {
		text += a.Title + ": "
	}
	text += strings.ReplaceAll(a.Message, "\n", "\n  ")
	if a.File != "" {
		text += " (" + place(a) + ")"
	}
	return text
}

func place(a Annotation) string {
	if a.Line > 0 {
		return fmt.Sprintf("%s:%d", a.File, a.Line)
	}
	return a.File
}

func bold(s string) string { return "\x1b[1m" + s + "\x1b[0m" }

// coloured colours the level at the beginning of an annotation's text.
func coloured(level Level, text string, on bool) string {
	if !on {
		return text
	}
	code := map[Level]string{LevelError: "31;1", LevelWarning: "33;1", LevelNotice: "36;1"}[level]
	return "\x1b[" + code + "m" + string(level) + "\x1b[0m" + strings.TrimPrefix(text, string(level))
}
