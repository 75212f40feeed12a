package build

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"time"

	buildkit "github.com/moby/buildkit/client"
	docker "github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// reached is what came of reaching a Docker engine.
type reached struct {
	version, api string
	err          error
}

// reach asks a Docker engine for its version, once in a run.
func (d *dialing) reach(ctx context.Context, endpoint dockerEndpoint, c *docker.Client) reached {
	if r, known := d.reached[endpoint]; known {
		return r
	}
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	version, err := c.ServerVersion(limited, docker.ServerVersionOptions{})
	switch {
	case err != nil && limited.Err() != nil && ctx.Err() == nil:
		err = fmt.Errorf("no answer within %s", d.timeout)
	case err != nil && strings.Contains(err.Error(), "Is the docker daemon running?"):
		err = errors.New("it refuses connections")
	case err == nil && version.Os != "linux":
		err = fmt.Errorf("it runs %s containers, and connectors are Linux images", version.Os)
	}
	r := reached{version: version.Version, api: version.APIVersion, err: err}
	if ctx.Err() == nil {
		if d.reached == nil {
			d.reached = map[dockerEndpoint]reached{}
		}
		d.reached[endpoint] = r
	}
	return r
}

// dockerClient connects to a Docker engine that answers.
func (d *dialing) dockerClient(ctx context.Context, endpoint dockerEndpoint) (*docker.Client, reached, error) {
	// The default socket is missing wherever Docker is; that needs no connection, and no words about one.
	if path, ok := strings.CutPrefix(endpoint.host, "unix://"); ok {
		if _, err := os.Stat(path); errors.Is(err, os.ErrNotExist) {
			return nil, reached{}, absent("there is no Docker engine at " + endpoint.host)
		}
	}
	c, err := endpoint.connect(d.options.Getenv, d.options.UserAgent)
	if err != nil {
		return nil, reached{}, fmt.Errorf("the Docker engine at %s can't be used: %w", endpoint.host, err)
	}
	r := d.reach(ctx, endpoint, c)
	if r.err != nil {
		_ = c.Close()
		return nil, r, fmt.Errorf("the Docker engine at %s can't be used: %w", endpoint.host, r.err)
	}
	return c, r, nil
}

// docker is the BuildKit inside the Docker engine that the docker command would use.
func (d *dialing) docker(ctx context.Context, _ connector.Log) ([]*engine, error) {
	endpoint, err := findDocker(d.options.Getenv)
	if err != nil {
		return nil, err
	}
	e, err := d.embedded(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	return []*engine{e}, nil
}

// nativeAPI is the minor of the API's version 1 since which an engine takes BuildKit's protocol on its socket itself
// (Docker 29). The calls that went before are deprecated since 1.53:
// https://docs.docker.com/reference/api/engine/version-history/.
const nativeAPI = 52

// native tells whether the engine takes BuildKit's protocol on its socket.
func (r reached) native() bool {
	minor, err := strconv.Atoi(strings.TrimPrefix(r.api, "1."))
	return err == nil && minor >= nativeAPI
}

// embedded connects to the BuildKit inside a Docker engine: in BuildKit's own protocol, or, where the engine does not
// take that, over connections that begin as calls of the engine's API.
func (d *dialing) embedded(ctx context.Context, endpoint dockerEndpoint) (*engine, error) {
	c, r, err := d.dockerClient(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	e, err := d.dialEmbedded(ctx, endpoint, c, r.native())
	if err != nil {
		_ = c.Close()
		return nil, fmt.Errorf("the engine at %s has no BuildKit that could be used (Docker has, Podman has not): %w", endpoint.host, err)
	}
	e.name = fmt.Sprintf("Docker engine %s at %s", r.version, endpoint.host)
	e.kind, e.docker, e.closers = kindDocker, c, append(e.closers, c)
	if e.containerdStore = e.caps.snapshotter != ""; !e.containerdStore {
		e.caps = e.caps.withGraphDriver()
	}
	return e, nil
}

func (d *dialing) dialEmbedded(ctx context.Context, endpoint dockerEndpoint, c *docker.Client, native bool) (*engine, error) {
	if native {
		dial, err := endpoint.nativeDialer(c)
		if err != nil {
			return nil, err
		}
		if b, err := buildkit.New(ctx, "", buildkit.WithContextDialer(dial)); err == nil {
			if e, err := open(ctx, nativeTimeout, b); err == nil || ctx.Err() != nil {
				return e, err
			}
		}
	}
	b, err := buildkit.New(ctx, "",
		buildkit.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
			return c.DialHijack(ctx, "/grpc", "h2c", nil)
		}),
		buildkit.WithSessionDialer(func(ctx context.Context, proto string, meta map[string][]string) (net.Conn, error) {
			return c.DialHijack(ctx, "/session", proto, meta)
		}))
	if err != nil {
		return nil, err
	}
	return open(ctx, d.timeout, b)
}

// nativeTimeout is short: the engine has just answered, and there is another way.
const nativeTimeout = 2 * time.Second

// nativeDialer makes connections for BuildKit's protocol, which is HTTP/2. An engine with TLS has to agree to that when
// the connection is made.
func (e dockerEndpoint) nativeDialer(c *docker.Client) (func(context.Context, string) (net.Conn, error), error) {
	if e.certificates == "" {
		dial := c.Dialer()
		return func(ctx context.Context, _ string) (net.Conn, error) { return dial(ctx) }, nil
	}
	config, err := e.tls()
	if err != nil {
		return nil, err
	}
	config.NextProtos = []string{"h2"}
	host, err := docker.ParseHostURL(e.host)
	if err != nil {
		return nil, err
	}
	return func(ctx context.Context, _ string) (net.Conn, error) {
		return (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", host.Host)
	}, nil
}
