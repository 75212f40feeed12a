package cloudtest

import (
	"encoding/base64"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
)

// way is one way to sign in at a provider.
type way struct {
	provider, name string
	// set makes the world, with a child in it that signs in this way.
	set func(w *world) *scene
}

// scene is a way that has been set up.
type scene struct {
	w     *world
	c     *child
	front *front
	// repository is the image's, without the host.
	repository string
	// source is how the log names where the credentials are from.
	source string
	// spoil makes the credentials wrong, refused are the codes that may follow.
	spoil   func()
	refused []string
	// missing takes the repository away, after which one of the codes follows; without it a push makes repositories.
	missing      func()
	missingCodes []string
	// deny takes the right to push away; nil is the registry's own way to. denied are the codes.
	deny   func()
	denied []string
	// lasting tells that the credentials can't be renewed: when they end, so does the run, with one of the codes.
	lasting []string
	// expire ends what the registry itself has issued; nil is what its gate does.
	expire func()
	// not says of columns why they make no sense.
	not map[string]string
}

// scene begins one, in which the child pushes to the registry.
func (w *world) scene(f *front, repository, source string) *scene {
	s := &scene{w: w, c: w.newChild(), front: f, repository: repository, source: source, denied: []string{"AP305"}, not: map[string]string{}}
	s.c.input("image", f.host+"/"+repository)
	if f.host == "index.docker.io" {
		s.c.input("image", "docker.io/"+repository)
	}
	return s
}

// env sets a variable of the child's.
func (s *scene) env(name, value string) *scene {
	s.c.env[name] = value
	return s
}

// spoils says what makes the credentials wrong: a variable or input with another value.
func (s *scene) spoils(name, value string, codes ...string) *scene {
	s.spoil, s.refused = func() { s.c.env[name] = value }, codes
	return s
}

// inputVariable is the variable of an input.
func inputVariable(name string) string {
	return "AIRBYTE_PUBLISH_" + strings.ToUpper(strings.ReplaceAll(name, "-", "_"))
}

// ways are all of them.
func ways() []way {
	return slices.Concat(ecrWays(), ecrPublicWays(), googleWays(), azureWays(), hubWays(), ghcrWays(), gitLabWays(), genericWays())
}

const image = "acme/source-hello"

// wrongSecret is what no cloud knows.
const wrongSecret = "nobody-knows-this-secret-value"

// ecrScene is a scene at ECR, whose repository exists.
func ecrScene(w *world, a *aws, source string) *scene {
	a.front.set(func(f *front) { f.repositories[image] = true })
	s := w.scene(a.front, image, source)
	s.missing = func() { a.front.set(func(f *front) { delete(f.repositories, image) }) }
	s.missingCodes = []string{"AP306"}
	return s
}

func frankfurt(w *world) *aws { return w.newAWS(awsOptions{region: "eu-central-1"}) }

// keysIn puts an access key into the child's environment.
func (s *scene) keysIn(a *aws, temporary bool) *scene {
	id, secretKey, session := a.key(temporary)
	s.env("AWS_ACCESS_KEY_ID", id).env("AWS_SECRET_ACCESS_KEY", secretKey)
	if temporary {
		s.env("AWS_SESSION_TOKEN", session)
	}
	return s.spoils("AWS_SECRET_ACCESS_KEY", wrongSecret, "AP320")
}

// roleBy has the child become a role with tokens of the issuer.
func (s *scene) roleBy(a *aws, i *issuer) *scene {
	a.role = a.arn("role/publisher")
	a.trust = &oidcTrust{issuer: i, audience: "sts.amazonaws.com", subject: i.subject}
	s.c.input("aws-role-arn", a.role)
	s.spoil, s.refused = func() { i.subject = "repo:mallory/connectors:ref:refs/heads/main" }, []string{"AP319"}
	return s
}

func ecrWays() []way {
	at := func(name string, set func(w *world) *scene) way { return way{"ECR", name, set} }
	keys := func(name string, o awsOptions) way {
		return at(name, func(w *world) *scene {
			a := w.newAWS(o)
			return ecrScene(w, a, "AWS credentials of").keysIn(a, false)
		})
	}
	return append([]way{
		keys("keys in the environment", awsOptions{region: "eu-central-1"}),
		keys("FIPS host", awsOptions{region: "us-east-1", api: fipsAPI, registry: account + ".dkr.ecr-fips.us-east-1.amazonaws.com"}),
		keys("China's host", awsOptions{region: "cn-north-1"}),
		keys("dual-stack host", awsOptions{region: "eu-central-1", registry: account + ".dkr-ecr.eu-central-1.on.aws"}),
		at("temporary keys in the environment", func(w *world) *scene {
			a := frankfurt(w)
			return ecrScene(w, a, "AWS credentials of").keysIn(a, true)
		}),
		at("keys by inputs", func(w *world) *scene {
			a := frankfurt(w)
			id, secretKey, _ := a.key(false)
			s := ecrScene(w, a, "the access key of registry-username and registry-password")
			s.c.input("registry-username", id)
			s.c.input("registry-password", secretKey)
			return s.spoils(inputVariable("registry-password"), wrongSecret, "AP320")
		}),
		at("AWS_PROFILE", func(w *world) *scene {
			a := frankfurt(w)
			id, secretKey, _ := a.key(false)
			s := ecrScene(w, a, "AWS credentials of")
			s.c.write(filepath.Join(s.c.home, ".aws", "credentials"),
				fmt.Sprintf("[ci]\naws_access_key_id = %s\naws_secret_access_key = %s\n", id, secretKey))
			return s.env("AWS_PROFILE", "ci").spoils("AWS_PROFILE", "nobody", "AP320")
		}),
		at("user AWS with a password", func(w *world) *scene {
			a := frankfurt(w)
			s := ecrScene(w, a, "the inputs registry-username and registry-password")
			s.c.input("registry-username", "AWS")
			s.c.input("registry-password", a.password())
			s.lasting = []string{"AP304"}
			return s.spoils(inputVariable("registry-password"), wrongSecret, "AP304")
		}),
		at("docker configuration", func(w *world) *scene {
			a := frankfurt(w)
			s := ecrScene(w, a, "the docker configuration")
			w.nobody(metadataHost)
			s.dockerConfig(a.registry, "AWS", a.password())
			s.lasting = []string{"AP304"}
			s.spoil, s.refused = func() { s.dockerConfig(a.registry, "AWS", wrongSecret) }, []string{"AP304"}
			return s
		}),
	}, ecrRoleWays()...)
}

