package cloudtest

import (
	"fmt"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

// What a registry issues is good for short, what a cloud issues for aWhile, since more has to be done with that, and each
// upload takes longer.
const (
	short  = 2 * time.Second
	aWhile = 4 * time.Second
	longer = 4500 * time.Millisecond
)

// outlived are pushes in which something ends that was issued for short.
var outlived = map[string]func(w *world) *scene{
	"ECR: its password": func(w *world) *scene {
		a := frankfurt(w)
		a.tokenLife = short
		return ecrScene(w, a, "").keysIn(a, false)
	},
	"ECR: its password and the role's keys": func(w *world) *scene {
		a := frankfurt(w)
		a.tokenLife, a.sessionLife = short, aWhile
		i := w.gitHubIssuer(a.sts)
		s := ecrScene(w, a, "").roleBy(a, i)
		s.c.gitHubOIDC(i)
		return s
	},
	"ECR Public: its password": func(w *world) *scene {
		a := w.newECRPublic()
		a.tokenLife = short
		return ecrScene(w, a, "").keysIn(a, false)
	},
	"Google: the registry's token": func(w *world) *scene {
		g := w.newGoogle(garHost)
		g.tokens.life = short
		s := googleScene(w, g, "")
		s.c.input("registry-password", g.keyFile(false))
		return s
	},
	"Google: the registry's and the access token": func(w *world) *scene {
		g := w.newGoogle(garHost)
		g.tokens.life, g.life = short, aWhile
		s := googleScene(w, g, "")
		s.c.input("registry-password", g.keyFile(false))
		return s
	},
	"Google: every token of the pool's": func(w *world) *scene {
		g := w.newGoogle(garHost)
		g.tokens.life, g.life = short, aWhile
		i := w.gitHubIssuer(googleSTS)
		s := googleScene(w, g, "").federated(g, i, true)
		s.c.gitHubOIDC(i)
		return s
	},
	"ACR: the access token": func(w *world) *scene {
		a := w.newAzure(acrHost)
		a.tokens.life = short
		return azureScene(w, a, "").byInputs(azureClient, a.useSecret(acrHost))
	},
	"ACR: the refresh and the access token": func(w *world) *scene {
		a := w.newAzure(acrHost)
		a.tokens.life, a.refreshLife = short, aWhile
		return azureScene(w, a, "").application().env("AZURE_CLIENT_SECRET", a.useSecret(a.login))
	},
	"ACR: every token of the application's": func(w *world) *scene {
		a := w.newAzure(acrHost)
		a.tokens.life, a.refreshLife, a.entraLife = short, aWhile, aWhile
		i := w.gitHubIssuer(a.login)
		s := azureScene(w, a, "").trusting(a, i, entraAudience)
		s.c.gitHubOIDC(i)
		s.c.input("azure-tenant-id", azureTenant)
		s.c.input("azure-client-id", azureClient)
		return s
	},
	"Docker Hub": func(w *world) *scene {
		h := w.newDockerHub()
		h.tokens.life = short
		return w.scene(h.front, image, "").byInputs("jo", h.user("jo", "PAT", "dckr_pat_"+w.random()))
	},
	"GHCR": func(w *world) *scene {
		a := w.newGHCR()
		a.tokens.life = short
		return w.scene(a.front, image, "").env("GITHUB_TOKEN", a.user("x-access-token", "GITHUB_TOKEN", "ghs_"+w.random()))
	},
	"GitLab": func(w *world) *scene {
		a := w.newGitLab("registry.gitlab.com", "gitlab.com")
		a.tokens.life = short
		return w.scene(a.front, "acme/connectors/source-hello", "").byInputs("jo", a.user("jo", "GitLab PAT", "glpat-"+w.random()))
	},
	"generic: a token server": func(w *world) *scene {
		a := w.newTokenServer()
		a.tokens.life = short
		return w.scene(a.front, image, "").byInputs("jo", a.user("jo", "registry password", "hunter-"+w.random()))
	},
}

// TestPushOutlivesTokens pushes so slowly that everything which was issued at its beginning has ended before its end.
func TestPushOutlivesTokens(t *testing.T) {
	t.Parallel()
	for name, set := range outlived {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := set(newWorld(t))
			s.front.set(func(f *front) { f.slow = longer })
			o := s.c.run()
			s.succeed(t, o)
			if o.took < longer {
				t.Errorf("the push was not slow: it took %s", o.took)
			}
			if refused := slices.ContainsFunc(s.w.seen(s.front.host), func(r request) bool {
				return r.auth != "" && (r.status == http.StatusUnauthorized || r.status == http.StatusForbidden)
			}); !refused && !renewed(s) {
				t.Errorf("nothing ended while it was pushed:\n%s", o)
			}
		})
	}
}

