package airbyte

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"net/http/httptrace"
	"net/url"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// apiPath stands between the instance's address and an endpoint.
const apiPath = "/api/v1/"

const (
	// readTimeout is for one attempt of a request that only reads.
	readTimeout = time.Minute
	// maxAnswer bounds a success: a list of definitions is a few MiB with Airbyte's whole catalogue in it.
	maxAnswer = 64 << 20
	// maxError bounds any other answer.
	maxError = 1 << 20
	// attempts is how often something is tried that can be repeated.
	attempts = 5
	// maxRetryAfter is the longest wait that a server may ask for.
	maxRetryAfter = time.Minute
)

// call is one request to an endpoint.
type call struct {
	method, path string
	// body is sent as JSON; nil sends no body, as the endpoints want it that document none.
	body any
	// op and object say what is being done, for an error.
	op, object string
	// timeout is for one attempt.
	timeout time.Duration
	// anonymous keeps the bearer token from being sent, for the request that fetches it.
	anonymous bool
}

// reply is an HTTP answer that was read whole, whatever its status.
type reply struct {
	status   int
	header   http.Header
	body     []byte
	location *url.URL
}

func (r *reply) ok() bool { return r.status >= 200 && r.status < 300 }

// transportError is a request without an answer.
type transportError struct {
	err error
	// unsent tells that no connection came about, so that the server has seen nothing of the request.
	unsent bool
	// late tells that the request's own time was up.
	late bool
}

func (e *transportError) Error() string { return e.err.Error() }
func (e *transportError) Unwrap() error { return e.err }

// isContextError tells whether err is the caller's giving up, and not a request whose own time was up.
func isContextError(err error) bool {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return false
	}
	return errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded)
}

// send makes one request and reads its answer. Its error is ctx's when ctx has ended, else a *transportError.
func (c *Client) send(ctx context.Context, base *url.URL, q call, authorization string) (*reply, error) {
	var body io.Reader
	if q.body != nil {
		b, err := json.Marshal(q.body)
		if err != nil {
			return nil, fmt.Errorf("encode the request to %s: %w", q.path, err)
		}
		body = bytes.NewReader(b)
	}
	var connected atomic.Bool
	attempt, cancel := context.WithTimeout(ctx, q.timeout)
	defer cancel()
	traced := httptrace.WithClientTrace(attempt, &httptrace.ClientTrace{GotConn: func(httptrace.GotConnInfo) { connected.Store(true) }})
	req, err := http.NewRequestWithContext(traced, q.method, base.String()+apiPath+q.path, body)
	if err != nil {
		return nil, fmt.Errorf("make the request to %s: %w", q.path, err)
	}
	c.dress(req, authorization)
	fail := func(err error) error {
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return &transportError{err: err, unsent: !connected.Load(), late: attempt.Err() != nil}
	}
	resp, err := c.http.Do(req)
	if err != nil {
		return nil, fail(err)
	}
	defer resp.Body.Close()
	r := &reply{status: resp.StatusCode, header: resp.Header}
	r.location, _ = resp.Location()
	limit := int64(maxError)
	if r.ok() {
		limit = maxAnswer
	}
	r.body, err = io.ReadAll(io.LimitReader(resp.Body, limit+1))
	if err != nil {
		return nil, fail(err)
	}
	if int64(len(r.body)) > limit {
		if r.ok() {
			return nil, &fault.Error{Code: fault.AirbyteFailed, Op: q.op, Object: q.object,
				Cause:  fmt.Sprintf("the answer is longer than %d MiB", limit>>20),
				Remedy: "Check that the airbyte-url leads to Airbyte itself."}
		}
		r.body = r.body[:limit]
	}
	return r, nil
}

// dress sets the headers of a request. The authorization, if there is one, wins over one among the extra headers.
func (c *Client) dress(req *http.Request, authorization string) {
	for name, values := range c.options.Headers {
		req.Header[http.CanonicalHeaderKey(name)] = values
	}
	if host := req.Header.Get("Host"); host != "" {
		req.Host = host
		req.Header.Del("Host")
	}
	if authorization != "" {
		req.Header.Set("Authorization", authorization)
	}
	if req.Method == http.MethodPost {
		req.Header.Set("Content-Type", "application/json")
	}
	req.Header.Set("Accept", "application/json")
	if c.options.UserAgent != "" {
		req.Header.Set("User-Agent", c.options.UserAgent)
	}
}

