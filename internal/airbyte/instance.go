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

// Instance is what an Airbyte instance tells anybody about itself.
type Instance struct {
	// Version is the release, such as "1.8.0", or what a development build says instead. It is "" for one that does not
	// tell, which all do since 0.57.4.
	Version string
	// Edition is "community", "pro", "enterprise" or "trial", or "" when unknown.
	Edition string
	// AuthMode is "none", "simple" or "oidc", or "" when unknown, as before 0.60.
	AuthMode string
}

// instance is what the client keeps of it.
type instance struct {
	Instance
	version        version
	base           *url.URL
	organizationID string
}

// oldest is the version that an instance is taken for that does not tell its own.
var oldest = version{0, 50, 0}

// defaultOrganization is the id of the only organization that a community instance has.
const defaultOrganization = "00000000-0000-0000-0000-000000000000"

// cloudHosts are the addresses of Airbyte Cloud.
var cloudHosts = []string{"api.airbyte.com", "cloud.airbyte.com"}

// Instance tells the instance's version, edition and way of signing in. Errors are *fault.Error with the codes
// AirbyteCloud, NotAirbyte, AirbyteUnreachable, AirbyteTLS and AirbyteSignIn, among others.
func (c *Client) Instance(ctx context.Context) (Instance, error) {
	i, err := c.known(ctx)
	return i.Instance, err
}

func (c *Client) known(ctx context.Context) (instance, error) {
	return c.instance.get(ctx, func(instance) bool { return true }, c.loadInstance)
}

// describe names the instance for a sentence.
func (i instance) describe() string {
	if i.Version == "" {
		return "this Airbyte, which does not tell its version,"
	}
	return "Airbyte " + i.Version
}

func (c *Client) loadInstance(ctx context.Context) (instance, error) {
	if slices.Contains(cloudHosts, strings.ToLower(c.base.Hostname())) {
		return instance{}, cloudFault("read the configuration of", c.base.Host, nil)
	}
	found, err := c.configuration(ctx, c.base)
	if err == nil {
		return found, nil
	}
	a, answered := errors.AsType[*answer](err)
	if !answered {
		return instance{}, err
	}
	if upgraded := c.upgrade(a); upgraded != nil {
		c.options.Log("%s redirects to https: going on with %s", c.base, upgraded)
		return c.configuration(ctx, upgraded)
	}
	if a.status != http.StatusNotFound {
		return instance{}, err
	}
	if c.healthy(ctx) {
		// The endpoint came with 0.50.9.
		return instance{version: oldest, base: c.base, organizationID: defaultOrganization}, nil
	}
	return instance{}, &fault.Error{Code: fault.NotAirbyte, Op: "read the configuration of", Object: c.base.String(),
		Cause: "there is no self-managed Airbyte at this address (" + a.said() + ")", Remedy: addressRemedy, Err: err}
}

// configuration asks for the instance's configuration, which every self-managed instance gives to anybody. Basic
// authentication is sent with it because it is a proxy's; a ready token when nothing else opens the door.
func (c *Client) configuration(ctx context.Context, base *url.URL) (instance, error) {
	authorization := c.basic()
	var raw json.RawMessage
	q := call{method: http.MethodGet, path: "instance_configuration", op: "read the configuration of", object: base.String(), timeout: readTimeout}
	ask := func() error {
		return c.retrying(ctx, q, &raw, func(ctx context.Context) (*reply, error) { return c.send(ctx, base, q, authorization) })
	}
	err := ask()
	if a, ok := errors.AsType[*answer](err); ok && a.status == http.StatusUnauthorized && c.options.AccessToken != "" {
		authorization = bearer(c.options.AccessToken)
		err = ask()
	}
	if err != nil {
		return instance{}, err
	}
	var body struct {
		Version               *string
		Edition               *string
		TrackingStrategy      *string
		DefaultOrganizationID string
		Auth                  struct{ Mode string }
	}
	if err := json.Unmarshal(raw, &body); err != nil || body.Version == nil && body.Edition == nil && body.TrackingStrategy == nil {
		return instance{}, &fault.Error{Code: fault.NotAirbyte, Op: q.op, Object: q.object,
			Cause:  "it answered with JSON that is not an Airbyte instance's configuration: " + c.clean(string(raw)),
			Remedy: addressRemedy, Err: err}
	}
	found := instance{version: oldest, base: base, organizationID: body.DefaultOrganizationID}
	if found.organizationID == "" {
		found.organizationID = defaultOrganization
	}
	if body.Edition != nil {
		found.Edition = c.clean(*body.Edition)
	}
	if body.Version != nil {
		found.Version, found.version = c.clean(*body.Version), parseVersion(*body.Version)
	}
	found.AuthMode = c.clean(body.Auth.Mode)
	return found, nil
}

// upgrade is the base to go on with when the instance redirects plain http to https on the same host, or nil. No
// other redirect is followed.
func (c *Client) upgrade(a *answer) *url.URL {
	to := a.location
	if to == nil || c.base.Scheme != "http" || to.Scheme != "https" || !strings.EqualFold(to.Hostname(), c.base.Hostname()) ||
		to.Path != c.base.Path+apiPath+"instance_configuration" {
		return nil
	}
	return &url.URL{Scheme: "https", Host: to.Host, Path: c.base.Path}
}

// healthy tells whether there is an Airbyte that has no instance_configuration.
func (c *Client) healthy(ctx context.Context) bool {
	var body struct{ Available bool }
	q := call{method: http.MethodGet, path: "health", op: "ask for the health of", object: c.base.String(), timeout: readTimeout}
	err := c.retrying(ctx, q, &body, func(ctx context.Context) (*reply, error) { return c.send(ctx, c.base, q, c.basic()) })
	return err == nil && body.Available
}

// cloudFault says that Airbyte Cloud takes no Docker-based connectors.
func cloudFault(op, object string, err error) *fault.Error {
	return &fault.Error{Code: fault.AirbyteCloud, Op: op, Object: object,
		Cause: "this is Airbyte Cloud, which takes no Docker-based connectors",
		Remedy: "Give the address of a self-managed Airbyte; on Cloud only connectors of the Connector Builder can be custom." +
			" With register set to false the image is pushed and nothing is registered.", Err: err}
}
