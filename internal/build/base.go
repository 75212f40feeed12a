package build

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// base is a base image for linux/amd64.
type base struct {
	// name is the reference as it was given, fully qualified and without its digest.
	name string
	// digest is what the reference points to: the index's where there is one, so that it can be compared with the one
	// pinned in metadata.yaml.
	digest string
	image  v1.Image
}

// lookups look each thing up once per run, also when many connectors ask at the same time, so that the tag of a base
// image which moves meanwhile can't give two of them different bases.
type lookups[V any] struct {
	mu    sync.Mutex
	calls map[string]*lookup[V]
}

type lookup[V any] struct {
	done  chan struct{}
	found V
	err   error
}

func (b *lookups[V]) get(ctx context.Context, ref string, look func(context.Context, string) (V, error)) (V, error) {
	for {
		b.mu.Lock()
		call, running := b.calls[ref]
		if !running {
			call = &lookup[V]{done: make(chan struct{})}
			if b.calls == nil {
				b.calls = map[string]*lookup[V]{}
			}
			b.calls[ref] = call
		}
		b.mu.Unlock()
		if !running {
			call.found, call.err = look(ctx, ref)
			if ctx.Err() != nil {
				// Ended by its own connector's context: the next one that asks looks again.
				b.mu.Lock()
				delete(b.calls, ref)
				b.mu.Unlock()
			}
			close(call.done)
			return call.found, call.err
		}
		select {
		case <-ctx.Done():
			var none V
			return none, ctx.Err()
		case <-call.done:
		}
		b.mu.Lock()
		current := b.calls[ref]
		b.mu.Unlock()
		if current == call {
			return call.found, call.err
		}
	}
}

// lookUpBase opens a base image and finds its linux/amd64. Its error is a *fault.Error: the registry's, or with the
// code BaseImage where there is no such image or not the right one.
func (b *Builder) lookUpBase(ctx context.Context, ref string) (base, error) {
	bad := func(err error) (base, error) {
		if e, ok := errors.AsType[*fault.Error](err); ok && e.Code != fault.SourceImage {
			return base{}, b.baseFault(ref, "Check connectorBuildOptions.baseImage in metadata.yaml, and that this machine reaches its registry by https.", e)
		} else if ok {
			err = errors.New(e.Cause)
		}
		return base{}, &fault.Error{Code: fault.BaseImage, Op: "read the base image", Object: ref, Err: err,
			Cause:  fault.Bounded(err.Error()),
			Remedy: "Check connectorBuildOptions.baseImage in metadata.yaml: a source-declarative-manifest image with linux/amd64."}
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return bad(err)
	}
	artifact, err := b.options.Open(ctx, ref)
	if err != nil {
		return bad(err)
	}
	digest, err := artifact.Digest()
	if err != nil {
		return bad(err)
	}
	img := artifact.Image
	if artifact.Index != nil {
		img, err = platformImage(artifact.Index, amd64)
		if errors.Is(err, errNoPlatform) {
			return bad(fmt.Errorf("it has no linux/amd64, only: %s", strings.Join(claims(artifact.Index), ", ")))
		} else if err != nil {
			return bad(err)
		}
	}
	platform, err := configPlatform(img)
	if err != nil {
		return bad(err)
	}
	if platform != amd64 {
		return bad(fmt.Errorf("its config says that it is for %s, and Airbyte needs linux/amd64", platform))
	}
	return base{name: qualified(ref, parsed), digest: digest, image: img}, nil
}

// qualified is the reference with its registry and without its digest.
func qualified(ref string, parsed name.Reference) string {
	before, _, pinned := strings.Cut(ref, "@")
	if !pinned {
		return dockerHubName(parsed.Name())
	}
	if tag, err := name.NewTag(before); err == nil && strings.HasSuffix(before, ":"+tag.TagStr()) {
		return dockerHubName(tag.Name())
	}
	return dockerHubName(parsed.Context().Name())
}

// dockerHubName writes Docker Hub's host the way people do.
func dockerHubName(s string) string {
	if rest, ok := strings.CutPrefix(s, name.DefaultRegistry+"/"); ok {
		return "docker.io/" + rest
	}
	return s
}

// claims are the platforms that an index names, for a message.
func claims(index v1.ImageIndex) []string {
	manifest, err := index.IndexManifest()
	if err != nil {
		return nil
	}
	var all []string
	for _, child := range manifest.Manifests {
		if p := connector.PlatformString(child.Platform); p != "" && !connector.IsAttestation(child) && len(all) < maxLayoutImages {
			all = append(all, p)
		}
	}
	return all
}
