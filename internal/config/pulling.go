package config

import (
	"regexp"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Place is a kind of deployment that pulls images.
type Place string

// The values of verify-pull.
const (
	Nowhere    Place = "off"
	Kubernetes Place = "kubernetes"
	DockerHost Place = "docker-host"
)

// Pulling is how to reach the deployment that pulls the images.
type Pulling struct {
	// Verify says where a pull is tried after the registration.
	Verify Place
	// Kubeconfig is a kubeconfig's text and KubeconfigFile the path of one; at most one of them is set.
	Kubeconfig     []byte
	KubeconfigFile string
	// Context and Namespace are empty where they were not given.
	Context, Namespace string
	// Secret is the name of the pull secret to make.
	Secret string
	// Docker is the Docker engine on whose host Airbyte runs connectors, for DockerHost and for loading.
	Docker DockerEngine
}

func (r *reader) pulling() Pulling {
	p := Pulling{
		Verify:    Place(r.enum("verify-pull")),
		Context:   r.text("kube-context"),
		Namespace: r.kubernetesName("kube-namespace", labelPattern),
		Secret:    r.kubernetesName("pull-secret", subdomainPattern),
	}
	p.Kubeconfig, p.KubeconfigFile = r.kubeconfig("kubeconfig")
	p.Docker = r.dockerEngine(p.Verify)
	return p
}

// The names that Kubernetes takes: a namespace is a label of RFC 1123, a secret a subdomain.
var (
	labelPattern     = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$`)
	subdomainPattern = regexp.MustCompile(`^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$`)
)

func (r *reader) kubernetesName(input string, pattern *regexp.Regexp) string {
	text := r.text(input)
	if text != "" && (!pattern.MatchString(text) || len(text) > 253) {
		r.reject(fault.InvalidInput, input, r.values[input].String()+" is no name that Kubernetes takes",
			"Use lower-case letters, digits and dashes, with a letter or digit at both ends.")
	}
	return text
}

// kubeconfig tells a path from a text. The text holds credentials, so that no message shows the value unless it is one
// short line, which no kubeconfig is.
func (r *reader) kubeconfig(input string) (text []byte, file string) {
	if !r.given(input) {
		return nil, ""
	}
	v := r.values[input]
	if trimmed := strings.TrimSpace(v.text); !strings.ContainsAny(trimmed, "\n{") {
		if _, ok := r.file(input, trimmed); ok {
			return nil, r.path(trimmed)
		}
		return nil, ""
	}
	if v.from == "--"+input {
		r.reject(fault.InvalidInput, input, "a flag can't hold the text, which a list of processes would show", "Give a file's path, or set "+r.inputs[input].Env()+".")
		return nil, ""
	}
	r.secrets.add(v.text)
	return []byte(v.text), ""
}
