package publish

import (
	"encoding/json"
	"fmt"
	"reflect"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// match finds the definition among defs that c is published to: by its id if one was given, else by repository, else
// by name. It returns nil when there is none, which means that one is to be created.
//
// More than one match is an error that names the ids, since Airbyte has no unique key and a guess could change the
// wrong connector. A match by name alone is an error too: Airbyte can't change a definition's repository, and a
// second definition under the same name would leave the existing sources on the old one.
func match(c connector.Connector, ws connector.Workspace, defs []connector.Definition) (*connector.Definition, error) {
	if c.DefinitionID != "" {
		return matchID(c, ws, defs)
	}
	var byRepository, byName []connector.Definition
	for _, d := range defs {
		if !d.Custom || d.Declarative() {
			continue
		}
		switch {
		case sameRepository(d.Repository, string(c.Repository)):
			byRepository = append(byRepository, d)
		case d.Name == c.Name:
			byName = append(byName, d)
		}
	}
	switch {
	case len(byRepository) == 1:
		return &byRepository[0], nil
	case len(byRepository) > 1:
		return nil, &fault.Error{Code: fault.AmbiguousDefinition, Op: "find the definition of", Object: string(c.Repository) + " in workspace " + ws.ID,
			Cause:  fmt.Sprintf("%d definitions have this repository: %s", len(byRepository), describe(byRepository)),
			Remedy: "Give the one to update by the input \"definition-id\", or delete the others in Airbyte after moving their sources."}
	case len(byName) > 0:
		return nil, &fault.Error{Code: fault.RepositoryImmutable, Op: "find the definition of", Object: string(c.Repository) + " in workspace " + ws.ID,
			Cause: fmt.Sprintf("the name %q is taken by %s under another repository, and Airbyte can't change a definition's repository", c.Name, describe(byName)),
			Remedy: "Publish to that repository, or give this connector another name by the input \"name\" to get a second definition" +
				" (existing sources stay on the old one), or rename the old definition in Airbyte first."}
	}
	return nil, nil
}

func matchID(c connector.Connector, ws connector.Workspace, defs []connector.Definition) (*connector.Definition, error) {
	for _, d := range defs {
		if !strings.EqualFold(d.ID, c.DefinitionID) {
			continue
		}
		if !d.Custom || d.Declarative() {
			return nil, &fault.Error{Code: fault.DefinitionNotFound, Op: "find the definition", Object: c.DefinitionID + " in workspace " + ws.ID,
				Cause:  fmt.Sprintf("%q is not a custom Docker-based definition but one of Airbyte's catalogue or Connector Builder", d.Name),
				Remedy: "Give the id of a definition that was made from a Docker image, or none to have it found by repository."}
		}
		if !sameRepository(d.Repository, string(c.Repository)) {
			return nil, &fault.Error{Code: fault.RepositoryImmutable, Op: "update the definition", Object: c.DefinitionID + " in workspace " + ws.ID,
				Cause:  fmt.Sprintf("it has the repository %s, the connector is published to %s, and Airbyte can't change a definition's repository", d.Repository, c.Repository),
				Remedy: "Publish to that repository, or leave the input \"definition-id\" out to create a new definition (existing sources stay on the old one)."}
		}
		return &d, nil
	}
	return nil, &fault.Error{Code: fault.DefinitionNotFound, Op: "find the definition", Object: c.DefinitionID + " in workspace " + ws.ID,
		Cause:  fmt.Sprintf("the workspace lists no %s definition with this id", c.Type),
		Remedy: "Check the id, the workspace and the connector's type; a deleted definition can't come back."}
}

func sameRepository(a, b string) bool { return image.Normalise(a) == image.Normalise(b) }

func describe(defs []connector.Definition) string {
	parts := make([]string, 0, len(defs))
	for _, d := range defs {
		parts = append(parts, fmt.Sprintf("%s (%q, %s:%s)", d.ID, fault.Bounded(d.Name), fault.Bounded(d.Repository), fault.Bounded(d.Tag)))
	}
	return strings.Join(parts, ", ")
}

// right tells whether the definition already is what the change asks for. The documentation URL is left out because
// Airbyte can't change it.
func right(d connector.Definition, c connector.Change) bool {
	return d.Tag == c.Tag && d.Name == c.Name &&
		(c.ResourceRequirements == nil || sameResources(d.ResourceRequirements, c.ResourceRequirements))
}

// sameResources compares two JSON objects of resource requirements; Airbyte writes absent members as null or empty.
func sameResources(a, b json.RawMessage) bool {
	var x, y any
	if len(a) > 0 && json.Unmarshal(a, &x) != nil || len(b) > 0 && json.Unmarshal(b, &y) != nil {
		return false
	}
	return reflect.DeepEqual(withoutEmpty(x), withoutEmpty(y))
}

func withoutEmpty(v any) any {
	switch v := v.(type) {
	case map[string]any:
		kept := map[string]any{}
		for k, e := range v {
			if e = withoutEmpty(e); e != nil {
				kept[k] = e
			}
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	case []any:
		kept := []any{}
		for _, e := range v {
			kept = append(kept, withoutEmpty(e))
		}
		if len(kept) == 0 {
			return nil
		}
		return kept
	case string:
		if v == "" {
			return nil
		}
	}
	return v
}
