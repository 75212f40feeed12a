package cloudtest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"slices"
	"strings"
	"time"
)

// signed is what a request that is signed as AWS wants it says of itself.
type signed struct {
	keyID, date, region, service string
	headers                      []string
	signature                    string
	at                           time.Time
}

// The ways in which a signature is wrong.
var (
	errUnsigned = errors.New("the request is not signed")
	errForged   = errors.New("the signature is not the secret key's")
)

// parseSigned reads the Authorization header of AWS's Signature Version 4.
func parseSigned(r *http.Request) (signed, error) {
	rest, ok := strings.CutPrefix(r.Header.Get("Authorization"), "AWS4-HMAC-SHA256 ")
	if !ok {
		return signed{}, errUnsigned
	}
	fields := map[string]string{}
	for part := range strings.SplitSeq(rest, ",") {
		k, v, _ := strings.Cut(strings.TrimSpace(part), "=")
		fields[k] = v
	}
	scope := strings.Split(fields["Credential"], "/")
	if len(scope) != 5 || scope[4] != "aws4_request" {
		return signed{}, fmt.Errorf("the credential %q is not one", fields["Credential"])
	}
	at, err := time.Parse("20060102T150405Z", r.Header.Get("X-Amz-Date"))
	if err != nil {
		return signed{}, fmt.Errorf("X-Amz-Date: %w", err)
	}
	s := signed{keyID: scope[0], date: scope[1], region: scope[2], service: scope[3], signature: fields["Signature"], at: at,
		headers: strings.Split(fields["SignedHeaders"], ";")}
	if s.date != at.Format("20060102") {
		return s, fmt.Errorf("the scope's date %s is not that of %s", s.date, at)
	}
	return s, nil
}

// verify tells whether the secret key has signed the request with this body.
func (s signed) verify(r *http.Request, body []byte, secretKey string) error {
	var missing []string
	for _, must := range []string{"host", "x-amz-date"} {
		if !slices.Contains(s.headers, must) {
			missing = append(missing, must)
		}
	}
	for name := range r.Header {
		if name = strings.ToLower(name); strings.HasPrefix(name, "x-amz-") && !slices.Contains(s.headers, name) {
			missing = append(missing, name)
		}
	}
	if missing != nil || !slices.IsSorted(s.headers) {
		return fmt.Errorf("the signed headers are %q; missing are %q", s.headers, missing)
	}
	var headers strings.Builder
	for _, name := range s.headers {
		value := strings.Join(r.Header.Values(name), ",")
		switch name {
		case "host":
			value = r.Host
		case "content-length":
			value = fmt.Sprint(r.ContentLength)
		}
		fmt.Fprintf(&headers, "%s:%s\n", name, strings.Join(strings.Fields(value), " "))
	}
	canonical := strings.Join([]string{r.Method, canonicalPath(r.URL), canonicalQuery(r.URL), headers.String(),
		strings.Join(s.headers, ";"), hexSum(body)}, "\n")
	scope := strings.Join([]string{s.date, s.region, s.service, "aws4_request"}, "/")
	text := strings.Join([]string{"AWS4-HMAC-SHA256", s.at.Format("20060102T150405Z"), scope, hexSum([]byte(canonical))}, "\n")
	key := []byte("AWS4" + secretKey)
	for _, part := range []string{s.date, s.region, s.service, "aws4_request"} {
		key = mac(key, part)
	}
	if !hmac.Equal([]byte(hex.EncodeToString(mac(key, text))), []byte(s.signature)) {
		return errForged
	}
	return nil
}

func canonicalPath(u *url.URL) string {
	if p := u.EscapedPath(); p != "" {
		return p
	}
	return "/"
}

func canonicalQuery(u *url.URL) string { return strings.ReplaceAll(u.Query().Encode(), "+", "%20") }

func hexSum(b []byte) string {
	sum := sha256.Sum256(b)
	return hex.EncodeToString(sum[:])
}

func mac(key []byte, text string) []byte {
	h := hmac.New(sha256.New, key)
	h.Write([]byte(text))
	return h.Sum(nil)
}
