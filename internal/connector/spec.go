package connector

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// Spec is what a connector says of itself in its SPEC message.
type Spec struct {
	// Raw is the whole ConnectorSpecification of the protocol, as printed.
	Raw json.RawMessage
	// ConnectionSpecification is the JSON Schema of the connector's configuration.
	ConnectionSpecification json.RawMessage
	DocumentationURL        string
	// ProtocolVersion is "0.2.0" where the connector names none, as Airbyte takes it then.
	ProtocolVersion string
	// SyncModes are a destination's supported_destination_sync_modes.
	SyncModes []string
}

// defaultProtocolVersion is what Airbyte takes when the specification names none (ActorDefinitionHandlerHelper.kt).
const defaultProtocolVersion = "0.2.0"

// destinationSyncModes are the protocol's (airbyte_protocol_v0, DestinationSyncMode).
var destinationSyncModes = []string{"append", "overwrite", "append_dedup", "update", "soft_delete"}

// ReadSpec reads the output of the connector's spec command as Airbyte does: lines of JSON, of which the first of the
// type SPEC counts, and everything else is a log. It returns nil for the Spec when there is none whose parts can be
// read; a finding with the severity Error says why, or what of the Spec would not work.
func ReadSpec(c Connector, run SpecRun) (*Spec, []Finding) {
	var found []Finding
	var first *message
	specs, tooLong := 0, 0
	traces := 0
	for m := range messages(run.Stdout) {
		if text, internal, ok := m.errorTrace(); ok {
			if traces++; traces <= maxTraces {
				found = append(found, traceFinding(text, internal))
			}
		}
		if m.tooLong {
			tooLong++
		}
		if m.kind == "SPEC" {
			if specs++; specs == 1 {
				first = &m
			}
		}
	}
	found = append(found, inspectRun(run, first != nil, tooLong > 0, traces > 0)...)
	if first == nil {
		return nil, found
	}
	if specs > 1 {
		found = append(found, Finding{Code: fault.BadSpec, Severity: Warning,
			Message: fmt.Sprintf("The connector printed %d SPEC messages; Airbyte takes the first.", specs),
			Remedy:  "Print exactly one."})
	}
	spec, problems := readSpecification(c.Type, first.fields["spec"])
	return spec, append(found, problems...)
}

// maxTraces is how many of a connector's error messages become findings; the log has them all.
const maxTraces = 3

func traceFinding(text, internal string) Finding {
	says := "without a message"
	if text != "" {
		says = fault.Bounded(text)
	}
	if internal != "" && internal != text {
		says += " (" + fault.Bounded(internal) + ")"
	}
	return Finding{Code: fault.SpecTrace, Severity: Error, Message: sentence("The connector reported an error: " + says),
		Remedy: "Run the image's spec by hand and correct what it reports."}
}

// inspectRun says what went wrong with the run itself. That no SPEC came is told only when nothing else explains it.
func inspectRun(run SpecRun, hasSpec, tooLong, hasTrace bool) []Finding {
	fail := func(code fault.Code, message, remedy string) []Finding {
		return []Finding{{Code: code, Severity: Error, Message: message, Remedy: remedy}}
	}
	switch {
	case run.TimedOut:
		return fail(fault.SpecTimeout, "The connector's spec did not end in time and was stopped.",
			"Print the specification without waiting for a network, a database or input, and exit.")
	case run.ExitCode > 0 || run.ExitCode < 0 && !run.Truncated:
		// A run that prints too much is killed for it, and that is then no news.
		message, remedy := explainExit(run)
		return fail(fault.SpecFailed, message, remedy)
	case tooLong && !hasSpec:
		return fail(fault.SpecOutputTooLarge,
			"The connector printed a line of more than 20 million characters, which Airbyte does not read.",
			"Print the SPEC message on a shorter line.")
	case run.Truncated && hasSpec:
		return []Finding{{Code: fault.SpecOutputTooLarge, Severity: Warning,
			Message: "The connector printed so much beside its SPEC message that the rest was not read.",
			Remedy:  "Log less while spec runs."}}
	case run.Truncated:
		return fail(fault.SpecOutputTooLarge,
			"The connector printed so much that the rest was not read, and no SPEC message before that.",
			"Log less while spec runs.")
	case hasSpec || hasTrace:
		return nil
	}
	message, remedy := explainNoSpec(run.Stdout)
	return fail(fault.NoSpec, message, remedy)
}

