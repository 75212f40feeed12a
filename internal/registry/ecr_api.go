package registry

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/ecr"
	"github.com/aws/aws-sdk-go-v2/service/ecr/types"
	"github.com/aws/aws-sdk-go-v2/service/ecrpublic"
	publictypes "github.com/aws/aws-sdk-go-v2/service/ecrpublic/types"
	"github.com/aws/smithy-go"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// awsFault explains an error of the AWS SDK. from is whose credentials were used, empty while they were looked for.
func (k *keychain) awsFault(ctx context.Context, op, object, from string, err error) error {
	said, ok := errors.AsType[smithy.APIError](err)
	// The SDK wraps what our own exchange of the OIDC token has explained already.
	if _, known := errors.AsType[*fault.Error](err); known || !ok {
		return k.cloudFault(ctx, op, object, err, "Check the AWS credentials: aws sts get-caller-identity must work with them.")
	}
	f := &fault.Error{Op: op, Object: object, Cause: k.secrets.bounded("AWS answered " + said.ErrorCode() + ": " + said.ErrorMessage()), Err: err}
	if from != "" {
		f.Cause += "; signed in with " + from
	}
	switch code := said.ErrorCode(); {
	case skewed(said):
		return k.clockFault(op, object, f.Cause, err)
	case strings.Contains(code, "Throttling"), code == "TooManyRequestsException", code == "RequestLimitExceeded":
		f.Code, f.Remedy = fault.RateLimited, "Wait and run again."
	case from == "":
		f.Code, f.Remedy = fault.CloudSignIn, "Check AWS_ROLE_ARN or the profile's role, and that the role's trust policy lets in who assumes it."
	case strings.Contains(code, "AccessDenied"):
		f.Code, f.Remedy = fault.CloudDenied, `Allow the action on Resource "*": {"Effect":"Allow","Action":"ecr:GetAuthorizationToken","Resource":"*"}.`
		if isECRPublic(object) {
			f.Remedy = `Allow both actions on Resource "*": ecr-public:GetAuthorizationToken and sts:GetServiceBearerToken.`
		}
	default:
		f.Code, f.Remedy = fault.CloudSignIn, "Check the access key and its secret, and for temporary ones the session token: they may be expired, deleted or of another partition."
	}
	return f
}

// skewed tells whether AWS found the time in a signature wrong.
func skewed(said smithy.APIError) bool {
	text := said.ErrorMessage()
	return said.ErrorCode() == "RequestTimeTooSkewed" || said.ErrorCode() == "RequestExpired" || strings.Contains(text, "Signature expired") ||
		strings.Contains(text, "Signature not yet current")
}

// assumeFault explains why AWS STS does not give a role for the OIDC token.
func (k *keychain) assumeFault(ctx context.Context, role, token string, err error) error {
	object := "AWS STS for the role " + role
	said, ok := errors.AsType[smithy.APIError](err)
	if !ok {
		return k.cloudFault(ctx, "assume the role", role, err, "Check that this machine may reach AWS STS.")
	}
	text := "it answered " + said.ErrorCode() + ": " + said.ErrorMessage()
	c, _ := readClaims(token)
	issuer := strings.TrimPrefix(c.Issuer, "https://")
	remedy := fmt.Sprintf("Correct the role's trust policy. %s The condition is \"StringLike\": {\"%s:sub\": …}.", subjectForms(c.Subject), fault.Bounded(issuer))
	switch {
	case strings.Contains(said.ErrorCode(), "Throttling"):
		return k.awsFault(ctx, "assume the role", role, "", err)
	case strings.Contains(said.ErrorMessage(), "No OpenIDConnect provider found"):
		remedy = fmt.Sprintf("Create the identity provider in the role's account: aws iam create-open-id-connect-provider --url %s --client-id-list %s.",
			fault.Bounded(c.Issuer), awsAudience)
	case strings.Contains(said.ErrorMessage(), "audience"):
		remedy = "Add the audience to the identity provider and to the trust policy's condition, or ask for a token with the audience " + awsAudience + "."
	case strings.Contains(said.ErrorCode(), "ExpiredToken"):
		remedy = "Get the token right before this step, and check this machine's clock."
	case said.ErrorCode() == "ValidationError":
		remedy = "Check aws-role-arn: it reads arn:aws:iam::ACCOUNT:role/NAME."
	}
	return k.refused(exchange{with: object, audience: awsAudience, token: token}, text, remedy, err)
}

// steward makes repositories by the provider's own API, with the identity that a credential came from.
type steward interface {
	// create makes the repository. That it exists already is no error.
	create(ctx context.Context, repo name.Repository) error
}

type ecrSteward struct{ *awsIdentity }

