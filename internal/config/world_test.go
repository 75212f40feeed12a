package config_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"math/big"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// erp is a metadata.yaml that needs nothing beside it.
const erp = `metadataSpecVersion: "1.0"
data:
  name: ERP
  connectorType: source
  dockerRepository: ghcr.io/acme/source-erp
  dockerImageTag: 1.2.3
  documentationUrl: https://example.com/erp
`

const airbyteURL = "AIRBYTE_PUBLISH_AIRBYTE_URL"

// world is a working directory with an environment. Unless a test says otherwise its folder "." is the connector erp
// and Airbyte's address is set, so that nothing is wrong.
type world struct {
	env, flags, files map[string]string
	args              []string
	verb              config.Verb
}

func (w world) load(t *testing.T) (*config.Config, error) {
	t.Helper()
	dir := t.TempDir()
	if w.files == nil {
		w.files = map[string]string{"metadata.yaml": erp}
	}
	for name, content := range w.files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	env := map[string]string{airbyteURL: "https://airbyte.example.com", "HOME": "/root"}
	for name, text := range w.env {
		env[name] = text
	}
	l := config.Lookup{Flags: w.flags, Args: w.args, Getenv: func(name string) string { return env[name] }, Dir: dir, Verb: w.verb}
	for name, text := range env {
		l.Environ = append(l.Environ, name+"="+text)
	}
	return config.Load(l)
}

func (w world) mustLoad(t *testing.T) *config.Config {
	t.Helper()
	c, err := w.load(t)
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func codes(err error) map[fault.Code]int {
	found := map[fault.Code]int{}
	for _, e := range fault.List(err) {
		found[e.Code]++
	}
	return found
}

// certificate makes a self-signed certificate and its key, both as PEM.
func certificate(t *testing.T) (cert, key string) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "test"},
		NotAfter: time.Unix(1<<33, 0), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, private.Public(), private)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(private)
	if err != nil {
		t.Fatal(err)
	}
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der})),
		string(pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: pkcs8}))
}
