//go:build linux

package kubetest

import (
	"bytes"
	"crypto/rand"
	"crypto/rsa"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
)

const (
	// kubernetes is the version of the API server, staging that of the modules that it is made of.
	kubernetes = "v1.36.3"
	staging    = "v0.36.3"
)

// unavailable ends a test that can't have its server: loudly, and as a failure where CI has to prove it.
func unavailable(t testing.TB, format string, args ...any) {
	t.Helper()
	reason := fmt.Sprintf(format, args...)
	if os.Getenv("CI") == "true" {
		t.Fatalf("no Kubernetes API server, and CI must prove this: %s", reason)
	}
	t.Skipf("NOT TESTED, no Kubernetes API server: %s", reason)
}

// Programs returns the paths of kube-apiserver and etcd.
func Programs(t testing.TB) (apiserver, etcd string) {
	t.Helper()
	etcd, err := exec.LookPath("etcd")
	if err != nil {
		unavailable(t, "etcd is not installed (Debian: apt-get install etcd-server)")
	}
	dir := buildtest.Cached(t, "kube-apiserver-"+kubernetes+"-"+runtime.GOARCH, build)
	return filepath.Join(dir, "kube-apiserver"), etcd
}

// build builds the API server. Its module replaces the modules that it is made of by folders, which only works in its own
// tree: the wrapper replaces them by their published versions.
func build(dir, wrapper string) error {
	run := func(args ...string) ([]byte, error) {
		cmd := exec.Command("nice", append([]string{"-n", "10", "go"}, args...)...)
		cmd.Dir = wrapper
		cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=", "GOWORK=off")
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("go %s: %w\n%s", strings.Join(args, " "), err, stderr.String())
		}
		return out, nil
	}
	if _, err := run("mod", "init", "kubetest.invalid/programs"); err != nil {
		return err
	}
	out, err := run("mod", "download", "-json", "k8s.io/kubernetes@"+kubernetes)
	if err != nil {
		return err
	}
	var module struct{ GoMod string }
	if err := json.Unmarshal(out, &module); err != nil {
		return err
	}
	content, err := os.ReadFile(module.GoMod)
	if err != nil {
		return err
	}
	edit := []string{"mod", "edit"}
	for line := range strings.Lines(string(content)) {
		if name, version, ok := strings.Cut(strings.TrimSpace(line), " "); ok && version == "v0.0.0" {
			edit = append(edit, "-replace="+name+"="+name+"@"+staging)
		}
	}
	stamp := "-X k8s.io/component-base/version.gitVersion=" + kubernetes + " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
	for _, args := range [][]string{edit, {"get", "k8s.io/kubernetes@" + kubernetes}, {"build", "-mod=mod", "-trimpath", "-buildvcs=false", "-ldflags=-s -w " + stamp,
		"-o", filepath.Join(dir, "kube-apiserver"), "k8s.io/kubernetes/cmd/kube-apiserver"}} {
		if _, err := run(args...); err != nil {
			return err
		}
	}
	return nil
}

// Server is a running API server.
type Server struct {
	// URL is its address and CA the PEM certificate to trust for it.
	URL string
	CA  []byte
	// Admin is a bearer token that may do everything.
	Admin  string
	client *http.Client
}

var shared struct {
	sync.Mutex
	server *Server
	// held keeps the pipe open whose end stops the server.
	held io.WriteCloser
}

// Start returns the test binary's server.
func Start(t testing.TB) *Server {
	t.Helper()
	apiserver, etcd := Programs(t)
	shared.Lock()
	defer shared.Unlock()
	if shared.server != nil {
		return shared.server
	}
	var problem error
	// Ports are free when they are looked for, and may be taken a moment later.
	for range 3 {
		s, held, err := start(apiserver, etcd)
		if err == nil {
			shared.server, shared.held = s, held
			return s
		}
		problem = err
	}
	t.Fatalf("the API server does not start: %v", problem)
	return nil
}

// supervisor runs both programs until its standard input ends, which it does when the test binary ends.
const supervisor = `
trap '' INT TERM
cd "$DIR"
"$ETCD" --data-dir data --listen-client-urls "http://127.0.0.1:$CLIENT" --advertise-client-urls "http://127.0.0.1:$CLIENT" \
  --listen-peer-urls "http://127.0.0.1:$PEER" --initial-advertise-peer-urls "http://127.0.0.1:$PEER" --initial-cluster "default=http://127.0.0.1:$PEER" \
  --unsafe-no-fsync >etcd.log 2>&1 </dev/null &
etcd=$!
"$APISERVER" --etcd-servers "http://127.0.0.1:$CLIENT" --bind-address 127.0.0.1 --advertise-address 127.0.0.1 --secure-port "$PORT" --cert-dir certificates \
  --token-auth-file tokens.csv --authorization-mode RBAC --service-account-key-file key.pem --service-account-signing-key-file key.pem \
  --service-account-issuer https://kubernetes.default.svc --service-cluster-ip-range 10.0.0.0/24 --endpoint-reconciler-type none \
  --profiling=false >apiserver.log 2>&1 </dev/null &
apiserver=$!
cat >/dev/null
kill -9 "$apiserver" "$etcd"
wait
cd /
rm -rf "$DIR"
`

