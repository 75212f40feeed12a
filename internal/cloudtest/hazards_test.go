package cloudtest

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// hazard is something that goes wrong in one particular way: what the clouds answer then, and what is to be said of it.
type hazard struct {
	name string
	set  func(w *world) *scene
	// code is the fault's; says are in its text.
	code string
	says []string
}

// TestHazards holds each answer of the clouds against the words that a person has to read.
func TestHazards(t *testing.T) {
	t.Parallel()
	for _, h := range concat(oidcHazards(), awsHazards(), googleHazards(), azureHazards(), registryHazards(), hostedHazards(), nothingHazards()) {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			s := h.set(newWorld(t))
			o := s.c.run()
			s.fail(t, o, h.code)
			for _, text := range h.says {
				if !strings.Contains(o.log(), text) {
					t.Errorf("nothing says %q:\n%s", text, o)
				}
			}
			// That a tag can't be moved, many registries tell only when all blobs are there.
			if s.front.wrote() && !s.front.fixed {
				t.Error("something was written")
			}
		})
	}
}

func concat(all ...[]hazard) []hazard {
	var one []hazard
	for _, some := range all {
		one = append(one, some...)
	}
	return one
}

// federations are, by provider, the scenes in which the child exchanges tokens of the issuer's.
var federations = map[string]func(w *world, issuer func(...string) *issuer) (*scene, *issuer){
	"ECR": func(w *world, issuer func(...string) *issuer) (*scene, *issuer) {
		a := frankfurt(w)
		i := issuer(a.sts)
		return ecrScene(w, a, "").roleBy(a, i), i
	},
	"Google": func(w *world, issuer func(...string) *issuer) (*scene, *issuer) {
		g := w.newGoogle(garHost)
		i := issuer(googleSTS)
		return googleScene(w, g, "").federated(g, i, false), i
	},
	"ACR": func(w *world, issuer func(...string) *issuer) (*scene, *issuer) {
		a := w.newAzure(acrHost)
		i := issuer(a.login)
		s := azureScene(w, a, "").trusting(a, i, entraAudience)
		s.c.input("azure-tenant-id", azureTenant)
		s.c.input("azure-client-id", azureClient)
		return s, i
	},
	"Docker Hub": func(w *world, issuer func(...string) *issuer) (*scene, *issuer) {
		h := w.newDockerHub()
		i := issuer(hubIdentity)
		h.connection = "0f0f0f0f-1111-2222-3333-444444444444"
		h.trust = &oidcTrust{issuer: i, audience: "https://identity.docker.com", subject: i.subject}
		s := w.scene(h.front, image, "")
		s.c.input("dockerhub-connection-id", h.connection)
		return s, i
	},
}

// audiences are what the clouds want the tokens to be for.
var audiences = map[string]string{"ECR": "sts.amazonaws.com", "Google": "https://iam.googleapis.com/" + googlePool, "ACR": entraAudience,
	"Docker Hub": "https://identity.docker.com"}

