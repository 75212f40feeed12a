package report

import (
	"bytes"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

// entry is a connector that has something to do, for a job of its own.
type entry struct {
	Connector string `json:"connector"`
	Name      string `json:"name"`
	Type      string `json:"type"`
	Image     string `json:"image"`
	Tag       string `json:"tag"`
}

// Matrix is a matrix for GitHub's strategy on one line: an entry for each connector of a plan that would push something
// or write to Airbyte. Connectors of which the plan failed are left out; the run's exit code tells of them. It is
// {"include":[]} when there is nothing to do, which GitHub takes for no strategy: a job has to be skipped then.
func (p Report) Matrix() string {
	include := []entry{}
	for _, rows := range p.connectors() {
		first := rows[0]
		if len(failuresOf(rows)) == 0 && busy(rows) {
			include = append(include, entry{first.Connector, first.Name, first.Type, first.Image, first.Tag})
		}
	}
	line := encode(struct {
		Include []entry `json:"include"`
	}{include}, "")
	return string(bytes.ReplaceAll(line, []byte("$"), []byte(`\u0024`)))
}

// busy tells whether the rows of a connector have anything to do.
func busy(rows []row) bool {
	for _, r := range rows {
		if r.Pushed || r.Action == publish.Created || r.Action == publish.Updated {
			return true
		}
	}
	return false
}

// outputMatrix is the output of that name, which only a plan has.
func (p Report) outputMatrix() string {
	if !p.planned {
		return ""
	}
	return p.Matrix()
}

// commentLimit is below the 65536 characters that a comment on GitHub may have; a note on what was cut fits in as well.
// One variable of a process's environment may have twice as many bytes, so that a step can take it from there.
const commentLimit = 65_000

// Comment is the summary, cut at the end of a line to what a comment on GitHub can hold.
func (p Report) Comment() string {
	text := p.Markdown()
	if len(text) <= commentLimit {
		return text
	}
	return text[:strings.LastIndexByte(text[:commentLimit], '\n')+1] +
		"\n_The rest was left out: a comment can't hold more. The job's summary has all of it._\n"
}
