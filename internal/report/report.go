// Package report tells what a run did: as outputs for later steps, as a Markdown summary, as JSON for a machine and as
// lines for a person. It writes nothing itself: package host knows where each of them goes.
package report

import (
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

// Report is a run's result, ready to be told.
type Report struct {
	planned, linted bool
	engines         []string
	rows            []row
	// failures are all that went wrong, each once; others are those of them that belong to no row.
	failures, others []failure
}

// row is a publish.Row in the words of the outputs. Its JSON names are the outputs' names; they are a promise.
type row struct {
	Connector     string              `json:"connector"`
	Type          string              `json:"type"`
	Name          string              `json:"name"`
	Image         string              `json:"image"`
	Digest        string              `json:"digest"`
	ImageRef      string              `json:"image-ref"`
	Tag           string              `json:"tag"`
	Pushed        bool                `json:"pushed"`
	WorkspaceID   string              `json:"workspace-id"`
	WorkspaceName string              `json:"workspace-name"`
	DefinitionID  string              `json:"definition-id"`
	Action        publish.Action      `json:"action"`
	PreviousTag   string              `json:"previous-tag"`
	Planned       bool                `json:"planned"`
	Actions       []string            `json:"actions"`
	Findings      []connector.Finding `json:"findings"`
	Code          fault.Code          `json:"code"`
	Error         string              `json:"error"`
	failures      []failure
}

// title is what a person calls the connector: its folder, or the image's name where that is the working directory.
func (r row) title() string {
	if r.Connector != "." || r.Image == "" {
		return r.Connector
	}
	name, _, _ := strings.Cut(r.Image[strings.LastIndexByte(r.Image, '/')+1:], ":")
	return name
}

// failure is a fault in the words of the JSON document.
type failure struct {
	Code      fault.Code `json:"code"`
	Operation string     `json:"operation"`
	Object    string     `json:"object"`
	Cause     string     `json:"cause"`
	Remedy    string     `json:"remedy"`
	Page      string     `json:"page"`
}

// New makes a report of a result. err is what the run failed with, if it did; it may hold the errors of the rows as
// well as others, such as wrong inputs that let no row come to be. All text goes through redact, which takes secrets
// out, before it is escaped for Markdown or JSON, where a secret would not be recognised any more.
func New(result publish.Result, err error, redact func(string) string) Report {
	p := Report{planned: result.Planned, linted: result.Linted, rows: []row{}, failures: []failure{}}
	inRows := map[*fault.Error]bool{}
	shown := map[*fault.Error]bool{}
	for _, e := range result.Engines {
		p.engines = append(p.engines, redact(e))
	}
	for _, r := range result.Rows {
		v := view(r, result.Planned, redact)
		for _, f := range fault.List(r.Err) {
			inRows[f] = true
			v.failures = append(v.failures, explain(f, redact))
			if !shown[f] {
				shown[f] = true
				p.failures = append(p.failures, explain(f, redact))
			}
		}
		if len(v.failures) > 0 {
			v.Code = v.failures[0].Code
			v.Error = redact(strings.Join(texts(fault.List(r.Err)), "; "))
		}
		p.rows = append(p.rows, v)
	}
	for _, f := range fault.List(err) {
		if !inRows[f] && !shown[f] && !p.told(explain(f, redact)) {
			shown[f] = true
			p.failures = append(p.failures, explain(f, redact))
			p.others = append(p.others, explain(f, redact))
		}
	}
	return p
}

// told tells whether a failure is among the rows' already: an error that is no fault becomes a new one each time that
// it is listed.
func (p Report) told(f failure) bool {
	return f.Code == fault.Internal && slices.Contains(p.failures, f)
}

func texts(faults []*fault.Error) []string {
	var all []string
	for _, f := range faults {
		all = append(all, f.Error())
	}
	return all
}

func view(r publish.Row, planned bool, redact func(string) string) row {
	v := row{
		Connector: redact(r.Connector), Type: string(r.Type), Name: redact(r.Name),
		Image: redact(r.Image), Digest: r.Digest, Tag: redact(r.Tag), Pushed: r.Pushed,
		WorkspaceID: redact(r.WorkspaceID), WorkspaceName: redact(r.WorkspaceName), DefinitionID: redact(r.DefinitionID),
		Action: r.Action, PreviousTag: redact(r.PreviousTag), Planned: planned,
		Actions: []string{}, Findings: []connector.Finding{},
	}
	if v.Action == "" {
		v.Action = publish.None
	}
	if r.Repository != "" && r.Digest != "" {
		v.ImageRef = redact(r.Repository + "@" + r.Digest)
	}
	for _, a := range r.Actions {
		v.Actions = append(v.Actions, redact(a))
	}
	for _, f := range r.Findings {
		f.Message, f.Remedy, f.File = redact(f.Message), redact(f.Remedy), redact(f.File)
		v.Findings = append(v.Findings, f)
	}
	return v
}

func explain(f *fault.Error, redact func(string) string) failure {
	return failure{Code: f.Code, Operation: redact(f.Op), Object: redact(f.Object), Cause: redact(f.Cause),
		Remedy: redact(f.Remedy), Page: f.Code.Page()}
}

// OK tells whether nothing failed.
func (p Report) OK() bool { return len(p.failures) == 0 }

// verdict is a row's outcome in a word or two: its action, "failed", or for a plan what would come.
func (p Report) verdict(r row) string {
	switch {
	case len(r.failures) > 0:
		return "failed"
	case p.linted:
		return "fit for Airbyte"
	case r.Action == publish.None:
		return "not registered"
	case p.planned && r.Action == publish.Unchanged:
		return "would stay unchanged"
	case p.planned:
		return "would be " + string(r.Action)
	}
	return string(r.Action)
}

// connectors are the rows, those of one connector together. A connector has a row for each workspace, one after the
// other.
func (p Report) connectors() [][]row {
	var all [][]row
	for i, r := range p.rows {
		if i > 0 && r.Connector == p.rows[i-1].Connector && r.Image == p.rows[i-1].Image {
			all[len(all)-1] = append(all[len(all)-1], r)
			continue
		}
		all = append(all, []row{r})
	}
	return all
}

// failuresOf are the failures of some rows, each once.
func failuresOf(rows []row) []failure {
	var all []failure
	for _, r := range rows {
		for _, f := range r.failures {
			if !slices.Contains(all, f) {
				all = append(all, f)
			}
		}
	}
	return all
}

// headline counts the verdicts, in the order in which they first come, failures last: "2 created, 1 failed".
func (p Report) headline() string {
	var order []string
	count := map[string]int{}
	for _, r := range p.rows {
		v := p.verdict(r)
		if count[v]++; count[v] == 1 && v != "failed" {
			order = append(order, v)
		}
	}
	if count["failed"] > 0 {
		order = append(order, "failed")
	}
	if len(order) == 0 {
		if len(p.failures) > 0 {
			return "failed"
		}
		return "nothing to do"
	}
	for i, v := range order {
		order[i] = strconv.Itoa(count[v]) + " " + v
	}
	if len(p.others) > 0 {
		order = append(order, "the run failed")
	}
	return strings.Join(order, ", ")
}

// visible turns what can't be seen, or moves what can, into spaces, makes one line of s, and bounds it to limit bytes.
func visible(s string, limit int) string {
	s = strings.Map(func(r rune) rune {
		if unicode.IsControl(r) || unicode.IsSpace(r) || unicode.Is(unicode.Bidi_Control, r) {
			return ' '
		}
		return r
	}, strings.ToValidUTF8(s, "\uFFFD"))
	s = strings.Join(strings.Fields(s), " ")
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit], "") + "…"
}
