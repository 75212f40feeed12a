// Package build goes from a connector's folder to an image: it takes an image that exists already, assembles one from a
// manifest-only connector's files and its base image without any build engine, or has a BuildKit build one from a
// Dockerfile, and it runs the image's spec command as Airbyte does. It sets no tag, and it does not judge what it finds:
// that is package connector's.
package build

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Options are what a Builder needs of the world.
type Options struct {
	// Open reads an image from a registry: lazily, with layers that can be mounted within the same registry. ref has a
	// tag or a digest.
	Open func(ctx context.Context, ref string) (image.Artifact, error)
	// Getenv looks up the variables by which the docker command finds its engine (DOCKER_HOST, DOCKER_CONTEXT,
	// DOCKER_CONFIG, DOCKER_CERT_PATH, DOCKER_TLS_VERIFY, DOCKER_API_VERSION, HOME). Nil finds none of them.
	Getenv func(string) string
	// TempDir is where temporary files go; empty is the system's place for them.
	TempDir string
	// SpecTimeout ends a spec command that takes longer; zero is DefaultSpecTimeout.
	SpecTimeout time.Duration
	// UserAgent is how requests to a Docker engine introduce themselves; empty leaves the client's own.
	UserAgent string

	// Builder says where Dockerfiles are built: "buildkit" (BuildkitHosts), "buildx" (the current buildx builder of this
	// machine), "docker" (a Docker engine), "buildkitd" (a child process), or "auto", also when empty, for the first of
	// these that there is.
	Builder string
	// BuildkitHosts are addresses of BuildKit daemons: unix://PATH, tcp://HOST:PORT, where the query parameters cacert,
	// cert, key (files) and servername ask for TLS, and docker-container://NAME. None means the one in the variable
	// BUILDKIT_HOST, if any.
	BuildkitHosts []string
	// Jobs is how many builds one engine gets at the same time; less than one is one.
	Jobs int
	// Credentials are those for a registry's host, for pulling base images and for pushing; the zero value is anonymous.
	Credentials func(ctx context.Context, host string) (authn.AuthConfig, error)
	// Hosts are the registries that connectors are published to.
	Hosts []string
	// PlainHTTP tells whether plain http was asked for at a registry's host. Nil means nowhere.
	PlainHTTP func(host string) bool
}

// Builder makes or takes the images of a run's connectors. It may be used by several goroutines at once.
type Builder struct {
	options Options
	bases   lookups[base]
	configs lookups[resolvedBase]
	pool    *engines

	mu      sync.Mutex
	closed  bool
	dir     string
	closers []io.Closer
}

// New makes a Builder. Close it when its images have been pushed.
func New(o Options) *Builder {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.PlainHTTP == nil {
		o.PlainHTTP = func(string) bool { return false }
	}
	return &Builder{options: o, pool: newEngines(max(1, o.Jobs), (&dialing{options: o, timeout: dialTimeout}).choose)}
}

// engines are where Dockerfiles are built. They are looked for when the first build is.
func (b *Builder) engines() *engines { return b.pool }

// Engines names the build engines that were used so far, for the summary: "Docker engine 28.2.2 at
// unix:///var/run/docker.sock". There are none where nothing took one.
func (b *Builder) Engines() []string { return b.pool.used() }

// Close lets go of the build engines, ends the one that was started, and removes the temporary files behind the images
// that the Builder made. The images can't be read afterwards.
func (b *Builder) Close() error {
	errs := []error{b.pool.close()}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	for _, c := range b.closers {
		errs = append(errs, c.Close())
	}
	b.closers = nil
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
		b.dir = ""
	}
	return errors.Join(errs...)
}

// tempFile makes a file that lives until Close.
func (b *Builder) tempFile(pattern string) (*os.File, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.closed {
		return nil, errors.New("the builder is closed")
	}
	if b.dir == "" {
		dir, err := os.MkdirTemp(b.options.TempDir, "airbyte-publish-")
		if err != nil {
			return nil, err
		}
		b.dir = dir
	}
	return os.CreateTemp(b.dir, pattern)
}

