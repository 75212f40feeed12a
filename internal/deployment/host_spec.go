package deployment

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/moby/moby/api/pkg/stdcopy"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// The label of our containers, and how old one has to be to be what a killed run left. A run removes its own.
const (
	hostLabel = "airbyte-publish.spec"
	hostStale = 15 * time.Minute
)

// The bounds of what a spec command may print, in bytes.
const (
	hostMaxStdout = 8 << 20
	hostMaxStderr = 1 << 20
)

// hostWorkDir is where Airbyte's docker-compose runs a connector: a folder of its own below /data, so that an ENTRYPOINT
// with a relative path fails there.
const hostWorkDir = "/data/airbyte-publish/0"

// runSpec runs the image's spec command on the host as Airbyte does with docker-compose (DockerProcessFactory:
// "docker run --rm --init -i -w /data/… --log-driver none IMAGE spec"), but without a network, and judges its output.
func (e *hostEngine) runSpec(ctx context.Context, img Image, id string) error {
	e.sweep(ctx)
	run, err := e.runContainer(ctx, img, id)
	if err != nil {
		return err
	}
	switch stderr := string(run.Stderr); {
	case execFormat(stderr):
		return e.wrongPlatform(img, stderr, nil)
	case run.ExitCode != 0 && strings.Contains(stderr, "[FATAL tini"):
		// What --init starts first says that it could not start the image's program.
		return e.notRun(img, errors.New(strings.TrimSpace(stderr[strings.Index(stderr, "[FATAL tini"):])))
	}
	if logs := connector.SpecLogs(run); logs != "" {
		e.log.Untrusted("what the connector's spec logged on the host", logs)
	}
	_, findings := connector.ReadSpec(connector.Connector{}, run)
	var errs []error
	for _, f := range findings {
		if f.Severity == connector.Error {
			errs = append(errs, &fault.Error{Code: f.Code, Op: "run spec on the Docker host", Object: img.Reference() + " at " + e.name(),
				Cause: f.Message, Remedy: f.Remedy})
		}
	}
	if len(errs) > 0 {
		return errors.Join(errs...)
	}
	e.log.Info("spec ran on the host %s and is valid", run.How)
	return nil
}

// runContainer runs spec in a container that is removed in any case.
func (e *hostEngine) runContainer(ctx context.Context, img Image, id string) (connector.SpecRun, error) {
	yes := true
	// Not to be interrupted: the engine would make the container, and nobody would know its id.
	whole, cancel := context.WithTimeout(context.WithoutCancel(ctx), e.parent.dialTimeout)
	defer cancel()
	created, err := e.ContainerCreate(whole, client.ContainerCreateOptions{
		Config: &container.Config{Image: id, Cmd: []string{"spec"}, WorkingDir: hostWorkDir, AttachStdout: true, AttachStderr: true,
			Labels: map[string]string{hostLabel: img.Reference()}},
		HostConfig: &container.HostConfig{NetworkMode: "none", Init: &yes, LogConfig: container.LogConfig{Type: "none"}},
	})
	if err != nil {
		return connector.SpecRun{}, e.notRun(img, err)
	}
	defer e.remove(ctx, created.ID)
	attached, err := e.ContainerAttach(ctx, created.ID, client.ContainerAttachOptions{Stream: true, Stdout: true, Stderr: true})
	if err != nil {
		return connector.SpecRun{}, e.notRun(img, err)
	}
	defer attached.Close()
	limited, stop := context.WithTimeout(ctx, e.parent.specTimeout)
	defer stop()
	waited := e.ContainerWait(ctx, created.ID, client.ContainerWaitOptions{Condition: container.WaitConditionNextExit})
	if _, err := e.ContainerStart(limited, created.ID, client.ContainerStartOptions{}); err != nil {
		return connector.SpecRun{}, e.notRun(img, err)
	}
	stdout, stderr := &boundedBuffer{limit: hostMaxStdout}, &boundedBuffer{limit: hostMaxStderr}
	copied := make(chan struct{})
	go func() {
		defer close(copied)
		// A connection that breaks off shows in the wait, or in an output without a specification.
		_, _ = stdcopy.StdCopy(stdout, stderr, attached.Reader)
	}()
	run := connector.SpecRun{How: "by its ENTRYPOINT, as docker-compose does, without a network"}
	select {
	case exited := <-waited.Result:
		run.ExitCode = int(exited.StatusCode)
		if exited.Error != nil {
			return connector.SpecRun{}, e.notRun(img, errors.New(exited.Error.Message))
		}
	case err := <-waited.Error:
		return connector.SpecRun{}, e.notRun(img, err)
	case <-limited.Done():
		if ctx.Err() != nil {
			return connector.SpecRun{}, ctx.Err()
		}
		run.TimedOut, run.ExitCode = true, -1
		e.remove(ctx, created.ID)
	}
	select {
	case <-copied:
	case <-time.After(10 * time.Second):
		// What has not come by now is lost with the connection.
		attached.Close()
		<-copied
	}
	run.Stdout, run.Stderr, run.Truncated = stdout.bytes(), stderr.bytes(), stdout.truncated || stderr.truncated
	return run, nil
}

