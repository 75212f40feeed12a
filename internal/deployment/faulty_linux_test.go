package deployment_test

import (
	"bytes"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment/kubetest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// through leads a client by way of a proxy, as load balancers before an API server are. The handler gets what hands a
// request on to the server.
func through(t *testing.T, n kubetest.Namespace, handle func(w http.ResponseWriter, r *http.Request, server http.Handler)) func(*deployment.ClusterOptions) {
	t.Helper()
	target, err := url.Parse(n.URL)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(n.CA)
	proxy := httputil.NewSingleHostReverseProxy(target)
	transport := &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool}}
	proxy.Transport = transport
	// Over plain http no token would be sent.
	front := httptest.NewTLSServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { handle(w, r, proxy) }))
	t.Cleanup(func() {
		front.Close()
		transport.CloseIdleConnections()
	})
	return func(o *deployment.ClusterOptions) {
		ca := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: front.Certificate().Raw})
		o.Kubeconfig = []byte(strings.NewReplacer(n.URL, front.URL, base64.StdEncoding.EncodeToString(n.CA), base64.StdEncoding.EncodeToString(ca)).Replace(string(o.Kubeconfig)))
	}
}

// creates tells whether a request makes a pod.
func creates(r *http.Request) bool {
	return r.Method == http.MethodPost && strings.HasSuffix(r.URL.Path, "/pods")
}

// TestPodOfALostAnswer has the server make the pod and something before it answer otherwise: the pod does not stay.
func TestPodOfALostAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		answer func(w http.ResponseWriter)
		code   fault.Code
	}{
		"503":    {func(w http.ResponseWriter) { http.Error(w, "no healthy upstream", http.StatusServiceUnavailable) }, fault.ClusterFailed},
		"504":    {func(w http.ResponseWriter) { http.Error(w, "upstream timed out", http.StatusGatewayTimeout) }, fault.ClusterFailed},
		"broken": {func(http.ResponseWriter) { panic(http.ErrAbortHandler) }, fault.ClusterUnreachable},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := kubetest.Start(t).Namespace(t)
			n.Install(t, kubetest.Airbyte{})
			var sent atomic.Int64
			cluster := as(t, n, "verify-pull", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if !creates(r) {
					server.ServeHTTP(w, r)
					return
				}
				sent.Add(1)
				server.ServeHTTP(httptest.NewRecorder(), r)
				c.answer(w)
			}))
			err := cluster.VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{})
			has(t, err, c.code)
			if sent.Load() != 1 {
				t.Errorf("the pod was to be made %d times", sent.Load())
			}
			noPods(t, n)
		})
	}
}

// TestPodThatIsThereAlready has something on the way send the request twice: the name is ours alone, so the pod is, too.
func TestPodThatIsThereAlready(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{})
	n.Kubelet(t, func(*corev1.Pod, map[string]corev1.Secret) []kubetest.Stage {
		return []kubetest.Stage{kubetest.Ends(0, "Completed", "")}
	})
	cluster := as(t, n, "verify-pull", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if creates(r) {
			body, _ := io.ReadAll(r.Body)
			first := r.Clone(r.Context())
			r.Body, first.Body = io.NopCloser(bytes.NewReader(body)), io.NopCloser(bytes.NewReader(body))
			server.ServeHTTP(httptest.NewRecorder(), first)
		}
		server.ServeHTTP(w, r)
	}))
	if err := cluster.VerifyPull(t.Context(), "ghcr.io/acme/source-erp", "1.4.0", "", &notes{}); err != nil {
		t.Fatal(err)
	}
	noPods(t, n)
}

// TestFirstCreationAtOnce has a run see no secret, and another one make it before the first one writes.
func TestFirstCreationAtOnce(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		// late is how long after the other run's end the first one writes; same has both write the same.
		late time.Duration
		same bool
		// fail has the first write fail without an effect.
		fail bool
		lost bool
	}{
		"while the other looks after it": {},
		"too late":                       {late: 2200 * time.Millisecond, lost: true},
		"too late, with the same":        {late: 2200 * time.Millisecond, same: true},
		"a write that fails":             {fail: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			n := kubetest.Start(t).Namespace(t)
			other := deployment.Credentials{Host: "other.example", Username: "u", Password: "p"}
			mine := deployment.Credentials{Host: "mine.example", Username: "u", Password: "p"}
			if c.same {
				other = mine
			}
			done := make(chan error, 1)
			began := false
			cluster := client(n, n.Admin, "pull-secret", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				if r.Method != http.MethodPatch || began {
					server.ServeHTTP(w, r)
					return
				}
				began = true
				created := make(chan struct{})
				go func() {
					_, err := client(n, n.Admin, "pull-secret", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
						server.ServeHTTP(w, r)
						if r.Method == http.MethodPatch {
							select {
							case <-created:
							default:
								close(created)
							}
						}
					})).ApplySecret(t.Context(), pull(n, other), false)
					done <- err
				}()
				<-created
				if c.late > 0 {
					if err := <-done; err != nil {
						t.Error(err)
					}
					done <- nil
					time.Sleep(c.late)
				}
				if c.fail {
					http.Error(w, "no healthy upstream", http.StatusServiceUnavailable)
					return
				}
				server.ServeHTTP(w, r)
			}))
			outcome, err := cluster.ApplySecret(t.Context(), pull(n, mine), false)
			if c.lost {
				has(t, err, fault.FieldConflict, "may be lost", "Run the other one again")
			} else if err != nil || outcome != deployment.Changed && !c.same {
				t.Errorf("%s, %v", outcome, err)
			}
			select {
			case err := <-done:
				if err != nil {
					t.Error(err)
				}
			case <-time.After(20 * time.Second):
				t.Fatal("the other run did not end")
			}
			_, auths, _ := entries(t, n, "airbyte-publish-pull")
			if auths["mine.example"] == nil || auths["other.example"] == nil && !c.lost && !c.same {
				t.Errorf("something got lost: %s", auths)
			}
		})
	}
}

