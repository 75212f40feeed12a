package connector

import (
	"encoding/json"
	"slices"
)

// Metadata is what is read of a connector's metadata.yaml. Fields that are not here are never an error.
type Metadata struct {
	// File is the path it was read from.
	File             string
	Name             string
	Type             Type
	DockerRepository string
	DockerImageTag   string
	DocumentationURL string
	Tags             []string
	// BaseImage is connectorBuildOptions.baseImage: a reference, usually with a digest.
	BaseImage            string
	ResourceRequirements json.RawMessage
}

// ManifestOnly tells whether the metadata says that the connector is a manifest.yaml on Airbyte's declarative base
// image and nothing to compile: it carries the tag "language:manifest-only". Without metadata it is false.
func ManifestOnly(m *Metadata) bool {
	return m != nil && slices.Contains(m.Tags, "language:manifest-only")
}
