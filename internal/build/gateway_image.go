package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"sync"

	"github.com/containerd/containerd/v2/core/content"
	"github.com/containerd/errdefs"
	"github.com/containerd/platforms"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/client/llb"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// specRunner runs the spec of an image.
type specRunner func(context.Context, v1.Image) (connector.SpecRun, error)

// imageStore is the name by which an engine asks for the blobs of an image.
const imageStore = "airbyte-publish-image"

// specInEngine is a runner for images that exist already, where this machine does not allow it: the engine fetches the
// image's blobs from this program and runs its spec. The engine has to know OCI layouts as sources, which BuildKit does
// since 0.11.
func (b *Builder) specInEngine(c connector.Connector, log connector.Log) specRunner {
	return func(ctx context.Context, img v1.Image) (run connector.SpecRun, err error) {
		sum, err := img.Digest()
		if err != nil {
			return run, badImage(err)
		}
		config, err := img.ConfigFile()
		if err != nil {
			return run, badImage(err)
		}
		platform := ocispec.Platform{OS: config.OS, Architecture: config.Architecture, Variant: config.Variant}
		err = b.engines().do(ctx, c, log, func(ctx context.Context, e *engine) error {
			if !e.runs(platforms.Format(platform)) {
				return specNotRun(fmt.Sprintf("the image is for %s, which %s can't run", platforms.Format(platform), e.name), nil)
			}
			var failed error
			options := buildkit.SolveOpt{OCIStores: map[string]content.Store{imageStore: &imageContent{image: img}}}
			_, err := e.client.Build(quietly(ctx), options, "", func(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
				source := llb.OCILayout("airbyte-publish/image@"+sum.String(), llb.OCIStore(g.BuildOpts().SessionID, imageStore))
				var result *gateway.Result
				definition, err := source.Marshal(ctx, llb.Platform(platform))
				if err == nil {
					result, err = g.Solve(ctx, gateway.SolveRequest{Definition: definition.ToPB(), Evaluate: true})
				}
				if err == nil {
					run, failed = specInGateway(ctx, g, result.Ref, config.Config.Env, b.options.SpecTimeout)
				}
				return gateway.NewResult(), err
			}, nil)
			return errors.Join(failed, err)
		})
		return run, err
	}
}

// elsewhere has an image's spec run by the engine where this machine could not, for the reason that is given. Only what
// the engine found out about the image counts; where it can't run it either, the reason stays.
func (r specRunner) elsewhere(ctx context.Context, img v1.Image, reason error) (connector.SpecRun, error) {
	if r == nil || fault.CodeOf(reason) != fault.SpecNotRun {
		return connector.SpecRun{}, reason
	}
	run, err := r(ctx, img)
	if ctx.Err() != nil {
		return run, ctx.Err()
	}
	if err == nil || fault.CodeOf(err) == fault.NoShell {
		return run, err
	}
	return connector.SpecRun{}, reason
}

// imageContent gives an engine the blobs of an image. It is content.Store as far as reading goes.
type imageContent struct {
	readOnly
	image v1.Image
}

// blob is one blob of the image.
func (c *imageContent) blob(wanted digest.Digest) (size int64, open func() (io.ReadCloser, error), err error) {
	hash, err := v1.NewHash(wanted.String())
	if err != nil {
		return 0, nil, err
	}
	for _, raw := range []func() ([]byte, error){c.image.RawManifest, c.image.RawConfigFile} {
		text, err := raw()
		if err != nil {
			return 0, nil, err
		}
		if digest.FromBytes(text) == wanted {
			return int64(len(text)), func() (io.ReadCloser, error) { return io.NopCloser(bytes.NewReader(text)), nil }, nil
		}
	}
	layer, err := c.image.LayerByDigest(hash)
	if err != nil {
		return 0, nil, fmt.Errorf("%s: %w", wanted, errdefs.ErrNotFound)
	}
	size, err = layer.Size()
	return size, layer.Compressed, err
}

// Info implements content.Store.
func (c *imageContent) Info(_ context.Context, wanted digest.Digest) (content.Info, error) {
	size, _, err := c.blob(wanted)
	return content.Info{Digest: wanted, Size: size}, err
}

// ReaderAt implements content.Store.
func (c *imageContent) ReaderAt(_ context.Context, d ocispec.Descriptor) (content.ReaderAt, error) {
	size, open, err := c.blob(d.Digest)
	if err != nil {
		return nil, err
	}
	return &blobReader{size: size, open: open}, nil
}

// blobReader reads a stream at offsets. They come in their order, so that the stream is seldom opened anew.
type blobReader struct {
	size int64
	open func() (io.ReadCloser, error)

	mu     sync.Mutex
	stream io.ReadCloser
	at     int64
}

func (r *blobReader) Size() int64 { return r.size }

// ReadAt implements io.ReaderAt.
func (r *blobReader) ReadAt(p []byte, offset int64) (n int, err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if offset >= r.size {
		return 0, io.EOF
	}
	if r.stream == nil || offset < r.at {
		if err := r.close(); err != nil {
			return 0, err
		}
		if r.stream, err = r.open(); err != nil {
			return 0, err
		}
		r.at = 0
	}
	skipped, err := io.CopyN(io.Discard, r.stream, offset-r.at)
	r.at += skipped
	if err != nil {
		return 0, err
	}
	n, err = io.ReadFull(r.stream, p)
	r.at += int64(n)
	if errors.Is(err, io.ErrUnexpectedEOF) {
		err = io.EOF
	}
	return n, err
}

// Close implements io.Closer.
func (r *blobReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.close()
}

func (r *blobReader) close() error {
	if r.stream == nil {
		return nil
	}
	err := r.stream.Close()
	r.stream = nil
	return err
}

// readOnly refuses what content.Store has for writing.
type readOnly struct{}

func (readOnly) Update(context.Context, content.Info, ...string) (content.Info, error) {
	return content.Info{}, errdefs.ErrNotImplemented
}
func (readOnly) Walk(context.Context, content.WalkFunc, ...string) error {
	return errdefs.ErrNotImplemented
}
func (readOnly) Delete(context.Context, digest.Digest) error { return errdefs.ErrNotImplemented }
func (readOnly) ListStatuses(context.Context, ...string) ([]content.Status, error) {
	return nil, errdefs.ErrNotImplemented
}
func (readOnly) Status(context.Context, string) (content.Status, error) {
	return content.Status{}, errdefs.ErrNotImplemented
}
func (readOnly) Abort(context.Context, string) error { return errdefs.ErrNotImplemented }
func (readOnly) Writer(context.Context, ...content.WriterOpt) (content.Writer, error) {
	return nil, errdefs.ErrNotImplemented
}
