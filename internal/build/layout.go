package build

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// The bounds of an OCI layout: how large a manifest, an index or a config may be, and how many images an index has.
const (
	maxMetadataBytes = 8 << 20
	maxLayoutImages  = 64
	maxLayoutDepth   = 3
)

// refName is the annotation by which an OCI layout names its images.
const refName = "org.opencontainers.image.ref.name"

// files are the files of an OCI layout, in a folder or in an archive.
type files interface {
	// Open opens a regular file by its slash-separated path and tells its size; fs.ErrNotExist when it is not there.
	Open(name string) (io.ReadCloser, int64, error)
}

// layout is an OCI image layout. Unlike go-containerregistry's package layout it reads archives without unpacking
// them, holds every manifest and config against its digest and a bound, and says at once what is missing.
type layout struct{ files files }

// artifact returns the layout's only image, or the one that pick names by digest or by tag.
func (l layout) artifact(pick string) (image.Artifact, error) {
	raw, err := l.read("index.json")
	if errors.Is(err, fs.ErrNotExist) {
		return image.Artifact{}, errors.New("it has no index.json, so it is not an OCI image layout")
	} else if err != nil {
		return image.Artifact{}, err
	}
	var index v1.IndexManifest
	if err := json.Unmarshal(raw, &index); err != nil {
		return image.Artifact{}, fmt.Errorf("its index.json is not JSON: %w", err)
	}
	desc, err := pickImage(index.Manifests, pick)
	if err != nil {
		return image.Artifact{}, err
	}
	remaining := maxLayoutImages
	if desc.MediaType.IsIndex() {
		ii, err := l.index(desc, maxLayoutDepth, &remaining)
		return image.Artifact{Index: ii}, err
	}
	img, err := l.image(desc)
	return image.Artifact{Image: img}, err
}

// pickImage chooses among the images of a layout. The same digest under several names is one image.
func pickImage(all []v1.Descriptor, pick string) (v1.Descriptor, error) {
	var names []string
	var found []v1.Descriptor
	for _, d := range all {
		tag := d.Annotations[refName]
		names = append(names, strings.TrimSuffix(d.Digest.String()+" "+tag, " "))
		if pick != "" && pick != d.Digest.String() && pick != tag && !strings.HasSuffix(tag, ":"+pick) {
			continue
		}
		if !slices.ContainsFunc(found, func(f v1.Descriptor) bool { return f.Digest == d.Digest }) {
			found = append(found, d)
		}
	}
	switch {
	case len(all) == 0:
		return v1.Descriptor{}, errors.New("it holds no image")
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0:
		return v1.Descriptor{}, fmt.Errorf("it holds no image %s, only: %s", pick, strings.Join(names, ", "))
	default:
		return v1.Descriptor{}, fmt.Errorf("it holds several images, pick one by @sha256:… or by :tag: %s", strings.Join(names, ", "))
	}
}

func blobName(h v1.Hash) string { return "blobs/" + h.Algorithm + "/" + h.Hex }

func (l layout) read(name string) ([]byte, error) {
	rc, size, err := l.files.Open(name)
	if err != nil {
		return nil, err
	}
	defer rc.Close()
	if size > maxMetadataBytes {
		return nil, fmt.Errorf("its %s has %d bytes, at most %d are read", name, size, maxMetadataBytes)
	}
	return io.ReadAll(io.LimitReader(rc, maxMetadataBytes))
}

// blob reads a manifest, an index or a config and holds it against its digest.
func (l layout) blob(h v1.Hash) ([]byte, error) {
	raw, err := l.read(blobName(h))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("its blob %s is missing", h)
	} else if err != nil {
		return nil, err
	}
	got, _, err := v1.SHA256(bytes.NewReader(raw))
	if err != nil {
		return nil, err
	}
	if got != h {
		return nil, fmt.Errorf("its blob %s is damaged: its content has the digest %s", h, got)
	}
	return raw, nil
}

// image reads an image's manifest and config and makes sure that its layers are there.
func (l layout) image(desc v1.Descriptor) (v1.Image, error) {
	if !desc.MediaType.IsImage() {
		return nil, fmt.Errorf("%s is a %s, not an image", desc.Digest, desc.MediaType)
	}
	raw, err := l.blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("its manifest %s is not JSON: %w", desc.Digest, err)
	}
	config, err := l.blob(manifest.Config.Digest)
	if err != nil {
		return nil, err
	}
	for _, layer := range manifest.Layers {
		rc, size, err := l.files.Open(blobName(layer.Digest))
		if errors.Is(err, fs.ErrNotExist) {
			return nil, fmt.Errorf("its layer %s is missing", layer.Digest)
		} else if err != nil {
			return nil, err
		}
		_ = rc.Close()
		if size != layer.Size {
			return nil, fmt.Errorf("its layer %s has %d bytes, its manifest says %d", layer.Digest, size, layer.Size)
		}
	}
	return partial.CompressedToImage(&layoutImage{layout: l, mediaType: desc.MediaType, raw: raw, manifest: manifest, config: config})
}

