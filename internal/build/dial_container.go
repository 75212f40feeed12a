package build

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"sync"

	buildkit "github.com/moby/buildkit/client"
	docker "github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// container connects to the BuildKit in a container, by running buildctl in it, whose input and output are the
// connection. That is how buildx does it, and works wherever the engine itself can be reached.
func (d *dialing) container(ctx context.Context, endpoint dockerEndpoint, name string) (*engine, error) {
	c, _, err := d.dockerClient(ctx, endpoint)
	if err != nil {
		return nil, err
	}
	b, err := buildkit.New(ctx, "", buildkit.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		return dialContainer(ctx, c, name)
	}))
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	e, err := open(ctx, d.timeout, b, c)
	if err != nil {
		return nil, fmt.Errorf("BuildKit in the container %s can't be used: %w", fault.Bounded(name), err)
	}
	e.name = e.caps.versioned("buildkitd") + " in the container " + name
	return e, nil
}

// dialContainer starts buildctl in a container.
func dialContainer(ctx context.Context, c *docker.Client, name string) (net.Conn, error) {
	exec, err := c.ExecCreate(ctx, name, docker.ExecCreateOptions{
		AttachStdin: true, AttachStdout: true, AttachStderr: true, Cmd: []string{"buildctl", "dial-stdio"}})
	if err != nil {
		return nil, err
	}
	attached, err := c.ExecAttach(ctx, exec.ID, docker.ExecAttachOptions{})
	if err != nil {
		return nil, err
	}
	return &execConn{Conn: attached.Conn, reader: attached.Reader}, nil
}

// The streams in the output of an attached process, whose pieces have a header of eight bytes: the stream, three zeros,
// and the length (https://docs.docker.com/reference/api/engine/, "Attach to a container").
const (
	streamStdout = 1
	streamHeader = 8
)

// execConn is the connection to a process in a container: what is written is its standard input, what is read its
// standard output.
type execConn struct {
	net.Conn
	reader io.Reader

	mu sync.Mutex
	// left is what the current piece of standard output still has.
	left int
	// begun tells that standard output is BuildKit's protocol.
	begun bool
	// said is what the process printed on standard error, bounded.
	said []byte
}

// maxSaid is how much of a process's standard error is kept, in bytes.
const maxSaid = 500

func (c *execConn) Read(p []byte) (int, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for c.left == 0 {
		if err := c.next(); err != nil {
			return 0, c.explain(err)
		}
	}
	n, err := c.reader.Read(p[:min(len(p), c.left)])
	c.left -= n
	return n, c.explain(err)
}

// next reads headers up to one of standard output.
func (c *execConn) next() error {
	var header [streamHeader]byte
	if _, err := io.ReadFull(c.reader, header[:]); err != nil {
		return err
	}
	size := int(binary.BigEndian.Uint32(header[4:]))
	if header[0] == streamStdout && c.begun {
		c.left = size
		return nil
	}
	if header[0] != streamStdout {
		return c.keep(size)
	}
	// The engine tells there, too, why it could not start the process. BuildKit's first frame is settings, by its
	// fourth byte; in a text that is never a control character.
	var frame [4]byte
	if size >= len(frame) {
		if _, err := io.ReadFull(c.reader, frame[:]); err != nil {
			return err
		}
		if frame[3] == 4 {
			c.begun, c.left = true, size
			c.reader = io.MultiReader(bytes.NewReader(frame[:]), c.reader)
			return nil
		}
		c.said = append(c.said, frame[:]...)
		size -= len(frame)
	}
	if err := c.keep(size); err != nil {
		return err
	}
	return io.EOF
}

// keep reads what the process says, and keeps the beginning.
func (c *execConn) keep(size int) error {
	part, err := io.ReadAll(io.LimitReader(c.reader, int64(min(size, maxSaid))))
	c.said = append(c.said, part...)
	c.said = c.said[:min(len(c.said), maxSaid)]
	if err == nil {
		_, err = io.CopyN(io.Discard, c.reader, int64(size-len(part)))
	}
	return err
}

// explain adds what the process said to the end of its output.
func (c *execConn) explain(err error) error {
	if len(c.said) == 0 || !errors.Is(err, io.EOF) {
		return err
	}
	return fmt.Errorf("buildctl in the container: %s", fault.Bounded(string(c.said)))
}
