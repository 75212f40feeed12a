package cloudtest

import (
	"encoding/base64"
	"path/filepath"
)

// googleScene is a scene at Artifact Registry, or at a host of Container Registry's, whose repository exists.
func googleScene(w *world, g *googleCloud, source string) *scene {
	s := w.scene(g.front, googleRepository, source)
	s.missing = func() { g.front.set(func(f *front) { clear(f.repositories) }) }
	s.missingCodes = []string{"AP305"}
	// A service account's or pool's access token lives for an hour; what ends sooner is the registry's.
	s.expire = g.tokens.expire
	return s
}

// federated has the child exchange tokens of the issuer.
func (s *scene) federated(g *googleCloud, i *issuer, account bool) *scene {
	g.trust = &oidcTrust{issuer: i, audience: "https://iam.googleapis.com/" + googlePool, subject: i.subject}
	g.impersonation = account
	s.c.input("gcp-workload-identity-provider", googlePool)
	if account {
		s.c.input("gcp-service-account", googleAccount)
	}
	s.spoil, s.refused = func() { g.set(func(g *googleCloud) { g.trust.subject = "somebody else" }) }, []string{"AP319"}
	return s
}

// revoke makes Google forget the service account's key.
func (s *scene) revoke(g *googleCloud) *scene {
	s.spoil, s.refused = func() { g.set(func(g *googleCloud) { g.keyID = "rotated" }) }, []string{"AP320", "AP304"}
	return s
}

func googleWays() []way {
	at := func(host, name string, set func(w *world, g *googleCloud) *scene) way {
		return way{"Google", name, func(w *world) *scene { return set(w, w.newGoogle(host)) }}
	}
	byKey := func(host, name, user string, encode func(string) string) way {
		return at(host, name, func(w *world, g *googleCloud) *scene {
			s := googleScene(w, g, "the service account's key of registry-password").revoke(g)
			if user != "" {
				s.c.input("registry-username", user)
			}
			s.c.input("registry-password", encode(g.keyFile(false)))
			return s
		})
	}
	same := func(text string) string { return text }
	coded := func(text string) string { return base64.StdEncoding.EncodeToString([]byte(text)) }
	token := func(name string, set func(s *scene, token string)) way {
		return at(garHost, name, func(w *world, g *googleCloud) *scene {
			s := googleScene(w, g, "the input")
			set(s, g.grantAccess("jo@acme.example"))
			s.lasting, s.expire = []string{"AP304"}, nil
			return s
		})
	}
	file := func(name string, set func(w *world, g *googleCloud, s *scene) string) way {
		return at(garHost, name, func(w *world, g *googleCloud) *scene {
			s := googleScene(w, g, "application default credentials")
			path := filepath.Join(s.c.home, "credentials.json")
			s.c.write(path, set(w, g, s))
			return s.env("GOOGLE_APPLICATION_CREDENTIALS", path)
		})
	}
	ways := []way{
		byKey(garHost, "_json_key", "_json_key", same),
		byKey(garHost, "_json_key_base64", "_json_key_base64", coded),
		byKey(garHost, "key without a user name", "", same),
		token("oauth2accesstoken", func(s *scene, token string) {
			s.source = "the inputs registry-username and registry-password"
			s.c.input("registry-username", "oauth2accesstoken")
			s.c.input("registry-password", token)
			s.spoils(inputVariable("registry-password"), "ya29."+wrongSecret, "AP304")
		}),
		token("registry-token", func(s *scene, token string) {
			s.source = "the input registry-token"
			s.c.input("registry-token", token)
			s.spoils(inputVariable("registry-token"), "ya29."+wrongSecret, "AP304")
			// Without the token server nobody hides that a repository is missing behind a denial.
			s.missingCodes = []string{"AP306"}
		}),
		at(garHost, "metadata server", func(w *world, g *googleCloud) *scene {
			s := googleScene(w, g, "metadata server").env("GCE_METADATA_HOST", g.metadata())
			s.not["wrong credential"] = "nothing that the user gives can be wrong"
			return s
		}),
		file("GOOGLE_APPLICATION_CREDENTIALS of a service account", func(_ *world, g *googleCloud, s *scene) string {
			s.revoke(g)
			return g.keyFile(false)
		}),
		file("GOOGLE_APPLICATION_CREDENTIALS of a user", func(_ *world, g *googleCloud, s *scene) string {
			s.spoil, s.refused = func() { g.set(func(g *googleCloud) { g.refreshToken = "revoked" }) }, []string{"AP320"}
			return g.userFile()
		}),
		file("GOOGLE_APPLICATION_CREDENTIALS of an external account", func(w *world, g *googleCloud, s *scene) string {
			i := w.gitLabIssuer(googleSTS)
			s.federated(g, i, true)
			delete(s.c.env, inputVariable("gcp-workload-identity-provider"))
			delete(s.c.env, inputVariable("gcp-service-account"))
			s.refused = []string{"AP320", "AP319"}
			token := filepath.Join(s.c.home, "token")
			s.c.write(token, i.token(g.trust.audience))
			return g.federationFile(token, true)
		}),
	}
	for _, host := range []string{"gcr.io", "us.gcr.io", "eu.gcr.io", "asia.gcr.io"} {
		ways = append(ways, byKey(host, "_json_key at "+host, "_json_key", same))
	}
	return append(ways, googlePoolWays()...)
}

// googlePoolWays are those of workload identity federation.
func googlePoolWays() []way {
	at := func(name string, set func(w *world, g *googleCloud) *scene) way {
		return way{"Google", name, func(w *world) *scene { return set(w, w.newGoogle(garHost)) }}
	}
	var ways []way
	for _, account := range []bool{false, true} {
		name, source := "workload identity", "the workload identity "+googlePool
		if account {
			name, source = "workload identity of a service account", "the service account "+googleAccount
		}
		ways = append(ways,
			at(name+" on GitHub", func(w *world, g *googleCloud) *scene {
				i := w.gitHubIssuer(googleSTS)
				s := googleScene(w, g, source).federated(g, i, account)
				s.c.gitHubOIDC(i)
				return s
			}),
			at(name+" and oidc-token", func(w *world, g *googleCloud) *scene {
				i := w.gitLabIssuer(googleSTS)
				s := googleScene(w, g, source).federated(g, i, account)
				s.c.onGitLab()
				s.c.input("oidc-token", i.token(g.trust.audience))
				return s
			}))
	}
	return ways
}
