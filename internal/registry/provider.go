package registry

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// provider is a kind of registry: by which hosts it is known, what its repositories look like, how it is signed in to,
// and what its answers mean. There is one file for each. A nil function means that there is nothing particular.
type provider struct {
	// id is the value of the input registry-provider, title the name for people.
	id, title string
	// matches tells whether a host belongs to the provider. It matches the whole host: a pattern that is open at its
	// end would hand a cloud's credentials to x.azurecr.io.evil.example.
	matches func(host string) bool
	// hosts names those hosts in words; empty means that any host may be said to be of this kind.
	hosts string
	// inputs are those that have an effect with this provider only.
	inputs []string
	// path tells what is wrong with a repository's path, and what to do; empty when it is right.
	path func(at place) (cause, remedy string)
	// noUser is the user name that stands for a missing one; empty when the provider needs to be told.
	noUser func(password string) string
	// given makes a credential of the inputs registry-username and registry-password where they are more than what is
	// sent to the registry; its second result is false where they are not.
	given func(k *keychain, at place, user, password string) (credential, bool, error)
	// federated makes a credential that exchanges the CI host's OIDC token, when the inputs ask for that.
	federated func(k *keychain, at place) (credential, bool)
	// ambient looks for credentials of the provider in this machine's environment. It tells what was looked for, when
	// nothing was found.
	ambient func(ctx context.Context, k *keychain, at place) (credential, []string, error)
	// readsAmbient tells that ambient credentials also serve to read repositories that are not published to.
	readsAmbient bool
	// hangsUp tells that an upload to a missing repository ends without an answer, so that its existence is asked for then.
	hangsUp bool
	// creates tells that missing repositories are made where that is asked for, by the credential's steward.
	creates bool
	// frozen tells why the tag can't be moved, or "" when it can or nobody tells.
	frozen func(ctx context.Context, c *Client, s *session, tag string) string
	// rules say what its answers mean beyond the common rules; the first that fits counts.
	rules []rule
	// remedies say what to do about a fault, instead of or behind the common words.
	remedies map[fault.Code]string
}

// providers are all kinds of registry. The last one takes what is left.
func providers() []*provider {
	return []*provider{ecrProvider(), gar(), acr(), dockerHub(), ghcr(), gitLab(), generic()}
}

// rule is one row of a provider's table from (status, code, step) to what it means.
type rule struct {
	// step is where it is answered: "token", "upload" (of a blob or an untagged manifest), "tag", or "" for any.
	step string
	// status is the answer's; 0 is any.
	status int
	// code is one of the codes in its body; "" is any.
	code transport.ErrorCode
	// text must stand in its body, in lower case; "" is any.
	text string
	// bare tells that there must be no code in its body.
	bare bool
	// is what it means.
	is fault.Code
	// remedy is what to do; "" is the provider's remedy for the code.
	remedy string
}

func (r rule) fits(step string, te *transport.Error) bool {
	if r.step != "" && r.step != step || r.status != 0 && r.status != te.StatusCode {
		return false
	}
	if r.code != "" && !hasCode(te, r.code) || r.bare && len(te.Errors) > 0 {
		return false
	}
	// What a server that is out of order says means nothing, and in front of it stands the request's address.
	return r.text == "" || te.StatusCode < 500 && strings.Contains(strings.ToLower(answerText(te)), r.text)
}

// answerText is all that an answer says, without the request's address.
func answerText(te *transport.Error) string {
	text := saidBy(te)
	for _, d := range te.Errors {
		if d.Detail != nil {
			text += fmt.Sprintf(" %v", d.Detail)
		}
	}
	return text
}

func hasCode(te *transport.Error, codes ...transport.ErrorCode) bool {
	return slices.ContainsFunc(te.Errors, func(d transport.Diagnostic) bool { return slices.Contains(codes, d.Code) })
}

// place is a repository as the providers see it.
type place struct {
	// host is the registry's, parts the repository's path cut at its slashes.
	host  string
	parts []string
}

func placeOf(repo name.Repository) place {
	return place{hostOf(repo.RegistryStr()), strings.Split(repo.RepositoryStr(), "/")}
}

// path is the repository without its host.
func (p place) path() string { return strings.Join(p.parts, "/") }

// part is the path's part with this index, or a word in capitals that stands for it.
func (p place) part(i int, word string) string {
	if i < len(p.parts) {
		return p.parts[i]
	}
	return word
}

// words fills in what a remedy leaves open: {host}, {repository}, {first} (the path's part), {account} and {region} (of
// ECR), {create} (the command that makes the repository there), {location} and {second} (where a repository of Artifact Registry is, and its name), {registry} (the host's first
// label).
func (p place) words(remedy string) string {
	if !strings.Contains(remedy, "{") {
		return remedy
	}
	first, _, _ := strings.Cut(p.host, ".")
	account, region := ecrPlace(p.host)
	location, second := garPlace(p)
	owner := p.part(0, "NAMESPACE")
	if isGAR(p.host) {
		owner, _ = garProject(p)
	}
	return strings.NewReplacer("{host}", p.host, "{repository}", p.path(), "{first}", owner,
		"{second}", second, "{account}", account, "{region}", region, "{location}", location, "{create}", ecrCreate(p),
		"{registry}", first).Replace(remedy)
}

// providerOf is the provider of a host: the one that was said to be it for the registries that are published to, else
// the first whose pattern matches.
func (k *keychain) providerOf(host string) *provider {
	for _, p := range k.providers {
		if k.hosts[host] && p.id == k.explicit.Provider {
			return p
		}
	}
	for _, p := range k.providers {
		// The generic one is the last and takes what is left.
		if p.matches(host) || p.id == "gitlab" && k.isCIRegistry(host) {
			return p
		}
	}
	return k.providers[len(k.providers)-1]
}

// hostPattern returns a matcher of hosts without a port.
func hostPattern(match func(host string) bool) func(string) bool {
	return func(host string) bool { return !strings.Contains(host, ":") && match(host) }
}
