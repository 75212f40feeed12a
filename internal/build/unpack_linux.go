package build

import (
	"archive/tar"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"slices"
	"strings"
	"syscall"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// The bounds of what is unpacked. The largest of Airbyte's own images has some 3 GB and 100,000 files.
const (
	maxUnpackedBytes   = 8 << 30
	maxUnpackedEntries = 1_000_000
	maxUnpackedNames   = 128 << 20
	maxUnpackedDepth   = 128
	maxLinksFollowed   = 40 // as the kernel
)

// errTooLarge tells that an image is beyond what is unpacked here, which does not make it a bad image.
var errTooLarge = errors.New("the image is too large to be unpacked here")

// unpack writes an image's flattened file system under root. The image may be hostile: every path is resolved inside
// root, as if root were /, and os.Root stands behind that; nothing is read or written elsewhere. Devices, sockets and
// pipes are left out, setuid, setgid and sticky bits, extended attributes and times are dropped.
func unpack(ctx context.Context, img v1.Image, root *os.Root, ids identity) error {
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	if len(layers) != len(config.RootFS.DiffIDs) {
		return fmt.Errorf("its manifest has %d layers and its config %d", len(layers), len(config.RootFS.DiffIDs))
	}
	u := &unpacker{ctx: ctx, root: root, ids: ids, resolved: map[string]string{},
		folders: map[string]fs.FileMode{".": ids.mode(implicitFolder)},
		bytes:   maxUnpackedBytes, entries: maxUnpackedEntries, names: maxUnpackedNames}
	defer u.closeFolder()
	for i, layer := range layers {
		u.written = map[string]struct{}{}
		if err := u.layer(layer, config.RootFS.DiffIDs[i]); err != nil {
			return err
		}
	}
	if err := u.prepare(); err != nil {
		return err
	}
	return u.finish()
}

type unpacker struct {
	ctx  context.Context
	root *os.Root
	ids  identity
	// folders has the mode that each folder gets at the end: until then they are writable.
	folders map[string]fs.FileMode
	// resolved remembers where folders really are; it is emptied when something is removed.
	resolved map[string]string
	// written has what the current layer wrote, with the folders above it.
	written map[string]struct{}
	// open is the folder that the last file was written to.
	open     *os.Root
	openName string
	// What is left of the bounds.
	bytes, names int64
	entries      int
}

// layer unpacks one layer on those below it, and holds its content against the config, as containerd does.
func (u *unpacker) layer(layer v1.Layer, diffID v1.Hash) error {
	rc, err := layer.Uncompressed()
	if err != nil {
		return err
	}
	defer rc.Close()
	sum256 := sha256.New()
	// The same bound for the stream: a compressed layer can be a thousandth of it.
	bounded := &boundedReader{r: contextReader{u.ctx, rc}, left: maxUnpackedBytes}
	stream := io.TeeReader(bounded, sum256)
	archive := tar.NewReader(stream)
	for {
		header, err := archive.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("its layer %s is damaged: %w", diffID, err)
		}
		if err := u.entry(header, archive); err != nil {
			return fmt.Errorf("%s: %w", header.Name, err)
		}
	}
	if _, err := io.Copy(io.Discard, stream); err != nil {
		return err
	}
	if got := sum(sum256); got != diffID {
		return fmt.Errorf("its layer has the content %s, its config says %s", got, diffID)
	}
	return nil
}

