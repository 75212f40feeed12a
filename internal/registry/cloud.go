package registry

import (
	"context"
	"errors"
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
	if ctx.Err() != nil {
		f.Code, f.Cause, f.Err, f.Remedy = fault.Interrupted, "interrupted", context.Cause(ctx), ""
		return f
	}
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
	var rt http.RoundTripper = timed{c.others, c}
	if retry {
		rt = retrying{rt, c}
	}
	return &http.Client{Transport: rt, CheckRedirect: sameHost}
}
