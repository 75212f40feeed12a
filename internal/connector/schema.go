package connector

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"unicode"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"golang.org/x/text/language"
	textmessage "golang.org/x/text/message"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// The bounds of a specification. They are far above any real connector's, and keep a hostile one from costing minutes.
const (
	maxSpecDepth  = 100
	maxSpecValues = 20_000
)

// injectedManifest is the property that Airbyte's declarative base image asks for when it finds no manifest.yaml in
// the image: it then prints its own generic specification and exits 0 (airbyte-python-cdk, source_declarative_manifest).
const injectedManifest = "__injected_declarative_manifest"

// inspectSchema checks the JSON Schema of a connector's configuration.
func inspectSchema(raw json.RawMessage) []Finding {
	schema, err := decodeJSON(raw)
	if err == nil {
		values := maxSpecValues
		err = checkBounds(schema, maxSpecDepth, &values)
	}
	if err != nil {
		return []Finding{badSchema(Error, err.Error())}
	}
	root, _ := schema.(map[string]any)
	properties, _ := root["properties"].(map[string]any)
	if _, there := properties[injectedManifest]; there {
		return []Finding{{Code: fault.InjectedManifest, Severity: Error,
			Message: "The image printed the declarative base image's generic specification," +
				" because it holds no manifest.yaml where that looks for it.",
			Remedy: "Put manifest.yaml at /airbyte/integration_code/source_declarative_manifest/manifest.yaml in the image."}}
	}
	var found []Finding
	if root["type"] != "object" {
		found = append(found, badSchema(Error, `its "type" is not "object"`))
	}
	found = append(found, compileSchema(schema)...)
	return append(found, inspectSecrets(root)...)
}

func badSchema(severity Severity, cause string) Finding {
	return Finding{Code: fault.BadSpec, Severity: severity,
		Message: sentence("The connectionSpecification is not a valid JSON Schema: " + fault.Bounded(cause)),
		Remedy:  "Correct what the connector's spec prints."}
}

// decodeJSON decodes one JSON value and keeps its numbers as they are written.
func decodeJSON(raw json.RawMessage) (any, error) {
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	var v any
	if err := d.Decode(&v); err != nil {
		return nil, err
	}
	if d.More() {
		return nil, errors.New("it is more than one JSON value")
	}
	return v, nil
}

func checkBounds(v any, depth int, values *int) error {
	if depth == 0 {
		return fmt.Errorf("it is nested more than %d deep", maxSpecDepth)
	}
	if *values--; *values < 0 {
		return fmt.Errorf("it holds more than %d values", maxSpecValues)
	}
	switch v := v.(type) {
	case map[string]any:
		for _, member := range v {
			if err := checkBounds(member, depth-1, values); err != nil {
				return err
			}
		}
	case []any:
		for _, item := range v {
			if err := checkBounds(item, depth-1, values); err != nil {
				return err
			}
		}
	case json.Number:
		if !plainNumber(v) {
			return fmt.Errorf("it holds the number %s, which does not fit", fault.Bounded(v.String()[:min(len(v), 40)]))
		}
	}
	return nil
}

// plainNumber tells whether a number is of a size that exact arithmetic handles at once: 1e999999999 takes ten bytes
// to write and gigabytes to compute.
func plainNumber(n json.Number) bool {
	if _, exponent, found := strings.Cut(strings.ToLower(n.String()), "e"); found {
		if e, err := strconv.Atoi(exponent); err != nil || e > 308 || e < -308 {
			return false
		}
	}
	_, err := n.Float64()
	return err == nil && len(n) <= 400
}

// compileSchema checks the schema against its draft's own schema, draft 7 where it names none. Nothing is loaded from
// elsewhere: the library would read files, and Airbyte resolves no reference that leaves the specification.
func compileSchema(schema any) []Finding {
	c := jsonschema.NewCompiler()
	c.DefaultDraft(jsonschema.Draft7)
	c.UseLoader(noLoader{})
	c.UseRegexpEngine(compilePattern)
	const name = "airbyte:///connectionSpecification"
	err := c.AddResource(name, schema)
	if err == nil {
		_, err = c.Compile(name)
	}
	if err == nil {
		return nil
	}
	var elsewhere *jsonschema.LoadURLError
	var invalid *jsonschema.SchemaValidationError
	switch {
	case errors.As(err, &elsewhere):
		return []Finding{badSchema(Error,
			fmt.Sprintf("it refers to %q, which is not part of it and is not loaded", elsewhere.URL))}
	case errors.As(err, &invalid):
		if violation, ok := errors.AsType[*jsonschema.ValidationError](invalid.Err); ok {
			return schemaViolations(violation)
		}
	}
	return []Finding{badSchema(Error, strings.ReplaceAll(err.Error(), name, ""))}
}

type noLoader struct{}

func (noLoader) Load(string) (any, error) { return nil, errors.New("nothing is loaded") }

// anyPattern stands for a regular expression that Go does not know but Airbyte's Java and the browser do, such as one
// with a look-ahead. No configuration is checked here, so it need not match anything.
type anyPattern string

func (anyPattern) MatchString(string) bool { return true }
func (p anyPattern) String() string        { return string(p) }

func compilePattern(pattern string) (jsonschema.Regexp, error) {
	if re, err := regexp.Compile(pattern); err == nil {
		return re, nil
	}
	return anyPattern(pattern), nil
}

