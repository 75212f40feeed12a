package connector

import "github.com/airbyte-publish/airbyte-publish/internal/fault"

// State tells how something that was looked at is.
type State string

// The states. What was not looked at is neither good nor bad.
const (
	Good    State = "good"
	Doubt   State = "warning"
	Bad     State = "bad"
	Skipped State = "not looked at"
)

// Check is one thing about a set-up that was looked at.
type Check struct {
	// Area is the registry, Airbyte or the deployment; Name is what was looked at.
	Area string `json:"area"`
	Name string `json:"name"`
	// State tells how it is, Found what was found, as a phrase.
	State State  `json:"state"`
	Found string `json:"found"`
	// Remedy is what to do about it, as a sentence; empty where there is nothing to do.
	Remedy string `json:"remedy,omitempty"`
	// Code is the page that tells more, if there is one.
	Code fault.Code `json:"code,omitempty"`
}

// Failed is the check of something that could not be had.
func Failed(area, name string, err error) Check {
	c := Check{Area: area, Name: name, State: Bad, Found: fault.Bounded(err.Error()), Code: fault.CodeOf(err)}
	if all := fault.List(err); len(all) > 0 {
		c.Found, c.Remedy = all[0].Cause, all[0].Remedy
	}
	return c
}
