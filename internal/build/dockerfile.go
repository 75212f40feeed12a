package build

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"

	"github.com/containerd/platforms"
	"github.com/distribution/reference"
	"github.com/moby/buildkit/frontend/dockerfile/parser"
	"github.com/moby/patternmatcher/ignorefile"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// defaultDockerfile is the Dockerfile of a folder that names none.
const defaultDockerfile = "Dockerfile"

// maxDockerfileBytes is far above the longest Dockerfiles in use, which have some ten kilobytes.
const maxDockerfileBytes = 4 << 20

// way is how a connector's image comes about.
type way int

// The ways: it exists; it is put together without an engine; a Dockerfile says how, which the folder has or which
// Airbyte's layout for the connector's language stands for.
const (
	wayNone way = iota
	waySource
	wayAssemble
	wayDockerfile
	wayLayout
)

// wayOf decides the way. A Dockerfile counts for more than a layout, one that the inputs name for more than anything,
// and the tag language:manifest-only for more than a Dockerfile that happens to be there.
func wayOf(c connector.Connector) way {
	manifest, dockerfile := isFile(c.Dir, manifestFile), isFile(c.Dir, defaultDockerfile)
	switch {
	case c.Source != "":
		return waySource
	case c.Recipe.Dockerfile != "":
		return wayDockerfile
	case manifest && (!dockerfile || manifestOnly(c.Metadata)):
		if hasRequirements(c.Dir) {
			return wayLayout
		}
		return wayAssemble
	case dockerfile:
		return wayDockerfile
	case layoutOf(c) != nil:
		return wayLayout
	default:
		return wayNone
	}
}

// blueprint is everything that an image depends on which is built from a Dockerfile, but for its base images.
type blueprint struct {
	connector connector.Connector
	// text is the Dockerfile. name is what the frontend calls it, file its path for people, empty where it is in memory.
	text       []byte
	name, file string
	// ignore is the .dockerignore that counts, patterns what it says.
	ignore   []byte
	patterns []string
	// frontend is the image that the Dockerfile's first line wants to be read by; empty when it is the one in here.
	frontend string
	// platforms are never none.
	platforms []string
	// source is the digest of the sources.
	source string
	commit commit
}

// blueprint reads a connector's Dockerfile and folder. Its error is a *fault.Error, or several of them joined, or the
// context's.
func (b *Builder) blueprint(ctx context.Context, c connector.Connector, w way) (*blueprint, error) {
	p := &blueprint{connector: c}
	wanted := c.Recipe.Platforms
	if len(wanted) == 0 {
		wanted = []string{amd64}
	}
	for _, text := range wanted {
		platform, err := platforms.Parse(text)
		if err != nil {
			return nil, &fault.Error{Code: fault.InvalidInput, Op: "read the input", Object: "platforms",
				Cause: fault.Bounded(err.Error()), Remedy: "Write such as linux/amd64.", Err: err}
		}
		// As BuildKit writes it: without the variant that goes without saying.
		p.platforms = append(p.platforms, platforms.FormatAll(platforms.Normalize(platform)))
	}
	read := p.readDockerfile
	if w == wayLayout {
		read = p.makeLayout
	}
	if err := read(); err != nil {
		return nil, err
	}
	p.frontend = foreignFrontend(p.text, c.Recipe.Args)
	entries, err := walkContext(ctx, c.Dir, p.patterns, p.keepsGit())
	if err == nil {
		err = hashContext(ctx, c.Dir, entries)
	}
	switch {
	case ctx.Err() != nil:
		return nil, ctx.Err()
	case err != nil:
		return nil, &fault.Error{Code: fault.BuildFailed, Op: "read the folder", Object: c.Label,
			Cause: fault.Bounded(err.Error()), Remedy: "Make it readable, or leave it out by .dockerignore.", Err: err}
	}
	if err := credentialFiles(c, entries); err != nil {
		return nil, err
	}
	p.source = p.sourceDigest(entries)
	p.commit = findCommit(ctx, c.Dir, b.options.Getenv)
	return p, nil
}

