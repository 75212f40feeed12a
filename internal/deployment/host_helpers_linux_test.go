package deployment

import (
	"bytes"
	"context"
	"encoding/base64"
	"fmt"
	"os"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"
	"github.com/google/go-containerregistry/pkg/v1/remote"
	"github.com/moby/moby/client"

	"github.com/airbyte-publish/airbyte-publish/internal/build/buildtest"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// Who may pull: the publisher, whose credentials the host must never see, and the host itself.
const (
	publisher, publisherPassword = "publisher", "the-publishers-own-secret"
	hostUser, hostPassword       = "host", "what-the-host-was-given"
	// harmless is a variable that may reach the host, which shows that others could have.
	harmless = "HARMLESS=it-may-be-sent"
)

func basic(user, password string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + password))
}

// hostLog records what is told.
type hostLog struct {
	mu       sync.Mutex
	lines    []string
	findings []connector.Finding
}

func (l *hostLog) Group(string) func() { return func() {} }
func (l *hostLog) Info(format string, args ...any) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, fmt.Sprintf(format, args...))
}
func (l *hostLog) Finding(f connector.Finding) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.findings = append(l.findings, f)
}
func (l *hostLog) Untrusted(_, text string) { l.Info("%s", text) }

func (l *hostLog) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return strings.Join(l.lines, "\n")
}

func (l *hostLog) has(code fault.Code) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(l.findings, func(f connector.Finding) bool { return f.Code == code })
}

// private is a registry that only the publisher and the host may pull from.
func private(t *testing.T) *registrytest.Registry {
	t.Helper()
	return registrytest.Start(t, registrytest.Config{Users: map[string]string{publisher: publisherPassword, hostUser: hostPassword}})
}

// pushed pushes an image as the publisher. Its repository names the test, so that tests can share an engine.
func pushed(t *testing.T, r *registrytest.Registry, tag string, content remote.Taggable) Image {
	t.Helper()
	repository := image.Repository(r.Addr + "/" + strings.ToLower(regexp.MustCompile(`[^a-zA-Z0-9]+`).ReplaceAllString(t.Name(), "-")))
	ref, err := name.NewTag(string(repository) + ":" + tag)
	if err != nil {
		t.Fatal(err)
	}
	as := remote.WithAuth(&authn.Basic{Username: publisher, Password: publisherPassword})
	var digest v1.Hash
	switch content := content.(type) {
	case v1.ImageIndex:
		err = remote.WriteIndex(ref, content, as)
		digest, _ = content.Digest()
	case v1.Image:
		err = remote.Write(ref, content, as)
		digest, _ = content.Digest()
	}
	if err != nil {
		t.Fatal(err)
	}
	return Image{Repository: repository, Tag: tag, Digest: digest.String()}
}

func hello(t *testing.T, options ...connectors.Option) v1.Image {
	t.Helper()
	img, err := connectors.Image(t.Context(), "source-hello", options...)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

func variant(t *testing.T, which string) v1.Image {
	t.Helper()
	img, err := connectors.Variant(t.Context(), which)
	if err != nil {
		t.Fatal(err)
	}
	return img
}

// indexOf is an index of images, by their platforms.
func indexOf(images map[string]v1.Image) v1.ImageIndex {
	index := v1.ImageIndex(empty.Index)
	for platform, img := range images {
		p, err := v1.ParsePlatform(platform)
		if err != nil {
			panic(err)
		}
		index = mutate.AppendManifests(index, mutate.IndexAddendum{Add: img, Descriptor: v1.Descriptor{Platform: p}})
	}
	return index
}

// encoded are runs of text that may be base64.
var encoded = regexp.MustCompile(`[A-Za-z0-9+/_-]{16,}={0,2}`)

// holds tells whether data holds a secret as it is or in base64, also in a JSON document that is in base64.
func holds(data, secret string) bool {
	if strings.Contains(data, secret) {
		return true
	}
	for _, run := range encoded.FindAllString(data, -1) {
		run = strings.TrimRight(run, "=")
		for _, encoding := range []*base64.Encoding{base64.RawStdEncoding, base64.RawURLEncoding} {
			if raw, err := encoding.DecodeString(run); err == nil && (bytes.Contains(raw, []byte(secret)) || len(run) > 40 && holds(string(raw), secret)) {
				return true
			}
		}
	}
	return false
}

// silent fails the test when what reached the host holds anything of the publisher's.
func silent(t *testing.T, what, data string) {
	t.Helper()
	if data == "" {
		t.Errorf("%s: nothing was recorded", what)
	}
	if holds(data, publisherPassword) {
		t.Errorf("%s: the host got the publisher's credentials", what)
	}
}

// environment is what the publisher's process has: HOME is empty of credentials, and everything else is full of them.
func environment(t *testing.T, with ...string) []string {
	t.Helper()
	config := t.TempDir()
	buildtest.WriteDockerConfig(t, config, "anything.example", basic(publisher, publisherPassword))
	return append([]string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), harmless, "DOCKER_CONFIG=" + config,
		"AIRBYTE_PUBLISH_REGISTRY_PASSWORD=" + publisherPassword, `AIRBYTE_PUBLISH_INPUTS={"registry-password":"` + publisherPassword + `"}`,
		"INPUT_REGISTRY-PASSWORD=" + publisherPassword, "CI_JOB_TOKEN=" + publisherPassword, "CI_REGISTRY_PASSWORD=" + publisherPassword,
		"GITHUB_TOKEN=" + publisherPassword, "GH_TOKEN=" + publisherPassword, "ACTIONS_ID_TOKEN_REQUEST_TOKEN=" + publisherPassword,
		`DOCKER_AUTH_CONFIG={"auths":{"anything.example":{"auth":"` + basic(publisher, publisherPassword) + `"}}}`}, with...)
}