func oidcHazards() []hazard {
	var all []hazard
	for provider, set := range federations {
		given := func(token func(w *world, i *issuer) string) func(w *world) *scene {
			return func(w *world) *scene {
				s, i := set(w, w.gitLabIssuer)
				s.c.onGitLab()
				s.c.input("oidc-token", token(w, i))
				return s
			}
		}
		all = append(all,
			hazard{provider + ": a job without the right to a token, or a fork's", func(w *world) *scene {
				s, _ := set(w, w.gitHubIssuer)
				s.c.onGitHub()
				return s
			}, "AP318", []string{"id-token: write", "fork"}},
			hazard{provider + ": the right to a token has ended", func(w *world) *scene {
				s, i := set(w, w.gitHubIssuer)
				s.c.gitHubOIDC(i)
				s.c.env["ACTIONS_ID_TOKEN_REQUEST_TOKEN"] = wrongSecret
				return s
			}, "AP318", []string{"id-token: write"}},
			hazard{provider + ": GitLab without oidc-token", func(w *world) *scene {
				s, _ := set(w, w.gitLabIssuer)
				s.c.onGitLab()
				return s
			}, "AP318", []string{"id_tokens", audiences[provider]}},
			hazard{provider + ": another subject", func(w *world) *scene {
				s, i := set(w, w.gitHubIssuer)
				s.c.gitHubOIDC(i)
				i.subject = "repo:acme@9919/connectors@140:pull_request"
				return s
			}, "AP319", []string{`https://token.actions.githubusercontent.com`, `repo:acme@9919/connectors@140:pull_request`, audiences[provider]}},
			hazard{provider + ": oidc-token for another audience", given(func(_ *world, i *issuer) string {
				return i.token("https://elsewhere.example")
			}), "AP319", []string{"https://gitlab.com", "project_path:acme/connectors", "https://elsewhere.example", audiences[provider]}},
			hazard{provider + ": oidc-token that has ended", given(func(_ *world, i *issuer) string {
				i.life = -time.Hour
				return i.token(audiences[provider])
			}), "AP319", []string{"ended"}},
			hazard{provider + ": oidc-token of an issuer that is not believed", given(func(w *world, i *issuer) string {
				other := *i
				other.url = "https://gitlab.acme.example"
				return other.token(audiences[provider])
			}), "AP319", []string{"https://gitlab.acme.example"}},
			hazard{provider + ": oidc-token that is none", given(func(*world, *issuer) string { return wrongSecret }), "AP319", []string{"JWT"}},
		)
	}
	return all
}

func awsHazards() []hazard {
	keys := func(name, code string, change func(a *aws, s *scene), says ...string) hazard {
		return hazard{"ECR: " + name, func(w *world) *scene {
			a := frankfurt(w)
			s := ecrScene(w, a, "").keysIn(a, true)
			change(a, s)
			return s
		}, code, says}
	}
	return []hazard{
		keys("GetAuthorizationToken is not allowed", "AP321", func(a *aws, _ *scene) { a.forbidden = []string{"ecr:GetAuthorizationToken"} },
			"ecr:GetAuthorizationToken", `Resource`, `"*"`),
		keys("temporary keys have expired", "AP320", func(a *aws, _ *scene) { a.expireKeys() }, "expired"),
		keys("the API is throttled for good", "AP307", func(a *aws, _ *scene) { a.throttles = 1000 }, "Rate exceeded"),
		keys("the clock is wrong", "AP323", func(a *aws, _ *scene) {
			a.w.ahead = 40 * time.Minute
			a.expireKeysAt(time.Now().Add(24 * time.Hour))
			a.noDate = true
		}, "clock"),
		keys("the repository does not exist", "AP306", func(_ *aws, s *scene) { s.missing() },
			"create-repository", "--repository-name acme/source-hello", "--region eu-central-1"),
		keys("create-repository is not allowed", "AP322", func(a *aws, s *scene) {
			s.missing()
			s.c.input("create-repository", "true")
			a.forbidden = []string{"ecr:CreateRepository"}
		}, "ecr:CreateRepository", "repository/acme/source-hello"),
		keys("the repository's tags are immutable, and that is known before", "AP309", func(a *aws, s *scene) {
			a.mutability = "IMMUTABLE"
			a.front.seed(image)
			s.c.input("if-tag-exists", "overwrite")
		}, "IMMUTABLE"),
		keys("the profile does not exist", "AP320", func(_ *aws, s *scene) { s.env("AWS_PROFILE", "nobody") }, "nobody"),
		{"ECR: create-repository with a password", func(w *world) *scene {
			a := frankfurt(w)
			s := ecrScene(w, a, "")
			s.missing()
			s.c.input("registry-username", "AWS")
			s.c.input("registry-password", a.password())
			s.c.input("create-repository", "true")
			return s
		}, "AP306", []string{"create-repository needs credentials"}},
		{"ECR: the account knows no issuer", func(w *world) *scene {
			a := frankfurt(w)
			i := w.gitHubIssuer(a.sts)
			s := ecrScene(w, a, "").roleBy(a, i)
			s.c.gitHubOIDC(i)
			a.trust = nil
			return s
		}, "AP319", []string{"create-open-id-connect-provider", "https://token.actions.githubusercontent.com"}},
		{"ECR: the subject has no ids in the policy", func(w *world) *scene {
			a := frankfurt(w)
			i := w.gitHubIssuer(a.sts)
			s := ecrScene(w, a, "").roleBy(a, i)
			s.c.gitHubOIDC(i)
			a.trust.subject = "repo:acme/connectors:ref:refs/heads/main"
			return s
		}, "AP319", []string{"trust policy", "2026-07-15", "repo:acme@9919/connectors@140:ref:refs/heads/main", a7}},
		{"ECR Public: GetServiceBearerToken is not allowed", func(w *world) *scene {
			a := w.newECRPublic()
			s := ecrScene(w, a, "").keysIn(a, false)
			a.forbidden = []string{"sts:GetServiceBearerToken"}
			return s
		}, "AP321", []string{"ecr-public:GetAuthorizationToken", "sts:GetServiceBearerToken"}},
		{"ECR: the docker configuration's password has ended", func(w *world) *scene {
			a := frankfurt(w)
			w.nobody(metadataHost)
			s := ecrScene(w, a, "")
			s.dockerConfig(a.registry, "AWS", a.password())
			a.expire()
			return s
		}, "AP304", []string{"expired", "12 hours"}},
	}
}

