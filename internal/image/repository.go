// Package image holds what is known of images without touching one: repositories, tags and the policy for them,
// platforms, and the handle of an image that is ready to be pushed. It contacts nothing and runs nothing.
package image

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// maxLength is the length of Airbyte's database columns for repository and tag, in characters
// (tables actor_definition and actor_definition_version).
const maxLength = 256

// Repository is a fully-qualified image repository without tag or digest, such as "ghcr.io/acme/source-erp".
type Repository string

// ParseRepository checks that s is a repository Airbyte and every registry take: with a registry host (Airbyte
// prefixes a name without one with its own registry on some instances), legal, at most 256 characters, and without
// tag or digest. Its error is a *fault.Error with the code BadRepository.
func ParseRepository(s string) (Repository, error) {
	bad := func(cause, remedy string) (Repository, error) {
		return "", &fault.Error{Code: fault.BadRepository, Op: "read the image repository", Object: fmt.Sprintf("%q", fault.Bounded(s)),
			Cause: cause, Remedy: remedy}
	}
	if len(s) > maxLength {
		return bad(fmt.Sprintf("it has %d characters, Airbyte stores at most %d", len(s), maxLength), "Use a shorter repository.")
	}
	if strings.Contains(s, "://") {
		return bad("it is a URL", "Give the repository without a scheme, such as ghcr.io/acme/source-erp.")
	}
	if strings.Contains(s, "@") {
		return bad("it holds a digest", "Give the repository alone; the digest is an output.")
	}
	if last := s[strings.LastIndex(s, "/")+1:]; strings.Contains(last, ":") && strings.Contains(s, "/") {
		return bad("it holds a tag", "Give the repository alone and the tag by the input \"tag\".")
	}
	host, path, found := strings.Cut(s, "/")
	if lower := strings.ToLower(s); lower != s {
		remedy := "Use lower-case letters."
		if _, err := ParseRepository(lower); err == nil {
			remedy = fmt.Sprintf("Write %q.", lower)
		}
		return bad("it holds upper-case letters, which no registry takes", remedy)
	}
	switch legal := pathPattern.MatchString(s); {
	case !found && strings.Contains(s, "."):
		return bad("it is a registry without a repository", fmt.Sprintf("Put the repository behind it, such as %s/acme/source-erp.", s))
	case (!found || !isRegistryHost(host)) && legal:
		return bad("it names no registry, and Airbyte would take the registry of its own configuration",
			fmt.Sprintf("Put the registry in front, such as docker.io/%s.", s))
	case !found:
		return bad("it is not a repository", "Write it as REGISTRY/PATH/NAME, such as ghcr.io/acme/source-erp; the tag is an input of its own.")
	}
	_, err := name.NewRepository(s, name.StrictValidation)
	if !isRegistryHost(host) || err != nil && !dockerHub(host) || !pathPattern.MatchString(path) {
		return bad("it is not a legal repository name", "Use lower-case letters, digits and single separators . _ - between them, in parts divided by slashes.")
	}
	return Repository(s), nil
}

// LowerGitHub lower-cases a repository on GitHub's registry: owners and repositories there have one name in any case,
// and ${{ github.repository_owner }} is written as its owner likes it. Others are returned as they are.
func LowerGitHub(s string) string {
	host, _, _ := strings.Cut(strings.ToLower(s), "/")
	if host == "ghcr.io" || strings.HasPrefix(host, "containers.") && strings.HasSuffix(host, ".ghe.com") {
		return strings.ToLower(s)
	}
	return s
}

// pathPattern is the grammar of a repository's path in the OCI distribution specification.
var pathPattern = regexp.MustCompile(`^[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*(/[a-z0-9]+((\.|_|__|-+)[a-z0-9]+)*)*$`)

func isRegistryHost(s string) bool { return strings.ContainsAny(s, ".:") || s == "localhost" }

func dockerHub(host string) bool { return host == "docker.io" || host == "index.docker.io" }

// Registry is the host and port in front of the repository, as it was given.
func (r Repository) Registry() string {
	host, _, _ := strings.Cut(string(r), "/")
	return host
}

// Base is the last part of the repository's path: the connector's image name.
func (r Repository) Base() string { return string(r)[strings.LastIndex(string(r), "/")+1:] }

// Normalise gives the one form under which two spellings of a repository compare equal: lower case, with Docker
// Hub's host and its "library" written out, and without a trailing slash and the port that https has anyway.
func Normalise(repository string) string {
	s := strings.ToLower(strings.TrimSuffix(strings.TrimSpace(repository), "/"))
	host, path, found := strings.Cut(s, "/")
	if !found || !isRegistryHost(host) {
		host, path = "docker.io", s
	}
	host = strings.TrimSuffix(host, ":443")
	if host == "index.docker.io" || host == "registry-1.docker.io" {
		host = "docker.io"
	}
	if host == "docker.io" && !strings.Contains(path, "/") {
		path = "library/" + path
	}
	return host + "/" + path
}
