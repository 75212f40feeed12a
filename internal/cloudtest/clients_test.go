package cloudtest

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/Azure/azure-sdk-for-go/sdk/azcore"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/cloud"
	"github.com/Azure/azure-sdk-for-go/sdk/azcore/policy"
	"github.com/Azure/azure-sdk-for-go/sdk/azidentity"
	"github.com/Azure/azure-sdk-for-go/sdk/containers/azcontainerregistry"
	awssdk "github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	ecrtypes "github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/random"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"golang.org/x/oauth2"
	"golang.org/x/oauth2/google"
	"golang.org/x/oauth2/google/externalaccount"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// These tests hold the doubles against the clouds' own client libraries: what those send is taken, what is wrong is
// refused, and what is answered they understand. They leave the product out.

// transport leads a client of this process into the world.
func (w *world) transport() *http.Transport {
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(internet().pem)
	proxy, err := url.Parse(w.proxy)
	if err != nil {
		w.t.Fatal(err)
	}
	tr := &http.Transport{Proxy: http.ProxyURL(proxy), TLSClientConfig: &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12}, ForceAttemptHTTP2: true}
	w.t.Cleanup(tr.CloseIdleConnections)
	return tr
}

func (w *world) client() *http.Client { return &http.Client{Transport: w.transport()} }

// awsConfig is a configuration of the SDK with a key, and without the waits between its attempts.
func (w *world) awsConfig(region, id, secretKey, session string) awssdk.Config {
	return awssdk.Config{Region: region, HTTPClient: w.client(), Credentials: credentials.NewStaticCredentialsProvider(id, secretKey, session),
		RetryMaxAttempts: 2}
}

// password is the registry's password that the SDK gets.
func ecrPassword(t *testing.T, c awssdk.Config) (string, error) {
	t.Helper()
	out, err := ecr.NewFromConfig(c).GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
	if err != nil {
		return "", err
	}
	raw, err := base64.StdEncoding.DecodeString(awssdk.ToString(out.AuthorizationData[0].AuthorizationToken))
	if err != nil {
		t.Fatal(err)
	}
	if left := time.Until(awssdk.ToTime(out.AuthorizationData[0].ExpiresAt)); left < 11*time.Hour {
		t.Errorf("the password is good for %s", left)
	}
	return strings.TrimPrefix(string(raw), "AWS:"), nil
}

func apiCode(err error) string {
	if api, ok := errors.AsType[smithy.APIError](err); ok {
		return api.ErrorCode()
	}
	return ""
}

func TestRigAWSKeys(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newAWS(awsOptions{region: "eu-central-1"})
	id, secretKey, _ := a.key(false)
	password, err := ecrPassword(t, w.awsConfig("eu-central-1", id, secretKey, ""))
	if err != nil {
		t.Fatal(err)
	}
	a.front.set(func(f *front) { f.repositories["x"] = true })
	mustPush(t, w, a.registry+"/x", authn.AuthConfig{Username: "AWS", Password: password})
	mayNotPush(t, w, a.registry+"/x", authn.AuthConfig{Username: "AWS", Password: password + "x"})

	temporary, secret2, session := a.key(true)
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", temporary, secret2, session)); err != nil {
		t.Fatal(err)
	}
	for want, c := range map[string]awssdk.Config{
		"InvalidSignatureException":   w.awsConfig("eu-central-1", id, secretKey+"x", ""),
		"UnrecognizedClientException": w.awsConfig("eu-central-1", temporary, secret2, ""),
	} {
		if _, err := ecrPassword(t, c); apiCode(err) != want {
			t.Errorf("got %v, want %s", err, want)
		}
	}
	a.expireKeys()
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", temporary, secret2, session)); apiCode(err) != "ExpiredTokenException" {
		t.Errorf("got %v", err)
	}
	a.set(func(a *aws) { a.forbidden = []string{"ecr:GetAuthorizationToken"} })
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", id, secretKey, "")); apiCode(err) != "AccessDeniedException" {
		t.Errorf("got %v", err)
	}
	a.set(func(a *aws) { a.forbidden, a.throttles = nil, 1 })
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", id, secretKey, "")); err != nil {
		t.Errorf("the SDK waits, so one refusal is none: %v", err)
	}
	if !w.saw(a.api, "AWS session token") || w.saw(a.api, "AWS secret access key") {
		t.Error("a session token goes to the API, a secret key nowhere")
	}
}