// a7 is the role that the message must name.
const a7 = "role/publisher"

func (a *aws) expireKeysAt(t time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, k := range a.keys {
		k.expires = t
	}
}

func googleHazards() []hazard {
	keyed := func(name, code string, change func(g *googleCloud, s *scene), says ...string) hazard {
		return hazard{"Google: " + name, func(w *world) *scene {
			g := w.newGoogle(garHost)
			s := googleScene(w, g, "")
			s.c.input("registry-username", "_json_key")
			s.c.input("registry-password", g.keyFile(false))
			change(g, s)
			return s
		}, code, says}
	}
	ambient := func(name string, content string, says ...string) hazard {
		return hazard{"Google: " + name, func(w *world) *scene {
			s := googleScene(w, w.newGoogle(garHost), "")
			file := filepath.Join(s.c.home, "credentials.json")
			if content != "" {
				s.c.write(file, content)
			}
			return s.env("GOOGLE_APPLICATION_CREDENTIALS", file)
		}, "AP320", says}
	}
	return []hazard{
		keyed("the repository is missing, or there is no right to it", "AP305", func(_ *googleCloud, s *scene) { s.missing() },
			"gcloud artifacts repositories create connectors --project acme-prod --location europe-west4", "roles/artifactregistry.writer"),
		keyed("the repository is missing, and that may be known", "AP306", func(g *googleCloud, s *scene) {
			g.projectRight = true
			s.missing()
		}, "gcloud artifacts repositories create connectors --project acme-prod --location europe-west4"),
		// It is for ECR alone: the run is warned, and told what to do here.
		keyed("create-repository", "AP306", func(g *googleCloud, s *scene) {
			g.projectRight = true
			s.missing()
			s.c.input("create-repository", "true")
		}, "AP104", `"create-repository" is for Amazon ECR`, "gcloud artifacts repositories create connectors"),
		keyed("the API is off", "AP305", func(g *googleCloud, _ *scene) {
			g.front.add(knob{times: -1, do: func(rw http.ResponseWriter, r *http.Request) bool {
				if r.Method == http.MethodHead {
					return false
				}
				refuse(rw, http.StatusForbidden, "DENIED", "Artifact Registry API has not been used in project acme-prod before or it is disabled.", nil)
				return true
			}})
		}, "gcloud services enable artifactregistry.googleapis.com"),
		keyed("the clock is wrong", "AP323", func(g *googleCloud, _ *scene) { g.w.ahead = 3 * time.Hour }, "clock"),
		keyed("the key was deleted", "AP320", func(g *googleCloud, _ *scene) { g.keyID = "other" }, "invalid_grant"),
		{"Google: the key is no key", func(w *world) *scene {
			s := googleScene(w, w.newGoogle(garHost), "")
			s.c.input("registry-username", "_json_key")
			s.c.input("registry-password", wrongSecret)
			return s
		}, "AP320", []string{"key"}},
		ambient("the credentials file does not exist", "", "credentials.json"),
		ambient("the credentials file is broken", `{"type": "service_acc`, "GOOGLE_APPLICATION_CREDENTIALS"),
		{"Google: the pool may not act as the service account", func(w *world) *scene {
			g := w.newGoogle(garHost)
			i := w.gitHubIssuer(googleSTS)
			s := googleScene(w, g, "").federated(g, i, true)
			s.c.gitHubOIDC(i)
			g.impersonation = false
			return s
		}, "AP321", []string{"roles/iam.workloadIdentityUser", googleAccount}},
		{"Google: the provider does not exist", func(w *world) *scene {
			g := w.newGoogle(garHost)
			i := w.gitHubIssuer(googleSTS)
			s := googleScene(w, g, "").federated(g, i, false)
			s.c.gitHubOIDC(i)
			g.trust = nil
			return s
		}, "AP319", []string{"invalid_target"}},
	}
}

