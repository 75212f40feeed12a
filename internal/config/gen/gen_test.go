package main

import (
	"bytes"
	"crypto/sha256"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/airbyte-publish/airbyte-publish/internal/config"
)

const root = "../../.."

func TestFilesAreUpToDate(t *testing.T) {
	t.Parallel()
	files, err := render(root, releaseText)
	if err != nil {
		t.Fatal(err)
	}
	for name, want := range files {
		got, err := os.ReadFile(filepath.Join(root, name))
		if err != nil || !bytes.Equal(got, want) {
			t.Errorf("%s differs from the table of inputs (%v); run: go generate ./internal/config", name, err)
		}
	}
}

func TestWrite(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	readme := filepath.Join(dir, "README.md")
	save := func(text string) {
		t.Helper()
		if err := os.WriteFile(readme, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	save("a\n" + beginMarker + "old" + endMarker + "\nb\n")
	for range 2 {
		if err := write(dir, releaseText); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(readme)
	if err != nil || !strings.HasPrefix(string(got), "a\n"+beginMarker+"\n| input |") || !strings.HasSuffix(string(got), "|\n"+endMarker+"\nb\n") {
		t.Errorf("%v: %s", err, got)
	}
	for _, name := range []string{"action.yml", "docs/inputs.md"} {
		if _, err := os.Stat(filepath.Join(dir, name)); err != nil {
			t.Error(err)
		}
	}
	save("no markers")
	if err := write(dir, releaseText); err != nil {
		t.Error(err)
	}
	save(beginMarker)
	if err := write(dir, releaseText); err == nil {
		t.Error("a begin without an end is no error")
	}
}

type step struct {
	ID, Shell, Run string
	Env            map[string]string
}

type actionFile struct {
	Name, Description string
	Branding          map[string]string
	Inputs            map[string]struct {
		Description, Default string
		Required             bool
	}
	Outputs map[string]struct{ Description, Value string }
	Runs    struct {
		Using string
		Steps []step
	}
}

func parseAction(t *testing.T, released *release) actionFile {
	t.Helper()
	var parsed actionFile
	decoder := yaml.NewDecoder(bytes.NewReader(action(config.Inputs(), config.Outputs(), released)))
	if err := decoder.Decode(&parsed); err != nil {
		t.Fatal(err)
	}
	return parsed
}

var sample = &release{version: "v1.2.3", binaries: []binary{{runner: "Linux-X64", file: "airbyte-publish_linux_amd64",
	sha256: fmt.Sprintf("%x", sha256.Sum256([]byte("released")))}}}

func TestActionSaysWhatTheTableSays(t *testing.T) {
	t.Parallel()
	for _, released := range []*release{nil, sample} {
		parsed := parseAction(t, released)
		if len(parsed.Inputs) != len(config.Inputs()) || len(parsed.Outputs) != len(config.Outputs()) {
			t.Errorf("%d inputs, %d outputs", len(parsed.Inputs), len(parsed.Outputs))
		}
		for _, i := range config.Inputs() {
			got, ok := parsed.Inputs[i.Name]
			if !ok || got.Default != i.Default || !strings.HasPrefix(got.Description, i.Help) || got.Required {
				t.Errorf("input %s: %+v", i.Name, got)
			}
		}
		for _, o := range config.Outputs() {
			if got := parsed.Outputs[o.Name]; got.Value != "${{ steps.publish.outputs."+o.Name+" }}" || got.Description != o.Help {
				t.Errorf("output %s: %+v", o.Name, got)
			}
		}
		if parsed.Name == "" || len(parsed.Description) > 125 || parsed.Runs.Using != "composite" || len(parsed.Runs.Steps) != 2 {
			t.Errorf("%+v", parsed)
		}
		for _, s := range parsed.Runs.Steps {
			// An expression in a script would run what an input holds; sh would drop variables with dashes in their names.
			if s.Shell != "bash" || strings.Contains(s.Run, "${{") {
				t.Errorf("step %s: %+v", s.ID, s)
			}
		}
		if last := parsed.Runs.Steps[1]; last.ID != "publish" || last.Env["AIRBYTE_PUBLISH_INPUTS"] != "${{ toJSON(inputs) }}" || strings.TrimSpace(last.Run) != `"$BINARY" publish` {
			t.Errorf("%+v", last)
		}
	}
}

// runner is a machine with the few commands that the action's script needs, and fakes for go and curl.
type runner struct {
	dir string
	env []string
}

func newRunner(t *testing.T, fakes map[string]string) runner {
	t.Helper()
	r := runner{dir: t.TempDir()}
	bin := filepath.Join(r.dir, "bin")
	for _, dir := range []string{"bin", "temp dir", "tool cache", "action dir"} {
		if err := os.Mkdir(filepath.Join(r.dir, dir), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, name := range []string{"bash", "cat", "mktemp", "rm", "chmod", "mkdir", "mv", "sha256sum"} {
		path, err := exec.LookPath(name)
		if err != nil {
			if os.Getenv("CI") == "true" {
				t.Fatalf("the action's script can't be tested: %v", err)
			}
			t.Skipf("the action's script needs %s, as every GitHub runner has it: %v", name, err)
		}
		if err := os.Symlink(path, filepath.Join(bin, name)); err != nil {
			t.Fatal(err)
		}
	}
	for name, text := range fakes {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!"+filepath.Join(bin, "bash")+"\n"+text), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	r.env = []string{"PATH=" + bin, "RUNNER_TEMP=" + filepath.Join(r.dir, "temp dir"),
		"RUNNER_TOOL_CACHE=" + filepath.Join(r.dir, "tool cache"), "ACTION_PATH=" + filepath.Join(r.dir, "action dir"),
		"GITHUB_OUTPUT=" + filepath.Join(r.dir, "output"), "LOG=" + filepath.Join(r.dir, "log"), "GOFLAGS=-mod=vendor", "GOOS=plan9"}
	return r
}

func (r runner) run(t *testing.T, text string, env ...string) (printed string, err error) {
	t.Helper()
	cmd := exec.Command(filepath.Join(r.dir, "bin", "bash"), "--noprofile", "--norc", "-eo", "pipefail", "-c", text)
	cmd.Env = append(slices.Clone(r.env), env...)
	cmd.Dir = r.dir
	out, err := cmd.CombinedOutput()
	return string(out), err
}

func (r runner) read(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

const (
	fakeGo = `echo "$PWD|$GOFLAGS|$GOOS|$GOTOOLCHAIN|$CGO_ENABLED|$*" >"$LOG"
while [ "$1" != -o ]; do shift; done
echo built >"$2"
`
	fakeCurl = `echo "$*" >>"$LOG"
while [ "$1" != --output ]; do shift; done
printf '%s' "$SERVED" >"$2"
`
)

func TestScriptBuilds(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		released *release
		env      []string
	}{
		"nothing released":                {nil, []string{"RUNNER_OS=Linux", "RUNNER_ARCH=X64"}},
		"not released for this":           {sample, []string{"RUNNER_OS=Linux", "RUNNER_ARCH=ARM"}},
		"in a container, by the variable": {nil, []string{"RUNNER_OS=Linux", "RUNNER_ARCH=X64", "ACTION_PATH=/nowhere", "GITHUB_ACTION_PATH=action dir"}},
		"on Windows":                      {sample, []string{"RUNNER_OS=Windows", "RUNNER_ARCH=X64"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, map[string]string{"go": fakeGo})
			if printed, err := r.run(t, script(test.released), test.env...); err != nil {
				t.Fatalf("%v: %s", err, printed)
			}
			binary, _ := strings.CutPrefix(strings.TrimSpace(r.read(t, "output")), "binary=")
			want := filepath.Join(r.dir, "action dir") + "|||auto|0|build -trimpath -buildvcs=false -o " + binary + " .\n"
			if got := r.read(t, "log"); got != want {
				t.Errorf("go was called as\n%swant\n%s", got, want)
			}
			if content, err := os.ReadFile(binary); string(content) != "built\n" || filepath.Dir(filepath.Dir(binary)) != filepath.Join(r.dir, "temp dir") {
				t.Errorf("%s: %q, %v", binary, content, err)
			}
			if strings.HasSuffix(binary, ".exe") != (name == "on Windows") {
				t.Error(binary)
			}
		})
	}
}

// got is the binary that the script names.
func (r runner) got(t *testing.T) string {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(r.read(t, "output")), "\n")
	binary, _ := strings.CutPrefix(lines[len(lines)-1], "binary=")
	if info, err := os.Stat(binary); err != nil || info.Mode().Perm() != 0o755 {
		t.Errorf("%v, %v", info, err)
	}
	return binary
}

func TestScriptDownloads(t *testing.T) {
	t.Parallel()
	r := newRunner(t, map[string]string{"go": "exit 1", "curl": fakeCurl})
	env := []string{"RUNNER_OS=Linux", "RUNNER_ARCH=X64", "SERVED=released"}
	want := filepath.Join(r.dir, "tool cache", "airbyte-publish", "v1.2.3", "x64", "airbyte-publish")
	downloads := func(n int, env ...string) {
		t.Helper()
		if printed, err := r.run(t, script(sample), env...); err != nil {
			t.Fatalf("%v: %s", err, printed)
		}
		if got := r.got(t); got != want {
			t.Errorf("got %s, want %s", got, want)
		}
		if log := r.read(t, "log"); strings.Count(log, "\n") != n || !strings.Contains(log, "/releases/download/v1.2.3/airbyte-publish_linux_amd64") ||
			!strings.Contains(log, "--fail") || !strings.Contains(log, "=https") {
			t.Errorf("want %d downloads: %s", n, log)
		}
		if entries, err := os.ReadDir(filepath.Dir(want)); err != nil || len(entries) != 1 {
			t.Errorf("the cache holds %v, %v", entries, err)
		}
	}
	downloads(1, env...)
	downloads(1, append(env, "SERVED=not asked for")...)
	// A cache that another job has changed is not trusted.
	if err := os.WriteFile(want, []byte("released by somebody else"), 0o755); err != nil {
		t.Fatal(err)
	}
	downloads(2, env...)
	// Without a cache that can be written to, the runner's folder for temporary files will do.
	file := filepath.Join(r.dir, "a file")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if printed, err := r.run(t, script(sample), append(env, "RUNNER_TOOL_CACHE="+file)...); err != nil {
		t.Fatalf("%v: %s", err, printed)
	}
	if got := r.got(t); !strings.HasPrefix(got, filepath.Join(r.dir, "temp dir")) {
		t.Error(got)
	}
	want = filepath.Join(r.dir, "temp dir", "airbyte-publish", "v1.2.3", "x64", "airbyte-publish")
	downloads(4, append(env, "RUNNER_TOOL_CACHE=")...)
}

func TestScriptRefuses(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]struct {
		released *release
		fakes    map[string]string
		phrase   string
	}{
		"another sum":           {sample, map[string]string{"go": fakeGo, "curl": fakeCurl}, "should be " + sample.binaries[0].sha256},
		"a download that fails": {sample, map[string]string{"go": fakeGo, "curl": "echo 'curl: (22) 404' >&2; exit 22"}, "(22) 404"},
		"a download cut short":  {sample, map[string]string{"go": fakeGo, "curl": fakeCurl + "exit 18"}, "could not be downloaded"},
		"no Go":                 {nil, nil, "Go is not installed"},
		"a build that fails":    {nil, map[string]string{"go": "echo 'no such package' >&2; exit 1"}, "no such package"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := newRunner(t, test.fakes)
			printed, err := r.run(t, script(test.released), "RUNNER_OS=Linux", "RUNNER_ARCH=X64", "SERVED=something else")
			if err == nil || !strings.Contains(printed, test.phrase) {
				t.Errorf("%v: %s", err, printed)
			}
			if _, err := os.Stat(filepath.Join(r.dir, "output")); err == nil {
				t.Errorf("names a binary: %s", r.read(t, "output"))
			}
			for _, left := range []string{"temp dir/*/*", "tool cache/*/*/*/*"} {
				if left, _ := filepath.Glob(filepath.Join(r.dir, left)); len(left) > 0 {
					t.Errorf("leaves %s", left)
				}
			}
		})
	}
}

func TestParseRelease(t *testing.T) {
	t.Parallel()
	sum := strings.Repeat("0a", 32)
	got, err := parseRelease("# about\n\nv1.2.3-rc.1\n" + sum + "  airbyte-publish_linux_amd64\r\n" + sum + " *airbyte-publish_windows_arm64.exe\n")
	if err != nil || got.version != "v1.2.3-rc.1" || len(got.binaries) != 2 ||
		got.binaries[0] != (binary{"Linux-X64", "airbyte-publish_linux_amd64", sum}) || got.binaries[1].runner != "Windows-ARM64" {
		t.Errorf("%+v, %v", got, err)
	}
	if got, err := parseRelease("# nothing\n"); got != nil || err != nil {
		t.Errorf("%+v, %v", got, err)
	}
	for _, bad := range []string{"v1.2.3\n", "1.2.3\n", sum + "  airbyte-publish_linux_amd64\n", "v1.2.3\n" + sum + "  airbyte-publish_plan9_amd64\n",
		"v1.2.3\n" + sum[1:] + "  airbyte-publish_linux_amd64\n", "v1.2.3\nv1.2.4\n", "v1.2.3; rm -rf\n"} {
		if got, err := parseRelease(bad); err == nil {
			t.Errorf("%q: %+v", bad, got)
		}
	}
}

func TestQuoteIsYAML(t *testing.T) {
	t.Parallel()
	for _, s := range []string{"it's: a #b", "{x}", "*", `\d|'`, "yes", "- a", "%", "@"} {
		var got string
		if err := yaml.Unmarshal([]byte(quote(s)), &got); err != nil || got != s {
			t.Errorf("%q becomes %q, %v", s, got, err)
		}
	}
}

// TestTablesHoldTheirCells guards against a bar that would end a cell of a Markdown table.
func TestTablesHoldTheirCells(t *testing.T) {
	t.Parallel()
	for line := range strings.Lines(string(reference(config.Inputs(), config.Outputs()))) {
		if !strings.HasPrefix(line, "| `") {
			continue
		}
		if bars := strings.Count(strings.ReplaceAll(line, `\|`, ""), "|"); bars != 5 && bars != 3 {
			t.Errorf("%d bars: %s", bars, line)
		}
	}
}
