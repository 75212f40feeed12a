package registry

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// credential is what we sign in to a registry with, and where it is from.
type credential struct {
	auth authn.Authenticator
	// from names the source for people: "the docker configuration /root/.docker/config.json".
	from string
	// user is the user name, empty for a token.
	user string
	// asIs tells that it is a bearer token which is sent to the registry itself.
	asIs bool
	// renewable is what auth is when the credential can be got again, nil otherwise.
	renewable *renewable
	// steward is nil where nobody manages repositories with this credential.
	steward steward
	// looked tells what was looked for, when nothing was found.
	looked []string
}

func (c credential) anonymous() bool { return c.auth == nil || c.auth == authn.Anonymous }

// String tells where the credential is from and the user name, never its value.
func (c credential) String() string {
	switch {
	case c.anonymous():
		return "no credentials, because none were found"
	case c.user != "":
		return fmt.Sprintf("%s (user %q)", c.from, c.user)
	default:
		return c.from
	}
}

// keychain finds the one credential that belongs to a repository's registry. For a registry that is published to: the
// inputs, else an exchange of the CI host's OIDC token when the inputs ask for one, else what the provider's own tools
// left in the environment, else what docker and podman have for it. It never falls from one that fails to another: what
// fails is an error, and what is refused is not tried again without credentials.
type keychain struct {
	client    *Client
	providers []*provider
	explicit  Options
	hosts     map[string]bool
	now       func() time.Time
	readFile  func(string) ([]byte, error)
	run       func(ctx context.Context, program, server string) (stdout, message string, err error)
	// secrets is told each credential before it is used.
	secrets *secrets

	mu     sync.Mutex
	loaded bool
	files  []dockerConfig
	looked []string
	err    error
	made   map[string]*renewable
	kept   map[string]credential
	// around is what was found in the environment, by host: looking may take seconds.
	around map[string]*cell[ambience]
}

// ambience is what the environment had for a registry's host.
type ambience struct {
	cred   credential
	looked []string
}

// resolve returns the credential for repo; an anonymous one, which says what was looked for, when there is none.
func (k *keychain) resolve(ctx context.Context, repo name.Repository) (credential, error) {
	at := placeOf(repo)
	p, own := k.providerOf(at.host), k.hosts[at.host]
	var looked []string
	if own {
		c, ok, err := k.inputs(p, at)
		if !ok && err == nil && p.federated != nil {
			c, ok = p.federated(k, at)
		}
		if err != nil || ok {
			return c, errors.Join(err, k.note(ctx, c))
		}
		looked = append(looked, "the inputs registry-username and registry-password, or registry-token (not set)")
	}
	if p.ambient != nil && (own || p.readsAmbient) {
		found, err := k.surroundings(ctx, p, at, own)
		if err != nil {
			return credential{}, err
		}
		if !found.cred.anonymous() {
			return found.cred, k.note(ctx, found.cred)
		}
		looked = append(looked, found.looked...)
	}
	files, where, err := k.configs()
	if err != nil {
		return credential{}, err
	}
	for _, f := range files {
		c, found, err := f.lookup(ctx, k, at.host, repo)
		if err == nil && found {
			err = k.note(ctx, c)
		}
		if err != nil || found {
			return c, err
		}
	}
	return credential{auth: authn.Anonymous, looked: append(looked, where...)}, nil
}

// surroundings is what the environment has for a host, looked for once. What is only read may be public, and what is
// around may be for other things: there it must work now, or it does not count.
func (k *keychain) surroundings(ctx context.Context, p *provider, at place, own bool) (ambience, error) {
	return cellOf(&k.mu, k.around, at.host).get(ctx, func() (ambience, error) {
		c, looked, err := p.ambient(ctx, k, at)
		if own {
			return ambience{c, looked}, err
		}
		if err == nil && !c.anonymous() {
			_, err = authn.Authorization(ctx, c.auth)
		}
		if err != nil && ctx.Err() == nil {
			k.client.options.Log(fmt.Sprintf("%s: not using the credentials that are around: %v", at.host, err))
			return ambience{looked: append(looked, "the credentials that are around (they don't work)")}, nil
		}
		return ambience{c, looked}, err
	})
}

// note notes the credential among the secrets. One that is renewed is noted each time (renewable.go).
func (k *keychain) note(ctx context.Context, c credential) error {
	if c.renewable != nil || c.anonymous() {
		return nil
	}
	a, err := authn.Authorization(ctx, c.auth)
	if err == nil {
		k.secrets.addAuth(*a)
	}
	return err
}

