// Package apidoc holds requests against Airbyte's own API documents, so that tests can prove that what the client sends
// fits every version it supports. It is for tests only: the documents are Airbyte's, under the Elastic License, are not
// part of this repository, and lie beside it where they are there at all.
package apidoc

import (
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"mime"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"

	"github.com/getkin/kin-openapi/openapi3"
	"github.com/google/uuid"
)

// Versions are the releases of Airbyte whose documents are there, the oldest first.
var Versions = []string{"0.50.56", "0.63.0", "1.0.0", "1.5.0", "1.6.0", "1.8.0", "2.0.0", "2.1.0", "2.2.0"}

// DirVariable is the environment variable that names the documents' folder when it is elsewhere.
const DirVariable = "AIRBYTE_OPENAPI_DIR"

// ErrNoDocuments says that the documents are not on this machine. Tests skip on it, but not when DirVariable is set.
var ErrNoDocuments = errors.New("no API documents of Airbyte on this machine")

// Dir finds the folder of the documents: the one that the environment names, else ../shared/airbyte-openapi seen from
// the module's root. Its error is ErrNoDocuments when there is none and none was named.
func Dir(getenv func(string) string) (string, error) {
	if dir := getenv(DirVariable); dir != "" {
		if _, err := os.Stat(dir); err != nil {
			return "", fmt.Errorf("%s: %w", DirVariable, err)
		}
		return dir, nil
	}
	at, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(at, "go.mod")); err == nil {
			break
		}
		up := filepath.Dir(at)
		if up == at {
			return "", ErrNoDocuments
		}
		at = up
	}
	dir := filepath.Join(at, "..", "shared", "airbyte-openapi")
	if _, err := os.Stat(dir); err != nil {
		return "", ErrNoDocuments
	}
	return dir, nil
}

// Doc is the API document of one version.
type Doc struct {
	version string
	doc     *openapi3.T
}

// loaded keeps the documents, which take a tenth of a second each to read, for all tests of a process.
var loaded sync.Map

// Load reads the document of a version, once per process.
func Load(dir, version string) (*Doc, error) {
	file := filepath.Join(dir, "config-v"+version+".yaml")
	load, _ := loaded.LoadOrStore(file, sync.OnceValues(func() (*Doc, error) {
		doc, err := openapi3.NewLoader().LoadFromFile(file)
		if err != nil {
			return nil, fmt.Errorf("API document of Airbyte %s: %w", version, err)
		}
		return &Doc{version: version, doc: doc}, nil
	}))
	return load.(func() (*Doc, error))()
}

// misspelt are required properties that a document demands by mistake and no server reads: the DestinationDefinitionUpdate
// of all documents up to 1.6 asks for "dockerImageag" and describes dockerImageTag.
var misspelt = []string{"dockerImageag"}

// Check says what in the request, with its body, does not fit the document: an endpoint or method that it does not
// have, a body where there is none to be, a missing property, a wrong type or format, or a property that it does not
// know. The latter no server refuses, but nothing would come of it either.
func (d *Doc) Check(r *http.Request, body []byte) error {
	_, path, found := strings.Cut(r.URL.Path, "/api/v1/")
	if !found {
		return d.errorf(r, "is not under /api/v1")
	}
	item := d.doc.Paths.Value("/v1/" + path)
	if item == nil {
		return d.errorf(r, "is no endpoint")
	}
	operation := item.GetOperation(r.Method)
	if operation == nil {
		return d.errorf(r, "has not this method")
	}
	if operation.RequestBody == nil {
		if len(body) > 0 {
			return d.errorf(r, "takes no body, but got %s", body)
		}
		return nil
	}
	if media, _, err := mime.ParseMediaType(r.Header.Get("Content-Type")); err != nil || media != "application/json" {
		return d.errorf(r, "wants application/json, not %q", r.Header.Get("Content-Type"))
	}
	content := operation.RequestBody.Value.Content.Get("application/json")
	if content == nil || content.Schema == nil {
		return d.errorf(r, "describes no JSON body")
	}
	var value any
	if err := json.Unmarshal(body, &value); err != nil {
		return d.errorf(r, "got a body that is not JSON: %w", err)
	}
	problems := d.visit(content.Schema.Value, value)
	problems = append(problems, unknown(content.Schema.Value, value, "")...)
	if len(problems) > 0 {
		return d.errorf(r, "got a body that does not fit: %w", errors.Join(problems...))
	}
	return nil
}

func (d *Doc) errorf(r *http.Request, format string, args ...any) error {
	return fmt.Errorf("Airbyte %s, %s %s "+format, append([]any{d.version, r.Method, r.URL.Path}, args...)...)
}

// visit lets the schema judge the value.
func (d *Doc) visit(schema *openapi3.Schema, value any) []error {
	err := schema.VisitJSON(value, openapi3.VisitAsRequest(), openapi3.MultiErrors(), openapi3.EnableFormatValidation(),
		openapi3.WithStringFormatValidator("uuid", openapi3.NewCallbackValidator(uuid.Validate)),
		openapi3.WithStringFormatValidator("uri", openapi3.NewCallbackValidator(checkURI)))
	var problems []error
	for _, e := range flatten(err) {
		var s *openapi3.SchemaError
		if errors.As(e, &s) && s.SchemaField == "required" && slices.ContainsFunc(misspelt, func(name string) bool { return strings.Contains(s.Reason, `"`+name+`"`) }) {
			continue
		}
		problems = append(problems, e)
	}
	return problems
}

// flatten takes apart what MultiErrors has put together.
func flatten(err error) []error {
	if err == nil {
		return nil
	}
	multi, ok := err.(openapi3.MultiError) //nolint:errorlint // Only the outermost is taken apart here.
	if !ok {
		return []error{err}
	}
	var all []error
	for _, e := range multi {
		all = append(all, flatten(e)...)
	}
	return all
}

// checkURI is what Airbyte's java.net.URI takes, which reads the empty text too: Airbyte's own pages send it.
func checkURI(s string) error {
	_, err := url.Parse(s)
	return err
}

// unknown lists the properties of value that the schema, where it describes any, does not.
func unknown(schema *openapi3.Schema, value any, at string) []error {
	var problems []error
	switch value := value.(type) {
	case map[string]any:
		known := properties(schema)
		if len(known) == 0 || len(schema.OneOf)+len(schema.AnyOf) > 0 || schema.AdditionalProperties.Schema != nil {
			return nil
		}
		for _, name := range slices.Sorted(maps.Keys(value)) {
			if p, ok := known[name]; ok {
				problems = append(problems, unknown(p.Value, value[name], at+"/"+name)...)
			} else {
				problems = append(problems, fmt.Errorf("%s/%s is not in the document", at, name))
			}
		}
	case []any:
		if schema.Items == nil {
			return nil
		}
		for i, e := range value {
			problems = append(problems, unknown(schema.Items.Value, e, fmt.Sprintf("%s/%d", at, i))...)
		}
	}
	return problems
}

// properties are those of the schema and of all that it is composed of.
func properties(schema *openapi3.Schema) openapi3.Schemas {
	all := maps.Clone(schema.Properties)
	for _, part := range schema.AllOf {
		if all == nil {
			all = openapi3.Schemas{}
		}
		maps.Copy(all, properties(part.Value))
	}
	return all
}
