package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// step is what was being done when an error came up.
type step struct {
	// op and object are the fault's.
	op, object string
	// at is the repository that it was done to.
	at   place
	end  *endpoint
	cred credential
	// signIn tells that the registry was being pinged or a token fetched.
	signIn bool
	// push tells that the repository is to be pushed to, not only read.
	push bool
	// tag tells that a manifest was put under a tag.
	tag bool
}

// hint is what the registry's provider says to do about code, with a space in front; mostly empty.
func (st step) hint(code fault.Code) string {
	if st.end == nil || st.end.provider.remedies[code] == "" {
		return ""
	}
	return " " + st.at.words(st.end.provider.remedies[code])
}

// sourceError is the failure to read a layer that was to be pushed; it is none of the registry that it is pushed to.
type sourceError struct {
	what string
	err  error
}

func (e *sourceError) Error() string { return e.what + ": " + e.err.Error() }
func (e *sourceError) Unwrap() error { return e.err }

// notARegistry is the error of a host that answers 200 with something of this type instead of what a registry has.
func notARegistry(host, instead, mediaType string) error {
	return &fault.Error{Code: fault.RegistryUnreachable, Op: "reach the registry", Object: host,
		Cause: fmt.Sprintf("something answers with %q instead of %s", fault.Bounded(cmp.Or(mediaType, "no type")), instead),
		Remedy: "Check the registry's name and port. It may be the address of web pages, or a proxy or sign-in page may stand " +
			"in front of the registry; let this machine past it."}
}

const remedyRunAgain = "Run again; what was pushed already is not pushed again. Check what stands between this machine and the registry."

const remedyRateLimit = "Wait and run again; sign in if there were no credentials, since limits are higher then."

// explain makes of err what a person needs to know: what was done, to what, what the other side said and what to do.
func (c *Client) explain(ctx context.Context, err error, st step) error {
	if err == nil {
		return nil
	}
	f := &fault.Error{Op: st.op, Object: st.object, Err: err}
	if ctx.Err() != nil {
		f.Code, f.Cause, f.Err = fault.Interrupted, "interrupted", context.Cause(ctx)
		return f
	}
	if known, ok := errors.AsType[*fault.Error](err); ok {
		return known
	}
	if se, ok := errors.AsType[*sourceError](err); ok {
		f.Code, f.Cause = fault.SourceImage, c.secrets.bounded(se.what+": "+sourceText(se.err))
		f.Remedy = "Check that the image is whole and was not changed while it was read."
		return f
	}
	if te, ok := errors.AsType[*transport.Error](err); ok {
		c.explainStatus(f, te, st)
		return f
	}
	host := st.end.registry.RegistryStr()
	if ue, ok := errors.AsType[*url.Error](err); ok {
		if u, perr := url.Parse(ue.URL); perr == nil && u.Host != "" {
			host = u.Host
		}
	}
	if c.explainTLS(f, err, host) || c.explainNetwork(f, err, host, st) {
		return f
	}
	f.Cause = c.secrets.bounded(rootText(err))
	switch {
	case st.signIn && st.end.usesTokens():
		explainToken(f, st)
	case st.push && !st.signIn:
		f.Code, f.Remedy = fault.PushFailed, "Run again; what was pushed already is not pushed again."
	default:
		f.Code, f.Remedy = fault.RegistryUnreachable, "Check that this is a container registry, and that it works."
	}
	return f
}

// explainToken tells why a token server can't be used, where go-containerregistry refused it.
func explainToken(f *fault.Error, st step) {
	f.Code = fault.TokenServer
	realm := "a token server"
	if u := st.end.realm.Load(); u != nil {
		realm = "the token server " + fault.Bounded(u.Scheme+"://"+u.Host+u.Path)
	}
	f.Remedy = "Check the realm in the WWW-Authenticate header that the registry answers to GET /v2/."
	switch {
	case strings.Contains(f.Cause, "private or link-local address"):
		f.Cause = "the registry names " + realm + ", an IP address in a private network, which is refused as it may lead anywhere"
		f.Remedy = "Configure the registry to name its token server by a DNS name."
	case strings.Contains(f.Cause, "realm scheme"):
		f.Cause = "the registry speaks https but names " + realm + ", to which the credentials would go in clear"
		f.Remedy = "Configure the registry to name its token server with https."
	case strings.Contains(f.Cause, "missing realm"):
		f.Cause = "the registry asks for a token but does not say where to get it"
	case strings.Contains(f.Cause, "no token in bearer response"), strings.Contains(f.Cause, "invalid character"),
		strings.Contains(f.Cause, "unexpected end of JSON"):
		f.Cause = realm + " did not answer with a token"
	}
}

