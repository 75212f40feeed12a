package connector

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// maxMetadataBytes is far above any real metadata.yaml (the longest of Airbyte's own have some 20 kB) and keeps a
// wrong file from being parsed at length.
const maxMetadataBytes = 1 << 20

// ParseMetadata reads the content of a metadata.yaml; file is its path, for the messages. Only the fields of Metadata
// are read, all under the top-level key "data"; whatever else is there is not looked at, because real files of custom
// connectors often break Airbyte's own schema. Every problem is reported: the error joins one *fault.Error with the
// code BadMetadata per problem, each naming the file, the line and the field.
func ParseMetadata(file string, content []byte) (*Metadata, error) {
	p := &metadataParser{file: file, code: fault.BadMetadata}
	root := p.document(content)
	if root == nil {
		return nil, errors.Join(p.problems...)
	}
	m := &Metadata{File: file}
	if data := p.mapping(p.required(root)); data != nil {
		p.read(m, data)
	}
	if err := errors.Join(p.problems...); err != nil {
		return nil, err
	}
	return m, nil
}

// metadataParser walks the YAML nodes of one file and collects what is wrong. It never expands an alias beyond the
// fields it reads, and looks at maxKeys keys at most, so that nested aliases can't blow up.
type metadataParser struct {
	file     string
	code     fault.Code
	problems []error
	// keys is how many keys were looked at so far.
	keys int
}

// maxKeys is how many keys of mappings are looked at in one file, which is many times what the longest real one needs.
// A list may name one mapping again and again, and "<<" whole lists of such lists, so that a file of a kilobyte could
// keep the search busy for minutes.
const maxKeys = 1 << 18

// spend counts one more key and tells whether it may be looked at. The first that may not be is reported, at line.
func (p *metadataParser) spend(line int) bool {
	if p.keys++; p.keys == maxKeys+1 {
		p.fail(line, "Write the fields out instead of merging them by \"<<\" and aliases.",
			"its aliases make it far larger than it looks: more than %d keys", maxKeys)
	}
	return p.keys <= maxKeys
}

// maxProblems is how many problems of one file are told; more are no help.
const maxProblems = 20

// field is a value under a key; a nil node means that it is absent or null. The path of the file itself is empty.
type field struct {
	path string
	line int
	node *yaml.Node
}

func (f field) String() string {
	if f.path == "" {
		return "the file"
	}
	return f.path
}

func (p *metadataParser) fail(line int, remedy, format string, args ...any) {
	if len(p.problems) == maxProblems {
		return
	}
	object := p.file
	if line > 0 {
		object = fmt.Sprintf("%s:%d", p.file, line)
	}
	p.problems = append(p.problems, &fault.Error{Code: p.code, Op: "read", Object: object,
		Cause: fmt.Sprintf(format, args...), Remedy: remedy})
}

var yamlLine = regexp.MustCompile(`^line (\d+): `)

// document parses the content and returns its only document's value, or nil after reporting why there is none.
func (p *metadataParser) document(content []byte) *yaml.Node {
	if len(content) > maxMetadataBytes {
		p.fail(0, "Give another file.", "it has %d bytes; at most %d are read", len(content), maxMetadataBytes)
		return nil
	}
	decoder := yaml.NewDecoder(bytes.NewReader(content))
	var document, second yaml.Node
	err := decoder.Decode(&document)
	if err == nil && document.Kind == yaml.DocumentNode && document.Content[0].Tag == "!!null" || errors.Is(err, io.EOF) {
		p.fail(0, "Fill it, or leave it away.", "it is empty")
		return nil
	}
	if err == nil {
		if err = decoder.Decode(&second); errors.Is(err, io.EOF) {
			return document.Content[0]
		}
	}
	if err == nil {
		p.fail(second.Line, "Keep one document; remove what follows \"---\".", "it holds more than one YAML document")
		return nil
	}
	text, line := strings.TrimPrefix(err.Error(), "yaml: "), 0
	if found := yamlLine.FindStringSubmatch(text); found != nil {
		_, _ = fmt.Sscan(found[1], &line)
		text = text[len(found[0]):]
	}
	p.fail(line, "Correct the YAML.", "it is not YAML: %s", fault.Bounded(text))
	return nil
}

func (p *metadataParser) required(root *yaml.Node) field {
	top := field{line: root.Line, node: root}
	if m := p.mapping(top); m != nil {
		if data := p.lookup(top, m, "data"); data.node != nil {
			return data
		}
		p.fail(root.Line, "Put the connector's fields under a top-level key \"data\".", "it has no \"data\"")
	}
	return field{}
}

