package registry

import (
	"context"
	"crypto/tls"
	"net"
	"net/http"
	"net/url"
	"sync/atomic"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// stack is what a request of go-containerregistry goes through after it has been signed, from the outside in:
//
//	retrying   waits and sends again what is safe to send again (retry.go)
//	fresh      gives each attempt a body from its beginning
//	guarded    lets nothing out over http unless asked, and no credential to a host that it does not belong to
//	watched    collects secrets, warnings and rate limits, and sees uploads being opened
//	timed      ends what does not move any more, and cuts the bodies of errors (stall.go)
//	routed     takes the connection that has the right trust and client certificate
func (c *Client) stack(e *endpoint) http.RoundTripper {
	var own, foreign = c.others, c.others
	if c.hosts[hostOf(e.registry.RegistryStr())] {
		own, foreign = c.own, c.ownNoCert
	}
	var rt http.RoundTripper = routed{e, own, foreign}
	rt = timed{rt, c}
	rt = watched{e, rt, c}
	rt = guarded{e, rt}
	rt = fresh{rt}
	return retrying{rt, c}
}

// newTransport is net/http's transport with this trust, for few hosts and large uploads. The proxy is taken from the
// process's environment, as by every Go program.
func newTransport(trust *tls.Config) http.RoundTripper {
	t := &http.Transport{
		Proxy:                 http.ProxyFromEnvironment,
		DialContext:           (&net.Dialer{Timeout: 30 * time.Second, KeepAlive: 30 * time.Second}).DialContext,
		ForceAttemptHTTP2:     true,
		MaxIdleConns:          100,
		MaxIdleConnsPerHost:   50,
		IdleConnTimeout:       90 * time.Second,
		TLSHandshakeTimeout:   10 * time.Second,
		ExpectContinueTimeout: time.Second,
		ResponseHeaderTimeout: headerTime,
		// A connection of HTTP/2 that died is shared by many requests and kept for later ones.
		HTTP2:           &http.HTTP2Config{SendPingTimeout: 30 * time.Second, PingTimeout: 15 * time.Second},
		WriteBufferSize: 64 << 10,
		TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12},
	}
	if trust != nil {
		t.TLSClientConfig = trust.Clone()
		t.TLSClientConfig.MinVersion = max(trust.MinVersion, tls.VersionTLS12)
	}
	t.OnProxyConnectResponse = func(_ context.Context, proxy *url.URL, _ *http.Request, res *http.Response) error {
		if res.StatusCode != http.StatusOK {
			return &proxyError{proxy.Host, res.Status}
		}
		return nil
	}
	t.TLSClientConfig.GetClientCertificate = clientCertificate(t.TLSClientConfig.Certificates)
	return t
}

// proxyError is a proxy that does not let us through.
type proxyError struct{ proxy, status string }

func (e *proxyError) Error() string {
	return "the proxy " + e.proxy + " does not let this through: it answered " + fault.Bounded(e.status)
}

// certificateAsked is the context's key of an *atomic.Int32 that becomes certificateMissing or certificateSent when a
// server asks for a client certificate. With TLS 1.3 a server that does not take the answer ends the connection only
// after the handshake, which net/http tells in several ways, or as a mere broken connection.
type certificateAsked struct{}

const (
	certificateMissing = 1
	certificateSent    = 2
)

// clientCertificate chooses as crypto/tls does, and notes what it chose.
func clientCertificate(certs []tls.Certificate) func(*tls.CertificateRequestInfo) (*tls.Certificate, error) {
	return func(info *tls.CertificateRequestInfo) (*tls.Certificate, error) {
		chosen, note := &tls.Certificate{}, int32(certificateMissing)
		for i := range certs {
			if info.SupportsCertificate(&certs[i]) == nil {
				chosen, note = &certs[i], certificateSent
				break
			}
		}
		if asked, ok := info.Context().Value(certificateAsked{}).(*atomic.Int32); ok {
			asked.Store(note)
		}
		return chosen, nil
	}
}

// certificateError is a connection that failed after the server had asked for a client certificate, because there was
// none or probably because it did not like it.
type certificateError struct{ err error }

