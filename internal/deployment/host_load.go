package deployment

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"

	"github.com/distribution/reference"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Target is where Load puts an image: the engine's own store, or the nodes of a kind cluster that it runs.
type Target struct {
	// Cluster is the name of a kind cluster; abctl's is "airbyte-abctl". Empty is the engine.
	Cluster string
}

// Load brings the image from its registry to the host, for an instance that can't pull it. The registry is read from here,
// with the caller's credentials, and the host is sent nothing but the image. A tag that the host has with another image is
// refused, because Airbyte keeps the spec per tag.
func (h *Host) Load(ctx context.Context, t Target, repository image.Repository, tag, digest string, log connector.Log) error {
	end := log.Group("Load into the Docker host")
	defer end()
	img := Image{Repository: repository, Tag: tag, Digest: digest}
	e, err := h.connect(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	limited, cancel := context.WithTimeout(ctx, h.loadTimeout)
	defer cancel()
	err = e.load(limited, t, img)
	if err != nil && ctx.Err() == nil && limited.Err() != nil {
		return &fault.Error{Code: fault.LoadFailed, Op: "load into the Docker host", Object: img.Reference() + " at " + e.name(),
			Cause:  fmt.Sprintf("it did not end within %s", h.loadTimeout),
			Remedy: "Look whether the engine, and for kind containerd in the node, hangs (docker info, docker exec NODE ctr version), and how fast the way there is; then run again.", Err: err}
	}
	return orInterrupted(ctx, err)
}

func (e *hostEngine) load(ctx context.Context, t Target, img Image) error {
	l, err := e.loading(ctx, img)
	if err != nil {
		return err
	}
	if t.Cluster != "" {
		return l.intoCluster(ctx, t.Cluster)
	}
	return l.intoEngine(ctx)
}

// loading is one image on its way to the host.
type loading struct {
	*hostEngine
	Image
	// name is the repository as containerd and Docker write it out, ids are the digests under which a store may keep this
	// very image: its config's, its manifest's, and its index's.
	name    string
	content v1.Image
	ids     []string
}

// loading opens the image and picks the one for the host's platform.
func (e *hostEngine) loading(ctx context.Context, img Image) (*loading, error) {
	named, err := reference.ParseNormalizedNamed(string(img.Repository))
	if err != nil {
		return nil, e.failed(fault.LoadFailed, "load", img.Reference(), err)
	}
	a, err := e.parent.options.Open(ctx, img.ByDigest())
	if err != nil {
		return nil, err
	}
	content, err := imageFor(a, e.arch)
	if _, other := errors.AsType[*platformError](err); other {
		return nil, &fault.Error{Code: fault.HostPlatform, Op: "load into the Docker host", Object: img.ByDigest() + " at " + e.name(),
			Cause:  fmt.Sprintf("%s and the host runs linux/%s", err, fault.Bounded(e.arch)),
			Remedy: "Build for the host's platform as well: name it in the input platforms.", Err: err}
	}
	if err != nil {
		return nil, err
	}
	l := &loading{hostEngine: e, Image: img, name: named.Name(), content: content}
	whole, err := a.Digest()
	if err != nil {
		return nil, err
	}
	for _, digest := range []func() (v1.Hash, error){content.ConfigName, content.Digest} {
		id, err := digest()
		if err != nil {
			return nil, err
		}
		l.ids = append(l.ids, id.String())
	}
	l.ids = append(l.ids, whole)
	return l, nil
}

// intoEngine loads into the engine's store and runs spec there.
func (l *loading) intoEngine(ctx context.Context) error {
	held, err := l.held(ctx)
	if err != nil {
		return err
	}
	switch {
	case slices.Contains(l.ids, held):
		l.log.Info("the host has %s already", l.Reference())
		return nil
	case held != "" && !l.parent.options.Overwrite:
		return l.tagDiffers(l.Image, held, "this one is "+l.ids[1])
	default:
		err := l.stream(func(r io.Reader) error {
			response, err := l.ImageLoad(ctx, r)
			if err != nil {
				return err
			}
			defer func() { _ = response.Close() }()
			return readMessages(response)
		})
		if err != nil {
			return l.loadFault(err)
		}
		l.log.Info("loaded %s into the host's engine", l.Reference())
	}
	id, err := l.held(ctx)
	if err != nil {
		return err
	}
	if !slices.Contains(l.ids, id) {
		return l.loadFault(fmt.Errorf("afterwards the tag is %q there and not this image", id))
	}
	return l.runSpec(ctx, l.Image, id)
}

// held is the id of what the engine has under the tag, or empty.
func (l *loading) held(ctx context.Context) (string, error) {
	stored, err := l.stored(ctx, l.Reference())
	if stored == nil || err != nil {
		return "", err
	}
	return stored.ID, nil
}

// stream writes the archive to what takes it. An error of the registry, from which it is read, comes before that of the
// other end, to which it only looks like the end of the data.
func (l *loading) stream(take func(io.Reader) error) error {
	r, w := io.Pipe()
	written := make(chan error, 1)
	go func() {
		err := writeArchive(w, l.content, l.name, l.Tag)
		w.CloseWithError(err)
		written <- err
	}()
	err := take(r)
	_ = r.CloseWithError(errTaken)
	if wrote := <-written; wrote != nil && !errors.Is(wrote, errTaken) {
		return wrote
	}
	return err
}

// errTaken ends the writing of an archive of which no more is wanted.
var errTaken = errors.New("the other end took no more")

func (l *loading) loadFault(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	remedy := "Look at the engine's own log on that host (journalctl -u docker), then run again."
	if reasonOf(err.Error()) == noSpace {
		remedy = "Make room on the host, for example by docker system prune."
	}
	return &fault.Error{Code: fault.LoadFailed, Op: "load into the Docker host", Object: l.Reference() + " at " + l.at(),
		Cause: fault.Bounded(err.Error()), Remedy: remedy, Err: err}
}

// at is the host's address.
func (l *loading) at() string { return l.endpoint.name() }
