package deployment_test

import (
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// entries are the docker configuration that a secret holds.
func entries(t *testing.T, n kubetest.Namespace, name string) (config map[string]json.RawMessage, auths map[string]json.RawMessage, s corev1.Secret) {
	t.Helper()
	if !n.Get(t, "Secret", name, &s) {
		t.Fatalf("there is no secret %s", name)
	}
	if err := json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config); err != nil {
		t.Fatal(err)
	}
	if err := json.Unmarshal(config["auths"], &auths); err != nil {
		t.Fatal(err)
	}
	return config, auths, s
}

func pull(n kubetest.Namespace, entries ...deployment.Credentials) deployment.PullSecret {
	return deployment.PullSecret{Name: "airbyte-publish-pull", Namespace: n.Name, Entries: entries}
}

func TestSecretIsMadeMergedAndLeftAlone(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	cluster := as(t, n, "pull-secret")
	apply := func(want deployment.Outcome, c ...deployment.Credentials) {
		t.Helper()
		got, err := cluster.ApplySecret(t.Context(), pull(n, c...), false)
		if err != nil {
			t.Fatal(err)
		}
		if got != want {
			t.Errorf("the secret was %s, want %s", got, want)
		}
	}
	apply(deployment.Created, deployment.Credentials{Host: "ghcr.io", Username: "robot", Password: "one"})
	_, auths, first := entries(t, n, "airbyte-publish-pull")
	if first.Type != corev1.SecretTypeDockerConfigJson || len(auths) != 1 || string(auths["ghcr.io"]) != `{"username":"robot","password":"one","auth":"cm9ib3Q6b25l"}` {
		t.Errorf("the secret holds %s, type %s", auths, first.Type)
	}
	if m := first.ManagedFields; len(m) != 1 || m[0].Manager != "airbyte-publish" || m[0].Operation != "Apply" {
		t.Errorf("it is managed by %+v", m)
	}
	apply(deployment.Unchanged, deployment.Credentials{Host: "ghcr.io", Username: "robot", Password: "one"})
	apply(deployment.Changed, deployment.Credentials{Host: "docker.io", Username: "acme", Password: "two"}, deployment.Credentials{Host: "registry.acme.example:5000", Username: "u", Password: "three"})
	_, auths, merged := entries(t, n, "airbyte-publish-pull")
	if len(auths) != 3 || auths["https://index.docker.io/v1/"] == nil || auths["registry.acme.example:5000"] == nil || auths["ghcr.io"] == nil {
		t.Errorf("merged: %s", auths)
	}
	apply(deployment.Changed, deployment.Credentials{Host: "ghcr.io", Username: "robot", Password: "new"})
	if _, auths, _ := entries(t, n, "airbyte-publish-pull"); len(auths) != 3 || !strings.Contains(string(auths["ghcr.io"]), `"new"`) {
		t.Errorf("renewed: %s", auths)
	}
	apply(deployment.Unchanged, deployment.Credentials{Host: "index.docker.io", Username: "acme", Password: "two"})
	if merged.UID != first.UID {
		t.Error("the secret was made anew, not changed")
	}
}

func TestSecretOfSomebodyElse(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	cluster := as(t, n, "pull-secret")
	held := `{"auths":{"https://docker.io":{"auth":"YTpi"},"quay.io":{"auth":"YTpi","email":"a@b.c"}},"credHelpers":{"x":"y"}}`
	n.Must(t, http.MethodPost, n.Path("Secret", "")+"?fieldManager=helm", map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
		"metadata": map[string]any{"name": "airbyte-publish-pull", "labels": map[string]string{"keep": "me"}}, "data": map[string]any{".dockerconfigjson": []byte(held)}}, nil)
	s := pull(n, deployment.Credentials{Host: "docker.io", Username: "acme", Password: "two"})
	_, err := cluster.ApplySecret(t.Context(), s, false)
	has(t, err, fault.FieldConflict, "managed by helm", "puts its own content back")
	if outcome, err := cluster.ApplySecret(t.Context(), s, true); err != nil || outcome != deployment.Changed {
		t.Fatalf("%s, %v", outcome, err)
	}
	config, auths, now := entries(t, n, "airbyte-publish-pull")
	if len(auths) != 2 || string(auths["quay.io"]) != `{"auth":"YTpi","email":"a@b.c"}` || auths["https://index.docker.io/v1/"] == nil || string(config["credHelpers"]) != `{"x":"y"}` || now.Labels["keep"] != "me" {
		t.Errorf("something got lost: %s, labels %v", config, now.Labels)
	}
}

