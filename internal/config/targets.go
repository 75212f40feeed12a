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
	if len(found)+len(registries) == 0 && len(r.problems) == 0 && r.Verb != Doctor {
		what := "an image with its tag, such as ghcr.io/acme/source-erp:1.2.3"
		if r.Verb == PullSecret {
			what = "a registry or an image, such as ghcr.io or ghcr.io/acme/source-erp"
		}
		r.reject(fault.MissingInput, "connectors", "no image is named, and the working directory is no connector", "Name "+what+", or a connector's folder.")
	}
	return found, registries
}

// imagePattern is what begins with a registry: a host with a dot, a port, or localhost.
var imagePattern = regexp.MustCompile(`^([A-Za-z0-9-]+(\.[A-Za-z0-9-]+)+(:\d+)?|[A-Za-z0-9-]+:\d+|localhost)(/.*)?$`)

func (r *reader) exists(path string) bool {
	_, err := os.Stat(r.path(path))
	return err == nil
}

// imageTarget reads REPOSITORY:TAG. A tag that is missing is that of the input.
func (r *reader) imageTarget(text string) []Target {
	repository, tag := text, r.text("tag")
	if at := strings.LastIndex(text, ":"); at > strings.LastIndex(text, "/") {
		repository, tag = text[:at], text[at+1:]
	}
	c := chosen{text, `input "connectors"`}
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
	return []Target{{Label: text, Repository: parsed, Tag: tag}}
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
