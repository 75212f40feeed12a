//go:build linux

package kubetest

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"k8s.io/apimachinery/pkg/util/yaml"
)

// Namespace is one test's part of a server.
type Namespace struct {
	*Server
	Name string
}

// Namespace makes a namespace that nothing else uses.
func (s *Server) Namespace(t testing.TB) Namespace {
	t.Helper()
	var made struct{ Metadata struct{ Name string } }
	s.Must(t, http.MethodPost, "/api/v1/namespaces", map[string]any{"apiVersion": "v1", "kind": "Namespace", "metadata": map[string]any{"generateName": "test-"}}, &made)
	return Namespace{Server: s, Name: made.Metadata.Name}
}

// kinds are the addresses of objects by their kind.
var kinds = map[string]string{
	"ConfigMap": "/api/v1/namespaces/%s/configmaps", "Secret": "/api/v1/namespaces/%s/secrets", "ServiceAccount": "/api/v1/namespaces/%s/serviceaccounts",
	"Pod": "/api/v1/namespaces/%s/pods", "Event": "/api/v1/namespaces/%s/events", "ResourceQuota": "/api/v1/namespaces/%s/resourcequotas",
	"Deployment": "/apis/apps/v1/namespaces/%s/deployments", "CronJob": "/apis/batch/v1/namespaces/%s/cronjobs",
	"Role": "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/roles", "RoleBinding": "/apis/rbac.authorization.k8s.io/v1/namespaces/%s/rolebindings",
}

// Path is the address of an object, or with an empty name of all of that kind.
func (n Namespace) Path(kind, name string) string {
	path, ok := kinds[kind]
	if !ok {
		panic("kubetest knows no " + kind)
	}
	path = fmt.Sprintf(path, n.Name)
	if name != "" {
		path += "/" + name
	}
	return path
}

// Apply makes the objects of a manifest in the namespace, as "kubectl -n NAMESPACE create -f" does.
func (n Namespace) Apply(t testing.TB, manifest string) {
	t.Helper()
	documents := yaml.NewYAMLOrJSONDecoder(strings.NewReader(manifest), 4096)
	for {
		var object map[string]any
		err := documents.Decode(&object)
		if errors.Is(err, io.EOF) {
			return
		}
		if err != nil {
			t.Fatalf("the manifest can't be read: %v", err)
		}
		if len(object) == 0 {
			continue
		}
		kind, _ := object["kind"].(string)
		n.Must(t, http.MethodPost, n.Path(kind, "")+"?fieldManager=kubectl-create", object, nil)
	}
}

// ApplyFile is Apply for a file; each pair is a text and what to replace it with.
func (n Namespace) ApplyFile(t testing.TB, file string, pairs ...string) {
	t.Helper()
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	n.Apply(t, strings.NewReplacer(pairs...).Replace(string(content)))
}

// Granted waits until the API server knows that the service account may do something in the namespace: it learns of roles
// and bindings a moment after they are written.
func (n Namespace) Granted(t testing.TB, account, verb, group, resource, name string) {
	t.Helper()
	review := map[string]any{"apiVersion": "authorization.k8s.io/v1", "kind": "SubjectAccessReview", "spec": map[string]any{
		"user":               "system:serviceaccount:" + n.Name + ":" + account,
		"resourceAttributes": map[string]string{"namespace": n.Name, "verb": verb, "group": group, "resource": resource, "name": name}}}
	for range 100 {
		var answer struct{ Status struct{ Allowed bool } }
		n.Must(t, http.MethodPost, "/apis/authorization.k8s.io/v1/subjectaccessreviews", review, &answer)
		if answer.Status.Allowed {
			return
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatalf("%s may not %s %s", account, verb, resource)
}

// Get reads an object; it tells whether it is there.
func (n Namespace) Get(t testing.TB, kind, name string, out any) bool {
	t.Helper()
	code, content, err := n.Do(http.MethodGet, n.Path(kind, name), "", nil)
	switch {
	case err != nil:
		t.Fatal(err)
	case code == http.StatusNotFound:
		return false
	case code != http.StatusOK:
		t.Fatalf("read %s %s: %d %s", kind, name, code, content)
	}
	if err := yaml.NewYAMLOrJSONDecoder(bytes.NewReader(content), 4096).Decode(out); err != nil {
		t.Fatal(err)
	}
	return true
}

// Token is one for a service account of the namespace, as a pod of it has.
func (n Namespace) Token(t testing.TB, account string) string {
	t.Helper()
	var answer struct{ Status struct{ Token string } }
	n.Must(t, http.MethodPost, n.Path("ServiceAccount", account)+"/token", map[string]any{"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": map[string]any{}}, &answer)
	return answer.Status.Token
}

// KubeconfigFile writes a kubeconfig for a service account of the namespace and returns its path.
func (n Namespace) KubeconfigFile(t testing.TB, account string) string {
	t.Helper()
	token := n.Admin
	if account != "" {
		token = n.Token(t, account)
	}
	path := filepath.Join(t.TempDir(), "kubeconfig")
	if err := os.WriteFile(path, n.Kubeconfig(token, n.Name), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}
