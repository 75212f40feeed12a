package sandbox

import (
	"io"
	"net/http"
	"slices"
	"sync"
	"time"
)

// FaultKind is what goes wrong with a request.
type FaultKind int

// The kinds of faults. "The work" is what the server would have done without the fault.
const (
	// Answer gives Status and Body instead of doing the work.
	Answer FaultKind = iota
	// AnswerAfterWork does the work, then gives Status and Body: a proxy whose patience ended.
	// Without a Status it is a 504 with a proxy's HTML page.
	AnswerAfterWork
	// AnswerBeforeWork gives Status and Body at once, and does the work Delay later. Without a Status it is a 504
	// with a proxy's HTML page. Only the Airbyte stand-in has it.
	AnswerBeforeWork
	// DropBeforeWork closes the connection without doing the work.
	DropBeforeWork
	// DropAfterWork does the work, then closes the connection without an answer.
	DropAfterWork
	// Slow waits for Delay, then does the work.
	Slow
	// ExpireTokens makes every token issued so far invalid, then goes on: the request meets a 401.
	ExpireTokens
	// CorruptDigest does the work but names another digest in Docker-Content-Digest. Only the registry has it.
	CorruptDigest
)

// GatewayTimeoutHTML is the page an nginx in front of a server sends with a 504.
const GatewayTimeoutHTML = "<html>\r\n<head><title>504 Gateway Time-out</title></head>\r\n<body>\r\n" +
	"<center><h1>504 Gateway Time-out</h1></center>\r\n<hr><center>nginx</center>\r\n</body>\r\n</html>\r\n"

// Fault is something that goes wrong with certain requests.
type Fault struct {
	// At selects the requests: for the Airbyte stand-in the end of the path ("/source_definitions/create_custom"),
	// for the registry a Step. Empty means all.
	At string
	// Match narrows the selection further; nil takes all.
	Match func(*http.Request) bool
	// Skip is how many selected requests pass unharmed first.
	Skip int
	// Times is how many selected requests it hits then: 0 means one, a negative number all.
	Times int
	Kind  FaultKind
	// Status, Header and Body are the answer. A Body that begins with "<" is text/html, else application/json, unless
	// Header says otherwise.
	Status int
	Header http.Header
	Body   string
	Delay  time.Duration
}

// script holds the faults that are still to come.
type script struct {
	mu     sync.Mutex
	faults []Fault
}

func newScript(faults []Fault) *script {
	s := &script{}
	for _, f := range faults {
		s.add(f)
	}
	return s
}

func (s *script) add(f Fault) {
	if f.Times == 0 {
		f.Times = 1
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.faults = append(s.faults, f)
}

// take returns the first fault that hits the request, or nil, and counts it off.
func (s *script) take(r *http.Request, at func(string) bool) *Fault {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i := range s.faults {
		f := &s.faults[i]
		if f.At != "" && !at(f.At) || f.Match != nil && !f.Match(r) {
			continue
		}
		if f.Skip > 0 {
			f.Skip--
			continue
		}
		hit := *f
		if f.Times > 0 {
			if f.Times--; f.Times == 0 {
				s.faults = slices.Delete(s.faults, i, i+1)
			}
		}
		return &hit
	}
	return nil
}

// server is what a fault needs of the server that it befalls.
type server struct {
	work http.Handler
	// expire makes all tokens invalid.
	expire func()
	// later runs work that outlives its request.
	later func(delay time.Duration, work func())
}

// befall serves the request with the fault f; nil is no fault.
func (s server) befall(f *Fault, w http.ResponseWriter, r *http.Request) {
	if f == nil {
		s.work.ServeHTTP(w, r)
		return
	}
	switch f.Kind {
	case Answer:
		// The body is read so that a client that is still sending it gets to see the answer.
		_, _ = io.Copy(io.Discard, r.Body)
		f.answer(w)
	case AnswerAfterWork:
		s.work.ServeHTTP(&discard{}, r)
		f.answer(w)
	case AnswerBeforeWork:
		f.answer(w)
		s.later(f.Delay, func() { s.work.ServeHTTP(&discard{}, r) })
	case DropBeforeWork:
		panic(http.ErrAbortHandler)
	case DropAfterWork:
		s.work.ServeHTTP(&discard{}, r)
		panic(http.ErrAbortHandler)
	case Slow:
		select {
		case <-time.After(f.Delay):
			s.work.ServeHTTP(w, r)
		case <-r.Context().Done():
		}
	case ExpireTokens:
		s.expire()
		s.work.ServeHTTP(w, r)
	case CorruptDigest:
		s.work.ServeHTTP(&corruptDigest{w}, r)
	}
}

func (f *Fault) answer(w http.ResponseWriter) {
	status, body := f.Status, f.Body
	if status == 0 && f.Kind != Answer {
		status, body = http.StatusGatewayTimeout, GatewayTimeoutHTML
	}
	if status == 0 {
		status = http.StatusInternalServerError
	}
	if len(body) > 0 && body[0] == '<' {
		w.Header().Set("Content-Type", "text/html")
	} else if body != "" {
		w.Header().Set("Content-Type", "application/json")
	}
	for name, values := range f.Header {
		w.Header()[http.CanonicalHeaderKey(name)] = values
	}
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// discard is a response nobody gets to see.
type discard struct{ header http.Header }

func (d *discard) Header() http.Header {
	if d.header == nil {
		d.header = http.Header{}
	}
	return d.header
}
func (d *discard) Write(p []byte) (int, error) { return len(p), nil }
func (d *discard) WriteHeader(int)             {}

// corruptDigest names a digest that nothing has.
type corruptDigest struct{ http.ResponseWriter }

func (c *corruptDigest) WriteHeader(status int) {
	if c.Header().Get("Docker-Content-Digest") != "" {
		c.Header().Set("Docker-Content-Digest", "sha256:"+zeros)
	}
	c.ResponseWriter.WriteHeader(status)
}

const zeros = "0000000000000000000000000000000000000000000000000000000000000000"
