package registry

import (
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// metadataTime is how long the metadata server of a virtual machine may take to tell whether there is one. Where there
// is none, nothing answers at all.
const metadataTime = 3 * time.Second

// cloudFault is the error of a cloud's sign-in that failed before the cloud said anything about it: on the network, in
// a file, or with an answer that no rule knows.
func (k *keychain) cloudFault(ctx context.Context, op, object string, err error, remedy string) error {
	f := &fault.Error{Code: fault.CloudSignIn, Op: op, Object: object, Remedy: remedy, Err: err}
	if errors.Is(context.Cause(ctx), errSignInTime) {
		f.Code, f.Cause, f.Remedy = fault.RegistryUnreachable, "there was no answer within "+signInTime.String(), "Check that this machine may reach it, and what stands in between."
		return f
	}
	if ctx.Err() != nil {
		f.Code, f.Cause, f.Err, f.Remedy = fault.Interrupted, "interrupted", context.Cause(ctx), ""
		return f
	}
	err = k.client.cloudFailure(err)
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return known
	}
	host := object
	ue, reached := errors.AsType[*url.Error](err)
	if reached {
		if u, perr := url.Parse(ue.URL); perr == nil && u.Host != "" {
			host = u.Host
		}
	}
	_, dialled := errors.AsType[*net.OpError](err)
	if reached || dialled {
		st := step{signIn: true}
		if k.client.explainTLS(f, err, host) || k.client.explainNetwork(f, err, host, st) {
			if f.Code == fault.RegistryUnreachable && strings.HasPrefix(f.Remedy, "Check the registry's name") {
				f.Remedy = "Check that this machine may reach " + host + ": the registry is signed in to by way of it."
			}
			if f.Code == fault.RegistryTLS && strings.Contains(f.Remedy, "registry-ca-certificate") {
				f.Remedy = "A proxy that reads TLS stands between this machine and the cloud: give its authority by SSL_CERT_FILE."
			}
			return f
		}
	}
	f.Code, f.Cause = fault.CloudSignIn, k.secrets.bounded(rootText(err))
	return f
}

// clockFault is the error of a request that a cloud found too old or too new.
func (k *keychain) clockFault(op, object, said string, err error) error {
	return &fault.Error{Code: fault.ClockWrong, Op: op, Object: object, Cause: k.secrets.bounded(said), Err: err,
		Remedy: "Set this machine's clock: signatures and tokens are good for minutes only. A paused virtual machine is a common cause."}
}

// cloudClient is the HTTP client for clouds' sign-in, which is none of a registry's: what is sent there must never
// follow a redirect to another host.
func (c *Client) cloudClient(retry bool) *http.Client {
	var rt http.RoundTripper = remembering{timed{c.others, c}, c}
	if retry {
		rt = retrying{fresh{rt}, c}
	}
	return &http.Client{Transport: rt, CheckRedirect: func(req *http.Request, via []*http.Request) error {
		err := sameHost(req, via)
		if f, ok := errors.AsType[*fault.Error](err); ok {
			f.Remedy = "Check what stands between this machine and the cloud: its sign-in never leads to another host."
			c.failed.Store(&failedRequest{err})
		}
		return err
	}}
}

// failedRequest is why a request to a cloud had no answer.
type failedRequest struct{ err error }

// remembering keeps the last failure: the clouds' libraries make text of it, out of which nothing can be told.
type remembering struct {
	next http.RoundTripper
	c    *Client
}

func (r remembering) RoundTrip(req *http.Request) (*http.Response, error) {
	limited, cancel := context.WithTimeoutCause(req.Context(), cloudTime, errCloudTime)
	res, err := r.next.RoundTrip(req.WithContext(limited))
	if err != nil {
		if errors.Is(context.Cause(limited), errCloudTime) {
			err = errCloudTime
		}
		cancel()
		err = &url.Error{Op: req.Method, URL: req.URL.Scheme + "://" + req.URL.Host, Err: err}
		r.c.failed.Store(&failedRequest{err})
		return nil, err
	}
	res.Body = &closing{res.Body, cancel}
	return res, nil
}

// closing ends a request's context with its body.
type closing struct {
	io.ReadCloser
	end context.CancelFunc
}

func (c *closing) Close() error {
	defer c.end()
	return c.ReadCloser.Close()
}

// cloudFailure is the failure that err tells of in words, or err itself.
func (c *Client) cloudFailure(err error) error {
	if last := c.failed.Load(); last != nil && err != nil && strings.Contains(err.Error(), rootText(last.err)) {
		return last.err
	}
	return err
}

const (
	// cloudTime is how long one request of a sign-in may take. Tokens are small, and clouds answer in a second.
	cloudTime = 45 * time.Second
	// signInTime is how long all requests of a sign-in may take, with the waits that a cloud asks for.
	signInTime = 5 * time.Minute
)

var errSignInTime = errors.New("the sign-in took too long")

// errCloudTime is a request that took too long. It is a timeout to those who ask.
var errCloudTime error = timeoutError{}

type timeoutError struct{}

func (timeoutError) Error() string { return "no answer within " + cloudTime.String() }
func (timeoutError) Timeout() bool { return true }
