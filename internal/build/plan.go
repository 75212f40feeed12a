package build

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/buildkit/client/llb"
	"github.com/moby/buildkit/client/llb/sourceresolver"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	dockerspec "github.com/moby/docker-image-spec/specs-go/v1"
	"github.com/opencontainers/go-digest"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// preview is what a Dockerfile tells without being built.
type preview struct {
	// facts have no digest, and of the layers only the base image's.
	facts connector.Image
	// base is the base image of the stage that is built; empty when that begins with nothing.
	base     base
	findings []connector.Finding
}

// preview reads a Dockerfile as BuildKit does, with the configs of its base images, for each platform. It is never nil,
// and has findings also when it fails. Its error is a *fault.Error, or the context's.
func (b *Builder) preview(ctx context.Context, p *blueprint) (*preview, error) {
	v := &preview{facts: connector.Image{Index: len(p.platforms) > 1}}
	for i, platform := range p.platforms {
		found, err := b.previewPlatform(ctx, p, v, platform, i == 0)
		if ctx.Err() != nil {
			return v, ctx.Err()
		}
		if err != nil {
			return v, p.explainDockerfile(err)
		}
		v.facts.Platforms = append(v.facts.Platforms, found)
	}
	return v, nil
}

func (b *Builder) previewPlatform(
	ctx context.Context, p *blueprint, v *preview, platform string, first bool,
) (connector.PlatformImage, error) {
	var none connector.PlatformImage
	target, err := platforms.Parse(platform)
	if err != nil {
		return none, err
	}
	resolver := &baseResolver{builder: b, seen: map[string]resolvedBase{}}
	options := dockerfile2llb.ConvertOpt{
		Config: dockerui.Config{BuildArgs: p.args(), Target: p.connector.Recipe.Target,
			MultiPlatformRequested: len(p.platforms) > 1, BuildPlatforms: []ocispec.Platform{platforms.MustParse(amd64)}},
		SourceMap: llb.NewSourceMap(nil, p.name, "Dockerfile", p.text), TargetPlatform: &target, MetaResolver: resolver,
	}
	if first {
		options.Warn = func(rule, _, _, message string, where []parser.Range) {
			v.findings = append(v.findings, p.lint(rule, message, where))
		}
	}
	result, err := dockerfile2llb.Dockerfile2LLB(ctx, p.text, options)
	if err != nil {
		return none, err
	}
	config, err := json.Marshal(result.Image)
	if err != nil {
		return none, err
	}
	var baseConfig []byte
	if result.BaseImage != nil {
		if baseConfig, err = json.Marshal(result.BaseImage); err != nil {
			return none, err
		}
	}
	on := resolver.find(baseConfig)
	if first {
		v.base = on.base
	}
	found, _, err := finishConfig(config, baseConfig, p.labels(on.base), "")
	found.Layers = on.layers
	if len(p.platforms) > 1 {
		found.Claimed = platform
	}
	return found, err
}

// lint is a finding of one of BuildKit's rules.
func (p *blueprint) lint(rule, message string, where []parser.Range) connector.Finding {
	f := connector.Finding{Code: fault.DockerfileLint, Severity: connector.Warning, File: p.file,
		Message: fault.Bounded(rule+": "+message) + "."}
	if len(where) > 0 {
		f.Line = where[0].Start.Line
	}
	return f
}

// explainDockerfile makes a *fault.Error of what Dockerfile2LLB says, with the line that it is about.
func (p *blueprint) explainDockerfile(err error) error {
	line := lineOfError(err)
	if e, ok := errors.AsType[*fault.Error](err); ok {
		if line > 0 && p.file != "" {
			told := *e
			told.Object = fmt.Sprintf("%s (%s:%d)", e.Object, p.file, line)
			e = &told
		}
		return e
	}
	remedy := "Correct the Dockerfile."
	if p.frontend != "" {
		remedy = "It is written for the frontend " + fault.Bounded(p.frontend) + ", and only a build can ask that one."
	} else if strings.Contains(err.Error(), "target stage") {
		remedy = "Set the input \"target\" to a stage of the Dockerfile."
	}
	return p.bad(p.file, line, err, remedy)
}

// lineOfError is the line of the Dockerfile that an error of BuildKit's parser is about; 0 where there is none.
func lineOfError(err error) int {
	where, ok := errors.AsType[*parser.LocationError](err)
	if !ok || len(where.Locations) == 0 || len(where.Locations[0]) == 0 {
		return 0
	}
	return where.Locations[0][0].Start.Line
}

