package airbyte

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func (c *Client) create(ctx context.Context, i instance, ch connector.Change, log connector.Log) (connector.Definition, error) {
	spec, err := c.preflight(ctx, i, ch, log)
	if err != nil {
		return connector.Definition{}, err
	}
	// The plan's list is as old as the build: only what this one does not have can be what is created now.
	before, err := c.relist(ctx, ch.WorkspaceID, ch.Type)
	if err != nil {
		return connector.Definition{}, err
	}
	q := call{method: http.MethodPost, path: string(ch.Type) + "_definitions/create_custom", op: "create the definition of", object: object(ch),
		timeout: c.options.Timeout}
	if there := ofRepository(before, ch.Repository); len(there) == 1 && there[0].Tag == ch.Tag && there[0].Name == ch.Name {
		// What an earlier run asked for before it was cut off, or another run of the same commit.
		log.Info("it has appeared since the plan was made: %s", there[0].ID)
		return there[0], nil
	} else if len(there) > 0 {
		return connector.Definition{}, &fault.Error{Code: fault.TwinDefinitions, Op: q.op, Object: q.object,
			Cause:  "somebody else registered this repository since the plan was made: " + c.names(there),
			Remedy: "Nothing was created. Run again to update that definition."}
	} else if namesakes := ofName(before, ch.Name); len(namesakes) > 0 {
		return connector.Definition{}, &fault.Error{Code: fault.RepositoryImmutable, Op: q.op, Object: q.object,
			Cause: fmt.Sprintf("the name %q was taken since the plan was made, under another repository: %s", ch.Name, c.names(namesakes)),
			Remedy: "Nothing was created. Publish to that repository, or give this connector another name by the input \"name\" to get a second" +
				" definition, or rename the other one in Airbyte first."}
	}
	content := map[string]any{"name": ch.Name, "dockerRepository": ch.Repository, "dockerImageTag": ch.Tag, "documentationUrl": ch.DocumentationURL}
	if len(ch.ResourceRequirements) > 0 {
		content["resourceRequirements"] = ch.ResourceRequirements
	}
	specSent := spec != nil && i.version.can(createWithSpec)
	if specSent {
		content["connectorSpecification"] = spec
	}
	q.body = map[string]any{"workspaceId": ch.WorkspaceID, string(ch.Type) + "Definition": content}

	log.Info("creating the definition of %s", reference(ch))
	late, end := outlive(ctx, interruptGrace)
	defer end()
	created, err := c.sendCreate(late, ch, q, before, specSent, log)
	if late.Err() != nil && created.ID == "" {
		return created, &fault.Error{Code: fault.Interrupted, Op: q.op, Object: q.object, Err: ctx.Err(),
			Cause: "the run was interrupted while Airbyte was creating it, and Airbyte goes on with that",
			Remedy: "Wait until the definition is listed in Airbyte before the next run; it takes as long as the connector's spec, minutes if the" +
				" image can't be pulled. A run at once would create a second one."}
	}
	return created, err
}

// interruptGrace is how long an interrupted run waits for the answer to a create, which can't be called off. CI hosts
// give a step about ten seconds to end.
const interruptGrace = 5 * time.Second

// outlive returns a context that ends grace after ctx does.
func outlive(ctx context.Context, grace time.Duration) (context.Context, context.CancelFunc) {
	late, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() {
		timer := time.AfterFunc(grace, cancel)
		context.AfterFunc(late, func() { timer.Stop() })
	})
	return late, func() {
		stop()
		cancel()
	}
}

// sendCreate sends a create, once, and finds out what came of it.
func (c *Client) sendCreate(ctx context.Context, ch connector.Change, q call, before []connector.Definition, specSent bool,
	log connector.Log) (connector.Definition, error) {
	deadline := c.options.Now().Add(c.options.Timeout)
	r, err := c.write(ctx, q)
	verdict, id := c.judge(ch.Type, "", r, err)
	switch verdict {
	case refused:
		problem, _ := c.problem(q, r, err)
		return connector.Definition{}, problem
	case failed:
		log.Info("Airbyte failed to create it; making sure that it is not there")
		return c.reconcile(ctx, ch, before, c.options.Now().Add(settleTime), c.explainFailure(q, r, !specSent), log)
	case lost:
		log.Info("%s. Airbyte may be creating it nevertheless: looking for it, and not asking a second time", c.summary(r, err))
		return c.reconcile(ctx, ch, before, later(deadline, c.options.Now().Add(settleTime)), c.createUnknown(q, r, err), log)
	case strange:
		log.Info("the answer is not Airbyte's: looking for the definition")
		return c.reconcile(ctx, ch, before, c.options.Now().Add(settleTime), c.notJSON(q, r, nil), log)
	}
	d, all, err := c.readBack(ctx, ch, id)
	if err != nil {
		return d, err
	}
	return d, c.twins(ch, all)
}

// createUnknown is the error for a create whose fate stayed unknown.
func (c *Client) createUnknown(q call, r *reply, err error) *fault.Error {
	problem, _ := c.problem(q, r, err)
	return &fault.Error{Code: fault.CreateUnknown, Op: q.op, Object: q.object, Err: problem,
		Cause:  fmt.Sprintf("the answer got lost (%s), and the definition has not appeared within the time that was given", c.summary(r, err)),
		Remedy: "Run again in some minutes: if it has appeared by then it is found, else it is created. " + specChecklist}
}

// explainFailure is the error for Airbyte's own failure to write. Since 2.0 its answer tells nothing but an errorId; when
// the server had to run the spec for it, a spec that can't be run is by far the most frequent cause.
func (c *Client) explainFailure(q call, r *reply, ranSpec bool) *fault.Error {
	f := c.explain(q, r)
	if a := c.unread(r); f.Code == fault.AirbyteFailed && ranSpec && a.problem.text == "" {
		f.Code, f.Cause = fault.ServerSpecFailed, "Airbyte failed and tells no cause ("+a.said()+"), which mostly means that it could not run the image's spec"
		f.Remedy = specChecklist + " " + logRemedy
	}
	return f
}

// reconcile looks for what an uncertain create may have created until deadline, and returns otherwise if nothing
// appears.
func (c *Client) reconcile(ctx context.Context, ch connector.Change, before []connector.Definition, deadline time.Time, otherwise error,
	log connector.Log) (connector.Definition, error) {
	var ours []connector.Definition
	all, err := c.watch(ctx, ch, deadline, func(all []connector.Definition) bool {
		ours = nil
		for _, d := range ofRepository(all, ch.Repository) {
			if _, old := find(before, d.ID); !old && d.Tag == ch.Tag && d.Name == ch.Name {
				ours = append(ours, d)
			}
		}
		return len(ours) > 0
	})
	if err != nil {
		return connector.Definition{}, err
	}
	if len(ours) == 0 {
		return connector.Definition{}, otherwise
	}
	log.Info("it is there: %s", ours[0].ID)
	return ours[0], c.twins(ch, all)
}

// twins is an error when more than one definition has the repository of the one that was just created, since there
// was none before.
func (c *Client) twins(ch connector.Change, all []connector.Definition) error {
	same := ofRepository(all, ch.Repository)
	if len(same) < 2 {
		return nil
	}
	return &fault.Error{Code: fault.TwinDefinitions, Op: "create the definition of", Object: object(ch),
		Cause:  fmt.Sprintf("another run created one for the same repository at the same time, now there are %d: %s", len(same), c.names(same)),
		Remedy: "Keep the one that sources or destinations use, or any if none is used, delete the others in Airbyte, then run again."}
}
