package host

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"html"
	"io"
	"maps"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"unicode"
	"unicode/utf8"
)

const (
	// anywhereLength is from how many characters on a value is hidden wherever it stands; wordLength, from how many on
	// it is hidden where it stands as a word. Below, it would blank ordinary text ("on", "v1") and protect nothing.
	anywhereLength = 6
	wordLength     = 3
	// partLength is how long a line of a secret, or a value in it, must be to be hidden on its own: the lines of a
	// key are 64 characters, those of pretty-printed JSON may be "{".
	partLength = 8
	// valueLength is from how many characters on a string in a JSON document is taken for a secret whatever its name.
	valueLength = 32

	hidden = "***"
)

// redactor takes secrets out of text.
type redactor struct {
	mu       sync.RWMutex
	seen     map[string]bool
	anywhere []string
	words    []string
	longest  int
}

// add makes r hide a secret, and returns those forms of it that are new and that a host which masks text blindly may
// be told: single lines, none so short that it occurs by chance.
func (r *redactor) add(secret string) (masks []string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range dissect(secret) {
		for _, form := range forms(p) {
			if r.hide(form) && !strings.ContainsAny(form, "\r\n") {
				masks = append(masks, form)
			}
		}
		for _, f := range base64Fragments(p) {
			r.hide(f)
		}
	}
	return masks
}

// hide adds one text to hide, and tells whether it is new and long enough to be hidden wherever it stands.
func (r *redactor) hide(s string) bool {
	n := utf8.RuneCountInString(s)
	if n < wordLength || strings.Trim(s, "*") == "" || r.seen[s] {
		return false
	}
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	r.seen[s] = true
	r.longest = max(r.longest, len(s))
	if n < anywhereLength {
		r.words = append(r.words, s)
		return false
	}
	r.anywhere = append(r.anywhere, s)
	return true
}

// dissect returns the secret as a whole and those parts of it that are secret on their own: the lines of a longer one,
// and of a JSON document the values that look secret, never its brackets or the names and addresses in it, which logs
// are full of.
func dissect(secret string) []string {
	whole := strings.TrimSpace(secret)
	all := []string{whole}
	var document any
	if strings.HasPrefix(whole, "{") && json.Unmarshal([]byte(whole), &document) == nil {
		secretValues("", document, func(v string) { all = append(all, append(secretLines(v), v)...) })
	} else {
		all = append(all, secretLines(whole)...)
	}
	return all
}

// secretLines returns the lines of a secret that are worth hiding on their own. PEM's armour is not secret.
func secretLines(s string) []string {
	var out []string
	for line := range strings.Lines(lineBreaks.Replace(s)) {
		line = strings.TrimSpace(line)
		if utf8.RuneCountInString(line) >= partLength && !strings.HasPrefix(line, "-----") {
			out = append(out, line)
		}
	}
	return out
}

// secretValues calls found with each string in a JSON document that is taken for a secret: by the name of its field,
// or by its mere length. Addresses are no secrets, however long: a service account's key file is full of them.
func secretValues(name string, value any, found func(string)) {
	switch v := value.(type) {
	case map[string]any:
		for _, k := range slices.Sorted(maps.Keys(v)) {
			secretValues(k, v[k], found)
		}
	case []any:
		for _, e := range v {
			secretValues(name, e, found)
		}
	case string:
		address := strings.Contains(v, "://") || strings.Contains(name, "email")
		if !address && (utf8.RuneCountInString(v) >= valueLength || secretName(name)) {
			found(v)
		}
	}
}

// secretName tells whether a field of this name holds a secret.
func secretName(name string) bool {
	name = strings.ToLower(name)
	return slices.ContainsFunc([]string{"key", "secret", "token", "passw", "credential"}, func(s string) bool {
		return strings.Contains(name, s)
	}) || name == "auth"
}

// forms returns a secret and what becomes of it in a URL, in JSON, in HTML, in Go's quotes and in base64.
func forms(s string) []string {
	all := []string{s, url.QueryEscape(s), url.PathEscape(s), html.EscapeString(s)}
	all = append(all, strings.TrimSuffix(strings.TrimPrefix(strconv.Quote(s), `"`), `"`))
	for _, escapeHTML := range []bool{false, true} {
		var b bytes.Buffer
		e := json.NewEncoder(&b)
		e.SetEscapeHTML(escapeHTML)
		// A string always encodes.
		_ = e.Encode(s)
		all = append(all, strings.TrimSuffix(strings.TrimPrefix(strings.TrimSpace(b.String()), `"`), `"`))
	}
	for _, e := range []*base64.Encoding{base64.StdEncoding, base64.URLEncoding, base64.RawStdEncoding, base64.RawURLEncoding} {
		all = append(all, e.EncodeToString([]byte(s)))
	}
	return all
}

