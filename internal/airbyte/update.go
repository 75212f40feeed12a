package airbyte

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	// updateTries is how often an update is sent.
	updateTries = 3
	// updatePatience is how long its effect is looked for after its answer got lost, before it is sent again; the
	// second time it is twice as long, the last time all that is left.
	updatePatience = time.Minute
)

func (c *Client) update(ctx context.Context, i instance, ch connector.Change, log connector.Log) (connector.Definition, error) {
	// The server runs the spec of a tag that the definition never had, and asks its connector registry.
	specRuns := ch.Tag != ch.Current.Tag
	if specRuns {
		spec, err := c.preflight(ctx, i, ch, log)
		if err != nil {
			return connector.Definition{}, err
		}
		specRuns = spec == nil
	}
	q := call{method: http.MethodPost, path: string(ch.Type) + "_definitions/update", op: "update the definition", object: object(ch), body: updateBody(i, ch)}
	log.Info("updating the definition %s from %s to %s", ch.Current.ID, c.clean(ch.Current.Tag), ch.Tag)
	deadline := c.options.Now().Add(c.options.Timeout)
	for try := 1; ; try++ {
		q.timeout = deadline.Sub(c.options.Now())
		r, err := c.write(ctx, q)
		verdict, _ := c.judge(ch.Type, ch.Current.ID, r, err)
		if verdict == done {
			d, _, err := c.readBack(ctx, ch, ch.Current.ID)
			return d, err
		}
		problem := c.explainUpdate(i, q, r, err, verdict, specRuns)
		if verdict == refused || fault.CodeOf(problem) == fault.ServerSpecFailed {
			return connector.Definition{}, problem
		}
		now := c.options.Now()
		last := try == updateTries || !now.Before(deadline)
		var until time.Time
		switch {
		case verdict == lost && visible(ch) && last:
			until = later(deadline, now.Add(settleTime))
		case verdict == lost && visible(ch):
			until = now.Add(min(updatePatience<<(try-1), deadline.Sub(now)))
		case verdict == strange && visible(ch):
			until = now.Add(settleTime)
		case last:
			return connector.Definition{}, problem
		default:
			until = now.Add(backoff(try))
		}
		log.Info("%s. Looking whether it is updated nevertheless", c.summary(r, err))
		d, updated, err := c.awaitUpdate(ctx, ch, until)
		if updated || err != nil {
			return d, err
		}
		if last || !c.options.Now().Before(deadline) {
			return connector.Definition{}, problem
		}
		log.Info("it is not; sending the update again")
	}
}

// updateBody is what this version of Airbyte reads of an update. Resource requirements that are left out are kept.
func updateBody(i instance, ch connector.Change) map[string]any {
	body := map[string]any{string(ch.Type) + "DefinitionId": ch.Current.ID, "dockerImageTag": ch.Tag}
	if i.version.can(updateInWorkspace) {
		body["workspaceId"] = ch.WorkspaceID
	}
	if ch.Name != ch.Current.Name {
		body["name"] = ch.Name
	}
	if len(ch.ResourceRequirements) > 0 {
		body["resourceRequirements"] = ch.ResourceRequirements
	}
	return body
}

// visible tells whether a list shows that the update was done. Resource requirements alone it does not: the server
// writes them in a form of its own.
func visible(ch connector.Change) bool { return ch.Tag != ch.Current.Tag || ch.Name != ch.Current.Name }

func (c *Client) awaitUpdate(ctx context.Context, ch connector.Change, until time.Time) (d connector.Definition, updated bool, err error) {
	_, err = c.watch(ctx, ch, until, func(all []connector.Definition) bool {
		d, _ = find(all, ch.Current.ID)
		updated = visible(ch) && d.Tag == ch.Tag && d.Name == ch.Name
		return updated
	})
	return d, updated, err
}

// explainUpdate is the error for an update that did not succeed.
func (c *Client) explainUpdate(i instance, q call, r *reply, err error, verdict outcome, specRuns bool) error {
	switch verdict {
	case strange:
		f := c.notJSON(q, r, nil)
		f.Cause += "; the definition shows no change"
		return f
	case lost:
		problem, _ := c.problem(q, r, err)
		return &fault.Error{Code: fault.AirbyteFailed, Op: q.op, Object: q.object, Err: problem,
			Cause:  fmt.Sprintf("the answer got lost (%s), and the definition has not changed within the time that was given", c.summary(r, err)),
			Remedy: "Run again: an update may be repeated. " + specChecklist}
	case failed:
		f := c.explainFailure(q, r, specRuns)
		if i.version.can(doubtfulUpdate) {
			f.Remedy = "Updates of custom connectors failed in 1.6.0 and 1.6.1 whatever was sent (airbytehq/airbyte#59123), and may do so in " + i.release +
				": upgrade Airbyte to 1.7 or later. " + f.Remedy
			return f
		}
		if f.Code == fault.AirbyteFailed && !specRuns && c.unread(r).problem.errorID != "" {
			f.Remedy = logRemedy + " If it says \"Failed to fetch connector registry entry\", the instance does not reach Airbyte's connector" +
				" registry, which it asks before an update (" + string(fault.AirGapped) + ")."
		}
		return f
	}
	problem, _ := c.problem(q, r, err)
	if a, ok := errors.AsType[*answer](problem); ok && a.status == http.StatusNotFound && a.problem.json {
		return &fault.Error{Code: fault.DefinitionNotFound, Op: q.op, Object: q.object, Cause: "Airbyte does not know it any more (" + a.said() + ")",
			Remedy: "Run again to have it looked up anew.", Err: problem}
	}
	return problem
}

func later(a, b time.Time) time.Time {
	if a.Before(b) {
		return b
	}
	return a
}
