package airbyte

import (
	"cmp"
	"fmt"
	"regexp"
	"slices"
	"strconv"
)

// version is an Airbyte release. The zero value stands for a version that can't be read, such as the "dev" of a
// development build, and counts as the newest.
type version []int

var versionPattern = regexp.MustCompile(`^v?(\d{1,6})\.(\d{1,6})(?:\.(\d{1,6}))?(?:[-+.].*)?$`)

func parseVersion(s string) version {
	m := versionPattern.FindStringSubmatch(s)
	if m == nil {
		return nil
	}
	v := make(version, 3)
	for i := range v {
		v[i], _ = strconv.Atoi(m[i+1])
	}
	return v
}

// before compares two releases; one that can't be read is before none.
func (v version) before(other version) bool {
	return v != nil && slices.CompareFunc(v, other, cmp.Compare[int]) < 0
}

// capability is something that only some versions of Airbyte do.
type capability string

const (
	// listWorkspaces is the endpoint workspaces/list; without it workspaces are listed by organization.
	listWorkspaces capability = "workspaces/list"
	// updateInWorkspace is the field workspaceId of an update. Without it the server runs the spec in a default place.
	updateInWorkspace capability = "workspaceId of an update"
	// rename is the field name of an update.
	rename capability = "name of an update"
	// specCommand is the endpoint commands/run/spec and its kin: the spec of any image, with the reason of a failure.
	specCommand capability = "commands/run/spec"
	// createWithSpec is the field connectorSpecification of a create, with which the server runs no spec of its own.
	createWithSpec capability = "connectorSpecification of a create"
	// brokenUpdate is the defect airbytehq/airbyte#59123: a custom definition's tag can't be updated, whatever is sent.
	brokenUpdate capability = "airbytehq/airbyte#59123"
	// doubtfulUpdate marks the versions whose sources could not be read, in which that defect may still be.
	doubtfulUpdate capability = "airbytehq/airbyte#59123, perhaps"
	// pullSecretsForJobs is that the chart's global.imagePullSecrets reach connectors' pods.
	pullSecretsForJobs capability = "global.imagePullSecrets for jobs"
)

// capabilities says which versions do what: from since on (all, if nil), and before until (all later ones, if nil).
// It is the only place that knows one version from another.
var capabilities = map[capability]struct{ since, until version }{
	listWorkspaces:    {until: version{1, 7, 0}},
	updateInWorkspace: {since: version{1, 7, 0}},
	rename:            {since: version{1, 1, 0}},
	specCommand:       {since: version{2, 0, 0}},
	createWithSpec:    {since: version{2, 1, 0}},
	brokenUpdate:      {since: version{1, 6, 0}, until: version{1, 6, 2}},
	doubtfulUpdate:    {since: version{1, 6, 2}, until: version{1, 7, 0}},

	pullSecretsForJobs: {since: version{1, 4, 0}},
}

// can tells whether the version does it.
func (v version) can(c capability) bool {
	span, known := capabilities[c]
	if !known {
		panic(fmt.Sprintf("airbyte: no capability %q", c))
	}
	return !v.before(span.since) && (span.until == nil || v.before(span.until))
}
