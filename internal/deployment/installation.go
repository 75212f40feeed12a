package deployment

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Chart is the kind of Helm chart that an Airbyte was installed by.
type Chart string

// The charts. A data plane is what runs the jobs of an Airbyte that is elsewhere.
const (
	ChartV1        Chart = "v1"
	ChartV2        Chart = "v2"
	ChartDataPlane Chart = "data plane"
	ChartUnknown   Chart = "unknown"
)

// The variables by which Airbyte's workload launcher is told how to make connectors' pods.
const (
	pullSecretVariable     = "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET"
	pullPolicyVariable     = "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_POLICY"
	namespaceVariable      = "JOB_KUBE_NAMESPACE"
	serviceAccountVariable = "JOB_KUBE_SERVICEACCOUNT"
	tolerationsVariable    = "JOB_KUBE_TOLERATIONS"
	registryVariable       = "JOB_KUBE_CONNECTOR_IMAGE_REGISTRY"
)

// installation is an Airbyte in the cluster, as far as it makes connectors' pods.
type installation struct {
	namespace, release string
	chart              Chart
	// label is the chart's name and version as Helm left it, or empty.
	label string
	// version is Airbyte's own, as the chart tells it, or empty.
	version  string
	launcher appsv1.Deployment
	// container is the launcher's own in its pods.
	container int
	settings  map[string]setting
}

// setting is one of the launcher's variables.
type setting struct {
	value string
	// configMap and key are where the value comes from, if it does.
	configMap, key string
	// changed is when the value there was last changed, as far as that can be told.
	changed change
	// missing says what the value was to come from and is not there.
	missing string
	// opaque tells that the value comes from where it can't be read, such as a secret.
	opaque bool
}

// abctl tells whether Airbyte's own installer made it, which has one name for all.
func (i *installation) abctl() bool {
	return i.release == "airbyte-abctl" || i.namespace == "airbyte-abctl"
}

func (i *installation) describe() string {
	s := fmt.Sprintf("release %s in namespace %s", i.release, i.namespace)
	switch {
	case i.abctl() && i.label != "":
		return s + ", abctl's, chart " + i.label
	case i.label != "":
		return s + ", chart " + i.label
	}
	return s
}

// find looks for the Airbyte in the namespace that is meant.
func (c *connection) find(ctx context.Context) (*installation, error) {
	namespace := c.namespace
	if namespace == "" {
		namespace = "default"
	}
	found, err := c.launchers(ctx, namespace)
	if f, ok := errors.AsType[*fault.Error](err); ok && f.Code == fault.ClusterDenied && c.namespace == "" {
		f.Remedy = "Set kube-namespace to the namespace that Airbyte is installed in: without it, default was looked into. " + f.Remedy
	}
	if err != nil {
		return nil, err
	}
	if len(found) == 0 && c.namespace == "" {
		// Nobody said which: an administrator may look into all.
		if everywhere, err := c.launchers(ctx, ""); err == nil {
			found = everywhere
		}
	}
	switch len(found) {
	case 1:
		return found[0], c.readSettings(ctx, found[0])
	case 0:
		return nil, &fault.Error{Code: fault.NoInstallation, Op: "find Airbyte in namespace", Object: namespace,
			Cause:  "it has no deployment of Airbyte's workload launcher",
			Remedy: "Set kube-namespace to the namespace that Airbyte is installed in (helm list -A shows it; abctl's is airbyte-abctl), and kube-context to its cluster. Airbyte before 0.57 has none."}
	}
	var names []string
	for _, i := range found {
		names = append(names, i.namespace+"/"+i.launcher.Name)
	}
	return nil, &fault.Error{Code: fault.NoInstallation, Op: "find Airbyte in namespace", Object: namespace,
		Cause: "there are several: " + fault.Bounded(strings.Join(names, ", ")), Remedy: "Set kube-namespace to the one that is meant."}
}

