// Command push builds the image of airbyte-publish from the repository in the working directory, for all platforms of a
// release, pushes it and prints its digest. The registry's credentials come from the docker configuration, and what
// builds it is found as for connectors (BUILDKIT_HOST, buildx, Docker, a buildkitd on PATH).
//
//	go run ./internal/selfimage/push [flags] REPOSITORY TAG...
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/registry"
	"github.com/airbyte-publish/airbyte-publish/internal/selfimage"
)

func main() {
	// A buildkitd is started by this program, started again.
	if handled, code := build.SpecMain(os.Args); handled {
		os.Exit(code)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Getenv, os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// arguments are those of a flag that may be given several times as NAME=value.
type arguments map[string]string

func (a arguments) String() string { return "" }

func (a arguments) Set(s string) error {
	name, value, found := strings.Cut(s, "=")
	if !found || name == "" {
		return fmt.Errorf("%q is not NAME=value", s)
	}
	a[name] = value
	return nil
}

func run(ctx context.Context, args []string, getenv func(string) string, stdout, stderr io.Writer) (err error) {
	flags := flag.NewFlagSet("push", flag.ContinueOnError)
	flags.SetOutput(stderr)
	buildArgs, labels := arguments{}, arguments{}
	flags.Var(buildArgs, "build-arg", "build `argument` of the Dockerfile, NAME=value; may be repeated")
	flags.Var(labels, "label", "further `label` of the image, NAME=value; may be repeated")
	platforms := flags.String("platforms", strings.Join(selfimage.Platforms, ","), "`platforms`, separated by commas")
	plain := flags.Bool("plain-http", false, "talk to the registry over plain http")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if flags.NArg() < 2 {
		return errors.New("a repository and one or more tags are needed: push [flags] REPOSITORY TAG")
	}
	repository, err := image.ParseRepository(flags.Arg(0))
	if err != nil {
		return err
	}
	log := printer{stderr}
	hosts := []string{repository.Registry()}
	images := registry.New(registry.Options{Hosts: hosts, PlainHTTP: *plain, Getenv: getenv, Log: func(line string) { log.Info("%s", line) }})
	builder := build.New(build.Options{Open: images.Open, Getenv: getenv, Credentials: images.Credentials, Hosts: hosts, PlainHTTP: images.PlainHTTP})
	defer func() {
		if e := builder.Close(); err == nil {
			err = e
		}
	}()
	digest, err := selfimage.Publish(ctx, builder, images, selfimage.Options{
		Dir: ".", Repository: repository, Tags: flags.Args()[1:], Platforms: strings.Split(*platforms, ","), Args: buildArgs, Labels: labels, Log: log,
	})
	if err == nil {
		_, err = fmt.Fprintln(stdout, digest)
	}
	return err
}

// printer is a log of plain lines.
type printer struct{ w io.Writer }

var _ connector.Log = printer{}

func (p printer) Group(title string) func() {
	p.Info("== %s", title)
	return func() {}
}

func (p printer) Info(format string, args ...any) { _, _ = fmt.Fprintf(p.w, format+"\n", args...) }

func (p printer) Finding(f connector.Finding) { p.Info("%s: %s %s", f.Severity, f.Message, f.Remedy) }

func (p printer) Untrusted(title, text string) { p.Info("%s:\n%s", title, text) }
