package registry

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// TestFailureIsShared: connectors that wait for another's failing sign-in get its error instead of failing as slowly
// one after the other; a later one tries anew.
func TestFailureIsShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var requests atomic.Int32
		c := New(Options{Username: "u", Password: "the-password", Hosts: []string{"registry.example"}})
		down := roundTrip(func(req *http.Request) (*http.Response, error) {
			requests.Add(1)
			time.Sleep(time.Second)
			return &http.Response{StatusCode: http.StatusServiceUnavailable, Body: http.NoBody, Request: req}, nil
		})
		c.own, c.ownNoCert, c.others = down, down, down
		start := time.Now()
		errs := make(chan error)
		for i := range 3 {
			go func() {
				errs <- c.CheckPush(t.Context(), image.Repository(fmt.Sprintf("registry.example/acme/source-%d", i)))
			}()
		}
		for range 3 {
			wantFault(t, <-errs, fault.RegistryUnreachable, "503")
		}
		if d := time.Since(start); requests.Load() != maxAttempts || d > 25*time.Second {
			t.Errorf("%d requests in %s", requests.Load(), d)
		}
		wantFault(t, c.CheckPush(t.Context(), "registry.example/acme/source-0"), fault.RegistryUnreachable, "503")
		if requests.Load() != 2*maxAttempts {
			t.Errorf("%d requests after a later call", requests.Load())
		}
	})
}

// TestFailingHelperIsAskedOnce by all who ask at the same time.
func TestFailingHelperIsAskedOnce(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var asked atomic.Int32
		k := &keychain{now: time.Now, run: func(context.Context, string, string) (string, string, error) {
			asked.Add(1)
			time.Sleep(helperTime)
			return "", "no session", errors.New("exit status 1")
		}}
		errs := make(chan error)
		for range 3 {
			go func() {
				_, _, err := dockerConfig{}.ask(t.Context(), k, "test", "registry.example")
				errs <- err
			}()
		}
		for range 3 {
			wantFault(t, <-errs, fault.CredentialHelper, "no session")
		}
		if asked.Load() != 1 {
			t.Errorf("asked %d times", asked.Load())
		}
	})
}

func TestShared(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var c cell[int]
		oops, gate := errors.New("oops"), make(chan struct{})
		var calls atomic.Int32
		get := func(ctx context.Context, value int, err error) <-chan error {
			done := make(chan error, 1)
			go func() {
				got, gerr := c.get(ctx, func() (int, error) {
					calls.Add(1)
					select {
					case <-gate:
						return value, err
					case <-ctx.Done():
						return 0, ctx.Err()
					}
				})
				if gerr == nil && got != 7 {
					t.Errorf("got %d", got)
				}
				done <- gerr
			}()
			synctest.Wait()
			return done
		}
		impatient, giveUp := context.WithCancel(t.Context())
		first, second, third := get(t.Context(), 0, oops), get(t.Context(), 1, nil), get(impatient, 2, nil)
		giveUp()
		if err := <-third; !errors.Is(err, context.Canceled) {
			t.Errorf("who gave up waiting: %v", err)
		}
		close(gate)
		if a, b := <-first, <-second; !errors.Is(a, oops) || !errors.Is(b, oops) || calls.Load() != 1 {
			t.Errorf("%v and %v after %d attempts", a, b, calls.Load())
		}
		// One that is interrupted says nothing of the others' attempts.
		gate = make(chan struct{})
		interrupted, interrupt := context.WithCancel(t.Context())
		first, second = get(interrupted, 0, nil), get(t.Context(), 7, nil)
		interrupt()
		synctest.Wait()
		close(gate)
		if a, b := <-first, <-second; !errors.Is(a, context.Canceled) || b != nil || calls.Load() != 3 {
			t.Errorf("%v and %v after %d attempts", a, b, calls.Load())
		}
		if err := <-get(t.Context(), 8, nil); err != nil || calls.Load() != 3 {
			t.Errorf("made again: %v, %d attempts", err, calls.Load())
		}
	})
}
