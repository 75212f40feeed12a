package cli

import (
	"fmt"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/report"
)

// output is the form of what standard output gets, in a flag's value.
type output struct {
	form  string
	forms []string
}

// addOutput gives the command the flag --output with the forms that it knows.
func addOutput(cmd *cobra.Command, verb config.Verb) *output {
	o := &output{forms: []string{"text", "json"}}
	switch verb {
	case config.Publish, config.Lint:
		o.forms = append(o.forms, "markdown")
	case config.Plan:
		o.forms = append(o.forms, "markdown", "matrix")
	}
	cmd.Flags().StringVarP(&o.form, "output", "o", "text", "what standard output gets: "+strings.Join(o.forms, ", "))
	_ = cmd.RegisterFlagCompletionFunc("output", cobra.FixedCompletions(o.forms, cobra.ShellCompDirectiveNoFileComp))
	return o
}

func (o *output) check() error {
	if slices.Contains(o.forms, o.form) {
		return nil
	}
	return &fault.Error{Code: fault.InvalidInput, Op: "read the flag", Object: "--output",
		Cause: fmt.Sprintf("%q is not a form of output", fault.Bounded(o.form)), Remedy: "Give one of " + strings.Join(o.forms, ", ") + "."}
}

// machine tells that standard output is for a program, so that the log must not go there.
func (o *output) machine() bool { return o.form != "text" }

// of is the report in this form.
func (o *output) of(told report.Report) string {
	switch o.form {
	case "json":
		return string(told.JSON())
	case "markdown":
		return told.Comment()
	case "matrix":
		return told.Matrix() + "\n"
	}
	return told.Text()
}
