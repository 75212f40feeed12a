package connector

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// resourceRequirements is Airbyte's JSON object of that name (ActorDefinitionResourceRequirements of its Config API,
// ScopedResourceRequirements since 1.6, with the same JSON).
type resourceRequirements struct {
	Default     *resources     `json:"default,omitempty"`
	JobSpecific []jobResources `json:"jobSpecific,omitempty"`
}

type jobResources struct {
	JobType              string     `json:"jobType"`
	ResourceRequirements *resources `json:"resourceRequirements"`
}

// resources maps the six known names to quantities; encoding/json writes its keys sorted, which makes the text canonical.
type resources map[string]string

var (
	resourceNames = []string{"cpu_request", "cpu_limit", "memory_request", "memory_limit",
		"ephemeral_storage_request", "ephemeral_storage_limit"}
	jobTypes = []string{"get_spec", "check_connection", "discover_schema", "sync", "reset_connection",
		"connection_updater", "replicate"}
)

// ParseResourceRequirements reads Airbyte's object of that name from JSON or YAML text and returns it as canonical
// JSON, nil when it says nothing. input is the name of the input that it came from. The error joins one *fault.Error
// with the code InvalidInput per problem.
func ParseResourceRequirements(input string, text []byte) (json.RawMessage, error) {
	p := &metadataParser{file: input, code: fault.InvalidInput}
	var found json.RawMessage
	if root := p.document(text); root != nil {
		found = p.resourceRequirements(field{path: "resourceRequirements", line: root.Line, node: root})
	}
	if err := errors.Join(p.problems...); err != nil {
		return nil, err
	}
	return found, nil
}

// resourceRequirements turns the field into canonical JSON, nil when it is absent or says nothing. A name that Airbyte
// does not know is an error here, unlike elsewhere in the file: the server drops it silently, and the connector would
// run without the limit that somebody wrote down.
func (p *metadataParser) resourceRequirements(f field) json.RawMessage {
	mapping := p.mapping(f)
	if mapping == nil {
		return nil
	}
	p.onlyKeys(f, mapping, []string{"default", "jobSpecific"})
	found := resourceRequirements{Default: p.resources(p.lookup(f, mapping, "default"))}
	for _, item := range p.items(p.lookup(f, mapping, "jobSpecific")) {
		m := p.mapping(item)
		if m == nil {
			continue
		}
		p.onlyKeys(item, m, []string{"jobType", "resourceRequirements"})
		kind := p.lookup(item, m, "jobType")
		job := jobResources{JobType: p.text(kind), ResourceRequirements: p.resources(p.lookup(item, m, "resourceRequirements"))}
		switch {
		case kind.node == nil:
			p.fail(item.line, "Add jobType, such as sync.", "%s has no jobType", item)
		case job.JobType != "" && !slices.Contains(jobTypes, job.JobType):
			p.fail(kind.line, "Write one of "+strings.Join(jobTypes, ", ")+".",
				"%s is %q, which Airbyte does not know", kind, fault.Bounded(job.JobType))
		}
		if job.ResourceRequirements == nil {
			job.ResourceRequirements = &resources{}
		}
		found.JobSpecific = append(found.JobSpecific, job)
	}
	if found.Default == nil && found.JobSpecific == nil {
		return nil
	}
	text, err := json.Marshal(found)
	if err != nil {
		p.fail(f.line, "", "%s can't be written as JSON: %v", f, err)
		return nil
	}
	return text
}

func (p *metadataParser) resources(f field) *resources {
	mapping := p.mapping(f)
	if mapping == nil {
		return nil
	}
	p.onlyKeys(f, mapping, resourceNames)
	found := resources{}
	for _, name := range resourceNames {
		if v := p.text(p.lookup(f, mapping, name)); v != "" {
			found[name] = v
		}
	}
	return &found
}

func (p *metadataParser) onlyKeys(f field, mapping *yaml.Node, allowed []string) {
	for i := 0; i+1 < len(mapping.Content) && p.spend(mapping.Content[i].Line); i += 2 {
		k := mapping.Content[i]
		if k.ShortTag() != "!!merge" && !slices.Contains(allowed, k.Value) {
			p.fail(k.Line, "Use "+strings.Join(allowed, ", ")+".",
				"%s has the key %q, which Airbyte would drop silently", f, fault.Bounded(k.Value))
		}
	}
}
