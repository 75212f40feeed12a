package docs_test

import (
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/remote"

	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// actor and token are github.actor and github.token, which the registry takes.
const (
	actor = "octocat"
	token = "the-job's-own-token"
)

// world is what the workflows of the documentation expect to be there, with other addresses.
type world struct {
	repository
	release  *release
	registry *registrytest.Registry
	// airbyte is the stand-in that the workflows know, other is another one.
	airbyte, other string
	// base is the base image of connectors.
	base string
}

// newWorld has a repository with nothing in it but an origin.
func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{release: newRelease(t), registry: registrytest.Start(t, registrytest.Config{Users: map[string]string{actor: token}})}
	w.airbyte, w.other = w.startAirbyte(t), w.startAirbyte(t)
	w.base = w.pushBase(t)
	w.repository = repository{dir: t.TempDir(), home: w.release.home,
		actions: map[string]string{"airbyte-publish/airbyte-publish@v1": w.release.action},
		args: []string{"--env", "AIRBYTE_PUBLISH_REGISTRY_PLAIN_HTTP=true", "--var", "AIRBYTE_CLIENT_ID=client", "-s", "AIRBYTE_CLIENT_SECRET=client-secret",
			"--var", "AIRBYTE_URL=" + w.airbyte}}
	w.git(t, "init", "-q", "-b", "main")
	return w
}

func (w *world) startAirbyte(t *testing.T) string {
	t.Helper()
	a := sandbox.NewAirbyte(sandbox.AirbyteOptions{Auth: sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "client-secret"},
		RunSpec: sandbox.PullAndRun(sandbox.PullOptions{Registry: w.registry.Addr, Username: actor, Password: token})})
	server := httptest.NewServer(a)
	t.Cleanup(func() {
		a.Close()
		server.Close()
	})
	return server.URL
}

