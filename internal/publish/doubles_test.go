package publish_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
	"github.com/google/go-containerregistry/pkg/v1/empty"
	"github.com/google/go-containerregistry/pkg/v1/mutate"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

const (
	workspaceA = "11111111-1111-4111-8111-111111111111"
	workspaceB = "22222222-2222-4222-8222-222222222222"
	specJSON   = `{"type":"object","properties":{"start":{"type":"string"}}}`
)

// journal keeps the order of everything that was done to the world.
type journal struct {
	mu     sync.Mutex
	events []string
}

func (j *journal) add(format string, args ...any) {
	j.mu.Lock()
	defer j.mu.Unlock()
	j.events = append(j.events, fmt.Sprintf(format, args...))
}

// writes are the events that changed something.
func (j *journal) writes() []string {
	j.mu.Lock()
	defer j.mu.Unlock()
	var w []string
	for _, e := range j.events {
		if strings.HasPrefix(e, "push ") || strings.HasPrefix(e, "tag ") || strings.HasPrefix(e, "apply ") {
			w = append(w, e)
		}
	}
	return w
}

func testImage(t *testing.T, content string) v1.Image {
	t.Helper()
	img, err := mutate.Config(empty.Image, v1.Config{
		Env: []string{"AIRBYTE_ENTRYPOINT=/airbyte/run"}, Entrypoint: []string{"/airbyte/run"}, Labels: map[string]string{"content": content},
	})
	if err != nil {
		t.Fatal(err)
	}
	config, err := img.ConfigFile()
	if err != nil {
		t.Fatal(err)
	}
	config.OS, config.Architecture = "linux", "amd64"
	if img, err = mutate.ConfigFile(img, config); err != nil {
		t.Fatal(err)
	}
	return img
}

// builder gives each connector the image of its label.
type builder struct {
	*journal
	images  map[string]v1.Image
	held    map[string]image.Artifact
	run     connector.SpecRun
	runErr  error
	facts   func(*connector.Image)
	afterOK func()
	// unread makes a plan end without a word about the image, as where a base image can't be read.
	unread bool
}

func (b *builder) Build(ctx context.Context, c connector.Connector, _ connector.Log, checks connector.Checks) (image.Artifact, error) {
	a := image.Artifact{Image: b.images[c.Label]}
	if strings.HasPrefix(c.Source, "docker://") {
		_, digest, _ := strings.Cut(c.Source, "@")
		a = b.held[digest]
	} else if a.Image == nil {
		return a, errors.New("no image for " + c.Label)
	}
	if b.unread && checks.Candidate == nil {
		return image.Artifact{}, nil
	}
	found, err := connector.Describe(a)
	if err != nil {
		return a, err
	}
	if b.facts != nil {
		b.facts(&found)
	}
	if err := checks.Plan(ctx, found); err != nil {
		return image.Artifact{}, err
	}
	if checks.Candidate != nil {
		if err := checks.Candidate(ctx, candidate{b, found}); err != nil {
			return image.Artifact{}, err
		}
	}
	if b.afterOK != nil {
		b.afterOK()
	}
	return a, nil
}

type candidate struct {
	b     *builder
	found connector.Image
}

func (c candidate) Image() connector.Image { return c.found }

func (c candidate) RunSpec(context.Context) (connector.SpecRun, error) {
	c.b.add("spec %s", c.found.Digest)
	return c.b.run, c.b.runErr
}

// registry keeps tags and manifests apart, so that a tag on a manifest that was never pushed is noticed.
type registry struct {
	*journal
	mu        sync.Mutex
	manifests map[string]bool
	tags      map[string]string
	artifacts map[string]image.Artifact
	fail      map[string]error
	onPush    func()
	pullsAs   bool
}

func (r *registry) CheckPush(_ context.Context, repository image.Repository) error {
	r.add("check-push %s", repository)
	return r.fail["check-push"]
}

func (r *registry) CheckMove(_ context.Context, repository image.Repository, tag string) error {
	r.add("check-move %s:%s", repository, tag)
	return r.fail["check-move"]
}

func (r *registry) Prepare(_ context.Context, repository image.Repository) error {
	r.add("prepare %s", repository)
	return r.fail["prepare"]
}

func (r *registry) PullsAs() bool { return r.pullsAs }

func (r *registry) CheckPull(_ context.Context, repository image.Repository, digest string, _ connector.Log) error {
	r.add("check-pull %s@%s", repository, digest)
	return r.fail["check-pull"]
}

func (r *registry) Digest(_ context.Context, repository image.Repository, tag string) (string, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.add("digest %s:%s", repository, tag)
	return r.tags[string(repository)+":"+tag], r.fail["digest"]
}

