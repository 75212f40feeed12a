package build

import (
	"context"
	"errors"
	"fmt"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// DefaultSpecTimeout is how long a spec command may take. Airbyte itself waits nine minutes, most of it for the image
// to be pulled and the pod to start; a spec that runs for minutes is a spec that hangs.
const DefaultSpecTimeout = 2 * time.Minute

// The bounds of what a spec command may print, in bytes. The largest real specs have a few hundred kilobytes.
const (
	maxStdout = 8 << 20
	maxStderr = 1 << 20
)

// specCommand is what the container's shell is told to do by Airbyte's ContainerCommandFactory, without the
// redirection of its output into a file.
const specCommand = `test -n "$AIRBYTE_ENTRYPOINT" || exit 127; eval "$AIRBYTE_ENTRYPOINT spec"`

// connectorID is the user and group that Airbyte runs connectors as on Kubernetes.
const connectorID = 1000

// SpecOptions say how to run a spec command.
type SpecOptions struct {
	// TempDir is where the image is unpacked, into a folder of its own that is removed afterwards; empty is the
	// system's place for temporary files. It takes as much room as the unpacked image.
	TempDir string
	// Timeout ends the command; zero is DefaultSpecTimeout. Unpacking is not counted.
	Timeout time.Duration
}

// RunSpec runs an image's spec command the way Airbyte does on Kubernetes: /bin/sh evaluates AIRBYTE_ENTRYPOINT, as
// user 1000, in the folder /config, with the image's environment. It runs in new user, mount, pid, network, ipc and uts
// namespaces of this machine, with no network, no capabilities and nothing of the host's but five devices, and ends
// with everything that it started.
//
// What the connector did is in the SpecRun, a crash too. The error is a *fault.Error: SpecNotRun where this machine
// can't do it, BadImage when the image can't be unpacked, NoShell when it has no /bin/sh, SpecFailed when its shell
// can't be executed; or the context's when that is done.
//
// The program's main function, and the TestMain of tests, must call SpecMain before anything else.
func RunSpec(ctx context.Context, img v1.Image, o SpecOptions) (connector.SpecRun, error) {
	if o.Timeout == 0 {
		o.Timeout = DefaultSpecTimeout
	}
	platform, err := configPlatform(img)
	if err != nil {
		return connector.SpecRun{}, badImage(err)
	}
	if platform != hostPlatform {
		return connector.SpecRun{}, specNotRun(fmt.Sprintf("the image is for %s and this machine is %s", platform, hostPlatform), nil)
	}
	run, err := runSpec(ctx, img, o)
	if ctx.Err() != nil {
		return connector.SpecRun{}, ctx.Err()
	}
	return run, err
}

// specNotRun tells why this machine can't run spec, which is no fault of the connector.
func specNotRun(cause string, err error) error {
	return &fault.Error{Code: fault.SpecNotRun, Op: "run spec on this machine", Cause: fault.Bounded(cause), Err: err,
		Remedy: "Airbyte runs it when the connector is registered, and its verdict decides."}
}

// badImage tells why an image can't be read or unpacked. A registry's error stays what it is.
func badImage(err error) error {
	if _, ok := errors.AsType[*fault.Error](err); ok {
		return err
	}
	return &fault.Error{Code: fault.BadImage, Op: "unpack the image", Cause: fault.Bounded(err.Error()), Err: err,
		Remedy: "Check that the image is whole, or build it again."}
}

// noShell tells that an image can't be run by Airbyte at all.
func noShell() error {
	return &fault.Error{Code: fault.NoShell, Op: "run spec", Cause: "the image has no /bin/sh, with which Airbyte starts connectors",
		Remedy: "Use a base image with a shell: neither scratch nor distroless images work."}
}
