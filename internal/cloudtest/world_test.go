package cloudtest

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// world is all of the internet that a child gets to see.
type world struct {
	t testing.TB
	// dir holds what the rig itself writes; caFile is the certificate authority that children trust.
	dir, caFile string
	// proxy is the address of the proxy that leads there.
	proxy string

	mu       sync.Mutex
	sites    map[string]*site
	requests []request
	secrets  []*secret
	// wrong is what must not have happened.
	wrong []string
	// blobHosts are, by registry, the hosts that blobs are redirected to.
	blobHosts map[string]string
	// ahead is how far the clouds' clock is ahead of this machine's.
	ahead time.Duration
	// meddle is what a proxy of the bad sort does; it tells whether it has answered.
	meddle func(http.ResponseWriter, *http.Request) bool
	serial int
}

// site is one host of a world.
type site struct {
	handler http.Handler
	// plain tells that it speaks http, not https: the addresses of metadata services.
	plain bool
	// http2 tells that it speaks HTTP/2 as well.
	http2 bool
	// tls takes the place of the certificate that would be made for the host.
	tls *tls.Config
	// stray tells that reaching it is a mistake already.
	stray bool
}

// request is a request that came in, and what came of it.
type request struct {
	host, method, path, query string
	// status is the answer's, 0 when the connection was dropped.
	status int
	// secrets are the names of the known secrets that were in it.
	secrets []string
	// auth is the scheme of its Authorization header.
	auth string
	body []byte
	at   time.Time
}

func (r request) String() string {
	return fmt.Sprintf("%s %s%s %d %v", r.method, r.host, r.path, r.status, r.secrets)
}

// newWorld makes an empty one. When the test ends, it fails it for everything that went wrong.
func newWorld(t testing.TB) *world {
	t.Helper()
	if runtime.GOOS == "darwin" || runtime.GOOS == "windows" {
		t.Skip("Go takes no certificate authority from SSL_CERT_FILE on this system")
	}
	w := &world{t: t, dir: t.TempDir(), sites: map[string]*site{}, blobHosts: map[string]string{}}
	w.caFile = filepath.Join(w.dir, "ca.pem")
	if err := os.WriteFile(w.caFile, internet().pem, 0o600); err != nil {
		t.Fatal(err)
	}
	tunnels := &tunnels{conns: make(chan net.Conn), done: make(chan struct{})}
	quiet := log.New(io.Discard, "", 0)
	inner := &http.Server{
		Handler:   http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serve(rw, r, false) }),
		TLSConfig: &tls.Config{MinVersion: tls.VersionTLS12, GetConfigForClient: w.configFor},
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, targetKey{}, targetOf(c))
		},
		ErrorLog: quiet,
	}
	var served sync.WaitGroup
	served.Go(func() { _ = inner.ServeTLS(tunnels, "", "") })
	proxy := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.serveProxy(rw, r, tunnels) }))
	proxy.Config.ErrorLog = quiet
	proxy.Start()
	w.proxy = proxy.URL
	t.Cleanup(func() {
		proxy.Close()
		_ = inner.Close()
		served.Wait()
		w.mu.Lock()
		defer w.mu.Unlock()
		for _, wrong := range w.wrong {
			t.Error(wrong)
		}
		if t.Failed() {
			w.tell()
		}
	})
	return w
}

// tell logs the requests for whoever looks into a failure. The caller holds the lock.
func (w *world) tell() {
	var b strings.Builder
	for _, r := range w.requests {
		fmt.Fprintf(&b, "  %s\n", r)
	}
	w.t.Logf("requests:\n%s", b.String())
}

// now is the time by the clouds' clock.
func (w *world) now() time.Time {
	w.mu.Lock()
	defer w.mu.Unlock()
	return time.Now().Add(w.ahead)
}

// random is a value that is like no other, for a secret's text.
func (w *world) random() string {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.serial++
	return fmt.Sprintf("%s%04d", randomText(), w.serial)
}

// site gives the world a host.
func (w *world) site(host string, handler http.Handler) *site {
	s := &site{handler: handler}
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.sites[host] != nil {
		panic("two sites are called " + host)
	}
	w.sites[host] = s
	return s
}

// loopback serves a host on a port of its own, for what clients don't use a proxy for. It returns host and port.
func (w *world) loopback(host string, handler http.Handler) string {
	w.site(host, handler).plain = true
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) { w.answer(rw, r, host) }))
	server.Config.ErrorLog = log.New(io.Discard, "", 0)
	server.Start()
	w.t.Cleanup(server.Close)
	return strings.TrimPrefix(server.URL, "http://")
}

// blame notes what must not have happened.
func (w *world) blame(format string, args ...any) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.wrong = append(w.wrong, fmt.Sprintf(format, args...))
}

// forgive takes back what was blamed, for tests of the rig itself.
func (w *world) forgive() []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	wrong := w.wrong
	w.wrong = nil
	return wrong
}

// seen returns the requests to a host, or to all when it is empty.
func (w *world) seen(host string) []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	var all []request
	for _, r := range w.requests {
		if host == "" || r.host == host {
			all = append(all, r)
		}
	}
	return all
}

// forget drops the requests so far.
func (w *world) forget() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = nil
}

// hostOf is a host without the port that its scheme stands for.
func hostOf(hostPort, port string) string {
	return strings.TrimSuffix(strings.ToLower(hostPort), ":"+port)
}

