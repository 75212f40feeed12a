package cloudtest

import (
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
)

// everything gives the child credentials for every cloud at once.
func (s *scene) everything() *scene {
	w := s.w
	// No host may see any of these.
	s.env("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE").env("AWS_SECRET_ACCESS_KEY", w.secret("AWS secret access key", w.random())).
		env("AWS_SESSION_TOKEN", w.secret("AWS session token", w.random()))
	s.application().env("AZURE_CLIENT_SECRET", w.secret("Azure client secret", w.random()))
	s.env("GITHUB_TOKEN", w.secret("GITHUB_TOKEN", "ghs_"+w.random())).env("GITHUB_ACTOR", "octocat")
	s.env("CI_REGISTRY", "registry.gitlab.com").env("CI_REGISTRY_USER", "gitlab-ci-token").
		env("CI_REGISTRY_PASSWORD", w.secret("CI_REGISTRY_PASSWORD", w.random())).env("CI_JOB_TOKEN", w.secret("CI_JOB_TOKEN", w.random()))
	file := filepath.Join(s.c.home, "credentials.json")
	s.c.write(file, `{"type":"authorized_user","client_id":"x","client_secret":"`+w.secret("OAuth client secret", w.random())+
		`","refresh_token":"`+w.secret("Google refresh token", w.random())+`"}`)
	s.env("GOOGLE_APPLICATION_CREDENTIALS", file)
	for _, host := range []string{"ghcr.io", "https://index.docker.io/v1/", "quay.io"} {
		s.dockerConfig(host, "jo", w.secret("password of "+host, w.random()))
	}
	return s
}

// spoofs are hosts that begin or end as those of the clouds do and are nobody's.
var spoofs = []string{
	account + ".dkr.ecr.eu-central-1.amazonaws.com.evil.example", "evil.example.dkr.ecr.eu-central-1.amazonaws.com.example",
	account + ".dkr.ecr.eu-central-1.amazonaws.community", "public.ecr.aws.evil.example",
	"x.azurecr.io.evil.example", "xazurecr.io", "x.azurecr.iox", "europe-west4-docker.pkg.dev.evil.example", "gcr.io.evil.example", "evilgcr.io",
	"ghcr.io.evil.example", "notghcr.io", "registry.gitlab.com.evil.example", "index.docker.io.evil.example", "docker.io.evil.example",
}

// TestSpoofedHosts proves that no credential of a cloud leaves for a host that only looks like the cloud's. The world
// blames whoever sends one.
func TestSpoofedHosts(t *testing.T) {
	t.Parallel()
	for _, host := range spoofs {
		for _, oidc := range []bool{false, true} {
			name := host
			if oidc {
				name += " with OIDC"
			}
			t.Run(name, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				a := w.newAccounts(host, "https://"+host+"/token", host)
				s := w.scene(a.front, "acme-prod/connectors/source-hello", "").everything()
				if oidc {
					// No cloud's host exists here, so that an exchange would be seen as well.
					i := w.gitHubIssuer()
					s.c.gitHubOIDC(i)
					s.c.input("aws-role-arn", "arn:aws:iam::"+account+":role/publisher")
				}
				o := s.c.run()
				if codes := o.codes(); o.exit == 0 || len(codes) != 1 || codes[0] != "AP303" && codes[0] != "AP104" && codes[0] != "AP102" {
					t.Errorf("exit %d, codes %q:\n%s", o.exit, codes, o)
				}
				for _, r := range w.seen("") {
					if r.auth != "" {
						t.Errorf("credentials went out: %s", r)
					}
				}
			})
		}
	}
}

// TestSpoofedProvider proves that a host which is not the cloud's can't be said to be.
func TestSpoofedProvider(t *testing.T) {
	t.Parallel()
	for provider, host := range map[string]string{"ecr": spoofs[0], "acr": "x.azurecr.io.evil.example", "gar": "gcr.io.evil.example", "dockerhub": "docker.io.evil.example"} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			a := w.newAccounts(host, "https://"+host+"/token", host)
			s := w.scene(a.front, image, "").everything()
			s.c.input("registry-provider", provider)
			o := s.c.run()
			if codes := o.codes(); o.exit != 2 || len(codes) != 1 || codes[0] != "AP102" {
				t.Errorf("exit %d, codes %q:\n%s", o.exit, codes, o)
			}
			if n := len(w.seen("")); n > 0 {
				t.Errorf("%d requests were made before the inputs were right", n)
			}
		})
	}
}

