package cli_test

import (
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// setUp is all that doctor looks at. The zero value is one in which nothing is wrong.
type setUp struct {
	installed kubetest.Airbyte
	version   string
	edition   sandbox.Edition
	roles     []string
	// secret is the docker configuration of the pull secret, where %s stands for the registry; "-" is no secret.
	secret, secretType string
	// started is when the launcher's pod started, from now.
	started time.Duration
	// change is done to the environment, and last to the cluster.
	change  func(environment)
	cluster func(*testing.T, kubetest.Namespace)
}

// diagnosis is what doctor told.
type diagnosis struct {
	Good   bool
	Checks []struct{ Area, Name, State, Found, Remedy, Code string }
}

func (s setUp) diagnose(t *testing.T) (diagnosis, outcome) {
	t.Helper()
	n := kubetest.Start(t).Namespace(t)
	if s.installed.PullSecrets == "" {
		s.installed.PullSecrets = "airbyte-publish-pull"
	}
	n.Install(t, s.installed)
	images := registrytest.Start(t, registrytest.Config{Users: map[string]string{"publisher": registryPassword}})
	if s.secret == "" {
		s.secret = `{"auths":{"%s":{"username":"robot","password":"lasting"}}}`
	}
	if s.secretType == "" {
		s.secretType = "kubernetes.io/dockerconfigjson"
	}
	if s.secret != "-" {
		key := ".dockerconfigjson"
		n.Must(t, http.MethodPost, n.Path("Secret", ""), map[string]any{"apiVersion": "v1", "kind": "Secret", "type": s.secretType, "metadata": map[string]any{"name": "airbyte-publish-pull"},
			"data": map[string]any{key: []byte(strings.ReplaceAll(s.secret, "%s", images.Addr))}}, nil)
	}
	if !s.installed.NoServiceAccount && !s.installed.NoLauncher {
		if s.started == 0 {
			s.started = time.Minute
		}
		n.LauncherPod(t, "airbyte", time.Now().Add(s.started))
	}
	if s.version == "" {
		s.version = "2.0.0"
	}
	auth := sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: "id", ClientSecret: airbyteSecret, Roles: s.roles}
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{Version: s.version, Edition: s.edition, Auth: auth})
	env := as(t, n, "doctor").with("AIRBYTE_PUBLISH_AIRBYTE_URL", airbyte.url, "AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID", "id", "AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET", airbyteSecret,
		"AIRBYTE_PUBLISH_IMAGE", images.Addr+"/acme/source-hello", "AIRBYTE_PUBLISH_REGISTRY_USERNAME", "publisher", "AIRBYTE_PUBLISH_REGISTRY_PASSWORD", registryPassword, "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP", "true")
	if s.change != nil {
		s.change(env)
	}
	if s.cluster != nil {
		s.cluster(t, n)
	}
	got := env.run(t, "doctor", "--output", "json")
	var d diagnosis
	if err := json.Unmarshal([]byte(got.stdout), &d); err != nil {
		t.Fatalf("%v: %d %s", err, got.code, got)
	}
	for _, secret := range []string{registryPassword, airbyteSecret, "lasting\""} {
		if strings.Contains(got.String(), secret) {
			t.Errorf("it shows a secret: %s", got)
		}
	}
	return d, got
}

const airbyteSecret = "airbyte-client-secret-6f1d"

func TestDoctorOnAGoodSetUp(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]setUp{
		"chart v2":   {},
		"chart v1":   {installed: kubetest.Airbyte{Chart: "v1"}, version: "1.8.0"},
		"enterprise": {edition: sandbox.Enterprise, roles: []string{"ORGANIZATION_ADMIN"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, got := s.diagnose(t)
			for _, c := range d.Checks {
				if c.State != "good" || c.Remedy != "" {
					t.Errorf("%+v", c)
				}
			}
			if got.code != 0 || !d.Good || len(d.Checks) < 15 {
				t.Errorf("%d, %d lines: %s", got.code, len(d.Checks), got)
			}
		})
	}
}

