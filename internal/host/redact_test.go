package host

import (
	"bytes"
	"encoding/base64"
	"encoding/json"
	"html"
	"net/url"
	"strings"
	"testing"
)

// serviceAccount is the shape of a Google service account's key file, pretty-printed as it is downloaded.
const serviceAccount = `{
  "type": "service_account",
  "project_id": "acme-connectors",
  "private_key_id": "0123456789abcdef0123456789abcdef01234567",
  "private_key": "-----BEGIN PRIVATE KEY-----\nMIIEvQIBADANBgkqhkiG9w0BAQEFAASCBKcwggSjAgEAAoIBAQC7VJTUt9Us8cKj\nMzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu\nshort\n-----END PRIVATE KEY-----\n",
  "client_email": "publisher@acme-connectors.iam.gserviceaccount.com",
  "client_id": "123456789012345678901",
  "auth_uri": "https://accounts.google.com/o/oauth2/auth",
  "token_uri": "https://oauth2.googleapis.com/token",
  "client_x509_cert_url": "https://www.googleapis.com/robot/v1/metadata/x509/publisher"
}`

func TestRedact(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		secrets    []string
		text, want string
	}{
		"none":                   {nil, "text", "text"},
		"anywhere":               {[]string{"hunter22"}, "xhunter22x hunter22", "x***x ***"},
		"six characters":         {[]string{"s3cr3t"}, "as3cr3tb", "a***b"},
		"five, in a word":        {[]string{"test1"}, "latest1 test12 test1_x", "latest1 test12 test1_x"},
		"five, as a word":        {[]string{"test1"}, "user:test1@host (test1) test1", "user:***@host (***) ***"},
		"two":                    {[]string{"on", "é1"}, "on, or é1", "on, or é1"},
		"empty":                  {[]string{"", "  ", "\n"}, "a  b\nc", "a  b\nc"},
		"asterisks":              {[]string{"***", "********"}, "*** ********", "*** ********"},
		"trimmed":                {[]string{"  hunter22\n"}, "hunter22.", "***."},
		"longest wins":           {[]string{"hunter22", "hunter22-and-more"}, "hunter22-and-more", "***"},
		"overlapping":            {[]string{"abcdefgh", "efghijkl"}, "abcdefghijkl abcdefgh", "*** ***"},
		"overlapping itself":     {[]string{"abaaba"}, "xabaabaabay", "x***y"},
		"touching":               {[]string{"abcdefgh", "ijklmnop"}, "abcdefghijklmnop", "***"},
		"line of several":        {[]string{"first line\nab\r\nsecond line"}, "x second line ab", "x *** ab"},
		"whole of short lines":   {[]string{"ab1\ncd2"}, "x ab1\ncd2 y", "x *** y"},
		"not a word, multi-byte": {[]string{"éàü"}, "éàü éàüé", "*** éàüé"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := Detect(newWorld(t).options())
			h.Mask(tc.secrets...)
			if got := h.Redact(tc.text); got != tc.want {
				t.Errorf("got %q, want %q", got, tc.want)
			}
		})
	}
}

func TestRedactForms(t *testing.T) {
	t.Parallel()
	secret := `p<&ss "w/rd"+é\x`
	quoted, err := json.Marshal(secret)
	if err != nil {
		t.Fatal(err)
	}
	forms := map[string]string{
		"JSON":        string(quoted),
		"query":       url.QueryEscape(secret),
		"path":        url.PathEscape(secret),
		"HTML":        html.EscapeString(secret),
		"base64":      base64.StdEncoding.EncodeToString([]byte(secret)),
		"base64 URL":  base64.RawURLEncoding.EncodeToString([]byte(secret)),
		"user info":   url.UserPassword("user", secret).String(),
		"JSON, plain": strings.NewReplacer(`\u003c`, "<", `\u0026`, "&").Replace(string(quoted)),
	}
	h := Detect(newWorld(t).options())
	h.Mask(secret)
	for name, form := range forms {
		got := h.Redact("before " + form + " after")
		if strings.Contains(got, form) || !strings.Contains(got, hidden) || !strings.HasPrefix(got, "before ") || !strings.HasSuffix(got, " after") {
			t.Errorf("%s: %q became %q", name, form, got)
		}
	}
}

