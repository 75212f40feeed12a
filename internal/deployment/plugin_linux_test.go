package deployment_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// byPlugin is a kubeconfig whose user signs in by a shell script, which finds its folder in DIR.
func byPlugin(t *testing.T, url string, ca []byte, namespace, script, mode string) (kubeconfig []byte, dir string) {
	t.Helper()
	dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "plugin"), []byte("#!/bin/sh\n"+script), 0o700); err != nil {
		t.Fatal(err)
	}
	kubeconfig, err := json.Marshal(map[string]any{"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": url, "certificate-authority-data": ca}}},
		"users": []any{map[string]any{"name": "test", "user": map[string]any{"exec": map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "command": filepath.Join(dir, "plugin"),
			"args": []string{"get-token"}, "interactiveMode": mode, "provideClusterInfo": true, "installHint": "install it from acme.example", "env": []any{map[string]string{"name": "DIR", "value": dir}}}}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test", "namespace": namespace}}}})
	if err != nil {
		t.Fatal(err)
	}
	return kubeconfig, dir
}

// gives is a script's line that gives the token in a file.
const gives = `printf '{"apiVersion":"client.authentication.k8s.io/v1","kind":"ExecCredential","status":{"token":"%s"}}' "$(cat "$DIR/token")"` + "\n"

// TestPluginIsToldNothing has a plugin keep all that it gets.
func TestPluginIsToldNothing(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	// The first token is refused, and the second is good.
	kubeconfig, dir := byPlugin(t, n.URL, n.CA, n.Name, `env > "$DIR/env"; echo "$KUBERNETES_EXEC_INFO" > "$DIR/info"; echo run >> "$DIR/runs"; cat > "$DIR/stdin"; echo noise >&2
[ "$(wc -l < "$DIR/runs")" -gt 1 ] || echo wrong > "$DIR/token"
`+gives+`cp "$DIR/good" "$DIR/token"
`, "IfAvailable")
	if err := os.WriteFile(filepath.Join(dir, "good"), []byte(n.Admin), 0o600); err != nil {
		t.Fatal(err)
	}
	secrets := []string{"AIRBYTE_PUBLISH_REGISTRY_PASSWORD=secret-1", "INPUT_AIRBYTE-CLIENT-SECRET=secret-2", "DOCKER_AUTH_CONFIG=secret-3", "CI_JOB_TOKEN=secret-4", "GITHUB_TOKEN=secret-5"}
	needed := []string{"PATH=" + os.Getenv("PATH"), "AWS_ACCESS_KEY_ID=key-of-a-cloud", "ACTIONS_ID_TOKEN_REQUEST_TOKEN=for-kubelogin"}
	var mu sync.Mutex
	var hidden []string
	cluster := deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: kubeconfig, Verb: "doctor", Environ: append(slices.Clone(needed), secrets...), Secret: func(s ...string) {
		mu.Lock()
		defer mu.Unlock()
		hidden = append(hidden, s...)
	}})
	for range 2 {
		if namespace, err := cluster.Namespace(t.Context()); err != nil || namespace != n.Name {
			t.Fatalf("%q, %v", namespace, err)
		}
	}
	read := func(name string) string {
		content, err := os.ReadFile(filepath.Join(dir, name))
		if err != nil {
			t.Fatal(err)
		}
		return string(content)
	}
	if got := read("env"); strings.Contains(got, "secret-") {
		t.Errorf("the plugin was told a secret:\n%s", got)
	} else {
		for _, variable := range needed {
			if !strings.Contains(got, variable+"\n") {
				t.Errorf("it lacks %s", variable)
			}
		}
	}
	if got := read("info"); !strings.Contains(got, `"interactive":false`) || !strings.Contains(got, `"server":"`+n.URL+`"`) {
		t.Errorf("it was told %s", got)
	}
	if got := read("runs"); got != "run\nrun\n" {
		t.Errorf("it ran %q", got)
	}
	if read("stdin") != "" || !slices.Contains(hidden, n.Admin) {
		t.Errorf("input %q; hidden are %q", read("stdin"), hidden)
	}
}

