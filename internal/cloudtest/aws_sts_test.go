package cloudtest

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"regexp"
	"strings"
	"time"
)

// serveSTS is AWS's token service: forms in, XML out.
func (a *aws) serveSTS(rw http.ResponseWriter, r *http.Request) {
	body, _ := io.ReadAll(r.Body)
	form, err := url.ParseQuery(string(body))
	var refusal *awsError
	var answer string
	switch {
	case r.Method != http.MethodPost || err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/x-www-form-urlencoded"):
		refusal = awsRefusal("MalformedInput", "a form is wanted")
	case form.Get("Version") != "2011-06-15":
		refusal = awsRefusal("NoSuchVersion", "The requested version ( %s ) is not valid", form.Get("Version"))
	default:
		a.set(func(a *aws) { a.calls = append(a.calls, form.Get("Action")) })
		switch form.Get("Action") {
		case "AssumeRoleWithWebIdentity":
			answer, refusal = a.assume(r, form)
		case "GetCallerIdentity":
			answer, refusal = a.identity(r, body)
		default:
			refusal = awsRefusal("InvalidAction", "Could not find operation %s for version 2011-06-15", form.Get("Action"))
		}
	}
	rw.Header().Set("Content-Type", "text/xml")
	a.date(rw, refusal != nil)
	if refusal != nil {
		rw.WriteHeader(refusal.status)
		_, _ = fmt.Fprintf(rw, "<ErrorResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">\n  <Error>\n    <Type>Sender</Type>\n"+
			"    <Code>%s</Code>\n    <Message>%s</Message>\n  </Error>\n  <RequestId>1</RequestId>\n</ErrorResponse>\n", refusal.code, refusal.message)
		return
	}
	_, _ = fmt.Fprintf(rw, "<%sResponse xmlns=\"https://sts.amazonaws.com/doc/2011-06-15/\">%s<ResponseMetadata><RequestId>1</RequestId>"+
		"</ResponseMetadata></%sResponse>", form.Get("Action"), answer, form.Get("Action"))
}

var sessionName = regexp.MustCompile(`^[\w+=,.@-]{2,64}$`)

// assume gives a role's keys for an OIDC token.
func (a *aws) assume(r *http.Request, form url.Values) (string, *awsError) {
	if r.Header.Get("Authorization") != "" {
		return "", awsRefusal("InvalidIdentityToken", "this operation is not signed")
	}
	if !sessionName.MatchString(form.Get("RoleSessionName")) {
		return "", awsRefusal("ValidationError", "1 validation error detected: Value '%s' at 'roleSessionName' failed to satisfy constraint",
			form.Get("RoleSessionName"))
	}
	a.mu.Lock()
	trust, role := a.trust, a.role
	a.mu.Unlock()
	if trust == nil {
		return "", awsRefusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account for https://token.actions.githubusercontent.com")
	}
	_, err := trust.check(form.Get("WebIdentityToken"), a.w.now())
	switch {
	case errors.Is(err, errIssuer):
		return "", awsRefusal("InvalidIdentityToken", "No OpenIDConnect provider found in your account for the token's issuer")
	case errors.Is(err, errAudience):
		return "", awsRefusal("InvalidIdentityToken", "Incorrect token audience")
	case errors.Is(err, errExpired):
		return "", awsRefusal("ExpiredTokenException", "Token expired: current date/time %s must be before the expiration date/time", a.w.now())
	case errors.Is(err, errSubject) || err == nil && form.Get("RoleArn") != role:
		return "", &awsError{"AccessDenied", "Not authorized to perform sts:AssumeRoleWithWebIdentity", http.StatusForbidden}
	case err != nil:
		return "", awsRefusal("InvalidIdentityToken", "Couldn't retrieve verification key from your identity provider (%v)", err)
	}
	id, secretKey, session := a.key(true)
	expires := a.w.now().Add(a.sessionLife)
	a.set(func(a *aws) { a.keys[id].expires = expires })
	return fmt.Sprintf("<AssumeRoleWithWebIdentityResult><SubjectFromWebIdentityToken>%s</SubjectFromWebIdentityToken>"+
		"<AssumedRoleUser><Arn>arn:aws:sts::%s:assumed-role/publisher/x</Arn><AssumedRoleId>AROA:x</AssumedRoleId></AssumedRoleUser>"+
		"<Credentials><AccessKeyId>%s</AccessKeyId><SecretAccessKey>%s</SecretAccessKey><SessionToken>%s</SessionToken>"+
		"<Expiration>%s</Expiration></Credentials></AssumeRoleWithWebIdentityResult>",
		trust.subject, account, id, secretKey, session, expires.UTC().Format(time.RFC3339)), nil
}

// identity tells who has signed.
func (a *aws) identity(r *http.Request, body []byte) (string, *awsError) {
	k, refusal := a.caller(r, body, "sts")
	if refusal != nil {
		return "", refusal
	}
	return fmt.Sprintf("<GetCallerIdentityResult><Arn>%s</Arn><UserId>AIDA</UserId><Account>%s</Account></GetCallerIdentityResult>", k.arn, account), nil
}

// metadataHost is where the clouds' machines ask about themselves.
const metadataHost = "169.254.169.254"

// instance gives the machine a role, as EC2 does: a session first, then the role's keys.
func (a *aws) instance() {
	session := a.w.secret("IMDS session", "imds-session-"+a.w.random(), metadataHost)
	const path = "/latest/meta-data/iam/security-credentials/"
	a.w.site(metadataHost, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		switch {
		case r.Method == http.MethodPut && r.URL.Path == "/latest/api/token":
			if r.Header.Get("X-Aws-Ec2-Metadata-Token-Ttl-Seconds") == "" {
				http.Error(rw, "", http.StatusBadRequest)
				return
			}
			rw.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "21600")
			_, _ = io.WriteString(rw, session)
		case r.Method != http.MethodGet:
			http.Error(rw, "", http.StatusMethodNotAllowed)
		case r.Header.Get("X-Aws-Ec2-Metadata-Token") != session:
			http.Error(rw, "", http.StatusUnauthorized)
		case r.URL.Path == path:
			_, _ = io.WriteString(rw, "publisher")
		case r.URL.Path == path+"publisher":
			answerJSON(rw, http.StatusOK, a.roleKeys())
		default:
			http.NotFound(rw, r)
		}
	})).plain = true
}

// container gives the container a role, as ECS and EKS do, and returns the address and the token to ask with.
func (a *aws) container() (endpoint, token string) {
	const host = "container-credentials"
	token = a.w.secret("container authorization token", "container-"+a.w.random(), host)
	addr := a.w.loopback(host, http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet || r.URL.Path != "/v1/credentials" {
			http.NotFound(rw, r)
			return
		}
		if r.Header.Get("Authorization") != token {
			answerJSON(rw, http.StatusUnauthorized, map[string]string{"code": "Unauthorized", "message": "the token is wrong"})
			return
		}
		answerJSON(rw, http.StatusOK, a.roleKeys())
	}))
	return "http://" + addr + "/v1/credentials", token
}

// roleKeys are new keys of a role, as the metadata services tell them.
func (a *aws) roleKeys() map[string]string {
	id, secretKey, session := a.key(true)
	return map[string]string{"Code": "Success", "Type": "AWS-HMAC", "LastUpdated": a.w.now().UTC().Format(time.RFC3339), "AccessKeyId": id,
		"SecretAccessKey": secretKey, "Token": session, "Expiration": a.w.now().Add(6 * time.Hour).UTC().Format(time.RFC3339)}
}
