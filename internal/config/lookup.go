package config

import (
	"bytes"
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Lookup is where the values of inputs come from. For each input the first source that has a value wins: Flags (and
// Args), the variable AIRBYTE_PUBLISH_<NAME>, the action's inputs, metadata.yaml, the default. An empty value is none.
type Lookup struct {
	// Flags are those that were set, by the input's name; the values of a list are joined by line breaks.
	Flags map[string]string
	// Args are the positional arguments: the connectors.
	Args []string
	// Getenv reads one variable and Environ lists all, as os.Getenv and os.Environ do. The action's inputs are among
	// them: as one JSON object in AIRBYTE_PUBLISH_INPUTS, or where that is missing, as INPUT_<NAME> with the name in
	// upper case and its dashes kept.
	Getenv  func(string) string
	Environ []string
	// Dir is the folder that relative paths start from; empty is the working directory of the process.
	Dir string
	// Verb decides what is required; empty is Publish.
	Verb Verb
}

// value is what a source has for an input.
type value struct {
	text string
	// from says where it comes from, for messages: "--jobs", "AIRBYTE_PUBLISH_JOBS", "the action's inputs", or the
	// default, which is empty.
	from string
}

// String is how a message shows the value. It must not be used with a secret.
func (v value) String() string {
	shown := fmt.Sprintf("%q", fault.Bounded(v.text))
	if v.from == "" {
		return shown
	}
	return shown + " (from " + v.from + ")"
}

// fromArguments is where positional arguments come from.
const fromArguments = "the arguments"

// reader finds the values, converts them and collects what is wrong with them.
type reader struct {
	Lookup
	inputs   map[string]Input
	values   map[string]value
	secrets  secrets
	problems []error
	warnings []connector.Finding
}

func newReader(l Lookup) *reader {
	r := &reader{Lookup: l, inputs: map[string]Input{}, values: map[string]value{}, secrets: secrets{}}
	table := Inputs()
	for _, i := range table {
		r.inputs[i.Name] = i
	}
	sources := []source{r.flags(), r.environment(), r.action()}
	for _, i := range table {
		switch {
		case i.Secret:
			r.secret(i, sources)
		case i.Kind != File:
			r.values[i.Name] = cmp.Or(first(sources, i), value{text: i.Default})
		}
	}
	return r
}

// reject records a problem with an input's value.
func (r *reader) reject(code fault.Code, input, cause, remedy string) {
	r.fail(&fault.Error{Code: code, Op: "read", Object: fmt.Sprintf("input %q", input), Cause: cause, Remedy: remedy})
}

// fail records a problem, once if several connectors have the same.
func (r *reader) fail(problem *fault.Error) {
	same := func(e error) bool { return e.Error() == problem.Error() }
	if !slices.ContainsFunc(r.problems, same) {
		r.problems = append(r.problems, problem)
	}
}

// source is one of the places where values come from; it answers with a zero value for what it does not have.
type source func(input string) value

// first is what the first source that has anything for the input has, without white space around it.
func first(sources []source, i Input) value {
	for _, s := range sources {
		v := s(i.Name)
		if i.Kind == List || i.Kind == Lines {
			v.text = fromArray(v.text)
		}
		if strings.TrimSpace(v.text) == "" {
			continue
		}
		// YAML's first line keeps its indentation, because the others have theirs.
		if i.Kind != Object && i.Kind != Kubeconfig {
			v.text = strings.TrimSpace(v.text)
		}
		return v
	}
	return value{}
}

func (r *reader) flags() source {
	for _, name := range slices.Sorted(maps.Keys(r.Flags)) {
		i, known := r.inputs[name]
		if i.Secret {
			r.secrets.add(r.Flags[name])
		}
		if !known || i.Secret {
			r.unknown("--"+name, strings.TrimPrefix(name, "--"), "--", func(i Input) string { return i.Name })
		}
	}
	return func(input string) value {
		switch {
		case input == "connectors" && len(r.Args) > 0:
			return r.arguments()
		case r.inputs[input].Secret:
			return value{}
		}
		return value{r.Flags[input], "--" + input}
	}
}

func (r *reader) arguments() value {
	if r.Flags["connectors"] != "" {
		r.reject(fault.ConflictingInputs, "connectors", "it is given as arguments and as --connectors", "Give it once.")
	}
	return value{strings.Join(r.Args, "\n"), fromArguments}
}

func (r *reader) environment() source {
	for _, variable := range slices.Sorted(slices.Values(r.Environ)) {
		name, text, _ := strings.Cut(variable, "=")
		rest, ours := strings.CutPrefix(name, envPrefix)
		if !ours || text == "" || name == envInputs {
			continue
		}
		input := strings.ReplaceAll(strings.ToLower(rest), "_", "-")
		if i, known := r.inputs[input]; !known || i.Env() != name {
			r.unknown(name, input, "", Input.Env)
		}
	}
	return func(input string) value {
		name := r.inputs[input].Env()
		return value{r.getenv(name), name}
	}
}

func (r *reader) getenv(name string) string {
	if r.Getenv == nil {
		return ""
	}
	return r.Getenv(name)
}

// action reads the inputs that a CI host hands to an action.
func (r *reader) action() source {
	const from = "the action's inputs"
	text := r.getenv(envInputs)
	if strings.TrimSpace(text) == "" {
		return func(input string) value { return value{r.getenv("INPUT_" + strings.ToUpper(input)), from} }
	}
	given := r.object(text)
	for _, name := range slices.Sorted(maps.Keys(given)) {
		if _, known := r.inputs[name]; !known && given[name] != "" {
			r.unknown(name, name, "", func(i Input) string { return i.Name })
		}
	}
	return func(input string) value {
		// GitHub hands over the defaults of action.yml as if they had been given.
		if given[input] == r.inputs[input].Default {
			return value{}
		}
		return value{given[input], from}
	}
}

// object reads the JSON object of an action's inputs. Messages never show its text, which holds secrets.
func (r *reader) object(text string) map[string]string {
	bad := func(cause string) {
		r.fail(&fault.Error{Code: fault.InvalidInput, Op: "read", Object: envInputs, Cause: cause,
			Remedy: "Set it to ${{ toJSON(inputs) }}, or leave it unset."})
	}
	decoder := json.NewDecoder(strings.NewReader(text))
	decoder.UseNumber()
	var raw map[string]any
	if err := decoder.Decode(&raw); err != nil {
		bad("it is not a JSON object")
		return nil
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		bad("something follows the JSON object")
	}
	given := map[string]string{}
	for _, name := range slices.Sorted(maps.Keys(raw)) {
		switch v := raw[name].(type) {
		case nil:
		case string:
			given[name] = v
		case bool, json.Number:
			given[name] = fmt.Sprint(v)
		default:
			bad(fmt.Sprintf("the value of %q is neither text nor a number nor true or false", fault.Bounded(name)))
		}
	}
	return given
}

// unknown reports a name that is no input. Its value is never shown: it may be a secret under a mistyped name.
func (r *reader) unknown(name, input, prefix string, spell func(Input) string) {
	remedy := "The README lists all inputs."
	if near, ok := nearest(input); ok {
		remedy = "Did you mean " + prefix + spell(near) + "?"
		if near.Secret && prefix != "" {
			remedy = near.noFlag()
		}
	}
	r.fail(&fault.Error{Code: fault.UnknownInput, Op: "read", Object: fmt.Sprintf("input %q", fault.Bounded(name)),
		Cause: "there is no such input", Remedy: remedy})
}

// maxFileBytes bounds a file that an input names.
const maxFileBytes = 1 << 20

// path is where a path that was given lies for this process.
func (r *reader) path(given string) string {
	if r.Dir == "" || filepath.IsAbs(given) {
		return given
	}
	return filepath.Join(r.Dir, given)
}

// file reads the file that an input names.
func (r *reader) file(input, given string) ([]byte, bool) {
	content, err := readFile(r.path(given))
	if err == nil && len(bytes.TrimSpace(content)) == 0 {
		err = errors.New("it is empty")
	}
	if err != nil {
		shown := fmt.Sprintf("%q ", fault.Bounded(given))
		if strings.HasSuffix(input, fileSuffix) {
			// A person may have put the secret itself there.
			shown = "that it names "
		}
		r.fail(&fault.Error{Code: fault.UnreadableFile, Op: "read", Object: fmt.Sprintf("input %q", input),
			Cause:  fmt.Sprintf("the file %scan't be used: %s", shown, why(err)),
			Remedy: "Give the path of a readable file, relative to the working directory.", Err: err})
		return nil, false
	}
	return content, true
}

// readFile reads a file of bounded size. It does not ask for the size first, so that a pipe works as well.
func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	content, err := io.ReadAll(io.LimitReader(f, maxFileBytes+1))
	if err == nil && len(content) > maxFileBytes {
		err = fmt.Errorf("it has more than %d bytes", maxFileBytes)
	}
	return content, err
}

// why is an error's cause without the path, which the message has already.
func why(err error) string {
	if e, ok := errors.AsType[*fs.PathError](err); ok {
		err = e.Err
	}
	return fault.Bounded(err.Error())
}
