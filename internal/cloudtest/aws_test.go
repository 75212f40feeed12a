package cloudtest

import (
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"
)

// account is the AWS account of all worlds.
const account = "123456789012"

// awsOptions say which AWS it is.
type awsOptions struct {
	region string
	// api and registry are hosts; empty means those of the region. public is ECR Public.
	api, registry, sts string
	public             bool
}

// aws is the part of AWS that has to do with registries.
type aws struct {
	w *world
	awsOptions
	// front is the registry.
	front *front

	mu   sync.Mutex
	keys map[string]*awsKey
	// tokens are the registry's passwords that were issued, with their ends.
	tokens map[string]time.Time
	// tokenLife is how long they are good.
	tokenLife time.Duration
	// sessionLife is how long a role's keys are.
	sessionLife time.Duration
	// forbidden are the actions that nobody may do, such as "ecr:GetAuthorizationToken".
	forbidden []string
	// throttles is how many calls of the API are refused for their number.
	throttles int
	// trust is what STS believes of OIDC tokens for role; nil means that the account knows no issuer.
	trust *oidcTrust
	role  string
	// noDate leaves the Date header out of refusals, by which the SDK would set its clock right.
	noDate bool
	calls  []string
	// mutability is what DescribeRepositories says of tags.
	mutability string
}

// awsKey is an access key, with the session token that belongs to it if it is a temporary one.
type awsKey struct {
	secret, session, arn string
	expires              time.Time
}

// newAWS makes the AWS of a region and one registry of it.
func (w *world) newAWS(o awsOptions) *aws {
	suffix := "amazonaws.com"
	if strings.HasPrefix(o.region, "cn-") {
		suffix = "amazonaws.com.cn"
	}
	if o.api == "" {
		o.api = "api.ecr." + o.region + "." + suffix
	}
	if o.registry == "" {
		o.registry = account + ".dkr.ecr." + o.region + "." + suffix
	}
	if o.sts == "" {
		o.sts = "sts." + o.region + "." + suffix
	}
	a := &aws{w: w, awsOptions: o, keys: map[string]*awsKey{}, tokens: map[string]time.Time{}, tokenLife: 12 * time.Hour, sessionLife: time.Hour,
		mutability: "MUTABLE"}
	a.front = w.newFront(o.registry, a)
	a.front.repositories = map[string]bool{}
	a.front.missing = a.missing
	a.front.denied = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusForbidden, "DENIED", fmt.Sprintf("User: arn:aws:iam::%s:user/ci is not authorized to perform: "+
			"ecr:InitiateLayerUpload on resource: arn:aws:ecr:%s:%s:repository/%s because no identity-based policy allows the "+
			"ecr:InitiateLayerUpload action", account, o.region, account, c.repository), nil)
	}
	a.front.immutable = func(rw http.ResponseWriter, c call) {
		refuse(rw, http.StatusBadRequest, "TAG_INVALID", fmt.Sprintf("The image tag '%s' already exists in the '%s' repository and "+
			"cannot be overwritten because the tag is immutable.", c.reference, c.repository), nil)
	}
	w.site(o.api, http.HandlerFunc(a.serveAPI))
	w.site(o.sts, http.HandlerFunc(a.serveSTS))
	return a
}

// newECRPublic makes AWS's public registry.
func (w *world) newECRPublic() *aws {
	return w.newAWS(awsOptions{region: "us-east-1", api: "api.ecr-public.us-east-1.amazonaws.com", registry: "public.ecr.aws", public: true})
}

// arn is the name of whoever it is in the account.
func (a *aws) arn(who string) string { return "arn:aws:iam::" + account + ":" + who }

// key makes an access key; a temporary one has a session token and an end.
func (a *aws) key(temporary bool) (id, secretKey, session string) {
	k := &awsKey{arn: a.arn("user/ci"), expires: a.w.now().Add(24 * time.Hour)}
	id = "AKIA" + strings.ToUpper(a.w.random())[:16]
	if temporary {
		id = "ASIA" + id[4:]
		k.arn = "arn:aws:sts::" + account + ":assumed-role/publisher/airbyte-publish"
		k.session = a.w.secret("AWS session token", "FwoGZXIvYXdz"+a.w.random()+a.w.random()+"==", a.api, a.sts)
	}
	// The secret key signs and never goes anywhere.
	k.secret = a.w.secret("AWS secret access key", "wJalrXUtnFEMI/K7MDENG+"+a.w.random()[:18])
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keys[id] = k
	return id, k.secret, k.session
}

// expireKeys makes every temporary key invalid.
func (a *aws) expireKeys() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		if k.session != "" {
			k.expires = time.Now().Add(-time.Hour)
		}
	}
}

// set changes what it does.
func (a *aws) set(change func(*aws)) {
	a.mu.Lock()
	defer a.mu.Unlock()
	change(a)
}

// called is how often an operation was asked for.
func (a *aws) called(operation string) int {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := 0
	for _, c := range a.calls {
		if c == operation {
			n++
		}
	}
	return n
}

