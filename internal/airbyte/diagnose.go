package airbyte

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// area is the heading of what is looked at here.
const area = "Airbyte"

// Diagnose looks at the instance as publish would use it: whether it is there, its version, edition and authentication,
// whether the credentials get in and what they may do, and which known defects its version has. It only reads. The ids
// are those of the workspaces that are meant; none means the only one.
func (c *Client) Diagnose(ctx context.Context, ids []string) []connector.Check {
	i, err := c.known(ctx)
	if err != nil {
		return []connector.Check{connector.Failed(area, "instance", err)}
	}
	good := func(name, found string) connector.Check {
		return connector.Check{Area: area, Name: name, State: connector.Good, Found: found}
	}
	auth := i.authMode
	if auth == "" {
		auth = "not told"
	}
	checks := []connector.Check{good("instance", i.introduce()+", authentication "+auth)}
	checks = append(checks, i.version.defects(i)...)
	key, err := c.credential(ctx, i, "")
	if err != nil {
		return append(checks, connector.Failed(area, "sign-in", err))
	}
	workspaces, err := c.Workspaces(ctx, ids)
	if err != nil {
		return append(checks, connector.Failed(area, "sign-in and workspace", err))
	}
	for _, w := range workspaces {
		checks = append(checks, good("sign-in and workspace", fmt.Sprintf("%q (%s)", c.clean(w.Name), w.ID)))
		checks = append(checks, c.definitionsCheck(ctx, w))
	}
	return append(checks, roles(i, strings.TrimPrefix(key.authorization, "Bearer ")))
}

// definitionsCheck lists the custom definitions of the workspace, as publish does first of all.
func (c *Client) definitionsCheck(ctx context.Context, w connector.Workspace) connector.Check {
	custom := 0
	for _, t := range []connector.Type{connector.Source, connector.Destination} {
		all, err := c.List(ctx, w.ID, t)
		if err != nil {
			return connector.Failed(area, "definitions", err)
		}
		for _, d := range all {
			if d.Custom && !d.Declarative() {
				custom++
			}
		}
	}
	return connector.Check{Area: area, Name: "definitions", State: connector.Good, Found: fmt.Sprintf("can be listed; %d custom ones made from images", custom)}
}

// editors are the roles that may create a custom definition, and admins those that may also update one in the editions
// that ask (Airbyte's intents.yaml and its ActorDefinitionAccessValidator).
var (
	admins  = []string{"ADMIN", "ORGANIZATION_ADMIN"}
	editors = append([]string{"ORGANIZATION_EDITOR", "WORKSPACE_EDITOR", "WORKSPACE_ADMIN"}, admins...)
)

// roles reads what the token says of itself. An instance that asks for none lets everybody do everything, and so does
// the community edition for everybody who may sign in.
func roles(i instance, token string) connector.Check {
	check := connector.Check{Area: area, Name: "roles", State: connector.Good}
	if i.authMode == "none" || i.edition == "community" {
		check.Found = "whoever gets in may create and update definitions in this edition"
		if i.authMode == "none" {
			check.Found = "the instance asks for no sign-in"
		}
		return check
	}
	held := claimedRoles(token)
	has := func(needed []string) bool {
		return slices.ContainsFunc(held, func(r string) bool { return slices.Contains(needed, strings.ToUpper(r)) })
	}
	shown := fault.Bounded(strings.Join(held, ", "))
	switch {
	case len(held) == 0:
		check.State, check.Found = connector.Skipped, "the token does not say which roles it has"
		check.Remedy = "To create a definition the application's user must be an editor of the workspace, and to update one an administrator of the organization or the instance."
	case has(admins):
		check.Found = shown
	case has(editors):
		check.State, check.Code = connector.Doubt, fault.AirbyteForbidden
		check.Found = shown + ": it may create definitions, and not update them"
		check.Remedy = "This edition lets administrators of the organization or the instance update definitions: make the application's user one."
	default:
		check.State, check.Code = connector.Bad, fault.AirbyteForbidden
		check.Found = shown + ": it may not create definitions"
		check.Remedy = "Give the application's user the role of an administrator of the organization or the instance."
	}
	return check
}

func claimedRoles(token string) []string {
	parts := strings.Split(token, ".")
	if len(parts) != 3 {
		return nil
	}
	payload, err := base64.RawURLEncoding.DecodeString(parts[1])
	if err != nil {
		return nil
	}
	var claims struct {
		Roles []string `json:"roles"`
	}
	if json.Unmarshal(payload, &claims) != nil {
		return nil
	}
	return claims.Roles
}

// defects are what is known to be wrong with a version, as far as it concerns custom connectors.
func (v version) defects(i instance) []connector.Check {
	var found []connector.Check
	add := func(state connector.State, code fault.Code, what, remedy string) {
		found = append(found, connector.Check{Area: area, Name: "known defects", State: state, Found: what, Remedy: remedy, Code: code})
	}
	switch {
	case v.can(brokenUpdate):
		add(connector.Bad, fault.BrokenVersion, i.describe()+" can't update custom definitions (airbytehq/airbyte#59123)", "Upgrade Airbyte to 1.7 or later.")
	case v.can(doubtfulUpdate):
		add(connector.Doubt, fault.BrokenVersion, i.describe()+" may not be able to update custom definitions (airbytehq/airbyte#59123)", "Upgrade Airbyte to 1.7 or later.")
	}
	if !v.can(pullSecretsForJobs) {
		add(connector.Doubt, "", i.describe()+" gives Helm's global.imagePullSecrets to its own pods only, not to connectors'",
			"Set global.jobs.kube.main_container_image_pull_secret as well, or upgrade Airbyte to 1.4 or later.")
	}
	if len(found) == 0 {
		add(connector.Good, "", "none that concern custom connectors in this version", "")
	}
	return found
}