// launchers are the installations whose workload launcher is in the namespace; "" is all namespaces.
func (c *connection) launchers(ctx context.Context, namespace string) ([]*installation, error) {
	var all appsv1.DeploymentList
	if err := c.list(ctx, apps, namespace, "deployments", "", "", &all); err != nil {
		return nil, err
	}
	var found []*installation
	for _, d := range all.Items {
		n := slices.IndexFunc(d.Spec.Template.Spec.Containers, isLauncher(d))
		if n < 0 {
			continue
		}
		i := &installation{namespace: d.Namespace, launcher: d, container: n, label: d.Labels["helm.sh/chart"], version: d.Labels["app.kubernetes.io/version"]}
		i.release = d.Labels["app.kubernetes.io/instance"]
		if i.release == "" {
			i.release = strings.TrimSuffix(d.Name, "-workload-launcher")
		}
		i.chart = chartOf(i.label)
		found = append(found, i)
	}
	return found, nil
}

// isLauncher knows a launcher's container by the names that the charts give to it, its deployment or its image.
func isLauncher(d appsv1.Deployment) func(corev1.Container) bool {
	return func(c corev1.Container) bool {
		return strings.Contains(c.Name, "workload-launcher") || strings.Contains(c.Image, "/workload-launcher:") ||
			len(d.Spec.Template.Spec.Containers) == 1 && strings.HasSuffix(d.Name, "-workload-launcher")
	}
}

// chartOf tells the charts apart by what Helm wrote: in v1 each part was a chart of its own.
func chartOf(label string) Chart {
	switch {
	case strings.HasPrefix(label, "airbyte-data-plane-"):
		return ChartDataPlane
	case strings.HasPrefix(label, "workload-launcher-"), strings.HasPrefix(label, "airbyte-1."), strings.HasPrefix(label, "airbyte-0."):
		return ChartV1
	case strings.HasPrefix(label, "airbyte-"):
		return ChartV2
	}
	return ChartUnknown
}

// readSettings finds the values of the launcher's variables, from wherever they come.
func (c *connection) readSettings(ctx context.Context, i *installation) error {
	container := i.launcher.Spec.Template.Spec.Containers[i.container]
	held := configMaps{read: map[string]*corev1.ConfigMap{}, conn: c, namespace: i.namespace}
	i.settings = map[string]setting{}
	for _, from := range container.EnvFrom {
		if from.ConfigMapRef == nil {
			continue
		}
		all, err := held.get(ctx, from.ConfigMapRef.Name)
		if err != nil {
			return err
		}
		for key, value := range all.Data {
			i.settings[from.Prefix+key] = setting{value: value, configMap: all.Name, key: key, changed: changeOf(all.ManagedFields, key)}
		}
	}
	for _, variable := range container.Env {
		if !strings.Contains(variable.Name, "JOB_") {
			continue
		}
		s, err := held.resolve(ctx, variable)
		if err != nil {
			return err
		}
		i.settings[variable.Name] = s
	}
	return nil
}

// configMaps are those of a namespace that were read.
type configMaps struct {
	conn      *connection
	namespace string
	read      map[string]*corev1.ConfigMap
}

// get reads a config map; one that is not there has no name.
func (m configMaps) get(ctx context.Context, name string) (*corev1.ConfigMap, error) {
	if held, ok := m.read[name]; ok {
		return held, nil
	}
	held := &corev1.ConfigMap{}
	if err := m.conn.get(ctx, m.namespace, "configmaps", name, held); err != nil && !isStatus(err, http.StatusNotFound) {
		return nil, err
	}
	m.read[name] = held
	return held, nil
}

func (m configMaps) resolve(ctx context.Context, variable corev1.EnvVar) (setting, error) {
	from := variable.ValueFrom
	switch {
	case from == nil:
		return setting{value: variable.Value}, nil
	case from.ConfigMapKeyRef != nil:
		ref := from.ConfigMapKeyRef
		held, err := m.get(ctx, ref.Name)
		if err != nil {
			return setting{}, err
		}
		value, ok := held.Data[ref.Key]
		s := setting{value: value, configMap: ref.Name, key: ref.Key, changed: changeOf(held.ManagedFields, ref.Key)}
		if optional := ref.Optional != nil && *ref.Optional; !ok && !optional {
			s.missing = fmt.Sprintf("key %s of ConfigMap %s", ref.Key, ref.Name)
		}
		if held.Name == "" {
			s.missing = "ConfigMap " + ref.Name
		}
		return s, nil
	case from.FieldRef != nil && from.FieldRef.FieldPath == "metadata.namespace":
		return setting{value: m.namespace}, nil
	}
	return setting{opaque: true}, nil
}

