package sandbox

import (
	"errors"
	"fmt"
	"net/http"

	"github.com/google/uuid"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
)

// apiError is an error as Airbyte throws it. How much of it a caller sees depends on the version: from 2.0.0 on an
// error that is not known has a bare errorId for a body, and its message is in the server's log only.
type apiError struct {
	status  int
	message string
	class   string
	// known errors (KnownException in Airbyte's sources) keep their message in every version.
	known      bool
	violations []violation
	// problem is a body that is the same in every version; it stands for all the others.
	problem map[string]any
}

func (e *apiError) Error() string { return e.message }

var malformed = &apiError{status: http.StatusUnprocessableEntity, message: "Invalid json input. Unexpected character",
	class: "com.fasterxml.jackson.core.JsonParseException"}

// uncaught is an error that only the catch-all handler catches.
func uncaught(format string, args ...any) *apiError {
	return &apiError{status: http.StatusInternalServerError, class: "java.lang.IllegalStateException",
		message: "Internal Server Error: " + fmt.Sprintf(format, args...)}
}

func notFound(what, id string) *apiError {
	return &apiError{status: http.StatusNotFound, class: "io.airbyte.config.persistence.ConfigNotFoundException",
		message: fmt.Sprintf("Internal Server Error: Could not find configuration for %s: %s", what, id)}
}

// problem is an error of the newer kind, as RFC 9457 has it.
func problem(status int, title, message string) *apiError {
	return &apiError{status: status, message: message, problem: map[string]any{
		"status": status,
		"type":   "https://reference.airbyte.com/reference/errors#" + title,
		"title":  title,
		"detail": "The request could not be processed.",
		"data":   map[string]any{"message": message},
	}}
}

func forbidden() *apiError {
	return problem(http.StatusForbidden, "forbidden", "You don't have sufficient permissions to perform this action.")
}

// framework is an error of the web framework (Micronaut), which answers before Airbyte's own code is reached.
func framework(status int, message string) *apiError {
	return &apiError{status: status, message: message, problem: map[string]any{
		"message":   http.StatusText(status),
		"_embedded": map[string]any{"errors": []any{map[string]any{"message": message}}},
	}}
}

// tooLong is what comes of a text that a column of the database does not hold.
func (a *Airbyte) tooLong(column string) *apiError {
	e := uncaught("Failed to access database: value too long for type character varying(256) in column %s", column)
	if a.is(databaseErrorsConflict) {
		e = &apiError{status: http.StatusConflict, known: true, class: "org.jooq.exception.DataAccessException",
			message: "Failed to access database. Check the server logs for more information"}
	}
	return e
}

// fail answers with an error in the shape that this version has.
func (a *Airbyte) fail(w http.ResponseWriter, err error) {
	e, ok := errors.AsType[*apiError](err)
	if !ok {
		e = uncaught("%v", err)
	}
	if e.problem != nil {
		writeJSON(w, e.status, e.problem)
		return
	}
	answer := map[string]any{}
	if a.is(hidesErrors) {
		id := uuid.NewString()
		answer["errorId"] = id
		a.o.Log("%d, errorId %s: %s", e.status, id, e.message)
	}
	if !a.is(hidesErrors) || e.known {
		answer["message"] = e.message
	}
	if !a.is(hidesErrors) {
		a.o.Log("%d: %s", e.status, e.message)
		answer["exceptionClassName"] = e.class
		if e.violations != nil {
			answer["validationErrors"] = e.violations
		}
		if a.is(hasStackTraces) {
			answer["exceptionStack"] = []string{e.class + ": " + e.message,
				"\tat io.airbyte.server.apis.ApiHelper.execute(ApiHelper.java:28)"}
		}
	}
	writeJSON(w, e.status, answer)
}

// failureReason is why a job failed, as Airbyte gives it.
type failureReason struct {
	Origin          string `json:"failureOrigin,omitempty"`
	Type            string `json:"failureType,omitempty"`
	ExternalMessage string `json:"externalMessage,omitempty"`
	InternalMessage string `json:"internalMessage,omitempty"`
	StackTrace      string `json:"stacktrace,omitempty"`
	Timestamp       int64  `json:"timestamp"`
}

func (a *Airbyte) failure(t connector.Type, message string) *failureReason {
	return &failureReason{Origin: string(t), Type: "system_error", ExternalMessage: message, Timestamp: a.o.Now().UnixMilli()}
}
