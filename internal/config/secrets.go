package config

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"fmt"
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
	// A key file of Google's is JSON of many lines, and base64 comes in lines too. What is the same without line breaks
	// is taken without.
	if joined, ok := oneLineOf(v.text); i.Kind == Text && ok {
		v.text = joined
		r.secrets.add(v.text)
	}
	if i.Kind == Text && strings.ContainsFunc(v.text, unicode.IsControl) {
		r.reject(fault.InvalidInput, i.Name, "the value from "+v.from+" holds a line break or another control character",
			"Set it again without; it may have been cut off or joined when it was copied.")
	}
	return v
}

// oneLineOf joins the lines of JSON and of base64, in which line breaks mean nothing.
func oneLineOf(text string) (string, bool) {
	if !strings.ContainsAny(text, "\r\n") {
		return "", false
	}
	var line bytes.Buffer
	if strings.HasPrefix(strings.TrimSpace(text), "{") && json.Compact(&line, []byte(text)) == nil {
		return line.String(), true
	}
	joined := strings.Join(strings.Fields(text), "")
	plain, err := base64.StdEncoding.DecodeString(joined)
	return joined, err == nil && json.Valid(plain)
}

// secrets are values that must not be shown.
type secrets map[string]bool

func (s secrets) add(text string) {
	if text = strings.TrimRight(text, "\r\n"); strings.TrimSpace(text) != "" {
		s[text] = true
	}
}
