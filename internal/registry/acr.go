package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"regexp"
	"strings"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// acrScope is the registry's own audience, the same in all clouds. Registries that take no tokens for Azure's resource
// manager (azureADAuthenticationAsArmPolicy) take this one.
const acrScope = "https://containerregistry.azure.net/.default"

// acr is Azure Container Registry.
func acr() *provider {
	return &provider{
		id: "acr", title: "Azure Container Registry", matches: hostPattern(isACR), hosts: "NAME.azurecr.io, NAME.azurecr.us and NAME.azurecr.cn",
		inputs: []string{"azure-tenant-id", "azure-client-id"}, federated: acrFederated, ambient: acrAmbient, readsAmbient: true,
		frozen: acrFrozen,
		rules: []rule{
			{status: 403, text: "is not allowed access", is: fault.PushDenied, remedy: "The registry's firewall keeps this machine out: allow its address, or run where the registry's network is."},
			{status: 403, text: "firewall", is: fault.PushDenied, remedy: "The registry's firewall keeps this machine out: allow its address, or run where the registry's network is."},
			{step: "tag", status: 405, is: fault.TagImmutable},
			{step: "tag", text: "locked", is: fault.TagImmutable},
			{step: "tag", text: "disallowed", is: fault.TagImmutable},
			{step: "upload", status: 405, is: fault.PushDenied, remedy: "The repository or the registry is locked: `az acr repository show --name {registry} --repository {repository}`."},
		},
		remedies: map[fault.Code]string{
			fault.NoCredentials: "Set azure-tenant-id and azure-client-id for OIDC, or AZURE_TENANT_ID, AZURE_CLIENT_ID and AZURE_CLIENT_SECRET, or run " +
				"azure/login before.",
			fault.CredentialsRefused: "A service principal's id and secret are user name and password, or a token's name and its password; both can expire.",
			fault.PushDenied: "On Azure the role AcrPush on the registry is needed, or Container Registry Repository Writer where it uses ABAC (there AcrPush " +
				"does not count), or a scope map with content/write; the registry's firewall must let this machine in.",
			fault.TagImmutable: "The tag, its image or the repository is locked: `az acr repository show --name {registry} --repository {repository}`. Publish under a new tag.",
			fault.PullDenied: "AKS pulls as its kubelet identity: `az aks update --attach-acr {registry}` gives it AcrPull (Container Registry Repository Reader " +
				"under ABAC); elsewhere a pull secret of a service principal or a repository-scoped token is needed.",
		},
	}
}

var acrHost = regexp.MustCompile(`^[a-z0-9]+(?:-[a-z0-9]+)*\.azurecr\.(?:io|us|cn)$`)

func isACR(host string) bool { return acrHost.MatchString(host) }

// azureCloud is the cloud that a registry's host is in: where to sign in, and the audience of OIDC tokens for there.
func azureCloud(host string) (c cloud.Configuration, audience string) {
	switch {
	case strings.HasSuffix(host, ".us"):
		return cloud.AzureGovernment, "api://AzureADTokenExchangeUSGov"
	case strings.HasSuffix(host, ".cn"):
		return cloud.AzureChina, "api://AzureADTokenExchangeChina"
	}
	return cloud.AzurePublic, "api://AzureADTokenExchange"
}

// azureIdentity is somebody in Azure, whose access tokens are exchanged for the registry's refresh tokens.
type azureIdentity struct {
	k          *keychain
	host, from string
	tenant     string
	token      azcore.TokenCredential
	// federated is the OIDC token that was sent last, empty for other ways.
	federated func() exchange
}

func (i *azureIdentity) credential() credential {
	r := i.k.renewable("acr "+i.host+" "+i.from, i.refreshToken)
	return credential{auth: r, from: i.from, renewable: r}
}

// azureOptions are for the SDK's clients; its transport is ours, its repetitions are its own.
func (k *keychain) azureOptions(host string) azcore.ClientOptions {
	c, _ := azureCloud(host)
	return azcore.ClientOptions{Cloud: c, Transport: k.client.cloudClient(false)}
}

