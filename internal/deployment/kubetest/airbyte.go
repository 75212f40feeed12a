//go:build linux

package kubetest

import (
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"
)

// Airbyte is what the charts install of an Airbyte, as far as it has to do with connectors' pods. The zero value is that
// of chart v2 with the release name "airbyte".
type Airbyte struct {
	// Release is the Helm release; abctl's is "airbyte-abctl".
	Release string
	// Chart is "v1" or "v2".
	Chart string
	// Version is Airbyte's.
	Version string
	// PullSecrets is the value of JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET. Chart v1 leaves the variable out where it is
	// empty.
	PullSecrets string
	// ChartSecrets are the chart's imagePullSecrets, which its own pods have.
	ChartSecrets []string
	// Settings go into the config map and the launcher's variables.
	Settings map[string]string
	// NoConfigMap, NoServiceAccount and NoLauncher leave something out.
	NoConfigMap, NoServiceAccount, NoLauncher bool
	// AccountSecrets are the service account's imagePullSecrets.
	AccountSecrets []string
	// NotReady tells that the launcher's pod does not run.
	NotReady bool
}

const pullSecret = "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET"

// Install lays the Airbyte out.
func (n Namespace) Install(t testing.TB, a Airbyte) {
	t.Helper()
	if a.Release == "" {
		a.Release = "airbyte"
	}
	if a.Chart == "" {
		a.Chart = "v2"
	}
	if a.Version == "" {
		a.Version = map[string]string{"v1": "1.8.1", "v2": "2.0.1"}[a.Chart]
	}
	settings := map[string]string{"AIRBYTE_VERSION": a.Version, "JOB_MAIN_CONTAINER_CPU_LIMIT": "", "JOB_MAIN_CONTAINER_MEMORY_REQUEST": ""}
	if a.Chart == "v2" {
		maps.Copy(settings, map[string]string{"JOB_KUBE_SERVICEACCOUNT": "airbyte-admin", "JOB_KUBE_NODE_SELECTORS": "", "JOB_KUBE_TOLERATIONS": "", "JOB_KUBE_LABELS": "",
			"JOB_KUBE_ANNOTATIONS": "", "JOB_KUBE_CONNECTOR_IMAGE_REGISTRY": ""})
	}
	if a.Chart == "v2" || a.PullSecrets != "" {
		settings[pullSecret] = a.PullSecrets
	}
	maps.Copy(settings, a.Settings)
	var b strings.Builder
	if !a.NoConfigMap {
		a.configMap(&b, settings)
	}
	if !a.NoServiceAccount {
		a.serviceAccount(&b)
	}
	if !a.NoLauncher {
		a.launcher(&b, settings)
	}
	n.Apply(t, b.String())
	if !a.NoLauncher && !a.NotReady {
		n.ready(t, a.Release+"-workload-launcher")
	}
}

// labels are those that Helm's charts give to the part: in v1 each part is a chart of its own.
func (a Airbyte) labels(part string) string {
	chart, name := "airbyte-"+a.Version, part
	if a.Chart == "v1" && part != "airbyte" {
		chart = part + "-" + a.Version
	}
	return fmt.Sprintf("{helm.sh/chart: %q, app.kubernetes.io/name: %s, app.kubernetes.io/instance: %s, app.kubernetes.io/version: %q, app.kubernetes.io/managed-by: Helm}",
		chart, name, a.Release, a.Version)
}

func (a Airbyte) configMap(b *strings.Builder, settings map[string]string) {
	hook := ""
	if a.Chart == "v1" {
		hook = `
  annotations: {helm.sh/hook: "pre-install,pre-upgrade", helm.sh/hook-weight: "-1"}`
	}
	fmt.Fprintf(b, "---\napiVersion: v1\nkind: ConfigMap\nmetadata:\n  name: %s-airbyte-env%s\n  labels: %s\ndata:\n", a.Release, hook, a.labels("airbyte"))
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(b, "  %s: %q\n", key, settings[key])
	}
}