// TestRedirectedSignIn proves that what a cloud is told goes nowhere else when it answers with a redirect.
func TestRedirectedSignIn(t *testing.T) {
	t.Parallel()
	const evil = "evil.example"
	for provider, host := range map[string]func(s *scene) string{
		"ECR":        func(*scene) string { return "sts.eu-central-1.amazonaws.com" },
		"Google":     func(*scene) string { return googleSTS },
		"ACR":        func(*scene) string { return "login.microsoftonline.com" },
		"Docker Hub": func(*scene) string { return hubIdentity },
	} {
		t.Run(provider, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			s, i := federations[provider](w, w.gitHubIssuer)
			s.c.gitHubOIDC(i)
			asked := 0
			w.site(evil, http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { answerJSON(rw, http.StatusOK, map[string]string{}) }))
			inner := w.sites[host(s)].handler
			w.sites[host(s)].handler = http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
				if r.Method != http.MethodPost {
					inner.ServeHTTP(rw, r)
					return
				}
				asked++
				_, _ = io.Copy(io.Discard, r.Body)
				http.Redirect(rw, r, "https://"+evil+r.URL.Path, http.StatusTemporaryRedirect)
			})
			if o := s.c.run(); o.exit != 1 || len(o.codes()) != 1 {
				t.Errorf("exit %d, codes %q:\n%s", o.exit, o.codes(), o)
			}
			if asked == 0 {
				t.Error("the cloud was not asked")
			}
			for _, r := range w.seen(evil) {
				if r.auth != "" || len(r.secrets) > 0 || len(r.body) > 0 {
					t.Errorf("something went there: %s", r)
				}
			}
		})
	}
}

// TestBadProxies is for machines whose way out is through a proxy that wants something first.
func TestBadProxies(t *testing.T) {
	t.Parallel()
	for name, meddle := range map[string]func(http.ResponseWriter, *http.Request) bool{
		"a page": func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Content-Type", "text/html")
			rw.WriteHeader(http.StatusForbidden)
			_, _ = io.WriteString(rw, "<html><title>Blocked by policy</title></html>")
			return true
		},
		"407": func(rw http.ResponseWriter, _ *http.Request) bool {
			rw.Header().Set("Proxy-Authenticate", `Basic realm="proxy"`)
			rw.WriteHeader(http.StatusProxyAuthRequired)
			return true
		},
	} {
		for provider, set := range federations {
			t.Run(name+" before "+provider, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				s, i := set(w, w.gitLabIssuer)
				s.c.input("oidc-token", i.token(audiences[provider]))
				w.meddle = meddle
				o := s.c.run()
				s.fail(t, o, "AP301")
				if !strings.Contains(strings.ToLower(o.log()), "proxy") {
					t.Errorf("nothing says that it is the proxy:\n%s", o)
				}
			})
		}
	}
}

// TestPagesForAnswers is for what stands in front of a cloud and answers with a page of its own, as if all were well.
func TestPagesForAnswers(t *testing.T) {
	t.Parallel()
	page := http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		rw.Header().Set("Content-Type", "text/html")
		_, _ = io.WriteString(rw, "<html><title>Please sign in to the network</title></html>")
	})
	for provider, hosts := range map[string][]string{"ECR": {"sts.eu-central-1.amazonaws.com", "api.ecr.eu-central-1.amazonaws.com"},
		"Google": {googleSTS}, "ACR": {"login.microsoftonline.com", acrHost}, "Docker Hub": {hubIdentity, "auth.docker.io"}} {
		for _, host := range hosts {
			t.Run(host, func(t *testing.T) {
				t.Parallel()
				w := newWorld(t)
				s, i := federations[provider](w, w.gitHubIssuer)
				s.c.gitHubOIDC(i)
				w.sites[host].handler = page
				o := s.c.run()
				if codes := o.codes(); o.exit != 1 || len(codes) != 1 || codes[0] == "AP901" {
					t.Errorf("exit %d, codes %q:\n%s", o.exit, codes, o)
				}
				if s.front.wrote() {
					t.Error("something was written")
				}
			})
		}
	}
}
