package sandbox

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// NewestAirbyte is the version that the stand-in is by default.
const NewestAirbyte = "2.2.0"

// version is a release of Airbyte, or one of the points at which its API changed.
type version [3]int

// newest is later than every release: development builds, which report "dev".
var newest = version{1 << 20, 0, 0}

// parseVersion reads "1.8.0", "v1.8" or "1.8.0-rc1".
func parseVersion(s string) (version, bool) {
	s, _, _ = strings.Cut(strings.TrimPrefix(s, "v"), "-")
	parts := strings.Split(s, ".")
	if len(parts) > 3 {
		return version{}, false
	}
	var v version
	for i, p := range parts {
		n, err := strconv.Atoi(p)
		if err != nil || n < 0 {
			return version{}, false
		}
		v[i] = n
	}
	return v, true
}

// CheckAirbyteVersion says whether the stand-in can be version s: three numbers, or "dev" for a development build.
// Its error is a *fault.Error with the code InvalidInput.
func CheckAirbyteVersion(s string) error {
	if _, ok := parseVersion(s); ok || s == "dev" {
		return nil
	}
	return &fault.Error{Code: fault.InvalidInput, Op: "start the sandbox", Object: fmt.Sprintf("Airbyte %q", fault.Bounded(s)),
		Cause: "it is not a version", Remedy: fmt.Sprintf("Give a version such as %s, or dev.", NewestAirbyte)}
}

func (v version) less(o version) bool {
	for i := range v {
		if v[i] != o[i] {
			return v[i] < o[i]
		}
	}
	return false
}

// span is the range of versions that have something: from the first, up to but without the second. The zero until
// means that it is still there.
type span struct{ from, until version }

func (s span) holds(v version) bool {
	return !v.less(s.from) && (s.until == version{} || v.less(s.until))
}

// What changed in Airbyte's API, and when. The versions are those of its OpenAPI documents and sources.
var (
	hasScopes              = span{from: version{0, 50, 7}}
	hasInstanceConfig      = span{from: version{0, 50, 9}}
	asksConnectorRegistry  = span{from: version{0, 50, 15}}
	hasOrganizationLists   = span{from: version{0, 50, 25}}
	hasCustomFlag          = span{from: version{0, 50, 28}}
	hasTokenEndpoint       = span{from: version{0, 50, 38}}
	hasOldOverrideField    = span{until: version{0, 50, 54}}
	hasInstanceVersion     = span{from: version{0, 57, 4}}
	hasAuthMode            = span{from: version{0, 60, 0}}
	hasPublicToken         = span{from: version{0, 63, 7}}
	hasPublicAPI           = span{from: version{0, 63, 9}}
	hasDbtFields           = span{until: version{0, 63, 20}}
	canRename              = span{from: version{1, 1, 0}}
	hasEnterpriseEdition   = span{from: version{1, 1, 0}}
	hasTypedLogs           = span{from: version{1, 2, 0}}
	hasStackTraces         = span{until: version{1, 5, 0}}
	databaseErrorsConflict = span{from: version{1, 5, 0}}
	hasLongTokens          = span{until: version{1, 6, 0}}
	hasEnterpriseFlag      = span{from: version{1, 6, 0}}
	breaksCustomUpdates    = span{from: version{1, 6, 0}, until: version{1, 6, 2}}
	breaksScopedCreates    = span{from: version{1, 6, 0}, until: version{1, 7, 0}}
	hasWorkspaceList       = span{until: version{1, 7, 0}}
	updateNeedsWorkspace   = span{from: version{1, 7, 0}}
	hasCheckCommand        = span{from: version{1, 7, 0}}
	needsSpecDocumentation = span{until: version{1, 8, 0}}
	pagesActors            = span{from: version{1, 8, 0}}
	hidesErrors            = span{from: version{2, 0, 0}}
	hasSpecCommand         = span{from: version{2, 0, 0}}
	takesSpecification     = span{from: version{2, 1, 0}}

	// These have the first version at hand whose document has them; it may have been an earlier one.
	hasRefreshes      = span{from: version{0, 63, 0}}
	hasCreationTimes  = span{from: version{1, 5, 0}}
	hasFileTransfer   = span{from: version{1, 5, 0}}
	hasDataActivation = span{from: version{1, 7, 0}}
)