// keep has c closed when the Builder is.
func (b *Builder) keep(c io.Closer) {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closers = append(b.closers, c)
}

// Build makes or takes c's image and has it judged: an image that exists already when c.Source names one; else one that
// a build engine builds from the folder's Dockerfile, or from the one that Airbyte's layout for the connector's language
// stands for, unless the tag holds an image of the same sources; else one assembled from the folder of a manifest-only
// connector. What an engine has built is in c.Repository already when Build returns, without a tag (but see export.go
// for old Docker engines). An error of checks is returned as it is; every other error is a *fault.Error, several of
// them joined, or the context's when that is done.
func (b *Builder) Build(ctx context.Context, c connector.Connector, log connector.Log, checks connector.Checks) (image.Artifact, error) {
	var artifact image.Artifact
	var err error
	switch w := wayOf(c); w {
	case waySource:
		artifact, err = b.source(ctx, c.Source)
	case wayAssemble:
		artifact, err = b.assemble(ctx, c, log)
	case wayDockerfile, wayLayout:
		artifact, err = b.buildDockerfile(ctx, c, w, log, checks)
		if err != nil && ctx.Err() != nil {
			err = ctx.Err()
		}
		return artifact, err
	default:
		err = &fault.Error{Code: fault.NoBuilder, Op: "build", Object: c.Label,
			Cause:  "the folder has neither a manifest.yaml nor a Dockerfile",
			Remedy: "Name the connector's folder, or an image that exists already by the input \"source\"."}
	}
	var facts connector.Image
	if err == nil {
		facts, err = connector.Describe(artifact)
	}
	if err != nil {
		if ctx.Err() != nil {
			err = ctx.Err()
		}
		return image.Artifact{}, err
	}
	log.Info("The image is %s, from %s.", facts.Digest, artifact.Origin)
	if err := b.judge(ctx, c, artifact, facts, log, checks); err != nil {
		return image.Artifact{}, err
	}
	return artifact, nil
}

// judge has an image judged that can be read already.
func (b *Builder) judge(
	ctx context.Context, c connector.Connector, a image.Artifact, facts connector.Image, log connector.Log, checks connector.Checks,
) error {
	if err := checks.Plan(ctx, facts); err != nil || checks.Candidate == nil {
		return err
	}
	spec := SpecOptions{TempDir: b.options.TempDir, Timeout: b.options.SpecTimeout}
	return checks.Candidate(ctx, &candidate{artifact: a, facts: facts, spec: spec, engine: b.specInEngine(c, log)})
}

func isFile(dir, name string) bool {
	info, err := os.Stat(filepath.Join(dir, name))
	return err == nil && info.Mode().IsRegular()
}

// candidate is an image that is about to be checked.
type candidate struct {
	artifact image.Artifact
	facts    connector.Image
	spec     SpecOptions
	// engine runs the spec where this machine can't.
	engine specRunner
}

func (c *candidate) Image() connector.Image { return c.facts }

// RunSpec runs the spec of the image for this machine's architecture where there is one, else of linux/amd64, which
// is what every Airbyte instance can run.
func (c *candidate) RunSpec(ctx context.Context) (connector.SpecRun, error) {
	img, err := c.runnable()
	if err != nil {
		return connector.SpecRun{}, err
	}
	run, err := RunSpec(ctx, img, c.spec)
	if err != nil {
		return c.engine.elsewhere(ctx, img, err)
	}
	return run, nil
}

func (c *candidate) runnable() (v1.Image, error) {
	if c.artifact.Image != nil {
		return c.artifact.Image, nil
	}
	img, err := platformImage(c.artifact.Index, hostPlatform)
	if errors.Is(err, errNoPlatform) && hostPlatform != amd64 {
		img, err = platformImage(c.artifact.Index, amd64)
	}
	if err != nil {
		return nil, specNotRun(err.Error(), err)
	}
	return img, nil
}
