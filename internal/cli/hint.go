package cli

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// nothingGiven is the answer to the bare command where nothing says what is to be published: what to do, in the place of
// all that would be missing. A container is often started so, to see what it does.
func nothingGiven(p Process, flags map[string]string, args []string) error {
	if len(flags) > 0 || len(args) > 0 {
		return nil
	}
	for _, variable := range p.Environ {
		name, text, _ := strings.Cut(variable, "=")
		if text != "" && (strings.HasPrefix(name, "AIRBYTE_PUBLISH_") || strings.HasPrefix(name, "INPUT_")) {
			return nil
		}
	}
	for _, file := range []string{"metadata.yaml", "manifest.yaml", "Dockerfile"} {
		if _, err := os.Stat(filepath.Join(p.Dir, file)); err == nil {
			return nil
		}
	}
	return &fault.Error{Code: fault.NothingGiven, Op: "publish", Object: "the working directory",
		Cause: "nothing was given: no folder, no flag and no variable, and no connector is here",
		Remedy: "Name a connector and the Airbyte: airbyte-publish connectors/source-erp --airbyte-url https://airbyte.example.com. " +
			"In a container, mount the repository and make it the working directory. airbyte-publish --help lists all inputs."}
}
