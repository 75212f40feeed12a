package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
)

func sandboxCommand(p Process) *cobra.Command {
	var version string
	cmd := &cobra.Command{
		Use:   "sandbox [flags] [-- COMMAND [ARG...]]",
		Short: "Start a registry and an Airbyte stand-in on loopback, to try things without an account",
		Long: "sandbox starts an embedded registry and an Airbyte stand-in on loopback and prints the environment to use them, until it is\n" +
			"interrupted. With a COMMAND it runs that in this environment, and ends with its exit code. The stand-in really pulls the image that it is\n" +
			"told to register and runs its spec, with the habits of the Airbyte version asked for. Everything is gone when it ends.",
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) > 0 && cmd.ArgsLenAtDash() != 0 {
				return &fault.Error{Code: fault.UnknownInput, Op: "read the arguments of sandbox", Object: fmt.Sprintf("%q", fault.Bounded(args[0])),
					Cause: "a command stands behind two dashes", Remedy: "Write airbyte-publish sandbox -- COMMAND."}
			}
			return runSandbox(cmd.Context(), p, sandbox.Options{AirbyteVersion: version,
				// A machine that can't run connectors (macOS, a kernel that forbids namespaces) still shows the rest.
				AllowUnrunnable: true,
				Log:             func(format string, args ...any) { fmt.Fprintf(p.Stderr, "sandbox: "+format+"\n", args...) }}, args)
		},
	}
	cmd.Flags().StringVar(&version, "airbyte-version", sandbox.NewestAirbyte, "the Airbyte version that the stand-in behaves as")
	return cmd
}

func runSandbox(ctx context.Context, p Process, o sandbox.Options, command []string) (err error) {
	binary, err := executable()
	if err != nil {
		return err
	}
	s, err := sandbox.Start(ctx, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	env := append(s.Env(), "SANDBOX_BINARY="+binary)
	if len(command) > 0 {
		return runIn(ctx, p, append(env, "PATH="+filepath.Dir(binary)+string(filepath.ListSeparator)+p.Getenv("PATH")), command)
	}
	for _, variable := range env {
		name, value, _ := strings.Cut(variable, "=")
		if _, err := fmt.Fprintf(p.Stdout, "export %s=%s\n", name, quote(value)); err != nil {
			return err
		}
	}
	fmt.Fprintln(p.Stderr, "The sandbox runs until it is interrupted. Use the variables above in another shell.")
	<-ctx.Done()
	return nil
}

// quote makes s one word of a POSIX shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// runIn runs the command with env over the process's own environment.
func runIn(ctx context.Context, p Process, env, command []string) error {
	child := exec.CommandContext(ctx, command[0], command[1:]...)
	child.Env = slices.Concat(p.Environ, env)
	child.Dir, child.Stdin, child.Stdout, child.Stderr = p.Dir, p.Stdin, p.Stdout, p.Stderr
	child.Cancel = func() error { return child.Process.Signal(os.Interrupt) }
	// A command that does not end when it is asked to is ended.
	child.WaitDelay = 10 * time.Second
	err := child.Run()
	if ctx.Err() != nil {
		return exit(exitInterrupted)
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return exit(max(e.ExitCode(), exitFailed))
	}
	if err != nil {
		return &fault.Error{Code: fault.InvalidInput, Op: "run in the sandbox", Object: fmt.Sprintf("%q", fault.Bounded(command[0])),
			Cause: fault.Bounded(err.Error()), Remedy: "Give a command that can be run here.", Err: err}
	}
	return nil
}
