package cli

import (
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

// addInputs gives the command a flag for every input that is no secret. All are text here: package config reads them
// in the same way from wherever they come.
func addInputs(cmd *cobra.Command) {
	for _, i := range config.Inputs() {
		switch {
		case i.Secret:
		case i.Kind == config.Bool:
			// NoOptDefVal makes "--dry-run" stand for "--dry-run=true".
			cmd.Flags().Var(&text{kind: "bool"}, i.Name, i.Help)
			cmd.Flags().Lookup(i.Name).NoOptDefVal = "true"
		case i.Kind == config.List || i.Kind == config.Lines:
			cmd.Flags().Var(&text{kind: "list", list: true}, i.Name, i.Help)
		case i.Kind == config.Enum:
			cmd.Flags().Var(&text{kind: strings.Join(i.Values, "|")}, i.Name, i.Help)
		default:
			cmd.Flags().Var(&text{kind: string(i.Kind)}, i.Name, i.Help)
		}
		if f := cmd.Flags().Lookup(i.Name); f != nil && i.Default != "" {
			f.Usage += " (default " + i.Default + ")"
		}
		complete(cmd, i)
	}
	// A connector is a folder.
	cmd.ValidArgsFunction = func(*cobra.Command, []string, string) ([]string, cobra.ShellCompDirective) {
		return nil, cobra.ShellCompDirectiveFilterDirs
	}
}

// complete tells shells what values an input's flag takes, where that is known.
func complete(cmd *cobra.Command, i config.Input) {
	var values []string
	directive := cobra.ShellCompDirectiveNoFileComp
	switch {
	case i.Secret:
		return
	case i.Kind == config.Enum:
		values = i.Values
	case i.Kind == config.Bool:
		values = []string{"true", "false"}
	case i.Name == "connectors":
		directive = cobra.ShellCompDirectiveFilterDirs
	case i.Kind == config.File || i.Kind == config.PEM:
		directive = cobra.ShellCompDirectiveDefault
	}
	// Only a flag that is not there can't have values.
	_ = cmd.RegisterFlagCompletionFunc(i.Name, cobra.FixedCompletions(values, directive))
}

// text is a flag's value as it was given; a list's values are joined by line breaks.
type text struct {
	value, kind string
	list        bool
}

func (t *text) String() string { return t.value }
func (t *text) Type() string   { return t.kind }

func (t *text) Set(s string) error {
	if t.list && t.value != "" {
		s = t.value + "\n" + s
	}
	t.value = s
	return nil
}

// given are the inputs that were set by flags.
func given(flags *pflag.FlagSet) map[string]string {
	set := map[string]string{}
	flags.Visit(func(f *pflag.Flag) {
		if t, ok := f.Value.(*text); ok {
			set[f.Name] = t.value
		}
	})
	return set
}