func TestRigAWSRepositories(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newAWS(awsOptions{region: "cn-north-1"})
	id, secretKey, _ := a.key(false)
	client := ecr.NewFromConfig(w.awsConfig("cn-north-1", id, secretKey, ""))
	_, err := client.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"x"}})
	if _, ok := errors.AsType[*ecrtypes.RepositoryNotFoundException](err); !ok {
		t.Errorf("got %v", err)
	}
	if _, err := client.CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: awssdk.String("x")}); err != nil {
		t.Error(err)
	}
	_, err = client.CreateRepository(t.Context(), &ecr.CreateRepositoryInput{RepositoryName: awssdk.String("x")})
	if _, ok := errors.AsType[*ecrtypes.RepositoryAlreadyExistsException](err); !ok {
		t.Errorf("got %v", err)
	}
	out, err := client.DescribeRepositories(t.Context(), &ecr.DescribeRepositoriesInput{RepositoryNames: []string{"x"}})
	if err != nil || out.Repositories[0].ImageTagMutability != ecrtypes.ImageTagMutabilityMutable {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestRigAWSClock(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.ahead = 40 * time.Minute
	a := w.newAWS(awsOptions{region: "eu-central-1"})
	id, secretKey, _ := a.key(false)
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", id, secretKey, "")); err != nil {
		t.Errorf("the SDK sets its clock by the Date header: %v", err)
	}
	a.set(func(a *aws) { a.noDate = true })
	_, err := ecrPassword(t, w.awsConfig("eu-central-1", id, secretKey, ""))
	if apiCode(err) != "InvalidSignatureException" || !strings.Contains(err.Error(), "Signature expired") {
		t.Errorf("got %v", err)
	}
}

