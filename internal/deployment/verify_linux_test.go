package deployment_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

const (
	digest  = "sha256:aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"
	another = "sha256:bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb"
)

// containerd is how containerd names the image that a sentence is about.
func containerd(image, words string) string {
	return fmt.Sprintf("rpc error: code = Unknown desc = failed to pull and unpack image %q: failed to resolve reference %q: %s", image, image, words)
}

// endings are what can become of a pod, in the words of real kubelets, containerd, CRI-O and dockershim.
var endings = []struct {
	name, repository string
	stages           func(image string) []kubetest.Stage
	code             fault.Code
	words            []string
}{
	{"denied, anonymous, GHCR", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=repository%3Aacme%2Fsource-erp%3Apull&service=ghcr.io: 401 Unauthorized"))
	}, fault.DeploymentDenied, []string{"401 Unauthorized", "classic personal access token", "given no pull secret", "node-1"}},
	{"denied, Docker Hub", "docker.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "pull access denied, repository does not exist or may require authorization: server message: insufficient_scope: authorization failed"))
	}, fault.DeploymentDenied, []string{"insufficient_scope", "https://index.docker.io/v1/"}},
	{"denied, ECR", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "pulling from host 123456789012.dkr.ecr.eu-central-1.amazonaws.com failed with status code [manifests 1.4.0]: 401 Unauthorized"))
	}, fault.DeploymentDenied, []string{"AmazonEC2ContainerRegistryPullOnly", "IRSA"}},
	{"token of ECR has ended", "123456789012.dkr.ecr.eu-central-1.amazonaws.com/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, `rpc error: code = Unknown desc = Error response from daemon: pull access denied for 123456789012.dkr.ecr.eu-central-1.amazonaws.com/source-erp, repository does not exist or may require 'docker login': denied: Your authorization token has expired. Reauthenticate and try again.`)
	}, fault.DeploymentDenied, []string{"authorization token has expired", "--ecr-refresher"}},
	{"denied, Artifact Registry", "europe-docker.pkg.dev/acme/connectors/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "failed to authorize: failed to fetch oauth token: unexpected status from GET request to https://europe-docker.pkg.dev/v2/token?scope=repository%3Aacme%2Fconnectors%2Fsource-erp%3Apull&service=europe-docker.pkg.dev: 403 Forbidden"))
	}, fault.DeploymentDenied, []string{"roles/artifactregistry.reader"}},
	{"denied, Azure", "acme.azurecr.io/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://acme.azurecr.io/oauth2/token?scope=repository%3Asource-erp%3Apull&service=acme.azurecr.io: 401 Unauthorized"))
	}, fault.DeploymentDenied, []string{"--attach-acr"}},
	{"a named secret is missing", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token: 401 Unauthorized"),
			kubetest.Warning("FailedToRetrieveImagePullSecret", "Unable to retrieve some image pull secrets (regcred); attempting to pull the image may not succeed."))
	}, fault.DeploymentDenied, []string{"Unable to retrieve some image pull secrets (regcred)", "must be in the namespace"}},
	{"no such tag", "registry.acme.example:5000/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, fmt.Sprintf("rpc error: code = NotFound desc = failed to pull and unpack image %q: failed to resolve reference %q: %s: not found", i, i, i))
	}, fault.PullNotFound, []string{"not found"}},
	{"no such tag, CRI-O", "registry.acme.example:5000/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, "reading manifest 1.4.0 in registry.acme.example:5000/source-erp: manifest unknown")
	}, fault.PullNotFound, []string{"manifest unknown"}},
	{"wrong architecture in the index", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, fmt.Sprintf("rpc error: code = NotFound desc = failed to pull and unpack image %q: no match for platform in manifest: not found", i))
	}, fault.WrongArchitecture, []string{"no match for platform in manifest", "linux/arm64"}},
	{"wrong architecture, CRI-O", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, `choosing image instance: no image found in image index for architecture "arm64", variant "v8", OS "linux"`)
	}, fault.WrongArchitecture, nil},
	{"exec format error", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(255, "Error", "exec /bin/sh: exec format error\n")}
	}, fault.WrongArchitecture, []string{"exec format error"}},
	{"exec format error, old runc", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(1, "Error", `standard_init_linux.go:219: exec user process caused: exec format error`)}
	}, fault.WrongArchitecture, nil},
	{"unknown authority", "registry.acme.example:5000/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, `failed to do request: Head "https://registry.acme.example:5000/v2/source-erp/manifests/1.4.0": tls: failed to verify certificate: x509: certificate signed by unknown authority`))
	}, fault.PullTLS, []string{"/etc/containerd/certs.d/registry.acme.example:5000"}},
	{"plain http", "registry.acme.example:5000/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, `failed to do request: Head "https://registry.acme.example:5000/v2/source-erp/manifests/1.4.0": http: server gave HTTP response to HTTPS client`))
	}, fault.PullTLS, []string{"plain http"}},
	{"no such host", "registry.acme.example:5000/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, `failed to do request: Head "https://registry.acme.example:5000/v2/source-erp/manifests/1.4.0": dial tcp: lookup registry.acme.example on 10.96.0.10:53: no such host`))
	}, fault.PullUnreachable, []string{"no such host", "DNS"}},
	{"token server times out", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, `failed to authorize: failed to fetch anonymous token: Get "https://ghcr.io/token": dial tcp 140.82.121.33:443: i/o timeout`))
	}, fault.PullUnreachable, []string{"i/o timeout"}},
	{"rate limit", "docker.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, containerd(i, "failed to copy: httpReadSeeker: failed open: unexpected status code https://registry-1.docker.io/v2/acme/source-erp/manifests/sha256:aa: 429 Too Many Requests - Server message: toomanyrequests: You have reached your pull rate limit."))
	}, fault.PullRateLimited, []string{"toomanyrequests"}},
	{"no room on the node's disk", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return kubetest.PullFails(i, fmt.Sprintf(`rpc error: code = Unknown desc = failed to pull and unpack image %q: failed to extract layer sha256:cc: write /var/lib/containerd/x: no space left on device: unknown`, i))
	}, fault.PullFailed, []string{"no space left on device"}},
	{"invalid name", "ghcr.io/acme/source-erp", func(i string) []kubetest.Stage {
		return []kubetest.Stage{{Waiting: &corev1.ContainerStateWaiting{Reason: "InvalidImageName", Message: fmt.Sprintf("Failed to apply default image tag %q: couldn't parse image name %q: invalid reference format", i, i)}}}
	}, fault.PullFailed, []string{"InvalidImageName"}},
	{"the configuration is missing", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `configmap "trust" not found`}}}
	}, fault.ContainerNotStarted, []string{"CreateContainerConfigError", `configmap "trust" not found`}},
	{"runs as root", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Waiting: &corev1.ContainerStateWaiting{Reason: "CreateContainerConfigError", Message: `container has runAsNonRoot and image will run as root (pod: "x", container: main)`}}}
	}, fault.ContainerNotStarted, []string{"USER 1000"}},
	{"no shell", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(128, "StartError", `failed to create containerd task: failed to create shim task: OCI runtime create failed: runc create failed: unable to start container process: error during container init: exec: "sh": executable file not found in $PATH: unknown`)}
	}, fault.ContainerNotStarted, []string{"/bin/sh"}},
	{"no node", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Unscheduled: "0/3 nodes are available: 3 node(s) didn't match Pod's node affinity/selector. preemption: 0/3 nodes are available: 3 Preemption is not helpful for scheduling."}}
	}, fault.Unschedulable, []string{"0/3 nodes are available", "global.jobs.kube"}},
	{"no entrypoint", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(97, "Error", "AIRBYTE_ENTRYPOINT is not set in the image\n")}
	}, fault.ClusterSpecFailed, []string{"ENV AIRBYTE_ENTRYPOINT"}},
	{"no such command", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(127, "Error", "sh: 1: eval: ./main.py: not found\n")}
	}, fault.ClusterSpecFailed, []string{"exit code 127", "absolute path"}},
	{"crash", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Running: true, For: 1200 * time.Millisecond}, kubetest.Ends(1, "Error", "Traceback (most recent call last):\nModuleNotFoundError: No module named 'erp'\n")}
	}, fault.ClusterSpecFailed, []string{"exit code 1", "ModuleNotFoundError"}},
	{"out of memory", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(137, "OOMKilled", "")}
	}, fault.ClusterSpecFailed, []string{"memory"}},
	{"evicted", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Phase: corev1.PodFailed, Reason: "Evicted", Message: "The node was low on resource: ephemeral-storage."}}
	}, fault.PullFailed, []string{"Evicted", "ephemeral-storage"}},
	{"past its deadline", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Phase: corev1.PodFailed, Reason: "DeadlineExceeded", Message: "Pod was active on the node longer than the specified deadline"}}
	}, fault.PullFailed, []string{"DeadlineExceeded"}},
	{"never started", "ghcr.io/acme/source-erp", func(string) []kubetest.Stage {
		return []kubetest.Stage{{Events: []corev1.Event{kubetest.Warning("FailedCreatePodSandBox", "Failed to create pod sandbox: rpc error: code = Unknown desc = failed to setup network for sandbox")}}}
	}, fault.PullFailed, []string{"longer than 6s", "failed to setup network"}},
}

