package build

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// unpackInto unpacks layers into a folder beside which lies what no image may touch.
func unpackInto(t *testing.T, ids identity, layers ...[]entry) (root, outside string, err error) {
	t.Helper()
	above := t.TempDir()
	root, outside = filepath.Join(above, "root"), filepath.Join(above, "outside")
	for _, dir := range []string{root, outside} {
		if err := os.Mkdir(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(outside, "file"), []byte("untouched"), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		// What an ordinary user's unpacked folders may forbid to the removal of the test's own folder.
		if err := removeAll(root); err != nil {
			t.Error(err)
		}
	})
	var ls []v1.Layer
	for _, entries := range layers {
		for i := range entries {
			// A link of the test to the very folder, by its absolute name.
			entries[i].Linkname = strings.Replace(entries[i].Linkname, "OUTSIDE", outside, 1)
		}
		ls = append(ls, layerOf(t, tarOf(t, entries...)))
	}
	r, err := os.OpenRoot(root)
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = unpack(t.Context(), imageOf(t, hostPlatform, v1.Config{}, ls...), r, ids)
	return root, outside, err
}

// tree lists what was unpacked, without what the sandbox adds: "name type-and-mode content".
func tree(t *testing.T, root string) []string {
	t.Helper()
	var all []string
	err := fs.WalkDir(os.DirFS(root), ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if slices.Contains(mountPoints, name) || name == "." || name == "etc" || name == "etc/hosts" {
			return nil
		}
		info, err := d.Info()
		if err != nil {
			return err
		}
		line := name + " " + info.Mode().String()
		switch {
		case info.Mode().IsRegular():
			body, err := os.ReadFile(filepath.Join(root, name))
			if err != nil {
				return err
			}
			line += " " + string(body)
		case info.Mode()&fs.ModeSymlink != 0:
			target, _ := os.Readlink(filepath.Join(root, name))
			line += " " + target
		}
		all = append(all, line)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}

func special(name string, kind byte) entry {
	return entry{tar.Header{Typeflag: kind, Name: name, Mode: 0o666, Devmajor: 1, Devminor: 3}, ""}
}

func TestUnpack(t *testing.T) {
	t.Parallel()
	mine := func(e entry) entry { return owned(e, connectorID, connectorID) }
	tests := []struct {
		name   string
		layers [][]entry
		want   []string
	}{
		{"a later layer wins", [][]entry{{mine(file("a/b", "old", 0o644))}, {mine(file("a/b", "new", 0o600))}},
			[]string{"a drwxr-xr-x", "a/b -rw------- new"}},
		{"a whiteout removes", [][]entry{{mine(file("a/b", "1", 0o644)), mine(file("a/c", "2", 0o644))}, {file("a/.wh.b", "", 0)}},
			[]string{"a drwxr-xr-x", "a/c -rw-r--r-- 2"}},
		{"a whiteout of a folder removes all of it, and not what comes after", [][]entry{{mine(file("a/b/c", "1", 0o644))},
			{file("a/.wh.b", "", 0), mine(file("a/b/d", "2", 0o644))}},
			[]string{"a drwxr-xr-x", "a/b drwxr-xr-x", "a/b/d -rw-r--r-- 2"}},
		{"an opaque folder hides the layers below and keeps its own, in any order", [][]entry{
			{mine(file("a/b/old", "1", 0o644)), mine(file("a/old", "1", 0o644))},
			{mine(file("a/b/new", "2", 0o644)), file("a/.wh..wh..opq", "", 0), mine(file("a/new", "3", 0o644))}},
			[]string{"a drwxr-xr-x", "a/b drwxr-xr-x", "a/b/new -rw-r--r-- 2", "a/new -rw-r--r-- 3"}},
		{"hard links", [][]entry{{mine(file("a", "1", 0o644))}, {hardlink("b/c", "/a")}},
			[]string{"a -rw-r--r-- 1", "b drwxr-xr-x", "b/c -rw-r--r-- 1"}},
		{"a hard link to itself keeps the file", [][]entry{{mine(file("a", "1", 0o644))}, {hardlink("./a", "a")}}, []string{"a -rw-r--r-- 1"}},
		{"replacing a hard link leaves the other name alone", [][]entry{{mine(file("a", "1", 0o644)), hardlink("b", "a")},
			{mine(file("b", "2", 0o644))}}, []string{"a -rw-r--r-- 1", "b -rw-r--r-- 2"}},
		{"a file becomes a folder and a folder a file", [][]entry{{mine(file("a", "1", 0o644)), mine(file("b/c", "1", 0o644))},
			{mine(dir("a", 0o755)), mine(file("b", "2", 0o644))}}, []string{"a drwxr-xr-x", "b -rw-r--r-- 2"}},
		{"through an absolute link to a folder", [][]entry{{dir("run", 0o755), symlink("var/run", "/run")}, {mine(file("var/run/x", "1", 0o644))}},
			[]string{"run drwxr-xr-x", "run/x -rw-r--r-- 1", "var drwxr-xr-x", "var/run Lrwxrwxrwx /run"}},
		{"the folder under a link is made", [][]entry{{symlink("lib", "usr/lib"), mine(file("lib/x", "1", 0o644))}},
			[]string{"lib Lrwxrwxrwx usr/lib", "usr drwxr-xr-x", "usr/lib drwxr-xr-x", "usr/lib/x -rw-r--r-- 1"}},
		{"the link that was replaced is not followed", [][]entry{{dir("x", 0o755), symlink("l", "x"), mine(file("l/a", "1", 0o644))},
			{mine(dir("l", 0o755)), mine(file("l/b", "2", 0o644))}},
			[]string{"l drwxr-xr-x", "l/b -rw-r--r-- 2", "x drwxr-xr-x", "x/a -rw-r--r-- 1"}},
		{"bits beyond permissions are dropped", [][]entry{{mine(file("a", "", 0o6755)), mine(dir("b", 0o3777))}},
			[]string{"a -rwxr-xr-x ", "b drwxrwxrwx"}},
		{"devices, pipes and unknown entries are left out", [][]entry{{special("null", tar.TypeChar), special("disk", tar.TypeBlock),
			special("pipe", tar.TypeFifo), special("odd", 'Z')}}, nil},
		{"names of an older union file system are left out", [][]entry{{file(".wh..wh.plnk/x", "", 0), file(".wh..wh.aufs", "", 0), file("x/.wh...", "", 0)}},
			[]string{"x drwxr-xr-x"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			root, _, err := unpackInto(t, identity{}, tt.layers...)
			if err != nil {
				t.Fatal(err)
			}
			// Folders without an owner belong to root, so an ordinary user has fewer rights to them.
			got := tree(t, root)
			for i := range got {
				got[i] = strings.Replace(got[i], "dr-xr-xr-x", "drwxr-xr-x", 1)
			}
			if !slices.Equal(got, tt.want) {
				t.Errorf("got\n%s\nwant\n%s", strings.Join(got, "\n"), strings.Join(tt.want, "\n"))
			}
		})
	}
}

func TestUnpackStaysInside(t *testing.T) {
	t.Parallel()
	bad := func(name string) entry { return file(name, "bad", 0o666) }
	tests := []struct {
		name   string
		layers [][]entry
		fails  bool
	}{
		{"dots", [][]entry{{bad("../outside/file"), bad("../../outside/file"), bad("a/../../outside/file")}}, false},
		{"an absolute name", [][]entry{{bad("/etc/passwd"), bad("//outside/file")}}, false},
		{"a link and a file through it", [][]entry{{symlink("x", "../outside"), bad("x/file")}}, false},
		{"an absolute link and a file through it", [][]entry{{symlink("x", "OUTSIDE"), bad("x/file")}}, false},
		{"a link in a later layer", [][]entry{{dir("x", 0o755)}, {symlink("x", "../outside"), bad("x/file")}}, false},
		{"a link where a file is written", [][]entry{{symlink("x", "../outside/file"), bad("x")}}, false},
		{"links to links", [][]entry{{symlink("a", ".."), symlink("b", "a/.."), symlink("c", "b/outside"), bad("c/file")}}, false},
		{"links in a circle", [][]entry{{symlink("a", "b"), symlink("b", "a"), bad("a/file")}}, true},
		{"a hard link to outside", [][]entry{{hardlink("x", "../outside/file"), bad("x")}}, true},
		{"a hard link to an absolute name", [][]entry{{hardlink("x", "OUTSIDE/file"), bad("x")}}, true},
		{"a hard link to a folder", [][]entry{{dir("a", 0o755), hardlink("x", "a")}}, true},
		{"a hard link to a link", [][]entry{{symlink("a", "../outside/file"), hardlink("x", "a"), bad("x")}}, false},
		{"a hard link through a link", [][]entry{{symlink("a", "../outside"), hardlink("x", "a/file"), bad("x")}}, true},
		{"a whiteout through a link", [][]entry{{symlink("x", "../outside")}, {file("x/.wh.file", "", 0)}}, false},
		{"a whiteout of dots", [][]entry{{file(".wh...", "", 0), file("a/.wh...", "", 0), file(".wh..", "", 0), file(".wh.", "", 0)}}, false},
		{"an opaque link", [][]entry{{symlink("x", "../outside")}, {file("x/.wh..wh..opq", "", 0)}}, false},
		{"a folder over a link, with a mode", [][]entry{{symlink("x", "../outside")}, {dir("x", 0o700)}}, false},
		{"links instead of mount points", [][]entry{{symlink("proc", "../outside"), symlink("config", "/../outside/file"), symlink("etc", "../outside")}}, false},
		{"a link instead of hosts", [][]entry{{symlink("etc/hosts", "../../outside/file")}}, false},
	}
	for _, ranged := range []bool{false, true} {
		if ranged && os.Geteuid() != 0 {
			continue // Only root can give files away.
		}
		for _, tt := range tests {
			t.Run(fmt.Sprintf("%s/ranged=%t", tt.name, ranged), func(t *testing.T) {
				t.Parallel()
				var layers [][]entry
				for _, l := range tt.layers {
					layers = append(layers, slices.Clone(l))
				}
				root, outside, err := unpackInto(t, identity{ranged: ranged}, layers...)
				if (err != nil) != tt.fails {
					t.Errorf("error %v, want one: %t", err, tt.fails)
				}
				body, readErr := os.ReadFile(filepath.Join(outside, "file"))
				left, _ := os.ReadDir(outside)
				above, _ := os.ReadDir(filepath.Dir(outside))
				info, statErr := os.Stat(outside)
				if readErr != nil || statErr != nil || string(body) != "untouched" || len(left) != 1 || len(above) != 2 || info.Mode().Perm() != 0o755 {
					t.Errorf("outside now has %v with %q and mode %v, above it %v", left, body, info.Mode(), above)
				}
				for _, name := range mountPoints {
					if info, err := os.Lstat(filepath.Join(root, name)); !tt.fails && (err != nil || !info.IsDir()) {
						t.Errorf("%s is not a folder: %v", name, err)
					}
				}
			})
		}
	}
}

// rawLayer is a layer of exactly these compressed bytes.
type rawLayer struct {
	content []byte
	diffID  v1.Hash
}

func (l rawLayer) Digest() (v1.Hash, error) {
	h, _, err := v1.SHA256(bytes.NewReader(l.content))
	return h, err
}
func (l rawLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l rawLayer) Size() (int64, error)                { return int64(len(l.content)), nil }
func (l rawLayer) MediaType() (types.MediaType, error) { return types.OCILayer, nil }
func (l rawLayer) Compressed() (io.ReadCloser, error) {
	return io.NopCloser(bytes.NewReader(l.content)), nil
}

func unpackRaw(t *testing.T, content []byte, diffID v1.Hash) error {
	t.Helper()
	layer, err := partial.CompressedToLayer(rawLayer{content, diffID})
	if err != nil {
		t.Fatal(err)
	}
	r, err := os.OpenRoot(t.TempDir())
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	err = unpack(t.Context(), imageOf(t, hostPlatform, v1.Config{}, layer), r, identity{})
	if err != nil {
		err = unpackFault(err)
	}
	return err
}

func zipped(t *testing.T, write func(io.Writer)) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	write(z)
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

func TestUnpackIsBounded(t *testing.T) {
	t.Parallel()
	header := func(h *tar.Header) []byte {
		var b bytes.Buffer
		if err := tar.NewWriter(&b).WriteHeader(h); err != nil {
			t.Fatal(err)
		}
		return b.Bytes()
	}
	huge := header(&tar.Header{Typeflag: tar.TypeReg, Name: "huge", Mode: 0o644, Size: 1 << 40})
	// An old GNU sparse file: a header that claims a terabyte of nothing.
	sparse := header(&tar.Header{Typeflag: tar.TypeReg, Name: "sparse", Mode: 0o644, Format: tar.FormatGNU})
	sparse[156] = 'S'
	terabyte := "\x80\x00\x00\x00\x00\x00\x01\x00\x00\x00\x00\x00" // base 256
	copy(sparse[386:398], terabyte)
	copy(sparse[398:410], "00000000000\x00")
	copy(sparse[483:495], terabyte)
	copy(sparse[148:156], "        ")
	var sum int
	for _, b := range sparse[:512] {
		sum += int(b)
	}
	copy(sparse[148:156], fmt.Sprintf("%06o\x00 ", sum))
	deep := tarOf(t, file(strings.Repeat("d/", 200)+"x", "", 0o644))
	tests := []struct {
		name    string
		content []byte
		code    fault.Code
	}{
		{"a file that claims a terabyte", zipped(t, func(w io.Writer) { _, _ = w.Write(huge) }), fault.SpecNotRun},
		{"a sparse file of a terabyte", zipped(t, func(w io.Writer) { _, _ = w.Write(sparse) }), fault.SpecNotRun},
		{"a deep folder", zipped(t, func(w io.Writer) { _, _ = w.Write(deep) }), fault.SpecNotRun},
		{"no archive", []byte("hello"), fault.BadImage},
		{"a damaged stream", zipped(t, func(w io.Writer) { _, _ = w.Write(deep) })[:100], fault.BadImage},
		{"another content than the config says", zipped(t, func(w io.Writer) { _, _ = w.Write(tarOf(t)) }), fault.BadImage},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			err := unpackRaw(t, tt.content, v1.Hash{Algorithm: "sha256", Hex: strings.Repeat("0", 64)})
			if fault.CodeOf(err) != tt.code {
				t.Errorf("%v, want %s", err, tt.code)
			}
			if strings.Contains(tt.name, "sparse") && !errors.Is(err, errTooLarge) {
				t.Errorf("%v, want that it is too large", err)
			}
		})
	}
}

