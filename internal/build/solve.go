package build

import (
	"context"
	"crypto/ed25519"
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/config/types"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	buildkit "github.com/moby/buildkit/client"
	dockerfile "github.com/moby/buildkit/frontend/dockerfile/builder"
	"github.com/moby/buildkit/frontend/dockerfile/dockerfile2llb"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/buildkit/frontend/dockerui"
	gateway "github.com/moby/buildkit/frontend/gateway/client"
	"github.com/moby/buildkit/session"
	"github.com/moby/buildkit/session/auth"
	"github.com/moby/buildkit/session/auth/authprovider"
	"github.com/moby/buildkit/session/secrets/secretsprovider"
	"github.com/moby/buildkit/util/bklog"
	ocispec "github.com/opencontainers/image-spec/specs-go/v1"
	"github.com/sirupsen/logrus"
	"github.com/tonistiigi/fsutil"
	"golang.org/x/crypto/nacl/sign"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"

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
	// facts are what was judged.
	facts connector.Image
}

// solve has the image built, judged where it was built, and only then pushed by its digest, all in one request to an
// engine, so that nothing leaves it that is not right.
func (b *Builder) solve(ctx context.Context, p *blueprint, v *preview, log connector.Log, checks connector.Checks) (image.Artifact, error) {
	var artifact image.Artifact
	err := b.engines().do(ctx, p.connector, log, func(ctx context.Context, e *engine) (err error) {
		s := &solving{blueprint: p, builder: b, preview: v, log: log, checks: checks, engine: e, progress: newProgress(log, p, v)}
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
	s.facts = connector.Image{Index: len(built) > 1}
	for _, one := range built {
		s.facts.Platforms = append(s.facts.Platforms, one.facts)
	}
	s.facts = withLayers(s.facts, s.preview.facts)
	s.progress.rest()
	s.verdict = s.checks.Candidate(ctx, &builtCandidate{facts: s.facts, run: func(ctx context.Context) (connector.SpecRun, error) {
		return specOf(ctx, g, s.engine, built, s.builder.options.SpecTimeout)
	}})
	if s.verdict != nil {
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
		options := dockerfile2llb.ConvertOpt{Config: ui.Config, Client: ui, SourceMap: source.SourceMap, MetaResolver: r, TargetPlatform: platform}
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
		return &dockerui.BuildResult{Reference: ref, Image: converted.Image, BaseImage: converted.BaseImage, Epoch: converted.Epoch}, err
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

// authority lends an engine the credentials for registries, host by host. For registries with a token server it gets
// tokens only, which are fetched from here.
type authority struct {
	auth.AuthServer
	// seed makes this program known to the engine as the one that a token was fetched for. BuildKit's own keeps it in a
	// file in the docker configuration, so that tokens outlive a run.
	seed []byte
}

// Register implements session.Attachable.
func (a *authority) Register(server *grpc.Server) { auth.RegisterAuthServer(server, a) }

func (a *authority) key(host string, salt []byte) ed25519.PrivateKey {
	mac := hmac.New(sha256.New, a.seed)
	_, _ = fmt.Fprintf(mac, "%d:%s%s", len(host), host, salt)
	return ed25519.NewKeyFromSeed(mac.Sum(nil))
}

// GetTokenAuthority implements auth.AuthServer.
func (a *authority) GetTokenAuthority(_ context.Context, r *auth.GetTokenAuthorityRequest) (*auth.GetTokenAuthorityResponse, error) {
	return &auth.GetTokenAuthorityResponse{PublicKey: a.key(r.Host, r.Salt)[32:]}, nil
}

// VerifyTokenAuthority implements auth.AuthServer.
func (a *authority) VerifyTokenAuthority(_ context.Context, r *auth.VerifyTokenAuthorityRequest) (*auth.VerifyTokenAuthorityResponse, error) {
	return &auth.VerifyTokenAuthorityResponse{Signed: sign.Sign(nil, r.Payload, (*[64]byte)(a.key(r.Host, r.Salt)))}, nil
}

func (b *Builder) authority() (*authority, error) {
	provider := authprovider.NewDockerAuthProvider(authprovider.DockerAuthProviderConfig{AuthConfigProvider: (&credentialCache{look: b.options.Credentials}).get})
	server, ok := provider.(auth.AuthServer)
	if !ok {
		return nil, errors.New("BuildKit's provider of credentials is not what it was")
	}
	seed := make([]byte, 32)
	_, _ = rand.Read(seed)
	return &authority{AuthServer: server, seed: seed}, nil
}

// credentialCache remembers credentials for a build, because an engine asks several times for each host, and a helper
// may take a second.
type credentialCache struct {
	look func(ctx context.Context, host string) (authn.AuthConfig, error)

	mu    sync.Mutex
	found map[string]cachedCredential
}

type cachedCredential struct {
	types.AuthConfig
	at time.Time
}

func (c *credentialCache) get(ctx context.Context, host string, _ []string, expired authprovider.ExpireCachedAuthCheck) (types.AuthConfig, error) {
	if c.look == nil {
		return types.AuthConfig{}, nil
	}
	if host == authprovider.DockerHubRegistryHost {
		host = name.DefaultRegistry
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if cached, ok := c.found[host]; ok && !expired(cached.at, host) {
		return cached.AuthConfig, nil
	}
	a, err := c.look(ctx, host)
	if err != nil {
		return types.AuthConfig{}, err
	}
	if c.found == nil {
		c.found = map[string]cachedCredential{}
	}
	found := types.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken, RegistryToken: a.RegistryToken}
	c.found[host] = cachedCredential{found, time.Now()}
	return found, nil
}

// caches reads entries in docker's notation, and adds what the runner lends to those of GitHub's cache.
func (b *Builder) caches(c connector.Connector, input string, entries []string, log connector.Log) ([]buildkit.CacheOptionsEntry, error) {
	var all []buildkit.CacheOptionsEntry
	for _, text := range entries {
		entry, err := parseCache(text, input == "cache-to")
		if err != nil {
			return nil, cacheFault(c, input, err)
		}
		if entry.Type == "gha" && !b.lendGitHubCache(entry.Attrs) {
			log.Info("The cache of type gha is left out: it is there only in a job of GitHub Actions (ACTIONS_RUNTIME_TOKEN is not set).")
			continue
		}
		all = append(all, entry)
	}
	return all, nil
}

// parseCache reads one entry. The types and what they need are BuildKit's.
func parseCache(text string, to bool) (buildkit.CacheOptionsEntry, error) {
	entry := buildkit.CacheOptionsEntry{Type: cacheType(text), Attrs: map[string]string{}}
	if !strings.Contains(text, "=") {
		entry.Attrs["ref"] = strings.TrimSpace(text)
		return entry, nil
	}
	for field := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found || key == "" {
			return entry, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		if key != "type" {
			entry.Attrs[key] = value
		}
	}
	folder := "src"
	if to {
		folder = "dest"
	}
	needed := map[string]string{"registry": "ref", "local": folder}
	switch wanted, known := needed[entry.Type]; {
	case known && entry.Attrs[wanted] == "":
		return entry, fmt.Errorf("%q has no %s", text, wanted)
	case !known && !slices.Contains([]string{"gha", "inline", "s3", "azblob"}, entry.Type), entry.Type == "inline" && !to:
		return entry, fmt.Errorf("%q is of no known type", text)
	}
	return entry, nil
}

// lendGitHubCache fills in where GitHub's cache is and the token for it, which the runner gives to actions in variables.
func (b *Builder) lendGitHubCache(attrs map[string]string) bool {
	lent := map[string]string{"token": b.options.Getenv("ACTIONS_RUNTIME_TOKEN")}
	if v2 := b.options.Getenv("ACTIONS_CACHE_SERVICE_V2"); v2 != "" && v2 != "false" && v2 != "0" {
		lent["version"] = "2"
		lent["url_v2"] = b.options.Getenv("ACTIONS_RESULTS_URL")
	} else {
		lent["url"] = b.options.Getenv("ACTIONS_CACHE_URL")
	}
	for key, value := range lent {
		if attrs[key] == "" && value != "" {
			attrs[key] = value
		}
	}
	return attrs["token"] != "" && (attrs["url"] != "" || attrs["url_v2"] != "")
}

// secretNames are the ids of the build's secrets, for a message.
func secretNames(secrets map[string][]byte) string {
	if len(secrets) == 0 {
		return "none"
	}
	return strings.Join(slices.Sorted(maps.Keys(secrets)), ", ")
}
