package cli_test

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

const kubernetesRights = "../../docs/kubernetes/"

// as is the environment of somebody with the documented rights of a verb in the namespace.
func as(t *testing.T, n kubetest.Namespace, verb string) environment {
	t.Helper()
	n.ApplyFile(t, kubernetesRights+verb+".yaml")
	n.Granted(t, "airbyte-publish-"+verb, "list", "apps", "deployments", "")
	return environment{"HOME": t.TempDir(), "PATH": os.Getenv("PATH"), "KUBECONFIG": n.KubeconfigFile(t, "airbyte-publish-"+verb)}
}

// runs has a pod's spec end well.
func runs(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
	return []kubetest.Stage{kubetest.Ends(0, "Completed", "")}
}

// denies has the registry deny the pull.
func denies(p *corev1.Pod, _ map[string]corev1.Secret) []kubetest.Stage {
	i := p.Spec.Containers[0].Image
	return kubetest.PullFails(i, fmt.Sprintf("rpc error: code = Unknown desc = failed to pull and unpack image %q: failed to resolve reference %q: failed to authorize: failed to fetch anonymous token: unexpected status: 401 Unauthorized", i, i))
}

func noPods(t *testing.T, n kubetest.Namespace) {
	t.Helper()
	var all corev1.PodList
	n.Must(t, http.MethodGet, n.Path("Pod", "")+"?labelSelector=app.kubernetes.io%2Fmanaged-by%3Dairbyte-publish", nil, &all)
	for _, p := range all.Items {
		t.Errorf("the pod %s is left", p.Name)
	}
}

func TestVerifyPullVerb(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	env := as(t, n, "verify-pull")
	k := n.Kubelet(t, runs)
	if got := env.run(t, "verify-pull", "ghcr.io/acme/source-erp:1.4.0"); got.code != 0 || got.stdout != "ghcr.io/acme/source-erp:1.4.0: the deployment pulled it and ran its spec\n" {
		t.Fatalf("%d %s", got.code, got)
	}
	other := "ghcr.io/acme/source-erp@sha256:" + strings.Repeat("b", 64)
	k.Plays(func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		s := kubetest.Ends(0, "Completed", "")
		s.ImageID = other
		return []kubetest.Stage{s}
	})
	if got := env.run(t, "verify-pull", "ghcr.io/acme/source-erp:1.4.0@sha256:"+strings.Repeat("a", 64)); got.code != 0 || !strings.Contains(got.stderr, "as sha256:bbbb") {
		t.Errorf("another image than the digest's: %d %s", got.code, got)
	}
	k.Plays(denies)
	got := env.run(t, "verify-pull", "--output", "json", "ghcr.io/acme/source-erp:1.4.0", "ghcr.io/acme/source-crm:2.0.0")
	var told struct {
		Images []struct {
			Image, Code, Cause, Remedy string
			OK                         bool
		}
	}
	if err := json.Unmarshal([]byte(got.stdout), &told); err != nil || got.code != 1 || len(told.Images) != 2 || told.Images[0].Code != "AP607" || told.Images[0].OK || told.Images[1].Remedy == "" {
		t.Errorf("%d, %v, %s", got.code, err, got)
	}
	noPods(t, n)
	for what, args := range map[string][]string{
		"no tag":   {"verify-pull", "ghcr.io/acme/source-erp"},
		"nothing":  {"verify-pull"},
		"registry": {"verify-pull", "ghcr.io"},
		"output":   {"verify-pull", "--output", "xml", "ghcr.io/acme/source-erp:1"},
	} {
		if got := env.run(t, args...); got.code != 2 {
			t.Errorf("%s: %d %s", what, got.code, got)
		}
	}
	if got := env.with("KUBECONFIG", n.KubeconfigFile(t, "airbyte-admin")).run(t, "verify-pull", "ghcr.io/acme/source-erp:1.4.0"); got.code != 1 || !strings.Contains(got.stderr, "AP603") {
		t.Errorf("without rights: %d %s", got.code, got)
	}
}

