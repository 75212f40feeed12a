package registry

import (
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Check holds the inputs against the registries that are published to, without contacting anything: whether the
// provider fits the host, whether the repository's path can exist there, whether each input has an effect. Its error
// joins one *fault.Error for each problem.
func Check(o Options) error {
	repositories := o.Repositories
	if o.Getenv == nil {
		o.Getenv = func(string) string { return "" }
	}
	k := &keychain{explicit: o, hosts: map[string]bool{}, providers: providers()}
	for _, r := range repositories {
		k.hosts[hostOf(r.Registry())] = true
	}
	var errs []error
	add := func(code fault.Code, object, cause, remedy string) {
		f := &fault.Error{Code: code, Op: "read", Object: object, Cause: cause, Remedy: remedy}
		if !slices.ContainsFunc(errs, func(e error) bool { return e.Error() == f.Error() }) {
			errs = append(errs, f)
		}
	}
	used := map[string]bool{}
	for _, r := range repositories {
		at := place{hostOf(r.Registry()), strings.Split(strings.TrimPrefix(string(r), r.Registry()+"/"), "/")}
		p := k.providerOf(at.host)
		for _, input := range p.inputs {
			used[input] = true
		}
		// The credentials of a cloud go to its own hosts alone, whatever is said of others.
		if p.hosts != "" && !p.matches(at.host) {
			add(fault.InvalidInput, `input "registry-provider"`, fmt.Sprintf("%s is not the host of %s", at.host, p.title),
				fmt.Sprintf("Its hosts are %s. Leave registry-provider unset to have it told by the host, or set it to generic.", p.hosts))
			continue
		}
		if p.path != nil {
			if cause, remedy := p.path(at); cause != "" {
				add(fault.BadRepository, fmt.Sprintf("the image repository %q", r), cause, at.words(remedy))
			}
		}
		if o.Password != "" && o.Username == "" && (p.noUser == nil || p.noUser(o.Password) == "") {
			add(fault.MissingInput, `input "registry-username"`, "it is not set, but registry-password is",
				"Set registry-username, or leave registry-password unset.")
		}
	}
	if len(repositories) > 0 {
		for _, i := range o.federation() {
			if i.value != "" && !used[i.name] {
				add(fault.ConflictingInputs, fmt.Sprintf("input %q", i.name),
					"it is for "+i.of+", and nothing is published there", "Leave it unset, or correct the image's registry.")
			}
		}
		if o.OIDCGiven && !o.federates() {
			add(fault.MissingInput, `input "oidc-token"`, "it is set, but nothing says what to exchange it for",
				"Set aws-role-arn, gcp-workload-identity-provider, azure-tenant-id and azure-client-id, or dockerhub-connection-id.")
		}
	}
	return errors.Join(errs...)
}

type federationInput struct{ name, value, of string }

// federation are the inputs that ask for an exchange of the CI host's OIDC token.
func (o Options) federation() []federationInput {
	return []federationInput{
		{"aws-role-arn", o.AWSRoleARN, "Amazon ECR"},
		{"gcp-workload-identity-provider", o.GCPProvider, "Google Artifact Registry"},
		{"gcp-service-account", o.GCPServiceAccount, "Google Artifact Registry"},
		{"azure-tenant-id", o.AzureTenantID, "Azure Container Registry"},
		{"azure-client-id", o.AzureClientID, "Azure Container Registry"},
		{"dockerhub-connection-id", o.DockerHubConnectionID, "Docker Hub"},
	}
}

func (o Options) federates() bool {
	return slices.ContainsFunc(o.federation(), func(i federationInput) bool { return i.value != "" })
}