func TestEveryEndingHasItsError(t *testing.T) {
	t.Parallel()
	server := kubetest.Start(t)
	for _, e := range endings {
		t.Run(e.name, func(t *testing.T) {
			t.Parallel()
			n := server.Namespace(t)
			n.Install(t, kubetest.Airbyte{})
			cluster := as(t, n, "verify-pull", func(o *deployment.ClusterOptions) { o.Deadline = 6 * time.Second })
			n.Kubelet(t, func(p *corev1.Pod, _ map[string]corev1.Secret) []kubetest.Stage {
				return e.stages(p.Spec.Containers[0].Image)
			})
			err := cluster.VerifyPull(t.Context(), image.Repository(e.repository), "1.4.0", digest, &notes{})
			has(t, err, e.code, e.words...)
			f := fault.List(err)[0]
			if f.Remedy == "" || f.Object != e.repository+":1.4.0" {
				t.Errorf("no remedy, or not about the image: %+v", f)
			}
			if strings.Contains(f.Cause, "rpc error") {
				t.Errorf("the cause is not in a person's words: %s", f.Cause)
			}
			noPods(t, n)
		})
	}
}

func TestThePodIsLikeAirbytes(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{PullSecrets: "regcred,other", Settings: map[string]string{
		"JOB_KUBE_NODE_SELECTORS": "pool=jobs", "SPEC_JOB_KUBE_NODE_SELECTORS": "pool=small,kubernetes.io/arch=amd64",
		"JOB_KUBE_TOLERATIONS": "key=jobs,operator=Equal,value=true,effect=NoSchedule;key=spot,operator=Exists", "JOB_KUBE_ANNOTATIONS": "sidecar.istio.io/inject=false",
		"JOB_KUBE_LABELS": "team=data", "JOB_MAIN_CONTAINER_CPU_LIMIT": "2", "JOB_MAIN_CONTAINER_MEMORY_REQUEST": "64Mi"}})
	cluster := as(t, n, "verify-pull")
	k := n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		s := kubetest.Ends(0, "Completed", "")
		s.ImageID = "ghcr.io/acme/source-erp@" + digest
		return []kubetest.Stage{{For: 200 * time.Millisecond}, s}
	})
	var log notes
	if err := cluster.VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", digest, &log); err != nil {
		t.Fatal(err)
	}
	noPods(t, n)
	if len(k.Pods()) != 1 {
		t.Fatalf("%d pods were made, want 1", len(k.Pods()))
	}
	for _, p := range k.Pods() {
		spec, main := p.Spec, p.Spec.Containers[0]
		for what, right := range map[string]bool{
			"service account":  spec.ServiceAccountName == "airbyte-admin",
			"pull secrets":     fmt.Sprint(spec.ImagePullSecrets) == "[{regcred} {other}]",
			"node selector":    fmt.Sprint(spec.NodeSelector) == "map[kubernetes.io/arch:amd64 pool:small]",
			"tolerations":      slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == "jobs" && t.Value == "true" }) && slices.ContainsFunc(spec.Tolerations, func(t corev1.Toleration) bool { return t.Key == "spot" && t.Operator == "Exists" }),
			"image by its tag": main.Image == "ghcr.io/acme/source-erp:1.4.0",
			"pull policy":      main.ImagePullPolicy == corev1.PullAlways,
			"user":             *main.SecurityContext.RunAsUser == 1000 && *main.SecurityContext.RunAsNonRoot,
			"command":          main.Command[0] == "sh" && main.Command[1] == "-c" && strings.Contains(main.Command[2], "$AIRBYTE_ENTRYPOINT spec"),
			"working folder":   main.WorkingDir == "/config",
			"deadline":         *spec.ActiveDeadlineSeconds == 20,
			"restarts":         spec.RestartPolicy == corev1.RestartPolicyNever,
			"label":            p.Labels["team"] == "data",
			"annotation":       p.Annotations["sidecar.istio.io/inject"] == "false",
			"resources":        main.Resources.Limits.Cpu().String() == "2" && main.Resources.Requests.Memory().String() == "64Mi",
			"no token":         !*spec.AutomountServiceAccountToken,
		} {
			if !right {
				t.Errorf("the pod's %s is not as Airbyte's: %+v", what, p)
			}
		}
	}
	if !strings.Contains(log.String(), "release airbyte in namespace "+n.Name+", chart airbyte-2.0.1") {
		t.Errorf("the log does not say which Airbyte it is:\n%s", log.String())
	}
}

