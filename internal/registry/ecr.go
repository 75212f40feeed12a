package registry

import (
	"cmp"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	awsconfig "github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/awslabs/amazon-ecr-credential-helper/ecr-login/api"
	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// awsAudience is the audience that AWS's own action for GitHub asks for.
const awsAudience = "sts.amazonaws.com"

// publicRegion is the only region that ECR Public has.
const publicRegion = "us-east-1"

// ecrProvider is Amazon Elastic Container Registry, private and public.
func ecrProvider() *provider {
	return &provider{
		id: "ecr", title: "Amazon ECR", matches: hostPattern(isECR), hosts: "ACCOUNT.dkr.ecr.REGION.amazonaws.com and public.ecr.aws",
		inputs: []string{"aws-role-arn"}, path: ecrPath, given: ecrGiven, federated: ecrFederated, ambient: ecrAmbient, readsAmbient: true,
		hangsUp: true, creates: true, frozen: ecrFrozen,
		rules: []rule{
			{code: transport.NameUnknownErrorCode, is: fault.RepositoryMissing},
			{step: "tag", code: transport.TagInvalidErrorCode, is: fault.TagImmutable},
			{status: 403, text: "authorization token has expired", is: fault.CredentialsRefused},
			{status: 403, text: "not authorized to perform", is: fault.PushDenied},
			{status: 400, text: "no basic auth credentials", is: fault.CredentialsRefused},
			// What is no password of its own, ECR does not even take for one.
			{status: 400, bare: true, is: fault.CredentialsRefused},
		},
		remedies: map[fault.Code]string{
			fault.NoCredentials: "Set aws-role-arn for OIDC, or give the AWS SDK credentials (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, AWS_PROFILE, " +
				"a role of the container or instance).",
			fault.CredentialsRefused: "ECR's user name is AWS and its password lives for 12 hours; better let this program get it, by aws-role-arn or the " +
				"AWS SDK's own credentials.",
			fault.PushDenied: "On ECR the identity needs ecr:BatchCheckLayerAvailability, InitiateLayerUpload, UploadLayerPart, CompleteLayerUpload, PutImage, " +
				"BatchGetImage and GetDownloadUrlForLayer on the repository; in another account than its own also a repository policy there.",
			fault.RepositoryMissing: "ECR makes no repository by a push: {create}, or set create-repository.",
			fault.PullDenied: "Nodes of EKS need AmazonEC2ContainerRegistryPullOnly on their node role; in another account also a repository policy. " +
				"ECR's passwords die after 12 hours, so a pull secret is no lasting way.",
		},
	}
}

func isECR(host string) bool {
	_, err := api.ExtractRegistry(host)
	return err == nil && !strings.ContainsAny(host, "/@?#")
}

// ecrPlace is the account and the region of a registry's host. The public one has a region and no account.
func ecrPlace(host string) (account, region string) {
	r, err := api.ExtractRegistry(host)
	switch {
	case err != nil:
		return "ACCOUNT", "REGION"
	case r.Service == api.ServiceECRPublic:
		return "", publicRegion
	}
	return r.ID, r.Region
}

func isECRPublic(host string) bool {
	r, err := api.ExtractRegistry(host)
	return err == nil && r.Service == api.ServiceECRPublic
}

func ecrPath(at place) (cause, remedy string) {
	switch {
	case isECRPublic(at.host) && len(at.parts) < 2:
		return "a repository on ECR Public has its registry's alias in front", "Write public.ecr.aws/ALIAS/{repository}."
	case at.parts[0] == at.host || strings.HasSuffix(at.parts[0], ".amazonaws.com"):
		return "the path begins with the registry's host once more", "Write the host once."
	case len(at.path()) > 256 || len(at.path()) < 2:
		return "ECR's repositories have 2 to 256 characters", "Use a name of that length."
	}
	return "", ""
}

// awsIdentity is somebody in AWS, from whom ECR's passwords come.
type awsIdentity struct {
	k    *keychain
	host string
	// from says where the credentials come from, for people.
	from string
	// keys are used instead of what the SDK finds; nil has it look.
	keys aws.CredentialsProvider
	// role is assumed with the CI job's OIDC token; empty is none.
	role string

	loaded cell[aws.Config]

	mu sync.Mutex
	// session is what the role gave last.
	session aws.Credentials
}

// config is the SDK's configuration for the registry's region.
func (i *awsIdentity) config(ctx context.Context) (aws.Config, error) {
	return i.loaded.get(ctx, func() (aws.Config, error) { return i.load(ctx) })
}

func (i *awsIdentity) load(ctx context.Context) (aws.Config, error) {
	_, region := ecrPlace(i.host)
	client := awshttp.NewBuildableClient().WithTimeout(cloudTime)
	options := []func(*awsconfig.LoadOptions) error{awsconfig.WithRegion(region), awsconfig.WithAppID("airbyte-publish"), awsconfig.WithHTTPClient(client)}
	if r, err := api.ExtractRegistry(i.host); err == nil && r.FIPS {
		options = append(options, awsconfig.WithUseFIPSEndpoint(aws.FIPSEndpointStateEnabled))
	}
	if i.keys != nil {
		options = append(options, awsconfig.WithCredentialsProvider(i.keys))
	}
	cfg, err := awsconfig.LoadDefaultConfig(ctx, options...)
	if _, ok := errors.AsType[awsconfig.SharedConfigProfileNotExistError](err); ok && i.keys != nil {
		// AWS_PROFILE is wrong, and not needed.
		cfg, err = withoutProfile(options)
	}
	if err != nil {
		return cfg, i.k.cloudFault(ctx, "read the AWS configuration for", i.host, err,
			"Correct AWS_PROFILE, AWS_CONFIG_FILE and what they name, or unset them.")
	}
	if i.role != "" {
		cfg.Credentials = aws.NewCredentialsCache(aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
			return i.assume(ctx, cfg)
		}))
	}
	return cfg, nil
}

