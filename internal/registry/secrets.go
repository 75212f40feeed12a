package registry

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/v1/remote/transport"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// secrets are the values of this run that must be seen in no log: credentials, and the tokens that were got for them.
// The zero value and nil know none.
type secrets struct {
	// tell is told each of them once.
	tell func(...string)

	mu sync.Mutex
	// known has the longest first, so that one which is a part of another leaves no rest of it.
	known []string
}

// add notes values. When it returns, tell knows them.
func (s *secrets) add(values ...string) {
	if s == nil {
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range values {
		if v == "" || slices.Contains(s.known, v) {
			continue
		}
		s.known = append(s.known, v)
		if s.tell != nil {
			s.tell(v)
		}
	}
	slices.SortStableFunc(s.known, func(a, b string) int { return cmp.Compare(len(b), len(a)) })
}

// redact takes the secrets out of another party's text, should they have come back.
func (s *secrets) redact(text string) string {
	if s == nil {
		return text
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, v := range s.known {
		text = strings.ReplaceAll(text, v, "***")
	}
	return text
}

// bounded is redact and fault.Bounded, in the order in which no part of a secret stays at the end.
func (s *secrets) bounded(text string) string { return fault.Bounded(s.redact(text)) }

func (s *secrets) addAuth(a authn.AuthConfig) {
	s.add(a.Password, a.IdentityToken, a.RegistryToken, a.Auth)
	if a.Password != "" {
		s.add(base64.StdEncoding.EncodeToString([]byte(a.Username + ":" + a.Password)))
	}
}

// addHeader notes what a request is signed with: a bearer token, or a user and password in base64.
func (s *secrets) addHeader(h http.Header) {
	if _, value, ok := strings.Cut(h.Get("Authorization"), " "); ok {
		s.add(strings.TrimSpace(value))
	}
}

// addTokens notes the tokens in a token server's answer, and leaves the answer as it was. Whoever reads it next may
// fail with an error that quotes it, and the next registry to see one may send it back.
func (s *secrets) addTokens(res *http.Response) {
	// go-containerregistry reads no more of it either.
	const most = 64 << 10
	content, err := io.ReadAll(io.LimitReader(res.Body, most+1))
	rest := io.Reader(res.Body)
	if err != nil {
		rest = failed{err}
	}
	res.Body = struct {
		io.Reader
		io.Closer
	}{io.MultiReader(bytes.NewReader(content), rest), res.Body}
	var t transport.Token
	if json.Unmarshal(content, &t) == nil {
		s.add(t.Token, t.AccessToken, t.RefreshToken)
	}
}

// failed is a reader that has failed already.
type failed struct{ err error }

func (f failed) Read([]byte) (int, error) { return 0, f.err }
