package deployment_test

import (
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// rights is the folder of the documented manifests, which the tests run with.
const rights = "../../docs/kubernetes/"

// as makes a cluster's client for somebody with exactly the documented rights of the verb.
func as(t *testing.T, n kubetest.Namespace, verb string, change ...func(*deployment.ClusterOptions)) *deployment.Cluster {
	t.Helper()
	n.ApplyFile(t, rights+verb+".yaml", "[airbyte-airbyte-env]", "[airbyte-airbyte-env, airbyte-abctl-airbyte-env]", "[airbyte-workload-launcher]",
		"[airbyte-workload-launcher, airbyte-abctl-workload-launcher]")
	account := "airbyte-publish-" + verb
	n.Granted(t, account, "list", "apps", "deployments", "")
	return client(n, n.Token(t, account), verb, change...)
}

func client(n kubetest.Namespace, token, verb string, change ...func(*deployment.ClusterOptions)) *deployment.Cluster {
	o := deployment.ClusterOptions{Kubeconfig: n.Kubeconfig(token, n.Name), Verb: verb, UserAgent: "airbyte-publish/test",
		Patience: 2 * time.Second, Deadline: 20 * time.Second, Poll: 100 * time.Millisecond}
	for _, c := range change {
		c(&o)
	}
	return deployment.NewCluster(o)
}

// notes is a log that keeps what it is told.
type notes struct {
	mu    sync.Mutex
	lines []string
}

func (n *notes) Group(string) func() { return func() {} }
func (n *notes) Info(format string, args ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.lines = append(n.lines, fmt.Sprintf(format, args...))
}
func (n *notes) Finding(f connector.Finding)  { n.Info("%s", f.Message) }
func (n *notes) Untrusted(title, text string) { n.Info("%s: %s", title, text) }
func (n *notes) String() string               { n.mu.Lock(); defer n.mu.Unlock(); return strings.Join(n.lines, "\n") }

// has fails the test unless the error is a fault with the code that holds all the words.
func has(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	if got := fault.CodeOf(err); got != code {
		t.Fatalf("code %s, want %s: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("the error lacks %q: %v", w, err)
		}
	}
}

// noPods fails the test if a pod of ours is left.
func noPods(t *testing.T, n kubetest.Namespace) {
	t.Helper()
	var all corev1.PodList
	n.Must(t, "GET", n.Path("Pod", "")+"?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dairbyte-publish", nil, &all)
	for _, p := range all.Items {
		t.Errorf("the pod %s is left", p.Name)
	}
}