func (i *azureIdentity) refreshToken(ctx context.Context) (fetched, error) {
	aad, err := i.token.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{acrScope}})
	if err != nil {
		return fetched{}, i.k.azureFault(ctx, i, err)
	}
	i.k.secrets.add(aad.Token)
	client, err := azcontainerregistry.NewAuthenticationClient("https://"+i.host, &azcontainerregistry.AuthenticationClientOptions{ClientOptions: i.k.azureOptions(i.host)})
	if err != nil {
		return fetched{}, i.k.cloudFault(ctx, "sign in to", i.host, err, "")
	}
	options := &azcontainerregistry.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions{AccessToken: &aad.Token}
	if i.tenant != "" {
		options.Tenant = &i.tenant
	}
	res, err := client.ExchangeAADAccessTokenForACRRefreshToken(ctx, azcontainerregistry.PostContentSchemaGrantTypeAccessToken, i.host, options)
	if err != nil {
		return fetched{}, i.k.acrExchangeFault(ctx, i, err)
	}
	if res.RefreshToken == nil || *res.RefreshToken == "" {
		return fetched{}, &fault.Error{Code: fault.TokenServer, Op: "sign in to", Object: i.host, Cause: "it answered the exchange without a refresh token",
			Remedy: "Check that this is an Azure Container Registry and nothing stands in front of it."}
	}
	c, _ := readClaims(*res.RefreshToken)
	return fetched{authn.AuthConfig{IdentityToken: *res.RefreshToken}, c.ends()}, nil
}

// acrFederated is an application with a federated credential for the CI job's OIDC token.
func acrFederated(k *keychain, at place) (credential, bool) {
	tenant, client := k.explicit.AzureTenantID, k.explicit.AzureClientID
	if tenant == "" || client == "" {
		return credential{}, false
	}
	_, audience := azureCloud(at.host)
	sent := exchange{with: "Microsoft Entra for the application " + client, audience: audience}
	i := &azureIdentity{k: k, host: at.host, from: "the application " + client + " by OIDC", tenant: tenant, federated: func() exchange { return sent }}
	assertion := func(ctx context.Context) (string, error) {
		sent.token, sent.err = k.idToken(ctx, audience)
		return sent.token, sent.err
	}
	var err error
	i.token, err = azidentity.NewClientAssertionCredential(tenant, client, assertion,
		&azidentity.ClientAssertionCredentialOptions{ClientOptions: k.azureOptions(at.host)})
	if err != nil {
		i.token = brokenIdentity{err}
	}
	return i.credential(), true
}

// brokenIdentity is an identity that could not be made.
type brokenIdentity struct{ err error }

// GetToken implements azcore.TokenCredential.
func (f brokenIdentity) GetToken(context.Context, policy.TokenRequestOptions) (azcore.AccessToken, error) {
	return azcore.AccessToken{}, f.err
}

// acrAmbient is the first of these that the environment has: a service principal of AZURE_ variables, a workload
// identity of Kubernetes, a managed identity, a session of az.
func acrAmbient(ctx context.Context, k *keychain, at place) (credential, []string, error) {
	env, options := k.explicit.Getenv, k.azureOptions(at.host)
	set := func(names ...string) bool {
		for _, n := range names {
			if env(n) == "" {
				return false
			}
		}
		return true
	}
	k.secrets.add(env("AZURE_CLIENT_SECRET"), env("AZURE_CLIENT_CERTIFICATE_PASSWORD"))
	identity := func(from string, token azcore.TokenCredential, err error) (credential, []string, error) {
		i := &azureIdentity{k: k, host: at.host, from: from, tenant: env("AZURE_TENANT_ID"), token: token}
		if err != nil {
			return credential{}, nil, k.azureFault(ctx, i, err)
		}
		return i.credential(), nil, nil
	}
	switch {
	case set("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_SECRET"), set("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_CLIENT_CERTIFICATE_PATH"):
		from := "the service principal of AZURE_CLIENT_ID"
		c, err := azidentity.NewEnvironmentCredential(&azidentity.EnvironmentCredentialOptions{ClientOptions: options})
		return identity(from, c, err)
	case set("AZURE_TENANT_ID", "AZURE_CLIENT_ID", "AZURE_FEDERATED_TOKEN_FILE"):
		c, err := azidentity.NewWorkloadIdentityCredential(&azidentity.WorkloadIdentityCredentialOptions{ClientOptions: options})
		return identity("the workload identity of AZURE_FEDERATED_TOKEN_FILE", c, err)
	}
	managed := &azidentity.ManagedIdentityCredentialOptions{ClientOptions: options}
	if id := env("AZURE_CLIENT_ID"); id != "" {
		managed.ID = azidentity.ClientID(id)
	}
	m, err := azidentity.NewManagedIdentityCredential(managed)
	if set("IDENTITY_ENDPOINT") || set("MSI_ENDPOINT") {
		return identity("the managed identity", m, err)
	}
	if err == nil && k.hasManagedIdentity(ctx, m) {
		return identity("the managed identity", m, nil)
	}
	looked := []string{"a service principal or workload identity (AZURE_TENANT_ID, AZURE_CLIENT_ID, …: not set)", "a managed identity (none)"}
	if _, err := exec.LookPath("az"); err != nil {
		return credential{}, append(looked, "a session of az (not installed)"), nil
	}
	az, err := azidentity.NewAzureCLICredential(nil)
	if err != nil {
		return credential{}, append(looked, "a session of az ("+fault.Bounded(err.Error())+")"), nil
	}
	if _, err := az.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{acrScope}}); err != nil && ctx.Err() == nil {
		if strings.Contains(err.Error(), "az login") {
			return credential{}, append(looked, "a session of az (not signed in)"), nil
		}
		return identity("the session of az", az, err)
	}
	return identity("the session of az", az, nil)
}

