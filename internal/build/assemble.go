package build

import (
	"archive/tar"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"hash"
	"io"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Where Airbyte's images look for a connector's files (Dockerfile.manifest-only-connector in airbytehq/airbyte). When
// the manifest is not in manifestFolder, the image falls back to a generic spec that passes every check.
const (
	codeFolder     = "airbyte/integration_code"
	manifestFolder = codeFolder + "/source_declarative_manifest"
)

// componentsFile is a manifest's own Python code, if it has any.
const componentsFile = "components.py"

// epoch stands for every time in what is assembled, so that the digest depends on nothing but the content.
var epoch = time.Unix(0, 0).UTC()

// assemble puts a manifest-only connector's files on its base image, as one layer. The same files on the same base
// give the same digest on every machine, and the base's layers keep knowing the registry that they came from, so that
// a push to the same registry mounts them.
func (b *Builder) assemble(ctx context.Context, c connector.Connector, log connector.Log) (image.Artifact, error) {
	if err := checkManifest(c.Dir); err != nil {
		return image.Artifact{}, err
	}
	if c.Metadata == nil || c.Metadata.BaseImage == "" {
		return image.Artifact{}, &fault.Error{Code: fault.BaseImage, Op: "assemble", Object: c.Label,
			Cause:  "metadata.yaml names no base image",
			Remedy: "Set data.connectorBuildOptions.baseImage to docker.io/airbyte/source-declarative-manifest:VERSION@sha256:DIGEST."}
	}
	on, err := b.bases.get(ctx, c.Metadata.BaseImage, b.lookUpBase)
	if err != nil {
		return image.Artifact{}, err
	}
	if findings := ContextFindings(c.Dir); len(findings) > 0 {
		return image.Artifact{}, &fault.Error{Code: findings[0].Code, Op: "assemble", Object: c.Label,
			Cause: findings[0].Message, Remedy: findings[0].Remedy}
	}
	log.Info("Assembling on %s@%s, without a build engine.", on.name, on.digest)
	img, err := b.assembleOn(ctx, c, on)
	if err != nil {
		if _, ok := errors.AsType[*fault.Error](err); ok || ctx.Err() != nil {
			return image.Artifact{}, err
		}
		return image.Artifact{}, &fault.Error{Code: fault.AssemblyFailed, Op: "assemble", Object: c.Label,
			Cause: fault.Bounded(err.Error()), Remedy: "Mend what it names in the connector's folder, or leave it out by .dockerignore.", Err: err}
	}
	return image.Artifact{Image: img, Origin: manifestFile + " on " + on.name}, nil
}

func (b *Builder) assembleOn(ctx context.Context, c connector.Connector, on base) (v1.Image, error) {
	mediaType, err := on.image.MediaType()
	if err != nil {
		return nil, err
	}
	layerType := types.OCILayer
	if mediaType == types.DockerManifestSchema2 {
		layerType = types.DockerLayer
	}
	layer, err := b.layer(ctx, c.Dir, layerType)
	if err != nil {
		return nil, err
	}
	img, err := mutate.Append(on.image, mutate.Addendum{Layer: layer, History: v1.History{
		Created: v1.Time{Time: epoch}, CreatedBy: "airbyte-publish: the connector's files to /" + codeFolder}})
	if err != nil {
		return nil, err
	}
	config, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	config.Created = v1.Time{Time: epoch}
	if config.Config.Labels == nil {
		config.Config.Labels = map[string]string{}
	}
	for key, value := range labels(c, on) {
		config.Config.Labels[key] = value
	}
	return mutate.ConfigFile(img, config)
}

// labels are what Airbyte's own build tools set (io.airbyte.…) and OCI's names for the same and for the base.
func labels(c connector.Connector, on base) map[string]string {
	l := map[string]string{
		"io.airbyte.name":                  string(c.Repository),
		"io.airbyte.version":               c.Tag,
		"org.opencontainers.image.title":   c.Name,
		"org.opencontainers.image.version": c.Tag,
		baseNameLabel:                      on.name,
		baseDigestLabel:                    on.digest,
	}
	if c.DocumentationURL != "" {
		l["org.opencontainers.image.documentation"] = c.DocumentationURL
	}
	return l
}

// layer writes the folder's files to a temporary file as a gzip-compressed tar. It holds no entries for the folders
// above them, because such an entry would reset the owner and mode that the base gave them.
//
// The gzip stream stores its content without compressing it: the bytes that a compressor makes differ between versions
// of Go, and a digest that changes with the version of this program would make a connector that did not change look
// changed. A manifest is small enough for that.
func (b *Builder) layer(ctx context.Context, dir string, mediaType types.MediaType) (v1.Layer, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	defer root.Close()
	entries, err := layerEntries(root)
	if err != nil {
		return nil, err
	}
	file, err := b.tempFile("layer-*.tar.gz")
	if err != nil {
		return nil, err
	}
	defer file.Close()
	compressed, plain := sha256.New(), sha256.New()
	z, err := gzip.NewWriterLevel(io.MultiWriter(file, compressed), gzip.NoCompression)
	if err != nil {
		return nil, err
	}
	w := tar.NewWriter(io.MultiWriter(z, plain))
	for _, e := range entries {
		if err := ctx.Err(); err != nil {
			return nil, err
		}
		if err := writeEntry(w, root, e); err != nil {
			return nil, err
		}
	}
	if err := errors.Join(w.Close(), z.Close()); err != nil {
		return nil, err
	}
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	return partial.CompressedToLayer(&fileLayer{file: file.Name(), mediaType: mediaType, size: info.Size(),
		digest: sum(compressed), diffID: sum(plain)})
}

func sum(h hash.Hash) v1.Hash {
	return v1.Hash{Algorithm: "sha256", Hex: hex.EncodeToString(h.Sum(nil))}
}

// layerEntry is a file of the folder and its place in the image.
type layerEntry struct {
	contextFile
	name string
}

// layerEntries lists what goes into the layer, sorted by the place in the image.
func layerEntries(root *os.Root) ([]layerEntry, error) {
	files, err := contextFiles(root)
	if err != nil {
		return nil, err
	}
	var entries []layerEntry
	for _, f := range files {
		// What Airbyte's Dockerfile copies there last is what counts.
		if name := path.Join(codeFolder, f.path); name != manifestFolder+"/"+manifestFile && name != manifestFolder+"/"+componentsFile {
			entries = append(entries, layerEntry{f, name})
		}
	}
	for _, name := range []string{manifestFile, componentsFile} {
		i := slices.IndexFunc(files, func(f contextFile) bool { return f.path == name })
		switch {
		case i >= 0:
			f := files[i]
			f.link = "" // A link would point elsewhere from there.
			entries = append(entries, layerEntry{f, manifestFolder + "/" + name})
		case name == manifestFile:
			return nil, fmt.Errorf("%s leaves %s out, and the connector is nothing without it", ignoreFile, manifestFile)
		}
	}
	slices.SortFunc(entries, func(a, b layerEntry) int { return strings.Compare(a.name, b.name) })
	return entries, nil
}

// writeEntry writes one file, owned by root and readable by everyone as COPY makes it; of its mode only the executable
// bit counts, because umask and file systems change the rest.
func writeEntry(w *tar.Writer, root *os.Root, e layerEntry) error {
	if e.link != "" {
		return w.WriteHeader(&tar.Header{Typeflag: tar.TypeSymlink, Name: e.name, Linkname: e.link, Mode: 0o777, ModTime: epoch})
	}
	f, err := root.Open(filepath.FromSlash(e.path))
	if err != nil {
		return err
	}
	defer f.Close()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("%s is not a regular file", e.path)
	}
	header := &tar.Header{Typeflag: tar.TypeReg, Name: e.name, Mode: 0o644, ModTime: epoch, Size: info.Size()}
	if info.Mode()&0o100 != 0 {
		header.Mode = 0o755
	}
	if err := w.WriteHeader(header); err != nil {
		return err
	}
	if _, err := io.Copy(w, f); err != nil {
		return fmt.Errorf("%s: %w", e.path, err)
	}
	return w.Flush()
}

// fileLayer is a layer in a temporary file, hashed while it was written.
type fileLayer struct {
	file           string
	mediaType      types.MediaType
	size           int64
	digest, diffID v1.Hash
}

func (l *fileLayer) Digest() (v1.Hash, error)            { return l.digest, nil }
func (l *fileLayer) DiffID() (v1.Hash, error)            { return l.diffID, nil }
func (l *fileLayer) Size() (int64, error)                { return l.size, nil }
func (l *fileLayer) MediaType() (types.MediaType, error) { return l.mediaType, nil }
func (l *fileLayer) Compressed() (io.ReadCloser, error)  { return os.Open(l.file) }
