package publish

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// job is one connector on its way through a run.
type job struct {
	*Publisher
	connector connector.Connector
	log       connector.Log
	planning  bool

	// held is the digest that the tag holds in the registry before the run, or "", and extras those of the extra tags.
	held   string
	extras map[string]string
	// spec is what the image printed on this machine; nil when it was not run.
	spec *connector.Spec
	// digest is the image's, as soon as it is known, and moved tells that the tag was moved to it.
	digest string
	moved  bool
	// findings are those of the image, shown in every row.
	findings []connector.Finding
}

// target is what is to become of the connector in one workspace.
type target struct {
	workspace connector.Workspace
	change    connector.Change
	action    Action
	row       *Row
}

// run returns at least one row. An error that stands for the whole connector is returned apart from the rows' own.
func (j *job) run(ctx context.Context, workspaces func() []found) ([]Row, error) {
	rows, targets, err := j.plan(ctx, workspaces)
	if err != nil || j.Register && len(targets) == 0 {
		// Where no workspace is left, every row has its own error already.
		return rows, err
	}
	artifact, err := j.build(ctx, targets)
	if err != nil {
		return rows, err
	}
	if j.digest, err = artifact.Digest(); err != nil {
		return rows, fmt.Errorf("digest of %s: %w", j.connector.Reference(), err)
	}
	if err := j.push(ctx, artifact, rows); err != nil {
		return rows, err
	}
	if err := j.prepare(ctx, rows); err != nil {
		return rows, err
	}
	for _, t := range targets {
		t.row.Err = j.register(ctx, t)
	}
	j.verifyPull(ctx, rows)
	return rows, nil
}

// plan reads the registry's and Airbyte's state. A workspace in which the connector can't be registered fails alone,
// unless it is the only one: then nothing is worth building.
func (j *job) plan(ctx context.Context, workspaces func() []found) ([]Row, []target, error) {
	end := j.log.Group("Plan")
	defer end()
	var (
		err     error
		rows    []Row
		targets []target
		wg      sync.WaitGroup
	)
	wg.Go(func() { err = j.readTag(ctx) })
	wg.Go(func() { rows, targets = j.readDefinitions(ctx, workspaces) })
	wg.Wait()
	return rows, targets, err
}

// readTag finds out what the tag holds, and proves the right to push where something may have to be pushed.
func (j *job) readTag(ctx context.Context) error {
	c := j.connector
	held, err := j.Publisher.Registry.Digest(ctx, c.Repository, c.Tag)
	if err != nil {
		return err
	}
	j.held = held
	if held != "" {
		j.log.Info("%s exists and holds %s", c.Reference(), held)
	} else {
		j.log.Info("%s does not exist yet", c.Reference())
	}
	if held == "" || j.IfTagExists == Overwrite {
		if err := j.Publisher.Registry.CheckPush(ctx, c.Repository); err != nil {
			return err
		}
	}
	j.extras = map[string]string{}
	for _, tag := range c.ExtraTags {
		extra, err := j.Publisher.Registry.Digest(ctx, c.Repository, tag)
		if err != nil {
			return err
		}
		if j.extras[tag] = extra; extra == "" || extra == held {
			// One that is in place already need not be moved.
			continue
		}
		if err := j.Publisher.Registry.CheckMove(ctx, c.Repository, tag); err != nil {
			return err
		}
	}
	return nil
}

func (j *job) readDefinitions(ctx context.Context, workspaces func() []found) ([]Row, []target) {
	if !j.Register {
		return []Row{newRow(j.connector)}, nil
	}
	all := workspaces()
	rows := make([]Row, len(all))
	var targets []target
	for i, ws := range all {
		rows[i] = newRow(j.connector)
		rows[i].WorkspaceID, rows[i].WorkspaceName, rows[i].Err = ws.ID, ws.Name, ws.err
		t := target{workspace: ws.Workspace, row: &rows[i]}
		if ws.err == nil {
			rows[i].Err = j.decide(ctx, &t)
		}
		if rows[i].Err == nil {
			targets = append(targets, t)
		}
	}
	return rows, targets
}