// readDockerfile reads the folder's Dockerfile and the .dockerignore that belongs to it: the one that is named after the
// Dockerfile and lies beside it, else the folder's.
func (p *blueprint) readDockerfile() error {
	c := p.connector
	relative := c.Recipe.Dockerfile
	if relative == "" {
		relative = defaultDockerfile
	}
	p.file = filepath.FromSlash(relative)
	if !filepath.IsAbs(p.file) {
		p.file = filepath.Join(c.Dir, p.file)
	}
	p.name = filepath.Base(p.file)
	var err error
	if p.text, err = readBounded(p.file, maxDockerfileBytes); err != nil {
		return p.bad(p.file, 0, err, "Check the input \"dockerfile\": it is relative to the connector's folder.")
	}
	for _, file := range []string{p.file + ignoreFile, filepath.Join(c.Dir, ignoreFile)} {
		p.ignore, err = readBounded(file, maxDockerfileBytes)
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err == nil {
			p.patterns, err = ignorefile.ReadAll(bytes.NewReader(p.ignore))
		}
		if err != nil {
			return p.bad(file, 0, err, "Mend it; it has a pattern on each line.")
		}
		break
	}
	return nil
}

// bad is the error of a Dockerfile that can't be used.
func (p *blueprint) bad(file string, line int, err error, remedy string) error {
	object := file
	if object == "" {
		object = "the Dockerfile of Airbyte's layout for " + p.connector.Label
	}
	if line > 0 {
		object = fmt.Sprintf("%s:%d", object, line)
	}
	return &fault.Error{Code: fault.BadDockerfile, Op: "read", Object: object,
		Cause: fault.Bounded(err.Error()), Remedy: remedy, Err: err}
}

// keepsGit tells whether git's own folder goes into the build. It never does unless it was asked for by the build
// argument that BuildKit has for that: it may hold credentials and differs between clones of the same commit.
func (p *blueprint) keepsGit() bool {
	return slices.Contains([]string{"1", "true"}, strings.ToLower(p.connector.Recipe.Args["BUILDKIT_CONTEXT_KEEP_GIT_DIR"]))
}

// foreignFrontend is the image that a Dockerfile wants to be read by, where that is another one than Docker's own. What
// Docker's own would do is done in here: it needs no pull, and knows more than an old engine's.
func foreignFrontend(text []byte, args map[string]string) string {
	wanted, found := args["BUILDKIT_SYNTAX"]
	if wanted, _, _ = strings.Cut(strings.TrimSpace(wanted), " "); !found || wanted == "" {
		if wanted, _, _, found = parser.DetectSyntax(text); !found {
			return ""
		}
	}
	named, err := reference.ParseNormalizedNamed(wanted)
	if err != nil {
		return wanted
	}
	tag := ""
	if tagged, ok := named.(reference.Tagged); ok {
		tag = tagged.Tag()
	}
	own := named.Name() == "docker.io/docker/dockerfile" || named.Name() == "docker.io/docker/dockerfile-upstream"
	// The labs channel has instructions that the stable one does not know.
	if own && !strings.HasSuffix(tag, "labs") {
		return ""
	}
	return wanted
}

// epochArgument finds a Dockerfile that wants to know the commit's time. It is not given to others, because it would
// take WORKDIR, and all that follows, out of the cache with each commit.
var epochArgument = regexp.MustCompile(`(?mi)^[ \t]*ARG[ \t](.*[ \t])?SOURCE_DATE_EPOCH([ \t=]|$)`)

// args are the build arguments.
func (p *blueprint) args() map[string]string {
	args := map[string]string{}
	for name, value := range p.connector.Recipe.Args {
		args[name] = value
	}
	if _, given := args["SOURCE_DATE_EPOCH"]; !given && p.commit.epoch != "" && epochArgument.Match(p.text) {
		args["SOURCE_DATE_EPOCH"] = p.commit.epoch
	}
	return args
}

