package deployment

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/moby/moby/api/types/container"
	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// engines are those that hosts have: old and new, and with either image store.
var engines = []buildtest.DockerOptions{{}, {Modern: true}, {Modern: true, Containerd: true}}

func TestHostPullsWithoutCredentials(t *testing.T) {
	t.Parallel()
	for _, o := range engines {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.SharedDocker(t, o)
			wire := engine.Tap(t)
			img := pushed(t, registrytest.Start(t, registrytest.Config{}), "1.0.0", indexOf(map[string]v1.Image{
				"linux/amd64": hello(t), "linux/arm64": variant(t, connectors.ARM64Only)}))
			log := &hostLog{}
			for range 2 {
				if err := hostAt(t, wire.Address, environment(t)).verify(t, img, log); err != nil {
					t.Fatal(err)
				}
			}
			if !strings.Contains(log.String(), "without credentials") || log.has(fault.HostNeedsPull) {
				t.Errorf("it told %q", log)
			}
			if id := idOn(t, engine, img.Reference()); id == "" || id != idOn(t, engine, img.ByDigest()) {
				t.Errorf("under the tag the host has %q", id)
			}
			silent(t, "requests", wire.String())
			if strings.Contains(strings.ToLower(wire.String()), "x-registry-auth") {
				t.Error("credentials were sent along")
			}
			if n := ours(t, engine, img); n != 0 {
				t.Errorf("%d containers are left", n)
			}
		})
	}
}

func TestHostPullsWithItsOwnCredentialsOverSSH(t *testing.T) {
	t.Parallel()
	for _, o := range []buildtest.DockerOptions{{}, {Modern: true, Containerd: true}} {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.SharedDocker(t, o)
			wire := engine.Tap(t)
			ssh := engine.SSH(t, wire.Path)
			registry := private(t)
			img := pushed(t, registry, "1.0.0", hello(t))
			at := func() *Host {
				h := hostAt(t, ssh.Address, environment(t))
				h.sshFlags = []string{"-F", ssh.ClientConfig}
				return h
			}
			log := &hostLog{}
			want(t, at().verify(t, img, log), fault.HostPullDenied, "docker login "+registry.Addr, "no basic auth credentials")
			if idOn(t, engine, img.Reference()) != "" {
				t.Error("the host has the image")
			}
			ssh.Login(t, registry.Addr, basic(hostUser, hostPassword))
			if err := at().verify(t, img, log); err != nil {
				t.Fatal(err)
			}
			if idOn(t, engine, img.Reference()) == "" || !log.has(fault.HostNeedsPull) || !strings.Contains(log.String(), "its own credentials") {
				t.Errorf("it told %q", log)
			}
			commands, err := os.ReadFile(ssh.Commands)
			if err != nil {
				t.Fatal(err)
			}
			silent(t, "requests", wire.String())
			silent(t, "commands", string(commands))
			if !holds(wire.String(), hostPassword) {
				t.Error("the record does not hold the host's own credentials, so that it proves nothing")
			}
			if !strings.Contains(string(commands), harmless) || !strings.Contains(string(commands), "pull --quiet "+img.ByDigest()) {
				t.Errorf("on the host there ran %s", commands)
			}
		})
	}
}

// A socket is this machine's, and the credentials are those of this user's home, not those of a job's DOCKER_CONFIG.
func TestHostPullsWithTheCredentialsOfThisUser(t *testing.T) {
	t.Parallel()
	engine := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	wire := engine.Tap(t)
	registry := private(t)
	img := pushed(t, registry, "1.0.0", hello(t))
	jobs := t.TempDir()
	buildtest.WriteDockerConfig(t, jobs, registry.Addr, basic(publisher, publisherPassword))
	environ := environment(t, "DOCKER_CONFIG="+jobs)
	log := &hostLog{}
	want(t, hostAt(t, wire.Address, environ).verify(t, img, log), fault.HostPullDenied)
	home := t.TempDir()
	buildtest.WriteDockerConfig(t, filepath.Join(home, ".docker"), registry.Addr, basic(hostUser, hostPassword))
	if err := hostAt(t, wire.Address, append(environ, "HOME="+home)).verify(t, img, log); err != nil {
		t.Fatal(err)
	}
	silent(t, "requests", wire.String())
	if !holds(wire.String(), hostPassword) {
		t.Error("the record does not hold the host's own credentials, so that it proves nothing")
	}
}

