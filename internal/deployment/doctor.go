package deployment

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"slices"
	"strings"
	"time"

	authorizationv1 "k8s.io/api/authorization/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// area is the heading of what is looked at here.
const area = "Kubernetes"

// doctor looks at a cluster and writes down what it finds. It only reads.
type doctor struct {
	cluster *Cluster
	conn    *connection
	images  []Image
	checks  []connector.Check
}

// Doctor looks at everything that decides whether connectors' pods can pull the images: the cluster, Airbyte in it, its
// wiring and its pull secrets. Without images it looks at what is the same for all. It only reads.
func (c *Cluster) Doctor(ctx context.Context, images []Image) []connector.Check {
	d := &doctor{cluster: c, images: images}
	conn, err := c.connect()
	if err != nil {
		return append(d.checks, connector.Failed(area, "cluster", err))
	}
	d.conn = conn
	var v version.Info
	if err := conn.call(ctx, request{method: http.MethodGet, api: "version", op: "read the version of"}, &v); err != nil {
		return append(d.checks, connector.Failed(area, "cluster", err))
	}
	d.good("cluster", fmt.Sprintf("Kubernetes %s at %s", fault.Bounded(v.GitVersion), conn.base.Host))
	i, err := c.airbyte.get(ctx, conn)
	if err != nil {
		return append(d.checks, connector.Failed(area, "Airbyte", err))
	}
	d.airbyte(i)
	d.settings(i)
	d.account(ctx, i)
	d.secrets(ctx, i)
	d.restart(ctx, i)
	d.jobPods(ctx, i)
	d.rights(ctx, i)
	return d.checks
}

func (d *doctor) add(name string, state connector.State, found, remedy string, code fault.Code) {
	d.checks = append(d.checks, connector.Check{Area: area, Name: name, State: state, Found: found, Remedy: remedy, Code: code})
}

func (d *doctor) good(name, found string) { d.add(name, connector.Good, found, "", "") }

// unread writes down what could not be read: a missing right is no fault of the set-up.
func (d *doctor) unread(name string, err error) {
	if fault.CodeOf(err) == fault.ClusterDenied {
		c := connector.Failed(area, name, err)
		c.State = connector.Skipped
		d.checks = append(d.checks, c)
		return
	}
	d.checks = append(d.checks, connector.Failed(area, name, err))
}

func (d *doctor) airbyte(i *installation) {
	found := i.describe()
	if i.version != "" {
		found += ", version " + i.version
	}
	d.good("Airbyte", fault.Bounded(found))
	status := i.launcher.Status
	switch {
	case i.launcher.Spec.Replicas != nil && *i.launcher.Spec.Replicas == 0:
		d.add("workload launcher", connector.Bad, i.launcher.Name+" is scaled to 0, so that no connector's pod is ever started",
			fmt.Sprintf("kubectl -n %s scale deployment %s --replicas 1", i.namespace, i.launcher.Name), "")
	case status.AvailableReplicas == 0:
		d.add("workload launcher", connector.Bad, i.launcher.Name+" has no pod that is ready, so that no connector's pod is started",
			fmt.Sprintf("kubectl -n %s describe pods -l app.kubernetes.io/name=workload-launcher tells why.", i.namespace), "")
	default:
		d.good("workload launcher", fmt.Sprintf("%s has %d ready", i.launcher.Name, status.AvailableReplicas))
	}
}

// settings looks at the launcher's variables about pulling.
func (d *doctor) settings(i *installation) {
	missing := map[string]bool{}
	for _, s := range i.settings {
		if s.missing != "" {
			missing[s.missing] = true
		}
	}
	if len(missing) == 0 {
		d.good("settings", "all that the launcher takes from config maps is there")
	} else {
		names := make([]string, 0, len(missing))
		for name := range missing {
			names = append(names, name)
		}
		slices.Sort(names)
		d.add("settings", connector.Bad, fault.Bounded("the launcher can't start anew, for these are not there: "+strings.Join(names, ", ")),
			"Helm makes them: run helm upgrade with the release's values.", fault.NoInstallation)
	}
	d.registryPrefix(i)
	if policy := i.value(pullPolicyVariable, defaultPullPolicy); policy == "Never" {
		d.add("pull policy", connector.Bad, "connectors' images are never pulled ("+pullPolicyVariable+" is Never)", "Set global.jobs.kube.mainContainerImagePullPolicy to IfNotPresent.", "")
	} else {
		d.good("pull policy", policy)
	}
}

