//go:build linux

package buildtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// DockerOptions say what Docker engine to start. The zero value is Debian's.
type DockerOptions struct {
	// Modern makes it that of moby's main line (29 and later) instead, built from its module.
	Modern bool
	// Containerd makes a modern engine keep images in containerd's store instead of a graph driver's.
	Containerd bool
	// TLS makes it listen on TCP as well, and want a client certificate there. It then has the machine's network, and no
	// bridge: RUN instructions don't run.
	TLS bool
}

// String is the engine in a word, for the names of subtests.
func (o DockerOptions) String() string {
	switch {
	case !o.Modern:
		return "debian"
	case o.Containerd:
		return "modern-containerd"
	default:
		return "modern-graphdriver"
	}
}

// DockerEngine is a Docker engine that runs. It has a network namespace of its own, so that it can have the bridge without
// which its BuildKit runs no RUN instruction, and leave none behind. The loopback addresses that it sees are those of the
// machine all the same, for registries; its containers reach no network at all.
type DockerEngine struct {
	// Host is its address, as DOCKER_HOST has it. Root and the OrdinaryUser may open it.
	Host string
	// TCPHost is the address with TLS, and TLSDir the folder with ca.pem, cert.pem and key.pem that a client needs for it.
	// Both are empty without DockerOptions.TLS.
	TCPHost, TLSDir string
	// Dir is the folder with everything that it has. Its data are in the folder "data".
	Dir string

	process *process
	relay   *relay // nil with TLS
}

// PID is the id of its process.
func (d *DockerEngine) PID() int { return d.process.cmd.Process.Pid }

// Log is what it has written so far.
func (d *DockerEngine) Log() string { return d.process.log() }

// Kill ends it and all that it has started at once, as a machine that dies would.
func (d *DockerEngine) Kill() { d.process.kill() }

// Docker starts an engine that ends with the test.
func Docker(t testing.TB, o DockerOptions) *DockerEngine {
	t.Helper()
	d := startDocker(t, o)
	if d.relay != nil {
		t.Cleanup(d.relay.close)
	}
	d.process.stopWith(t)
	return d
}

// sharedDocker are the engines of SharedDocker.
var sharedDocker struct {
	sync.Mutex
	engines map[DockerOptions]*DockerEngine
}

// SharedDocker returns an engine that all tests of this test binary share. The first that asks starts it, and it ends
// with the test binary. A test that needs an empty cache, or that kills it, takes one of its own.
func SharedDocker(t testing.TB, o DockerOptions) *DockerEngine {
	t.Helper()
	sharedDocker.Lock()
	defer sharedDocker.Unlock()
	if sharedDocker.engines == nil {
		sharedDocker.engines = map[DockerOptions]*DockerEngine{}
	}
	if sharedDocker.engines[o] == nil {
		sharedDocker.engines[o] = startDocker(t, o)
	}
	return sharedDocker.engines[o]
}

func startDocker(t testing.TB, o DockerOptions) *DockerEngine {
	t.Helper()
	lookPath(t, "containerd", "containerd")
	lookPath(t, "runc", "runc")
	iptables, busybox := lookPath(t, "iptables", "iptables"), lookPath(t, "busybox", "busybox-static")
	search := systemPath
	var program string
	var options []string
	if o.Modern {
		program = filepath.Join(moby.built(t), "dockerd")
		search = runc.built(t) + ":" + search
		options = []string{"--feature", "containerd-snapshotter=" + strconv.FormatBool(o.Containerd)}
	} else {
		program = lookPath(t, "dockerd", "docker.io")
	}
	h := newHome(t)
	d := &DockerEngine{Host: "unix://" + h.path("docker.sock"), Dir: h.dir}
	c := command{
		network: true,
		env:     []string{"HOME=" + h.dir, "PATH=" + search},
		// Debian's engine writes a key into /etc/docker, and all would read settings of the machine's own engine there.
		prelude: fmt.Sprintf("mkdir -p /etc/docker\nmount -t tmpfs tmpfs /etc/docker\n%s ip link set lo up\n"+
			"%s -t nat -A OUTPUT -d 127.0.0.0/8 -p tcp -j REDIRECT --to-ports %d", busybox, iptables, relayPort),
		args: slices.Concat([]string{program, "--config-file", h.write(t, "daemon.json", "{}"), "--host", d.Host,
			"--data-root", h.path("data"), "--exec-root", h.path("exec"), "--pidfile", h.path("pid"),
			"--cgroup-parent", "/" + filepath.Base(h.dir), "--group", "0",
			"--iptables=false", "--ip6tables=false", "--userland-proxy=false"}, options),
	}
	if o.TLS {
		c.network, c.prelude = false, "mkdir -p /etc/docker\nmount -t tmpfs tmpfs /etc/docker\n"
		c.args = append(c.args, d.listenTLS(t)...)
	}
	d.process = h.start(t, c)
	if !o.TLS {
		var err error
		if d.relay, err = startRelay(d.PID()); err != nil {
			_ = d.process.stop()
			unavailable(t, "let %s reach registries: %v", program, err)
		}
	}
	d.process.await(t, d.ping)
	h.share(t, "docker.sock")
	return d
}

// listenTLS makes the certificates, and returns the arguments for a listener that wants them.
func (d *DockerEngine) listenTLS(t testing.TB) []string {
	t.Helper()
	port := freePort(t)
	d.TCPHost = "tcp://127.0.0.1:" + port
	d.TLSDir = filepath.Join(d.Dir, "tls")
	writeCertificates(t, d.TLSDir)
	file := func(name string) string { return filepath.Join(d.TLSDir, name) }
	return []string{"--bridge=none", "--host", d.TCPHost, "--tlsverify",
		"--tlscacert", file("ca.pem"), "--tlscert", file("server.pem"), "--tlskey", file("server-key.pem")}
}

// freePort is a port of loopback on which nothing listens, for programs that can't be told to take any.
func freePort(t testing.TB) string {
	t.Helper()
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	_, port, err := net.SplitHostPort(l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// ping tells whether it answers.
func (d *DockerEngine) ping() error {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	socket := filepath.Join(d.Dir, "docker.sock")
	transport := &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", socket)
	}}
	defer transport.CloseIdleConnections()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://docker/_ping", nil)
	if err != nil {
		return err
	}
	resp, err := transport.RoundTrip(req)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return errors.New(resp.Status)
	}
	return nil
}
