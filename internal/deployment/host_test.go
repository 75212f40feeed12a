package deployment

import (
	"archive/tar"
	"bytes"
	"errors"
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/random"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// The texts are those of engines 20.10.24 and 29, and of containerd, as they were seen or as their sources have them.
func TestReasonsOfEngines(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]reason{
		`Get "http://127.0.0.1:5000/v2/a/b/manifests/sha256:0": no basic auth credentials`:                                                                                                         refused,
		`pull access denied for acme/private, repository does not exist or may require 'docker login': denied: requested access to the resource is denied`:                                         refused,
		`failed to resolve reference "ghcr.io/acme/x:1": failed to authorize: failed to fetch anonymous token: unexpected status from GET request to https://ghcr.io/token?scope=a: 403 Forbidden`: refused,
		`unauthorized: authentication required`: refused,
		`Error response from daemon: manifest for ghcr.io/acme/x@sha256:0 not found: manifest unknown: manifest unknown`:                               missing,
		`toomanyrequests: You have reached your pull rate limit. You may increase the limit by authenticating and upgrading: https://www.docker.com/x`: limitedRate,
		`no matching manifest for linux/arm64/v8 in the manifest list entries`:                                                                         wrongPlatform,
		`no match for platform in manifest: not found`:                                                                                                 wrongPlatform,
		`Get "https://registry.acme.example/v2/": x509: certificate signed by unknown authority`:                                                       untrusted,
		`Get "https://registry.acme.example:5000/v2/": http: server gave HTTP response to HTTPS client`:                                                plainHTTP,
		`Get "https://registry.acme.example/v2/": dial tcp: lookup registry.acme.example on 127.0.0.11:53: no such host`:                               unreachable,
		`Get "https://10.0.0.9/v2/": net/http: request canceled while waiting for connection (Client.Timeout exceeded while awaiting headers)`:         unreachable,
		`failed to register layer: write /airbyte/x: no space left on device`:                                                                          noSpace,
		`something that nobody has seen`: unknown,
	} {
		if got := reasonOf(text); got != want {
			t.Errorf("reason %d, want %d: %s", got, want, text)
		}
	}
}

func TestEnvironmentOfPrograms(t *testing.T) {
	t.Parallel()
	h := NewHost(HostOptions{Environ: []string{"PATH=/bin", "AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET=x", "airbyte_publish_other=x", "CI_JOB_TOKEN=x", "CI_JOB_ID=7",
		"DOCKER_HOST=tcp://a", "AWS_SECRET_ACCESS_KEY=x", "INPUT_NAME=x", "DOCKER_TLS_VERIFY=1", "DOCKER_CONFIG=/x"}})
	if got, want := h.environ(secretVariables), []string{"PATH=/bin", "CI_JOB_ID=7", "DOCKER_HOST=tcp://a", "AWS_SECRET_ACCESS_KEY=x", "DOCKER_TLS_VERIFY=1"}; !slices.Equal(got, want) {
		t.Errorf("ssh gets %q, want %q", got, want)
	}
	if got, want := h.environ(secretVariables, cloudVariables, otherEngines), []string{"PATH=/bin", "CI_JOB_ID=7"}; !slices.Equal(got, want) {
		t.Errorf("docker gets %q, want %q", got, want)
	}
}

func TestArchiveIsWholeAndInOrder(t *testing.T) {
	t.Parallel()
	img, err := random.Image(1000, 3)
	if err != nil {
		t.Fatal(err)
	}
	var b bytes.Buffer
	if err := writeArchive(&b, img, "docker.io/acme/x", "1.0.0"); err != nil {
		t.Fatal(err)
	}
	files := map[string]string{}
	for r := tar.NewReader(&b); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, twice := files[h.Name]; twice {
			t.Errorf("%s is there twice", h.Name)
		}
		files[h.Name] = string(content)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := img.RawManifest()
	if err != nil {
		t.Fatal(err)
	}
	if files[blobPath(digest)] != string(raw) || len(files) != 3+3+2 {
		t.Errorf("it has %d files", len(files))
	}
	for _, text := range []string{digest.String(), `"io.containerd.image.name":"docker.io/acme/x:1.0.0"`, `"org.opencontainers.image.ref.name":"1.0.0"`} {
		if !strings.Contains(files["index.json"], text) {
			t.Errorf("index.json lacks %s: %s", text, files["index.json"])
		}
	}
	if !strings.Contains(files["manifest.json"], `"RepoTags":["docker.io/acme/x:1.0.0"]`) {
		t.Errorf("manifest.json is %s", files["manifest.json"])
	}
}

func TestThereIsNoImage(t *testing.T) {
	t.Parallel()
	if _, err := imageFor(image.Artifact{}, "amd64"); err == nil {
		t.Error("it found one")
	}
	if err := readMessages(strings.NewReader(`{"stream":"Loaded"}` + "\n" + `{"errorDetail":{"message":"it broke"},"error":"it broke"}`)); err == nil || err.Error() != "it broke" {
		t.Errorf("the error is %v", err)
	}
	if err := readMessages(strings.NewReader(`{"stream":"Loaded"}<html>`)); err == nil || !strings.Contains(err.Error(), "Loaded") {
		t.Errorf("the error is %v", err)
	}
}