func (k *keychain) inputs(p *provider, at place) (credential, bool, error) {
	o := k.explicit
	user := o.Username
	switch {
	case o.Token != "":
		return credential{auth: authn.FromConfig(authn.AuthConfig{RegistryToken: o.Token}),
			from: "the input registry-token", asIs: true}, true, nil
	case o.Password == "":
		return credential{}, false, nil
	}
	if p.given != nil {
		if c, ok, err := p.given(k, at, user, o.Password); ok || err != nil {
			return c, ok, err
		}
	}
	if user == "" && p.noUser != nil {
		user = p.noUser(o.Password)
	}
	return credential{auth: authn.FromConfig(authn.AuthConfig{Username: user, Password: o.Password}),
		from: "the inputs registry-username and registry-password", user: user}, true, nil
}

// configs reads the configurations once, in the order in which docker/cli and podman read them: GitLab's variable, docker's
// file, the file of REGISTRY_AUTH_FILE, podman's files. The strings tell what became of each, for the error.
func (k *keychain) configs() ([]dockerConfig, []string, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.loaded {
		k.loaded = true
		k.err = k.load()
	}
	return k.files, k.looked, k.err
}

func (k *keychain) load() error {
	env := k.explicit.Getenv
	if v := env("DOCKER_AUTH_CONFIG"); v != "" {
		if err := k.add("the variable DOCKER_AUTH_CONFIG", []byte(v)); err != nil {
			return err
		}
	} else {
		k.looked = append(k.looked, "the variable DOCKER_AUTH_CONFIG (not set)")
	}
	home := env("HOME")
	if home == "" {
		home = env("USERPROFILE")
	}
	var paths []string
	if dir := env("DOCKER_CONFIG"); dir != "" {
		paths = append(paths, filepath.Join(dir, "config.json"))
	} else if home != "" {
		paths = append(paths, filepath.Join(home, ".docker", "config.json"))
	}
	if file := env("REGISTRY_AUTH_FILE"); file != "" {
		paths = append(paths, file)
	}
	if dir := env("XDG_RUNTIME_DIR"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	}
	if dir := env("XDG_CONFIG_HOME"); dir != "" {
		paths = append(paths, filepath.Join(dir, "containers", "auth.json"))
	} else if home != "" {
		paths = append(paths, filepath.Join(home, ".config", "containers", "auth.json"))
	}
	for _, p := range paths {
		b, err := k.readFile(p)
		if errors.Is(err, fs.ErrNotExist) {
			k.looked = append(k.looked, p+" (no such file)")
			continue
		}
		if err != nil {
			return unreadable(p, err)
		}
		if err := k.add("the docker configuration "+p, b); err != nil {
			return err
		}
	}
	return nil
}

func (k *keychain) add(where string, content []byte) error {
	f, err := parseDockerConfig(where, content)
	if err != nil {
		return unreadable(where, err)
	}
	k.files = append(k.files, f)
	k.looked = append(k.looked, where+" (nothing for this registry)")
	return nil
}

func unreadable(where string, err error) error {
	return &fault.Error{Code: fault.NoCredentials, Op: "read", Object: where, Cause: fault.Bounded(err.Error()),
		Remedy: "Correct or remove it; it must be JSON as docker login writes it.", Err: err}
}

// noCredentials is the error of a push without any.
func noCredentials(st step) *fault.Error {
	host := st.end.registry.RegistryStr()
	login := host
	if host == name.DefaultRegistry {
		login = "docker.io"
	}
	return &fault.Error{Code: fault.NoCredentials, Op: st.op, Object: st.object,
		Cause: "the registry " + host + " asks for credentials and none were found; looked for " + strings.Join(st.cred.looked, ", "),
		Remedy: fmt.Sprintf("Set registry-username and registry-password, or sign in with \"docker login %s\" before.%s",
			login, st.hint(fault.NoCredentials))}
}

// Credentials returns what a registry's host is signed in to with, for a build engine that pulls and pushes on our
// behalf; nothing where there is nothing. Inputs are returned for Hosts alone. Its error is a *fault.Error.
func (c *Client) Credentials(ctx context.Context, host string) (authn.AuthConfig, error) {
	registry, err := name.NewRegistry(host, c.nameOptions(host)...)
	if err != nil {
		return authn.AuthConfig{}, fmt.Errorf("credentials for %q: %w", host, err)
	}
	cred, err := c.keys.resolve(ctx, registry.Repo("credentials"))
	if err != nil || cred.anonymous() {
		return authn.AuthConfig{}, err
	}
	a, err := authn.Authorization(ctx, cred.auth)
	if err != nil {
		return authn.AuthConfig{}, err
	}
	return *a, nil
}

// PlainHTTP tells whether plain http was asked for this registry's host.
func (c *Client) PlainHTTP(host string) bool { return c.plain(host) }
