package registry

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/static"
	"github.com/google/go-containerregistry/pkg/v1/types"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// shortIdle is long enough for a busy machine's loopback and short enough for a test.
const shortIdle = 300 * time.Millisecond

// oneByte begins a manifest and sends no more of it.
func oneByte(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", string(types.OCIManifestSchema1))
	w.Header().Set("Content-Length", "500")
	_, _ = io.WriteString(w, "{")
	_ = http.NewResponseController(w).Flush()
	<-r.Context().Done()
}

func TestStalledManifest(t *testing.T) {
	t.Parallel()
	f := newFake(t)
	c, w, log := f.client(Options{Jobs: 1})
	if err := publish(t.Context(), c, f.repo(), "1", randomImage(t, 100, 1), log); err != nil {
		t.Fatal(err)
	}
	c.idle = shortIdle
	f.then(atGet, 2, oneByte)
	if _, err := c.Open(t.Context(), string(f.repo())+":1"); err != nil {
		t.Error(err)
	}
	if len(w.list()) != 2 || !strings.Contains(log.String(), "it sends no more of its answer; trying again") {
		t.Errorf("waited %v:\n%s", w.list(), log)
	}
	f.then(atGet, maxAttempts, oneByte)
	_, err := c.Open(t.Context(), string(f.repo())+":1")
	wantFault(t, err, fault.RegistryUnreachable, f.host()+" sends no more of its answer: nothing moved for 300ms")
}

// TestStalledUpload has a layer that is larger than what two sockets hold.
func TestStalledUpload(t *testing.T) {
	t.Parallel()
	img, err := mutate.AppendLayers(empty.Image, static.NewLayer(make([]byte, 32<<20), types.OCIUncompressedLayer))
	if err != nil {
		t.Fatal(err)
	}
	a := image.Artifact{Image: img}
	stop := make(chan struct{})
	// A server sees that a connection ends only while it reads from it, which this one does not.
	stuck := func(http.ResponseWriter, *http.Request) { <-stop }
	f, g := newFake(t).then(atPatch, 1, stuck), newFake(t).then(atPatch, maxAttempts, stuck)
	t.Cleanup(func() { close(stop) }) // before they close, which waits for what they answer
	c, w, log := f.client(Options{Jobs: 1})
	c.idle = shortIdle
	if err := publish(t.Context(), c, f.repo(), "1", a, log); err != nil {
		t.Error(err)
	}
	if len(w.list()) != 1 || !strings.Contains(log.String(), "it takes no more of what is sent to it; trying again") {
		t.Errorf("waited %v:\n%s", w.list(), log)
	}
	c, _, log = g.client(Options{Jobs: 1})
	c.idle = shortIdle
	wantFault(t, c.Push(t.Context(), g.repo(), a, log), fault.PushFailed, g.host()+" takes no more of what is sent to it")
}

// slow is a body that takes its time for each of its parts.
type slow struct {
	parts int
	each  time.Duration
}

func (s *slow) Read(p []byte) (int, error) {
	if s.parts == 0 {
		return 0, io.EOF
	}
	s.parts--
	time.Sleep(s.each)
	return copy(p, "part"), nil
}

func (s *slow) Close() error { return nil }

type roundTrip func(*http.Request) (*http.Response, error)

func (f roundTrip) RoundTrip(req *http.Request) (*http.Response, error) { return f(req) }

// never answers, after it has read as many parts of the body.
func never(parts int) roundTrip {
	return func(req *http.Request) (*http.Response, error) {
		for range parts {
			if _, err := req.Body.Read(make([]byte, 10)); err != nil {
				break
			}
		}
		<-req.Context().Done()
		return nil, req.Context().Err()
	}
}

// hung is an answer of one part and no more.
func hung(req *http.Request) (*http.Response, error) {
	r, w := io.Pipe()
	go func() {
		_, _ = io.WriteString(w, "part")
		<-req.Context().Done()
		_ = w.CloseWithError(req.Context().Err())
	}()
	return &http.Response{StatusCode: http.StatusOK, Body: r}, nil
}

// TestTimed holds the limits against a fake clock: what is slow but moves is let be.
func TestTimed(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		next  roundTrip
		body  *slow
		takes time.Duration
		stall string
	}{
		"a peer that takes no more": {never(2), &slow{parts: 5}, idleTime, "takes no more"},
		"a peer that took all":      {never(9), &slow{parts: 5}, idleTime + headerTime, "does not answer"},
		"a source that is slow":     {never(9), &slow{parts: 3, each: time.Hour}, 3*time.Hour + idleTime + headerTime, "does not answer"},
		"an answer that stalls":     {hung, nil, idleTime, "sends no more"},
		"an answer before the end":  {func(req *http.Request) (*http.Response, error) { _, _ = req.Body.Read(nil); return hung(req) }, &slow{parts: 5}, idleTime, "sends no more"},
		"an answer that takes hours": {func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: &slow{100, idleTime - 1}}, nil
		}, nil, 100 * (idleTime - 1), ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				req, err := http.NewRequestWithContext(t.Context(), http.MethodPatch, "https://registry.example/x", nil)
				if err != nil {
					t.Fatal(err)
				}
				if tt.body != nil {
					req.Body = tt.body
				}
				start := time.Now()
				res, err := timed{tt.next, New(Options{})}.RoundTrip(req)
				if err == nil {
					_, err = io.Copy(io.Discard, res.Body)
					_ = res.Body.Close()
				}
				if d := time.Since(start); d != tt.takes {
					t.Errorf("took %s, want %s", d, tt.takes)
				}
				stall, ok := errors.AsType[*stallError](err)
				if ok != (tt.stall != "") || ok && !strings.Contains(stall.Error(), tt.stall) {
					t.Errorf("got %v", err)
				}
				if ok && !transient(err) {
					t.Error("it is not tried again")
				}
			})
		})
	}
}

// TestReaderMayBeSlow: one who does not read an answer for hours finds it whole.
func TestReaderMayBeSlow(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, "https://registry.example/x", nil)
		if err != nil {
			t.Fatal(err)
		}
		body := &slow{parts: 3}
		res, err := timed{roundTrip(func(*http.Request) (*http.Response, error) {
			return &http.Response{StatusCode: 200, Body: body}, nil
		}), New(Options{})}.RoundTrip(req)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			time.Sleep(time.Hour)
			if _, err := res.Body.Read(make([]byte, 10)); err != nil {
				t.Fatal(err)
			}
		}
		if err := res.Body.Close(); err != nil {
			t.Fatal(err)
		}
	})
}

// TestLongErrorsKeepTheirStatus: pages of proxies are longer than what go-containerregistry reads of an error.
func TestLongErrorsKeepTheirStatus(t *testing.T) {
	t.Parallel()
	page := strings.Repeat("<html>no</html>", 10_000)
	for status, want := range map[int]fault.Code{403: fault.PushDenied, 404: fault.RepositoryMissing, 413: fault.BodyTooLarge, 500: fault.PushFailed} {
		f := newFake(t).always(atPost, answer(status, page))
		c, _, _ := f.client(Options{})
		wantFault(t, c.CheckPush(t.Context(), f.repo()), want, fmt.Sprint(status), "<html>no</html>")
	}
	f := newFake(t).always(atPost, func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Length", "1000")
		w.WriteHeader(http.StatusForbidden)
		_, _ = io.WriteString(w, "half an err")
		_ = http.NewResponseController(w).Flush()
		panic(http.ErrAbortHandler)
	})
	c, _, _ := f.client(Options{})
	wantFault(t, c.CheckPush(t.Context(), f.repo()), fault.PushDenied, "403", "half an err")
}
