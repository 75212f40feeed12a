package cli

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/host"
	"github.com/airbyte-publish/airbyte-publish/internal/publish"
)

var _ publish.Deployment = (*deployment.Cluster)(nil)

// cluster is the Kubernetes cluster that the inputs name; verb names the manifest with the rights that it takes.
func (r *run) cluster(cfg *config.Config, verb string) *deployment.Cluster {
	p := cfg.Pulling
	return deployment.NewCluster(deployment.ClusterOptions{Kubeconfig: p.Kubeconfig, KubeconfigFile: p.KubeconfigFile, Context: p.Context, Namespace: p.Namespace,
		Verb: verb, Getenv: r.Getenv, Environ: r.Environ, UserAgent: userAgent(), Secret: r.host.Mask})
}

// namesCluster tells whether a cluster was named by an input, and not merely may be there.
func namesCluster(p config.Pulling) bool {
	return len(p.Kubeconfig) > 0 || p.KubeconfigFile != "" || p.Context != ""
}

// inspector is asked about the pulling side by publish: in any case where verify-pull says so, and else only about what
// Airbyte could not run, if it is known where that was.
func (r *run) inspector(cfg *config.Config, p *publish.Publisher) {
	in := cfg.Pulling
	p.VerifyPull = in.Verify == config.Kubernetes
	// What was loaded into nodes can't be pulled by them.
	if p.VerifyPull || in.Verify == config.Nowhere && !in.Docker.Load && namesCluster(in) {
		p.Deployment = r.cluster(cfg, string(config.VerifyPull))
	}
}

// pullingCommand makes a command of the pulling side. Its act returns what standard output gets, as it is: what may not
// be shown there, act has taken out.
func pullingCommand(p Process, verb config.Verb, cmd *cobra.Command, act func(ctx context.Context, r *run, cfg *config.Config, section host.Section) (string, error)) *cobra.Command {
	cmd.Args = cobra.ArbitraryArgs
	addInputs(cmd)
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		// Standard output is for the result alone, which is often piped on.
		r := run{Process: p, verb: verb}
		lookup := config.Lookup{Flags: given(cmd.Flags()), Args: args, Getenv: p.Getenv, Environ: p.Environ, Dir: p.Dir, Verb: verb}
		return r.look(cmd.Context(), lookup, act)
	}
	return cmd
}

// look reads the inputs and acts on them.
func (r *run) look(ctx context.Context, lookup config.Lookup, act func(context.Context, *run, *config.Config, host.Section) (string, error)) (err error) {
	r.host = detect(r.Process, true)
	defer func() { err = errors.Join(err, r.host.Close()) }()
	section := r.host.Section("")
	cfg, err := config.Load(lookup)
	r.host.Mask(cfg.Secrets()...)
	code := exitInputs
	if err == nil {
		for _, f := range cfg.Warnings {
			log{section}.Finding(f)
		}
		var out string
		out, err = act(ctx, r, cfg, section)
		code = exitCode(ctx, err)
		if strings.HasPrefix(string(fault.CodeOf(err)), "AP1") && err != nil {
			code = exitInputs
		}
		if _, failed := io.WriteString(r.Stdout, out); failed != nil {
			err, code = errors.Join(err, failed), max(code, exitFailed)
		}
	}
	annotate(section, err, nil)
	if code != exitDone {
		return exit(code)
	}
	return nil
}

// redacted is what may be printed beside the log.
func (r *run) redacted(text string) string {
	var b strings.Builder
	w := r.host.Redacting(&b)
	// A strings.Builder takes everything.
	_, _ = io.WriteString(w, text)
	_ = w.Close()
	return b.String()
}

func verifyPullCommand(p Process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "verify-pull [flags] [IMAGE:TAG | CONNECTOR...]", Short: "Prove that the Airbyte deployment can pull images and run their spec",
		Long: "verify-pull starts a pod for each image in Airbyte's namespace as Airbyte would: with its service account, pull secrets, node selectors and\n" +
			"tolerations, and always pulling. It says why the node could not pull or run it, and what to do. The pod is deleted in any case.\n" +
			"The rights that it needs are in docs/kubernetes/verify-pull.yaml.\n" +
			"With --verify-pull docker-host the engine of docker-host pulls it instead, with that host's own credentials; with --load it is sent there.",
	}
	output := addOutput(cmd, config.VerifyPull)
	return pullingCommand(p, config.VerifyPull, cmd, func(ctx context.Context, r *run, cfg *config.Config, section host.Section) (string, error) {
		if err := output.check(); err != nil {
			return "", err
		}
		return r.verifyPull(ctx, cfg, section, output.machine())
	})
}