// renewed tells whether a credential was got a second time.
func renewed(s *scene) bool {
	n := 0
	for _, r := range s.w.seen("") {
		if strings.HasPrefix(r.host, "api.ecr") || strings.HasSuffix(r.path, "/token") {
			n++
		}
	}
	return n > 1
}

// throttledSignIns are pushes whose credentials are to be waited for.
var throttledSignIns = map[string]func(w *world) *scene{
	"ECR's API": func(w *world) *scene {
		a := frankfurt(w)
		a.throttles = 1
		return ecrScene(w, a, "").keysIn(a, false)
	},
	"Google's token endpoint": func(w *world) *scene {
		g := w.newGoogle(garHost)
		g.throttles = 1
		s := googleScene(w, g, "")
		s.c.input("registry-password", g.keyFile(false))
		return s
	},
	"Google's STS": func(w *world) *scene {
		g := w.newGoogle(garHost)
		g.throttles = 1
		i := w.gitHubIssuer(googleSTS)
		s := googleScene(w, g, "").federated(g, i, false)
		s.c.gitHubOIDC(i)
		return s
	},
	"Entra": func(w *world) *scene {
		a := w.newAzure(acrHost)
		a.throttles = 1
		return azureScene(w, a, "").application().env("AZURE_CLIENT_SECRET", a.useSecret(a.login))
	},
	"Docker Hub's identity service": func(w *world) *scene {
		s, i := federations["Docker Hub"](w, w.gitHubIssuer)
		s.c.gitHubOIDC(i)
		inner := w.sites[hubIdentity].handler
		left := 1
		w.sites[hubIdentity].handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if left > 0 {
				left--
				throttled(rw, r, "1")
				return
			}
			inner.ServeHTTP(rw, r)
		})
		return s
	},
	"GitHub's OIDC service": func(w *world) *scene {
		s, i := federations["ECR"](w, w.gitHubIssuer)
		s.c.gitHubOIDC(i)
		inner := w.sites[oidcHost].handler
		left := 2
		w.sites[oidcHost].handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if left > 0 {
				left--
				http.Error(rw, "busy", http.StatusServiceUnavailable)
				return
			}
			inner.ServeHTTP(rw, r)
		})
		return s
	},
	"a token server": func(w *world) *scene {
		a := w.newTokenServer()
		s := w.scene(a.front, image, "").byInputs("jo", a.user("jo", "registry password", "hunter-"+w.random()))
		inner := w.sites["auth.acme.example"].handler
		left := 1
		w.sites["auth.acme.example"].handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if left > 0 {
				left--
				throttled(rw, r, "1")
				return
			}
			inner.ServeHTTP(rw, r)
		})
		return s
	},
}

// TestThrottledSignIns asks to wait at each place where credentials are got.
func TestThrottledSignIns(t *testing.T) {
	t.Parallel()
	for name, set := range throttledSignIns {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := set(newWorld(t))
			s.succeed(t, s.c.run())
			if !slices.ContainsFunc(s.w.seen(""), func(r request) bool {
				return r.status == http.StatusTooManyRequests || r.status == http.StatusServiceUnavailable || r.status == http.StatusBadRequest
			}) {
				t.Error("nobody asked to wait")
			}
		})
	}
}

// TestCreateRepository has a missing repository made, and only then.
func TestCreateRepository(t *testing.T) {
	t.Parallel()
	for name, set := range map[string]func(w *world) (*aws, *scene){
		"keys": func(w *world) (*aws, *scene) {
			a := frankfurt(w)
			return a, ecrScene(w, a, "").keysIn(a, false)
		},
		"keys by inputs": func(w *world) (*aws, *scene) {
			a := frankfurt(w)
			id, secretKey, _ := a.key(false)
			return a, ecrScene(w, a, "").byInputs(id, secretKey)
		},
		"keys at ECR Public": func(w *world) (*aws, *scene) {
			a := w.newECRPublic()
			return a, ecrScene(w, a, "").keysIn(a, false)
		},
		"role": func(w *world) (*aws, *scene) {
			a := frankfurt(w)
			i := w.gitHubIssuer(a.sts)
			s := ecrScene(w, a, "").roleBy(a, i)
			s.c.gitHubOIDC(i)
			return a, s
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			a, s := set(newWorld(t))
			s.missing()
			s.c.input("create-repository", "true")
			s.succeed(t, s.c.run())
			if n := a.called("CreateRepository"); n != 1 {
				t.Errorf("CreateRepository was called %d times", n)
			}
			s.succeed(t, s.c.run())
			if n := a.called("CreateRepository"); n != 1 {
				t.Errorf("CreateRepository was called once more for a repository that exists")
			}
		})
	}
	t.Run("one that somebody else makes meanwhile", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "").keysIn(a, false)
		s.missing()
		s.c.input("create-repository", "true")
		inner := w.sites[a.api].handler
		w.sites[a.api].handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
			if strings.HasSuffix(r.Header.Get("X-Amz-Target"), ".CreateRepository") {
				a.front.set(func(f *front) { f.repositories[image] = true })
			}
			inner.ServeHTTP(rw, r)
		})
		s.succeed(t, s.c.run())
	})
	t.Run("not asked for", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "").keysIn(a, false)
		s.missing()
		s.fail(t, s.c.run(), "AP306")
		if n := a.called("CreateRepository"); n != 0 {
			t.Errorf("CreateRepository was called %d times", n)
		}
	})
	t.Run("dry run", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "").keysIn(a, false)
		s.missing()
		s.c.input("create-repository", "true")
		s.c.input("dry-run", "true")
		if o := s.c.run(); o.exit != 0 || a.called("CreateRepository") != 0 {
			t.Errorf("CreateRepository was called %d times:\n%s", a.called("CreateRepository"), o)
		}
	})
}

