// Command release makes what a release consists of: static binaries that are the same wherever they are built, with a
// bill of materials for each, and the sums of all of them; and it checks such a folder. It is for this repository's
// release workflow and for whoever wants to build a release again. It signs and uploads nothing.
//
//	go run ./internal/release build -version v1.2.3 -to DIR
//	go run ./internal/release check -version v1.2.3 DIR
//	go run ./internal/release notes -version v1.2.3
//	go run ./internal/release provenance -version v1.2.3 -commit ID -builder URL -run URL
//	go run ./internal/release ldflags -version v1.2.3
//	go run ./internal/release moving -version v1.2.3
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"regexp"
	"strings"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	err := run(ctx, os.Args[1:], os.Environ(), os.Stdout)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "release:", err)
		os.Exit(1)
	}
}

const usage = "usage: go run ./internal/release build|check|notes|provenance|ldflags|moving -version VERSION …"

var versionPattern = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)

func run(ctx context.Context, args, environ []string, out io.Writer) error {
	if len(args) == 0 {
		return errors.New(usage)
	}
	flags := flag.NewFlagSet("release "+args[0], flag.ContinueOnError)
	version := flags.String("version", "", "the version, such as v1.2.3")
	to := flags.String("to", "dist", "build: the folder to write to")
	at := flags.String("time", "", "build: the time of the commit, as in 2006-01-02T15:04:05Z; without it, git is asked")
	only := flags.String("only", "", "build: one target, such as linux/amd64, and nothing else")
	sums := flags.String("release", "", "check: a release.txt that has to fit")
	commit := flags.String("commit", "", "provenance: the commit that is built")
	builder := flags.String("builder", "", "provenance: the workflow that builds")
	invocation := flags.String("run", "", "provenance: its run")
	if err := flags.Parse(args[1:]); err != nil {
		return err
	}
	if !versionPattern.MatchString(*version) {
		return fmt.Errorf("%q is not a version such as v1.2.3", *version)
	}
	switch args[0] {
	case "build":
		made, err := commitTime(ctx, *at)
		if err != nil {
			return err
		}
		return build(ctx, settings{version: *version, dir: *to, time: made, environ: environ, only: *only}, out)
	case "check":
		if flags.NArg() != 1 {
			return errors.New("check takes one folder")
		}
		return check(flags.Arg(0), *version, *sums, out)
	case "notes":
		return notes(ctx, *version, out)
	case "provenance":
		return provenance(*version, *commit, *builder, *invocation, out)
	case "moving":
		return moving(ctx, *version, out)
	case "ldflags":
		_, err := fmt.Fprintln(out, ldflags(*version))
		return err
	}
	return errors.New(usage)
}

// commitTime is the time that a bill of materials says it was made: not now, or no two would be the same.
func commitTime(ctx context.Context, given string) (time.Time, error) {
	if given == "" {
		out, err := output(ctx, "git", "log", "-1", "--format=%cI")
		if err != nil {
			return time.Time{}, err
		}
		given = strings.TrimSpace(out)
	}
	made, err := time.Parse(time.RFC3339, given)
	return made.UTC(), err
}
