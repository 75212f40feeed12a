package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	// maxAttempts is how often one request, or one blob, is sent; with the backoff that spans some 15 seconds.
	maxAttempts = 5
	firstWait   = time.Second
	// longestWait is the longest Retry-After that is waited for. One who asks for more is believed, and not waited for.
	longestWait = 2 * time.Minute
)

// retrying sends again what failed for a passing reason. It honours Retry-After, and ends as soon as the context does.
//
// A PATCH or PUT is sent again only when the registry asks for it by Retry-After: a failed upload is begun anew by
// Client.again, because what the registry kept of it is unknown. A 401 is none of its business: the signing transport
// above it answers that.
type retrying struct {
	next http.RoundTripper
	c    *Client
}

func (r retrying) RoundTrip(req *http.Request) (*http.Response, error) {
	replayable := req.Body == nil || req.Body == http.NoBody || req.GetBody != nil
	for attempt := 1; ; attempt++ {
		res, err := r.next.RoundTrip(req)
		if req.Context().Err() != nil || !replayable {
			return res, err
		}
		wait, asked := time.Duration(0), false
		if err == nil {
			wait, asked = r.retryAfter(res)
		}
		switch {
		case asked && wait > longestWait:
			drain(res)
			return nil, r.tooLong(req, res, wait)
		case attempt == maxAttempts:
			return res, err
		case asked:
		case req.Method == http.MethodPatch || req.Method == http.MethodPut:
			return res, err
		case err != nil && req.Context().Value(hangUpTells{}) != nil:
			return res, err
		case err == nil && passing(res.StatusCode), err != nil && transient(err):
			wait = backoff(attempt)
		default:
			return res, err
		}
		reason := broken(err)
		if err == nil {
			reason = fmt.Sprintf("it answered %d %s", res.StatusCode, http.StatusText(res.StatusCode))
			drain(res)
		}
		r.c.logRetry(req.URL.Host, reason, wait, asked, attempt)
		if err := r.c.options.Sleep(req.Context(), wait); err != nil {
			return nil, err
		}
	}
}

// hangUpTells is the context's key of a request whose broken connection is an answer.
type hangUpTells struct{}

// retryAfter is how long a registry that is too busy asks to wait (RFC 9110 §10.2.3: seconds or a date).
func (r retrying) retryAfter(res *http.Response) (time.Duration, bool) {
	if res.StatusCode != http.StatusTooManyRequests && res.StatusCode != http.StatusServiceUnavailable {
		return 0, false
	}
	value := strings.TrimSpace(res.Header.Get("Retry-After"))
	if n, err := strconv.ParseUint(value, 10, 31); err == nil {
		return time.Duration(n) * time.Second, true
	}
	if t, err := http.ParseTime(value); err == nil {
		return max(t.Sub(r.c.options.Now()), 0), true
	}
	return 0, false
}

func (r retrying) tooLong(req *http.Request, res *http.Response, wait time.Duration) error {
	return &fault.Error{Code: fault.RateLimited, Op: "send a request to", Object: req.URL.Host,
		Cause: fmt.Sprintf("it answered %d and asks to wait %s%s", res.StatusCode, wait.Round(time.Second),
			r.c.notices.limitsOf(req.URL.Host)),
		Remedy: remedyRateLimit}
}

// again runs f until it succeeds or fails for good: f is a whole upload of a blob, or the PUT of a manifest.
func (c *Client) again(ctx context.Context, host string, f func() error) error {
	for attempt := 1; ; attempt++ {
		err := f()
		if err == nil || ctx.Err() != nil || attempt == maxAttempts {
			return err
		}
		reason, ok := restartable(err)
		if !ok {
			return err
		}
		wait := backoff(attempt)
		c.logRetry(host, reason, wait, false, attempt)
		if err := c.options.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

func (c *Client) logRetry(host, reason string, wait time.Duration, asked bool, attempt int) {
	how := "trying again in"
	if asked {
		how = "waiting as it asks, trying again in"
	}
	c.options.Log(fmt.Sprintf("%s: %s; %s %s (attempt %d of %d)", host, reason, how,
		wait.Round(100*time.Millisecond), attempt+1, maxAttempts))
}

// restartable tells whether an upload that failed with err is worth beginning anew, and why it failed. What the
// transport has repeated already is not.
func restartable(err error) (reason string, ok bool) {
	if te, is := errors.AsType[*transport.Error](err); is {
		for _, d := range te.Errors {
			// GHCR is known to forget an upload now and then; ggcr itself repeats BLOB_UPLOAD_INVALID.
			if d.Code == transport.BlobUploadUnknownErrorCode || d.Code == transport.BlobUploadInvalidErrorCode {
				return "it has lost the upload (" + string(d.Code) + ")", true
			}
		}
		writes := te.Request != nil && (te.Request.Method == http.MethodPatch || te.Request.Method == http.MethodPut)
		if writes && (passing(te.StatusCode) || te.StatusCode == http.StatusRequestedRangeNotSatisfiable) {
			return fmt.Sprintf("it answered %d %s", te.StatusCode, http.StatusText(te.StatusCode)), true
		}
		return "", false
	}
	// What is no *url.Error came up while the answer was read, which the transport does not see.
	if ue, is := errors.AsType[*url.Error](err); (!is || ue.Op == "Patch" || ue.Op == "Put") && transient(err) {
		return broken(err), true
	}
	return "", false
}

// broken says what became of a connection that failed with err.
func broken(err error) string {
	if stall, ok := errors.AsType[*stallError](err); ok {
		return "it " + stall.what
	}
	return "the connection broke"
}

// passing tells whether a status may be another one in a moment. 499 and 522 are those of nginx and Cloudflare for a
// connection that took too long.
func passing(status int) bool {
	return slices.Contains([]int{http.StatusRequestTimeout, http.StatusTooManyRequests, 499}, status) ||
		status >= 500 && status != http.StatusNotImplemented && status != http.StatusHTTPVersionNotSupported
}

// transient tells whether a connection's failure may be another outcome in a moment. A refused connection, a name
// that does not exist and a certificate that is not trusted are not.
func transient(err error) bool {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return false
	}
	if _, ok := errors.AsType[*certificateError](err); ok {
		return false
	}
	if _, ok := errors.AsType[*stallError](err); ok {
		return true
	}
	if d, ok := errors.AsType[*net.DNSError](err); ok {
		return d.IsTemporary && !d.IsNotFound
	}
	// net/http closes a connection of which it reads that the other side is gone, and a write that is on its way meets that.
	for _, passing := range []error{io.EOF, io.ErrUnexpectedEOF, syscall.ECONNRESET, syscall.EPIPE, net.ErrClosed} {
		if errors.Is(err, passing) {
			return true
		}
	}
	// net/http keeps HTTP/2's errors to itself.
	return strings.Contains(err.Error(), "stream error:") || strings.Contains(err.Error(), "server sent GOAWAY")
}

// backoff doubles with each attempt, give or take a tenth.
func backoff(attempt int) time.Duration {
	d := firstWait << (attempt - 1)
	return d + time.Duration((rand.Float64()-0.5)*0.2*float64(d))
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
