package registry

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// machine is a keychain on a machine with these variables, files and helpers.
type machine struct {
	env     map[string]string
	files   map[string]string
	helpers map[string]func(server string) (stdout, message string, err error)
	asked   []string
}

func (m *machine) keychain(o Options, hosts ...string) *keychain {
	o.Getenv = func(name string) string { return m.env[name] }
	k := &keychain{client: New(o), providers: providers(), around: map[string]*cell[ambience]{}, explicit: o, hosts: map[string]bool{}, now: time.Now,
		readFile: func(path string) ([]byte, error) {
			if c, ok := m.files[path]; ok {
				return []byte(c), nil
			}
			return nil, &fs.PathError{Op: "open", Path: path, Err: fs.ErrNotExist}
		},
		run: func(_ context.Context, program, server string) (string, string, error) {
			m.asked = append(m.asked, program+" "+server)
			if h := m.helpers[program]; h != nil {
				return h(server)
			}
			return "", "", &exec.Error{Name: program, Err: exec.ErrNotFound}
		}}
	for _, h := range hosts {
		k.hosts[hostOf(h)] = true
	}
	return k
}

func basicAuth(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

func TestResolve(t *testing.T) {
	t.Parallel()
	home := map[string]string{"HOME": "/home/u"}
	const config = "/home/u/.docker/config.json"
	answers := func(user, secret string) map[string]func(string) (string, string, error) {
		return map[string]func(string) (string, string, error){"docker-credential-test": func(server string) (string, string, error) {
			b, err := json.Marshal(map[string]string{"ServerURL": server, "Username": user, "Secret": secret})
			return string(b), "", err
		}}
	}
	tests := []struct {
		name    string
		options Options
		machine machine
		repo    string
		want    authn.AuthConfig
		from    string
		asked   string
	}{
		{name: "inputs first", options: Options{Username: "in", Password: "put"}, repo: "registry.example/a/b",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"registry.example":{"auth":"` + basicAuth("u", "p") + `"}}}`}},
			want:    authn.AuthConfig{Username: "in", Password: "put"}, from: `the inputs registry-username and registry-password (user "in")`},
		{name: "token before password", options: Options{Username: "in", Password: "put", Token: "tok"}, repo: "registry.example/a/b",
			want: authn.AuthConfig{RegistryToken: "tok"}, from: "the input registry-token"},
		{name: "docker config", repo: "registry.example/a/b",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"registry.example":{"auth":"` + basicAuth("u", "p:q") + `"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p:q"}, from: `the docker configuration /home/u/.docker/config.json (user "u")`},
		{name: "DOCKER_CONFIG instead of home", repo: "registry.example/a/b",
			machine: machine{env: map[string]string{"HOME": "/home/u", "DOCKER_CONFIG": "/d"}, files: map[string]string{
				config: `{"auths":{"registry.example":{"username":"no","password":"no"}}}`, "/d/config.json": `{"auths":{"registry.example":{"username":"u","password":"p"}}}`}},
			want: authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /d/config.json (user "u")`},
		{name: "DOCKER_AUTH_CONFIG without any file", repo: "registry.example/a/b",
			machine: machine{env: map[string]string{"DOCKER_AUTH_CONFIG": `{"auths":{"registry.example":{"auth":"` + basicAuth("u", "p") + `"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the variable DOCKER_AUTH_CONFIG (user "u")`},
		{name: "REGISTRY_AUTH_FILE", repo: "registry.example/a/b",
			machine: machine{env: map[string]string{"REGISTRY_AUTH_FILE": "/r"}, files: map[string]string{"/r": `{"auths":{"registry.example":{"username":"u","password":"p"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /r (user "u")`},
		{name: "podman's runtime file", repo: "registry.example/a/b",
			machine: machine{env: map[string]string{"HOME": "/home/u", "XDG_RUNTIME_DIR": "/run/u"}, files: map[string]string{
				config: `{}`, "/run/u/containers/auth.json": `{"auths":{"registry.example":{"username":"u","password":"p"}}}`}},
			want: authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /run/u/containers/auth.json (user "u")`},
		{name: "podman's file in .config", repo: "registry.example/a/b",
			machine: machine{env: home, files: map[string]string{"/home/u/.config/containers/auth.json": `{"auths":{"registry.example":{"username":"u","password":"p"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /home/u/.config/containers/auth.json (user "u")`},
		{name: "the longest path wins", repo: "registry.example/team/app/x",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"registry.example":{"username":"u","password":"host"},
				"registry.example/team":{"username":"u","password":"team"},"registry.example/team/app/y":{"username":"u","password":"y"}}}`}},
			want: authn.AuthConfig{Username: "u", Password: "team"}, from: `the docker configuration /home/u/.docker/config.json (user "u")`},
		{name: "docker hub's URL", repo: "docker.io/acme/x",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"https://index.docker.io/v1/":{"username":"u","password":"p"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /home/u/.docker/config.json (user "u")`},
		{name: "docker hub's short name", repo: "docker.io/acme/x",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"docker.io":{"username":"u","password":"p"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /home/u/.docker/config.json (user "u")`},
		{name: "a key with scheme and version", repo: "registry.example:5000/acme/x",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"https://registry.example:5000/v2/":{"username":"u","password":"p"}}}`}},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the docker configuration /home/u/.docker/config.json (user "u")`},
		{name: "an identity token", repo: "registry.example/a/b",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"registry.example":{"auth":"` + basicAuth("00000000-0000-0000-0000-000000000000", "") + `","identitytoken":"idt"}}}`}},
			want:    authn.AuthConfig{Username: "00000000-0000-0000-0000-000000000000", IdentityToken: "idt"}, from: "the docker configuration /home/u/.docker/config.json"},
		{name: "the host's helper", repo: "registry.example/a/b",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"registry.example":{"username":"no","password":"no"}},"credHelpers":{"registry.example":"test"}}`}, helpers: answers("u", "p")},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the credential helper docker-credential-test (user "u")`, asked: "docker-credential-test registry.example"},
		{name: "the store of all hosts", repo: "docker.io/acme/x",
			machine: machine{env: home, files: map[string]string{config: `{"auths":{"https://index.docker.io/v1/":{}},"credsStore":"test"}`}, helpers: answers("<token>", "idt")},
			want:    authn.AuthConfig{IdentityToken: "idt"}, from: "the credential helper docker-credential-test", asked: "docker-credential-test https://index.docker.io/v1/"},
		{name: "docker hub without an entry", repo: "docker.io/acme/x",
			machine: machine{env: home, files: map[string]string{config: `{"credHelpers":{"docker.io":"test"}}`}, helpers: answers("u", "p")},
			want:    authn.AuthConfig{Username: "u", Password: "p"}, from: `the credential helper docker-credential-test (user "u")`, asked: "docker-credential-test https://index.docker.io/v1/"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			repo, err := name.NewRepository(tt.repo)
			if err != nil {
				t.Fatal(err)
			}
			k := tt.machine.keychain(tt.options, "registry.example")
			c, err := k.resolve(t.Context(), repo)
			if err != nil {
				t.Fatal(err)
			}
			got, err := authn.Authorization(t.Context(), c.auth)
			if err != nil {
				t.Fatal(err)
			}
			got.Auth = ""
			if *got != tt.want {
				t.Errorf("got %+v, want %+v", *got, tt.want)
			}
			if c.String() != tt.from {
				t.Errorf("from %s, want %s", c, tt.from)
			}
			if asked := strings.Join(tt.machine.asked, ", "); asked != tt.asked {
				t.Errorf("asked %q, want %q", asked, tt.asked)
			}
		})
	}
}

func TestResolveFindsNothing(t *testing.T) {
	t.Parallel()
	repo, err := name.NewRepository("registry.example/a/b")
	if err != nil {
		t.Fatal(err)
	}
	notFound := map[string]func(string) (string, string, error){"docker-credential-test": func(string) (string, string, error) {
		return "", "credentials not found in native keychain", errors.New("exit status 1")
	}}
	for _, tt := range []struct {
		name    string
		options Options
		machine machine
		looked  string
	}{
		{"an empty machine", Options{}, machine{}, "DOCKER_AUTH_CONFIG (not set)"},
		{"inputs of another host", Options{Username: "u", Password: "p"}, machine{}, "DOCKER_AUTH_CONFIG (not set)"},
		{"other hosts, near names", Options{}, machine{env: map[string]string{"HOME": "/h"}, files: map[string]string{"/h/.docker/config.json": `{"auths":{
			"registry.example.evil":{"username":"u","password":"p"},"xregistry.example":{"username":"u","password":"p"},"registry.example/a/bc":{"username":"u","password":"p"},
			"registry.example:5000":{"username":"u","password":"p"},"registry.example":{}}}`}}, "/h/.docker/config.json (nothing for this registry)"},
		{"a store that has none", Options{}, machine{env: map[string]string{"HOME": "/h"}, helpers: notFound,
			files: map[string]string{"/h/.docker/config.json": `{"credsStore":"test"}`}}, "/h/.docker/config.json (nothing for this registry)"},
		{"an empty file", Options{}, machine{env: map[string]string{"HOME": "/h"}, files: map[string]string{"/h/.docker/config.json": ""}}, "nothing for this registry"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			c, err := tt.machine.keychain(tt.options, "other.example").resolve(t.Context(), repo)
			if err != nil || !c.anonymous() {
				t.Fatalf("got %s, %v", c, err)
			}
			if !strings.Contains(strings.Join(c.looked, ", "), tt.looked) {
				t.Errorf("looked for %q", c.looked)
			}
		})
	}
}

func TestResolveFails(t *testing.T) {
	t.Parallel()
	repo, err := name.NewRepository("registry.example/a/b")
	if err != nil {
		t.Fatal(err)
	}
	home := map[string]string{"HOME": "/h"}
	uses := map[string]string{"/h/.docker/config.json": `{"credHelpers":{"registry.example":"test"}}`}
	helper := func(stdout, message string, err error) map[string]func(string) (string, string, error) {
		return map[string]func(string) (string, string, error){"docker-credential-test": func(string) (string, string, error) { return stdout, message, err }}
	}
	for _, tt := range []struct {
		name    string
		machine machine
		code    fault.Code
		words   []string
	}{
		{"no such helper", machine{env: home, files: uses}, fault.CredentialHelper, []string{"docker-credential-test", "no such program"}},
		{"a helper that fails", machine{env: home, files: uses, helpers: helper("", "token expired, run login", errors.New("exit status 1"))},
			fault.CredentialHelper, []string{"docker-credential-test", "token expired, run login", "registry.example"}},
		{"a helper that babbles", machine{env: home, files: uses, helpers: helper("secret-thing", "", nil)}, fault.CredentialHelper, []string{"other than JSON"}},
		{"a broken file", machine{env: home, files: map[string]string{"/h/.docker/config.json": `{"auths":`}}, fault.NoCredentials, []string{"/h/.docker/config.json"}},
		{"a broken variable", machine{env: map[string]string{"DOCKER_AUTH_CONFIG": `secret-thing`}}, fault.NoCredentials, []string{"DOCKER_AUTH_CONFIG"}},
		{"a broken auth", machine{env: home, files: map[string]string{"/h/.docker/config.json": `{"auths":{"x":{"auth":"secret-thing!"}}}`}}, fault.NoCredentials, []string{"decode"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			_, err := tt.machine.keychain(Options{}).resolve(t.Context(), repo)
			f := wantFault(t, err, tt.code, tt.words...)
			if strings.Contains(f.Error(), "secret-thing") {
				t.Errorf("the error holds the content: %v", f)
			}
		})
	}
}

// TestHelperIsAskedAgain: a helper's token may end before a long push does.
func TestHelperIsAskedAgain(t *testing.T) {
	t.Parallel()
	now := time.Now()
	m := machine{env: map[string]string{"HOME": "/h"}, files: map[string]string{"/h/.docker/config.json": `{"credHelpers":{"registry.example":"test"}}`},
		helpers: map[string]func(string) (string, string, error){"docker-credential-test": func(string) (string, string, error) {
			return `{"Username":"u","Secret":"s-` + now.Format(time.RFC3339) + `"}`, "", nil
		}}}
	k := m.keychain(Options{})
	k.now = func() time.Time { return now }
	for _, repo := range []string{"registry.example/a/b", "registry.example/a/c"} {
		r, err := name.NewRepository(repo)
		if err != nil {
			t.Fatal(err)
		}
		c, err := k.resolve(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		for range 3 {
			if _, err := authn.Authorization(t.Context(), c.auth); err != nil {
				t.Fatal(err)
			}
		}
	}
	if len(m.asked) != 1 {
		t.Errorf("asked %d times, want once", len(m.asked))
	}
	r, _ := name.NewRepository("registry.example/a/b")
	c, err := k.resolve(t.Context(), r)
	if err != nil {
		t.Fatal(err)
	}
	now = now.Add(unknownAge + time.Second)
	a, err := authn.Authorization(t.Context(), c.auth)
	if err != nil || a.Password != "s-"+now.Format(time.RFC3339) || len(m.asked) != 2 {
		t.Errorf("%+v, %v, asked %d times", a, err, len(m.asked))
	}
}

// TestRealDockerConfig signs in to a real registry by a file, a real helper program and its failure. It sets the PATH,
// so it is not parallel.
func TestRealDockerConfig(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("the helper is a shell script")
	}
	r := basicRegistry(t)
	repo := image.Repository(r.Addr + "/acme/source-erp")
	bin := t.TempDir()
	script := "#!/bin/sh\nread server\n[ \"$1\" = get ] && [ \"$server\" = " + r.Addr + " ] || { echo \"unknown server $server\"; exit 1; }\n" +
		`echo '{"ServerURL":"'$server'","Username":"alice","Secret":"` + password + `"}'` + "\n"
	if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte(script), 0o700); err != nil { //nolint:gosec // a program must be executable
		t.Fatal(err)
	}
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	client := func(content map[string]any, log *recorder) *Client {
		return New(Options{Hosts: []string{r.Addr}, PlainHTTP: true, Getenv: env("DOCKER_CONFIG", dockerConfigFile(t, content)), Log: log.add})
	}
	for from, content := range map[string]map[string]any{
		"config.json (user \"alice\")":                                  {"auths": map[string]any{r.Addr: map[string]string{"auth": basicAuth("alice", password)}}},
		"the credential helper docker-credential-test (user \"alice\")": {"credHelpers": map[string]string{r.Addr: "test"}},
	} {
		var log recorder
		if err := client(content, &log).CheckPush(t.Context(), repo); err != nil {
			t.Error(err)
		}
		if !strings.Contains(log.String(), from) || strings.Contains(log.String(), password) {
			t.Errorf("log:\n%s", log.String())
		}
	}
	var log recorder
	missing := client(map[string]any{"credsStore": "absent"}, &log)
	wantFault(t, missing.CheckPush(t.Context(), repo), fault.CredentialHelper, "docker-credential-absent", "no such program")
	other := registrytest.Start(t, registrytest.Config{Users: map[string]string{"alice": password}})
	failing := New(Options{Hosts: []string{other.Addr}, PlainHTTP: true, Getenv: env("DOCKER_CONFIG", dockerConfigFile(t, map[string]any{"credsStore": "test"}))})
	wantFault(t, failing.CheckPush(t.Context(), image.Repository(other.Addr+"/a/b")), fault.CredentialHelper, "docker-credential-test", "unknown server "+other.Addr)
	if got := other.Requests(t); len(got) != 0 {
		t.Errorf("the registry was asked although the helper failed: %v", got)
	}
}

func TestCredentialsForABuildEngine(t *testing.T) {
	t.Parallel()
	docker := `{"auths":{"other.example":{"auth":"` + base64.StdEncoding.EncodeToString([]byte("me:mine")) + `"}}}`
	c := New(Options{Username: "u", Password: "p", Hosts: []string{"registry.example:5000"}, PlainHTTP: true,
		Getenv: func(name string) string {
			if name == "DOCKER_AUTH_CONFIG" {
				return docker
			}
			return ""
		}})
	for host, want := range map[string]authn.AuthConfig{
		"registry.example:5000": {Username: "u", Password: "p"},
		"other.example":         {Username: "me", Password: "mine"},
		"nowhere.example":       {},
	} {
		got, err := c.Credentials(t.Context(), host)
		if err != nil || got.Username != want.Username || got.Password != want.Password {
			t.Errorf("%s: %q, %v", host, got.Username, err)
		}
	}
	if !c.PlainHTTP("registry.example:5000") || c.PlainHTTP("other.example") {
		t.Error("plain http was asked for one host alone")
	}
}