// endpoints are what the SDK makes of regions: the hosts that the doubles have to be.
func TestRigAWSEndpoints(t *testing.T) {
	t.Parallel()
	for host, set := range map[string]struct {
		region string
		option func(*ecr.Options)
	}{
		"api.ecr.eu-central-1.amazonaws.com":  {"eu-central-1", func(*ecr.Options) {}},
		"api.ecr.cn-north-1.amazonaws.com.cn": {"cn-north-1", func(*ecr.Options) {}},
		fipsAPI:                               {"us-east-1", func(o *ecr.Options) { o.EndpointOptions.UseFIPSEndpoint = awssdk.FIPSEndpointStateEnabled }},
		dualStackAPI: {"eu-central-1", func(o *ecr.Options) {
			o.EndpointOptions.UseDualStackEndpoint = awssdk.DualStackEndpointStateEnabled
		}},
	} {
		w := newWorld(t)
		a := w.newAWS(awsOptions{region: set.region, api: host})
		id, secretKey, _ := a.key(false)
		_, err := ecr.NewFromConfig(w.awsConfig(set.region, id, secretKey, ""), set.option).GetAuthorizationToken(t.Context(), &ecr.GetAuthorizationTokenInput{})
		if err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
	w := newWorld(t)
	a := w.newECRPublic()
	id, secretKey, _ := a.key(false)
	out, err := ecrpublic.NewFromConfig(w.awsConfig("us-east-1", id, secretKey, "")).GetAuthorizationToken(t.Context(), &ecrpublic.GetAuthorizationTokenInput{})
	if err != nil || out.AuthorizationData == nil {
		t.Errorf("ECR Public: %v", err)
	}
	a.set(func(a *aws) { a.forbidden = []string{"sts:GetServiceBearerToken"} })
	_, err = ecrpublic.NewFromConfig(w.awsConfig("us-east-1", id, secretKey, "")).GetAuthorizationToken(t.Context(), &ecrpublic.GetAuthorizationTokenInput{})
	if apiCode(err) != "AccessDeniedException" || !strings.Contains(err.Error(), "sts:GetServiceBearerToken") {
		t.Errorf("got %v", err)
	}
}

// retriever is an OIDC token for the SDK.
type retriever string

func (r retriever) GetIdentityToken() ([]byte, error) { return []byte(r), nil }

func TestRigAWSRoles(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newAWS(awsOptions{region: "eu-central-1"})
	i := w.gitHubIssuer(a.sts)
	a.role = a.arn("role/publisher")
	a.trust = &oidcTrust{issuer: i, audience: "sts.amazonaws.com", subject: i.subject}
	c := w.awsConfig("eu-central-1", "", "", "")
	c.Credentials = awssdk.AnonymousCredentials{}
	assume := func(token, role string) (awssdk.Credentials, error) {
		return stscreds.NewWebIdentityRoleProvider(sts.NewFromConfig(c), role, retriever(token)).Retrieve(t.Context())
	}
	keys, err := assume(i.token("sts.amazonaws.com"), a.role)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)); err != nil {
		t.Error(err)
	}
	other := w.gitHubIssuer(a.sts)
	other.key = rsaKey("gitlab")
	stale := w.gitHubIssuer(a.sts)
	stale.life = -time.Minute
	elsewhere := w.gitHubIssuer(a.sts)
	elsewhere.subject = "repo:acme/connectors:ref:refs/heads/main"
	for name, fails := range map[string]struct{ token, role, code string }{
		"audience":  {i.token("sts.amazonaws.com.cn"), a.role, "InvalidIdentityToken"},
		"signature": {other.token("sts.amazonaws.com"), a.role, "InvalidIdentityToken"},
		"end":       {stale.token("sts.amazonaws.com"), a.role, "ExpiredTokenException"},
		"subject":   {elsewhere.token("sts.amazonaws.com"), a.role, "AccessDenied"},
		"role":      {i.token("sts.amazonaws.com"), a.arn("role/other"), "AccessDenied"},
		"issuer":    {w.gitLabIssuer(a.sts).token("sts.amazonaws.com"), a.role, "InvalidIdentityToken"},
	} {
		if _, err := assume(fails.token, fails.role); apiCode(err) != fails.code {
			t.Errorf("%s: got %v", name, err)
		}
	}
	out, err := sts.NewFromConfig(w.awsConfig("eu-central-1", keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)).GetCallerIdentity(t.Context(), &sts.GetCallerIdentityInput{})
	if err != nil || awssdk.ToString(out.Account) != account {
		t.Errorf("got %v, %v", out, err)
	}
}

func TestRigAWSMachines(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newAWS(awsOptions{region: "eu-central-1"})
	a.instance()
	keys, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{HTTPClient: w.client()})
	}).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)); err != nil {
		t.Error(err)
	}
	endpoint, token := a.container()
	keys, err = endpointcreds.New(endpoint, func(o *endpointcreds.Options) { o.AuthorizationToken = token }).Retrieve(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := ecrPassword(t, w.awsConfig("eu-central-1", keys.AccessKeyID, keys.SecretAccessKey, keys.SessionToken)); err != nil {
		t.Error(err)
	}
	if _, err := endpointcreds.New(endpoint).Retrieve(t.Context()); err == nil {
		t.Error("the container's keys were given without its token")
	}
}

// oauthContext leads x/oauth2 into the world.
func (w *world) oauthContext(ctx context.Context) context.Context {
	return context.WithValue(ctx, oauth2.HTTPClient, w.client())
}

const garHost = "europe-west4-docker.pkg.dev"

