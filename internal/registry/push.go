package registry

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/partial"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"
	"golang.org/x/sync/errgroup"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Push uploads the artifact's blobs and its manifests by digest, without a tag: an index's images before the index.
// What the registry has already is skipped, and what it has in another repository is mounted from there where it lets
// us. When the registry says that it lost a blob, the whole push is done once more. Its error is a *fault.Error.
func (c *Client) Push(ctx context.Context, repository image.Repository, a image.Artifact, log connector.Log) error {
	const op = "push the image to"
	repo, err := c.repository(repository)
	if err != nil {
		return err
	}
	s, err := c.signIn(ctx, op, repo, true)
	if err != nil {
		return err
	}
	renewals := 0
	for again := false; ; {
		// What it says to have mounted may be what it lost, or never had, so the second time the bytes are sent.
		p := &push{c: c, s: s, repo: repo, log: log, mount: !again, blobs: map[v1.Hash]*blob{}}
		// An answer to HEAD does not say that it is the credential that has ended, where that is no 401.
		err = c.learn(ctx, s, p.run(ctx, a))
		// Blobs that are at their place already are not pushed again, so each new credential brings the push on.
		if renewals == 0 || p.pushed.blobs.Load() > 0 && renewals < maxRenewals {
			if next := c.renewed(ctx, s, op, err); next != nil {
				s, renewals = next, renewals+1
				continue
			}
		}
		if !lostBlob(err) {
			break
		}
		c.forget(repo, p.blobs)
		if again || ctx.Err() != nil {
			break
		}
		again = true
		log.Info("%s says that it lost a blob; pushing once more", repo.RegistryStr())
	}
	return c.explain(ctx, err, s.step(op, repo.Name()))
}

// maxRenewals bounds how often a push gets a new credential because the registry refused the old one.
const maxRenewals = 100

// lostBlob tells whether a manifest was refused because a blob that was there is not any more.
func lostBlob(err error) bool {
	te, ok := errors.AsType[*transport.Error](err)
	return ok && slices.ContainsFunc(te.Errors, func(d transport.Diagnostic) bool {
		return d.Code == transport.ManifestBlobUnknownErrorCode || d.Code == transport.BlobUnknownErrorCode
	})
}

// push is one push of one artifact.
type push struct {
	c    *Client
	s    *session
	repo name.Repository
	log  connector.Log
	// mount tells that blobs which are in other repositories of the registry are to be mounted from there.
	mount bool

	// blobs and manifests are what the registry lacks, the manifests in the order in which they can be put.
	blobs     map[v1.Hash]*blob
	manifests []manifest

	pushed, mounted, there counter
}

type manifest struct {
	digest v1.Hash
	remote.Taggable
}

// counter counts blobs and their bytes.
type counter struct{ blobs, bytes atomic.Int64 }

func (c *counter) add(bytes int64) {
	c.blobs.Add(1)
	c.bytes.Add(bytes)
}

func (p *push) run(ctx context.Context, a image.Artifact) error {
	var root any = a.Image
	if a.Index != nil {
		root = a.Index
	}
	if err := p.collect(ctx, root); err != nil {
		return err
	}
	if len(p.manifests) == 0 {
		p.log.Info("%s has the image already, nothing to push", p.repo.Name())
		return nil
	}
	s, pusher, err := p.signIn(ctx)
	if err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	g.SetLimit(p.c.options.Jobs)
	// The largest first, so that none of them is left alone at the end.
	for _, b := range slices.SortedFunc(maps.Values(p.blobs), func(a, b *blob) int { return cmp.Compare(b.size, a.size) }) {
		p.c.progress.more(b.size)
		g.Go(func() error { return p.upload(gctx, pusher, b) })
	}
	if err := g.Wait(); err != nil {
		return err
	}
	for _, m := range p.manifests {
		put := func() error { return pusher.Put(ctx, p.repo.Digest(m.digest.String()), m.Taggable) }
		if err := p.c.again(ctx, s.repo.RegistryStr(), put); err != nil {
			return err
		}
	}
	p.log.Info("pushed %s in %s, mounted %s, already there %s", megabytes(p.pushed.bytes.Load()),
		plural(p.pushed.blobs.Load(), "blob"), plural(p.mounted.blobs.Load(), "blob"), plural(p.there.blobs.Load(), "blob"))
	return nil
}