// TestKilledRunIsSwept kills the real binary while its pod waits, and has the next run delete what it left.
func TestKilledRunIsSwept(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	env := as(t, n, "verify-pull")
	k := n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage { return []kubetest.Stage{{}} })
	cmd, _, _ := env.command(t, "verify-pull", "ghcr.io/acme/source-erp:1.4.0")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var left string
	for deadline := time.Now().Add(time.Minute); left == "" && time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		for name := range k.Pods() {
			left = name
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	var p corev1.Pod
	if left == "" || !n.Get(t, "Pod", left, &p) {
		t.Fatal("there was no pod to be left")
	}
	if p.Spec.ActiveDeadlineSeconds == nil || *p.Spec.ActiveDeadlineSeconds > 600 {
		t.Errorf("nothing ends the pod: %v", p.Spec.ActiveDeadlineSeconds)
	}
	expires, err := time.Parse(time.RFC3339, p.Annotations["airbyte-publish/expires"])
	if err != nil || time.Until(expires) > 11*time.Minute+time.Second {
		t.Errorf("it expires at %v, %v", expires, err)
	}
	k.Plays(runs)
	// A run before that time must take it for another run's own.
	if got := env.run(t, "verify-pull", "ghcr.io/acme/source-erp:1.4.0"); got.code != 0 || !n.Get(t, "Pod", left, &p) {
		t.Fatalf("%d %s", got.code, got)
	}
	// The time that has to pass.
	n.Must(t, http.MethodPatch, n.Path("Pod", left), map[string]any{"metadata": map[string]any{"annotations": map[string]string{"airbyte-publish/expires": time.Now().Add(-time.Second).Format(time.RFC3339)}}}, nil)
	if got := env.run(t, "verify-pull", "ghcr.io/acme/source-erp:1.4.0"); got.code != 0 || !strings.Contains(got.stderr, "deleted the pod "+left) {
		t.Fatalf("%d %s", got.code, got)
	}
	noPods(t, n)
}

func TestPublishVerifiesThePull(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	k := n.Kubelet(t, runs)
	images := registrytest.Start(t, registrytest.Config{Users: map[string]string{"publisher": registryPassword}})
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: images.Addr, Username: "publisher", Password: registryPassword})})
	env := as(t, n, "verify-pull").with("AIRBYTE_PUBLISH_AIRBYTE_URL", airbyte.url, "AIRBYTE_PUBLISH_SOURCE", "oci:"+layoutOf(t, "source-hello"), "AIRBYTE_PUBLISH_IMAGE", images.Addr+"/acme/source-hello",
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME", "publisher", "AIRBYTE_PUBLISH_REGISTRY_PASSWORD", registryPassword, "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP", "true", "AIRBYTE_PUBLISH_VERIFY_PULL", "kubernetes")
	dir := copyConnector(t, "source-hello", "1.0.0")
	for _, action := range []string{"created", "unchanged"} {
		got := env.runBinary(t, dir, "--output", "json")
		if got.code != 0 || got.result(t).Rows[0].Action != action || !strings.Contains(got.stdout, `"the deployment can pull"`) {
			t.Fatalf("%s: %d %s", action, got.code, got)
		}
	}
	if len(k.Pods()) != 2 {
		t.Errorf("%d pods were made, want 2", len(k.Pods()))
	}
	k.Plays(denies)
	if got := env.runBinary(t, dir); got.code != 1 || !strings.Contains(got.stderr, "AP607") {
		t.Errorf("denied: %d %s", got.code, got)
	}
	noPods(t, n)
}

// TestAirbytesFailureIsLookedInto has Airbyte fail the spec, as it does when it can't pull, and tell no reason.
func TestAirbytesFailureIsLookedInto(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	k := n.Kubelet(t, denies)
	images := registrytest.Start(t, registrytest.Config{Users: map[string]string{"publisher": registryPassword}})
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{Version: "1.8.0", RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: images.Addr})})
	env := as(t, n, "verify-pull")
	kubeconfig := env["KUBECONFIG"]
	env = env.with("KUBECONFIG", "", "AIRBYTE_PUBLISH_AIRBYTE_URL", airbyte.url, "AIRBYTE_PUBLISH_SOURCE", "oci:"+layoutOf(t, "source-hello"), "AIRBYTE_PUBLISH_IMAGE", images.Addr+"/acme/source-hello",
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME", "publisher", "AIRBYTE_PUBLISH_REGISTRY_PASSWORD", registryPassword, "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP", "true")
	dir := copyConnector(t, "source-hello", "1.0.0")
	if got := env.runBinary(t, dir); got.code != 1 || !strings.Contains(got.stderr, "AP512") || !strings.Contains(got.stderr, "verify-pull set to kubernetes") || len(k.Pods()) != 0 {
		t.Errorf("without a kubeconfig: %d %s", got.code, got)
	}
	got := env.with("AIRBYTE_PUBLISH_KUBECONFIG", kubeconfig).runBinary(t, dir)
	if got.code != 1 || !strings.Contains(got.stderr, "AP512") || !strings.Contains(got.stderr, "AP607") || !strings.Contains(got.stderr, "401 Unauthorized") {
		t.Errorf("with one: %d %s", got.code, got)
	}
	noPods(t, n)
}

