package build

import (
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/util/grpcerrors"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// The values of Options.Builder.
const (
	builderAuto      = "auto"
	builderBuildkit  = "buildkit"
	builderBuildx    = "buildx"
	builderDocker    = "docker"
	builderBuildkitd = "buildkitd"
)

// dialTimeout is how long an engine may take to answer. What refuses a connection is told from that at once.
const dialTimeout = 5 * time.Second

// dialing finds the engines of a run.
type dialing struct {
	options Options
	// timeout is dialTimeout.
	timeout time.Duration
	// reached is what came of reaching a Docker engine, because two ways lead through the same one. Choosing is done by
	// one goroutine.
	reached map[dockerEndpoint]reached
}

// absent is the error of a way that leads nowhere on this machine, which is nothing to wonder at.
type absent string

func (a absent) Error() string { return string(a) }

// choose returns the engines of the first way that leads to some, or of the way that was asked for.
func (d *dialing) choose(ctx context.Context, log connector.Log) ([]*engine, error) {
	ways := []struct {
		builder string
		find    func(context.Context, connector.Log) ([]*engine, error)
	}{
		{builderBuildkit, d.buildkits}, {builderBuildx, d.buildx}, {builderDocker, d.docker}, {builderBuildkitd, d.buildkitd},
	}
	var reasons, notes []string
	for _, way := range ways {
		asked := d.options.Builder == way.builder
		if !asked && d.options.Builder != "" && d.options.Builder != builderAuto {
			continue
		}
		found, err := way.find(ctx, log)
		if err == nil {
			for _, note := range notes {
				log.Info("Not used for the build: %s.", note)
			}
			return found, nil
		}
		if _, final := errors.AsType[*fault.Error](err); final || ctx.Err() != nil {
			return nil, err
		}
		if asked {
			return nil, unreachable("the input builder is "+way.builder, err)
		}
		reason := fault.Bounded(err.Error())
		if _, normal := errors.AsType[absent](err); !normal {
			notes = append(notes, reason)
		}
		if !slices.Contains(reasons, reason) {
			reasons = append(reasons, reason)
		}
	}
	return nil, &fault.Error{Code: fault.NoBuilder, Op: "find a build engine for the Dockerfile", Object: "builder auto",
		Cause: "none was found: " + strings.Join(reasons, "; "),
		Remedy: "Start Docker, name a BuildKit by the input buildkit-host or BUILDKIT_HOST, install buildkit (buildkitd, runc, and " +
			"rootlesskit for users other than root), or build the image elsewhere and name it by the input source: oci:DIR, " +
			"oci-archive:FILE, docker-archive:FILE, docker-daemon:NAME:TAG or docker://REF."}
}

// unreachable is the fault of an engine that was asked for.
func unreachable(object string, err error) error {
	return &fault.Error{Code: fault.EngineUnreachable, Op: "reach the build engine", Object: object,
		Cause: fault.Bounded(err.Error()), Err: err,
		Remedy: "Start it, correct its address, or set the input builder to auto, which takes what there is."}
}

// open asks an engine what it is. client may not have connected yet; closers are closed after it, also when open fails.
func open(ctx context.Context, timeout time.Duration, c *buildkit.Client, closers ...io.Closer) (*engine, error) {
	e := &engine{client: c, closers: append([]io.Closer{c}, closers...)}
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	if err := e.ask(ctx); err != nil {
		_ = e.close()
		if errors.Is(err, context.DeadlineExceeded) || grpcerrors.Code(err) == codes.DeadlineExceeded {
			return nil, fmt.Errorf("no answer within %s", timeout)
		}
		return nil, err
	}
	return e, nil
}

func (e *engine) ask(ctx context.Context) error {
	workers, err := e.client.ListWorkers(ctx)
	if err != nil {
		return plainCause(err)
	}
	if len(workers) == 0 {
		return errors.New("it has no workers")
	}
	// Before BuildKit 0.11 there is no such call.
	info, err := e.client.Info(ctx)
	if err != nil && grpcerrors.Code(err) != codes.Unimplemented {
		return plainCause(err)
	}
	e.caps = capabilitiesOf(workers[0], info)
	return nil
}

// plainCause takes gRPC's own words off an error, which say nothing to people: what is left is the connection's error.
func plainCause(err error) error {
	s, ok := grpcerrors.AsGRPCStatus(err)
	if !ok || s.Code() != codes.Unavailable {
		return err
	}
	text := s.Message()
	for _, words := range []string{"connection error: desc = ", "transport: Error while dialing: ", "transport: authentication handshake failed: "} {
		text = strings.TrimPrefix(strings.Trim(text, `"`), words)
	}
	return causeError{text: strings.ReplaceAll(text, `\"`, `"`), status: s}
}

// causeError is a gRPC error in other words.
type causeError struct {
	text   string
	status *status.Status
}

func (e causeError) Error() string              { return e.text }
func (e causeError) GRPCStatus() *status.Status { return e.status }

// closer makes a function an io.Closer.
type closer func() error

func (c closer) Close() error { return c() }

// versioned adds BuildKit's version to a name where it tells one.
func (c capabilities) versioned(name string) string {
	if c.version == "" || strings.Contains(c.version, "unknown") {
		return name
	}
	return name + " " + c.version
}
