package config

import (
	"bytes"
	"cmp"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"slices"
	"strings"
	"unicode"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// secret finds the value of a secret input, which may be in a file. The two spellings are one input: the higher source
// wins, whichever spelling it uses.
func (r *reader) secret(i Input, sources []source) {
	for _, s := range sources {
		// Also what another source overrides is secret.
		r.secrets.add(s(i.Name).text)
	}
	for _, s := range sources {
		direct, file := s(i.Name), s(i.Name+fileSuffix)
		direct.text, file.text = strings.TrimRight(direct.text, "\r\n"), strings.TrimSpace(file.text)
		if strings.TrimSpace(direct.text) == "" {
			direct.text = ""
		}
		switch {
		case direct.text == "" && file.text == "":
			continue
		case direct.text != "" && file.text != "":
			r.reject(fault.ConflictingInputs, i.Name, fmt.Sprintf("both it and %s are given (from %s and %s)", i.Name+fileSuffix, direct.from, file.from),
				"Give one of them.")
		case file.text != "":
			content, ok := r.file(i.Name+fileSuffix, file.text)
			if !ok {
				// Given, although not known: that it is missing is not to be reported as well.
				r.values[i.Name] = value{unreadable, file.from}
				return
			}
			r.secrets.add(string(content))
			direct = value{strings.TrimRight(string(content), "\r\n"), fmt.Sprintf("the file %q", fault.Bounded(file.text))}
		}
		r.values[i.Name] = r.oneLine(i, direct)
		return
	}
}

// unreadable stands for a secret that was given and can't be had.
const unreadable = "unreadable"

// oneLine refuses line breaks and control characters in a secret that is sent in a header, where they would end it.
func (r *reader) oneLine(i Input, v value) value {
	if i.Kind == Text && strings.ContainsFunc(v.text, unicode.IsControl) {
		r.reject(fault.InvalidInput, i.Name, "the value from "+v.from+" holds a line break or another control character",
			"Set it again without; it may have been cut off or joined when it was copied.")
	}
	return v
}

// secrets are values that must not be shown.
type secrets map[string]bool

// add takes a secret with the forms in which others may print it: escaped in a URL or in JSON, and each of its lines.
func (s secrets) add(text string) {
	text = strings.TrimRight(text, "\r\n")
	if strings.TrimSpace(text) == "" {
		return
	}
	s.forms(text)
	if !strings.Contains(text, "\n") {
		return
	}
	for line := range strings.Lines(text) {
		// What begins a PEM block is no secret, and to mask it would hide what a message is about.
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
			s.forms(line)
		}
	}
}

func (s secrets) forms(text string) {
	s[text] = true
	s[url.QueryEscape(text)] = true
	s[url.PathEscape(text)] = true
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	for _, html := range []bool{true, false} {
		b.Reset()
		encoder.SetEscapeHTML(html)
		if encoder.Encode(text) == nil {
			s[strings.TrimSuffix(b.String()[1:], "\"\n")] = true
		}
	}
}

// pair takes what HTTP basic authentication makes of a user name and a password.
func (s secrets) pair(user, password string) {
	if password == "" {
		return
	}
	both := []byte(user + ":" + password)
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding} {
		s[strings.TrimRight(e.EncodeToString(both), "=")] = true
	}
}

// masks lists the secrets, the longest first, so that what replaces them one by one leaves no rest of a longer one.
func (s secrets) masks() []string {
	return slices.SortedFunc(maps.Keys(s), func(a, b string) int {
		return cmp.Or(cmp.Compare(len(b), len(a)), cmp.Compare(a, b))
	})
}