func TestAnotherDigestIsTold(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		s := kubetest.Ends(0, "Completed", "")
		s.ImageID = "ghcr.io/acme/source-erp@" + another
		return []kubetest.Stage{s}
	})
	for known, told := range map[string]bool{digest: true, another: false, "": false} {
		var log notes
		if err := client(n, n.Admin, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", known, &log); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(log.String(), "as "+another) != told {
			t.Errorf("the tag is %q: %s", known, log.String())
		}
	}
}

// TestCredentialsDecide has the kubelet look into the secrets that the pod names, as a real one does.
func TestCredentialsDecide(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{PullSecrets: "airbyte-publish-pull"})
	n.Kubelet(t, func(p *corev1.Pod, secrets map[string]corev1.Secret) []kubetest.Stage {
		for _, s := range secrets {
			var config struct {
				Auths map[string]struct{ Auth string }
			}
			if json.Unmarshal(s.Data[corev1.DockerConfigJsonKey], &config) != nil {
				continue
			}
			if config.Auths["ghcr.io"].Auth == base64.StdEncoding.EncodeToString([]byte("robot:right")) {
				return []kubetest.Stage{kubetest.Ends(0, "Completed", "")}
			}
		}
		i := p.Spec.Containers[0].Image
		return kubetest.PullFails(i, containerd(i, "failed to authorize: failed to fetch anonymous token: 401 Unauthorized"))
	})
	verify := func() error {
		return client(n, n.Admin, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", digest, &notes{})
	}
	has(t, verify(), fault.DeploymentDenied, "401")
	secret := deployment.PullSecret{Name: "airbyte-publish-pull", Namespace: n.Name, Entries: []deployment.Credentials{{Host: "ghcr.io", Username: "robot", Password: "right"}}}
	if _, err := client(n, n.Admin, "pull-secret").ApplySecret(t.Context(), secret, false); err != nil {
		t.Fatal(err)
	}
	if err := verify(); err != nil {
		t.Fatal(err)
	}
	noPods(t, n)
}