// engineMayKnow tells whether what is not known here may be known where the image is built: a base image that is only in
// the engine's own store or network, or a Dockerfile in a language of its own.
func (p *blueprint) engineMayKnow(err error) bool {
	switch fault.CodeOf(err) {
	case fault.BadDockerfile:
		return p.frontend != ""
	case fault.SourceImage, fault.RegistryUnreachable, fault.RegistryTLS, fault.NoCredentials, fault.CredentialsRefused,
		fault.RateLimited, fault.PlainHTTPRefused, fault.RepositoryMissing, fault.PushDenied, fault.TokenServer:
		return true
	}
	return false
}

// unreadHere tells whether a plan can go on without what is not known here: a base image that this machine could not ask
// for, while the one that builds may be able to. A registry's answer that there is no such image is no such case.
func (p *blueprint) unreadHere(err error) bool {
	switch fault.CodeOf(err) {
	case fault.BadDockerfile, fault.SourceImage, fault.RepositoryMissing:
		return false
	}
	return p.engineMayKnow(err)
}

// baseFault is what a registry's client says of a base image, in words for one: what can be set for the registry that is
// published to has no effect on others.
func (b *Builder) baseFault(ref, remedy string, e *fault.Error) *fault.Error {
	told := *e
	told.Op, told.Object = "read the base image", ref
	switch e.Code {
	case fault.RegistryUnreachable, fault.RegistryTLS, fault.PlainHTTPRefused:
		parsed, err := name.ParseReference(ref)
		if err != nil || !slices.Contains(b.options.Hosts, parsed.Context().RegistryStr()) {
			told.Remedy = remedy
		}
	}
	return &told
}

// resolvedBase is a base image for one platform.
type resolvedBase struct {
	base base
	// ref is what the engine made of the reference.
	ref    string
	config []byte
	layers []connector.Layer
}

// baseResolver finds base images by the builder's own way to registries, and remembers which there were.
type baseResolver struct {
	builder *Builder

	mu   sync.Mutex
	seen map[string]resolvedBase
}

