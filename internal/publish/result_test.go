package publish

import (
	"errors"
	"fmt"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// uncomparable is an error that can't be the key of a map.
type uncomparable struct{ words []string }

func (u uncomparable) Error() string { return u.words[0] }

func TestResultErrHasEachErrorOnce(t *testing.T) {
	t.Parallel()
	shared := &fault.Error{Code: fault.AirbyteSignIn, Op: "sign in", Cause: "401"}
	own := &fault.Error{Code: fault.PushDenied, Op: "push", Cause: "403"}
	r := Result{Rows: []Row{{Err: shared}, {}, {Err: errors.Join(shared, own)}, {Err: uncomparable{[]string{"x"}}}, {Err: shared}}}
	want := fmt.Sprintf("%v\n%v\nx", shared, own)
	if err := r.Err(); err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
	if !errors.Is(r.Err(), own) {
		t.Error("an error was lost")
	}
	if err := (Result{Rows: []Row{{}, {}}}).Err(); err != nil {
		t.Errorf("rows without errors gave %v", err)
	}
}
