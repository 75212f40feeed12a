package config

import (
	"fmt"
	"net/url"
	"regexp"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// DockerEngine is the Docker engine on whose host Airbyte runs connectors.
type DockerEngine struct {
	// Address is as DOCKER_HOST has it, or empty where that variable or the docker context says it.
	Address string
	// Load tells that images are put on the host instead of being pulled there, into the nodes of Cluster if that is set.
	Load    bool
	Cluster string
}

func dockerHostInputs() []Input {
	return []Input{
		{Name: "docker-host", Group: GroupPulling, Kind: Text,
			Help: "Docker engine of Airbyte's host, for verify-pull: docker-host and load: unix:///PATH, tcp://HOST:PORT or ssh://USER@HOST. Without it DOCKER_HOST, else the current docker context. Builds don't use it."},
		{Name: "load", Group: GroupPulling, Kind: Text, Default: "off",
			Help: "Put the image on Airbyte's host before it is registered, for an instance that can't pull it: docker-host for the engine itself, kind:CLUSTER for the nodes of a kind cluster that the engine runs; abctl's is kind:airbyte-abctl."},
	}
}

// kindPrefix stands before the name of a kind cluster, which is one that can be part of a container's name.
const kindPrefix = "kind:"

var clusterPattern = regexp.MustCompile(`^[a-z0-9][a-z0-9.-]{0,62}$`)

func (r *reader) dockerEngine(verify Place) DockerEngine {
	e := DockerEngine{Address: r.dockerAddress("docker-host")}
	load := r.text("load")
	cluster, kind := strings.CutPrefix(load, kindPrefix)
	switch {
	case load == "off" || load == "":
		return e
	case kind && !clusterPattern.MatchString(cluster):
		r.reject(fault.InvalidInput, "load", fmt.Sprintf("%q is no name of a kind cluster", fault.Bounded(cluster)), "Write kind:airbyte-abctl for abctl, or what kind get clusters prints.")
	case kind:
		e.Load, e.Cluster = true, cluster
	case load == string(DockerHost):
		e.Load = true
	default:
		r.reject(fault.InvalidInput, "load", r.values["load"].String()+" is no place to load into", "Write off, docker-host or kind:CLUSTER.")
	}
	if e.Load && verify != Nowhere {
		r.reject(fault.ConflictingInputs, "load", "verify-pull is "+string(verify)+", and what is loaded is not pulled", "Leave one of the two out.")
	}
	return e
}

// dockerAddress checks an engine's address. What may be a password in it is not shown.
func (r *reader) dockerAddress(input string) string {
	address := r.text(input)
	if address == "" {
		return ""
	}
	const remedy = "Write unix:///var/run/docker.sock, tcp://HOST:PORT or ssh://USER@HOST."
	u, err := url.Parse(address)
	switch {
	case err != nil:
		r.reject(fault.InvalidInput, input, "it is not an address", remedy)
	case u.User != nil && hasPassword(u):
		r.reject(fault.InvalidInput, input, "it holds a password, which no docker command takes", "Use a key for ssh.")
	case u.Scheme != "unix" && u.Scheme != "npipe" && u.Scheme != "tcp" && u.Scheme != "ssh":
		r.reject(fault.InvalidInput, input, fmt.Sprintf("%q is not the address of a Docker engine", fault.Bounded(address)), remedy)
	}
	return address
}

func hasPassword(u *url.URL) bool {
	_, has := u.User.Password()
	return has
}
