package main

import (
	"bytes"
	"fmt"
	"slices"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

// reference writes docs/inputs.md.
func reference(inputs []config.Input, outputs []config.Output) []byte {
	var b bytes.Buffer
	fmt.Fprintf(&b, "<!-- This file is %s. -->\n", generated)
	b.WriteString(`# Inputs and outputs

Every input has the same name everywhere. ` + "`airbyte-url`" + ` is

- the flag ` + "`--airbyte-url`" + ` of the command,
- the environment variable ` + "`AIRBYTE_PUBLISH_AIRBYTE_URL`" + `,
- the input ` + "`airbyte-url`" + ` of the GitHub Action,
- the input ` + "`airbyte-url`" + ` of the GitLab component, which sets that variable for its job. Secrets are no inputs there: set the variable in the
  project's settings, masked.

A flag beats the environment, the environment beats the action's input, that beats the connector's ` + "`metadata.yaml`" + `,
and that beats the default. An empty value is the same as none. A variable that begins with ` + "`AIRBYTE_PUBLISH_`" + ` and is
no input is an error, so that a mistyped name is not passed over.

A secret has no flag, because a list of processes shows flags: it comes from the environment, from the action's input or
from the file that the input with ` + "`-file`" + ` behind its name points to. On GitHub take secrets from ` + "`secrets`" + `: GitHub
shows a step's inputs in its log, and hides only those.

Booleans are ` + "`true`" + ` or ` + "`false`" + ` (also ` + "`True`, `TRUE`, `False`, `FALSE`" + `). Lists have one item per line or are separated by
commas, or are a JSON array of strings. Durations have a unit, as in ` + "`90s`, `15m`, `1h30m`" + `. Paths start from the working directory, that of
` + "`dockerfile`" + ` from the connector's folder.

All inputs are checked before anything is contacted, and all problems are reported at once, with exit code 2.
`)
	for _, group := range groups(inputs) {
		fmt.Fprintf(&b, "\n## %s\n\n| input | form | default | what it is for |\n|---|---|---|---|\n", group)
		for _, i := range inputs {
			if i.Group == group {
				fmt.Fprintf(&b, "| `%s` | %s | %s | %s |\n", i.Name, form(i), code(i.Default), cell(i.Help))
			}
		}
	}
	b.WriteString("\n## Outputs\n\n| output | what it is |\n|---|---|\n")
	for _, o := range outputs {
		fmt.Fprintf(&b, "| `%s` | %s |\n", o.Name, cell(o.Help))
	}
	return b.Bytes()
}

// summary writes README.md's table, which leaves the files of secrets to docs/inputs.md.
func summary(inputs []config.Input) []byte {
	var b bytes.Buffer
	b.WriteString("| input | what it is for |\n|---|---|\n")
	for _, group := range groups(inputs) {
		fmt.Fprintf(&b, "| **%s** | |\n", group)
		for _, i := range inputs {
			if i.Group != group || i.Kind == config.File {
				continue
			}
			help := cell(i.Help)
			switch {
			case i.Secret:
				help += " Secret."
			case i.Default != "":
				help += " Default: " + code(i.Default) + "."
			}
			fmt.Fprintf(&b, "| `%s` | %s |\n", i.Name, help)
		}
	}
	return b.Bytes()
}

func groups(inputs []config.Input) []config.Group {
	var found []config.Group
	for _, i := range inputs {
		if !slices.Contains(found, i.Group) {
			found = append(found, i.Group)
		}
	}
	return found
}

func form(i config.Input) string {
	text := string(i.Kind)
	if i.Kind == config.Enum {
		text = "`" + strings.Join(i.Values, "` · `") + "`"
	}
	if i.Secret {
		text += ", secret"
	}
	return text
}

func code(s string) string {
	if s == "" {
		return ""
	}
	return "`" + cell(s) + "`"
}

// cell keeps a bar from ending a table's cell.
func cell(s string) string { return strings.ReplaceAll(s, "|", `\|`) }