func (r *registry) Push(_ context.Context, repository image.Repository, a image.Artifact, _ connector.Log) error {
	digest, err := a.Digest()
	if err != nil {
		return err
	}
	r.add("push %s@%s", repository, digest)
	if err := r.fail["push "+string(repository)]; err != nil {
		return err
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.manifests[string(repository)+"@"+digest] = true
	r.artifacts[digest] = a
	if r.onPush != nil {
		r.onPush()
	}
	return nil
}

func (r *registry) Tag(_ context.Context, repository image.Repository, tag string, a image.Artifact) error {
	digest, err := a.Digest()
	if err != nil {
		return err
	}
	r.add("tag %s:%s", repository, tag)
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.fail["tag"] != nil {
		return r.fail["tag"]
	}
	if !r.manifests[string(repository)+"@"+digest] {
		return errors.New("tagged a manifest that was not pushed")
	}
	r.tags[string(repository)+":"+tag] = digest
	return nil
}

// airbyte is an instance with a list of definitions per workspace; like the real one it has no unique key.
type airbyte struct {
	*journal
	mu         sync.Mutex
	workspaces []connector.Workspace
	defs       map[string][]connector.Definition
	specs      map[string]json.RawMessage
	fail       map[string]error
	registry   *registry
}

func (a *airbyte) Workspaces(_ context.Context, ids []string) ([]connector.Workspace, error) {
	a.add("workspaces")
	if a.fail["workspaces"] != nil {
		return nil, a.fail["workspaces"]
	}
	if len(ids) == 0 {
		return a.workspaces[:1], nil
	}
	var found []connector.Workspace
	for _, id := range ids {
		if err := a.fail["workspace "+id]; err != nil {
			return nil, err
		}
		found = append(found, connector.Workspace{ID: id})
	}
	return found, nil
}

func (a *airbyte) List(_ context.Context, workspaceID string, _ connector.Type) ([]connector.Definition, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add("list %s", workspaceID)
	return append([]connector.Definition(nil), a.defs[workspaceID]...), a.fail["list "+workspaceID]
}

func (a *airbyte) Check(_ context.Context, c connector.Change) (connector.Change, error) {
	return c, a.fail["check"]
}

func (a *airbyte) Apply(_ context.Context, c connector.Change, _ connector.Log) (connector.Definition, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.add("apply %s:%s in %s", c.Repository, c.Tag, c.WorkspaceID)
	a.registry.mu.Lock()
	digest := a.registry.tags[c.Repository+":"+c.Tag]
	a.registry.mu.Unlock()
	if digest == "" {
		return connector.Definition{}, errors.New("registered a tag that does not exist")
	}
	if err := a.fail["apply "+c.WorkspaceID]; err != nil {
		return connector.Definition{}, err
	}
	if c.Current == nil {
		d := connector.Definition{ID: fmt.Sprintf("new-%d", len(a.defs[c.WorkspaceID])), Name: c.Name, Repository: c.Repository, Tag: c.Tag, Custom: true}
		a.defs[c.WorkspaceID] = append(a.defs[c.WorkspaceID], d)
		return d, nil
	}
	for i, d := range a.defs[c.WorkspaceID] {
		if d.ID == c.Current.ID {
			a.defs[c.WorkspaceID][i].Tag, a.defs[c.WorkspaceID][i].Name = c.Tag, c.Name
			return a.defs[c.WorkspaceID][i], nil
		}
	}
	return connector.Definition{}, errors.New("no such definition")
}

func (a *airbyte) Spec(_ context.Context, _ string, _ connector.Type, definitionID string) (json.RawMessage, error) {
	a.add("spec-of %s", definitionID)
	if s := a.specs[definitionID]; s != nil {
		return s, nil
	}
	return json.RawMessage(specJSON), nil
}

type silentLog struct{}

func (silentLog) Group(string) func()       { return func() {} }
func (silentLog) Info(string, ...any)       {}
func (silentLog) Finding(connector.Finding) {}
func (silentLog) Untrusted(string, string)  {}

// world is a publisher with its doubles.
type world struct {
	*journal
	builder  *builder
	registry *registry
	airbyte  *airbyte
	*publish.Publisher
}

func newWorld(t *testing.T) *world {
	t.Helper()
	j := &journal{}
	reg := &registry{journal: j, manifests: map[string]bool{}, tags: map[string]string{}, artifacts: map[string]image.Artifact{}, fail: map[string]error{}}
	b := &builder{journal: j, images: map[string]v1.Image{"x": testImage(t, "one")}, held: reg.artifacts,
		run: connector.SpecRun{Stdout: []byte(`{"type":"SPEC","spec":{"connectionSpecification":` + specJSON + `}}`)}}
	a := &airbyte{journal: j, workspaces: []connector.Workspace{{ID: workspaceA, Name: "A"}}, defs: map[string][]connector.Definition{},
		specs: map[string]json.RawMessage{}, fail: map[string]error{}, registry: reg}
	return &world{journal: j, builder: b, registry: reg, airbyte: a, Publisher: &publish.Publisher{
		Builder: b, Registry: reg, Workspaces: a, Definitions: a, Register: true, IfTagExists: publish.Fail, Jobs: 2,
		NewLog: func(connector.Connector) (connector.Log, func()) { return silentLog{}, func() {} },
	}}
}

func source(label, tag string) connector.Connector {
	return connector.Connector{Label: label, Type: connector.Source, Name: "X " + label, Repository: image.Repository("registry.example/acme/source-" + label), Tag: tag}
}

func codes(err error) []fault.Code {
	var all []fault.Code
	for _, e := range fault.List(err) {
		all = append(all, e.Code)
	}
	return all
}