// entry unpacks one entry of a layer, or carries out the removal that it stands for.
func (u *unpacker) entry(h *tar.Header, content io.Reader) error {
	name := strings.TrimPrefix(path.Clean("/"+h.Name), "/")
	u.entries--
	u.names -= int64(len(name) + len(h.Linkname))
	u.bytes -= h.Size
	if u.entries < 0 || u.names < 0 || u.bytes < 0 || strings.Count(name, "/") >= maxUnpackedDepth {
		return errTooLarge
	}
	if name == "" {
		return u.makeFolder(".", h)
	}
	if strings.HasPrefix(name, ".wh..wh.") && name != ".wh..wh..opq" {
		return nil // An older union file system's own.
	}
	parent, err := u.folder(path.Dir(name))
	if err != nil {
		return err
	}
	base := path.Base(name)
	if removed, ok := strings.CutPrefix(base, ".wh."); ok {
		return u.whiteout(parent, removed)
	}
	name = path.Join(parent, base)
	switch h.Typeflag {
	case tar.TypeDir:
		err = u.makeFolder(name, h)
	case tar.TypeReg:
		err = u.makeFile(name, h, content)
	case tar.TypeSymlink:
		if err = u.remove(name); err == nil {
			err = u.root.Symlink(h.Linkname, name)
		}
		if err == nil {
			err = u.own(name, h)
		}
	case tar.TypeLink:
		err = u.makeLink(name, h)
	default:
		return nil
	}
	u.wrote(name)
	return err
}

// wrote notes what the current layer has written.
func (u *unpacker) wrote(name string) {
	for ; name != "."; name = path.Dir(name) {
		if _, ok := u.written[name]; ok {
			return
		}
		u.written[name] = struct{}{}
	}
}

// whiteout removes what lower layers had: one name, or all of a folder (".wh..wh..opq").
func (u *unpacker) whiteout(parent, removed string) error {
	switch {
	case removed == ".wh..opq":
		return u.clear(parent)
	case strings.HasPrefix(removed, ".wh."), removed == "", removed == ".", removed == "..":
		return nil
	}
	return u.remove(path.Join(parent, removed))
}

