package cli

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// topics are what help tells about beside the verbs. They are no commands, since a word that is none is a connector's
// folder.
var topics = map[string]struct {
	short string
	write func(io.Writer)
}{
	"inputs":     {"every input, with its flag, its environment variable and its default", helpInputs},
	"outputs":    {"what a run hands to later steps and jobs", helpOutputs},
	"exit-codes": {"how a run says how it went", helpExitCodes},
	"errors":     {"every error code, with its page", helpErrors},
}

// helpCommand is help for verbs, topics and error codes.
func helpCommand(p Process, root *cobra.Command) *cobra.Command {
	var long strings.Builder
	long.WriteString("help tells about a verb, an error code (help AP308) or one of these topics:\n\n")
	for _, name := range slices.Sorted(maps.Keys(topics)) {
		fmt.Fprintf(&long, "  %-12s %s\n", name, topics[name].short)
	}
	return &cobra.Command{
		Use: "help [VERB | TOPIC | CODE]", Short: "Help about a verb, a topic or an error code", Long: strings.TrimSpace(long.String()),
		ValidArgsFunction: func(_ *cobra.Command, args []string, _ string) ([]string, cobra.ShellCompDirective) {
			if len(args) > 0 {
				return nil, cobra.ShellCompDirectiveNoFileComp
			}
			words := slices.Collect(maps.Keys(topics))
			for _, c := range root.Commands() {
				if !strings.HasPrefix(c.Name(), "__") {
					words = append(words, c.Name())
				}
			}
			slices.Sort(words)
			return words, cobra.ShellCompDirectiveNoFileComp
		},
		RunE: func(_ *cobra.Command, args []string) error {
			if len(args) == 0 {
				return root.Help()
			}
			if topic, found := topics[args[0]]; found && len(args) == 1 {
				topic.write(p.Stdout)
				return nil
			}
			code := fault.Code(strings.ToUpper(args[0]))
			if title := fault.Titles[code]; title != "" && len(args) == 1 {
				_, err := fmt.Fprintf(p.Stdout, "%s: %s\n%s\n", code, title, code.Page())
				return err
			}
			for _, c := range root.Commands() {
				if len(args) == 1 && c.Name() == args[0] {
					return c.Help()
				}
			}
			return &fault.Error{Code: fault.UnknownInput, Op: "help with", Object: fmt.Sprintf("%q", fault.Bounded(strings.Join(args, " "))),
				Cause: "it is no verb, topic or error code", Remedy: "airbyte-publish help help lists the topics, airbyte-publish --help the verbs."}
		},
	}
}

// refuseOtherShells makes completion for a shell that it does not know an error, where cobra shows its help.
func refuseOtherShells(root *cobra.Command) {
	root.InitDefaultCompletionCmd()
	for _, c := range root.Commands() {
		if c.Name() != "completion" {
			continue
		}
		c.Args = cobra.ArbitraryArgs
		c.RunE = func(cmd *cobra.Command, args []string) error {
			if len(args) == 0 {
				return cmd.Help()
			}
			var shells []string
			for _, shell := range cmd.Commands() {
				shells = append(shells, shell.Name())
			}
			return &fault.Error{Code: fault.UnknownInput, Op: "complete in", Object: fmt.Sprintf("%q", fault.Bounded(args[0])),
				Cause: "it is no shell with completion", Remedy: "Name one of " + strings.Join(shells, ", ") + "."}
		}
	}
}

func helpInputs(w io.Writer) {
	fmt.Fprintln(w, "A flag beats the environment, that beats the action's input, that beats metadata.yaml, and that beats the default.")
	var group config.Group
	for _, i := range config.Inputs() {
		if i.Group != group {
			group = i.Group
			fmt.Fprintf(w, "\n%s\n", strings.ToUpper(string(group)))
		}
		name := "--" + i.Name
		if i.Secret {
			name = i.Name + " (secret, no flag)"
		}
		form := string(i.Kind)
		if i.Kind == config.Enum {
			form = strings.Join(i.Values, " | ")
		}
		fmt.Fprintf(w, "\n  %s  %s\n  %s\n", name, form, i.Env())
		for _, line := range wrap(i.Help, 100) {
			fmt.Fprintf(w, "      %s\n", line)
		}
		if i.Default != "" {
			fmt.Fprintf(w, "      Default: %s\n", i.Default)
		}
	}
}

func helpOutputs(w io.Writer) {
	fmt.Fprintln(w, "On GitHub they are the step's outputs, on GitLab variables AIRBYTE_PUBLISHED_<OUTPUT> of later jobs. --output json prints all of it.")
	for _, o := range config.Outputs() {
		fmt.Fprintf(w, "\n  %s\n", o.Name)
		for _, line := range wrap(o.Help, 100) {
			fmt.Fprintf(w, "      %s\n", line)
		}
	}
}

func helpExitCodes(w io.Writer) {
	for _, e := range []struct {
		code  int
		means string
	}{
		{exitDone, "done, or nothing to do"}, {exitFailed, "failed"}, {exitInputs, "the inputs are wrong, and nothing was contacted"},
		{exitInterrupted, "interrupted"},
	} {
		fmt.Fprintf(w, "%4d  %s\n", e.code, e.means)
	}
}

func helpErrors(w io.Writer) {
	for _, code := range slices.Sorted(maps.Keys(fault.Titles)) {
		fmt.Fprintf(w, "%s  %s\n", code, fault.Titles[code])
	}
	fmt.Fprintf(w, "\nEach has a page: %s\n", strings.Replace(fault.Internal.Page(), string(fault.Internal), "<CODE>", 1))
}

// wrap breaks a text into lines of at most width bytes, where words allow it.
func wrap(text string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(text) {
		if line != "" && len(line)+1+len(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
