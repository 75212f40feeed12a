package sandbox

import (
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"unicode/utf8"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// kind is one of the two halves of Airbyte's API, which differ in words only.
type kind struct {
	word     string
	t        connector.Type
	notFound string
}

var kinds = []kind{
	{"source", connector.Source, "STANDARD_SOURCE_DEFINITION"},
	{"destination", connector.Destination, "STANDARD_DESTINATION_DEFINITION"},
}

// idKey is the property that a definition's id goes by.
func (k kind) idKey() string { return k.word + "DefinitionId" }

// read is a definition as Airbyte answers it, with the tag that the reader gets to see.
func (k kind) read(a *Airbyte, d *definition, tag string) map[string]any {
	r := map[string]any{
		k.idKey():          d.ID,
		"name":             d.Name,
		"dockerRepository": d.Repository,
		"dockerImageTag":   tag,
		"documentationUrl": d.DocumentationURL,
		"protocolVersion":  protocolOf(d.Specs[tag]),
		"releaseStage":     "generally_available",
	}
	if d.Custom {
		r["releaseStage"] = "custom"
	}
	if d.ResourceRequirements != nil {
		r["resourceRequirements"] = d.ResourceRequirements
	}
	if a.is(hasCustomFlag) {
		r["custom"], r["supportLevel"] = d.Custom, "certified"
		if d.Custom {
			r["supportLevel"] = "none"
		}
	}
	if a.is(hasEnterpriseFlag) {
		r["enterprise"] = false
	}
	if !d.Custom && k.t == connector.Source {
		r["sourceType"] = "api"
	}
	if k.t == connector.Destination && a.is(hasDbtFields) {
		r["supportsDbt"], r["normalizationConfig"] = false, map[string]any{"supported": false}
	}
	return r
}

// list answers with the definitions that pick returns the tag to show for, once for each tag.
func (k kind) list(a *Airbyte, pick func(*definition) (tags []string)) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []any{}
	for _, d := range a.definitions {
		if d.Type == k.t && !d.Tombstone {
			for _, tag := range pick(d) {
				list = append(list, k.read(a, d, tag))
			}
		}
	}
	return map[string]any{k.word + "Definitions": list}, nil
}

func (k kind) listDefinitions(a *Airbyte, _ context.Context, _ *body) (any, error) {
	return k.list(a, func(d *definition) []string { return []string{d.Tag} })
}

func (k kind) listLatest(a *Airbyte, _ context.Context, _ *body) (any, error) {
	return k.list(a, func(d *definition) []string {
		if d.Custom {
			return nil
		}
		return []string{d.Tag}
	})
}

// listForWorkspace lists what is public and what is granted. What is granted to the workspace and to its
// organization too is there twice.
func (k kind) listForWorkspace(a *Airbyte, _ context.Context, b *body) (any, error) {
	workspace, err := a.workspaceOf(b)
	if err != nil {
		return nil, err
	}
	return k.list(a, func(d *definition) (tags []string) {
		tag := d.effectiveTag(workspace)
		if d.Public {
			return []string{tag}
		}
		if slices.Contains(d.Workspaces, workspace) {
			tags = append(tags, tag)
		}
		if slices.Contains(d.Organizations, DefaultOrganizationID) {
			tags = append(tags, tag)
		}
		return tags
	})
}

// listPrivate lists what is neither public nor custom, each with whether the workspace has it.
func (k kind) listPrivate(a *Airbyte, _ context.Context, b *body) (any, error) {
	workspace, err := a.workspaceOf(b)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	list := []any{}
	for _, d := range a.definitions {
		if d.Type == k.t && !d.Tombstone && !d.Public && !d.Custom {
			list = append(list, map[string]any{k.word + "Definition": k.read(a, d, d.Tag), "granted": d.grantedTo(workspace)})
		}
	}
	return map[string]any{k.word + "Definitions": list}, nil
}

func (d *definition) grantedTo(workspace string) bool {
	return slices.Contains(d.Workspaces, workspace) || slices.Contains(d.Organizations, DefaultOrganizationID)
}

// workspaceOf reads the body's workspaceId, which must be one of the instance's.
func (a *Airbyte) workspaceOf(b *body) (string, error) {
	id := b.requiredID("workspaceId")
	if err := b.check(); err != nil {
		return "", err
	}
	if !a.hasWorkspace(id) {
		return "", notFound("STANDARD_WORKSPACE", id)
	}
	return id, nil
}

