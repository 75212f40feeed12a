package config

import (
	"slices"
	"strings"
)

// maxNameBytes is far above the longest input's name; what is longer is like none.
const maxNameBytes = 64

// nearest is the input whose name is most like the given one, if any is like enough to be meant.
func nearest(name string) (near Input, ok bool) {
	all := Inputs()
	names := make([]string, len(all))
	for i := range all {
		names[i] = all[i].Name
	}
	i := mostLike(name, names)
	if i < 0 {
		return Input{}, false
	}
	return all[i], true
}

// mostLike is the index of the name that is most like the given one; -1 where none is like enough to be meant.
func mostLike(name string, names []string) int {
	if len(name) > maxNameBytes {
		return -1
	}
	found, best := -1, max(2, len(name)/3)+1
	// They are walked in their order, so that the same mistake always gets the same answer.
	for i, n := range names {
		d := distance(name, n)
		if slices.Equal(words(name), words(n)) {
			d = 1
		}
		if d < best {
			found, best = i, d
		}
	}
	return found
}

// MeantFlag is a remedy for a flag that a command does not have, by the names of those that it has; empty where nothing
// is like it.
func MeantFlag(name string, flags []string) string {
	secrets := map[string]Input{}
	for _, i := range Inputs() {
		if i.Secret {
			secrets[i.Name] = i
			flags = append(flags[:len(flags):len(flags)], i.Name)
		}
	}
	i := mostLike(name, flags)
	if i < 0 {
		return ""
	}
	if secret, is := secrets[flags[i]]; is {
		return secret.noFlag()
	}
	return "Did you mean --" + flags[i] + "?"
}

// noFlag tells how a secret is given.
func (i Input) noFlag() string {
	return "A secret has no flag; set " + i.Env() + " or name a file by --" + i.Name + fileSuffix + "."
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
