package airbyte

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"io"
	"net"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"syscall"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// answer is an HTTP answer that is no success. It lies below the *fault.Error that explains it.
type answer struct {
	status   int
	location *url.URL
	problem  problem
	// challenge is what the answer says of how to sign in, in lower case.
	challenge string
	// registry tells that its headers are a container registry's.
	registry bool
}

func (a *answer) Error() string { return a.said() }

// door tells whether the answer to a request without credentials is that of something in front of Airbyte which asks
// for a sign-in of its own, and may let through who has one. Another service that speaks JSON is no door.
func (a *answer) door() bool {
	switch {
	case a.status >= 300 && a.status < 400 || a.status == http.StatusProxyAuthRequired:
		return true
	case a.status == http.StatusForbidden:
		return a.problem.html
	case a.status == http.StatusUnauthorized:
		return !a.registry && !a.problem.foreign && (!a.problem.json || a.challenge != "")
	}
	return false
}

// unlikeAirbyte tells whether the answer to the request for the configuration is neither one of an Airbyte that gives
// it nor one of something in front of it.
func (a *answer) unlikeAirbyte() bool {
	switch a.status {
	case http.StatusNotFound:
		return true
	case http.StatusForbidden:
		return !a.door()
	case http.StatusUnauthorized:
		return !a.door() || !a.problem.html && a.challenge == ""
	}
	return false
}

// said is the status and the text in a few words: `400 Bad Request: "…"`.
func (a *answer) said() string {
	s := fmt.Sprintf("%d %s", a.status, http.StatusText(a.status))
	switch {
	case a.problem.text != "":
		return strings.TrimSpace(s) + fmt.Sprintf(": %q", a.problem.text)
	case a.problem.errorID != "":
		return strings.TrimSpace(s) + ", errorId " + a.problem.errorID
	}
	return strings.TrimSpace(s)
}

// problem is what the body of such an answer says.
type problem struct {
	// json tells that it is a JSON object in one of Airbyte's shapes; foreign that it is JSON in none of them; html that
	// it is a web page, so not Airbyte's.
	json, foreign, html bool
	// text is for a person: a message, or a web page's title. It is bounded and holds no secret.
	text string
	// errorID is what the server's log has the cause under.
	errorID string
}

// readProblem reads a body in any of the shapes that come: Airbyte's {"message", "validationErrors", "errorId"}, a
// problem in the sense of RFC 9457 with data.message, a JSON string, a proxy's web page, plain text, or nothing.
func (c *Client) readProblem(r *reply) problem {
	body := strings.TrimSpace(string(r.body))
	var object struct {
		Message          string `json:"message"`
		Detail           string `json:"detail"`
		Title            string `json:"title"`
		ErrorID          string `json:"errorId"`
		ValidationErrors []struct {
			PropertyPath string `json:"propertyPath"`
			Message      string `json:"message"`
		} `json:"validationErrors"`
		Data struct {
			Message string `json:"message"`
		} `json:"data"`
	}
	var text string
	switch {
	case strings.HasPrefix(body, "{"):
		// A member of another type than expected leaves the others readable.
		err := json.Unmarshal([]byte(body), &object)
		if mismatch := (*json.UnmarshalTypeError)(nil); err != nil && !errors.As(err, &mismatch) {
			return problem{text: c.clean(body)}
		}
		p := problem{errorID: c.clean(object.ErrorID)}
		p.text = firstOf(strings.TrimPrefix(object.Message, "Internal Server Error: "), object.Detail, object.Data.Message, object.Title)
		for _, v := range object.ValidationErrors {
			p.text += "; " + v.PropertyPath + ": " + v.Message
		}
		if p.text != object.Data.Message && object.Data.Message != "" && !strings.Contains(p.text, object.Data.Message) {
			p.text += ": " + object.Data.Message
		}
		p.text, p.json = c.clean(p.text), p.text != "" || p.errorID != ""
		if p.foreign = !p.json; p.foreign {
			p.text = c.clean(body)
		}
		return p
	case json.Unmarshal([]byte(body), &text) == nil:
		return problem{json: true, text: c.clean(text)}
	case strings.HasPrefix(body, "<") || strings.HasPrefix(r.header.Get("Content-Type"), "text/html"):
		title := titlePattern.FindStringSubmatch(body)
		if title == nil {
			return problem{html: true}
		}
		return problem{html: true, text: c.clean(html.UnescapeString(title[1]))}
	}
	return problem{text: c.clean(body), foreign: json.Valid([]byte(body))}
}

