package cloudtest

import (
	"bufio"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"net"
	"sync"
	"time"
)

// tunnels is a listener whose connections come through the proxy.
type tunnels struct {
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func (l *tunnels) hand(c net.Conn) {
	select {
	case l.conns <- c:
	case <-l.done:
		_ = c.Close()
	}
}

func (l *tunnels) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.done:
		return nil, net.ErrClosed
	}
}

func (l *tunnels) Close() error {
	l.once.Do(func() { close(l.done) })
	return nil
}

func (l *tunnels) Addr() net.Addr { return &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1)} }

// tunnel is a connection to a host by way of the proxy.
type tunnel struct {
	net.Conn
	first  *bufio.Reader
	target string
}

func (t *tunnel) Read(p []byte) (int, error) { return t.first.Read(p) }

type targetKey struct{}

// targetOf is the host that a tunnel was asked for.
func targetOf(c net.Conn) string {
	if over, ok := c.(*tls.Conn); ok {
		c = over.NetConn()
	}
	if t, ok := c.(*tunnel); ok {
		return t.target
	}
	return ""
}

// configFor is the TLS of whatever host a client means.
func (w *world) configFor(hello *tls.ClientHelloInfo) (*tls.Config, error) {
	name := hello.ServerName
	if name == "" {
		name = targetOf(hello.Conn)
	}
	w.mu.Lock()
	s := w.sites[name]
	w.mu.Unlock()
	if s != nil && s.tls != nil {
		return s.tls, nil
	}
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return internet().leaf(name) }}
	if s != nil && s.http2 {
		c.NextProtos = []string{"h2", "http/1.1"}
	}
	return c, nil
}

// issuing is a certificate authority and the certificates that it has made.
type issuing struct {
	pem  []byte
	cert *x509.Certificate
	key  *ecdsa.PrivateKey

	mu    sync.Mutex
	made  map[string]*tls.Certificate
	count int64
}

// internet is the authority of all worlds' hosts.
var internet = sync.OnceValue(func() *issuing { return newIssuing("cloudtest internet") })

func newIssuing(name string) *issuing {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		panic(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: name}, IsCA: true,
		BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour)}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		panic(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		panic(err)
	}
	return &issuing{pem: pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), cert: cert, key: key,
		made: map[string]*tls.Certificate{}}
}

// leaf is the certificate for a host.
func (a *issuing) leaf(host string) (*tls.Certificate, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if c := a.made[host]; c != nil {
		return c, nil
	}
	c, err := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "a host"}, DNSNames: []string{host},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour)})
	if err == nil {
		a.made[host] = c
	}
	return c, err
}

// issue signs a certificate, with a key of its own. The caller holds the lock.
func (a *issuing) issue(template *x509.Certificate) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	a.count++
	template.SerialNumber = big.NewInt(time.Now().UnixNano() + a.count)
	der, err := x509.CreateCertificate(rand.Reader, template, a.cert, &key.PublicKey, a.key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}

// client is a client certificate and its key in PEM.
func (a *issuing) client() (certPEM, keyPEM []byte, err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	c, err := a.issue(&x509.Certificate{Subject: pkix.Name{CommonName: "a client"}, KeyUsage: x509.KeyUsageDigitalSignature,
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth},
		NotBefore:   time.Now().Add(-time.Hour), NotAfter: time.Now().Add(24 * time.Hour)})
	if err != nil {
		return nil, nil, err
	}
	der, err := x509.MarshalPKCS8PrivateKey(c.PrivateKey)
	if err != nil {
		return nil, nil, err
	}
	return pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Certificate[0]}),
		pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: der}), nil
}
