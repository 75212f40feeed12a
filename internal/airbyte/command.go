package airbyte

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	// firstPoll and slowestPoll are the waits between two questions for a command's status; Airbyte's own pages ask
	// every two seconds.
	firstPoll   = 100 * time.Millisecond
	slowestPoll = 2 * time.Second
	// cancelTimeout is how long the end of a run waits to tell Airbyte that a command is not needed any more.
	cancelTimeout = 5 * time.Second
	// logLines and logBytes bound what is shown of a command's log: its end, where the cause is.
	logLines = 200
	logBytes = 32 << 10
)

// specOutput is what a spec command ends with.
type specOutput struct {
	Status        string          `json:"status"`
	Spec          json.RawMessage `json:"spec"`
	FailureReason *struct {
		ExternalMessage string `json:"externalMessage"`
		InternalMessage string `json:"internalMessage"`
	} `json:"failureReason"`
	Logs struct {
		LogLines  []string `json:"logLines"`
		LogEvents struct {
			Events []struct {
				Level      string `json:"level"`
				Message    string `json:"message"`
				StackTrace string `json:"stackTrace"`
			} `json:"events"`
		} `json:"logEvents"`
	} `json:"logs"`
}

// preflight lets the instance run the image's spec where it would run the connector, without registering anything,
// and returns what it printed. It returns nil where the instance has no command for that, or not for these
// credentials; then the write itself shows whether the image runs.
func (c *Client) preflight(ctx context.Context, i instance, ch connector.Change, log connector.Log) (json.RawMessage, error) {
	if !i.version.can(specCommand) {
		return nil, nil
	}
	id := uuid.NewString()
	q := call{method: http.MethodPost, path: "commands/run/spec", op: "let Airbyte run the spec of", object: reference(ch), body: map[string]string{
		// The id makes the request safe to repeat: a command that exists is not run again.
		"id": id, "workspace_id": ch.WorkspaceID, "docker_image": ch.Repository, "docker_image_tag": ch.Tag}}
	log.Info("letting Airbyte run the spec of %s", reference(ch))
	var started json.RawMessage
	err := c.read(ctx, q, &started)
	if a, ok := errors.AsType[*answer](err); ok {
		switch a.status {
		case http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusNotImplemented:
			log.Info("Airbyte does not run it ahead of the registration (%s): going on without", a.said())
			return nil, nil
		}
	}
	if err != nil {
		if ctx.Err() != nil {
			c.cancel(ctx, id)
		}
		return nil, err
	}
	if err := c.awaitCommand(ctx, q, id); err != nil {
		c.cancel(ctx, id)
		return nil, err
	}
	return c.specOutput(ctx, i, ch, id, log)
}

func reference(ch connector.Change) string { return ch.Repository + ":" + ch.Tag }

// awaitCommand waits until the command has ended, well or not.
func (c *Client) awaitCommand(ctx context.Context, run call, id string) error {
	q := call{method: http.MethodPost, path: "commands/status", op: run.op, object: run.object, body: map[string]string{"id": id}}
	deadline := c.options.Now().Add(c.options.Timeout)
	for wait := firstPoll; ; wait = min(wait*3/2, slowestPoll) {
		var body struct {
			Status string `json:"status"`
		}
		if err := c.read(ctx, q, &body); err != nil {
			return err
		}
		switch body.Status {
		case "":
			return &fault.Error{Code: fault.NotAirbyte, Op: run.op, Object: run.object, Cause: "the answer to the question how far it is holds no status",
				Remedy: addressRemedy}
		case "completed":
			return nil
		case "cancelled":
			return &fault.Error{Code: fault.ServerSpecFailed, Op: run.op, Object: run.object, Cause: "somebody or something cancelled it in Airbyte",
				Remedy: "Try again."}
		}
		if c.options.Now().Add(wait).After(deadline) {
			return &fault.Error{Code: fault.ServerSpecFailed, Op: run.op, Object: run.object,
				Cause: fmt.Sprintf("it did not end within %s", c.options.Timeout), Remedy: "Give it more time by airbyte-timeout; else: " + specChecklist}
		}
		if err := c.options.Sleep(ctx, wait); err != nil {
			return err
		}
	}
}

