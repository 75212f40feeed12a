package publish

import (
	"errors"
	"reflect"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// Action is what became of a definition in one workspace.
type Action string

// The actions. In a plan they say what would be done.
const (
	Created   Action = "created"
	Updated   Action = "updated"
	Unchanged Action = "unchanged"
	// None means that Airbyte was not to be touched, or that the run failed before it was.
	None Action = "none"
)

// Row is what became of one connector in one workspace. A connector that failed before its workspaces were known, or
// that is not registered anywhere, has one row without a workspace.
type Row struct {
	// Connector is the connector's label: its folder as the user gave it.
	Connector string
	Type      connector.Type
	Name      string
	// Image is Repository and Tag with a colon between them. Digest is what the tag points to, "" until it is known.
	Image, Repository, Tag, Digest string
	// Pushed tells that this run uploaded the image or moved the tag; in a plan, that it would.
	Pushed                     bool
	WorkspaceID, WorkspaceName string
	DefinitionID               string
	Action                     Action
	// PreviousTag is the definition's tag before this run, "" when it is new.
	PreviousTag string
	// Actions are what was done, in a person's words: "pushed", "created definition".
	Actions  []string
	Findings []connector.Finding
	// Err is why this row failed; nil when it did not.
	Err error
}

// Result is what a run did, or with Planned what it would do.
type Result struct {
	// Rows are in the order of the connectors and, within a connector, of its workspaces.
	Rows []Row
	// Planned tells that the rows say what would be done; Linted that the images were only held against the contract.
	Planned, Linted bool
	// Engines are the build engines that were used, in a person's words.
	Engines []string
}

// Err joins the errors of the rows, each error once: a failure that several rows share, such as a refused sign-in, is
// one failure.
func (r Result) Err() error {
	var all []error
	seen := map[error]bool{}
	var add func(error)
	add = func(err error) {
		if err == nil {
			return
		}
		if j, ok := err.(interface{ Unwrap() []error }); ok {
			for _, e := range j.Unwrap() {
				add(e)
			}
			return
		}
		if reflect.ValueOf(err).Comparable() {
			if seen[err] {
				return
			}
			seen[err] = true
		}
		all = append(all, err)
	}
	for _, row := range r.Rows {
		add(row.Err)
	}
	return errors.Join(all...)
}
