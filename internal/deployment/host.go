package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"reflect"
	"slices"
	"strings"
	"time"

	"github.com/containerd/errdefs"
	dockerimage "github.com/moby/moby/api/types/image"
	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// HostOptions say which Docker host it is and how to reach it.
type HostOptions struct {
	// Address is the engine's address as DOCKER_HOST has it; empty is DOCKER_HOST, else the docker context, else the
	// system's socket.
	Address string
	Getenv  func(string) string
	// Environ is what the programs ssh and docker get of this process's environment, secrets taken out.
	Environ   []string
	UserAgent string
	// Load makes Prepare load images instead of having them pulled.
	Load *Target
	// Overwrite lets Load move a tag that holds another image on the host.
	Overwrite bool
	// Open reads an image of a registry, for Load. It has the caller's credentials, of which the host sees nothing.
	Open func(ctx context.Context, ref string) (image.Artifact, error)
}

// Host is a Docker engine on which Airbyte runs connectors, as it did with docker-compose, or on which the nodes of its
// kind cluster run. What it pulls, it pulls by itself: no credentials are ever sent to it.
type Host struct {
	options HostOptions
	// sshFlags are further flags of the ssh command.
	sshFlags []string
	// Limits of time.
	dialTimeout, pullTimeout, loadTimeout, specTimeout, stale time.Duration
}

// The limits of time. An engine behind ssh has to be reached first; Airbyte's own pull has ten minutes; a spec that runs
// for minutes is a spec that hangs.
const (
	hostDialTimeout = time.Minute
	hostPullTimeout = 15 * time.Minute
	// hostLoadTimeout is longer, since a big image goes from here by ssh.
	hostLoadTimeout = 30 * time.Minute
	hostSpecTimeout = 2 * time.Minute
)

// NewHost returns a host without contacting it.
func NewHost(o HostOptions) *Host {
	return &Host{options: o, dialTimeout: hostDialTimeout, pullTimeout: hostPullTimeout, loadTimeout: hostLoadTimeout, specTimeout: hostSpecTimeout, stale: hostStale}
}

// hostEngine is a connection to the host's engine.
type hostEngine struct {
	*client.Client
	endpoint
	parent *Host
	arch   string
	log    connector.Log
}

// connect reaches the engine. The caller closes it.
func (h *Host) connect(ctx context.Context, log connector.Log) (*hostEngine, error) {
	at, err := h.endpoint()
	if err != nil {
		return nil, hostUnreachable(at.name(), err.Error(), err)
	}
	options := append(at.options, client.WithUserAgent(h.options.UserAgent), client.WithAPIVersion(h.options.Getenv("DOCKER_API_VERSION")))
	c, err := client.New(options...)
	if err != nil {
		return nil, hostUnreachable(at.name(), err.Error(), err)
	}
	limited, cancel := context.WithTimeout(ctx, h.dialTimeout)
	defer cancel()
	version, err := c.ServerVersion(limited, client.ServerVersionOptions{})
	switch {
	case err == nil && version.Os != "linux":
		err = fmt.Errorf("it runs %s containers, and connectors are Linux images", version.Os)
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		err = fmt.Errorf("no answer within %s", h.dialTimeout)
	}
	if err != nil {
		_ = c.Close()
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		return nil, hostUnreachable(at.name(), err.Error(), err)
	}
	log.Info("the Docker host is %s (engine %s, %s)", at.name(), fault.Bounded(version.Version), fault.Bounded(version.Arch))
	return &hostEngine{Client: c, endpoint: at, parent: h, arch: fault.Bounded(version.Arch), log: log}, nil
}

// Prepare has the host ready for an image: it loads it, if that was asked for, else it is VerifyPull. It is the method of
// publish.Place.
func (h *Host) Prepare(ctx context.Context, repository image.Repository, tag, digest string, log connector.Log) error {
	if h.options.Load != nil {
		return h.Load(ctx, *h.options.Load, repository, tag, digest, log)
	}
	return h.VerifyPull(ctx, repository, tag, digest, log)
}

// Action says what Prepare does.
func (h *Host) Action() string {
	switch load := h.options.Load; {
	case load == nil:
		return "pull on the Docker host"
	case load.Cluster != "":
		return "load into the kind cluster " + load.Cluster
	}
	return "load into the Docker host"
}

// VerifyPull proves that the host can get the image by itself, runs its spec there as Airbyte does, and leaves the image
// under its tag, where Airbyte looks first.
func (h *Host) VerifyPull(ctx context.Context, repository image.Repository, tag, digest string, log connector.Log) error {
	end := log.Group("Pull on the Docker host")
	defer end()
	img := Image{Repository: repository, Tag: tag, Digest: digest}
	e, err := h.connect(ctx, log)
	if err != nil {
		return err
	}
	defer func() { _ = e.Close() }()
	if err := e.pull(ctx, img); err != nil {
		return orInterrupted(ctx, err)
	}
	id, err := e.tag(ctx, img)
	if err != nil {
		return orInterrupted(ctx, err)
	}
	return orInterrupted(ctx, e.runSpec(ctx, img, id))
}