// serveProxy is the proxy: https through tunnels, http as requests with an absolute URL.
func (w *world) serveProxy(rw http.ResponseWriter, r *http.Request, to *tunnels) {
	w.mu.Lock()
	meddle := w.meddle
	w.mu.Unlock()
	if meddle != nil && meddle(rw, r) {
		return
	}
	if r.Method != http.MethodConnect {
		if r.URL.Host == "" {
			w.blame("the proxy was asked for %s %s as if it were a server", r.Method, r.URL)
			http.Error(rw, "this is a proxy", http.StatusBadRequest)
			return
		}
		w.serve(rw, r, true)
		return
	}
	host := hostOf(r.Host, "443")
	w.mu.Lock()
	s := w.sites[host]
	w.mu.Unlock()
	if s == nil || s.plain {
		w.note(request{host: host, method: r.Method, status: http.StatusBadGateway, at: time.Now()})
		w.blame("a host that nothing is to be had from was asked for: %s", r.Host)
		http.Error(rw, "no such host", http.StatusBadGateway)
		return
	}
	conn, buffered, err := http.NewResponseController(rw).Hijack()
	if err != nil {
		w.blame("the proxy: %v", err)
		return
	}
	_, _ = io.WriteString(conn, "HTTP/1.1 200 Connection established\r\n\r\n")
	to.hand(&tunnel{Conn: conn, first: buffered.Reader, target: host})
}

// serve answers a request that came through the proxy.
func (w *world) serve(rw http.ResponseWriter, r *http.Request, plain bool) {
	host := hostOf(r.Host, "443")
	if plain {
		host = hostOf(r.Host, "80")
	}
	w.mu.Lock()
	s := w.sites[host]
	w.mu.Unlock()
	if target, _ := r.Context().Value(targetKey{}).(string); !plain && target != host {
		w.blame("a tunnel to %s was used for %s", target, host)
		s = nil
	}
	if s == nil || s.plain != plain {
		w.blame("a host that nothing is to be had from was asked for: %s %s (plain http: %v)", r.Method, r.Host, plain)
		w.note(request{host: host, method: r.Method, path: r.URL.Path, status: http.StatusBadGateway, at: time.Now()})
		http.Error(rw, "no such host", http.StatusBadGateway)
		return
	}
	w.answer(rw, r, host)
}

// maxLooked is how much of a body is searched for secrets.
const maxLooked = 1 << 20

// answer lets a site answer and writes the request down.
func (w *world) answer(rw http.ResponseWriter, r *http.Request, host string) {
	w.mu.Lock()
	s := w.sites[host]
	w.mu.Unlock()
	body := &kept{ReadCloser: r.Body}
	r.Body = body
	out := &watched{ResponseWriter: rw}
	if s.stray {
		w.blame("%s was asked, of which nothing is wanted here: %s %s", host, r.Method, r.URL.Path)
	}
	scheme, _, _ := strings.Cut(r.Header.Get("Authorization"), " ")
	req := request{host: host, method: r.Method, path: r.URL.Path, query: r.URL.RawQuery, auth: scheme, at: time.Now()}
	var head bytes.Buffer
	fmt.Fprintf(&head, "%s %s %s\n", r.Method, r.RequestURI, r.URL)
	_ = r.Header.Write(&head)
	defer func() {
		fault := recover()
		// What the site did not read is searched too, as far as it has come: a refused request has been sent all the same.
		body.rest()
		req.status, req.body = out.status, body.bytes
		req.secrets = w.inspect(host, head.Bytes(), body.bytes)
		w.note(req)
		if fault != nil {
			if err, ok := fault.(error); !ok || !errors.Is(err, http.ErrAbortHandler) {
				w.blame("%s failed at %s %s: %v", host, r.Method, r.URL.Path, fault)
			}
			panic(http.ErrAbortHandler)
		}
	}()
	s.handler.ServeHTTP(out, r)
}

func (w *world) note(r request) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.requests = append(w.requests, r)
}

// kept keeps what is read of a body.
type kept struct {
	io.ReadCloser
	bytes []byte
	over  bool
}

func (k *kept) Read(p []byte) (int, error) {
	n, err := k.ReadCloser.Read(p)
	if room := maxLooked - len(k.bytes); room > 0 {
		k.bytes = append(k.bytes, p[:min(n, room)]...)
	}
	k.over = k.over || err != nil
	return n, err
}

// rest reads what nobody has read.
func (k *kept) rest() {
	if !k.over {
		_, _ = io.Copy(io.Discard, io.LimitReader(k, maxLooked))
	}
}

// watched keeps an answer's status.
type watched struct {
	http.ResponseWriter
	status int
}

func (w *watched) WriteHeader(status int) {
	if w.status == 0 {
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *watched) Write(p []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	return w.ResponseWriter.Write(p)
}

// Unwrap leads http.ResponseController to what is behind.
func (w *watched) Unwrap() http.ResponseWriter { return w.ResponseWriter }

// count is the number of requests to the host whose path ends in suffix.
func (w *world) count(host, suffix string) int {
	n := 0
	for _, r := range w.seen(host) {
		if strings.HasSuffix(r.path, suffix) {
			n++
		}
	}
	return n
}

// saw tells whether a secret was in any request to the host.
func (w *world) saw(host, secretName string) bool {
	return slices.ContainsFunc(w.seen(host), func(r request) bool { return slices.Contains(r.secrets, secretName) })
}
