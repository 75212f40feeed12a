package cli

import (
	"context"
	"path/filepath"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/git"
	"github.com/airbyte-publish/airbyte-publish/internal/host"
)

// onlyChanged leaves those connectors in cfg that changed since the commit that changed-since names, if it does.
func (r *run) onlyChanged(ctx context.Context, cfg *config.Config, section host.Section) error {
	if cfg.ChangedSince == "" {
		return nil
	}
	changes := &git.Changes{Ref: cfg.ChangedSince, Environ: r.Environ}
	var changed []connector.Connector
	var passed []string
	for _, c := range cfg.Connectors {
		is, err := changes.Any(ctx, c.Dir, outside(c, r.Dir)...)
		switch {
		case err != nil:
			return err
		case is:
			changed = append(changed, c)
		default:
			passed = append(passed, c.Label)
		}
	}
	switch {
	case changes.Everything():
		section.Info("changed-since names no commit, as before a branch's first push: all connectors count as changed.")
	case len(passed) > 0:
		section.Info("Not changed since %s, and passed over: %s", cfg.ChangedSince, strings.Join(passed, ", "))
	}
	cfg.Connectors = changed
	return nil
}

// outside are the files and folders that a connector is made of and that inputs name outside of its folder, or may.
func outside(c connector.Connector, dir string) []string {
	var all []string
	if c.Recipe.Dockerfile != "" && !filepath.IsAbs(c.Recipe.Dockerfile) {
		all = append(all, filepath.Join(c.Dir, c.Recipe.Dockerfile))
	} else if c.Recipe.Dockerfile != "" {
		all = append(all, c.Recipe.Dockerfile)
	}
	for _, form := range []string{"oci:", "oci-archive:", "docker-archive:"} {
		file, found := strings.CutPrefix(c.Source, form)
		if !found {
			continue
		}
		if dir != "" && !filepath.IsAbs(file) {
			file = filepath.Join(dir, file)
		}
		all = append(all, file)
	}
	return all
}
