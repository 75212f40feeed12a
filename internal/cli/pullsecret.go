package cli

import (
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/host"
)

// pullSecret is what the flags of the verb ask for.
type pullSecret struct {
	apply, force, values, refresher bool
	// wire is empty where it is not asked for.
	wire string
}

func pullSecretCommand(p Process) *cobra.Command {
	var ask pullSecret
	cmd := &cobra.Command{
		Use: "pull-secret [flags] [REGISTRY | IMAGE | CONNECTOR...]", Short: "Print or apply the pull secret that the Airbyte deployment needs, and wire it",
		Long: "pull-secret makes the Secret with which Airbyte's cluster pulls images, out of pull-username and pull-password, and prints it. With --apply\n" +
			"it is created, or merged into the one that is there, in the namespace where connectors' pods run. Credentials that end with the job or within a\n" +
			"day are refused. --wire says what it takes for connectors' pods to be given it; with --apply that is done.\n" +
			"Without --apply, --wire and a cluster named by kubeconfig or kube-context, no cluster is asked.",
	}
	flags := cmd.Flags()
	flags.BoolVar(&ask.apply, "apply", false, "create or change the secret in the cluster, and with --wire the wiring")
	flags.StringVar(&ask.wire, "wire", "", "show the wiring, or with --apply make it: launcher (Airbyte's own list) or service-account (its imagePullSecrets)")
	flags.Lookup("wire").NoOptDefVal = string(deployment.ByLauncher)
	flags.BoolVar(&ask.force, "force-conflicts", false, "take the secret's content over from whoever manages it")
	flags.BoolVar(&ask.values, "helm-values", false, "print Helm values with the same effect as --wire, instead of the secret")
	flags.BoolVar(&ask.refresher, "ecr-refresher", false, "print a CronJob that renews the secret for Amazon ECR, instead of the secret")
	return pullingCommand(p, config.PullSecret, cmd, func(ctx context.Context, r *run, cfg *config.Config, section host.Section) (string, error) {
		return r.pullSecret(ctx, cfg, section, ask)
	})
}

func (ask pullSecret) check() error {
	bad := func(object, cause, remedy string) error {
		return &fault.Error{Code: fault.ConflictingInputs, Op: "read the flag", Object: object, Cause: cause, Remedy: remedy}
	}
	switch {
	case ask.wire != "" && ask.wire != string(deployment.ByLauncher) && ask.wire != string(deployment.ByServiceAccount):
		return bad("--wire", fmt.Sprintf("%q is not a way to wire", fault.Bounded(ask.wire)), "Write --wire=launcher or --wire=service-account.")
	case ask.values && ask.refresher:
		return bad("--helm-values", "it is given together with --ecr-refresher", "Give one of them.")
	case (ask.values || ask.refresher) && ask.apply:
		return bad("--apply", "what --helm-values and --ecr-refresher print is applied by helm and by kubectl", "Leave it away.")
	}
	return nil
}

func (r *run) pullSecret(ctx context.Context, cfg *config.Config, section host.Section, ask pullSecret) (string, error) {
	if err := ask.check(); err != nil {
		return "", err
	}
	hosts := slices.Clone(cfg.Registries)
	for _, t := range cfg.Images {
		if h := t.Repository.Registry(); !slices.Contains(hosts, h) {
			hosts = append(hosts, h)
		}
	}
	secret := deployment.PullSecret{Name: cfg.Pulling.Secret, Namespace: cfg.Pulling.Namespace}
	if ask.refresher {
		return deployment.ECRRefresher(secret, hosts)
	}
	if !ask.values {
		if err := r.credentials(cfg, hosts, &secret, section); err != nil {
			return "", err
		}
	}
	if !ask.apply && ask.wire == "" && !namesCluster(cfg.Pulling) {
		return r.printed(secret, section, ask)
	}
	verb := string(config.PullSecret)
	if ask.wire != "" && ask.apply {
		verb += "-wire"
	}
	return r.wired(ctx, r.cluster(cfg, verb), secret, section, ask)
}

