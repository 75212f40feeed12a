package deployment

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"path"
	"regexp"
	"strings"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/rest"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// fieldManager is the name under which the API server remembers what we wrote.
const fieldManager = "airbyte-publish"

const (
	requestTimeout = 30 * time.Second
	attempts       = 4
	// maxAnswer bounds what is read of one answer.
	maxAnswer = 16 << 20
)

// connection is a cluster's API, spoken as plain JSON.
type connection struct {
	base *url.URL
	http *http.Client
	// plugin signs in, unless it is nil.
	plugin    *plugin
	namespace string
	verb      string
	userAgent string
	sleep     func(context.Context, time.Duration) error
}

func newConnection(config *rest.Config, namespace string, o ClusterOptions) (*connection, error) {
	tls := config.TLSClientConfig.CAFile != "" || len(config.CAData) > 0 || config.Insecure || config.CertFile != "" || len(config.CertData) > 0
	base, _, err := rest.DefaultServerURL(config.Host, "", schema.GroupVersion{}, tls)
	if err != nil {
		return nil, err
	}
	c := &connection{base: base, namespace: namespace, verb: o.Verb, userAgent: o.UserAgent, sleep: o.Sleep, plugin: newPlugin(config, o)}
	// Also where a plugin signs in, so that a configuration which can't be used is told at once.
	c.http, err = newClient(config)
	return c, err
}

func newClient(config *rest.Config) (*http.Client, error) {
	client, err := rest.HTTPClientFor(config)
	if err != nil {
		return nil, err
	}
	// What an API server redirects to is none, and must not get the token.
	client.CheckRedirect = func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse }
	return client, nil
}

// do sends a request as whoever the kubeconfig says. Credentials of a plugin that are refused are made anew once.
func (c *connection) do(req *http.Request) (*http.Response, error) {
	if c.plugin == nil {
		return c.http.Do(req)
	}
	client, err := c.plugin.signedIn(req.Context(), nil)
	if err != nil {
		return nil, err
	}
	answer, err := client.Do(req)
	if err != nil || answer.StatusCode != http.StatusUnauthorized {
		return answer, err
	}
	_ = answer.Body.Close()
	again := req.Clone(req.Context())
	if again.Body, err = req.GetBody(); err != nil {
		return nil, err
	}
	if client, err = c.plugin.signedIn(req.Context(), client); err != nil {
		return nil, err
	}
	return client.Do(again)
}

// The kinds of objects, as they stand in the API's addresses.
const (
	core           = "api/v1"
	apps           = "apis/apps/v1"
	authorization  = "apis/authorization.k8s.io/v1"
	applyPatch     = "application/apply-patch+yaml"
	mergePatch     = "application/merge-patch+json"
	strategicPatch = "application/strategic-merge-patch+json"
)

// request is one call of the API.
type request struct {
	method string
	// api is one of the constants above; resource is the plural, name may be empty.
	api, namespace, resource, name string
	query                          url.Values
	// form is the body's type; empty means JSON.
	form string
	body any
	// op says for an error what was being done, in the infinitive.
	op string
	// once tells that the request must not be sent a second time when its outcome is unknown.
	once bool
	// blind tells that it must not be sent a second time at all: what it rests on has to be looked at again before.
	blind bool
	// status gets the answer's, if it is not nil.
	status *int
}

func (r request) path() string {
	parts := []string{r.api}
	if r.namespace != "" {
		parts = append(parts, "namespaces", r.namespace)
	}
	return path.Join(append(parts, r.resource, r.name)...)
}

func (r request) object() string {
	o := strings.TrimSuffix(r.resource, "s")
	if r.name == "" {
		o = r.resource
	} else {
		o += " " + r.name
	}
	if r.namespace != "" {
		o += " in namespace " + r.namespace
	}
	return o
}

// apiError is an answer that is no success.
type apiError struct {
	code    int
	status  metav1.Status
	message string
}

func (e *apiError) Error() string { return e.message }

// isStatus tells whether the API server answered with the code.
func isStatus(err error, code int) bool {
	e, ok := errors.AsType[*apiError](err)
	return ok && e.code == code
}

