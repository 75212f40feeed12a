package report

import (
	"fmt"
	"strings"
	"text/tabwriter"
)

const (
	// shortDigest is how much of a digest a person needs to recognise it: "sha256:" and twelve digits.
	shortDigest = 19
	cellLimit   = 256
	proseLimit  = 1000
)

// Text is the report for a person at a terminal: a line per row, what went wrong and what to do about it, and the
// sum. On a CI host it must be printed by package host, which keeps it from being read as a command.
func (p Report) Text() string {
	var b strings.Builder
	p.textTable(&b)
	for _, r := range p.rows {
		for _, f := range r.failures {
			b.WriteString("\n" + visible(r.where(), cellLimit) + ": " + f.text())
		}
	}
	for _, f := range p.others {
		b.WriteString("\n" + f.text())
	}
	if b.Len() > 0 {
		b.WriteString("\n")
	}
	if p.planned {
		b.WriteString("plan: ")
	}
	b.WriteString(p.headline() + "\n")
	return b.String()
}

func (p Report) textTable(b *strings.Builder) {
	if len(p.rows) == 0 {
		return
	}
	t := tabwriter.NewWriter(b, 0, 0, 2, ' ', 0)
	fmt.Fprintln(t, "CONNECTOR\tRESULT\tIMAGE\tDIGEST\tWAS\tWORKSPACE\tDEFINITION")
	for _, r := range p.rows {
		cells := []string{r.Connector, p.verdict(r), r.Image, r.Digest[:min(len(r.Digest), shortDigest)], r.PreviousTag, r.workspace(), r.DefinitionID}
		for i, c := range cells {
			if cells[i] = visible(c, cellLimit); c == "" {
				cells[i] = "-"
			}
		}
		fmt.Fprintln(t, strings.Join(cells, "\t"))
	}
	// A strings.Builder takes everything.
	_ = t.Flush()
}

// workspace is the workspace as a person knows it.
func (r row) workspace() string {
	if r.WorkspaceName != "" {
		return r.WorkspaceName
	}
	return r.WorkspaceID
}

// where names the row.
func (r row) where() string {
	if w := r.workspace(); w != "" {
		return r.Connector + " in " + w
	}
	return r.Connector
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

func (f failure) text() string {
	s := string(f.Code) + ": " + visible(f.sentence(), proseLimit) + "\n"
	if f.Remedy != "" {
		s += "  " + visible(f.Remedy, proseLimit) + "\n"
	}
	return s + "  " + f.Page + "\n"
}
