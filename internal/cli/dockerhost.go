package cli

import (
	"context"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/host"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
	"github.com/airbyte-publish/airbyte-publish/internal/registry"
)

// usesDockerHost tells whether anything is done on a Docker host.
func usesDockerHost(p config.Pulling) bool { return p.Verify == config.DockerHost || p.Docker.Load }

// dockerHost is the Docker host that images are brought to.
func dockerHost(p Process, cfg *config.Config, images *registry.Client) *deployment.Host {
	o := deployment.HostOptions{Address: cfg.Pulling.Docker.Address, Getenv: p.Getenv, Environ: p.Environ, UserAgent: userAgent(), Open: images.Open,
		Overwrite: cfg.IfTagExists == config.Overwrite}
	if cfg.Pulling.Docker.Load {
		o.Load = &deployment.Target{Cluster: cfg.Pulling.Docker.Cluster}
	}
	return deployment.NewHost(o)
}

// buildGetenv is the environment in which builds look for their engine. Where DOCKER_HOST names another machine as
// Airbyte's host, nothing is built there: a build hands the publisher's credentials to its engine.
func buildGetenv(p Process, pulling config.Pulling) func(string) string {
	host := p.Getenv("DOCKER_HOST")
	if !usesDockerHost(pulling) || pulling.Docker.Address != "" || host == "" || strings.HasPrefix(host, "unix://") || strings.HasPrefix(host, "npipe://") {
		return p.Getenv
	}
	return func(name string) string {
		switch name {
		case "DOCKER_HOST", "DOCKER_TLS_VERIFY", "DOCKER_CERT_PATH":
			return ""
		}
		return p.Getenv(name)
	}
}

// onDockerHost looks after images that are in their registry already.
func (r *run) onDockerHost(cfg *config.Config, section host.Section) publish.Deployment {
	options := r.registryOptions(cfg)
	options.Log, options.Secret = func(line string) { section.Info("%s", line) }, r.host.Mask
	for _, t := range cfg.Images {
		options.Hosts = append(options.Hosts, t.Repository.Registry())
	}
	images := registry.New(options)
	return publishedImages{images: images, host: dockerHost(r.Process, cfg, images)}
}

// publishedImages brings what a tag holds in its registry to a Docker host.
type publishedImages struct {
	images *registry.Client
	host   *deployment.Host
}

func (p publishedImages) VerifyPull(ctx context.Context, repository image.Repository, tag, digest string, log connector.Log) error {
	if digest == "" {
		// The host is not asked for it: a pull by tag would move the tag there.
		a, err := p.images.Open(ctx, string(repository)+":"+tag)
		if err != nil {
			return err
		}
		if digest, err = a.Digest(); err != nil {
			return err
		}
	}
	return p.host.Prepare(ctx, repository, tag, digest, log)
}

var _ publish.Place = (*deployment.Host)(nil)
