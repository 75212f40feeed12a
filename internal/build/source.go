package build

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/tarball"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// source takes an image that exists already. Its errors are *fault.Error.
func (b *Builder) source(ctx context.Context, source string) (image.Artifact, error) {
	kind, rest, found := strings.Cut(source, ":")
	var (
		artifact image.Artifact
		err      error
	)
	switch {
	case kind == "docker" && strings.HasPrefix(rest, "//"):
		artifact, err = b.remote(ctx, strings.TrimPrefix(rest, "//"))
	case found && rest == "":
		err = fmt.Errorf("%w: nothing follows the colon", errNoSource)
	case kind == "oci":
		artifact, err = b.ociFolder(rest)
	case kind == "oci-archive":
		artifact, err = b.ociArchive(ctx, rest)
	case kind == "docker-archive":
		artifact, err = b.dockerArchive(ctx, rest)
	case kind == "docker-daemon":
		artifact, err = b.dockerDaemon(ctx, rest)
	default:
		err = fmt.Errorf("%w: it begins with none of the known kinds", errNoSource)
	}
	if _, ok := errors.AsType[*fault.Error](err); err != nil && !ok {
		err = badSource(source, err)
	}
	artifact.Origin = source
	return artifact, err
}

// errNoSource tells that a source is not one at all.
var errNoSource = errors.New("it names no image")

func badSource(source string, err error) error {
	remedy := "Check that it is of the kind which it is named by, and that the build which made it came to its end."
	switch {
	case errors.Is(err, errNoSource):
		remedy = "Name an image as oci:DIR, oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG or docker://REF."
	case errors.Is(err, fs.ErrNotExist):
		remedy = "Check the path: it is taken from the folder that the command runs in, and the build has to come first."
	}
	return &fault.Error{Code: fault.SourceImage, Op: "read the source image", Object: source,
		Cause: fault.Bounded(err.Error()), Remedy: remedy, Err: err}
}

// remote opens an image in a registry. It is never unpacked nor rebuilt, so an index stays an index and the digest
// stays the same.
func (b *Builder) remote(ctx context.Context, ref string) (image.Artifact, error) {
	if _, err := name.ParseReference(ref); err != nil {
		return image.Artifact{}, err
	}
	return b.options.Open(ctx, ref)
}

// splitPick splits what picks one of several images off a path: "DIR@sha256:…" or "DIR:tag". A path that is there as
// it stands is never split, because folders may have colons in their names.
func splitPick(s string) (file, pick string) {
	if _, err := os.Stat(s); err == nil {
		return s, ""
	}
	if before, digest, ok := strings.Cut(s, "@sha256:"); ok {
		return before, "sha256:" + digest
	}
	// The colon that comes first in the last part of the path divides, so that "save.tar:repo:tag" picks repo:tag, and
	// "save.tar:host/repo:tag" has its slash after it.
	for i := range len(s) {
		if s[i] != ':' {
			continue
		}
		if _, err := os.Stat(s[:i]); err == nil {
			return s[:i], s[i+1:]
		}
	}
	return s, ""
}

func (b *Builder) ociFolder(rest string) (image.Artifact, error) {
	dir, pick := splitPick(rest)
	root, err := os.OpenRoot(dir)
	if err != nil {
		return image.Artifact{}, err
	}
	b.keep(root)
	return layout{folder{root}}.artifact(pick)
}

func (b *Builder) ociArchive(ctx context.Context, rest string) (image.Artifact, error) {
	file, pick := splitPick(rest)
	a, err := b.openArchive(ctx, file)
	if err != nil {
		return image.Artifact{}, err
	}
	if _, ok := a.parts["index.json"]; !ok {
		if _, ok := a.parts["manifest.json"]; ok {
			return image.Artifact{}, errors.New("it is an archive of docker save: name it as docker-archive:FILE")
		}
	}
	return layout{a}.artifact(pick)
}

func (b *Builder) dockerArchive(ctx context.Context, rest string) (image.Artifact, error) {
	file, pick := splitPick(rest)
	a, err := b.openArchive(ctx, file)
	if err != nil {
		return image.Artifact{}, err
	}
	return savedImage(a, pick)
}

// savedImage reads what docker save writes, of any version.
func savedImage(a *archive, pick string) (image.Artifact, error) {
	raw, err := layout{a}.read("manifest.json")
	if errors.Is(err, fs.ErrNotExist) {
		if _, ok := a.parts["index.json"]; ok {
			return image.Artifact{}, errors.New("it is an archive of an OCI layout: name it as oci-archive:FILE")
		}
		return image.Artifact{}, errors.New("it has no manifest.json, so docker save did not write it")
	} else if err != nil {
		return image.Artifact{}, err
	}
	var manifest tarball.Manifest
	if err := json.Unmarshal(raw, &manifest); err != nil {
		return image.Artifact{}, fmt.Errorf("its manifest.json is not what docker save writes: %w", err)
	}
	tag, err := pickSaved(manifest, pick)
	if err != nil {
		return image.Artifact{}, err
	}
	for _, d := range manifest {
		if _, err := (layout{a}).read(path.Clean(d.Config)); err != nil {
			return image.Artifact{}, err
		}
	}
	img, err := tarball.ImageFromPath(a.file.Name(), tag)
	return image.Artifact{Image: img}, err
}

// pickSaved chooses among the images of an archive of docker save; nil means its only one.
func pickSaved(manifest tarball.Manifest, pick string) (*name.Tag, error) {
	var names []string
	for _, d := range manifest {
		names = append(names, d.RepoTags...)
	}
	if pick == "" {
		if len(manifest) == 1 {
			return nil, nil
		}
		if len(manifest) == 0 {
			return nil, errors.New("it holds no image")
		}
		return nil, fmt.Errorf("it holds several images, pick one by :NAME:TAG: %s", strings.Join(names, ", "))
	}
	tag, err := name.NewTag(pick)
	if err != nil {
		return nil, err
	}
	for _, n := range names {
		if t, err := name.NewTag(n); err == nil && t.Name() == tag.Name() {
			return &tag, nil
		}
	}
	return nil, fmt.Errorf("it holds no image %s, only: %s", pick, strings.Join(names, ", "))
}
