package deployment

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/docker/cli/cli/connhelper/ssh"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// sshHost runs commands on a host by the ssh command, so that the user's own ssh configuration counts. It is docker's
// connection helper in what it runs; that one can't be used, because it hands on the whole environment, which an ssh
// configuration may have sent to the host.
type sshHost struct {
	spec  *ssh.Spec
	flags []string
	env   []string
}

// sshFlags are those of every connection. Nobody can answer a question; no agent and no display are lent to the host.
var sshFlags = []string{"-T", "-a", "-x", "-o", "BatchMode=yes", "-o", "ConnectTimeout=30", "-o", "PermitLocalCommand=no"}

func newSSHHost(u *url.URL, flags, env []string) (*sshHost, error) {
	spec, err := ssh.NewSpec(u)
	if err != nil {
		return nil, err
	}
	return &sshHost{spec: spec, flags: append(flags[:len(flags):len(flags)], sshFlags...), env: env}, nil
}

// docker makes the command that runs docker on the host.
func (s *sshHost) docker(ctx context.Context, args ...string) (*exec.Cmd, error) {
	remote := []string{"docker"}
	if strings.Trim(s.spec.Path, "/") != "" {
		remote = append(remote, "--host=unix://"+s.spec.Path)
	}
	flags, err := s.spec.Command(s.flags, append(remote, args...)...)
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "ssh", flags...)
	cmd.Env = s.env
	// A master connection that ssh leaves behind keeps its standard error open.
	cmd.WaitDelay = 2 * time.Second
	ownSession(cmd)
	return cmd, nil
}

// dial connects to the engine through "docker system dial-stdio" on the host.
func (s *sshHost) dial(ctx context.Context) (net.Conn, error) {
	// The connection outlives the request that it is made for.
	ctx, cancel := context.WithCancel(context.WithoutCancel(ctx))
	cmd, err := s.docker(ctx, "system", "dial-stdio")
	if err != nil {
		cancel()
		return nil, err
	}
	c := &sshConn{cmd: cmd, cancel: cancel}
	cmd.Stderr = &c.said
	// Files of our own, because a command's pipes are closed when it is waited for, with what is in them unread.
	in, inWriter, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, err
	}
	outReader, out, err := os.Pipe()
	if err != nil {
		cancel()
		return nil, errors.Join(err, in.Close(), inWriter.Close())
	}
	cmd.Stdin, cmd.Stdout = in, out
	c.in, c.out = inWriter, outReader
	err = cmd.Start()
	_, _ = in.Close(), out.Close()
	if err != nil {
		cancel()
		return nil, errors.Join(err, inWriter.Close(), outReader.Close())
	}
	return c, nil
}

// sshConn is a connection whose ends are a command's input and output.
type sshConn struct {
	cmd    *exec.Cmd
	cancel context.CancelFunc
	in     *os.File
	out    *os.File
	said   boundedBuffer
	wait   sync.Once
}

// end ends the command. What it said on standard error is complete afterwards.
func (c *sshConn) end() {
	c.cancel()
	c.wait.Do(func() { _ = c.cmd.Wait() })
}

func (c *sshConn) Read(p []byte) (int, error) {
	n, err := c.out.Read(p)
	if errors.Is(err, io.EOF) {
		// The command has closed its output, which it does when it ends: what it says then is the reason.
		done := make(chan struct{})
		go func() {
			defer close(done)
			c.wait.Do(func() { _ = c.cmd.Wait() })
		}()
		select {
		case <-done:
		case <-time.After(time.Second):
			c.cancel()
			<-done
		}
		if said := c.said.String(); said != "" {
			return n, fmt.Errorf("ssh: %s", fault.Bounded(said))
		}
	}
	return n, err
}

func (c *sshConn) Write(p []byte) (int, error) {
	n, err := c.in.Write(p)
	if err != nil && c.said.String() != "" {
		return n, fmt.Errorf("ssh: %s", fault.Bounded(c.said.String()))
	}
	return n, err
}

// CloseWrite tells the other end that nothing more comes.
func (c *sshConn) CloseWrite() error { return c.in.Close() }

func (c *sshConn) Close() error {
	_ = c.in.Close()
	c.end()
	_ = c.out.Close()
	return nil
}

func (c *sshConn) LocalAddr() net.Addr  { return sshAddr{} }
func (c *sshConn) RemoteAddr() net.Addr { return sshAddr{} }
func (c *sshConn) SetDeadline(t time.Time) error {
	return errors.Join(c.SetReadDeadline(t), c.SetWriteDeadline(t))
}
func (c *sshConn) SetReadDeadline(t time.Time) error  { return c.out.SetReadDeadline(t) }
func (c *sshConn) SetWriteDeadline(t time.Time) error { return c.in.SetWriteDeadline(t) }

type sshAddr struct{}

func (sshAddr) Network() string { return "ssh" }
func (sshAddr) String() string  { return "ssh" }

// boundedBuffer keeps the first bytes that are written to it.
type boundedBuffer struct {
	mu    sync.Mutex
	kept  bytes.Buffer
	limit int
	// truncated tells that there was more.
	truncated bool
}

// messageLimit is how much of a program's messages is kept, in bytes, where no limit is given.
const messageLimit = 16 << 10

func (b *boundedBuffer) Write(p []byte) (int, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	limit := b.limit
	if limit == 0 {
		limit = messageLimit
	}
	room := max(limit-b.kept.Len(), 0)
	if len(p) > room {
		b.truncated = true
	}
	b.kept.Write(p[:min(len(p), room)])
	return len(p), nil
}

func (b *boundedBuffer) String() string {
	b.mu.Lock()
	defer b.mu.Unlock()
	return strings.TrimSpace(b.kept.String())
}

// bytes are what was kept.
func (b *boundedBuffer) bytes() []byte {
	b.mu.Lock()
	defer b.mu.Unlock()
	return bytes.Clone(b.kept.Bytes())
}