func TestRigGoogle(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	g := w.newGoogle(garHost)
	i := w.gitHubIssuer(googleSTS)
	audience := "https://iam.googleapis.com/" + googlePool
	g.trust = &oidcTrust{issuer: i, audience: audience, subject: i.subject}
	g.impersonation = true
	ctx := w.oauthContext(t.Context())
	key := g.keyFile(true)
	federated := func(token, impersonate string) (*oauth2.Token, error) {
		s, err := externalaccount.NewTokenSource(ctx, externalaccount.Config{Audience: "//iam.googleapis.com/" + googlePool,
			SubjectTokenType: "urn:ietf:params:oauth:token-type:jwt", SubjectTokenSupplier: supplier(token), Scopes: []string{cloudPlatform},
			ServiceAccountImpersonationURL: impersonate})
		if err != nil {
			t.Fatal(err)
		}
		return s.Token()
	}
	const impersonate = "https://iamcredentials.googleapis.com/v1/projects/-/serviceAccounts/" + googleAccount + ":generateAccessToken"
	for from, get := range map[string]func() (*oauth2.Token, error){
		"key": func() (*oauth2.Token, error) {
			c, err := google.JWTConfigFromJSON([]byte(key), cloudPlatform)
			if err != nil {
				return nil, err
			}
			return c.TokenSource(ctx).Token()
		},
		"user": func() (*oauth2.Token, error) {
			c, err := google.CredentialsFromJSONWithType(ctx, []byte(g.userFile()), google.AuthorizedUser, cloudPlatform)
			if err != nil {
				return nil, err
			}
			return c.TokenSource.Token()
		},
		"pool":    func() (*oauth2.Token, error) { return federated(i.token(audience), "") },
		"account": func() (*oauth2.Token, error) { return federated(i.token(audience), impersonate) },
	} {
		token, err := get()
		if err != nil {
			t.Errorf("%s: %v", from, err)
			continue
		}
		mustPush(t, w, garHost+"/"+googleRepository, authn.AuthConfig{Username: "oauth2accesstoken", Password: token.AccessToken})
		mustPush(t, w, garHost+"/"+googleRepository, authn.AuthConfig{RegistryToken: token.AccessToken})
	}
	mustPush(t, w, garHost+"/"+googleRepository, authn.AuthConfig{Username: "_json_key", Password: key})
	mustPush(t, w, garHost+"/"+googleRepository, authn.AuthConfig{Username: "_json_key_base64", Password: base64.StdEncoding.EncodeToString([]byte(key))})
	mayNotPush(t, w, garHost+"/"+googleRepository, authn.AuthConfig{Username: "oauth2accesstoken", Password: "ya29.nobody"})
	if err := push(t, w, garHost+"/acme-prod/nowhere/x", authn.AuthConfig{Username: "_json_key", Password: key}); err == nil || !strings.Contains(err.Error(), wordsOfNoGCloud) {
		t.Errorf("got %v", err)
	}
	if _, err := federated(i.token("https://iam.googleapis.com/other"), ""); err == nil {
		t.Error("the wrong audience was taken")
	}
	g.impersonation = false
	if _, err := federated(i.token(audience), impersonate); err == nil || !strings.Contains(err.Error(), "getAccessToken") {
		t.Errorf("got %v", err)
	}
	g.keyID = "other"
	c, err := google.JWTConfigFromJSON([]byte(key), cloudPlatform)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.TokenSource(ctx).Token(); err == nil || !strings.Contains(err.Error(), "invalid_grant") {
		t.Errorf("got %v", err)
	}
}

// supplier is an OIDC token for x/oauth2.
type supplier string

func (s supplier) SubjectToken(context.Context, externalaccount.SupplierOptions) (string, error) {
	return string(s), nil
}

const acrHost = "acmeprod.azurecr.io"