// base64Fragments returns what of s can be seen in the base64 of a longer text, such as "user:password" in a header:
// three fragments, by how many bytes before it are left over from groups of three, without the characters at either
// end that hold bits of the neighbours too.
func base64Fragments(s string) []string {
	var all []string
	for shift := range 3 {
		padded := append(make([]byte, shift), s...)
		for _, e := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			first, last := (shift*8+5)/6, len(padded)*8/6
			if last-first >= partLength {
				all = append(all, e.EncodeToString(padded)[first:last])
			}
		}
	}
	return all
}

// span is a stretch of text, from its first byte to behind its last.
type span struct{ from, to int }

// redact returns s with the secrets in it replaced.
func (r *redactor) redact(s string) string {
	r.mu.RLock()
	defer r.mu.RUnlock()
	spans := r.find(s)
	if len(spans) == 0 {
		return s
	}
	var b strings.Builder
	at := 0
	for _, sp := range spans {
		b.WriteString(s[at:sp.from])
		b.WriteString(hidden)
		at = sp.to
	}
	b.WriteString(s[at:])
	return b.String()
}

// find returns where secrets stand in s, in order. Those that overlap or touch are one, so that no rest of a secret
// that is hidden behind another's end can be seen.
func (r *redactor) find(s string) []span {
	var all []span
	for _, p := range r.anywhere {
		all = occurrences(all, s, p, func(span) bool { return true })
	}
	for _, p := range r.words {
		all = occurrences(all, s, p, func(sp span) bool { return isWord(s, sp) })
	}
	slices.SortFunc(all, func(a, b span) int { return a.from - b.from })
	merged := all[:0]
	for _, sp := range all {
		if n := len(merged); n > 0 && sp.from <= merged[n-1].to {
			merged[n-1].to = max(merged[n-1].to, sp.to)
			continue
		}
		merged = append(merged, sp)
	}
	return merged
}

// occurrences appends to all where p stands in s, also where it overlaps itself.
func occurrences(all []span, s, p string, keep func(span) bool) []span {
	first := len(all)
	for at := 0; ; {
		i := strings.Index(s[at:], p)
		if i < 0 {
			return all
		}
		sp := span{at + i, at + i + len(p)}
		at = sp.from + 1
		switch n := len(all); {
		case !keep(sp):
		case n > first && sp.from <= all[n-1].to:
			all[n-1].to = sp.to
		default:
			all = append(all, sp)
		}
	}
}

// isWord tells whether what stands at sp is no part of a longer word.
func isWord(s string, sp span) bool {
	before, _ := utf8.DecodeLastRuneInString(s[:sp.from])
	after, _ := utf8.DecodeRuneInString(s[sp.to:])
	part := func(r rune) bool {
		return r != utf8.RuneError && (r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r))
	}
	return !part(before) && !part(after)
}

// heldBack is how many bytes of an unfinished line a redacting writer holds, in addition to the longest secret.
const heldBack = 64 << 10

// redactingWriter passes on lines without the secrets in them, and made harmless for the host. What is behind the last
// line break waits for the rest of its line, because a secret or a command may be half written.
type redactingWriter struct {
	r *redactor
	w io.Writer
	// harmless keeps text from being read as a command; atStart tells that it begins a line.
	harmless func(text string, atStart bool) string

	mu      sync.Mutex
	pending []byte
	// within tells that more than white space of the current line was passed on already.
	within bool
}

// Write takes in p; its error is that of passing lines on.
func (w *redactingWriter) Write(p []byte) (int, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pending = append(w.pending, p...)
	cut := bytes.LastIndexByte(w.pending, '\n') + 1
	if len(w.pending)-cut > heldBack+w.r.longestSecret() {
		cut = w.r.safeCut(string(w.pending))
	}
	return len(p), w.pass(cut)
}

// Close passes on the unfinished last line. It does not close the writer below.
func (w *redactingWriter) Close() error {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.pass(len(w.pending))
}

func (w *redactingWriter) pass(cut int) error {
	if cut == 0 {
		return nil
	}
	text := w.r.redact(string(w.pending[:cut]))
	w.pending = append(w.pending[:0], w.pending[cut:]...)
	text = w.harmless(text, !w.within)
	last := strings.LastIndexAny(text, "\r\n") + 1
	w.within = w.within && last == 0 || strings.TrimFunc(text[last:], ignorable) != ""
	_, err := io.WriteString(w.w, text)
	return err
}

func (r *redactor) longestSecret() int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	return r.longest
}

// safeCut returns where s can be cut without cutting a character, the mark of a command, or a secret, whole or half
// written.
func (r *redactor) safeCut(s string) int {
	r.mu.RLock()
	defer r.mu.RUnlock()
	cut := max(len(s)-max(r.longest, utf8.UTFMax), 0)
	for range utf8.UTFMax - 1 {
		if cut > 0 && !utf8.RuneStart(s[cut]) {
			cut--
		}
	}
	for range 2 {
		if cut > 0 && s[cut-1] == ':' {
			cut--
		}
	}
	if half := halfCommand.FindStringIndex(s[max(0, cut-32):cut]); half != nil {
		cut = max(0, cut-32) + half[0]
	}
	for _, sp := range r.find(s) {
		if sp.from < cut && cut < sp.to {
			cut = sp.from
		}
	}
	return cut
}