// annotations are the keywords that only describe. Many connectors write "examples" as a text, which no draft allows
// and which harms nothing.
var annotations = []string{"examples", "title", "description", "$comment", "readOnly", "writeOnly", "deprecated"}

// maxViolations is how many of a schema's mistakes are told.
const maxViolations = 5

// schemaViolations tells what breaks the draft's own schema, one finding per place.
func schemaViolations(e *jsonschema.ValidationError) []Finding {
	printer := textmessage.NewPrinter(language.English)
	places := map[string]Finding{}
	var walk func(e *jsonschema.ValidationError)
	walk = func(e *jsonschema.ValidationError) {
		for _, cause := range e.Causes {
			walk(cause)
		}
		place := "/" + strings.Join(e.InstanceLocation, "/")
		if _, told := places[place]; told || len(e.Causes) > 0 {
			return
		}
		severity := Error
		if annotates(e.InstanceLocation) {
			severity = Warning
		}
		places[place] = badSchema(severity, "at "+place+": "+e.ErrorKind.LocalizedString(printer))
	}
	walk(e)
	var found []Finding
	for _, place := range slices.Sorted(maps.Keys(places)) {
		found = append(found, places[place])
	}
	// Errors first, so that what stops a publish is never cut off.
	slices.SortStableFunc(found, func(a, b Finding) int { return strings.Compare(string(a.Severity), string(b.Severity)) })
	return found[:min(len(found), maxViolations)]
}

// annotates tells whether the place in a schema is a keyword that only describes, and no property of that name.
func annotates(place []string) bool {
	n := len(place)
	return n > 0 && slices.Contains(annotations, place[n-1]) &&
		(n == 1 || !slices.Contains([]string{"properties", "patternProperties", "definitions", "$defs"}, place[n-2]))
}

// maxSecrets is how many property names are told.
const maxSecrets = 10

// inspectSecrets looks for properties that by their name hold a secret and are not marked with airbyte_secret: Airbyte
// would store them in clear and show them in its forms.
func inspectSecrets(schema map[string]any) []Finding {
	var open []string
	unmarkedSecrets(schema, "", func(path string) { open = append(open, path) })
	if len(open) == 0 {
		return nil
	}
	slices.Sort(open)
	open = slices.Compact(open)
	named := strings.Join(open[:min(len(open), maxSecrets)], ", ")
	if len(open) > maxSecrets {
		named += fmt.Sprintf(" and %d more", len(open)-maxSecrets)
	}
	return []Finding{{Code: fault.SecretNotMarkedSecret, Severity: Warning,
		Message: "Airbyte would store in clear, and show, what these properties hold: " + fault.Bounded(named) + ".",
		Remedy:  "Add \"airbyte_secret\": true to each that holds a secret."}}
}

// unmarkedSecrets calls report with the dotted path of each property of the schema, and of the schemas in it, that is
// named like a secret and may be a text.
func unmarkedSecrets(schema map[string]any, at string, report func(path string)) {
	for _, keyword := range slices.Sorted(maps.Keys(schema)) {
		switch value := schema[keyword].(type) {
		case map[string]any:
			if keyword != "properties" && keyword != "definitions" && keyword != "$defs" {
				unmarkedSecrets(value, at, report)
				continue
			}
			for name, member := range value {
				property, ok := member.(map[string]any)
				if !ok {
					continue
				}
				if keyword == "properties" && namesSecret(name) && isOpenText(property) {
					report(at + name)
				}
				unmarkedSecrets(property, at+name+".", report)
			}
		case []any:
			for _, item := range value {
				if s, ok := item.(map[string]any); ok {
					unmarkedSecrets(s, at, report)
				}
			}
		}
	}
}

// isOpenText tells whether the property may hold any text and is not marked as secret.
func isOpenText(property map[string]any) bool {
	if property["airbyte_secret"] == true || property["const"] != nil || property["enum"] != nil {
		return false
	}
	switch t := property["type"].(type) {
	case nil:
		return property["properties"] == nil && property["oneOf"] == nil && property["$ref"] == nil
	case string:
		return t == "string"
	case []any:
		return slices.Contains(t, any("string"))
	}
	return false
}

// secretWords are the ends of names that hold secrets. An end is what counts: token_url and password_length hold none.
var secretWords = []string{"password", "passwd", "pwd", "passphrase", "secret", "token", "apikey",
	"api key", "private key", "secret key", "access key", "account key", "signing key", "encryption key", "service account key"}

func namesSecret(name string) bool {
	words := nameWords(name)
	return slices.ContainsFunc(secretWords, func(end string) bool { return words == end || strings.HasSuffix(words, " "+end) })
}

// nameWords writes a name as lower-case words: "clientSecret", "client_secret" and "client-secret" are "client secret".
func nameWords(name string) string {
	var b strings.Builder
	lower := false
	for _, r := range name {
		switch {
		case !unicode.IsLetter(r) && !unicode.IsDigit(r):
			b.WriteByte(' ')
		case unicode.IsUpper(r) && lower:
			b.WriteByte(' ')
			fallthrough
		default:
			b.WriteRune(unicode.ToLower(r))
		}
		lower = unicode.IsLower(r)
	}
	return b.String()
}
