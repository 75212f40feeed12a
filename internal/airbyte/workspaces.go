package airbyte

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// workspace is what is read of Airbyte's WorkspaceRead.
type workspace struct {
	WorkspaceID string `json:"workspaceId"`
	Name        string `json:"name"`
	Tombstone   bool   `json:"tombstone"`
}

const (
	workspacePage = 100
	// maxWorkspaces ends the listing on an instance that has more than anybody would choose from.
	maxWorkspaces = 2000
	// shownWorkspaces is how many of them an error lists.
	shownWorkspaces = 20
)

// Workspaces returns the workspaces with the ids, or with no ids the only one that the instance lists. Its errors are
// *fault.Error, with the code WorkspaceChoice where an id is unknown or several workspaces could be meant.
func (c *Client) Workspaces(ctx context.Context, ids []string) ([]connector.Workspace, error) {
	if len(ids) == 0 {
		return c.onlyWorkspace(ctx)
	}
	found := make([]connector.Workspace, 0, len(ids))
	for _, id := range ids {
		q := call{method: http.MethodPost, path: "workspaces/get", op: "find the workspace", object: id, body: map[string]string{"workspaceId": id}}
		var w workspace
		err := c.read(ctx, q, &w)
		if a, ok := errors.AsType[*answer](err); ok && a.status == http.StatusNotFound && a.problem.json || err == nil && w.Tombstone {
			return nil, &fault.Error{Code: fault.WorkspaceChoice, Op: q.op, Object: q.object, Cause: "this Airbyte has no such workspace",
				Remedy: "Take the id from the address of Airbyte's pages (…/workspaces/ID/…), or leave workspace-ids out to see the list.", Err: err}
		}
		if err != nil {
			return nil, err
		}
		found = append(found, connector.Workspace{ID: id, Name: w.Name})
	}
	return found, nil
}

func (c *Client) onlyWorkspace(ctx context.Context) ([]connector.Workspace, error) {
	i, err := c.known(ctx)
	if err != nil {
		return nil, err
	}
	q := call{method: http.MethodPost, op: "list the workspaces of", object: i.base.String()}
	var all []workspace
	if i.version.can(listWorkspaces) {
		q.path = "workspaces/list"
		all, err = c.listWorkspaces(ctx, q)
	} else {
		q.path = "workspaces/list_by_organization_id"
		all, err = c.listOrganization(ctx, q, i.organizationID)
	}
	if a, ok := errors.AsType[*answer](err); ok && a.status == http.StatusForbidden {
		return nil, &fault.Error{Code: fault.WorkspaceChoice, Op: q.op, Object: q.object, Cause: "the credentials may not list workspaces (" + a.said() + ")",
			Remedy: "Set workspace-ids to the workspace to register in.", Err: err}
	}
	if err != nil {
		return nil, err
	}
	var live []connector.Workspace
	for _, w := range all {
		if !w.Tombstone && uuid.Validate(w.WorkspaceID) == nil {
			live = append(live, connector.Workspace{ID: w.WorkspaceID, Name: w.Name})
		}
	}
	if len(live) == 1 {
		return live, nil
	}
	f := &fault.Error{Code: fault.WorkspaceChoice, Op: "choose the workspace of", Object: i.base.String(),
		Remedy: "Set workspace-ids to the workspace, or workspaces, to register in."}
	if len(live) == 0 {
		f.Cause = "it lists no workspace for these credentials"
		return nil, f
	}
	f.Cause = fmt.Sprintf("it has %d workspaces: %s", len(live), c.choices(live))
	return nil, f
}

// choices lists workspaces as `"name" → id`.
func (c *Client) choices(all []connector.Workspace) string {
	var lines []string
	for n, w := range all {
		if n == shownWorkspaces {
			lines = append(lines, fmt.Sprintf("and %d more", len(all)-n))
			break
		}
		lines = append(lines, fmt.Sprintf("%q → %s", c.clean(w.Name), c.clean(w.ID)))
	}
	return strings.Join(lines, ", ")
}

func (c *Client) listWorkspaces(ctx context.Context, q call) ([]workspace, error) {
	var page struct {
		Workspaces []workspace `json:"workspaces"`
	}
	err := c.read(ctx, q, &page)
	return page.Workspaces, err
}

func (c *Client) listOrganization(ctx context.Context, q call, organizationID string) ([]workspace, error) {
	var all []workspace
	for len(all) < maxWorkspaces {
		q.body = map[string]any{"organizationId": organizationID, "pagination": map[string]int{"pageSize": workspacePage, "rowOffset": len(all)}}
		page, err := c.listWorkspaces(ctx, q)
		if err != nil {
			return nil, err
		}
		all = append(all, page...)
		if len(page) < workspacePage {
			break
		}
	}
	return all, nil
}
