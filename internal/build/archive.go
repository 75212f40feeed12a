package build

import (
	"archive/tar"
	"bufio"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path"
	"strings"
)

// The bounds of an archive that holds an image: how many entries are indexed, and how large it may become when it is
// itself compressed.
const (
	maxArchiveEntries = 100_000
	maxArchiveBytes   = 64 << 30
)

// folder is an OCI layout in a folder. Being an os.Root, it follows no link out of it.
type folder struct{ root *os.Root }

func (f folder) Open(name string) (io.ReadCloser, int64, error) {
	// Stat first: opening a named pipe would wait for a writer.
	info, err := f.root.Stat(name)
	if err != nil {
		return nil, 0, err
	}
	if !info.Mode().IsRegular() {
		return nil, 0, fmt.Errorf("its %s is not a regular file", name)
	}
	file, err := f.root.Open(name)
	return file, info.Size(), err
}

// archive is an uncompressed tar whose files are read in place, by their offsets: nothing is unpacked, so no name or
// link in it can do harm, and a layer of any size takes no memory.
type archive struct {
	file  *os.File
	parts map[string]part
}

type part struct{ offset, size int64 }

// indexArchive notes where each regular file of the tar is. Links are left out, except that docker save's older
// format uses them for layers, which go-containerregistry follows itself.
func indexArchive(ctx context.Context, file *os.File) (*archive, error) {
	end, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	if _, err := file.Seek(0, io.SeekStart); err != nil {
		return nil, err
	}
	a := &archive{file: file, parts: map[string]part{}}
	for r, n := tar.NewReader(file), 0; ; n++ {
		header, err := r.Next()
		if errors.Is(err, io.EOF) {
			return a, nil
		}
		if err != nil {
			return nil, fmt.Errorf("it is not a tar archive, or it is damaged: %w", err)
		}
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if n == maxArchiveEntries {
			return nil, fmt.Errorf("it has more than %d entries", maxArchiveEntries)
		}
		if header.Typeflag != tar.TypeReg || isSparse(header) {
			continue
		}
		// tar.Reader reads headers block by block and skips content by seeking, so that the file stands at the content.
		offset, err := file.Seek(0, io.SeekCurrent)
		if err != nil {
			return nil, err
		}
		if header.Size > end-offset {
			return nil, fmt.Errorf("it is cut off in the middle of %s", header.Name)
		}
		// Of two entries with one name the first counts, as go-containerregistry has it.
		if name := path.Clean(header.Name); a.parts[name] == (part{}) {
			a.parts[name] = part{offset, header.Size}
		}
	}
}

func isSparse(h *tar.Header) bool {
	for key := range h.PAXRecords {
		if strings.HasPrefix(key, "GNU.sparse.") {
			return true
		}
	}
	return false
}

func (a *archive) Open(name string) (io.ReadCloser, int64, error) {
	p, ok := a.parts[name]
	if !ok {
		return nil, 0, &fs.PathError{Op: "open", Path: name, Err: fs.ErrNotExist}
	}
	return io.NopCloser(io.NewSectionReader(a.file, p.offset, p.size)), p.size, nil
}

// openArchive opens a tar file. One that is compressed with gzip, as "docker save | gzip" makes it, is first
// decompressed into a temporary file, because it has to be read at random. The file lives until Close.
func (b *Builder) openArchive(ctx context.Context, name string) (*archive, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is not a regular file")
	}
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	b.keep(file)
	var magic [2]byte
	if _, err := file.ReadAt(magic[:], 0); err != nil && !errors.Is(err, io.EOF) {
		return nil, err
	}
	if magic == [2]byte{0x1f, 0x8b} {
		if file, err = b.decompress(ctx, file); err != nil {
			return nil, err
		}
	}
	return indexArchive(ctx, file)
}

func (b *Builder) decompress(ctx context.Context, compressed *os.File) (*os.File, error) {
	z, err := gzip.NewReader(bufio.NewReaderSize(compressed, 1<<20))
	if err != nil {
		return nil, err
	}
	return b.spool(ctx, z)
}

// spool copies r to a temporary file that lives until Close.
func (b *Builder) spool(ctx context.Context, r io.Reader) (*os.File, error) {
	file, err := b.tempFile("archive-*.tar")
	if err != nil {
		return nil, err
	}
	b.keep(file)
	n, err := io.Copy(file, io.LimitReader(contextReader{ctx, r}, maxArchiveBytes+1))
	if err != nil {
		return nil, err
	}
	if n > maxArchiveBytes {
		return nil, fmt.Errorf("it is larger than %d GiB", maxArchiveBytes>>30)
	}
	return file, nil
}

// contextReader ends a copy when the context is done.
type contextReader struct {
	ctx context.Context
	r   io.Reader
}

func (c contextReader) Read(p []byte) (int, error) {
	if err := c.ctx.Err(); err != nil {
		return 0, err
	}
	return c.r.Read(p)
}