// withoutProfile is the SDK's configuration by options and the environment's variables, without any of its files.
func withoutProfile(options []func(*awsconfig.LoadOptions) error) (aws.Config, error) {
	var given awsconfig.LoadOptions
	for _, option := range options {
		if err := option(&given); err != nil {
			return aws.Config{}, err
		}
	}
	env, err := awsconfig.NewEnvConfig()
	return aws.Config{Region: given.Region, Credentials: given.Credentials, AppID: given.AppID, HTTPClient: given.HTTPClient, ConfigSources: []any{given, env}}, err
}

// assume gets a session of the role. It is kept for later calls, since the token that it was got for is minutes old by
// then and each of GitHub's is a request.
func (i *awsIdentity) assume(ctx context.Context, cfg aws.Config) (aws.Credentials, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.session.HasKeys() && i.k.now().Add(expiryMargin).Before(i.session.Expires) {
		return i.session, nil
	}
	token, err := i.k.idToken(ctx, awsAudience)
	if err != nil {
		return aws.Credentials{}, err
	}
	const session = "airbyte-publish"
	out, err := sts.NewFromConfig(cfg).AssumeRoleWithWebIdentity(ctx, &sts.AssumeRoleWithWebIdentityInput{
		RoleArn: aws.String(i.role), RoleSessionName: aws.String(session), WebIdentityToken: aws.String(token)})
	if err != nil {
		return aws.Credentials{}, i.k.assumeFault(ctx, i.role, token, err)
	}
	if out.Credentials == nil {
		return aws.Credentials{}, errors.New("AWS STS answered without credentials")
	}
	i.session = aws.Credentials{AccessKeyID: aws.ToString(out.Credentials.AccessKeyId), SecretAccessKey: aws.ToString(out.Credentials.SecretAccessKey),
		SessionToken: aws.ToString(out.Credentials.SessionToken), CanExpire: true, Expires: aws.ToTime(out.Credentials.Expiration), Source: "OIDC"}
	i.k.secrets.add(i.session.SecretAccessKey, i.session.SessionToken)
	return i.session, nil
}

// password gets a password for ECR. It is good for 12 hours, whatever is left of the session that it was got with.
func (i *awsIdentity) password(ctx context.Context) (fetched, error) {
	cfg, err := i.config(ctx)
	if err != nil {
		return fetched{}, err
	}
	keys, err := cfg.Credentials.Retrieve(ctx)
	if err != nil {
		return fetched{}, i.k.awsFault(ctx, "get AWS credentials for", i.host, "", err)
	}
	i.k.secrets.add(keys.SecretAccessKey, keys.SessionToken)
	var token, endpoint *string
	var expires *time.Time
	if isECRPublic(i.host) {
		out, err := ecrpublic.NewFromConfig(cfg).GetAuthorizationToken(ctx, &ecrpublic.GetAuthorizationTokenInput{})
		if err != nil {
			return fetched{}, i.k.awsFault(ctx, "get a password for", i.host, i.from, err)
		}
		if d := out.AuthorizationData; d != nil {
			token, expires = d.AuthorizationToken, d.ExpiresAt
		}
	} else {
		out, err := ecr.NewFromConfig(cfg).GetAuthorizationToken(ctx, &ecr.GetAuthorizationTokenInput{})
		if err != nil {
			return fetched{}, i.k.awsFault(ctx, "get a password for", i.host, i.from, err)
		}
		if len(out.AuthorizationData) > 0 {
			d := out.AuthorizationData[0]
			token, endpoint, expires = d.AuthorizationToken, d.ProxyEndpoint, d.ExpiresAt
		}
	}
	i.k.secrets.add(aws.ToString(token))
	plain, err := base64.StdEncoding.DecodeString(aws.ToString(token))
	user, password, ok := strings.Cut(string(plain), ":")
	if err != nil || !ok {
		return fetched{}, &fault.Error{Code: fault.CloudSignIn, Op: "get a password for", Object: i.host,
			Cause: "AWS answered without a password", Remedy: "Check AWS_ENDPOINT_URL, if it is set, and what stands between this machine and AWS."}
	}
	i.tellAccount(aws.ToString(endpoint))
	return fetched{authn.AuthConfig{Username: user, Password: password}, aws.ToTime(expires)}, nil
}