func TestRedactBase64OfUserAndPassword(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	h := Detect(newWorld(t).options())
	h.Mask(secret)
	for _, user := range []string{"", "a", "ab", "abc", "AWS", "user"} {
		header := base64.StdEncoding.EncodeToString([]byte(user + ":" + secret + "!?"))
		got := h.Redact("Authorization: Basic " + header)
		rest := strings.TrimPrefix(got, "Authorization: Basic ")
		before, after, found := strings.Cut(rest, hidden)
		if !found || len(before) > len(user)*2+4 || len(after) > 8 {
			t.Errorf("%q: got %q", user, got)
		}
	}
}

func TestRedactJSONSecret(t *testing.T) {
	t.Parallel()
	w := gitHubWorld(t)
	h := Detect(w.options())
	h.Mask(serviceAccount)
	var compact bytes.Buffer
	if err := json.Compact(&compact, []byte(serviceAccount)); err != nil {
		t.Fatal(err)
	}
	quoted, err := json.Marshal(serviceAccount)
	if err != nil {
		t.Fatal(err)
	}
	h.Section("").Untrusted("log", serviceAccount+"\n"+compact.String()+"\n"+string(quoted)+"\n"+
		base64.StdEncoding.EncodeToString([]byte(serviceAccount)))
	s := h.Section("")
	s.Info("key MzEfYyjiWA4R4/M2bS1GB4t7NXp98C3SC6dVMvDuictGeurT8jNbvJZHtCSuYEvu")
	const ordinary = `push europe-docker.pkg.dev/acme-connectors/x as publisher@acme-connectors.iam.gserviceaccount.com: {"a": {}} short`
	s.Info("%s", ordinary)
	commands, lines := runLog(t, w.stdout.String())
	log := strings.Join(lines, "\n")
	for _, secret := range []string{"0123456789abcdef0123", "MIIEvQIB", "MzEfYyji", "TUlJRXZRSUJ"} {
		if strings.Contains(log, secret) {
			t.Errorf("the log holds %q", secret)
		}
	}
	if !strings.Contains(log, ordinary) {
		t.Errorf("ordinary text was blanked: %q", lines[len(lines)-1])
	}
	for _, c := range commands {
		if c.name == "add-mask" && strings.Contains(ordinary, c.data) {
			t.Errorf("the host masks %q", c.data)
		}
	}
}

func TestRedactingCatchesSplitSecrets(t *testing.T) {
	t.Parallel()
	const secret, word = "correct-horse-battery", "pin12"
	text := "a " + secret + " b " + word + "\nx" + secret + secret + "\n" + base64.StdEncoding.EncodeToString([]byte("u:"+secret)) + " " + secret
	h := Detect(newWorld(t).options())
	h.Mask(secret, word)
	want := h.Redact(text)
	for i := range len(text) {
		for _, j := range []int{i, i + 1, (i + len(text)) / 2} {
			j = min(j, len(text))
			var b bytes.Buffer
			w := h.Redacting(&b)
			for _, part := range []string{text[:i], text[i:j], text[j:]} {
				if n, err := w.Write([]byte(part)); n != len(part) || err != nil {
					t.Fatalf("got %d, %v", n, err)
				}
			}
			if err := w.Close(); err != nil {
				t.Fatal(err)
			}
			if b.String() != want {
				t.Fatalf("split at %d and %d: got %q, want %q", i, j, b.String(), want)
			}
		}
	}
}

func TestRedactingPassesLinesOnAtOnce(t *testing.T) {
	t.Parallel()
	h := Detect(newWorld(t).options())
	h.Mask("correct-horse-battery")
	var b bytes.Buffer
	w := h.Redacting(&b)
	if _, err := w.Write([]byte("one\ncorrect-")); err != nil {
		t.Fatal(err)
	}
	if b.String() != "one\n" {
		t.Errorf("got %q", b.String())
	}
}