func (e *certificateError) Error() string { return e.err.Error() }
func (e *certificateError) Unwrap() error { return e.err }

// fresh sends the body that GetBody gives, never the request's own: go-containerregistry sends a request again after a
// 401 although its body has been read, which would end as "read/write on closed pipe".
type fresh struct{ next http.RoundTripper }

func (f fresh) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.GetBody == nil {
		return f.next.RoundTrip(req)
	}
	body, err := req.GetBody()
	if err != nil {
		return nil, err
	}
	if req.Body != nil {
		_ = req.Body.Close()
	}
	again := req.WithContext(req.Context())
	again.Body = body
	return f.next.RoundTrip(again)
}

// guarded keeps the rule that a credential goes only to the host that it belongs to, over TLS unless plain http was
// asked for, whatever the library or a redirect would have it.
type guarded struct {
	e    *endpoint
	next http.RoundTripper
}

func (g guarded) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.URL.Scheme != "https" && !g.e.plain {
		return nil, &fault.Error{Code: fault.PlainHTTPRefused, Op: "send a request to", Object: req.URL.Host,
			Cause:  "the registry " + g.e.registry.RegistryStr() + " refers to an address with http instead of https",
			Remedy: `Have the registry refer to https, or set "registry-plain-http" if nobody else is on that network.`}
	}
	if !g.e.owns(req.URL) {
		// A refresh token travels in a form, which net/http sends again to where a token server redirects.
		if req.Header.Get("Content-Type") == "application/x-www-form-urlencoded" {
			return nil, &fault.Error{Code: fault.TokenServer, Op: "fetch a token for", Object: g.e.registry.RegistryStr(),
				Cause: "the token server redirects to another host, " + fault.Bounded(req.URL.Host) +
					", which the credential does not belong to",
				Remedy: "Have the registry name the right token server in its WWW-Authenticate header."}
		}
		if req.Header.Get("Authorization") != "" {
			req = req.Clone(req.Context())
			req.Header.Del("Authorization")
		}
	}
	return g.next.RoundTrip(req)
}

// routed shows the client certificate only to those who may see a credential, and tells when one was missing.
type routed struct {
	e            *endpoint
	own, foreign http.RoundTripper
}

func (r routed) RoundTrip(req *http.Request) (*http.Response, error) {
	rt := r.foreign
	if r.e.owns(req.URL) {
		rt = r.own
	}
	var asked atomic.Int32
	res, err := rt.RoundTrip(req.WithContext(context.WithValue(req.Context(), certificateAsked{}, &asked)))
	if err != nil && req.Context().Err() == nil &&
		(asked.Load() == certificateMissing || (asked.Load() == certificateSent && !transient(err))) {
		err = &certificateError{err}
	}
	return res, err
}

// watched reads along.
type watched struct {
	e    *endpoint
	next http.RoundTripper
	c    *Client
}

func (w watched) RoundTrip(req *http.Request) (*http.Response, error) {
	if opened, ok := req.Context().Value(uploadOpened{}).(*atomic.Bool); ok && req.Method == http.MethodPost {
		opened.Store(true)
	}
	w.c.secrets.addHeader(req.Header)
	res, err := w.next.RoundTrip(req)
	if err == nil {
		if w.e.isRealm(req.URL) {
			w.c.secrets.addTokens(res)
		}
		if res.StatusCode < 300 && req.Header.Get("Authorization") != "" && w.e.owns(req.URL) {
			w.e.worked.Store(true)
		}
		w.c.notices.collect(req.URL.Host, res.Header)
		if at, err := http.ParseTime(res.Header.Get("Date")); err == nil && w.e.owns(req.URL) {
			w.e.skew.Store(int64(w.c.options.Now().Sub(at)))
		}
	}
	return res, err
}

// uploadOpened is the context's key of an *atomic.Bool that is set when an upload is opened, which
// go-containerregistry does only for a blob that the registry does not have.
type uploadOpened struct{}

func withUploadOpened(ctx context.Context, b *atomic.Bool) context.Context {
	return context.WithValue(ctx, uploadOpened{}, b)
}
