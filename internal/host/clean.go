package host

import (
	"fmt"
	"regexp"
	"strings"
	"unicode"
)

// escapeSequence matches what a terminal takes as a command: colours and cursor moves (CSI), titles and links (OSC),
// and the short ones. ECMA-48, §5.
var escapeSequence = regexp.MustCompile(`\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b\n]*(?:\x07|\x1b\\)|[ -/]*[0-~])`)

// lineBreaks are the line breaks that a reader of lines knows: .NET's, with which GitHub's runner reads a step's
// output, takes a lone carriage return as one.
var lineBreaks = strings.NewReplacer("\r\n", "\n", "\r", "\n")

// cleanLines splits text into lines that hold nothing but what can be seen: escape sequences are dropped, and other
// control characters, the separators of lines and paragraphs and the marks that turn the direction of writing are
// spelled out.
func cleanLines(text string) []string {
	text = escapeSequence.ReplaceAllString(text, "")
	text = lineBreaks.Replace(strings.ToValidUTF8(text, "\uFFFD"))
	text = strings.TrimRight(text, "\n")
	var b strings.Builder
	for _, r := range text {
		switch {
		case r == '\n' || r == '\t':
			b.WriteRune(r)
		case r < 0x20 || r == 0x7f:
			fmt.Fprintf(&b, `\x%02x`, r)
		case unseen(r):
			fmt.Fprintf(&b, `\u%04x`, r)
		default:
			b.WriteRune(r)
		}
	}
	return strings.Split(b.String(), "\n")
}

// unseen tells of the characters beyond ASCII that change how other text is shown.
func unseen(r rune) bool {
	return r >= 0x80 && r < 0xa0 || r == '\u2028' || r == '\u2029' || r == '\ufeff' || unicode.Is(unicode.Bidi_Control, r)
}

// foreignCommand is what agents of CI hosts take as a command wherever it stands in a line: Azure Pipelines "##vso[" and
// "##[", TeamCity "##teamcity[". The names are bounded, so that one that is half written can be told.
var foreignCommand = regexp.MustCompile(`##([A-Za-z]{0,16}\[)`)

// halfCommand is the beginning of one at the end of a text.
var halfCommand = regexp.MustCompile(`##?[A-Za-z]{0,16}$`)

// breakCommands makes sure that no agent reads a command in text, whichever runs it: only GitHub's and GitLab's are known.
func breakCommands(text string) string { return foreignCommand.ReplaceAllString(text, "# #$1") }

// harmlessAnywhere is breakCommands for the hosts that take no commands of their own.
func harmlessAnywhere(text string, _ bool) string { return breakCommands(text) }

// defuse makes sure that GitHub's runner reads no command in a line. It takes "::" as one when only white space stands
// before it, and the older "##[" anywhere (actions/runner, ActionCommand.cs). White space is what .NET calls so; to be
// sure, format characters that can't be seen count as well.
func defuse(line string) string {
	line = breakCommands(line)
	rest := strings.TrimLeftFunc(line, ignorable)
	if strings.HasPrefix(rest, "::") {
		return line[:len(line)-len(rest)] + ": " + rest[1:]
	}
	return line
}

// ignorable tells of what may stand before a command.
func ignorable(r rune) bool { return unicode.IsSpace(r) || unicode.Is(unicode.Cf, r) }

// defuseText defuses all lines of a text, which keeps its line breaks. Without atStart the first is the rest of a line.
func defuseText(text string, atStart bool) string {
	var b strings.Builder
	for text != "" {
		end := strings.IndexAny(text, "\r\n") + 1
		if end == 0 {
			end = len(text)
		}
		if atStart {
			b.WriteString(defuse(text[:end]))
		} else {
			b.WriteString(breakCommands(text[:end]))
		}
		text, atStart = text[end:], true
	}
	return b.String()
}

// untrustedLimit is how many bytes of another party's text are printed.
const untrustedLimit = 64 << 10

// cutMiddle leaves out the middle of lines that are longer than limit bytes together, because the beginning tells what
// was run and the end how it went wrong.
func cutMiddle(lines []string, limit int) []string {
	total := 0
	for _, l := range lines {
		total += len(l) + 1
	}
	if total <= limit {
		return lines
	}
	var head, tail []string
	kept := 0
	take := func(line string, room int, fromEnd bool) (string, bool) {
		if len(line)+1 <= room {
			return line, true
		}
		if fromEnd {
			line = line[len(line)-max(room-1, 0):]
		} else {
			line = line[:max(room-1, 0)]
		}
		return strings.ToValidUTF8(line, ""), false
	}
	for room, i := limit/2, 0; room > 0 && i < len(lines); i++ {
		l, whole := take(lines[i], room, false)
		head, kept, room = append(head, l), kept+len(l)+1, room-len(l)-1
		if !whole {
			kept-- // its line break is left out
			break
		}
	}
	for room, i := limit/2, len(lines)-1; room > 0 && i >= 0; i-- {
		l, whole := take(lines[i], room, true)
		tail, kept, room = append(tail, l), kept+len(l)+1, room-len(l)-1
		if !whole {
			break
		}
	}
	out := append(head, fmt.Sprintf("[… %d bytes left out …]", total-kept))
	for i := len(tail) - 1; i >= 0; i-- {
		out = append(out, tail[i])
	}
	return out
}

// shorten cuts s to at most limit bytes, at the end of a character.
func shorten(s string, limit int) string {
	if len(s) <= limit {
		return s
	}
	return strings.ToValidUTF8(s[:limit-len("…")], "") + "…"
}
