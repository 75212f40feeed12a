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

	appsv1 "k8s.io/api/apps/v1"
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

	// act reads what there is right before it changes it. after is when the changes before it were written, by the API
	// server's clock. It returns what it changed, in place of Change, and when.
	act func(ctx context.Context, conn *connection, after time.Time) (changed string, at time.Time, err error)
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
	// Who may not list pods is told by what we wrote ourselves.
	pods, _ := conn.launcherPods(ctx, i)
	return w, i.wireLauncher(secret, pods, &w)
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

// Wire makes the changes, one after the other. Each begins from what is there then, so that two runs at once both add
// their names. Of a failure, the changes before it stand, and the next run makes the rest.
func (c *Cluster) Wire(ctx context.Context, w Wiring, done func(Step)) error {
	conn, err := c.connect()
	if err != nil {
		return err
	}
	written := c.options.Now()
	for _, s := range w.Steps {
		for attempt := 1; ; attempt++ {
			changed, at, err := s.act(ctx, conn, written)
			if isStatus(err, http.StatusConflict) && attempt < wireAttempts && c.options.Sleep(ctx, time.Duration(attempt)*100*time.Millisecond) == nil {
				continue
			}
			if f, ok := errors.AsType[*fault.Error](err); ok && isStatus(err, http.StatusConflict) {
				f.Remedy = "Others change it all the time: run again."
			}
			if err != nil {
				return err
			}
			// A restart is dated no earlier than the change that it is for, whatever this machine's clock says.
			if at.After(written) {
				written = at
			}
			if changed != "" {
				s.Change = changed
			}
			done(s)
			break
		}
	}
	return nil
}

// wireAttempts is how often a change is begun anew because somebody else was faster. A deployment's version changes with
// its status, too.
const wireAttempts = 10

// writtenByUs is when we wrote an object for the last time, by the API server's clock.
func writtenByUs(fields []metav1.ManagedFieldsEntry) time.Time {
	var at time.Time
	for _, f := range fields {
		if f.Manager == fieldManager && f.Time != nil && f.Time.After(at) {
			at = f.Time.Time
		}
	}
	return at
}

// patch changes an object and returns when that was.
func (c *connection) patch(ctx context.Context, api, namespace, resource, name, form string, body map[string]any) (time.Time, error) {
	var changed struct{ Metadata metav1.ObjectMeta }
	err := c.call(ctx, request{method: http.MethodPatch, api: api, namespace: namespace, resource: resource, name: name, form: form,
		query: url.Values{"fieldManager": {fieldManager}}, op: "change", body: body}, &changed)
	return writtenByUs(changed.Metadata.ManagedFields), err
}

// ofVersion is the part of a body that makes a change of another version than the one that was read a conflict.
func ofVersion(version string) map[string]any { return map[string]any{"resourceVersion": version} }

// addedTo is a list of names with one more.
func addedTo(list, name string) string {
	names := namesIn(list)
	if slices.Contains(names, name) {
		return list
	}
	return strings.Join(append(names, name), ",")
}

// restart is a change of the launcher's deployment that starts its pods anew, with more variables.
func (i *installation) restart(at time.Time, env ...map[string]any) map[string]any {
	template := map[string]any{"metadata": map[string]any{"annotations": map[string]string{restartedAt: at.UTC().Format(time.RFC3339)}}}
	if len(env) > 0 {
		name := i.launcher.Spec.Template.Spec.Containers[i.container].Name
		template["spec"] = map[string]any{"containers": []map[string]any{{"name": name, "env": env}}}
	}
	return map[string]any{"spec": map[string]any{"template": template}}
}

// restarts is a step that restarts the launcher, with more variables.
func (i *installation) restarts(change string, env ...map[string]any) Step {
	return Step{Object: fmt.Sprintf("Deployment %s in namespace %s", i.launcher.Name, i.namespace), Change: change,
		act: func(ctx context.Context, conn *connection, after time.Time) (string, time.Time, error) {
			written, err := conn.patch(ctx, apps, i.namespace, "deployments", i.launcher.Name, strategicPatch, i.restart(after, env...))
			return "", written, err
		}}
}

// addsToDeployment is a step that adds the name to the list which the launcher's deployment holds itself.
func (i *installation) addsToDeployment(secret string) Step {
	words := func(list string) string {
		return fmt.Sprintf("set %s to %s, which restarts it", pullSecretVariable, list)
	}
	s := i.restarts(words(addedTo(i.settings[pullSecretVariable].value, secret)))
	s.act = func(ctx context.Context, conn *connection, after time.Time) (string, time.Time, error) {
		now, value, err := conn.launcherValue(ctx, i)
		if err != nil {
			return "", time.Time{}, err
		}
		list := addedTo(value, secret)
		if list == value {
			// Somebody else has added it, which restarted the launcher.
			return words(list), time.Time{}, nil
		}
		body := i.restart(after, map[string]any{"name": pullSecretVariable, "value": list})
		body["metadata"] = ofVersion(now.ResourceVersion)
		written, err := conn.patch(ctx, apps, i.namespace, "deployments", i.launcher.Name, strategicPatch, body)
		return words(list), written, err
	}
	return s
}