func TestRigAzure(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	a := w.newAzure(acrHost)
	options := azcore.ClientOptions{Transport: w.client(), Retry: policy.RetryOptions{MaxRetries: -1}}
	exchange := func(entra string) (string, error) {
		c, err := azcontainerregistry.NewAuthenticationClient("https://"+acrHost, &azcontainerregistry.AuthenticationClientOptions{ClientOptions: options})
		if err != nil {
			t.Fatal(err)
		}
		out, err := c.ExchangeAADAccessTokenForACRRefreshToken(t.Context(), azcontainerregistry.PostContentSchemaGrantTypeAccessToken, acrHost,
			&azcontainerregistry.AuthenticationClientExchangeAADAccessTokenForACRRefreshTokenOptions{AccessToken: &entra})
		if err != nil {
			return "", err
		}
		return *out.RefreshToken, nil
	}
	try := func(what string, c azcore.TokenCredential, err error) {
		t.Helper()
		if err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		token, err := c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{acrAudience + "/.default"}})
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		refresh, err := exchange(token.Token)
		if err != nil {
			t.Errorf("%s: %v", what, err)
			return
		}
		mustPush(t, w, acrHost+"/x", authn.AuthConfig{IdentityToken: refresh})
		mustPush(t, w, acrHost+"/x", authn.AuthConfig{Username: nobodyGUID, Password: refresh})
	}
	secretText := a.useSecret(a.login, acrHost)
	bySecret, err := azidentity.NewClientSecretCredential(azureTenant, azureClient, secretText, &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	try("secret", bySecret, err)
	mustPush(t, w, acrHost+"/x", authn.AuthConfig{Username: azureClient, Password: secretText})
	mayNotPush(t, w, acrHost+"/x", authn.AuthConfig{Username: azureClient, Password: "nobody"})

	i := w.gitHubIssuer(a.login)
	a.trust = &oidcTrust{issuer: i, audience: "api://AzureADTokenExchange", subject: i.subject}
	byToken, err := azidentity.NewClientAssertionCredential(azureTenant, azureClient, func(context.Context) (string, error) {
		return i.token("api://AzureADTokenExchange"), nil
	}, &azidentity.ClientAssertionCredentialOptions{ClientOptions: options})
	try("federated", byToken, err)

	certs, key, err := azidentity.ParseCertificates([]byte(a.useCertificate()), nil)
	if err != nil {
		t.Fatal(err)
	}
	byCertificate, err := azidentity.NewClientCertificateCredential(azureTenant, azureClient, certs, key, &azidentity.ClientCertificateCredentialOptions{ClientOptions: options})
	try("certificate", byCertificate, err)

	a.managed()
	managed, err := azidentity.NewManagedIdentityCredential(&azidentity.ManagedIdentityCredentialOptions{ClientOptions: options, ID: azidentity.ClientID(azureIdentity)})
	try("managed identity", managed, err)
	a.set(func(a *azure) { a.exchangeStatus = http.StatusForbidden })
	token, err := managed.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{acrAudience + "/.default"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exchange(token.Token); err == nil {
		t.Error("a forbidden exchange was made")
	}
	wrong, err := azidentity.NewClientSecretCredential(azureTenant, azureClient, "nobody", &azidentity.ClientSecretCredentialOptions{ClientOptions: options})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := wrong.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{acrAudience + "/.default"}}); err == nil || !strings.Contains(err.Error(), "AADSTS7000215") {
		t.Errorf("got %v", err)
	}
}