// collect walks the artifact and notes what the registry lacks of it.
func (p *push) collect(ctx context.Context, node any) error {
	switch node := node.(type) {
	case v1.Image:
		return p.note(ctx, node, node, func() error { return p.collectImage(node) })
	case v1.ImageIndex:
		return p.note(ctx, node, node, func() error {
			children, err := partial.Manifests(node)
			if err != nil {
				return &sourceError{"the index can't be read", err}
			}
			for _, child := range children {
				if err := p.collect(ctx, child); err != nil {
					return err
				}
			}
			return nil
		})
	case v1.Layer:
		return p.collectLayer(node)
	default:
		return &sourceError{"the index can't be pushed", fmt.Errorf("it lists something that is neither an image nor a blob (%T)", node)}
	}
}

// note notes a manifest, and by deps what it refers to, unless the registry has it.
func (p *push) note(ctx context.Context, d interface{ Digest() (v1.Hash, error) }, t remote.Taggable, deps func() error) error {
	digest, err := d.Digest()
	if err != nil {
		return &sourceError{"the image's manifest can't be read", err}
	}
	if slices.ContainsFunc(p.manifests, func(m manifest) bool { return m.digest == digest }) {
		return nil
	}
	have, err := p.c.digestOf(ctx, p.s, p.repo.Digest(digest.String()))
	if te, ok := errors.AsType[*transport.Error](err); ok && te.StatusCode == http.StatusForbidden {
		// Artifactory answers so for what does not exist. The upload tells who may not.
		have, err = "", nil
	}
	if err != nil || have != "" {
		return err
	}
	if err := deps(); err != nil {
		return err
	}
	p.manifests = append(p.manifests, manifest{digest, t})
	return nil
}

func (p *push) collectImage(img v1.Image) error {
	layers, err := img.Layers()
	if err != nil {
		return &sourceError{"the image's layers can't be read", err}
	}
	config, err := partial.ConfigLayer(img)
	if err != nil {
		return &sourceError{"the image's config can't be read", err}
	}
	for _, l := range append(layers, config) {
		if err := p.collectLayer(l); err != nil {
			return err
		}
	}
	return nil
}

func (p *push) collectLayer(l v1.Layer) error {
	digest, err := l.Digest()
	if err != nil {
		return &sourceError{"a layer's digest can't be computed", err}
	}
	if p.blobs[digest] != nil {
		return nil
	}
	size, err := l.Size()
	if err != nil {
		return &sourceError{"the size of layer " + digest.String() + " is unknown", err}
	}
	mt, err := l.MediaType()
	if err != nil {
		return &sourceError{"the type of layer " + digest.String() + " is unknown", err}
	}
	if !mt.IsDistributable() {
		// Their URL is in the manifest, and registries do not want them.
		return nil
	}
	p.blobs[digest] = p.newBlob(l, digest, size)
	return nil
}

// signIn returns a session that may also read the repositories which blobs are mounted from; where the registry does
// not give such a token, the session without.
func (p *push) signIn(ctx context.Context) (*session, *remote.Pusher, error) {
	var from []name.Repository
	for _, b := range p.blobs {
		if b.from != nil && !slices.Contains(from, b.from.Context()) {
			from = append(from, b.from.Context())
		}
	}
	s := p.s
	if len(from) > 0 {
		if wider, err := p.c.signIn(ctx, "mount blobs in", p.repo, true, from...); err == nil {
			s = wider
		} else if ctx.Err() != nil {
			return nil, nil, err
		}
	}
	pusher, err := remote.NewPusher(p.c.remote(ctx, s)...)
	return s, pusher, err
}

// upload brings one blob to its place, however often it must begin anew.
func (p *push) upload(ctx context.Context, pusher *remote.Pusher, b *blob) error {
	var opened atomic.Bool
	err := p.c.again(ctx, p.repo.RegistryStr(), func() error {
		opened.Store(false)
		p.c.progress.done(-b.read.Swap(0))
		return pusher.Upload(withUploadOpened(ctx, &opened), p.repo, b.layer())
	})
	if err != nil {
		return err
	}
	read := b.read.Load()
	p.c.progress.done(b.size - read)
	switch {
	case read > 0:
		p.pushed.add(b.size)
	case opened.Load():
		p.mounted.add(b.size)
		// That a registry says so proves nothing: some answer 201 to any mount.
		return nil
	default:
		p.there.add(b.size)
	}
	p.c.blobs.LoadOrStore(blobKey(p.repo, b.digest), p.repo)
	return nil
}