// TestPullCredentials pulls as the deployment will.
func TestPullCredentials(t *testing.T) {
	t.Parallel()
	set := func(w *world) (*accounts, *scene) {
		a := w.newTokenServer()
		s := w.scene(a.front, image, "").byInputs("jo", a.user("jo", "registry password", "hunter-"+w.random()))
		return a, s
	}
	t.Run("right", func(t *testing.T) {
		t.Parallel()
		a, s := set(newWorld(t))
		s.c.input("pull-username", "cluster")
		s.c.input("pull-password", a.user("cluster", "pull password", "puller-"+s.w.random()))
		o := s.c.run()
		s.succeed(t, o)
		if !strings.Contains(o.log(), `can be pulled by user "cluster"`) {
			t.Errorf("nothing says who can pull:\n%s", o)
		}
		if !s.w.saw("auth.acme.example", "pull password") {
			t.Error("the pull password was not tried")
		}
	})
	t.Run("wrong", func(t *testing.T) {
		t.Parallel()
		_, s := set(newWorld(t))
		s.c.input("pull-username", "cluster")
		s.c.input("pull-password", s.w.secret("pull password", "puller-"+s.w.random(), "auth.acme.example"))
		s.fail(t, s.c.run(), "AP324")
	})
	t.Run("without the right to this repository", func(t *testing.T) {
		t.Parallel()
		a, s := set(newWorld(t))
		s.c.input("pull-username", "cluster")
		s.c.input("pull-password", a.user("cluster", "pull password", "puller-"+s.w.random()))
		a.tokens.may = func(who, _, _ string) bool { return who == "jo" }
		s.fail(t, s.c.run(), "AP324")
	})
	t.Run("none, private", func(t *testing.T) {
		t.Parallel()
		_, s := set(newWorld(t))
		o := s.c.run()
		s.succeed(t, o)
		if !strings.Contains(o.log(), "the image is private") {
			t.Errorf("nothing says that the image is private:\n%s", o)
		}
	})
	t.Run("none, public", func(t *testing.T) {
		t.Parallel()
		a, s := set(newWorld(t))
		a.public = true
		o := s.c.run()
		s.succeed(t, o)
		if !strings.Contains(o.log(), "anyone can pull") {
			t.Errorf("nothing says that the image is public:\n%s", o)
		}
	})
}

// TestBrokenConnections hangs up now and then.
func TestBrokenConnections(t *testing.T) {
	t.Parallel()
	for _, step := range []sandbox.Step{sandbox.StepPing, sandbox.StepManifestHead, sandbox.StepBlobHead, sandbox.StepUploadStart, sandbox.StepUploadChunk,
		sandbox.StepUploadFinish, sandbox.StepManifestPut} {
		t.Run(string(step), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			_, s := basicScene(w, ownRegistry, ownRegistry)
			s.front.hangUp(step, 1)
			s.succeed(t, s.c.run())
			if s.front.hit() != 1 {
				t.Error("no connection was broken")
			}
		})
	}
}

