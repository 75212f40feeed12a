package config

import (
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// text is the value of an input that is one line.
func (r *reader) text(input string) string {
	v := r.values[input]
	switch {
	case r.inputs[input].Secret:
	case strings.ContainsFunc(v.text, unicode.IsControl):
		r.reject(fault.InvalidInput, input, v.String()+" holds a line break or another control character", "Write it in one line.")
	case !utf8.ValidString(v.text):
		r.reject(fault.InvalidInput, input, v.String()+" is not UTF-8 text", "Write it in UTF-8.")
	}
	return v.text
}

// given tells whether any source has a value for the input.
func (r *reader) given(input string) bool { return r.values[input].from != "" }

// list is the value of an input that has one item per line or comma-separated, each item once.
func (r *reader) list(input string) []string {
	var items []string
	for item := range strings.FieldsFuncSeq(r.values[input].text, func(c rune) bool { return c == ',' || c == '\n' || c == '\r' }) {
		if item = strings.TrimSpace(item); item != "" && !slices.Contains(items, item) {
			items = append(items, item)
		}
	}
	return items
}

// fromArray writes a list that is a JSON array of strings with an item on each line. That is how GitLab hands over the
// lists of a component; any other text stays as it is.
func fromArray(text string) string {
	var items []string
	if trimmed := strings.TrimSpace(text); !strings.HasPrefix(trimmed, "[") || json.Unmarshal([]byte(trimmed), &items) != nil {
		return text
	}
	return strings.Join(items, "\n")
}

// bool takes the booleans of YAML 1.2's core schema and no others: elsewhere "yes" and "1" mean one thing to one
// program and another to the next.
func (r *reader) bool(input string) bool {
	switch v := r.values[input]; v.text {
	case "true", "True", "TRUE":
		return true
	case "false", "False", "FALSE":
	default:
		r.reject(fault.InvalidInput, input, v.String()+" is neither true nor false", "Write true or false.")
	}
	return false
}

func (r *reader) number(input string, lowest, highest int) int {
	v := r.values[input]
	n, err := strconv.Atoi(v.text)
	remedy := fmt.Sprintf("Give a number from %d to %d.", lowest, highest)
	switch {
	case err != nil:
		r.reject(fault.InvalidInput, input, v.String()+" is not a whole number", remedy)
	case n < lowest || n > highest:
		r.reject(fault.InvalidInput, input, v.String()+" is out of range", remedy)
	}
	return n
}

// duration takes what lies in a range, which the remedy names.
func (r *reader) duration(input string, shortest, longest time.Duration, remedy string) time.Duration {
	v := r.values[input]
	d, err := time.ParseDuration(v.text)
	switch {
	case err != nil:
		r.reject(fault.InvalidInput, input, v.String()+" is not a duration", "Give a number with its unit, such as 90s, 15m or 1h30m.")
	case d < shortest || d > longest:
		r.reject(fault.InvalidInput, input, v.String()+" is out of range", remedy)
	}
	return d
}

// enum returns the default for a value that is not one of the input's.
func (r *reader) enum(input string) string {
	v, i := r.values[input], r.inputs[input]
	if v.text == "" || slices.Contains(i.Values, v.text) {
		return v.text
	}
	last := len(i.Values) - 1
	r.reject(fault.InvalidInput, input, v.String()+" is not a value of it",
		"Write "+strings.Join(i.Values[:last], ", ")+" or "+i.Values[last]+".")
	return i.Default
}

var uuidPattern = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)

// uuids is the value of an input that lists UUIDs, in lower case and each once.
func (r *reader) uuids(input string) []string {
	var ids []string
	items := r.list(input)
	if r.given(input) && len(items) == 0 {
		r.reject(fault.InvalidInput, input, r.values[input].String()+" names none", "Give one or more ids, or leave it unset.")
	}
	for _, item := range items {
		id := strings.ToLower(item)
		switch {
		case !uuidPattern.MatchString(id):
			r.reject(fault.InvalidInput, input, value{item, r.values[input].from}.String()+" is not a UUID",
				"Copy the id from Airbyte; it looks like 12345678-90ab-cdef-1234-567890abcdef.")
		case !slices.Contains(ids, id):
			ids = append(ids, id)
		}
	}
	return ids
}