func TestRedactingBoundsAnEndlessLine(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	h := Detect(newWorld(t).options())
	h.Mask(secret)
	var b bytes.Buffer
	w := h.Redacting(&b).(*redactingWriter)
	chunk := []byte(strings.Repeat(secret+"-", 7))
	for range 10_000 {
		if _, err := w.Write(chunk); err != nil {
			t.Fatal(err)
		}
		if len(w.pending) > heldBack+4096 {
			t.Fatalf("%d bytes are held", len(w.pending))
		}
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	if want := strings.Repeat(hidden+"-", 70_000); b.String() != want {
		t.Errorf("a secret was cut, or text was lost: %d bytes, want %d", b.Len(), len(want))
	}
}

func TestEveryWriterRedacts(t *testing.T) {
	t.Parallel()
	const secret = "correct-horse-battery"
	gitHub := gitHubWorld(t)
	bare := newWorld(t, "GITHUB_ACTIONS=true")
	gitLab := newWorld(t, "GITLAB_CI=true")
	plain := newWorld(t)
	for _, w := range []*world{gitHub, bare, gitLab, plain} {
		h := Detect(w.options())
		h.Mask(secret)
		s := h.Section("title "+secret, Buffered(true))
		s.Group("group " + secret)
		s.Info("info %s", secret)
		s.Info("coloured correct-\x1b[1mhorse\x1b[0m-battery")
		s.Untrusted("title "+secret, "text "+secret)
		s.Annotate(Annotation{Level: LevelError, Title: secret, Message: "x\n" + secret, File: secret})
		if err := h.WriteOutputs([]Output{{"image", "x" + secret}}); err != nil {
			t.Fatal(err)
		}
		if err := h.WriteSummary("| " + secret + " |"); err != nil {
			t.Fatal(err)
		}
		if err := h.Close(); err != nil {
			t.Fatal(err)
		}
		log := w.stdout.String() + w.stderr.String()
		for _, line := range strings.Split(log, "\n") {
			if strings.Contains(line, secret) && !strings.HasPrefix(line, "::add-mask::") {
				t.Errorf("%s: %q", h.Name(), line)
			}
		}
		if !strings.Contains(log, "coloured ***\n") {
			t.Errorf("%s: a secret with colours in it was not found", h.Name())
		}
	}
	for _, file := range []string{gitHub.env["GITHUB_OUTPUT"], gitHub.env["GITHUB_STEP_SUMMARY"], gitLab.dir + "/" + dotenvFile, gitLab.dir + "/" + summaryFile} {
		if text := read(t, file); strings.Contains(text, secret) || !strings.Contains(text, hidden) {
			t.Errorf("%s holds %q", file, text)
		}
	}
}

func FuzzRedactLeavesNoSecret(f *testing.F) {
	f.Add("correct-horse", "x correct-horse y", 3)
	f.Add("aaaaaab", "aaaaaaaaaaaaab", 5)
	f.Add("abcdefgh", "abcdeabcdefghfgh", 6)
	f.Fuzz(func(t *testing.T, secret, text string, split int) {
		h := Detect(Options{Getenv: func(string) string { return "" }, Stdout: &bytes.Buffer{}, Stderr: &bytes.Buffer{}, Dir: "/"})
		h.Mask(secret)
		secret = strings.TrimSpace(secret)
		if len([]rune(secret)) < anywhereLength || strings.ContainsAny(secret, "\r\n*") || strings.HasPrefix(secret, "{") {
			return // not a secret that is hidden wherever it stands
		}
		text = strings.ReplaceAll(text, "*", "")
		if got := h.Redact(text + secret + text); strings.Contains(got, secret) {
			t.Errorf("%q holds %q", got, secret)
		}
		var b bytes.Buffer
		w := h.Redacting(&b)
		whole := text + secret + text
		split = min(max(split, 0), len(whole))
		for _, part := range []string{whole[:split], whole[split:]} {
			if _, err := w.Write([]byte(part)); err != nil {
				t.Fatal(err)
			}
		}
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if strings.Contains(b.String(), secret) {
			t.Errorf("%q holds %q", b.String(), secret)
		}
	})
}