// ecrRoleWays are those in which somebody becomes a role.
func ecrRoleWays() []way {
	at := func(name string, set func(w *world) *scene) way { return way{"ECR", name, set} }
	return []way{
		at("container role", func(w *world) *scene {
			a := frankfurt(w)
			endpoint, token := a.container()
			return ecrScene(w, a, "AWS credentials of").env("AWS_CONTAINER_CREDENTIALS_FULL_URI", endpoint).
				env("AWS_CONTAINER_AUTHORIZATION_TOKEN", token).spoils("AWS_CONTAINER_AUTHORIZATION_TOKEN", wrongSecret, "AP320")
		}),
		at("instance role", func(w *world) *scene {
			a := frankfurt(w)
			a.instance()
			s := ecrScene(w, a, "AWS credentials of")
			s.not["wrong credential"] = "nothing that the user gives can be wrong"
			return s
		}),
		at("AWS_ROLE_ARN and a token file", func(w *world) *scene {
			a := frankfurt(w)
			i := w.gitLabIssuer(a.sts)
			s := ecrScene(w, a, "AWS credentials of").roleBy(a, i)
			delete(s.c.env, inputVariable("aws-role-arn"))
			file := filepath.Join(s.c.home, "token")
			s.c.write(file, i.token("sts.amazonaws.com"))
			s.env("AWS_ROLE_ARN", a.role).env("AWS_WEB_IDENTITY_TOKEN_FILE", file)
			return s.spoils("AWS_ROLE_ARN", a.arn("role/other"), "AP320", "AP319")
		}),
		at("aws-role-arn on GitHub", func(w *world) *scene {
			a := frankfurt(w)
			i := w.gitHubIssuer(a.sts)
			s := ecrScene(w, a, "the role arn:aws:iam::"+account+":role/publisher by OIDC").roleBy(a, i)
			s.c.gitHubOIDC(i)
			s.spoil = func() {
				a.set(func(a *aws) { a.trust.subject = "repo:acme/connectors:ref:refs/heads/main" }) // As before 2026-07-15.
			}
			return s
		}),
		at("aws-role-arn and oidc-token", func(w *world) *scene {
			a := frankfurt(w)
			i := w.gitLabIssuer(a.sts)
			s := ecrScene(w, a, "the role arn:aws:iam::"+account+":role/publisher by OIDC").roleBy(a, i)
			s.c.onGitLab()
			s.c.input("oidc-token", i.token("sts.amazonaws.com"))
			i.subject = "project_path:acme/other:ref_type:branch:ref:main"
			return s.spoils(inputVariable("oidc-token"), i.token("sts.amazonaws.com"), "AP319")
		}),
	}
}

// password is one for the registry, got by other means.
func (a *aws) password() string {
	out, err := a.authorization(map[string]any{})
	if err != nil {
		panic(err)
	}
	data, _ := out.(map[string]any)["authorizationData"].([]any)
	text, _ := data[0].(map[string]any)["authorizationToken"].(string)
	raw, _ := base64.StdEncoding.DecodeString(text)
	return strings.TrimPrefix(string(raw), "AWS:")
}

// dockerConfig is what "docker login" leaves.
func (s *scene) dockerConfig(host, user, password string) {
	auth := base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
	s.c.write(filepath.Join(s.c.home, ".docker", "config.json"), fmt.Sprintf(`{"auths":{%q:{"auth":%q}}}`, host, auth))
}

func ecrPublicWays() []way {
	at := func(name string, set func(w *world, a *aws) *scene) way {
		return way{"ECR Public", name, func(w *world) *scene {
			a := w.newECRPublic()
			s := set(w, a)
			s.not["tag immutable"] = "ECR Public has no immutable tags"
			return s
		}}
	}
	return []way{
		at("keys in the environment", func(w *world, a *aws) *scene { return ecrScene(w, a, "AWS credentials of").keysIn(a, false) }),
		at("aws-role-arn on GitHub", func(w *world, a *aws) *scene {
			i := w.gitHubIssuer(a.sts)
			s := ecrScene(w, a, "the role arn:aws:iam::"+account+":role/publisher by OIDC").roleBy(a, i)
			s.c.gitHubOIDC(i)
			return s
		}),
	}
}