// registryPrefix looks at the registry that Airbyte puts before repositories that name none.
func (d *doctor) registryPrefix(i *installation) {
	registry := i.value(registryVariable, "")
	if registry == "" {
		d.good("image registry", "Airbyte puts no registry before repositories")
		return
	}
	for _, image := range d.images {
		first, _, _ := strings.Cut(string(image.Repository), "/")
		if !strings.ContainsAny(first, ".:") && first != "localhost" {
			d.add("image registry", connector.Bad, fmt.Sprintf("Airbyte pulls %s/%s instead of %s", registry, image.Repository, image.Repository),
				"Publish and register the repository with its registry.", fault.BadRepository)
			return
		}
	}
	d.good("image registry", fault.Bounded("Airbyte puts "+registry+" before repositories that name no registry; yours name one"))
}

func (d *doctor) account(ctx context.Context, i *installation) {
	var account corev1.ServiceAccount
	err := d.conn.get(ctx, i.jobNamespace(), "serviceaccounts", i.serviceAccount(), &account)
	switch {
	case isStatus(err, http.StatusNotFound):
		d.add("service account", connector.Bad, fmt.Sprintf("%s is not in namespace %s, so that no connector's pod can be made", i.serviceAccount(), i.jobNamespace()),
			"Helm makes it when it installs (serviceAccount.create); make it, with the rights that the chart gives to it.", "")
		return
	case err != nil:
		d.unread("service account", err)
		return
	}
	var own []string
	for _, r := range account.ImagePullSecrets {
		own = append(own, r.Name)
	}
	if len(own) == 0 {
		d.good("service account", account.Name)
		return
	}
	// A launcher's pods always have a list, be it of one empty name.
	var ignored []string
	for _, name := range own {
		if !slices.Contains(i.named(), name) {
			ignored = append(ignored, name)
		}
	}
	if len(ignored) == 0 {
		d.good("service account", account.Name+" with imagePullSecrets "+strings.Join(own, ", "))
		return
	}
	d.add("service account", connector.Doubt, fault.Bounded(fmt.Sprintf("%s has imagePullSecrets %s, which likely do not reach connectors' pods: those have a list of their own, from %s",
		account.Name, strings.Join(ignored, ", "), pullSecretVariable)), "Name the secret in the launcher's list: airbyte-publish pull-secret --apply --wire.", fault.DeploymentDenied)
}

// secrets looks at the pull secrets that connectors' pods are given, and whether they hold the images' registries.
func (d *doctor) secrets(ctx context.Context, i *installation) {
	names := i.named()
	var keys []string
	complete := true
	for _, name := range names {
		found, ok := d.secret(ctx, i, name)
		keys = append(keys, found...)
		complete = complete && ok
	}
	if len(names) == 0 && len(d.images) == 0 {
		d.good("pull secrets", "connectors' pods are given none: images must be public, or the nodes have rights of their own")
	}
	for _, image := range d.images {
		d.covered(i, image, names, keys, complete)
	}
}

// covered looks whether a pull secret is for the image.
func (d *doctor) covered(i *installation, image Image, names, keys []string, complete bool) {
	name := "pull secret for " + image.host()
	if slices.ContainsFunc(keys, func(k string) bool { return covers(k, image) }) {
		d.good(name, "there is one")
		return
	}
	a := adviceFor(image.host())
	for _, k := range keys {
		if a.name == "Docker Hub" && strings.Contains(k, "docker.io") || a.name != "Docker Hub" && strings.Contains(k, image.host()) {
			d.add(name, connector.Bad, fault.Bounded(fmt.Sprintf("the entry %q does not fit %s", k, image.Repository)),
				"The entry's key must be "+authKey(image.host())+": airbyte-publish pull-secret --apply writes it so.", fault.BadPullSecret)
			return
		}
	}
	switch {
	case !complete:
		d.add(name, connector.Skipped, "not in the pull secrets that could be read", "", "")
	case len(names) == 0:
		d.add(name, connector.Doubt, "connectors' pods are given no pull secret, so that only public images can be pulled, and those that the nodes have a right to",
			a.denied+" airbyte-publish verify-pull proves it either way.", fault.DeploymentDenied)
	default:
		d.add(name, connector.Bad, fault.Bounded(fmt.Sprintf("none of %s holds %s", strings.Join(names, ", "), image.host())),
			fmt.Sprintf("airbyte-publish pull-secret --apply adds it to a secret in namespace %s. %s", i.jobNamespace(), a.denied), fault.DeploymentDenied)
	}
}

