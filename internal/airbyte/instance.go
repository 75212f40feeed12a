package airbyte

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// instance is what an Airbyte instance tells anybody about itself, and where it is.
type instance struct {
	// release is its version as it tells it, such as "1.8.0", or what a development build says instead. It is "" for one
	// that does not tell, which all do since 0.57.4.
	release string
	version version
	// edition is "community", "pro", "enterprise" or "trial", or "" when unknown.
	edition string
	// authMode is "none", "simple" or "oidc", or "" when unknown, as before 0.60.
	authMode       string
	base           *url.URL
	organizationID string
}

// oldest is the version that an instance is taken for that does not tell its own.
var oldest = version{0, 50, 0}

// defaultOrganization is the id of the only organization that a community instance has.
const defaultOrganization = "00000000-0000-0000-0000-000000000000"

// cloudHosts are the addresses of Airbyte Cloud.
var cloudHosts = []string{"api.airbyte.com", "cloud.airbyte.com"}

func (c *Client) known(ctx context.Context) (instance, error) {
	return c.instance.get(ctx, func(instance) bool { return true }, func(ctx context.Context) (instance, error) {
		i, err := c.loadInstance(ctx)
		return i, settled(err)
	})
}

// describe names the instance for a sentence.
func (i instance) describe() string {
	if i.release == "" {
		return "this Airbyte, which does not tell its version,"
	}
	return "Airbyte " + i.release
}

// introduce names the instance for the log.
func (i instance) introduce() string {
	s := "Airbyte before 0.57.4"
	if i.release != "" {
		s = i.describe()
	}
	if i.edition != "" {
		s += " (" + i.edition + ")"
	}
	return s + " at " + i.base.String()
}

func (c *Client) loadInstance(ctx context.Context) (instance, error) {
	if slices.Contains(cloudHosts, strings.ToLower(c.base.Hostname())) {
		return instance{}, cloudFault("read the configuration of", c.base.Host, nil)
	}
	base := c.base
	found, authorization, err := c.knock(ctx, base)
	a, answered := errors.AsType[*answer](err)
	if upgraded := c.upgrade(a); upgraded != nil {
		c.options.Log("%s redirects to https: going on with %s", base, upgraded)
		base = upgraded
		found, authorization, err = c.knock(ctx, base)
		a, answered = errors.AsType[*answer](err)
	}
	if answered && a.unlikeAirbyte() {
		// The endpoint came with 0.50.9, and where authentication is on, one that is not there is denied like one that is.
		if !c.healthy(ctx, base, authorization) {
			return instance{}, &fault.Error{Code: fault.NotAirbyte, Op: "read the configuration of", Object: base.String(),
				Cause: "there is no self-managed Airbyte at this address (" + a.said() + ")", Remedy: addressRemedy + " " + proxyRemedy, Err: err}
		}
		found, err = instance{version: oldest, base: base, organizationID: defaultOrganization}, nil
	}
	if err != nil {
		return instance{}, err
	}
	c.options.Log("%s", found.introduce())
	return found, nil
}

// knock asks for the configuration without any credential, so that an address that is no Airbyte's gets none. Only
// when something like a proxy stands in the door is it shown what may be meant for it: the username and password, and
// a ready token. It returns the Authorization header with which it got in.
func (c *Client) knock(ctx context.Context, base *url.URL) (found instance, authorization string, err error) {
	keys := []string{""}
	if basic := c.basic(); basic != "" {
		keys = append(keys, basic)
	}
	if c.options.AccessToken != "" {
		keys = append(keys, bearer(c.options.AccessToken))
	}
	for _, key := range keys {
		authorization = key
		found, err = c.configuration(ctx, base, key)
		if a, answered := errors.AsType[*answer](err); !answered || !a.door() || c.upgrade(a) != nil {
			break
		}
	}
	return found, authorization, err
}

// configuration asks for the instance's configuration, which every self-managed instance gives to anybody.
func (c *Client) configuration(ctx context.Context, base *url.URL, authorization string) (instance, error) {
	q := call{method: http.MethodGet, path: "instance_configuration", op: "read the configuration of", object: base.String(), timeout: readTimeout,
		anonymous: authorization == ""}
	var raw json.RawMessage
	err := c.retrying(ctx, q, &raw, func(ctx context.Context) (*reply, error) { return c.send(ctx, base, q, authorization) })
	if err != nil {
		return instance{}, err
	}
	var body struct {
		Version               string
		Edition               *string
		TrackingStrategy      *string
		DefaultOrganizationID string
		Auth                  struct{ Mode string }
	}
	// Every version has both of these; a version is what many a service tells of itself.
	if err := json.Unmarshal(raw, &body); err != nil || body.Edition == nil && body.TrackingStrategy == nil {
		return instance{}, &fault.Error{Code: fault.NotAirbyte, Op: q.op, Object: q.object,
			Cause:  "it answered with JSON that is not an Airbyte instance's configuration: " + c.clean(string(raw)),
			Remedy: addressRemedy, Err: err}
	}
	found := instance{version: oldest, base: base, organizationID: body.DefaultOrganizationID, authMode: c.clean(body.Auth.Mode)}
	if found.organizationID == "" {
		found.organizationID = defaultOrganization
	}
	if body.Edition != nil {
		found.edition = c.clean(*body.Edition)
	}
	if body.Version != "" {
		found.release, found.version = c.clean(body.Version), parseVersion(body.Version)
	}
	return found, nil
}

// upgrade is the base to go on with when the instance redirects plain http to https on the same host, or nil. No
// other redirect is followed.
func (c *Client) upgrade(a *answer) *url.URL {
	if a == nil || a.location == nil {
		return nil
	}
	to := a.location
	if c.base.Scheme != "http" || to.Scheme != "https" || !strings.EqualFold(to.Hostname(), c.base.Hostname()) ||
		to.Path != c.base.Path+apiPath+"instance_configuration" {
		return nil
	}
	return &url.URL{Scheme: "https", Host: to.Host, Path: c.base.Path}
}

// healthy tells whether there is an Airbyte that gives no instance_configuration.
func (c *Client) healthy(ctx context.Context, base *url.URL, authorization string) bool {
	var body struct{ Available bool }
	q := call{method: http.MethodGet, path: "health", op: "ask for the health of", object: base.String(), timeout: readTimeout}
	err := c.retrying(ctx, q, &body, func(ctx context.Context) (*reply, error) { return c.send(ctx, base, q, authorization) })
	return err == nil && body.Available
}

// cloudFault says that Airbyte Cloud takes no Docker-based connectors.
func cloudFault(op, object string, err error) *fault.Error {
	return &fault.Error{Code: fault.AirbyteCloud, Op: op, Object: object,
		Cause: "this is Airbyte Cloud, which takes no Docker-based connectors",
		Remedy: "Give the address of a self-managed Airbyte; on Cloud only connectors of the Connector Builder can be custom." +
			" With register set to false the image is pushed and nothing is registered.", Err: err}
}
