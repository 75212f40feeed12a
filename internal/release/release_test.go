package main

import (
	"debug/buildinfo"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"
)

const root = "../.."

// built is a folder with a binary for this machine, and its target.
func built(t *testing.T, environ ...string) (string, target) {
	t.Helper()
	dir := t.TempDir()
	here := target{runtime.GOOS, runtime.GOARCH}
	var out strings.Builder
	err := run(t.Context(), []string{"build", "-version", "v9.8.7", "-to", dir, "-time", "2026-01-02T03:04:05+01:00", "-only", here.os + "/" + here.arch},
		append(os.Environ(), environ...), &out)
	if err != nil {
		t.Fatal(err)
	}
	if sums, err := os.ReadFile(filepath.Join(dir, sumsFile)); err != nil || string(sums) != out.String() || strings.Count(out.String(), "\n") != 2 {
		t.Errorf("%v: %s, and printed %s", err, sums, out.String())
	}
	return dir, here
}

func read(t *testing.T, elem ...string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(elem...))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// TestBuild builds for this machine twice, the second time in an environment that would change the result.
func TestBuild(t *testing.T) {
	t.Chdir(root)
	dir, here := built(t)
	again, _ := built(t, "GOFLAGS=-ldflags=-X=main.x=y", "GOAMD64=v3", "CGO_ENABLED=1", "GOOS=plan9", "GOEXPERIMENT=synctest", "GODEBUG=gctrace=1")
	if a, b := read(t, dir, sumsFile), read(t, again, sumsFile); a != b {
		t.Errorf("the sums differ:\n%s%s", a, b)
	}
	out, err := exec.Command(filepath.Join(dir, here.binary()), "version").Output()
	if err != nil || string(out) != "v9.8.7\n" {
		t.Errorf("it says that it is %q, %v", out, err)
	}
	if err := checkBinary(dir, "v9.8.7", here); err != nil {
		t.Error(err)
	}
	if err := checkBinary(dir, "v9.8.8", here); err == nil || !strings.Contains(err.Error(), "version") {
		t.Errorf("another version: %v", err)
	}
	if got := read(t, dir, actionFile); !regexp.MustCompile(`^v9\.8\.7\n[0-9a-f]{64}  ` + regexp.QuoteMeta(here.binary()) + `\n$`).MatchString(got) {
		t.Errorf("release.txt:\n%s", got)
	}
	compareWithGo(t, dir, here)

	// The check of a whole release finds what is wrong with this part of one.
	err = check(dir, "v9.8.7", filepath.Join(dir, actionFile), &strings.Builder{})
	if err == nil || !strings.Contains(err.Error(), "lacks airbyte-publish_windows_arm64.exe") || !strings.Contains(err.Error(), "1 binaries of 6") ||
		strings.Contains(err.Error(), here.binary()+":") {
		t.Errorf("got %v", err)
	}
	materials := filepath.Join(dir, here.materials())
	if err := os.WriteFile(materials, []byte(strings.Replace(read(t, materials), `"name": "github.com/spf13/cobra"`, `"name": "x"`, 1)), 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(dir, "more"), nil, 0o644); err != nil {
		t.Fatal(err)
	}
	err = check(dir, "v9.8.7", "", &strings.Builder{})
	for _, phrase := range []string{here.materials() + " has the sum", "more is not in checksums.txt", "the bill of materials lists"} {
		if err == nil || !strings.Contains(err.Error(), phrase) {
			t.Errorf("no word of %q: %v", phrase, err)
		}
	}
}

// compareWithGo compares the bill of materials with what "go version -m" says of the binary.
func compareWithGo(t *testing.T, dir string, here target) {
	t.Helper()
	out, err := exec.Command("go", "version", "-m", filepath.Join(dir, here.binary())).Output()
	if err != nil {
		t.Fatal(err)
	}
	want := []string{module + " v9.8.7", "stdlib " + runtime.Version()}
	for line := range strings.Lines(string(out)) {
		if fields := strings.Fields(line); fields[0] == "dep" {
			want = append(want, fields[1]+" "+fields[2])
		}
	}
	var d document
	if err := json.Unmarshal([]byte(read(t, dir, here.materials())), &d); err != nil {
		t.Fatal(err)
	}
	var got []string
	ids := map[string]bool{}
	for _, p := range d.Packages {
		got = append(got, p.Name+" "+p.VersionInfo)
		if ids[p.SPDXID] || !regexp.MustCompile(`^SPDXRef-[A-Za-z0-9.-]+$`).MatchString(p.SPDXID) {
			t.Errorf("the id %q is bad or taken twice", p.SPDXID)
		}
		ids[p.SPDXID] = true
		if p.ExternalRefs[0].Locator != "pkg:golang/"+p.Name+"@"+p.VersionInfo {
			t.Errorf("%s: %v", p.Name, p.ExternalRefs)
		}
	}
	slices.Sort(want)
	slices.Sort(got)
	if len(want) < 20 || !slices.Equal(got, want) {
		t.Errorf("got\n%q\nwant\n%q", got, want)
	}
	if d.CreationInfo.Created != "2026-01-02T02:04:05Z" || len(d.Relationships) != len(d.Packages) {
		t.Errorf("%v, %d relationships of %d packages", d.CreationInfo, len(d.Relationships), len(d.Packages))
	}
}

func TestDynamicProgramsAreFound(t *testing.T) {
	t.Parallel()
	if _, err := buildinfo.ReadFile("/bin/sh"); err == nil || runtime.GOOS != "linux" {
		t.Skip("there is no program here that Go did not make")
	}
	if err := static("/bin/sh"); err == nil || !strings.Contains(err.Error(), "not static") {
		t.Errorf("/bin/sh: %v", err)
	}
}

