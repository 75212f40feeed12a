package connector

import "encoding/json"

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