func (s *ecrSteward) create(ctx context.Context, repo name.Repository) error {
	cfg, err := s.config(ctx)
	if err != nil {
		return err
	}
	if isECRPublic(s.host) {
		// The first part is the registry's alias, the rest the repository's name.
		at, client := placeOf(repo), ecrpublic.NewFromConfig(cfg)
		if own := ownAliases(ctx, client); len(own) > 0 && !slices.Contains(own, at.parts[0]) {
			return &fault.Error{Code: fault.RepositoryNotCreated, Op: "create the repository", Object: repo.Name(),
				Cause:  fmt.Sprintf("the alias %q is another registry's: that of these credentials has %s", at.parts[0], strings.Join(own, ", ")),
				Remedy: "Correct the alias in the image, or sign in to its account."}
		}
		_, err = client.CreateRepository(ctx, &ecrpublic.CreateRepositoryInput{RepositoryName: aws.String(strings.Join(at.parts[1:], "/"))})
		if _, there := errors.AsType[*publictypes.RepositoryAlreadyExistsException](err); there {
			return nil
		}
	} else {
		account, _ := ecrPlace(s.host)
		_, err = ecr.NewFromConfig(cfg).CreateRepository(ctx, &ecr.CreateRepositoryInput{
			RegistryId: aws.String(account), RepositoryName: aws.String(repo.RepositoryStr()), ImageTagMutability: types.ImageTagMutabilityImmutable,
			ImageScanningConfiguration: &types.ImageScanningConfiguration{ScanOnPush: true}})
		if _, there := errors.AsType[*types.RepositoryAlreadyExistsException](err); there {
			return nil
		}
	}
	if err == nil {
		return nil
	}
	f := &fault.Error{Code: fault.RepositoryNotCreated, Op: "create the repository", Object: repo.Name(), Err: err}
	said, ok := errors.AsType[smithy.APIError](err)
	if _, known := errors.AsType[*fault.Error](err); known || !ok {
		return s.k.cloudFault(ctx, f.Op, f.Object, err, "Run again.")
	}
	f.Cause = s.k.secrets.bounded("AWS answered " + said.ErrorCode() + ": " + said.ErrorMessage())
	f.Remedy = placeOf(repo).words("Create it once: {create}.")
	if strings.Contains(said.ErrorCode(), "AccessDenied") {
		f.Remedy = placeOf(repo).words("Allow ecr:CreateRepository on arn:aws:ecr:{region}:{account}:repository/{repository}, or create it once: {create}.")
		if isECRPublic(s.host) {
			f.Remedy = placeOf(repo).words("Allow ecr-public:CreateRepository, or create it once: {create}.")
		}
	}
	return f
}

// ownAliases are those of the registry that the credentials are of; nothing where they may not ask.
func ownAliases(ctx context.Context, client *ecrpublic.Client) []string {
	out, err := client.DescribeRegistries(ctx, &ecrpublic.DescribeRegistriesInput{})
	if err != nil {
		return nil
	}
	var all []string
	for _, r := range out.Registries {
		for _, a := range r.Aliases {
			all = append(all, aws.ToString(a.Name))
		}
	}
	return all
}

// ecrCreate is the command that makes a repository.
func ecrCreate(at place) string {
	_, region := ecrPlace(at.host)
	if isECRPublic(at.host) {
		return fmt.Sprintf("`aws ecr-public create-repository --region %s --repository-name %s`", region, strings.Join(at.parts[min(1, len(at.parts)):], "/"))
	}
	return fmt.Sprintf("`aws ecr create-repository --region %s --repository-name %s`", region, at.path())
}

// ecrFrozen asks the repository's settings.
func ecrFrozen(ctx context.Context, _ *Client, s *session, tag string) string {
	steward, ok := s.cred.steward.(*ecrSteward)
	if !ok || isECRPublic(steward.host) {
		return ""
	}
	cfg, err := steward.config(ctx)
	if err != nil {
		return ""
	}
	account, _ := ecrPlace(steward.host)
	out, err := ecr.NewFromConfig(cfg).DescribeRepositories(ctx, &ecr.DescribeRepositoriesInput{
		RegistryId: aws.String(account), RepositoryNames: []string{s.repo.RepositoryStr()}})
	// Who may push need not be allowed to describe; then the push tells.
	if err != nil || len(out.Repositories) != 1 {
		return ""
	}
	r := out.Repositories[0]
	excepted := false
	for _, f := range r.ImageTagMutabilityExclusionFilters {
		if f.FilterType == types.ImageTagMutabilityExclusionFilterTypeWildcard && wildcard(aws.ToString(f.Filter), tag) {
			excepted = true
		}
	}
	switch r.ImageTagMutability {
	case types.ImageTagMutabilityImmutable:
	case types.ImageTagMutabilityImmutableWithExclusion:
		if excepted {
			return ""
		}
	case types.ImageTagMutabilityMutableWithExclusion:
		if !excepted {
			return ""
		}
	default:
		return ""
	}
	return "the repository's setting is " + string(r.ImageTagMutability)
}

// wildcard matches text against a pattern in which * stands for anything.
func wildcard(pattern, text string) bool {
	first, rest, more := strings.Cut(pattern, "*")
	text, ok := strings.CutPrefix(text, first)
	if !more || !ok {
		return ok && text == ""
	}
	for i := 0; i <= len(text); i++ {
		if wildcard(rest, text[i:]) {
			return true
		}
	}
	return false
}
