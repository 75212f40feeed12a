package sandbox

import (
	"context"
	"encoding/json"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// command is a job of the commands API.
type command struct {
	check  bool
	cancel context.CancelFunc
	// polls is how many status answers hide that it has completed.
	polls     int
	asked     int
	done      bool
	cancelled bool
	spec      specJob
	checked   CheckResult
	t         connector.Type
}

// start runs work under the id, which is an idempotency key: an id that is there already starts nothing.
func (a *Airbyte) start(id string, c *command, work func(ctx context.Context)) map[string]any {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.commands[id] == nil {
		ctx, cancel := context.WithCancel(a.ctx)
		c.cancel, c.polls = cancel, a.o.CommandPolls
		a.commands[id] = c
		a.background.Go(func() {
			defer cancel()
			work(ctx)
		})
	}
	return map[string]any{"id": id}
}

func (a *Airbyte) runSpecCommand(_ context.Context, b *body) (any, error) {
	id, tag, image := b.required("id"), b.required("docker_image_tag"), b.text("docker_image")
	workspace, definitionID := b.requiredID("workspace_id"), b.id("actor_definition_id")
	if image == "" && definitionID == "" {
		b.refuse("docker_image", "", "must not be null")
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	if !a.hasWorkspace(workspace) {
		return nil, forbidden()
	}
	c := &command{t: connector.Source}
	if definitionID != "" {
		a.mu.Lock()
		d := a.find(definitionID)
		a.mu.Unlock()
		if d == nil {
			return nil, notFound("ACTOR_DEFINITION", definitionID)
		}
		image, c.t = d.Repository, d.Type
	}
	return a.start(id, c, func(ctx context.Context) {
		job := a.runSpec(ctx, c.t, image+":"+tag)
		a.mu.Lock()
		defer a.mu.Unlock()
		c.spec, c.done = job, true
	}), nil
}

func (a *Airbyte) runCheckCommand(_ context.Context, b *body) (any, error) {
	id, actorID := b.required("id"), b.requiredID("actor_id")
	if err := b.check(); err != nil {
		return nil, err
	}
	actor, tag, err := a.actor(actorID)
	if err != nil {
		return nil, err
	}
	c := &command{check: true, t: actor.Type}
	return a.start(id, c, func(context.Context) {
		result := a.o.Check(actor, tag)
		a.mu.Lock()
		defer a.mu.Unlock()
		c.checked, c.done = result, true
	}), nil
}

// commandOf finds the command that the body names. The caller holds the lock.
func (a *Airbyte) commandOf(b *body) (string, *command, error) {
	id := b.required("id")
	if err := b.check(); err != nil {
		return "", nil, err
	}
	c := a.commands[id]
	if c == nil {
		return "", nil, forbidden()
	}
	return id, c, nil
}

func (a *Airbyte) commandStatus(_ context.Context, b *body) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, c, err := a.commandOf(b)
	if err != nil {
		return nil, err
	}
	status := "running"
	switch {
	case c.cancelled:
		status = "cancelled"
	case c.done && c.asked >= c.polls:
		status = "completed"
	case c.asked == 0:
		status = "pending"
	}
	c.asked++
	return map[string]any{"id": id, "status": status}, nil
}

func (a *Airbyte) cancelCommand(_ context.Context, b *body) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, c, err := a.commandOf(b)
	if err != nil {
		return nil, err
	}
	if !c.done {
		c.cancelled = true
		c.cancel()
	}
	return map[string]any{"id": id}, nil
}

// specCommandOutput answers with what came of a spec command. A connector that ended well with an ERROR trace makes
// the command succeed, without a specification.
func (a *Airbyte) specCommandOutput(_ context.Context, b *body) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, c, err := a.outputOf(b, false)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"id": id, "status": "succeeded"}
	if c.spec.spec != nil {
		answer["spec"] = c.spec.spec
	}
	if c.spec.failure != nil {
		answer["status"], answer["failureReason"] = "failed", c.spec.failure
	}
	addLogs(answer, b, c.spec.logs)
	return answer, nil
}

func (a *Airbyte) checkCommandOutput(_ context.Context, b *body) (any, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	id, c, err := a.outputOf(b, true)
	if err != nil {
		return nil, err
	}
	answer := map[string]any{"id": id, "status": "succeeded"}
	if c.checked.Status != CheckSucceeded {
		answer["status"] = "failed"
	}
	if c.checked.Message != "" {
		answer["message"] = c.checked.Message
	}
	if c.checked.JobFailure != "" {
		answer["failureReason"] = a.failure(c.t, c.checked.JobFailure)
	}
	addLogs(answer, b, nil)
	return answer, nil
}

// outputOf finds the completed command of one sort. The caller holds the lock.
func (a *Airbyte) outputOf(b *body, check bool) (string, *command, error) {
	id, c, err := a.commandOf(b)
	if err == nil && (!c.done || c.check != check) {
		err = notFound("COMMAND_OUTPUT", id)
	}
	return id, c, err
}

func addLogs(answer map[string]any, b *body, lines []string) {
	var with bool
	if json.Unmarshal(b.raw("with_logs"), &with) == nil && with {
		if lines == nil {
			lines = []string{}
		}
		answer["logs"] = map[string]any{"logType": "formatted", "logLines": lines}
	}
}