func TestSecretThatCantBe(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	cluster := client(n, n.Admin, "pull-secret")
	n.Apply(t, "apiVersion: v1\nkind: Secret\nmetadata: {name: opaque}\ntype: Opaque\nstringData: {a: b}\n")
	s := pull(n, deployment.Credentials{Host: "ghcr.io", Username: "robot", Password: "one"})
	s.Name = "opaque"
	_, err := cluster.ApplySecret(t.Context(), s, false)
	has(t, err, fault.BadPullSecret, "type Opaque")
	_, err = client(n, n.Token(t, "airbyte-admin"), "pull-secret").ApplySecret(t.Context(), pull(n), false)
	has(t, err, fault.ClusterDenied, "get secrets", "docs/kubernetes/pull-secret.yaml")
	// The documented rights are for one name.
	_, err = as(t, n, "pull-secret").ApplySecret(t.Context(), s, false)
	has(t, err, fault.ClusterDenied, "get secrets")
}

// TestSecretWrittenAtOnce has two runs merge at the same time: neither loses the other's entry.
func TestSecretWrittenAtOnce(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	hosts := []string{"a.example", "b.example", "c.example"}
	errs := make(chan error, len(hosts))
	for _, host := range hosts {
		go func() {
			_, err := client(n, n.Admin, "pull-secret").ApplySecret(t.Context(), pull(n, deployment.Credentials{Host: host, Username: "u", Password: "p"}), false)
			errs <- err
		}()
	}
	for range hosts {
		if err := <-errs; err != nil {
			t.Error(err)
		}
	}
	if _, auths, _ := entries(t, n, "airbyte-publish-pull"); len(auths) != len(hosts) {
		t.Errorf("%d entries, want %d: %s", len(auths), len(hosts), auths)
	}
}

// wirings are the layouts that there are, with what it takes to wire a secret in each.
var wirings = []struct {
	name    string
	airbyte kubetest.Airbyte
	list    string
	steps   []string
	values  []string
}{
	{"chart v2", kubetest.Airbyte{}, "airbyte-publish-pull", []string{"ConfigMap airbyte-airbyte-env", "Deployment airbyte-workload-launcher"}, []string{"global:\n  jobs:\n    kube:\n      mainContainerImagePullSecret: airbyte-publish-pull\n"}},
	{"chart v2 with another secret", kubetest.Airbyte{PullSecrets: "regcred"}, "regcred,airbyte-publish-pull", []string{"ConfigMap airbyte-airbyte-env", "Deployment"}, []string{"mainContainerImagePullSecret: regcred,airbyte-publish-pull\n"}},
	{"chart v1, which leaves the variable out", kubetest.Airbyte{Chart: "v1"}, "airbyte-publish-pull", []string{"ConfigMap airbyte-airbyte-env", "Deployment airbyte-workload-launcher"},
		[]string{"main_container_image_pull_secret: airbyte-publish-pull\n"}},
	{"chart v1 with another secret", kubetest.Airbyte{Chart: "v1", PullSecrets: "regcred"}, "regcred,airbyte-publish-pull", []string{"ConfigMap airbyte-airbyte-env", "Deployment"},
		[]string{"main_container_image_pull_secret: regcred,airbyte-publish-pull"}},
	{"abctl", kubetest.Airbyte{Release: "airbyte-abctl", PullSecrets: "docker-auth", ChartSecrets: []string{"docker-auth"}}, "docker-auth,airbyte-publish-pull", []string{"ConfigMap airbyte-abctl-airbyte-env", "Deployment airbyte-abctl-workload-launcher"},
		[]string{"mainContainerImagePullSecret: airbyte-publish-pull\n"}},
}

