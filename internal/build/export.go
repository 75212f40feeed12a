package build

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"
	commonexptypes "github.com/moby/buildkit/exporter/exptypes"
	"github.com/moby/moby/api/pkg/authconfig"
	dockerregistry "github.com/moby/moby/api/types/registry"
	docker "github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// exporter is how an image gets from an engine to its repository.
type exporter interface {
	// entry asks the engine for the export.
	entry() buildkit.ExportEntry
	// finish brings the export to its end, and opens the image in the repository.
	finish(ctx context.Context, response map[string]string) (image.Artifact, error)
	// cancel takes back what a build that failed may have left.
	cancel(ctx context.Context)
}

func (s *solving) exporter() exporter {
	if s.engine.kind == kindDocker && !s.engine.containerdStore {
		id := make([]byte, 8)
		_, _ = rand.Read(id)
		return &storeExport{solving: s, local: "airbyte-publish.invalid/build:" + hex.EncodeToString(id)}
	}
	return &registryExport{s}
}

// registryExport has the engine push by digest, with our credentials. The tag is not its business.
type registryExport struct{ *solving }

func (e *registryExport) entry() buildkit.ExportEntry {
	c := e.connector
	attrs := map[string]string{
		string(exptypes.OptKeyName):         string(c.Repository),
		string(exptypes.OptKeyPush):         "true",
		string(exptypes.OptKeyPushByDigest): "true",
		// An engine that keeps images would keep this one under a name that nobody looks for.
		string(exptypes.OptKeyStore): "false",
	}
	if e.builder.options.PlainHTTP(c.Repository.Registry()) {
		attrs[string(exptypes.OptKeyInsecure)] = "true"
	}
	if e.commit.epoch != "" {
		attrs[string(commonexptypes.OptKeySourceDateEpoch)] = e.commit.epoch
		attrs[string(exptypes.OptKeyRewriteTimestamp)] = strconv.FormatBool(e.commit.reproducible)
	}
	return buildkit.ExportEntry{Type: buildkit.ExporterImage, Attrs: attrs}
}

func (e *registryExport) finish(ctx context.Context, response map[string]string) (image.Artifact, error) {
	digest := response[exptypes.ExporterImageDigestKey]
	if digest == "" {
		return image.Artifact{}, &fault.Error{Code: fault.PushFailed, Op: "push", Object: string(e.connector.Repository),
			Cause: e.engine.name + " does not tell the image's digest", Remedy: "Use a newer BuildKit."}
	}
	return e.pushed(ctx, digest)
}

func (e *registryExport) cancel(context.Context) {}

// pushed opens the image that the repository now has, and makes sure that it is what was judged. What was not known
// before, how its layers are compressed, is judged now: it has no tag yet.
func (s *solving) pushed(ctx context.Context, digest string) (image.Artifact, error) {
	c := s.connector
	artifact, err := s.builder.options.Open(ctx, string(c.Repository)+"@"+digest)
	if err != nil {
		return image.Artifact{}, err
	}
	facts, err := connector.Describe(artifact)
	if err != nil {
		return image.Artifact{}, err
	}
	var errs []error
	for _, f := range connector.Inspect(c, facts) {
		wrong := f.Code == fault.LayerCompression || f.Code == fault.NoAMD64 || f.Code == fault.WrongConfigPlatform
		if wrong && f.Severity == connector.Error {
			errs = append(errs, &fault.Error{Code: f.Code, Op: "check the image", Object: c.Reference(),
				Cause: f.Message, Remedy: f.Remedy})
		}
	}
	origin := s.file
	if origin == "" {
		origin = "the Dockerfile of Airbyte's layout"
	}
	artifact.Origin = origin + " on " + s.engine.name
	s.log.Info("The image is %s, built from %s.", facts.Digest, artifact.Origin)
	return artifact, errors.Join(errs...)
}

// storeExport is for Docker engines whose image store is a graph driver's: they can't push while they build. The image
// goes into the engine's store under a name that is used once, and from there to the repository by the engine's own
// push, which needs a tag: so on these engines the tag is set by that, right after the manifest.
type storeExport struct {
	*solving
	local string
}

func (e *storeExport) entry() buildkit.ExportEntry {
	return buildkit.ExportEntry{Type: "moby", Attrs: map[string]string{"name": e.local}}
}

// cleanUpTimeout bounds the removal of names from an engine's store, which goes on when the run is interrupted.
const cleanUpTimeout = 30 * time.Second

func (e *storeExport) cancel(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
	defer cancel()
	// There is nothing to remove when the build failed before the export.
	_, _ = e.engine.docker.ImageRemove(ctx, e.local, docker.ImageRemoveOptions{PruneChildren: true})
}

func (e *storeExport) finish(ctx context.Context, _ map[string]string) (_ image.Artifact, err error) {
	defer e.cancel(ctx)
	reference := e.connector.Reference()
	restore, err := e.name(ctx, reference)
	if err != nil {
		return image.Artifact{}, e.storeFault(err)
	}
	digest, err := e.push(ctx, reference)
	restore()
	if err != nil {
		return image.Artifact{}, err
	}
	if digest == "" {
		// Not every engine tells it.
		tagged, err := e.builder.options.Open(ctx, reference)
		if err != nil {
			return image.Artifact{}, err
		}
		if digest, err = tagged.Digest(); err != nil {
			return image.Artifact{}, err
		}
	}
	return e.pushed(ctx, digest)
}

