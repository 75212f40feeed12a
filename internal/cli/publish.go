package cli

import (
	"cmp"
	"context"
	"errors"
	"io"

	"github.com/spf13/cobra"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/build"
	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/host"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
	"github.com/airbyte-publish/airbyte-publish/internal/registry"
	"github.com/airbyte-publish/airbyte-publish/internal/report"
)

func publishCommand(p Process) *cobra.Command {
	return inputCommand(p, config.Publish, &cobra.Command{
		Use: "publish [flags] [CONNECTOR...]", Short: "Publish connectors: push the image, register the definition, verify (the default)",
		Long: "publish builds each connector's Dockerfile, assembles the image of a manifest-only folder, or takes an image that exists;\n" +
			"it runs its spec, holds it against Airbyte's contract, pushes it under its tag,\n" +
			"creates or updates its definition in every workspace, and verifies what Airbyte then holds.\n" +
			"A CONNECTOR is a folder with a metadata.yaml, a manifest.yaml or a Dockerfile; globs are taken.",
	})
}

func planCommand(p Process) *cobra.Command {
	return inputCommand(p, config.Plan, &cobra.Command{
		Use: "plan [flags] [CONNECTOR...]", Short: "Say what publish would do; read only",
		Long: "plan reads the connectors, their base images, the registry and Airbyte, and says what publish would do. It writes nothing that\n" +
			"stays, builds no Dockerfile and runs no spec.",
	})
}

func lintCommand(p Process) *cobra.Command {
	return inputCommand(p, config.Lint, &cobra.Command{
		Use: "lint [flags] [CONNECTOR...]", Short: "Hold images against Airbyte's contract, from manifest and config alone",
		Long: "lint holds each connector's image against Airbyte's contract, as far as manifest and config tell; those of a Dockerfile follow from\n" +
			"it and its base image. It asks no Airbyte, builds no Dockerfile and runs no spec.",
	})
}

func inputCommand(p Process, verb config.Verb, cmd *cobra.Command) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	addInputs(cmd)
	output := addOutput(cmd, verb)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if err := output.check(); err != nil {
			return err
		}
		r := run{Process: p, verb: verb, output: output}
		return r.do(cmd.Context(), config.Lookup{Flags: given(cmd.Flags()), Args: args, Getenv: p.Getenv, Environ: p.Environ, Dir: p.Dir, Verb: verb})
	}
	return cmd
}

// run is one run of a verb that reads inputs.
type run struct {
	Process
	verb   config.Verb
	output *output
	host   host.Host
}

func (r *run) do(ctx context.Context, lookup config.Lookup) (err error) {
	r.host = detect(r.Process, r.output.machine())
	defer func() { err = cmp.Or(err, r.host.Close()) }()
	section := r.host.Section("")
	cfg, err := config.Load(lookup)
	r.host.Mask(cfg.Secrets()...)
	var result publish.Result
	code := exitInputs
	warnings, wrong := registry.Check(r.registryOptions(cfg))
	if err = errors.Join(err, wrong); r.verb != config.Lint {
		cfg.Warnings = append(cfg.Warnings, warnings...)
	}
	if err == nil {
		for _, f := range cfg.Warnings {
			log{section}.Finding(f)
		}
		err = r.onlyChanged(ctx, cfg, section)
	}
	if err == nil {
		result, err = r.work(ctx, cfg, section)
		err = errors.Join(result.Err(), err)
		code = exitCode(ctx, err)
	} else if ctx.Err() != nil {
		code = exitInterrupted
	}
	annotate(section, err, labels(result))
	if err := r.tell(report.New(result, err, r.host.Redact)); err != nil {
		annotate(section, err, nil)
		code = max(code, exitFailed)
	}
	if code != exitDone {
		return exit(code)
	}
	return nil
}