// secret looks at one pull secret and returns the keys of its entries; ok is false where it can't be told what it holds.
func (d *doctor) secret(ctx context.Context, i *installation, name string) (keys []string, ok bool) {
	row := "pull secret " + name
	bad := func(found, remedy string) ([]string, bool) {
		d.add(row, connector.Bad, fault.Bounded(found), remedy, fault.BadPullSecret)
		return nil, false
	}
	if name != strings.TrimSpace(name) {
		return bad(fmt.Sprintf("its name in %s is %q, with a space", pullSecretVariable, name), "Write the names with commas and without spaces between them.")
	}
	if inner, ok := strings.CutPrefix(name, "map[name:"); ok {
		return bad(fmt.Sprintf("the chart wrote %q where the name %q belongs", name, strings.TrimSuffix(inner, "]")),
			"This chart can't take global.imagePullSecrets for connectors' pods: set global.jobs.kube.mainContainerImagePullSecret instead, or upgrade it.")
	}
	var held corev1.Secret
	err := d.conn.get(ctx, i.jobNamespace(), "secrets", name, &held)
	switch {
	case isStatus(err, http.StatusNotFound):
		return bad(fmt.Sprintf("Airbyte names it, and it is not in namespace %s", i.jobNamespace()), "airbyte-publish pull-secret --apply makes it, or take it off the list.")
	case err != nil:
		d.unread(row, err)
		return nil, false
	case held.Type != corev1.SecretTypeDockerConfigJson && held.Type != corev1.SecretTypeDockercfg:
		return bad(fmt.Sprintf("its type is %s, which a kubelet passes over", held.Type), "A pull secret has the type kubernetes.io/dockerconfigjson: make it anew by airbyte-publish pull-secret --apply.")
	case held.Type == corev1.SecretTypeDockercfg:
		d.good(row, "in the old form kubernetes.io/dockercfg")
		return nil, false
	}
	config, err := parseDockerConfig(held.Data[configKey])
	if err != nil {
		return bad("what it holds can't be read: "+err.Error(), "Make it anew by airbyte-publish pull-secret --apply.")
	}
	if len(config.auths) == 0 {
		return bad("it holds no registry", "Add one by airbyte-publish pull-secret --apply.")
	}
	for key, raw := range config.auths {
		keys = append(keys, key)
		user, password, readable := readEntry(raw)
		if !readable || password == "" {
			return bad(fmt.Sprintf("its entry %q holds no user name and password", key), "Make the entry anew by airbyte-publish pull-secret --apply.")
		}
		if why := d.ending(Credentials{Host: entryHost(key), Username: user, Password: password}, held); why != "" {
			d.add(row, connector.Bad, fault.Bounded(fmt.Sprintf("its entry %q does not last: %s", key, why)), adviceFor(entryHost(key)).lasting, fault.ShortLivedCredentials)
			return keys, true
		}
	}
	slices.Sort(keys)
	d.good(row, fault.Bounded("holds "+strings.Join(keys, ", ")))
	return keys, true
}

// ending says why credentials that are in the cluster do not last. ECR's are right where something renews them: those
// that are young enough have been renewed.
func (d *doctor) ending(c Credentials, held corev1.Secret) string {
	now := d.cluster.options.Now()
	if adviceFor(c.Host).none {
		// Who only put a label on it has renewed nothing.
		written := held.CreationTimestamp.Time
		if c := changeOf(held.ManagedFields, configKey); c.at.After(written) {
			written = c.at
		}
		if age := now.Sub(written); age > 12*time.Hour {
			return fmt.Sprintf("a token of ECR ends after 12 hours, and this one was written %s ago", age.Round(time.Hour))
		}
		return ""
	}
	return c.short(func(string) string { return "" }, now)
}

