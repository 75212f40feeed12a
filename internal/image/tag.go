package image

import (
	"fmt"
	"regexp"
	"slices"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

var tagGrammar = regexp.MustCompile(`^[A-Za-z0-9_][A-Za-z0-9._-]{0,127}$`)

// CheckTag says whether tag is legal in a registry (OCI distribution specification: at most 128 characters of
// letters, digits and ._-, not beginning with . or -). Its error is a *fault.Error with the code BadTag.
func CheckTag(tag string) error {
	if tagGrammar.MatchString(tag) {
		return nil
	}
	return &fault.Error{Code: fault.BadTag, Op: "read the image tag", Object: fmt.Sprintf("%q", fault.Bounded(tag)),
		Cause: "it is not a legal tag", Remedy: "Use at most 128 letters, digits and . _ -, beginning with a letter, a digit or _."}
}

// mutableTags are the names that move by convention. Airbyte reads a definition's spec once per tag and nodes keep
// an image once per tag, so what moves under them is never seen.
var mutableTags = []string{"latest", "dev", "main", "master", "nightly"}

// IsMutable tells whether tag is one that moves by convention.
func IsMutable(tag string) bool { return slices.Contains(mutableTags, tag) }
