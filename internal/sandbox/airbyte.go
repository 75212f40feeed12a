package sandbox

import (
	"context"
	"crypto/rand"
	"net/http"
	"strings"
	"sync"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// Edition is a kind of Airbyte.
type Edition string

// The editions. Cloud refuses Docker-based definitions and has no instance_configuration.
const (
	Community  Edition = "community"
	Enterprise Edition = "enterprise"
	Cloud      Edition = "cloud"
)

// DefaultOrganizationID is the organization that a self-managed Airbyte has from the start.
const DefaultOrganizationID = "00000000-0000-0000-0000-000000000000"

// DefaultWorkspaceID is the id of the only workspace of a stand-in that is given none.
const DefaultWorkspaceID = "5ae6b09b-fdec-41af-aaf7-7d94cfc33ef6"

// RunSpec pulls the image ref and runs its spec command as Airbyte does. An error means that there was nothing to
// run: the image can't be pulled, or has no AIRBYTE_ENTRYPOINT.
type RunSpec func(ctx context.Context, ref string) (connector.SpecRun, error)

// AirbyteOptions say which Airbyte the stand-in is.
type AirbyteOptions struct {
	// Version is the release that it behaves as; empty means NewestAirbyte. A text that is no version behaves as the
	// newest, as development builds, which report "dev", do.
	Version string
	// Edition is Community when empty.
	Edition Edition
	Auth    Auth
	// Workspaces are those of the default organization; none means one with DefaultWorkspaceID.
	Workspaces []connector.Workspace
	// PathPrefix is a path under which a proxy shows the instance, such as "/airbyte"; empty means none.
	PathPrefix string
	// RunSpec runs spec; nil means that no image can be pulled. PullAndRun makes the real one.
	RunSpec RunSpec
	// AllowUnrunnable lets an image that can't be run on this machine (its error is a fault with the code SpecNotRun)
	// be registered with a minimal specification that asks for nothing. Without it, its spec job fails.
	AllowUnrunnable bool
	// FailureDelay is how long it takes until an image that can't be pulled is given up; Airbyte takes nine minutes.
	FailureDelay time.Duration
	// SpecDelay is how long a spec job takes besides the connector itself: a pod's start.
	SpecDelay time.Duration
	// CommandPolls is how often a command answers that it is pending or running before it tells that it has completed.
	CommandPolls int
	// AirGapped makes the connector registry unreachable, which fails every update.
	AirGapped bool
	// Check says what comes of checking an actor's connection; nil means that every check succeeds.
	Check func(Actor, string) CheckResult
	// Faults go wrong from the start; AddFault adds more.
	Faults []Fault
	// OnRequest sees every request with its body before it is served, after the PathPrefix was cut off.
	OnRequest func(r *http.Request, body []byte)
	// Now is the clock that tokens expire by; nil means time.Now.
	Now func() time.Time
	// Log gets what Airbyte's server log would say, such as the cause behind an errorId; nil discards it.
	Log func(format string, args ...any)
}

// Airbyte is a stand-in for an Airbyte instance: its Config API as far as custom connectors need it, with the
// behaviour of a chosen version. It is safe for concurrent use.
type Airbyte struct {
	o       AirbyteOptions
	version version
	script  *script
	routes  map[string]route
	signKey []byte

	background sync.WaitGroup
	ctx        context.Context
	cancel     context.CancelFunc

	mu          sync.Mutex
	definitions []*definition
	actors      []*Actor
	commands    map[string]*command
	requests    []AirbyteRequest
	// tokensFrom is the generation of tokens that are still good.
	tokensFrom int
}

// AirbyteRequest is a request that the stand-in answered.
type AirbyteRequest struct {
	Method, Path string
	// Status is the answer's; 0 when the connection was dropped.
	Status int
	// Write tells that the endpoint changes definitions, actors or grants.
	Write bool
}

// NewAirbyte makes a stand-in that holds a few definitions of Airbyte's own catalogue. Close ends what it still does.
func NewAirbyte(o AirbyteOptions) *Airbyte {
	if o.Version == "" {
		o.Version = NewestAirbyte
	}
	if o.Edition == "" {
		o.Edition = Community
	}
	if len(o.Workspaces) == 0 {
		o.Workspaces = []connector.Workspace{{ID: DefaultWorkspaceID, Name: "Default Workspace"}}
	}
	if o.RunSpec == nil {
		o.RunSpec = func(context.Context, string) (connector.SpecRun, error) { return connector.SpecRun{}, errNoRegistry }
	}
	if o.Check == nil {
		o.Check = func(Actor, string) CheckResult { return CheckResult{Status: CheckSucceeded} }
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	if o.Log == nil {
		o.Log = func(string, ...any) {}
	}
	v, ok := parseVersion(o.Version)
	if ok {
		o.Version = strings.TrimPrefix(o.Version, "v")
	} else {
		v = newest
	}
	a := &Airbyte{o: o, version: v, script: newScript(o.Faults), commands: map[string]*command{}}
	a.routes = routes()
	a.signKey = make([]byte, 32)
	_, _ = rand.Read(a.signKey) // crypto/rand.Read never fails.
	a.ctx, a.cancel = context.WithCancel(context.Background())
	a.definitions = catalogue()
	return a
}

// Close stops the commands that still run and waits for them.
func (a *Airbyte) Close() {
	a.cancel()
	a.background.Wait()
}

// AddFault makes something go wrong with requests to come.
func (a *Airbyte) AddFault(f Fault) { a.script.add(f) }

// Requests returns every request answered so far, in the order of their ends.
func (a *Airbyte) Requests() []AirbyteRequest {
	a.mu.Lock()
	defer a.mu.Unlock()
	return append([]AirbyteRequest(nil), a.requests...)
}

// Writes is the number of requests so far to endpoints that change definitions, actors or grants.
func (a *Airbyte) Writes() int {
	n := 0
	for _, r := range a.Requests() {
		if r.Write {
			n++
		}
	}
	return n
}

func (a *Airbyte) is(s span) bool { return s.holds(a.version) }

// later runs work after a delay and beyond its request, unless the stand-in is closed before.
func (a *Airbyte) later(delay time.Duration, work func()) {
	a.background.Go(func() {
		if a.wait(a.ctx, delay) == nil {
			work()
		}
	})
}

func (a *Airbyte) wait(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
