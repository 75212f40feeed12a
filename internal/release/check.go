package main

import (
	"debug/buildinfo"
	"debug/elf"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// check holds the folder of a release against what a release is: the sums fit and name every file, each binary is the
// one that its name says and static, and each bill of materials lists what its binary is made of. With a release.txt the
// binaries have the sums that the action will ask for.
func check(dir, version, releaseFile string, out io.Writer) error {
	listed, err := readSums(filepath.Join(dir, sumsFile))
	if err != nil {
		return err
	}
	errs := []error{checkFiles(dir, listed)}
	for _, t := range targets {
		if listed[t.binary()] == "" || listed[t.materials()] == "" {
			errs = append(errs, fmt.Errorf("%s lacks %s or %s", sumsFile, t.binary(), t.materials()))
			continue
		}
		if err := checkBinary(dir, version, t); err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", t.binary(), err))
		}
	}
	if releaseFile != "" {
		errs = append(errs, checkRelease(releaseFile, version, listed))
	}
	if err := errors.Join(errs...); err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "%s: %d files, %d binaries: all as they should be\n", version, len(listed), len(targets))
	return err
}

// readSums reads a file as sha256sum prints it, by name.
func readSums(file string) (map[string]string, error) {
	content, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	sums := map[string]string{}
	for line := range strings.Lines(string(content)) {
		sum, name, found := strings.Cut(strings.TrimSpace(line), "  ")
		if !found || len(sum) != 64 || name != filepath.Base(name) {
			return nil, fmt.Errorf("%s: %q is not a sum and a name", file, line)
		}
		sums[name] = sum
	}
	return sums, nil
}

// checkFiles compares the sums with what is there. Signatures are over the sums, and so not among them.
func checkFiles(dir string, listed map[string]string) error {
	var errs []error
	for name, want := range listed {
		sum, err := sumOf(filepath.Join(dir, name))
		if err == nil && sum != want {
			err = fmt.Errorf("%s has the sum %s and should have %s", name, sum, want)
		}
		errs = append(errs, err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	for _, e := range entries {
		if name := e.Name(); listed[name] == "" && name != sumsFile && name != actionFile && !strings.HasSuffix(name, ".sigstore.json") {
			errs = append(errs, fmt.Errorf("%s is not in %s", name, sumsFile))
		}
	}
	return errors.Join(errs...)
}

// mostBytes is how large the binary for linux/amd64 may become. docs/performance.md has what it is.
const mostBytes = 45_000_000

func checkBinary(dir, version string, t target) error {
	file := filepath.Join(dir, t.binary())
	info, err := buildinfo.ReadFile(file)
	if err != nil {
		return err
	}
	var errs []error
	settings := map[string]string{}
	for _, s := range info.Settings {
		settings[s.Key] = s.Value
	}
	for key, want := range map[string]string{"GOOS": t.os, "GOARCH": t.arch, "CGO_ENABLED": "0", "-trimpath": "true"} {
		if settings[key] != want {
			errs = append(errs, fmt.Errorf("%s is %q and should be %q", key, settings[key], want))
		}
	}
	if info.Path != module {
		errs = append(errs, fmt.Errorf("it is %s", info.Path))
	}
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	if !strings.Contains(string(content), version) {
		errs = append(errs, fmt.Errorf("it does not hold its version %s", version))
	}
	if t.os == "linux" {
		errs = append(errs, static(file))
	}
	if t == (target{"linux", "amd64"}) && len(content) > mostBytes {
		errs = append(errs, fmt.Errorf("it has %d bytes, and a CI job should not have to fetch more than %d", len(content), mostBytes))
	}
	return errors.Join(append(errs, checkMaterials(dir, version, t, info))...)
}

// static tells whether a program of Linux needs no other one to be loaded.
func static(file string) error {
	f, err := elf.Open(file)
	if err != nil {
		return err
	}
	// Closing what was only read loses nothing.
	defer func() { _ = f.Close() }()
	for _, p := range f.Progs {
		if p.Type == elf.PT_INTERP || p.Type == elf.PT_DYNAMIC {
			return errors.New("it is not static")
		}
	}
	return nil
}

// checkMaterials compares a bill of materials with the binary.
func checkMaterials(dir, version string, t target, info *buildinfo.BuildInfo) error {
	content, err := os.ReadFile(filepath.Join(dir, t.materials()))
	if err != nil {
		return err
	}
	var d document
	if err := json.Unmarshal(content, &d); err != nil {
		return err
	}
	sum, err := sumOf(filepath.Join(dir, t.binary()))
	if err != nil {
		return err
	}
	var listed []string
	for _, p := range d.Packages {
		listed = append(listed, p.Name+" "+p.VersionInfo)
		if p.SPDXID == program && (len(p.Checksums) != 1 || p.Checksums[0].Value != sum) {
			return fmt.Errorf("the bill of materials is of a binary with the sum %v", p.Checksums)
		}
	}
	want := []string{module + " " + version, "stdlib " + info.GoVersion}
	for _, m := range modules(info) {
		want = append(want, m.Path+" "+m.Version)
	}
	if !slices.Equal(listed, want) {
		return fmt.Errorf("the bill of materials lists\n%q\nand the binary is made of\n%q", listed, want)
	}
	return nil
}

// checkRelease compares the sums that action.yml has with those of the binaries.
func checkRelease(file, version string, listed map[string]string) error {
	content, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	var errs []error
	found := 0
	for line := range strings.Lines(string(content)) {
		line = strings.TrimSpace(line)
		sum, name, isSum := strings.Cut(line, "  ")
		switch {
		case line == "" || strings.HasPrefix(line, "#"):
		case isSum && listed[name] == sum:
			found++
		case line != version:
			errs = append(errs, fmt.Errorf("%s says %q, and the binaries that were built here are others", file, line))
		}
	}
	if found != len(targets) {
		errs = append(errs, fmt.Errorf("%s has %d binaries of %d", file, found, len(targets)))
	}
	return errors.Join(errs...)
}