// explainExit says what an exit code means; 126 and 127 are a shell's (POSIX, Shell Command Language 2.8.2).
func explainExit(run SpecRun) (message, remedy string) {
	message = fmt.Sprintf("The connector's spec ended with the exit code %d", run.ExitCode)
	remedy = "Run the image's spec by hand; the connector's log above tells more."
	switch output := string(run.Stderr); {
	case strings.Contains(strings.ToLower(output), "exec format error"):
		message += ": the program was built for another architecture"
		remedy = "Build the image, and what is copied into it, for linux/amd64."
	case run.ExitCode == 127:
		message += ": the command in AIRBYTE_ENTRYPOINT, or something that it calls, was not found"
		remedy = "Check that AIRBYTE_ENTRYPOINT names a file in the image by its absolute path," +
			" and that a script's #! line names an interpreter in the image."
	case run.ExitCode == 126:
		message += ": the command in AIRBYTE_ENTRYPOINT can't be executed"
		remedy = "Make the file executable for uid 1000 (COPY --chmod=755), and check that it was built for linux/amd64."
	case run.ExitCode == 137 || run.ExitCode < 0:
		message = "The connector's spec was killed by a signal, as happens when memory runs out"
		remedy = "Let spec need less memory, or give this machine more."
	}
	if last := lastLine(run.Stderr); last != "" {
		message += ". Its last line of standard error: " + fault.Bounded(last)
	}
	return sentence(message), remedy
}

// sentence ends a text that may end with another party's words by exactly one full stop.
func sentence(s string) string { return strings.TrimRight(s, ". ") + "." }

func lastLine(text []byte) string {
	text = bytes.TrimSpace(text)
	return string(text[bytes.LastIndexByte(text, '\n')+1:])
}

// explainNoSpec looks for the ways in which a specification is printed so that Airbyte does not see it.
func explainNoSpec(stdout []byte) (message, remedy string) {
	message = "The connector printed no SPEC message."
	remedy = `Print on one line of standard output: {"type":"SPEC","spec":{"connectionSpecification":{…}}}`
	var whole map[string]json.RawMessage
	if text := bytes.TrimSpace(stdout); json.Unmarshal(text, &whole) == nil && stringField(whole, "type") == "SPEC" {
		return "The connector printed its SPEC message over several lines; Airbyte reads one message per line.",
			"Print it without line breaks."
	}
	bare := objectField(whole, "connectionSpecification")
	for m := range messages(stdout) {
		if bare == nil {
			bare = objectField(m.fields, "connectionSpecification")
		}
	}
	if bare != nil {
		message = "The connector printed its specification without the SPEC message around it."
	}
	return message, remedy
}

// readSpecification reads and checks a ConnectorSpecification.
func readSpecification(t Type, raw json.RawMessage) (*Spec, []Finding) {
	bad := func(format string, args ...any) []Finding {
		return []Finding{{Code: fault.BadSpec, Severity: Error, Message: fmt.Sprintf(format, args...),
			Remedy: "Correct what the connector's spec prints."}}
	}
	var fields map[string]json.RawMessage
	if json.Unmarshal(raw, &fields) != nil || fields == nil {
		return nil, bad("The SPEC message's spec is not an object.")
	}
	if objectField(fields, "connectionSpecification") == nil {
		return nil, bad("The specification has no connectionSpecification that is an object.")
	}
	spec := &Spec{Raw: slices.Clone(raw), ConnectionSpecification: slices.Clone(fields["connectionSpecification"]),
		ProtocolVersion: defaultProtocolVersion}
	var found []Finding
	for _, name := range []string{"documentationUrl", "changelogUrl"} {
		text, ok := optionalString(fields, name)
		if !ok || !legalURI(text) {
			found = append(found, bad("The specification's %s is not a URL, and Airbyte reads no specification with such a one.", name)...)
		} else if name == "documentationUrl" {
			spec.DocumentationURL = text
		}
	}
	found = append(found, spec.readProtocolVersion(fields)...)
	if t == Destination {
		found = append(found, spec.readDestination(fields)...)
	}
	return spec, append(found, inspectSchema(spec.ConnectionSpecification)...)
}

