package deployment_test

import (
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
)

// TestEveryWayIn finds the same cluster by each way in which a cluster can be named.
func TestEveryWayIn(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	n.ApplyFile(t, rights+"doctor.yaml")
	n.Granted(t, "airbyte-publish-doctor", "list", "apps", "deployments", "")
	token := n.Token(t, "airbyte-publish-doctor")
	text := n.Kubeconfig(token, n.Name)
	home := t.TempDir()
	write := func(path string, content []byte) string {
		t.Helper()
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, content, 0o600); err != nil {
			t.Fatal(err)
		}
		return path
	}
	write(filepath.Join(home, ".kube", "config"), text)
	file := write(filepath.Join(home, "other"), text)
	account := filepath.Join(home, "account")
	for name, content := range map[string][]byte{"token": []byte(token), "ca.crt": n.CA, "namespace": []byte(n.Name)} {
		write(filepath.Join(account, name), content)
	}
	server, err := url.Parse(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	pod := map[string]string{"HOME": home, "KUBERNETES_SERVICE_HOST": server.Hostname(), "KUBERNETES_SERVICE_PORT": server.Port()}
	for name, o := range map[string]deployment.ClusterOptions{
		"text":             {Kubeconfig: text},
		"file":             {KubeconfigFile: file},
		"KUBECONFIG":       {Getenv: env("KUBECONFIG", filepath.Join(home, "missing")+string(filepath.ListSeparator)+file)},
		"a pod's own":      {Getenv: func(k string) string { return pod[k] }, ServiceAccountDir: account},
		"the home folder":  {Getenv: env("HOME", home)},
		"with its context": {Kubeconfig: text, Context: "test"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var mu sync.Mutex
			var secrets []string
			o.Secret = func(s ...string) {
				mu.Lock()
				defer mu.Unlock()
				secrets = append(secrets, s...)
			}
			namespace, err := deployment.NewCluster(o).Namespace(t.Context())
			if err != nil || namespace != n.Name {
				t.Errorf("%q, %v", namespace, err)
			}
			if !slices.Contains(secrets, token) {
				t.Error("the token was not told to be hidden")
			}
		})
	}
	// An administrator need not say which namespace it is, if there is one Airbyte only; here there are many.
	if _, err := deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: n.Kubeconfig(n.Admin, "")}).Namespace(t.Context()); err != nil && !contains(err.Error(), "there are several") {
		t.Error(err)
	}
}
