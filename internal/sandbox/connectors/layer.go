package connectors

import (
	"archive/tar"
	"bytes"
	"context"
	"io"
	"time"

	"github.com/google/go-containerregistry/pkg/compression"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/google/go-containerregistry/pkg/v1/types"
)

// airbyteID is the user and group id that Airbyte runs connectors under.
const airbyteID = 1000

// entry is a file, a folder (its name ends with a slash) or a symbolic link of a layer.
type entry struct {
	name  string
	mode  int64
	owner int // user and group id
	data  []byte
	link  string
}

// layer makes a layer of the entries, in their order. Times are fixed, so the same entries give the same digest.
func layer(mediaType types.MediaType, entries ...entry) (v1.Layer, error) {
	var archive bytes.Buffer
	w := tar.NewWriter(&archive)
	for _, e := range entries {
		header := &tar.Header{Name: e.name, Mode: e.mode, Uid: e.owner, Gid: e.owner, Size: int64(len(e.data)),
			ModTime: time.Unix(0, 0), Typeflag: tar.TypeReg, Format: tar.FormatUSTAR}
		switch {
		case e.link != "":
			header.Typeflag, header.Linkname = tar.TypeSymlink, e.link
		case e.name[len(e.name)-1] == '/':
			header.Typeflag = tar.TypeDir
		}
		if err := w.WriteHeader(header); err != nil {
			return nil, err
		}
		if _, err := w.Write(e.data); err != nil {
			return nil, err
		}
	}
	if err := w.Close(); err != nil {
		return nil, err
	}
	options := []tarball.LayerOption{tarball.WithMediaType(mediaType), tarball.WithCompressedCaching}
	if mediaType == types.OCILayerZStd {
		options = append(options, tarball.WithCompression(compression.ZStd))
	}
	open := func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(archive.Bytes())), nil }
	return tarball.LayerFromOpener(open, options...)
}

// memo keeps the layers that this process has made, because a test binary asks for the same ones many times. What is
// kept under a key never depends on who asked first, so sharing it can't be noticed except by the time it takes.
type memo struct {
	turn chan struct{} // held while kept is used; a channel, so that waiting ends with the context
	kept map[string]v1.Layer
}

var layers = memo{turn: make(chan struct{}, 1), kept: map[string]v1.Layer{}}

// get returns the layer of that key and makes it where there is none yet. A failure is not kept.
func (m memo) get(ctx context.Context, key string, build func() (v1.Layer, error)) (v1.Layer, error) {
	select {
	case m.turn <- struct{}{}:
		defer func() { <-m.turn }()
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	if l := m.kept[key]; l != nil {
		return l, nil
	}
	l, err := build()
	if err == nil {
		m.kept[key] = l
	}
	return l, err
}