// launcherValue reads the launcher's deployment as it is now, and the list that it holds itself.
func (c *connection) launcherValue(ctx context.Context, i *installation) (*appsv1.Deployment, string, error) {
	var all appsv1.DeploymentList
	// To list is a right that is there already, to get one would be another.
	if err := c.list(ctx, apps, i.namespace, "deployments", "", "metadata.name="+i.launcher.Name, &all); err != nil {
		return nil, "", err
	}
	name := i.launcher.Spec.Template.Spec.Containers[i.container].Name
	for n := range all.Items {
		for _, container := range all.Items[n].Spec.Template.Spec.Containers {
			for _, variable := range container.Env {
				if container.Name == name && variable.Name == pullSecretVariable && variable.ValueFrom == nil {
					return &all.Items[n], variable.Value, nil
				}
			}
		}
	}
	return nil, "", &fault.Error{Code: fault.FieldConflict, Op: "change", Object: fmt.Sprintf("deployment %s in namespace %s", i.launcher.Name, i.namespace),
		Cause: "its list of pull secrets was taken away or moved elsewhere at the same time", Remedy: "Run it again."}
}

// addsToConfigMap is a step that adds the name to the list in a config map.
func (i *installation) addsToConfigMap(configMap, key, secret string) Step {
	words := func(list string) string { return fmt.Sprintf("set %s to %s", key, list) }
	return Step{Object: fmt.Sprintf("ConfigMap %s in namespace %s", configMap, i.namespace), Change: words(addedTo(i.settings[pullSecretVariable].value, secret)),
		act: func(ctx context.Context, conn *connection, _ time.Time) (string, time.Time, error) {
			var now corev1.ConfigMap
			if err := conn.get(ctx, i.namespace, "configmaps", configMap, &now); err != nil {
				return "", time.Time{}, err
			}
			list := addedTo(now.Data[key], secret)
			if list == now.Data[key] {
				return words(list), changeOf(now.ManagedFields, key).at, nil
			}
			written, err := conn.patch(ctx, core, i.namespace, "configmaps", configMap, mergePatch, map[string]any{"metadata": ofVersion(now.ResourceVersion), "data": map[string]string{key: list}})
			return words(list), written, err
		}}
}

// wireLauncher has the launcher name the secret: where its list comes from a config map, there; else in its deployment.
func (i *installation) wireLauncher(secret string, pods []corev1.Pod, w *Wiring) error {
	held, present := i.settings[pullSecretVariable]
	if slices.Contains(i.named(), secret) {
		switch k, _ := i.knows(held, pods); k {
		case outdated:
			w.Steps = append(w.Steps, i.restarts("restart it, since it reads the list once and started before that was changed"))
		case doubtful:
			w.Steps = append(w.Steps, i.restarts("restart it, since it reads the list once and may have started before that was changed"))
		case restarting:
			w.Notes = append(w.Notes, "The launcher's restart was asked for and is not through: kubectl rollout status tells how far it is.")
		case known:
		}
		return nil
	}
	if held.opaque {
		return &fault.Error{Code: fault.FieldConflict, Op: "have connectors' pods use the secret", Object: secret,
			Cause:  "the launcher takes " + pullSecretVariable + " from where no list can be added to, such as a secret",
			Remedy: "Add the name where that value comes from, or set the Helm values instead:\n" + i.helmValues(secret)}
	}
	object := "the ConfigMap " + held.configMap
	switch {
	case held.configMap != "":
		w.Steps = append(w.Steps, i.addsToConfigMap(held.configMap, held.key, secret), i.restarts("restart it, since it reads the list once"))
	case present:
		object = "the Deployment " + i.launcher.Name
		w.Steps = append(w.Steps, i.addsToDeployment(secret))
	default:
		// Chart v1 leaves the variable out where the value is not set. It is made optional, so that the launcher still
		// starts when Helm writes the config map anew, without the key.
		configMap := i.release + "-airbyte-env"
		object = "the ConfigMap " + configMap
		w.Steps = append(w.Steps, i.addsToConfigMap(configMap, pullSecretVariable, secret),
			i.restarts(fmt.Sprintf("take %s from that ConfigMap, which restarts it", pullSecretVariable), map[string]any{"name": pullSecretVariable, "valueFrom": map[string]any{
				"configMapKeyRef": map[string]any{"name": configMap, "key": pullSecretVariable, "optional": true}}}))
	}
	w.Notes = append(w.Notes, "The next helm upgrade writes "+object+" anew and drops the name again, since Helm reverts what it does not know: set the Helm values as well.")
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
	w.Steps = append(w.Steps, Step{Object: fmt.Sprintf("ServiceAccount %s in namespace %s", account.Name, i.jobNamespace()),
		Change: fmt.Sprintf("add %s to its imagePullSecrets", secret),
		act: func(ctx context.Context, conn *connection, _ time.Time) (string, time.Time, error) {
			var now corev1.ServiceAccount
			if err := conn.get(ctx, i.jobNamespace(), "serviceaccounts", i.serviceAccount(), &now); err != nil {
				return "", time.Time{}, err
			}
			if slices.Contains(now.ImagePullSecrets, corev1.LocalObjectReference{Name: secret}) {
				return "", time.Time{}, nil
			}
			// The API server replaces this list as a whole; the version keeps what somebody else adds at the same time.
			written, err := conn.patch(ctx, core, i.jobNamespace(), "serviceaccounts", now.Name, mergePatch,
				map[string]any{"metadata": ofVersion(now.ResourceVersion), "imagePullSecrets": append(now.ImagePullSecrets, corev1.LocalObjectReference{Name: secret})})
			return "", written, err
		}})
	w.Notes = append(w.Notes, "Helm leaves the account alone: the charts make it by a hook of the first installation only.")
	return nil
}
