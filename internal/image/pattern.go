package image

import (
	"errors"
	"fmt"
	"regexp"
	"regexp/syntax"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// DefaultTagPattern takes v1.2.3 and 1.2.3, each with a pre-release such as -rc.1, and the same behind a connector's
// name: source-x/v1.2.3, source-x/1.2.3 and source-x-v1.2.3. Build metadata ("1.2.3+5") is left out, because an image
// tag can't hold a plus sign. The bare version stands first, so that v1.2.3-v4 is never read as a connector "v1.2.3".
const DefaultTagPattern = `(?:v?|(?P<name>[A-Za-z0-9][A-Za-z0-9._-]*)(?:/v?|-v))(?P<version>\d+\.\d+\.\d+(?:-[0-9A-Za-z.-]+)?)`

// maxPatternLength bounds a tag pattern, in bytes; regexp itself bounds what one of that length can cost.
const maxPatternLength = 1000

// TagPattern reads a version, and in a repository of many connectors a connector's name, from a git tag.
type TagPattern struct {
	whole *regexp.Regexp
}

// ParseTagPattern compiles a regular expression in Go's syntax with a group named "version" and optionally one named
// "name". It has to match a git tag from beginning to end, with or without ^ and $. The error is a *fault.Error with
// the code InvalidInput.
func ParseTagPattern(pattern string) (TagPattern, error) {
	bad := func(cause, remedy string) (TagPattern, error) {
		return TagPattern{}, &fault.Error{Code: fault.InvalidInput, Op: "read the tag pattern",
			Object: fmt.Sprintf("%q", fault.Bounded(pattern)), Cause: cause, Remedy: remedy}
	}
	if len(pattern) > maxPatternLength {
		return bad(fmt.Sprintf("it has %d characters, at most %d are read", len(pattern), maxPatternLength), "Use a shorter pattern.")
	}
	// The pattern is compiled alone first: "a)|(b" is wrong although it would close the group put around it below.
	if _, err := regexp.Compile(pattern); err != nil {
		cause := "it is not a regular expression"
		if detail, ok := errors.AsType[*syntax.Error](err); ok {
			cause += ": " + string(detail.Code)
		}
		return bad(cause, "Use Go's syntax, as in "+DefaultTagPattern+".")
	}
	whole := regexp.MustCompile(`^(?:` + pattern + `)$`)
	if whole.SubexpIndex("version") < 0 {
		return bad(`it has no group named "version"`, "Put the part that is the image's tag in a group, such as v(?P<version>.+).")
	}
	return TagPattern{whole: whole}, nil
}

// Match reads a git tag such as "source-erp/v1.2.3", without refs/tags. The name is empty when the tag holds none; ok
// tells whether the tag matches and holds a version.
func (p TagPattern) Match(gitTag string) (version, name string, ok bool) {
	for i, text := range p.whole.FindStringSubmatch(gitTag) {
		// A pattern may name a group in each of its alternatives; the one that took part is not empty.
		switch group := p.whole.SubexpNames()[i]; {
		case group == "version" && version == "":
			version = text
		case group == "name" && name == "":
			name = text
		}
	}
	if version == "" {
		return "", "", false
	}
	return version, name, true
}
