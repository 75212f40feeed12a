// Package connector holds what is known of Airbyte connectors without contacting anything: metadata.yaml, the
// protocol's SPEC message, what an image must be so that Airbyte can run it, and what Airbyte calls a definition.
// It reads no registry, runs no container and calls no Airbyte.
package connector

import (
	"context"
	"encoding/json"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Type is a connector's direction.
type Type string

// The two types of connectors.
const (
	Source      Type = "source"
	Destination Type = "destination"
)

// Connector is one connector that is to be published, with everything about it decided.
type Connector struct {
	// Dir is its folder; Label is how the log and the summary name it (the folder as the user gave it).
	Dir, Label string
	Type       Type
	// Name is the definition's name as people see it in Airbyte, at most 256 characters.
	Name string
	// NameGiven tells that a person chose the name; else it was made from the image's, and a definition that has another
	// keeps it.
	NameGiven        bool
	DocumentationURL string
	Repository       image.Repository
	Tag              string
	ExtraTags        []string
	// ResourceRequirements is Airbyte's JSON object of that name, or nil.
	ResourceRequirements json.RawMessage
	// DefinitionID is the id of the definition to update, if the user gave one.
	DefinitionID string
	// Source names an image that exists already ("oci:DIR", "docker://REF", …); empty means that it is made from Dir.
	Source string
	// Metadata is the folder's metadata.yaml, or nil when there is none.
	Metadata *Metadata
	// Recipe says how the image is built where the folder is built.
	Recipe Recipe
	// Held is the digest that the tag holds in the registry before the run, or empty when there is no such tag.
	Held string
}

// Recipe is what the inputs say about building an image from a folder.
type Recipe struct {
	// Dockerfile is its path relative to the connector's folder; empty means "Dockerfile", where there is one.
	Dockerfile string
	// Target is the stage to build; empty means the last.
	Target string
	// Platforms are such as "linux/amd64"; none means that one.
	Platforms []string
	// Args are build arguments, Labels are added to the image's, Secrets are the contents of secret mounts by id.
	Args, Labels map[string]string
	Secrets      map[string][]byte
	// CacheFrom and CacheTo are in docker's notation: "type=registry,ref=REF", or a bare REF.
	CacheFrom, CacheTo []string
	// Provenance and SBOM attach attestations, which make an index of the image.
	Provenance, SBOM bool
}

// Reference is the image's repository and tag.
func (c Connector) Reference() string { return string(c.Repository) + ":" + c.Tag }

// Candidate is an image that was made or found and that has not left this machine for its new place yet.
type Candidate interface {
	// Image tells what the image's manifests and configs say.
	Image() Image
	// RunSpec runs the connector's spec as Airbyte does. Where this machine can't, its error is a *fault.Error with
	// the code fault.SpecNotRun.
	RunSpec(ctx context.Context) (SpecRun, error)
}

// Checks are what a builder has judged on its way to an image. It stops at the first error, and returns it as it is.
type Checks struct {
	// Plan judges what is known before anything is built. The image has no Digest where only a build can tell it.
	Plan func(context.Context, Image) error
	// Candidate judges the image before it leaves this machine. Nil means that nothing is to be built: what the builder
	// then returns is empty where it takes a build to have it.
	Candidate func(context.Context, Candidate) error
}

// SpecRun is what came of running an image's spec command.
type SpecRun struct {
	// Stdout and Stderr are what the connector printed, bounded; Truncated tells that there was more.
	Stdout, Stderr []byte
	Truncated      bool
	// ExitCode is the process's; -1 when a signal ended it.
	ExitCode int
	// TimedOut tells that it was ended because its time was up.
	TimedOut bool
	// How says how it was run, for the log: "in its own namespaces, uid 1000, no network".
	How string
}

// Image is what the manifests and configs of an image say, without its layers.
type Image struct {
	// Digest is that of the index where there is one, else of the manifest.
	Digest string
	// Index tells that it is an index.
	Index bool
	// Platforms has an entry for each runnable image; attestation manifests ("unknown/unknown") are left out.
	Platforms []PlatformImage
}

// PlatformImage is one platform's image.
type PlatformImage struct {
	// Claimed is the platform that the index names ("linux/amd64", "linux/arm64/v8"); empty outside an index.
	Claimed string
	// Platform is what the image's own config says; this one decides.
	Platform   string
	Digest     string
	Env        []string
	Entrypoint []string
	Cmd        []string
	User       string
	WorkingDir string
	Labels     map[string]string
	Layers     []Layer
}

// Layer is one layer of an image as its manifest names it. Size is in bytes, compressed.
type Layer struct {
	MediaType, Digest string
	Size              int64
}

// Severity tells whether a finding stops a publish.
type Severity string

// The severities. An Error stops the publish, a Warning and a Notice are shown.
const (
	Error   Severity = "error"
	Warning Severity = "warning"
	Notice  Severity = "notice"
)

// Finding is something that a check found out about a connector or its image.
type Finding struct {
	Code     fault.Code `json:"code"`
	Severity Severity   `json:"severity"`
	// Message says what is so, Remedy what to do about it, each as a sentence.
	Message string `json:"message"`
	Remedy  string `json:"remedy,omitempty"`
	// File and Line tell where, when it is in a file; Line counts from 1, 0 is unknown.
	File string `json:"file,omitempty"`
	Line int    `json:"line,omitempty"`
}

// Log is where a step tells what it does with one connector.
type Log interface {
	// Group puts what follows under a title until end is called.
	Group(title string) (end func())
	// Info prints a line of our own.
	Info(format string, args ...any)
	// Finding shows a finding, as an annotation where the CI host has them.
	Finding(f Finding)
	// Untrusted prints text that another party wrote (a connector's log, a server's message) so that the CI host
	// can't read a command in it.
	Untrusted(title, text string)
}
