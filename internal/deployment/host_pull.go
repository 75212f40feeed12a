package deployment

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"time"

	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// pull has the host pull the image by its digest: without credentials if the registry lets it, as Airbyte's worker does it,
// else by the host's own docker command, which has the credentials that were put there.
func (e *hostEngine) pull(ctx context.Context, img Image) error {
	limited, cancel := context.WithTimeout(ctx, e.parent.pullTimeout)
	defer cancel()
	stored, err := e.stored(limited, img.ByDigest())
	if err != nil {
		return err
	}
	there := stored != nil
	anonymous := e.readable(limited, img)
	if anonymous == nil && !there {
		anonymous = e.pullAnonymously(limited, img)
	}
	why := unknown
	if anonymous != nil {
		why = reasonOf(img.takenOut(anonymous.Error()))
	}
	switch {
	case ctx.Err() != nil:
		return ctx.Err()
	case there && anonymous == nil:
		e.log.Info("the host has %s already, and may pull it without credentials, as Airbyte's worker does", img.ByDigest())
		return nil
	case there && why != refused:
		e.log.Info("the host has %s already; asked for it without credentials the registry says: %s", img.ByDigest(), fault.Bounded(anonymous.Error()))
		return nil
	case there:
		// An engine that has a digest asks no registry for it, so that another pull would prove nothing.
		e.log.Info("the host has %s already, and nothing is to be pulled", img.ByDigest())
	case anonymous == nil:
		e.log.Info("the host pulled %s without credentials, as Airbyte's worker does", img.ByDigest())
		return nil
	case limited.Err() != nil:
		return e.pullFault(img, e.tooLong(), limited.Err())
	case why != refused && why != missing:
		return e.pullFault(img, anonymous.Error(), anonymous)
	default:
		said, err := e.pullByItself(limited, img)
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case limited.Err() != nil:
			return e.pullFault(img, e.tooLong(), limited.Err())
		case err != nil:
			return e.ownPullFault(img, anonymous, said, err)
		}
		whose := "of this user's docker configuration"
		if e.ssh != nil {
			whose = "that are there"
		}
		e.log.Info("the host pulled %s with its own credentials, those %s", img.ByDigest(), whose)
	}
	e.log.Finding(connector.Finding{Code: fault.HostNeedsPull, Severity: connector.Notice,
		Message: "The registry wants credentials for " + string(img.Repository) + ", which Airbyte's worker has not: it takes the tag " + img.Tag + ", which the host has, and can't pull another by itself.",
		Remedy:  "Have each new tag pulled on the host before Airbyte is told of it, as verify-pull: docker-host does; or mount a docker configuration into the worker."})
	return nil
}

func (e *hostEngine) tooLong() string {
	return fmt.Sprintf("the pull did not end within %s", e.parent.pullTimeout)
}

// readable has the engine ask the registry for the manifest, without credentials.
func (e *hostEngine) readable(ctx context.Context, img Image) error {
	_, err := e.DistributionInspect(ctx, img.ByDigest(), client.DistributionInspectOptions{})
	return err
}

// pullAnonymously has the engine pull without credentials.
func (e *hostEngine) pullAnonymously(ctx context.Context, img Image) error {
	response, err := e.ImagePull(ctx, img.ByDigest(), client.ImagePullOptions{})
	if err != nil {
		return err
	}
	defer func() { _ = response.Close() }()
	return response.Wait(ctx)
}

// The reasons why the host's docker command can't be used.
var (
	errNoCommand = errors.New("over tcp, commands can't be run on the host")
	errNoDocker  = errors.New("there is no docker command")
)

// pullByItself runs the host's docker command. The text is what it said.
func (e *hostEngine) pullByItself(ctx context.Context, img Image) (string, error) {
	cmd, err := e.dockerCommand(ctx, "pull", "--quiet", img.ByDigest())
	if err != nil {
		return "", err
	}
	var out, said boundedBuffer
	cmd.Stdout, cmd.Stderr = &out, &said
	err = cmd.Run()
	return said.String(), err
}

// sshStatus is the ssh command's exit status for a connection that failed.
const sshStatus = 255

// dockerCommand makes a docker command that runs on the host, as the user whose credentials it has. A socket is this
// machine's: the command is run here, with the configuration of this user's home folder.
func (e *hostEngine) dockerCommand(ctx context.Context, args ...string) (*exec.Cmd, error) {
	if e.ssh != nil {
		return e.ssh.docker(ctx, args...)
	}
	if !strings.HasPrefix(e.address, "unix://") && !strings.HasPrefix(e.address, "npipe://") {
		return nil, errNoCommand
	}
	if _, err := exec.LookPath("docker"); err != nil {
		return nil, errNoDocker
	}
	cmd := exec.CommandContext(ctx, "docker", append([]string{"--host", e.address}, args...)...)
	// A credential helper that goes on keeps its output open.
	cmd.WaitDelay = 2 * time.Second
	cmd.Env = e.parent.environ(secretVariables, cloudVariables, otherEngines)
	return cmd, nil
}