// name gives the image in the engine's store the name under which it is pushed. restore gives that name back to what had
// it before.
func (e *storeExport) name(ctx context.Context, reference string) (restore func(), err error) {
	store := e.engine.docker
	before := ""
	if found, err := store.ImageInspect(ctx, reference); err == nil {
		before = found.ID
	} else if !errdefs.IsNotFound(err) {
		return nil, err
	}
	if _, err := store.ImageTag(ctx, docker.ImageTagOptions{Source: e.local, Target: reference}); err != nil {
		return nil, err
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), cleanUpTimeout)
		defer cancel()
		if before != "" {
			_, _ = store.ImageTag(ctx, docker.ImageTagOptions{Source: before, Target: reference})
		} else {
			_, _ = store.ImageRemove(ctx, reference, docker.ImageRemoveOptions{})
		}
	}, nil
}

func (e *storeExport) storeFault(err error) error {
	return &fault.Error{Code: fault.PushFailed, Op: "push", Object: e.connector.Reference(), Err: err,
		Cause: "the Docker engine does not find what it has built: " + fault.Bounded(err.Error()), Remedy: "Run again."}
}

// push has the engine push, and returns the manifest's digest where the engine tells it. The engine answers with a
// success before it has begun, so that what goes wrong is in the stream.
func (e *storeExport) push(ctx context.Context, reference string) (string, error) {
	options := docker.ImagePushOptions{}
	credential, err := e.credential(ctx)
	if err != nil {
		return "", err
	}
	if options.RegistryAuth, err = authconfig.Encode(credential); err != nil {
		return "", err
	}
	e.log.Info("%s pushes %s.", e.engine.name, reference)
	stream, err := e.engine.docker.ImagePush(ctx, reference, options)
	if err != nil {
		return "", e.explainPush(ctx, err)
	}
	defer stream.Close()
	digest := ""
	for message, err := range stream.JSONMessages(ctx) {
		if err == nil && message.Error != nil {
			err = message.Error
		}
		if err != nil {
			return "", e.explainPush(ctx, err)
		}
		var aux struct{ Digest string }
		if message.Aux != nil && json.Unmarshal(*message.Aux, &aux) == nil && aux.Digest != "" {
			digest = aux.Digest
		}
	}
	return digest, nil
}

// credential is the one for the repository's registry in the engine's own terms.
func (e *storeExport) credential(ctx context.Context) (dockerregistry.AuthConfig, error) {
	if e.builder.options.Credentials == nil {
		return dockerregistry.AuthConfig{}, nil
	}
	host := registryHost(e.connector.Repository)
	a, err := e.builder.options.Credentials(ctx, host)
	return dockerregistry.AuthConfig{Username: a.Username, Password: a.Password, IdentityToken: a.IdentityToken,
		RegistryToken: a.RegistryToken, ServerAddress: host}, err
}

// registryHost is the host that a repository's credentials are for.
func registryHost(r image.Repository) string {
	parsed, err := name.NewRepository(string(r))
	if err != nil {
		return r.Registry()
	}
	return parsed.RegistryStr()
}

// explainPush makes a *fault.Error of what an engine says of a push that failed. The words are containerd's and Docker's,
// and the registry's own that they pass on.
func (s *solving) explainPush(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	host := registryHost(s.connector.Repository)
	text := s.progress.secrets.Replace(err.Error())
	fail := func(code fault.Code, remedy string) error {
		return &fault.Error{Code: code, Op: "push", Object: string(s.connector.Repository), Err: err, Remedy: remedy,
			Cause: fmt.Sprintf("%s says: %s", s.engine.name, fault.Bounded(pushCause(text)))}
	}
	has := func(any ...string) bool {
		for _, one := range any {
			if strings.Contains(text, one) {
				return true
			}
		}
		return false
	}
	unknown := has("401 Unauthorized", "no basic auth credentials", "unauthorized", "authentication required", "incorrect username or password")
	denied := has("403 Forbidden", "denied", "insufficient_scope")
	switch {
	case (unknown || denied) && s.anonymous(ctx, host):
		return fail(fault.NoCredentials, "Set registry-username and registry-password, or sign in to "+host+" before.")
	case unknown:
		return fail(fault.CredentialsRefused, "Check the user name and the password or token for "+host+".")
	case denied:
		return fail(fault.PushDenied, "Give the user the right to push to this repository.")
	case has("429 Too Many Requests", "toomanyrequests"):
		return fail(fault.RateLimited, "Wait, and run again.")
	case has("413 Request Entity Too Large"):
		return fail(fault.BodyTooLarge, "Raise the limit of the proxy in front of the registry.")
	case has("name unknown", "404 Not Found", "NAME_UNKNOWN", "repository does not exist"):
		return fail(fault.RepositoryMissing, "Create the repository first.")
	case has("server gave HTTP response to HTTPS client"):
		return fail(fault.PlainHTTPRefused, "Set registry-plain-http, and allow it in the engine's own settings "+
			"(insecure-registries in daemon.json, http = true in buildkitd.toml).")
	case has("x509:", "tls:", "certificate"):
		return fail(fault.RegistryTLS, "The engine pushes, so it is the engine that must trust the registry's certificate: "+
			"/etc/docker/certs.d/"+host+"/ca.crt for Docker, [registry.\""+host+"\"] ca=[…] in buildkitd.toml.")
	case has("connection refused", "no such host", "i/o timeout", "no route to host", "deadline exceeded", "connection reset",
		"closed idle connection", "EOF"):
		return fail(fault.RegistryUnreachable, "The engine pushes from its own network: localhost is the engine's there.")
	}
	return fail(fault.PushFailed, "Look at what the registry says, and run again.")
}

func (s *solving) anonymous(ctx context.Context, host string) bool {
	if s.builder.options.Credentials == nil {
		return true
	}
	a, err := s.builder.options.Credentials(ctx, host)
	return err == nil && a == (authn.AuthConfig{})
}

// pushCause leaves out what the engine says around the cause.
func pushCause(text string) string {
	if i := strings.Index(text, "failed to push"); i >= 0 {
		text = text[i:]
	}
	return text
}
