package config

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// Target is an image that a verb of the pulling side is about.
type Target struct {
	// Label is how it was named: a folder or the image itself.
	Label      string
	Repository image.Repository
	// Tag is empty where none is known, and where the verb needs none.
	Tag string
	// Digest is what the tag is said to point to, or empty.
	Digest string
}

// pulls tells whether the verb looks after the pulling side: its arguments may be images, and nothing is published.
func (v Verb) pulls() bool { return v == VerifyPull || v == PullSecret || v == Doctor }

// targets are the images, and for PullSecret the registries, that were named; those of the connector in the working
// directory where nothing was, if there is one.
func (r *reader) targets() (found []Target, registries []string) {
	named := r.given("connectors")
	items := r.list("connectors")
	if r.values["connectors"].from == fromArguments {
		items = slices.DeleteFunc(slices.Clone(r.Args), func(a string) bool { return strings.TrimSpace(a) == "" })
	}
	var labels []string
	for _, item := range items {
		switch item = strings.TrimSpace(item); {
		case named && !r.exists(item) && r.unlikeFolder(item):
		case r.exists(item) || !imagePattern.MatchString(item) || strings.HasPrefix(item, "."):
			if named || isConnector(r.path(item)) {
				labels = append(labels, r.expand(item, false)...)
			}
		case strings.Contains(item, "/"):
			found = append(found, r.imageTarget(item)...)
		case r.Verb == PullSecret:
			registries = append(registries, item)
		default:
			r.reject(fault.BadRepository, "connectors", fmt.Sprintf("%q is a registry, and no image", fault.Bounded(item)), "Name the image with its tag, such as ghcr.io/acme/source-erp:1.2.3.")
		}
	}
	found = append(found, r.folderTargets(labels)...)
	if len(items) > 0 && !named && len(labels) == 0 && r.given("image") && !strings.Contains(r.values["image"].text, placeholder) {
		found = append(found, r.inputTarget()...)
	}
	if r.Verb != VerifyPull || r.text("verify-pull") == string(DockerHost) || r.given("load") {
		var all []connector.Connector
		for _, t := range found {
			all = append(all, connector.Connector{Repository: t.Repository})
		}
		r.oneRegistry(all)
	}
	// Whether PullSecret needs a registry depends on what it is to do with it.
	if len(found)+len(registries) == 0 && len(r.problems) == 0 && r.Verb == VerifyPull {
		r.reject(fault.MissingInput, "connectors", "no image is named, and the working directory is no connector",
			"Name an image with its tag, such as ghcr.io/acme/source-erp:1.2.3, or a connector's folder.")
	}
	return found, registries
}

// imagePattern is what begins with a registry: a host with a dot, a port, or localhost.
var imagePattern = regexp.MustCompile(`^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+|localhost)(/.*)?$`)

func (r *reader) exists(path string) bool {
	_, err := os.Stat(r.path(path))
	return err == nil
}

// hubPattern is the short form of an image of Docker Hub's, as the docker command takes it.
var hubPattern = regexp.MustCompile(`^[a-z0-9_]+/[a-z0-9._-]+(:[\w][\w.-]*)?$`)

// unlikeFolder refuses names that other programs take for images or registries, and says how they are written here. A name
// in the short form of Docker Hub's would else be called a folder that is not there.
func (r *reader) unlikeFolder(item string) bool {
	rest := strings.TrimPrefix(strings.TrimPrefix(item, "https://"), "http://")
	switch {
	case rest != item:
		r.reject(fault.BadRepository, "connectors", fmt.Sprintf("%q is an address, and no name of a registry or an image", fault.Bounded(withoutUser(item))),
			"Write it without the scheme: ghcr.io, or ghcr.io/acme/source-erp:1.2.3.")
	case hubPattern.MatchString(item) && !imagePattern.MatchString(item) && !r.exists(path(item)):
		r.reject(fault.BadRepository, "connectors", fmt.Sprintf("%q is no folder, and an image begins with its registry", fault.Bounded(item)),
			"For an image of Docker Hub's write docker.io/"+item+".")
	default:
		return false
	}
	return true
}

// path is the first folder of a path with slashes.
func path(item string) string {
	first, _, _ := strings.Cut(item, "/")
	return first
}

// withoutUser is a URL without its user information, which may hold a password.
func withoutUser(address string) string {
	scheme, rest, _ := strings.Cut(address, "://")
	return scheme + "://" + rest[strings.LastIndex(rest, "@")+1:]
}

// digestPattern is a digest as registries and container runtimes tell it.
var digestPattern = regexp.MustCompile(`^sha256:[0-9a-f]{64}$`)

// imageTarget reads REPOSITORY:TAG, or with what it is to be REPOSITORY:TAG@DIGEST. A tag that is missing is that of the
// input.
func (r *reader) imageTarget(text string) []Target {
	c := chosen{text, `input "connectors"`}
	named, digest, pinned := strings.Cut(text, "@")
	repository, tag := named, r.text("tag")
	if at := strings.LastIndex(named, ":"); at > strings.LastIndex(named, "/") {
		repository, tag = named[:at], named[at+1:]
	}
	if pinned && (!digestPattern.MatchString(digest) || tag == "" && r.Verb == VerifyPull) {
		r.refuse(fault.NoTag, c, fmt.Sprintf("%q has no tag before a digest of the form sha256:…", fault.Bounded(text)),
			"Give the tag, by which Airbyte pulls, and behind it the digest if you like: "+repository+":1.2.3@sha256:….")
		return nil
	}
	parsed, err := image.ParseRepository(repository)
	if err != nil {
		r.rephrase(c, err)
		return nil
	}
	if tag == "" && r.Verb == VerifyPull {
		r.refuse(fault.NoTag, c, fmt.Sprintf("%q has no tag", fault.Bounded(text)), "Name the tag that Airbyte would pull: "+string(parsed)+":1.2.3.")
		return nil
	}
	if tag != "" {
		if err := image.CheckTag(tag); err != nil {
			r.rephrase(c, err)
			return nil
		}
	}
	return []Target{{Label: text, Repository: parsed, Tag: tag, Digest: digest}}
}

// inputTarget is the image of the input of that name.
func (r *reader) inputTarget() []Target {
	text := r.text("image")
	if tag := r.text("tag"); tag != "" {
		text += ":" + tag
	}
	return r.imageTarget(text)
}

// folderTargets are the images of connectors in folders.
func (r *reader) folderTargets(labels []string) []Target {
	var folders []folder
	for _, label := range labels {
		f := folder{label: label, dir: r.path(label)}
		absolute, err := filepath.Abs(f.dir)
		if err != nil {
			absolute = f.dir
		}
		f.name = filepath.Base(absolute)
		r.readMetadata(&f)
		folders = append(folders, f)
	}
	r.checkShared(folders)
	var git gitTag
	if r.Verb == VerifyPull {
		git = r.gitTag(folders)
	}
	var found []Target
	for _, f := range folders {
		if f.broken {
			continue
		}
		repository, ok := r.repository(f)
		t := Target{Label: f.label, Repository: repository}
		if r.Verb == VerifyPull {
			t.Tag = r.tag(f, git, false)
			ok = ok && t.Tag != ""
		}
		if ok {
			found = append(found, t)
		}
	}
	return found
}
