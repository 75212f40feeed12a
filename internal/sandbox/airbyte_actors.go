package sandbox

import (
	"context"
	"encoding/json"
	"slices"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// Actor is a source or destination that somebody has set up from a definition.
type Actor struct {
	ID, Name                  string
	Type                      connector.Type
	DefinitionID, WorkspaceID string
	Configuration             json.RawMessage
	// Pin is the tag that the actor is held fast at; empty means that it follows its workspace.
	Pin string
}

// CheckStatus is what a connection check says.
type CheckStatus string

// What a check says. NoCheckStatus is the answer without a status that a check has whose job itself failed.
const (
	CheckSucceeded CheckStatus = "succeeded"
	CheckFailed    CheckStatus = "failed"
	NoCheckStatus  CheckStatus = ""
)

// CheckResult is what comes of checking an actor's connection. With a JobFailure the job failed, not the connection:
// the image can't be pulled, or the connector crashed. The answer is a 200 all the same.
type CheckResult struct {
	Status              CheckStatus
	Message, JobFailure string
}

// AddActor puts in an actor and returns its id; an empty ID gets a new one.
func (a *Airbyte) AddActor(x Actor) string {
	if x.ID == "" {
		x.ID = uuid.NewString()
	}
	if x.Configuration == nil {
		x.Configuration = json.RawMessage(`{}`)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.actors = append(a.actors, &x)
	return x.ID
}

// actor returns the actor with the id and the tag that it runs.
func (a *Airbyte) actor(id string) (Actor, string, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, x := range a.actors {
		if x.ID == id {
			return *x, a.tagOf(x), nil
		}
	}
	return Actor{}, "", notFound("ACTOR", id)
}

// tagOf is the tag that an actor runs. The caller holds the lock.
func (a *Airbyte) tagOf(x *Actor) string {
	d := a.find(x.DefinitionID)
	switch {
	case x.Pin != "":
		return x.Pin
	case d == nil:
		return ""
	}
	return d.effectiveTag(x.WorkspaceID)
}

// overridden tells whether the actor runs another version than its definition's default. The caller holds the lock.
func (a *Airbyte) overridden(x *Actor) bool {
	d := a.find(x.DefinitionID)
	return d != nil && (x.Pin != "" || d.Pins[x.WorkspaceID] != "")
}

func (k kind) readActor(a *Airbyte, x *Actor) map[string]any {
	r := map[string]any{k.word + "Id": x.ID, k.idKey(): x.DefinitionID, "workspaceId": x.WorkspaceID, "name": x.Name,
		"connectionConfiguration": x.Configuration, k.word + "Name": "", "isVersionOverrideApplied": a.overridden(x)}
	if a.is(hasCreationTimes) {
		r["createdAt"] = a.o.Now().Unix()
	}
	if d := a.find(x.DefinitionID); d != nil {
		r[k.word+"Name"] = d.Name
	}
	return r
}

// listActors lists a workspace's actors; from 1.8.0 on by pages, of 20 unless asked otherwise.
func (k kind) listActors(a *Airbyte, _ context.Context, b *body) (any, error) {
	cursor, size := b.id("cursor"), b.number("pageSize", 20)
	workspace, err := a.workspaceOf(b)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	all := a.actorsOf(k, func(x *Actor) bool { return x.WorkspaceID == workspace })
	answer := map[string]any{}
	if a.is(pagesActors) {
		answer["page_size"], answer["num_connections"] = size, len(all)
		if i := slices.IndexFunc(all, func(x *Actor) bool { return x.ID == cursor }); i >= 0 {
			all = all[i+1:]
		}
		all = all[:min(len(all), max(size, 0))]
	}
	answer[k.word+"s"] = k.readActors(a, all)
	return answer, nil
}

// searchActors looks through the whole instance, without pages.
func (k kind) searchActors(a *Airbyte, _ context.Context, b *body) (any, error) {
	workspace, definitionID := b.id("workspaceId"), b.id(k.idKey())
	if err := b.check(); err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return map[string]any{k.word + "s": k.readActors(a, a.actorsOf(k, func(x *Actor) bool {
		return (workspace == "" || x.WorkspaceID == workspace) && (definitionID == "" || x.DefinitionID == definitionID)
	}))}, nil
}

// actorsOf picks actors of one kind. The caller holds the lock.
func (a *Airbyte) actorsOf(k kind, pick func(*Actor) bool) []*Actor {
	var list []*Actor
	for _, x := range a.actors {
		if x.Type == k.t && pick(x) {
			list = append(list, x)
		}
	}
	return list
}

func (k kind) readActors(a *Airbyte, list []*Actor) []any {
	out := []any{}
	for _, x := range list {
		out = append(out, k.readActor(a, x))
	}
	return out
}

func (k kind) getActor(a *Airbyte, _ context.Context, b *body) (any, error) {
	x, _, err := k.actorOf(a, b)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return k.readActor(a, &x), nil
}

// actorOf finds the actor that the body names, which must be of this kind.
func (k kind) actorOf(a *Airbyte, b *body) (Actor, string, error) {
	id := b.requiredID(k.word + "Id")
	if err := b.check(); err != nil {
		return Actor{}, "", err
	}
	x, tag, err := a.actor(id)
	if err == nil && x.Type != k.t {
		err = notFound("ACTOR", id)
	}
	return x, tag, err
}

func (k kind) createActor(a *Airbyte, _ context.Context, b *body) (any, error) {
	x := Actor{Type: k.t, Name: b.required("name"), DefinitionID: b.requiredID(k.idKey()),
		Configuration: b.object("connectionConfiguration")}
	workspace, err := a.workspaceOf(b)
	if err != nil {
		return nil, err
	}
	x.WorkspaceID = workspace
	a.mu.Lock()
	d := a.find(x.DefinitionID)
	a.mu.Unlock()
	if d == nil || d.Type != k.t {
		return nil, notFound(k.notFound, x.DefinitionID)
	}
	x.ID = a.AddActor(x)
	a.mu.Lock()
	defer a.mu.Unlock()
	return k.readActor(a, &x), nil
}

// checkConnection answers 200 whatever comes of it.
func (k kind) checkConnection(a *Airbyte, _ context.Context, b *body) (any, error) {
	x, tag, err := k.actorOf(a, b)
	if err != nil {
		return nil, err
	}
	result := a.o.Check(x, tag)
	var failure *failureReason
	if result.JobFailure != "" {
		failure = a.failure(k.t, result.JobFailure)
	}
	answer := map[string]any{"jobInfo": a.job("check_connection_"+k.word, failure)}
	if result.Status != NoCheckStatus {
		answer["status"] = result.Status
	}
	if result.Message != "" {
		answer["message"] = result.Message
	}
	return answer, nil
}

// job is the jobInfo of an answer that waited for a job.
func (a *Airbyte) job(configType string, failure *failureReason) map[string]any {
	now := a.o.Now().UnixMilli()
	j := map[string]any{"id": uuid.NewString(), "configType": configType, "createdAt": now, "endedAt": now,
		"succeeded": failure == nil, "connectorConfigurationUpdated": false, "logs": map[string]any{"logLines": []string{}}}
	if a.is(hasTypedLogs) {
		j["logType"] = "formatted"
	}
	if failure != nil {
		j["failureReason"] = failure
	}
	return j
}

// getVersion answers with the version that an actor really runs.
func (k kind) getVersion(a *Airbyte, _ context.Context, b *body) (any, error) {
	x, tag, err := k.actorOf(a, b)
	if err != nil {
		return nil, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	d := a.find(x.DefinitionID)
	if d == nil {
		return nil, notFound(k.notFound, x.DefinitionID)
	}
	field := "isVersionOverrideApplied"
	if a.is(hasOldOverrideField) {
		field = "isOverrideApplied"
	}
	r := map[string]any{"dockerRepository": d.Repository, "dockerImageTag": tag, field: a.overridden(&x),
		"supportState": "supported"}
	for name, in := range map[string]span{"supportsDbt": hasDbtFields, "supportsRefreshes": hasRefreshes,
		"supportsFileTransfer": hasFileTransfer, "supportsDataActivation": hasDataActivation} {
		if a.is(in) {
			r[name] = false
		}
	}
	if a.is(hasDbtFields) {
		r["normalizationConfig"] = map[string]any{"supported": false}
	}
	return r, nil
}