// TestMergedIntoTheFirst has one run make the secret, a second one merge into it, and then a third one write that had seen
// none: the second one's entry is as safe as the first one's.
func TestMergedIntoTheFirst(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	entry := func(host string) deployment.Credentials {
		return deployment.Credentials{Host: host, Username: "u", Password: "p"}
	}
	done := make(chan error, 2)
	// run has another run write, and returns when it has.
	run := func(host string) {
		wrote := make(chan struct{}, 10)
		go func() {
			_, err := client(n, n.Admin, "pull-secret", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
				server.ServeHTTP(w, r)
				if r.Method == http.MethodPatch {
					wrote <- struct{}{}
				}
			})).ApplySecret(t.Context(), pull(n, entry(host)), false)
			done <- err
		}()
		select {
		case <-wrote:
		case <-time.After(20 * time.Second):
			t.Error("nothing was written")
		}
	}
	began := false
	third := client(n, n.Admin, "pull-secret", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		if r.Method == http.MethodPatch && !began {
			began = true
			run("first.example")
			run("second.example")
		}
		server.ServeHTTP(w, r)
	}))
	_, err := third.ApplySecret(t.Context(), pull(n, entry("third.example")), false)
	for _, err := range []error{err, <-done, <-done} {
		// On a machine that is slow enough, the third one is too late, and says so.
		if err != nil && fault.CodeOf(err) != fault.FieldConflict {
			t.Error(err)
		}
	}
	if _, auths, _ := entries(t, n, "airbyte-publish-pull"); err == nil && len(auths) != 3 {
		t.Errorf("something got lost: %s", auths)
	}
}

// TestSecretThatSomebodyDeletesAllTheTime ends.
func TestSecretThatSomebodyDeletesAllTheTime(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	var writes atomic.Int64
	cluster := client(n, n.Admin, "pull-secret", through(t, n, func(w http.ResponseWriter, r *http.Request, server http.Handler) {
		server.ServeHTTP(w, r)
		if r.Method == http.MethodPatch {
			writes.Add(1)
			n.Must(t, http.MethodDelete, n.Path("Secret", "airbyte-publish-pull"), nil, nil)
		}
	}))
	if _, err := cluster.ApplySecret(t.Context(), pull(n, deployment.Credentials{Host: "ghcr.io", Username: "u", Password: "p"}), false); err != nil {
		t.Error(err)
	}
	if got := writes.Load(); got > 4 {
		t.Errorf("it was written %d times", got)
	}
}

func TestImmutableSecret(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Must(t, http.MethodPost, n.Path("Secret", ""), map[string]any{"apiVersion": "v1", "kind": "Secret", "type": "kubernetes.io/dockerconfigjson", "immutable": true,
		"metadata": map[string]any{"name": "airbyte-publish-pull"}, "data": map[string]any{".dockerconfigjson": []byte(`{"auths":{}}`)}}, nil)
	_, err := client(n, n.Admin, "pull-secret").ApplySecret(t.Context(), pull(n, deployment.Credentials{Host: "ghcr.io", Username: "u", Password: "p"}), true)
	has(t, err, fault.BadPullSecret, "immutable", "another name")
}

func TestProxyThatWantsCredentials(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	cluster := client(n, n.Admin, "doctor", through(t, n, func(w http.ResponseWriter, _ *http.Request, _ http.Handler) {
		http.Error(w, "sign in", http.StatusProxyAuthRequired)
	}))
	_, err := cluster.Namespace(t.Context())
	has(t, err, fault.ClusterUnreachable, "a proxy", "NO_PROXY")
}

// TestNamesThatLeadElsewhere are written into Airbyte's settings by somebody, and are no paths to be asked for.
func TestNamesThatLeadElsewhere(t *testing.T) {
	t.Parallel()
	n := kubetest.Start(t).Namespace(t)
	n.Install(t, kubetest.Airbyte{PullSecrets: "../configmaps/airbyte-airbyte-env", Settings: map[string]string{"JOB_KUBE_SERVICEACCOUNT": "../../x"}})
	cluster := client(n, n.Admin, "doctor")
	found := 0
	for _, c := range cluster.Doctor(t.Context(), nil) {
		if strings.Contains(c.Found, "takes no such name") {
			found++
		}
	}
	if found != 2 {
		t.Errorf("%d names were refused, want 2: %+v", found, cluster.Doctor(t.Context(), nil))
	}
}
