package report

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

func TestMatrixHasWhatIsToBeDone(t *testing.T) {
	t.Parallel()
	row := func(connector string, action publish.Action, pushed bool) publish.Row {
		r := hello()
		r.Connector, r.Image, r.Action, r.Pushed = connector, connector+":1", action, pushed
		return r
	}
	failed := row("failed", publish.Created, true)
	failed.Err = pushDenied
	second := row("second", publish.Unchanged, false)
	alsoSecond := second
	alsoSecond.WorkspaceID, alsoSecond.Action = "other", publish.Created
	result := publish.Result{Planned: true, Rows: []publish.Row{row("new", publish.Created, true), row("unchanged", publish.Unchanged, false), failed,
		second, alsoSecond, row("$odd\n##[x]", publish.Updated, false), row("pushed", publish.None, true), row("neither", publish.None, false)}}
	p := New(result, result.Err(), asIs)
	var matrix struct{ Include []map[string]string }
	if err := json.Unmarshal([]byte(p.Matrix()), &matrix); err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, e := range matrix.Include {
		names = append(names, e["connector"])
		if len(e) != 5 || e["image"] != e["connector"]+":1" || e["type"] != "source" || e["tag"] != "1.1.0" || e["name"] != "Hello" {
			t.Errorf("%v", e)
		}
	}
	if got := strings.Join(names, ","); got != "new,second,$odd\n##[x],pushed" {
		t.Errorf("got %s", got)
	}
	if strings.ContainsAny(p.Matrix(), "$\n") || strings.Contains(p.Matrix(), "##[") {
		t.Error(p.Matrix())
	}
	if got := New(publish.Result{Planned: true}, nil, asIs).Matrix(); got != `{"include":[]}` {
		t.Error(got)
	}
	for name, c := range results() {
		for _, o := range New(c.result, c.err, asIs).Outputs() {
			if o.Name == "matrix" && (o.Value != "") != c.result.Planned {
				t.Errorf("%s: %s", name, o.Value)
			}
		}
	}
}

func TestCommentFits(t *testing.T) {
	t.Parallel()
	short := New(publish.Result{Rows: []publish.Row{hello()}}, nil, asIs)
	if short.Comment() != short.Markdown() {
		t.Error("a short summary was changed")
	}
	var many publish.Result
	for range 500 {
		many.Rows = append(many.Rows, hello())
		many.Rows[len(many.Rows)-1].Connector = strings.Repeat("x", len(many.Rows)%7+1)
	}
	long := New(many, nil, asIs)
	got := long.Comment()
	if len(got) > 1<<16 || len(long.Markdown()) < 1<<16 || !strings.HasSuffix(got, "\n\n_The rest was left out: a comment can't hold more. The job's summary has all of it._\n") {
		t.Errorf("%d bytes of %d, ending in %q", len(got), len(long.Markdown()), got[max(0, len(got)-200):])
	}
	if !strings.HasPrefix(long.Markdown(), got[:strings.LastIndex(got, "\n\n_")]) {
		t.Error("it is not the summary's beginning")
	}
}