// orInterrupted is the context's error where that is what an error comes from.
func orInterrupted(ctx context.Context, err error) error {
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}

// stored is an image that the engine has, or nil where it has none of the name.
func (e *hostEngine) stored(ctx context.Context, ref string) (*dockerimage.InspectResponse, error) {
	found, err := e.ImageInspect(ctx, ref)
	switch {
	case errdefs.IsNotFound(err):
		return nil, nil //nolint:nilnil // That there is none is no error.
	case err != nil:
		return nil, e.failed(fault.HostPullFailed, "look for", ref, err)
	}
	return &found.InspectResponse, nil
}

// sameContent tells whether two images are the same but for their names. containerd's image store knows one that was
// loaded by its manifest, and one that was pulled by its index.
func sameContent(a, b *dockerimage.InspectResponse) bool {
	return a.ID == b.ID || a.Created == b.Created && a.Architecture == b.Architecture && reflect.DeepEqual(a.Config, b.Config) &&
		slices.Equal(a.RootFS.Layers, b.RootFS.Layers) && len(a.RootFS.Layers) > 0
}

// tag puts the image that was pulled under its tag where the host has no such tag, and returns its id. Airbyte takes what
// it finds under the tag, and pulls only when it finds nothing.
func (e *hostEngine) tag(ctx context.Context, img Image) (string, error) {
	pulled, err := e.stored(ctx, img.ByDigest())
	if err != nil {
		return "", err
	}
	if pulled == nil {
		return "", e.failed(fault.HostPullFailed, "look for", img.ByDigest(), errors.New("it is not there after the pull"))
	}
	held, err := e.stored(ctx, img.Reference())
	switch {
	case err != nil:
		return "", err
	case held != nil && sameContent(held, pulled):
		e.log.Info("the host has %s already", img.Reference())
		return held.ID, nil
	case held != nil:
		return "", e.tagDiffers(img, held.ID, "the registry's is "+pulled.ID)
	}
	if _, err := e.ImageTag(ctx, client.ImageTagOptions{Source: pulled.ID, Target: img.Reference()}); err != nil {
		return "", e.failed(fault.HostPullFailed, "tag", img.Reference(), err)
	}
	e.log.Info("the host now has %s, which Airbyte takes from there", img.Reference())
	return pulled.ID, nil
}

// tagDiffers explains the one thing that a pull by tag would never show.
func (e *hostEngine) tagDiffers(img Image, held, other string) error {
	return &fault.Error{Code: fault.HostTagDiffers, Op: "put the image on the Docker host", Object: img.Reference() + " at " + e.name(),
		Cause: fmt.Sprintf("the tag holds another image there (%s, and %s), and Airbyte takes what the host has without asking the registry",
			fault.Bounded(held), fault.Bounded(other)),
		Remedy: "Publish under a new tag, since Airbyte also keeps the spec per tag; or remove the old image by " + e.docker("rmi", img.Reference()) + "."}
}

// docker is a command line of the docker command that reaches this host, to be shown to people.
func (e *hostEngine) docker(args ...string) string {
	return strings.Join(append([]string{"docker", "--host", e.name()}, args...), " ")
}

// failed is the fault of a call to the engine that is not explained otherwise.
func (e *hostEngine) failed(code fault.Code, what, object string, err error) error {
	if errors.Is(err, context.Canceled) {
		return err
	}
	return &fault.Error{Code: code, Op: what + " on the Docker host", Object: object + " at " + e.name(), Cause: fault.Bounded(err.Error()),
		Remedy: "Look at the engine's own log on that host (journalctl -u docker), then run again.", Err: err}
}

func hostUnreachable(address, cause string, err error) error {
	remedy := "Start the engine there, or correct docker-host or DOCKER_HOST."
	switch {
	case strings.HasPrefix(address, "ssh://") && strings.Contains(cause, "Host key verification failed"):
		remedy = "Put the host's key into ~/.ssh/known_hosts, as ssh-keyscan prints it, after comparing it with the host's own."
	case strings.HasPrefix(address, "ssh://"):
		remedy = "Try " + sshCommand(address) + " docker version: it must need no password, which takes a key without a passphrase or in an agent, and the user must have the right to use Docker."
	case strings.Contains(cause, "permission denied"):
		remedy = "Run as a user that may use Docker (the group docker)."
	case strings.Contains(cause, "x509:"), strings.Contains(cause, "tls:"), strings.Contains(cause, "HTTP request to an HTTPS server"), strings.Contains(cause, "certificate"):
		remedy = "Set DOCKER_TLS_VERIFY to 1 and DOCKER_CERT_PATH to a folder with ca.pem, cert.pem and key.pem for this engine."
	}
	return &fault.Error{Code: fault.HostUnreachable, Op: "reach the Docker host", Object: address, Cause: fault.Bounded(cause), Remedy: remedy, Err: err}
}

// sshCommand is the ssh command for an address, to be shown to people.
func sshCommand(address string) string {
	u, err := url.Parse(address)
	if err != nil {
		return "ssh"
	}
	u.Path = ""
	return "ssh " + u.String()
}