func azureHazards() []hazard {
	secretly := func(name, code string, change func(a *azure, s *scene), says ...string) hazard {
		return hazard{"ACR: " + name, func(w *world) *scene {
			a := w.newAzure(acrHost)
			s := azureScene(w, a, "").application().env("AZURE_CLIENT_SECRET", a.useSecret(a.login))
			change(a, s)
			return s
		}, code, says}
	}
	return []hazard{
		secretly("no such application", "AP320", func(_ *azure, s *scene) { s.env("AZURE_CLIENT_ID", nobodyGUID) }, "AADSTS700016", "client id"),
		secretly("no such tenant", "AP320", func(_ *azure, s *scene) { s.env("AZURE_TENANT_ID", nobodyGUID) }, "90002"),
		secretly("the secret is wrong", "AP320", func(_ *azure, s *scene) { s.env("AZURE_CLIENT_SECRET", wrongSecret) }, "AADSTS7000215"),
		secretly("the secret has expired", "AP320", func(a *azure, _ *scene) { a.late = true }, "AADSTS7000222", "expired"),
		secretly("no role at the registry", "AP321", func(a *azure, _ *scene) { a.exchangeStatus = http.StatusUnauthorized },
			"AcrPush", "Container Registry Repository Writer"),
		secretly("the firewall", "AP321", func(a *azure, _ *scene) {
			a.exchangeStatus = http.StatusForbidden
			a.exchangeMessage = "client with IP '192.0.2.7' is not allowed access. Refer https://aka.ms/acr/firewall to grant access."
		}, "192.0.2.7", "firewall"),
		secretly("ABAC without the right role", "AP305", func(a *azure, _ *scene) {
			a.tokens.may = nil
			a.front.closed = true
		}, "AcrPush", "Container Registry Repository Writer"),
		secretly("the tag is locked, and that is known before", "AP309", func(a *azure, s *scene) {
			a.front.seed(image)
			a.front.fixed = true
			s.c.input("if-tag-exists", "overwrite")
		}, "locked"),
		secretly("the exchange is throttled for good", "AP307", func(a *azure, _ *scene) {
			a.exchangeStatus = http.StatusTooManyRequests
		}),
		{"ACR: the machine's clock is wrong", func(w *world) *scene {
			a := w.newAzure(acrHost)
			s := azureScene(w, a, "").application()
			file := filepath.Join(s.c.home, "certificate.pem")
			s.c.write(file, a.useCertificate())
			w.ahead = 3 * time.Hour
			return s.env("AZURE_CLIENT_CERTIFICATE_PATH", file)
		}, "AP323", []string{"clock"}},
		{"ACR: az is not signed in", func(w *world) *scene {
			a := w.newAzure(acrHost)
			w.nobody(metadataHost)
			s := azureScene(w, a, "")
			s.c.az = true
			return s
		}, "AP303", []string{"az", "not signed in", "azure-client-id"}},
	}
}

