package cloudtest

import (
	"bytes"
	"crypto/rand"
	"encoding/base64"
	"encoding/json"
	"net/url"
	"slices"
	"strings"
)

// secret is a value that only certain hosts may see.
type secret struct {
	name  string
	hosts []string
	forms [][]byte
}

// randomText is a value for a secret.
func randomText() string { return rand.Text() }

// shortest is the length that a secret must have to be told from other text.
const shortest = 10

// secret makes a value known as a secret, which may come to the hosts and nowhere else. It returns the value.
func (w *world) secret(name, value string, hosts ...string) string {
	if len(value) < shortest {
		panic("too short to be told from other text: " + name)
	}
	s := &secret{name: name, hosts: hosts, forms: forms(value)}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.secrets = append(w.secrets, s)
	return value
}

// secretPEM makes the lines of a private key known as secrets, which no host may see: its text is wrapped and escaped
// in more ways than can be listed, so that each line counts.
func (w *world) secretPEM(name, text string, hosts ...string) {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	for _, line := range lines[1 : len(lines)-1] {
		if len(line) >= 40 {
			w.secret(name, line, hosts...)
		}
	}
}

// permit lets a secret come to more hosts.
func (w *world) permit(name string, hosts ...string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.secrets {
		if s.name == name {
			s.hosts = append(s.hosts, hosts...)
		}
	}
}

// forms are the ways in which a value may be written.
func forms(value string) [][]byte {
	set := map[string]bool{value: true, url.QueryEscape(value): true, url.PathEscape(value): true}
	if quoted, err := json.Marshal(value); err == nil {
		set[string(quoted[1:len(quoted)-1])] = true
	}
	// In base64 a text looks different by where in its group of three it begins.
	for offset := range 3 {
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			text := encoding.EncodeToString(append(make([]byte, offset), value...))
			from := []int{0, 2, 3}[offset]
			to := (offset + len(value)) / 3 * 4
			if to-from >= shortest {
				set[text[from:to]] = true
				set[url.QueryEscape(text[from:to])] = true
			}
		}
	}
	var all [][]byte
	for form := range set {
		all = append(all, []byte(form))
	}
	return all
}

// find returns the names of the secrets that are in any of the texts.
func (w *world) find(texts ...[]byte) []string {
	w.mu.Lock()
	defer w.mu.Unlock()
	var found []string
	for _, s := range w.secrets {
		if !slices.Contains(found, s.name) && s.in(texts) {
			found = append(found, s.name)
		}
	}
	return found
}

func (s *secret) in(texts [][]byte) bool {
	for _, text := range texts {
		for _, form := range s.forms {
			if bytes.Contains(text, form) {
				return true
			}
		}
	}
	return false
}

// inspect returns the names of the secrets in a request to the host, and blames it for those that are not for it.
func (w *world) inspect(host string, texts ...[]byte) []string {
	found := w.find(texts...)
	for _, name := range found {
		if !w.allowed(name, host, texts) {
			w.blame("%s got to see %q, which is not for it", host, name)
		}
	}
	return found
}

// allowed tells whether every secret of this name that is in the texts is for the host.
func (w *world) allowed(name, host string, texts [][]byte) bool {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, s := range w.secrets {
		if s.name == name && s.in(texts) && !slices.Contains(s.hosts, host) {
			return false
		}
	}
	return true
}
