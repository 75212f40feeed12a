package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
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
	// file gets what is printed; empty is standard output, unless that is a log, and "-" is standard output in any case.
	file string
}

// makes tells whether a Secret is made, which takes credentials.
func (ask pullSecret) makes(existing bool) bool {
	return !ask.values && !ask.refresher && !existing && (ask.apply || ask.wire == "")
}

func pullSecretCommand(p Process) *cobra.Command {
	var ask pullSecret
	cmd := &cobra.Command{
		Use: "pull-secret [flags] [REGISTRY | IMAGE | CONNECTOR...]", Short: "Print or apply the pull secret that the Airbyte deployment needs, and wire it",
		Long: "pull-secret makes the Secret with which Airbyte's cluster pulls images, out of pull-username and pull-password, and prints it. With --apply\n" +
			"it is created, or merged into the one that is there, in the namespace where connectors' pods run. Credentials that end with the job or within a\n" +
			"day are refused. --wire says what it takes for connectors' pods to be given it; with --apply that is done. Without a registry,\n" +
			"--wire --apply takes the secret that is there, and needs no credentials. On a CI host the Secret is not printed into the log.\n" +
			"Without --apply, --wire and a cluster named by kubeconfig or kube-context, no cluster is asked.",
	}
	flags := cmd.Flags()
	flags.BoolVar(&ask.apply, "apply", false, "create or change the secret in the cluster, and with --wire the wiring")
	flags.StringVar(&ask.wire, "wire", "", "show the wiring, or with --apply make it: launcher (Airbyte's own list) or service-account (its imagePullSecrets)")
	flags.Lookup("wire").NoOptDefVal = string(deployment.ByLauncher)
	flags.BoolVar(&ask.force, "force-conflicts", false, "take the secret's content over from whoever manages it")
	flags.BoolVar(&ask.values, "helm-values", false, "print Helm values with the same effect as --wire, instead of the secret")
	flags.BoolVar(&ask.refresher, "ecr-refresher", false, "print a CronJob that renews the secret for Amazon ECR, instead of the secret")
	flags.StringVar(&ask.file, "output-file", "", "write what would be printed to this file, which only you may read; - is standard output, also on a CI host")
	made := pullingCommand(p, config.PullSecret, cmd, func(ctx context.Context, r *run, cfg *config.Config, section host.Section) (string, error) {
		return r.pullSecret(ctx, cfg, section, ask)
	})
	made.Args = func(_ *cobra.Command, args []string) error {
		for _, way := range []deployment.Way{deployment.ByLauncher, deployment.ByServiceAccount} {
			if ask.wire != "" && slices.Contains(args, string(way)) {
				return flagFault("--wire", fmt.Sprintf("%q stands apart from it, and is taken for a connector's folder", way), "Write --wire="+string(way)+".")
			}
		}
		return nil
	}
	return made
}

// flagFault is a flag that goes not with the others.
func flagFault(object, cause, remedy string) error {
	return &fault.Error{Code: fault.ConflictingInputs, Op: "read the flag", Object: object, Cause: cause, Remedy: remedy}
}

