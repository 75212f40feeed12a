package deployment

import (
	"archive/tar"
	"bytes"
	"encoding/json"
	"fmt"
	"io"
	"path"
	"slices"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// imageFor is the artifact's image for linux and an architecture as Docker names it ("amd64", "arm64", "arm").
func imageFor(a image.Artifact, arch string) (v1.Image, error) {
	fits := func(p *v1.Platform) bool { return p != nil && p.OS == "linux" && p.Architecture == arch }
	if a.Index == nil {
		if a.Image == nil {
			return nil, fmt.Errorf("there is no image")
		}
		config, err := a.Image.ConfigFile()
		if err != nil {
			return nil, err
		}
		if !fits(config.Platform()) {
			return nil, &platformError{has: []string{config.OS + "/" + config.Architecture}}
		}
		return a.Image, nil
	}
	manifest, err := a.Index.IndexManifest()
	if err != nil {
		return nil, err
	}
	var has []string
	for _, m := range manifest.Manifests {
		if !m.MediaType.IsImage() {
			continue
		}
		if fits(m.Platform) {
			return a.Index.Image(m.Digest)
		}
		if m.Platform != nil && m.Platform.OS != "unknown" {
			has = append(has, m.Platform.String())
		}
	}
	return nil, &platformError{has: has}
}

// platformError tells that an image is for other platforms.
type platformError struct{ has []string }

func (e *platformError) Error() string {
	if len(e.has) == 0 {
		return "the index names no platform"
	}
	slices.Sort(e.has)
	return fmt.Sprintf("the image is for %q", e.has)
}

// writeArchive writes an image as an archive that every engine and containerd read: an OCI layout, which keeps the digest,
// with the manifest.json that "docker load" wants where the engine has no containerd image store. The name is the whole
// one, as containerd knows it.
func writeArchive(w io.Writer, img v1.Image, name, tag string) error {
	manifest, err := img.RawManifest()
	if err != nil {
		return err
	}
	parsed, err := img.Manifest()
	if err != nil {
		return err
	}
	digest, err := img.Digest()
	if err != nil {
		return err
	}
	config, err := img.RawConfigFile()
	if err != nil {
		return err
	}
	layers, err := img.Layers()
	if err != nil {
		return err
	}
	a := archive{w: tar.NewWriter(w), written: map[string]bool{}}
	a.add("oci-layout", []byte(`{"imageLayoutVersion":"1.0.0"}`))
	a.add(blobPath(parsed.Config.Digest), config)
	var paths []string
	for _, l := range layers {
		p, err := a.layer(l)
		if err != nil {
			return err
		}
		paths = append(paths, p)
	}
	a.add(blobPath(digest), manifest)
	a.json("index.json", v1.IndexManifest{SchemaVersion: 2, MediaType: "application/vnd.oci.image.index.v1+json", Manifests: []v1.Descriptor{{
		MediaType: parsed.MediaType, Size: int64(len(manifest)), Digest: digest,
		Annotations: map[string]string{"io.containerd.image.name": name + ":" + tag, "org.opencontainers.image.ref.name": tag},
	}}})
	a.json("manifest.json", []map[string]any{{"Config": blobPath(parsed.Config.Digest), "RepoTags": []string{name + ":" + tag}, "Layers": paths}})
	if a.err != nil {
		return a.err
	}
	return a.w.Close()
}

func blobPath(h v1.Hash) string { return path.Join("blobs", h.Algorithm, h.Hex) }

// archive writes files until the first error, which it keeps.
type archive struct {
	w       *tar.Writer
	written map[string]bool
	err     error
}

func (a *archive) add(name string, content []byte) {
	a.copy(name, int64(len(content)), bytes.NewReader(content))
}

func (a *archive) json(name string, v any) {
	content, err := json.Marshal(v)
	if a.err == nil {
		a.err = err
	}
	a.add(name, content)
}

func (a *archive) copy(name string, size int64, content io.Reader) {
	if a.err != nil || a.written[name] {
		return
	}
	a.written[name] = true
	if a.err = a.w.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: size, Typeflag: tar.TypeReg}); a.err != nil {
		return
	}
	n, err := io.Copy(a.w, content)
	if err == nil && n != size {
		err = fmt.Errorf("%s has %d bytes, not %d", name, n, size)
	}
	a.err = err
}

// layer writes a layer as it is in the registry, and returns its path.
func (a *archive) layer(l v1.Layer) (string, error) {
	digest, err := l.Digest()
	if err != nil {
		return "", err
	}
	p := blobPath(digest)
	if a.err != nil || a.written[p] {
		return p, a.err
	}
	size, err := l.Size()
	if err != nil {
		return "", err
	}
	content, err := l.Compressed()
	if err != nil {
		return "", err
	}
	a.copy(p, size, content)
	_ = content.Close()
	return p, a.err
}
