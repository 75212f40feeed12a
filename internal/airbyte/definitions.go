package airbyte

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strings"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// definition is what is read of Airbyte's SourceDefinitionRead and DestinationDefinitionRead. Typed clients broke on
// fields that came and went, so only these are read.
type definition struct {
	SourceID             string          `json:"sourceDefinitionId"`
	DestinationID        string          `json:"destinationDefinitionId"`
	Name                 string          `json:"name"`
	DockerRepository     string          `json:"dockerRepository"`
	DockerImageTag       string          `json:"dockerImageTag"`
	DocumentationURL     string          `json:"documentationUrl"`
	Custom               bool            `json:"custom"`
	ReleaseStage         string          `json:"releaseStage"`
	ResourceRequirements json.RawMessage `json:"resourceRequirements"`
}

func (d definition) id(t connector.Type) string {
	if t == connector.Destination {
		return d.DestinationID
	}
	return d.SourceID
}

func (d definition) read(t connector.Type) connector.Definition {
	read := connector.Definition{ID: d.id(t), Name: d.Name, Repository: d.DockerRepository, Tag: d.DockerImageTag, DocumentationURL: d.DocumentationURL,
		// The field custom came with 0.50.28; the release stage said the same before.
		Custom: d.Custom || d.ReleaseStage == "custom"}
	if !bytes.Equal(d.ResourceRequirements, []byte("null")) {
		read.ResourceRequirements = d.ResourceRequirements
	}
	return read
}

// List returns the definitions that a workspace sees, each once: Airbyte's catalogue, and the custom ones granted to
// the workspace or its organization. It is fetched once for all who ask, and anew after a write.
func (c *Client) List(ctx context.Context, workspaceID string, t connector.Type) ([]connector.Definition, error) {
	all, err := c.list(workspaceID, t).get(ctx, func([]connector.Definition) bool { return true },
		func(ctx context.Context) ([]connector.Definition, error) { return c.fetchList(ctx, workspaceID, t) })
	return slices.Clone(all), err
}

// relist is List as the instance has it now.
func (c *Client) relist(ctx context.Context, workspaceID string, t connector.Type) ([]connector.Definition, error) {
	c.list(workspaceID, t).drop()
	return c.List(ctx, workspaceID, t)
}

func (c *Client) list(workspaceID string, t connector.Type) *shared[[]connector.Definition] {
	c.mu.Lock()
	defer c.mu.Unlock()
	k := listKey{workspaceID: workspaceID, connector: t}
	if c.lists[k] == nil {
		c.lists[k] = &shared[[]connector.Definition]{}
	}
	return c.lists[k]
}

func (c *Client) fetchList(ctx context.Context, workspaceID string, t connector.Type) ([]connector.Definition, error) {
	q := call{method: http.MethodPost, path: string(t) + "_definitions/list_for_workspace", body: map[string]string{"workspaceId": workspaceID},
		op: "list the " + string(t) + " definitions of", object: "workspace " + workspaceID}
	var body map[string]json.RawMessage
	if err := c.read(ctx, q, &body); err != nil {
		return nil, err
	}
	// An answer without the list must not pass for an empty list, upon which a second definition would be created.
	var listed *[]definition
	if err := json.Unmarshal(body[string(t)+"Definitions"], &listed); err != nil || listed == nil {
		return nil, &fault.Error{Code: fault.NotAirbyte, Op: q.op, Object: q.object, Cause: "the answer holds no list of definitions",
			Remedy: addressRemedy, Err: err}
	}
	seen := map[string]bool{}
	all := make([]connector.Definition, 0, len(*listed))
	for _, d := range *listed {
		// One that is granted to a workspace and to its organization is listed twice.
		if id := d.id(t); uuid.Validate(id) == nil && !seen[id] {
			seen[id] = true
			all = append(all, d.read(t))
		}
	}
	return all, nil
}

// Spec is the connectionSpecification that the instance stores for the definition's version in the workspace.
func (c *Client) Spec(ctx context.Context, workspaceID string, t connector.Type, definitionID string) (json.RawMessage, error) {
	q := call{method: http.MethodPost, path: string(t) + "_definition_specifications/get",
		body: map[string]string{string(t) + "DefinitionId": definitionID, "workspaceId": workspaceID},
		op:   "read the stored specification of", object: "definition " + definitionID + " in workspace " + workspaceID}
	var body struct {
		ConnectionSpecification json.RawMessage `json:"connectionSpecification"`
	}
	if err := c.read(ctx, q, &body); err != nil {
		return nil, err
	}
	if len(body.ConnectionSpecification) == 0 || bytes.Equal(body.ConnectionSpecification, []byte("null")) {
		return nil, &fault.Error{Code: fault.StoredSpecDiffers, Op: q.op, Object: q.object, Cause: "Airbyte stores no specification for it",
			Remedy: "Publish the connector under another tag, so that Airbyte reads its spec anew."}
	}
	return body.ConnectionSpecification, nil
}

func find(all []connector.Definition, id string) (connector.Definition, bool) {
	n := slices.IndexFunc(all, func(d connector.Definition) bool { return strings.EqualFold(d.ID, id) })
	if n < 0 {
		return connector.Definition{}, false
	}
	return all[n], true
}

// ofRepository are the Docker-based custom definitions among all that have the repository.
func ofRepository(all []connector.Definition, repository string) []connector.Definition {
	var same []connector.Definition
	for _, d := range all {
		if d.Custom && !d.Declarative() && image.Normalise(d.Repository) == image.Normalise(repository) {
			same = append(same, d)
		}
	}
	return same
}

// ofName are the Docker-based custom definitions among all that have the name.
func ofName(all []connector.Definition, name string) []connector.Definition {
	var same []connector.Definition
	for _, d := range all {
		if d.Custom && !d.Declarative() && d.Name == name {
			same = append(same, d)
		}
	}
	return same
}

// names lists definitions as `id ("name", repository:tag)`.
func (c *Client) names(all []connector.Definition) string {
	parts := make([]string, 0, len(all))
	for _, d := range all {
		parts = append(parts, fmt.Sprintf("%s (%q, %s:%s)", c.clean(d.ID), c.clean(d.Name), c.clean(d.Repository), c.clean(d.Tag)))
	}
	return strings.Join(parts, ", ")
}
