package build

import (
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// capabilities are what an engine can do, known before it builds anything.
type capabilities struct {
	// version is BuildKit's ("v0.33.1"), or empty where the engine does not tell.
	version string
	// platforms are those that it can execute RUN for, by emulation too ("linux/amd64", "linux/arm64").
	platforms []string
	// multiPlatform and attestations tell that it can export several platforms, and provenance and SBOM.
	multiPlatform, attestations bool
	// cacheExports are the types that cache-to may have.
	cacheExports []string
}

// check tells, before anything is built, what the recipe asks for and the engine can't do. What might fail is told to
// log. The error is a *fault.Error.
func (e *engine) check(r connector.Recipe, log connector.Log) error {
	return nil
}