// forget takes back that the repository has these blobs.
func (c *Client) forget(repo name.Repository, blobs map[v1.Hash]*blob) {
	for digest := range blobs {
		c.blobs.CompareAndDelete(blobKey(repo, digest), repo)
	}
}

func blobKey(repo name.Repository, digest v1.Hash) string {
	return repo.RegistryStr() + " " + digest.String()
}

// blob is a layer or a config on its way. It is the v1.Layer that go-containerregistry reads, which lets us see what
// is read and tell a source that fails from a registry that fails.
type blob struct {
	v1.Layer
	p      *push
	digest v1.Hash
	size   int64
	// from is where in this registry the blob is already, or nil.
	from name.Reference
	// read counts the bytes that were read in this attempt.
	read atomic.Int64
}

func (p *push) newBlob(l v1.Layer, digest v1.Hash, size int64) *blob {
	b := &blob{Layer: l, p: p, digest: digest, size: size}
	if m, ok := l.(*remote.MountableLayer); ok {
		b.Layer = m.Layer
		if r := m.Reference.Context(); p.mount && r.RegistryStr() == p.repo.RegistryStr() && r.RepositoryStr() != p.repo.RepositoryStr() {
			b.from = m.Reference
		}
	}
	if seen, ok := p.c.blobs.Load(blobKey(p.repo, digest)); ok && p.mount && b.from == nil {
		if r, ok := seen.(name.Repository); ok && r.RepositoryStr() != p.repo.RepositoryStr() {
			b.from = r.Digest(digest.String())
		}
	}
	return b
}

// layer is the blob in the form by which go-containerregistry knows where to mount it from.
func (b *blob) layer() v1.Layer {
	if b.from != nil {
		return &remote.MountableLayer{Layer: b, Reference: b.from}
	}
	return b
}

// Compressed opens the layer when it is first read from: go-containerregistry opens more often than it reads, and
// opening a layer of another registry is a request.
func (b *blob) Compressed() (io.ReadCloser, error) { return &blobReader{b: b}, nil }

type blobReader struct {
	b *blob

	// net/http may close a body while it reads from it, so mu is not held while reading.
	mu     sync.Mutex
	rc     io.ReadCloser
	closed bool
}

func (r *blobReader) open() (io.ReadCloser, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return nil, io.ErrClosedPipe
	}
	if r.rc == nil {
		rc, err := r.b.Layer.Compressed()
		if err != nil {
			return nil, r.failed(err)
		}
		r.rc = rc
	}
	return r.rc, nil
}

func (r *blobReader) failed(err error) error {
	return &sourceError{"layer " + r.b.digest.String() + " can't be read", err}
}

func (r *blobReader) Read(buf []byte) (int, error) {
	rc, err := r.open()
	if err != nil {
		return 0, err
	}
	n, err := rc.Read(buf)
	r.b.read.Add(int64(n))
	r.b.p.c.progress.done(int64(n))
	if err != nil && !errors.Is(err, io.EOF) {
		err = r.failed(err)
	}
	return n, err
}

func (r *blobReader) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.closed = true
	if r.rc == nil {
		return nil
	}
	return r.rc.Close()
}

// progress sums up all pushes of a run.
type progress struct {
	report func(done, total int64)

	mu              sync.Mutex
	finished, total int64
}

func (p *progress) more(bytes int64) { p.add(0, bytes) }
func (p *progress) done(bytes int64) { p.add(bytes, 0) }

func (p *progress) add(done, total int64) {
	if p.report == nil || done == 0 && total == 0 {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.finished += done
	p.total += total
	p.report(p.finished, p.total)
}

func megabytes(n int64) string { return fmt.Sprintf("%.1f MB", float64(n)/1e6) }

func plural(n int64, noun string) string {
	if n == 1 {
		return "1 " + noun
	}
	return fmt.Sprintf("%d %ss", n, noun)
}