func TestPullSecretVerb(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	env := as(t, n, "pull-secret-wire").with("AIRBYTE_PUBLISH_PULL_USERNAME", "robot", "AIRBYTE_PUBLISH_PULL_PASSWORD", "a-lasting-secret")
	printed := env.run(t, "pull-secret", "ghcr.io")
	if printed.code != 0 || !strings.Contains(printed.stdout, "kind: Secret") || strings.Contains(printed.stderr, "a-lasting-secret") {
		t.Fatalf("%d %s", printed.code, printed)
	}
	// What is printed is what kubectl takes.
	m := n.Server.Namespace(t)
	m.Apply(t, printed.stdout)
	var s corev1.Secret
	if !m.Get(t, "Secret", "airbyte-publish-pull", &s) || !strings.Contains(string(s.Data[corev1.DockerConfigJsonKey]), `"ghcr.io":{"username":"robot","password":"a-lasting-secret"`) {
		t.Errorf("it makes %s", s.Data)
	}
	shown := env.with("AIRBYTE_PUBLISH_KUBECONFIG", env["KUBECONFIG"]).run(t, "pull-secret", "--wire", "ghcr.io")
	if shown.code != 0 || strings.Contains(shown.stdout, "kind: Secret") || !strings.Contains(shown.stdout, "set JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET to airbyte-publish-pull") || n.Get(t, "Secret", "airbyte-publish-pull", &s) {
		t.Errorf("shown: %d %s", shown.code, shown)
	}
	// Who may make the secret and not wire it is told of the values that do, and not of what a wiring would have as its end.
	n.ApplyFile(t, kubernetesRights+"pull-secret.yaml")
	n.Granted(t, "airbyte-publish-pull-secret", "list", "apps", "deployments", "")
	half := env.with("KUBECONFIG", n.KubeconfigFile(t, "airbyte-publish-pull-secret"), "AIRBYTE_PUBLISH_PULL_SECRET", "airbyte-publish-pull").run(t, "pull-secret", "--apply", "--wire", "ghcr.io")
	if half.code != 1 || !strings.Contains(half.stderr, "pull-secret --apply --wire needs") || !strings.Contains(half.stderr, "mainContainerImagePullSecret") || strings.Contains(half.stderr, "Helm reverts") {
		t.Errorf("denied: %d %s", half.code, half)
	}
	n.Must(t, http.MethodDelete, n.Path("Secret", "airbyte-publish-pull"), nil, nil)
	for i, want := range []string{"created", "unchanged"} {
		made := env.run(t, "pull-secret", "--apply", "--wire", "ghcr.io")
		if made.code != 0 || !strings.Contains(made.stdout, "Secret airbyte-publish-pull in namespace "+n.Name+" "+want) ||
			strings.Contains(made.stdout, "Deployment airbyte-workload-launcher") != (i == 0) || strings.Contains(made.String(), "a-lasting-secret") {
			t.Errorf("made: %d %s", made.code, made)
		}
	}
	values := env.with("AIRBYTE_PUBLISH_KUBE_CONTEXT", "test").run(t, "pull-secret", "--helm-values", "ghcr.io")
	if values.code != 0 || !strings.Contains(values.stdout, "mainContainerImagePullSecret: airbyte-publish-pull") {
		t.Errorf("values: %d %s", values.code, values)
	}
	for what, c := range map[string]struct {
		env   environment
		args  []string
		code  int
		words string
	}{
		"job's token":       {env.with("GITHUB_TOKEN", "a-lasting-secret"), []string{"ghcr.io"}, 1, "AP601"},
		"no password":       {env.with("AIRBYTE_PUBLISH_PULL_USERNAME", "", "AIRBYTE_PUBLISH_PULL_PASSWORD", ""), []string{"ghcr.io"}, 2, "read:packages"},
		"no registry":       {env, nil, 2, "AP103"},
		"way":               {env, []string{"--wire=magic", "ghcr.io"}, 2, "AP104"},
		"two things":        {env, []string{"--helm-values", "--ecr-refresher", "ghcr.io"}, 2, "AP104"},
		"refresher for GHC": {env, []string{"--ecr-refresher", "ghcr.io"}, 2, "AP102"},
		"two registries":    {env, []string{"--apply", "ghcr.io/acme/x", "quay.io/acme/y"}, 2, "AP104"},
		"way apart":         {env, []string{"--wire", "service-account", "ghcr.io"}, 2, "Write --wire=service-account"},
		"file and --apply":  {env, []string{"--apply", "--output-file", "x", "ghcr.io"}, 2, "AP104"},
		"no rights":         {env.with("KUBECONFIG", n.KubeconfigFile(t, "airbyte-admin")), []string{"--apply", "ghcr.io"}, 1, "docs/kubernetes/pull-secret.yaml"},
	} {
		if got := c.env.run(t, append([]string{"pull-secret"}, c.args...)...); got.code != c.code || !strings.Contains(got.stderr, c.words) {
			t.Errorf("%s: %d %s", what, got.code, got)
		}
	}
}

