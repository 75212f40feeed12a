package airbyte

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func TestShared(t *testing.T) {
	t.Parallel()
	always := func(int) bool { return true }
	t.Run("another's cancellation is not one's own", func(t *testing.T) {
		t.Parallel()
		var s shared[int]
		first, cancel := context.WithCancel(t.Context())
		begun := make(chan struct{})
		left := make(chan error)
		go func() {
			_, err := s.get(first, always, func(ctx context.Context) (int, error) {
				close(begun)
				<-ctx.Done()
				return 0, ctx.Err()
			})
			left <- err
		}()
		<-begun
		got := make(chan int)
		go func() {
			v, _ := s.get(t.Context(), always, func(context.Context) (int, error) { return 7, nil })
			got <- v
		}()
		cancel()
		if err := <-left; !errors.Is(err, context.Canceled) {
			t.Errorf("the first got %v", err)
		}
		if v := <-got; v != 7 {
			t.Errorf("the second got %d", v)
		}
	})
	t.Run("one's own cancellation ends the wait", func(t *testing.T) {
		t.Parallel()
		var s shared[int]
		begun, end := make(chan struct{}), make(chan struct{})
		done := make(chan struct{})
		go func() {
			defer close(done)
			_, _ = s.get(t.Context(), always, func(context.Context) (int, error) {
				close(begun)
				<-end
				return 1, nil
			})
		}()
		<-begun
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.get(ctx, always, nil); !errors.Is(err, context.Canceled) {
			t.Errorf("got %v", err)
		}
		close(end)
		<-done
	})
	t.Run("a failure is told to all who waited", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			var (
				s       shared[int]
				wg      sync.WaitGroup
				loads   atomic.Int64
				failing = make(chan struct{})
			)
			for range 10 {
				wg.Go(func() {
					_, err := s.get(t.Context(), always, func(context.Context) (int, error) {
						loads.Add(1)
						<-failing
						return 0, io.EOF
					})
					if !errors.Is(err, io.EOF) {
						t.Errorf("got %v", err)
					}
				})
			}
			synctest.Wait()
			close(failing)
			wg.Wait()
			if n := loads.Load(); n != 1 {
				t.Errorf("tried %d times", n)
			}
		})
	})
	t.Run("a failure is forgotten, a value kept until dropped", func(t *testing.T) {
		t.Parallel()
		var s shared[int]
		n := 0
		load := func(context.Context) (int, error) {
			if n++; n == 1 {
				return 0, io.EOF
			}
			return n, nil
		}
		if _, err := s.get(t.Context(), always, load); !errors.Is(err, io.EOF) {
			t.Errorf("got %v", err)
		}
		for range 2 {
			if v, err := s.get(t.Context(), always, load); v != 2 || err != nil {
				t.Errorf("got %d, %v", v, err)
			}
		}
		s.drop()
		if v, _ := s.get(t.Context(), always, load); v != 3 {
			t.Errorf("got %d after a drop", v)
		}
		if v, _ := s.get(t.Context(), func(int) bool { return false }, load); v != 4 {
			t.Errorf("got %d for a stale value", v)
		}
	})
}

func TestUpgrade(t *testing.T) {
	t.Parallel()
	const path = apiPath + "instance_configuration"
	for _, tt := range []struct{ from, to, want string }{
		{"http://airbyte.example.com", "https://airbyte.example.com" + path, "https://airbyte.example.com"},
		{"http://airbyte.example.com", "https://AIRBYTE.example.com:443" + path, "https://AIRBYTE.example.com:443"},
		{"http://airbyte.example.com:8080", "https://airbyte.example.com" + path, "https://airbyte.example.com"},
		{"http://airbyte.example.com:8080/data", "https://airbyte.example.com:8443/data" + path, "https://airbyte.example.com:8443/data"},
		{"http://[::1]:8080", "https://[::1]:8443" + path, "https://[::1]:8443"},
		{"http://airbyte.example.com", "https://airbyte.example.org" + path, ""},
		{"http://airbyte.example.com", "https://login.airbyte.example.com" + path, ""},
		{"http://airbyte.example.com", "https://airbyte.example.com.example.org" + path, ""},
		{"http://airbyte.example.com", "https://airbyte.example.com@example.org" + path, ""},
		{"http://airbyte.example.com", "https://airbyte.example.com:443@example.org" + path, ""},
		{"http://airbyte.example.com", "https://airbyte.example.com/login", ""},
		{"http://airbyte.example.com/data", "https://airbyte.example.com" + path, ""},
		{"http://airbyte.example.com", "http://airbyte.example.com:8080" + path, ""},
		{"https://airbyte.example.com", "https://airbyte.example.com:8443" + path, ""},
	} {
		from, err := url.Parse(tt.from)
		if err != nil {
			t.Fatal(err)
		}
		to, err := url.Parse(tt.to)
		if err != nil {
			t.Fatal(err)
		}
		got := ""
		if u := New(Options{URL: from}).upgrade(&answer{status: 308, location: to}); u != nil {
			got = u.String()
		}
		if got != tt.want {
			t.Errorf("from %s to %s: goes on with %q, want %q", tt.from, tt.to, got, tt.want)
		}
	}
}

func TestUnreachable(t *testing.T) {
	t.Parallel()
	c := New(Options{URL: &url.URL{Scheme: "https", Host: "airbyte.example.com"}})
	for _, tt := range []struct {
		err   transportError
		words string
		again bool
	}{
		{transportError{err: &net.DNSError{Err: "no such host", Name: "airbyte.example.com", IsNotFound: true}, unsent: true}, "name airbyte.example.com is not known", false},
		{transportError{err: &net.DNSError{Err: "server misbehaving", Name: "airbyte.example.com", IsTemporary: true}, unsent: true}, "misbehaving", true},
		{transportError{err: context.DeadlineExceeded, late: true}, "no answer from airbyte.example.com within 1m0s", true},
		{transportError{err: &url.Error{Op: "Post", URL: "https://airbyte.example.com", Err: io.ErrUnexpectedEOF}}, "broke before the answer", true},
		{transportError{err: &url.Error{Op: "Post", URL: "https://x", Err: errors.New("something\nelse")}}, ": something else", true},
	} {
		f, again := c.unreachable(call{op: "ask", timeout: time.Minute}, &tt.err)
		if !strings.Contains(f.Error(), tt.words) || again != tt.again || f.Code != fault.AirbyteUnreachable {
			t.Errorf("got %v, again %t; want %q, %t", f, again, tt.words, tt.again)
		}
		if isContextError(fmt.Errorf("list: %w", f)) {
			t.Errorf("%v passes for the caller's giving up", f)
		}
	}
}

func TestSleep(t *testing.T) {
	t.Parallel()
	if err := sleep(t.Context(), time.Nanosecond); err != nil {
		t.Error(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sleep(ctx, time.Hour); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
}
