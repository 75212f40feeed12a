//go:build linux

package buildtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/moby/buildkit/client"

	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// BuildkitdOptions say what buildkitd to start. The zero value is one that runs as root and listens on a unix socket. Each
// takes registries on loopback over plain http, which is BuildKit's own default.
type BuildkitdOptions struct {
	// Rootless makes it run as an ordinary user, by rootlesskit.
	Rootless bool
	// TLS makes it listen on TCP as well, and want a client certificate there.
	TLS bool
	// Config are further lines of buildkitd.toml, without the table worker.oci.
	Config string
}

// Daemon is a buildkitd that runs.
type Daemon struct {
	// Address is that of the unix socket, as BUILDKIT_HOST has it. Root and the OrdinaryUser may open it.
	Address string
	// TCPAddress is the address with TLS, and TLSDir the folder with ca.pem, cert.pem and key.pem that a client needs for it.
	// Both are empty without BuildkitdOptions.TLS.
	TCPAddress, TLSDir string
	// Dir is the folder with everything that it has. Its data are in the folder "data".
	Dir string

	process *process
}

// PID is the id of its process.
func (d *Daemon) PID() int { return d.process.cmd.Process.Pid }

// Log is what it has written so far.
func (d *Daemon) Log() string { return d.process.log() }

// Kill ends it and all that it has started at once, as a machine that dies would.
func (d *Daemon) Kill() { d.process.kill() }

// Buildkitd starts one that ends with the test.
func Buildkitd(t testing.TB, o BuildkitdOptions) *Daemon {
	t.Helper()
	d := startBuildkitd(t, o)
	d.process.stopWith(t)
	return d
}

var shared struct {
	sync.Mutex
	buildkitd *Daemon
}

// Shared returns a buildkitd that runs as root and that all tests of this test binary share. The first that asks starts
// it, and it ends with the test binary. A test that needs an empty cache, or that kills it, takes one of its own.
func Shared(t testing.TB) *Daemon {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.buildkitd == nil {
		shared.buildkitd = startBuildkitd(t, BuildkitdOptions{})
	}
	return shared.buildkitd
}

func startBuildkitd(t testing.TB, o BuildkitdOptions) *Daemon {
	t.Helper()
	bin := Programs(t)
	h := newHome(t)
	d := &Daemon{Address: "unix://" + h.path("socket", "buildkitd.sock"), Dir: h.dir}
	config := fmt.Sprintf("%s\n[worker.oci]\ndefaultCgroupParent = %q\n", o.Config, filepath.Base(h.dir))
	config = h.write(t, "buildkitd.toml", config)
	args := []string{filepath.Join(bin, "buildkitd"), "--config", config, "--root", h.path("data"), "--addr", d.Address,
		"--oci-worker=true", "--containerd-worker=false"}
	if o.TLS {
		args = append(args, d.listenTLS(t)...)
	}
	c := command{args: args, env: []string{"HOME=" + h.dir}}
	owner := os.Getuid()
	if o.Rootless {
		owner = userID
		kit := []string{filepath.Join(bin, "rootlesskit"), "--state-dir", h.path("run", "rootlesskit"), "--net=host",
			"--copy-up=/etc"}
		c.prelude, c.args, c.env = h.asUser(t)
		c.args = slices.Concat(c.args, kit, args, []string{"--rootless", "--oci-worker-no-process-sandbox"})
	}
	c.env = append(c.env, "PATH="+bin+":"+systemPath)
	h.mkdir(t, "data", owner)
	h.mkdir(t, "socket", owner)
	d.process = h.start(t, c)
	d.process.await(t, d.ready)
	if o.TLS {
		d.TCPAddress = "tcp://" + listening.FindStringSubmatch(d.Log())[1]
	}
	h.share(t, "socket/buildkitd.sock")
	return d
}

// listening is in the log once it listens on TCP. The log is complete when the socket answers but for this.
var listening = regexp.MustCompile(`running server on (127\.0\.0\.1:\d+)`)

// ready tells whether it takes builds.
func (d *Daemon) ready() error {
	if d.TLSDir != "" && !listening.MatchString(d.Log()) {
		return errors.New("it does not listen on TCP yet")
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	c, err := client.New(ctx, d.Address)
	if err != nil {
		return err
	}
	defer func() { _ = c.Close() }()
	workers, err := c.ListWorkers(ctx)
	if err == nil && len(workers) == 0 {
		err = errors.New("it has no workers")
	}
	return err
}

// listenTLS makes the certificates, and returns the arguments for a listener that wants them.
func (d *Daemon) listenTLS(t testing.TB) []string {
	t.Helper()
	d.TLSDir = filepath.Join(d.Dir, "tls")
	writeCertificates(t, d.TLSDir)
	file := func(name string) string { return filepath.Join(d.TLSDir, name) }
	return []string{"--addr", "tcp://127.0.0.1:0",
		"--tlscacert", file("ca.pem"), "--tlscert", file("server.pem"), "--tlskey", file("server-key.pem")}
}

// writeCertificates makes a folder with the certificates of a server on loopback, of a client, and of their authority.
func writeCertificates(t testing.TB, dir string) {
	t.Helper()
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	ca := registrytest.NewAuthority(t)
	certificate, key := ca.Issue(t, true)
	clientCertificate, clientKey := ca.Issue(t, false)
	for name, content := range map[string][]byte{
		"ca.pem": ca.PEM, "cert.pem": clientCertificate, "key.pem": clientKey, "server.pem": certificate, "server-key.pem": key,
	} {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
}