func TestInterruptedRunLeavesNoPod(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	cluster := as(t, n, "verify-pull")
	ctx, cancel := context.WithCancel(t.Context())
	n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		time.AfterFunc(500*time.Millisecond, cancel)
		return []kubetest.Stage{{}}
	})
	err := cluster.VerifyPull(ctx, "ghcr.io/acme/source-erp", "1.4.0", digest, &notes{})
	has(t, err, fault.Interrupted)
	noPods(t, n)
}

// TestPodThatMayNotBeDeleted is told of somebody who may not delete it in the next run either.
func TestPodThatMayNotBeDeleted(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	n.ApplyFile(t, rights+"verify-pull.yaml", "[create, get, list, delete]", "[create, get, list]")
	n.Granted(t, "airbyte-publish-verify-pull", "create", "", "pods", "")
	n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(0, "Completed", "")}
	})
	err := client(n, n.Token(t, "airbyte-publish-verify-pull"), "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{})
	has(t, err, fault.ClusterDenied, "delete pods", "until somebody who may deletes it")
	if strings.Contains(err.Error(), "next run deletes it") {
		t.Error(err)
	}
}

func TestTheNextRunSweeps(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	pod := func(name, labels, expires string) {
		n.Apply(t, fmt.Sprintf(`
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: %s, annotations: {airbyte-publish/expires: %q}}
spec: {serviceAccountName: airbyte-admin, containers: [{name: main, image: "ghcr.io/acme/x:1"}]}
`, name, labels, expires))
	}
	ours := "{app.kubernetes.io/managed-by: airbyte-publish, app.kubernetes.io/component: verify-pull}"
	pod("left", ours, time.Now().Add(-time.Minute).Format(time.RFC3339))
	pod("busy", ours, time.Now().Add(time.Minute).Format(time.RFC3339))
	pod("foreign", "{app.kubernetes.io/managed-by: somebody}", time.Now().Add(-time.Minute).Format(time.RFC3339))
	n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(0, "Completed", "")}
	})
	var log notes
	if err := as(t, n, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &log); err != nil {
		t.Fatal(err)
	}
	for name, want := range map[string]bool{"left": false, "busy": true, "foreign": true} {
		if got := n.Get(t, "Pod", name, &corev1.Pod{}); got != want {
			t.Errorf("pod %s is there: %t, want %t", name, got, want)
		}
	}
	if !strings.Contains(log.String(), "deleted the pod left") {
		t.Errorf("the log does not tell:\n%s", log.String())
	}
}

