package deployment

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	clientauthentication "k8s.io/client-go/pkg/apis/clientauthentication/v1"
	"k8s.io/client-go/rest"
	clientcmdapi "k8s.io/client-go/tools/clientcmd/api"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// plugin signs in by the program that a kubeconfig names for that (aws, gke-gcloud-auth-plugin, kubelogin). client-go
// would run it with the whole environment, let it write to the log as it likes, and wait for it whatever happens.
type plugin struct {
	config  *rest.Config
	exec    *clientcmdapi.ExecConfig
	environ []string
	secret  func(...string)
	now     func() time.Time
	timeout time.Duration

	mu     sync.Mutex
	client *http.Client
	// renew is when the credentials have to be made anew; zero is never.
	renew time.Time
}

// pluginTimeout is how long a plugin may take, which asks a cloud at most.
const pluginTimeout = time.Minute

// renewBefore is how long before their end credentials are made anew.
const renewBefore = time.Minute

// newPlugin takes the plugin out of the configuration, or returns nil where there is none.
func newPlugin(config *rest.Config, o ClusterOptions) *plugin {
	if config.ExecProvider == nil {
		return nil
	}
	p := &plugin{config: config, exec: config.ExecProvider, environ: o.Environ, secret: o.Secret, now: o.Now, timeout: pluginTimeout}
	config.ExecProvider = nil
	return p
}

// signedIn returns a client with credentials that are good for now. A client that was refused is not given again.
func (p *plugin) signedIn(ctx context.Context, refused *http.Client) (*http.Client, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.client != nil && p.client != refused && (p.renew.IsZero() || p.now().Before(p.renew)) {
		return p.client, nil
	}
	made, err := p.run(ctx)
	if err != nil {
		return nil, err
	}
	p.secret(made.Token, made.ClientKeyData)
	config := rest.CopyConfig(p.config)
	if made.Token != "" {
		config.BearerToken, config.BearerTokenFile = made.Token, ""
	}
	if made.ClientCertificateData != "" {
		config.CertData, config.KeyData, config.CertFile, config.KeyFile = []byte(made.ClientCertificateData), []byte(made.ClientKeyData), "", ""
	}
	client, err := newClient(config)
	if err != nil {
		return nil, p.fault(err.Error(), err)
	}
	p.client, p.renew = client, time.Time{}
	if made.ExpirationTimestamp != nil {
		p.renew = made.ExpirationTimestamp.Add(-renewBefore)
	}
	return client, nil
}

// The interface of plugins: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#client-go-credential-plugins
const (
	pluginInfo    = "KUBERNETES_EXEC_INFO"
	pluginVersion = "client.authentication.k8s.io/v1"
	pluginBeta    = "client.authentication.k8s.io/v1beta1"
	pluginKind    = "ExecCredential"
	// maxCredential bounds what is read of a plugin.
	maxCredential = 1 << 20
)

// run runs the plugin, which ends with the context.
func (p *plugin) run(ctx context.Context) (*clientauthentication.ExecCredentialStatus, error) {
	switch {
	case p.exec.APIVersion != pluginVersion && p.exec.APIVersion != pluginBeta:
		return nil, p.fault(fmt.Sprintf("it is of the version %q, and plugins of %s and v1beta1 are known", p.exec.APIVersion, pluginVersion), nil)
	case p.exec.InteractiveMode == clientcmdapi.AlwaysExecInteractiveMode:
		return nil, p.fault("it wants a person at a terminal (interactiveMode: Always)", nil)
	}
	info, err := p.info()
	if err != nil {
		return nil, p.fault(err.Error(), err)
	}
	limited, cancel := context.WithTimeout(ctx, p.timeout)
	defer cancel()
	cmd := exec.CommandContext(limited, p.exec.Command, p.exec.Args...)
	cmd.Env = p.environment(info)
	stdout, stderr := &boundedBuffer{limit: maxCredential}, &boundedBuffer{}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	// What it started may go on and keep its output open.
	cmd.WaitDelay = 2 * time.Second
	err = cmd.Run()
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case limited.Err() != nil:
		return nil, p.fault(fmt.Sprintf("it did not end within %s%s", p.timeout, said(stderr)), limited.Err())
	case errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist):
		return nil, p.fault("it is not installed on this machine", err)
	case err != nil:
		return nil, p.fault(err.Error()+said(stderr), err)
	}
	var answer clientauthentication.ExecCredential
	if json.Unmarshal(stdout.bytes(), &answer) != nil || answer.Kind != pluginKind || answer.Status == nil {
		// What it printed may hold the credentials.
		return nil, p.fault("what it printed is no ExecCredential with a status", nil)
	}
	if s := answer.Status; s.Token == "" && (s.ClientCertificateData == "" || s.ClientKeyData == "") {
		return nil, p.fault("it gave neither a token nor a certificate with its key", nil)
	}
	return answer.Status, nil
}

func said(stderr *boundedBuffer) string {
	if s := stderr.String(); s != "" {
		return ": " + s
	}
	return ""
}

// environment is what the plugin gets: this process's environment without what is the publisher's, and what the kubeconfig
// sets for it. Clouds' variables stay, since it signs in by them, and so do those of GitHub's identity tokens (kubelogin).
func (p *plugin) environment(info string) []string {
	keep := []string{"ACTIONS_ID_TOKEN_REQUEST_"}
	env := slices.DeleteFunc(slices.Clone(p.environ), func(variable string) bool {
		begins := func(name string) bool { return strings.HasPrefix(strings.ToUpper(variable), name) }
		return slices.ContainsFunc(secretVariables, begins) && !slices.ContainsFunc(keep, begins) || strings.HasPrefix(variable, pluginInfo+"=")
	})
	for _, e := range p.exec.Env {
		env = append(env, e.Name+"="+e.Value)
	}
	return append(env, pluginInfo+"="+info)
}

// info is what a plugin is told: that nobody answers it, and if it wants that, which cluster it is for.
func (p *plugin) info() (string, error) {
	told := clientauthentication.ExecCredential{TypeMeta: metav1.TypeMeta{APIVersion: p.exec.APIVersion, Kind: pluginKind}}
	if p.exec.ProvideClusterInfo {
		whole := *p.config
		whole.ExecProvider = p.exec
		c, err := rest.ConfigToExecCluster(&whole)
		if err != nil {
			return "", err
		}
		told.Spec.Cluster = &clientauthentication.Cluster{Server: c.Server, TLSServerName: c.TLSServerName, InsecureSkipTLSVerify: c.InsecureSkipTLSVerify,
			CertificateAuthorityData: c.CertificateAuthorityData, ProxyURL: c.ProxyURL, DisableCompression: c.DisableCompression, Config: runtime.RawExtension{Object: c.Config}}
	}
	content, err := json.Marshal(told)
	return string(content), err
}

func (p *plugin) fault(cause string, err error) error {
	remedy := "Run it by itself with the arguments that the kubeconfig gives it, as the user that runs this."
	if hint := p.exec.InstallHint; hint != "" {
		remedy += " Who made the kubeconfig says: " + fault.Bounded(hint)
	}
	return &fault.Error{Code: fault.ClusterUnreachable, Op: "sign in by the kubeconfig's credential plugin", Object: fault.Bounded(p.exec.Command), Cause: fault.Bounded(cause), Remedy: remedy, Err: err}
}
