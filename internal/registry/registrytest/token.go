package registrytest

import (
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// Token says what the token server gives.
type Token struct {
	// Users are user names and passwords.
	Users map[string]string
	// RefreshTokens are identity tokens that it takes as well (OAuth2, grant_type=refresh_token), with their users.
	RefreshTokens map[string]string
	// Rights are, by user, the actions that it grants on every repository; a user who is not there has them all.
	Rights map[string][]string
}

// TokenServer is a token server as distribution's specification describes it. It ends with the test.
type TokenServer struct {
	// Realm is its address as the registry names it: on localhost, because go-containerregistry refuses the IP
	// address of another port.
	Realm string

	config  Token
	key     *ecdsa.PrivateKey
	certPEM []byte

	mu     sync.Mutex
	scopes [][]string
}

// Scopes returns the scopes of each request that got a token, in order.
func (s *TokenServer) Scopes() [][]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.scopes)
}

func startTokenServer(t testing.TB, c Token, tlsAuthority *Authority) *TokenServer {
	t.Helper()
	signer := NewAuthority(t)
	s := &TokenServer{config: c, key: signer.key, certPEM: signer.PEM}
	server := httptest.NewUnstartedServer(s)
	if tlsAuthority == nil {
		server.Start()
	} else {
		pair, err := tls.X509KeyPair(tlsAuthority.Issue(t, true))
		if err != nil {
			t.Fatal(err)
		}
		server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12}
		server.StartTLS()
	}
	t.Cleanup(server.Close)
	s.Realm = strings.Replace(server.URL, "127.0.0.1", "localhost", 1) + "/token"
	return s
}

func (s *TokenServer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if err := r.ParseForm(); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	user, ok := s.user(r)
	if !ok {
		w.WriteHeader(http.StatusUnauthorized)
		_, _ = w.Write([]byte(`{"errors":[{"code":"UNAUTHORIZED","message":"incorrect username or password"}]}`))
		return
	}
	var scopes []string
	for _, v := range r.Form["scope"] {
		scopes = append(scopes, strings.Fields(v)...)
	}
	s.mu.Lock()
	s.scopes = append(s.scopes, scopes)
	s.mu.Unlock()
	token := s.sign(user, scopes)
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(map[string]any{"token": token, "access_token": token, "expires_in": 300})
}

func (s *TokenServer) user(r *http.Request) (string, bool) {
	if r.Method == http.MethodPost {
		user, ok := s.config.RefreshTokens[r.Form.Get("refresh_token")]
		return user, ok && r.Form.Get("grant_type") == "refresh_token"
	}
	user, password, ok := r.BasicAuth()
	want, known := s.config.Users[user]
	return user, ok && known && want == password
}

// sign makes the JWT that distribution's token authentication takes, with the signer's certificate in x5c.
func (s *TokenServer) sign(user string, scopes []string) string {
	type access struct {
		Type    string   `json:"type"`
		Name    string   `json:"name"`
		Actions []string `json:"actions"`
	}
	granted := []access{}
	for _, scope := range scopes {
		kind, rest, _ := strings.Cut(scope, ":")
		i := strings.LastIndexByte(rest, ':')
		if i < 0 {
			continue
		}
		actions := strings.Split(rest[i+1:], ",")
		if rights, limited := s.config.Rights[user]; limited {
			actions = slices.DeleteFunc(actions, func(a string) bool { return !slices.Contains(rights, a) })
		}
		granted = append(granted, access{kind, rest[:i], actions})
	}
	now := time.Now()
	block, _ := pem.Decode(s.certPEM)
	header := encode(map[string]any{"typ": "JWT", "alg": "ES256", "x5c": []string{base64.StdEncoding.EncodeToString(block.Bytes)}})
	claims := encode(map[string]any{"iss": "registrytest", "sub": user, "aud": "registrytest", "jti": rand.Text(),
		"iat": now.Unix(), "nbf": now.Add(-time.Minute).Unix(), "exp": now.Add(5 * time.Minute).Unix(), "access": granted})
	sum := sha256.Sum256([]byte(header + "." + claims))
	x, y, err := ecdsa.Sign(rand.Reader, s.key, sum[:])
	if err != nil {
		panic(err)
	}
	signature := make([]byte, 64)
	x.FillBytes(signature[:32])
	y.FillBytes(signature[32:])
	return header + "." + claims + "." + base64.RawURLEncoding.EncodeToString(signature)
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic(err)
	}
	return base64.RawURLEncoding.EncodeToString(b)
}