// decide finds the connector's definition in the target's workspace and what is to be done with it.
func (j *job) decide(ctx context.Context, t *target) error {
	c := j.connector
	defs, err := j.Definitions.List(ctx, t.workspace.ID, c.Type)
	if err != nil {
		return err
	}
	current, err := match(c, t.workspace, defs)
	if err != nil {
		return err
	}
	change := connector.Change{WorkspaceID: t.workspace.ID, Type: c.Type, Current: current, Name: c.Name, Repository: string(c.Repository),
		Tag: c.Tag, DocumentationURL: c.DocumentationURL, ResourceRequirements: c.ResourceRequirements}
	if current != nil && !c.NameGiven {
		change.Name = current.Name
	}
	if t.change, err = j.Definitions.Check(ctx, change); err != nil {
		return err
	}
	switch {
	case current == nil:
		t.action = Created
		j.log.Info("workspace %s: no definition yet", workspaceName(t.workspace))
	case right(*current, t.change):
		t.action = Unchanged
		j.log.Info("workspace %s: definition %s is already at %s", workspaceName(t.workspace), current.ID, current.Tag)
	default:
		t.action = Updated
		j.log.Info("workspace %s: definition %s is at %s", workspaceName(t.workspace), current.ID, current.Tag)
		if current.Name != t.change.Name {
			j.log.Info("its name %q becomes %q", fault.Bounded(current.Name), t.change.Name)
		}
	}
	if current != nil {
		t.row.DefinitionID, t.row.PreviousTag = current.ID, current.Tag
		if c.DocumentationURL != "" && current.DocumentationURL != "" && current.DocumentationURL != c.DocumentationURL {
			j.note(t.row, connector.Finding{Code: fault.DocumentationKept, Severity: connector.Notice,
				Message: fmt.Sprintf("definition %s keeps its documentation URL %s.", current.ID, fault.Bounded(current.DocumentationURL))})
		}
	}
	return nil
}

func workspaceName(ws connector.Workspace) string {
	if ws.Name == "" {
		return ws.ID
	}
	return fmt.Sprintf("%q (%s)", fault.Bounded(ws.Name), ws.ID)
}

func (j *job) note(row *Row, f connector.Finding) {
	j.log.Finding(f)
	row.Findings = append(row.Findings, f)
}

// build makes or takes the image, and checks it unless it is in place already under definitions that are right.
func (j *job) build(ctx context.Context, targets []target) (image.Artifact, error) {
	// Without a group around it: a build's steps are groups of their own, and GitHub's don't nest.
	c := j.connector
	c.Held = j.held
	if j.held != "" && j.IfTagExists == Skip {
		j.log.Info("the tag exists and if-tag-exists is skip: taking the image that is there")
		c.Source = "docker://" + string(c.Repository) + "@" + j.held
	}
	// Where tags move, Airbyte may hold the spec of an image that the tag had before: that is looked at each time.
	inPlace := func(found connector.Image) bool {
		return found.Digest != "" && found.Digest == j.held && unchanged(targets) && j.IfTagExists != Overwrite
	}
	var planned connector.Image
	judged := false
	checks := connector.Checks{Plan: func(ctx context.Context, found connector.Image) error {
		planned, judged = found, true
		if err := j.checkTag(found.Digest); err != nil {
			return err
		}
		if j.held != "" && j.held != found.Digest && j.IfTagExists == Overwrite {
			if err := j.Publisher.Registry.CheckMove(ctx, c.Repository, c.Tag); err != nil {
				return err
			}
		}
		if inPlace(found) {
			j.log.Info("the tag already holds %s: nothing to check", found.Digest)
			return nil
		}
		return j.inspect(found)
	}}
	if !j.planning {
		checks.Candidate = func(ctx context.Context, candidate connector.Candidate) error {
			found := candidate.Image()
			if inPlace(found) {
				return nil
			}
			if !reflect.DeepEqual(found, planned) {
				if err := errors.Join(j.checkTag(found.Digest), j.inspect(found)); err != nil {
					return err
				}
			}
			if err := j.runSpec(ctx, candidate); err != nil {
				return err
			}
			// An engine pushes as soon as this returns.
			return j.Publisher.Registry.Prepare(ctx, c.Repository)
		}
	}
	artifact, err := j.Builder.Build(ctx, c, j.log, checks)
	if err == nil && j.planning && !judged {
		// Only a build can tell more of the image than that it is not the one that the tag holds.
		err = j.checkTag("")
	}
	return artifact, err
}