// index reads an index with all that it holds.
func (l layout) index(desc v1.Descriptor, depth int, remaining *int) (v1.ImageIndex, error) {
	if depth == 0 {
		return nil, errors.New("its indexes are nested too deeply")
	}
	raw, err := l.blob(desc.Digest)
	if err != nil {
		return nil, err
	}
	manifest, err := v1.ParseIndexManifest(bytes.NewReader(raw))
	if err != nil {
		return nil, fmt.Errorf("its index %s is not JSON: %w", desc.Digest, err)
	}
	index := &layoutIndex{mediaType: desc.MediaType, raw: raw, manifest: manifest,
		images: map[v1.Hash]v1.Image{}, indexes: map[v1.Hash]v1.ImageIndex{}}
	for _, child := range manifest.Manifests {
		if *remaining--; *remaining < 0 {
			return nil, fmt.Errorf("it holds more than %d images", maxLayoutImages)
		}
		if child.MediaType.IsIndex() {
			index.indexes[child.Digest], err = l.index(child, depth-1, remaining)
		} else {
			index.images[child.Digest], err = l.image(child)
		}
		if err != nil {
			return nil, err
		}
	}
	return index, nil
}

// layoutImage is what go-containerregistry needs to make an image of.
type layoutImage struct {
	layout      layout
	mediaType   types.MediaType
	raw, config []byte
	manifest    *v1.Manifest
}

func (i *layoutImage) RawConfigFile() ([]byte, error)      { return i.config, nil }
func (i *layoutImage) RawManifest() ([]byte, error)        { return i.raw, nil }
func (i *layoutImage) MediaType() (types.MediaType, error) { return i.mediaType, nil }
func (i *layoutImage) LayerByDigest(h v1.Hash) (partial.CompressedLayer, error) {
	for _, desc := range append(i.manifest.Layers[:len(i.manifest.Layers):len(i.manifest.Layers)], i.manifest.Config) {
		if desc.Digest == h {
			return &layoutLayer{layout: i.layout, desc: desc}, nil
		}
	}
	return nil, fmt.Errorf("the image has no layer %s", h)
}

// layoutLayer is a layer of a layout, read from it each time.
type layoutLayer struct {
	layout layout
	desc   v1.Descriptor
}

func (l *layoutLayer) Digest() (v1.Hash, error)            { return l.desc.Digest, nil }
func (l *layoutLayer) Size() (int64, error)                { return l.desc.Size, nil }
func (l *layoutLayer) MediaType() (types.MediaType, error) { return l.desc.MediaType, nil }
func (l *layoutLayer) Descriptor() (*v1.Descriptor, error) { return l.desc.DeepCopy(), nil }
func (l *layoutLayer) Compressed() (io.ReadCloser, error) {
	rc, _, err := l.layout.files.Open(blobName(l.desc.Digest))
	return rc, err
}

// layoutIndex is an index whose children have been read.
type layoutIndex struct {
	mediaType types.MediaType
	raw       []byte
	manifest  *v1.IndexManifest
	images    map[v1.Hash]v1.Image
	indexes   map[v1.Hash]v1.ImageIndex
}

func (i *layoutIndex) MediaType() (types.MediaType, error)       { return i.mediaType, nil }
func (i *layoutIndex) Digest() (v1.Hash, error)                  { return partial.Digest(i) }
func (i *layoutIndex) Size() (int64, error)                      { return partial.Size(i) }
func (i *layoutIndex) RawManifest() ([]byte, error)              { return i.raw, nil }
func (i *layoutIndex) IndexManifest() (*v1.IndexManifest, error) { return i.manifest.DeepCopy(), nil }

func (i *layoutIndex) Image(h v1.Hash) (v1.Image, error) {
	if img, ok := i.images[h]; ok {
		return img, nil
	}
	return nil, fmt.Errorf("the index has no image %s", h)
}

func (i *layoutIndex) ImageIndex(h v1.Hash) (v1.ImageIndex, error) {
	if index, ok := i.indexes[h]; ok {
		return index, nil
	}
	return nil, fmt.Errorf("the index has no index %s", h)
}