// hasManagedIdentity asks the virtual machine's metadata server, and does not wait for long, since there may be none.
func (k *keychain) hasManagedIdentity(ctx context.Context, m azcore.TokenCredential) bool {
	ctx, cancel := context.WithTimeout(policy.WithRetryOptions(ctx, policy.RetryOptions{MaxRetries: -1}), metadataTime)
	defer cancel()
	_, err := m.GetToken(ctx, policy.TokenRequestOptions{Scopes: []string{acrScope}})
	// One that has to be chosen is one; the choice is AZURE_CLIENT_ID.
	return err == nil || strings.Contains(strings.ToLower(err.Error()), "multiple user assigned identities")
}

// entraCode finds the code that Entra puts in front of its descriptions.
var entraCode = regexp.MustCompile(`AADSTS\d+`)

// entraRemedies say what to do about Entra's commonest codes.
var entraRemedies = map[string]string{
	"AADSTS700016":  "There is no application with this client id in the tenant: check azure-client-id and azure-tenant-id (or AZURE_CLIENT_ID and AZURE_TENANT_ID).",
	"AADSTS90002":   "There is no such tenant: check azure-tenant-id (or AZURE_TENANT_ID), and that the registry is in this cloud.",
	"AADSTS7000215": "The client secret is wrong: give its value, not its id.",
	"AADSTS7000222": "The client secret has expired: make a new one, or use OIDC, which has none.",
	"AADSTS700027":  "The certificate is not one of the application's: upload it, or give the right one.",
	"AADSTS70021":   "No federated credential of the application has this issuer, subject and audience; add one.",
	"AADSTS700213":  "No federated credential of the application has this subject; subjects must be the same to the letter.",
	"AADSTS700212":  "No federated credential of the application has this audience.",
	"AADSTS700211":  "No federated credential of the application has this issuer.",
	"AADSTS700024":  "Check this machine's clock, and get the token right before this step.",
}

// azureFault explains why Entra gives no token.
func (k *keychain) azureFault(ctx context.Context, i *azureIdentity, err error) error {
	const op = "sign in to Azure for"
	if _, known := errors.AsType[*fault.Error](err); known || ctx.Err() != nil {
		return k.cloudFault(ctx, op, i.host, err, "")
	}
	if i.federated != nil && i.federated().err != nil {
		// The SDK makes text of it.
		return i.federated().err
	}
	failed, ok := errors.AsType[*azidentity.AuthenticationFailedError](err)
	if !ok || failed.RawResponse == nil {
		return k.cloudFault(ctx, op, i.host, err, "Check the credentials: "+i.from+".")
	}
	status := failed.RawResponse.StatusCode
	said := entraSaid(failed.RawResponse)
	code := entraCode.FindString(said)
	remedy := entraRemedies[code]
	if remedy == "" {
		remedy = "Check the credentials: " + i.from + "."
	}
	cause := fmt.Sprintf("%s answered %d (%s); signed in with %s", hostOfResponse(failed.RawResponse), failed.RawResponse.StatusCode, said, i.from)
	if code == "AADSTS700024" && i.federated == nil {
		return k.clockFault(op, i.host, cause, err)
	}
	if i.federated != nil {
		x := i.federated()
		c, _ := readClaims(x.token)
		return k.exchangeFault(x, status, "it answered "+said, fmt.Sprintf("%s The federated credential must have the issuer %q and the subject %q. %s", remedy,
			fault.Bounded(c.Issuer), fault.Bounded(c.Subject), subjectForms(c.Subject)), err)
	}
	f := &fault.Error{Code: fault.CloudSignIn, Op: op, Object: i.host, Cause: k.secrets.bounded(cause), Remedy: remedy, Err: err}
	switch {
	case status == http.StatusTooManyRequests:
		f.Code, f.Remedy = fault.RateLimited, "Wait and run again."
	case status >= 500:
		f.Code, f.Remedy = fault.TokenServer, "Run again; if it stays so, see Azure's status page."
	}
	return f
}

