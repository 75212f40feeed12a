package main

import (
	"fmt"
	"regexp"
	"strings"
)

// release is what has been released of the source that an action.yml belongs to.
type release struct {
	version  string
	binaries []binary
}

// binary is a released file for one kind of GitHub runner.
type binary struct {
	// runner is what RUNNER_OS and RUNNER_ARCH say there, joined by a dash.
	runner, file, sha256 string
}

// arch is the name of the binary's folder in the runner's tool cache, as the toolkit of GitHub's own actions spells it.
func (b binary) arch() string {
	_, arch, _ := strings.Cut(b.runner, "-")
	return strings.ToLower(arch)
}

// runners are the kinds of runners by the end of a released file's name.
var runners = map[string]string{
	"linux_amd64":       "Linux-X64",
	"linux_arm64":       "Linux-ARM64",
	"darwin_amd64":      "macOS-X64",
	"darwin_arm64":      "macOS-ARM64",
	"windows_amd64.exe": "Windows-X64",
	"windows_arm64.exe": "Windows-ARM64",
}

var (
	versionPattern = regexp.MustCompile(`^v\d+\.\d+\.\d+(-[0-9A-Za-z.-]+)?$`)
	sumPattern     = regexp.MustCompile(`^([0-9a-f]{64}) [ *]airbyte-publish_([a-z0-9_.]+)$`)
)

// parseRelease reads release.txt; nil when nothing has been released.
func parseRelease(text string) (*release, error) {
	var found *release
	for line := range strings.Lines(text) {
		line = strings.TrimSpace(line)
		switch sum := sumPattern.FindStringSubmatch(line); {
		case line == "" || strings.HasPrefix(line, "#"):
		case found == nil && versionPattern.MatchString(line):
			found = &release{version: line}
		case found != nil && sum != nil && runners[sum[2]] != "":
			found.binaries = append(found.binaries, binary{runner: runners[sum[2]], file: "airbyte-publish_" + sum[2], sha256: sum[1]})
		default:
			return nil, fmt.Errorf("release.txt: %q is neither a version in the first place nor a sum of a binary for a known kind of runner", line)
		}
	}
	if found != nil && found.binaries == nil {
		return nil, fmt.Errorf("release.txt: %s has no binaries", found.version)
	}
	return found, nil
}
