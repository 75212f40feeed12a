package build

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	gatewaypb "github.com/moby/buildkit/frontend/gateway/pb"
	"github.com/moby/buildkit/solver/pb"
	"github.com/opencontainers/go-digest"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// gatewayRecorder is an engine's gateway that remembers which base images the frontend asked for, and asks the engine
// once for each.
type gatewayRecorder struct {
	gateway.Client
	lookups lookups[resolvedBase]

	mu   sync.Mutex
	seen map[string]resolvedBase
}

// ResolveImageConfig implements gateway.Client.
func (r *gatewayRecorder) ResolveImageConfig(
	ctx context.Context, ref string, opt sourceresolver.Opt,
) (string, digest.Digest, []byte, error) {
	key := ref
	if o := opt.ImageOpt; o != nil && o.Platform != nil {
		key += " " + platforms.FormatAll(*o.Platform)
	}
	found, err := r.lookups.get(ctx, key, func(ctx context.Context, _ string) (resolvedBase, error) {
		resolved, sum, config, err := r.Client.ResolveImageConfig(ctx, ref, opt)
		found := resolvedBase{base: base{name: ref, digest: sum.String()}, ref: resolved, config: config}
		if parsed, err := name.ParseReference(ref); err == nil {
			found.base.name = qualified(ref, parsed)
		}
		return found, err
	})
	if err != nil {
		return "", "", nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[key] = found
	return found.ref, digest.Digest(found.base.digest), found.config, nil
}

// builtImage is what the engine has built for one platform, before it leaves the engine.
type builtImage struct {
	ref   gateway.Reference
	facts connector.PlatformImage
}

// finish puts the labels into a result's configs and tells what the images in it are.
func (r *gatewayRecorder) finish(p *blueprint, result *gateway.Result) ([]builtImage, error) {
	ids := []string{""}
	if len(result.Refs) > 0 {
		var all exptypes.Platforms
		if err := json.Unmarshal(result.Metadata[exptypes.ExporterPlatformsKey], &all); err != nil {
			return nil, fmt.Errorf("the result does not name its platforms: %w", err)
		}
		ids = ids[:0]
		for _, platform := range all.Platforms {
			ids = append(ids, platform.ID)
		}
	}
	var built []builtImage
	for _, id := range ids {
		ref, suffix := result.Ref, ""
		if id != "" {
			ref, suffix = result.Refs[id], "/"+id
		}
		config := result.Metadata[exptypes.ExporterImageConfigKey+suffix]
		baseConfig := result.Metadata[exptypes.ExporterImageBaseConfigKey+suffix]
		if len(config) == 0 {
			return nil, errors.New("the result has no config")
		}
		r.mu.Lock()
		on := findBase(r.seen, baseConfig).base
		r.mu.Unlock()
		facts, finished, err := finishConfig(config, baseConfig, p.labels(on), p.commit.created())
		if err != nil {
			return nil, fmt.Errorf("the result's config can't be read: %w", err)
		}
		facts.Claimed = id
		result.AddMeta(exptypes.ExporterImageConfigKey+suffix, finished)
		built = append(built, builtImage{ref, facts})
	}
	return built, nil
}

// builtCandidate is an image that an engine has built and not let go of yet.
type builtCandidate struct {
	facts connector.Image
	run   func(context.Context) (connector.SpecRun, error)
}

func (c *builtCandidate) Image() connector.Image                                 { return c.facts }
func (c *builtCandidate) RunSpec(ctx context.Context) (connector.SpecRun, error) { return c.run(ctx) }

// specOf runs the spec of the image for the platform that is the engine's own, else of one that it can run by emulation.
func specOf(
	ctx context.Context, g gateway.Client, e *engine, built []builtImage, timeout time.Duration,
) (connector.SpecRun, error) {
	var there []string
	var chosen *builtImage
	for i := range built {
		platform := built[i].facts.Platform
		there = append(there, platform)
		switch {
		case !e.runs(platform):
		case chosen == nil, len(e.caps.platforms) > 0 && cutVariant(platform) == cutVariant(e.caps.platforms[0]):
			chosen = &built[i]
		}
	}
	if chosen == nil {
		return connector.SpecRun{}, specNotRun(fmt.Sprintf("the image is for %s, and %s runs %s",
			strings.Join(there, ", "), e.name, strings.Join(e.caps.platforms, ", ")), nil)
	}
	return specInGateway(ctx, g, chosen.ref, chosen.facts.Env, timeout)
}

// releaseTimeout bounds the taking down of a container, which goes on when the run is interrupted.
const releaseTimeout = 10 * time.Second

// specInGateway runs the spec command in a container on the engine, as RunSpec does on this machine. Its error is a
// *fault.Error with the code SpecNotRun or NoShell, or the context's.
func specInGateway(
	ctx context.Context, g gateway.Client, ref gateway.Reference, env []string, timeout time.Duration,
) (connector.SpecRun, error) {
	var none connector.SpecRun
	if timeout == 0 {
		timeout = DefaultSpecTimeout
	}
	if ref == nil {
		return none, noShell()
	}
	_, err := ref.StatFile(ctx, gateway.StatRequest{Path: "/bin/sh"})
	if err != nil && strings.Contains(err.Error(), "no such file") {
		return none, noShell()
	}
	config, err := configFolder(ctx, g)
	if err != nil {
		return none, gatewayCannot(ctx, err)
	}
	container, err := g.NewContainer(ctx, gateway.NewContainerRequest{NetMode: pb.NetMode_NONE, Mounts: []gateway.Mount{
		{Dest: "/", MountType: pb.MountType_BIND, Ref: ref},
		{Dest: "/config", Selector: "/config", MountType: pb.MountType_BIND, Ref: config}}})
	if err != nil {
		return none, gatewayCannot(ctx, err)
	}
	defer func() {
		release, cancel := context.WithTimeout(context.WithoutCancel(ctx), releaseTimeout)
		defer cancel()
		_ = container.Release(release)
	}()
	running, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	stdout, stderr := &boundedOutput{limit: maxStdout, full: cancel}, &boundedOutput{limit: maxStderr}
	process, err := container.Start(running, gateway.StartRequest{Args: []string{"/bin/sh", "-c", specCommand}, Env: env,
		User: fmt.Sprintf("%d:%[1]d", connectorID), Cwd: "/config", Stdout: stdout, Stderr: stderr})
	if err == nil {
		err = process.Wait()
	}
	run := connector.SpecRun{How: "in BuildKit, as user 1000, without a network"}
	code, exited := exitCodeOf(err)
	switch {
	case ctx.Err() != nil:
		return none, ctx.Err()
	case running.Err() != nil && err != nil:
		run.ExitCode, run.TimedOut = -1, errors.Is(running.Err(), context.DeadlineExceeded)
	case exited:
		run.ExitCode = code
	case err != nil:
		return none, gatewayCannot(ctx, err)
	}
	var cut [2]bool
	run.Stdout, cut[0] = stdout.kept()
	run.Stderr, cut[1] = stderr.kept()
	run.Truncated = cut[0] || cut[1]
	return run, nil
}

// exitCodeOf is the exit code of a process that ended with err. BuildKit takes 255 for one that it does not know, so that
// only the words tell a process that ended with it from one that could not be run.
func exitCodeOf(err error) (code int, exited bool) {
	if exit, ok := errors.AsType[*gatewaypb.ExitError](err); ok && exit.ExitCode != gatewaypb.UnknownExitStatus {
		return int(exit.ExitCode), true
	}
	if err != nil && strings.HasSuffix(err.Error(), "exit code: 255") {
		return gatewaypb.UnknownExitStatus, true
	}
	return 0, false
}

// configFolder makes the folder that the connector is started in. It is no tmpfs, because a gateway's containers have
// that for root only.
func configFolder(ctx context.Context, g gateway.Client) (gateway.Reference, error) {
	made := llb.Mkdir("/config", 0o755, llb.WithUIDGID(connectorID, connectorID))
	folder := llb.Scratch().File(made, llb.WithCustomName("[internal] make /config"))
	definition, err := folder.Marshal(ctx)
	if err != nil {
		return nil, err
	}
	result, err := g.Solve(ctx, gateway.SolveRequest{Definition: definition.ToPB()})
	if err != nil {
		return nil, err
	}
	return result.SingleRef()
}

func gatewayCannot(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return specNotRun("the build engine can't run it: "+err.Error(), err)
}

// boundedOutput keeps the first bytes that are written to it, and takes the rest without complaint: a writer that fails
// would end the connection to the engine.
type boundedOutput struct {
	limit int
	// full is called when there is more than that.
	full func()

	mu        sync.Mutex
	content   bytes.Buffer
	truncated bool
}

// Write implements io.Writer.
func (o *boundedOutput) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	room := min(len(p), o.limit-o.content.Len())
	o.content.Write(p[:room])
	if room < len(p) && !o.truncated {
		o.truncated = true
		if o.full != nil {
			o.full()
		}
	}
	return len(p), nil
}

// Close implements io.Closer.
func (o *boundedOutput) Close() error { return nil }

func (o *boundedOutput) kept() ([]byte, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return bytes.Clone(o.content.Bytes()), o.truncated
}