// read fills m from the mapping under "data".
func (p *metadataParser) read(m *Metadata, data *yaml.Node) {
	in := field{path: "data", node: data}
	m.Name = p.text(p.lookup(in, data, "name"))
	m.DockerRepository = p.text(p.lookup(in, data, "dockerRepository"))
	m.DockerImageTag = p.text(p.lookup(in, data, "dockerImageTag"))
	m.DocumentationURL = p.text(p.lookup(in, data, "documentationUrl"))
	m.Tags = p.texts(p.lookup(in, data, "tags"))

	kind := p.lookup(in, data, "connectorType")
	m.Type = Type(p.text(kind))
	if m.Type != "" && m.Type != Source && m.Type != Destination {
		p.fail(kind.line, "Write source or destination.", "data.connectorType is %q", fault.Bounded(string(m.Type)))
	}
	options := p.lookup(in, data, "connectorBuildOptions")
	if mapping := p.mapping(options); mapping != nil {
		m.BaseImage = p.text(p.lookup(options, mapping, "baseImage"))
	}
	m.ResourceRequirements = p.resourceRequirements(p.lookup(in, data, "resourceRequirements"))
}

// lookup finds key in the mapping, also in what the mapping merges by "<<". A key that is there twice is reported.
func (p *metadataParser) lookup(parent field, mapping *yaml.Node, key string) field {
	f := field{path: key}
	if parent.path != "" {
		f.path = parent.path + "." + key
	}
	seen := 0
	for i := 0; i+1 < len(mapping.Content) && p.spend(mapping.Content[i].Line); i += 2 {
		if k := mapping.Content[i]; k.Kind == yaml.ScalarNode && k.Value == key {
			if seen++; seen == 2 {
				p.fail(k.Line, "Keep one of them.", "%s is there twice, first in line %d", f, f.line)
				continue
			}
			f.line, f.node = k.Line, resolve(mapping.Content[i+1])
		}
	}
	if seen == 0 {
		f.node = p.merged(mapping, key, maxMergeDepth)
		if f.node != nil {
			f.line = f.node.Line
		}
	}
	if f.node != nil && f.node.Kind == yaml.ScalarNode && f.node.ShortTag() == "!!null" {
		f.node = nil
	}
	return f
}

// maxMergeDepth bounds how deep "<<" is followed, because a mapping may merge itself.
const maxMergeDepth = 8

func (p *metadataParser) merged(mapping *yaml.Node, key string, depth int) *yaml.Node {
	if depth == 0 {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content) && p.spend(mapping.Content[i].Line); i += 2 {
		if mapping.Content[i].ShortTag() != "!!merge" {
			continue
		}
		from := []*yaml.Node{resolve(mapping.Content[i+1])}
		if from[0].Kind == yaml.SequenceNode {
			from = from[0].Content
		}
		for _, source := range from {
			if !p.spend(source.Line) {
				return nil
			}
			if source = resolve(source); source.Kind != yaml.MappingNode {
				continue
			}
			for j := 0; j+1 < len(source.Content) && p.spend(source.Content[j].Line); j += 2 {
				if source.Content[j].Value == key {
					return resolve(source.Content[j+1])
				}
			}
			if found := p.merged(source, key, depth-1); found != nil {
				return found
			}
		}
	}
	return nil
}

func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

// mapping is the field's node if it is a mapping; else it reports the field and returns nil, silently when the field
// is absent.
func (p *metadataParser) mapping(f field) *yaml.Node {
	if f.node == nil {
		return nil
	}
	if f.node.Kind != yaml.MappingNode {
		p.fail(f.line, "Write it as key: value lines, indented below.", "%s is %s, not a mapping", f, describe(f.node))
		return nil
	}
	return f.node
}

// text is the field's value if it is a string. A number is refused although its text is known: other tools would read
// a version 1.10 as the number 1.1.
func (p *metadataParser) text(f field) string {
	if f.node == nil {
		return ""
	}
	if f.node.Kind == yaml.ScalarNode && f.node.ShortTag() == "!!str" {
		return f.node.Value
	}
	remedy := "Write a text there."
	if f.node.Kind == yaml.ScalarNode && f.node.Value != "" {
		remedy = fmt.Sprintf("Write it in quotes: %q.", fault.Bounded(f.node.Value))
	}
	p.fail(f.line, remedy, "%s is %s, not a text", f, describe(f.node))
	return ""
}

func (p *metadataParser) items(f field) []field {
	if f.node == nil {
		return nil
	}
	if f.node.Kind != yaml.SequenceNode {
		p.fail(f.line, "Write it as a list: one \"- item\" per line.", "%s is %s, not a list", f, describe(f.node))
		return nil
	}
	var items []field
	for i, n := range f.node.Content {
		items = append(items, field{path: fmt.Sprintf("%s[%d]", f.path, i), line: n.Line, node: resolve(n)})
	}
	return items
}

func (p *metadataParser) texts(f field) []string {
	var texts []string
	for _, item := range p.items(f) {
		texts = append(texts, p.text(item))
	}
	return texts
}

func describe(n *yaml.Node) string {
	switch n.Kind {
	case yaml.MappingNode:
		return "a mapping"
	case yaml.SequenceNode:
		return "a list"
	}
	switch n.ShortTag() {
	case "!!int", "!!float":
		return "a number"
	case "!!bool":
		return "a boolean"
	case "!!timestamp":
		return "a date"
	case "!!null":
		return "empty"
	case "!!str":
		return "a text"
	}
	return "a value of the type " + fault.Bounded(n.ShortTag())
}