func TestWiring(t *testing.T) {
	t.Parallel()
	server := kubetest.Start(t)
	for _, w := range wirings {
		t.Run(w.name, func(t *testing.T) {
			t.Parallel()
			n := server.Namespace(t)
			n.Install(t, w.airbyte)
			shown, err := as(t, n, "pull-secret").Wiring(t.Context(), "airbyte-publish-pull", deployment.ByLauncher)
			if err != nil {
				t.Fatal(err)
			}
			if len(shown.Steps) != len(w.steps) || shown.Namespace != n.Name {
				t.Fatalf("wiring: %+v", shown)
			}
			for i, s := range shown.Steps {
				if !strings.HasPrefix(s.Object, w.steps[i]) {
					t.Errorf("step %d changes %s, want %s", i, s.Object, w.steps[i])
				}
			}
			for _, v := range w.values {
				if !strings.Contains(shown.Values, v) {
					t.Errorf("the values lack %q:\n%s", v, shown.Values)
				}
			}
			if notes := strings.Join(shown.Notes, " "); !strings.Contains(notes, "Helm reverts") || strings.Contains(notes, "abctl") != (w.name == "abctl") {
				t.Errorf("the notes: %s", notes)
			}
			// To see it is not to have the right to do it.
			has(t, as(t, n, "doctor").Wire(t.Context(), shown, func(deployment.Step) {}), fault.ClusterDenied, "patch configmaps")
			cluster := as(t, n, "pull-secret-wire")
			done := 0
			if err := cluster.Wire(t.Context(), shown, func(deployment.Step) { done++ }); err != nil {
				t.Fatal(err)
			}
			release := w.airbyte.Release
			if release == "" {
				release = "airbyte"
			}
			var configMap corev1.ConfigMap
			n.Get(t, "ConfigMap", release+"-airbyte-env", &configMap)
			if got := configMap.Data["JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET"]; got != w.list || done != len(shown.Steps) {
				t.Errorf("the list is %q after %d steps, want %q", got, done, w.list)
			}
			if configMap.Data["AIRBYTE_VERSION"] == "" {
				t.Error("the rest of the config map got lost")
			}
			// A fresh look finds nothing left to do, so that the launcher does read the list.
			again, err := as2(t, n, "airbyte-publish-pull-secret-wire").Wiring(t.Context(), "airbyte-publish-pull", deployment.ByLauncher)
			if err != nil || len(again.Steps) != 0 {
				t.Errorf("after wiring there is still to do: %+v, %v", again.Steps, err)
			}
			var launcher struct {
				Spec struct {
					Template struct {
						Metadata struct{ Annotations map[string]string }
						Spec     struct{ Containers []corev1.Container }
					}
				}
			}
			n.Get(t, "Deployment", release+"-workload-launcher", &launcher)
			at, err := time.Parse(time.RFC3339, launcher.Spec.Template.Metadata.Annotations["kubectl.kubernetes.io/restartedAt"])
			if err != nil || time.Since(at) > time.Minute {
				t.Errorf("the launcher was not restarted: %v", launcher.Spec.Template.Metadata.Annotations)
			}
			if len(launcher.Spec.Template.Spec.Containers) != 1 || len(launcher.Spec.Template.Spec.Containers[0].Env) < 5 {
				t.Errorf("the launcher's container lost something: %+v", launcher.Spec.Template.Spec.Containers)
			}
		})
	}
}

// as2 is a client for a service account that is there already.
func as2(t *testing.T, n kubetest.Namespace, account string) *deployment.Cluster {
	t.Helper()
	return client(n, n.Token(t, account), "pull-secret")
}