func (a Airbyte) serviceAccount(b *strings.Builder) {
	fmt.Fprintf(b, "---\napiVersion: v1\nkind: ServiceAccount\nmetadata:\n  name: airbyte-admin\n  labels: %s\n  annotations: {helm.sh/hook: pre-install, helm.sh/hook-weight: \"-10\"}\n", a.labels("airbyte"))
	if len(a.AccountSecrets) > 0 {
		b.WriteString("imagePullSecrets:\n")
		for _, s := range a.AccountSecrets {
			fmt.Fprintf(b, "- name: %s\n", s)
		}
	}
}

func (a Airbyte) launcher(b *strings.Builder, settings map[string]string) {
	selector := fmt.Sprintf("{app.kubernetes.io/name: workload-launcher, app.kubernetes.io/instance: %s}", a.Release)
	fmt.Fprintf(b, `---
apiVersion: apps/v1
kind: Deployment
metadata:
  name: %[1]s-workload-launcher
  labels: %[2]s
spec:
  replicas: 1
  strategy: {type: Recreate}
  selector: {matchLabels: %[3]s}
  template:
    metadata: {labels: %[3]s}
    spec:
      serviceAccountName: airbyte-admin
      automountServiceAccountToken: true
      imagePullSecrets: [%[5]s]
      containers:
      - name: airbyte-workload-launcher-container
        image: airbyte/workload-launcher:%[4]s
        env:
        - {name: JOB_KUBE_NAMESPACE, valueFrom: {fieldRef: {fieldPath: metadata.namespace}}}
        - {name: WORKLOAD_API_BEARER_TOKEN, valueFrom: {secretKeyRef: {name: %[1]s-airbyte-secrets, key: WORKLOAD_API_BEARER_TOKEN}}}
`, a.Release, a.labels("workload-launcher"), selector, a.Version, references(a.ChartSecrets))
	if a.Chart == "v1" {
		b.WriteString("        - {name: JOB_KUBE_SERVICEACCOUNT, value: airbyte-admin}\n")
	}
	for _, key := range slices.Sorted(maps.Keys(settings)) {
		fmt.Fprintf(b, "        - {name: %s, valueFrom: {configMapKeyRef: {name: %s-airbyte-env, key: %s}}}\n", key, a.Release, key)
	}
}

func references(names []string) string {
	var all []string
	for _, n := range names {
		all = append(all, "{name: "+n+"}")
	}
	return strings.Join(all, ", ")
}

// ready plays the controllers that a real cluster has: the deployment has its pod.
func (n Namespace) ready(t testing.TB, deployment string) {
	t.Helper()
	n.Must(t, http.MethodPatch, n.Path("Deployment", deployment)+"/status", map[string]any{"status": map[string]any{
		"observedGeneration": 1, "replicas": 1, "updatedReplicas": 1, "readyReplicas": 1, "availableReplicas": 1,
		"conditions": []any{map[string]any{"type": "Available", "status": "True", "reason": "MinimumReplicasAvailable"}}}}, nil)
}

// LauncherPod makes the pod of a launcher, started at that time.
func (n Namespace) LauncherPod(t testing.TB, release string, started time.Time) {
	t.Helper()
	name := release + "-workload-launcher-6b9f7c9d5-x7xqk"
	n.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata:
  name: %s
  labels: {app.kubernetes.io/name: workload-launcher, app.kubernetes.io/instance: %s}
spec:
  serviceAccountName: airbyte-admin
  containers: [{name: airbyte-workload-launcher-container, image: "airbyte/workload-launcher:2.0.1"}]
`, name, release))
	n.Must(t, http.MethodPatch, n.Path("Pod", name)+"/status", map[string]any{"status": map[string]any{"phase": "Running", "startTime": started.UTC().Format(time.RFC3339)}}, nil)
}
