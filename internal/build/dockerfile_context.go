package build

import (
	"bytes"
	"context"
	"io"
	"io/fs"
	"maps"
	"path"
	"slices"
	"strings"

	"github.com/tonistiigi/fsutil"
	"github.com/tonistiigi/fsutil/types"
)

// contextFS is the folder as it is sent to an engine. What .dockerignore says is asked for by the frontend, so that it
// reads that file itself; git's own folder is not offered at all.
func (p *blueprint) contextFS() (fsutil.FS, error) {
	folder, err := fsutil.NewFS(p.connector.Dir)
	if err != nil || p.keepsGit() {
		return folder, err
	}
	return fsutil.NewFilterFS(folder, &fsutil.FilterOpt{ExcludePatterns: alwaysIgnored})
}

// dockerfileFS holds the Dockerfile and the .dockerignore that were hashed, under the name by which the frontend takes
// that before any other.
func (p *blueprint) dockerfileFS() fsutil.FS {
	return memoryFS{p.name: p.text, p.name + ignoreFile: p.ignore}
}

// memoryFS is a folder of files in memory, for BuildKit to fetch.
type memoryFS map[string][]byte

// Walk implements fsutil.FS.
func (m memoryFS) Walk(_ context.Context, target string, visit fs.WalkDirFunc) error {
	target = strings.TrimPrefix(path.Clean("/"+target), "/")
	for _, name := range slices.Sorted(maps.Keys(m)) {
		if target != "" && target != name {
			continue
		}
		stat := &types.Stat{Path: name, Mode: 0o644, Size: int64(len(m[name]))}
		if err := visit(name, &fsutil.DirEntryInfo{Stat: stat}, nil); err != nil {
			return err
		}
	}
	return nil
}

// Open implements fsutil.FS.
func (m memoryFS) Open(name string) (io.ReadCloser, error) {
	content, found := m[strings.TrimPrefix(name, "/")]
	if !found {
		return nil, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(bytes.NewReader(content)), nil
}