func (ask pullSecret) check() error {
	switch {
	case ask.wire != "" && ask.wire != string(deployment.ByLauncher) && ask.wire != string(deployment.ByServiceAccount):
		return flagFault("--wire", fmt.Sprintf("%q is not a way to wire", fault.Bounded(ask.wire)), "Write --wire=launcher or --wire=service-account.")
	case ask.values && ask.refresher:
		return flagFault("--helm-values", "it is given together with --ecr-refresher", "Give one of them.")
	case (ask.values || ask.refresher) && ask.apply:
		return flagFault("--apply", "what --helm-values and --ecr-refresher print is applied by helm and by kubectl", "Leave it away.")
	case ask.apply && ask.file != "":
		return flagFault("--output-file", "with --apply the secret goes into the cluster, and nothing is printed", "Give one of them.")
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
		return r.refresher(secret, hosts, section, ask)
	}
	// What is renewed for ECR is a secret of its own, which is there already.
	refreshed := len(hosts) > 0 && !slices.ContainsFunc(hosts, func(h string) bool { return !deployment.Refreshed(h) })
	if refreshed && (ask.wire != "" || ask.values) {
		secret.Name = deployment.RefreshedName(secret.Name)
	}
	existing := ask.apply && ask.wire != "" && (refreshed || !cfg.Named && cfg.Registry.PullPassword == "")
	if ask.makes(existing) {
		if err := errors.Join(oneOf(hosts, cfg.Registries), r.keptFromLog(ask)); err != nil {
			return "", err
		}
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
	return r.wired(ctx, r.cluster(cfg, verb), secret, section, ask, existing)
}

func (r *run) refresher(secret deployment.PullSecret, hosts []string, section host.Section, ask pullSecret) (string, error) {
	if len(hosts) == 0 {
		return "", noRegistry("such as 123456789012.dkr.ecr.eu-central-1.amazonaws.com")
	}
	manifest, err := deployment.ECRRefresher(secret, hosts)
	if err != nil {
		return "", err
	}
	return r.handOver(manifest, section, ask)
}

func noRegistry(such string) error {
	return &fault.Error{Code: fault.MissingInput, Op: "read", Object: `input "connectors"`, Cause: "no registry is named, and the working directory is no connector",
		Remedy: "Name a registry or an image, " + such + ", or a connector's folder."}
}

// oneOf makes sure that there is one registry: there is one password, and another registry must not get it. Who names
// several outright says that it is good at each.
func oneOf(hosts, named []string) error {
	if len(hosts) == 0 {
		return noRegistry("such as ghcr.io or ghcr.io/acme/source-erp")
	}
	for _, h := range hosts {
		if !deployment.SameRegistry(h, hosts[0]) && len(named) < len(hosts) {
			return &fault.Error{Code: fault.ConflictingInputs, Op: "read", Object: `input "pull-username"`,
				Cause: "it belongs to one registry, and these are several: " + fault.Bounded(strings.Join(hosts, ", ")),
				Remedy: "Run pull-secret --apply once for each registry, with its own credentials: the entries are merged into one secret. " +
					"If they are good at each, name the registries themselves instead of images and connectors."}
		}
	}
	return nil
}

// keptFromLog refuses to print a Secret where standard output is a job's log, which more people read than may pull, and
// which can't be told to hide it. Nothing tells a log from a pipe there. GitHub's runner is told.
func (r *run) keptFromLog(ask pullSecret) error {
	if ask.apply || ask.file != "" || r.StdoutIsTerminal || r.host.Name() != "gitlab" && !r.onOtherCI() {
		return nil
	}
	return flagFault("--output-file", "the Secret holds the credentials, and on this CI host standard output is the job's log",
		"Add --apply, or --output-file with a file's name. Where you pipe it on, --output-file - prints it all the same.")
}

// onOtherCI tells of CI hosts that package host takes for a terminal. CI alone says nothing of where standard output goes.
func (r *run) onOtherCI() bool {
	for _, v := range []string{"TF_BUILD", "JENKINS_URL", "TEAMCITY_VERSION", "CIRCLECI", "BITBUCKET_BUILD_NUMBER"} {
		if r.Getenv(v) != "" {
			return true
		}
	}
	return false
}

// credentials puts those of the inputs into the secret, for each name of the registry, unless they don't last.
func (r *run) credentials(cfg *config.Config, hosts []string, secret *deployment.PullSecret, section host.Section) error {
	in := cfg.Registry
	if len(hosts) > 1 && !deployment.SameRegistry(hosts[0], hosts[len(hosts)-1]) {
		section.Info("the same credentials are written for each of %s", strings.Join(hosts, ", "))
	}
	for _, h := range hosts {
		c := deployment.Credentials{Host: h, Username: in.PullUsername, Password: in.PullPassword}
		if c.Password == "" {
			return &fault.Error{Code: fault.MissingInput, Op: "read", Object: `input "pull-username"`, Cause: "the credentials to pull from " + h + " are not given",
				Remedy: "Set pull-username, and pull-password by AIRBYTE_PUBLISH_PULL_PASSWORD or a file named by --pull-password-file. " + deployment.LastingCredentials(h)}
		}
		if err := deployment.Lasting(c, r.Getenv, time.Now()); err != nil {
			return err
		}
		if notice := c.Notice(); notice != "" {
			section.Info("%s", notice)
		}
		secret.Entries = append(secret.Entries, c)
	}
	r.host.Mask(secret.Encoded()...)
	return nil
}

// printed is what is made without asking a cluster.
func (r *run) printed(secret deployment.PullSecret, section host.Section, ask pullSecret) (string, error) {
	v1, v2 := deployment.HelmValues(deployment.ChartV1, secret.Name), deployment.HelmValues(deployment.ChartV2, secret.Name)
	if ask.values {
		return r.handOver("# Chart v2 (Airbyte 2.0 and later). Names that are there already belong into it, with commas.\n"+v2+
			"---\n# Chart v1.\n"+v1+"---\n# Data plane chart.\n"+deployment.HelmValues(deployment.ChartDataPlane, secret.Name), section, ask)
	}
	manifest, err := secret.Manifest()
	if err != nil {
		return "", err
	}
	if r.StdoutIsTerminal {
		section.Info("what follows holds the credentials: pipe it into kubectl apply --server-side -f -, or use --apply")
	}
	section.Info("apply it in the namespace where Airbyte is installed, where it takes the place of all that a secret %s holds there (--apply merges); then name it to Airbyte by Helm values (--helm-values prints them) or by --wire", secret.Name)
	return r.handOver(manifest, section, ask)
}

// handOver gives a text to standard output, or to the file that was named.
func (r *run) handOver(text string, section host.Section, ask pullSecret) (string, error) {
	if ask.file == "" || ask.file == "-" {
		return text, nil
	}
	file := ask.file
	if !filepath.IsAbs(file) {
		file = filepath.Join(r.Dir, file)
	}
	if err := writePrivate(file, text); err != nil {
		return "", &fault.Error{Code: fault.OutputsFailed, Op: "write", Object: ask.file, Cause: fault.Bounded(err.Error()), Remedy: "Name a file in a folder that can be written to.", Err: err}
	}
	section.Info("wrote %s", ask.file)
	return "", nil
}

// writePrivate writes a file that nobody else may read, also where there is one already that others may. What is no file,
// such as a pipe, is written to.
func writePrivate(file, text string) error {
	if info, err := os.Stat(file); err == nil && !info.Mode().IsRegular() {
		f, err := os.OpenFile(file, os.O_WRONLY, 0)
		if err != nil {
			return err
		}
		_, err = f.WriteString(text)
		return errors.Join(err, f.Close())
	}
	// Its mode is 0600 from the beginning.
	f, err := os.CreateTemp(filepath.Dir(file), ".airbyte-publish-*")
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), file)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// wired does, or shows, what is asked for in the cluster.
func (r *run) wired(ctx context.Context, cluster *deployment.Cluster, secret deployment.PullSecret, section host.Section, ask pullSecret, existing bool) (string, error) {
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
		return r.handOver(w.Values, section, ask)
	}
	secret.Namespace = w.Namespace
	switch {
	case !ask.apply && ask.wire != "":
		return r.handOver(r.redacted(wiringText(w, "To wire it (--wire --apply does this):")), section, ask)
	case !ask.apply:
		section.Info("%s", wiringText(w, "To wire it (--wire --apply does this):"))
		manifest, err := secret.Manifest()
		if err != nil {
			return "", err
		}
		return r.handOver(manifest, section, ask)
	}
	out, err := applied(ctx, cluster, secret, ask, existing)
	if err != nil {
		return "", err
	}
	if ask.wire == "" {
		section.Info("%s", wiringText(w, "For connectors' pods to be given it (--wire does this):"))
		return r.redacted(out), nil
	}
	err = cluster.Wire(ctx, w, func(s deployment.Step) { out += s.Object + ": " + s.Change + "\n" })
	if err == nil && len(w.Steps) == 0 {
		out += "connectors' pods are given it already\n"
	}
	if err == nil {
		for _, note := range w.Notes {
			section.Info("%s", note)
		}
	}
	// They are another way where this one is denied.
	if way == deployment.ByLauncher {
		section.Info("Helm values with the same effect:\n%s", w.Values)
	}
	return r.redacted(out), err
}

// applied brings the secret into the cluster, or makes sure that the one which is to be wired is there.
func applied(ctx context.Context, cluster *deployment.Cluster, secret deployment.PullSecret, ask pullSecret, existing bool) (string, error) {
	if existing {
		if err := cluster.HasSecret(ctx, secret.Namespace, secret.Name); err != nil {
			return "", err
		}
		return fmt.Sprintf("Secret %s in namespace %s is there, and left as it is\n", secret.Name, secret.Namespace), nil
	}
	outcome, err := cluster.ApplySecret(ctx, secret, ask.force)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("Secret %s in namespace %s %s\n", secret.Name, secret.Namespace, outcome), nil
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
