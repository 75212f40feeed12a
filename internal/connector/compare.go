package connector

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/big"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// SameSpec tells whether two JSON texts say the same: the order of keys does not matter, and numbers compare by value,
// since Airbyte's database may write 1.0 for 1. Text that is not JSON equals nothing.
func SameSpec(a, b json.RawMessage) bool {
	x, errX := decodeJSON(a)
	y, errY := decodeJSON(b)
	return errX == nil && errY == nil && sameJSON(x, y)
}

func sameJSON(x, y any) bool {
	switch x := x.(type) {
	case map[string]any:
		y, ok := y.(map[string]any)
		return ok && maps.EqualFunc(x, y, sameJSON)
	case []any:
		y, ok := y.([]any)
		return ok && slices.EqualFunc(x, y, sameJSON)
	case json.Number:
		y, ok := y.(json.Number)
		return ok && sameNumber(x, y)
	}
	return x == y
}

func sameNumber(x, y json.Number) bool {
	if x == y {
		return true
	}
	if !plainNumber(x) || !plainNumber(y) {
		return false
	}
	a, okA := new(big.Rat).SetString(x.String())
	b, okB := new(big.Rat).SetString(y.String())
	return okA && okB && a.Cmp(b) == 0
}

// maxSpecDiff is how many differences SpecDiff tells.
const maxSpecDiff = 20

// SpecDiff says, in sentences for a person, how a new connectionSpecification can break configurations that were made
// for the old one: properties that are required now, that are gone, or that have another type. Airbyte does not check
// existing configurations against a new specification. The list is sorted and holds 20 entries at most. It is empty
// when nothing of that kind changed, or when one of the two is no JSON object.
func SpecDiff(old, new json.RawMessage) []string {
	before, errBefore := decodeJSON(old)
	after, errAfter := decodeJSON(new)
	if errBefore != nil || errAfter != nil {
		return nil
	}
	changes := schemaChanges(before, after, "", maxSpecDepth)
	slices.Sort(changes)
	if rest := len(changes) - maxSpecDiff; rest > 0 {
		changes = append(changes[:maxSpecDiff-1], fmt.Sprintf("… and %d more", rest+1))
	}
	return changes
}

func schemaChanges(before, after any, at string, depth int) []string {
	old, okOld := before.(map[string]any)
	now, okNow := after.(map[string]any)
	if !okOld || !okNow || depth == 0 {
		return nil
	}
	var changes []string
	add := func(name, format string, args ...any) {
		changes = append(changes, fmt.Sprintf("%q ", fault.Bounded(at+name))+fmt.Sprintf(format, args...))
	}
	wasRequired, _ := old["required"].([]any)
	required, _ := now["required"].([]any)
	for _, item := range required {
		if name, ok := item.(string); ok && !slices.Contains(wasRequired, item) {
			add(name, "is required now")
		}
	}
	oldProperties, _ := old["properties"].(map[string]any)
	properties, _ := now["properties"].(map[string]any)
	for name, was := range oldProperties {
		is, there := properties[name]
		if !there {
			add(name, "is gone")
			continue
		}
		if a, b := typeNames(was), typeNames(is); narrowed(a, b) {
			add(name, "was %s and is %s", orAny(a), orAny(b))
			continue
		}
		changes = append(changes, schemaChanges(was, is, at+name+".", depth-1)...)
	}
	return changes
}

// typeNames are a schema's types in one order; none means that every type is allowed.
func typeNames(schema any) []string {
	s, _ := schema.(map[string]any)
	var names []string
	switch t := s["type"].(type) {
	case string:
		names = []string{fault.Bounded(t)}
	case []any:
		for _, item := range t {
			names = append(names, fault.Bounded(fmt.Sprint(item)))
		}
		slices.Sort(names)
	}
	return names
}

// narrowed tells whether a value of one of the old types may not be allowed any more.
func narrowed(old, new []string) bool {
	if len(new) == 0 {
		return false
	}
	return len(old) == 0 || slices.ContainsFunc(old, func(t string) bool {
		return !slices.Contains(new, t) && (t != "integer" || !slices.Contains(new, "number"))
	})
}

func orAny(types []string) string {
	if len(types) == 0 {
		return "any type"
	}
	return strings.Join(types, " or ")
}
