package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Way is how connectors' pods come by a pull secret.
type Way string

// The ways. The launcher's list is the one that Airbyte itself reads.
const (
	ByLauncher       Way = "launcher"
	ByServiceAccount Way = "service-account"
)

// Step is one change of an object in the cluster.
type Step struct {
	// Object is what is changed: "ConfigMap airbyte-airbyte-env in namespace airbyte".
	Object string
	// Change says how, in a person's words.
	Change string

	request request
	// env are variables to set with a restart of the launcher; restart tells that this is one.
	restart bool
	env     []map[string]any
}

// restartedAt is the annotation that kubectl rollout restart sets.
const restartedAt = "kubectl.kubernetes.io/restartedAt"

// Wiring is what it takes for connectors' pods to be given a pull secret.
type Wiring struct {
	// Release describes the Airbyte that was found, and Chart is the kind of its chart.
	Release string
	Chart   Chart
	// Namespace is where connectors' pods run, and so where the secret belongs.
	Namespace string
	// Steps are the changes to make; none when everything is right.
	Steps []Step
	// Notes are what somebody who makes them should know, as sentences.
	Notes []string
	// Values are Helm values with the same effect, as YAML.
	Values string
}

// Wiring finds out what it takes; it only reads.
func (c *Cluster) Wiring(ctx context.Context, secret string, way Way) (Wiring, error) {
	conn, err := c.connect()
	if err != nil {
		return Wiring{}, err
	}
	i, err := c.airbyte.get(ctx, conn)
	if err != nil {
		return Wiring{}, err
	}
	w := Wiring{Release: i.describe(), Chart: i.chart, Namespace: i.jobNamespace(), Values: i.helmValues(secret)}
	if way == ByServiceAccount {
		return w, conn.wireAccount(ctx, i, secret, &w)
	}
	return w, i.wireLauncher(secret, &w)
}

// Namespace is where connectors' pods run.
func (c *Cluster) Namespace(ctx context.Context) (string, error) {
	conn, err := c.connect()
	if err != nil {
		return "", err
	}
	i, err := c.airbyte.get(ctx, conn)
	if err != nil {
		return "", err
	}
	return i.jobNamespace(), nil
}

// Wire makes the changes, one after the other. Of a failure, the changes before it stand, and the next run makes the rest.
func (c *Cluster) Wire(ctx context.Context, w Wiring, done func(Step)) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	i, err := c.airbyte.get(ctx, conn)
	if err != nil {
		return err
	}
	written := c.options.Now()
	for _, s := range w.Steps {
		if s.restart {
			s.request.body = i.restart(written, s.env)
		}
		var changed struct{ Metadata metav1.ObjectMeta }
		if err := conn.call(ctx, s.request, &changed); err != nil {
			if f, ok := errors.AsType[*fault.Error](err); ok && f.Code == fault.FieldConflict {
				f.Remedy = "It was changed by somebody else at the same time: run again."
			}
			return err
		}
		// A restart is dated no earlier than the change that it is for, whatever this machine's clock says.
		if at := writtenByUs(changed.Metadata.ManagedFields); at.After(written) {
			written = at
		}
		done(s)
	}
	return nil
}

// restart is a change of the launcher's deployment that starts its pods anew, with more variables.
func (i *installation) restart(at time.Time, env []map[string]any) map[string]any {
	template := map[string]any{"metadata": map[string]any{"annotations": map[string]string{restartedAt: at.UTC().Format(time.RFC3339)}}}
	if len(env) > 0 {
		name := i.launcher.Spec.Template.Spec.Containers[i.container].Name
		template["spec"] = map[string]any{"containers": []map[string]any{{"name": name, "env": env}}}
	}
	return map[string]any{"spec": map[string]any{"template": template}}
}

// unread tells that the config map was changed by us and that the launcher was not restarted since, as when a run broke
// off between the two.
func (i *installation) unread(s setting) bool {
	at, err := time.Parse(time.RFC3339, i.launcher.Spec.Template.Annotations[restartedAt])
	return !s.written.IsZero() && (err != nil || at.Before(s.written))
}