var titlePattern = regexp.MustCompile(`(?is)<title[^>]*>(.*?)</title>`)

func firstOf(texts ...string) string {
	for _, t := range texts {
		if strings.TrimSpace(t) != "" {
			return t
		}
	}
	return ""
}

// unread is the answer as an error to be explained.
func (c *Client) unread(r *reply) *answer {
	challenge := strings.ToLower(strings.Join(append(r.header.Values("WWW-Authenticate"), r.header.Values("Proxy-Authenticate")...), ", "))
	// The header is that of the registry's protocol; "service" is what its challenge names beside the token server.
	registry := r.header.Get("Docker-Distribution-Api-Version") != "" || strings.Contains(challenge, `service="`)
	return &answer{status: r.status, location: r.location, problem: c.readProblem(r), challenge: challenge, registry: registry}
}

const (
	addressRemedy = "Check airbyte-url: it is the address of Airbyte's web pages, and ADDRESS" + apiPath + "health must answer {\"available\":true}."
	proxyRemedy   = "If a proxy in front of Airbyte wants a sign-in of its own, give what it wants by airbyte-headers or airbyte-username," +
		" or give an address behind it."
	logRemedy = "Look for this errorId in the airbyte-server log."
)

// explain makes of an answer that is no success the error that a person can act on.
func (c *Client) explain(q call, r *reply) *fault.Error {
	a := c.unread(r)
	f := &fault.Error{Op: q.op, Object: q.object, Err: a}
	if known := c.knownText(q, a); known != nil {
		return known
	}
	switch {
	case r.status >= 300 && r.status < 400:
		c.explainRedirect(f, a)
	case r.status == http.StatusUnauthorized || r.status == http.StatusProxyAuthRequired:
		c.explainUnauthorized(f, q, a)
	case r.status == http.StatusForbidden && a.problem.html:
		f.Code, f.Cause, f.Remedy = fault.AirbyteForbidden, "something in front of Airbyte refused the request ("+a.said()+")", proxyRemedy
	case r.status == http.StatusForbidden:
		f.Code, f.Cause = fault.AirbyteForbidden, "Airbyte denies the right ("+a.said()+")"
		f.Remedy = "The credentials need the editor's role in the workspace to create, and an administrator's of the organization to update;" +
			" an endpoint that this version does not have is denied in the same way."
	case a.problem.html && r.status < 500:
		f.Code, f.Remedy = fault.NotAirbyte, addressRemedy
		f.Cause = "it answered with a web page (" + a.said() + "), as Airbyte's API never does"
	case a.problem.html || r.status >= 502 && r.status <= 504:
		f.Code, f.Cause = fault.AirbyteFailed, "a proxy in front of Airbyte answered in its stead ("+a.said()+")"
		f.Remedy = "Try again; if it stays so, look at the proxy and at the pod or container of airbyte-server."
	case r.status >= 500:
		f.Code, f.Cause, f.Remedy = fault.AirbyteFailed, "Airbyte failed ("+a.said()+")", "Look at the log of airbyte-server for the cause."
		if a.problem.errorID != "" {
			f.Remedy = logRemedy
		}
	case r.status == http.StatusNotFound && !a.problem.json:
		f.Code, f.Cause, f.Remedy = fault.NotAirbyte, "there is nothing at "+apiPath+q.path+" ("+a.said()+")", addressRemedy
	default:
		f.Code, f.Cause = fault.AirbyteRefused, "Airbyte refused the request ("+a.said()+")"
		if a.problem.errorID != "" {
			f.Remedy = logRemedy
		}
	}
	return f
}

