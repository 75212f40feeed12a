// Package cli is the command: verbs, flags and exit codes, and the wiring of the parts. What the parts do is theirs.
package cli

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"runtime/debug"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// The exit codes. 3 and 4 belong to verbs that are to come.
const (
	exitDone        = 0
	exitFailed      = 1
	exitInputs      = 2
	exitInterrupted = 130
)

// Process is what the command needs of the process that it runs in.
type Process struct {
	// Args begin with the command's own name.
	Args    []string
	Getenv  func(string) string
	Environ []string
	// Dir is the folder that relative paths start from; empty is the process's working directory.
	Dir            string
	Stdin          io.Reader
	Stdout, Stderr io.Writer
	// StdoutIsTerminal and StderrIsTerminal tell whether a person watches.
	StdoutIsTerminal, StderrIsTerminal bool
}

// exit ends the command with a code after everything was said.
type exit int

func (e exit) Error() string { return fmt.Sprintf("exit code %d", int(e)) }

// Main runs the command and returns its exit code.
func Main(ctx context.Context, p Process) int {
	if handled, code := build.SpecMain(p.Args); handled {
		return code
	}
	root := newRoot(p)
	root.SetArgs(p.Args[1:])
	err := root.ExecuteContext(ctx)
	if code, ok := errors.AsType[exit](err); ok {
		return int(code)
	}
	if err != nil {
		h := detect(p, false)
		annotate(h.Section(""), err, nil)
		// The log is all that there is to write, and what it could not write can't be told.
		_ = h.Close()
		if strings.HasPrefix(string(fault.CodeOf(err)), "AP1") {
			return exitInputs
		}
		return exitCode(ctx, err)
	}
	return exitDone
}

// exitCode is that of a run whose inputs were right.
func exitCode(ctx context.Context, err error) int {
	switch {
	case err == nil:
		return exitDone
	case ctx.Err() != nil:
		return exitInterrupted
	}
	return exitFailed
}

func newRoot(p Process) *cobra.Command {
	root := &cobra.Command{
		Use:   "airbyte-publish [flags] [CONNECTOR...]",
		Short: "Take a Docker-based custom Airbyte connector from source to live in one step",
		Long: "airbyte-publish signs in to the container registry, builds the connector's image from its Dockerfile (or assembles or takes it),\n" +
			"checks it and pushes it under an immutable tag, creates or updates the connector's definition in Airbyte, and verifies what Airbyte then holds.\n\n" +
			"Without a verb it publishes. Every input is a flag and an environment variable: --airbyte-url is AIRBYTE_PUBLISH_AIRBYTE_URL.\n" +
			"Secrets have no flag: they come from the environment or from a file named by --<input>-file.",
		SilenceErrors: true, SilenceUsage: true,
		// Arguments of the root are connectors, so that publish is the default verb.
		Args: cobra.ArbitraryArgs,
	}
	root.SetOut(p.Stdout)
	root.SetErr(p.Stderr)
	root.SetFlagErrorFunc(wrongFlag)
	publish := publishCommand(p)
	root.Flags().AddFlagSet(publish.Flags())
	root.ValidArgsFunction = publish.ValidArgsFunction
	root.RunE = func(cmd *cobra.Command, args []string) error {
		if err := nothingGiven(p, given(cmd.Flags()), args); err != nil {
			return err
		}
		return publish.RunE(cmd, args)
	}
	root.AddCommand(publish, planCommand(p), lintCommand(p), sandboxCommand(p), versionCommand(p),
		pullSecretCommand(p), verifyPullCommand(p), doctorCommand(p))
	root.SetHelpCommand(helpCommand(p, root))
	refuseOtherShells(root)
	root.Version = version()
	root.SetVersionTemplate("{{.Version}}\n")
	return root
}

// wrongFlag explains why a command's flags can't be read.
func wrongFlag(cmd *cobra.Command, err error) error {
	cause := fault.Bounded(err.Error())
	if strings.HasPrefix(cause, "unknown shorthand flag") {
		// What follows the letter may be a secret.
		cause = "there is no such flag of one letter"
	}
	remedy := "airbyte-publish --help lists the flags; a secret has none and comes from the environment or a file."
	if e, ok := errors.AsType[*pflag.NotExistError](err); ok && e.GetSpecifiedShortnames() == "" {
		var flags []string
		cmd.Flags().VisitAll(func(f *pflag.Flag) { flags = append(flags, f.Name) })
		remedy = cmp.Or(config.MeantFlag(e.GetSpecifiedName(), flags), remedy)
	}
	return &fault.Error{Code: fault.UnknownInput, Op: "read the command line", Cause: cause, Remedy: remedy, Err: err}
}

func versionCommand(p Process) *cobra.Command {
	return &cobra.Command{
		Use: "version", Short: "Print the version", Args: cobra.NoArgs,
		RunE: func(*cobra.Command, []string) error {
			_, err := fmt.Fprintln(p.Stdout, version())
			return err
		},
	}
}

// released is the version of a released binary. The linker sets it, and nothing else does.
var released string

// version is that of a release, or else the module's version as the Go toolchain stamped it into the binary.
func version() string {
	if released != "" {
		return released
	}
	info, ok := debug.ReadBuildInfo()
	if !ok || info.Main.Version == "" {
		return "unknown"
	}
	return info.Main.Version
}

// userAgent is how registries and Airbyte see us in their logs.
func userAgent() string { return "airbyte-publish/" + version() }

// executable is the running binary, which runs connectors' spec as its own child.
func executable() (string, error) {
	path, err := os.Executable()
	if err != nil {
		return "", &fault.Error{Code: fault.Internal, Op: "find the running binary", Cause: err.Error(), Err: err}
	}
	return path, nil
}
