package publish

import (
	"context"
	"errors"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// verifyPull asks the deployment whether it can pull and run what was registered, and if Airbyte could not run its spec,
// why. One pod answers for all workspaces: what a cluster can pull does not depend on them.
func (j *job) verifyPull(ctx context.Context, rows []Row) {
	var concerned []*Row
	failed := false
	for n := range rows {
		row := &rows[n]
		switch {
		case row.Err == nil && j.VerifyPull:
			concerned = append(concerned, row)
		case has(row.Err, fault.ServerSpecFailed) || has(row.Err, fault.CreateUnknown):
			concerned, failed = append(concerned, row), true
		}
	}
	if j.Deployment == nil || len(concerned) == 0 {
		return
	}
	c := j.connector
	did := func(words string) {
		for _, row := range concerned {
			row.Actions = append(row.Actions, words)
		}
	}
	if j.planning {
		did("verify that the deployment can pull")
		return
	}
	end := j.log.Group("Verify that the deployment can pull")
	defer end()
	if failed {
		j.log.Info("Airbyte could not run the image's spec: looking for the reason where it runs connectors")
	}
	if err := j.Deployment.VerifyPull(ctx, c.Repository, c.Tag, j.digest, j.log); err != nil {
		for _, row := range concerned {
			// What was found in the deployment explains what Airbyte said, and stands before it.
			row.Err = errors.Join(err, row.Err)
		}
		return
	}
	did("the deployment can pull")
	for _, row := range concerned {
		if row.Err != nil {
			j.note(row, connector.Finding{Code: fault.ServerSpecFailed, Severity: connector.Notice,
				Message: "the deployment pulled the image and ran its spec just now, in a pod like Airbyte's.",
				Remedy:  "So the reason is elsewhere: look at the logs of the workload launcher and of airbyte-server, and at Airbyte's own pods (airbyte-publish doctor)."})
		}
	}
}

// has tells whether one of the faults in the error has the code.
func has(err error, code fault.Code) bool {
	for _, f := range fault.List(err) {
		if f.Code == code {
			return true
		}
	}
	return false
}
