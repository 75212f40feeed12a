package deployment

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// ClusterOptions say where a Kubernetes cluster is and what of it is meant. All of them may be empty.
type ClusterOptions struct {
	// Kubeconfig is a kubeconfig's text and KubeconfigFile the path of one. With neither, the files that KUBECONFIG
	// names are read, else the service account of the pod that this runs in is taken, else ~/.kube/config is read.
	Kubeconfig     []byte
	KubeconfigFile string
	// Context is the kubeconfig's context; empty means its current one.
	Context string
	// Namespace is where Airbyte is installed; empty means the context's, or the only one that has an Airbyte.
	Namespace string
	// Verb names the manifest under docs/kubernetes that holds the rights which are needed.
	Verb   string
	Getenv func(string) string
	// Environ is this process's environment; a credential plugin gets it without what is the publisher's.
	Environ []string
	// ServiceAccountDir is where a pod finds its service account's token. Empty means Kubernetes' own place for it.
	ServiceAccountDir string
	UserAgent         string
	// Secret is told what must not be shown.
	Secret func(secrets ...string)
	// Patience is how long something is waited for that may mend itself, such as a node that an autoscaler adds, and
	// Deadline how long a pod may take in all; Poll is how often it is looked at. 0 means 90 seconds, 10 minutes, a second.
	Patience, Deadline, Poll time.Duration
	// Now and Sleep are the clock; nil means the real one.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Cluster is a Kubernetes cluster that Airbyte runs in. Its errors are *fault.Error. It is safe for concurrent use.
type Cluster struct {
	options ClusterOptions
	connect func() (*connection, error)
	airbyte installationOf
	swept   sync.Once
}

// NewCluster makes a client. It contacts nothing and reads nothing yet.
func NewCluster(o ClusterOptions) *Cluster {
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Secret == nil {
		o.Secret = func(...string) {}
	}
	if o.Patience <= 0 {
		o.Patience = 90 * time.Second
	}
	if o.Deadline <= 0 {
		o.Deadline = 10 * time.Minute
	}
	if o.Poll <= 0 {
		o.Poll = time.Second
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.ServiceAccountDir == "" {
		o.ServiceAccountDir = "/var/run/secrets/kubernetes.io/serviceaccount"
	}
	c := &Cluster{options: o}
	c.connect = sync.OnceValues(c.open)
	return c
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// open reads the configuration and makes a connection out of it; nothing is contacted yet.
func (c *Cluster) open() (*connection, error) {
	config, namespace, from, err := c.configuration()
	if err != nil {
		return nil, &fault.Error{Code: fault.ClusterUnreachable, Op: "read the kubeconfig", Object: from, Cause: fault.Bounded(err.Error()),
			Remedy: "Set kubeconfig to a kubeconfig's path, or in the environment to its text, and kube-context to one of its contexts.", Err: err}
	}
	config.UserAgent = c.options.UserAgent
	config.Timeout = requestTimeout
	// Rates are limited by how the requests are made here, one after the other.
	config.QPS = -1
	c.options.Secret(config.BearerToken, config.Password, string(config.KeyData))
	if c.options.Namespace != "" {
		namespace = c.options.Namespace
	}
	made, err := newConnection(config, namespace, c.options)
	if err != nil {
		return nil, &fault.Error{Code: fault.ClusterUnreachable, Op: "use the kubeconfig", Object: from, Cause: fault.Bounded(err.Error()),
			Remedy: "Check its server address, certificates and credential plugin.", Err: err}
	}
	return made, nil
}

// configuration finds how to reach the cluster, the namespace that goes with it ("" when none is named), and where that
// was found.
func (c *Cluster) configuration() (config *rest.Config, namespace, from string, err error) {
	o := c.options
	overrides := &clientcmd.ConfigOverrides{CurrentContext: o.Context}
	rules := &clientcmd.ClientConfigLoadingRules{WarnIfAllMissing: false}
	switch {
	case len(o.Kubeconfig) > 0:
		loaded, err := clientcmd.Load(o.Kubeconfig)
		if err != nil {
			// A parser quotes what it can't read, which may be a secret.
			return nil, "", "that was given as text", errors.New("its text is not a kubeconfig")
		}
		return finish(clientcmd.NewNonInteractiveClientConfig(*loaded, o.Context, overrides, nil), loaded, o.Context, "that was given as text")
	case o.KubeconfigFile != "":
		rules.ExplicitPath, from = o.KubeconfigFile, o.KubeconfigFile
	case o.Getenv(clientcmd.RecommendedConfigPathEnvVar) != "":
		from = o.Getenv(clientcmd.RecommendedConfigPathEnvVar)
		rules.Precedence = filepath.SplitList(from)
	case o.Getenv("KUBERNETES_SERVICE_HOST") != "" && o.Context == "":
		config, namespace, err := c.inCluster()
		return config, namespace, "of the pod's service account", err
	default:
		from = filepath.Join(o.Getenv("HOME"), ".kube", "config")
		rules.Precedence = []string{from}
	}
	loaded, err := rules.Load()
	if err != nil {
		return nil, "", from, err
	}
	return finish(clientcmd.NewNonInteractiveClientConfig(*loaded, o.Context, overrides, rules), loaded, o.Context, from)
}

func finish(client clientcmd.ClientConfig, loaded *clientcmdapi.Config, context, from string) (*rest.Config, string, string, error) {
	config, err := client.ClientConfig()
	if clientcmd.IsEmptyConfig(err) {
		// client-go advises a variable that is not read here.
		return nil, "", from, errors.New("there is no configuration")
	}
	if err != nil {
		return nil, "", from, err
	}
	if context == "" {
		context = loaded.CurrentContext
	}
	namespace := ""
	if chosen, ok := loaded.Contexts[context]; ok {
		namespace = chosen.Namespace
	}
	return config, namespace, from, nil
}

// inCluster is the configuration of a pod. client-go has the same, but reads the environment itself.
func (c *Cluster) inCluster() (*rest.Config, string, error) {
	dir := c.options.ServiceAccountDir
	token, err := os.ReadFile(filepath.Join(dir, "token"))
	if err != nil {
		return nil, "", err
	}
	c.options.Secret(strings.TrimSpace(string(token)))
	host, port := c.options.Getenv("KUBERNETES_SERVICE_HOST"), c.options.Getenv("KUBERNETES_SERVICE_PORT")
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	// A pod that has no namespace file has no namespace of its own to name.
	namespace, _ := os.ReadFile(filepath.Join(dir, "namespace"))
	return &rest.Config{
		Host:            "https://" + host + ":" + port,
		TLSClientConfig: rest.TLSClientConfig{CAFile: filepath.Join(dir, "ca.crt")},
		// The file is read again and again: Kubernetes renews the token in it.
		BearerTokenFile: filepath.Join(dir, "token"),
	}, strings.TrimSpace(string(namespace)), nil
}