func registryHazards() []hazard {
	own := func(name, code string, change func(f *front, s *scene), says ...string) hazard {
		return hazard{"generic: " + name, func(w *world) *scene {
			b, s := basicScene(w, ownRegistry, ownRegistry)
			change(b.front, s)
			return s
		}, code, says}
	}
	answering := func(step sandbox.Step, status int, code, message string) func(*front, *scene) {
		return func(f *front, _ *scene) {
			f.add(knob{step: step, times: -1, do: func(rw http.ResponseWriter, r *http.Request) bool {
				_, _ = io.Copy(io.Discard, r.Body)
				refuse(rw, status, code, message, nil)
				return true
			}})
		}
	}
	overwriting := func(status int, code, message string) func(*front, *scene) {
		return func(f *front, s *scene) {
			f.seed(image)
			f.fixed = true
			f.immutable = func(rw http.ResponseWriter, _ call) { refuse(rw, status, code, message, nil) }
			s.c.input("if-tag-exists", "overwrite")
		}
	}
	return []hazard{
		own("Harbor's immutable tag", "AP309", overwriting(http.StatusPreconditionFailed, "PRECONDITION", "Failed to process request due to 'x' configured as immutable.")),
		own("a conflict", "AP309", overwriting(http.StatusConflict, "CONFLICT", "the tag exists")),
		own("a body that is too large", "AP315", func(f *front, _ *scene) {
			f.add(knob{step: sandbox.StepUploadChunk, times: -1, do: func(rw http.ResponseWriter, r *http.Request) bool {
				_, _ = io.Copy(io.Discard, r.Body)
				rw.Header().Set("Content-Type", "text/html")
				rw.WriteHeader(http.StatusRequestEntityTooLarge)
				_, _ = io.WriteString(rw, "<html><head><title>413 Request Entity Too Large</title></head></html>")
				return true
			}})
		}, "client_max_body_size"),
		own("a digest that is not what came", "AP313", answering(sandbox.StepUploadFinish, http.StatusBadRequest, "DIGEST_INVALID", "provided digest did not match uploaded content"), "changed the bytes"),
		own("a name that it does not take", "AP313", answering(sandbox.StepUploadStart, http.StatusBadRequest, "NAME_INVALID", "invalid repository name"), "name"),
		own("its clock and ours differ", "AP323", func(f *front, s *scene) {
			f.headers = http.Header{"Date": {time.Now().Add(2 * time.Hour).UTC().Format(http.TimeFormat)}}
			s.spoil()
		}, "clock"),
		own("a rate limit that asks for too long", "AP307", func(f *front, _ *scene) { f.throttle(sandbox.StepUploadStart, -1, "3600") }, "429"),
	}
}

