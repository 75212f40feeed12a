package config

import (
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// pemBegin is what every PEM block begins with; a value without it is a path.
const pemBegin = "-----BEGIN "

// tls makes what is needed beyond the default: more authorities to trust, and a client's certificate with its key. It
// is nil when none of them is given. An empty name stands for an input that does not exist.
func (r *reader) tls(authorities, certificate, key string) *tls.Config {
	config := &tls.Config{MinVersion: tls.VersionTLS12}
	if trusted := r.certificates(authorities); trusted != nil {
		config.RootCAs = trust(trusted)
	}
	chain := r.certificates(certificate)
	if r.together(certificate, key) {
		if pair, ok := r.keyPair(chain, certificate, key); ok {
			config.Certificates = []tls.Certificate{pair}
		}
	}
	if config.RootCAs == nil && config.Certificates == nil {
		return nil
	}
	return config
}

// trust adds certificates to those that the system trusts.
func trust(certificates []*x509.Certificate) *x509.CertPool {
	pool, err := x509.SystemCertPool()
	if err != nil {
		// A machine without any, such as a bare container, trusts what was given and nothing else.
		pool = x509.NewCertPool()
	}
	for _, c := range certificates {
		pool.AddCert(c)
	}
	return pool
}

// certificates reads an input that holds certificates, as PEM text or as the path of a file with it.
func (r *reader) certificates(input string) []*x509.Certificate {
	if !r.given(input) {
		return nil
	}
	v := r.values[input]
	text := []byte(v.text)
	if !strings.Contains(v.text, pemBegin) && !strings.Contains(v.text, "\n") {
		var ok bool
		if text, ok = r.file(input, v.text); !ok {
			return nil
		}
	}
	bad := func(cause string) []*x509.Certificate {
		r.reject(fault.InvalidInput, input, cause, "Give one or more blocks from -----BEGIN CERTIFICATE----- to -----END CERTIFICATE-----, or the path of a file with them.")
		return nil
	}
	var found []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			return bad(fmt.Sprintf("block %d is no certificate", len(found)+1))
		}
		c, err := x509.ParseCertificate(block.Bytes)
		if err != nil {
			return bad(fmt.Sprintf("certificate %d can't be parsed: %s", len(found)+1, fault.Bounded(err.Error())))
		}
		found = append(found, c)
	}
	if found == nil {
		return bad("it holds no certificate in PEM form")
	}
	return found
}

// keyPair joins a client's certificates with its private key. Messages tell nothing of the key.
func (r *reader) keyPair(chain []*x509.Certificate, certificate, key string) (tls.Certificate, bool) {
	text := r.values[key].text
	bad := func(cause, remedy string) (tls.Certificate, bool) {
		r.reject(fault.InvalidInput, key, cause, remedy)
		return tls.Certificate{}, false
	}
	if text == unreadable {
		return tls.Certificate{}, false
	}
	block, _ := pem.Decode([]byte(text))
	switch {
	case block == nil:
		return bad("it holds no private key in PEM form",
			"Give the block from -----BEGIN PRIVATE KEY----- to -----END PRIVATE KEY-----, or name its file by "+key+fileSuffix+".")
	case strings.Contains(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED"):
		return bad("the private key is encrypted", "Decrypt it, such as with openssl pkey, and keep it in a secret.")
	case chain == nil:
		return tls.Certificate{}, false
	}
	var encoded []byte
	for _, c := range chain {
		encoded = append(encoded, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: c.Raw})...)
	}
	pair, err := tls.X509KeyPair(encoded, []byte(text))
	if err != nil {
		return bad("it is not the key of the first certificate in "+certificate+", or of no known kind",
			"Give the private key that the certificate was made for; the certificate comes first in its file, the authorities after it.")
	}
	return pair, true
}
