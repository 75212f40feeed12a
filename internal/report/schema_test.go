package report

import (
	"reflect"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

const schemaFile = "../../docs/results.schema.json"

func compile(t *testing.T, part string) *jsonschema.Schema {
	t.Helper()
	schema, err := jsonschema.NewCompiler().Compile(schemaFile + part)
	if err != nil {
		t.Fatal(err)
	}
	return schema
}

func TestResultsAreWhatTheSchemaSays(t *testing.T) {
	t.Parallel()
	array, document := compile(t, ""), compile(t, "#/$defs/report")
	valid := func(name string, schema *jsonschema.Schema, text string) error {
		value, err := jsonschema.UnmarshalJSON(strings.NewReader(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		return schema.Validate(value)
	}
	for name, c := range results() {
		p := New(c.result, c.err, asIs)
		if err := valid(name, array, string(p.results())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		if err := valid(name, document, string(p.JSON())); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
	for _, bad := range []string{`{}`, `[{}]`, `[1]`} {
		if valid(bad, array, bad) == nil || valid(bad, document, bad) == nil {
			t.Errorf("%s is taken", bad)
		}
	}
}

// TestTheSchemaHasEveryField compares the schema with the types that are written.
func TestTheSchemaHasEveryField(t *testing.T) {
	t.Parallel()
	for part, written := range map[string]any{"row": row{}, "finding": connector.Finding{}, "failure": failure{}} {
		var want []string
		of := reflect.TypeOf(written)
		for i := range of.NumField() {
			if name, _, _ := strings.Cut(of.Field(i).Tag.Get("json"), ","); name != "" {
				want = append(want, name)
			}
		}
		var got []string
		for name := range compile(t, "#/$defs/"+part).Properties {
			got = append(got, name)
		}
		slices.Sort(want)
		slices.Sort(got)
		if !slices.Equal(got, want) {
			t.Errorf("the schema's %s has %q, and %q is written", part, got, want)
		}
	}
}