func start(apiserver, etcd string) (*Server, io.WriteCloser, error) {
	dir, err := os.MkdirTemp("", "abp-kube-")
	if err != nil {
		return nil, nil, err
	}
	admin, err := token()
	if err != nil {
		return nil, nil, err
	}
	key, err := rsa.GenerateKey(rand.Reader, 2048)
	if err != nil {
		return nil, nil, err
	}
	pemKey := pem.EncodeToMemory(&pem.Block{Type: "RSA PRIVATE KEY", Bytes: x509.MarshalPKCS1PrivateKey(key)})
	if err := errors.Join(os.WriteFile(filepath.Join(dir, "key.pem"), pemKey, 0o600),
		os.WriteFile(filepath.Join(dir, "tokens.csv"), []byte(admin+",admin,admin,system:masters\n"), 0o600)); err != nil {
		return nil, nil, err
	}
	ports, err := freePorts(3)
	if err != nil {
		return nil, nil, err
	}
	cmd := exec.Command("sh", "-c", supervisor)
	cmd.Env = append(os.Environ(), "DIR="+dir, "ETCD="+etcd, "APISERVER="+apiserver, "CLIENT="+ports[0], "PEER="+ports[1], "PORT="+ports[2])
	held, err := cmd.StdinPipe()
	if err != nil {
		return nil, nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, nil, err
	}
	s := &Server{URL: "https://127.0.0.1:" + ports[2], Admin: admin}
	if err := s.await(filepath.Join(dir, "certificates", "apiserver.crt")); err != nil {
		log, _ := os.ReadFile(filepath.Join(dir, "apiserver.log"))
		etcdLog, _ := os.ReadFile(filepath.Join(dir, "etcd.log"))
		return nil, nil, errors.Join(fmt.Errorf("%w\n%s\n%s", err, tail(log), tail(etcdLog)), held.Close(), cmd.Wait())
	}
	// Waited for, so that it leaves no zombie if a test ends it early.
	go func() { _ = cmd.Wait() }()
	return s, held, nil
}

func tail(log []byte) []byte { return log[max(0, len(log)-2000):] }

func token() (string, error) {
	b := make([]byte, 16)
	_, err := rand.Read(b)
	return hex.EncodeToString(b), err
}

func freePorts(n int) ([]string, error) {
	var ports []string
	for range n {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, err
		}
		// All are held until the last is found, so that they differ.
		defer l.Close()
		ports = append(ports, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	}
	return ports, nil
}

// await waits until the server answers, for as long as a busy machine may take.
func (s *Server) await(certificate string) error {
	deadline := time.Now().Add(2 * time.Minute)
	err := errors.New("not started")
	for time.Now().Before(deadline) {
		if s.CA, err = os.ReadFile(certificate); err == nil {
			pool := x509.NewCertPool()
			pool.AppendCertsFromPEM(s.CA)
			s.client = &http.Client{Timeout: 30 * time.Second, Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}}
			var code int
			if code, _, err = s.Do(http.MethodGet, "/readyz", "", nil); err == nil && code == http.StatusOK {
				if code, _, err = s.Do(http.MethodGet, "/api/v1/namespaces/kube-system", "", nil); err == nil && code == http.StatusOK {
					return nil
				}
			}
		}
		time.Sleep(100 * time.Millisecond)
	}
	return fmt.Errorf("no answer within two minutes: %w", err)
}

// Do sends a request as the administrator. A body that is no []byte is sent as JSON; an empty form is that of JSON.
func (s *Server) Do(method, path, form string, body any) (int, []byte, error) {
	content, ok := body.([]byte)
	if body != nil && !ok {
		var err error
		if content, err = json.Marshal(body); err != nil {
			return 0, nil, err
		}
	}
	req, err := http.NewRequest(method, s.URL+path, bytes.NewReader(content))
	if err != nil {
		return 0, nil, err
	}
	if form == "" {
		form = "application/json"
	}
	req.Header.Set("Content-Type", form)
	req.Header.Set("Authorization", "Bearer "+s.Admin)
	answer, err := s.client.Do(req)
	if err != nil {
		return 0, nil, err
	}
	defer answer.Body.Close()
	content, err = io.ReadAll(answer.Body)
	return answer.StatusCode, content, err
}

// Must is Do for what can't fail in a test that is right. The answer is decoded into out, unless that is nil.
func (s *Server) Must(t testing.TB, method, path string, body, out any) {
	t.Helper()
	form := ""
	if method == http.MethodPatch {
		form = "application/strategic-merge-patch+json"
	}
	code, content, err := s.Do(method, path, form, body)
	if err != nil {
		t.Fatalf("%s %s: %v", method, path, err)
	}
	if code < 200 || code > 299 {
		t.Fatalf("%s %s: %d %s", method, path, code, content)
	}
	if out != nil {
		if err := json.Unmarshal(content, out); err != nil {
			t.Fatal(err)
		}
	}
}

// Kubeconfig is one for whoever has the token, with the namespace as its default.
func (s *Server) Kubeconfig(token, namespace string) []byte {
	content, err := json.Marshal(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": s.URL, "certificate-authority-data": s.CA}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test", "namespace": namespace}}},
	})
	if err != nil {
		panic(err)
	}
	return content
}