func TestHostOverTLS(t *testing.T) {
	t.Parallel()
	engine := buildtest.Docker(t, buildtest.DockerOptions{TLS: true})
	open, closed := registrytest.Start(t, registrytest.Config{}), private(t)
	public, secret := pushed(t, open, "1.0.0", hello(t)), pushed(t, closed, "1.0.0", hello(t))
	verified := []string{"DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + engine.TLSDir}
	log := &hostLog{}
	if err := hostAt(t, engine.TCPHost, environment(t, verified...)).verify(t, public, log); err != nil {
		t.Fatal(err)
	}
	if idOn(t, engine, public.Reference()) == "" {
		t.Error("the host has no image")
	}
	want(t, hostAt(t, engine.TCPHost, environment(t, verified...)).verify(t, secret, log), fault.HostOwnCredentials, "over tcp", "ssh://", "load")
	if err := hostAt(t, engine.TCPHost, environment(t, verified...)).load(t, "", secret, log); err != nil {
		t.Errorf("load: %v", err)
	}
	other := t.TempDir()
	authority := registrytest.NewAuthority(t)
	certificate, key := authority.Issue(t, false)
	for file, content := range map[string][]byte{"ca.pem": authority.PEM, "cert.pem": certificate, "key.pem": key} {
		if err := os.WriteFile(filepath.Join(other, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	for what, with := range map[string][]string{
		"no TLS":                    nil,
		"another authority":         {"DOCKER_TLS_VERIFY=1", "DOCKER_CERT_PATH=" + other},
		"another one, not verified": {"DOCKER_CERT_PATH=" + other},
		"no certificates":           {"DOCKER_TLS_VERIFY=1"},
	} {
		err := hostAt(t, engine.TCPHost, environment(t, with...)).verify(t, public, log)
		if fault.CodeOf(err) != fault.HostUnreachable || what != "no certificates" && !strings.Contains(err.Error(), "DOCKER_CERT_PATH") {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestHostUnreachable(t *testing.T) {
	t.Parallel()
	engine := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	ssh := engine.SSH(t, strings.TrimPrefix(engine.Host, "unix://"))
	stranger := filepath.Join(t.TempDir(), "config")
	if err := os.WriteFile(stranger, []byte("Host *\n  UserKnownHostsFile /dev/null\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		address, config string
		texts           []string
	}{
		{"unix:///nowhere/docker.sock", "", nil},
		{"tcp://127.0.0.1:1", "", []string{"127.0.0.1:1"}},
		{"nowhere", "", []string{"ssh://USER@HOST"}},
		{"ftp://nowhere", "", []string{"ftp"}},
		{ssh.Address, stranger, []string{"known_hosts"}},
		{strings.Replace(ssh.Address, "@", "-other@", 1), ssh.ClientConfig, []string{"Permission denied"}},
		{strings.TrimSuffix(ssh.Address, ".sock") + "s", ssh.ClientConfig, []string{"ssh"}},
		{"ssh://somebody@127.0.0.1:1", ssh.ClientConfig, []string{"Connection refused"}},
		{"ssh://somebody:" + publisherPassword + "@127.0.0.1:1", ssh.ClientConfig, []string{"password is not supported"}},
	} {
		h := hostAt(t, tt.address, environment(t))
		h.sshFlags = []string{"-F", tt.config}
		err := h.verify(t, Image{Repository: "127.0.0.1:1/a/b", Tag: "1"}, &hostLog{})
		want(t, err, fault.HostUnreachable, tt.texts...)
	}
}

func TestHostOfADockerContext(t *testing.T) {
	t.Parallel()
	engine := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	img := pushed(t, registrytest.Start(t, registrytest.Config{}), "1.0.0", hello(t))
	dir := t.TempDir()
	if err := writeContext(dir, "airbyte", engine.Host); err != nil {
		t.Fatal(err)
	}
	for what, with := range map[string][]string{
		"by its name": {"DOCKER_CONFIG=" + dir, "DOCKER_CONTEXT=airbyte"},
		"as current":  {"DOCKER_CONFIG=" + dir},
	} {
		environ := environment(t, with...)
		h := NewHost(HostOptions{Environ: environ, Getenv: getenvOf(environ)})
		if err := h.verify(t, img, &hostLog{}); err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
}

func TestHostKeepsItsTag(t *testing.T) {
	t.Parallel()
	for _, o := range engines {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.SharedDocker(t, o)
			registry := registrytest.Start(t, registrytest.Config{})
			log := &hostLog{}
			first := pushed(t, registry, "1.0.0", hello(t))
			h := hostAt(t, engine.Host, environment(t))
			if err := h.verify(t, first, log); err != nil {
				t.Fatal(err)
			}
			held := idOn(t, engine, first.Reference())
			second := pushed(t, registry, "1.0.0", hello(t, connectors.Env("CHANGED", "yes")))
			want(t, h.verify(t, second, log), fault.HostTagDiffers, held, "new tag")
			want(t, h.load(t, "", second, log), fault.HostTagDiffers, held, "new tag")
			if now := idOn(t, engine, first.Reference()); now != held {
				t.Errorf("the tag was moved to %q", now)
			}
			// Where the tag was to be overwritten, it is.
			h.options.Overwrite = true
			if err := h.load(t, "", second, log); err != nil {
				t.Fatal(err)
			}
			if now := idOn(t, engine, first.Reference()); now == held || now == "" {
				t.Errorf("the tag still is %q", now)
			}
		})
	}
}

func TestHostRunsSpec(t *testing.T) {
	t.Parallel()
	registry := registrytest.Start(t, registrytest.Config{})
	for which, tt := range map[string]struct {
		code  fault.Code
		texts []string
	}{
		connectors.Crash:               {fault.SpecFailed, []string{"exit code 3"}},
		connectors.Hang:                {fault.SpecTimeout, nil},
		connectors.NoSpec:              {fault.NoSpec, nil},
		connectors.ErrorTrace:          {fault.SpecTrace, nil},
		connectors.DifferentEntrypoint: {fault.HostSpecNotRun, []string{"ENTRYPOINT"}},
		connectors.RelativeEntrypoint:  {fault.HostSpecNotRun, []string{"ENTRYPOINT"}},
		// AIRBYTE_ENTRYPOINT is for Kubernetes.
		connectors.NoEntrypoint: {},
		connectors.NoShell:      {fault.HostSpecNotRun, []string{"unable to find user", "USER"}},
	} {
		for _, o := range []buildtest.DockerOptions{{}, {Modern: true, Containerd: true}} {
			t.Run(which+" "+o.String(), func(t *testing.T) {
				t.Parallel()
				engine := buildtest.SharedDocker(t, o)
				img := pushed(t, registry, "1.0.0", variant(t, which))
				h := hostAt(t, engine.Host, environment(t))
				if which == connectors.Hang {
					h.specTimeout = 3 * time.Second
				}
				log := &hostLog{}
				err := h.verify(t, img, log)
				if tt.code != "" {
					want(t, err, tt.code, tt.texts...)
				} else if err != nil {
					t.Error(err)
				}
				if n := ours(t, engine, img); n != 0 {
					t.Errorf("%d containers are left", n)
				}
			})
		}
	}
}

func TestHostOfAnotherPlatform(t *testing.T) {
	t.Parallel()
	registry := registrytest.Start(t, registrytest.Config{})
	for _, o := range engines {
		t.Run(o.String(), func(t *testing.T) {
			t.Parallel()
			engine := buildtest.SharedDocker(t, o)
			img := pushed(t, registry, "1.0.0", indexOf(map[string]v1.Image{"linux/arm64": variant(t, connectors.ARM64Only)}))
			h := hostAt(t, engine.Host, environment(t))
			want(t, h.verify(t, img, &hostLog{}), fault.HostPlatform, "linux/amd64", "platforms")
			want(t, h.load(t, "", img, &hostLog{}), fault.HostPlatform, "linux/arm64", "linux/amd64")
		})
	}
}

func TestHostCannotPull(t *testing.T) {
	t.Parallel()
	engine := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	for what, tt := range map[string]struct {
		img   Image
		code  fault.Code
		texts []string
	}{
		"nobody is there": {Image{Repository: "127.0.0.1:1/a/b", Tag: "1"}, fault.HostPullFailed, []string{"127.0.0.1:1"}},
		"no such name":    {Image{Repository: "registry.invalid/a/b", Tag: "1"}, fault.HostPullFailed, []string{"reachable from the host"}},
		"no such tag":     {Image{Repository: "127.0.0.1:1/a/b", Tag: "1", Digest: "sha256:" + strings.Repeat("0", 64)}, fault.HostPullFailed, nil},
	} {
		err := hostAt(t, engine.Host, environment(t)).verify(t, tt.img, &hostLog{})
		t.Run(what, func(t *testing.T) { want(t, err, tt.code, tt.texts...) })
	}
}

func TestInterruptedHostIsLeftClean(t *testing.T) {
	t.Parallel()
	engine := buildtest.SharedDocker(t, buildtest.DockerOptions{})
	ssh := engine.SSH(t, strings.TrimPrefix(engine.Host, "unix://"))
	img := pushed(t, registrytest.Start(t, registrytest.Config{}), "1.0.0", variant(t, connectors.Hang))
	for _, address := range []string{engine.Host, ssh.Address} {
		h := hostAt(t, address, environment(t))
		h.sshFlags = []string{"-F", ssh.ClientConfig}
		ctx, cancel := context.WithCancel(t.Context())
		go func() {
			for ours(t, engine, img) == 0 && ctx.Err() == nil {
				time.Sleep(20 * time.Millisecond)
			}
			cancel()
		}()
		err := h.VerifyPull(ctx, img.Repository, img.Tag, img.Digest, &hostLog{})
		cancel()
		if !errors.Is(err, context.Canceled) {
			t.Errorf("%s: the error is %v", address, err)
		}
		if n := ours(t, engine, img); n != 0 {
			t.Errorf("%s: %d containers are left", address, n)
		}
	}
}

func TestHostIsSweptOfWhatKilledRunsLeft(t *testing.T) {
	t.Parallel()
	// Of its own, since it sweeps the containers of others.
	engine := buildtest.Docker(t, buildtest.DockerOptions{})
	img := pushed(t, registrytest.Start(t, registrytest.Config{}), "1.0.0", hello(t))
	h := hostAt(t, engine.Host, environment(t))
	if err := h.verify(t, img, &hostLog{}); err != nil {
		t.Fatal(err)
	}
	if _, err := direct(t, engine).ContainerCreate(t.Context(), client.ContainerCreateOptions{
		Config: &container.Config{Image: img.Reference(), Labels: map[string]string{hostLabel: img.Reference()}}}); err != nil {
		t.Fatal(err)
	}
	log := &hostLog{}
	if err := h.verify(t, img, log); err != nil {
		t.Fatal(err)
	}
	if n := ours(t, engine, img); n != 1 {
		t.Errorf("there are %d containers, and the young one is another run's", n)
	}
	h.stale = 0
	if err := h.verify(t, img, log); err != nil {
		t.Fatal(err)
	}
	if n := ours(t, engine, img); n != 0 {
		t.Errorf("%d containers are left", n)
	}
	if !strings.Contains(log.String(), "interrupted run") {
		t.Errorf("it told %q", log)
	}
}

// A registry that never answers ends the wait, not the run's own limit.
func TestHostWaitsForAPullOnlySoLong(t *testing.T) {
	t.Parallel()
	silent, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	h := hostAt(t, buildtest.SharedDocker(t, buildtest.DockerOptions{}).Host, environment(t))
	h.pullTimeout = time.Second
	img := Image{Repository: image.Repository(silent.Addr().String() + "/a/b"), Tag: "1", Digest: "sha256:" + strings.Repeat("0", 64)}
	want(t, h.verify(t, img, &hostLog{}), fault.HostPullFailed, "did not end within 1s")
}