// hostAt is a Host at an address.
func hostAt(t *testing.T, address string, environ []string) *Host {
	t.Helper()
	return NewHost(HostOptions{Environ: append(environ, "DOCKER_HOST="+address), Getenv: getenvOf(append(environ, "DOCKER_HOST="+address)),
		Open: func(ctx context.Context, ref string) (image.Artifact, error) {
			r, err := name.ParseReference(ref)
			if err != nil {
				return image.Artifact{}, err
			}
			d, err := remote.Get(r, remote.WithContext(ctx), remote.WithAuth(&authn.Basic{Username: publisher, Password: publisherPassword}))
			if err != nil {
				return image.Artifact{}, err
			}
			if d.MediaType.IsIndex() {
				index, err := d.ImageIndex()
				return image.Artifact{Index: index}, err
			}
			img, err := d.Image()
			return image.Artifact{Image: img}, err
		}})
}

func getenvOf(environ []string) func(string) string {
	return func(name string) string {
		for _, variable := range slices.Backward(environ) {
			if value, ok := strings.CutPrefix(variable, name+"="); ok {
				return value
			}
		}
		return ""
	}
}

func (h *Host) verify(t *testing.T, img Image, log *hostLog) error {
	t.Helper()
	return h.VerifyPull(t.Context(), img.Repository, img.Tag, img.Digest, log)
}

func (h *Host) load(t *testing.T, cluster string, img Image, log *hostLog) error {
	t.Helper()
	return h.Load(t.Context(), Target{Cluster: cluster}, img.Repository, img.Tag, img.Digest, log)
}

// want fails the test unless the error has a code and says some texts.
func want(t *testing.T, err error, code fault.Code, texts ...string) {
	t.Helper()
	if err == nil || fault.CodeOf(err) != code {
		t.Fatalf("the error is %v, want %s", err, code)
	}
	for _, text := range texts {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("the error %q does not tell %q", err, text)
		}
	}
	if holds(err.Error(), publisherPassword) {
		t.Errorf("the error %q tells the secret", err)
	}
}

func direct(t *testing.T, engine *buildtest.DockerEngine) *client.Client {
	t.Helper()
	c, err := client.New(client.WithHost(engine.Host))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// idOn is the id of an image in an engine, or empty.
func idOn(t *testing.T, engine *buildtest.DockerEngine, ref string) string {
	t.Helper()
	found, err := direct(t, engine).ImageInspect(t.Context(), ref)
	if err != nil {
		return ""
	}
	return found.ID
}

// ours are the containers of ours that an engine has for an image.
func ours(t *testing.T, engine *buildtest.DockerEngine, img Image) int {
	t.Helper()
	list, err := direct(t, engine).ContainerList(context.WithoutCancel(t.Context()), client.ContainerListOptions{All: true,
		Filters: make(client.Filters).Add("label", hostLabel+"="+img.Reference())})
	if err != nil {
		t.Fatal(err)
	}
	return len(list.Items)
}
