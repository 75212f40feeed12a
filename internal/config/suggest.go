package config

import (
	"slices"
	"strings"
)

// maxNameBytes is far above the longest input's name; what is longer is like none.
const maxNameBytes = 64

// nearest is the input whose name is most like the given one, if any is like enough to be meant.
func (r *reader) nearest(name string) (near Input, ok bool) {
	if len(name) > maxNameBytes {
		return Input{}, false
	}
	best := max(2, len(name)/3) + 1
	// The table is walked in its order, so that the same mistake always gets the same answer.
	for _, i := range Inputs() {
		d := distance(name, i.Name)
		if slices.Equal(words(name), words(i.Name)) {
			d = 1
		}
		if d < best {
			near, best, ok = i, d, true
		}
	}
	return near, ok
}

// words are the parts of a name in alphabetical order: who writes id-workspaces means workspaces-id.
func words(name string) []string {
	return slices.Sorted(strings.FieldsFuncSeq(name, func(c rune) bool { return c == '-' || c == '_' }))
}

// distance is how many bytes have to be put in, left out or replaced to make b out of a (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			cost := diagonal
			if a[i] != b[j] {
				cost = 1 + min(diagonal, row[j], row[j+1])
			}
			diagonal, row[j+1] = row[j+1], cost
		}
	}
	return row[len(b)]
}
