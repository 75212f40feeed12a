package build

import (
	"errors"
	"fmt"
	"runtime"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// amd64 is the platform that every Airbyte instance can run.
const amd64 = "linux/amd64"

// hostPlatform is the platform whose images this machine can run, when it is Linux.
const hostPlatform = runtime.GOOS + "/" + runtime.GOARCH

// errNoPlatform tells that an image has nothing for a platform.
var errNoPlatform = errors.New("no image for this platform")

// platformImage finds the image for a platform in an index. What an index claims is only a hint: the image's own
// config decides, because a build on a base for another architecture can be indexed under the wrong one.
func platformImage(index v1.ImageIndex, platform string) (v1.Image, error) {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil, err
	}
	for _, child := range manifest.Manifests {
		if p := child.Platform; connector.IsAttestation(child) || p != nil && p.OS+"/"+p.Architecture != platform {
			continue
		}
		switch {
		case child.MediaType.IsIndex():
			nested, err := index.ImageIndex(child.Digest)
			if err != nil {
				return nil, err
			}
			img, err := platformImage(nested, platform)
			if !errors.Is(err, errNoPlatform) {
				return img, err
			}
		case child.MediaType.IsImage():
			img, err := index.Image(child.Digest)
			if err != nil {
				return nil, err
			}
			if own, err := configPlatform(img); err != nil {
				return nil, err
			} else if own == platform {
				return img, nil
			}
		}
	}
	return nil, fmt.Errorf("%w: %s", errNoPlatform, platform)
}

// configPlatform is the platform that an image's config names, without a variant.
func configPlatform(img v1.Image) (string, error) {
	config, err := img.ConfigFile()
	if err != nil {
		return "", err
	}
	return config.OS + "/" + config.Architecture, nil
}
