package host

import (
	"errors"
	"fmt"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

// hostile are texts that try to be more than text somewhere.
var hostile = map[string]string{
	"plain":             "all is well",
	"command":           "::error::forged",
	"indented command":  " \t ::warning file=a::forged",
	"no-break space":    "\u00a0::error::forged",
	"line separator":    "\u2028::error::forged",
	"ideographic space": "\u3000::add-mask::a",
	"byte order mark":   "\ufeff::error::forged",
	"zero width":        "\u200b::error::forged",
	"set-output":        "ok\n::set-output name=action::created",
	"add-mask":          "ok\n::add-mask::a\nbanana",
	"old command":       "some text ##[error]forged",
	"old add-mask":      "x##[add-mask]a",
	"hashes":            "####[error]forged",
	"split by colour":   "#\x1b[0m#[error]forged\n:\x1b[1m:error::forged",
	"carriage return":   "x\r::error::forged\r\n::error::forged",
	"resume":            "::airbyte-publish-::\n::stop-commands::x\n::x::",
	"end of group":      "x\n::endgroup::\n::group::forged",
	"delimiter":         "x\n_GitHubActionsFileCommandDelimeter_\nforged=1\nforged<<_GitHubActionsFileCommandDelimeter_\n1",
	"assignment":        "x=1\ny<<EOF\nz",
	"ANSI":              "\x1b[31mred\x1b[0m \x1b]0;title\x07 \x1b[2J\x1b[H\x9b31m",
	"GitLab section":    "\x1b[0Ksection_start:1:forged\r\x1b[0Kforged\n\x1b[0Ksection_end:1:forged\r\x1b[0K",
	"invalid UTF-8":     "\xff\xfe::error::forged\n\xff::error::x",
	"right to left":     "abc\u202edcba",
	"nul":               "a\x00b",
	"percent":           "100%25 %0A::error::forged %0D",
	"long":              strings.Repeat("0123456789", 30_000),
	"many lines":        strings.Repeat("::error::forged\n", 20_000),
	"empty":             "",
	"line breaks":       "\n\n\r\r\n",
}

var stopToken = regexp.MustCompile(`airbyte-publish-[A-Z2-7]{26}`)

// executed is a workflow command that the runner would carry out.
type executed struct{ name, data string }

// runnerCommands are the commands that the runner has a handler for, as far as they matter here.
var runnerCommands = []string{"add-mask", "add-matcher", "debug", "echo", "endgroup", "error", "group", "notice",
	"remove-matcher", "save-state", "set-env", "set-output", "stop-commands", "warning"}

// runLog reads a step's output as GitHub's runner does (actions/runner: ActionCommand.cs TryParseV2 and TryParse,
// ActionCommandManager.cs TryProcessCommand) and returns the commands that it would carry out, and the other lines.
func runLog(t *testing.T, log string) (commands []executed, lines []string) {
	t.Helper()
	token, known := "", append([]string(nil), runnerCommands...)
	for _, line := range readLines(log) {
		name, data, ok := parseCommand(line, known)
		switch {
		case !ok:
			lines = append(lines, line)
		case token != "" && strings.EqualFold(name, token):
			token, known = "", runnerCommands
		case token != "":
			lines = append(lines, line)
		case name == "stop-commands":
			token, known = data, append(known[:len(known):len(known)], data)
		default:
			commands = append(commands, executed{name, data})
		}
	}
	if token != "" {
		t.Errorf("the runner was told to stop listening and never to listen again")
	}
	return commands, lines
}

// readLines splits as .NET's StreamReader.ReadLine does, after its decoder dropped a byte order mark at the start.
func readLines(s string) []string {
	s = strings.TrimPrefix(s, "\ufeff")
	s = strings.ReplaceAll(strings.ReplaceAll(s, "\r\n", "\n"), "\r", "\n")
	return strings.Split(strings.TrimSuffix(s, "\n"), "\n")
}

func parseCommand(line string, known []string) (name, data string, ok bool) {
	if s := strings.TrimLeftFunc(line, unicode.IsSpace); strings.HasPrefix(s, "::") {
		if info, data, found := strings.Cut(s[2:], "::"); found {
			if name, _, _ := strings.Cut(info, " "); isKnown(name, known) {
				return name, unescape(data), true
			}
		}
	}
	if _, s, found := strings.Cut(line, "##["); found {
		if info, data, found := strings.Cut(s, "]"); found {
			if name, _, _ := strings.Cut(info, " "); isKnown(name, known) {
				return name, data, true
			}
		}
	}
	return "", "", false
}

func isKnown(name string, known []string) bool {
	for _, k := range known {
		if strings.EqualFold(k, name) {
			return true
		}
	}
	return false
}

func unescape(s string) string {
	return strings.NewReplacer("%0D", "\r", "%0A", "\n", "%25", "%").Replace(s)
}

// parseFileCommands reads GITHUB_OUTPUT as the runner does (actions/runner: FileCommandManager.cs,
// EnvFileKeyValuePairs), on Linux.
func parseFileCommands(text string) ([]Output, error) {
	var outputs []Output
	index := 0
	readLine := func() (line string, newline, ok bool) {
		if index >= len(text) {
			return "", false, false
		}
		start := index
		if i := strings.IndexByte(text[index:], '\n'); i >= 0 {
			index += i + 1
			return text[start : index-1], true, true
		}
		index = len(text)
		return text[start:], false, true
	}
	for {
		line, _, ok := readLine()
		if !ok {
			return outputs, nil
		}
		if line == "" {
			continue
		}
		equals, heredoc := strings.Index(line, "="), strings.Index(line, "<<")
		switch {
		case heredoc >= 0 && (equals < 0 || heredoc < equals):
			name, delimiter := line[:heredoc], line[heredoc+2:]
			if name == "" || delimiter == "" {
				return nil, fmt.Errorf("invalid format %q", line)
			}
			start, end := index, index
			for {
				line, newline, ok := readLine()
				if !ok {
					return nil, errors.New("matching delimiter not found")
				}
				if line == delimiter {
					break
				}
				if !newline {
					return nil, errors.New("EOF marker missing new line")
				}
				end = index - 1
			}
			outputs = append(outputs, Output{name, text[start:max(start, end)]})
		case equals > 0:
			outputs = append(outputs, Output{line[:equals], line[equals+1:]})
		default:
			return nil, fmt.Errorf("invalid format %q", line)
		}
	}
}
