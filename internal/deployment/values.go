package deployment

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// HelmValues are the values by which a chart gives connectors' pods the secrets, in addition to those of its
// imagePullSecrets. All charts take the names with commas. An early chart v2 makes "map[name:NAME]" of
// each of its global.imagePullSecrets, and charts before Airbyte 1.4 keep them from connectors' pods, so that they are not used here.
func HelmValues(chart Chart, secrets ...string) string {
	key := "mainContainerImagePullSecret"
	if chart == ChartV1 {
		key = "main_container_image_pull_secret"
	}
	values := map[string]any{"jobs": map[string]any{"kube": map[string]string{key: strings.Join(secrets, ",")}}}
	if chart != ChartDataPlane {
		values = map[string]any{"global": values}
	}
	content, err := yaml.Marshal(values)
	if err != nil {
		// Maps of strings always encode.
		return err.Error()
	}
	return string(content)
}

// helmValues are those for this release, which keep what it has already. What the launcher's own pod has comes from the
// chart's imagePullSecrets, which stay as they are.
func (i *installation) helmValues(secret string) string {
	var names []string
	for _, name := range append(i.named(), secret) {
		own := func(r corev1.LocalObjectReference) bool { return r.Name == name }
		if !slices.ContainsFunc(i.launcher.Spec.Template.Spec.ImagePullSecrets, own) && !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return HelmValues(i.chart, names...)
}

// refresherImage has the aws command, curl and a shell.
const refresherImage = "public.ecr.aws/aws-cli/aws-cli:2.31.0"

// refresherManager is the field manager of the job that renews a secret. It writes without force, so that Kubernetes
// refuses it the content of a secret that somebody else manages.
const refresherManager = "airbyte-publish-ecr"

// refresherScript renews the secret. The token stands in files of the pod's memory only, and on no command line.
const refresherScript = `set -eu
umask 077
cd /work
api=https://$KUBERNETES_SERVICE_HOST:$KUBERNETES_SERVICE_PORT
account=${SERVICE_ACCOUNT_DIR:-/var/run/secrets/kubernetes.io/serviceaccount}
entries=
for host in $HOSTS; do
  case $host in
    public.ecr.aws) aws ecr-public get-login-password --region us-east-1 > token ;;
    *) region=${host#*ecr.}; region=${region#*ecr-fips.}
       aws ecr get-login-password --region "${region%%.*}" > token ;;
  esac
  auth=$(printf 'AWS:%s' "$(cat token)" | base64 | tr -d '\n')
  entries="$entries${entries:+,}\"$host\":{\"auth\":\"$auth\"}"
done
config=$(printf '{"auths":{%s}}' "$entries" | base64 | tr -d '\n')
printf '{"apiVersion":"v1","kind":"Secret","metadata":{"name":"%s"},"type":"kubernetes.io/dockerconfigjson","data":{".dockerconfigjson":"%s"}}' \
  "$SECRET" "$config" > body
printf 'Authorization: Bearer %s' "$(cat "$account/token")" > header
curl --fail-with-body --silent --show-error --cacert "$account/ca.crt" --header @header \
  --header 'Content-Type: application/apply-patch+yaml' --request PATCH --data-binary @body --output answer \
  "$api/api/v1/namespaces/$NAMESPACE/secrets/$SECRET?fieldManager=` + refresherManager + `" || { code=$?; cat answer >&2; exit "$code"; }
echo "renewed $SECRET"
`

// ecrSuffix is what the name of a secret that is renewed for ECR ends with.
const ecrSuffix = "-ecr"

// RefreshedName is the name of the secret that is renewed for ECR beside the one that pull-secret makes. The two are never
// one: what is renewed is written as a whole, and would take the other's entries away.
func RefreshedName(secret string) string { return strings.TrimSuffix(secret, ecrSuffix) + ecrSuffix }

// Refreshed tells whether a registry's credentials can't last, so that a job has to renew them.
func Refreshed(host string) bool { return adviceFor(host).none }

// longestCronJob is how long Kubernetes lets a CronJob's name be, from which it makes those of the jobs.
const longestCronJob = 52

// ECRRefresher is a manifest of a job that renews a pull secret for ECR every six hours, since ECR's tokens end after
// twelve. It writes a secret of its own, of RefreshedName, so that nothing else's entries get lost, and may write nothing
// else.
func ECRRefresher(s PullSecret, hosts []string) (string, error) {
	for _, host := range hosts {
		if a := adviceFor(host); a.name != "Amazon ECR" {
			return "", &fault.Error{Code: fault.InvalidInput, Op: "print the job that renews a pull secret for", Object: host,
				Cause: "it is no registry of Amazon ECR, whose tokens have to be renewed", Remedy: "Name ECR's registries only, such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com."}
		}
	}
	s.Name = RefreshedName(s.Name)
	name := s.Name + "-refresher"
	if len(name) > longestCronJob {
		return "", &fault.Error{Code: fault.InvalidInput, Op: "read", Object: `input "pull-secret"`, Cause: fmt.Sprintf("the CronJob would be called %s, which is longer than the %d characters that Kubernetes takes", name, longestCronJob),
			Remedy: "Choose a shorter name."}
	}
	meta := func(name string) map[string]any {
		m := map[string]any{"name": name, "labels": map[string]string{"app.kubernetes.io/managed-by": fieldManager}}
		if s.Namespace != "" {
			m["namespace"] = s.Namespace
		}
		return m
	}
	subject := map[string]any{"kind": "ServiceAccount", "name": name}
	if s.Namespace != "" {
		subject["namespace"] = s.Namespace
	}
	pod := map[string]any{
		"serviceAccountName": name, "restartPolicy": "Never",
		"volumes": []any{map[string]any{"name": "work", "emptyDir": map[string]any{"medium": "Memory", "sizeLimit": "1Mi"}}},
		"containers": []any{map[string]any{
			"name": "refresh", "image": refresherImage, "command": []string{"sh", "-c", refresherScript},
			"env": []any{
				map[string]any{"name": "HOSTS", "value": strings.Join(hosts, " ")},
				map[string]any{"name": "SECRET", "value": s.Name},
				map[string]any{"name": "NAMESPACE", "valueFrom": map[string]any{"fieldRef": map[string]any{"fieldPath": "metadata.namespace"}}},
				map[string]any{"name": "HOME", "value": "/work"},
			},
			"volumeMounts": []any{map[string]any{"name": "work", "mountPath": "/work"}},
			"securityContext": map[string]any{"runAsUser": uid, "runAsNonRoot": true, "allowPrivilegeEscalation": false,
				"capabilities": map[string]any{"drop": []string{"ALL"}}, "seccompProfile": map[string]any{"type": "RuntimeDefault"}},
		}},
	}
	objects := []map[string]any{
		{"apiVersion": "v1", "kind": "ServiceAccount", "metadata": meta(name)},
		{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": meta(name), "rules": []any{map[string]any{
			"apiGroups": []string{""}, "resources": []string{"secrets"}, "resourceNames": []string{s.Name}, "verbs": []string{"create", "patch"}}}},
		{"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "metadata": meta(name),
			"roleRef": map[string]any{"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name}, "subjects": []any{subject}},
		{"apiVersion": "batch/v1", "kind": "CronJob", "metadata": meta(name), "spec": map[string]any{
			"schedule": "17 */6 * * *", "concurrencyPolicy": "Forbid", "successfulJobsHistoryLimit": 1, "failedJobsHistoryLimit": 1,
			"jobTemplate": map[string]any{"spec": map[string]any{"backoffLimit": 3, "activeDeadlineSeconds": 600,
				"template": map[string]any{"spec": pod}}}}},
	}
	var b strings.Builder
	fmt.Fprintf(&b, `# Renews the pull secret %s for ECR every six hours; its tokens end after twelve.
# The pod needs credentials of AWS that may call ecr:GetAuthorizationToken and read the repositories: annotate the service
# account with a role (eks.amazonaws.com/role-arn) or use EKS Pod Identity; outside of AWS add AWS_ACCESS_KEY_ID and
# AWS_SECRET_ACCESS_KEY from a Secret to the container's env. Then run it for the first time, and have connectors' pods be
# given the secret that it makes:
#   kubectl create job --from=cronjob/%s %s-first
#   airbyte-publish pull-secret --pull-secret %s --apply --wire
# The secret is the job's own: it writes no content that somebody else manages.
`, s.Name, name, name, s.Name)
	for _, o := range objects {
		content, err := yaml.Marshal(o)
		if err != nil {
			return "", err
		}
		b.WriteString("---\n")
		b.Write(content)
	}
	return b.String(), nil
}
