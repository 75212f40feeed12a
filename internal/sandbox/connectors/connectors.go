// Package connectors makes connector images out of this repository with Go alone: nothing is pulled, and no engine
// builds. Its images hold a real shell and real connectors (testdata/connectors), so that what takes an image can be
// tried on one. It is for tests, the sandbox's demo and nothing else; what users' connectors become images with is
// package build.
package connectors

import (
	"context"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/types"
	"go.yaml.in/yaml/v3"
)

// shell is the package of a POSIX shell in Go. The tool line in go.mod keeps its version.
const shell = "mvdan.cc/sh/v3/cmd/gosh"

// data names, for each connector that is a Go program, the files that go into its image beside it.
var data = map[string][]string{
	"source-hello":      {"hello.csv"},
	"destination-jsonl": nil,
}

// Option changes the configuration of an image: what it says about itself and its environment.
type Option func(*v1.Config)

// Env sets a variable of the image's environment.
func Env(name, value string) Option {
	return func(c *v1.Config) {
		unset(c, name)
		c.Env = append(c.Env, name+"="+value)
	}
}

// As sets the labels by which an image says under which repository and tag it is published. Without it they are those
// of the connector's metadata.yaml. Two images that differ in it have two digests.
func As(repository, tag string) Option {
	return func(c *v1.Config) {
		c.Labels = map[string]string{"io.airbyte.name": repository, "io.airbyte.version": tag}
	}
}

func unset(c *v1.Config, name string) {
	c.Env = slices.DeleteFunc(c.Env, func(variable string) bool { return strings.HasPrefix(variable, name+"=") })
}

// entrypoint makes the program at that path what both Docker and Airbyte start.
func entrypoint(program string) Option {
	return func(c *v1.Config) {
		c.Entrypoint, c.Cmd = []string{program}, nil
		Env("AIRBYTE_ENTRYPOINT", program)(c)
	}
}

// Base is a linux/amd64 image such as connectors are built on: a static shell, sleep and mv, the user airbyte with the
// id 1000, and a folder /airbyte that is this user's. Its first use in a process compiles them.
func Base(ctx context.Context) (v1.Image, error) {
	root, err := rootFS(ctx)
	if err != nil {
		return nil, fmt.Errorf("make the base image: %w", err)
	}
	return assemble("amd64", []v1.Layer{root})
}

// Image is a Go connector of testdata/connectors as an image: Base, the compiled connector at /airbyte/<name> as its
// entry point, and its data beside it. Its digest is the same each time for the same Go version and options.
func Image(ctx context.Context, name string, options ...Option) (v1.Image, error) {
	files, ok := data[name]
	if !ok {
		return nil, fmt.Errorf("make an image of %s: it is no connector that is a Go program", name)
	}
	dir, err := Dir(ctx, name)
	if err != nil {
		return nil, err
	}
	root, err := rootFS(ctx)
	if err != nil {
		return nil, fmt.Errorf("make an image of %s: %w", name, err)
	}
	own, err := layers.get(ctx, name, func() (v1.Layer, error) {
		program, err := compile(ctx, inImages, "./testdata/connectors/"+name)
		if err != nil {
			return nil, err
		}
		entries := []entry{{name: "airbyte/" + name, mode: 0o755, data: program}}
		for _, file := range files {
			content, err := os.ReadFile(filepath.Join(dir, file))
			if err != nil {
				return nil, err
			}
			entries = append(entries, entry{name: "airbyte/" + file, mode: 0o644, data: content})
		}
		return layer(types.OCILayer, entries...)
	})
	if err != nil {
		return nil, fmt.Errorf("make an image of %s: %w", name, err)
	}
	labels, err := metadataLabels(dir)
	if err != nil {
		return nil, err
	}
	return assemble("amd64", []v1.Layer{root, own}, slices.Concat([]Option{entrypoint("/airbyte/" + name), labels}, options)...)
}

// DeclarativeBase stands in for airbyte/source-declarative-manifest, the image that manifest-only connectors are built
// on: a program at /airbyte/integration_code/main runs source_declarative_manifest/manifest.yaml beside it. As in
// Airbyte's, that folder is not there yet, and without the file the image prints a generic specification.
func DeclarativeBase(ctx context.Context, options ...Option) (v1.Image, error) {
	const home = "/airbyte/integration_code"
	root, err := rootFS(ctx)
	if err != nil {
		return nil, fmt.Errorf("make the declarative base image: %w", err)
	}
	own, err := layers.get(ctx, "declarative", func() (v1.Layer, error) {
		program, err := compile(ctx, inImages, "./internal/sandbox/connectors/declarative")
		if err != nil {
			return nil, err
		}
		return layer(types.OCILayer,
			entry{name: home[1:] + "/", mode: 0o755, owner: airbyteID},
			entry{name: home[1:] + "/main", mode: 0o755, data: program})
	})
	if err != nil {
		return nil, fmt.Errorf("make the declarative base image: %w", err)
	}
	in := func(c *v1.Config) { c.WorkingDir = home }
	return assemble("amd64", []v1.Layer{root, own}, slices.Concat([]Option{entrypoint(path.Join(home, "main")), in,
		As("airbyte/source-declarative-manifest", "6.60.9")}, options)...)
}

