// Package registrytest starts the real docker-registry (distribution, as Debian packages it) on loopback for tests,
// with password files, TLS, client certificates or a token server. It is no double: what it answers is what the
// program answers. It holds nothing back from a caller and is for tests only.
package registrytest

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/crypto/bcrypt"
)

// Config says what registry to start. The zero value is an open one over plain http.
type Config struct {
	// Users are user names and passwords (htpasswd); without any, and without Token, the registry is open.
	Users map[string]string
	// TLS makes it speak https with a certificate for 127.0.0.1 and localhost of an authority made for this test.
	TLS bool
	// ClientCertificate makes it want one of the same authority. It implies TLS.
	ClientCertificate bool
	// Token makes it want tokens of a token server, which is started as well.
	Token *Token
	// Program is another build of it, such as distribution's main line; empty is Debian's docker-registry.
	Program string
}

// Registry is a running docker-registry. It ends with the test.
type Registry struct {
	// Addr is host and port, Dir where it keeps its data.
	Addr, Dir string
	// CAPEM is the authority of the registry's certificate, nil over plain http.
	CAPEM []byte
	// ClientCertPEM and ClientKeyPEM are a client certificate that it takes, nil if it wants none.
	ClientCertPEM, ClientKeyPEM []byte
	// TokenServer is the token server, nil if it wants no tokens.
	TokenServer *TokenServer

	client *http.Client
	scheme string

	mu       sync.Mutex
	requests []Request
	seen     map[string]chan struct{}
	marks    int
}

// Request is a request that the registry has answered.
type Request struct {
	Method, Path string // with the query
	Status       int
}

// String is the request in one line, without the part of the query that differs between runs.
func (r Request) String() string {
	path := r.Path
	if i := strings.Index(path, "_state="); i >= 0 {
		path = path[:i] + "_state"
	}
	return fmt.Sprintf("%s %s %d", r.Method, path, r.Status)
}

// startTime is how long the program may take to listen.
const startTime = 20 * time.Second

// Start starts docker-registry and waits until it listens. Where it is not installed the test is skipped, and fails
// when the variable CI is "true".
func Start(t testing.TB, c Config) *Registry {
	t.Helper()
	program, err := c.Program, error(nil)
	if program == "" {
		program, err = exec.LookPath("docker-registry")
	}
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("docker-registry is not installed, and CI must prove this (Debian: apt-get install docker-registry)")
		}
		t.Skip("docker-registry is not installed (Debian: apt-get install docker-registry)")
	}
	dir := t.TempDir()
	r := &Registry{Dir: filepath.Join(dir, "data"), scheme: "http", seen: map[string]chan struct{}{}}
	var ca *Authority
	if c.TLS || c.ClientCertificate {
		r.scheme, ca = "https", NewAuthority(t)
		r.CAPEM = ca.PEM
	}
	config := r.configuration(t, c, ca, dir)
	file := filepath.Join(dir, "config.yml")
	write(t, file, []byte(config))

	ctx, cancel := context.WithCancel(context.Background())
	cmd := exec.CommandContext(ctx, program, "serve", file)
	// Newer versions would look for a collector of traces.
	cmd.Env = []string{"HOME=" + dir, "OTEL_TRACES_EXPORTER=none"}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	stderr, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	var readers sync.WaitGroup
	t.Cleanup(func() {
		cancel()
		readers.Wait()
		_ = cmd.Wait()
	})
	listening := make(chan string, 1)
	readers.Go(func() { r.readLog(stderr, listening) })
	readers.Go(func() { r.readAccessLog(stdout) })
	select {
	case said := <-listening:
		if r.Addr = said; !strings.HasPrefix(said, "127.0.0.1:") {
			t.Fatalf("docker-registry did not start:\n%s\nconfiguration:\n%s", said, config)
		}
	case <-time.After(startTime):
		t.Fatal("docker-registry does not listen")
	}
	r.client = &http.Client{Transport: &http.Transport{TLSClientConfig: r.TLSConfig(t)}}
	t.Cleanup(r.client.CloseIdleConnections)
	return r
}