// ResolveImageConfig implements llb.ImageMetaResolver.
func (r *baseResolver) ResolveImageConfig(
	ctx context.Context, ref string, opt sourceresolver.Opt,
) (string, digest.Digest, []byte, error) {
	platform := amd64
	if o := opt.ImageOpt; o != nil && o.Platform != nil {
		platform = platforms.Format(*o.Platform)
	}
	key := ref + " " + platform
	found, err := r.builder.configs.get(ctx, key, func(ctx context.Context, _ string) (resolvedBase, error) {
		return r.builder.resolveBase(ctx, ref, platform)
	})
	if err != nil {
		return "", "", nil, err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.seen[key] = found
	return ref, digest.Digest(found.base.digest), found.config, nil
}

// find is the base image that has a config.
func (r *baseResolver) find(config []byte) resolvedBase {
	r.mu.Lock()
	defer r.mu.Unlock()
	return findBase(r.seen, config)
}

// findBase finds the base image of the stage that was built among those that were asked for: by its config, because
// BuildKit tells nothing else of it.
func findBase(seen map[string]resolvedBase, config []byte) (found resolvedBase) {
	for _, candidate := range seen {
		same := config != nil && normalConfig(candidate.config) == string(config)
		// Of several names for the same image it is always the same one.
		if same && (found.base.name == "" || candidate.base.name < found.base.name) {
			found = candidate
		}
	}
	return found
}

// normalConfig writes a config as BuildKit does when it has read it.
func normalConfig(config []byte) string {
	var parsed dockerspec.DockerOCIImage
	if err := json.Unmarshal(config, &parsed); err != nil {
		return ""
	}
	again, err := json.Marshal(parsed)
	if err != nil {
		return ""
	}
	return string(again)
}

// resolveBase opens a base image and finds its image for a platform. Its error is a *fault.Error.
func (b *Builder) resolveBase(ctx context.Context, ref, platform string) (resolvedBase, error) {
	bad := func(err error) (resolvedBase, error) {
		if e, ok := errors.AsType[*fault.Error](err); ok {
			return resolvedBase{}, b.baseFault(ref, "Check FROM in the Dockerfile, and that its registry can be reached by https.", e)
		}
		return resolvedBase{}, &fault.Error{Code: fault.BaseImage, Op: "read the base image", Object: ref, Err: err,
			Cause: fault.Bounded(err.Error()), Remedy: "Correct FROM in the Dockerfile."}
	}
	parsed, err := name.ParseReference(ref)
	if err != nil {
		return bad(err)
	}
	artifact, err := b.options.Open(ctx, ref)
	if err != nil {
		return bad(err)
	}
	found := resolvedBase{base: base{name: qualified(ref, parsed)}}
	if found.base.digest, err = artifact.Digest(); err != nil {
		return bad(err)
	}
	img := artifact.Image
	if artifact.Index != nil {
		if img, err = platformImage(artifact.Index, cutVariant(platform)); errors.Is(err, errNoPlatform) {
			err = fmt.Errorf("it has no %s, only: %s", platform, strings.Join(claims(artifact.Index), ", "))
		}
		if err != nil {
			return bad(err)
		}
	}
	if found.config, err = img.RawConfigFile(); err != nil {
		return bad(err)
	}
	if found.layers, err = layersOf(img); err != nil {
		return bad(err)
	}
	return found, nil
}

func layersOf(img v1.Image) ([]connector.Layer, error) {
	manifest, err := img.Manifest()
	if err != nil {
		return nil, err
	}
	var layers []connector.Layer
	for _, l := range manifest.Layers {
		layers = append(layers, connector.Layer{MediaType: string(l.MediaType), Digest: l.Digest.String(), Size: l.Size})
	}
	return layers, nil
}

// cutVariant leaves os and architecture of a platform.
func cutVariant(platform string) string {
	parts := strings.SplitN(platform, "/", 3)
	return strings.Join(parts[:min(2, len(parts))], "/")
}

// finishConfig puts labels, and the time of creation unless that is empty, into an image's config, and tells what the
// config then says. Everything else in it stays as it is. The platform is the config's own, unless the base image is for
// another one: then the config only repeats what was asked for, and the base's is what will run.
func finishConfig(
	config, baseConfig []byte, labels map[string]string, created string,
) (connector.PlatformImage, []byte, error) {
	var p connector.PlatformImage
	var whole, inner map[string]json.RawMessage
	if err := json.Unmarshal(config, &whole); err != nil {
		return p, nil, err
	}
	if raw, found := whole["config"]; found {
		if err := json.Unmarshal(raw, &inner); err != nil {
			return p, nil, err
		}
	}
	if inner == nil {
		inner = map[string]json.RawMessage{}
	}
	var all map[string]string
	if raw, found := inner["Labels"]; found {
		if err := json.Unmarshal(raw, &all); err != nil {
			return p, nil, err
		}
	}
	if all == nil {
		all = map[string]string{}
	}
	for label, value := range labels {
		all[label] = value
	}
	var err error
	set := func(into map[string]json.RawMessage, key string, value any) {
		raw, failed := json.Marshal(value)
		into[key], err = raw, cmp.Or(err, failed)
	}
	set(inner, "Labels", all)
	set(whole, "config", inner)
	if created != "" {
		set(whole, "created", created)
	}
	finished, failed := json.Marshal(whole)
	if err = cmp.Or(err, failed); err != nil {
		return p, nil, err
	}
	var parsed, under ocispec.Image
	if err := json.Unmarshal(finished, &parsed); err != nil {
		return p, nil, err
	}
	c := parsed.Config
	p = connector.PlatformImage{Platform: formatPlatform(parsed.Platform), Env: c.Env, Entrypoint: c.Entrypoint, Cmd: c.Cmd,
		User: c.User, WorkingDir: c.WorkingDir, Labels: all}
	if json.Unmarshal(baseConfig, &under) == nil && under.Architecture != "" &&
		(under.Architecture != parsed.Architecture || under.OS != parsed.OS) {
		p.Platform = formatPlatform(under.Platform)
	}
	return p, finished, nil
}

// formatPlatform writes a platform as people do.
func formatPlatform(p ocispec.Platform) string {
	return connector.PlatformString(&v1.Platform{OS: p.OS, Architecture: p.Architecture, Variant: p.Variant})
}

// withLayers takes the layers of base images over from a preview, where the base images are the same.
func withLayers(facts, from connector.Image) connector.Image {
	facts.Platforms = slices.Clone(facts.Platforms)
	for i := range facts.Platforms {
		if i < len(from.Platforms) && facts.Platforms[i].Platform == from.Platforms[i].Platform &&
			facts.Platforms[i].Labels[baseDigestLabel] == from.Platforms[i].Labels[baseDigestLabel] {
			facts.Platforms[i].Layers = from.Platforms[i].Layers
		}
	}
	return facts
}
