// Package config is the one table of inputs, and what becomes of them: values from flags, the environment, an action's
// inputs and the connectors' metadata.yaml, checked all at once and given on as a typed Config. It contacts nothing and
// writes nothing; it does not know which CI host it runs on, and it does not carry anything out.
package config

import (
	"crypto/tls"
	"errors"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// Verb is what the user asks for; it decides which inputs are required.
type Verb string

// The verbs that read inputs. Lint needs no Airbyte.
const (
	Publish Verb = "publish"
	Plan    Verb = "plan"
	Lint    Verb = "lint"
	// VerifyPull, PullSecret and Doctor look after the pulling side.
	VerifyPull Verb = "verify-pull"
	PullSecret Verb = "pull-secret"
	Doctor     Verb = "doctor"
)

// asksAirbyte tells whether the verb has anything to do with Airbyte. Where it has not, what the environment holds for
// other runs need not be whole.
func (v Verb) asksAirbyte() bool { return v != Lint && v != VerifyPull && v != PullSecret }

// IfTagExists says what to do when a tag holds another image already.
type IfTagExists string

// The values of if-tag-exists.
const (
	Fail      IfTagExists = "fail"
	Skip      IfTagExists = "skip"
	Overwrite IfTagExists = "overwrite"
)

// Config is everything about a run, decided and checked.
type Config struct {
	// Connectors are to be published, each with its image and tag, in the order in which they were given.
	Connectors []connector.Connector
	// ChangedSince names a commit: only connectors that changed since are to be worked on. Empty means all. All
	// connectors are checked, so that what is wrong with the inputs does not depend on what changed.
	ChangedSince string
	// WorkspaceIDs are lower-case UUIDs, each once; none means the only workspace of the instance.
	WorkspaceIDs []string
	// Register tells that definitions are to be created or updated in Airbyte.
	Register bool
	// DryRun tells that publish is to act as plan.
	DryRun bool
	// Jobs is how many connectors are worked on at the same time, from 1 to 64.
	Jobs        int
	IfTagExists IfTagExists
	Build       Build
	Registry    Registry
	Airbyte     Airbyte
	Pulling     Pulling
	// Images and Registries are what a verb of the pulling side is about, which has no Connectors.
	Images     []Target
	Registries []string
	// Named tells that they were named, and not found in the working directory.
	Named bool
	// Warnings are about inputs that are legal and likely a mistake.
	Warnings []connector.Finding

	secrets []string
}

// Registry is how to reach the registry. Token is set only without Password, and Username only with it.
type Registry struct {
	// Provider is "auto" or the kind of registry.
	Provider                  string
	Username, Password, Token string
	// OIDCToken is the CI job's token where it was given; the others say what to exchange one for.
	OIDCToken                                           string
	AWSRoleARN, GCPProvider, GCPServiceAccount          string
	AzureTenantID, AzureClientID, DockerHubConnectionID string
	CreateRepository                                    bool
	// PullUsername and PullPassword are what the deployment pulls with, both or none.
	PullUsername, PullPassword string
	// TLS is nil when nothing about it was given.
	TLS       *tls.Config
	PlainHTTP bool
}

// Airbyte is how to reach Airbyte. At most one of the ways to sign in is set, and whole: client id and secret,
// user name and password, or an access token.
type Airbyte struct {
	// URL is absolute, http or https, without user information, query and fragment; nil only where none is required.
	URL                    *url.URL
	ClientID, ClientSecret string
	Username, Password     string
	AccessToken            string
	// Headers go with every request; nil when there are none.
	Headers http.Header
	// TLS is nil when nothing about it was given.
	TLS *tls.Config
	// Timeout bounds the wait for one definition's creation or update.
	Timeout time.Duration
}

// Secrets returns every secret value that was given by any source, also those that another source overrode. All of
// them are to be masked, in every form in which they may show up, before anything is printed.
func (c *Config) Secrets() []string { return c.secrets }

// Load reads and checks all inputs. It reports every problem at once: the error joins one *fault.Error per problem, and
// none of them shows a secret. The Config is never nil, so that its Secrets can be masked before the error is shown;
// with an error, nothing else of it is to be used.
func Load(l Lookup) (*Config, error) {
	r := newReader(l)
	c := &Config{
		WorkspaceIDs: r.uuids("workspace-ids"),
		Register:     r.bool("register"),
		DryRun:       r.bool("dry-run"),
		Jobs:         r.number("jobs", 1, 64),
		IfTagExists:  IfTagExists(r.enum("if-tag-exists")),
		Build:        r.build(),
		Registry:     r.registry(),
		Pulling:      r.pulling(),
	}
	if l.Verb.asksAirbyte() {
		c.Airbyte = r.airbyte(c.Register && l.Verb != Doctor)
	}
	if l.Verb.pulls() {
		c.Images, c.Registries = r.targets()
		c.Named = r.given("connectors") || r.given("image")
	} else {
		c.ChangedSince = r.changedSince()
		c.Connectors = r.connectors(c.Register, c.Register && c.IfTagExists != Overwrite)
	}
	r.warnPlainRegistry(c)
	c.Warnings = r.warnings
	c.secrets = slices.Sorted(maps.Keys(r.secrets))
	return c, errors.Join(r.problems...)
}
