package main

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"go.yaml.in/yaml/v3"
)

// manifest is a declarative source. Streams stay raw until one is used, so that spec works for any manifest.
type manifest struct {
	Type    string            `json:"type"`
	Streams []json.RawMessage `json:"streams"`
	Check   struct {
		StreamNames []string `json:"stream_names"`
	} `json:"check"`
	Spec struct {
		DocumentationURL        string `json:"documentation_url"`
		ConnectionSpecification object `json:"connection_specification"`
	} `json:"spec"`
}

// stream is a DeclarativeStream. It is decoded strictly: a field that is not here is a part of the language that this
// program lacks.
type stream struct {
	Type       string `json:"type"`
	Name       string `json:"name"`
	PrimaryKey any    `json:"primary_key"`
	Retriever  struct {
		Type      string    `json:"type"`
		Requester requester `json:"requester"`
		Selector  struct {
			Type      string `json:"type"`
			Extractor struct {
				Type      string   `json:"type"`
				FieldPath []string `json:"field_path"`
			} `json:"extractor"`
		} `json:"record_selector"`
	} `json:"retriever"`
	SchemaLoader struct {
		Type   string `json:"type"`
		Schema object `json:"schema"`
	} `json:"schema_loader"`
}

// requester is an HttpRequester. Its strings may hold {{ config['name'] }}.
type requester struct {
	Type       string            `json:"type"`
	URLBase    string            `json:"url_base"`
	Path       string            `json:"path"`
	HTTPMethod string            `json:"http_method"`
	Headers    map[string]string `json:"request_headers"`
	Parameters map[string]string `json:"request_parameters"`
}

func parseManifest(data []byte) (*manifest, error) {
	var document any
	if err := yaml.Unmarshal(data, &document); err != nil {
		return nil, fmt.Errorf("manifest.yaml: %w", err)
	}
	resolved, err := resolve(document, document, 0)
	if err != nil {
		return nil, fmt.Errorf("manifest.yaml: %w", err)
	}
	plain, err := json.Marshal(resolved)
	if err != nil {
		return nil, fmt.Errorf("manifest.yaml: %w", err)
	}
	var m manifest
	if err := json.Unmarshal(plain, &m); err != nil {
		return nil, fmt.Errorf("manifest.yaml: %w", err)
	}
	if m.Type != "DeclarativeSource" || m.Spec.ConnectionSpecification == nil {
		return nil, errors.New("manifest.yaml: it is no DeclarativeSource with a spec")
	}
	return &m, nil
}

// maxDepth is deeper than any manifest; a reference to what holds it would go on for ever.
const maxDepth = 100

// resolve puts what each $ref points to in its place. Fields beside a $ref take precedence over its own.
func resolve(node, document any, depth int) (any, error) {
	if depth > maxDepth {
		return nil, errors.New("a $ref leads back to itself")
	}
	switch node := node.(type) {
	case map[string]any:
		out := object{}
		if pointer, ok := node["$ref"].(string); ok {
			target, err := lookUp(document, pointer)
			if err != nil {
				return nil, err
			}
			resolved, err := resolve(target, document, depth+1)
			if err != nil {
				return nil, err
			}
			fields, ok := resolved.(map[string]any)
			if !ok {
				return resolved, nil
			}
			out = fields
		}
		for key, value := range node {
			if key == "$ref" {
				continue
			}
			resolved, err := resolve(value, document, depth+1)
			if err != nil {
				return nil, err
			}
			out[key] = resolved
		}
		return out, nil
	case []any:
		out := make([]any, len(node))
		for i, value := range node {
			resolved, err := resolve(value, document, depth+1)
			if err != nil {
				return nil, err
			}
			out[i] = resolved
		}
		return out, nil
	}
	return node, nil
}

// lookUp finds what a reference such as "#/definitions/requester" points to.
func lookUp(document any, pointer string) (any, error) {
	path, ok := strings.CutPrefix(pointer, "#/")
	if !ok {
		return nil, fmt.Errorf("$ref %q does not begin with #/", pointer)
	}
	node := document
	for key := range strings.SplitSeq(path, "/") {
		fields, _ := node.(map[string]any)
		if node, ok = fields[key]; !ok {
			return nil, fmt.Errorf("$ref %q points to nothing", pointer)
		}
	}
	return node, nil
}

// stream decodes the stream of that name.
func (m *manifest) stream(name string) (*stream, error) {
	for _, raw := range m.Streams {
		if streamName(raw) != name {
			continue
		}
		var s stream
		decoder := json.NewDecoder(bytes.NewReader(raw))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&s); err != nil {
			return nil, fmt.Errorf("stream %q needs more of the declarative language than this stand-in knows: %w", name, err)
		}
		return &s, s.supported()
	}
	return nil, fmt.Errorf("the manifest has no stream %q", name)
}

func streamName(raw json.RawMessage) string {
	var named struct {
		Name string `json:"name"`
	}
	if json.Unmarshal(raw, &named) != nil {
		return ""
	}
	return named.Name
}

// supported refuses what the types of the stream's parts name and this program lacks.
func (s *stream) supported() error {
	for _, part := range [][2]string{
		{s.Type, "DeclarativeStream"}, {s.Retriever.Type, "SimpleRetriever"}, {s.Retriever.Requester.Type, "HttpRequester"},
		{s.Retriever.Selector.Type, "RecordSelector"}, {s.Retriever.Selector.Extractor.Type, "DpathExtractor"},
		{s.SchemaLoader.Type, "InlineSchemaLoader"},
	} {
		if part[0] != part[1] {
			return fmt.Errorf("stream %q has a part of the type %q where this stand-in knows only %s", s.Name, part[0], part[1])
		}
	}
	if method := s.Retriever.Requester.HTTPMethod; method != "" && method != "GET" {
		return fmt.Errorf("stream %q uses %s, this stand-in knows only GET", s.Name, method)
	}
	return nil
}

// catalog is the AirbyteStream of each stream, which needs only its name and schema.
func (m *manifest) catalog() []object {
	streams := make([]object, 0, len(m.Streams))
	for _, raw := range m.Streams {
		var s struct {
			Name         string `json:"name"`
			PrimaryKey   any    `json:"primary_key"`
			SchemaLoader struct {
				Schema object `json:"schema"`
			} `json:"schema_loader"`
		}
		if json.Unmarshal(raw, &s) != nil || s.SchemaLoader.Schema == nil {
			s.SchemaLoader.Schema = object{"type": "object"}
		}
		entry := object{"name": s.Name, "json_schema": s.SchemaLoader.Schema, "supported_sync_modes": []string{"full_refresh"}}
		if key := primaryKey(s.PrimaryKey); key != nil {
			entry["source_defined_primary_key"] = key
		}
		streams = append(streams, entry)
	}
	return streams
}

// primaryKey turns a manifest's key, which is a name or a list of names, into the protocol's list of paths.
func primaryKey(key any) [][]string {
	switch key := key.(type) {
	case string:
		return [][]string{{key}}
	case []any:
		var paths [][]string
		for _, part := range key {
			name, ok := part.(string)
			if !ok {
				return nil
			}
			paths = append(paths, []string{name})
		}
		return paths
	}
	return nil
}