// TestBrokenOffWiringIsFinished has the right to change the config map and not to restart the launcher: the next run of
// somebody who may restarts it.
func TestBrokenOffWiringIsFinished(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	n.ApplyFile(t, rights+"pull-secret-wire.yaml", "resourceNames: [airbyte-workload-launcher]", "resourceNames: [other]")
	n.Granted(t, "airbyte-publish-pull-secret-wire", "list", "apps", "deployments", "")
	half := as2(t, n, "airbyte-publish-pull-secret-wire")
	w, err := half.Wiring(t.Context(), "airbyte-publish-pull", deployment.ByLauncher)
	if err != nil {
		t.Fatal(err)
	}
	has(t, half.Wire(t.Context(), w, func(deployment.Step) {}), fault.ClusterDenied, "patch deployments")
	for i, want := range []int{1, 0} {
		cluster := client(n, n.Admin, "pull-secret-wire")
		w, err := cluster.Wiring(t.Context(), "airbyte-publish-pull", deployment.ByLauncher)
		if err != nil {
			t.Fatal(err)
		}
		if len(w.Steps) != want {
			t.Errorf("run %d has to do %+v", i, w.Steps)
		}
		if err := cluster.Wire(t.Context(), w, func(deployment.Step) {}); err != nil {
			t.Fatal(err)
		}
	}
}

// TestHelmDropsTheName plays a helm upgrade of chart v1, which deletes and makes its config map: the launcher must still
// be able to start.
func TestHelmDropsTheName(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{Chart: "v1"})
	cluster := as(t, n, "pull-secret-wire")
	w, err := cluster.Wiring(t.Context(), "airbyte-publish-pull", deployment.ByLauncher)
	if err != nil {
		t.Fatal(err)
	}
	if err := cluster.Wire(t.Context(), w, func(deployment.Step) {}); err != nil {
		t.Fatal(err)
	}
	n.Must(t, http.MethodDelete, n.Path("ConfigMap", "airbyte-airbyte-env"), nil, nil)
	n.Install(t, kubetest.Airbyte{Chart: "v1", NoLauncher: true, NoServiceAccount: true})
	for _, c := range client(n, n.Admin, "doctor").Doctor(t.Context(), nil) {
		if c.Name == "settings" && c.State != "good" {
			t.Errorf("the launcher could not start: %s", c.Found)
		}
	}
	again, err := as2(t, n, "airbyte-publish-pull-secret-wire").Wiring(t.Context(), "airbyte-publish-pull", deployment.ByLauncher)
	if err != nil || len(again.Steps) == 0 {
		t.Errorf("the name is gone, and nothing is to do? %v", err)
	}
}

// plan is what one run sees before another one writes.
func plan(t *testing.T, n kubetest.Namespace, secret string, way deployment.Way) (*deployment.Cluster, deployment.Wiring) {
	t.Helper()
	cluster := as2(t, n, "airbyte-publish-pull-secret-wire")
	w, err := cluster.Wiring(t.Context(), secret, way)
	if err != nil {
		t.Fatal(err)
	}
	return cluster, w
}

