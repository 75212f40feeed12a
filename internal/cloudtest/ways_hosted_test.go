package cloudtest

import (
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"net/http"
	"path/filepath"
)

// byInputs gives the child user name and password by inputs.
func (s *scene) byInputs(user, password string) *scene {
	if user != "" {
		s.c.input("registry-username", user)
	}
	s.c.input("registry-password", password)
	return s.spoils(inputVariable("registry-password"), wrongSecret, "AP304")
}

const inputsSource = "the inputs registry-username and registry-password"

// makes says that a push makes repositories.
func (s *scene) makes() *scene {
	s.not["missing repository"] = "a push makes it"
	return s
}

func hubWays() []way {
	at := func(name string, set func(w *world, h *dockerHub) *scene) way {
		return way{"Docker Hub", name, func(w *world) *scene { return set(w, w.newDockerHub()) }}
	}
	password := func(name, user, kind, prefix string) way {
		return at(name, func(w *world, h *dockerHub) *scene {
			return w.scene(h.front, image, inputsSource).byInputs(user, h.user(user, kind, prefix+w.random())).makes()
		})
	}
	return []way{
		password("personal access token", "jo", "PAT", "dckr_pat_"),
		password("organisation access token", "acme", "OAT", "dckr_oat_"),
		password("password", "jo", "Docker Hub password", "pass word with spaces "),
		at("dockerhub-connection-id on GitHub", func(w *world, h *dockerHub) *scene {
			i := w.gitHubIssuer(hubIdentity)
			h.connection = "0f0f0f0f-1111-2222-3333-444444444444"
			h.trust = &oidcTrust{issuer: i, audience: "https://identity.docker.com", subject: i.subject}
			s := w.scene(h.front, image, "the OIDC connection "+h.connection).makes()
			s.c.gitHubOIDC(i)
			s.c.input("dockerhub-connection-id", h.connection)
			s.spoil, s.refused = func() { h.trust.subject = "somebody else" }, []string{"AP319"}
			return s
		}),
	}
}

func ghcrWays() []way {
	token := func(w *world) (*accounts, string) {
		a := w.newGHCR()
		return a, a.user("octocat", "GITHUB_TOKEN", "ghs_"+w.random())
	}
	return []way{
		{"GHCR", "GITHUB_TOKEN in the environment", func(w *world) *scene {
			a, text := token(w)
			s := w.scene(a.front, image, "the variable GITHUB_TOKEN").makes()
			s.c.onGitHub()
			return s.env("GITHUB_TOKEN", text).spoils("GITHUB_TOKEN", wrongSecret, "AP304")
		}},
		{"GHCR", "inputs", func(w *world) *scene {
			a, text := token(w)
			s := w.scene(a.front, image, inputsSource).byInputs("octocat", text).makes()
			s.c.onGitHub()
			return s
		}},
		{"GHCR", "owner in capitals", func(w *world) *scene {
			a, text := token(w)
			s := w.scene(a.front, image, inputsSource).byInputs("octocat", text).makes()
			s.c.input("image", "ghcr.io/Acme/source-hello")
			return s
		}},
	}
}

func gitLabWays() []way {
	at := func(name, registry, gitlab string, set func(w *world, a *accounts) *scene) way {
		return way{"GitLab", name, func(w *world) *scene {
			s := set(w, w.newGitLab(registry, gitlab)).makes()
			return s
		}}
	}
	job := func(registry, gitlab, variable string) func(w *world, a *accounts) *scene {
		return func(w *world, a *accounts) *scene {
			text := a.user("gitlab-ci-token", "CI_JOB_TOKEN", "glcbt-64_"+w.random())
			s := w.scene(a.front, "acme/connectors/source-hello", "CI_")
			s.c.onGitLab()
			s.env("CI_REGISTRY", registry).env("CI_REGISTRY_IMAGE", registry+"/acme/connectors").env("CI_SERVER_URL", "https://"+gitlab)
			if variable == "CI_REGISTRY_PASSWORD" {
				s.env("CI_REGISTRY_USER", "gitlab-ci-token")
			}
			return s.env(variable, text).spoils(variable, wrongSecret, "AP304")
		}
	}
	given := func(user, kind, prefix string) func(w *world, a *accounts) *scene {
		return func(w *world, a *accounts) *scene {
			return w.scene(a.front, "acme/connectors/source-hello", inputsSource).byInputs(user, a.user(user, kind, prefix+w.random()))
		}
	}
	const com, gitlab, own, ownGitLab = "registry.gitlab.com", "gitlab.com", "registry.acme.example", "gitlab.acme.example"
	return []way{
		at("CI_REGISTRY_USER and CI_REGISTRY_PASSWORD", com, gitlab, job(com, gitlab, "CI_REGISTRY_PASSWORD")),
		at("CI_JOB_TOKEN", com, gitlab, job(com, gitlab, "CI_JOB_TOKEN")),
		at("CI_REGISTRY_PASSWORD of a GitLab of one's own", own, ownGitLab, job(own, ownGitLab, "CI_REGISTRY_PASSWORD")),
		at("deploy token", com, gitlab, given("gitlab+deploy-token-1", "deploy token", "gldt-")),
		at("personal access token", com, gitlab, given("jo", "GitLab PAT", "glpat-")),
		at("deploy token at a GitLab of one's own", own, ownGitLab, given("gitlab+deploy-token-1", "deploy token", "gldt-")),
	}
}