// value is a variable's, or the default where the launcher has none or an empty one.
func (i *installation) value(variable, otherwise string) string {
	if v := i.settings[variable].value; v != "" {
		return v
	}
	return otherwise
}

// The launcher's own defaults, in its application.yml.
const (
	defaultServiceAccount = "airbyte-admin"
	defaultPullPolicy     = "IfNotPresent"
)

func (i *installation) jobNamespace() string {
	return i.value(namespaceVariable, i.namespace)
}

func (i *installation) serviceAccount() string {
	return i.value(serviceAccountVariable, defaultServiceAccount)
}

// pullSecrets are the names of the secrets that connectors' pods are given, as the launcher reads them. Its framework
// splits the value at commas and makes one empty name of an empty value, and that empty name goes into the pods: they
// then have a list of their own, and Kubernetes adds the service account's secrets only to pods that have none.
func (i *installation) pullSecrets() []string {
	return split(i.settings[pullSecretVariable].value)
}

func split(value string) []string {
	names := strings.Split(value, ",")
	// Java's split drops what is empty at the end, but not the only one.
	for len(names) > 1 && names[len(names)-1] == "" {
		names = names[:len(names)-1]
	}
	return names
}

// named are the pull secrets without empty names.
func (i *installation) named() []string { return namesIn(i.settings[pullSecretVariable].value) }

func namesIn(value string) []string {
	return slices.DeleteFunc(split(value), func(n string) bool { return strings.TrimSpace(n) == "" })
}

// specific is the variable's value for spec pods, or that for all pods.
func (i *installation) specific(variable string) string {
	return i.value("SPEC_"+variable, i.value(variable, ""))
}

// pairs reads "key=value,key=value".
func pairs(text string) map[string]string {
	all := map[string]string{}
	for item := range strings.SplitSeq(text, ",") {
		if key, value, ok := strings.Cut(strings.TrimSpace(item), "="); ok && key != "" {
			all[key] = value
		}
	}
	return all
}

// tolerations reads "key=k,operator=Equal,value=v,effect=NoSchedule;…".
func tolerations(text string) []corev1.Toleration {
	var all []corev1.Toleration
	for item := range strings.SplitSeq(text, ";") {
		p := pairs(item)
		if len(p) == 0 {
			continue
		}
		all = append(all, corev1.Toleration{Key: p["key"], Operator: corev1.TolerationOperator(p["operator"]), Value: p["value"],
			Effect: corev1.TaintEffect(p["effect"])})
	}
	return all
}

// resources are the requests and limits of connectors' main container, without what can't be read.
func (i *installation) resources() corev1.ResourceRequirements {
	all := corev1.ResourceRequirements{Requests: corev1.ResourceList{}, Limits: corev1.ResourceList{}}
	for variable, into := range map[string]struct {
		list corev1.ResourceList
		name corev1.ResourceName
	}{
		"JOB_MAIN_CONTAINER_CPU_REQUEST":    {all.Requests, corev1.ResourceCPU},
		"JOB_MAIN_CONTAINER_CPU_LIMIT":      {all.Limits, corev1.ResourceCPU},
		"JOB_MAIN_CONTAINER_MEMORY_REQUEST": {all.Requests, corev1.ResourceMemory},
		"JOB_MAIN_CONTAINER_MEMORY_LIMIT":   {all.Limits, corev1.ResourceMemory},
	} {
		if q, err := resource.ParseQuantity(i.specific(variable)); err == nil {
			into.list[into.name] = q
		}
	}
	return all
}

// jobLabels and jobAnnotations are those that connectors' pods are given by the installation.
func (i *installation) jobLabels() map[string]string {
	return maps.Clone(pairs(i.specific("JOB_KUBE_LABELS")))
}

func (i *installation) jobAnnotations() map[string]string {
	return maps.Clone(pairs(i.specific("JOB_KUBE_ANNOTATIONS")))
}

// installationOf finds the installation once for all who ask; a failure is told to each of them anew.
type installationOf struct {
	mu    sync.Mutex
	found *installation
}

func (o *installationOf) get(ctx context.Context, c *connection) (*installation, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.found == nil {
		found, err := c.find(ctx)
		if err != nil {
			return nil, err
		}
		o.found = found
	}
	return o.found, nil
}
