//go:build linux

package buildtest

import (
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// SSHHost is a Docker engine's host as it is seen by ssh: Debian's sshd on loopback, where the OrdinaryUser may sign in and
// use the engine. It takes every environment variable that a client sends, which careful hosts don't.
type SSHHost struct {
	// Address is as DOCKER_HOST has it.
	Address string
	// ClientConfig is an ssh client's configuration with the user's key and the host's, that sends the whole environment.
	ClientConfig string
	// Bin is a folder with an ssh command that has this configuration.
	Bin string
	// Home is the user's home folder there; Commands is a file to which every run of docker there adds its environment and
	// its arguments.
	Home, Commands string

	process *process
}

// SSH starts sshd for the engine. The socket is the one that docker on the host uses. It ends with the test.
func (d *DockerEngine) SSH(t testing.TB, socket string) *SSHHost {
	t.Helper()
	sshd, keygen := lookPath(t, "sshd", "openssh-server"), lookPath(t, "ssh-keygen", "openssh-client")
	docker := lookPath(t, "docker", "docker.io")
	h := newHome(t)
	prelude, _, _ := h.asUser(t)
	s := &SSHHost{Home: h.path("home"), Commands: h.path("commands")}
	for _, name := range []string{"host", "client"} {
		if out, err := exec.Command(keygen, "-q", "-t", "ed25519", "-N", "", "-f", h.path(name)).CombinedOutput(); err != nil {
			t.Fatalf("ssh-keygen: %v\n%s", err, out)
		}
	}
	h.write(t, "commands", "")
	// The user writes there, as docker on the host.
	if err := os.Chmod(s.Commands, 0o666); err != nil {
		t.Fatal(err)
	}
	h.mkdir(t, "bin", 0)
	script := fmt.Sprintf("#!/bin/sh\n{ env; echo \"ARGUMENTS $*\"; } >>%s\nexec %s \"$@\"\n", s.Commands, docker)
	h.write(t, "bin/docker", script)
	if err := os.Chmod(h.path("bin", "docker"), 0o755); err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	config := h.write(t, "sshd_config", strings.Join([]string{
		"ListenAddress 127.0.0.1:" + port, "HostKey " + h.path("host"), "AuthorizedKeysFile " + h.path("client.pub"), "PidFile none",
		"StrictModes no", "UsePAM no", "PasswordAuthentication no", "AllowUsers " + userName, "AcceptEnv *", "MaxSessions 20", "MaxStartups 50",
		"SetEnv PATH=" + h.path("bin") + ":" + systemPath, ""}, "\n"))
	s.process = h.start(t, command{args: []string{sshd, "-D", "-e", "-f", config}, env: []string{"PATH=" + systemPath},
		prelude: prelude + "mkdir -p -m 0755 /run/sshd\n"})
	s.process.await(t, func() error {
		c, err := net.DialTimeout("tcp4", "127.0.0.1:"+port, time.Second)
		if err != nil {
			return err
		}
		return c.Close()
	})
	s.process.stopWith(t)
	key, err := os.ReadFile(h.path("host.pub"))
	if err != nil {
		t.Fatal(err)
	}
	known := h.write(t, "known_hosts", fmt.Sprintf("[127.0.0.1]:%s %s", port, key))
	s.ClientConfig = h.write(t, "ssh_config", fmt.Sprintf(
		"Host *\n  IdentityFile %s\n  IdentitiesOnly yes\n  UserKnownHostsFile %s\n  SendEnv *\n  LogLevel ERROR\n", h.path("client"), known))
	ssh := lookPath(t, "ssh", "openssh-client")
	h.mkdir(t, "client-bin", 0)
	s.Bin = h.path("client-bin")
	h.write(t, "client-bin/ssh", fmt.Sprintf("#!/bin/sh\nexec %s -F %s \"$@\"\n", ssh, s.ClientConfig))
	if err := os.Chmod(h.path("client-bin", "ssh"), 0o755); err != nil {
		t.Fatal(err)
	}
	s.Address = "ssh://" + userName + "@127.0.0.1:" + port + socket
	return s
}

// Login puts credentials for a registry into the user's docker configuration, as docker login does.
func (s *SSHHost) Login(t testing.TB, registry, auth string) {
	t.Helper()
	WriteDockerConfig(t, filepath.Join(s.Home, ".docker"), registry, auth)
}

// WriteDockerConfig writes a docker configuration that everyone can read; auth is the base64 of user and password.
func WriteDockerConfig(t testing.TB, dir, registry, auth string) {
	t.Helper()
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	content := fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, registry, auth)
	if err := os.WriteFile(filepath.Join(dir, "config.json"), []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}
