package cli_test

import (
	"encoding/base64"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// The secrets of all runs below. Each holds characters that other notations write in another way.
const (
	registryPassword = "reg+pw/7b1e5c\"9&d"
	clientSecret     = "client-secret/0f3a=91+c"
	headerSecret     = "header-secret-5d11ab/=7"
	accessToken      = "access-token-98c1fe77ab0d"
	basicPassword    = "basic-pw%41/61d07c5e"
	registryToken    = "registry-token-c0ffee1234"
)

// forms are how a secret may show up.
func forms(t *testing.T) map[string]string {
	t.Helper()
	all := map[string]string{}
	for _, s := range []string{registryPassword, clientSecret, headerSecret, accessToken, basicPassword, registryToken} {
		all[s] = s
		all[s+" as base64"] = strings.TrimRight(base64.StdEncoding.EncodeToString([]byte(s)), "=")
		all[s+" in a URL"] = url.QueryEscape(s)
	}
	all["registry's basic authentication"] = base64.StdEncoding.EncodeToString([]byte("publisher:" + registryPassword))
	all["Airbyte's basic authentication"] = base64.StdEncoding.EncodeToString([]byte("airbyte:" + basicPassword))
	return all
}

// TestNoSecretIsLeftAnywhere publishes in many ways, good and bad, on each CI host, with servers and connectors that
// repeat what they are told, and looks for every secret in all that was printed or left in a file.
func TestNoSecretIsLeftAnywhere(t *testing.T) {
	t.Parallel()
	images := registrytest.Start(t, registrytest.Config{Users: map[string]string{"publisher": registryPassword}})
	// A server that answers with all that it was sent.
	mirror := serve(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.WriteHeader(http.StatusBadRequest)
		_ = r.ParseForm()
		_ = r.Header.Write(w)
		body := make([]byte, 1<<16)
		n, _ := r.Body.Read(body)
		_, _ = w.Write(append([]byte("you said: "), body[:n]...))
	}))
	auth := sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: clientSecret}
	airbyte := startAirbyte(t, sandbox.AirbyteOptions{Auth: auth,
		RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: images.Addr, Username: "publisher", Password: registryPassword})})
	basic := startAirbyte(t, sandbox.AirbyteOptions{Version: "0.63.0", Auth: sandbox.Auth{Mode: sandbox.BasicAuth, User: "airbyte", Password: basicPassword},
		RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: images.Addr, Username: "publisher", Password: registryPassword})})
	echo := variantOf(t, connectors.EchoEnvironment)
	good := environment{
		"AIRBYTE_PUBLISH_SOURCE":              "oci:" + echo,
		"AIRBYTE_PUBLISH_AIRBYTE_URL":         airbyte.url,
		"AIRBYTE_PUBLISH_AIRBYTE_HEADERS":     "X-Proxy-Token: " + headerSecret,
		"AIRBYTE_PUBLISH_REGISTRY_USERNAME":   "publisher",
		"AIRBYTE_PUBLISH_REGISTRY_PASSWORD":   registryPassword,
		"AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP": "true",
	}
	clients := good.with("AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID", "client", "AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET", clientSecret)
	scenarios := map[string]struct {
		env  environment
		code int
	}{
		"good":                      {clients, 0},
		"basic":                     {good.with("AIRBYTE_PUBLISH_AIRBYTE_URL", basic.url, "AIRBYTE_PUBLISH_AIRBYTE_USERNAME", "airbyte", "AIRBYTE_PUBLISH_AIRBYTE_PASSWORD", basicPassword), 0},
		"wrong access token":        {good.with("AIRBYTE_PUBLISH_AIRBYTE_ACCESS_TOKEN", accessToken), 1},
		"mirror as Airbyte":         {clients.with("AIRBYTE_PUBLISH_AIRBYTE_URL", "http://"+mirror), 1},
		"mirror as registry":        {clients.with("AIRBYTE_PUBLISH_IMAGE", mirror+"/x/{connector}"), 1},
		"wrong registry token":      {clients.with("AIRBYTE_PUBLISH_REGISTRY_USERNAME", "", "AIRBYTE_PUBLISH_REGISTRY_PASSWORD", "", "AIRBYTE_PUBLISH_REGISTRY_TOKEN", registryToken), 1},
		"secret as another input":   {clients.with("AIRBYTE_PUBLISH_JOBS", clientSecret, "AIRBYTE_PUBLISH_TAG", registryPassword), 2},
		"secret under a wrong name": {clients.with("AIRBYTE_PUBLISH_PASSWORD", basicPassword), 2},
		"secret as a flag":          {clients, 2},
		"inputs as JSON":            {environment{"AIRBYTE_PUBLISH_INPUTS": `{"airbyte-url":"` + airbyte.url + `","airbyte-client-secret":"` + clientSecret + `"}`}, 2},
		"secret in the name":        {clients, 0},
	}
	hosts := map[string][]string{
		"plain":  nil,
		"github": {"GITHUB_ACTIONS", "true"},
		"gitlab": {"GITLAB_CI", "true"},
	}
	for name, sc := range scenarios {
		for host, hostEnv := range hosts {
			t.Run(name+" on "+host, func(t *testing.T) {
				dir := t.TempDir()
				repository := images.Addr + "/" + strings.ToLower(strings.ReplaceAll(name, " ", "-")) + "/" + host + "/{connector}"
				env := environment{"AIRBYTE_PUBLISH_IMAGE": repository, "AIRBYTE_PUBLISH_NAME": name + " on " + host, "HOME": dir, "TMPDIR": dir, "CI_PROJECT_DIR": dir,
					"GITHUB_OUTPUT": filepath.Join(dir, "output"), "GITHUB_STEP_SUMMARY": filepath.Join(dir, "summary"),
					"GITHUB_WORKSPACE": dir}
				for k, v := range sc.env {
					env[k] = v
				}
				if name == "secret in the name" {
					env["AIRBYTE_PUBLISH_NAME"] += " " + clientSecret
				}
				args := []string{"publish", copyConnector(t, "source-hello", "0.1.0")}
				if name == "secret as a flag" {
					args = append(args, "--airbyte-password", basicPassword)
				}
				o := env.with(hostEnv...).run(t, args...)
				if o.code != sc.code {
					t.Errorf("exit code %d, want %d\n%s", o.code, sc.code, o)
				}
				printed := withoutMaskCommands(o.stdout) + withoutMaskCommands(o.stderr)
				left := files(t, dir)
				for form, secret := range forms(t) {
					if strings.Contains(printed, secret) {
						t.Errorf("%s was printed\n%s", form, o)
					}
					for file, content := range left {
						if strings.Contains(content, secret) {
							t.Errorf("%s is in the file %s", form, file)
						}
					}
				}
			})
		}
	}
	for form, secret := range forms(t) {
		for file, content := range files(t, images.Dir) {
			if strings.Contains(content, secret) {
				t.Errorf("%s is in the registry's file %s", form, file)
			}
		}
	}
}

// withoutMaskCommands leaves out the lines by which GitHub's runner is told a secret; it does not show them.
func withoutMaskCommands(s string) string {
	var kept []string
	for line := range strings.Lines(s) {
		if !strings.HasPrefix(line, "::add-mask::") {
			kept = append(kept, line)
		}
	}
	return strings.Join(kept, "")
}

func files(t *testing.T, dir string) map[string]string {
	t.Helper()
	all := map[string]string{}
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		content, err := os.ReadFile(path)
		all[path] = string(content)
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return all
}