func TestDoctorNamesWhatIsBroken(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		setUp setUp
		// area, line and code are those of the only bad line; words are in it.
		area, line, code string
		words            []string
	}{
		"the registry is down":           {setUp{secret: `{"auths":{"127.0.0.1:1":{"username":"robot","password":"lasting"}}}`, change: func(e environment) { e["AIRBYTE_PUBLISH_IMAGE"] = "127.0.0.1:1/acme/source-hello" }}, "Registry", "right to push", "AP301", nil},
		"no right to push":               {setUp{change: func(e environment) { e["AIRBYTE_PUBLISH_REGISTRY_PASSWORD"] = "wrong" }}, "Registry", "right to push", "AP304", nil},
		"Airbyte is down":                {setUp{change: func(e environment) { e["AIRBYTE_PUBLISH_AIRBYTE_URL"] = "http://127.0.0.1:1" }}, "Airbyte", "instance", "AP501", nil},
		"wrong client secret":            {setUp{change: func(e environment) { e["AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET"] = "wrong" }}, "Airbyte", "sign-in", "AP503", nil},
		"no such workspace":              {setUp{change: func(e environment) { e["AIRBYTE_PUBLISH_WORKSPACE_IDS"] = "99999999-9999-4999-8999-999999999999" }}, "Airbyte", "workspace", "AP508", nil},
		"a version with a defect":        {setUp{version: "1.6.0"}, "Airbyte", "known defects", "AP507", []string{"59123", "1.7"}},
		"no role":                        {setUp{edition: sandbox.Enterprise, roles: []string{"WORKSPACE_READER"}}, "Airbyte", "roles", "AP504", []string{"WORKSPACE_READER"}},
		"the cluster is down":            {setUp{change: func(e environment) { e["AIRBYTE_PUBLISH_KUBECONFIG"] = unreachable }}, "Kubernetes", "cluster", "AP602", nil},
		"no Airbyte":                     {setUp{installed: kubetest.Airbyte{NoLauncher: true}}, "Kubernetes", "Airbyte", "AP604", []string{"kube-namespace"}},
		"the launcher does not run":      {setUp{installed: kubetest.Airbyte{NotReady: true}}, "Kubernetes", "workload launcher", "", []string{"no pod that is ready"}},
		"no config map":                  {setUp{installed: kubetest.Airbyte{NoConfigMap: true}}, "Kubernetes", "settings", "AP604", []string{"airbyte-airbyte-env"}},
		"no service account":             {setUp{installed: kubetest.Airbyte{NoServiceAccount: true}}, "Kubernetes", "service account", "", []string{"airbyte-admin"}},
		"no pull secret":                 {setUp{secret: "-"}, "Kubernetes", "pull secret airbyte-publish-pull", "AP606", []string{"it is not in namespace"}},
		"a secret of another type":       {setUp{secretType: "Opaque"}, "Kubernetes", "pull secret airbyte-publish-pull", "AP606", []string{"Opaque"}},
		"a secret for another registry":  {setUp{secret: `{"auths":{"ghcr.io":{"username":"robot","password":"lasting"}}}`}, "Kubernetes", "pull secret for 127.0.0.1", "AP607", []string{"airbyte-publish pull-secret --apply"}},
		"a token that has ended":         {setUp{secret: `{"auths":{"%s":{"username":"robot","password":"lasting"},"ghcr.io":{"username":"x","password":"ghs_abcdef"}}}`}, "Kubernetes", "pull secret airbyte-publish-pull", "AP601", []string{"read:packages"}},
		"a secret without a registry":    {setUp{secret: `{"auths":{}}`}, "Kubernetes", "pull secret airbyte-publish-pull", "AP606", []string{"holds no registry"}},
		"a space in the list of secrets": {setUp{installed: kubetest.Airbyte{PullSecrets: "airbyte-publish-pull, other"}}, "Kubernetes", "pull secret  other", "AP606", []string{"with a space"}},
		"a chart that writes maps":       {setUp{installed: kubetest.Airbyte{PullSecrets: "map[name:regcred],airbyte-publish-pull"}}, "Kubernetes", "pull secret map[name:regcred]", "AP606", []string{"mainContainerImagePullSecret"}},
		"the launcher is too old":        {setUp{started: -time.Hour, cluster: func(t *testing.T, n kubetest.Namespace) { changeList(t, n, "airbyte-publish-pull,") }}, "Kubernetes", "launcher's start", "", []string{"rollout restart"}},
		"images are never pulled":        {setUp{installed: kubetest.Airbyte{Settings: map[string]string{"JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_POLICY": "Never"}}}, "Kubernetes", "pull policy", "", []string{"Never"}},
		"Airbyte's pods wait": {setUp{cluster: func(t *testing.T, n kubetest.Namespace) {
			n.Apply(t, "apiVersion: v1\nkind: Pod\nmetadata: {name: source-hello-spec-1, labels: {airbyte: job-pod}}\nspec: {serviceAccountName: airbyte-admin, imagePullSecrets: [{name: airbyte-publish-pull}], containers: [{name: main, image: x}]}\n")
			n.Must(t, http.MethodPatch, n.Path("Pod", "source-hello-spec-1")+"/status", map[string]any{"status": map[string]any{"phase": "Pending", "containerStatuses": []any{map[string]any{
				"name": "main", "image": "x", "imageID": "", "state": map[string]any{"waiting": map[string]any{"reason": "ImagePullBackOff", "message": "Back-off pulling image: ErrImagePull: 401 Unauthorized"}}}}}}, nil)
		}}, "Kubernetes", "Airbyte's own pods", "AP607", []string{"source-hello-spec-1", "401"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, got := tt.setUp.diagnose(t)
			var bad []string
			for _, c := range d.Checks {
				if c.State != "bad" {
					continue
				}
				bad = append(bad, c.Name)
				if c.Area != tt.area || !strings.Contains(c.Name, tt.line) || c.Code != tt.code || c.Remedy == "" {
					t.Errorf("%+v", c)
				}
				for _, w := range tt.words {
					if !strings.Contains(c.Found+" "+c.Remedy, w) {
						t.Errorf("it lacks %q: %+v", w, c)
					}
				}
			}
			if len(bad) != 1 || got.code != 1 || d.Good || !strings.Contains(got.stderr, "AP619") {
				t.Errorf("bad is %q, exit code %d: %s", bad, got.code, got)
			}
		})
	}
}

