package config

import (
	"fmt"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// gitTag is what the git tag of the CI job says.
type gitTag struct {
	// ref is the tag itself; empty when the job does not run for a tag, or when nothing can be read from it.
	ref string
	// version is the image's tag; name is the connector that it is meant for, empty for all.
	version, name string
	// wrong tells that there is a git tag of which a problem was reported already.
	wrong bool
}

// gitTag reads the git tag, unless the tag is given and there is nothing to derive.
func (r *reader) gitTag(folders []folder) gitTag {
	pattern, err := image.ParseTagPattern(r.text("tag-pattern"))
	if err != nil {
		r.rephrase(chosen{r.text("tag-pattern"), `input "tag-pattern"`}, err)
		return gitTag{wrong: true}
	}
	ref := r.gitRef()
	if ref == "" || r.given("tag") {
		return gitTag{}
	}
	version, name, ok := pattern.Match(ref)
	if !ok {
		r.reject(fault.NoTag, "tag", fmt.Sprintf("the git tag %q does not match tag-pattern", fault.Bounded(ref)),
			"Tag the commit as v1.2.3, or source-x/v1.2.3 for one connector of many, without a + since an image tag can't hold one; or set tag-pattern or tag.")
		return gitTag{wrong: true}
	}
	git := gitTag{ref: ref, version: version, name: name}
	// A connector whose metadata.yaml can't be read may be the one: that is reported already.
	mayBe := func(f folder) bool { return f.broken || git.means(f, r.text("image")) }
	if len(folders) > 0 && !slices.ContainsFunc(folders, mayBe) {
		var names []string
		for _, f := range folders {
			for _, n := range f.known(r.text("image")) {
				names = append(names, fmt.Sprintf("%q", n))
			}
		}
		slices.Sort(names)
		r.reject(fault.NoTag, "tag", fmt.Sprintf("the git tag %q is for a connector %q, and those there are go by the names %s",
			fault.Bounded(ref), fault.Bounded(name), fault.Bounded(strings.Join(slices.Compact(names), ", "))),
			"Correct connectors or the git tag, or set tag.")
		return gitTag{wrong: true}
	}
	return git
}

// means tells whether the git tag is meant for the connector; one without a name is meant for all.
func (g gitTag) means(f folder, repository string) bool {
	return g.name == "" || slices.ContainsFunc(f.known(repository), func(n string) bool { return strings.EqualFold(n, g.name) })
}

// known are the names by which a git tag may call the connector: its folder's, its image's and its own.
func (f folder) known(repository string) []string {
	var names []string
	if f.label == "" {
		names = append(names, image.Repository(repository).Base())
	} else {
		names = append(names, f.name, f.imageName())
	}
	if name := f.fields().Name; name != "" {
		names = append(names, name)
	}
	return names
}

// tag decides the connector's tag: the input, else the git tag, else metadata.yaml, which must not contradict the git tag.
func (r *reader) tag(f folder, git gitTag, immutable bool) string {
	c := r.choose(f, "tag", "dockerImageTag", f.fields().DockerImageTag)
	if git.ref != "" && git.means(f, r.text("image")) {
		if c.text != "" && c.text != git.version {
			r.refuse(fault.TagsDisagree, c, fmt.Sprintf("the git tag %q says %s, metadata.yaml says %s",
				fault.Bounded(git.ref), fault.Bounded(git.version), fault.Bounded(c.text)),
				"Correct dockerImageTag and tag again, or set tag to the one that is right.")
			return ""
		}
		c.text = git.version
	}
	if c.text == "" {
		if !git.wrong {
			r.refuse(fault.NoTag, c, "neither it nor data.dockerImageTag in metadata.yaml is set, and the job does not run for a git tag",
				"Set one of them to a version such as 1.2.3, or run for a git tag such as v1.2.3.")
		}
		return ""
	}
	if err := image.CheckTag(c.text); err != nil {
		r.rephrase(c, err)
		return ""
	}
	if immutable && image.IsMutable(c.text) {
		r.refuse(fault.MutableTag, c, fmt.Sprintf("%q moves by convention, but Airbyte reads a definition's spec and nodes pull an image once per tag", c.text),
			"Publish under a version and put "+c.text+" in extra-tags; or set if-tag-exists to overwrite, or register to false.")
	}
	return c.text
}

// extraTags may move, for Airbyte never hears of them.
func (r *reader) extraTags(tag string) []string {
	const input = "extra-tags"
	var tags []string
	for _, t := range r.list(input) {
		if err := image.CheckTag(t); err != nil {
			r.rephrase(chosen{t, fmt.Sprintf("input %q", input)}, err)
		}
		if t == tag {
			r.reject(fault.ConflictingInputs, input, fmt.Sprintf("%q is the tag itself", t), "Leave it out of extra-tags.")
			continue
		}
		tags = append(tags, t)
	}
	return tags
}
