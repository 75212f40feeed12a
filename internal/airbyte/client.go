// Package airbyte is a client of the Airbyte Configuration API, for self-managed instances from 0.50 on: it signs in,
// finds out what the instance's version can do, lists connector definitions, and creates or updates one without ever
// making a second by accident. It decides nothing about which definition a connector belongs to, builds and pushes no
// image, and deletes nothing.
//
// What it knows of the servers' behaviour was read in Airbyte's sources (airbytehq/airbyte-platform, tags v0.40.32 to
// v2.0.0, branch release/2.1.0 and the head of 2026-08-21); where it differs from the API documents, the sources were
// followed.
package airbyte

import (
	"context"
	"crypto/tls"
	"net/http"
	"net/url"
	"strings"
	"sync"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// Options say where an Airbyte instance is and how to sign in. Only URL is required.
type Options struct {
	// URL is the instance's address in any of the forms that people use: the host alone, or with /api, /api/v1 or
	// /api/public/v1, under a proxy's path prefix or not. User information in it counts as Username and Password when
	// those are empty.
	URL *url.URL
	// ClientID and ClientSecret are those of an Airbyte application; Username and Password are HTTP basic
	// authentication; AccessToken is a bearer token that exists already. An access token goes before client
	// credentials, and those before a password. All empty means that the instance asks for nothing.
	ClientID, ClientSecret, Username, Password, AccessToken string
	// Headers are sent with every request, for a proxy in front of Airbyte.
	Headers http.Header
	// TLS is the configuration with which the server is trusted, or nil for the system's.
	TLS *tls.Config
	// Timeout is how long a slow spec, a create and an update are waited for. 0 means 15 minutes, which is longer than
	// any of Airbyte's own time limits for them.
	Timeout   time.Duration
	UserAgent string
	// Log, if set, is told which Airbyte it is, and what is tried again and why.
	Log func(format string, args ...any)
	// Now and Sleep are the clock. Sleep returns ctx's error when ctx ends first. Nil means the real ones.
	Now   func() time.Time
	Sleep func(ctx context.Context, d time.Duration) error
}

// Client talks to one Airbyte instance. It is safe for concurrent use, and what many connectors need at the same time
// (the token, the instance's configuration, a workspace's definitions) it fetches once.
type Client struct {
	options Options
	base    *url.URL
	http    *http.Client

	instance shared[instance]
	token    shared[token]

	mu sync.Mutex
	// secrets are never shown; tokens join them as they are made.
	secrets []string
	lists   map[listKey]*shared[[]connector.Definition]
}

// listKey names a list of definitions that is shared.
type listKey struct {
	workspaceID string
	connector   connector.Type
}

const defaultTimeout = 15 * time.Minute

// New makes a client. It contacts nothing.
func New(o Options) *Client {
	if o.Timeout <= 0 {
		o.Timeout = defaultTimeout
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if u := o.URL.User; u != nil && o.Username == "" {
		o.Username = u.Username()
		o.Password, _ = u.Password()
	}
	transport := http.DefaultTransport.(*http.Transport).Clone()
	transport.TLSClientConfig = o.TLS.Clone()
	transport.MaxIdleConnsPerHost = 8
	c := &Client{
		options: o,
		base:    baseURL(o.URL),
		http: &http.Client{
			Transport: transport,
			// A redirect is an answer like any other: credentials never follow it (see redirected).
			CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
		},
		lists: map[listKey]*shared[[]connector.Definition]{},
	}
	c.concealOptions()
	return c
}

// baseURL is what stands in front of /api/v1 in the addresses of u's instance.
func baseURL(u *url.URL) *url.URL {
	b := &url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimRight("/"+strings.TrimLeft(u.Path, "/"), "/")}
	for _, suffix := range []string{"/api/public/v1", "/api/public", "/api/v1", "/api"} {
		if prefix, found := strings.CutSuffix(b.Path, suffix); found {
			b.Path = strings.TrimRight(prefix, "/")
			break
		}
	}
	// The address bar of Airbyte's own pages shows HOST/workspaces/ID/….
	b.Path, _, _ = strings.Cut(b.Path, "/workspaces/")
	return b
}

func sleep(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}

// shared is a value that the first who asks for it fetches while the others wait, and that is kept until it is
// dropped or found stale. A failure is told to all who waited for it and then forgotten.
type shared[T any] struct {
	mu  sync.Mutex
	cur *fetch[T]
}

type fetch[T any] struct {
	done  chan struct{}
	value T
	err   error
}

// get returns the value, fetched anew when there is none for which fresh is true.
func (s *shared[T]) get(ctx context.Context, fresh func(T) bool, load func(context.Context) (T, error)) (T, error) {
	for {
		s.mu.Lock()
		f := s.cur
		if f == nil || f.finished() && (f.err != nil || !fresh(f.value)) {
			f = &fetch[T]{done: make(chan struct{})}
			s.cur = f
			s.mu.Unlock()
			f.value, f.err = load(ctx)
			close(f.done)
			return f.value, f.err
		}
		s.mu.Unlock()
		select {
		case <-ctx.Done():
			var zero T
			return zero, ctx.Err()
		case <-f.done:
		}
		// That another caller gave up says nothing about the value.
		if f.err == nil || !isContextError(f.err) || ctx.Err() != nil {
			return f.value, f.err
		}
	}
}

// drop makes the next get fetch anew, also while a fetch is under way.
func (s *shared[T]) drop() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.cur = nil
}

func (f *fetch[T]) finished() bool {
	select {
	case <-f.done:
		return true
	default:
		return false
	}
}
