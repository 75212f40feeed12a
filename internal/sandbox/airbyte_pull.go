package sandbox

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"runtime"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// PullOptions are how the stand-in gets at images.
type PullOptions struct {
	// Registry is the host and port that Username and Password are for; they go nowhere else.
	Registry           string
	Username, Password string
	// Spec is handed to build.RunSpec.
	Spec build.SpecOptions
}

// PullAndRun makes the RunSpec of a stand-in that really pulls: from a registry on loopback, over plain http if it has
// nothing better, and never from anywhere else. As Airbyte's nodes do, it keeps the image that a tag had when it was
// first pulled (pull policy IfNotPresent), and it finds nothing in an image without AIRBYTE_ENTRYPOINT.
//
// The program's main function, and the TestMain of tests, must call build.SpecMain first.
func PullAndRun(o PullOptions) RunSpec {
	transport := remote.DefaultTransport.(*http.Transport).Clone()
	transport.Proxy = nil
	transport.DialContext = dialLoopback
	auth := authn.Anonymous
	if o.Username != "" {
		auth = &authn.Basic{Username: o.Username, Password: o.Password}
	}
	n := &node{options: o, transport: transport, auth: auth, pulled: map[string]name.Digest{}}
	return n.runSpec
}

// dialLoopback connects to this machine only.
func dialLoopback(ctx context.Context, network, address string) (net.Conn, error) {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil, err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return nil, fmt.Errorf("the sandbox pulls from registries on this machine only, not from %s", host)
	}
	return (&net.Dialer{}).DialContext(ctx, network, address)
}

// node is a machine that runs connectors.
type node struct {
	options   PullOptions
	transport http.RoundTripper
	auth      authn.Authenticator

	mu sync.Mutex
	// pulled are the images that the node has, by the reference that they were pulled by.
	pulled map[string]name.Digest
}

var errNoEntrypoint = errors.New("the image sets no AIRBYTE_ENTRYPOINT")

func (n *node) runSpec(ctx context.Context, ref string) (connector.SpecRun, error) {
	img, err := n.pull(ctx, ref)
	if err != nil {
		return connector.SpecRun{}, fmt.Errorf("pull %s: %w", ref, err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		return connector.SpecRun{}, fmt.Errorf("read the config of %s: %w", ref, err)
	}
	if !hasEntrypoint(config.Config.Env) {
		return connector.SpecRun{}, errNoEntrypoint
	}
	return build.RunSpec(ctx, img, n.options.Spec)
}

func hasEntrypoint(env []string) bool {
	for _, e := range env {
		if value, ok := strings.CutPrefix(e, "AIRBYTE_ENTRYPOINT="); ok && value != "" {
			return true
		}
	}
	return false
}

// pull returns the image that the node has under the reference, fetched if it has none.
func (n *node) pull(ctx context.Context, ref string) (v1.Image, error) {
	parsed, err := name.ParseReference(ref, name.StrictValidation)
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	had, there := n.pulled[ref]
	n.mu.Unlock()
	if there {
		parsed = had
	}
	auth := authn.Anonymous
	if parsed.Context().RegistryStr() == n.options.Registry {
		auth = n.auth
	}
	o := []remote.Option{remote.WithContext(ctx), remote.WithTransport(n.transport), remote.WithAuth(auth)}
	var d *remote.Descriptor
	var img v1.Image
	for _, arch := range []string{runtime.GOARCH, "amd64"} {
		platform := remote.WithPlatform(v1.Platform{OS: "linux", Architecture: arch})
		if d, err = remote.Get(parsed, append(o, platform)...); err != nil {
			return nil, err
		}
		if img, err = d.Image(); err == nil {
			break
		}
	}
	if err != nil {
		return nil, err
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	if _, there := n.pulled[ref]; !there {
		n.pulled[ref] = parsed.Context().Digest(d.Digest.String())
	}
	return img, nil
}