// getDefinition returns a definition, also one that was deleted, with its default tag.
func (k kind) getDefinition(a *Airbyte, _ context.Context, b *body) (any, error) {
	id := b.requiredID(k.idKey())
	if err := b.check(); err != nil {
		return nil, err
	}
	return k.get(a, id, func(d *definition) (string, bool) { return d.Tag, true })
}

func (k kind) getForWorkspace(a *Airbyte, _ context.Context, b *body) (any, error) {
	id := b.requiredID(k.idKey())
	workspace, err := a.workspaceOf(b)
	if err != nil {
		return nil, err
	}
	return k.get(a, id, func(d *definition) (string, bool) {
		return d.effectiveTag(workspace), d.Public || d.grantedTo(workspace)
	})
}

func (k kind) getForScope(a *Airbyte, _ context.Context, b *body) (any, error) {
	id, scope, scopeType := b.requiredID("actorDefinitionId"), b.requiredID("scopeId"), b.required("scopeType")
	if err := b.check(); err != nil {
		return nil, err
	}
	return k.get(a, id, func(d *definition) (string, bool) {
		if scopeType == "organization" {
			return d.Tag, d.Public || slices.Contains(d.Organizations, scope)
		}
		return d.effectiveTag(scope), d.Public || d.grantedTo(scope)
	})
}

func (k kind) get(a *Airbyte, id string, pick func(*definition) (tag string, ok bool)) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if d := a.find(id); d != nil && d.Type == k.t {
		if tag, ok := pick(d); ok {
			return k.read(a, d, tag), nil
		}
	}
	return nil, notFound(k.notFound, id)
}