// knownText recognises the messages that say what is wrong better than the status does, or returns nil.
func (c *Client) knownText(q call, a *answer) *fault.Error {
	f := &fault.Error{Op: q.op, Object: q.object, Err: a, Cause: "Airbyte said: " + a.said()}
	has := func(s string) bool { return strings.Contains(strings.ToLower(a.problem.text), s) }
	switch {
	case has("in airbyte cloud"):
		return cloudFault(q.op, q.object, a)
	case has("airbyte protocol version"):
		f.Code = fault.ProtocolNotSupported
		f.Remedy = "Let the connector's spec name a protocol_version that this Airbyte supports, or upgrade Airbyte."
	case has("could not validate user access"):
		f.Code = fault.AirbyteForbidden
		f.Remedy = "Airbyte Enterprise lets only administrators of the instance or of its organization update a custom connector:" +
			" use the credentials of one."
	case has("failed to fetch connector registry entry"):
		f.Code = fault.AirGapped
		f.Remedy = "To update a connector Airbyte asks its connector registry (https://connectors.airbyte.com/files/) and takes anything but" +
			" an answer or a 404 as a failure: let airbyte-server reach it, or point CONNECTOR_REGISTRY_BASE_URL to a web server that answers 404."
	case has("spec job failed"):
		f.Code, f.Remedy = fault.ServerSpecFailed, specChecklist
	default:
		return nil
	}
	return f
}

// explainRedirect says where a redirect leads. It is not followed: the credentials would go with it.
func (c *Client) explainRedirect(f *fault.Error, a *answer) {
	f.Code, f.Remedy = fault.NotAirbyte, addressRemedy
	if a.location == nil {
		f.Cause = "it answered with a redirect (" + a.said() + ")"
		return
	}
	// What follows the path may be a secret of the sign-in that it leads to.
	to := c.clean((&url.URL{Scheme: a.location.Scheme, Host: a.location.Host, Path: a.location.Path}).String())
	f.Cause = fmt.Sprintf("it redirects to %s (%d), which is not followed", to, a.status)
	if !strings.EqualFold(a.location.Hostname(), c.base.Hostname()) || !strings.Contains(a.location.Path, apiPath) {
		f.Cause = fmt.Sprintf("it redirects to %s (%d): a sign-in page rather than Airbyte's API", to, a.status)
		f.Remedy = proxyRemedy
	}
}

func (c *Client) explainUnauthorized(f *fault.Error, q call, a *answer) {
	o := c.options
	f.Code = fault.AirbyteSignIn
	switch {
	case a.problem.html && o.Username != "" && o.ClientID == "":
		f.Cause, f.Remedy = "something in front of Airbyte refused the username and password ("+a.said()+")", proxyRemedy
	case strings.Contains(a.challenge, "basic") && (q.anonymous || o.AccessToken == "" && o.ClientID == "" && o.Username == ""):
		f.Cause = "it asks for a username and password (" + a.said() + ")"
		f.Remedy = "Set airbyte-username and airbyte-password, which for docker compose are airbyte and password unless changed."
	case a.problem.html || q.anonymous || a.status == http.StatusProxyAuthRequired:
		f.Cause, f.Remedy = "something in front of Airbyte asks for a sign-in ("+a.said()+")", proxyRemedy
	case o.AccessToken != "":
		f.Cause = "the access token was refused (" + a.said() + ")"
		f.Remedy = "Tokens live 15 minutes on most instances: give airbyte-client-id and airbyte-client-secret instead, from which tokens are made as needed."
	case o.ClientID != "":
		f.Cause, f.Remedy = "a token made from the client credentials was refused ("+a.said()+")", clientRemedy
	case o.Username != "":
		f.Cause = "the username and password were refused (" + a.said() + ")"
		f.Remedy = "Check them; since 0.63.9 Airbyte itself takes client credentials instead (airbyte-client-id, airbyte-client-secret)."
	default:
		f.Cause, f.Remedy = "it asks for credentials ("+a.said()+")", clientRemedy
	}
}

// notJSON is the error of a success that is no JSON, or not of the shape that it should have.
func (c *Client) notJSON(q call, r *reply, err error) *fault.Error {
	f := &fault.Error{Code: fault.NotAirbyte, Op: q.op, Object: q.object, Remedy: addressRemedy, Err: err}
	p := c.readProblem(r)
	switch {
	case p.html && p.text != "":
		f.Cause = fmt.Sprintf("it answered with a web page titled %q instead of JSON", p.text)
		f.Remedy = addressRemedy + " " + proxyRemedy
	case p.html:
		f.Cause, f.Remedy = "it answered with a web page instead of JSON", addressRemedy+" "+proxyRemedy
	case len(r.body) == 0:
		f.Cause = "it answered with nothing at all"
	default:
		f.Cause = "it answered with something else than was expected: " + c.clean(string(r.body))
	}
	return f
}

