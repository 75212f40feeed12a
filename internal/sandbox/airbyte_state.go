package sandbox

import (
	"encoding/json"
	"maps"
	"slices"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// Definition is a connector definition as the stand-in stores it.
type Definition struct {
	ID   string
	Type connector.Type
	Name string
	// Repository and Tag are the image's; Tag is that of the default version.
	Repository, Tag  string
	DocumentationURL string
	// Custom tells that a user of the instance made it, Public that every workspace has it.
	Custom, Public bool
	// Tombstone tells that it was deleted: get still returns it, lists do not.
	Tombstone            bool
	ResourceRequirements json.RawMessage
	// Specs are the stored specifications by tag, each read once, when the tag was new to the definition.
	Specs map[string]json.RawMessage
	// Workspaces and Organizations are the ids that it is granted to.
	Workspaces, Organizations []string
	// Pins are the tags that workspaces hold fast, by workspace id.
	Pins map[string]string
}

// definition is what a Definition is inside the stand-in, under its lock.
type definition struct{ Definition }

func (d *definition) copy() Definition {
	c := d.Definition
	c.Specs, c.Pins = maps.Clone(d.Specs), maps.Clone(d.Pins)
	c.Workspaces, c.Organizations = slices.Clone(d.Workspaces), slices.Clone(d.Organizations)
	return c
}

// effectiveTag is the tag that a workspace gets to see and run.
func (d *definition) effectiveTag(workspace string) string {
	if tag, pinned := d.Pins[workspace]; pinned {
		return tag
	}
	return d.Tag
}

// Definitions returns the definitions that users made, in the order of their creation, with those that were deleted.
func (a *Airbyte) Definitions() []Definition {
	a.mu.Lock()
	defer a.mu.Unlock()
	var list []Definition
	for _, d := range a.definitions {
		if d.Custom {
			list = append(list, d.copy())
		}
	}
	return list
}

// AddDefinition puts a definition into the stand-in as it is, without running anything, and returns its id; an empty
// ID gets a new one.
func (a *Airbyte) AddDefinition(d Definition) string {
	if d.ID == "" {
		d.ID = uuid.NewString()
	}
	stored := &definition{d}
	stored.Definition = stored.copy()
	if stored.Specs == nil {
		stored.Specs = map[string]json.RawMessage{}
	}
	if _, there := stored.Specs[d.Tag]; !there {
		stored.Specs[d.Tag] = minimalSpec
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.definitions = append(a.definitions, stored)
	return d.ID
}

// AddDeclarative puts in a definition of the Connector Builder: Airbyte lists it as custom too, on its shared image.
func (a *Airbyte) AddDeclarative(workspaceID, name string) string {
	return a.AddDefinition(Definition{Type: connector.Source, Name: name, Repository: "airbyte/source-declarative-manifest",
		Tag: "6.60.9", Custom: true, Workspaces: []string{workspaceID}})
}

// Pin holds a definition fast at a tag in one workspace; an empty tag lets it go.
func (a *Airbyte) Pin(definitionID, workspaceID, tag string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.find(definitionID)
	switch {
	case d == nil:
	case tag == "":
		delete(d.Pins, workspaceID)
	default:
		if d.Pins == nil {
			d.Pins = map[string]string{}
		}
		d.Pins[workspaceID] = tag
		if _, there := d.Specs[tag]; !there {
			d.Specs[tag] = minimalSpec
		}
	}
}

// find returns the definition with the id, deleted or not. The caller holds the lock.
func (a *Airbyte) find(id string) *definition {
	for _, d := range a.definitions {
		if d.ID == id {
			return d
		}
	}
	return nil
}

// minimalSpec is a specification that asks for nothing.
var minimalSpec = json.RawMessage(`{"documentationUrl":"https://docs.airbyte.com","connectionSpecification":` +
	`{"$schema":"http://json-schema.org/draft-07/schema#","type":"object","properties":{}},` +
	`"supported_destination_sync_modes":["append"]}`)

// catalogue is a part of Airbyte's own catalogue, with its real ids.
func catalogue() []*definition {
	var list []*definition
	for _, d := range []Definition{
		{ID: "dfd88b22-b603-4c3d-aad7-3701784586b1", Type: connector.Source, Name: "Sample Data",
			Repository: "airbyte/source-faker", Tag: "6.2.26",
			DocumentationURL: "https://docs.airbyte.com/integrations/sources/faker"},
		{ID: "decd338e-5647-4c0b-adf4-da0e75f5a750", Type: connector.Source, Name: "Postgres",
			Repository: "airbyte/source-postgres", Tag: "3.6.35",
			DocumentationURL: "https://docs.airbyte.com/integrations/sources/postgres"},
		{ID: "a625d593-bba5-4a1c-a53d-2d246268a816", Type: connector.Destination, Name: "Local JSON",
			Repository: "airbyte/destination-local-json", Tag: "0.2.11",
			DocumentationURL: "https://docs.airbyte.com/integrations/destinations/local-json"},
		{ID: "25c5221d-dce2-4163-ade9-739ef790f503", Type: connector.Destination, Name: "Postgres",
			Repository: "airbyte/destination-postgres", Tag: "2.4.4",
			DocumentationURL: "https://docs.airbyte.com/integrations/destinations/postgres"},
	} {
		d.Public = true
		d.Specs = map[string]json.RawMessage{d.Tag: minimalSpec}
		list = append(list, &definition{d})
	}
	return list
}
