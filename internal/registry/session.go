package registry

import (
	"context"
	"fmt"
	"io"
	"mime"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// endpoint is one registry: how it is reached, and what it answered to the ping, which every session shares.
type endpoint struct {
	registry name.Registry
	plain    bool
	provider *provider
	// worked tells that a request which was signed has succeeded.
	worked atomic.Bool
	// skew is by how many nanoseconds this machine's clock is ahead of the registry's.
	skew atomic.Int64
	// net is the guarded way to the registry and to whom it refers us.
	net http.RoundTripper

	pings cell[struct{}]
	mu    sync.Mutex
	// answer is the ping's, nil until there was one.
	answer *http.Response
	// bearer tells that the registry wants a token of a token server.
	bearer bool
	// realm is that token server's address; it and the registry are all that may see a credential.
	realm atomic.Pointer[url.URL]
}

// endpoint returns the registry's.
func (c *Client) endpoint(r name.Registry) *endpoint {
	c.mu.Lock()
	defer c.mu.Unlock()
	host := r.RegistryStr()
	if e := c.endpoints[host]; e != nil {
		return e
	}
	e := &endpoint{registry: r, plain: c.plain(host), provider: c.keys.providerOf(hostOf(host))}
	e.net = transport.NewUserAgent(c.stack(e), c.options.UserAgent)
	c.endpoints[host] = e
	return e
}

// scheme is the only one that the registry is spoken to in.
func (e *endpoint) scheme() string {
	if e.plain {
		return "http"
	}
	return "https"
}

// owns tells whether a credential for the registry may go to this host.
func (e *endpoint) owns(u *url.URL) bool {
	if canonicalHost(u.Host, u.Scheme) == canonicalHost(e.registry.RegistryStr(), e.scheme()) {
		return true
	}
	realm := e.realm.Load()
	return realm != nil && canonicalHost(u.Host, u.Scheme) == canonicalHost(realm.Host, realm.Scheme)
}

// isRealm tells whether u is the token server's address.
func (e *endpoint) isRealm(u *url.URL) bool {
	realm := e.realm.Load()
	return realm != nil && realm.Host == u.Host && realm.Path == u.Path
}

// canonicalHost is host with its port, in lower case.
func canonicalHost(host, scheme string) string {
	u := url.URL{Host: strings.ToLower(host)}
	if u.Port() != "" {
		return u.Host
	}
	if scheme == "http" {
		return u.Host + ":80"
	}
	return u.Host + ":443"
}

// ping asks the registry, once, how it wants us to sign in. A registry that wants nothing answers 200.
func (e *endpoint) ping(ctx context.Context) error {
	_, err := e.pings.get(ctx, func() (struct{}, error) { return struct{}{}, e.pingOnce(ctx) })
	return err
}

func (e *endpoint) pingOnce(ctx context.Context) error {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, e.scheme()+"://"+e.registry.RegistryStr()+"/v2/", nil)
	if err != nil {
		return err
	}
	client := http.Client{Transport: e.net, CheckRedirect: sameHost}
	res, err := client.Do(req)
	if err != nil {
		return err
	}
	defer drain(res)
	if err := transport.CheckError(res, http.StatusOK, http.StatusUnauthorized); err != nil {
		return err
	}
	if t := res.Header.Get("Content-Type"); webPage(t) && res.StatusCode == http.StatusOK &&
		res.Header.Get("Docker-Distribution-Api-Version") == "" {
		// A proxy's page must not count as a registry that asks for no credentials.
		return notARegistry(req.URL.Host, "as a registry does", t)
	}
	answer := &http.Response{Status: res.Status, StatusCode: res.StatusCode, Header: res.Header.Clone()}
	challenge, err := transport.Ping(ctx, e.registry, remembered{e, answer})
	if err != nil {
		return err
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.answer = answer
	e.bearer = strings.EqualFold(challenge.Scheme, "bearer")
	if u, err := url.Parse(challenge.Parameters["realm"]); e.bearer && err == nil {
		e.realm.Store(u)
	}
	return nil
}

// webPage tells whether a Content-Type is that of a page for people.
func webPage(contentType string) bool {
	t, _, err := mime.ParseMediaType(contentType)
	return err == nil && (t == "text/html" || t == "application/xhtml+xml")
}

// remembered answers go-containerregistry's ping, which it sends for each repository, with the endpoint's only one,
// and passes on all else.
func (e *endpoint) remembered() http.RoundTripper {
	e.mu.Lock()
	defer e.mu.Unlock()
	return remembered{e, e.answer}
}

// open tells whether the registry asks for no credentials at all.
func (e *endpoint) open() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.answer != nil && e.answer.StatusCode == http.StatusOK
}

