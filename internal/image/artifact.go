package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Artifact is an image that is ready to be pushed: one platform's image, or an index of several.
// One of Image and Index is set, or none when there is no image yet.
type Artifact struct {
	Image v1.Image
	Index v1.ImageIndex
	// Origin says where it came from, for the log: "oci:dir", "manifest.yaml on REF".
	Origin string
}

// Digest is the digest of what a tag will point to: the index's where there is one, else the manifest's. It is empty
// when there is no image yet.
func (a Artifact) Digest() (string, error) {
	var (
		h   v1.Hash
		err error
	)
	switch {
	case a.Index != nil:
		h, err = a.Index.Digest()
	case a.Image != nil:
		h, err = a.Image.Digest()
	default:
		return "", nil
	}
	if err != nil {
		return "", err
	}
	return h.String(), nil
}
