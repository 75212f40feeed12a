package cli_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// encodedConfig is the manifest's line with the credentials.
var encodedConfig = regexp.MustCompile(`\.dockerconfigjson: (\S+)`)

// TestSecretStaysOutOfTheLog prints no credentials where standard output is a job's log, in no form.
func TestSecretStaysOutOfTheLog(t *testing.T) {
	t.Parallel()
	const password = "a-lasting-secret"
	laptop := environment{"HOME": t.TempDir(), "AIRBYTE_PUBLISH_PULL_USERNAME": "robot", "AIRBYTE_PUBLISH_PULL_PASSWORD": password}
	shown := laptop.run(t, "pull-secret", "ghcr.io")
	m := encodedConfig.FindStringSubmatch(shown.stdout)
	if shown.code != 0 || m == nil {
		t.Fatalf("%d %s", shown.code, shown)
	}
	encoded := m[1]
	if content, err := base64.StdEncoding.DecodeString(encoded); err != nil || !strings.Contains(string(content), password) {
		t.Fatalf("%q, %v", content, err)
	}
	// GitHub's runner is told to hide it first; CI alone is set in many a shell.
	for _, variable := range []string{"GITHUB_ACTIONS", "CI"} {
		got := laptop.with(variable, "true").run(t, "pull-secret", "ghcr.io")
		if got.code != 0 || got.stdout != shown.stdout || variable == "GITHUB_ACTIONS" && !strings.Contains(got.stderr, "::add-mask::"+encoded+"\n") {
			t.Errorf("%s: %d %s", variable, got.code, got)
		}
	}
	for variable, value := range map[string]string{"GITLAB_CI": "true", "CIRCLECI": "true", "TF_BUILD": "True", "JENKINS_URL": "https://ci.example/"} {
		t.Run(variable, func(t *testing.T) {
			t.Parallel()
			dir := t.TempDir()
			env := laptop.with(variable, value, "CI_PROJECT_DIR", dir)
			if got := env.run(t, "pull-secret", "ghcr.io"); got.code != 2 || got.stdout != "" || !strings.Contains(got.stderr, "AP104") || !strings.Contains(got.stderr, "--apply") || strings.Contains(got.stderr, encoded) {
				t.Errorf("%d %s", got.code, got)
			}
			file := filepath.Join(dir, "secret.yaml")
			if err := os.WriteFile(file, []byte("old"), 0o644); err != nil {
				t.Fatal(err)
			}
			got := env.run(t, "pull-secret", "--output-file", file, "ghcr.io")
			content, err := os.ReadFile(file)
			info, _ := os.Stat(file)
			if got.code != 0 || got.stdout != "" || err != nil || string(content) != shown.stdout || info.Mode().Perm() != 0o600 {
				t.Errorf("%d, %v, mode %v: %q, %s", got.code, err, info.Mode(), content, got)
			}
			if got := env.run(t, "pull-secret", "--output-file", "-", "ghcr.io"); got.code != 0 || got.stdout != shown.stdout {
				t.Errorf("%d %s", got.code, got)
			}
			if got := env.run(t, "pull-secret", "--helm-values", "ghcr.io"); got.code != 0 || got.stdout == "" {
				t.Errorf("values are no secret: %d %s", got.code, got)
			}
		})
	}
	if got := laptop.run(t, "pull-secret", "--output-file", filepath.Join(t.TempDir(), "missing", "x"), "ghcr.io"); got.code != 1 || !strings.Contains(got.stderr, "AP903") || strings.Contains(got.String(), encoded) {
		t.Errorf("%d %s", got.code, got)
	}
}

// TestRegistriesThatShareCredentials are those that were named outright; images may be anybody's.
func TestRegistriesThatShareCredentials(t *testing.T) {
	t.Parallel()
	env := environment{"HOME": t.TempDir(), "AIRBYTE_PUBLISH_PULL_USERNAME": "robot", "AIRBYTE_PUBLISH_PULL_PASSWORD": "a-lasting-secret"}
	got := env.run(t, "pull-secret", "mirror-a.example", "mirror-b.example")
	m := encodedConfig.FindStringSubmatch(got.stdout)
	if got.code != 0 || m == nil || !strings.Contains(got.stderr, "the same credentials are written for each of mirror-a.example, mirror-b.example") {
		t.Fatalf("%d %s", got.code, got)
	}
	content, err := base64.StdEncoding.DecodeString(m[1])
	var config struct {
		Auths map[string]struct{ Username, Password string }
	}
	if err := errors.Join(err, json.Unmarshal(content, &config)); err != nil || len(config.Auths) != 2 || config.Auths["mirror-b.example"].Password != "a-lasting-secret" {
		t.Errorf("%v, %v", config, err)
	}
	if got := env.run(t, "pull-secret", "mirror-a.example/acme/x", "mirror-b.example/acme/y"); got.code != 2 || !strings.Contains(got.stderr, "AP104") || got.stdout != "" {
		t.Errorf("%d %s", got.code, got)
	}
}

func TestInterruptedDoctorIsNotIll(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	env := environment{"HOME": t.TempDir(), "AIRBYTE_PUBLISH_AIRBYTE_URL": "http://127.0.0.1:1", "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP": "true"}
	if got := env.runContext(ctx, "doctor", "127.0.0.1:1/acme/x"); got.code != 130 || got.stdout != "" || !strings.Contains(got.stderr, "AP902") || strings.Contains(got.stderr, "AP619") {
		t.Errorf("%d %s", got.code, got)
	}
}
