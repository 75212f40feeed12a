package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"regexp"
	"strings"
)

// notes writes what changed since the release before: the commits' first lines, and how to verify what is released.
func notes(ctx context.Context, version string, out io.Writer) error {
	to := version
	if _, err := output(ctx, "git", "rev-parse", "--verify", "--quiet", version+"^{commit}"); err != nil {
		to = "HEAD"
	}
	// Without a release before this one all commits count.
	previous, err := output(ctx, "git", "describe", "--tags", "--abbrev=0", "--match", "v*.*.*", "--exclude", version, to)
	span := to
	if previous = strings.TrimSpace(previous); err == nil {
		span = previous + ".." + to
	}
	log, err := output(ctx, "git", "log", "--no-merges", "--format=%h %s", span)
	if err != nil {
		return err
	}
	var b strings.Builder
	b.WriteString("## Changes\n\n")
	for line := range strings.Lines(log) {
		id, subject, _ := strings.Cut(strings.TrimSpace(line), " ")
		if strings.HasPrefix(subject, releaseCommit) {
			continue
		}
		fmt.Fprintf(&b, "- %s (%s)\n", plain.Replace(subject), id)
	}
	if previous != "" {
		fmt.Fprintf(&b, "\nAll of it: https://%s/compare/%s...%s\n", module, previous, version)
	}
	fmt.Fprintf(&b, "\n[How to verify what is released here](https://%s/blob/%s/docs/releases.md)\n", module, version)
	_, err = io.WriteString(out, b.String())
	return err
}

// releaseCommit begins the message of the commit that a release is tagged at. It changes action.yml alone.
const releaseCommit = "Release v"

// plain keeps a commit's message from mentioning people and issues, and from being Markdown.
var plain = strings.NewReplacer("@", "@\u200b", "#", "#\u200b", "<", "&lt;", "[", `\[`, "`", "\\`", "*", `\*`, "_", `\_`)

var commitPattern = regexp.MustCompile(`^[0-9a-f]{40}$`)

// provenance writes how a release was built, as the predicate of SLSA's provenance 1.0, for cosign to sign.
func provenance(version, commit, builder, invocation string, out io.Writer) error {
	if !commitPattern.MatchString(commit) || !strings.HasPrefix(builder, "https://") || !strings.HasPrefix(invocation, "https://") {
		return errors.New("provenance takes a -commit of 40 digits, and https URLs as -builder and -run")
	}
	type object = map[string]any
	text, err := json.MarshalIndent(object{
		"buildDefinition": object{
			"buildType":          "https://" + module + "/blob/" + version + "/docs/releases.md",
			"externalParameters": object{"version": version},
			"resolvedDependencies": []object{{"uri": "git+https://" + module + "@refs/tags/" + version,
				"digest": object{"gitCommit": commit}}},
		},
		"runDetails": object{"builder": object{"id": builder}, "metadata": object{"invocationId": invocation}},
	}, "", "  ")
	if err != nil {
		return err
	}
	_, err = out.Write(append(text, '\n'))
	return err
}
