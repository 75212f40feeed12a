//go:build linux

package buildtest

import (
	"bytes"
	"io"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
)

// Tap is a socket that leads to an engine's, and records all that is sent to the engine. Everyone may open it.
type Tap struct {
	// Address is as DOCKER_HOST has it, Path the socket's.
	Address, Path string

	mu   sync.Mutex
	sent bytes.Buffer
}

// Tap makes one that ends with the test.
func (d *DockerEngine) Tap(t testing.TB) *Tap {
	t.Helper()
	dir, err := os.MkdirTemp(d.Dir, "tap")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	r := &Tap{Path: filepath.Join(dir, "s")}
	r.Address = "unix://" + r.Path
	listener, err := net.Listen("unix", r.Path)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.Chmod(r.Path, 0o666); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = listener.Close() })
	go func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			go r.serve(from.(*net.UnixConn), strings.TrimPrefix(d.Host, "unix://"))
		}
	}()
	return r
}

func (r *Tap) serve(from *net.UnixConn, socket string) {
	defer func() { _ = from.Close() }()
	c, err := net.Dial("unix", socket)
	if err != nil {
		return
	}
	to := c.(*net.UnixConn)
	defer func() { _ = to.Close() }()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = io.Copy(io.MultiWriter(to, r), from)
		_ = to.CloseWrite()
	}()
	_, _ = io.Copy(from, to)
	_ = from.CloseWrite()
	_ = to.CloseRead()
	_ = from.CloseRead()
	<-done
}

// Write records what is sent.
func (r *Tap) Write(p []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent.Write(p)
}

// String is what was sent so far.
func (r *Tap) String() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.sent.String()
}