// awsError is a refusal in AWS's words.
type awsError struct {
	code, message string
	status        int
}

func (e *awsError) Error() string { return e.code + ": " + e.message }

func awsRefusal(code, format string, args ...any) *awsError {
	return &awsError{code: code, message: fmt.Sprintf(format, args...), status: http.StatusBadRequest}
}

// caller is who has signed the request, for the API of service.
func (a *aws) caller(r *http.Request, body []byte, service string) (*awsKey, *awsError) {
	s, err := parseSigned(r)
	if errors.Is(err, errUnsigned) {
		return nil, awsRefusal("MissingAuthenticationTokenException", "Missing Authentication Token")
	}
	if err != nil {
		return nil, awsRefusal("IncompleteSignatureException", "%v", err)
	}
	if s.service != service || s.region != a.region {
		return nil, awsRefusal("InvalidSignatureException", "Credential should be scoped to a valid region and to correct service: %s.", service)
	}
	a.mu.Lock()
	k := a.keys[s.keyID]
	a.mu.Unlock()
	if k == nil || k.session != r.Header.Get("X-Amz-Security-Token") {
		return nil, awsRefusal("UnrecognizedClientException", "The security token included in the request is invalid.")
	}
	now := a.w.now()
	if now.Sub(s.at) > 5*time.Minute {
		return nil, awsRefusal("InvalidSignatureException", "Signature expired: %s is now earlier than %s (%s - 5 min.)",
			amzTime(s.at), amzTime(now.Add(-5*time.Minute)), amzTime(now))
	}
	if s.at.Sub(now) > 5*time.Minute {
		return nil, awsRefusal("InvalidSignatureException", "Signature not yet current: %s is still later than %s (%s + 5 min.)",
			amzTime(s.at), amzTime(now.Add(5*time.Minute)), amzTime(now))
	}
	if err := s.verify(r, body, k.secret); err != nil {
		return nil, awsRefusal("InvalidSignatureException", "The request signature we calculated does not match the signature you "+
			"provided. Check your AWS Secret Access Key and signing method. Consult the service documentation for details. (%v)", err)
	}
	if !now.Before(k.expires) {
		return nil, awsRefusal("ExpiredTokenException", "The security token included in the request is expired")
	}
	return k, nil
}

func amzTime(t time.Time) string { return t.UTC().Format("20060102T150405Z") }

// serveAPI is ECR's API: JSON 1.1.
func (a *aws) serveAPI(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	answer, err := a.operate(r, body)
	rw.Header().Set("Content-Type", "application/x-amz-json-1.1")
	rw.Header().Set("X-Amzn-Requestid", "1")
	a.date(rw, err != nil)
	if err != nil {
		rw.WriteHeader(err.status)
		_ = json.NewEncoder(rw).Encode(map[string]string{"__type": err.code, "message": err.message})
		return
	}
	_ = json.NewEncoder(rw).Encode(answer)
}

// date sets the Date header by the cloud's clock, or none.
func (a *aws) date(rw http.ResponseWriter, refusal bool) {
	a.mu.Lock()
	none := a.noDate && refusal
	a.mu.Unlock()
	if none {
		rw.Header()["Date"] = nil
		return
	}
	rw.Header().Set("Date", a.w.now().UTC().Format(http.TimeFormat))
}

func (a *aws) operate(r *http.Request, body []byte) (any, *awsError) {
	service, prefix := "ecr", "AmazonEC2ContainerRegistry_V20150921."
	if a.public {
		service, prefix = "ecr-public", "SpencerFrontendService."
	}
	operation, ok := strings.CutPrefix(r.Header.Get("X-Amz-Target"), prefix)
	switch {
	case r.Method != http.MethodPost || r.URL.Path != "/":
		return nil, awsRefusal("UnknownOperationException", "%s %s", r.Method, r.URL.Path)
	case r.Header.Get("Content-Type") != "application/x-amz-json-1.1":
		return nil, awsRefusal("UnknownOperationException", "content type %q", r.Header.Get("Content-Type"))
	case !ok:
		return nil, awsRefusal("UnknownOperationException", "target %q", r.Header.Get("X-Amz-Target"))
	}
	a.mu.Lock()
	a.calls = append(a.calls, operation)
	throttle := a.throttles > 0
	if throttle {
		a.throttles--
	}
	a.mu.Unlock()
	if throttle {
		return nil, awsRefusal("ThrottlingException", "Rate exceeded")
	}
	k, err := a.caller(r, body, service)
	if err != nil {
		return nil, err
	}
	action := service + ":" + operation
	a.mu.Lock()
	forbidden := slices.Contains(a.forbidden, action)
	if a.public && operation == "GetAuthorizationToken" && slices.Contains(a.forbidden, "sts:GetServiceBearerToken") {
		forbidden, action = true, "sts:GetServiceBearerToken"
	}
	a.mu.Unlock()
	if forbidden {
		return nil, awsRefusal("AccessDeniedException", "User: %s is not authorized to perform: %s on resource: * because no "+
			"identity-based policy allows the %s action", k.arn, action, action)
	}
	var in map[string]any
	if jsonErr := json.Unmarshal(body, &in); jsonErr != nil {
		return nil, awsRefusal("SerializationException", "%v", jsonErr)
	}
	switch operation {
	case "GetAuthorizationToken":
		return a.authorization(in)
	case "DescribeRepositories":
		return a.describe(in)
	case "CreateRepository":
		return a.create(in)
	}
	return nil, awsRefusal("UnknownOperationException", "%s", operation)
}

