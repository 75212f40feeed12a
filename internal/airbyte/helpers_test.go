package airbyte_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"net/url"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// Secrets that no error and no log may show.
const (
	clientID     = "0b3f6f2e-client"
	clientSecret = "s3cr3t-of-the-client"
	password     = "s3cr3t-password"
)

// clock is a time that passes only when somebody sleeps.
type clock struct {
	mu    sync.Mutex
	now   time.Time
	slept time.Duration
	naps  int
	// at holds what happens during a nap, by its number from 1 on.
	at map[int]func()
}

func newClock() *clock { return &clock{now: time.Now(), at: map[int]func(){}} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Sleep(ctx context.Context, d time.Duration) error {
	c.mu.Lock()
	c.now, c.slept, c.naps = c.now.Add(d), c.slept+d, c.naps+1
	event := c.at[c.naps]
	c.mu.Unlock()
	if event != nil {
		event()
	}
	return ctx.Err()
}

func (c *clock) total() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.slept
}

// recorder is a connector.Log.
type recorder struct {
	mu        sync.Mutex
	lines     []string
	untrusted []string
}

func (r *recorder) Group(string) func()       { return func() {} }
func (r *recorder) Finding(connector.Finding) {}
func (r *recorder) Info(format string, args ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, fmt.Sprintf(format, args...))
}
func (r *recorder) Untrusted(title, text string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.untrusted = append(r.untrusted, title+"\n"+text)
}

func (r *recorder) text() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(append(append([]string{}, r.lines...), r.untrusted...), "\n")
}

const theSpec = `{"documentationUrl":"https://docs.acme.example","connectionSpecification":{"type":"object","properties":{"path":{"type":"string"}}},` +
	`"supported_destination_sync_modes":["append"]}`

// prints is a connector that prints spec.
func prints(context.Context, string) (connector.SpecRun, error) {
	return connector.SpecRun{Stdout: []byte(`{"type":"SPEC","spec":` + theSpec + "}\n")}, nil
}

// unpullable is an image that the cluster can't have.
func unpullable(context.Context, string) (connector.SpecRun, error) {
	return connector.SpecRun{}, errors.New("pull access denied")
}

// completed passes requests on, but once a command's status was asked for polls times, it answers only when the
// command has ended: the tests' clock runs ahead while the stand-in works at its own pace.
func completed(next http.Handler, polls int) http.Handler {
	var asked atomic.Int64
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasSuffix(r.URL.Path, "/commands/status") || asked.Add(1) <= int64(polls) {
			next.ServeHTTP(w, r)
			return
		}
		body, _ := io.ReadAll(r.Body)
		for {
			answer := httptest.NewRecorder()
			r.Body = io.NopCloser(bytes.NewReader(body))
			next.ServeHTTP(answer, r)
			if text := answer.Body.String(); r.Context().Err() != nil || !strings.Contains(text, "pending") && !strings.Contains(text, "running") {
				w.WriteHeader(answer.Code)
				_, _ = io.WriteString(w, text)
				return
			}
			runtime.Gosched()
		}
	})
}

// rig is a stand-in, its server, and a client of it.
type rig struct {
	*airbyte.Client
	standIn *sandbox.Airbyte
	server  *httptest.Server
	clock   *clock
	log     *recorder
}

// setUp starts a stand-in and a client of it. wrap, if not nil, comes between the two; change, if not nil, changes the
// client's options.
func setUp(t *testing.T, o sandbox.AirbyteOptions, wrap func(http.Handler) http.Handler, change func(*airbyte.Options)) *rig {
	t.Helper()
	if o.RunSpec == nil {
		o.RunSpec = prints
	}
	c := newClock()
	o.Now = c.Now
	r := &rig{standIn: sandbox.NewAirbyte(o), clock: c, log: &recorder{}}
	t.Cleanup(r.standIn.Close)
	h := completed(r.standIn, o.CommandPolls)
	if wrap != nil {
		h = wrap(h)
	}
	r.server = httptest.NewServer(h)
	t.Cleanup(r.server.Close)
	r.Client = airbyte.New(r.options(t, o, change))
	return r
}

