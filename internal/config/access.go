package config

import (
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// together tells whether both inputs are given; one without the other is a problem.
func (r *reader) together(a, b string) bool {
	if r.given(a) == r.given(b) {
		return r.given(a)
	}
	there, missing := a, b
	if r.given(b) {
		there, missing = b, a
	}
	remedy := fmt.Sprintf("Set %s, or leave %s unset.", missing, there)
	if r.inputs[missing].Secret {
		remedy = fmt.Sprintf("Set %s (%s, or a file named by %s), or leave %s unset.",
			missing, r.inputs[missing].Env(), missing+fileSuffix, there)
	}
	r.reject(fault.MissingInput, missing, "it is not set, but "+there+" is", remedy)
	return false
}

// oneOf reports inputs of which at most one may be given.
func (r *reader) oneOf(what string, inputs ...string) {
	found := slices.DeleteFunc(slices.Clone(inputs), func(i string) bool { return !r.given(i) })
	if len(found) < 2 {
		return
	}
	r.reject(fault.ConflictingInputs, found[0], fmt.Sprintf("it is set together with %s, and there is one way to %s",
		strings.Join(found[1:], " and "), what), "Keep one of them.")
}

// federationInputs ask, each for one provider, for an exchange of the CI host's OIDC token.
var federationInputs = []string{"aws-role-arn", "gcp-workload-identity-provider", "azure-client-id", "dockerhub-connection-id"}

func (r *reader) registry() Registry {
	// A password alone may be one that says itself whose it is; that depends on the registry.
	if r.given("registry-username") {
		r.together("registry-username", "registry-password")
	}
	r.together("pull-username", "pull-password")
	r.together("azure-tenant-id", "azure-client-id")
	if r.given("gcp-service-account") && !r.given("gcp-workload-identity-provider") {
		r.together("gcp-workload-identity-provider", "gcp-service-account")
	}
	// A password that comes with a user name is told of by that.
	ways := []string{"registry-username", "registry-token"}
	if !r.given("registry-username") {
		ways[0] = "registry-password"
	}
	r.oneOf("sign in to the registry", ways...)
	for _, input := range federationInputs {
		// A run may publish to registries of several clouds, so these don't exclude each other.
		if way := slices.IndexFunc(ways, r.given); r.given(input) && way >= 0 {
			r.oneOf("sign in to the registry", input, ways[way])
		}
	}
	access := Registry{
		Provider:  r.enum("registry-provider"),
		Username:  r.text("registry-username"),
		Password:  r.text("registry-password"),
		Token:     r.text("registry-token"),
		OIDCToken: r.text("oidc-token"), AWSRoleARN: r.matching("aws-role-arn", roleARN, "arn:aws:iam::123456789012:role/publish"),
		GCPProvider: r.matching("gcp-workload-identity-provider", workloadIdentity,
			"projects/123456789/locations/global/workloadIdentityPools/ci/providers/github"),
		GCPServiceAccount:     r.matching("gcp-service-account", serviceAccount, "publish@my-project.iam.gserviceaccount.com"),
		AzureTenantID:         r.matching("azure-tenant-id", azureID, "11111111-2222-3333-4444-555555555555"),
		AzureClientID:         r.matching("azure-client-id", azureID, "11111111-2222-3333-4444-555555555555"),
		DockerHubConnectionID: r.matching("dockerhub-connection-id", azureID, "11111111-2222-3333-4444-555555555555"),
		TLS:                   r.tls("registry-ca-certificate", "registry-client-certificate", "registry-client-key"),
		PlainHTTP:             r.bool("registry-plain-http"),
		CreateRepository:      r.bool("create-repository"),
		PullUsername:          r.text("pull-username"),
		PullPassword:          r.text("pull-password"),
	}
	for _, user := range []string{"registry-username", "pull-username"} {
		if strings.Contains(r.text(user), ":") {
			r.reject(fault.InvalidInput, user, "it holds a colon, which ends a user name in HTTP basic authentication",
				"Give the user name alone, and the rest by "+strings.Replace(user, "username", "password", 1)+".")
		}
	}
	return access
}

// The forms of the clouds' names. They go into addresses and messages, so nothing else may stand in them.
var (
	roleARN          = regexp.MustCompile(`^arn:aws[a-z-]*:iam::\d{12}:role/[\w+=,.@/-]+$`)
	workloadIdentity = regexp.MustCompile(`^(//iam\.googleapis\.com/)?projects/[^/\s]+/locations/[a-z0-9-]+/workloadIdentityPools/[a-z0-9-]+/providers/[a-z0-9-]+$`)
	serviceAccount   = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]*@[A-Za-z0-9][A-Za-z0-9.-]*\.[a-z]+$`)
	azureID          = regexp.MustCompile(`^[0-9A-Za-z][0-9A-Za-z.-]*$`)
)

// matching is a text of a form; example shows it.
func (r *reader) matching(input string, form *regexp.Regexp, example string) string {
	v := r.text(input)
	if v != "" && !form.MatchString(v) {
		r.reject(fault.InvalidInput, input, r.values[input].String()+" does not have the right form", "It looks like "+example+".")
		return ""
	}
	return v
}

func (r *reader) airbyte(required bool) Airbyte {
	r.together("airbyte-client-id", "airbyte-client-secret")
	r.together("airbyte-username", "airbyte-password")
	r.oneOf("sign in to Airbyte", "airbyte-client-id", "airbyte-username", "airbyte-access-token")
	access := Airbyte{
		URL:          r.airbyteURL(required),
		ClientID:     r.text("airbyte-client-id"),
		ClientSecret: r.text("airbyte-client-secret"),
		Username:     r.text("airbyte-username"),
		Password:     r.text("airbyte-password"),
		AccessToken:  r.text("airbyte-access-token"),
		Headers:      r.headers("airbyte-headers"),
		TLS:          r.tls("airbyte-ca-certificate", "", ""),
		Timeout:      r.duration("airbyte-timeout", time.Second, 24*time.Hour, "Give a duration from 1s to 24h."),
	}
	if strings.Contains(access.Username, ":") {
		r.reject(fault.InvalidInput, "airbyte-username", "it holds a colon, which ends a user name in HTTP basic authentication",
			"Give the user name alone, and the rest by airbyte-password.")
	}
	if access.Headers.Get("Authorization") != "" && access.signsIn() {
		r.reject(fault.ConflictingInputs, "airbyte-headers", "it sets Authorization, and so does the way to sign in that is given as well",
			"Keep one of them; a proxy's own credentials usually go in Proxy-Authorization.")
	}
	if u := access.URL; u != nil && u.Scheme == "http" && !loopback(u.Hostname()) && (access.signsIn() || access.Headers != nil) {
		r.warnPlain("airbyte-url is http://"+u.Host+": the credentials for Airbyte", "airbyte-ca-certificate")
	}
	return access
}

func (a Airbyte) signsIn() bool { return a.ClientID != "" || a.Username != "" || a.AccessToken != "" }

// warnPlainRegistry warns of credentials that go to another machine over plain http, which was asked for.
func (r *reader) warnPlainRegistry(c *Config) {
	if in := c.Registry; !in.PlainHTTP || in.Password == "" && in.Token == "" && in.PullPassword == "" {
		return
	}
	var warned []string
	for _, one := range c.Connectors {
		host := one.Repository.Registry()
		name := host
		if h, _, err := net.SplitHostPort(host); err == nil {
			name = h
		}
		if !loopback(name) && !slices.Contains(warned, host) {
			warned = append(warned, host)
			r.warnPlain("registry-plain-http is true: the credentials for "+host, "registry-ca-certificate")
		}
	}
}

func (r *reader) warnPlain(what, authorities string) {
	r.warnings = append(r.warnings, connector.Finding{Code: fault.PlainCredentials, Severity: connector.Warning,
		Message: what + " go over the network readable by all on the way.",
		Remedy:  "Use https, and " + authorities + " if the certificate is your own."})
}

// loopback tells whether a host is this machine, so that what is sent to it stays here.
func loopback(host string) bool {
	address, err := netip.ParseAddr(host)
	return host == "localhost" || strings.HasSuffix(host, ".localhost") || err == nil && address.IsLoopback()
}

// airbyteURL is nil when it is not given or wrong. Messages show its scheme and host at most, because people put
// credentials into the rest.
func (r *reader) airbyteURL(required bool) *url.URL {
	const input = "airbyte-url"
	v := r.values[input]
	if v.text == "" {
		if required {
			r.reject(fault.MissingInput, input, "it is not set", "Set it to the address of your Airbyte, such as https://airbyte.example.com; or set register to false to publish the image only.")
		}
		return nil
	}
	bad := func(cause, remedy string) *url.URL {
		r.reject(fault.InvalidInput, input, "the value from "+v.from+" "+cause, remedy)
		return nil
	}
	if user := userInfo(v.text); user != "" {
		_, password, _ := strings.Cut(user, ":")
		r.secrets.add(password)
		if plain, err := url.PathUnescape(password); err == nil {
			r.secrets.add(plain)
		}
		return bad("holds a user name or a password", "Give them by airbyte-username and airbyte-password, and the URL without.")
	}
	if !strings.Contains(v.text, "://") {
		return bad("has no scheme", "Put https:// in front, or http:// if your Airbyte has no TLS.")
	}
	// The parser refuses control characters as well.
	u, err := url.Parse(v.text)
	switch {
	case err != nil || u.Hostname() == "":
		return bad("is not a URL", "Give an address such as https://airbyte.example.com.")
	case u.Scheme != "https" && u.Scheme != "http":
		return bad("is no web address", "Give an address that begins with https:// or http://.")
	case u.RawQuery != "" || u.ForceQuery || u.Fragment != "":
		return bad("has a query or a fragment", "Leave away what begins with ? or #.")
	}
	if port := u.Port(); strings.HasSuffix(u.Host, ":") || port != "" && !validPort(port) {
		return bad("has no legal port", "Give a port from 1 to 65535, or none.")
	}
	return u
}

func validPort(port string) bool {
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0
}

// userInfo is what stands before the @ of a URL's host, also where the URL is too broken to be parsed.
func userInfo(text string) string {
	_, rest, found := strings.Cut(text, "://")
	if !found {
		rest = text
	}
	host, _, _ := strings.Cut(rest, "/")
	if end := strings.LastIndex(host, "@"); end >= 0 {
		return host[:end]
	}
	return ""
}

// ownHeaders are set by the HTTP client from the request itself; to set them otherwise breaks the request or is lost.
var ownHeaders = []string{"Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Accept-Encoding"}

// headerName is a token of RFC 9110, section 5.6.2.
var headerName = regexp.MustCompile("^[-!#$%&'*+.^_`|~0-9A-Za-z]+$")

// headers reads one "Name: value" per line. Messages give a line's number only: a line without a colon may be a secret
// from its first character on.
func (r *reader) headers(input string) http.Header {
	if !r.given(input) || r.values[input].text == unreadable {
		return nil
	}
	headers := http.Header{}
	number := 0
	for line := range strings.Lines(r.values[input].text) {
		number++
		if line = strings.TrimSpace(line); line == "" {
			continue
		}
		name, content, found := strings.Cut(line, ":")
		name, content = http.CanonicalHeaderKey(strings.TrimSpace(name)), strings.TrimSpace(content)
		switch {
		case !found || content == "" || !headerName.MatchString(name) || strings.ContainsFunc(content, unicode.IsControl):
			r.reject(fault.InvalidInput, input, fmt.Sprintf("line %d is not a header", number), "Write one header per line, as in \"Name: value\".")
		case slices.Contains(ownHeaders, name):
			r.reject(fault.InvalidInput, input, fmt.Sprintf("line %d sets %s, which follows from the request", number, name), "Leave it away.")
		default:
			headers.Add(name, content)
			r.secrets.add(content)
			if _, credential, found := strings.Cut(content, " "); found {
				r.secrets.add(credential)
			}
		}
	}
	return headers
}
