package report

import (
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

var update = flag.Bool("update", false, "write the golden files anew")

func asIs(s string) string { return s }

const digest = "sha256:9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"

func hello() publish.Row {
	return publish.Row{
		Connector: "connectors/source-hello", Type: connector.Source, Name: "Hello", Image: "ghcr.io/acme/source-hello:1.1.0",
		Repository: "ghcr.io/acme/source-hello", Tag: "1.1.0", Digest: digest, Pushed: true,
		WorkspaceID: "5ae6b09b-fdec-41af-aaf7-7d94cfc33ef6", WorkspaceName: "Default",
		DefinitionID: "1c0b8a5e-2f8f-4c5e-9a9e-1d6a1ad3e6f0", Action: publish.Updated, PreviousTag: "1.0.0",
		Actions: []string{"pushed", "updated definition"},
		Findings: []connector.Finding{{Code: fault.SecretNotMarkedSecret, Severity: connector.Warning,
			Message: "The property api_key looks like a secret.", Remedy: "Add airbyte_secret: true.", File: "connectors/source-hello/manifest.yaml", Line: 12}},
	}
}

var pushDenied = &fault.Error{Code: fault.PushDenied, Op: "push the image", Object: "ghcr.io/acme/source-erp:2.0.0",
	Cause: "the registry said 403 DENIED", Remedy: "Give the token the scope write:packages."}

// hostile is text that tries to end the cell, the table, the code and the document.
const hostile = "a|b`c`</td><script>x</script>\n\n# Forged @everyone #1 **b** [l](http://evil) ![i](x) \\| $x$ \u202e\u2028\x1b[31m ##[error]x ::error::y <!-- ~s~"

// results are the cases of the golden files.
func results() map[string]struct {
	result publish.Result
	err    error
} {
	second := hello()
	second.WorkspaceID, second.WorkspaceName, second.DefinitionID = "0b6b1d1e-0000-4000-8000-000000000001", "", "1c0b8a5e-2f8f-4c5e-9a9e-1d6a1ad3e6f1"
	second.Action, second.PreviousTag, second.Actions = publish.Created, "", []string{"pushed", "created definition"}
	failed := publish.Row{Connector: "connectors/source-erp", Type: connector.Source, Name: "ERP", Image: "ghcr.io/acme/source-erp:2.0.0",
		Repository: "ghcr.io/acme/source-erp", Tag: "2.0.0", Err: pushDenied}
	unchanged := hello()
	unchanged.Action, unchanged.PreviousTag, unchanged.Pushed, unchanged.Actions, unchanged.Findings = publish.Unchanged, "1.1.0", false, nil, nil
	created := second
	created.Connector, created.Digest = "destination-x", ""
	unregistered := publish.Row{Connector: ".", Type: connector.Destination, Name: "X", Image: "r.example/x:1", Repository: "r.example/x", Tag: "1",
		Digest: digest, Pushed: true, Action: publish.None, Actions: []string{"pushed"}}
	forged := publish.Row{Connector: hostile, Type: connector.Source, Name: hostile, Image: hostile, Repository: hostile, Tag: hostile, Digest: digest,
		WorkspaceID: hostile, WorkspaceName: hostile, DefinitionID: hostile, Action: publish.Updated, PreviousTag: "1", Actions: []string{hostile},
		Findings: []connector.Finding{{Code: fault.BadSpec, Severity: connector.Error, Message: hostile, Remedy: hostile, File: hostile}},
		Err:      &fault.Error{Code: fault.BadSpec, Op: hostile, Object: hostile, Cause: hostile, Remedy: hostile}}
	type c = struct {
		result publish.Result
		err    error
	}
	badInputs := errors.Join(
		&fault.Error{Code: fault.MissingInput, Op: "read the input", Object: `"airbyte-url"`, Cause: "it is not set", Remedy: "Set it to the address of Airbyte."},
		errors.New("something without a code"))
	mixed := publish.Result{Rows: []publish.Row{failed, hello(), second}}
	return map[string]c{
		"published":    {publish.Result{Rows: []publish.Row{hello(), second}, Engines: []string{"buildkitd at unix:///run/buildkitd.sock"}}, nil},
		"mixed":        {mixed, mixed.Err()},
		"unchanged":    {publish.Result{Rows: []publish.Row{unchanged}}, nil},
		"unregistered": {publish.Result{Rows: []publish.Row{unregistered}}, nil},
		"plan":         {publish.Result{Rows: []publish.Row{hello(), created, unchanged}, Planned: true}, nil},
		"inputs":       {publish.Result{}, badInputs},
		"interrupted":  {publish.Result{Rows: []publish.Row{hello()}}, &fault.Error{Code: fault.OutputsFailed, Op: "write the outputs to", Object: "f", Cause: "disk full"}},
		"nothing":      {publish.Result{}, nil},
		"hostile":      {publish.Result{Rows: []publish.Row{forged}}, nil},
	}
}

func TestGolden(t *testing.T) {
	t.Parallel()
	for name, c := range results() {
		p := New(c.result, c.err, asIs)
		var outputs strings.Builder
		for _, o := range p.Outputs() {
			fmt.Fprintf(&outputs, "%s=%s\n", o.Name, o.Value)
		}
		for ext, got := range map[string]string{"md": p.Markdown(), "txt": p.Text(), "json": string(p.JSON()), "outputs": outputs.String()} {
			file := filepath.Join("testdata", name+"."+ext)
			if *update {
				if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got); diff != "" {
				t.Errorf("%s (-want +got, -update to accept):\n%s", file, diff)
			}
		}
	}
}

func TestOutputsAreAllThere(t *testing.T) {
	t.Parallel()
	want := []string{"image", "digest", "image-ref", "tag", "pushed", "definition-id", "action", "previous-tag", "workspace-id", "matrix", "results"}
	for name, c := range results() {
		var names []string
		for _, o := range New(c.result, c.err, asIs).Outputs() {
			names = append(names, o.Name)
			if strings.ContainsAny(o.Value, "\r\n") && name != "hostile" {
				t.Errorf("%s: %s has several lines", name, o.Name)
			}
		}
		if diff := cmp.Diff(want, names); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
	}
}

func TestResultsAreOneLineWithEveryField(t *testing.T) {
	t.Parallel()
	fields := []string{"connector", "type", "name", "image", "digest", "image-ref", "tag", "pushed", "workspace-id", "workspace-name",
		"definition-id", "action", "previous-tag", "planned", "actions", "findings", "code", "error"}
	for name, c := range results() {
		outputs := New(c.result, c.err, asIs).Outputs()
		value := outputs[len(outputs)-1].Value
		if strings.ContainsAny(value, "\r\n\u2028$") {
			t.Errorf("%s: results is not one plain line: %q", name, value)
		}
		var rows []map[string]any
		if err := json.Unmarshal([]byte(value), &rows); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		if len(rows) != len(c.result.Rows) {
			t.Errorf("%s: %d rows", name, len(rows))
		}
		for i, row := range rows {
			for _, f := range fields {
				if _, found := row[f]; !found {
					t.Errorf("%s: row %d has no %s", name, i, f)
				}
			}
			if len(row) != len(fields) {
				t.Errorf("%s: row %d has %d fields", name, i, len(row))
			}
			if row["name"] != strings.ToValidUTF8(c.result.Rows[i].Name, "") {
				t.Errorf("%s: row %d: the name came back as %q", name, i, row["name"])
			}
		}
	}
}

func TestJSONPrintsNothingHarmful(t *testing.T) {
	t.Parallel()
	p := New(results()["hostile"].result, nil, asIs)
	for _, text := range []string{string(p.JSON()), p.Outputs()[10].Value} {
		if strings.Contains(text, "##[") || strings.ContainsAny(text, "\x1b\u202e\u2028\u009b") {
			t.Errorf("got %s", text)
		}
		if strings.Contains(text, `\u003c`) || !strings.Contains(text, "<script>") {
			t.Error("JSON was escaped for HTML")
		}
		if !json.Valid([]byte(text)) {
			t.Error("JSON is not valid")
		}
	}
}

// cell is one cell of a table's row, as GitHub Flavored Markdown splits it: at pipes without a backslash.
var cell = regexp.MustCompile(`(?:\\.|[^|\\])*\|`)

func TestMarkdownCannotBeBrokenOutOf(t *testing.T) {
	t.Parallel()
	text := New(results()["hostile"].result, nil, asIs).Markdown()
	columns := 0
	for i, line := range strings.Split(strings.TrimSuffix(text, "\n"), "\n") {
		switch {
		case line == "":
			columns = 0
		case strings.HasPrefix(line, "#"):
			if columns != 0 {
				t.Errorf("line %d: a heading within a table: %q", i, line)
			}
		case strings.HasPrefix(line, "|"):
			n := len(cell.FindAllString(line[1:], -1))
			if columns == 0 {
				columns = n
			}
			if n != columns {
				t.Errorf("line %d has %d cells, not %d: %q", i, n, columns, line)
			}
		default:
			t.Errorf("line %d is neither empty, heading nor row: %q", i, line)
		}
	}
	for _, bad := range []string{"<", ">", "@e", " #1", "**b", "[l]", " ![", "\u202e", "\u2028", "\x1b", "##["} {
		if strings.Contains(strings.ReplaceAll(text, "\n### ", ""), bad) {
			t.Errorf("the summary holds %q", bad)
		}
	}
}

func TestTextIsBounded(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("é", 1<<20)
	r := hello()
	r.Connector, r.Name, r.Actions = long, long, []string{long}
	r.Findings[0].Message, r.Findings[0].Remedy = long, long
	r.Err = &fault.Error{Code: fault.BadSpec, Op: "read", Object: long, Cause: long, Remedy: long}
	p := New(publish.Result{Rows: []publish.Row{r}}, nil, asIs)
	for _, text := range []string{p.Markdown(), p.Text()} {
		if len(text) > 16<<10 {
			t.Errorf("%d bytes", len(text))
		}
		if strings.ContainsRune(text, '\uFFFD') {
			t.Error("a character was cut")
		}
	}
}

func TestSecretsAreTakenOutBeforeEscaping(t *testing.T) {
	t.Parallel()
	const secret = `p|ss<w"rd>\@x`
	redact := func(s string) string { return strings.ReplaceAll(s, secret, "***") }
	r := publish.Row{Connector: "c " + secret, Name: secret, Image: secret, Repository: secret, Tag: secret, Digest: digest, WorkspaceID: secret,
		WorkspaceName: secret, DefinitionID: secret, PreviousTag: secret, Actions: []string{secret},
		Findings: []connector.Finding{{Code: fault.BadSpec, Message: secret, Remedy: secret, File: secret}},
		Err:      &fault.Error{Code: fault.BadSpec, Op: secret, Object: secret, Cause: secret, Remedy: secret}}
	p := New(publish.Result{Rows: []publish.Row{r}}, errors.New(secret), redact)
	texts := []string{p.Markdown(), p.Text(), string(p.JSON())}
	for _, o := range p.Outputs() {
		texts = append(texts, o.Value)
	}
	for _, text := range texts {
		if strings.Contains(text, "p|ss") || strings.Contains(text, "p&#124;ss") || strings.Contains(text, `rd>`) || strings.Contains(text, "rd&gt;") {
			t.Errorf("the secret is in %s", text)
		}
	}
}

func TestSharedFailuresAreToldOnce(t *testing.T) {
	t.Parallel()
	shared := &fault.Error{Code: fault.AirbyteSignIn, Op: "sign in to", Object: "https://airbyte.example", Cause: "it said 401"}
	a, b := hello(), hello()
	a.Err, b.Err, b.Connector = shared, fmt.Errorf("wrapped: %w", shared), "other"
	plain := errors.New("no code")
	c := hello()
	c.Connector, c.Err = "third", plain
	result := publish.Result{Rows: []publish.Row{a, b, c}}
	var document struct {
		OK     bool
		Errors []failure
	}
	if err := json.Unmarshal(New(result, result.Err(), asIs).JSON(), &document); err != nil {
		t.Fatal(err)
	}
	if document.OK || len(document.Errors) != 2 {
		t.Errorf("got %+v", document)
	}
}

func TestOK(t *testing.T) {
	t.Parallel()
	for name, want := range map[string]bool{"published": true, "plan": true, "nothing": true, "mixed": false, "inputs": false} {
		c := results()[name]
		if got := New(c.result, c.err, asIs).OK(); got != want {
			t.Errorf("%s: got %v", name, got)
		}
	}
}
