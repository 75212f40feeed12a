package main

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"regexp"
	"slices"
	"strconv"
	"strings"
)

// moving writes the tags that are to point to a version from now on, one a line: its major version's, and latest. They
// move only forward, so that a fix of an older version takes nothing back.
func moving(ctx context.Context, version string, out io.Writer) error {
	if strings.Contains(version, "-") {
		return errors.New("no tag moves to a version with a dash")
	}
	refs, err := output(ctx, "git", "for-each-ref", "--format=%(refname:strip=2) %(objectname) %(*objectname)", "refs/tags")
	if err != nil {
		return err
	}
	major, _, _ := strings.Cut(version, ".")
	move := []string{major, "latest"}
	for _, further := range reached(refs) {
		if compare(version, further) >= 0 {
			continue
		}
		its, _, _ := strings.Cut(further, ".")
		move = slices.DeleteFunc(move, func(tag string) bool { return tag == "latest" || tag == its })
	}
	for _, tag := range move {
		if _, err := fmt.Fprintln(out, tag); err != nil {
			return err
		}
	}
	return nil
}

var majorPattern = regexp.MustCompile(`^v\d+$`)

// reached are the versions that the tags of major versions point to now. A version that was tagged and failed its test is
// none of them.
func reached(refs string) []string {
	of := map[string][]string{}
	var commits []string
	for line := range strings.Lines(refs) {
		fields := strings.Fields(line)
		if len(fields) < 2 {
			continue
		}
		tag, commit := fields[0], fields[len(fields)-1]
		if of[commit] = append(of[commit], tag); majorPattern.MatchString(tag) {
			commits = append(commits, commit)
		}
	}
	var versions []string
	for _, commit := range commits {
		for _, tag := range of[commit] {
			if versionPattern.MatchString(tag) && !strings.Contains(tag, "-") {
				versions = append(versions, tag)
			}
		}
	}
	return versions
}

// compare compares two versions without dashes.
func compare(a, b string) int {
	numbers := func(version string) (all []int) {
		for text := range strings.SplitSeq(strings.TrimPrefix(version, "v"), ".") {
			// The pattern of versions has digits there.
			n, _ := strconv.Atoi(text)
			all = append(all, n)
		}
		return all
	}
	return slices.CompareFunc(numbers(a), numbers(b), cmp.Compare[int])
}
