package report

import (
	"fmt"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

// Markdown is the report as a job's summary, in the Markdown that GitHub and GitLab have in common: for each
// connector what it is and where it went, a table of its workspaces, its findings, and what went wrong. No line
// depends on one after it, so that the summary can be cut behind any.
func (p Report) Markdown() string {
	var b strings.Builder
	title := "Airbyte connectors"
	if p.planned {
		title += " (plan)"
	}
	fmt.Fprintf(&b, "## %s: %s\n", title, p.headline())
	for _, rows := range p.connectors() {
		p.connectorMarkdown(&b, rows)
	}
	if len(p.engines) > 0 {
		fmt.Fprintf(&b, "\nBuilt by %s.\n", escape(strings.Join(p.engines, ", "), proseLimit))
	}
	if len(p.others) > 0 {
		b.WriteString("\n### ❌ The run\n")
		failuresMarkdown(&b, p.others)
	}
	return b.String()
}

// connectorMarkdown writes about one connector, which has a row for each workspace.
func (p Report) connectorMarkdown(b *strings.Builder, rows []row) {
	first := rows[0]
	failed := failuresOf(rows)
	mark := "✅ "
	switch {
	case len(failed) > 0:
		mark = "❌ "
	case p.planned:
		mark = ""
	}
	fmt.Fprintf(b, "\n### %s%s\n\n", mark, code(first.title()))
	b.WriteString("| | |\n|---|---|\n")
	what := first.Type
	if first.Name != "" {
		what += " **" + escape(first.Name, cellLimit) + "**"
	}
	line := func(name, value string) {
		if value != "" {
			fmt.Fprintf(b, "| %s | %s |\n", name, value)
		}
	}
	line("Connector", what)
	line("Image", code(first.Image))
	line("Digest", code(first.Digest))
	done := "Done"
	if p.planned {
		done = "To do"
	}
	fmt.Fprintf(b, "\n| Workspace | Definition | Tag | Result | %s |\n|---|---|---|---|---|\n", done)
	for _, r := range rows {
		fmt.Fprintf(b, "| %s | %s | %s | %s | %s |\n",
			r.workspaceMarkdown(), dash(code(r.DefinitionID)), r.tagMarkdown(), p.verdict(r),
			dash(escape(strings.Join(r.Actions, ", "), proseLimit)))
	}
	findingsMarkdown(b, rows)
	failuresMarkdown(b, failed)
}

func (r row) workspaceMarkdown() string {
	switch {
	case r.WorkspaceName != "" && r.WorkspaceID != "":
		return escape(r.WorkspaceName, cellLimit) + " " + code(r.WorkspaceID)
	default:
		return dash(code(r.workspace()))
	}
}

// tagMarkdown is the definition's tag before and after.
func (r row) tagMarkdown() string {
	switch {
	case r.PreviousTag == "" || r.PreviousTag == r.Tag:
		return dash(code(r.Tag))
	case r.Action == publish.None:
		return code(r.PreviousTag)
	default:
		return code(r.PreviousTag) + " → " + code(r.Tag)
	}
}

// findingsMarkdown writes the findings of the rows. They are of the connector, so most stand in each of its rows.
func findingsMarkdown(b *strings.Builder, rows []row) {
	seen := map[connector.Finding]bool{}
	for _, r := range rows {
		for _, f := range r.Findings {
			if seen[f] {
				continue
			}
			if len(seen) == 0 {
				b.WriteString("\n| Finding | | |\n|---|---|---|\n")
			}
			seen[f] = true
			text := escape(f.Message, proseLimit)
			if f.Remedy != "" {
				text += " " + escape(f.Remedy, proseLimit)
			}
			if f.File != "" {
				file := f.File
				if f.Line > 0 {
					file = fmt.Sprintf("%s:%d", f.File, f.Line)
				}
				text += " (" + code(file) + ")"
			}
			fmt.Fprintf(b, "| %s | [%s](%s) | %s |\n", f.Severity, f.Code, f.Code.Page(), text)
		}
	}
}

func failuresMarkdown(b *strings.Builder, failures []failure) {
	if len(failures) == 0 {
		return
	}
	b.WriteString("\n| Failed | What happened | What to do |\n|---|---|---|\n")
	for _, f := range failures {
		fmt.Fprintf(b, "| [%s](%s) | %s | %s |\n",
			f.Code, f.Page, escape(f.sentence(), proseLimit), dash(escape(f.Remedy, proseLimit)))
	}
}

func dash(s string) string {
	if s == "" {
		return "–"
	}
	return s
}

// markdownEscapes keep text from being Markdown, HTML or the end of a table's cell. A reference to a character is never
// structure in CommonMark, and a pipe written so never ends a cell. A zero-width space behind @ and # keeps names from
// being mentions and numbers from being issues.
var markdownEscapes = strings.NewReplacer(
	"&", "&amp;", "<", "&lt;", ">", "&gt;", "|", "&#124;", "$", "&#36;",
	`\`, `\\`, "`", "\\`", "*", `\*`, "_", `\_`, "[", `\[`, "]", `\]`, "~", `\~`, "!", `\!`,
	"@", "@&#8203;", "#", "#&#8203;",
)

// escape makes text fit for a table's cell, within limit bytes before escaping.
func escape(s string, limit int) string { return markdownEscapes.Replace(visible(s, limit)) }

// code is s as code, in which nothing is Markdown. What would end it is escaped as text instead.
func code(s string) string {
	s = visible(s, cellLimit)
	if s == "" || strings.ContainsAny(s, "`|\\") {
		return markdownEscapes.Replace(s)
	}
	return "`" + s + "`"
}
