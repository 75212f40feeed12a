package deployment

import (
	"crypto/rand"
	"encoding/hex"
	"maps"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// What a pod of ours is known by. Airbyte's sweeper and launcher look for labels of their own, which these are not.
const (
	managedLabel   = "app.kubernetes.io/managed-by"
	componentLabel = "app.kubernetes.io/component"
	component      = "verify-pull"
	podSelector    = managedLabel + "=" + fieldManager + "," + componentLabel + "=" + component
	// expiresAnnotation is when a pod is of no use to anybody any more, whatever became of the run that made it.
	expiresAnnotation = "airbyte-publish/expires"
	imageAnnotation   = "airbyte-publish/image"

	mainContainer = "main"
	configDir     = "/config"
)

// jobLabel is on the pods that Airbyte makes for its jobs.
const jobLabel = "airbyte=job-pod"

// What the script below exits with when it is not spec that failed. Kubernetes and shells use none of them.
const (
	exitNoEntrypoint = 97
	exitNoSpec       = 98
)

// script runs spec as Airbyte does: through sh, from the variable, with what it prints in a file. It needs nothing of the
// image but sh. A connector's last words end up in the pod's status, because the container falls back to its log.
const script = `if [ -z "$AIRBYTE_ENTRYPOINT" ]; then
  echo "AIRBYTE_ENTRYPOINT is not set in the image" >&2
  exit 97
fi
(eval "$AIRBYTE_ENTRYPOINT spec") > ` + configDir + `/jobOutput.json
code=$?
found=
while IFS= read -r line || [ -n "$line" ]; do
  case $line in *'"SPEC"'*) found=1 ;; *) [ $code -eq 0 ] || printf '%s\n' "$line" ;; esac
done < ` + configDir + `/jobOutput.json
if [ $code -ne 0 ]; then exit $code; fi
if [ -z "$found" ]; then
  echo "spec ended without a SPEC message" >&2
  exit 98
fi
`

// uid is the user that Airbyte runs connectors as where it is told not to run them as root.
const uid = 1000

// pod is like the one that Airbyte starts for spec, with what matters for pulling and running the image and without the
// parts that speak to Airbyte.
func (c *Cluster) pod(i *installation, target Image, pullSecrets []string) *corev1.Pod {
	yes, no, user := true, false, int64(uid)
	deadline, grace := int64(c.options.Deadline/time.Second), int64(2)
	labels, annotations := i.jobLabels(), i.jobAnnotations()
	maps.Copy(labels, map[string]string{managedLabel: fieldManager, componentLabel: component})
	maps.Copy(annotations, map[string]string{imageAnnotation: target.Reference(),
		expiresAnnotation: c.options.Now().Add(c.options.Deadline + time.Minute).UTC().Format(time.RFC3339)})
	p := &corev1.Pod{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Pod"},
		ObjectMeta: metav1.ObjectMeta{Name: podName(), Namespace: i.jobNamespace(), Labels: labels, Annotations: annotations},
		Spec: corev1.PodSpec{
			ServiceAccountName:            i.serviceAccount(),
			AutomountServiceAccountToken:  &no,
			RestartPolicy:                 corev1.RestartPolicyNever,
			ActiveDeadlineSeconds:         &deadline,
			TerminationGracePeriodSeconds: &grace,
			NodeSelector:                  pairs(i.specific("JOB_KUBE_NODE_SELECTORS")),
			Tolerations:                   tolerations(i.specific(tolerationsVariable)),
			SecurityContext:               &corev1.PodSecurityContext{FSGroup: &user},
			Volumes:                       []corev1.Volume{{Name: "config", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			Containers: []corev1.Container{{
				Name: mainContainer, Image: target.Reference(), Command: []string{"sh", "-c", script}, WorkingDir: configDir,
				// Always, so that the registry is asked even by a node that has the image.
				ImagePullPolicy:          corev1.PullAlways,
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				Resources:                i.resources(),
				VolumeMounts:             []corev1.VolumeMount{{Name: "config", MountPath: configDir}},
				SecurityContext: &corev1.SecurityContext{RunAsUser: &user, RunAsGroup: &user, RunAsNonRoot: &yes, AllowPrivilegeEscalation: &no,
					Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
			}},
		},
	}
	for _, name := range pullSecrets {
		p.Spec.ImagePullSecrets = append(p.Spec.ImagePullSecrets, corev1.LocalObjectReference{Name: name})
	}
	return p
}

// podName is new each time, so that no run takes another's pod for its own.
func podName() string {
	b := make([]byte, 5)
	// It never fails; see crypto/rand.
	_, _ = rand.Read(b)
	return fieldManager + "-pull-" + hex.EncodeToString(b)
}
