package registry

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Check holds the inputs against the registries that are published to, without contacting anything: whether the
// provider fits the host, whether the repository's path can exist there, whether each input has an effect. An input
// without one is a warning, since a run may be one part of many. Its error joins one *fault.Error for each problem.
func Check(o Options) (warnings []connector.Finding, err error) {
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
	used, creates, organisations := map[string]bool{}, false, map[string]bool{}
	for _, r := range repositories {
		at := place{hostOf(r.Registry()), strings.Split(strings.TrimPrefix(string(r), r.Registry()+"/"), "/")}
		p := k.providerOf(at.host)
		for _, input := range p.inputs {
			used[input] = true
		}
		creates = creates || p.creates
		if p.id == "dockerhub" {
			organisations[at.parts[0]] = true
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
	if len(organisations) > 1 && o.DockerHubConnectionID != "" {
		add(fault.ConflictingInputs, `input "dockerhub-connection-id"`, "the images are of several organisations ("+
			strings.Join(slices.Sorted(maps.Keys(organisations)), ", ")+"), and a connection is of one", "Publish to one organisation at a time.")
	}
	if len(repositories) == 0 {
		return nil, errors.Join(errs...)
	}
	for _, i := range o.federation() {
		if i.value != "" && !used[i.name] {
			warnings = append(warnings, connector.Finding{Code: fault.ConflictingInputs, Severity: connector.Warning,
				Message: fmt.Sprintf("The input %q is for %s, and no image is published there.", i.name, i.of), Remedy: "Leave it unset where it has no effect."})
		}
	}
	if o.CreateRepository && !creates {
		warnings = append(warnings, connector.Finding{Code: fault.ConflictingInputs, Severity: connector.Warning,
			Message: `The input "create-repository" is for Amazon ECR, and no image is published there.`,
			Remedy:  "Other registries make repositories by a push, or want them made by hand."})
	}
	if o.OIDCGiven {
		switch asked := o.federates(); {
		case asked == 0:
			add(fault.MissingInput, `input "oidc-token"`, "it is set, but nothing says what to exchange it for",
				"Set aws-role-arn, gcp-workload-identity-provider, azure-tenant-id and azure-client-id, or dockerhub-connection-id.")
		case asked > 1:
			// Each cloud would be shown a token that is good at another.
			add(fault.ConflictingInputs, `input "oidc-token"`, "it is one token, and is to be exchanged with several clouds",
				"Publish to one cloud's registry at a time; each needs a token with an audience of its own.")
		}
	}
	return warnings, errors.Join(errs...)
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

// federates is how many clouds a token is to be exchanged with.
func (o Options) federates() int {
	clouds := map[string]bool{}
	for _, i := range o.federation() {
		if i.value != "" {
			clouds[i.of] = true
		}
	}
	return len(clouds)
}