// credentials puts those of the inputs into the secret, for each registry, unless they don't last.
func (r *run) credentials(cfg *config.Config, hosts []string, secret *deployment.PullSecret, section host.Section) error {
	in := cfg.Registry
	var errs []error
	for _, h := range hosts {
		c := deployment.Credentials{Host: h, Username: in.PullUsername, Password: in.PullPassword}
		if c.Password == "" {
			missing := &fault.Error{Code: fault.MissingInput, Op: "read", Object: `input "pull-username"`, Cause: "the credentials to pull from " + h + " are not given",
				Remedy: "Set pull-username, and pull-password by AIRBYTE_PUBLISH_PULL_PASSWORD or a file named by --pull-password-file. " + deployment.LastingCredentials(h)}
			errs = append(errs, missing)
			continue
		}
		if err := deployment.Lasting(c, r.Getenv, time.Now()); err != nil {
			errs = append(errs, err)
			continue
		}
		if notice := c.Notice(); notice != "" {
			section.Info("%s", notice)
		}
		r.host.Mask(base64.StdEncoding.EncodeToString([]byte(c.Username + ":" + c.Password)))
		secret.Entries = append(secret.Entries, c)
	}
	return errors.Join(errs...)
}

// printed is what is made without asking a cluster.
func (r *run) printed(secret deployment.PullSecret, section host.Section, ask pullSecret) (string, error) {
	v1, v2 := deployment.HelmValues(deployment.ChartV1, secret.Name), deployment.HelmValues(deployment.ChartV2, secret.Name)
	if ask.values {
		return "# Chart v2 (Airbyte 2.0 and later). Names that are there already belong into it, with commas.\n" + v2 +
			"---\n# Chart v1.\n" + v1 + "---\n# Data plane chart.\n" + deployment.HelmValues(deployment.ChartDataPlane, secret.Name), nil
	}
	manifest, err := secret.Manifest()
	if err != nil {
		return "", err
	}
	if r.StdoutIsTerminal {
		section.Info("what follows holds the credentials: pipe it into kubectl apply --server-side -f -, or use --apply")
	}
	section.Info("apply it in the namespace where Airbyte is installed, then name it to Airbyte by Helm values (--helm-values prints them) or by --wire")
	return manifest, nil
}

// wired does, or shows, what is asked for in the cluster.
func (r *run) wired(ctx context.Context, cluster *deployment.Cluster, secret deployment.PullSecret, section host.Section, ask pullSecret) (string, error) {
	way := deployment.ByLauncher
	if ask.wire != "" {
		way = deployment.Way(ask.wire)
	}
	w, err := cluster.Wiring(ctx, secret.Name, way)
	if err != nil {
		return "", err
	}
	section.Info("found %s", w.Release)
	if ask.values {
		return w.Values, nil
	}
	secret.Namespace = w.Namespace
	switch {
	case !ask.apply && ask.wire != "":
		return r.redacted(wiringText(w, "To wire it (--wire --apply does this):")), nil
	case !ask.apply:
		section.Info("%s", wiringText(w, "To wire it (--wire --apply does this):"))
		return secret.Manifest()
	}
	outcome, err := cluster.ApplySecret(ctx, secret, ask.force)
	if err != nil {
		return "", err
	}
	out := fmt.Sprintf("Secret %s in namespace %s %s\n", secret.Name, secret.Namespace, outcome)
	if ask.wire == "" {
		section.Info("%s", wiringText(w, "For connectors' pods to be given it (--wire does this):"))
		return r.redacted(out), nil
	}
	err = cluster.Wire(ctx, w, func(s deployment.Step) { out += s.Object + ": " + s.Change + "\n" })
	if err == nil && len(w.Steps) == 0 {
		out += "connectors' pods are given it already\n"
	}
	for _, note := range w.Notes {
		section.Info("%s", note)
	}
	if err == nil && way == deployment.ByLauncher {
		section.Info("Helm values with the same effect:\n%s", w.Values)
	}
	return r.redacted(out), err
}

// wiringText says what it takes for connectors' pods to be given the secret.
func wiringText(w deployment.Wiring, title string) string {
	var b strings.Builder
	if len(w.Steps) == 0 {
		title = "Connectors' pods are given it already."
	}
	b.WriteString(title + "\n")
	for _, s := range w.Steps {
		fmt.Fprintf(&b, "  %s: %s\n", s.Object, s.Change)
	}
	for _, note := range w.Notes {
		b.WriteString(note + "\n")
	}
	if len(w.Steps) > 0 {
		b.WriteString("Or these Helm values:\n" + w.Values)
	}
	return b.String()
}
