package sandbox

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

func TestAirbyteFaults(t *testing.T) {
	t.Parallel()
	const path = "source_definitions/create_custom"
	for name, tc := range map[string]struct {
		fault  Fault
		status int
		made   int
	}{
		"answer":            {Fault{At: path, Status: 503, Body: `{"message":"busy"}`}, 503, 0},
		"504 after work":    {Fault{At: path, Kind: AnswerAfterWork}, 504, 1},
		"drop before work":  {Fault{At: path, Kind: DropBeforeWork}, 0, 0},
		"drop after work":   {Fault{At: path, Kind: DropAfterWork}, 0, 1},
		"another path":      {Fault{At: "update", Status: 503}, 200, 1},
		"not the first":     {Fault{At: path, Skip: 1, Status: 503}, 200, 1},
		"only what matches": {Fault{At: path, Status: 503, Match: func(r *http.Request) bool { return r.Header.Get("X") != "" }}, 200, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			i := serveAirbyte(t, AirbyteOptions{Faults: []Fault{tc.fault}})
			status, text, _ := i.ask("POST", "/api/v1/"+path, createBody("A", "1"))
			if status != tc.status || len(i.Definitions()) != tc.made {
				t.Errorf("%d %s, %d definitions, want %d and %d", status, text, len(i.Definitions()), tc.status, tc.made)
			}
			if (status == 504) != strings.Contains(text, "504 Gateway Time-out") {
				t.Errorf("body %q", text)
			}
			if r := i.Requests(); len(r) != 1 || r[0].Status != tc.status || !r[0].Write {
				t.Errorf("requests %+v", r)
			}
		})
	}
	t.Run("504 before work", func(t *testing.T) {
		t.Parallel()
		i := serveAirbyte(t, AirbyteOptions{Faults: []Fault{{At: path, Kind: AnswerBeforeWork, Delay: 20 * time.Millisecond}}})
		if status, _ := i.post(path, createBody("A", "1")); status != 504 || len(i.Definitions()) != 0 {
			t.Errorf("%d, %d definitions at once", status, len(i.Definitions()))
		}
		eventually(t, "the definition is made", func() bool { return len(i.Definitions()) == 1 })
	})
	t.Run("a create outlives its caller", func(t *testing.T) {
		t.Parallel()
		begun, hang := make(chan struct{}), make(chan struct{})
		i := serveAirbyte(t, AirbyteOptions{RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) {
			close(begun)
			<-hang
			return prints(specOf("a"))(ctx, ref)
		}})
		ctx, cancel := context.WithCancel(t.Context())
		raw, err := json.Marshal(createBody("A", "1"))
		if err != nil {
			t.Fatal(err)
		}
		req, err := http.NewRequestWithContext(ctx, "POST", i.url+"/api/v1/"+path, bytes.NewReader(raw))
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Content-Type", "application/json")
		var done sync.WaitGroup
		done.Go(func() {
			if resp, err := http.DefaultClient.Do(req); err == nil {
				t.Errorf("answered %s", resp.Status)
				_ = resp.Body.Close()
			}
		})
		<-begun
		cancel()
		done.Wait()
		close(hang)
		eventually(t, "the definition is made", func() bool { return len(i.Definitions()) == 1 })
	})
}