func (w *world) pushBase(t *testing.T) string {
	t.Helper()
	img, err := connectors.DeclarativeBase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	ref, err := name.ParseReference(w.registry.Addr+"/airbyte/source-declarative-manifest:1", name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	if err := remote.Write(ref, img, remote.WithAuth(&authn.Basic{Username: actor, Password: token})); err != nil {
		t.Fatal(err)
	}
	digest, err := img.Digest()
	if err != nil {
		t.Fatal(err)
	}
	return ref.Context().Name() + "@" + digest.String()
}

// connector puts a manifest-only connector into a folder of the repository.
func (w *world) connector(t *testing.T, folder, image, tag string) {
	t.Helper()
	made, err := connectors.WithBase(t.Context(), t.TempDir(), w.base)
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range []string{"manifest.yaml", "components.py"} {
		content, err := os.ReadFile(filepath.Join(made, file))
		if err != nil {
			t.Fatal(err)
		}
		write(t, filepath.Join(w.dir, folder, file), string(content))
	}
	write(t, filepath.Join(w.dir, folder, "metadata.yaml"), fmt.Sprintf(`metadataSpecVersion: "1.0"
data:
  name: %[1]s
  connectorType: source
  dockerRepository: %[2]s/acme/%[1]s
  dockerImageTag: %[3]s
  connectorBuildOptions:
    baseImage: %[4]s
  tags: [language:manifest-only]
`, image, w.registry.Addr, tag, w.base))
}

// workflow puts an example of a page of the documentation into the repository, with the addresses of this world.
func (w *world) workflow(t *testing.T, page, file string) {
	t.Helper()
	for _, b := range examples(t) {
		if b.page != page || b.name() != ".github/workflows/"+file {
			continue
		}
		text := strings.NewReplacer("https://airbyte.acme.example", w.airbyte, "ghcr.io/acme", w.registry.Addr+"/acme").Replace(b.text)
		write(t, filepath.Join(w.dir, b.name()), text)
		return
	}
	t.Fatalf("%s has no workflow %s", page, file)
}

// must runs a workflow that succeeds.
func (w *world) must(t *testing.T, workflow, event string, payload map[string]any) string {
	t.Helper()
	log, err := w.run(t, workflow, event, payload)
	if err != nil {
		t.Fatalf("%s: %v\n%s", workflow, err, log)
	}
	if strings.Contains(log, token) || strings.Contains(log, "client-secret") {
		t.Errorf("the log holds a secret:\n%s", log)
	}
	return log
}

// holds is the page of a stand-in that lists its definitions.
func holds(t *testing.T, airbyte string) string {
	t.Helper()
	response, err := http.Get(airbyte + "/sandbox/definitions")
	if err != nil {
		t.Fatal(err)
	}
	defer response.Body.Close()
	page, err := io.ReadAll(response.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(page)
}

func tag(name string) map[string]any { return map[string]any{"ref": "refs/tags/" + name} }

func branch(before string) map[string]any {
	return map[string]any{"ref": "refs/heads/main", "before": before}
}

var published = regexp.MustCompile(`\| (127\.0\.0\.1:\d+/acme/source-erp@sha256:[0-9a-f]{64}) is definition ([0-9a-f-]{36})`)

// TestOneConnector runs the first example: what a later step sees are the digest and the definition's id.
func TestOneConnector(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connector(t, ".", "source-erp", "1.4.0")
	w.workflow(t, "docs/ci/github.md", "publish.yml")
	w.commit(t)
	w.git(t, "tag", "v1.4.0")
	log := w.must(t, "publish.yml", "push", tag("v1.4.0"))
	seen := published.FindStringSubmatch(log)
	if seen == nil {
		t.Fatalf("the later step did not see the outputs:\n%s", log)
	}
	if held := holds(t, w.airbyte); !strings.Contains(held, seen[2]) || !strings.Contains(held, "/acme/source-erp:1.4.0") {
		t.Errorf("Airbyte holds\n%s", held)
	}
	if got := w.digest(t, "source-erp:1.4.0"); !strings.HasSuffix(seen[1], got) {
		t.Errorf("the registry holds %s, the step saw %s", got, seen[1])
	}
	if !strings.Contains(log, "1 created") {
		t.Errorf("no summary:\n%s", log)
	}
	again := w.must(t, "publish.yml", "push", tag("v1.4.0"))
	if !strings.Contains(again, "1 unchanged") || published.FindString(again) != seen[0] {
		t.Errorf("the second run:\n%s", again)
	}
	if got := w.release.downloaded(); len(got) != 1 {
		t.Errorf("the binary was downloaded as %q, and once is enough", got)
	}
}

// TestRollingBack runs an earlier tag again after a later one.
func TestRollingBack(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.workflow(t, "docs/ci/github.md", "publish.yml")
	for _, version := range []string{"1.4.0", "1.5.0"} {
		w.connector(t, ".", "source-erp", version)
		write(t, filepath.Join(w.dir, "components.py"), "VERSION = \""+version+"\"\n")
		w.commit(t)
		w.git(t, "tag", "v"+version)
		w.must(t, "publish.yml", "push", tag("v"+version))
	}
	before := w.digest(t, "source-erp:1.4.0")
	w.git(t, "switch", "-q", "--detach", "v1.4.0")
	log := w.must(t, "publish.yml", "push", tag("v1.4.0"))
	if !strings.Contains(log, "1 updated") || !strings.Contains(log, "image already in place") || w.digest(t, "source-erp:1.4.0") != before {
		t.Errorf("got\n%s", log)
	}
	if held := holds(t, w.airbyte); !strings.Contains(held, "/acme/source-erp:1.4.0") || strings.Contains(held, "1.5.0") {
		t.Errorf("Airbyte holds\n%s", held)
	}
}

// TestReadmeQuickStart runs README's example, which is the same without a later step.
func TestReadmeQuickStart(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connector(t, ".", "source-erp", "1.4.0")
	w.workflow(t, "README.md", "publish.yml")
	w.commit(t)
	if log := w.must(t, "publish.yml", "push", tag("v1.4.0")); !strings.Contains(log, "1 created") {
		t.Errorf("got\n%s", log)
	}
}

// digest is what the registry's tag holds.
func (w *world) digest(t *testing.T, image string) string {
	t.Helper()
	ref, err := name.ParseReference(w.registry.Addr+"/acme/"+image, name.Insecure)
	if err != nil {
		t.Fatal(err)
	}
	got, err := remote.Head(ref, remote.WithAuth(&authn.Basic{Username: actor, Password: token}))
	if err != nil {
		t.Fatal(err)
	}
	return got.Digest.String()
}

// TestStagingAndProduction publishes to one Airbyte, and registers the very image in another one.
func TestStagingAndProduction(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connector(t, ".", "source-erp", "1.4.0")
	for _, file := range []string{"staging.yml", "production.yml"} {
		w.workflow(t, "docs/ci/github.md", file)
	}
	w.commit(t)
	if log := w.must(t, "staging.yml", "push", branch("")); !strings.Contains(log, "1 created") {
		t.Errorf("staging:\n%s", log)
	}
	before := w.digest(t, "source-erp:1.4.0")
	w.args = append(w.args, "--var", "AIRBYTE_URL="+w.other)
	for _, release := range []struct{ name, result string }{{"1.4.0", "1 created"}, {"v1.4.0", "1 unchanged"}} {
		log := w.must(t, "production.yml", "release", map[string]any{"action": "published", "ref": "refs/tags/" + release.name, "release": map[string]any{"tag_name": release.name}})
		if !strings.Contains(log, release.result) || !strings.Contains(log, "image already in place") {
			t.Errorf("production, release %s:\n%s", release.name, log)
		}
	}
	if held := holds(t, w.other); !strings.Contains(held, "/acme/source-erp:1.4.0") || w.digest(t, "source-erp:1.4.0") != before {
		t.Errorf("production holds\n%s", held)
	}
}

// TestPlanOnPullRequest has the plan's summary put into a comment by a program that passes for gh.
func TestPlanOnPullRequest(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.connector(t, ".", "source-erp", "1.4.0")
	w.workflow(t, "docs/ci/github.md", "plan.yml")
	w.commit(t)
	bin := t.TempDir()
	said := filepath.Join(t.TempDir(), "said")
	write(t, filepath.Join(bin, "gh"), "#!/bin/sh\nprintf '%s\\n' \"$@\" >"+said+"\n")
	if err := os.Chmod(filepath.Join(bin, "gh"), 0o755); err != nil {
		t.Fatal(err)
	}
	w.env = append(w.env, "PATH="+bin+":"+os.Getenv("PATH"))
	request := map[string]any{"number": 7, "pull_request": map[string]any{"number": 7, "head": map[string]any{"repo": map[string]any{"fork": false}}}}
	w.must(t, "plan.yml", "pull_request", request)
	content, err := os.ReadFile(said)
	if err != nil || !strings.HasPrefix(string(content), "pr\ncomment\n7\n--edit-last\n--create-if-none\n--body\n## Airbyte connectors (plan): 1 would be created\n") {
		t.Errorf("%v: %s", err, content)
	}
	if held := holds(t, w.airbyte); strings.Contains(held, "source-erp") {
		t.Errorf("a plan has written to Airbyte:\n%s", held)
	}
	w.connector(t, ".", "source-erp", "latest")
	w.commit(t)
	if log, err := w.run(t, "plan.yml", "pull_request", request); err == nil || !strings.Contains(log, "AP109") {
		t.Errorf("a plan of the tag latest: %v\n%s", err, log)
	}
	if content, err = os.ReadFile(said); err != nil || !strings.Contains(string(content), "AP109") {
		t.Errorf("the comment on a plan that failed: %v: %s", err, content)
	}
}

// monorepo has three connectors and a commit of them.
func (w *world) monorepo(t *testing.T, workflow string) (first string) {
	t.Helper()
	for _, c := range []string{"source-erp", "source-crm", "source-lake"} {
		w.connector(t, "connectors/"+c, c, "1.4.0")
	}
	w.workflow(t, "docs/monorepo.md", workflow)
	return w.commit(t)
}

func TestTagOfOneConnector(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.monorepo(t, "release.yml")
	log := w.must(t, "release.yml", "push", tag("source-crm/v1.4.0"))
	if held := holds(t, w.airbyte); !strings.Contains(held, "/acme/source-crm:1.4.0") || strings.Contains(held, "source-erp") {
		t.Errorf("Airbyte holds\n%s\n%s", held, log)
	}
	if log, err := w.run(t, "release.yml", "push", tag("source-crm/v1.5.0")); err == nil || !strings.Contains(log, "AP108") {
		t.Errorf("a tag that metadata.yaml contradicts: %v\n%s", err, log)
	}
	// What the page says of tags with a dash.
	file := filepath.Join(w.dir, ".github/workflows/release.yml")
	text, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	dashed := strings.NewReplacer(`"*/v*"`, `"*-v*"`, "NAME%/v*", "NAME%-v*").Replace(string(text))
	if strings.Count(dashed, "-v*") != 2 {
		t.Fatalf("got\n%s", dashed)
	}
	write(t, file, dashed)
	w.must(t, "release.yml", "push", tag("source-lake-v1.4.0"))
	if held := holds(t, w.airbyte); !strings.Contains(held, "/acme/source-lake:1.4.0") || strings.Contains(held, "source-erp") {
		t.Errorf("Airbyte holds\n%s", held)
	}
}

func TestOneRunForAllThatChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.monorepo(t, "changed.yml")
	w.connector(t, "connectors/source-erp", "source-erp", "1.5.0")
	w.commit(t)
	log := w.must(t, "changed.yml", "push", branch(first))
	if held := holds(t, w.airbyte); !strings.Contains(held, "/acme/source-erp:1.5.0") || strings.Contains(held, "source-crm") {
		t.Errorf("Airbyte holds\n%s\n%s", held, log)
	}
	log = w.must(t, "changed.yml", "push", branch(strings.Repeat("0", 40)))
	if !strings.Contains(log, "2 created, 1 unchanged") {
		t.Errorf("a branch's first push:\n%s", log)
	}
}

func TestJobForEachThatChanged(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	first := w.monorepo(t, "matrix.yml")
	w.connector(t, "connectors/source-erp", "source-erp", "1.5.0")
	w.connector(t, "connectors/source-lake", "source-lake", "1.5.0")
	w.commit(t)
	log := w.must(t, "matrix.yml", "push", branch(first))
	held := holds(t, w.airbyte)
	if !strings.Contains(held, "/acme/source-erp:1.5.0") || !strings.Contains(held, "/acme/source-lake:1.5.0") || strings.Contains(held, "source-crm") {
		t.Errorf("Airbyte holds\n%s\n%s", held, log)
	}
	if got := strings.Count(log, "1 created"); got < 2 || !strings.Contains(log, "map[connector:connectors/source-lake") {
		t.Errorf("%d jobs created:\n%s", got, log)
	}
	log = w.must(t, "matrix.yml", "push", branch(first))
	if strings.Contains(log, "Matrix: map") {
		t.Errorf("there was nothing to do, and a job ran:\n%s", log)
	}
	// One whose tag holds another image stops no other.
	first = w.git(t, "rev-parse", "HEAD")
	write(t, filepath.Join(w.dir, "connectors/source-erp/components.py"), "CHANGED = True\n")
	w.connector(t, "connectors/source-lake", "source-lake", "1.6.0")
	w.commit(t)
	if log, err := w.run(t, "matrix.yml", "push", branch(first)); err == nil || !strings.Contains(log, "AP308") || !strings.Contains(log, "1 updated") {
		t.Errorf("%v\n%s", err, log)
	}
	if held := holds(t, w.airbyte); !strings.Contains(held, "/acme/source-erp:1.5.0") || !strings.Contains(held, "/acme/source-lake:1.6.0") {
		t.Errorf("Airbyte holds\n%s", held)
	}
}