// TestOtherHosts pulls from one cloud, whose blobs are at another host, and pushes to another cloud: each gets what is
// for it, and the host of the blobs gets nothing.
func TestOtherHosts(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	const blobs = "pkg-containers.githubusercontent.com"
	w.blobHosts["ghcr.io"] = "https://" + blobs
	from := w.newGHCR()
	a := frankfurt(w)
	s := w.scene(from.front, image, "")
	s.dockerConfig("ghcr.io", "octocat", from.user("octocat", "GITHUB_TOKEN", "ghs_"+w.random()))
	if !s.succeed(t, s.c.run()) {
		return
	}
	w.forget()
	s.front = a.front
	a.front.set(func(f *front) { f.repositories[image] = true })
	s.keysIn(a, false)
	s.c.input("image", a.registry+"/"+image)
	s.c.input("source", "docker://ghcr.io/"+image+":"+tag)
	s.succeed(t, s.c.run())
	if n := len(w.seen(blobs)); n == 0 {
		t.Error("no blob came from the other host")
	}
	for _, r := range w.seen(blobs) {
		if r.auth != "" || len(r.secrets) > 0 {
			t.Errorf("the blobs' host got credentials: %s", r)
		}
	}
	if !w.saw("ghcr.io", "GITHUB_TOKEN") || !w.saw(a.registry, "ECR password") {
		t.Error("the registries did not get their own credentials")
	}
}

// TestMounts pushes what another repository of the registry has, with and without the right to read that.
func TestMounts(t *testing.T) {
	t.Parallel()
	for _, may := range []bool{true, false} {
		t.Run(fmt.Sprint(may), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.newTokenServer()
			s := w.scene(a.front, image, "").byInputs("jo", a.user("jo", "registry password", "hunter-"+w.random()))
			if !s.succeed(t, s.c.run()) {
				return
			}
			w.forget()
			if !may {
				a.tokens.may = func(_, repository, _ string) bool { return repository != image }
				// The image is read from its layout again, and from the other repository only by mounting.
			}
			const other = "acme/other"
			s.repository = other
			s.c.input("image", ownRegistry+"/"+other)
			if may {
				s.c.input("source", "docker://"+ownRegistry+"/"+image+":"+tag)
			}
			s.succeed(t, s.c.run())
			patched := slices.ContainsFunc(w.seen(ownRegistry), func(r request) bool { return r.method == http.MethodPatch })
			if patched == may {
				t.Errorf("bytes were sent: %v, and mounting was allowed: %v", patched, may)
			}
		})
	}
}

// TestOrder proves the order in which credentials are looked for.
func TestOrder(t *testing.T) {
	t.Parallel()
	t.Run("inputs before the environment", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "")
		s.c.input("registry-username", "AWS")
		s.c.input("registry-password", a.password())
		// These are for nobody, and no service of AWS's is to be asked.
		s.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", wrongSecret)
		s.succeed(t, s.c.run())
		if n := len(a.calls); n != 0 {
			t.Errorf("AWS was called: %q", a.calls)
		}
	})
	t.Run("OIDC before the environment", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		i := w.gitHubIssuer(a.sts)
		s := ecrScene(w, a, "by OIDC").roleBy(a, i)
		s.c.gitHubOIDC(i)
		s.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", wrongSecret).env("AWS_PROFILE", "")
		s.succeed(t, s.c.run())
	})
	t.Run("the environment before docker's configuration", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "").keysIn(a, false)
		s.dockerConfig(a.registry, "AWS", w.secret("stale password", w.random()))
		s.succeed(t, s.c.run())
	})
	t.Run("inputs without the profile that is set", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		id, secretKey, _ := a.key(false)
		s := ecrScene(w, a, "").byInputs(id, secretKey).env("AWS_PROFILE", "nobody")
		s.succeed(t, s.c.run())
	})
	t.Run("OIDC at a FIPS host without the profile that is set", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := w.newAWS(awsOptions{region: "us-east-1", api: fipsAPI, registry: account + ".dkr.ecr-fips.us-east-1.amazonaws.com",
			sts: "sts-fips.us-east-1.amazonaws.com"})
		i := w.gitHubIssuer(a.sts)
		s := ecrScene(w, a, "").roleBy(a, i).env("AWS_PROFILE", "nobody")
		s.c.gitHubOIDC(i)
		s.succeed(t, s.c.run())
	})
	t.Run("no way out of credentials that fail", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "").keysIn(a, false)
		s.dockerConfig(a.registry, "AWS", w.secret("good password", a.password()))
		s.spoil()
		s.fail(t, s.c.run(), s.refused...)
	})
	t.Run("a provider that was named", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		a := frankfurt(w)
		s := ecrScene(w, a, "")
		s.c.input("registry-provider", "generic")
		s.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", wrongSecret)
		s.fail(t, s.c.run(), "AP303")
		if n := len(a.calls); n != 0 {
			t.Errorf("AWS was called: %q", a.calls)
		}
	})
	t.Run("GitLab of one's own that was named", func(t *testing.T) {
		t.Parallel()
		w := newWorld(t)
		lab := w.newGitLab(ownRegistry, "gitlab.acme.example")
		s := w.scene(lab.front, image, "").byInputs("jo", lab.user("jo", "GitLab PAT", "glpat-"+w.random()))
		s.c.input("registry-provider", "gitlab")
		s.succeed(t, s.c.run())
	})
}