// legalURI tells whether Airbyte's Java takes the text as a URI (java.net.URI); Go's parser lets more pass.
func legalURI(text string) bool {
	_, err := url.Parse(text)
	return err == nil && !strings.ContainsAny(text, " \"<>\\^`{|}")
}

// optionalString is the field's string, "" when it is absent or null; ok is false when it is something else.
func optionalString(fields map[string]json.RawMessage, name string) (s string, ok bool) {
	raw, there := fields[name]
	return s, !there || json.Unmarshal(raw, &s) == nil
}

// readProtocolVersion wants the major version 0, which is the only one there is; Airbyte compares no more of it.
func (s *Spec) readProtocolVersion(fields map[string]json.RawMessage) []Finding {
	version, ok := optionalString(fields, "protocol_version")
	if ok && version == "" {
		return nil
	}
	parts := strings.Split(version, ".")
	major, err := strconv.Atoi(parts[0])
	if ok && err == nil && len(parts) >= 3 {
		s.ProtocolVersion = version
	}
	switch {
	case !ok || err != nil || len(parts) < 3:
		return []Finding{{Code: fault.ProtocolVersion, Severity: Error,
			Message: fmt.Sprintf("The specification's protocol_version is %s, not three numbers.",
				fault.Bounded(string(fields["protocol_version"]))),
			Remedy: "Write \"0.2.0\", or leave it away."}}
	case major != 0:
		return []Finding{{Code: fault.ProtocolVersion, Severity: Error,
			Message: fmt.Sprintf("The connector speaks version %s of the protocol, and Airbyte supports 0.0.0 to 0.3.0.", fault.Bounded(version)),
			Remedy:  "Write \"0.2.0\", or leave it away."}}
	}
	return nil
}

func (s *Spec) readDestination(fields map[string]json.RawMessage) []Finding {
	var found []Finding
	if s.DocumentationURL == "" {
		found = append(found, Finding{Code: fault.NoDocumentationURL, Severity: Warning,
			Message: "The destination's specification has no documentationUrl; Airbyte up to 1.7 fails when it shows such a destination.",
			Remedy:  "Add documentationUrl to what spec prints, beside connectionSpecification."})
	}
	raw := fields["supported_destination_sync_modes"]
	var modes []string
	if len(raw) > 0 && json.Unmarshal(raw, &modes) != nil {
		return append(found, Finding{Code: fault.NoSyncModes, Severity: Error,
			Message: "The destination's supported_destination_sync_modes is not a list of texts.",
			Remedy:  syncModesRemedy})
	}
	s.SyncModes = modes
	if len(modes) == 0 {
		found = append(found, Finding{Code: fault.NoSyncModes, Severity: Error,
			Message: "The destination names no supported_destination_sync_modes, so no connection to it can be made.",
			Remedy:  syncModesRemedy})
	}
	for _, mode := range modes {
		if !slices.Contains(destinationSyncModes, mode) {
			found = append(found, Finding{Code: fault.NoSyncModes, Severity: Error,
				Message: fmt.Sprintf("The destination's sync mode %q is not one of the protocol's.", fault.Bounded(mode)),
				Remedy:  syncModesRemedy})
			break
		}
	}
	return found
}

var syncModesRemedy = "List those it supports of " + strings.Join(destinationSyncModes, ", ") + "."