func (c *Client) explainTLS(f *fault.Error, err error, host string) bool {
	f.Code = fault.RegistryTLS
	text := err.Error()
	if e, ok := errors.AsType[x509.UnknownAuthorityError](err); ok {
		issuer := ""
		if e.Cert != nil {
			issuer = fmt.Sprintf(" (issued by %q)", c.secrets.bounded(e.Cert.Issuer.String()))
		}
		f.Cause = "this machine does not know the authority that signed the certificate of " + host + issuer
		f.Remedy = `Give the authority's certificate by the input "registry-ca-certificate".`
		return true
	}
	if e, ok := errors.AsType[x509.HostnameError](err); ok {
		f.Cause = c.secrets.bounded("the certificate of " + host + " is for another name: " + e.Error())
		f.Remedy = "Use a name that the certificate holds, or have the certificate made for this one."
		return true
	}
	if e, ok := errors.AsType[x509.CertificateInvalidError](err); ok {
		f.Cause = c.secrets.bounded("the certificate of " + host + " is not valid: " + e.Error())
		f.Remedy = "Have the certificate renewed; check this machine's clock."
		return true
	}
	if e, ok := errors.AsType[*tls.CertificateVerificationError](err); ok {
		f.Cause = c.secrets.bounded("the certificate of " + host + " can't be verified: " + e.Error())
		f.Remedy = `Check the certificate, and the input "registry-ca-certificate" if it is set.`
		return true
	}
	if errors.Is(err, http.ErrSchemeMismatch) {
		f.Cause = host + " speaks http, not https"
		f.Remedy = `Set "registry-plain-http" if that is meant to be; the credentials then travel in clear.`
		return true
	}
	if _, ok := errors.AsType[tls.RecordHeaderError](err); ok {
		f.Cause = host + " does not speak TLS"
		f.Remedy = `Check the port; set "registry-plain-http" if the registry speaks http.`
		return true
	}
	if _, ok := errors.AsType[*certificateError](err); ok {
		f.Cause = host + " wants a client certificate of an authority that it knows: " + c.secrets.bounded(rootText(err))
		f.Remedy = `Give one by the inputs "registry-client-certificate" and "registry-client-key".`
		return true
	}
	if strings.Contains(text, "tls: ") {
		f.Cause = "no TLS connection to " + host + ": " + c.secrets.bounded(rootText(err))
		f.Remedy = "Check the registry's address, and what stands between this machine and it."
		return true
	}
	return false
}

