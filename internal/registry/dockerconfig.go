package registry

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"os/exec"
	"slices"
	"strings"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// dockerConfig is what is read of docker's config.json, which podman's auth.json and GitLab's DOCKER_AUTH_CONFIG share.
type dockerConfig struct {
	where string
	Auths map[string]authn.AuthConfig `json:"auths"`
	// CredHelpers names the credential helper of a host, CredsStore that of all hosts.
	CredHelpers map[string]string `json:"credHelpers"`
	CredsStore  string            `json:"credsStore"`
}

func parseDockerConfig(where string, content []byte) (dockerConfig, error) {
	f := dockerConfig{where: where}
	if len(bytes.TrimSpace(content)) == 0 {
		return f, nil
	}
	if err := json.Unmarshal(content, &f); err != nil {
		// The message of encoding/json quotes no more than one character of the content.
		return f, fmt.Errorf("it is not valid: %w", err)
	}
	return f, nil
}

// lookup finds the credential for a repository: from the host's own helper, an entry for the repository, for a part of
// its path or for the host (the longest wins, as in podman), or from the store of all hosts.
func (f dockerConfig) lookup(ctx context.Context, k *keychain, host string, repo name.Repository) (credential, bool, error) {
	for _, key := range slices.Sorted(maps.Keys(f.CredHelpers)) {
		if normalKey(key) == host {
			return f.ask(ctx, k, f.CredHelpers[key], f.serverURL(host))
		}
	}
	path := host + "/" + repo.RepositoryStr()
	for path != "" {
		for _, key := range slices.Sorted(maps.Keys(f.Auths)) {
			a := f.Auths[key]
			if normalKey(key) != path || cmp.Or(a.Password, a.IdentityToken, a.RegistryToken) == "" {
				continue
			}
			user := a.Username
			if a.IdentityToken != "" {
				user = ""
			}
			return credential{auth: authn.FromConfig(a), from: f.where, user: user, asIs: a.RegistryToken != ""}, true, nil
		}
		i := strings.LastIndexByte(path, '/')
		path = path[:max(i, 0)]
	}
	if f.CredsStore != "" {
		return f.ask(ctx, k, f.CredsStore, f.serverURL(host))
	}
	return credential{}, false, nil
}

// normalKey makes the spellings that docker has used for a registry one: with a scheme, a slash or an API version.
func normalKey(key string) string {
	key = strings.TrimPrefix(strings.TrimPrefix(key, "https://"), "http://")
	key = strings.TrimRight(key, "/")
	key = strings.TrimSuffix(strings.TrimSuffix(key, "/v1"), "/v2")
	host, path, found := strings.Cut(key, "/")
	if host = hostOf(host); found {
		return host + "/" + path
	}
	return host
}

// serverURL is what a helper knows the registry by: what docker login noted, else the host, which for Docker Hub is a
// URL for historical reasons.
func (f dockerConfig) serverURL(host string) string {
	for _, key := range slices.Sorted(maps.Keys(f.Auths)) {
		if normalKey(key) == host {
			return key
		}
	}
	if host == name.DefaultRegistry {
		return authn.DefaultAuthKey
	}
	return host
}

func (f dockerConfig) ask(ctx context.Context, k *keychain, program, server string) (credential, bool, error) {
	program = "docker-credential-" + program
	h := helper{program: program, server: server, k: k}
	r := k.renewable(program+" "+server, func(ctx context.Context) (fetched, error) {
		a, err := h.get(ctx)
		return fetched{AuthConfig: a}, err
	})
	a, err := r.AuthorizationContext(ctx)
	if err != nil {
		return credential{}, false, err
	}
	if *a == (authn.AuthConfig{}) {
		return credential{}, false, nil
	}
	user := a.Username
	if a.IdentityToken != "" {
		user = ""
	}
	return credential{auth: r, from: "the credential helper " + program, user: user, renewable: r}, true, nil
}

// helper is a docker credential helper.
type helper struct {
	program, server string
	k               *keychain
}

// get speaks the helpers' protocol: the server's URL on stdin of "get", JSON on stdout; a message on stdout and an
// exit code when it fails.
func (h helper) get(ctx context.Context) (authn.AuthConfig, error) {
	failed := func(cause string, err error) error {
		return &fault.Error{Code: fault.CredentialHelper, Op: "get the credentials of " + h.server + " from", Object: h.program,
			Cause: fault.Bounded(cause), Err: err,
			Remedy: "Install or repair the helper, or take it out of docker's config.json and give the credentials by " +
				"registry-username and registry-password."}
	}
	out, message, err := h.k.run(ctx, h.program, h.server)
	if errors.Is(err, exec.ErrNotFound) {
		return authn.AuthConfig{}, failed("there is no such program on the PATH", err)
	}
	if err != nil {
		if strings.Contains(message, "credentials not found in native keychain") {
			return authn.AuthConfig{}, nil
		}
		return authn.AuthConfig{}, failed(fmt.Sprintf("it failed (%v): %s", err, message), err)
	}
	var answer struct{ Username, Secret string }
	if err := json.Unmarshal([]byte(out), &answer); err != nil {
		return authn.AuthConfig{}, failed("it answered with something other than JSON", nil)
	}
	switch {
	case answer.Secret == "":
		return authn.AuthConfig{}, nil
	case answer.Username == "<token>":
		return authn.AuthConfig{IdentityToken: answer.Secret}, nil
	default:
		return authn.AuthConfig{Username: answer.Username, Password: answer.Secret}, nil
	}
}

// helperTime is how long a helper may take: some ask a cloud.
const helperTime = time.Minute

// runHelper runs a helper. message is what may be shown of a failure; the output of a success is a secret.
func runHelper(ctx context.Context, program, server string) (stdout, message string, err error) {
	ctx, cancel := context.WithTimeout(ctx, helperTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "get")
	cmd.Stdin = strings.NewReader(server)
	var out, errs bounded
	cmd.Stdout, cmd.Stderr = &out, &errs
	cmd.WaitDelay = time.Second
	// A helper that leaves a child behind (an agent that keeps a session) has succeeded when it ends with 0 itself.
	if err := cmd.Run(); err != nil && !errors.Is(err, exec.ErrWaitDelay) {
		return "", failureText(string(out.kept), string(errs.kept)), err
	}
	return string(out.kept), "", nil
}

// failureText is what may be shown of a failed helper: its stderr, and its stdout, where the protocol has the message,
// unless that looks like an answer, which holds the secret.
func failureText(stdout, stderr string) string {
	stdout, stderr = strings.TrimSpace(stdout), strings.TrimSpace(stderr)
	lower := strings.ToLower(stdout)
	if json.Valid([]byte(stdout)) || strings.Contains(lower, "secret") || strings.Contains(lower, "username") {
		stdout = ""
	}
	return cmp.Or(strings.TrimSpace(stdout+" "+stderr), "it printed nothing that can be shown")
}

// bounded keeps the first 64 KiB that are written to it.
type bounded struct{ kept []byte }

func (b *bounded) Write(p []byte) (int, error) {
	b.kept = append(b.kept, p[:min(len(p), 64<<10-len(b.kept))]...)
	return len(p), nil
}
