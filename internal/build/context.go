package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// ignoreFile is where a folder says which of its files stay out of the image, in Docker's syntax.
const ignoreFile = ".dockerignore"

// alwaysIgnored never goes into an image: git's own data, which may hold credentials and differs between clones, and the
// files in which a run on GitLab leaves its outputs, which would change the image of the next run.
var alwaysIgnored = []string{"**/.git", "airbyte-publish.env", "airbyte-publish.md"}

// ignoredByDefault stays out when the folder has no .dockerignore. Airbyte's own build leaves secrets, .venv and build
// out (its Dockerfile.manifest-only-connector.dockerignore); the rest is what Python and editors leave behind, which
// would give every machine another digest.
var ignoredByDefault = []string{"secrets", ".venv", "build", "**/.env", "**/__pycache__", "**/*.pyc", "**/.pytest_cache",
	"**/.ruff_cache", "**/.mypy_cache", "**/.DS_Store", ".idea", ".vscode"}

// contextFile is one file of a folder that goes into the image.
type contextFile struct {
	// path is relative to the folder, with slashes.
	path string
	// link is the target when it is a symbolic link, else empty.
	link string
}

// ContextFindings tells what should not be in a connector's folder when it is copied into an image: the credential
// files that google-github-actions/auth leaves in the workspace, unless .dockerignore leaves them out. A folder that
// can't be read has no findings here; building it says why.
func ContextFindings(dir string) []connector.Finding {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil
	}
	defer root.Close()
	files, err := contextFiles(root)
	if err != nil {
		return nil
	}
	var findings []connector.Finding
	for _, f := range files {
		if finding, found := credentialFinding(dir, f.path); found {
			findings = append(findings, finding)
		}
	}
	return findings
}

// credentialFinding is what is wrong with a file of a folder, by its path, when it is a credential file.
func credentialFinding(dir, file string) (f connector.Finding, found bool) {
	if found, _ = path.Match("gha-creds-*.json", path.Base(file)); !found {
		return f, false
	}
	return connector.Finding{Code: fault.CredentialFile, Severity: connector.Error,
		Message: fmt.Sprintf("%s holds credentials and would be copied into the image.", file),
		Remedy:  "Add gha-creds-*.json to .dockerignore, or move the sign-in step behind the build.",
		File:    filepath.Join(dir, filepath.FromSlash(file))}, true
}

// contextFiles lists the files of a folder that go into the image, sorted by path.
func contextFiles(root *os.Root) ([]contextFile, error) {
	patterns, err := ignorePatterns(root)
	if err != nil {
		return nil, err
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	w := contextWalk{root: root, matcher: matcher, parents: map[string]patternmatcher.MatchInfo{}}
	if err := fs.WalkDir(root.FS(), ".", w.visit); err != nil {
		return nil, err
	}
	slices.SortFunc(w.files, func(a, b contextFile) int { return strings.Compare(a.path, b.path) })
	return w.files, nil
}

func ignorePatterns(root *os.Root) ([]string, error) {
	f, err := root.Open(ignoreFile)
	if errors.Is(err, fs.ErrNotExist) {
		return slices.Concat(ignoredByDefault, alwaysIgnored), nil
	} else if err != nil {
		return nil, err
	}
	defer f.Close()
	patterns, err := ignorefile.ReadAll(f)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	// Last, so that no "!" takes it back.
	return append(patterns, alwaysIgnored...), nil
}

type contextWalk struct {
	root    *os.Root
	matcher *patternmatcher.PatternMatcher
	parents map[string]patternmatcher.MatchInfo
	files   []contextFile
}

func (w *contextWalk) visit(name string, entry fs.DirEntry, err error) error {
	if err != nil || name == "." {
		return err
	}
	ignored, match, err := w.matcher.MatchesUsingParentResults(name, w.parents[path.Dir(name)])
	if err != nil {
		return err
	}
	switch {
	case entry.IsDir() && ignored && (!w.matcher.Exclusions() || path.Base(name) == ".git"):
		return fs.SkipDir
	case entry.IsDir():
		w.parents[name] = match
		return nil
	case ignored:
		return nil
	}
	info, err := entry.Info()
	if err != nil {
		return err
	}
	file := contextFile{path: name}
	switch {
	case info.Mode().IsRegular():
	case info.Mode()&fs.ModeSymlink != 0:
		if file.link, err = w.link(name); err != nil {
			return err
		}
	default:
		return fmt.Errorf("%s is neither a file nor a symbolic link", name)
	}
	w.files = append(w.files, file)
	return nil
}

// link reads a symbolic link and makes sure that it stays inside the folder, because in the image it would point to
// something else than here. Its error names the link.
func (w *contextWalk) link(name string) (string, error) {
	target, err := w.root.Readlink(filepath.FromSlash(name))
	if err != nil {
		return "", err
	}
	target = filepath.ToSlash(target)
	inside := path.Join(path.Dir(name), target)
	if path.IsAbs(target) || filepath.IsAbs(target) || inside == ".." || strings.HasPrefix(inside, "../") {
		return "", fmt.Errorf("the symbolic link %s points out of the folder, to %s", name, target)
	}
	return target, nil
}