// call sends a request and decodes the answer into out, unless that is nil. Its error is a *fault.Error around the
// *apiError, if there was an answer. What may be sent again is, when the server is busy or the connection breaks.
func (c *connection) call(ctx context.Context, r request, out any) error {
	// Some names are read in the cluster, where others write them.
	if invalidName(r.namespace) || invalidName(r.name) {
		return &fault.Error{Code: fault.ClusterFailed, Op: r.op, Object: fault.Bounded(fmt.Sprintf("%q in namespace %q", r.name, r.namespace)),
			Cause: "Kubernetes takes no such name", Remedy: "Correct it where Airbyte's settings name it, in its config map or its deployment."}
	}
	var body []byte
	if r.body != nil {
		var err error
		if body, err = json.Marshal(r.body); err != nil {
			return fmt.Errorf("encode %s: %w", r.object(), err)
		}
	}
	for attempt := 1; ; attempt++ {
		content, again, err := c.send(ctx, r, body)
		if err == nil {
			if out == nil {
				return nil
			}
			if err := json.Unmarshal(content, out); err != nil {
				return &fault.Error{Code: fault.ClusterFailed, Op: r.op, Object: c.base.Host, Cause: "the answer is not Kubernetes': " + fault.Bounded(err.Error()),
					Remedy: "Check the server's address in the kubeconfig, and proxies before it.", Err: err}
			}
			return nil
		}
		if errors.Is(ctx.Err(), context.Canceled) {
			return &fault.Error{Code: fault.Interrupted, Op: r.op, Object: r.object(), Cause: "the run was interrupted", Remedy: "Run it again.", Err: ctx.Err()}
		}
		if !again || r.blind || attempt == attempts || c.sleep(ctx, time.Duration(attempt*attempt)*250*time.Millisecond) != nil {
			return c.explain(r, err)
		}
	}
}

// send sends a request once. again tells that a second try is harmless and may help.
func (c *connection) send(ctx context.Context, r request, body []byte) (content []byte, again bool, err error) {
	u := c.base.JoinPath(r.path())
	u.RawQuery = r.query.Encode()
	req, err := http.NewRequestWithContext(ctx, r.method, u.String(), bytes.NewReader(body))
	if err != nil {
		return nil, false, err
	}
	req.Header.Set("Accept", "application/json")
	req.Header.Set("User-Agent", c.userAgent)
	if body != nil {
		form := r.form
		if form == "" {
			form = "application/json"
		}
		req.Header.Set("Content-Type", form)
	}
	answer, err := c.do(req)
	if f, ok := errors.AsType[*fault.Error](err); ok {
		// It has not come to the request.
		return nil, false, f
	}
	if err != nil {
		return nil, !r.once, err
	}
	defer answer.Body.Close()
	content, err = io.ReadAll(io.LimitReader(answer.Body, maxAnswer))
	if err != nil {
		return nil, !r.once, err
	}
	if r.status != nil {
		*r.status = answer.StatusCode
	}
	if answer.StatusCode >= 200 && answer.StatusCode < 300 {
		return content, false, nil
	}
	e := &apiError{code: answer.StatusCode}
	// Whatever stands before an API server answers in its own form; then the status line is all there is to tell.
	if json.Unmarshal(content, &e.status) != nil || e.status.Message == "" {
		e.message = answer.Status
	} else {
		e.message = e.status.Message
	}
	// Too many requests is said before anything is done. Any other error may stand for one of a proxy behind which it was.
	return nil, answer.StatusCode == http.StatusTooManyRequests || answer.StatusCode >= 500 && !r.once, e
}

// mayBeDone tells whether a request that failed may have had its effect all the same.
func mayBeDone(err error) bool {
	e, answered := errors.AsType[*apiError](err)
	return !answered || e.code >= http.StatusInternalServerError
}

// invalidName is a part of a path that leads elsewhere, or to nothing.
func invalidName(name string) bool {
	return name == "." || name == ".." || strings.ContainsAny(name, "/%\\?#")
}

// denied is how RBAC words a refusal; admission control refuses with the same status and other words.
var denied = regexp.MustCompile(`User "([^"]*)" cannot (\S+) resource "([^"]*)" in API group "[^"]*"(?: in the namespace "([^"]*)"| at the cluster scope)?`)