func TestNotes(t *testing.T) {
	t.Chdir(t.TempDir())
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", args...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1", "GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com",
			"GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	commit := func(message string) { git("commit", "-q", "--allow-empty", "-m", message) }
	expect := func(version string, with, without []string) {
		t.Helper()
		var b strings.Builder
		if err := run(t.Context(), []string{"notes", "-version", version}, nil, &b); err != nil {
			t.Fatal(err)
		}
		for _, phrase := range append(with, "docs/releases.md") {
			if !strings.Contains(b.String(), phrase) {
				t.Errorf("%s lacks %q:\n%s", version, phrase, b.String())
			}
		}
		for _, phrase := range without {
			if strings.Contains(b.String(), phrase) {
				t.Errorf("%s has %q:\n%s", version, phrase, b.String())
			}
		}
	}
	git("init", "-q", "-b", "main")
	commit("Begin")
	expect("v1.0.0", []string{"- Begin ("}, []string{"compare"})
	git("tag", "v1.0.0")
	git("tag", "v1")
	commit("Thank @octocat for *this*, see #12")
	git("switch", "-q", "-c", "release")
	commit("Release v1.1.0")
	git("tag", "v1.1.0")
	expect("v1.1.0", []string{`- Thank @` + "\u200b" + `octocat for \*this\*, see #` + "\u200b" + "12 (", "/compare/v1.0.0...v1.1.0"}, []string{"Begin", "- Release", "@octocat"})
	expect("v1.2.0", []string{"/compare/v1.1.0...v1.2.0"}, []string{"Thank"})
}

func TestProvenance(t *testing.T) {
	t.Parallel()
	args := []string{"provenance", "-version", "v1.2.3", "-commit", strings.Repeat("ab", 20), "-builder", "https://github.com/x", "-run", "https://github.com/y"}
	var b strings.Builder
	if err := run(t.Context(), args, nil, &b); err != nil {
		t.Fatal(err)
	}
	var parsed struct {
		BuildDefinition struct {
			BuildType            string
			ResolvedDependencies []struct{ Digest struct{ GitCommit string } }
		}
		RunDetails struct{ Builder struct{ ID string } }
	}
	if err := json.Unmarshal([]byte(b.String()), &parsed); err != nil || parsed.RunDetails.Builder.ID != "https://github.com/x" ||
		parsed.BuildDefinition.ResolvedDependencies[0].Digest.GitCommit != strings.Repeat("ab", 20) || parsed.BuildDefinition.BuildType == "" {
		t.Errorf("%v: %s", err, b.String())
	}
	for i := 4; i < len(args); i += 2 {
		bad := slices.Clone(args)
		bad[i] = "x"
		if err := run(t.Context(), bad, nil, &b); err == nil {
			t.Errorf("%q is taken", bad)
		}
	}
}

func TestMistakes(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{nil, {"build"}, {"build", "-version", "1.2.3"}, {"other", "-version", "v1.2.3"}, {"check", "-version", "v1.2.3"},
		{"build", "-version", "v1.2.3", "-time", "yesterday"}, {"check", "-version", "v1.2.3", "/nowhere"},
		{"build", "-version", "v1.2.3", "-time", time.Now().Format(time.RFC3339), "-to", t.TempDir(), "-only", "plan9/mips"}} {
		if err := run(t.Context(), args, os.Environ(), &strings.Builder{}); err == nil {
			t.Errorf("%q is taken", args)
		}
	}
	var b strings.Builder
	if err := run(t.Context(), []string{"ldflags", "-version", "v1.2.3"}, nil, &b); err != nil || !strings.Contains(b.String(), ".released=v1.2.3\n") {
		t.Errorf("%v: %s", err, b.String())
	}
}

func TestMovingTags(t *testing.T) {
	// Not in parallel: git is asked in the working directory.
	t.Chdir(t.TempDir())
	git := func(args ...string) {
		t.Helper()
		cmd := exec.Command("git", append([]string{"-c", "user.name=Test", "-c", "user.email=test@example.com"}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_CONFIG_GLOBAL=/dev/null", "GIT_CONFIG_NOSYSTEM=1")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("git %v: %v\n%s", args, err, out)
		}
	}
	moves := func(version string) string {
		t.Helper()
		var out strings.Builder
		if err := run(t.Context(), []string{"moving", "-version", version}, nil, &out); err != nil {
			t.Fatal(err)
		}
		return strings.Join(strings.Fields(out.String()), " ")
	}
	git("init", "-q")
	release := func(version string, passed bool) {
		t.Helper()
		git("commit", "-q", "--allow-empty", "-m", version)
		git("tag", "-a", "-m", version, version)
		if passed {
			git("tag", "-f", strings.SplitN(version, ".", 2)[0])
		}
	}
	for _, step := range []struct {
		version string
		passed  bool
		moves   string
	}{
		{"v1.9.0", true, "v1 latest"},
		{"v1.10.0", true, "v1 latest"},
		{"v1.9.1", false, ""},
		{"v1.11.0", false, "v1 latest"}, // It fails its test, so the next one is further than what there is.
		{"v1.10.1", true, "v1 latest"},
		{"v2.0.0", true, "v2 latest"},
		{"v1.12.0", true, "v1"},
		{"v2.0.0", false, "v2 latest"}, // Once more.
	} {
		if got := moves(step.version); got != step.moves {
			t.Errorf("%s moves %q, want %q", step.version, got, step.moves)
		}
		if step.version != "v2.0.0" || step.passed {
			release(step.version, step.passed)
		}
	}
	if err := run(t.Context(), []string{"moving", "-version", "v3.0.0-rc.1"}, nil, &strings.Builder{}); err == nil {
		t.Error("tags move to a version that is to be tried")
	}
}
