package airbyte

import (
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
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

const (
	// settleTime is how long a definition is looked for at least after an answer that leaves its fate in doubt.
	settleTime = 20 * time.Second
	// firstLook and slowestLook are the waits between two looks.
	firstLook   = time.Second
	slowestLook = 15 * time.Second
	// readBackTime is how long a definition may take to be listed after Airbyte said that it wrote it.
	readBackTime = 5 * time.Second
)

// Check tells, without writing, whether the instance can carry out the change, and returns it as the instance can:
// one that can't rename a definition leaves its name as it is. Whether the credentials have the right to write can't
// be asked. Its errors are *fault.Error, with the code BrokenVersion where this version of Airbyte is unable to.
func (c *Client) Check(ctx context.Context, ch connector.Change) (connector.Change, error) {
	i, err := c.known(ctx)
	if err != nil || ch.Current == nil {
		return ch, err
	}
	f := &fault.Error{Op: "update the definition", Object: object(ch)}
	switch {
	case !ch.Current.Custom || ch.Current.Declarative():
		f.Code, f.Cause = fault.AirbyteRefused, "it belongs to Airbyte's catalogue or to the Connector Builder, not to a Docker image of one's own"
		f.Remedy = "Give the id of a definition that was made from a Docker image."
		return ch, f
	case image.Normalise(ch.Current.Repository) != image.Normalise(ch.Repository):
		f.Code = fault.RepositoryImmutable
		f.Cause = fmt.Sprintf("it has the repository %s, and Airbyte can't change that to %s", c.clean(ch.Current.Repository), ch.Repository)
		f.Remedy = "Publish to the repository that it has, or create another definition."
		return ch, f
	case ch.Tag != ch.Current.Tag && i.version.can(brokenUpdate):
		f.Code, f.Cause = fault.BrokenVersion, i.describe()+" can't update a custom connector (airbytehq/airbyte#59123)"
		f.Remedy = "Upgrade Airbyte to 1.7 or later. Nothing was changed, and no second definition was made."
		return ch, f
	}
	if !i.version.can(rename) {
		ch.Name = ch.Current.Name
	}
	return ch, nil
}

// Apply creates the definition, or updates it when there is a current one, and returns it as the instance lists it
// afterwards. A create is sent once: when its outcome is uncertain (no answer, or a proxy's), the list is watched
// until the definition is there or the time is up. An update may be sent again. Its errors are *fault.Error:
// ServerSpecFailed when Airbyte can't run the image, CreateUnknown when the fate of a create stayed unknown,
// TwinDefinitions when another run registered the same repository at the same time, among others.
func (c *Client) Apply(ctx context.Context, ch connector.Change, log connector.Log) (connector.Definition, error) {
	ch, err := c.Check(ctx, ch)
	if err != nil {
		return connector.Definition{}, err
	}
	i, err := c.known(ctx)
	if err != nil {
		return connector.Definition{}, err
	}
	if ch.Current == nil {
		return c.create(ctx, i, ch, log)
	}
	return c.update(ctx, i, ch, log)
}

// object names what a change is made to, for an error.
func object(ch connector.Change) string {
	if ch.Current == nil {
		return reference(ch) + " in workspace " + ch.WorkspaceID
	}
	return ch.Current.ID + " in workspace " + ch.WorkspaceID
}

// outcome is what the answer to a write tells of it.
type outcome int

const (
	// done: Airbyte says that it did it.
	done outcome = iota
	// refused: it was not done and will not be.
	refused
	// failed: Airbyte itself says that it failed, which after the fact leaves little doubt.
	failed
	// lost: no answer came, or one from something in front of Airbyte, which may be going on with it.
	lost
	// strange: a success that is not Airbyte's, most likely of something in front of it that did not pass the request on.
	strange
)

// judge reads the answer to a write of a definition: with the id, or with any if that is "". It returns the
// definition's id where it is done.
func (c *Client) judge(t connector.Type, id string, r *reply, err error) (outcome, string) {
	if err != nil || !r.ok() {
		return c.judgeFailure(r, err), ""
	}
	var written definition
	if json.Unmarshal(r.body, &written) != nil || uuid.Validate(written.id(t)) != nil || id != "" && !strings.EqualFold(written.id(t), id) {
		return strange, ""
	}
	return done, written.id(t)
}

func (c *Client) judgeFailure(r *reply, err error) outcome {
	switch {
	case err != nil:
		if t, ok := errors.AsType[*transportError](err); ok && !t.unsent {
			return lost
		}
		return refused
	case r.status == http.StatusInternalServerError && c.readProblem(r).json:
		return failed
	case r.status >= 500 || r.status == http.StatusRequestTimeout:
		return lost
	}
	return refused
}

// watch lists the definitions until they satisfy good or the deadline has passed, at least once, and returns the last
// list. A list that can't be had is as good as one that is not good yet; only ctx's end is an error.
func (c *Client) watch(ctx context.Context, ch connector.Change, deadline time.Time, good func([]connector.Definition) bool) ([]connector.Definition, error) {
	for wait := firstLook; ; wait = min(wait*2, slowestLook) {
		all, err := c.relist(ctx, ch.WorkspaceID, ch.Type)
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		if err == nil && good(all) || !c.options.Now().Before(deadline) {
			return all, nil
		}
		if err := c.options.Sleep(ctx, min(wait, deadline.Sub(c.options.Now()))); err != nil {
			return nil, err
		}
	}
}

// readBack returns the definition as the instance lists it, with the whole list, and an error unless it is what the
// change asked for.
func (c *Client) readBack(ctx context.Context, ch connector.Change, id string) (connector.Definition, []connector.Definition, error) {
	var (
		d      connector.Definition
		listed bool
	)
	all, err := c.watch(ctx, ch, c.options.Now().Add(readBackTime), func(all []connector.Definition) bool {
		d, listed = find(all, id)
		return listed && d.Tag == ch.Tag
	})
	if err != nil {
		return d, nil, err
	}
	f := &fault.Error{Code: fault.DefinitionDiffers, Op: "read back the definition", Object: c.clean(id) + " in workspace " + ch.WorkspaceID}
	switch {
	case all == nil:
		f.Cause, f.Remedy = "Airbyte said that it wrote it, but does not list its definitions any more", "Run again to verify it."
	case !listed:
		f.Cause = "Airbyte said that it wrote it, but the workspace does not list it"
		f.Remedy = "It may have been deleted, or granted to another workspace: look for it in Airbyte's settings."
	case !d.Custom:
		f.Cause, f.Remedy = "Airbyte does not list it as a custom definition", "Look at it in Airbyte's settings."
	case image.Normalise(d.Repository) != image.Normalise(ch.Repository):
		f.Cause = fmt.Sprintf("its repository is %s instead of %s", c.clean(d.Repository), ch.Repository)
		f.Remedy = "Look at it in Airbyte's settings."
	case d.Tag != ch.Tag:
		f.Cause = fmt.Sprintf("its tag is %s instead of %s", c.clean(d.Tag), ch.Tag)
		f.Remedy = "Another run may have changed it in the meantime, or a version is pinned for the workspace."
	default:
		return d, all, nil
	}
	return d, all, f
}
