package connectors

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"
)

// parts names, for each type of AirbyteMessage, the field that goes with it (airbyte_protocol_v0.yaml, AirbyteMessage).
var parts = map[string]string{
	"RECORD": "record", "STATE": "state", "LOG": "log", "SPEC": "spec", "CONNECTION_STATUS": "connectionStatus",
	"CATALOG": "catalog", "TRACE": "trace", "CONTROL": "control", "DESTINATION_CATALOG": "destination_catalog",
}

// message is an AirbyteMessage as decoded: its type, and the part that goes with it.
type message struct {
	kind string
	body map[string]any
}

// get follows a path of keys.
func (m message) get(path ...string) any {
	var node any = m.body
	for _, key := range path {
		fields, _ := node.(map[string]any)
		node = fields[key]
	}
	return node
}

// protocolDir is where Airbyte's own schemas lie, or "". They are not part of this repository.
func protocolDir(t *testing.T) string {
	t.Helper()
	if dir := os.Getenv("AIRBYTE_PROTOCOL_DIR"); dir != "" {
		return dir
	}
	root, err := moduleRoot(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	dir := filepath.Join(root, "..", "shared", "airbyte-protocol")
	if _, err := os.Stat(dir); err != nil {
		return ""
	}
	return dir
}

// schema compiles a definition of one of Airbyte's schemas; nil where they are not at hand.
func schema(t *testing.T, file, definition string) *jsonschema.Schema {
	t.Helper()
	dir := protocolDir(t)
	if dir == "" {
		return nil
	}
	text, err := os.ReadFile(filepath.Join(dir, file))
	if err != nil {
		t.Fatal(err)
	}
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(text))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource(file, document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile(file + definition)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// messages checks that every line is an AirbyteMessage, by its shape and, where it is at hand, by Airbyte's schema.
func messages(t *testing.T, output []byte) []message {
	t.Helper()
	s := schema(t, "airbyte_protocol_v0.json", "#/definitions/AirbyteMessage")
	var all []message
	for line := range bytes.Lines(output) {
		var fields map[string]any
		if err := json.Unmarshal(line, &fields); err != nil {
			t.Fatalf("not a message: %v\n%s", err, line)
		}
		kind, _ := fields["type"].(string)
		body, ok := fields[parts[kind]].(map[string]any)
		if !ok || len(fields) != 2 || !bytes.HasSuffix(line, []byte("\n")) {
			t.Fatalf("not a whole message of a known type with its part:\n%s", line)
		}
		if s != nil {
			document, err := jsonschema.UnmarshalJSON(bytes.NewReader(line))
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Validate(document); err != nil {
				t.Errorf("%v\n%s", err, line)
			}
		}
		all = append(all, message{kind, body})
	}
	return all
}

// of returns the messages of that type.
func of(all []message, kind string) []message {
	return slices.DeleteFunc(slices.Clone(all), func(m message) bool { return m.kind != kind })
}

// one returns the only message of that type.
func one(t *testing.T, all []message, kind string) message {
	t.Helper()
	found := of(all, kind)
	if len(found) != 1 {
		t.Fatalf("%d messages of the type %s, want 1: %v", len(found), kind, all)
	}
	return found[0]
}

// program is a connector that was built for this machine, with what lies beside it.
type program struct{ path string }

// build compiles a package for this machine into a folder of its own.
func build(t *testing.T, pkg string) program {
	t.Helper()
	binary, err := compile(t.Context(), platform{runtime.GOOS, runtime.GOARCH}, pkg)
	if err != nil {
		t.Fatal(err)
	}
	p := program{filepath.Join(t.TempDir(), "connector.exe")} // the suffix that Windows needs and nobody else minds
	if err := os.WriteFile(p.path, binary, 0o755); err != nil {
		t.Fatal(err)
	}
	return p
}

// run runs the connector and checks its exit code and every line of its output.
func (p program) run(t *testing.T, wantCode int, stdin string, args ...string) []message {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), p.path, args...)
	cmd.Stdin = strings.NewReader(stdin)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		if _, exited := errors.AsType[*exec.ExitError](err); !exited {
			t.Fatal(err)
		}
	}
	if code := cmd.ProcessState.ExitCode(); code != wantCode {
		t.Fatalf("%v ended with %d, want %d\n%s%s", args, code, wantCode, &stdout, &stderr)
	}
	if stderr.Len() > 0 {
		t.Errorf("standard error: %s", &stderr)
	}
	return messages(t, stdout.Bytes())
}

// file writes a JSON file for a connector to read.
func file(t *testing.T, content any) string {
	t.Helper()
	text, err := json.Marshal(content)
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(t.TempDir(), "file.json")
	if err := os.WriteFile(path, text, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestAirbytesSchemasAreAtHand(t *testing.T) {
	t.Parallel()
	if protocolDir(t) == "" {
		t.Skip("no ../shared/airbyte-protocol and no AIRBYTE_PROTOCOL_DIR: messages were checked by their shape alone")
	}
	s := schema(t, "airbyte_protocol_v0.json", "#/definitions/AirbyteMessage")
	if s.Validate(map[string]any{"type": "RECORD", "record": map[string]any{"stream": "x"}}) == nil {
		t.Error("the schema takes a RECORD without data, so it checks nothing")
	}
}

func TestMetadataFitsAirbytesSchema(t *testing.T) {
	t.Parallel()
	s := schema(t, "ConnectorMetadataDefinitionV0.clean.json", "")
	if s == nil {
		t.Skip("no ../shared/airbyte-protocol and no AIRBYTE_PROTOCOL_DIR, where the schema of metadata.yaml is")
	}
	for _, name := range []string{"source-hello", "destination-jsonl", "source-manifest"} {
		dir, err := Dir(t.Context(), name)
		if err != nil {
			t.Fatal(err)
		}
		text, err := os.ReadFile(filepath.Join(dir, "metadata.yaml"))
		if err != nil {
			t.Fatal(err)
		}
		var document any
		if err := yaml.Unmarshal(text, &document); err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(document); err != nil {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// declared checks a SPEC: an object schema whose own secret is marked.
func declared(t *testing.T, spec message, secret string) {
	t.Helper()
	if got := spec.get("connectionSpecification", "type"); got != "object" {
		t.Errorf("connectionSpecification.type is %v", got)
	}
	if secret != "" && spec.get("connectionSpecification", "properties", secret, "airbyte_secret") != true {
		t.Errorf("%s is not marked as a secret in %v", secret, spec.body)
	}
	if url, _ := spec.get("documentationUrl").(string); !strings.HasPrefix(url, "https://") {
		t.Errorf("documentationUrl is %q", url)
	}
}