// TestWiringASecretThatIsThere needs no credentials, since no Secret is made.
func TestWiringASecretThatIsThere(t *testing.T) {
	t.Parallel()
	const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	env := as(t, n, "pull-secret-wire")
	if got := env.run(t, "pull-secret", "--wire", "ghcr.io"); got.code != 0 || !strings.Contains(got.stdout, "to airbyte-publish-pull\n") {
		t.Errorf("shown: %d %s", got.code, got)
	}
	if got := env.run(t, "pull-secret", "--apply", "--wire", "ghcr.io"); got.code != 2 || !strings.Contains(got.stderr, "AP103") {
		t.Errorf("a Secret without credentials: %d %s", got.code, got)
	}
	for _, args := range [][]string{{}, {host}} {
		if got := env.run(t, append([]string{"pull-secret", "--apply", "--wire"}, args...)...); got.code != 1 || !strings.Contains(got.stderr, "AP606") || !strings.Contains(got.stderr, "it is not there") {
			t.Errorf("there is none: %d %s", got.code, got)
		}
	}
	for _, name := range []string{"airbyte-publish-pull", "airbyte-publish-pull-ecr"} {
		n.Must(t, http.MethodPost, n.Path("Secret", ""), map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson",
			"metadata": map[string]any{"name": name}, "data": map[string]any{".dockerconfigjson": []byte(`{"auths":{}}`)}}, nil)
	}
	for _, c := range []struct {
		args []string
		list string
	}{{[]string{}, "airbyte-publish-pull"}, {[]string{host}, "airbyte-publish-pull,airbyte-publish-pull-ecr"}} {
		got := env.run(t, append([]string{"pull-secret", "--apply", "--wire"}, c.args...)...)
		var configMap corev1.ConfigMap
		n.Get(t, "ConfigMap", "airbyte-airbyte-env", &configMap)
		if list := configMap.Data["JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET"]; got.code != 0 || list != c.list || !strings.Contains(got.stdout, "left as it is") {
			t.Errorf("%v: the list is %q: %d %s", c.args, list, got.code, got)
		}
	}
	if got := env.run(t, "pull-secret", "--apply", "--wire", "--pull-secret", "not-ours"); got.code != 1 || !strings.Contains(got.stderr, "AP603") || !strings.Contains(got.stderr, "not-ours under resourceNames") {
		t.Errorf("another name: %d %s", got.code, got)
	}
}

