package registry

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// recorder is a log that keeps its lines.
type recorder struct {
	mu    sync.Mutex
	lines []string
}

func (r *recorder) add(line string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.lines = append(r.lines, line)
}

func (r *recorder) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return strings.Join(r.lines, "\n")
}

func (r *recorder) Group(string) func()             { return func() {} }
func (r *recorder) Info(format string, args ...any) { r.add(fmt.Sprintf(format, args...)) }
func (r *recorder) Finding(connector.Finding)       {}
func (r *recorder) Untrusted(title, text string)    { r.add(title + text) }

var _ connector.Log = (*recorder)(nil)

// waits is a Sleep that does not wait and notes how long it should have.
type waits struct {
	mu  sync.Mutex
	all []time.Duration
}

func (w *waits) sleep(ctx context.Context, d time.Duration) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.all = append(w.all, d)
	return ctx.Err()
}

func (w *waits) list() []time.Duration {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]time.Duration(nil), w.all...)
}

func randomImage(t testing.TB, size, layers int64) image.Artifact {
	t.Helper()
	img, err := random.Image(size, layers)
	if err != nil {
		t.Fatal(err)
	}
	return image.Artifact{Image: img, Origin: "random"}
}

func digestOf(t testing.TB, a image.Artifact) string {
	t.Helper()
	d, err := a.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func layersOf(t testing.TB, img v1.Image) []v1.Layer {
	t.Helper()
	l, err := img.Layers()
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// wantFault fails the test unless err is a fault of this code whose text holds all the words.
func wantFault(t *testing.T, err error, code fault.Code, words ...string) *fault.Error {
	t.Helper()
	f, ok := errors.AsType[*fault.Error](err)
	if !ok {
		t.Fatalf("got %v (%T), want a fault %s", err, err, code)
	}
	if f.Code != code {
		t.Errorf("got %s, want %s: %v", f.Code, code, f)
	}
	for _, w := range words {
		if !strings.Contains(f.Error(), w) {
			t.Errorf("the error does not say %q: %v", w, f)
		}
	}
	if f.Op == "" || f.Object == "" || f.Cause == "" || f.Remedy == "" && code != fault.Interrupted {
		t.Errorf("the error lacks a part: %#v", f)
	}
	return f
}

// publish pushes and tags.
func publish(ctx context.Context, c *Client, repo image.Repository, tag string, a image.Artifact, log connector.Log) error {
	if err := c.Push(ctx, repo, a, log); err != nil {
		return err
	}
	return c.Tag(ctx, repo, tag, a)
}