func TestPluginThatFails(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		script, mode string
		words        []string
	}{
		"fails":       {"echo session has expired >&2; exit 3", "Never", []string{"exit status 3", "session has expired", "acme.example"}},
		"says much":   {"yes noise | head -c 1000000 >&2; exit 3", "Never", []string{"exit status 3"}},
		"no JSON":     {"echo token-in-plain-text", "Never", []string{"no ExecCredential"}},
		"gives none":  {`echo '{"kind":"ExecCredential","status":{}}'`, "Never", []string{"neither a token"}},
		"interactive": {"exit 0", "Always", []string{"a person at a terminal"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			kubeconfig, dir := byPlugin(t, "https://127.0.0.1:1", nil, "airbyte", "echo run >> \"$DIR/runs\"\n"+c.script, c.mode)
			_, err := deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: kubeconfig, Environ: os.Environ()}).Namespace(t.Context())
			has(t, err, fault.ClusterUnreachable, append(c.words, "credential plugin")...)
			if len(err.Error()) > 1500 || strings.Contains(err.Error(), "token-in-plain-text") {
				t.Errorf("it says too much: %v", err)
			}
			if runs, _ := os.ReadFile(filepath.Join(dir, "runs")); len(runs) > len("run\n") {
				t.Errorf("it was run again and again: %q", runs)
			}
		})
	}
	kubeconfig, dir := byPlugin(t, "https://127.0.0.1:1", nil, "airbyte", "", "Never")
	if err := os.Remove(filepath.Join(dir, "plugin")); err != nil {
		t.Fatal(err)
	}
	_, err := deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: kubeconfig}).Namespace(t.Context())
	has(t, err, fault.ClusterUnreachable, "not installed on this machine")
}

// TestPluginEndsWithTheRun has a plugin wait for somebody, with a child that keeps its output open.
func TestPluginEndsWithTheRun(t *testing.T) {
	t.Parallel()
	kubeconfig, dir := byPlugin(t, "https://127.0.0.1:1", nil, "airbyte", "echo run > \"$DIR/runs\"; sleep 20 & sleep 20", "Never")
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		for ctx.Err() == nil {
			if _, err := os.Stat(filepath.Join(dir, "runs")); err == nil {
				cancel()
			}
			time.Sleep(20 * time.Millisecond)
		}
	}()
	began := time.Now()
	_, err := deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: kubeconfig, Environ: os.Environ()}).Namespace(ctx)
	has(t, err, fault.Interrupted)
	if took := time.Since(began); took > 10*time.Second {
		t.Errorf("it took %s", took)
	}
}

// TestPluginThatGivesACertificate has a server look at the certificate that a client shows.
func TestPluginThatGivesACertificate(t *testing.T) {
	t.Parallel()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(4711), NotAfter: time.Now().Add(time.Hour)}
	certificate, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	encodedKey, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := json.Marshal(map[string]any{"apiVersion": "client.authentication.k8s.io/v1", "kind": "ExecCredential", "status": map[string]string{
		"clientCertificateData": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate})),
		"clientKeyData":         string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: encodedKey}))}})
	if err != nil {
		t.Fatal(err)
	}
	shown := make(chan int64, 10)
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		shown <- r.TLS.PeerCertificates[0].SerialNumber.Int64()
		http.Error(w, "enough", http.StatusTeapot)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequireAnyClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: server.Certificate().Raw})
	kubeconfig, dir := byPlugin(t, server.URL, ca, "airbyte", `cat "$DIR/answer"`, "Never")
	if err := os.WriteFile(filepath.Join(dir, "answer"), answer, 0o600); err != nil {
		t.Fatal(err)
	}
	_, err = deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: kubeconfig, Environ: os.Environ()}).Namespace(t.Context())
	has(t, err, fault.ClusterFailed, "418")
	if got := <-shown; got != 4711 {
		t.Errorf("the certificate is number %d", got)
	}
}