// clear removes what the current layer did not write from a folder.
func (u *unpacker) clear(name string) error {
	children, err := fs.ReadDir(u.root.FS(), name)
	if err != nil {
		return err
	}
	for _, child := range children {
		full := path.Join(name, child.Name())
		if _, ok := u.written[full]; !ok {
			err = u.remove(full)
		} else if child.IsDir() {
			err = u.clear(full)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// remove removes a name, if it is there.
func (u *unpacker) remove(name string) error {
	info, err := u.root.Lstat(name)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	} else if err != nil {
		return err
	}
	if info.IsDir() || info.Mode()&fs.ModeSymlink != 0 {
		clear(u.resolved)
		u.closeFolder()
	}
	return u.root.RemoveAll(name)
}

func (u *unpacker) makeFolder(name string, h *tar.Header) error {
	if info, err := u.root.Lstat(name); err != nil || !info.IsDir() {
		if err := u.remove(name); err != nil {
			return err
		}
		if err := u.root.Mkdir(name, 0o700); err != nil {
			return err
		}
	}
	u.folders[name] = u.ids.mode(h)
	return u.own(name, h)
}

func (u *unpacker) own(name string, h *tar.Header) error {
	return u.ids.own(h, func(uid, gid int) error { return u.root.Lchown(name, uid, gid) })
}

func (u *unpacker) makeFile(name string, h *tar.Header, content io.Reader) error {
	if h.Mode&0o111 != 0 {
		// A process that is forked while the file is open for writing has it open too until it becomes its program, and until
		// then nobody can run the file ("text file busy"). Other connectors' specs are started at any time.
		syscall.ForkLock.RLock()
		defer syscall.ForkLock.RUnlock()
	}
	f, err := u.create(name)
	if errors.Is(err, fs.ErrExist) {
		if err = u.remove(name); err == nil {
			f, err = u.create(name)
		}
	}
	if err != nil {
		return err
	}
	_, err = io.Copy(f, content)
	if err == nil {
		err = u.ids.own(h, f.Chown)
	}
	if err == nil {
		err = f.Chmod(u.ids.mode(h))
	}
	return errors.Join(err, f.Close())
}

// create makes a file that is not there yet. Its folder stays open for the next one, which is mostly in the same.
func (u *unpacker) create(name string) (*os.File, error) {
	parent := path.Dir(name)
	if u.open == nil || u.openName != parent {
		root, err := u.root.OpenRoot(parent)
		if err != nil {
			return nil, err
		}
		u.closeFolder()
		u.open, u.openName = root, parent
	}
	return u.open.OpenFile(path.Base(name), os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
}

func (u *unpacker) closeFolder() {
	if u.open != nil {
		_ = u.open.Close()
		u.open = nil
	}
}

// makeLink makes a hard link to what is there already, inside root.
func (u *unpacker) makeLink(name string, h *tar.Header) error {
	target := strings.TrimPrefix(path.Clean("/"+h.Linkname), "/")
	parent, err := u.folder(path.Dir(target))
	if err != nil {
		return err
	}
	target = path.Join(parent, path.Base(target))
	if info, err := u.root.Lstat(target); err != nil || info.IsDir() {
		return fmt.Errorf("it is a hard link to %q, and there is no such file", h.Linkname)
	}
	if target == name {
		return nil
	}
	if err := u.remove(name); err != nil {
		return err
	}
	return u.root.Link(target, name)
}

// folder finds where a folder of the image really is, following links as if root were /, and makes it where it is
// missing. The result has no link in it.
func (u *unpacker) folder(name string) (string, error) {
	if at, ok := u.resolved[name]; ok {
		return at, nil
	}
	at, todo, links := ".", strings.Split(name, "/"), 0
	for len(todo) > 0 {
		part := todo[0]
		todo = todo[1:]
		switch part {
		case "", ".":
			continue
		case "..":
			at = path.Dir(at)
			continue
		}
		next := path.Join(at, part)
		info, err := u.root.Lstat(next)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			if u.entries--; u.entries < 0 || strings.Count(next, "/") >= maxUnpackedDepth {
				return "", errTooLarge
			}
			if err := u.makeFolder(next, implicitFolder); err != nil {
				return "", err
			}
			u.wrote(next)
			at = next
		case err != nil:
			return "", err
		case info.Mode()&fs.ModeSymlink != 0:
			target, err := u.root.Readlink(next)
			if err != nil {
				return "", err
			}
			if links++; links > maxLinksFollowed {
				return "", fmt.Errorf("too many symbolic links on the way to %q", name)
			}
			if path.IsAbs(target) {
				at = "."
			}
			todo = append(strings.Split(target, "/"), todo...)
		case info.IsDir():
			at = next
		default:
			return "", fmt.Errorf("%q is not a folder", next)
		}
	}
	u.resolved[name] = at
	return at, nil
}

// implicitFolder is what a folder becomes that has no entry of its own.
var implicitFolder = &tar.Header{Typeflag: tar.TypeDir, Mode: 0o755}

// mountPoints are where the sandbox mounts something of its own.
var mountPoints = []string{"proc", "dev", "tmp", "config"}

// prepare makes what Kubernetes gives every container: the mount points, real folders whatever the image has there,
// and an /etc/hosts.
func (u *unpacker) prepare() error {
	for _, name := range mountPoints {
		if err := u.makeFolder(name, implicitFolder); err != nil {
			return err
		}
	}
	etc, err := u.folder("etc")
	if err != nil {
		return err
	}
	hosts := "127.0.0.1 localhost\n::1 localhost\n"
	return u.makeFile(path.Join(etc, "hosts"), &tar.Header{Mode: 0o644}, strings.NewReader(hosts))
}

// finish gives the folders their modes, the deepest first, because a folder may forbid to go through it.
func (u *unpacker) finish() error {
	names := make([]string, 0, len(u.folders))
	for name := range u.folders {
		names = append(names, name)
	}
	slices.SortFunc(names, func(a, b string) int { return strings.Compare(b, a) })
	// "." sorts behind names that begin with a letter, but not behind all names.
	if i := slices.Index(names, "."); i >= 0 {
		names = append(slices.Delete(names, i, i+1), ".")
	}
	for _, name := range names {
		info, err := u.root.Lstat(name)
		if err != nil || !info.IsDir() {
			continue // A later layer removed it.
		}
		if err := u.root.Chmod(name, u.folders[name]); err != nil {
			return err
		}
	}
	return nil
}

// boundedReader fails with errTooLarge instead of reading more than its bound.
type boundedReader struct {
	r    io.Reader
	left int64
}

func (b *boundedReader) Read(p []byte) (int, error) {
	if b.left <= 0 {
		return 0, errTooLarge
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
