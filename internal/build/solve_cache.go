package build

import (
	"fmt"
	"slices"
	"strings"

	buildkit "github.com/moby/buildkit/client"
	"github.com/moby/buildkit/exporter/containerimage/exptypes"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// caches reads entries in docker's notation, and adds what the runner lends to those of GitHub's cache.
func (b *Builder) caches(
	c connector.Connector, input string, entries []string, log connector.Log,
) ([]buildkit.CacheOptionsEntry, error) {
	var all []buildkit.CacheOptionsEntry
	for _, text := range entries {
		entry, err := parseCache(text, input == "cache-to")
		if err != nil {
			return nil, cacheFault(c, input, err)
		}
		if entry.Type == "gha" && !b.lendGitHubCache(entry.Attrs) {
			log.Info("The cache of type gha is left out: only a job of GitHub Actions has it (ACTIONS_RUNTIME_TOKEN is not set).")
			continue
		}
		insecure := string(exptypes.OptKeyInsecure)
		host := image.Repository(entry.Attrs["ref"]).Registry()
		if entry.Type == "registry" && entry.Attrs[insecure] == "" && b.options.PlainHTTP(host) {
			entry.Attrs[insecure] = "true"
		}
		all = append(all, entry)
	}
	return all, nil
}

// parseCache reads one entry. The types and what they need are BuildKit's.
func parseCache(text string, to bool) (buildkit.CacheOptionsEntry, error) {
	entry := buildkit.CacheOptionsEntry{Type: cacheType(text), Attrs: map[string]string{}}
	if !strings.Contains(text, "=") {
		entry.Attrs["ref"] = strings.TrimSpace(text)
		return entry, nil
	}
	for field := range strings.SplitSeq(text, ",") {
		key, value, found := strings.Cut(strings.TrimSpace(field), "=")
		if !found || key == "" {
			return entry, fmt.Errorf("%q is not KEY=VALUE", field)
		}
		if key != "type" {
			entry.Attrs[key] = value
		}
	}
	folder := "src"
	if to {
		folder = "dest"
	}
	needed := map[string]string{"registry": "ref", "local": folder}
	switch wanted, known := needed[entry.Type]; {
	case known && entry.Attrs[wanted] == "":
		return entry, fmt.Errorf("%q has no %s", text, wanted)
	case !known && !slices.Contains([]string{"gha", "inline", "s3", "azblob"}, entry.Type), entry.Type == "inline" && !to:
		return entry, fmt.Errorf("%q is of no known type", text)
	}
	return entry, nil
}

// lendGitHubCache fills in where GitHub's cache is and the token for it, which the runner gives to actions in variables.
func (b *Builder) lendGitHubCache(attrs map[string]string) bool {
	lent := map[string]string{"token": b.options.Getenv("ACTIONS_RUNTIME_TOKEN")}
	if v2 := b.options.Getenv("ACTIONS_CACHE_SERVICE_V2"); v2 != "" && v2 != "false" && v2 != "0" {
		lent["version"] = "2"
		lent["url_v2"] = b.options.Getenv("ACTIONS_RESULTS_URL")
	} else {
		lent["url"] = b.options.Getenv("ACTIONS_CACHE_URL")
	}
	for key, value := range lent {
		if attrs[key] == "" && value != "" {
			attrs[key] = value
		}
	}
	return attrs["token"] != "" && (attrs["url"] != "" || attrs["url_v2"] != "")
}

func cacheFault(c connector.Connector, input string, err error) error {
	return &fault.Error{Code: fault.CacheFailed, Op: "read the input", Object: input + " for " + c.Label,
		Cause: fault.Bounded(err.Error()), Err: err,
		Remedy: "Write type=registry,ref=REFERENCE, type=local,src=FOLDER (dest=FOLDER to write), type=gha, or type=inline to write."}
}