func hostedHazards() []hazard {
	return []hazard{
		{"Docker Hub: a rate limit with its reset", func(w *world) *scene {
			h := w.newDockerHub()
			h.front.headers.Set("Ratelimit-Remaining", "0;w=21600")
			h.front.throttle(sandbox.StepUploadStart, -1, "3600")
			return w.scene(h.front, image, "").byInputs("jo", h.user("jo", "PAT", "dckr_pat_"+w.random()))
		}, "AP307", []string{"RateLimit-Limit: 200", "1h0m0s"}},
		{"Docker Hub: a token that is read-only", func(w *world) *scene {
			h := w.newDockerHub()
			h.front.closed = true
			return w.scene(h.front, image, "").byInputs("jo", h.user("jo", "PAT", "dckr_pat_"+w.random()))
		}, "AP305", []string{"namespace", "Read & Write"}},
		{"GHCR: a job that may not write packages", func(w *world) *scene {
			a := w.newGHCR()
			a.front.closed = true
			s := w.scene(a.front, image, "").env("GITHUB_TOKEN", a.user("octocat", "GITHUB_TOKEN", "ghs_"+w.random()))
			s.c.onGitHub()
			return s
		}, "AP305", []string{"packages: write", "Manage Actions access"}},
		{"GitLab: a token without the scopes", func(w *world) *scene {
			a := w.newGitLab("registry.gitlab.com", "gitlab.com")
			a.front.closed = true
			return w.scene(a.front, "acme/connectors/source-hello", "").byInputs("jo", a.user("jo", "GitLab PAT", "glpat-"+w.random()))
		}, "AP305", []string{"read_registry", "write_registry", "path"}},
		{"GitLab: a project without a registry", func(w *world) *scene {
			a := w.newGitLab("registry.gitlab.com", "gitlab.com")
			a.refused = func(rw http.ResponseWriter) { refuse(rw, http.StatusForbidden, "DENIED", "access forbidden", nil) }
			return w.scene(a.front, "acme/connectors/source-hello", "").byInputs("jo", w.secret("GitLab PAT", "glpat-"+w.random(), "gitlab.com"))
		}, "AP304", []string{"access forbidden", "registry is enabled"}},
		{"Docker Hub: no such connection", func(w *world) *scene {
			s, i := federations["Docker Hub"](w, w.gitHubIssuer)
			s.c.gitHubOIDC(i)
			s.c.input("dockerhub-connection-id", "12121212-0000-0000-0000-000000000000")
			return s
		}, "AP319", []string{"connection"}},
		{"GitLab: a protected tag", func(w *world) *scene {
			a := w.newGitLab("registry.gitlab.com", "gitlab.com")
			const path = "acme/connectors/source-hello"
			a.front.seed(path)
			a.front.fixed = true
			a.front.immutable = func(rw http.ResponseWriter, c call) {
				refuse(rw, http.StatusForbidden, "DENIED", "tag '"+c.reference+"' is protected", nil)
			}
			s := w.scene(a.front, path, "").byInputs("jo", a.user("jo", "GitLab PAT", "glpat-"+w.random()))
			s.c.input("if-tag-exists", "overwrite")
			return s
		}, "AP309", []string{"protect"}},
	}
}

// nothingHazards are pushes for which there are no credentials: each registry says what was looked for.
func nothingHazards() []hazard {
	none := func(provider string, set func(w *world) *scene, says ...string) hazard {
		return hazard{provider + ": no credentials", set, "AP303", says}
	}
	return []hazard{
		none("ECR", func(w *world) *scene {
			w.nobody(metadataHost)
			return ecrScene(w, frankfurt(w), "")
		}, "registry-username", "AWS", "aws-role-arn"),
		none("ECR Public", func(w *world) *scene {
			w.nobody(metadataHost)
			return ecrScene(w, w.newECRPublic(), "")
		}, "aws-role-arn"),
		none("Docker Hub", func(w *world) *scene { return w.scene(w.newDockerHub().front, image, "") }, "docker login docker.io"),
		none("GHCR", func(w *world) *scene { return w.scene(w.newGHCR().front, image, "") }, "GITHUB_TOKEN", "packages: write"),
		none("GitLab", func(w *world) *scene {
			return w.scene(w.newGitLab("registry.gitlab.com", "gitlab.com").front, image, "")
		}, "CI_REGISTRY_PASSWORD"),
		none("generic", func(w *world) *scene { return w.scene(w.newBasic(ownRegistry).front, image, "") }, "registry-username", "docker"),
	}
}
