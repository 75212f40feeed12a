package connector

import (
	"encoding/json"
	"strings"
)

// Definition is a connector definition as an Airbyte instance lists it.
type Definition struct {
	ID               string
	Name             string
	Repository       string
	Tag              string
	DocumentationURL string
	// Custom tells that a user of the instance made it; Airbyte's own catalogue is not.
	Custom               bool
	ResourceRequirements json.RawMessage
}

// Declarative tells that the definition is one of Airbyte's Connector Builder, which runs on a shared image and is no
// candidate for an update, although Airbyte lists it as custom.
func (d Definition) Declarative() bool {
	return strings.HasSuffix(d.Repository, "/source-declarative-manifest")
}

// Workspace is a workspace of an Airbyte instance.
type Workspace struct {
	ID, Name string
}

// Change is a definition that is to be created or updated in one workspace. It carries no specification: an instance
// that takes one with a create is given the one that it printed there itself, which proves that it can run the image.
type Change struct {
	WorkspaceID string
	Type        Type
	// Current is the definition to update; nil means create.
	Current              *Definition
	Name                 string
	Repository           string
	Tag                  string
	DocumentationURL     string
	ResourceRequirements json.RawMessage
}