// pulled is what became of one image.
type pulled struct {
	Image  string     `json:"image"`
	OK     bool       `json:"ok"`
	Code   fault.Code `json:"code,omitempty"`
	Cause  string     `json:"cause,omitempty"`
	Remedy string     `json:"remedy,omitempty"`
}

func (r *run) verifyPull(ctx context.Context, cfg *config.Config, section host.Section, asJSON bool) (string, error) {
	place, done := r.verifier(cfg, section), "the deployment pulled it and ran its spec"
	if cfg.Pulling.Docker.Load {
		done = "it is on the Docker host"
	}
	var rows []pulled
	var errs []error
	for _, t := range cfg.Images {
		row := pulled{Image: string(t.Repository) + ":" + t.Tag, OK: true}
		if err := place.VerifyPull(ctx, t.Repository, t.Tag, t.Digest, log{section}); err != nil {
			f := fault.List(err)[0]
			row = pulled{Image: row.Image, Code: f.Code, Cause: f.Cause, Remedy: f.Remedy}
			errs = append(errs, err)
		}
		rows = append(rows, row)
	}
	var b strings.Builder
	if asJSON {
		content, err := json.MarshalIndent(map[string]any{"images": rows}, "", "  ")
		if err != nil {
			return "", err
		}
		b.Write(append(content, '\n'))
	} else {
		for _, row := range rows {
			if row.OK {
				fmt.Fprintf(&b, "%s: %s\n", row.Image, done)
			} else {
				fmt.Fprintf(&b, "%s: %s %s\n", row.Image, row.Code, row.Cause)
			}
		}
	}
	return r.redacted(b.String()), errors.Join(errs...)
}

// verifier is the place that verify-pull names; for the verb, whose name says enough, it is Kubernetes unless it is said.
func (r *run) verifier(cfg *config.Config, section host.Section) publish.Deployment {
	if usesDockerHost(cfg.Pulling) {
		return r.onDockerHost(cfg, section)
	}
	return r.cluster(cfg, string(config.VerifyPull))
}

func doctorCommand(p Process) *cobra.Command {
	cmd := &cobra.Command{
		Use: "doctor [flags] [IMAGE | CONNECTOR...]", Short: "Look at registry, Airbyte and its deployment at once, and say what is wrong; read only",
		Long: "doctor looks at everything that publish depends on: the registry and the right to push, Airbyte's version, sign-in, roles and known defects,\n" +
			"and in the cluster Airbyte's wiring, pull secrets and service account. It changes nothing. The rights that it needs there are in\n" +
			"docs/kubernetes/doctor.yaml. It ends with exit code 1 when something is bad.",
	}
	output := addOutput(cmd, config.Doctor)
	return pullingCommand(p, config.Doctor, cmd, func(ctx context.Context, r *run, cfg *config.Config, _ host.Section) (string, error) {
		if err := output.check(); err != nil {
			return "", err
		}
		checks := r.doctor(ctx, cfg)
		if err := ctx.Err(); err != nil {
			// What was called off is not ill.
			return "", &fault.Error{Code: fault.Interrupted, Op: "look at the set-up", Cause: "the run was interrupted", Remedy: "Run it again.", Err: err}
		}
		out, err := r.told(checks, output.machine())
		return out, errors.Join(err, ill(checks))
	})
}

// ill is the error for a set-up in which something is bad.
func ill(checks []connector.Check) error {
	var bad []string
	for _, c := range checks {
		if c.State == connector.Bad {
			bad = append(bad, c.Area+": "+c.Name)
		}
	}
	if len(bad) == 0 {
		return nil
	}
	return &fault.Error{Code: fault.DeploymentIll, Op: "look at the set-up", Cause: fault.Bounded("bad is " + strings.Join(bad, ", ")), Remedy: "Each line above says what to do."}
}
