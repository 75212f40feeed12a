// Package fault is the error that a person reads in a CI log: what was being done, to what, what went wrong and
// what to do about it, under a stable code with a page in docs/errors. It is a leaf: it knows no other package.
package fault

import (
	"errors"
	"strings"
)

// Error is a failure with a stable code. Only Code, Op and Cause are always there.
type Error struct {
	// Code is one of the codes of this package, such as "AP101".
	Code Code
	// Op says what was being done, as an infinitive: "push the image", "read the inputs".
	Op string
	// Object is what it was done to: a reference, a file, a URL without its user information, an input's name.
	Object string
	// Cause is what went wrong, in words a person can act on. Text from another party is bounded and on one line.
	Cause string
	// Remedy is what to do about it, as a sentence.
	Remedy string
	// Err is the error below, if any. It is for errors.Is and errors.As; Error does not print it.
	Err error
}

// Error is one line: code, operation, object, cause and remedy.
func (e *Error) Error() string {
	var b strings.Builder
	b.WriteString(string(e.Code))
	b.WriteString(": ")
	b.WriteString(e.Op)
	if e.Object != "" {
		b.WriteString(" ")
		b.WriteString(e.Object)
	}
	if e.Cause != "" {
		b.WriteString(": ")
		b.WriteString(strings.TrimSuffix(e.Cause, "."))
	}
	if e.Remedy != "" {
		b.WriteString(". ")
		b.WriteString(e.Remedy)
	}
	return b.String()
}

// Unwrap returns the error below.
func (e *Error) Unwrap() error { return e.Err }

// CodeOf returns the code of the first fault in err's tree, or Internal when there is none.
func CodeOf(err error) Code {
	if e, ok := errors.AsType[*Error](err); ok {
		return e.Code
	}
	return Internal
}

// List returns the faults in err's tree, those of joined errors in their order. An error that holds no fault is
// wrapped in one of code Internal, so that nothing is lost.
func List(err error) []*Error {
	if err == nil {
		return nil
	}
	if e, ok := err.(*Error); ok { //nolint:errorlint // The tree is walked node by node, to keep all that it joins.
		return []*Error{e}
	}
	if j, ok := err.(interface{ Unwrap() []error }); ok {
		var all []*Error
		for _, e := range j.Unwrap() {
			all = append(all, List(e)...)
		}
		return all
	}
	if e, ok := errors.AsType[*Error](err); ok {
		return []*Error{e}
	}
	return []*Error{{Code: Internal, Op: "run", Cause: Bounded(err.Error()), Err: err}}
}

// boundedLength is how many bytes of another party's text are shown in an error.
const boundedLength = 500

// Bounded makes text that another party sent fit for an error: one line, no control characters, 500 bytes at most.
func Bounded(s string) string {
	s = strings.Join(strings.FieldsFunc(s, func(r rune) bool { return r <= ' ' || r == 0x7f || (r >= 0x80 && r < 0xa0) }), " ")
	s = strings.ToValidUTF8(s, "\uFFFD")
	if len(s) <= boundedLength {
		return s
	}
	return strings.ToValidUTF8(s[:boundedLength], "") + " …"
}