// unreachable is the error of a request without an answer, and whether trying again may help.
func (c *Client) unreachable(q call, t *transportError) (_ *fault.Error, again bool) {
	f := &fault.Error{Code: fault.AirbyteUnreachable, Op: q.op, Object: q.object, Err: t}
	host := c.base.Host
	var dns *net.DNSError
	switch {
	case isTLS(t.err):
		f.Code, f.Cause = fault.AirbyteTLS, "the TLS connection to "+host+" failed: "+c.clean(innermost(t.err).Error())
		f.Remedy = "Give the authority that signed its certificate by airbyte-ca-certificate, and the address under the name that the certificate has."
		return f, false
	case strings.Contains(t.err.Error(), "server gave HTTP response to HTTPS client"):
		f.Code, f.Cause = fault.AirbyteTLS, host+" speaks plain http"
		f.Remedy = "Write airbyte-url with http:// if that is meant."
		return f, false
	case errors.As(t.err, &dns) && dns.IsNotFound:
		f.Cause, f.Remedy = fmt.Sprintf("the name %s is not known", dns.Name), "Check airbyte-url, and that this machine uses the network's own name server."
		return f, false
	case t.late:
		f.Cause, f.Remedy = fmt.Sprintf("no answer from %s within %s", host, q.timeout), "Check that nothing between this machine and Airbyte drops the connection."
	case errors.Is(t.err, syscall.ECONNREFUSED):
		f.Cause, f.Remedy = "nothing listens at "+host, "Check airbyte-url and that Airbyte runs."
		if ip := net.ParseIP(c.base.Hostname()); c.base.Hostname() == "localhost" || ip != nil && ip.IsLoopback() {
			f.Remedy += " In a container " + c.base.Hostname() + " is the container itself."
		}
	case errors.Is(t.err, io.EOF) || errors.Is(t.err, io.ErrUnexpectedEOF) || errors.Is(t.err, syscall.ECONNRESET) || errors.Is(t.err, syscall.EPIPE):
		f.Cause, f.Remedy = "the connection to "+host+" broke before the answer was there", "Try again; if it stays so, look at what stands between this machine and Airbyte."
	default:
		f.Cause, f.Remedy = c.clean(innermost(t.err).Error()), "Check that this machine reaches "+host+"."
	}
	return f, true
}

func isTLS(err error) bool {
	var (
		verification *tls.CertificateVerificationError
		authority    x509.UnknownAuthorityError
		name         x509.HostnameError
		invalid      x509.CertificateInvalidError
		record       tls.RecordHeaderError
		alert        tls.AlertError
	)
	return errors.As(err, &verification) || errors.As(err, &authority) || errors.As(err, &name) || errors.As(err, &invalid) ||
		errors.As(err, &record) || errors.As(err, &alert)
}

// innermost takes away the *url.Error, which repeats method and address.
func innermost(err error) error {
	if u, ok := errors.AsType[*url.Error](err); ok {
		return u.Err
	}
	return err
}

// summary says in a few words how a request went wrong, for the log.
func (c *Client) summary(r *reply, err error) string {
	if r != nil {
		return "Airbyte answered " + c.unread(r).said()
	}
	return "no answer from Airbyte: " + c.clean(innermost(err).Error())
}

// settled is the error of something that had to come before a request, such as the sign-in, as the request's caller
// gets it: without what lies below, which would pass for the answer to the request itself, or for the lack of one.
func settled(err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		f.Err = nil
		return f
	}
	return err
}

// clean makes another party's text fit to be shown.
func (c *Client) clean(text string) string { return fault.Bounded(c.redact(text)) }

// redact takes the secrets out of a text. Those too short to be told from ordinary words stay.
func (c *Client) redact(text string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.secrets {
		text = strings.ReplaceAll(text, s, "***")
	}
	return text
}

// conceal adds to the secrets.
func (c *Client) conceal(secret string) {
	if len(secret) < 4 {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.secrets = append(c.secrets, secret)
}

// concealOptions makes secrets of all that signs in.
func (c *Client) concealOptions() {
	for _, values := range c.options.Headers {
		for _, v := range values {
			c.conceal(v)
			if _, credential, found := strings.Cut(v, " "); found {
				c.conceal(credential)
			}
		}
	}
	c.conceal(strings.TrimPrefix(c.basic(), "Basic "))
	c.conceal(c.options.ClientSecret)
	c.conceal(c.options.AccessToken)
	c.conceal(c.options.Password)
}
