package connector

import (
	"errors"
	"fmt"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// The bounds of what Describe reads. The largest indexes in use have about twenty platforms, and registries refuse
// manifests above 4 MiB; a config is of the same order.
const (
	maxPlatforms   = 64
	maxConfigBytes = 8 << 20
	// maxIndexDepth allows an index in an index, as the OCI image specification does, and no deeper.
	maxIndexDepth = 2
)

// Describe tells what an image's manifests and configs say. It reads no layer. Attestation manifests are left out.
// Its error is a *fault.Error: the one of the registry that the artifact is read from, else one with the code BadImage.
func Describe(a image.Artifact) (Image, error) {
	d := describer{}
	if err := d.artifact(a); err != nil {
		if _, ok := errors.AsType[*fault.Error](err); ok {
			return Image{}, err
		}
		return Image{}, &fault.Error{Code: fault.BadImage, Op: "read the image", Object: a.Origin,
			Cause: fault.Bounded(err.Error()), Remedy: "Check that the image is whole, or build it again.", Err: err}
	}
	return d.image, nil
}

type describer struct{ image Image }

func (d *describer) artifact(a image.Artifact) error {
	digest, err := a.Digest()
	if err != nil {
		return err
	}
	d.image.Digest = digest
	if a.Index == nil {
		return d.platform(a.Image, "")
	}
	d.image.Index = true
	return d.index(a.Index, 1)
}

func (d *describer) index(index v1.ImageIndex, depth int) error {
	manifest, err := index.IndexManifest()
	if err != nil {
		return err
	}
	for _, child := range manifest.Manifests {
		switch {
		case IsAttestation(child):
		case child.MediaType.IsIndex():
			if depth == maxIndexDepth {
				return fmt.Errorf("its indexes are nested more than %d deep", maxIndexDepth)
			}
			nested, err := index.ImageIndex(child.Digest)
			if err != nil {
				return err
			}
			if err := d.index(nested, depth+1); err != nil {
				return err
			}
		case child.MediaType.IsImage():
			img, err := index.Image(child.Digest)
			if err != nil {
				return err
			}
			if err := d.platform(img, PlatformString(child.Platform)); err != nil {
				return err
			}
		}
	}
	return nil
}

func (d *describer) platform(img v1.Image, claimed string) error {
	if len(d.image.Platforms) == maxPlatforms {
		return fmt.Errorf("it has more than %d platforms", maxPlatforms)
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	manifest, err := img.Manifest()
	if err != nil {
		return err
	}
	if manifest.Config.Size > maxConfigBytes {
		return fmt.Errorf("the config of %s has %d bytes, more than any real image's", digest, manifest.Config.Size)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return err
	}
	p := PlatformImage{
		Claimed:    claimed,
		Platform:   PlatformString(config.Platform()),
		Digest:     digest.String(),
		Env:        config.Config.Env,
		Entrypoint: config.Config.Entrypoint,
		Cmd:        config.Config.Cmd,
		User:       config.Config.User,
		WorkingDir: config.Config.WorkingDir,
		Labels:     config.Config.Labels,
	}
	for _, layer := range manifest.Layers {
		p.Layers = append(p.Layers, Layer{MediaType: string(layer.MediaType), Digest: layer.Digest.String(), Size: layer.Size})
	}
	d.image.Platforms = append(d.image.Platforms, p)
	return nil
}

// IsAttestation tells that an index's entry is about another entry and can't be run: BuildKit's provenance and SBOM,
// which claim the platform unknown/unknown.
func IsAttestation(d v1.Descriptor) bool {
	return d.Annotations["vnd.docker.reference.type"] == "attestation-manifest" ||
		d.Platform != nil && d.Platform.OS == "unknown" && d.Platform.Architecture == "unknown"
}

// PlatformString is a platform as people write it, such as "linux/arm64/v8"; it is empty when there is none.
func PlatformString(p *v1.Platform) string {
	if p == nil || p.OS == "" && p.Architecture == "" {
		return ""
	}
	return strings.TrimSuffix(p.OS+"/"+p.Architecture+"/"+p.Variant, "/")
}
