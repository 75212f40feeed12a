package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	docker "github.com/moby/moby/client"
	"google.golang.org/grpc/codes"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// engineKind tells the two kinds of engines apart.
type engineKind int

// The kinds: a BuildKit daemon, and the BuildKit inside a Docker engine.
const (
	kindBuildkit engineKind = iota
	kindDocker
)

// engine is one BuildKit that builds can be sent to. Several may be sent at the same time.
type engine struct {
	client *buildkit.Client
	// name is for the log and the summary: "buildkitd v0.33.1 at unix:///run/x.sock".
	name string
	kind engineKind
	// docker is the client of the Docker engine, for ImagePush; nil unless that is the kind.
	docker *docker.Client
	// containerdStore tells that the Docker engine has containerd's image store, whose "image" exporter pushes. Without
	// it there is only the exporter "moby", into the engine's store.
	containerdStore bool
	caps            capabilities
	// exited says how the engine's process ended, if it has; nil where it is not ours.
	exited func() error
	// closers are what the engine holds, in the order in which it is let go.
	closers []io.Closer
}

func (e *engine) close() error {
	var errs []error
	for _, c := range e.closers {
		errs = append(errs, c.Close())
	}
	return errors.Join(errs...)
}

// aliveTimeout is how long an engine may take to say that it is there still.
const aliveTimeout = 5 * time.Second

// dead returns why the engine no longer answers, or nil when it does or when ctx is done.
func (e *engine) dead(ctx context.Context) error {
	limited, cancel := context.WithTimeout(ctx, aliveTimeout)
	defer cancel()
	_, err := e.client.ListWorkers(limited)
	if err == nil || ctx.Err() != nil {
		return nil
	}
	if e.exited != nil {
		if exit := e.exited(); exit != nil {
			return exit
		}
	}
	return plainCause(err)
}

// lost tells that a build ended because the connection did. An engine that was restarted answers again, but knows
// nothing of the build.
func lost(err error) bool {
	return errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) || grpcerrors.Code(err) == codes.Unavailable
}

// engines hands out engines for builds. They are chosen once, when the first build asks; builds are spread over them,
// each engine has a bounded number at the same time, and one that dies is left out from then on.
type engines struct {
	jobs   int
	choose func(context.Context, connector.Log) ([]*engine, error)

	// choosing is held by the one who chooses, or closes.
	choosing chan struct{}
	chosen   bool
	// err is why there are none.
	err error

	mu    sync.Mutex
	seats []*seat
	// changed is closed, and replaced, when a seat has become free or an engine has died.
	changed chan struct{}
}

// seat is an engine's place among the engines.
type seat struct {
	engine *engine
	// running and started count its builds.
	running, started int
	dead             error
}

func newEngines(jobs int, choose func(context.Context, connector.Log) ([]*engine, error)) *engines {
	return &engines{jobs: jobs, choose: choose, choosing: make(chan struct{}, 1), changed: make(chan struct{})}
}

// do has work done for c on an engine, waiting for one that is free. When the engine dies meanwhile, work is done again
// on another one; what fails for any other reason is not repeated. The error is work's, the context's, or a *fault.Error:
// NoBuilder where there is no engine, EngineUnreachable where all have died or those that were asked for can't be
// reached.
func (p *engines) do(ctx context.Context, c connector.Connector, log connector.Log, work func(context.Context, *engine) error) error {
	if err := p.ready(ctx, log); err != nil {
		return err
	}
	for again := false; ; {
		s, err := p.take(ctx, c)
		if err != nil {
			return err
		}
		log.Info("The build engine is %s.", s.engine.name)
		err = work(ctx, s.engine)
		var dead error
		if err != nil && ctx.Err() == nil {
			dead = s.engine.dead(ctx)
		}
		p.leave(s, dead)
		switch {
		case dead != nil:
			log.Info("The connection to %s was lost: %s.", s.engine.name, fault.Bounded(dead.Error()))
		case !again && ctx.Err() == nil && lost(err):
			again = true
			log.Info("%s was restarted during the build, which starts again.", s.engine.name)
		default:
			return err
		}
	}
}

// used are the names of the engines that builds were sent to.
func (p *engines) used() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	var names []string
	for _, s := range p.seats {
		if s.started > 0 {
			names = append(names, s.engine.name)
		}
	}
	return names
}

// ready chooses the engines unless that was done. What came of it is remembered, but for a context that was done.
func (p *engines) ready(ctx context.Context, log connector.Log) error {
	select {
	case p.choosing <- struct{}{}:
	case <-ctx.Done():
		return ctx.Err()
	}
	defer func() { <-p.choosing }()
	if p.chosen {
		return p.err
	}
	chosen, err := p.choose(ctx, log)
	if err != nil && ctx.Err() != nil {
		return ctx.Err()
	}
	p.chosen, p.err = true, err
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, e := range chosen {
		p.seats = append(p.seats, &seat{engine: e})
	}
	return err
}

// take waits for an engine that has room, and takes the one with the fewest builds.
func (p *engines) take(ctx context.Context, c connector.Connector) (*seat, error) {
	for {
		s, changed, err := p.tryTake(c)
		if s != nil || err != nil {
			return s, err
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, ctx.Err()
		}
	}
}

func (p *engines) tryTake(c connector.Connector) (*seat, <-chan struct{}, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	alive := slices.DeleteFunc(slices.Clone(p.seats), func(s *seat) bool { return s.dead != nil })
	if len(alive) == 0 {
		return nil, nil, p.allDead(c)
	}
	best := slices.MinFunc(alive, func(a, b *seat) int {
		if a.running != b.running {
			return a.running - b.running
		}
		return a.started - b.started
	})
	if best.running >= p.jobs {
		return nil, p.changed, nil
	}
	best.running++
	best.started++
	return best, nil, nil
}

func (p *engines) allDead(c connector.Connector) error {
	var causes []string
	var errs []error
	for _, s := range p.seats {
		causes = append(causes, s.engine.name+": "+s.dead.Error())
		errs = append(errs, s.dead)
	}
	return &fault.Error{Code: fault.EngineUnreachable, Op: "build", Object: c.Label,
		Cause:  fmt.Sprintf("the connection was lost and no other engine is left: %s", fault.Bounded(strings.Join(causes, "; "))),
		Remedy: "Look at the engine's own log (lack of memory or disk ends it often), then run again.", Err: errors.Join(errs...)}
}

func (p *engines) leave(s *seat, dead error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	s.running--
	if s.dead == nil {
		s.dead = dead
	}
	close(p.changed)
	p.changed = make(chan struct{})
}

// close lets go of the engines. Nothing can be built afterwards.
func (p *engines) close() error {
	p.choosing <- struct{}{}
	defer func() { <-p.choosing }()
	p.chosen, p.err = true, errors.New("the builder is closed")
	p.mu.Lock()
	defer p.mu.Unlock()
	var errs []error
	for _, s := range p.seats {
		errs = append(errs, s.engine.close())
	}
	p.seats = nil
	return errors.Join(errs...)
}
