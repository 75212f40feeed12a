package deployment

import (
	"net/url"
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

// imageOf is the image of a name as it stands in a pod.
func imageOf(name string) Image {
	name, _, _ = strings.Cut(name, "@")
	i := Image{Repository: image.Repository(name)}
	if at := strings.LastIndex(name, ":"); at > strings.LastIndex(name, "/") {
		i.Repository, i.Tag = image.Repository(name[:at]), name[at+1:]
	}
	return i
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

// takenOut is what a container runtime says without the image's own names, whose words must not be taken for its: a
// repository may be called "source-denied", and a tag "not-found".
func (i Image) takenOut(text string) string {
	whole := string(i.Repository)
	_, path, _ := strings.Cut(whole, "/")
	names := []string{i.ByDigest(), i.Reference(), whole, path, url.QueryEscape(path)}
	if !strings.Contains(path, "/") {
		// A single word is taken out only where it stands for the repository.
		names = []string{i.ByDigest(), i.Reference(), whole, "/" + path, "repository:" + path, "repository%3A" + path}
	}
	var pairs []string
	for _, name := range names {
		pairs = append(pairs, name, "IMAGE")
	}
	pairs = append(pairs, "/manifests/"+i.Tag, "/manifests/TAG", "[manifests "+i.Tag+"]", "[manifests TAG]", "manifest "+i.Tag+" in", "manifest TAG in", "tag="+i.Tag, "tag=TAG")
	return strings.NewReplacer(pairs...).Replace(text)
}