// buildDockerfile builds what a Dockerfile describes and has it judged on the way, unless the tag holds an image of the
// same sources already.
func (b *Builder) buildDockerfile(
	ctx context.Context, c connector.Connector, w way, log connector.Log, checks connector.Checks,
) (image.Artifact, error) {
	p, err := b.blueprint(ctx, c, w)
	if err != nil {
		return image.Artifact{}, err
	}
	// Both wait for registries, and together they are all that an unchanged connector waits for.
	var (
		held  image.Artifact
		facts connector.Image
		same  bool
		wg    sync.WaitGroup
	)
	wg.Go(func() { held, facts, same = b.held(ctx, p, log) })
	v, err := b.preview(ctx, p)
	wg.Wait()
	for _, f := range v.findings {
		log.Finding(f)
	}
	if same {
		// What can't be read of the base image does not matter to an image that is there.
		log.Info("%s was made from these sources.", c.Reference())
		b.noticeMoved(facts, v, log)
		return held, b.judge(ctx, c, held, facts, log, checks)
	}
	switch {
	case err != nil && (!p.engineMayKnow(err) || checks.Candidate == nil && !p.unreadHere(err)):
		return image.Artifact{}, err
	case err != nil:
		log.Info("The build engine has to find out what can't be told here: %s.", fault.Bounded(causeOf(err)))
	default:
		if err := checks.Plan(ctx, v.facts); err != nil {
			return image.Artifact{}, err
		}
	}
	if checks.Candidate == nil {
		return image.Artifact{}, nil
	}
	return b.solve(ctx, p, v, log, checks)
}

// causeOf is what went wrong without what was being done, for a line of the log.
func causeOf(err error) string {
	if e, ok := errors.AsType[*fault.Error](err); ok {
		return e.Object + ": " + e.Cause
	}
	return err.Error()
}

// held opens the image that the tag holds, when it was made from the same sources. An image that can't be read is
// none: the build that follows tells why, where it matters.
func (b *Builder) held(ctx context.Context, p *blueprint, log connector.Log) (image.Artifact, connector.Image, bool) {
	c := p.connector
	if c.Held == "" {
		return image.Artifact{}, connector.Image{}, false
	}
	a, err := b.options.Open(ctx, string(c.Repository)+"@"+c.Held)
	var facts connector.Image
	if err == nil {
		facts, err = connector.Describe(a)
	}
	if err != nil {
		log.Info("The image that %s holds can't be read: %s.", c.Reference(), fault.Bounded(err.Error()))
		return image.Artifact{}, connector.Image{}, false
	}
	same := len(facts.Platforms) > 0
	for _, platform := range facts.Platforms {
		same = same && platform.Labels[sourceLabel] == p.source
	}
	return a, facts, same
}

// noticeMoved tells that an image's base has been replaced since it was made.
func (b *Builder) noticeMoved(facts connector.Image, v *preview, log connector.Log) {
	for _, platform := range facts.Platforms {
		was := platform.Labels[baseDigestLabel]
		if v.base.digest == "" || was == "" || was == v.base.digest || platform.Labels[baseNameLabel] != v.base.name {
			continue
		}
		log.Finding(connector.Finding{Code: fault.BaseMoved, Severity: connector.Notice,
			Message: fmt.Sprintf("The image was built on %s when that was %s; it is %s now.", v.base.name, was, v.base.digest),
			Remedy:  "Publish under a new tag to build on the new one."})
		return
	}
}

// credentialFiles is the error of credential files among those that go into the build.
func credentialFiles(c connector.Connector, entries []contextEntry) error {
	var errs []error
	for _, e := range entries {
		if f, found := credentialFinding(c.Dir, e.path); found {
			errs = append(errs, &fault.Error{Code: f.Code, Op: "build", Object: c.Label, Cause: f.Message, Remedy: f.Remedy})
		}
	}
	return errors.Join(errs...)
}
