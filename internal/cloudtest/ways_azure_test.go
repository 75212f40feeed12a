package cloudtest

import (
	"path/filepath"
)

// azureScene is a scene at an Azure Container Registry.
func azureScene(w *world, a *azure, source string) *scene {
	s := w.scene(a.front, image, source)
	s.not["missing repository"] = "a push makes it"
	return s
}

// application puts an application of Entra's into the child's environment.
func (s *scene) application() *scene {
	return s.env("AZURE_TENANT_ID", azureTenant).env("AZURE_CLIENT_ID", azureClient)
}

// trusting has Entra believe tokens of the issuer.
func (s *scene) trusting(a *azure, i *issuer, audience string) *scene {
	a.trust = &oidcTrust{issuer: i, audience: audience, subject: i.subject}
	s.spoil, s.refused = func() { a.set(func(a *azure) { a.trust.subject = "somebody else" }) }, []string{"AP319"}
	return s
}

const entraAudience = "api://AzureADTokenExchange"

func azureWays() []way {
	at := func(host, name string, set func(w *world, a *azure) *scene) way {
		return way{"ACR", name, func(w *world) *scene { return set(w, w.newAzure(host)) }}
	}
	byPassword := func(name, user string, set func(a *azure) string) way {
		return at(acrHost, name, func(w *world, a *azure) *scene {
			s := azureScene(w, a, "the inputs registry-username and registry-password")
			s.c.input("registry-username", user)
			s.c.input("registry-password", set(a))
			return s.spoils(inputVariable("registry-password"), wrongSecret, "AP304")
		})
	}
	user := func(name, kind string) func(a *azure) string {
		return func(a *azure) string {
			a.users[name] = a.w.secret(kind, a.w.random()+"+ACR"+a.w.random(), a.front.host)
			return a.users[name]
		}
	}
	secretAt := func(host, name string) way {
		return at(host, name, func(w *world, a *azure) *scene {
			return azureScene(w, a, "the service principal of AZURE_CLIENT_ID").application().env("AZURE_CLIENT_SECRET", a.useSecret(a.login)).
				spoils("AZURE_CLIENT_SECRET", wrongSecret, "AP320")
		})
	}
	onGitHub := func(host, name, audience string) way {
		return at(host, name, func(w *world, a *azure) *scene {
			i := w.gitHubIssuer(a.login)
			s := azureScene(w, a, "the application "+azureClient+" by OIDC").trusting(a, i, audience)
			s.c.gitHubOIDC(i)
			s.c.input("azure-tenant-id", azureTenant)
			s.c.input("azure-client-id", azureClient)
			return s
		})
	}
	return append([]way{
		byPassword("service principal by inputs", azureClient, func(a *azure) string { return a.useSecret(a.front.host) }),
		byPassword("admin user", "acmeprod", user("acmeprod", "ACR admin password")),
		byPassword("repository-scoped token", "publisher-token", user("publisher-token", "ACR token password")),
		secretAt(acrHost, "client secret in the environment"),
		onGitHub(acrHost, "azure-client-id on GitHub", entraAudience),
		at(acrHost, "azure-client-id and oidc-token", func(w *world, a *azure) *scene {
			i := w.gitLabIssuer(a.login)
			s := azureScene(w, a, "the application "+azureClient+" by OIDC").trusting(a, i, entraAudience)
			s.c.onGitLab()
			s.c.input("azure-tenant-id", azureTenant)
			s.c.input("azure-client-id", azureClient)
			s.c.input("oidc-token", i.token(entraAudience))
			return s
		}),
		secretAt("acmeprod.azurecr.us", "client secret in the US Government's cloud"),
		onGitHub("acmeprod.azurecr.us", "azure-client-id on GitHub in the US Government's cloud", entraAudience+"USGov"),
		secretAt("acmeprod.azurecr.cn", "client secret in China's cloud"),
		onGitHub("acmeprod.azurecr.cn", "azure-client-id on GitHub in China's cloud", entraAudience+"China"),
	}, azureAmbientWays()...)
}

// azureAmbientWays are those in which the machine has an identity already.
func azureAmbientWays() []way {
	at := func(name string, set func(w *world, a *azure) *scene) way {
		return way{"ACR", name, func(w *world) *scene { return set(w, w.newAzure(acrHost)) }}
	}
	return []way{
		at("client certificate in the environment", func(w *world, a *azure) *scene {
			s := azureScene(w, a, "the service principal of AZURE_CLIENT_ID").application()
			file := filepath.Join(s.c.home, "certificate.pem")
			s.c.write(file, a.useCertificate())
			s.spoil, s.refused = func() { a.useCertificate() }, []string{"AP320"} // The old one is deleted.
			return s.env("AZURE_CLIENT_CERTIFICATE_PATH", file)
		}),
		at("AZURE_FEDERATED_TOKEN_FILE", func(w *world, a *azure) *scene {
			i := w.gitLabIssuer(a.login)
			s := azureScene(w, a, "the workload identity of AZURE_FEDERATED_TOKEN_FILE").application().trusting(a, i, entraAudience)
			s.refused = []string{"AP320", "AP319"}
			file := filepath.Join(s.c.home, "token")
			s.c.write(file, i.token(entraAudience))
			return s.env("AZURE_FEDERATED_TOKEN_FILE", file)
		}),
		at("managed identity of a machine", func(w *world, a *azure) *scene {
			a.managed()
			s := azureScene(w, a, "the managed identity").env("AZURE_CLIENT_ID", azureIdentity)
			s.c.az = true // It is asked when there is no such identity.
			return s.spoils("AZURE_CLIENT_ID", "12345678-0000-0000-0000-000000000000", "AP320", "AP303")
		}),
		at("managed identity of App Service", func(w *world, a *azure) *scene {
			endpoint, header := a.appService()
			return azureScene(w, a, "the managed identity").env("IDENTITY_ENDPOINT", endpoint).env("IDENTITY_HEADER", header).
				spoils("IDENTITY_HEADER", wrongSecret, "AP320")
		}),
		at("session of az", func(w *world, a *azure) *scene {
			s := azureScene(w, a, "the session of az")
			// On a machine outside of Azure, nobody answers for the metadata service.
			w.nobody(metadataHost)
			a.session(s.c)
			s.spoil, s.refused = func() {
				s.c.script("az", "echo 'ERROR: AADSTS70043: The refresh token has expired due to inactivity.' >&2; exit 1\n")
			}, []string{"AP320"}
			return s
		}),
	}
}