// authorization issues the registry's password.
func (a *aws) authorization(in map[string]any) (any, *awsError) {
	if ids, given := in["registryIds"]; given && fmt.Sprint(ids) != "["+account+"]" {
		return nil, awsRefusal("InvalidParameterException", "Invalid parameter at 'registryIds'")
	}
	password := a.w.secret("ECR password", "eyJwYXlsb2FkIjoi"+a.w.random()+a.w.random(), a.registry)
	a.mu.Lock()
	expires := a.w.now().Add(a.tokenLife)
	a.tokens[password] = expires
	a.mu.Unlock()
	data := map[string]any{"authorizationToken": base64.StdEncoding.EncodeToString([]byte("AWS:" + password)),
		"expiresAt": float64(expires.UnixMilli()) / 1000}
	if a.public {
		return map[string]any{"authorizationData": data}, nil
	}
	data["proxyEndpoint"] = "https://" + account + ".dkr.ecr." + a.region + ".amazonaws.com"
	return map[string]any{"authorizationData": []any{data}}, nil
}

func (a *aws) repositoryOf(name string) map[string]any {
	return map[string]any{"repositoryName": name, "registryId": account, "repositoryUri": a.registry + "/" + name,
		"repositoryArn": "arn:aws:ecr:" + a.region + ":" + account + ":repository/" + name, "imageTagMutability": a.mutability}
}

// alias is the account's at ECR Public, where it stands in front of each repository's name.
const alias = "acme"

// pathOf is a repository's path at the registry.
func (a *aws) pathOf(name string) string {
	if a.public {
		return alias + "/" + name
	}
	return name
}

func (a *aws) describe(in map[string]any) (any, *awsError) {
	names, _ := in["repositoryNames"].([]any)
	var found []any
	for _, n := range names {
		name, _ := n.(string)
		a.front.mu.Lock()
		there := a.front.repositories[a.pathOf(name)]
		a.front.mu.Unlock()
		if !there {
			return nil, awsRefusal("RepositoryNotFoundException", "The repository with name '%s' does not exist in the registry with id '%s'", name, account)
		}
		found = append(found, a.repositoryOf(name))
	}
	return map[string]any{"repositories": found}, nil
}

func (a *aws) create(in map[string]any) (any, *awsError) {
	name, _ := in["repositoryName"].(string)
	if name == "" || strings.Contains(name, ".amazonaws.com") {
		return nil, awsRefusal("InvalidParameterException", "Invalid parameter at 'repositoryName'")
	}
	path := a.pathOf(name)
	a.front.mu.Lock()
	defer a.front.mu.Unlock()
	if a.front.repositories[path] {
		return nil, awsRefusal("RepositoryAlreadyExistsException", "The repository with name '%s' already exists in the registry with id '%s'", name, account)
	}
	a.front.repositories[path] = true
	return map[string]any{"repository": a.repositoryOf(name)}, nil
}

// admit is the registry's own sign-in: basic, with a password that the API has issued.
func (a *aws) admit(rw http.ResponseWriter, r *http.Request, c call) bool {
	user, password, ok := r.BasicAuth()
	a.mu.Lock()
	expires, known := a.tokens[password]
	a.mu.Unlock()
	switch {
	case !ok:
		rw.Header().Set("WWW-Authenticate", fmt.Sprintf("Basic realm=%q,service=\"ecr.amazonaws.com\"", "https://"+a.registry+"/"))
		http.Error(rw, "Not Authorized", http.StatusUnauthorized)
	case user != "AWS" || !known:
		// What is no password of its own, ECR does not even take for one.
		rw.WriteHeader(http.StatusBadRequest)
	case !a.w.now().Before(expires):
		refuse(rw, http.StatusForbidden, "DENIED", "Your authorization token has expired. Reauthenticate and try again.", nil)
	default:
		return true
	}
	return false
}

func (a *aws) expire() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for password := range a.tokens {
		a.tokens[password] = time.Now().Add(-time.Hour)
	}
}

// missing is how the registry tells of a repository that does not exist: at an upload, not at all.
func (a *aws) missing(rw http.ResponseWriter, c call) {
	if c.push() {
		panic(http.ErrAbortHandler)
	}
	refuse(rw, http.StatusNotFound, "NAME_UNKNOWN", fmt.Sprintf("The repository with name '%s' does not exist in the registry with id '%s'",
		c.repository, account), nil)
}

// The API's hosts for registries' hosts that are not of the common sort.
const (
	fipsAPI      = "api.ecr-fips.us-east-1.amazonaws.com"
	dualStackAPI = "ecr.eu-central-1.api.aws"
)