// work wires the parts and runs them.
func (r *run) work(ctx context.Context, cfg *config.Config, section host.Section) (_ publish.Result, err error) {
	transfer := &transfer{section: section}
	defer transfer.end()
	options := r.registryOptions(cfg)
	options.Log = func(line string) { section.Info("%s", line) }
	options.Progress, options.Secret = transfer.progress, r.host.Mask
	images := registry.New(options)
	builder := build.New(build.Options{
		Open: images.Open, Getenv: buildGetenv(r.Process, cfg.Pulling), UserAgent: userAgent(), Builder: cfg.Build.Builder, BuildkitHosts: cfg.Build.BuildkitHosts,
		Jobs: cfg.Jobs, Credentials: images.Credentials, Hosts: hosts(cfg.Connectors), PlainHTTP: images.PlainHTTP,
	})
	defer func() { err = cmp.Or(err, builder.Close()) }()
	several := len(cfg.Connectors) > 1
	p := publish.Publisher{
		Builder: builder, Registry: images, WorkspaceIDs: cfg.WorkspaceIDs, Register: cfg.Register,
		IfTagExists: publish.TagPolicy(cfg.IfTagExists),
		// Each BuildKit takes as many builds, so that several can be busy at once.
		Jobs: cfg.Jobs * max(len(cfg.Build.BuildkitHosts), 1),
		NewLog: func(c connector.Connector) (connector.Log, func()) {
			title := c.Label
			if title == "." {
				title = c.Repository.Base()
			}
			s := r.host.Section(title, host.Buffered(several))
			// What a section could not write, Host.Close tells.
			return log{s}, func() { _ = s.Close() }
		},
	}
	if usesDockerHost(cfg.Pulling) {
		p.Place = dockerHost(r.Process, cfg, images)
	}
	if r.verb == config.Lint {
		return p.Lint(ctx, cfg.Connectors), nil
	}
	if cfg.Register {
		options := airbyteOptions(cfg)
		options.Log = section.Info
		a := airbyte.New(options)
		p.Workspaces, p.Definitions = a, a
	}
	r.inspector(cfg, &p)
	if r.verb == config.Plan || cfg.DryRun {
		return p.Plan(ctx, cfg.Connectors), nil
	}
	result := p.Publish(ctx, cfg.Connectors)
	result.Engines = builder.Engines()
	return result, nil
}

// registryOptions are what the inputs say of the registry.
func (r *run) registryOptions(cfg *config.Config) registry.Options {
	in := cfg.Registry
	o := registry.Options{
		Provider: in.Provider, Username: in.Username, Password: in.Password, Token: in.Token, IDTokens: r.host,
		AWSRoleARN: in.AWSRoleARN, GCPProvider: in.GCPProvider, GCPServiceAccount: in.GCPServiceAccount, AzureTenantID: in.AzureTenantID,
		AzureClientID: in.AzureClientID, DockerHubConnectionID: in.DockerHubConnectionID, CreateRepository: in.CreateRepository,
		PullUsername: in.PullUsername, PullPassword: in.PullPassword, Hosts: hosts(cfg.Connectors), Repositories: repositories(cfg.Connectors),
		TLS: in.TLS, PlainHTTP: in.PlainHTTP,
		Getenv: r.Getenv, UserAgent: userAgent(),
	}
	if in.OIDCToken != "" {
		o.IDTokens, o.OIDCGiven = registry.StaticIDToken(in.OIDCToken), true
	}
	return o
}

func repositories(connectors []connector.Connector) []image.Repository {
	var all []image.Repository
	for _, c := range connectors {
		all = append(all, c.Repository)
	}
	return all
}

// hosts are the registries that the connectors are published to.
func hosts(connectors []connector.Connector) []string {
	var all []string
	for _, c := range connectors {
		all = append(all, c.Repository.Registry())
	}
	return all
}

// labels names, where there are several connectors, those that each failure is about.
func labels(result publish.Result) map[*fault.Error]string {
	of := map[*fault.Error]string{}
	connectors := map[string]bool{}
	for _, row := range result.Rows {
		connectors[row.Connector] = true
		for _, f := range fault.List(row.Err) {
			if of[f] == "" {
				of[f] = row.Connector
			} else if of[f] != row.Connector {
				of[f] = "several connectors"
			}
		}
	}
	if len(connectors) < 2 {
		return nil
	}
	return of
}

// tell hands the result to whoever waits for it: standard output, and the CI host's outputs and summary.
func (r *run) tell(told report.Report) error {
	out := r.host.Redacting(r.Stdout)
	_, err := io.WriteString(out, r.output.of(told))
	err = errors.Join(err, out.Close())
	if r.verb == config.Lint {
		return err
	}
	var outputs []host.Output
	for _, o := range told.Outputs() {
		outputs = append(outputs, host.Output(o))
	}
	if r.host.Name() == "github" {
		// Elsewhere an output is one line, and the summary is a file that later jobs can read.
		outputs = append(outputs, host.Output{Name: "summary", Value: told.Comment()})
	}
	return errors.Join(err, r.host.WriteOutputs(outputs), r.host.WriteSummary(told.Markdown()))
}

var (
	_ publish.Builder     = (*build.Builder)(nil)
	_ publish.Registry    = (*registry.Client)(nil)
	_ publish.Workspaces  = (*airbyte.Client)(nil)
	_ publish.Definitions = (*airbyte.Client)(nil)
)