func hostOfResponse(res *http.Response) string {
	if res.Request == nil {
		return "Azure"
	}
	return res.Request.URL.Host
}

// entraSaid is the first line of Entra's description; the rest are ids of the request.
func entraSaid(res *http.Response) string {
	// The SDK keeps the body readable after it has read it.
	body, _ := io.ReadAll(io.LimitReader(res.Body, 64<<10))
	var answer struct {
		Error       string `json:"error"`
		Description string `json:"error_description"`
	}
	if json.Unmarshal(body, &answer) != nil || answer.Error == "" {
		return strings.TrimSpace(string(body))
	}
	line, _, _ := strings.Cut(answer.Description, "\n")
	return answer.Error + ": " + strings.TrimSpace(line)
}

// acrExchangeFault explains why the registry does not take Entra's token, with which the identity itself is proven.
func (k *keychain) acrExchangeFault(ctx context.Context, i *azureIdentity, err error) error {
	const op = "exchange Azure's token with"
	said, ok := errors.AsType[*azcore.ResponseError](err)
	if !ok {
		return k.cloudFault(ctx, op, i.host, err, "Check the registry's name.")
	}
	body := ""
	if said.RawResponse != nil {
		b, _ := io.ReadAll(io.LimitReader(said.RawResponse.Body, 64<<10))
		body = strings.TrimSpace(string(b))
	}
	f := &fault.Error{Code: fault.CloudDenied, Op: op, Object: i.host, Err: err,
		Cause: k.secrets.bounded(fmt.Sprintf("it answered %d (%s); signed in with %s", said.StatusCode, body, i.from)),
		Remedy: "Give the identity AcrPush on the registry, or Container Registry Repository Writer where it uses ABAC; check that it is of the " +
			"registry's tenant and that the registry's firewall lets this machine in."}
	switch {
	case said.StatusCode == http.StatusTooManyRequests:
		f.Code, f.Remedy = fault.RateLimited, "Wait and run again."
	case said.StatusCode >= 500:
		f.Code, f.Remedy = fault.TokenServer, "Run again; if it stays so, see Azure's status page."
	case said.StatusCode == http.StatusNotFound:
		f.Code, f.Remedy = fault.TokenServer, "Check the registry's name: this host has no exchange, so it is no Azure Container Registry."
	}
	return f
}

// acrFrozen tells why a tag can't be moved: Azure locks tags, images and repositories by attributes.
func acrFrozen(ctx context.Context, _ *Client, s *session, tag string) string {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	scope := "repository:" + s.repo.RepositoryStr() + ":metadata_read"
	rt, err := transport.NewWithContext(ctx, s.repo.Registry, s.cred.auth, s.end.remembered(), []string{scope})
	if err != nil {
		return ""
	}
	url := fmt.Sprintf("%s://%s/acr/v1/%s/_tags/%s", s.end.scheme(), s.repo.RegistryStr(), s.repo.RepositoryStr(), tag)
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return ""
	}
	res, err := do(rt, req)
	if err != nil {
		return ""
	}
	defer drain(res)
	var answer struct {
		Tag struct {
			Attributes struct {
				Write *bool `json:"writeEnabled"`
			} `json:"changeableAttributes"`
		} `json:"tag"`
	}
	// Who may push need not be allowed to read attributes; then the push tells.
	if res.StatusCode != http.StatusOK || json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer) != nil {
		return ""
	}
	if w := answer.Tag.Attributes.Write; w == nil || *w {
		return ""
	}
	return "the tag is locked against writing"
}