// rootFS is the layer with everything of Base.
func rootFS(ctx context.Context) (v1.Layer, error) {
	return layers.get(ctx, "base", func() (v1.Layer, error) {
		sh, err := compile(ctx, inImages, shell)
		if err != nil {
			return nil, err
		}
		applets, err := compile(ctx, inImages, "./internal/sandbox/connectors/applets")
		if err != nil {
			return nil, err
		}
		return layer(types.OCILayer,
			entry{name: "bin/", mode: 0o755},
			entry{name: "bin/applets", mode: 0o755, data: applets},
			entry{name: "bin/mv", mode: 0o777, link: "applets"},
			entry{name: "bin/sh", mode: 0o755, data: sh},
			entry{name: "bin/sleep", mode: 0o777, link: "applets"},
			entry{name: "etc/", mode: 0o755},
			entry{name: "etc/group", mode: 0o644, data: []byte("root:x:0:\nairbyte:x:1000:\n")},
			entry{name: "etc/passwd", mode: 0o644,
				data: []byte("root:x:0:0:root:/:/bin/sh\nairbyte:x:1000:1000:airbyte:/airbyte:/bin/sh\n")},
			entry{name: "tmp/", mode: 0o1777},
			entry{name: "airbyte/", mode: 0o755, owner: airbyteID})
	})
}

// assemble makes an image of layers and a configuration, without a creation time.
func assemble(architecture string, layers []v1.Layer, options ...Option) (v1.Image, error) {
	img := mutate.ConfigMediaType(mutate.MediaType(empty.Image, types.OCIManifestSchema1), types.OCIConfigJSON)
	img, err := mutate.AppendLayers(img, layers...)
	if err != nil {
		return nil, err
	}
	file, err := img.ConfigFile()
	if err != nil {
		return nil, err
	}
	file = file.DeepCopy()
	file.OS, file.Architecture = "linux", architecture
	file.Config = v1.Config{
		Cmd:        []string{"/bin/sh"},
		Env:        []string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
		User:       "airbyte",
		WorkingDir: "/airbyte",
	}
	for _, option := range options {
		option(&file.Config)
	}
	return mutate.ConfigFile(img, file)
}

// metadataLabels are the labels that Airbyte's tools put on an image of the connector in that folder.
func metadataLabels(dir string) (Option, error) {
	file := filepath.Join(dir, "metadata.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	var metadata struct {
		Data struct {
			Repository string `yaml:"dockerRepository"`
			Tag        string `yaml:"dockerImageTag"`
		} `yaml:"data"`
	}
	if err := yaml.Unmarshal(text, &metadata); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	return As(metadata.Data.Repository, metadata.Data.Tag), nil
}

// WriteLayout writes the image as an OCI image layout into the folder, which it makes.
func WriteLayout(img v1.Image, dir string) error {
	l, err := layout.Write(dir, empty.Index)
	if err != nil {
		return fmt.Errorf("write an image layout to %s: %w", dir, err)
	}
	if err := l.AppendImage(img); err != nil {
		return fmt.Errorf("write an image layout to %s: %w", dir, err)
	}
	return nil
}

// placeholder is the base image in source-manifest's metadata.yaml, on a host that can't exist.
const placeholder = "registry.invalid/airbyte/source-declarative-manifest:6.60.9"

// WithBase copies source-manifest into a folder of its own name below parent and puts the reference of a real base
// image in its metadata.yaml. It returns the copy.
func WithBase(ctx context.Context, parent, base string) (string, error) {
	dir, err := Dir(ctx, "source-manifest")
	if err != nil {
		return "", err
	}
	dst := filepath.Join(parent, filepath.Base(dir))
	if err := os.CopyFS(dst, os.DirFS(dir)); err != nil {
		return "", err
	}
	file := filepath.Join(dst, "metadata.yaml")
	text, err := os.ReadFile(file)
	if err != nil {
		return "", err
	}
	before, after, found := strings.Cut(string(text), placeholder)
	if !found {
		return "", fmt.Errorf("%s does not hold %s", file, placeholder)
	}
	return dst, os.WriteFile(file, []byte(before+base+after), 0o644)
}
