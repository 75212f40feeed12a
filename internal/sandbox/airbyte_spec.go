package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// specJob is what came of running spec in the cluster.
type specJob struct {
	spec json.RawMessage
	// failure is nil where a specification came, and where the connector ended well with an ERROR trace instead.
	failure *failureReason
	logs    []string
}

// The words in which Airbyte gives up a spec job.
const (
	noOutput  = "Failed to find output files from connector within timeout of 9 minute(s). Is the connector still running?"
	cantStart = "Unable to start the spec pod. This may be due to insufficient system resources. " +
		"Please check available resources and try again."
	crashed      = "The main container of the SPEC operation returned an exit code %d"
	internalFail = "The spec failed due to an internal error for connector: %s"
)

// runSpec runs the image's spec and judges it as the platform's sidecar does.
func (a *Airbyte) runSpec(ctx context.Context, t connector.Type, ref string) specJob {
	if err := a.wait(ctx, a.o.SpecDelay); err != nil {
		return specJob{failure: a.failure(t, err.Error())}
	}
	run, err := a.o.RunSpec(ctx, ref)
	if err != nil {
		a.o.Log("spec of %s: %v", ref, err)
		if fault.CodeOf(err) == fault.SpecNotRun {
			if a.o.AllowUnrunnable {
				a.o.Log("spec of %s: this machine can't run it; a specification that asks for nothing stands in for it", ref)
				return specJob{spec: minimalSpec}
			}
			return specJob{failure: a.failure(t, cantStart)}
		}
		_ = a.wait(ctx, a.o.FailureDelay) // When the time is cut short, so is the failure.
		return specJob{failure: a.failure(t, noOutput)}
	}
	if run.TimedOut {
		return specJob{failure: a.failure(t, noOutput)}
	}
	job, trace := readMessages(run.Stdout)
	switch {
	case run.ExitCode != 0 && trace != nil:
		job.spec, job.failure = nil, a.failure(t, trace.Message)
		job.failure.InternalMessage, job.failure.StackTrace = trace.InternalMessage, trace.StackTrace
	case run.ExitCode != 0:
		job.spec, job.failure = nil, a.failure(t, fmt.Sprintf(crashed, run.ExitCode))
	case job.spec == nil && trace == nil:
		job.failure = a.failure(t, fmt.Sprintf(internalFail, ref))
	}
	if printed := strings.TrimSpace(string(run.Stderr)); printed != "" {
		job.logs = append(job.logs, strings.Split(printed, "\n")...)
	}
	return job
}

// readSpec is the spec job of create and update, which wait for it. Its failure has no cause in the answer.
func (a *Airbyte) readSpec(ctx context.Context, t connector.Type, ref, workspace string) (json.RawMessage, error) {
	job := a.runSpec(ctx, t, ref)
	if job.spec != nil {
		return job.spec, nil
	}
	if job.failure != nil {
		a.o.Log("spec of %s: %s %q", ref, job.failure.ExternalMessage, job.logs)
	}
	if a.is(hidesErrors) {
		return nil, uncaught("Get Spec Job failed (imageName=%s, isCustomConnector=true, workspaceId=%s)", ref, workspace)
	}
	return nil, uncaught("Get Spec job failed.")
}

// errorTrace is the protocol's ERROR trace.
type errorTrace struct {
	Message         string `json:"message"`
	InternalMessage string `json:"internal_message"`
	StackTrace      string `json:"stack_trace"`
}

// readMessages reads the protocol's messages, one a line: the first SPEC wins, what is no message is a log.
func readMessages(out []byte) (job specJob, trace *errorTrace) {
	for line := range bytes.Lines(out) {
		var m struct {
			Type  string          `json:"type"`
			Spec  json.RawMessage `json:"spec"`
			Log   struct{ Message string }
			Trace struct {
				Type  string      `json:"type"`
				Error *errorTrace `json:"error"`
			} `json:"trace"`
		}
		switch err := json.Unmarshal(line, &m); {
		case err != nil:
			if text := strings.TrimSpace(string(line)); text != "" {
				job.logs = append(job.logs, text)
			}
		case m.Type == "SPEC" && job.spec == nil && isSpec(m.Spec):
			job.spec = m.Spec
		case m.Type == "LOG":
			job.logs = append(job.logs, m.Log.Message)
		case m.Type == "TRACE" && m.Trace.Type == "ERROR" && trace == nil && m.Trace.Error != nil:
			trace = m.Trace.Error
		}
	}
	return job, trace
}

// isSpec tells whether a specification has the one thing that it needs.
func isSpec(spec json.RawMessage) bool {
	var s struct{ ConnectionSpecification map[string]any }
	return json.Unmarshal(spec, &s) == nil && s.ConnectionSpecification != nil
}

// protocolOf is the protocol version that a specification names.
func protocolOf(spec json.RawMessage) string {
	var s struct {
		Version string `json:"protocol_version"`
	}
	if json.Unmarshal(spec, &s) != nil || s.Version == "" {
		return "0.2.0"
	}
	return s.Version
}

// checkProtocol refuses a protocol that the instance does not speak: only the major version counts.
func checkProtocol(spec json.RawMessage) error {
	version := protocolOf(spec)
	if v, ok := parseVersion(version); ok && v[0] == 0 {
		return nil
	}
	return &apiError{status: http.StatusBadRequest, known: true,
		class:   "io.airbyte.commons.server.errors.UnsupportedProtocolVersionException",
		message: fmt.Sprintf("Airbyte Protocol Version %s is not supported. (Must be within [0.0.0:0.3.0])", version)}
}

// getSpecification answers with the stored specification of the version that the workspace runs.
func (k kind) getSpecification(a *Airbyte, _ context.Context, b *body) (any, error) {
	id := b.requiredID(k.idKey())
	workspace, err := a.workspaceOf(b)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.find(id)
	if d == nil || d.Type != k.t {
		return nil, notFound(k.notFound, id)
	}
	var spec struct {
		DocumentationURL        string          `json:"documentationUrl"`
		ConnectionSpecification json.RawMessage `json:"connectionSpecification"`
		SyncModes               []string        `json:"supported_destination_sync_modes"`
	}
	if err := json.Unmarshal(d.Specs[d.effectiveTag(workspace)], &spec); err != nil {
		return nil, uncaught("the stored specification can't be read")
	}
	answer := map[string]any{k.idKey(): id, "connectionSpecification": spec.ConnectionSpecification,
		"jobInfo": a.job("get_spec", nil)}
	if spec.DocumentationURL != "" {
		answer["documentationUrl"] = spec.DocumentationURL
	}
	if k.t == connector.Destination {
		if spec.DocumentationURL == "" && a.is(needsSpecDocumentation) {
			return nil, uncaught("Cannot invoke \"java.net.URI.toString()\" because the return value of " +
				"\"io.airbyte.protocol.models.ConnectorSpecification.getDocumentationUrl()\" is null")
		}
		if spec.SyncModes == nil {
			spec.SyncModes = []string{}
		}
		answer["supportedDestinationSyncModes"] = spec.SyncModes
	}
	return answer, nil
}
