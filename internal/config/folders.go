package config

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

const metadataFile = "metadata.yaml"

// connectorFiles are the files by which a folder is a connector.
var connectorFiles = []string{metadataFile, "manifest.yaml", "Dockerfile"}

// folder is where a connector lies, with what its metadata.yaml says.
type folder struct {
	// label is the path for messages, dir the one to open. Both are empty for a connector that has no folder because
	// its image exists already.
	label, dir string
	// name is the folder's own name.
	name string
	// metadata is nil when there is none, or when it can't be read, which broken tells.
	metadata *connector.Metadata
	broken   bool
}

// fields are what metadata.yaml says, all empty without one.
func (f folder) fields() connector.Metadata {
	if f.metadata == nil {
		return connector.Metadata{}
	}
	return *f.metadata
}

// imageName is what {connector} stands for.
func (f folder) imageName() string {
	if r := f.fields().DockerRepository; r != "" {
		return image.Repository(r).Base()
	}
	return f.name
}

// folders finds the connectors that are asked for, each once.
func (r *reader) folders() []folder {
	paths := r.list("connectors")
	if r.values["connectors"].from == fromArguments {
		// A comma in an argument is part of a path. An empty one is a variable that was not set.
		paths = slices.DeleteFunc(slices.Clone(r.Args), func(a string) bool { return strings.TrimSpace(a) == "" })
	}
	if len(paths) == 0 {
		r.reject(fault.MissingInput, "connectors", r.values["connectors"].String()+" names no folder", "Name one, or leave it unset for the working directory.")
	}
	var (
		found []folder
		seen  = map[string]bool{}
	)
	for _, path := range paths {
		for _, label := range r.expand(path, len(paths) == 1) {
			f := folder{label: label, dir: r.path(label)}
			absolute, err := filepath.Abs(f.dir)
			if err != nil {
				absolute = f.dir
			}
			if !seen[absolute] {
				seen[absolute] = true
				f.name = filepath.Base(absolute)
				r.readMetadata(&f)
				found = append(found, f)
			}
		}
	}
	if found == nil && r.withoutFolder(paths) {
		found = []folder{{}}
	}
	return found
}

// withoutFolder tells whether the connector needs no folder: its image exists, and no folder was named.
func (r *reader) withoutFolder(paths []string) bool {
	return r.given("source") && len(paths) == 1 && filepath.Clean(paths[0]) == "."
}

// expand turns a path or a glob into the folders it stands for.
func (r *reader) expand(path string, alone bool) []string {
	path = filepath.Clean(strings.TrimSpace(path))
	missing := func(cause, remedy string) []string {
		r.reject(fault.NoConnector, "connectors", fmt.Sprintf("%q %s", fault.Bounded(path), cause), remedy)
		return nil
	}
	const need = "A connector's folder has a metadata.yaml, a manifest.yaml or a Dockerfile; give such a folder, relative to the working directory."
	info, err := os.Stat(r.path(path))
	switch {
	case err != nil && strings.ContainsAny(path, "*?["):
		return r.glob(path)
	case err != nil && path == filepath.Base(path) && r.values["connectors"].from == fromArguments:
		return missing("can't be used: "+why(err), need+" A verb stands first (airbyte-publish --help lists them), and the value of a true-or-false flag behind an equals sign.")
	case err != nil:
		return missing("can't be used: "+why(err), need)
	case !info.IsDir():
		return missing("is a file", fmt.Sprintf("Give its folder: %q.", fault.Bounded(filepath.Dir(path))))
	case isConnector(r.path(path)):
		return []string{path}
	case alone && r.withoutFolder([]string{path}):
		return nil
	}
	return missing("is no connector", need)
}

// glob finds the connectors' folders that match; what else matches is passed over.
func (r *reader) glob(pattern string) []string {
	reject := func(code fault.Code, cause, remedy string) []string {
		r.reject(code, "connectors", fmt.Sprintf("%q %s", fault.Bounded(pattern), cause), remedy)
		return nil
	}
	if strings.Contains(pattern, "**") {
		return reject(fault.InvalidInput, "holds **, which stands for nothing here", "Write one * for each level of folders, as in connectors/*.")
	}
	matches, err := filepath.Glob(r.globPath(pattern))
	if err != nil {
		return reject(fault.InvalidInput, "is not a glob", "Close every [ by a ].")
	}
	var found []string
	for _, match := range matches {
		if !isConnector(match) {
			continue
		}
		if relative, err := filepath.Rel(r.Dir, match); err == nil && r.Dir != "" && !filepath.IsAbs(pattern) {
			match = relative
		}
		found = append(found, match)
	}
	switch {
	case len(matches) == 0:
		return reject(fault.NoConnector, "matches nothing", "Correct the glob; it starts from the working directory.")
	case found == nil:
		return reject(fault.NoConnector, fmt.Sprintf("matches %d paths and no connector among them", len(matches)),
			"Correct the glob; a connector's folder has a metadata.yaml, a manifest.yaml or a Dockerfile.")
	}
	return found
}

// globPath is path for a glob: what looks like one in the working directory's own name is none.
func (r *reader) globPath(pattern string) string {
	if r.Dir == "" || filepath.IsAbs(pattern) {
		return pattern
	}
	dir := r.Dir
	if filepath.Separator != '\\' {
		// Windows has no way to escape, and no such names but [.
		dir = strings.NewReplacer(`\`, `\\`, `*`, `\*`, `?`, `\?`, `[`, `\[`).Replace(dir)
	}
	return filepath.Join(dir, pattern)
}

func isConnector(dir string) bool {
	for _, name := range connectorFiles {
		if isFile(filepath.Join(dir, name)) {
			return true
		}
	}
	return false
}

func isFile(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode().IsRegular()
}

func (r *reader) readMetadata(f *folder) {
	if !isFile(filepath.Join(f.dir, metadataFile)) {
		return
	}
	shown := filepath.Join(f.label, metadataFile)
	content, err := readFile(filepath.Join(f.dir, metadataFile))
	if err != nil {
		f.broken = true
		r.fail(&fault.Error{Code: fault.UnreadableFile, Op: "read", Object: shown, Cause: why(err),
			Remedy: "Make the file readable for the user that runs this.", Err: err})
		return
	}
	if f.metadata, err = connector.ParseMetadata(shown, content); err != nil {
		f.broken = true
		for _, problem := range fault.List(err) {
			r.fail(problem)
		}
	}
}

// changedSince is the commit since which a connector has to have changed.
func (r *reader) changedSince() string {
	const input = "changed-since"
	ref := r.text(input)
	switch {
	case strings.HasPrefix(ref, "-") || strings.ContainsFunc(ref, func(c rune) bool { return c <= ' ' || c == 0x7f }):
		r.reject(fault.InvalidInput, input, r.values[input].String()+" can't be the name of a commit", "Give a commit's id, a tag or a branch, such as origin/main.")
	case ref != "" && len(r.values["connectors"].text) > 0 && r.withoutFolder(r.list("connectors")) && !isConnector(r.path(".")):
		r.reject(fault.ConflictingInputs, input, "there is no connector's folder that could have changed", "Leave it unset, or name the folders by connectors.")
	}
	return ref
}