// tellAccount notes that the credentials are of another account than the registry, which is a common cause of a denial.
func (i *awsIdentity) tellAccount(endpoint string) {
	mine, _ := ecrPlace(strings.TrimPrefix(endpoint, "https://"))
	theirs, _ := ecrPlace(i.host)
	if isECR(strings.TrimPrefix(endpoint, "https://")) && mine != theirs {
		i.k.client.notices.once("account "+i.host, fmt.Sprintf(
			"%s: the credentials are of the AWS account %s, so the repository needs a policy that lets it in", i.host, mine))
	}
}

// credential is the registry's with this identity behind it. All repositories of a run share the first one's, with its
// session of a role.
func (i *awsIdentity) credential() credential {
	return i.k.shared("ecr "+i.host+" "+i.from, func() credential {
		r := i.k.renewable("ecr "+i.host+" "+i.from, i.password)
		return credential{auth: r, from: i.from, user: "AWS", renewable: r, steward: &ecrSteward{i}}
	})
}

// accessKey is the form of AWS's access key ids; those that begin with ASIA come with a session token.
var accessKey = regexp.MustCompile(`^A[KS]IA[A-Z0-9]{12,}$`)

// ecrGiven takes an access key's id as the user name, as docker/login-action does. Anything else is sent as it is.
func ecrGiven(k *keychain, at place, user, password string) (credential, bool, error) {
	if !accessKey.MatchString(user) {
		return credential{}, false, nil
	}
	session := k.explicit.Getenv("AWS_SESSION_TOKEN")
	if !strings.HasPrefix(user, "ASIA") {
		session = ""
	}
	i := &awsIdentity{k: k, host: at.host, from: "the access key of registry-username and registry-password",
		keys: credentials.NewStaticCredentialsProvider(user, password, session)}
	return i.credential(), true, nil
}

func ecrFederated(k *keychain, at place) (credential, bool) {
	role := k.explicit.AWSRoleARN
	if role == "" {
		return credential{}, false
	}
	// What else there is in the environment is not asked for.
	i := &awsIdentity{k: k, host: at.host, from: "the role " + role + " by OIDC", role: role, keys: aws.AnonymousCredentials{}}
	return i.credential(), true
}

// ecrAmbient is whatever the AWS SDK finds: variables, a profile, the role of a container or an instance.
func ecrAmbient(ctx context.Context, k *keychain, at place) (credential, []string, error) {
	i := &awsIdentity{k: k, host: at.host}
	cfg, err := i.config(ctx)
	if err != nil {
		return credential{}, nil, err
	}
	// A profile may ask a program or a service, a metadata server may not be there at all.
	limit := metadataTime
	if k.awsConfigured() {
		limit = time.Minute
	}
	limited, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	keys, err := cfg.Credentials.Retrieve(limited)
	if err != nil {
		if ctx.Err() == nil && (limit == metadataTime && limited.Err() != nil || strings.Contains(err.Error(), "no EC2 IMDS role found")) {
			return credential{}, []string{"AWS credentials (no variables, no profile, no role of a container or an instance)"}, nil
		}
		return credential{}, nil, k.awsFault(ctx, "get AWS credentials for", at.host, "", err)
	}
	i.from = "AWS credentials of " + awsSource(keys.Source)
	return i.credential(), nil, nil
}

// awsConfigured tells whether the environment says where AWS credentials are, so that a failure is an error.
func (k *keychain) awsConfigured() bool {
	env := k.explicit.Getenv
	for _, v := range []string{"AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE", "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
		"AWS_CONTAINER_CREDENTIALS_FULL_URI"} {
		if env(v) != "" {
			return true
		}
	}
	home := cmp.Or(env("HOME"), env("USERPROFILE"))
	for _, file := range []string{cmp.Or(env("AWS_CONFIG_FILE"), filepath.Join(home, ".aws", "config")),
		cmp.Or(env("AWS_SHARED_CREDENTIALS_FILE"), filepath.Join(home, ".aws", "credentials"))} {
		if _, err := k.readFile(file); err == nil {
			return true
		}
	}
	return false
}

// awsSource says in words what the SDK calls the source of credentials.
func awsSource(source string) string {
	for prefix, words := range map[string]string{
		"EnvConfigCredentials": "the environment variables", "SharedConfigCredentials": "a profile", "EC2RoleProvider": "the instance's role",
		"CredentialsEndpointProvider": "the container's role", "WebIdentityCredentials": "the role of AWS_ROLE_ARN", "SSOProvider": "a single sign-on session",
		"AssumeRoleProvider": "a profile's role", "ProcessProvider": "a profile's credential_process",
	} {
		if strings.HasPrefix(source, prefix) {
			return words
		}
	}
	return fault.Bounded(source)
}
