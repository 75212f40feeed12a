package publish

import (
	"context"
	"errors"
	"sync"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// TagPolicy says what to do when the tag exists already and holds another image.
type TagPolicy string

// The policies: stop, take the image that is there, or move the tag.
const (
	Fail      TagPolicy = "fail"
	Skip      TagPolicy = "skip"
	Overwrite TagPolicy = "overwrite"
)

// Publisher publishes connectors. All its parts are shared by the connectors of a run.
type Publisher struct {
	Builder  Builder
	Registry Registry
	// Workspaces and Definitions are not used when Register is false, and may then be nil.
	Workspaces  Workspaces
	Definitions Definitions
	// Place is prepared for each image before it is registered; nil where nothing is to be done.
	Place Place
	// Deployment is asked why, when Airbyte can't run an image's spec, and with VerifyPull asked in any case whether it
	// can; nil means that nobody said where it is.
	Deployment Deployment
	VerifyPull bool
	// NewLog opens the log of one connector; its second result ends it.
	NewLog func(c connector.Connector) (connector.Log, func())

	// WorkspaceIDs are the workspaces to register in; none means the only one there is.
	WorkspaceIDs []string
	// Register tells whether definitions are created and updated; without it the image is pushed and that is all.
	Register    bool
	IfTagExists TagPolicy
	// Jobs is how many connectors are worked on at once, at least 1.
	Jobs int
}

// Plan tells what Publish would do. It only reads.
func (p *Publisher) Plan(ctx context.Context, connectors []connector.Connector) Result {
	r := p.run(ctx, connectors, true)
	r.Planned = true
	return r
}

// Publish takes each connector from its folder to a live definition. The connectors are independent: what fails with
// one stops none of the others, and each has at least one row in the result.
func (p *Publisher) Publish(ctx context.Context, connectors []connector.Connector) Result {
	return p.run(ctx, connectors, false)
}

// Lint holds each connector's image against the contract, without a layer being read, anything being run, or Airbyte
// and the image's own registry being asked.
func (p *Publisher) Lint(ctx context.Context, connectors []connector.Connector) Result {
	r := p.each(connectors, func(c connector.Connector, log connector.Log) []Row {
		row := newRow(c)
		_, err := p.Builder.Build(ctx, c, log, connector.Checks{Plan: func(_ context.Context, found connector.Image) error {
			row.Digest = found.Digest
			row.Findings = connector.Inspect(c, found)
			return report(c, log, row.Findings)
		}})
		row.Err = interrupted(ctx, c, err)
		return []Row{row}
	})
	r.Linted = true
	return r
}

func (p *Publisher) run(ctx context.Context, connectors []connector.Connector, planning bool) Result {
	workspaces := p.workspaces(ctx)
	return p.each(connectors, func(c connector.Connector, log connector.Log) []Row {
		job := &job{Publisher: p, connector: c, log: log, planning: planning}
		rows, err := job.run(ctx, workspaces)
		for i := range rows {
			rows[i].Findings = append(job.findings[:len(job.findings):len(job.findings)], rows[i].Findings...)
			rows[i].Err = interrupted(ctx, c, errors.Join(rows[i].Err, err))
		}
		return rows
	})
}

// found is a workspace, or why it can't be used.
type found struct {
	connector.Workspace
	err error
}

// workspaces returns a function that looks the workspaces up once for all connectors. Those that were named are looked
// up one by one, so that a wrong id stops no other.
func (p *Publisher) workspaces(ctx context.Context) func() []found {
	look := func(ids []string) []found {
		all, err := p.Workspaces.Workspaces(ctx, ids)
		if err != nil {
			ws := connector.Workspace{}
			if len(ids) == 1 {
				ws.ID = ids[0]
			}
			return []found{{ws, err}}
		}
		var looked []found
		for _, ws := range all {
			looked = append(looked, found{Workspace: ws})
		}
		return looked
	}
	return sync.OnceValue(func() []found {
		if len(p.WorkspaceIDs) == 0 {
			return look(nil)
		}
		var all []found
		for _, id := range p.WorkspaceIDs {
			all = append(all, look([]string{id})...)
		}
		return all
	})
}

// each works on the connectors, Jobs of them at once, and gathers their rows in the connectors' order.
func (p *Publisher) each(connectors []connector.Connector, work func(connector.Connector, connector.Log) []Row) Result {
	rows := make([][]Row, len(connectors))
	slots := make(chan struct{}, max(p.Jobs, 1))
	var wg sync.WaitGroup
	for i, c := range connectors {
		slots <- struct{}{}
		wg.Go(func() {
			defer func() { <-slots }()
			log, done := p.NewLog(c)
			defer done()
			rows[i] = work(c, log)
		})
	}
	wg.Wait()
	var result Result
	for _, r := range rows {
		result.Rows = append(result.Rows, r...)
	}
	return result
}

func newRow(c connector.Connector) Row {
	return Row{Connector: c.Label, Type: c.Type, Name: c.Name, Image: c.Reference(), Repository: string(c.Repository), Tag: c.Tag, Action: None}
}

// report shows findings and turns those that are errors into one error.
func report(c connector.Connector, log connector.Log, findings []connector.Finding) error {
	var errs []error
	for _, f := range findings {
		if f.Severity != connector.Error {
			log.Finding(f)
			continue
		}
		errs = append(errs, &fault.Error{Code: f.Code, Op: "check the image", Object: c.Reference(), Cause: f.Message, Remedy: f.Remedy})
	}
	return errors.Join(errs...)
}

// interrupted turns whatever an ended context led to into the one error that says so.
func interrupted(ctx context.Context, c connector.Connector, err error) error {
	if err == nil || ctx.Err() == nil || fault.CodeOf(err) == fault.Interrupted {
		return err
	}
	return &fault.Error{Code: fault.Interrupted, Op: "publish", Object: c.Reference(), Cause: "the run was interrupted",
		Remedy: "Run it again: what is done already is found and kept.", Err: err}
}