func TestBoundedReaderStopsADecompressionBomb(t *testing.T) {
	t.Parallel()
	n, err := io.Copy(io.Discard, &boundedReader{r: zeros{}, left: 1000})
	if n != 1000 || !errors.Is(err, errTooLarge) {
		t.Errorf("read %d bytes, %v", n, err)
	}
}

type zeros struct{}

func (zeros) Read(p []byte) (int, error) { return len(p), nil }

func TestIdentityKeepsWhatAirbyteWouldDeny(t *testing.T) {
	t.Parallel()
	tests := []struct {
		uid, gid   int
		mode, want fs.FileMode
	}{
		{0, 0, 0o755, 0o555}, {0, 0, 0o700, 0o000}, {0, 0, 0o600, 0o000}, {0, 0, 0o777, 0o777},
		{1000, 1000, 0o750, 0o750}, {1000, 0, 0o700, 0o700}, {0, 1000, 0o750, 0o550}, {0, 1000, 0o705, 0o005},
	}
	for _, tt := range tests {
		h := &tar.Header{Uid: tt.uid, Gid: tt.gid, Mode: int64(tt.mode)}
		if got := (identity{}).mode(h); got != tt.want {
			t.Errorf("%d:%d %o becomes %o, want %o", tt.uid, tt.gid, tt.mode, got, tt.want)
		}
		if got := (identity{ranged: true}).mode(h); got != tt.mode {
			t.Errorf("%d:%d %o becomes %o where owners are kept", tt.uid, tt.gid, tt.mode, got)
		}
	}
	if hostID(70000) != idBase+65534 || hostID(-1) != idBase+65534 || hostID(1000) != idBase+1000 {
		t.Error("an id is not where it belongs")
	}
}