// once sends a request with the credentials it needs. When the token is refused, which happens before the server
// does anything, it is fetched again and the request sent a second time.
func (c *Client) once(ctx context.Context, q call) (*reply, error) {
	i, err := c.known(ctx)
	if err != nil {
		return nil, err
	}
	if q.anonymous {
		return c.send(ctx, i.base, q, "")
	}
	credential, err := c.credential(ctx, i, "")
	if err != nil {
		return nil, err
	}
	r, err := c.send(ctx, i.base, q, credential.authorization)
	if err != nil || r.status != http.StatusUnauthorized || !credential.renewable {
		return r, err
	}
	if credential, err = c.credential(ctx, i, credential.authorization); err != nil {
		return nil, err
	}
	return c.send(ctx, i.base, q, credential.authorization)
}

// write makes a request that changes something, once. Only when no connection came about, so that the server has seen
// nothing of it, is it tried again; so it goes over a new connection, since one that lay idle may be dead already, and
// from its breaking nobody could tell.
func (c *Client) write(ctx context.Context, q call) (*reply, error) {
	for attempt := 1; ; attempt++ {
		c.http.CloseIdleConnections()
		r, err := c.once(ctx, q)
		t, ok := errors.AsType[*transportError](err)
		if !ok || !t.unsent || t.late || attempt == attempts {
			return r, err
		}
		if _, again := c.unreachable(q, t); !again {
			return r, err
		}
		if err := c.options.Sleep(ctx, backoff(attempt)); err != nil {
			return nil, err
		}
	}
}

// read makes a request that only reads, or that may be repeated for another reason, and decodes its answer.
func (c *Client) read(ctx context.Context, q call, out any) error {
	if q.timeout == 0 {
		q.timeout = readTimeout
	}
	return c.retrying(ctx, q, out, func(ctx context.Context) (*reply, error) { return c.once(ctx, q) })
}

// retrying tries send until it succeeds, a few times at most. Its error is ctx's or a *fault.Error, one over an
// *answer when there was an answer.
func (c *Client) retrying(ctx context.Context, q call, out any, send func(context.Context) (*reply, error)) error {
	for attempt := 1; ; attempt++ {
		r, err := send(ctx)
		if err == nil && r.ok() {
			return c.decode(q, r, out)
		}
		problem, again := c.problem(q, r, err)
		if attempt == attempts || !again {
			return problem
		}
		wait := backoff(attempt)
		if r != nil {
			wait = max(wait, r.retryAfter(c.options.Now()))
		}
		c.options.Log("%s: trying again in %s", c.summary(r, err), wait.Round(100*time.Millisecond))
		if err := c.options.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// problem is the error of a request that got no success, and whether trying again may help.
func (c *Client) problem(q call, r *reply, err error) (_ error, again bool) {
	if r != nil {
		return c.explain(q, r), r.status == http.StatusRequestTimeout || r.status == http.StatusTooManyRequests || r.status >= 500
	}
	if t, ok := errors.AsType[*transportError](err); ok {
		f, again := c.unreachable(q, t)
		return f, again
	}
	return err, false
}

// decode reads a success into out.
func (c *Client) decode(q call, r *reply, out any) error {
	if err := json.Unmarshal(r.body, out); err != nil {
		return c.notJSON(q, r, err)
	}
	return nil
}

// backoff is half a second, one, two, four …, give or take a fifth so that many runs don't knock at once.
func backoff(attempt int) time.Duration {
	d := 500 * time.Millisecond << (attempt - 1)
	return d + time.Duration((rand.Float64()-0.5)*0.4*float64(d))
}

// retryAfter is how long the answer asks to wait, 0 when it does not.
func (r *reply) retryAfter(now time.Time) time.Duration {
	v := r.header.Get("Retry-After")
	var d time.Duration
	if seconds, err := strconv.Atoi(v); err == nil {
		d = time.Duration(min(seconds, int(maxRetryAfter/time.Second))) * time.Second
	} else if t, err := http.ParseTime(v); err == nil {
		d = t.Sub(now)
	}
	return min(max(d, 0), maxRetryAfter)
}
