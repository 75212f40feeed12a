package cloudtest

import (
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
)

// realRegistry is a scene at a real registry.
type realRegistry struct {
	*scene
	registry *registrytest.Registry
}

// newReal starts a registry and makes a child that pushes to it.
func newReal(t *testing.T, c registrytest.Config) *realRegistry {
	t.Helper()
	w := newWorld(t)
	r := registrytest.Start(t, c)
	s := &scene{w: w, c: w.newChild(), repository: image}
	s.c.input("image", r.Addr+"/"+image)
	if r.CAPEM == nil {
		s.c.input("registry-plain-http", "true")
	} else {
		s.c.input("registry-ca-certificate", string(r.CAPEM))
	}
	if r.ClientCertPEM != nil {
		w.secretPEM("client key", string(r.ClientKeyPEM))
		s.c.input("registry-client-certificate", string(r.ClientCertPEM))
		s.c.input("registry-client-key", string(r.ClientKeyPEM))
	}
	return &realRegistry{s, r}
}

// password signs in as jo. Nothing of it may be printed or left; what goes to the registry is not looked into here.
func (r *realRegistry) password(text string) {
	r.w.secret("registry password", text)
	r.c.input("registry-username", "jo")
	r.c.input("registry-password", text)
}

const joPassword = "jo's p@ss:w/rd+9871"

// tryReal holds the program against a real registry of a program's: every way in, and what is wrong with it.
func tryReal(t *testing.T, program string) {
	users := map[string]string{"jo": joPassword}
	for name, c := range map[string]registrytest.Config{
		"plain http":         {Users: users},
		"TLS":                {Users: users, TLS: true},
		"client certificate": {Users: users, ClientCertificate: true},
		"token server":       {TLS: true, Token: &registrytest.Token{Users: users}},
	} {
		c.Program = program
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newReal(t, c)
			r.password(joPassword)
			for _, want := range []string{"now is sha256:", "already in place"} {
				if o := r.c.run(); o.exit != 0 || !strings.Contains(o.log(), want) {
					t.Fatalf("the run does not say %q:\n%s", want, o)
				}
			}
			puts := 0
			for _, request := range r.registry.Requests(t) {
				if request.Method == "PUT" && strings.HasSuffix(request.Path, "/manifests/"+tag) {
					puts++
				}
			}
			if puts != 1 {
				t.Errorf("the tag was put %d times", puts)
			}
			r.w.secret("wrong password", wrongSecret)
			r.c.input("registry-password", wrongSecret)
			if o := r.c.run(); o.exit != 1 || len(o.codes()) != 1 || o.codes()[0] != "AP304" {
				t.Errorf("a wrong password ended with %d, %q:\n%s", o.exit, o.codes(), o)
			}
		})
	}
	t.Run("identity token", func(t *testing.T) {
		t.Parallel()
		const identity = "identity-token-of-jo-0123456789"
		r := newReal(t, registrytest.Config{TLS: true, Program: program, Token: &registrytest.Token{RefreshTokens: map[string]string{identity: "jo"}}})
		r.w.secret("identity token", identity)
		r.c.write(r.c.home+"/.docker/config.json", `{"auths":{"`+r.registry.Addr+`":{"identitytoken":"`+identity+`"}}}`)
		if o := r.c.run(); o.exit != 0 {
			t.Errorf("%s", o)
		}
	})
	t.Run("no right to push", func(t *testing.T) {
		t.Parallel()
		r := newReal(t, registrytest.Config{TLS: true, Program: program, Token: &registrytest.Token{Users: users, Rights: map[string][]string{"jo": {"pull"}}}})
		r.password(joPassword)
		if o := r.c.run(); o.exit != 1 || len(o.codes()) != 1 || o.codes()[0] != "AP305" {
			t.Errorf("ended with %d, %q:\n%s", o.exit, o.codes(), o)
		}
	})
	t.Run("no client certificate", func(t *testing.T) {
		t.Parallel()
		r := newReal(t, registrytest.Config{Users: users, ClientCertificate: true, Program: program})
		r.password(joPassword)
		delete(r.c.env, inputVariable("registry-client-certificate"))
		delete(r.c.env, inputVariable("registry-client-key"))
		if o := r.c.run(); o.exit != 1 || len(o.codes()) != 1 || o.codes()[0] != "AP302" {
			t.Errorf("ended with %d, %q:\n%s", o.exit, o.codes(), o)
		}
	})
	t.Run("no authority", func(t *testing.T) {
		t.Parallel()
		r := newReal(t, registrytest.Config{Users: users, TLS: true, Program: program})
		r.password(joPassword)
		delete(r.c.env, inputVariable("registry-ca-certificate"))
		if o := r.c.run(); o.exit != 1 || len(o.codes()) != 1 || o.codes()[0] != "AP302" {
			t.Errorf("ended with %d, %q:\n%s", o.exit, o.codes(), o)
		}
	})
	t.Run("no credentials", func(t *testing.T) {
		t.Parallel()
		r := newReal(t, registrytest.Config{Users: users, TLS: true, Program: program})
		if o := r.c.run(); o.exit != 1 || len(o.codes()) != 1 || o.codes()[0] != "AP303" {
			t.Errorf("ended with %d, %q:\n%s", o.exit, o.codes(), o)
		}
	})
}

// TestDebianRegistry is for distribution 2.8, as Debian packages it.
func TestDebianRegistry(t *testing.T) {
	t.Parallel()
	tryReal(t, "")
}
