package registry

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"
)

const (
	// idleTime is how long a connection may move no byte of a body, however long the whole takes.
	idleTime = 2 * time.Minute
	// headerTime is how long an answer may take to begin once the request is sent. Registries on object stores copy a
	// blob before they answer its last PUT.
	headerTime = 5 * time.Minute
	// maxErrorBody is how much go-containerregistry reads of an answer that is an error. Of a longer one it tells
	// nothing but that it is too long, not even the status.
	maxErrorBody = 64 << 10
)

// stallError is a connection on which nothing moved any more.
type stallError struct {
	host, what string
	after      time.Duration
}

func (e *stallError) Error() string {
	return fmt.Sprintf("%s %s: nothing moved for %s", e.host, e.what, e.after)
}

// timed ends an exchange on which nothing moves. net/http has time limits for a whole exchange, which would forbid
// large blobs, and for the beginning of an answer, but none for a body that stalls.
//
// It also cuts the bodies of errors, so that their status is told whatever their length, and whatever becomes of the
// connection while they are read.
type timed struct {
	next http.RoundTripper
	c    *Client
}

func (t timed) RoundTrip(req *http.Request) (*http.Response, error) {
	ctx, cancel := context.WithCancelCause(req.Context())
	w := &stallWatch{host: req.URL.Host, idle: t.c.idle, ctx: ctx, cancel: cancel}
	timedReq := req.WithContext(ctx)
	if req.Body != nil && req.Body != http.NoBody {
		timedReq.Body = &sentBody{req.Body, w}
		if req.GetBody != nil {
			timedReq.GetBody = func() (io.ReadCloser, error) {
				body, err := req.GetBody()
				if err != nil {
					return nil, err
				}
				return &sentBody{body, w}, nil
			}
		}
	}
	res, err := t.next.RoundTrip(timedReq)
	w.answered()
	if err != nil {
		err = w.explain(err)
		cancel(nil)
		return nil, err
	}
	if res.Body == nil || res.Body == http.NoBody {
		cancel(nil)
		return res, nil
	}
	res.Body = &receivedBody{res.Body, w}
	if res.StatusCode < 200 || res.StatusCode > 299 {
		res.Body = cutBody{io.LimitReader(whatCame{res.Body}, maxErrorBody), res.Body}
	}
	return res, nil
}

// stallWatch ends one exchange when it is not told of progress in time.
type stallWatch struct {
	host   string
	idle   time.Duration
	ctx    context.Context //nolint:containedctx // it is the exchange's own, of which this is the watch
	cancel context.CancelCauseFunc

	mu sync.Mutex
	// receiving tells that the answer has begun; what is still sent does not matter any more.
	receiving bool
	timer     *time.Timer
}

// expect sets the time in which the next progress is to come; what is the reproach if it does not.
func (w *stallWatch) expect(d time.Duration, what string, receiving bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.receiving == receiving {
		w.halt()
		w.timer = time.AfterFunc(d, func() { w.cancel(&stallError{w.host, what, d}) })
	}
}

// rest is the opposite of expect: the next to move is we.
func (w *stallWatch) rest(receiving bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.receiving == receiving {
		w.halt()
	}
}

func (w *stallWatch) answered() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.halt()
	w.receiving = true
}

func (w *stallWatch) halt() {
	if w.timer != nil {
		w.timer.Stop()
		w.timer = nil
	}
}

// explain returns the stall that err comes of, or err.
func (w *stallWatch) explain(err error) error {
	if stall, ok := errors.AsType[*stallError](context.Cause(w.ctx)); ok {
		return stall
	}
	return err
}

// sentBody is a request's body. While it is read the time is that of its source; between two reads the peer has to
// take what was read, and after the last it has to answer.
type sentBody struct {
	io.ReadCloser
	w *stallWatch
}

func (b *sentBody) Read(p []byte) (int, error) {
	b.w.rest(false)
	n, err := b.ReadCloser.Read(p)
	if err == nil {
		b.w.expect(b.w.idle, "takes no more of what is sent to it", false)
	} else if errors.Is(err, io.EOF) {
		// net/http's own limit begins only when the last byte has been taken.
		b.w.expect(b.w.idle+headerTime, "does not answer what was sent to it", false)
	}
	return n, err
}

// receivedBody is an answer's body. While it is read the peer has to send.
type receivedBody struct {
	io.ReadCloser
	w *stallWatch
}

func (b *receivedBody) Read(p []byte) (int, error) {
	b.w.expect(b.w.idle, "sends no more of its answer", true)
	n, err := b.ReadCloser.Read(p)
	b.w.rest(true)
	if err != nil && !errors.Is(err, io.EOF) {
		err = b.w.explain(err)
	}
	return n, err
}

func (b *receivedBody) Close() error {
	err := b.ReadCloser.Close()
	b.w.cancel(nil)
	return err
}

// whatCame ends where the reading fails.
type whatCame struct{ io.Reader }

func (r whatCame) Read(p []byte) (int, error) {
	n, err := r.Reader.Read(p)
	if err != nil {
		err = io.EOF
	}
	return n, err
}

// cutBody reads from the one and closes the other.
type cutBody struct {
	io.Reader
	io.Closer
}