func TestDeniedRightsAreExplained(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	nobody := n.Token(t, "airbyte-admin")
	err := client(n, nobody, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", digest, &notes{})
	has(t, err, fault.ClusterDenied, "airbyte-admin has not the right to list deployments in the namespace "+n.Name, "docs/kubernetes/verify-pull.yaml")
	// What doctor may is not enough for a pod.
	err = as(t, n, "doctor", func(o *deployment.ClusterOptions) { o.Verb = "verify-pull" }).VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", digest, &notes{})
	has(t, err, fault.ClusterDenied, "create pods")
	err = client(n, nobody, "verify-pull", func(o *deployment.ClusterOptions) { o.Kubeconfig = n.Kubeconfig(nobody, "") }).VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", digest, &notes{})
	has(t, err, fault.ClusterDenied, "Set kube-namespace", "default was looked into")
	err = client(n, "wrong", "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", digest, &notes{})
	has(t, err, fault.ClusterDenied, "does not take the credentials")
}

func TestAdmissionIsNoMissingRight(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Must(t, "PATCH", "/api/v1/namespaces/"+n.Name, map[string]any{"metadata": map[string]any{"labels": map[string]string{"pod-security.kubernetes.io/enforce": "restricted"}}}, nil)
	n.Install(t, kubetest.Airbyte{})
	n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(0, "Completed", "")}
	})
	// Our pod is as restricted as the strictest policy asks for.
	if err := as(t, n, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{}); err != nil {
		t.Fatal(err)
	}
	n.Apply(t, "apiVersion: v1\nkind: ResourceQuota\nmetadata: {name: quota}\nspec: {hard: {pods: \"0\"}}\nstatus: {hard: {pods: \"0\"}}\n")
	n.Must(t, "PATCH", n.Path("ResourceQuota", "quota")+"/status", map[string]any{"status": map[string]any{"hard": map[string]string{"pods": "0"}, "used": map[string]string{"pods": "0"}}}, nil)
	err := client(n, n.Admin, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{})
	has(t, err, fault.ClusterFailed, "exceeded quota", "admission control")
}

func TestNoAirbyte(t *testing.T) {
	t.Parallel()
	server := kubetest.Start(t)
	n := server.Namespace(t)
	err := client(n, n.Admin, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{})
	has(t, err, fault.NoInstallation, n.Name, "kube-namespace")
	n.Install(t, kubetest.Airbyte{Release: "one"})
	n.Install(t, kubetest.Airbyte{Release: "two", NoServiceAccount: true})
	err = client(n, n.Admin, "verify-pull").VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{})
	has(t, err, fault.NoInstallation, "one-workload-launcher", "two-workload-launcher")
}