// createCustom makes a new definition each time: no name, repository or tag is unique.
func (k kind) createCustom(a *Airbyte, ctx context.Context, b *body) (any, error) {
	workspace, organization, err := a.createScope(b)
	if err != nil {
		return nil, err
	}
	in := b.inside(k.word + "Definition")
	d := Definition{ID: uuid.NewString(), Type: k.t, Custom: true, Name: in.required("name"),
		Repository: in.required("dockerRepository"), Tag: in.required("dockerImageTag"),
		DocumentationURL: in.uri("documentationUrl"), ResourceRequirements: in.object("resourceRequirements")}
	icon, given := in.text("icon"), json.RawMessage(nil)
	if a.is(takesSpecification) {
		given = in.object("connectorSpecification")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if a.o.Edition == Cloud {
		return nil, cloudRefuses()
	}
	if workspace != "" && !a.hasWorkspace(workspace) {
		return nil, notFound("STANDARD_WORKSPACE", workspace)
	}
	spec := given
	if spec == nil {
		if spec, err = a.readSpec(ctx, k.t, d.Repository+":"+d.Tag, workspace); err != nil {
			return nil, err
		}
	}
	if err := checkProtocol(spec); err != nil {
		return nil, err
	}
	for column, value := range map[string]string{"name": d.Name, "docker_repository": d.Repository, "docker_image_tag": d.Tag,
		"documentation_url": d.DocumentationURL, "icon": icon} {
		if utf8.RuneCountInString(value) > 256 {
			return nil, a.tooLong(column)
		}
	}
	d.Specs = map[string]json.RawMessage{d.Tag: spec}
	if organization != "" {
		d.Organizations = []string{organization}
	} else {
		d.Workspaces = []string{workspace}
	}
	stored := &definition{d}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.definitions = append(a.definitions, stored)
	return k.read(a, stored, d.Tag), nil
}

// createScope reads whom a new definition is for: a workspace, or before 1.7.0 an organization.
func (a *Airbyte) createScope(b *body) (workspace, organization string, err error) {
	workspace, scope, scopeType := b.id("workspaceId"), b.id("scopeId"), b.text("scopeType")
	if workspace == "" && !a.is(hasScopes) {
		b.refuse("workspaceId", "", "must not be null")
	}
	if err := b.check(); err != nil {
		return "", "", err
	}
	switch {
	case workspace != "":
		return workspace, "", nil
	case a.is(updateNeedsWorkspace) && scopeType == "workspace" && scope != "":
		return scope, "", nil
	case a.is(updateNeedsWorkspace):
		return "", "", problem(http.StatusUnprocessableEntity, "unprocessable-entity",
			"Cannot determine workspace ID. Must provide workspaceId or a scope of type workspace.")
	case scope == "" || scopeType == "":
		return "", "", uncaught("Cannot invoke \"java.util.UUID.toString()\" because \"workspaceId\" is null")
	case a.is(breaksScopedCreates):
		// Without a workspace the spec job looks for that of the all-zero id.
		return "", "", noZeroWorkspace()
	case scopeType == "organization":
		return "", scope, nil
	}
	return scope, "", nil
}

func cloudRefuses() error {
	return problem(http.StatusBadRequest, "bad-request",
		"Non-declarative definitions cannot be created or updated in Airbyte Cloud.")
}

func noZeroWorkspace() error {
	return uncaught("Id not found: Could not find configuration for STANDARD_WORKSPACE: 00000000-0000-0000-0000-000000000000.")
}

// updateDefinition moves a definition to another tag. It changes neither the repository nor the documentation, which
// it ignores as it ignores all that it does not know.
func (k kind) updateDefinition(a *Airbyte, ctx context.Context, b *body) (any, error) {
	id, tag, name := b.requiredID(k.idKey()), b.text("dockerImageTag"), b.text("name")
	workspace, resources := b.id("workspaceId"), b.object("resourceRequirements")
	if tag == "" && (k.t == connector.Source || a.is(updateNeedsWorkspace)) {
		b.refuse("dockerImageTag", "", "must not be null")
	}
	if a.is(updateNeedsWorkspace) && workspace == "" && b.text("workspaceId") == "" {
		b.refuse("workspaceId", "", "must not be null")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	d := a.find(id)
	if d == nil || d.Type != k.t {
		a.mu.Unlock()
		return nil, notFound(k.notFound, id)
	}
	if tag == "" {
		tag = d.Tag
	}
	known, repository := d.Specs[tag], d.Repository
	a.mu.Unlock()

	switch {
	case a.o.Edition == Cloud:
		return nil, cloudRefuses()
	case a.o.AirGapped && a.is(asksConnectorRegistry):
		return nil, uncaught("Failed to fetch connector registry entry for %s:%s", repository, tag)
	case utf8.RuneCountInString(tag) > 256:
		return nil, a.tooLong("docker_image_tag")
	case utf8.RuneCountInString(name) > 256:
		return nil, a.tooLong("name")
	}
	spec := known
	if spec == nil || tag == "dev" {
		if a.is(breaksCustomUpdates) {
			return nil, noZeroWorkspace()
		}
		var err error
		if spec, err = a.readSpec(ctx, k.t, repository+":"+tag, workspace); err != nil {
			return nil, err
		}
		if err := checkProtocol(spec); err != nil {
			return nil, err
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d.Tag, d.Specs[tag] = tag, spec
	if resources != nil {
		d.ResourceRequirements = resources
	}
	if name != "" && d.Custom && a.is(canRename) {
		d.Name = name
	}
	return k.read(a, d, tag), nil
}

// deleteDefinition deletes the definition, and every actor that uses it.
func (k kind) deleteDefinition(a *Airbyte, _ context.Context, b *body) (any, error) {
	id := b.requiredID(k.idKey())
	if err := b.check(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.find(id)
	if d == nil || d.Type != k.t || d.Tombstone {
		return nil, notFound(k.notFound, id)
	}
	d.Tombstone = true
	a.actors = slices.DeleteFunc(a.actors, func(x *Actor) bool { return x.DefinitionID == id })
	return nil, nil
}

func (k kind) grantDefinition(a *Airbyte, _ context.Context, b *body) (any, error) {
	d, err := k.changeGrant(a, b, func(list []string, id string) []string {
		if slices.Contains(list, id) {
			return list
		}
		return append(list, id)
	})
	if err != nil {
		return nil, err
	}
	return map[string]any{k.word + "Definition": d, "granted": true}, nil
}

func (k kind) revokeDefinition(a *Airbyte, _ context.Context, b *body) (any, error) {
	_, err := k.changeGrant(a, b, func(list []string, id string) []string {
		return slices.DeleteFunc(list, func(x string) bool { return x == id })
	})
	return nil, err
}

func (k kind) changeGrant(a *Airbyte, b *body, change func(list []string, id string) []string) (any, error) {
	id, scope, scopeType := b.requiredID("actorDefinitionId"), b.requiredID("scopeId"), b.required("scopeType")
	if err := b.check(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.find(id)
	if d == nil || d.Type != k.t {
		return nil, notFound(k.notFound, id)
	}
	if scopeType == "organization" {
		d.Organizations = change(d.Organizations, scope)
	} else {
		d.Workspaces = change(d.Workspaces, scope)
	}
	return k.read(a, d, d.Tag), nil
}