// cancel ends a command that nobody waits for any more. That it may fail does not matter: the command ends by itself.
func (c *Client) cancel(ctx context.Context, id string) {
	ctx, stop := context.WithTimeout(context.WithoutCancel(ctx), cancelTimeout)
	defer stop()
	_, err := c.once(ctx, call{method: http.MethodPost, path: "commands/cancel", body: map[string]string{"id": id}, timeout: cancelTimeout})
	if err != nil {
		c.options.Log("cancel the spec command: %s", c.clean(err.Error()))
	}
}

func (c *Client) specOutput(ctx context.Context, i instance, ch connector.Change, id string, log connector.Log) (json.RawMessage, error) {
	q := call{method: http.MethodPost, path: "commands/output/spec", op: "let Airbyte run the spec of", object: reference(ch),
		body: map[string]any{"id": id, "with_logs": true}}
	var out specOutput
	if err := c.read(ctx, q, &out); err != nil {
		return nil, err
	}
	// A connector that reports an error and exits with 0 makes the command "succeeded" without a spec.
	if out.Status == "succeeded" && bytes.HasPrefix(out.Spec, []byte("{")) {
		log.Info("%s runs it", i.describe())
		return out.Spec, nil
	}
	if text := out.log(); text != "" {
		log.Untrusted("what Airbyte logged of it", c.redact(text))
	}
	f := &fault.Error{Code: fault.ServerSpecFailed, Op: q.op, Object: q.object, Cause: "it ended without a specification", Remedy: specChecklist}
	if r := out.FailureReason; r != nil {
		text := firstOf(r.ExternalMessage, r.InternalMessage)
		f.Cause, f.Remedy = "Airbyte said: "+c.clean(text), specRemedy(text)
	}
	return nil, f
}

// log is the end of the command's log, in either of the forms in which Airbyte gives it.
func (o specOutput) log() string {
	lines := o.Logs.LogLines
	for _, e := range o.Logs.LogEvents.Events {
		line := strings.TrimSpace(strings.ToUpper(e.Level) + " " + e.Message)
		if e.StackTrace != "" {
			line += "\n" + e.StackTrace
		}
		lines = append(lines, line)
	}
	lines = lines[max(0, len(lines)-logLines):]
	text := strings.Join(lines, "\n")
	if len(text) > logBytes {
		text = "…" + strings.ToValidUTF8(text[len(text)-logBytes:], "")
	}
	return text
}

// specChecklist is what to look at when Airbyte can't say why a spec failed, in the order of likelihood.
const specChecklist = "In the order of likelihood: the cluster can't pull the image (private registry without a pull secret in the jobs' namespace, or an" +
	" address that its nodes can't reach); the image has no AIRBYTE_ENTRYPOINT with an absolute path; it has no build for the nodes' architecture" +
	" (linux/amd64 mostly); the instance puts a registry prefix before repositories that name none. The log of airbyte-server and of the" +
	" workload launcher tells. With verify-pull set to kubernetes, the cluster itself is asked."

// specRemedies explain Airbyte's own words for a spec that failed (its ConnectorWatcher, ConnectorMessageProcessor and
// KubePodClient).
var specRemedies = []struct{ words, remedy string }{
	{"failed to find output files", "The image most likely can't be pulled by the cluster: check the pull secret in the jobs' namespace and that the nodes reach the" +
		" registry. An image without AIRBYTE_ENTRYPOINT, and a connector that hangs, look the same."},
	{"failed to pull container image", "The cluster can't pull the image: check the pull secret in the jobs' namespace and that the nodes reach the registry."},
	{"returned an exit code 127", "The command in AIRBYTE_ENTRYPOINT is not in the image, or AIRBYTE_ENTRYPOINT is not set: it must be an absolute path."},
	{"returned an exit code", "The connector crashed: its log above tells why. Run its spec on this machine as user 1000."},
	{"failed due to an internal error for connector", "The connector ended without a SPEC message: run its spec on this machine and look at what it prints."},
	{"unable to start the spec pod", "The cluster has no room for the pod, or its image can't be pulled: look at the pods in the jobs' namespace."},
}

func specRemedy(text string) string {
	for _, r := range specRemedies {
		if strings.Contains(strings.ToLower(text), r.words) {
			return r.remedy
		}
	}
	return specChecklist
}