func (c *connection) explain(r request, err error) error {
	if f, ok := errors.AsType[*fault.Error](err); ok {
		return f
	}
	f := &fault.Error{Code: fault.ClusterFailed, Op: r.op, Object: r.object(), Cause: fault.Bounded(err.Error()), Err: err}
	e, answered := errors.AsType[*apiError](err)
	switch {
	case !answered && strings.Contains(err.Error(), "Proxy Authentication Required"), answered && e.code == http.StatusProxyAuthRequired:
		f.Code, f.Object, f.Cause = fault.ClusterUnreachable, c.base.Host, "a proxy before it wants credentials ("+fault.Bounded(innermost(err))+")"
		f.Remedy = "Name the API server's host in NO_PROXY, or the proxy with its user name and password in HTTPS_PROXY or the kubeconfig's proxy-url."
	case !answered:
		f.Code, f.Object, f.Cause = fault.ClusterUnreachable, c.base.Host, fault.Bounded(innermost(err))
		f.Remedy = "Check that this machine reaches the API server (kubectl get --raw /version), by a runner in its network or a tunnel, and that the kubeconfig's certificates and credential plugin are right."
	case e.code == http.StatusUnauthorized:
		f.Code, f.Object = fault.ClusterDenied, c.base.Host
		f.Cause = "Kubernetes does not take the credentials (" + fault.Bounded(e.message) + ")"
		f.Remedy = "They may have expired, or belong to another cluster: make the kubeconfig anew."
	case e.code == http.StatusForbidden && denied.MatchString(e.message):
		m := denied.FindStringSubmatch(e.message)
		where := "at the cluster scope"
		if m[4] != "" {
			where = "in the namespace " + m[4]
		}
		f.Code, f.Cause = fault.ClusterDenied, fault.Bounded(fmt.Sprintf("%s has not the right to %s %s %s", m[1], m[2], m[3], where))
		f.Remedy = fmt.Sprintf("docs/kubernetes/%s.yaml holds all the rights that %s needs: have it applied in that namespace, for this user%s.", c.verb, verbs(c.verb), named(m[2], m[3], r.name))
	case e.code == http.StatusForbidden:
		f.Remedy = "The cluster's admission control refused it, not its access control: ask who runs the cluster for an exception, or for the values that it wants."
	case e.code == http.StatusConflict:
		f.Code = fault.FieldConflict
	case e.code >= 300 && e.code < 400:
		f.Code, f.Object, f.Remedy = fault.ClusterUnreachable, c.base.Host, "A proxy answers there: give the API server's own address."
	default:
		f.Remedy = "Kubernetes' own words above tell; kubectl -n NAMESPACE get events may tell more."
	}
	return f
}

// verbs is how the command is called for which there is a manifest of the name.
func verbs(manifest string) string {
	if command, ok := strings.CutSuffix(manifest, "-wire"); ok {
		return command + " --apply --wire"
	}
	return manifest
}

// named says where the manifest has to name the object: it grants the right to read secrets, and that to change anything,
// for single ones.
func named(verb, resource, name string) string {
	if name == "" || resource != "secrets" && verb != "patch" {
		return ""
	}
	return ", with " + fault.Bounded(name) + " under resourceNames"
}

// innermost is the text of the error at the bottom, without the URLs that each layer repeats.
func innermost(err error) string {
	if e, ok := errors.AsType[*url.Error](err); ok {
		err = e.Err
	}
	return err.Error()
}

// get reads one object of the core API.
func (c *connection) get(ctx context.Context, namespace, resource, name string, out any) error {
	return c.call(ctx, request{method: http.MethodGet, api: core, namespace: namespace, resource: resource, name: name, op: "read"}, out)
}

// list reads the objects of a kind that match the selectors, which may be empty.
func (c *connection) list(ctx context.Context, api, namespace, resource, labels, fields string, out any) error {
	q := url.Values{}
	if labels != "" {
		q.Set("labelSelector", labels)
	}
	if fields != "" {
		q.Set("fieldSelector", fields)
	}
	return c.call(ctx, request{method: http.MethodGet, api: api, namespace: namespace, resource: resource, query: q, op: "list"}, out)
}
