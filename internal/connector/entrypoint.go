package connector

import (
	"path"
	"regexp"
	"slices"
	"strings"
)

// splitCommand cuts a command line into words as a POSIX shell does, without expanding anything; ok is false when a
// quote is not closed. Operators are words of their own only where blanks surround them.
func splitCommand(s string) (words []string, ok bool) {
	var word strings.Builder
	inWord, quote := false, rune(0)
	escaped := false
	for _, r := range s {
		switch {
		case escaped:
			// Within double quotes a backslash stays unless it protects one of these.
			if quote == '"' && !strings.ContainsRune("$`\"\\\n", r) {
				word.WriteByte('\\')
			}
			word.WriteRune(r)
			escaped = false
		case r == '\\' && quote != '\'':
			escaped, inWord = true, true
		case quote != 0 && r == quote:
			quote = 0
		case quote != 0:
			word.WriteRune(r)
		case r == '"' || r == '\'':
			quote, inWord = r, true
		case strings.ContainsRune(" \t\r\n", r):
			if inWord {
				words, inWord = append(words, word.String()), false
				word.Reset()
			}
		default:
			word.WriteRune(r)
			inWord = true
		}
	}
	if inWord {
		words = append(words, word.String())
	}
	return words, quote == 0 && !escaped
}

var (
	assignment  = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*=`)
	interpreter = regexp.MustCompile(`^(python|pypy|java|node|ruby|perl|php|dotnet|Rscript|sh|bash|dash|ash|env|` +
		`tini|dumb-init|uv|poetry|ddtrace-run)[0-9.]*$`)
	scriptNames = []string{".py", ".pyz", ".sh", ".bash", ".jar", ".war", ".js", ".mjs", ".cjs", ".ts",
		".rb", ".pl", ".php", ".R", ".dll"}
	shells = []string{"sh", "bash", "dash", "ash"}
)

// looksLikePath tells whether a word of a command line names a file: it holds a slash or ends like a script.
func looksLikePath(word string) bool {
	if strings.HasPrefix(word, "-") || strings.Contains(word, "://") || assignment.MatchString(word) {
		return false
	}
	return strings.Contains(word, "/") || slices.Contains(scriptNames, path.Ext(word))
}

// programPath is the word of a command line that names the program's file: the first that looks like a path, past an
// interpreter given by its own path. It is "" when the program is found in PATH or is a module ("python -m x").
func programPath(words []string) string {
	for i, word := range words {
		if word == "-m" || word == "-c" {
			return ""
		}
		if !looksLikePath(word) {
			continue
		}
		isInterpreter := strings.HasPrefix(word, "/") && interpreter.MatchString(path.Base(word))
		if isInterpreter && slices.ContainsFunc(words[i+1:], looksLikePath) {
			continue
		}
		return word
	}
	return ""
}

// isAbsolute tells whether a path does not depend on the directory that a command runs in. What a variable holds is
// not known here, so it is believed.
func isAbsolute(p string) bool { return strings.HasPrefix(p, "/") || strings.HasPrefix(p, "$") }

// shellForm is the script of an ENTRYPOINT in shell form, which Docker runs as ["/bin/sh", "-c", script].
func shellForm(entrypoint []string) (script string, ok bool) {
	if len(entrypoint) < 3 || entrypoint[1] != "-c" || !slices.Contains(shells, path.Base(entrypoint[0])) {
		return "", false
	}
	return entrypoint[2], true
}

// sameCommand tells whether the words of AIRBYTE_ENTRYPOINT, which run in a directory of Airbyte's, run the same as
// ENTRYPOINT's, which run in the image's working directory.
func sameCommand(words, entrypoint []string, p PlatformImage) bool {
	if len(words) > 0 && words[0] == "exec" {
		words = words[1:]
	}
	if len(words) != len(entrypoint) {
		return false
	}
	for i := range words {
		a, b := words[i], entrypoint[i]
		if looksLikePath(b) && !isAbsolute(b) {
			b = path.Join("/", p.WorkingDir, b)
		}
		if strings.HasPrefix(a, "/") {
			a = path.Clean(a)
		}
		if strings.HasPrefix(b, "/") {
			b = path.Clean(b)
		}
		if a != b && (i > 0 || !sameProgram(a, b, p)) {
			return false
		}
	}
	return true
}

// sameProgram tells whether one of the two is a bare name and the other a file of that name in a directory of PATH.
func sameProgram(a, b string, p PlatformImage) bool {
	if strings.Contains(a, "/") {
		a, b = b, a
	}
	search, found := environment(p.Env, "PATH")
	if !found {
		search = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
	}
	return a == path.Base(b) && slices.Contains(strings.Split(search, ":"), path.Dir(b))
}

// environment is the value of a variable in an image's environment; the last one counts.
func environment(env []string, name string) (value string, found bool) {
	for _, entry := range env {
		if v, ok := strings.CutPrefix(entry, name+"="); ok {
			value, found = v, true
		}
	}
	return value, found
}
