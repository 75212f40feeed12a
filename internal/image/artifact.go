package image

import (
	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// Artifact is an image that is ready to be pushed: one platform's image, or an index of several.
// Exactly one of Image and Index is set.
type Artifact struct {
	Image v1.Image
	Index v1.ImageIndex
	// Origin says where it came from, for the log: "oci:dir", "manifest.yaml on REF".
	Origin string
}

// Digest is the digest of what a tag will point to: the index's where there is one, else the manifest's.
func (a Artifact) Digest() (string, error) {
	var (
		h   v1.Hash
		err error
	)
	if a.Index != nil {
		h, err = a.Index.Digest()
	} else {
		h, err = a.Image.Digest()
	}
	if err != nil {
		return "", err
	}
	return h.String(), nil
}
