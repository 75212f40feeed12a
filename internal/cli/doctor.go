package cli

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"

	"github.com/airbyte-publish/airbyte-publish/internal/airbyte"
	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/deployment"
	"github.com/airbyte-publish/airbyte-publish/internal/registry"
)

// doctor looks at the three sides at once; none of them waits for another.
func (r *run) doctor(ctx context.Context, cfg *config.Config) []connector.Check {
	var sides [3][]connector.Check
	var wg sync.WaitGroup
	wg.Go(func() { sides[0] = r.registryChecks(ctx, cfg) })
	wg.Go(func() { sides[1] = r.airbyteChecks(ctx, cfg) })
	wg.Go(func() { sides[2] = r.clusterChecks(ctx, cfg) })
	wg.Wait()
	var all []connector.Check
	for _, side := range sides {
		all = append(all, side...)
	}
	return all
}

func skipped(area, why, remedy string) []connector.Check {
	return []connector.Check{{Area: area, Name: strings.ToLower(area), State: connector.Skipped, Found: why, Remedy: remedy}}
}

func (r *run) registryChecks(ctx context.Context, cfg *config.Config) []connector.Check {
	const area = "Registry"
	if len(cfg.Images) == 0 {
		return skipped(area, "no image is named", "Name an image or a connector's folder.")
	}
	options := r.registryOptions(cfg)
	options.Secret = r.host.Mask
	for _, t := range cfg.Images {
		options.Hosts = append(options.Hosts, t.Repository.Registry())
	}
	images := registry.New(options)
	var checks []connector.Check
	for _, t := range cfg.Images {
		name := "right to push to " + string(t.Repository)
		if err := images.CheckPush(ctx, t.Repository); err != nil {
			checks = append(checks, connector.Failed(area, name, err))
			continue
		}
		checks = append(checks, connector.Check{Area: area, Name: name, State: connector.Good, Found: "an upload could be opened, and was called off"})
		if t.Tag != "" {
			checks = append(checks, tagCheck(ctx, images, t)...)
		}
	}
	return checks
}

// tagCheck looks at what the tag holds, and whether the deployment's credentials read it where they are known.
func tagCheck(ctx context.Context, images *registry.Client, t config.Target) []connector.Check {
	const area = "Registry"
	reference := string(t.Repository) + ":" + t.Tag
	digest, err := images.Digest(ctx, t.Repository, t.Tag)
	switch {
	case err != nil:
		return []connector.Check{connector.Failed(area, reference, err)}
	case digest == "":
		return []connector.Check{{Area: area, Name: reference, State: connector.Good, Found: "does not exist yet"}}
	}
	checks := []connector.Check{{Area: area, Name: reference, State: connector.Good, Found: digest}}
	if !images.PullsAs() {
		return checks
	}
	if err := images.CheckPull(ctx, t.Repository, digest, silent{}); err != nil {
		return append(checks, connector.Failed(area, "pull-username", err))
	}
	return append(checks, connector.Check{Area: area, Name: "pull-username", State: connector.Good, Found: "may pull the image"})
}

// silent is a log for those who have nobody to tell: what they find is told in another way.
type silent struct{}

func (silent) Group(string) func()       { return func() {} }
func (silent) Info(string, ...any)       {}
func (silent) Finding(connector.Finding) {}
func (silent) Untrusted(string, string)  {}

func (r *run) airbyteChecks(ctx context.Context, cfg *config.Config) []connector.Check {
	if cfg.Airbyte.URL == nil {
		return skipped("Airbyte", "airbyte-url is not set", "Set it to look at the instance.")
	}
	return airbyte.New(airbyteOptions(cfg)).Diagnose(ctx, cfg.WorkspaceIDs)
}

// airbyteOptions are what the inputs say of Airbyte.
func airbyteOptions(cfg *config.Config) airbyte.Options {
	in := cfg.Airbyte
	return airbyte.Options{URL: in.URL, ClientID: in.ClientID, ClientSecret: in.ClientSecret, Username: in.Username, Password: in.Password,
		AccessToken: in.AccessToken, Headers: in.Headers, TLS: in.TLS, Timeout: in.Timeout, UserAgent: userAgent()}
}

func (r *run) clusterChecks(ctx context.Context, cfg *config.Config) []connector.Check {
	p := cfg.Pulling
	if !namesCluster(p) && r.Getenv("KUBECONFIG") == "" && r.Getenv("KUBERNETES_SERVICE_HOST") == "" {
		return skipped("Kubernetes", "no cluster is named", "Set kubeconfig, KUBECONFIG or kube-context to look at the cluster that Airbyte runs in.")
	}
	var images []deployment.Image
	for _, t := range cfg.Images {
		images = append(images, deployment.Image{Repository: t.Repository, Tag: t.Tag})
	}
	return r.cluster(cfg, string(config.Doctor)).Doctor(ctx, images)
}

// marks are the words that begin a line.
var marks = map[connector.State]string{connector.Good: "ok", connector.Doubt: "warning", connector.Bad: "BAD", connector.Skipped: "-"}

// told writes the checks as a table, in which a remedy has a line of its own, or as JSON.
func (r *run) told(checks []connector.Check, asJSON bool) (string, error) {
	if asJSON {
		good := ill(checks) == nil
		content, err := json.MarshalIndent(map[string]any{"good": good, "checks": checks}, "", "  ")
		return r.redacted(string(content) + "\n"), err
	}
	width := 0
	for _, c := range checks {
		width = max(width, len(c.Name))
	}
	width = min(width, 44)
	var b strings.Builder
	area := ""
	for _, c := range checks {
		if c.Area != area {
			area = c.Area
			fmt.Fprintf(&b, "%s\n", area)
		}
		fmt.Fprintf(&b, "  %-7s  %-*s  %s\n", marks[c.State], width, c.Name, c.Found)
		if c.Remedy != "" {
			fmt.Fprintf(&b, "  %-7s  %-*s  → %s", "", width, "", c.Remedy)
			if c.Code != "" {
				fmt.Fprintf(&b, " (%s)", c.Code)
			}
			b.WriteString("\n")
		}
	}
	return r.redacted(b.String()), nil
}
