//go:build linux

package buildtest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"runtime"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// relayPort is where the relay listens in the network namespace of an engine. Nothing else listens there.
const relayPort = 15001

// relay takes the connections that are made to a loopback address in a network namespace, whatever the port, and makes
// the same ones in that of the test binary. The namespace's rules redirect them to it.
type relay struct {
	listener net.Listener
	running  sync.WaitGroup
	mu       sync.Mutex
	open     map[net.Conn]bool // nil once it is closed
}

// startRelay starts one in the network namespace of a process.
func startRelay(pid int) (*relay, error) {
	listener, err := listenIn(fmt.Sprintf("/proc/%d/ns/net", pid))
	if err != nil {
		return nil, err
	}
	r := &relay{listener: listener, open: map[net.Conn]bool{}}
	r.running.Go(func() {
		for {
			from, err := listener.Accept()
			if err != nil {
				return
			}
			r.running.Go(func() { r.serve(from.(*net.TCPConn)) })
		}
	})
	return r, nil
}

// listenIn listens in a network namespace: a socket stays in the one that its thread was in when it was made.
func listenIn(namespace string) (_ net.Listener, err error) {
	there, err := unix.Open(namespace, unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open %s: %w", namespace, err)
	}
	defer func() { _ = unix.Close(there) }()
	runtime.LockOSThread()
	here, err := unix.Open("/proc/thread-self/ns/net", unix.O_RDONLY|unix.O_CLOEXEC, 0)
	if err != nil {
		runtime.UnlockOSThread()
		return nil, err
	}
	defer func() { _ = unix.Close(here) }()
	if err := unix.Setns(there, unix.CLONE_NEWNET); err != nil {
		runtime.UnlockOSThread()
		return nil, fmt.Errorf("enter %s: %w", namespace, err)
	}
	listener, err := net.Listen("tcp4", fmt.Sprintf("127.0.0.1:%d", relayPort))
	if back := unix.Setns(here, unix.CLONE_NEWNET); back != nil {
		// A thread that stays locked is ended with its goroutine, and no other one gets the wrong network.
		return nil, errors.Join(err, fmt.Errorf("leave %s: %w", namespace, back))
	}
	runtime.UnlockOSThread()
	return listener, err
}

func (r *relay) serve(from *net.TCPConn) {
	defer func() { _ = from.Close() }()
	if !r.hold(from) {
		return
	}
	defer r.forget(from)
	wanted, err := wantedAddress(from)
	if err != nil {
		return
	}
	conn, err := net.Dial("tcp4", wanted)
	if err != nil {
		return
	}
	to := conn.(*net.TCPConn)
	defer func() { _ = to.Close() }()
	if !r.hold(to) {
		return
	}
	defer r.forget(to)
	var both sync.WaitGroup
	both.Go(func() { pass(to, from) })
	both.Go(func() { pass(from, to) })
	both.Wait()
}

// pass copies until the end of one direction, and passes that on as well.
func pass(to, from *net.TCPConn) {
	_, _ = io.Copy(to, from)
	_ = to.CloseWrite()
}

// hold notes a connection for close. It is false when the relay is closed already.
func (r *relay) hold(c net.Conn) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.open == nil {
		return false
	}
	r.open[c] = true
	return true
}

func (r *relay) forget(c net.Conn) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.open, c)
}

func (r *relay) close() {
	_ = r.listener.Close()
	r.mu.Lock()
	for c := range r.open {
		_ = c.Close()
	}
	r.open = nil
	r.mu.Unlock()
	r.running.Wait()
}

// wantedAddress is where a redirected connection was made to (SO_ORIGINAL_DST of netfilter). The call is the one of this
// size that x/sys has: its 20 bytes begin with a struct sockaddr_in, family, port and address.
func wantedAddress(c *net.TCPConn) (string, error) {
	raw, err := c.SyscallConn()
	if err != nil {
		return "", err
	}
	var wanted *unix.IPv6Mreq
	var failed error
	if err := raw.Control(func(fd uintptr) {
		wanted, failed = unix.GetsockoptIPv6Mreq(int(fd), syscall.IPPROTO_IP, unix.SO_ORIGINAL_DST)
	}); err != nil {
		return "", err
	}
	if failed != nil {
		return "", failed
	}
	port := binary.BigEndian.Uint16(wanted.Multiaddr[2:4])
	return fmt.Sprintf("%s:%d", net.IP(wanted.Multiaddr[4:8]), port), nil
}