func (r *rig) options(t *testing.T, o sandbox.AirbyteOptions, change func(*airbyte.Options)) airbyte.Options {
	t.Helper()
	options := airbyte.Options{URL: parse(t, r.server.URL+o.PathPrefix), UserAgent: "airbyte-publish/test", Now: r.clock.Now, Sleep: r.clock.Sleep, Log: r.log.Info}
	switch o.Auth.Mode {
	case sandbox.BasicAuth:
		options.Username, options.Password = o.Auth.User, o.Auth.Password
	case sandbox.ClientCredentials:
		options.ClientID, options.ClientSecret = o.Auth.ClientID, o.Auth.ClientSecret
	}
	if change != nil {
		change(&options)
	}
	return options
}

func parse(t *testing.T, address string) *url.URL {
	t.Helper()
	u, err := url.Parse(address)
	if err != nil {
		t.Fatal(err)
	}
	return u
}

// withCredentials is a stand-in that wants client credentials.
func withCredentials(version string) sandbox.AirbyteOptions {
	return sandbox.AirbyteOptions{Version: version, Auth: sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: clientID, ClientSecret: clientSecret}}
}

const repository = "ghcr.io/acme/source-erp"

// newConnector is a change that creates a definition.
func newConnector(tag string) connector.Change {
	return connector.Change{WorkspaceID: sandbox.DefaultWorkspaceID, Type: connector.Source, Name: "Acme ERP", Repository: repository, Tag: tag,
		DocumentationURL: "https://docs.acme.example/erp"}
}

// moved is the change of an existing definition to another tag.
func moved(current connector.Definition, tag string) connector.Change {
	ch := newConnector(tag)
	ch.Current = &current
	return ch
}

// existing puts a definition into the stand-in and returns it as the client sees it.
func (r *rig) existing(t *testing.T, tag string) connector.Definition {
	t.Helper()
	id := r.standIn.AddDefinition(sandbox.Definition{Type: connector.Source, Name: "Acme ERP", Repository: repository, Tag: tag, Custom: true,
		Workspaces: []string{sandbox.DefaultWorkspaceID}})
	return connector.Definition{ID: id, Name: "Acme ERP", Repository: repository, Tag: tag, Custom: true}
}

// asked counts the requests to paths that end with at.
func (r *rig) asked(at string) int {
	n := 0
	for _, q := range r.standIn.Requests() {
		if strings.HasSuffix(q.Path, at) {
			n++
		}
	}
	return n
}

// want fails the test unless err is a fault with the code whose text has all the words, and holds no secret.
func want(t *testing.T, err error, code fault.Code, words ...string) {
	t.Helper()
	if err == nil {
		t.Fatalf("no error, want %s", code)
	}
	if got := fault.CodeOf(err); got != code {
		t.Errorf("code is %s, want %s: %v", got, code, err)
	}
	for _, w := range words {
		if !strings.Contains(err.Error(), w) {
			t.Errorf("%q does not tell of %q", err, w)
		}
	}
	for _, s := range []string{clientSecret, password} {
		if strings.Contains(err.Error(), s) {
			t.Errorf("%q shows a secret", err)
		}
	}
	f := fault.List(err)[0]
	if f.Op == "" || f.Cause == "" {
		t.Errorf("%#v has no operation or no cause", f)
	}
}

func must[T any](t *testing.T) func(v T, err error) T {
	t.Helper()
	return func(v T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return v
	}
}

// gateway is a proxy that answers the next create itself and passes it on during the clock's given nap.
type gateway struct {
	next   http.Handler
	at     string
	mu     sync.Mutex
	held   *http.Request
	body   []byte
	status int
}

func (g *gateway) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if !strings.HasSuffix(r.URL.Path, g.at) {
		g.next.ServeHTTP(w, r)
		return
	}
	body, _ := io.ReadAll(r.Body)
	g.mu.Lock()
	g.held, g.body = r.Clone(context.WithoutCancel(r.Context())), body
	g.mu.Unlock()
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(g.status)
	_, _ = io.WriteString(w, sandbox.GatewayTimeoutHTML)
}

// release lets the request through that was held back.
func (g *gateway) release() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.held.Body = io.NopCloser(bytes.NewReader(g.body))
	g.next.ServeHTTP(httptest.NewRecorder(), g.held)
}

func sameJSON(a, b string) bool {
	var x, y any
	return json.Unmarshal([]byte(a), &x) == nil && json.Unmarshal([]byte(b), &y) == nil && fmt.Sprint(x) == fmt.Sprint(y)
}