// reason is why a pull failed.
type reason int

// The reasons, as far as they have remedies of their own.
const (
	unknown reason = iota
	refused
	missing
	limitedRate
	wrongPlatform
	untrusted
	plainHTTP
	unreachable
	noSpace
)

// reasons are texts by which an engine tells them, the telling ones first. They are those of engines 20.10 to 29 and of
// containerd.
var reasons = []struct {
	reason reason
	texts  []string
}{
	{limitedRate, []string{"toomanyrequests", "429 Too Many Requests", "rate limit"}},
	{wrongPlatform, []string{"no matching manifest for", "no match for platform", "does not match the specified platform", "cannot be used on this platform"}},
	{noSpace, []string{"no space left on device"}},
	{plainHTTP, []string{"server gave HTTP response to HTTPS client"}},
	{untrusted, []string{"x509:", "tls: ", "certificate signed by"}},
	{unreachable, []string{"proxy authentication required", "407 Proxy"}},
	{refused, []string{"no basic auth credentials", "unauthorized", "authentication required", "denied", "401 Unauthorized", "403 Forbidden", "insufficient_scope",
		"authorization failed", "incorrect username or password"}},
	{missing, []string{"manifest unknown", "not found", "does not exist"}},
	{unreachable, []string{"dial tcp", "no such host", "connection refused", "i/o timeout", "Client.Timeout", "connection reset", "network is unreachable", "EOF"}},
}

func reasonOf(text string) reason {
	lower := strings.ToLower(text)
	for _, r := range reasons {
		for _, part := range r.texts {
			if strings.Contains(lower, strings.ToLower(part)) {
				return r.reason
			}
		}
	}
	return unknown
}

// ownPullFault explains why neither way led to the image.
func (e *hostEngine) ownPullFault(img Image, anonymous error, said string, err error) error {
	login := "Run docker login " + img.host() + " on the host as the user that pulls there"
	if e.ssh != nil && e.ssh.spec.User != "" {
		login = "Run docker login " + img.host() + " on the host as " + e.ssh.spec.User
	}
	without := "without credentials the registry says: " + anonymous.Error()
	fail := &fault.Error{Code: fault.HostOwnCredentials, Op: "pull on the Docker host", Object: img.ByDigest() + " at " + e.name(), Err: errors.Join(err, anonymous)}
	switch exit, exited := errors.AsType[*exec.ExitError](err); {
	case errors.Is(err, errNoCommand):
		fail.Cause = "the engine is reached over tcp, where the host's own credentials can't be used, and " + without
		fail.Remedy = "Reach it by ssh://USER@HOST, where the host's own docker command pulls; or put the image there by the input load."
	case errors.Is(err, errNoDocker):
		fail.Cause = "there is no docker command here that has the host's own credentials, and " + without
		fail.Remedy = "Install the docker command on this machine, or put the image into the engine by the input load."
	case exited && exit.ExitCode() == sshStatus && e.ssh != nil:
		return hostUnreachable(e.name(), said, err)
	case !exited:
		fail.Cause, fail.Remedy = err.Error(), "Correct this, then run again."
	default:
		switch reasonOf(img.takenOut(said)) {
		case refused, missing:
			fail.Code = fault.HostPullDenied
			fail.Cause = "the host's own docker pull says: " + said
			fail.Remedy = login + ", with credentials that may pull and do not end with a CI job; then try docker pull " + img.Reference() + " there. This program never sends its own."
		default:
			return e.pullFault(img, said, err)
		}
	}
	fail.Cause = fault.Bounded(fail.Cause)
	return fail
}

// pullFault explains a failure that has nothing to do with credentials.
func (e *hostEngine) pullFault(img Image, cause string, err error) error {
	fail := &fault.Error{Code: fault.HostPullFailed, Op: "pull on the Docker host", Object: img.ByDigest() + " at " + e.name(), Cause: fault.Bounded(cause), Err: err}
	switch reasonOf(img.takenOut(cause)) {
	case limitedRate:
		fail.Remedy = "Wait until the registry's limit allows it, or run docker login " + img.host() + " on the host, since signed-in users have a higher one."
	case wrongPlatform:
		fail.Code = fault.HostPlatform
		fail.Remedy = "Build for the host's platform, linux/" + e.arch + ", as well: name it in the input platforms."
	case untrusted:
		fail.Remedy = "Put the registry's certificate authority into /etc/docker/certs.d/" + img.host() + "/ca.crt on the host; its engine trusts nothing that is configured here."
	case plainHTTP:
		fail.Remedy = "Name the registry in insecure-registries of /etc/docker/daemon.json on the host and restart its engine; better, give the registry a certificate."
	case unreachable:
		fail.Remedy = "Make " + img.host() + " reachable from the host: its name server, its proxy (HTTPS_PROXY of the engine's service) and its firewall count, not this machine's."
	case noSpace:
		fail.Remedy = "Make room on the host, for example by docker system prune."
	default:
		fail.Remedy = "Try " + e.docker("pull", img.Reference()) + " and look at the engine's log on the host."
	}
	return fail
}
