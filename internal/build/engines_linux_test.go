package build

import (
	"context"
	"errors"
	"io"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// builderOn makes a Builder with engines at addresses, each with one build at a time.
func builderOn(t *testing.T, addresses ...string) *Builder {
	t.Helper()
	b := New(Options{BuildkitHosts: addresses, Jobs: 1})
	t.Cleanup(func() { _ = b.Close() })
	return b
}

func TestBuildsAreSpread(t *testing.T) {
	t.Parallel()
	b := builderOn(t, buildtest.Shared(t).Address, buildtest.Buildkitd(t, buildtest.BuildkitdOptions{}).Address)
	var mu sync.Mutex
	running, started := map[*engine]int{}, 0
	met := make(chan struct{})
	var all sync.WaitGroup
	for range 5 {
		all.Go(func() {
			err := b.engines().do(t.Context(), connector.Connector{}, quiet{}, func(ctx context.Context, e *engine) error {
				mu.Lock()
				running[e]++
				if running[e] > 1 {
					t.Errorf("%s has %d builds at once", e.name, running[e])
				}
				// The first two wait for each other: they are on different engines.
				if started++; started == 2 {
					close(met)
				}
				mu.Unlock()
				select {
				case <-met:
				case <-time.After(30 * time.Second):
					t.Error("there are no two builds at once")
				}
				defer func() {
					mu.Lock()
					defer mu.Unlock()
					running[e]--
				}()
				return execute(ctx, t, e, "exit 0")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	if used := b.Engines(); len(used) != 2 {
		t.Errorf("the builds were on %q", used)
	}
}

func TestBuildOfDeadEngineIsMoved(t *testing.T) {
	t.Parallel()
	victim, other := buildtest.Buildkitd(t, buildtest.BuildkitdOptions{}), buildtest.Buildkitd(t, buildtest.BuildkitdOptions{})
	b := builderOn(t, victim.Address, other.Address)
	log := &recorder{}
	var mu sync.Mutex
	var on []string
	var all sync.WaitGroup
	for range 3 {
		all.Go(func() {
			err := b.engines().do(t.Context(), connector.Connector{}, log, func(ctx context.Context, e *engine) error {
				mu.Lock()
				on = append(on, e.name)
				mu.Unlock()
				if strings.HasSuffix(e.name, victim.Address) {
					// A build that does not end by itself.
					ctx, cancel := context.WithTimeout(ctx, time.Minute)
					defer cancel()
					go func() {
						for len(processes(t, victim.Dir+"/marker")) == 0 && ctx.Err() == nil {
							time.Sleep(10 * time.Millisecond)
						}
						victim.Kill()
					}()
					return execute(ctx, t, e, "while :; do /bin/busybox sleep 1; done; : "+victim.Dir+"/marker")
				}
				return execute(ctx, t, e, "exit 0")
			})
			if err != nil {
				t.Error(err)
			}
		})
	}
	all.Wait()
	lost := slices.DeleteFunc(slices.Clone(on), func(name string) bool { return !strings.HasSuffix(name, victim.Address) })
	if len(on) != 4 || len(lost) != 1 {
		t.Errorf("the builds were on %q", on)
	}
	if told := log.String(); !strings.Contains(told, "The connection to "+lost[0]+" was lost") {
		t.Errorf("it told %q", told)
	}
	other.Kill()
	err := b.engines().do(t.Context(), connector.Connector{Label: "mine"}, log, func(ctx context.Context, e *engine) error {
		return execute(ctx, t, e, "exit 0")
	})
	if fault.CodeOf(err) != fault.EngineUnreachable {
		t.Errorf("the error is %v", err)
	}
	for _, text := range []string{victim.Address, other.Address, "mine", "connection refused"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error is %v, which does not tell %q", err, text)
		}
	}
}

func TestFailedBuildIsNotMoved(t *testing.T) {
	t.Parallel()
	b := builderOn(t, buildtest.Shared(t).Address)
	wrong := errors.New("a failed build")
	unavailable := status.Error(codes.Unavailable, "closing transport")
	for name, tt := range map[string]struct {
		errs  []error
		tries int
	}{
		"it failed":                       {[]error{wrong}, 1},
		"a fault":                         {[]error{&fault.Error{Code: fault.SpecFailed, Err: wrong}}, 1},
		"the engine was restarted":        {[]error{&fault.Error{Err: unavailable}, nil}, 2},
		"the stream ended":                {[]error{io.ErrUnexpectedEOF, wrong}, 2},
		"the engine was restarted always": {[]error{unavailable, unavailable, nil}, 2},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			tries := 0
			err := b.engines().do(t.Context(), connector.Connector{}, quiet{}, func(context.Context, *engine) error {
				tries++
				return tt.errs[tries-1]
			})
			if tries != tt.tries || !errors.Is(err, tt.errs[tt.tries-1]) {
				t.Errorf("after %d tries the error is %v", tries, err)
			}
		})
	}
}

func TestWaitingForAnEngineEndsWithTheContext(t *testing.T) {
	t.Parallel()
	b := builderOn(t, buildtest.Shared(t).Address)
	busy, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		_ = b.engines().do(t.Context(), connector.Connector{}, quiet{}, func(ctx context.Context, _ *engine) error {
			close(busy)
			<-ctx.Done()
			return ctx.Err()
		})
	}()
	<-busy
	ctx, cancel := context.WithCancel(t.Context())
	time.AfterFunc(50*time.Millisecond, cancel)
	err := b.engines().do(ctx, connector.Connector{}, quiet{}, func(context.Context, *engine) error {
		t.Error("it has the engine that another has")
		return nil
	})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
}

func TestChoosingIsNotRememberedWhenCancelled(t *testing.T) {
	t.Parallel()
	b := builderOn(t, buildtest.Shared(t).Address)
	cancelled, cancel := context.WithCancel(t.Context())
	cancel()
	nothing := func(context.Context, *engine) error { return nil }
	if err := b.engines().do(cancelled, connector.Connector{}, quiet{}, nothing); !errors.Is(err, context.Canceled) {
		t.Errorf("the error is %v", err)
	}
	if err := b.engines().do(t.Context(), connector.Connector{}, quiet{}, nothing); err != nil {
		t.Error(err)
	}
	if err := b.Close(); err != nil {
		t.Error(err)
	}
	if err := b.engines().do(t.Context(), connector.Connector{}, quiet{}, nothing); err == nil {
		t.Error("it builds after it was closed")
	}
}

func TestUnreachableAddressIsLeftOut(t *testing.T) {
	t.Parallel()
	log := &recorder{}
	engines, err := choose(t, Options{BuildkitHosts: []string{"unix:///nowhere/a.sock", buildtest.Shared(t).Address}}, log)
	if err != nil || len(engines) != 1 {
		t.Fatalf("%d engines, %v", len(engines), err)
	}
	if told := log.String(); !strings.Contains(told, "AP404") || !strings.Contains(told, "unix:///nowhere/a.sock") {
		t.Errorf("it told %q", told)
	}
	_, err = choose(t, Options{BuildkitHosts: []string{"unix:///nowhere/a.sock", "unix:///nowhere/b.sock"}}, log)
	if fault.CodeOf(err) != fault.EngineUnreachable || !strings.Contains(err.Error(), "a.sock") || !strings.Contains(err.Error(), "b.sock") {
		t.Errorf("the error is %v", err)
	}
}