// TestWiringAtOnce has several runs look at the same list before any of them writes, and then write at the same time: no
// name gets lost, wherever the list is.
func TestWiringAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		airbyte kubetest.Airbyte
		way     deployment.Way
		// literal has the deployment itself hold the list.
		literal bool
	}{
		"config map":      {kubetest.Airbyte{PullSecrets: "regcred"}, deployment.ByLauncher, false},
		"chart v1":        {kubetest.Airbyte{Chart: "v1"}, deployment.ByLauncher, false},
		"deployment":      {kubetest.Airbyte{Chart: "v1"}, deployment.ByLauncher, true},
		"service account": {kubetest.Airbyte{AccountSecrets: []string{"regcred"}}, deployment.ByServiceAccount, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := kubetest.Start(t).Namespace(t)
			n.Install(t, c.airbyte)
			as(t, n, "pull-secret-wire")
			const variable = "JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET"
			if c.literal {
				n.Must(t, http.MethodPatch, n.Path("Deployment", "airbyte-workload-launcher"), map[string]any{"spec": map[string]any{"template": map[string]any{"spec": map[string]any{"containers": []any{
					map[string]any{"name": "airbyte-workload-launcher-container", "env": []any{map[string]string{"name": variable, "value": "regcred"}}}}}}}}, nil)
			}
			names := []string{"first", "second", "third", "fourth"}
			var runs []func() error
			for _, secret := range names {
				cluster, w := plan(t, n, secret, c.way)
				runs = append(runs, func() error { return cluster.Wire(t.Context(), w, func(deployment.Step) {}) })
			}
			errs := make(chan error, len(names))
			for _, run := range runs {
				go func() { errs <- run() }()
			}
			for range names {
				if err := <-errs; err != nil {
					t.Error(err)
				}
			}
			var account corev1.ServiceAccount
			n.Get(t, "ServiceAccount", "airbyte-admin", &account)
			var configMap corev1.ConfigMap
			n.Get(t, "ConfigMap", "airbyte-airbyte-env", &configMap)
			var launcher appsv1.Deployment
			n.Get(t, "Deployment", "airbyte-workload-launcher", &launcher)
			held := strings.Split(configMap.Data[variable], ",")
			if c.literal {
				for _, e := range launcher.Spec.Template.Spec.Containers[0].Env {
					if e.Name == variable {
						held = strings.Split(e.Value, ",")
					}
				}
			}
			if c.way == deployment.ByServiceAccount {
				held = nil
				for _, r := range account.ImagePullSecrets {
					held = append(held, r.Name)
				}
			}
			for _, secret := range names {
				if !slices.Contains(held, secret) {
					t.Errorf("%s got lost: %q", secret, held)
				}
			}
			if (name != "chart v1") != slices.Contains(held, "regcred") {
				t.Errorf("what was there before: %q", held)
			}
		})
	}
}

// TestRenewedTokensAge goes by when the tokens were written, and not by who put a label on the secret later.
func TestRenewedTokensAge(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{PullSecrets: "ecr"})
	n.Must(t, http.MethodPost, n.Path("Secret", ""), map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
		"metadata": map[string]any{"name": "ecr"}, "data": map[string]any{".dockerconfigjson": []byte(`{"auths":{"public.ecr.aws":{"username":"AWS","password":"x"}}}`)}}, nil)
	state := func(later time.Duration) connector.State {
		for _, c := range client(n, n.Admin, "doctor", func(o *deployment.ClusterOptions) { o.Now = func() time.Time { return time.Now().Add(later) } }).Doctor(t.Context(), nil) {
			if c.Name == "pull secret ecr" {
				return c.State
			}
		}
		return ""
	}
	time.Sleep(3 * time.Second)
	n.Must(t, http.MethodPatch, n.Path("Secret", "ecr")+"?fieldManager=kubectl-label", map[string]any{"metadata": map[string]any{"labels": map[string]string{"a": "b"}}}, nil)
	// Twelve hours after the tokens, and not yet after the label.
	for later, want := range map[time.Duration]connector.State{0: connector.Good, 12*time.Hour - 1500*time.Millisecond: connector.Bad} {
		if got := state(later); got != want {
			t.Errorf("%s later it is %q, want %q", later, got, want)
		}
	}
}