func (c *Client) explainNetwork(f *fault.Error, err error, host string, st step) bool {
	f.Code = fault.RegistryUnreachable
	f.Remedy = "Check the registry's name and port, and that this machine may reach it."
	if e, ok := errors.AsType[*stallError](err); ok {
		f.Cause = e.Error()
		if f.Remedy = remedyRunAgain; st.push && !st.signIn {
			f.Code = fault.PushFailed
		}
		return true
	}
	if e, ok := errors.AsType[*net.DNSError](err); ok {
		f.Cause = "the name " + c.secrets.bounded(e.Name) + " can't be resolved"
		return true
	}
	if e, ok := errors.AsType[*proxyError](err); ok {
		f.Cause = e.Error()
		f.Remedy = "Have the proxy let " + host + " pass, give its user name and password in HTTPS_PROXY, or name the host in NO_PROXY."
		return true
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "proxyconnect" {
		f.Cause = "the proxy that HTTPS_PROXY or HTTP_PROXY names can't be reached: " + c.secrets.bounded(rootText(err))
		f.Remedy = "Correct the proxy, or name the registry in NO_PROXY."
		return true
	}
	var timeout interface{ Timeout() bool }
	if errors.As(err, &timeout) && timeout.Timeout() {
		f.Cause = host + " does not answer in time"
		return true
	}
	if e, ok := errors.AsType[*net.OpError](err); ok && e.Op == "dial" {
		f.Cause = "no connection to " + host + ": " + c.secrets.bounded(rootText(err))
		return true
	}
	if transient(err) || errors.Is(err, io.ErrClosedPipe) {
		f.Cause = host + " broke the connection each time: " + c.secrets.bounded(rootText(err))
		if st.push && !st.signIn {
			f.Code = fault.PushFailed
			f.Remedy = remedyRunAgain
			if st.end.provider.hangsUp {
				f.Remedy += st.hint(fault.RepositoryMissing)
			}
		}
		return true
	}
	return false
}

// explainStatus explains an answer by its status, its code and the step.
func (c *Client) explainStatus(f *fault.Error, te *transport.Error, st step) {
	host := st.end.registry.RegistryStr()
	said := c.secrets.bounded(saidBy(te))
	f.Cause = host + " answered " + said
	token := te.Request != nil && st.end.isRealm(te.Request.URL)
	if token {
		f.Cause = "the token server " + te.Request.URL.Host + " answered " + said
	}
	foreign := te.Request != nil && !token && !st.end.owns(te.Request.URL)
	if foreign {
		f.Cause = te.Request.URL.Host + ", which " + host + " refers to, answered " + said
	}
	has := func(codes ...transport.ErrorCode) bool { return hasCode(te, codes...) }
	status := te.StatusCode
	defer c.explainClock(f, st)
	if !foreign && st.push && c.explainByRule(f, te, st, token) {
		return
	}
	switch {
	case status == http.StatusTooManyRequests || has(transport.TooManyRequestsErrorCode):
		c.explainLimit(f, te, st)
	case foreign && status != http.StatusRequestEntityTooLarge:
		f.Code = fault.PushFailed
		f.Remedy = "Check the storage behind the registry, and the clocks of both: its signed addresses live for minutes."
		if !st.push {
			f.Code = fault.RegistryUnreachable
		}
	case status == http.StatusBadRequest && strings.Contains(te.Error(), "HTTP request to an HTTPS server"):
		f.Code, f.Remedy = fault.RegistryTLS, `It speaks https: take out "registry-plain-http".`
	case st.tag && (has(transport.TagInvalidErrorCode) || status == http.StatusConflict ||
		status == http.StatusPreconditionFailed || immutable(te)):
		explainImmutable(f, st)
	case has(transport.DeniedErrorCode), status == http.StatusForbidden:
		explainDenied(f, st, token)
	case status == http.StatusUnauthorized || has(transport.UnauthorizedErrorCode):
		explainUnauthorized(f, st, token)
	case token:
		f.Code = fault.TokenServer
		f.Remedy = "Check that the token server works; docker login against the registry would fail in the same way."
	case status == http.StatusRequestEntityTooLarge:
		f.Code = fault.BodyTooLarge
		f.Remedy = "Raise the limit of the proxy in front of the registry (nginx: client_max_body_size 0), or make the " +
			"image's largest layer smaller."
	case st.signIn || (!st.push && status >= 500):
		f.Code = fault.RegistryUnreachable
		f.Remedy = "Check that this is a container registry (GET /v2/ must answer 200 or 401), and that it works."
	case !st.push && (status == http.StatusNotFound || has(transport.ManifestUnknownErrorCode, transport.NameUnknownErrorCode)):
		f.Code = fault.SourceImage
		f.Remedy = "Check the name and the tag; some registries also say so to those who may not read it."
	case has(transport.NameUnknownErrorCode) || status == http.StatusNotFound && len(te.Errors) == 0:
		f.Code = fault.RepositoryMissing
		f.Remedy = "Create the repository, or correct its name; this registry makes none by a push." + st.hint(fault.RepositoryMissing)
	case status >= 400 && status < 500 && status != http.StatusRequestTimeout &&
		!has(transport.BlobUploadUnknownErrorCode, transport.BlobUploadInvalidErrorCode):
		f.Code, f.Remedy = fault.ImageRefused, imageRemedy(has)
	default:
		f.Code = fault.PushFailed
		f.Remedy = "Run again; what was pushed already is not pushed again. If it stays so, the registry's own log tells why."
	}
}

// explainByRule explains an answer by the provider's own table.
func (c *Client) explainByRule(f *fault.Error, te *transport.Error, st step, token bool) bool {
	at := "upload"
	switch {
	case token:
		at = "token"
	case st.tag:
		at = "tag"
	}
	for _, r := range st.end.provider.rules {
		// A limit is a limit, whatever else the answer speaks of.
		limited := te.StatusCode == http.StatusTooManyRequests && r.is != fault.RateLimited
		if limited || !r.fits(at, te) {
			continue
		}
		switch r.is {
		case fault.PushDenied:
			explainDenied(f, st, token)
		case fault.CredentialsRefused:
			explainRefused(f, st)
		case fault.TagImmutable:
			explainImmutable(f, st)
		case fault.RateLimited:
			c.explainLimit(f, te, st)
		default:
			f.Code, f.Remedy = r.is, strings.TrimSpace(st.hint(r.is))
		}
		if r.remedy != "" {
			f.Remedy = st.at.words(r.remedy)
		}
		return true
	}
	return false
}

func (c *Client) explainLimit(f *fault.Error, te *transport.Error, st step) {
	limited := st.end.registry.RegistryStr()
	if te.Request != nil {
		limited = te.Request.URL.Host
	}
	f.Code, f.Remedy = fault.RateLimited, remedyRateLimit+st.hint(fault.RateLimited)
	f.Cause += c.notices.limitsOf(limited)
}

func explainImmutable(f *fault.Error, st step) {
	f.Code, f.Remedy = fault.TagImmutable, "Publish under a new tag; this registry does not let a tag be moved."+st.hint(fault.TagImmutable)
}

// wrongClock is from how far off a clock is the likely cause of a refusal: tokens are good for minutes.
const wrongClock = 5 * time.Minute

// explainClock tells of a clock that is wrong where that is the likely cause of a refusal.
func (c *Client) explainClock(f *fault.Error, st step) {
	off := time.Duration(st.end.skew.Load()).Round(time.Second)
	if f.Code != fault.CredentialsRefused && f.Code != fault.PushDenied || off.Abs() < wrongClock {
		return
	}
	way := "behind"
	if off > 0 {
		way = "ahead of"
	}
	f.Code = fault.ClockWrong
	f.Cause += fmt.Sprintf("; this machine's clock is %s %s the registry's", off.Abs(), way)
	f.Remedy = "Set this machine's clock: tokens are good for minutes only. A paused virtual machine is a common cause."
}

func imageRemedy(has func(...transport.ErrorCode) bool) string {
	switch {
	case has(transport.DigestInvalidErrorCode, transport.SizeInvalidErrorCode):
		return "Something changed the bytes: a proxy on the way, or the layer's file while it was pushed."
	case has(transport.NameInvalidErrorCode):
		return "The registry does not take this repository's name; some want a certain number of parts."
	case has(transport.ManifestBlobUnknownErrorCode, transport.BlobUnknownErrorCode):
		return "The registry lost a blob that was pushed (a garbage collection, or a mirror that lags); run again."
	case has(transport.TagInvalidErrorCode):
		return "The registry does not take this tag."
	default:
		return "The registry does not take this kind of image; its documentation names the media types that it takes."
	}
}

// immutable tells whether a refused PUT under a tag speaks of tags that can't be moved, for which registries have no
// common code (ECR: TAG_INVALID; Artifact Registry, Harbor, GitLab and Docker Hub: words).
func immutable(te *transport.Error) bool {
	text := strings.ToLower(answerText(te))
	return te.StatusCode < 500 && (strings.Contains(text, "immutable") || strings.Contains(text, "protected tag") ||
		strings.Contains(text, "failed_precondition"))
}

func explainDenied(f *fault.Error, st step, token bool) {
	f.Code = fault.PushDenied
	right := "push"
	if !st.push {
		right = "pull"
	}
	switch {
	case st.cred.anonymous():
		f.Remedy = fmt.Sprintf("Sign in as somebody who may %s, and check the repository's name.", right)
	case token:
		f.Remedy = fmt.Sprintf("Check the credentials; give %s the right to %s to this repository.", st.cred.who(), right)
	default:
		f.Remedy = fmt.Sprintf("Give %s the right to %s to this repository, and check the repository's name.", st.cred.who(), right)
	}
	if st.push {
		f.Remedy += st.hint(fault.PushDenied)
	}
}

func explainUnauthorized(f *fault.Error, st step, token bool) {
	if st.cred.anonymous() {
		err := f.Err
		*f = *noCredentials(st)
		f.Err = err
		return
	}
	if !token && st.end.usesTokens() && !st.cred.asIs {
		// The token server took the credentials, so they are right; its token grants too little.
		f.Cause += "; the credentials were accepted but don't grant this"
		explainDenied(f, st, false)
		return
	}
	explainRefused(f, st)
}

func explainRefused(f *fault.Error, st step) {
	f.Code = fault.CredentialsRefused
	f.Cause += "; signed in with " + st.cred.String()
	f.Remedy = "Check that they are for this registry, spelled right and not expired." + st.hint(fault.CredentialsRefused)
}

// who is the credential's owner for a sentence.
func (c credential) who() string {
	if c.user != "" {
		return fmt.Sprintf("user %q", c.user)
	}
	return "the owner of " + c.from
}

// saidBy is an answer in one line: its status, and its codes and messages, or else the beginning of its body.
func saidBy(te *transport.Error) string {
	status := fmt.Sprintf("%d %s", te.StatusCode, http.StatusText(te.StatusCode))
	var all []string
	for _, d := range te.Errors {
		all = append(all, strings.TrimSuffix(strings.TrimSpace(string(d.Code)+": "+d.Message), ":"))
	}
	if len(all) == 0 {
		if _, body, ok := strings.Cut(te.Error(), "unexpected status code "+status+": "); ok {
			all = append(all, body)
		}
	}
	if len(all) == 0 {
		return status
	}
	return status + " (" + strings.Join(all, "; ") + ")"
}

// sourceText is the text of a failure to read a layer. It leaves out the URL: that of an object store is signed.
func sourceText(err error) string {
	if te, ok := errors.AsType[*transport.Error](err); ok && te.Request != nil {
		return te.Request.URL.Host + " answered " + saidBy(te)
	}
	return rootText(err)
}

// rootText is the text of the innermost error below net/http's and net's wrapping, which repeat the URL.
func rootText(err error) string {
	if ue, ok := errors.AsType[*url.Error](err); ok {
		err = ue.Err
	}
	return err.Error()
}
