package connector

import (
	"bytes"
	"encoding/json"
	"iter"
	"strings"
	"unicode/utf8"
)

// maxLineLength is how many characters of one line Airbyte reads (airbyte-platform, VersionedAirbyteStreamFactory).
const maxLineLength = 20_000_000

// message is one line of a connector's output: an AirbyteMessage, or text when kind is empty.
type message struct {
	// kind is the message's type: SPEC, LOG, TRACE, …
	kind string
	// text is the line itself, without its end.
	text []byte
	// fields are the message's, by their exact names; encoding/json would take other cases for a struct, Airbyte does not.
	fields map[string]json.RawMessage
	// tooLong tells that Airbyte would not read the line.
	tooLong bool
}

// messages walks the lines of a connector's output. A line that is no AirbyteMessage is text, as Airbyte takes it for
// a log line.
func messages(output []byte) iter.Seq[message] {
	return func(yield func(message) bool) {
		for line := range bytes.Lines(output) {
			line = bytes.TrimSpace(line)
			if len(line) > 0 && !yield(parseMessage(line)) {
				return
			}
		}
	}
}

func parseMessage(line []byte) message {
	m := message{text: line}
	if len(line) > maxLineLength && utf8.RuneCount(line) > maxLineLength {
		m.tooLong = true
		return m
	}
	if line[0] != '{' {
		return m
	}
	if !utf8.Valid(line) {
		line = bytes.ToValidUTF8(line, []byte("\uFFFD"))
	}
	if json.Unmarshal(line, &m.fields) == nil {
		m.kind = stringField(m.fields, "type")
	}
	return m
}

// stringField is the field's value when it is a string, else "".
func stringField(fields map[string]json.RawMessage, name string) string {
	var s string
	if json.Unmarshal(fields[name], &s) != nil {
		return ""
	}
	return s
}

// objectField is the field's value when it is an object, else nil.
func objectField(fields map[string]json.RawMessage, name string) map[string]json.RawMessage {
	var o map[string]json.RawMessage
	if json.Unmarshal(fields[name], &o) != nil {
		return nil
	}
	return o
}

// errorTrace is what a TRACE message of the type ERROR says; ok is false for every other message.
func (m message) errorTrace() (text, internal string, ok bool) {
	if m.kind != "TRACE" {
		return "", "", false
	}
	trace := objectField(m.fields, "trace")
	if stringField(trace, "type") != "ERROR" {
		return "", "", false
	}
	e := objectField(trace, "error")
	return stringField(e, "message"), stringField(e, "internal_message"), true
}

// The bounds of SpecLogs, in bytes: enough to hold a stack trace, little enough for a CI log.
const (
	maxLogLine = 2_000
	maxLogs    = 16_000
)

// SpecLogs is what a person wants to read of a spec run's output: the text of its LOG and error messages, its other
// text, and its standard error. It is bounded to about 32 kB, where the last lines are kept, and holds no control
// characters but line ends and tabs. It is another party's text: show it by Log.Untrusted only.
func SpecLogs(run SpecRun) string {
	var out strings.Builder
	for m := range messages(run.Stdout) {
		text, internal, isTrace := m.errorTrace()
		log := objectField(m.fields, "log")
		switch {
		case isTrace:
			writeLog(&out, "ERROR "+text)
			if internal != "" && internal != text {
				writeLog(&out, internal)
			}
			writeLog(&out, stringField(objectField(objectField(m.fields, "trace"), "error"), "stack_trace"))
		case m.kind == "LOG":
			writeLog(&out, strings.TrimSpace(stringField(log, "level")+" "+stringField(log, "message")))
			writeLog(&out, stringField(log, "stack_trace"))
		case m.kind == "":
			writeLog(&out, string(m.text[:min(len(m.text), 2*maxLogLine)]))
		}
	}
	var errors strings.Builder
	writeLog(&errors, string(run.Stderr))
	return lastLines(out.String(), maxLogs) + lastLines(errors.String(), maxLogs)
}

// writeLog writes the lines of text, each cut to maxLogLine.
func writeLog(out *strings.Builder, text string) {
	for line := range strings.Lines(strings.ToValidUTF8(text, "\uFFFD")) {
		line = strings.TrimRight(strings.Map(printable, line), " ")
		if line == "" {
			continue
		}
		if len(line) > maxLogLine {
			line = strings.ToValidUTF8(line[:maxLogLine], "") + " …"
		}
		out.WriteString(line)
		out.WriteByte('\n')
	}
}

func printable(r rune) rune {
	if r != '\t' && (r < ' ' || r >= 0x7f && r < 0xa0) {
		return -1
	}
	return r
}

// lastLines keeps the end of text, at most limit bytes of whole lines.
func lastLines(text string, limit int) string {
	if len(text) <= limit {
		return text
	}
	text = text[len(text)-limit:]
	return "… (what came before is left out)\n" + text[strings.IndexByte(text, '\n')+1:]
}
