package report

import (
	"bytes"
	"encoding/json"
	"fmt"
	"regexp"
	"strconv"

	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

// Output is a value for later steps or jobs.
type Output struct{ Name, Value string }

// Outputs are the values for later steps or jobs, whether the run failed or not. They describe the first row, and
// "results" all of them, as a line of JSON. For a plan, "pushed" is false and "action" is none, because that is what
// was done; what would be done is in "results".
func (p Report) Outputs() []Output {
	first := row{Action: publish.None}
	if len(p.rows) > 0 {
		first = p.rows[0]
	}
	if p.planned {
		first.Pushed, first.Action = false, publish.None
	}
	return []Output{
		{"image", first.Image},
		{"digest", first.Digest},
		{"image-ref", first.ImageRef},
		{"tag", first.Tag},
		{"pushed", strconv.FormatBool(first.Pushed)},
		{"definition-id", first.DefinitionID},
		{"action", string(first.Action)},
		{"previous-tag", first.PreviousTag},
		{"workspace-id", first.WorkspaceID},
		{"matrix", p.outputMatrix()},
		{"results", string(p.results())},
	}
}

// results is the rows as JSON on one line. A dollar sign is spelled as an escape: GitLab expands variables in the
// values of variables, and a connector's message is no place to name one.
func (p Report) results() []byte {
	return bytes.ReplaceAll(encode(p.rows, ""), []byte("$"), []byte(`\u0024`))
}

// JSON is the report as a document for a machine, which ends with a line break.
func (p Report) JSON() []byte {
	return append(encode(struct {
		OK      bool      `json:"ok"`
		Planned bool      `json:"planned"`
		Rows    []row     `json:"rows"`
		Errors  []failure `json:"errors"`
	}{p.OK(), p.planned, p.rows, p.failures}, "  "), '\n')
}

// harmful is what must not be printed as it is, although JSON allows it: characters that a terminal obeys, and the
// older mark of a workflow command, which GitHub's runner obeys anywhere in a line. In JSON's text they only stand
// within strings, never behind an odd backslash.
var harmful = regexp.MustCompile("##\\[|[\u007f-\u009f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]")

// encode is JSON without the escapes for HTML, in which it is not embedded.
func encode(v any, indent string) []byte {
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", indent)
	if err := e.Encode(v); err != nil {
		// Strings, booleans and numbers always encode.
		panic(err)
	}
	return harmful.ReplaceAllFunc(bytes.TrimRight(b.Bytes(), "\n"), func(m []byte) []byte {
		if m[0] == '#' {
			return []byte(`##\u005b`)
		}
		return fmt.Appendf(nil, `\u%04x`, bytes.Runes(m)[0])
	})
}