func unchanged(targets []target) bool {
	for _, t := range targets {
		if t.action != Unchanged {
			return false
		}
	}
	return true
}

// checkTag refuses to go on when the tag would have to be moved and that was not asked for.
func (j *job) checkTag(digest string) error {
	if j.held == "" || j.held == digest || j.IfTagExists == Overwrite {
		return nil
	}
	return j.tagExists(j.held, digest)
}

func (j *job) tagExists(held, digest string) error {
	mine := "this connector's image is " + digest
	if digest == "" {
		mine = "which was made from other files (all that .dockerignore leaves in the folder count, metadata.yaml too), or with other " +
			"build arguments, labels, target or platforms"
	}
	return &fault.Error{Code: fault.TagExists, Op: "push", Object: j.connector.Reference(),
		Cause:  fmt.Sprintf("the tag holds %s, %s, and a tag is a version: Airbyte keeps the spec and nodes keep the image per tag", held, mine),
		Remedy: "Publish under a new tag; or leave out by .dockerignore what is no source; or set if-tag-exists to skip to register what is there, or to overwrite to move the tag."}
}

// inspect holds the image against the contract.
func (j *job) inspect(found connector.Image) error {
	j.findings = connector.Inspect(j.connector, found)
	return report(j.connector, j.log, j.findings)
}

// runSpec runs the image's spec as Airbyte does, where this machine can, and judges what came of it.
func (j *job) runSpec(ctx context.Context, candidate connector.Candidate) error {
	run, err := candidate.RunSpec(ctx)
	if e, ok := errors.AsType[*fault.Error](err); ok && e.Code == fault.SpecNotRun {
		f := connector.Finding{Code: e.Code, Severity: connector.Notice, Message: "spec was not run on this machine: " + e.Cause + ".", Remedy: e.Remedy}
		j.findings = append(j.findings, f)
		j.log.Finding(f)
		return nil
	}
	if err != nil {
		return err
	}
	if logs := connector.SpecLogs(run); logs != "" {
		j.log.Untrusted("what the connector's spec logged", logs)
	}
	spec, findings := connector.ReadSpec(j.connector, run)
	j.findings = append(j.findings, findings...)
	if err := report(j.connector, j.log, findings); err != nil {
		return err
	}
	j.log.Info("spec ran %s and is valid", run.How)
	j.spec = spec
	return nil
}

// push brings the image under its tags, the definition's tag last of all that was uploaded for it.
func (j *job) push(ctx context.Context, artifact image.Artifact, rows []Row) error {
	end := j.log.Group("Push")
	defer end()
	c := j.connector
	did := func(pushed bool, words string) {
		j.log.Info("%s", words)
		for i := range rows {
			rows[i].Pushed = rows[i].Pushed || pushed
			rows[i].Actions = append(rows[i].Actions, words)
		}
	}
	switch {
	case j.held != "" && j.held == j.digest:
		did(false, "image already in place")
	case j.planning && j.held == "":
		did(true, "push")
	case j.planning:
		did(true, "push and move the tag")
	default:
		if err := j.upload(ctx, artifact); err != nil {
			return err
		}
		if j.moved = j.held != ""; j.moved {
			did(true, "pushed and moved the tag")
		} else {
			did(true, "pushed")
		}
	}
	if j.digest != "" && (j.held == j.digest || !j.planning) && (j.held != j.digest || j.Publisher.Registry.PullsAs()) {
		// Without credentials to try it says what is true from the first push on, so it is not asked each time.
		if err := j.Publisher.Registry.CheckPull(ctx, c.Repository, j.digest, j.log); err != nil {
			return err
		}
	}
	// Not before: a digest that the repository does not hold is no output.
	for i := range rows {
		rows[i].Digest = j.digest
	}
	for _, tag := range c.ExtraTags {
		if j.extras[tag] != "" && j.extras[tag] == j.digest {
			continue
		}
		if !j.planning {
			if err := j.Publisher.Registry.Tag(ctx, c.Repository, tag, artifact); err != nil {
				return err
			}
		}
		did(true, "tag "+tag)
	}
	return nil
}

