package build

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"github.com/moby/patternmatcher"
	"golang.org/x/sync/errgroup"
)

// sourceLabel is the label that tells from which sources an image was made.
const sourceLabel = "io.airbyte-publish.source-digest"

// contextEntry is one thing of a folder that goes to a build.
type contextEntry struct {
	// path is relative to the folder, with slashes.
	path string
	mode fs.FileMode
	// sum is the SHA-256 of a file's content, or a symbolic link's target; empty for anything else.
	sum string
}

// walkContext lists what .dockerignore leaves of a folder, sorted by path: files, folders (empty ones too, which COPY
// makes), symbolic links, and whatever else there may be.
func walkContext(ctx context.Context, dir string, patterns []string, keepGit bool) ([]contextEntry, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	if !keepGit {
		// Last, so that no "!" takes it back.
		patterns = slices.Concat(patterns, alwaysIgnored)
	}
	matcher, err := patternmatcher.New(patterns)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", ignoreFile, err)
	}
	var entries []contextEntry
	parents := map[string]patternmatcher.MatchInfo{}
	err = fs.WalkDir(root.FS(), ".", func(name string, entry fs.DirEntry, err error) error {
		if err := errors.Join(err, ctx.Err()); err != nil || name == "." {
			return err
		}
		ignored, match, err := matcher.MatchesUsingParentResults(name, parents[path.Dir(name)])
		if err != nil {
			return err
		}
		if entry.IsDir() {
			if ignored && (!matcher.Exclusions() || path.Base(name) == ".git" && !keepGit) {
				return fs.SkipDir
			}
			parents[name] = match
		}
		if ignored {
			return nil
		}
		info, err := entry.Info()
		if err != nil {
			return err
		}
		entries = append(entries, contextEntry{path: name, mode: info.Mode()})
		return nil
	})
	slices.SortFunc(entries, func(a, b contextEntry) int { return strings.Compare(a.path, b.path) })
	return entries, err
}

// hashContext fills in the sums. Files are read at the same time, in blocks.
func hashContext(ctx context.Context, dir string, entries []contextEntry) error {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return err
	}
	defer root.Close()
	// Small files are mostly waiting, so there are more workers than processors; each takes every n-th entry.
	workers := min(4*runtime.GOMAXPROCS(0), len(entries))
	group, ctx := errgroup.WithContext(ctx)
	for first := range workers {
		group.Go(func() error {
			block, sum := make([]byte, 64<<10), sha256.New()
			for i := first; i < len(entries); i += workers {
				if err := ctx.Err(); err != nil {
					return err
				}
				if err := entries[i].hash(root, sum, block); err != nil {
					return err
				}
			}
			return nil
		})
	}
	return group.Wait()
}

func (e *contextEntry) hash(root *os.Root, sum hash.Hash, block []byte) error {
	name := filepath.FromSlash(e.path)
	sum.Reset()
	switch {
	case e.mode.IsRegular():
		f, err := root.Open(name)
		if err != nil {
			return err
		}
		defer f.Close()
		// A plain reader, because a file would bring a larger block of its own.
		if _, err := io.CopyBuffer(sum, struct{ io.Reader }{f}, block); err != nil {
			return fmt.Errorf("%s: %w", e.path, err)
		}
	case e.mode&fs.ModeSymlink != 0:
		target, err := root.Readlink(name)
		if err != nil {
			return err
		}
		_, _ = io.WriteString(sum, filepath.ToSlash(target))
	default:
		return nil
	}
	e.sum = hex.EncodeToString(sum.Sum(nil))
	return nil
}

// sourceDigest is the digest of everything that is given to a build: the folder's content, the Dockerfile, the inputs. Of
// a file's mode only the type and the executable bit count, and its times do not, because clones of the same commit
// differ in the rest. Of secrets only the names count: their values must not be told, not even by a hash.
func (p *blueprint) sourceDigest(entries []contextEntry) string {
	sum := sha256.New()
	// Each text goes in with its length, so that no two lists of texts are the same bytes.
	add := func(texts ...string) {
		for _, text := range texts {
			_, _ = fmt.Fprintf(sum, "%d:%s", len(text), text)
		}
	}
	recipe := p.connector.Recipe
	add("airbyte-publish sources 1", string(p.text), recipe.Target)
	pairs := func(name string, all map[string]string) {
		add(name)
		for _, key := range slices.Sorted(maps.Keys(all)) {
			add(key, all[key])
		}
	}
	add("platforms")
	add(slices.Sorted(slices.Values(p.platforms))...)
	pairs("args", recipe.Args)
	pairs("labels", recipe.Labels)
	add("secrets")
	add(slices.Sorted(maps.Keys(recipe.Secrets))...)
	add("files")
	for _, e := range entries {
		kind := e.mode.Type().String()
		if e.mode.IsRegular() && e.mode&0o100 != 0 {
			kind += "x"
		}
		add(e.path, kind, e.sum)
	}
	return "sha256:" + hex.EncodeToString(sum.Sum(nil))
}