// configuration is docker-registry's config.yml.
func (r *Registry) configuration(t testing.TB, c Config, ca *Authority, dir string) string {
	var b strings.Builder
	fmt.Fprintf(&b, "version: 0.1\nlog:\n  level: info\nstorage:\n  filesystem:\n    rootdirectory: %s\n  delete:\n    enabled: true\n", r.Dir)
	fmt.Fprintf(&b, "http:\n  addr: 127.0.0.1:0\n  secret: fixed\n")
	if ca != nil {
		cert, key := ca.Issue(t, true)
		write(t, filepath.Join(dir, "cert.pem"), cert)
		write(t, filepath.Join(dir, "key.pem"), key)
		fmt.Fprintf(&b, "  tls:\n    certificate: %s\n    key: %s\n", filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem"))
		if c.ClientCertificate {
			write(t, filepath.Join(dir, "ca.pem"), ca.PEM)
			fmt.Fprintf(&b, "    clientcas:\n      - %s\n", filepath.Join(dir, "ca.pem"))
			r.ClientCertPEM, r.ClientKeyPEM = ca.Issue(t, false)
		}
	}
	switch {
	case c.Token != nil:
		r.TokenServer = startTokenServer(t, *c.Token, ca)
		write(t, filepath.Join(dir, "token.pem"), r.TokenServer.certPEM)
		fmt.Fprintf(&b, "auth:\n  token:\n    realm: %s\n    service: registrytest\n    issuer: registrytest\n    rootcertbundle: %s\n",
			r.TokenServer.Realm, filepath.Join(dir, "token.pem"))
	case len(c.Users) > 0:
		var lines strings.Builder
		for user, password := range c.Users {
			hash, err := bcrypt.GenerateFromPassword([]byte(password), bcrypt.MinCost)
			if err != nil {
				t.Fatal(err)
			}
			fmt.Fprintf(&lines, "%s:%s\n", user, hash)
		}
		write(t, filepath.Join(dir, "htpasswd"), []byte(lines.String()))
		fmt.Fprintf(&b, "auth:\n  htpasswd:\n    realm: registrytest\n    path: %s\n", filepath.Join(dir, "htpasswd"))
	}
	return b.String()
}

// listens is in the program's log once it listens, with the address.
var listens = regexp.MustCompile(`listening on (127\.0\.0\.1:\d+)`)

func (r *Registry) readLog(log io.Reader, listening chan<- string) {
	var all strings.Builder
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	found := false
	for lines.Scan() {
		if m := listens.FindStringSubmatch(lines.Text()); m != nil && !found {
			found = true
			listening <- m[1]
		}
		if !found {
			all.WriteString(lines.Text() + "\n")
		}
	}
	if !found {
		listening <- all.String()
	}
}

// accessLine is a line of Apache's combined log format.
var accessLine = regexp.MustCompile(`"([A-Z]+) (\S+) HTTP/[0-9.]+" (\d{3}) `)

func (r *Registry) readAccessLog(log io.Reader) {
	lines := bufio.NewScanner(log)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		m := accessLine.FindStringSubmatch(lines.Text())
		if m == nil {
			continue
		}
		status, _ := strconv.Atoi(m[3])
		r.mu.Lock()
		if mark := r.seen[m[2]]; mark != nil {
			close(mark)
			delete(r.seen, m[2])
		} else {
			r.requests = append(r.requests, Request{Method: m[1], Path: m[2], Status: status})
		}
		r.mu.Unlock()
	}
}

// Requests returns what the registry has answered since it started, in the order of its access log.
func (r *Registry) Requests(t testing.TB) []Request {
	t.Helper()
	// The log is read by another goroutine: a request of our own marks the place up to which it must have come.
	r.mu.Lock()
	r.marks++
	path := fmt.Sprintf("/?mark=%d", r.marks)
	mark := make(chan struct{})
	r.seen[path] = mark
	r.mu.Unlock()
	res, err := r.client.Get(r.scheme + "://" + r.Addr + path)
	if err != nil {
		t.Fatal(err)
	}
	_ = res.Body.Close()
	select {
	case <-mark:
	case <-time.After(startTime):
		t.Fatal("docker-registry's access log stands still")
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]Request(nil), r.requests...)
}

// TLSConfig is what a client needs to reach the registry, nil over plain http.
func (r *Registry) TLSConfig(t testing.TB) *tls.Config {
	t.Helper()
	if r.CAPEM == nil {
		return nil
	}
	c := &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}
	c.RootCAs.AppendCertsFromPEM(r.CAPEM)
	if r.ClientCertPEM != nil {
		pair, err := tls.X509KeyPair(r.ClientCertPEM, r.ClientKeyPEM)
		if err != nil {
			t.Fatal(err)
		}
		c.Certificates = []tls.Certificate{pair}
	}
	return c
}

func write(t testing.TB, file string, content []byte) {
	t.Helper()
	if err := os.WriteFile(file, content, 0o600); err != nil {
		t.Fatal(err)
	}
}
