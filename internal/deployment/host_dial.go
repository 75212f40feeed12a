package deployment

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/url"
	"path/filepath"
	"slices"
	"strings"

	"github.com/docker/cli/cli/config"
	dockercontext "github.com/docker/cli/cli/context/docker"
	"github.com/docker/cli/cli/context/store"
	"github.com/moby/moby/client"
)

// endpoint is where the engine listens and how its host runs commands.
type endpoint struct {
	// address is as DOCKER_HOST has it.
	address string
	options []client.Opt
	// ssh is set where the engine is reached by ssh.
	ssh *sshHost
}

// name is the address without what may be secret in it.
func (e endpoint) name() string {
	u, err := url.Parse(e.address)
	if err != nil {
		return "its address"
	}
	if u.User != nil {
		u.User = url.User(u.User.Username())
	}
	return u.String()
}

// endpoint finds the engine that the docker command would use, unless an address is given: DOCKER_HOST, else the docker
// context, else the system's socket.
func (h *Host) endpoint() (endpoint, error) {
	getenv := h.options.Getenv
	address := h.options.Address
	if address == "" {
		address = getenv("DOCKER_HOST")
	}
	if address == "" {
		return h.contextEndpoint()
	}
	e := endpoint{address: address, options: []client.Opt{client.WithHost(address)}}
	scheme, _, found := strings.Cut(address, "://")
	switch {
	case !found:
		return e, errors.New("it is no address: write unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST")
	case scheme == "ssh":
		return h.sshEndpoint(e)
	case scheme == "tcp" || scheme == "http" || scheme == "https":
		if dir := certificates(getenv); dir != "" {
			file := func(name string) string { return filepath.Join(dir, name) }
			// The host comes last, since it turns to https where there are certificates.
			e.options = append([]client.Opt{client.WithTLSClientConfig(file("ca.pem"), file("cert.pem"), file("key.pem"))}, e.options...)
		}
	case scheme != "unix" && scheme != "npipe":
		return e, fmt.Errorf("%s is no way to reach an engine: unix, tcp and ssh are", scheme)
	}
	return e, nil
}

// certificates is the folder with the certificates for an engine with TLS, or empty where that is not asked for.
func certificates(getenv func(string) string) string {
	dir := getenv("DOCKER_CERT_PATH")
	if dir == "" && getenv("DOCKER_TLS_VERIFY") != "" {
		return dockerFolder(getenv)
	}
	return dir
}

// dockerFolder is the folder of the docker configuration.
func dockerFolder(getenv func(string) string) string {
	if dir := getenv("DOCKER_CONFIG"); dir != "" {
		return dir
	}
	home := getenv("HOME")
	if home == "" {
		home = getenv("USERPROFILE")
	}
	return filepath.Join(home, ".docker")
}

// contextEndpoint is that of the current docker context.
func (h *Host) contextEndpoint() (endpoint, error) {
	dir := dockerFolder(h.options.Getenv)
	name := h.options.Getenv("DOCKER_CONTEXT")
	if name == "" {
		file, err := config.Load(dir)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return endpoint{}, err
		}
		if err == nil {
			name = file.CurrentContext
		}
	}
	if name == "" || name == "default" {
		return endpoint{address: client.DefaultDockerHost, options: []client.Opt{client.WithHost(client.DefaultDockerHost)}}, nil
	}
	contexts := store.New(filepath.Join(dir, "contexts"), store.NewConfig(
		func() any { return map[string]any{} },
		store.EndpointTypeGetter(dockercontext.DockerEndpoint, func() any { return &dockercontext.EndpointMeta{} }),
	))
	metadata, err := contexts.GetMetadata(name)
	if err != nil {
		return endpoint{}, fmt.Errorf("the docker context %q can't be read: %w", name, err)
	}
	meta, err := dockercontext.EndpointFromContext(metadata)
	if err != nil {
		return endpoint{}, fmt.Errorf("the docker context %q: %w", name, err)
	}
	e := endpoint{address: meta.Host}
	if strings.HasPrefix(meta.Host, "ssh://") {
		return h.sshEndpoint(e)
	}
	data, err := dockercontext.WithTLSData(contexts, name, meta)
	if err != nil {
		return e, err
	}
	e.options, err = data.ClientOpts()
	return e, err
}

// sshEndpoint makes the connections of an engine by ssh.
func (h *Host) sshEndpoint(e endpoint) (endpoint, error) {
	u, err := url.Parse(e.address)
	if err != nil {
		// The parser's own words may show a password.
		return endpoint{address: "ssh:"}, errors.New("it is no URL")
	}
	if e.ssh, err = newSSHHost(u, h.sshFlags, h.environ(secretVariables)); err != nil {
		return e, err
	}
	dial := func(ctx context.Context, _, _ string) (net.Conn, error) { return e.ssh.dial(ctx) }
	e.options = []client.Opt{client.WithHost("http://docker.example.com"), client.WithDialContext(dial)}
	return e, nil
}

// What the publisher may do, by names of variables and beginnings of names, is not for the host to know: an ssh client can
// be told to send its environment there. The cloud's variables are kept for ssh, whose ProxyCommand may need them, and
// from the docker command, whose credential helpers would sign in by them.
var (
	secretVariables = []string{"AIRBYTE_PUBLISH_", "INPUT_", "DOCKER_AUTH_CONFIG=", "DOCKER_CONFIG=", "CI_REGISTRY_PASSWORD=", "CI_JOB_TOKEN=",
		"CI_DEPENDENCY_PROXY_PASSWORD=", "CI_DEPLOY_PASSWORD=", "GITHUB_TOKEN=", "GH_TOKEN=", "ACTIONS_RUNTIME_TOKEN=", "ACTIONS_ID_TOKEN_REQUEST_"}
	cloudVariables = []string{"AWS_", "GOOGLE_", "CLOUDSDK_", "AZURE_", "ARM_"}
	// otherEngines would lead the docker command to another engine than the one that it is told.
	otherEngines = []string{"DOCKER_HOST=", "DOCKER_CONTEXT=", "DOCKER_TLS", "DOCKER_CERT_PATH=", "DOCKER_API_VERSION="}
)

// environ is this process's environment without the variables of some lists.
func (h *Host) environ(without ...[]string) []string {
	names := slices.Concat(without...)
	return slices.DeleteFunc(slices.Clone(h.options.Environ), func(variable string) bool {
		return slices.ContainsFunc(names, func(name string) bool { return strings.HasPrefix(strings.ToUpper(variable), name) })
	})
}
