package sandbox

import (
	"context"
	"strconv"
)

func (a *Airbyte) health(context.Context, *body) (any, error) {
	return map[string]any{"available": true}, nil
}

func (a *Airbyte) publicHealth(context.Context, *body) (any, error) {
	return "Successful operation", nil
}

// instanceConfiguration tells what the instance is. It does not tell the default workspace, although Airbyte's API
// document says that it does.
func (a *Airbyte) instanceConfiguration(context.Context, *body) (any, error) {
	c := map[string]any{
		"edition":               a.editionName(),
		"initialSetupComplete":  true,
		"defaultUserId":         DefaultOrganizationID,
		"defaultOrganizationId": DefaultOrganizationID,
		"trackingStrategy":      "logging",
	}
	if a.is(hasInstanceVersion) {
		c["version"], c["airbyteUrl"] = a.o.Version, "http://localhost:8000"
		c["defaultOrganizationEmail"] = "somebody@example.com"
	} else {
		c["webappUrl"] = "http://localhost:8000"
	}
	if a.o.Edition == Enterprise {
		c["licenseStatus"] = "pro"
	}
	if a.is(hasAuthMode) {
		c["auth"] = map[string]any{"mode": a.authMode()}
	}
	return c, nil
}

func (a *Airbyte) editionName() string {
	switch {
	case a.o.Edition != Enterprise:
		return "community"
	case a.is(hasEnterpriseEdition):
		return "enterprise"
	}
	return "pro"
}

func (a *Airbyte) authMode() string {
	switch {
	case a.o.Auth.Mode != ClientCredentials:
		return "none"
	case a.o.Edition == Enterprise:
		return "oidc"
	}
	return "simple"
}

func workspaceRead(id, name string) map[string]any {
	return map[string]any{"workspaceId": id, "customerId": id, "name": name, "slug": id, "initialSetupComplete": true,
		"organizationId": DefaultOrganizationID}
}

// workspacesFrom returns size workspaces from the offset on; a size below 1 means all.
func (a *Airbyte) workspacesFrom(offset, size int) []any {
	list := []any{}
	for i, w := range a.o.Workspaces {
		if i >= offset && (size < 1 || i < offset+size) {
			list = append(list, workspaceRead(w.ID, w.Name))
		}
	}
	return list
}

func (a *Airbyte) listWorkspaces(context.Context, *body) (any, error) {
	return map[string]any{"workspaces": a.workspacesFrom(0, 0)}, nil
}

func (a *Airbyte) listOrganizationWorkspaces(_ context.Context, b *body) (any, error) {
	organization := b.requiredID("organizationId")
	size, offset := 0, 0
	if b.raw("pagination") != nil {
		p := b.inside("pagination")
		size, offset = p.number("pageSize", 20), p.number("rowOffset", 0)
	}
	if err := b.check(); err != nil {
		return nil, err
	}
	list := []any{}
	if organization == DefaultOrganizationID {
		list = a.workspacesFrom(offset, size)
	}
	return map[string]any{"workspaces": list}, nil
}

func (a *Airbyte) getWorkspace(_ context.Context, b *body) (any, error) {
	id := b.requiredID("workspaceId")
	if err := b.check(); err != nil {
		return nil, err
	}
	for _, w := range a.o.Workspaces {
		if w.ID == id {
			return workspaceRead(w.ID, w.Name), nil
		}
	}
	return nil, notFound("STANDARD_WORKSPACE", id)
}

func (a *Airbyte) publicWorkspaces(_ context.Context, b *body) (any, error) {
	q := b.request.URL.Query()
	limit, err := strconv.Atoi(q.Get("limit"))
	if err != nil || limit < 1 || limit > 100 {
		limit = 20
	}
	offset, _ := strconv.Atoi(q.Get("offset")) // Without one, or with nonsense, it is 0.
	list := []any{}
	for i, w := range a.o.Workspaces {
		if i >= offset && i < offset+limit {
			list = append(list, map[string]any{"workspaceId": w.ID, "name": w.Name, "dataResidency": "auto"})
		}
	}
	return map[string]any{"data": list, "previous": "", "next": ""}, nil
}

// hasWorkspace tells whether the workspace is one of the instance's.
func (a *Airbyte) hasWorkspace(id string) bool {
	for _, w := range a.o.Workspaces {
		if w.ID == id {
			return true
		}
	}
	return false
}