// changeList changes the launcher's list and nothing else, as a person does by kubectl edit.
func changeList(t *testing.T, n kubetest.Namespace, list string) {
	t.Helper()
	n.Must(t, http.MethodPatch, n.Path("ConfigMap", "airbyte-airbyte-env")+"?fieldManager=kubectl-edit", map[string]any{"data": map[string]string{"JOB_KUBE_MAIN_CONTAINER_IMAGE_PULL_SECRET": list}}, nil)
}

const unreachable = `{apiVersion: v1, kind: Config, current-context: c, clusters: [{name: c, cluster: {server: "https://127.0.0.1:1"}}],
users: [{name: c, user: {token: x}}], contexts: [{name: c, context: {cluster: c, user: c}}]}`

func TestDoctorsTable(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{PullSecrets: "regcred", AccountSecrets: []string{"other"}})
	env := as(t, n, "doctor")
	got := env.run(t, "doctor", "127.0.0.1:1/acme/source-erp:1.0.0")
	for _, line := range []string{"Registry\n", "Airbyte\n  -        airbyte", "Kubernetes\n  ok       cluster", "BAD      right to push to 127.0.0.1:1", "-        pull secret for 127.0.0.1:1", "warning  service account", "-        pull secret regcred", "→ "} {
		if !strings.Contains(got.stdout, line) {
			t.Errorf("the table lacks %q:\n%s", line, got.stdout)
		}
	}
	if got.code != 1 {
		t.Errorf("exit code %d", got.code)
	}
}
