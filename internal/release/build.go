package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// target is what a binary is built for.
type target struct{ os, arch string }

var targets = []target{{"linux", "amd64"}, {"linux", "arm64"}, {"darwin", "amd64"}, {"darwin", "arm64"}, {"windows", "amd64"}, {"windows", "arm64"}}

// binary is the target's file name. The action looks for it by this name.
func (t target) binary() string {
	name := "airbyte-publish_" + t.os + "_" + t.arch
	if t.os == "windows" {
		name += ".exe"
	}
	return name
}

// materials is the name of the binary's bill of materials.
func (t target) materials() string { return "airbyte-publish_" + t.os + "_" + t.arch + ".spdx.json" }

const (
	module = "github.com/airbyte-publish/airbyte-publish"
	// sumsFile has the sums of all that is released, as sha256sum prints them. actionFile has those of the binaries, as
	// internal/config/gen takes them into action.yml. It goes into the commit that is tagged, not into the release.
	sumsFile   = "checksums.txt"
	actionFile = "release.txt"
)

// ldflags are the linker's arguments: without symbols, and with the version.
func ldflags(version string) string {
	return "-s -w -X " + module + "/internal/cli.released=" + version
}

type settings struct {
	version, dir string
	time         time.Time
	environ      []string
	// only is one target as OS/ARCH; empty means all, with what belongs to them.
	only string
}

// build writes a release into a folder. What it writes depends on the source, the version and the commit's time alone.
func build(ctx context.Context, s settings, out io.Writer) error {
	if err := os.MkdirAll(s.dir, 0o755); err != nil {
		return err
	}
	toolchain, err := toolchain(ctx)
	if err != nil {
		return err
	}
	var all, binaries []string
	for _, t := range targets {
		if s.only != "" && s.only != t.os+"/"+t.arch {
			continue
		}
		if err := compile(ctx, s, t, toolchain); err != nil {
			return err
		}
		if err := writeMaterials(s, t); err != nil {
			return err
		}
		binaries = append(binaries, t.binary())
		all = append(all, t.binary(), t.materials())
	}
	if binaries == nil {
		return fmt.Errorf("%s is no target", s.only)
	}
	sums, err := sumsOf(s.dir, binaries)
	if err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(s.dir, actionFile), []byte(s.version+"\n"+sums), 0o644); err != nil {
		return err
	}
	slices.Sort(all)
	if sums, err = sumsOf(s.dir, all); err != nil {
		return err
	}
	if _, err := io.WriteString(out, sums); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(s.dir, sumsFile), []byte(sums), 0o644)
}

// toolchain is the version of Go that go.mod names: any other one builds something else.
func toolchain(ctx context.Context) (string, error) {
	out, err := output(ctx, "go", "mod", "edit", "-json")
	if err != nil {
		return "", err
	}
	var parsed struct{ Go string }
	if err := json.Unmarshal([]byte(out), &parsed); err != nil {
		return "", err
	}
	return "go" + parsed.Go, nil
}

// compile builds one binary. What the environment says of builds is overridden, since each of it changes the result.
func compile(ctx context.Context, s settings, t target, toolchain string) error {
	file, err := filepath.Abs(filepath.Join(s.dir, t.binary()))
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-mod=readonly", "-ldflags", ldflags(s.version), "-o", file, ".")
	cmd.Env = append(slices.Clone(s.environ), "CGO_ENABLED=0", "GOOS="+t.os, "GOARCH="+t.arch, "GOAMD64=v1", "GOARM64=v8.0", "GOFLAGS=",
		"GOEXPERIMENT=", "GOFIPS140=off", "GODEBUG=", "GOWORK=off", "GOTOOLCHAIN="+toolchain)
	var stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stderr, &stderr
	if err := cmd.Run(); err != nil {
		return fmt.Errorf("build for %s/%s: %w\n%s", t.os, t.arch, err, stderr.String())
	}
	return nil
}

// sumsOf are the sums of files of a folder, as sha256sum prints them.
func sumsOf(dir string, names []string) (string, error) {
	var b strings.Builder
	for _, name := range names {
		sum, err := sumOf(filepath.Join(dir, name))
		if err != nil {
			return "", err
		}
		fmt.Fprintf(&b, "%s  %s\n", sum, name)
	}
	return b.String(), nil
}

func sumOf(file string) (string, error) {
	f, err := os.Open(file)
	if err != nil {
		return "", err
	}
	defer f.Close()
	sum := sha256.New()
	if _, err := io.Copy(sum, bufio.NewReaderSize(f, 1<<20)); err != nil {
		return "", err
	}
	return fmt.Sprintf("%x", sum.Sum(nil)), nil
}

// output runs a command and returns what it printed.
func output(ctx context.Context, name string, args ...string) (string, error) {
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return "", fmt.Errorf("%s %s: %w: %s", name, strings.Join(args, " "), err, strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}