// wireLauncher has the launcher name the secret: where its list comes from a config map, there; else in its deployment.
func (i *installation) wireLauncher(secret string, w *Wiring) error {
	held, present := i.settings[pullSecretVariable]
	list := strings.Join(append(i.named(), secret), ",")
	deployment := Step{Object: fmt.Sprintf("Deployment %s in namespace %s", i.launcher.Name, i.namespace), Change: "restart it, since it reads the list once", restart: true,
		request: request{method: http.MethodPatch, api: apps, namespace: i.namespace, resource: "deployments", name: i.launcher.Name, form: strategicPatch,
			query: url.Values{"fieldManager": {fieldManager}}, op: "change"}}
	if slices.Contains(i.named(), secret) {
		if i.unread(held) {
			w.Steps = append(w.Steps, deployment)
		}
		return nil
	}
	configMap := held.configMap
	switch {
	case held.opaque:
		return &fault.Error{Code: fault.FieldConflict, Op: "have connectors' pods use the secret", Object: secret,
			Cause:  "the launcher takes " + pullSecretVariable + " from where no list can be added to, such as a secret",
			Remedy: "Add the name where that value comes from, or set the Helm values instead:\n" + i.helmValues(secret)}
	case present && configMap == "":
		deployment.Change = fmt.Sprintf("set %s to %s, which restarts it", pullSecretVariable, list)
		deployment.env = []map[string]any{{"name": pullSecretVariable, "value": list}}
	case configMap == "":
		// Chart v1 leaves the variable out where the value is not set.
		configMap = i.release + "-airbyte-env"
		deployment.Change = fmt.Sprintf("take %s from that ConfigMap, which restarts it", pullSecretVariable)
		// Optional, so that the launcher still starts when Helm writes the config map anew, without the key.
		deployment.env = []map[string]any{{"name": pullSecretVariable, "valueFrom": map[string]any{
			"configMapKeyRef": map[string]any{"name": configMap, "key": pullSecretVariable, "optional": true}}}}
	}
	if configMap != "" {
		key := held.key
		if key == "" {
			key = pullSecretVariable
		}
		w.Steps = append(w.Steps, Step{Object: fmt.Sprintf("ConfigMap %s in namespace %s", configMap, i.namespace),
			Change: fmt.Sprintf("set %s to %s", key, list),
			request: request{method: http.MethodPatch, api: core, namespace: i.namespace, resource: "configmaps", name: configMap, form: mergePatch,
				query: url.Values{"fieldManager": {fieldManager}}, op: "change", body: map[string]any{"data": map[string]string{key: list}}}})
	}
	w.Steps = append(w.Steps, deployment)
	w.Notes = append(w.Notes, "The next helm upgrade writes "+configMap+" anew and drops the name again, since Helm reverts what it does not know: set the Helm values as well.")
	if i.abctl() {
		w.Notes = append(w.Notes, "For abctl put them into the file that abctl local install --values takes.")
	}
	return nil
}

// wireAccount adds the secret to the service account of connectors' pods.
func (c *connection) wireAccount(ctx context.Context, i *installation, secret string, w *Wiring) error {
	var account corev1.ServiceAccount
	if err := c.get(ctx, i.jobNamespace(), "serviceaccounts", i.serviceAccount(), &account); err != nil {
		return err
	}
	if names := i.named(); len(names) > 0 {
		return &fault.Error{Code: fault.FieldConflict, Op: "have connectors' pods use the secret", Object: secret,
			Cause: fmt.Sprintf("the launcher gives connectors' pods a list of its own (%s), and Kubernetes adds a service account's secrets only to pods that have none",
				strings.Join(names, ", ")), Remedy: "Add the secret to the launcher's list: --wire=launcher."}
	}
	w.Notes = append(w.Notes, "A launcher without pull secrets puts one empty name into its pods' list (read in Airbyte's and Micronaut's sources), and Kubernetes adds a service account's secrets only to pods"+
		" whose list is empty: prove by airbyte-publish verify-pull that this way works with your Airbyte, or take --wire=launcher.")
	if slices.ContainsFunc(account.ImagePullSecrets, func(r corev1.LocalObjectReference) bool { return r.Name == secret }) {
		return nil
	}
	// The API server replaces this list as a whole; the version keeps what somebody else adds at the same time.
	list := append(account.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})
	w.Steps = append(w.Steps, Step{Object: fmt.Sprintf("ServiceAccount %s in namespace %s", account.Name, i.jobNamespace()),
		Change: fmt.Sprintf("add %s to its imagePullSecrets", secret),
		request: request{method: http.MethodPatch, api: core, namespace: i.jobNamespace(), resource: "serviceaccounts", name: account.Name, form: mergePatch,
			query: url.Values{"fieldManager": {fieldManager}}, op: "change",
			body: map[string]any{"metadata": map[string]any{"resourceVersion": account.ResourceVersion}, "imagePullSecrets": list}}})
	w.Notes = append(w.Notes, "Helm leaves the account alone: the charts make it by a hook of the first installation only.")
	return nil
}
