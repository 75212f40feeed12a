package connector

import (
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// describedImage is an image for a platform ("linux/amd64", "linux/arm64/v8").
func describedImage(t *testing.T, goos, arch, variant string) v1.Image {
	t.Helper()
	img, err := random.Image(100, 2)
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture, config.Variant = goos, arch, variant
	config.Config = v1.Config{Env: []string{"A=b"}, Entrypoint: []string{"/x"}, Cmd: []string{"y"}, User: "1000", WorkingDir: "/w",
		Labels: map[string]string{"l": "v"}}
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

func described(t *testing.T, img v1.Image, claimed, platform string) PlatformImage {
	t.Helper()
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	manifest, err := img.Manifest()
	if err != nil {
		t.Fatal(err)
	}
	p := PlatformImage{Claimed: claimed, Platform: platform, Digest: digest.String(), Env: []string{"A=b"}, Entrypoint: []string{"/x"},
		Cmd: []string{"y"}, User: "1000", WorkingDir: "/w", Labels: map[string]string{"l": "v"}}
	for _, l := range manifest.Layers {
		p.Layers = append(p.Layers, Layer{MediaType: string(l.MediaType), Digest: l.Digest.String(), Size: l.Size})
	}
	return p
}

func add(index v1.ImageIndex, what mutate.Appendable, p *v1.Platform) v1.ImageIndex {
	return mutate.AppendManifests(index, mutate.IndexAddendum{Add: what, Descriptor: v1.Descriptor{Platform: p}})
}

func TestDescribe(t *testing.T) {
	t.Parallel()
	amd, arm := describedImage(t, "linux", "amd64", ""), describedImage(t, "linux", "arm64", "v8")
	index := add(add(add(empty.Index, amd, &v1.Platform{OS: "linux", Architecture: "amd64"}),
		describedImage(t, "unknown", "unknown", ""), &v1.Platform{OS: "unknown", Architecture: "unknown"}),
		arm, &v1.Platform{OS: "linux", Architecture: "amd64"})
	outer := add(add(empty.Index, index, nil), arm, nil)
	tests := []struct {
		name     string
		artifact image.Artifact
		want     []PlatformImage
	}{
		{"an image", image.Artifact{Image: amd}, []PlatformImage{described(t, amd, "", "linux/amd64")}},
		{"an index, its attestation left out and its lie kept apart", image.Artifact{Index: index},
			[]PlatformImage{described(t, amd, "linux/amd64", "linux/amd64"), described(t, arm, "linux/amd64", "linux/arm64/v8")}},
		{"an index in an index", image.Artifact{Index: outer}, []PlatformImage{described(t, amd, "linux/amd64", "linux/amd64"),
			described(t, arm, "linux/amd64", "linux/arm64/v8"), described(t, arm, "", "linux/arm64/v8")}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			got, err := Describe(tt.artifact)
			if err != nil {
				t.Fatal(err)
			}
			digest, err := tt.artifact.Digest()
			if err != nil {
				t.Fatal(err)
			}
			want := Image{Digest: digest, Index: tt.artifact.Index != nil, Platforms: tt.want}
			if diff := cmp.Diff(want, got); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// brokenImage fails as an image does whose registry fails.
type brokenImage struct {
	v1.Image
	err error
}

func (b brokenImage) ConfigFile() (*v1.ConfigFile, error) { return nil, b.err }

func TestDescribeRefuses(t *testing.T) {
	t.Parallel()
	amd := describedImage(t, "linux", "amd64", "")
	deep := add(empty.Index, add(empty.Index, add(empty.Index, amd, nil), nil), nil)
	wide := v1.ImageIndex(empty.Index)
	for range maxPlatforms + 1 {
		wide = add(wide, amd, nil)
	}
	tests := []struct {
		name     string
		artifact image.Artifact
		code     fault.Code
	}{
		{"an index in an index in an index", image.Artifact{Index: deep}, fault.BadImage},
		{"very many platforms", image.Artifact{Index: wide}, fault.BadImage},
		{"a config that can't be read", image.Artifact{Image: brokenImage{amd, errors.New("unexpected EOF")}}, fault.BadImage},
		{"a registry that refuses", image.Artifact{Image: brokenImage{amd, fmt.Errorf("fetch: %w", &fault.Error{Code: fault.RateLimited})}}, fault.RateLimited},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			if got, err := Describe(tt.artifact); fault.CodeOf(err) != tt.code {
				t.Errorf("%+v, %v; want %s", got, err, tt.code)
			}
		})
	}
}
