package build

import (
	"context"
	"errors"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"

	buildkit "github.com/moby/buildkit/client"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/util/bklog"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/sync/errgroup"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// solving is one build on one engine.
type solving struct {
	*blueprint
	builder *Builder
	preview *preview
	log     connector.Log
	checks  connector.Checks
	engine  *engine

	progress *progress
	export   exporter
	// verdict is the error of the checks, which would lose its type on the way through the engine.
	verdict error
	// failure is what the frontend or the evaluation said, for the same reason.
	failure error
}

// solve has the image built, judged where it was built, and only then pushed by its digest, all in one request to an
// engine, so that nothing leaves it that is not right.
func (b *Builder) solve(
	ctx context.Context, p *blueprint, v *preview, log connector.Log, checks connector.Checks,
) (image.Artifact, error) {
	var artifact image.Artifact
	err := b.engines().do(ctx, p.connector, log, func(ctx context.Context, e *engine) (err error) {
		s := &solving{blueprint: p, builder: b, preview: v, log: log, checks: checks, engine: e}
		s.progress = newProgress(log, p, v)
		artifact, err = s.run(ctx)
		return err
	})
	return artifact, err
}

func (s *solving) run(ctx context.Context) (image.Artifact, error) {
	recipe := s.connector.Recipe
	recipe.Platforms = s.platforms
	if err := s.engine.check(recipe, s.log); err != nil {
		return image.Artifact{}, err
	}
	s.export = s.exporter()
	options, err := s.options()
	if err != nil {
		return image.Artifact{}, err
	}
	statuses := make(chan *buildkit.SolveStatus)
	var followed sync.WaitGroup
	followed.Go(func() { s.progress.follow(statuses) })
	response, err := s.engine.client.Build(quietly(ctx), options, "", s.build, statuses)
	followed.Wait()
	if err == nil {
		return s.export.finish(ctx, response.ExporterResponse)
	}
	s.export.cancel(ctx)
	return image.Artifact{}, s.explain(ctx, err)
}

// quietly keeps BuildKit's client from logging on its own: it would write to standard error, past the log.
func quietly(ctx context.Context) context.Context {
	silent := logrus.New()
	silent.SetOutput(io.Discard)
	return bklog.WithLogger(ctx, logrus.NewEntry(silent))
}

// build is called by the client when the engine is ready. What it returns is exported; when it fails, nothing is.
func (s *solving) build(ctx context.Context, g gateway.Client) (*gateway.Result, error) {
	r := &gatewayRecorder{Client: g, seen: map[string]resolvedBase{}}
	result, built, err := s.evaluate(ctx, r)
	if err != nil {
		s.failure = err
		return nil, err
	}
	facts := connector.Image{Index: len(built) > 1}
	for _, one := range built {
		facts.Platforms = append(facts.Platforms, one.facts)
	}
	s.progress.rest()
	candidate := &builtCandidate{facts: withLayers(facts, s.preview.facts), run: func(ctx context.Context) (connector.SpecRun, error) {
		return specOf(ctx, g, s.engine, built, s.builder.options.SpecTimeout)
	}}
	if s.verdict = s.checks.Candidate(ctx, candidate); s.verdict != nil {
		return nil, errors.New("the image was refused")
	}
	return result, nil
}

// evaluate has every instruction run. Without that they would run when the checks ask for the first file, and fail in
// their place.
func (s *solving) evaluate(ctx context.Context, r *gatewayRecorder) (*gateway.Result, []builtImage, error) {
	read := s.convert
	if s.frontend != "" || s.connector.Recipe.SBOM {
		// BuildKit's own entry to the frontend calls others, and the scanner.
		read = func(ctx context.Context, r *gatewayRecorder) (*gateway.Result, error) {
			return dockerfile.Build(ctx, r)
		}
	}
	result, err := read(ctx, r)
	if err != nil {
		return nil, nil, err
	}
	built, err := r.finish(s.blueprint, result)
	if err != nil {
		return nil, nil, err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, one := range built {
		if one.ref != nil {
			group.Go(func() error { return one.ref.Evaluate(ctx) })
		}
	}
	return result, built, group.Wait()
}

// convert does what BuildKit's Dockerfile frontend does, with what its packages offer for that. Its own function for it
// (frontend/dockerfile/builder.Build) has a data race when a Dockerfile has several base images, as of v0.33.1.
func (s *solving) convert(ctx context.Context, r *gatewayRecorder) (*gateway.Result, error) {
	ui, err := dockerui.NewClient(r)
	if err != nil {
		return nil, err
	}
	source, err := ui.ReadEntrypoint(ctx, "Dockerfile")
	if err != nil {
		return nil, err
	}
	result, err := ui.Build(ctx, func(ctx context.Context, platform *ocispec.Platform, index int) (*dockerui.BuildResult, error) {
		options := dockerfile2llb.ConvertOpt{Config: ui.Config, Client: ui, SourceMap: source.SourceMap, MetaResolver: r,
			TargetPlatform: platform}
		options.BuildArgs = maps.Clone(options.BuildArgs)
		if index == 0 {
			options.Warn = func(rule, _, _, message string, where []parser.Range) {
				s.progress.finding(s.lint(rule, message, where))
			}
		}
		converted, err := dockerfile2llb.Dockerfile2LLB(ctx, source.Data, options)
		if err != nil {
			return nil, err
		}
		definition, err := converted.State.Marshal(ctx)
		if err != nil {
			return nil, err
		}
		solved, err := r.Solve(ctx, gateway.SolveRequest{Definition: definition.ToPB(), CacheImports: ui.CacheImports})
		if err != nil {
			return nil, err
		}
		ref, err := solved.SingleRef()
		return &dockerui.BuildResult{Reference: ref, Image: converted.Image, BaseImage: converted.BaseImage,
			Epoch: converted.Epoch}, err
	})
	if err != nil {
		return nil, err
	}
	return result.Finalize()
}

// options is the request to the engine.
func (s *solving) options() (buildkit.SolveOpt, error) {
	recipe := s.connector.Recipe
	folder, err := s.contextFS()
	if err != nil {
		return buildkit.SolveOpt{}, s.bad(s.connector.Dir, 0, err, "Make it readable.")
	}
	authority, err := s.builder.authority()
	if err != nil {
		return buildkit.SolveOpt{}, err
	}
	o := buildkit.SolveOpt{
		Exports:       []buildkit.ExportEntry{s.export.entry()},
		LocalMounts:   map[string]fsutil.FS{"context": folder, "dockerfile": s.dockerfileFS()},
		FrontendAttrs: s.frontendAttrs(),
		Session:       []session.Attachable{authority, secretsprovider.FromMap(recipe.Secrets)},
		// An engine compares a folder that it has seen under this key by times and sizes. With the sources' own digest as
		// the key it never takes a file for another one that happens to have the same.
		SharedKey: s.source,
	}
	if o.CacheImports, err = s.builder.caches(s.connector, "cache-from", recipe.CacheFrom, s.log); err != nil {
		return o, err
	}
	o.CacheExports, err = s.builder.caches(s.connector, "cache-to", recipe.CacheTo, s.log)
	return o, err
}

// frontendAttrs are the options of the Dockerfile frontend (docker/dockerfile's own names).
func (s *solving) frontendAttrs() map[string]string {
	recipe := s.connector.Recipe
	attrs := map[string]string{"filename": s.name, "platform": strings.Join(s.platforms, ",")}
	if recipe.Target != "" {
		attrs["target"] = recipe.Target
	}
	for name, value := range s.args() {
		attrs["build-arg:"+name] = value
	}
	if s.frontend == "" {
		// BuildKit's own entry to the frontend takes this for its having been chosen already, and looks for no other.
		attrs["cmdline"] = "builtin"
		delete(attrs, "build-arg:BUILDKIT_SYNTAX")
	}
	if recipe.Provenance {
		// The least there is: the most would tell the values of build arguments.
		attrs["attest:provenance"] = "mode=min"
	}
	if recipe.SBOM {
		attrs["attest:sbom"] = ""
	}
	return attrs
}

// secretNames are the ids of the build's secrets, for a message.
func secretNames(secrets map[string][]byte) string {
	if len(secrets) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(secrets)), ", ")
}
