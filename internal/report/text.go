package report

import (
	"fmt"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

const (
	cellLimit  = 256
	proseLimit = 1000
)

// Text is the report for a person at a terminal: for each connector its image, a line per workspace, and at the end
// the sum. Of what went wrong it has the codes alone: the log tells the rest. Of a run that came to no connector it is
// empty. On a CI host it must be printed by package host, which keeps it from being read as a command.
func (p Report) Text() string {
	if len(p.rows) == 0 {
		return ""
	}
	var b strings.Builder
	for _, rows := range p.connectors() {
		p.connectorText(&b, rows)
		b.WriteString("\n")
	}
	if p.planned {
		b.WriteString("plan: ")
	}
	b.WriteString(p.headline() + "\n")
	return b.String()
}

// connectorText writes about one connector, which has a row for each workspace.
func (p Report) connectorText(b *strings.Builder, rows []row) {
	first := rows[0]
	lines := [][2]string{{"image", first.Image}, {"digest", first.Digest}}
	for _, r := range rows {
		verdict := p.verdict(r)
		if r.Code != "" {
			verdict += " (" + string(r.Code) + ")"
		}
		lines = append(lines, [2]string{verdict, r.registration()})
	}
	width := 0
	for _, l := range lines {
		width = max(width, len(l[0]))
	}
	b.WriteString(visible(first.title(), cellLimit) + "\n")
	for i, l := range lines {
		// The image and its digest are left out where there are none; a verdict speaks for itself.
		if l[1] != "" || i > 1 {
			line := fmt.Sprintf("  %-*s  %s", width, l[0], visible(l[1], proseLimit))
			b.WriteString(strings.TrimRight(line, " ") + "\n")
		}
	}
}

// registration says which definition a row is about, where it is, and what tag it had.
func (r row) registration() string {
	s := r.DefinitionID
	if w := r.workspace(); w != "" {
		s += " in " + w
	}
	switch {
	case r.PreviousTag == "" || r.PreviousTag == r.Tag:
	case r.Action == publish.Updated:
		s += ", was " + r.PreviousTag
	default:
		s += ", at " + r.PreviousTag
	}
	if len(r.Actions) > 0 {
		s += ": " + strings.Join(r.Actions, ", ")
	}
	return strings.TrimLeft(strings.TrimSpace(s), ":, ")
}

// workspace is the workspace as a person knows it.
func (r row) workspace() string {
	if r.WorkspaceName != "" {
		return r.WorkspaceName
	}
	return r.WorkspaceID
}

// sentence says what was being done, to what, and what went wrong.
func (f failure) sentence() string {
	s := f.Operation
	if f.Object != "" {
		s += " " + f.Object
	}
	if f.Cause != "" {
		s += ": " + strings.TrimSuffix(f.Cause, ".")
	}
	return s + "."
}