// restart looks whether the launcher started before its list was changed for the last time: it reads it once.
func (d *doctor) restart(ctx context.Context, i *installation) {
	held := i.settings[pullSecretVariable]
	if held.configMap == "" {
		return
	}
	const name = "launcher's start"
	pods, err := d.conn.launcherPods(ctx, i)
	if err != nil {
		d.unread(name, err)
		return
	}
	k, started := i.knows(held, pods)
	found := fmt.Sprintf("it started at %s, and %s in ConfigMap %s was changed at %s", started.UTC().Format(time.RFC3339), held.key, fault.Bounded(held.configMap), held.changed.at.UTC().Format(time.RFC3339))
	remedy := fmt.Sprintf("kubectl -n %s rollout restart deployment %s", i.namespace, i.launcher.Name)
	switch k {
	case known:
		d.good(name, "it has read the present settings")
	case restarting:
		d.add(name, connector.Doubt, found+"; its restart was asked for since", fmt.Sprintf("kubectl -n %s rollout status deployment %s tells how far it is.", i.namespace, i.launcher.Name), "")
	case doubtful:
		d.add(name, connector.Doubt, strings.Replace(found, "was changed", "may have been changed", 1)+", with others: it may not know the present pull secrets", remedy, "")
	case outdated:
		d.add(name, connector.Bad, found+": it does not know the present pull secrets", remedy, "")
	}
}

func labelSelector(labels map[string]string) string {
	var parts []string
	for key, value := range labels {
		parts = append(parts, key+"="+value)
	}
	slices.Sort(parts)
	return strings.Join(parts, ",")
}

// jobPods looks at the pods that Airbyte made itself: what they wait for is what a user waits for.
func (d *doctor) jobPods(ctx context.Context, i *installation) {
	const name = "Airbyte's own pods"
	var all corev1.PodList
	if err := d.conn.list(ctx, core, i.jobNamespace(), "pods", jobLabel, "", &all); err != nil {
		d.unread(name, err)
		return
	}
	for _, p := range all.Items {
		for _, s := range p.Status.ContainerStatuses {
			if w := s.State.Waiting; w != nil && slices.Contains(pullReasons, w.Reason) {
				d.add(name, connector.Bad, fault.Bounded(fmt.Sprintf("%s can't pull %s: %s %s", p.Name, s.Image, w.Reason, w.Message)),
					"airbyte-publish verify-pull with this image tells why and what to do.", classify(w.Message, imageOf(s.Image)).code)
				return
			}
		}
	}
	d.good(name, fmt.Sprintf("none of %d waits for an image", len(all.Items)))
}

// rights looks whether the other verbs would be allowed what they need.
func (d *doctor) rights(ctx context.Context, i *installation) {
	needed := []authorizationv1.ResourceAttributes{
		{Verb: "create", Resource: "pods"}, {Verb: "get", Resource: "pods"}, {Verb: "list", Resource: "pods"}, {Verb: "delete", Resource: "pods"}, {Verb: "list", Resource: "events"},
	}
	var missing []string
	for _, r := range needed {
		r.Namespace = i.jobNamespace()
		review := authorizationv1.SelfSubjectAccessReview{Spec: authorizationv1.SelfSubjectAccessReviewSpec{ResourceAttributes: &r}}
		review.APIVersion, review.Kind = "authorization.k8s.io/v1", "SelfSubjectAccessReview"
		if err := d.conn.call(ctx, request{method: http.MethodPost, api: authorization, resource: "selfsubjectaccessreviews", body: review, op: "ask for rights"}, &review); err != nil {
			if !errors.Is(err, context.Canceled) {
				d.unread("rights", err)
			}
			return
		}
		if !review.Status.Allowed {
			missing = append(missing, r.Verb+" "+r.Resource)
		}
	}
	if len(missing) > 0 {
		// To look is allowed, and to do is another user's: that is no fault.
		d.good("rights", "enough to look; verify-pull would also have to "+strings.Join(missing, ", "))
		return
	}
	d.good("rights", "enough to look and for verify-pull")
}