func (j *job) upload(ctx context.Context, artifact image.Artifact) error {
	c := j.connector
	if err := j.Publisher.Registry.Push(ctx, c.Repository, artifact, j.log); err != nil {
		return err
	}
	if j.IfTagExists != Overwrite {
		// Another run may have made the tag since it was read; it is not moved unasked.
		held, err := j.Publisher.Registry.Digest(ctx, c.Repository, c.Tag)
		if err != nil {
			return err
		}
		if held != "" && held != j.digest {
			return j.tagExists(held, j.digest)
		}
	}
	if err := j.Publisher.Registry.Tag(ctx, c.Repository, c.Tag, artifact); err != nil {
		return err
	}
	j.log.Info("%s now is %s", c.Reference(), j.digest)
	return nil
}

// register brings the definition to what the target asks for and verifies what Airbyte holds afterwards.
func (j *job) register(ctx context.Context, t target) error {
	end := j.log.Group("Register in " + workspaceName(t.workspace))
	defer end()
	if t.action == Unchanged && j.moved && t.change.Tag == reread {
		t.action = Updated
	}
	t.row.Action = t.action
	if j.planning {
		t.row.Actions = append(t.row.Actions, planned[t.action])
		return nil
	}
	if t.action == Unchanged {
		t.row.Actions = append(t.row.Actions, "definition unchanged")
		j.log.Info("definition %s unchanged", t.row.DefinitionID)
		return j.verifySpec(ctx, t)
	}
	t.row.Action = None
	definition, err := j.Definitions.Apply(ctx, t.change, j.log)
	if definition.ID != "" && definition.Tag == t.change.Tag {
		// Also a definition that was created beside another one is there now.
		t.row.DefinitionID, t.row.Action = definition.ID, t.action
	}
	if err != nil {
		return err
	}
	words := "created definition"
	if t.action == Updated {
		words = "updated definition"
	}
	t.row.Actions = append(t.row.Actions, words)
	j.log.Info("%s %s: %s", words, definition.ID, j.connector.Reference())
	return j.verifySpec(ctx, t)
}

// reread is the one tag whose spec Airbyte reads again on every update.
const reread = "dev"

var planned = map[Action]string{Created: "create definition", Updated: "update definition", Unchanged: "definition unchanged"}

// verifySpec compares the spec that Airbyte stores with the one the image printed, which proves that the instance read
// this very image. Without a spec from this machine there is nothing to compare.
func (j *job) verifySpec(ctx context.Context, t target) error {
	if j.spec == nil {
		return nil
	}
	stored, err := j.Definitions.Spec(ctx, t.workspace.ID, j.connector.Type, t.row.DefinitionID)
	if err != nil {
		return err
	}
	if connector.SameSpec(stored, j.spec.ConnectionSpecification) {
		j.log.Info("the stored spec equals the image's")
		return nil
	}
	cause := "the stored spec is not the one that the image prints"
	if diff := connector.SpecDiff(stored, j.spec.ConnectionSpecification); len(diff) > 0 {
		cause += " (" + fault.Bounded(fmt.Sprint(diff)) + ")"
	}
	return &fault.Error{Code: fault.StoredSpecDiffers, Op: "verify the definition", Object: t.row.DefinitionID + " in workspace " + t.workspace.ID,
		Cause: cause, Remedy: "Airbyte reads a spec once per tag: publish under a tag that this definition never had."}
}
