// Command gen writes what is made from the table of inputs: action.yml, templates/publish.yml, docs/inputs.md and, where README.md has the
// markers for it, its table. It is run by go generate in internal/config; a test fails when a file differs from what it
// would write. With -release and -root it writes the files of a release somewhere else, which is how one is tried.
package main

import (
	"bytes"
	_ "embed"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

//go:embed release.txt
var releaseText string

func main() {
	root := flag.String("root", "../..", "the folder to write to")
	file := flag.String("release", "", "the file to take for release.txt")
	flag.Parse()
	text := releaseText
	if *file != "" {
		content, err := os.ReadFile(*file)
		exitOn(err)
		text = string(content)
	}
	exitOn(write(*root, text))
}

func exitOn(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// write brings the files below root up to date.
func write(root, releaseText string) error {
	files, err := render(root, releaseText)
	if err != nil {
		return err
	}
	for _, name := range slices.Sorted(maps.Keys(files)) {
		path := filepath.Join(root, name)
		if current, err := os.ReadFile(path); err == nil && bytes.Equal(current, files[name]) {
			continue
		}
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, files[name], 0o644); err != nil {
			return err
		}
	}
	return nil
}

// render makes the content of each file that depends on the table, by its path below root.
func render(root, releaseText string) (map[string][]byte, error) {
	released, err := parseRelease(releaseText)
	if err != nil {
		return nil, err
	}
	files := map[string][]byte{
		"action.yml":            action(config.Inputs(), config.Outputs(), released),
		"docs/inputs.md":        reference(config.Inputs(), config.Outputs()),
		"templates/publish.yml": component(config.Inputs()),
	}
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	default:
		if files["README.md"], err = between(readme, summary(config.Inputs())); err != nil {
			return nil, err
		}
	}
	return files, nil
}

const (
	beginMarker = "<!-- inputs:begin -->"
	endMarker   = "<!-- inputs:end -->"
)

// between puts text between the markers; without a first marker nothing is changed.
func between(readme, text []byte) ([]byte, error) {
	head, rest, found := bytes.Cut(readme, []byte(beginMarker))
	if !found {
		return readme, nil
	}
	_, tail, found := bytes.Cut(rest, []byte(endMarker))
	if !found {
		return nil, fmt.Errorf("README.md has %s and no %s after it", beginMarker, endMarker)
	}
	return slices.Concat(head, []byte(beginMarker+"\n"), text, []byte(endMarker), tail), nil
}
