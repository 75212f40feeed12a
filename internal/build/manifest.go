package build

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// manifestFile is the one file that makes a manifest-only connector.
const manifestFile = "manifest.yaml"

// maxManifestBytes is far above Airbyte's longest manifests, which have about a megabyte.
const maxManifestBytes = 16 << 20

// manifestOnly tells whether metadata.yaml says that the connector has no code of its own.
func manifestOnly(m *connector.Metadata) bool {
	return m != nil && slices.Contains(m.Tags, "language:manifest-only")
}

// checkManifest says what keeps Airbyte's declarative runtime from reading a manifest.yaml at all. It does not
// validate the streams, which is for the runtime's own schema. Its error joins one *fault.Error with the code
// BadManifestYAML for each problem, each with the line.
func checkManifest(dir string) error {
	file := filepath.Join(dir, manifestFile)
	bad := func(line int, cause, remedy string) error {
		object := file
		if line > 0 {
			object = fmt.Sprintf("%s:%d", file, line)
		}
		return &fault.Error{Code: fault.BadManifestYAML, Op: "read", Object: object, Cause: cause, Remedy: remedy}
	}
	raw, err := readBounded(file, maxManifestBytes)
	if err != nil {
		return bad(0, err.Error(), "Make it readable.")
	}
	var document yaml.Node
	if err := yaml.Unmarshal(raw, &document); err != nil {
		line, cause := 0, strings.TrimPrefix(err.Error(), "yaml: ")
		if m := yamlLine.FindStringSubmatch(cause); m != nil {
			line, _ = strconv.Atoi(m[1])
			cause = strings.TrimPrefix(cause, m[0])
		}
		return bad(line, fault.Bounded(cause), "Mend the YAML.")
	}
	if len(document.Content) != 1 || resolve(document.Content[0]).Kind != yaml.MappingNode {
		return bad(document.Line, "it is not a YAML mapping", "Export the manifest from the Connector Builder again.")
	}
	root := document.Content[0]
	var problems []error
	if kind := value(root, "type"); kind == nil || kind.Value != "DeclarativeSource" {
		problems = append(problems, bad(lineOf(kind, root), "its type is not DeclarativeSource", "Write \"type: DeclarativeSource\"."))
	}
	if version := value(root, "version"); version == nil || version.Kind != yaml.ScalarNode || version.Value == "" {
		problems = append(problems, bad(lineOf(version, root), "it has no version", "Name the version of the CDK that it was written for, such as \"version: 6.1.0\"."))
	}
	streams, dynamic := value(root, "streams"), value(root, "dynamic_streams")
	if !isList(streams) && !isList(dynamic) {
		problems = append(problems, bad(lineOf(streams, root), "it has no streams", "List at least one stream under \"streams\" or \"dynamic_streams\"."))
	}
	if spec := value(root, "spec"); spec != nil {
		if c := value(spec, "connection_specification"); c == nil || c.Kind != yaml.MappingNode {
			problems = append(problems, bad(lineOf(c, spec), "its spec has no connection_specification", "Give the JSON Schema of the connector's configuration there."))
		}
	}
	return errors.Join(problems...)
}

// yamlLine is how the YAML package tells a line, which it leaves out for the first.
var yamlLine = regexp.MustCompile(`^line (\d+): `)

// readBounded reads a file of at most limit bytes. Its error says what is wrong without repeating the path.
func readBounded(file string, limit int64) ([]byte, error) {
	f, err := os.Open(file)
	if err != nil {
		if pathErr, ok := errors.AsType[*fs.PathError](err); ok {
			err = pathErr.Err
		}
		return nil, err
	}
	defer f.Close()
	raw, err := io.ReadAll(io.LimitReader(f, limit+1))
	if err != nil {
		return nil, err
	}
	if int64(len(raw)) > limit {
		return nil, fmt.Errorf("it has more than %d MiB", limit>>20)
	}
	return raw, nil
}

// value is the value under a key of a mapping, or nil when it is absent, null or under no mapping.
func value(mapping *yaml.Node, key string) *yaml.Node {
	mapping = resolve(mapping)
	if mapping.Kind != yaml.MappingNode {
		return nil
	}
	for i := 0; i+1 < len(mapping.Content); i += 2 {
		if v := resolve(mapping.Content[i+1]); mapping.Content[i].Value == key && v.Tag != "!!null" {
			return v
		}
	}
	return nil
}

// resolve follows an alias. An alias points to an anchor, never to another alias.
func resolve(n *yaml.Node) *yaml.Node {
	if n.Kind == yaml.AliasNode {
		return n.Alias
	}
	return n
}

func isList(n *yaml.Node) bool { return n != nil && n.Kind == yaml.SequenceNode && len(n.Content) > 0 }

// lineOf is the line of a value, or of what should have held it.
func lineOf(n, parent *yaml.Node) int {
	if n != nil {
		return n.Line
	}
	return resolve(parent).Line
}
