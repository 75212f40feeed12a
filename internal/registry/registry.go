// Package registry talks to container registries: it finds the one credential that belongs to a host, proves the
// right to push, and heads, reads, pushes, mounts and tags images, reading back what it wrote. It does not decide what
// is pushed or when, builds nothing, and knows no connector.
//
// It stands on go-containerregistry for the protocol, under a transport of its own that waits, repeats and guards
// where the library does not: see transport.go.
package registry

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net/http"
	"os"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Options say how registries are reached. The zero value signs in by the docker configuration alone.
type Options struct {
	// Username and Password are the inputs registry-username and registry-password, Token is registry-token, which
	// is sent as a bearer token as it is and beats the other two. They belong to Hosts and are sent nowhere else.
	Username, Password, Token string
	// Provider is the input registry-provider: what kind of registry Hosts are; "" and "auto" have it told by each host.
	Provider string
	// IDTokens gives the CI job's OIDC token, which the inputs below have exchanged for a credential of their cloud;
	// OIDCGiven tells that it is the input oidc-token.
	IDTokens  IDTokenSource
	OIDCGiven bool
	// AWSRoleARN, GCPProvider (projects/N/locations/global/workloadIdentityPools/POOL/providers/NAME), GCPServiceAccount,
	// AzureTenantID, AzureClientID and DockerHubConnectionID are the inputs that ask for OIDC.
	AWSRoleARN, GCPProvider, GCPServiceAccount          string
	AzureTenantID, AzureClientID, DockerHubConnectionID string
	// CreateRepository has a missing repository made, where the provider's pushes don't make it.
	CreateRepository bool
	// PullUsername and PullPassword are those that the deployment pulls with; both empty when nobody said.
	PullUsername, PullPassword string
	// Hosts are the registries that images are published to, as they stand in front of a repository.
	Hosts []string
	// Repositories are what is published to, all in Hosts.
	Repositories []image.Repository
	// TLS holds what the inputs say of trust: RootCAs and Certificates. It is used for connections on behalf of
	// Hosts; the client certificate only towards the registry and the token server that it names. Other registries
	// are trusted by the system's authorities.
	TLS *tls.Config
	// PlainHTTP says that Hosts speak http. Without it nothing is ever sent over http, not even to localhost.
	PlainHTTP bool
	// Getenv looks up DOCKER_AUTH_CONFIG and where docker's and podman's files are; nil finds none of them.
	// Credential helpers are looked up in and run with the process's own environment, as docker does.
	Getenv func(string) string
	// UserAgent goes in front of go-containerregistry's own.
	UserAgent string
	// Log is told which credentials are used (never their value), why there is a wait, and what a registry warns of.
	// It is called from several goroutines.
	Log func(string)
	// Secret is told, once each and before anything that may hold it is logged or returned, every credential that was
	// found and every token that was got for one, as they are and in the form in which they are sent, so that they can
	// be masked. It is called from several goroutines, and must call nothing of this package.
	Secret func(values ...string)
	// Progress is told, from one goroutine at a time, how many bytes of all blobs to be pushed so far are at their
	// place (pushed, mounted or found there) and how many there are. Both grow while images are being discovered.
	Progress func(done, total int64)
	// Jobs is how many blobs of one image are pushed at a time; 0 means 4.
	Jobs int
	// Sleep waits for d or until ctx is done, and returns ctx's error then. Nil means to really wait.
	Sleep func(ctx context.Context, d time.Duration) error
	// Now is the clock; nil means time.Now.
	Now func() time.Time
}

// defaultJobs is go-containerregistry's and docker's order of parallel uploads per image.
const defaultJobs = 4

// Client talks to any number of registries. One is shared by all connectors of a run, so that a ping, a token and a
// credential helper's answer are asked for once. It is safe for concurrent use.
type Client struct {
	options Options
	hosts   map[string]bool
	keys    *keychain
	secrets *secrets
	notices *notices
	// idle is idleTime, but shorter in tests.
	idle time.Duration
	// own goes to Hosts, ownNoCert on their behalf to hosts that they redirect to, others to all else.
	own, ownNoCert, others http.RoundTripper

	progress progress
	// blobs remembers, by registry and digest, in which repository this run has put or found a blob, to mount it from there.
	blobs sync.Map

	mu        sync.Mutex
	endpoints map[string]*endpoint
	sessions  map[string]*cell[*session]
	checks    map[string]*cell[struct{}]
	// missing are the repositories that are to be made before the push.
	missing map[string]bool

	// failed is the last request of a cloud's sign-in that had no answer.
	failed atomic.Pointer[failedRequest]
}

// New returns a client. It contacts nothing.
func New(o Options) *Client {
	o.Jobs = cmp.Or(max(o.Jobs, 0), defaultJobs)
	o.UserAgent = cmp.Or(o.UserAgent, "airbyte-publish")
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	if o.Log == nil {
		o.Log = func(string) {}
	}
	if o.Sleep == nil {
		o.Sleep = sleep
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	known := &secrets{tell: o.Secret}
	c := &Client{
		options:   o,
		hosts:     map[string]bool{},
		secrets:   known,
		idle:      idleTime,
		notices:   newNotices(o.Log, known),
		endpoints: map[string]*endpoint{},
		sessions:  map[string]*cell[*session]{},
		checks:    map[string]*cell[struct{}]{},
		missing:   map[string]bool{},
		progress:  progress{report: o.Progress},
		others:    newTransport(nil),
	}
	for _, h := range o.Hosts {
		c.hosts[hostOf(h)] = true
	}
	c.keys = &keychain{client: c, providers: providers(), explicit: o, hosts: c.hosts, now: o.Now, readFile: os.ReadFile, run: runHelper,
		secrets: known, around: map[string]*cell[ambience]{}}
	c.own, c.ownNoCert = c.others, c.others
	if o.TLS != nil {
		noCert := o.TLS.Clone()
		noCert.Certificates = nil
		c.own, c.ownNoCert = newTransport(o.TLS), newTransport(noCert)
	}
	return c
}

// hostOf is the one spelling of a registry's host: Docker Hub has several.
func hostOf(host string) string {
	host = strings.ToLower(host)
	if r, err := name.NewRegistry(host); err == nil {
		host = r.RegistryStr()
	}
	if host == "registry-1.docker.io" {
		return name.DefaultRegistry
	}
	return host
}

// plain tells whether plain http was asked for this host.
func (c *Client) plain(host string) bool { return c.options.PlainHTTP && c.hosts[hostOf(host)] }

// nameOptions are what go-containerregistry must know to take a name of this host.
func (c *Client) nameOptions(host string) []name.Option {
	if c.plain(host) {
		return []name.Option{name.Insecure}
	}
	return nil
}

// repository is go-containerregistry's form of r.
func (c *Client) repository(r image.Repository) (name.Repository, error) {
	repo, err := name.NewRepository(string(r), c.nameOptions(r.Registry())...)
	if err != nil {
		return name.Repository{}, &fault.Error{Code: fault.BadRepository, Op: "read the image repository",
			Object: fmt.Sprintf("%q", fault.Bounded(string(r))), Cause: fault.Bounded(err.Error()),
			Remedy: "Give the repository with its registry, such as ghcr.io/acme/source-erp.", Err: err}
	}
	return repo, nil
}