// remove removes a container, also when the run is being interrupted.
func (e *hostEngine) remove(ctx context.Context, id string) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 30*time.Second)
	defer cancel()
	// One that is gone already is what is wanted; the next run sweeps one that could not be removed.
	_, _ = e.ContainerRemove(ctx, id, client.ContainerRemoveOptions{Force: true, RemoveVolumes: true})
}

// sweep removes what runs that were killed have left.
func (e *hostEngine) sweep(ctx context.Context) {
	left, err := e.ContainerList(ctx, client.ContainerListOptions{All: true, Filters: make(client.Filters).Add("label", hostLabel)})
	if err != nil {
		return
	}
	for _, c := range left.Items {
		if time.Since(time.Unix(c.Created, 0)) > e.parent.stale {
			e.log.Info("removing the container %.12s, which an interrupted run left", c.ID)
			e.remove(ctx, c.ID)
		}
	}
}

// execFormat tells by runc's or tini's words that a program is for another architecture.
func execFormat(text string) bool {
	return strings.Contains(strings.ToLower(text), "exec format error")
}

func (e *hostEngine) wrongPlatform(img Image, cause string, err error) error {
	return &fault.Error{Code: fault.HostPlatform, Op: "run spec on the Docker host", Object: img.Reference() + " at " + e.name(),
		Cause:  fault.Bounded(cause),
		Remedy: fmt.Sprintf("Build for the host's platform, linux/%s, as well: name it in the input platforms.", e.arch), Err: err}
}

// notRun is the fault of a container that could not be made or started.
func (e *hostEngine) notRun(img Image, err error) error {
	text := err.Error()
	if execFormat(text) || reasonOf(img.takenOut(text)) == wrongPlatform {
		return e.wrongPlatform(img, text, err)
	}
	fail := &fault.Error{Code: fault.HostSpecNotRun, Op: "run spec on the Docker host", Object: img.Reference() + " at " + e.name(),
		Cause: fault.Bounded(text), Err: err, Remedy: "Try " + e.docker("run", "--rm", "--init", "--workdir", hostWorkDir, img.Reference(), "spec") + ", which is what Airbyte does."}
	switch {
	case strings.Contains(text, "docker-init"):
		fail.Remedy = "Airbyte starts connectors with --init: install tini (docker-init) on the host."
	case strings.Contains(text, "unable to find user"):
		fail.Remedy = "Make the user in the image, or name it by its number in USER."
	case strings.Contains(text, "executable file not found"), strings.Contains(strings.ToLower(text), "no such file or directory"),
		strings.Contains(text, "no command specified"):
		fail.Remedy = "On docker-compose Airbyte runs the image's ENTRYPOINT with the word spec: set it to a program of the image, by its absolute path."
	case strings.Contains(strings.ToLower(text), "permission denied"):
		fail.Remedy = "Make the ENTRYPOINT's program executable for the image's user."
	}
	return fail
}
