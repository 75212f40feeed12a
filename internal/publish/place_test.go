package publish_test

import (
	"context"
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

// place is where images have to be before they are registered.
type place struct {
	*journal
	err error
}

func (p place) Prepare(_ context.Context, repository image.Repository, tag, digest string, _ connector.Log) error {
	p.add("prepare %s:%s@%s", repository, tag, digest)
	return p.err
}

func (p place) Action() string { return "bring it there" }

func TestPlaceIsPreparedBetweenPushAndRegistration(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Place = place{journal: w.journal}
	plan := w.Plan(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if err := plan.Err(); err != nil {
		t.Fatal(err)
	}
	if !slices.Contains(plan.Rows[0].Actions, "bring it there") || slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "prepare") }) {
		t.Errorf("the plan says %q and did %q", plan.Rows[0].Actions, w.events)
	}
	for range 2 {
		w.events = nil
		row := mustPublish(t, w, source("x", "1.0.0")).Rows[0]
		if !slices.Contains(row.Actions, "bring it there") {
			t.Errorf("the row says %q", row.Actions)
		}
		at := func(prefix string) int {
			return slices.IndexFunc(w.events, func(e string) bool { return strings.HasPrefix(e, prefix) })
		}
		prepared := at("prepare registry.example/acme/source-x:1.0.0@" + row.Digest)
		if row.Action == publish.Created && (prepared < at("tag ") || prepared > at("apply ")) || prepared < 0 {
			t.Errorf("it was done in the order %q", w.events)
		}
	}
}

func TestNothingIsRegisteredThatThePlaceHasNot(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.Place = place{journal: w.journal, err: errors.New("the host is down")}
	r := w.Publish(context.Background(), []connector.Connector{source("x", "1.0.0")})
	if err := r.Err(); err == nil || !strings.Contains(err.Error(), "the host is down") {
		t.Errorf("the error is %v", err)
	}
	if slices.ContainsFunc(w.events, func(e string) bool { return strings.HasPrefix(e, "apply ") }) {
		t.Errorf("it was registered: %q", w.events)
	}
	if row := r.Rows[0]; row.Action != publish.None || row.Digest == "" || slices.Contains(row.Actions, "bring it there") {
		t.Errorf("the row is %+v", row)
	}
}