// TestECRRefresherRenews runs the script of the printed CronJob, with its own rights and a stand-in for the aws command,
// beside a pull secret of another registry.
func TestECRRefresherRenews(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	const host = "123456789012.dkr.ecr.eu-central-1.amazonaws.com"
	n.Install(t, kubetest.Airbyte{})
	ghcr := as(t, n, "pull-secret-wire").with("AIRBYTE_PUBLISH_PULL_USERNAME", "robot", "AIRBYTE_PUBLISH_PULL_PASSWORD", "a-lasting-secret")
	if got := ghcr.run(t, "pull-secret", "--apply", "ghcr.io"); got.code != 0 {
		t.Fatalf("%d %s", got.code, got)
	}
	printed := environment{"HOME": t.TempDir()}.run(t, "pull-secret", "--ecr-refresher", host, "public.ecr.aws")
	if printed.code != 0 {
		t.Fatalf("%d %s", printed.code, printed)
	}
	n.Apply(t, printed.stdout)
	const secret, name = "airbyte-publish-pull-ecr", "airbyte-publish-pull-ecr-refresher"
	var job struct {
		Spec struct {
			JobTemplate struct {
				Spec struct{ Template corev1.PodTemplateSpec }
			}
		}
	}
	if !n.Get(t, "CronJob", name, &job) {
		t.Fatal("there is no CronJob")
	}
	n.Granted(t, name, "patch", "", "secrets", secret)
	container := job.Spec.JobTemplate.Spec.Template.Spec.Containers[0]
	work, bin, account := t.TempDir(), t.TempDir(), t.TempDir()
	for path, content := range map[string]string{filepath.Join(account, "token"): n.Token(t, name), filepath.Join(account, "ca.crt"): string(n.CA),
		filepath.Join(bin, "aws"): "#!/bin/sh\ncase \"$*\" in\n\"ecr get-login-password --region eu-central-1\") echo private-token ;;\n\"ecr-public get-login-password --region us-east-1\") echo public-token ;;\n*) exit 9 ;;\nesac\n"} {
		if err := os.WriteFile(path, []byte(content), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	address := strings.Split(strings.TrimPrefix(n.URL, "https://"), ":")
	refresh := func() (string, error) {
		cmd := exec.Command(container.Command[0], container.Command[1], strings.Replace(container.Command[2], "cd /work", "cd "+work, 1))
		cmd.Env = []string{"PATH=" + bin + ":" + os.Getenv("PATH"), "NAMESPACE=" + n.Name, "SERVICE_ACCOUNT_DIR=" + account,
			"KUBERNETES_SERVICE_HOST=" + address[0], "KUBERNETES_SERVICE_PORT=" + address[1]}
		for _, e := range container.Env {
			if e.Value != "" && e.Name != "HOME" {
				cmd.Env = append(cmd.Env, e.Name+"="+e.Value)
			}
		}
		out, err := cmd.CombinedOutput()
		return string(out), err
	}
	for range 2 {
		if out, err := refresh(); err != nil || !strings.Contains(out, "renewed "+secret) || strings.Contains(out, "private-token") {
			t.Fatalf("%v: %s", err, out)
		}
	}
	var s corev1.Secret
	if !n.Get(t, "Secret", "airbyte-publish-pull", &s) || !strings.Contains(string(s.Data[corev1.DockerConfigJsonKey]), "a-lasting-secret") {
		t.Errorf("the other registry's entry is gone: %s", s.Data)
	}
	if !n.Get(t, "Secret", secret, &s) {
		t.Fatal("there is no secret")
	}
	var config struct {
		Auths map[string]struct{ Auth string }
	}
	if err := json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config); err != nil {
		t.Fatal(err)
	}
	for h, token := range map[string]string{host: "private-token", "public.ecr.aws": "public-token"} {
		if got, _ := base64.StdEncoding.DecodeString(config.Auths[h].Auth); string(got) != "AWS:"+token {
			t.Errorf("%s has %q", h, got)
		}
	}
	// The job's secret is no place for other entries, and it takes no content from anybody.
	admin := ghcr.with("KUBECONFIG", n.KubeconfigFile(t, ""), "AIRBYTE_PUBLISH_PULL_SECRET", secret)
	if got := admin.run(t, "pull-secret", "--apply", "ghcr.io"); got.code != 1 || !strings.Contains(got.stderr, "AP605") || !strings.Contains(got.stderr, "choose another name") || strings.Contains(got.stderr, "Nothing would be lost") {
		t.Errorf("into the job's secret: %d %s", got.code, got)
	}
	if got := admin.run(t, "pull-secret", "--apply", "--force-conflicts", "ghcr.io"); got.code != 0 {
		t.Fatalf("%d %s", got.code, got)
	}
	if out, err := refresh(); err == nil || !strings.Contains(out, "conflict") {
		t.Errorf("the job took the content of somebody else: %v: %s", err, out)
	}
}