// TestDoesTheLauncherKnow has others change the config map while a launcher runs, and asks the verbs that tell of it.
func TestDoesTheLauncherKnow(t *testing.T) {
	t.Parallel()
	change := func(manager string, data map[string]any) func(*testing.T, kubetest.Namespace) {
		return func(t *testing.T, n kubetest.Namespace) {
			t.Helper()
			n.Must(t, http.MethodPatch, n.Path("ConfigMap", "airbyte-airbyte-env")+"?fieldManager="+manager, data, nil)
		}
	}
	list := func(value string) map[string]any {
		return map[string]any{"data": map[string]string{"JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET": value}}
	}
	for name, c := range map[string]struct {
		change func(*testing.T, kubetest.Namespace)
		state  connector.State
		steps  int
	}{
		"nothing":          {func(*testing.T, kubetest.Namespace) {}, connector.Good, 0},
		"an annotation":    {change("kubectl-annotate", map[string]any{"metadata": map[string]any{"annotations": map[string]string{"a": "b"}}}), connector.Good, 0},
		"another key":      {change("kubectl-edit", map[string]any{"data": map[string]string{"OTHER": "x"}}), connector.Good, 0},
		"the list":         {change("kubectl-edit", list("airbyte-publish-pull,regcred")), connector.Bad, 1},
		"with another key": {change("kubectl-edit", map[string]any{"data": map[string]string{"JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET": "airbyte-publish-pull,regcred", "OTHER": "x"}}), connector.Doubt, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := kubetest.Start(t).Namespace(t)
			n.Install(t, kubetest.Airbyte{PullSecrets: "airbyte-publish-pull"})
			n.LauncherPod(t, "airbyte", time.Now().Add(time.Second))
			// The API server's times have whole seconds.
			time.Sleep(2100 * time.Millisecond)
			c.change(t, n)
			look := func() connector.State {
				for _, check := range as2(t, n, "airbyte-publish-doctor").Doctor(t.Context(), nil) {
					if check.Name == "launcher's start" {
						return check.State
					}
				}
				t.Fatal("doctor does not say")
				return ""
			}
			as(t, n, "doctor")
			as(t, n, "pull-secret-wire")
			if got := look(); got != c.state {
				t.Errorf("doctor says %s, want %s", got, c.state)
			}
			cluster, w := plan(t, n, "airbyte-publish-pull", deployment.ByLauncher)
			if len(w.Steps) != c.steps {
				t.Errorf("wiring has to do %+v, want %d steps", w.Steps, c.steps)
			}
			if err := cluster.Wire(t.Context(), w, func(deployment.Step) {}); err != nil {
				t.Fatal(err)
			}
			// The pod still is the old one, as in a restart that is under way.
			if _, w := plan(t, n, "airbyte-publish-pull", deployment.ByLauncher); len(w.Steps) != 0 {
				t.Errorf("the restart was asked for, and is to be asked for again: %+v", w.Steps)
			}
			if got := look(); c.steps > 0 && got != connector.Doubt {
				t.Errorf("of a restart under way doctor says %s", got)
			}
		})
	}
}

func TestWiringTheServiceAccount(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{AccountSecrets: []string{"older"}})
	cluster := as(t, n, "pull-secret-wire")
	w, err := cluster.Wiring(t.Context(), "airbyte-publish-pull", deployment.ByServiceAccount)
	if err != nil {
		t.Fatal(err)
	}
	if len(w.Steps) != 1 || !strings.Contains(strings.Join(w.Notes, " "), "one empty name") {
		t.Errorf("wiring: %+v", w)
	}
	if err := cluster.Wire(t.Context(), w, func(deployment.Step) {}); err != nil {
		t.Fatal(err)
	}
	var account corev1.ServiceAccount
	n.Get(t, "ServiceAccount", "airbyte-admin", &account)
	if len(account.ImagePullSecrets) != 2 {
		t.Errorf("its secrets: %v", account.ImagePullSecrets)
	}
	m := kubetest.Start(t).Namespace(t)
	m.Install(t, kubetest.Airbyte{PullSecrets: "regcred"})
	_, err = client(m, m.Admin, "pull-secret").Wiring(t.Context(), "airbyte-publish-pull", deployment.ByServiceAccount)
	has(t, err, fault.FieldConflict, "regcred", "--wire=launcher")
}

// TestAccountsSecretsAndEmptyNames proves of a real API server what our pods and our advice rest upon: a service account's
// secrets are added to pods that have no list, and not to those whose list is one empty name.
func TestAccountsSecretsAndEmptyNames(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{AccountSecrets: []string{"regcred"}})
	for name, c := range map[string]struct {
		list string
		want int
	}{"without": {"[]", 1}, "empty": {`[{"name": ""}]`, 0}} {
		n.Apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: "+name+"}\nspec: {serviceAccountName: airbyte-admin, imagePullSecrets: "+c.list+", containers: [{name: main, image: x}]}\n")
		var p corev1.Pod
		n.Get(t, "Pod", name, &p)
		got := 0
		for _, r := range p.Spec.ImagePullSecrets {
			if r.Name == "regcred" {
				got++
			}
		}
		if got != c.want {
			t.Errorf("a pod whose list is %s has %v", c.list, p.Spec.ImagePullSecrets)
		}
	}
}