// usesTokens tells whether the registry wants a token of a token server.
func (e *endpoint) usesTokens() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.bearer
}

type remembered struct {
	e      *endpoint
	answer *http.Response
}

func (r remembered) RoundTrip(req *http.Request) (*http.Response, error) {
	if req.Method != http.MethodGet || req.URL.Path != "/v2/" {
		return r.e.net.RoundTrip(req)
	}
	res := *r.answer
	res.Header = res.Header.Clone()
	res.Body = http.NoBody
	// The library takes the scheme to use from the request that was answered.
	u := *req.URL
	u.Scheme = r.e.scheme()
	res.Request = req.Clone(req.Context())
	res.Request.URL = &u
	return &res, nil
}

// session is a registry that we are signed in to, for one repository and what may be mounted into it.
type session struct {
	repo name.Repository
	end  *endpoint
	cred credential
	// rt signs requests; it is a *transport.Wrapper, by which go-containerregistry knows to sign in no more.
	rt http.RoundTripper
}

// signIn returns a session for pushing to, or for reading repo, and for reading the other repositories that blobs are
// to be mounted from. There is no anonymous push: without credentials there is a session for pushing only where the
// registry answers the ping with 200, that is, asks for none. Its error is a *fault.Error.
func (c *Client) signIn(ctx context.Context, op string, repo name.Repository, push bool, from ...name.Repository) (*session, error) {
	scopes := []string{repo.Scope(transport.PullScope)}
	if push {
		scopes[0] = repo.Scope(transport.PushScope)
	}
	for _, f := range from {
		scopes = append(scopes, f.Scope(transport.PullScope))
	}
	slices.Sort(scopes[1:])
	key := repo.RegistryStr() + " " + strings.Join(scopes, " ")
	st := step{op: op, object: repo.Name(), at: placeOf(repo), end: c.endpoint(repo.Registry), push: push}
	s, err := cellOf(&c.mu, c.sessions, key).get(ctx, func() (*session, error) {
		s, st := &session{repo: repo, end: st.end}, st
		var err error
		if s.cred, err = c.keys.resolve(ctx, repo); err != nil {
			return nil, c.explain(ctx, err, st)
		}
		st.cred, st.signIn = s.cred, true
		if err := s.end.ping(ctx); err != nil {
			return nil, c.explain(ctx, err, st)
		}
		if push && s.cred.anonymous() && !s.end.open() {
			return nil, noCredentials(st)
		}
		c.notices.once("sign in "+repo.RegistryStr()+s.cred.from, fmt.Sprintf("%s: using %s", repo.RegistryStr(), s.cred))
		s.rt, err = transport.NewWithContext(ctx, repo.Registry, s.cred.auth, s.end.remembered(), scopes)
		if err != nil {
			return nil, c.explain(ctx, err, st)
		}
		return s, nil
	})
	return s, c.explain(ctx, err, st)
}

// step is a step of the session for an error to tell of.
func (s *session) step(op, object string) step {
	return step{op: op, object: object, at: placeOf(s.repo), end: s.end, cred: s.cred, push: true}
}

// do sends a request that is none of go-containerregistry's, signed. A redirect to another host is not followed, but
// returned.
func do(rt http.RoundTripper, req *http.Request) (*http.Response, error) {
	client := http.Client{Transport: rt, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		if sameHost(req, via) != nil {
			return http.ErrUseLastResponse
		}
		return nil
	}}
	return client.Do(req)
}

// sameHost follows redirects within one host only.
func sameHost(req *http.Request, via []*http.Request) error {
	if len(via) >= 5 {
		return &fault.Error{Code: fault.RegistryUnreachable, Op: "reach", Object: via[0].URL.Host, Cause: "it redirects in a circle"}
	}
	if req.URL.Host != via[0].URL.Host {
		return &fault.Error{Code: fault.RegistryUnreachable, Op: "reach", Object: via[0].URL.Host,
			Cause:  "it redirects to another host, " + fault.Bounded(req.URL.Host),
			Remedy: "Name that host as the registry if it is the right one."}
	}
	if via[0].URL.Scheme == "https" && req.URL.Scheme != "https" {
		return &fault.Error{Code: fault.RegistryUnreachable, Op: "reach", Object: via[0].URL.Host,
			Cause: "it redirects from https to " + fault.Bounded(req.URL.Scheme), Remedy: "Check what stands between this machine and it."}
	}
	return nil
}

// drain reads the rest of a small answer, so that its connection can be used again.
func drain(res *http.Response) {
	_, _ = io.CopyN(io.Discard, res.Body, 64<<10)
	_ = res.Body.Close()
}