// TestRigAzureClouds is for the clouds of other countries, which have hosts of their own.
func TestRigAzureClouds(t *testing.T) {
	t.Parallel()
	for host, configuration := range map[string]cloud.Configuration{"acmeprod.azurecr.us": cloud.AzureGovernment, "acmeprod.azurecr.cn": cloud.AzureChina} {
		w := newWorld(t)
		a := w.newAzure(host)
		c, err := azidentity.NewClientSecretCredential(azureTenant, azureClient, a.useSecret(a.login), &azidentity.ClientSecretCredentialOptions{
			ClientOptions: azcore.ClientOptions{Transport: w.client(), Cloud: configuration}})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := c.GetToken(t.Context(), policy.TokenRequestOptions{Scopes: []string{acrAudience + "/.default"}}); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

func TestRigHosted(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	hub := w.newDockerHub()
	pat := hub.user("acme", "PAT", "dckr_pat_"+w.random())
	mustPush(t, w, "index.docker.io/acme/x", authn.AuthConfig{Username: "acme", Password: pat})
	mayNotPush(t, w, "index.docker.io/acme/x", authn.AuthConfig{Username: "acme", Password: "nobody"})
	ghcr := w.newGHCR()
	token := ghcr.user("octocat", "GITHUB_TOKEN", "ghs_"+w.random())
	mustPush(t, w, "ghcr.io/acme/x", authn.AuthConfig{Username: "octocat", Password: token})
	lab := w.newGitLab("registry.gitlab.com", "gitlab.com")
	job := lab.user("gitlab-ci-token", "CI_JOB_TOKEN", "glcbt-"+w.random())
	mustPush(t, w, "registry.gitlab.com/acme/x", authn.AuthConfig{Username: "gitlab-ci-token", Password: job})
	for _, f := range []*front{hub.front, ghcr.front, lab.front} {
		f.set(func(f *front) { f.closed = true })
	}
	mayNotPush(t, w, "index.docker.io/acme/y", authn.AuthConfig{Username: "acme", Password: pat})
	mayNotPush(t, w, "ghcr.io/acme/y", authn.AuthConfig{Username: "octocat", Password: token})
	mayNotPush(t, w, "registry.gitlab.com/acme/y", authn.AuthConfig{Username: "gitlab-ci-token", Password: job})
}

// push pushes an image with a client that is not the product's.
func push(t *testing.T, w *world, repository string, auth authn.AuthConfig) error {
	t.Helper()
	img, err := random.Image(256, 1)
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.NewTag(repository + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	return remote.Write(ref, img, remote.WithTransport(w.transport()), remote.WithAuth(authn.FromConfig(auth)),
		remote.WithRetryBackoff(remote.Backoff{Duration: time.Millisecond, Steps: 1}))
}

func mustPush(t *testing.T, w *world, repository string, auth authn.AuthConfig) {
	t.Helper()
	if err := push(t, w, repository, auth); err != nil {
		t.Errorf("push to %s as %s: %v", repository, auth.Username, err)
	}
}

func mayNotPush(t *testing.T, w *world, repository string, auth authn.AuthConfig) {
	t.Helper()
	if err := push(t, w, repository, auth); err == nil {
		t.Errorf("%s let %s push", repository, auth.Username)
	}
}

// TestRigExpires holds the ends of what is issued against a client that signs in anew when it is told to.
func TestRigExpires(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	ghcr := w.newGHCR()
	token := ghcr.user("octocat", "GITHUB_TOKEN", "ghs_"+w.random())
	ghcr.front.expireAt(sandbox.StepUploadStart, 0)
	mustPush(t, w, "ghcr.io/acme/x", authn.AuthConfig{Username: "octocat", Password: token})
	if ghcr.front.hit() != 1 {
		t.Error("nothing expired")
	}
	if n := w.count("ghcr.io", "/token"); n < 2 {
		t.Errorf("%d tokens were asked for", n)
	}
}

// TestRigBlames proves that what must not happen is noticed.
func TestRigBlames(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	value := w.secret("the secret", "s3cr3t/with+signs="+w.random(), "friend.example")
	ok := http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { answerJSON(rw, http.StatusOK, nil) })
	w.site("friend.example", ok)
	w.site("foe.example", ok)
	client := w.client()
	get := func(address string, header ...string) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, address, strings.NewReader(strings.Join(header, "")))
		if err != nil {
			t.Fatal(err)
		}
		if len(header) == 1 {
			req.Body = http.NoBody
			req.Header.Set("Authorization", header[0])
		}
		if res, err := client.Do(req); err == nil {
			_ = res.Body.Close()
		}
	}
	get("https://friend.example/", "Bearer "+value)
	if wrong := w.forgive(); wrong != nil {
		t.Errorf("blamed without a reason: %q", wrong)
	}
	for _, leak := range []func(){
		func() { get("https://foe.example/", "Bearer "+value) },
		func() { get("https://foe.example/", "Basic "+base64.StdEncoding.EncodeToString([]byte("u:"+value))) },
		func() { get("https://foe.example/", "Basic "+base64.StdEncoding.EncodeToString([]byte("us:"+value))) },
		func() { get("https://foe.example/", "Basic "+base64.StdEncoding.EncodeToString([]byte("use:"+value))) },
		func() { get("https://foe.example/?q=" + url.QueryEscape(value)) },
		func() { get("https://foe.example/", "a body with ", value) },
		func() { get("https://elsewhere.example/") },
		func() { get("http://friend.example/") },
	} {
		leak()
		if w.forgive() == nil {
			t.Error("something was not blamed")
		}
	}
}