const ownRegistry = "registry.acme.example"

// basicScene is a scene at a registry of somebody's own with a user.
func basicScene(w *world, host string, secretHosts ...string) (*basicRegistry, *scene) {
	b := w.newBasic(host)
	text := w.secret("registry password", "p@ss:w/rd "+w.random(), secretHosts...)
	b.users["jo"] = text
	s := w.scene(b.front, image, inputsSource).byInputs("jo", text).makes()
	s.lasting = []string{"AP304"}
	return b, s
}

func genericWays() []way {
	at := func(name string, set func(w *world) *scene) way { return way{"generic", name, set} }
	return []way{
		at("user name and password", func(w *world) *scene {
			_, s := basicScene(w, ownRegistry, ownRegistry)
			return s
		}),
		at("token server", func(w *world) *scene {
			a := w.newTokenServer()
			return w.scene(a.front, image, inputsSource).byInputs("jo", a.user("jo", "registry password", "hunter-"+w.random())).makes()
		}),
		at("identity token", func(w *world) *scene {
			a := w.newTokenServer()
			a.identity = w.secret("identity token", "identity-"+w.random(), "auth.acme.example")
			s := w.scene(a.front, image, "the docker configuration").makes()
			config := func(token string) {
				s.c.write(filepath.Join(s.c.home, ".docker", "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":"","identitytoken":%q}}}`, ownRegistry, token))
			}
			config(a.identity)
			s.spoil, s.refused = func() { config(wrongSecret) }, []string{"AP304"}
			return s
		}),
		at("registry-token", func(w *world) *scene {
			b := w.newBasic(ownRegistry)
			b.bearer = w.secret("bearer token", "bearer-"+w.random(), ownRegistry)
			s := w.scene(b.front, image, "the input registry-token").makes()
			s.c.input("registry-token", b.bearer)
			s.lasting = []string{"AP304"}
			return s.spoils(inputVariable("registry-token"), wrongSecret, "AP304")
		}),
		at("authority of one's own", func(w *world) *scene {
			ca := newIssuing("Acme")
			_, s := basicScene(w, ownRegistry, ownRegistry)
			w.sites[ownRegistry].tls = serverTLS(ca, ownRegistry, false)
			s.c.input("registry-ca-certificate", string(ca.pem))
			return s
		}),
		at("client certificate", func(w *world) *scene {
			ca := newIssuing("Acme")
			b := w.newBasic(ownRegistry)
			b.users["jo"] = w.secret("registry password", "hunter-"+w.random(), ownRegistry)
			w.sites[ownRegistry].tls = serverTLS(ca, ownRegistry, true)
			cert, key, err := ca.client()
			if err != nil {
				w.t.Fatal(err)
			}
			w.secretPEM("client key", string(key))
			s := w.scene(b.front, image, inputsSource).byInputs("jo", b.users["jo"]).makes()
			s.lasting = []string{"AP304"}
			s.c.input("registry-ca-certificate", string(ca.pem))
			s.c.input("registry-client-certificate", string(cert))
			s.c.input("registry-client-key", string(key))
			s.spoil, s.refused = func() {
				otherCert, otherKey, err := newIssuing("Mallory").client()
				if err != nil {
					w.t.Fatal(err)
				}
				s.c.input("registry-client-certificate", string(otherCert))
				s.c.input("registry-client-key", string(otherKey))
			}, []string{"AP302"}
			return s
		}),
		at("plain http", func(w *world) *scene {
			// Loopback is not proxied, so the registry has a port of its own.
			b := w.newBasic("plain registry")
			b.users["jo"] = w.secret("registry password", "hunter-"+w.random(), "plain registry")
			w.mu.Lock()
			delete(w.sites, "plain registry")
			w.mu.Unlock()
			addr := w.loopback("plain registry", b.front)
			s := w.scene(b.front, image, inputsSource).byInputs("jo", b.users["jo"]).makes()
			s.lasting = []string{"AP304"}
			s.c.input("image", addr+"/"+image)
			s.c.input("registry-plain-http", "true")
			return s
		}),
	}
}

// serverTLS is that of a host with a certificate of an authority of somebody's own.
func serverTLS(ca *issuing, host string, clients bool) *tls.Config {
	c := &tls.Config{MinVersion: tls.VersionTLS12, NextProtos: []string{"http/1.1"},
		GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) { return ca.leaf(host) }}
	if clients {
		c.ClientAuth, c.ClientCAs = tls.RequireAndVerifyClientCert, x509.NewCertPool()
		c.ClientCAs.AppendCertsFromPEM(ca.pem)
	}
	return c
}

// nobody is a host that nothing is to be had from, but that may be asked.
func (w *world) nobody(host string) {
	w.site(host, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { http.Error(rw, "", http.StatusNotFound) })).plain = true
}
