package sandbox

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"

	"github.com/google/uuid"
)

// body is a request's JSON object, read as Airbyte's bean validation does: unknown properties are ignored, what is
// missing or ill-formed is collected and refused at once.
type body struct {
	fields map[string]json.RawMessage
	path   string
	// bad is shared with the objects inside.
	bad *[]violation
	// request is there for what is not in the body: a query.
	request *http.Request
}

// violation is an entry of a validation error as Airbyte words it.
type violation struct {
	PropertyPath string  `json:"propertyPath"`
	InvalidValue *string `json:"invalidValue"`
	Message      string  `json:"message"`
}

// readBody reads the JSON object of a POST. A form is taken for one where a caller sends a form.
func readBody(r *http.Request, sent []byte) (*body, error) {
	b := &body{fields: map[string]json.RawMessage{}, bad: &[]violation{}, request: r}
	if r.Method == http.MethodGet || len(bytes.TrimSpace(sent)) == 0 {
		return b, nil
	}
	kind, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	if kind == "application/x-www-form-urlencoded" {
		form, err := url.ParseQuery(string(sent))
		if err != nil {
			return nil, malformed
		}
		for k := range form {
			b.fields[k], _ = json.Marshal(form.Get(k)) // A string always has a JSON form.
		}
		return b, nil
	}
	if kind != "application/json" {
		return nil, framework(http.StatusUnsupportedMediaType,
			"Content Type ["+kind+"] not allowed. Allowed types: [application/json]")
	}
	if err := json.Unmarshal(sent, &b.fields); err != nil || b.fields == nil {
		return nil, malformed
	}
	return b, nil
}

func (b *body) refuse(key, value, message string) {
	v := violation{PropertyPath: b.path + key, Message: message}
	if value != "" {
		v.InvalidValue = &value
	}
	*b.bad = append(*b.bad, v)
}

// raw returns a property's JSON, nil when it is missing or null.
func (b *body) raw(key string) json.RawMessage {
	if v := b.fields[key]; string(v) != "null" {
		return v
	}
	return nil
}

// text returns a string; "" when it is missing.
func (b *body) text(key string) string {
	v := b.raw(key)
	if v == nil {
		return ""
	}
	var s string
	if json.Unmarshal(v, &s) != nil {
		b.refuse(key, string(v), "must be a string")
	}
	return s
}

// required returns a string that must be there; it may be empty.
func (b *body) required(key string) string {
	if b.raw(key) == nil {
		b.refuse(key, "", "must not be null")
		return ""
	}
	return b.text(key)
}

// id returns a uuid in its usual form; "" when it is missing.
func (b *body) id(key string) string {
	s := b.text(key)
	if s == "" {
		return ""
	}
	u, err := uuid.Parse(s)
	if err != nil {
		b.refuse(key, s, "Invalid UUID string: "+s)
		return ""
	}
	return u.String()
}

func (b *body) requiredID(key string) string {
	id := b.id(key)
	if id == "" && b.text(key) == "" {
		b.refuse(key, "", "must not be null")
	}
	return id
}

// uri returns a string that must be there and parse as a URI; it may be empty.
func (b *body) uri(key string) string {
	s := b.required(key)
	if _, err := url.Parse(s); err != nil {
		b.refuse(key, s, "must be a URI")
	}
	return s
}

// object returns a JSON object's text, nil when it is missing.
func (b *body) object(key string) json.RawMessage {
	v := b.raw(key)
	var fields map[string]json.RawMessage
	if v != nil && json.Unmarshal(v, &fields) != nil {
		b.refuse(key, string(v), "must be an object")
		return nil
	}
	return v
}

// inside returns a required object to read on in.
func (b *body) inside(key string) *body {
	in := &body{fields: map[string]json.RawMessage{}, path: b.path + key + ".", bad: b.bad, request: b.request}
	v := b.object(key)
	if v == nil {
		b.refuse(key, "", "must not be null")
		return in
	}
	_ = json.Unmarshal(v, &in.fields) // object has proved that it is one.
	return in
}

// number returns an integer, or the default when it is missing.
func (b *body) number(key string, otherwise int) int {
	v := b.raw(key)
	if v == nil {
		return otherwise
	}
	n := otherwise
	if json.Unmarshal(v, &n) != nil {
		b.refuse(key, string(v), "must be an integer")
	}
	return n
}

// check returns the error for all that was refused, nil for nothing.
func (b *body) check() error {
	if len(*b.bad) == 0 {
		return nil
	}
	return &apiError{status: http.StatusBadRequest, message: "Some properties contained invalid input.",
		class: "jakarta.validation.ConstraintViolationException", violations: *b.bad}
}
