package publish_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// cluster is a deployment that can pull, or can't for a reason.
type cluster struct {
	*journal
	err error
}

func (c cluster) VerifyPull(_ context.Context, repository image.Repository, tag, digest string, _ connector.Log) error {
	c.add("pull %s:%s@%s", repository, tag, digest)
	return c.err
}

func (j *journal) count(prefix string) int {
	j.mu.Lock()
	defer j.mu.Unlock()
	n := 0
	for _, e := range j.events {
		if strings.HasPrefix(e, prefix) {
			n++
		}
	}
	return n
}

func TestDeploymentIsAskedLast(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Deployment, w.VerifyPull = cluster{journal: w.journal}, true
	plan := w.Plan(t.Context(), []connector.Connector{source("x", "1.0.0")})
	if plan.Err() != nil || w.count("pull ") != 0 || !slices.Contains(plan.Rows[0].Actions, "verify that the deployment can pull") {
		t.Errorf("the plan: %v, %q, %q", plan.Err(), plan.Rows[0].Actions, w.events)
	}
	row := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
	if last := w.events[len(w.events)-1]; last != "pull registry.example/acme/source-x:1.0.0@"+row.Digest {
		t.Errorf("the last of %q", w.events)
	}
	if !slices.Contains(row.Actions, "the deployment can pull") {
		t.Errorf("the row says %q", row.Actions)
	}
}

func TestDeploymentThatCantPullFailsTheRow(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Deployment, w.VerifyPull = cluster{w.journal, &fault.Error{Code: fault.DeploymentDenied, Op: "pull", Cause: "no"}}, true
	r := w.Publish(t.Context(), []connector.Connector{source("x", "1.0.0")})
	if row := r.Rows[0]; fault.CodeOf(row.Err) != fault.DeploymentDenied || row.DefinitionID == "" {
		t.Errorf("%+v", row)
	}
}

func TestAirbytesFailureIsLookedInto(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		airbyte, pull error
		asked         int
		codes         []fault.Code
	}{
		"the cluster can't pull":    {&fault.Error{Code: fault.ServerSpecFailed}, &fault.Error{Code: fault.DeploymentDenied}, 1, []fault.Code{fault.DeploymentDenied, fault.ServerSpecFailed}},
		"the cluster can pull":      {&fault.Error{Code: fault.ServerSpecFailed}, nil, 1, []fault.Code{fault.ServerSpecFailed}},
		"nobody knows":              {&fault.Error{Code: fault.CreateUnknown}, &fault.Error{Code: fault.DeploymentDenied}, 1, []fault.Code{fault.DeploymentDenied, fault.CreateUnknown}},
		"it is about another thing": {&fault.Error{Code: fault.AirbyteForbidden}, errors.New("x"), 0, []fault.Code{fault.AirbyteForbidden}},
		"nothing is wrong":          {nil, errors.New("x"), 0, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			// A kubeconfig was given, and verify-pull was not.
			w.Deployment = cluster{w.journal, tt.pull}
			w.airbyte.fail["apply "+workspaceA] = tt.airbyte
			r := w.Publish(t.Context(), []connector.Connector{source("x", "1.0.0")})
			var got []fault.Code
			for _, f := range fault.List(r.Rows[0].Err) {
				got = append(got, f.Code)
			}
			if w.count("pull ") != tt.asked || !slices.Equal(got, tt.codes) {
				t.Errorf("asked %d times, failed with %q", w.count("pull "), got)
			}
			noted := slices.ContainsFunc(r.Rows[0].Findings, func(f connector.Finding) bool { return f.Code == fault.ServerSpecFailed })
			if noted != (name == "the cluster can pull") {
				t.Errorf("findings: %+v", r.Rows[0].Findings)
			}
		})
	}
}
