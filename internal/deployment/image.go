package deployment

import (
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Image is what a deployment is to pull.
type Image struct {
	Repository image.Repository
	Tag        string
	// Digest is what the tag is known to point to, or empty when nobody asked the registry.
	Digest string
}

// Reference is the name under which Airbyte pulls the image: the repository and the tag.
func (i Image) Reference() string { return string(i.Repository) + ":" + i.Tag }

// ByDigest is the name that no moved tag changes, or Reference when the digest is not known.
func (i Image) ByDigest() string {
	if i.Digest == "" {
		return i.Reference()
	}
	return string(i.Repository) + "@" + i.Digest
}

// host is the image's registry, without the port that https has anyway.
func (i Image) host() string {
	host, _, _ := strings.Cut(image.Normalise(string(i.Repository)), "/")
	return host
}
