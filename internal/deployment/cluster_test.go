package deployment_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func contains(s, part string) bool { return strings.Contains(s, part) }

func TestKubeconfigThatCantBeUsed(t *testing.T) {
	t.Parallel()
	home := t.TempDir()
	broken := filepath.Join(home, "broken")
	if err := os.WriteFile(broken, []byte("clusters: [}"), 0o600); err != nil {
		t.Fatal(err)
	}
	const secret = "hunter2-in-the-kubeconfig"
	text := []byte("apiVersion: v1\nkind: Config\nusers: [{name: u, user: {token: " + secret + "}}\n")
	for name, c := range map[string]struct {
		options deployment.ClusterOptions
		words   string
	}{
		"nothing":          {deployment.ClusterOptions{}, "there is no configuration"},
		"no such file":     {deployment.ClusterOptions{KubeconfigFile: filepath.Join(home, "missing")}, "no such file"},
		"broken file":      {deployment.ClusterOptions{KubeconfigFile: broken}, "yaml"},
		"broken text":      {deployment.ClusterOptions{Kubeconfig: text}, "its text is not a kubeconfig"},
		"no such context":  {deployment.ClusterOptions{Kubeconfig: kubeconfig("https://127.0.0.1:1"), Context: "other"}, "other"},
		"nothing answers":  {deployment.ClusterOptions{Kubeconfig: kubeconfig("https://127.0.0.1:1"), Namespace: "airbyte"}, "connection refused"},
		"pod without file": {deployment.ClusterOptions{Getenv: env("KUBERNETES_SERVICE_HOST", "10.0.0.1"), ServiceAccountDir: home}, "token"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := c.options
			if o.Getenv == nil {
				o.Getenv = env("HOME", home)
			}
			_, err := deployment.NewCluster(o).Namespace(t.Context())
			if fault.CodeOf(err) != fault.ClusterUnreachable || !contains(err.Error(), c.words) || fault.List(err)[0].Remedy == "" {
				t.Errorf("%v", err)
			}
			if contains(err.Error(), "KUBERNETES_MASTER") {
				t.Errorf("it advises what is not read: %v", err)
			}
			if contains(err.Error(), secret) {
				t.Errorf("the error shows a secret: %v", err)
			}
		})
	}
}

func env(name, value string) func(string) string {
	return func(k string) string {
		if k == name {
			return value
		}
		return ""
	}
}

func kubeconfig(server string) []byte {
	return []byte(`{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "` + server + `"}}], users: [{name: c, user: {token: hunter2}}],` +
		` contexts: [{name: c, context: {cluster: c, user: c}}]}`)
}
