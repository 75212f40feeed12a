package build

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"path/filepath"
	"regexp"
	"strings"

	docker "github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// buildxPrefix begins the names of the containers of buildx's builders.
const buildxPrefix = "buildx_buildkit_"

// buildxBuilder is a builder as buildx stores it. Its nodes are machines that share the work, usually by platform.
type buildxBuilder struct {
	Name, Driver string
	Nodes        []struct {
		Name, Endpoint string
		DriverOpts     map[string]string
	}
}

// errNoBuildx tells that buildx has no builder of its own that is current.
const errNoBuildx = absent("docker buildx has no builder of its own here")

// buildx is the builder that "docker buildx build" would use. Where it keeps no account, as in a container of a CI job,
// it is the one that runs, if there is exactly one.
func (d *dialing) buildx(ctx context.Context, log connector.Log) ([]*engine, error) {
	current, err := d.currentBuildx()
	var e *engine
	switch {
	case err != nil:
		return nil, err
	case current == nil:
		e, err = d.runningBuildx(ctx)
	default:
		e, err = d.nodes(ctx, *current, log)
	}
	if err != nil {
		return nil, err
	}
	return []*engine{e}, nil
}

// nodes connects to the first node of a builder that can be reached.
func (d *dialing) nodes(ctx context.Context, b buildxBuilder, log connector.Log) (*engine, error) {
	name := fault.Bounded(b.Name)
	var causes []string
	for _, node := range b.Nodes {
		e, err := d.node(ctx, b.Driver, node.Name, node.Endpoint, node.DriverOpts)
		if err != nil {
			causes = append(causes, err.Error())
			continue
		}
		e.name += fmt.Sprintf(" (buildx builder %s)", name)
		if len(b.Nodes) > 1 {
			log.Info("The buildx builder %s has %d nodes, of which %s is used.", name, len(b.Nodes), fault.Bounded(node.Name))
		}
		return e, nil
	}
	return nil, fmt.Errorf("the buildx builder %s can't be used: %s", name, strings.Join(causes, "; "))
}

func (d *dialing) node(ctx context.Context, driver, name, endpoint string, options map[string]string) (*engine, error) {
	switch driver {
	case "remote":
		u, err := url.Parse(endpoint)
		if err != nil || (u.Scheme != "unix" && u.Scheme != "tcp") {
			return d.buildkit(ctx, endpoint)
		}
		query := url.Values{}
		for _, option := range []string{"cacert", "cert", "key", "servername"} {
			if value := options[option]; value != "" {
				query.Set(option, value)
			}
		}
		files, err := parseTLSFiles(query)
		if err != nil {
			return nil, err
		}
		return d.remote(ctx, u.Scheme+"://"+u.Host+u.Path, files)
	case "docker-container", "docker":
		at, err := d.endpoint(endpoint)
		if err != nil {
			return nil, err
		}
		if driver == "docker" {
			return d.embedded(ctx, at)
		}
		return d.container(ctx, at, buildxPrefix+name)
	default:
		return nil, fmt.Errorf("its driver %s is not supported", fault.Bounded(driver))
	}
}

// endpoint is the engine of a node: an address, or the name of a docker context.
func (d *dialing) endpoint(name string) (dockerEndpoint, error) {
	switch {
	case name == "" || name == "default":
		return findDocker(d.options.Getenv)
	case strings.Contains(name, "://"):
		current, err := findDocker(d.options.Getenv)
		if err == nil && current.host == name {
			return current, nil
		}
		return dockerEndpoint{host: name}, nil
	default:
		return dockerOfContext(dockerConfig(d.options.Getenv), name)
	}
}

// builderName is what buildx allows for names of builders. They are names of files.
var builderName = regexp.MustCompile(`^[a-zA-Z][a-zA-Z0-9._+-]*$`)

// currentBuildx reads buildx's account of its builders, which is a folder "buildx" in docker's configuration: the file
// "current" names the one that is current, for all of docker's contexts or for the one whose key it has, and the folder
// "instances" describes them. The variables BUILDX_BUILDER and BUILDX_CONFIG go before. It returns nil where there is
// no account, and errNoBuildx where the Docker engine itself is current.
func (d *dialing) currentBuildx() (*buildxBuilder, error) {
	dir := d.options.Getenv("BUILDX_CONFIG")
	if dir == "" {
		dir = filepath.Join(dockerConfig(d.options.Getenv), "buildx")
	}
	name := d.options.Getenv("BUILDX_BUILDER")
	if name == "" {
		var current struct {
			Key, Name string
			Global    bool
		}
		if err := readJSON(filepath.Join(dir, "current"), &current); errors.Is(err, fs.ErrNotExist) {
			return nil, nil
		} else if err != nil {
			return nil, fmt.Errorf("the current buildx builder can't be read: %w", err)
		}
		if current.Name == "" || !current.Global && current.Key != d.contextKey() {
			return nil, errNoBuildx
		}
		name = current.Name
	}
	if !builderName.MatchString(name) {
		return nil, fmt.Errorf("%q is no name of a buildx builder", fault.Bounded(name))
	}
	var b buildxBuilder
	if err := readJSON(filepath.Join(dir, "instances", strings.ToLower(name)), &b); errors.Is(err, fs.ErrNotExist) {
		// Every docker context is a builder, too, by its name: the engine's own BuildKit.
		return nil, errNoBuildx
	} else if err != nil {
		return nil, fmt.Errorf("the buildx builder %s can't be read: %w", name, err)
	}
	return &b, nil
}

// contextKey is how buildx names docker's current context: by its name, or, if it is the default, by its address.
func (d *dialing) contextKey() string {
	if name, err := dockerContextName(d.options.Getenv); err != nil || name != "" {
		return name
	}
	e, err := findDocker(d.options.Getenv)
	if err != nil {
		return ""
	}
	return e.host
}

// runningBuildx finds the builder by its container.
func (d *dialing) runningBuildx(ctx context.Context) (*engine, error) {
	endpoint, err := findDocker(d.options.Getenv)
	if err != nil {
		return nil, err
	}
	c, _, err := d.dockerClient(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	limited, cancel := context.WithTimeout(ctx, d.timeout)
	defer cancel()
	found, err := c.ContainerList(limited, docker.ContainerListOptions{
		Filters: docker.Filters{}.Add("name", "^/"+buildxPrefix).Add("status", "running")})
	if err != nil {
		return nil, fmt.Errorf("the containers of the Docker engine at %s can't be listed: %w", endpoint.host, err)
	}
	var names []string
	for _, item := range found.Items {
		for _, name := range item.Names {
			if name = strings.TrimPrefix(name, "/"); strings.HasPrefix(name, buildxPrefix) {
				names = append(names, name)
			}
		}
	}
	switch len(names) {
	case 0:
		return nil, errNoBuildx
	case 1:
		return d.container(ctx, endpoint, names[0])
	default:
		return nil, fmt.Errorf("several buildx builders run (%s); choose one by buildkit-host: docker-container://NAME",
			fault.Bounded(strings.Join(names, ", ")))
	}
}
