package cloudtest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

func TestMain(m *testing.M) {
	code := m.Run()
	shared.Lock()
	if shared.dir != "" {
		_ = os.RemoveAll(shared.dir)
	}
	shared.Unlock()
	os.Exit(code)
}

// shared is what all tests of one run use: the folder with the program and the image.
var shared struct {
	sync.Mutex
	dir string
}

func sharedDir() (string, error) {
	shared.Lock()
	defer shared.Unlock()
	if shared.dir != "" {
		return shared.dir, nil
	}
	dir, err := os.MkdirTemp("", "airbyte-publish-cloudtest-")
	shared.dir = dir
	return dir, err
}

// program builds the program as it is shipped, once.
var program = sync.OnceValues(func() (string, error) {
	dir, err := sharedDir()
	if err != nil {
		return "", err
	}
	file := filepath.Join(dir, "airbyte-publish")
	cmd := exec.Command("go", "build", "-trimpath", "-o", file, "github.com/airbyte-publish/airbyte-publish")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build: %w\n%s", err, out)
	}
	return file, nil
})

// layout makes the connector's image that all children push, once.
var layout = sync.OnceValues(func() (string, error) {
	dir, err := sharedDir()
	if err != nil {
		return "", err
	}
	img, err := connectors.Image(context.Background(), "source-hello")
	if err != nil {
		return "", err
	}
	dir = filepath.Join(dir, "layout")
	return dir, connectors.WriteLayout(img, dir)
})

// child is a machine that the program runs on: its environment and files.
type child struct {
	w *world
	// home, tmp and work are its folders; bin comes first on its PATH.
	home, tmp, work, bin string
	env                  map[string]string
	// az tells that the az program may be run; no other program of a cloud may.
	az bool
}

// noPrograms are the programs that must not be run: each leaves a mark.
var noPrograms = []string{"gcloud", "az", "aws", "docker", "docker-credential-gcr", "docker-credential-gcloud", "docker-credential-ecr-login",
	"docker-credential-acr-env", "glab", "gh"}

// untouched are the files of other programs, which must stay what they are.
var untouched = map[string]string{
	".docker/config.json":                `{"auths":{"elsewhere.example":{"auth":"bm9ib2R5Om5vdGhpbmc="}}}`,
	".ecr/cache.json":                    `{"Registries":{},"Version":"1.0"}`,
	".config/gcloud/configurations/mine": "[core]\n",
	".aws/cli/cache/mine.json":           "{}",
	".azure/azureProfile.json":           `{"subscriptions":[]}`,
}

// newChild makes a machine in the world.
func (w *world) newChild() *child {
	t := w.t
	t.Helper()
	root := t.TempDir()
	c := &child{w: w, home: filepath.Join(root, "home"), tmp: filepath.Join(root, "tmp"), work: filepath.Join(root, "work"),
		bin: filepath.Join(root, "bin")}
	for _, dir := range []string{c.home, c.tmp, c.work, c.bin} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for file, content := range untouched {
		c.write(filepath.Join(c.home, file), content)
	}
	for _, name := range noPrograms {
		c.script(name, "echo 'ERROR: Please run az login to setup account.' >&2\nexit 1\n")
	}
	oci, err := layout()
	if err != nil {
		t.Fatal(err)
	}
	c.env = map[string]string{"HOME": c.home, "TMPDIR": c.tmp, "PATH": c.bin + ":/usr/bin:/bin",
		"HTTPS_PROXY": w.proxy, "HTTP_PROXY": w.proxy, "SSL_CERT_FILE": w.caFile,
		"GCE_METADATA_HOST": "127.0.0.1:1"} // Nothing listens there; on Google's machines there is something.
	c.input("source", "oci:"+oci)
	c.input("tag", tag)
	c.input("connector-type", "source")
	c.input("register", "false")
	return c
}

// tag is the tag that children push.
const tag = "1.0.0"

// input gives the program an input.
func (c *child) input(name, value string) {
	c.env["AIRBYTE_PUBLISH_"+strings.ToUpper(strings.ReplaceAll(name, "-", "_"))] = value
}

func (c *child) write(file, content string) {
	if err := os.MkdirAll(filepath.Dir(file), 0o700); err != nil {
		c.w.t.Fatal(err)
	}
	if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
		c.w.t.Fatal(err)
	}
}

// marks is where the programs that are run leave their marks.
func (c *child) marks() string { return filepath.Join(c.w.dir, "marks") }

// script puts a program on the PATH, which leaves a mark when it is run.
func (c *child) script(name, body string) {
	text := fmt.Sprintf("#!/bin/sh\necho \"%s $*\" >>'%s'\n%s", name, c.marks(), body)
	if err := os.WriteFile(filepath.Join(c.bin, name), []byte(text), 0o755); err != nil {
		c.w.t.Fatal(err)
	}
}

// onGitHub makes the machine a runner of GitHub's.
func (c *child) onGitHub() {
	maps.Copy(c.env, map[string]string{"GITHUB_ACTIONS": "true", "CI": "true", "GITHUB_REPOSITORY": "acme/connectors",
		"GITHUB_REPOSITORY_OWNER": "acme", "GITHUB_ACTOR": "octocat", "GITHUB_REF": "refs/heads/main", "GITHUB_REF_NAME": "main",
		"GITHUB_REF_TYPE": "branch", "GITHUB_SHA": strings.Repeat("ab", 20), "GITHUB_WORKSPACE": c.work, "GITHUB_RUN_ID": "1",
		"GITHUB_SERVER_URL": "https://github.com", "GITHUB_EVENT_NAME": "push", "RUNNER_TEMP": c.tmp})
	for variable, file := range map[string]string{"GITHUB_OUTPUT": "output", "GITHUB_STEP_SUMMARY": "summary", "GITHUB_ENV": "env"} {
		c.env[variable] = filepath.Join(c.w.dir, file)
		if err := os.WriteFile(c.env[variable], nil, 0o600); err != nil {
			c.w.t.Fatal(err)
		}
	}
}

// onGitLab makes the machine a runner of GitLab's.
func (c *child) onGitLab() {
	maps.Copy(c.env, map[string]string{"GITLAB_CI": "true", "CI": "true", "CI_PROJECT_PATH": "acme/connectors",
		"CI_SERVER_URL": "https://gitlab.com", "CI_SERVER_HOST": "gitlab.com", "CI_COMMIT_REF_NAME": "main", "CI_COMMIT_BRANCH": "main",
		"CI_COMMIT_SHA": strings.Repeat("ab", 20), "CI_PROJECT_DIR": c.work, "CI_JOB_ID": "1", "CI_PIPELINE_ID": "1"})
}

// outcome is what a run left.
type outcome struct {
	exit                    int
	stdout, stderr, summary string
	outputs                 string
	took                    time.Duration
}

func (o outcome) String() string {
	return fmt.Sprintf("exit %d after %s\nstdout:\n%s\nstderr:\n%s", o.exit, o.took.Round(time.Millisecond), withoutMasks(o.stdout), withoutMasks(o.stderr))
}

// log is everything that the run said to people: on GitHub, the log is standard output.
func (o outcome) log() string { return withoutMasks(o.stderr + o.stdout) }

var faultCode = regexp.MustCompile(`\bAP\d{3}\b`)

// codes are the codes of what went wrong, without warnings.
func (o outcome) codes() []string {
	var codes []string
	for line := range strings.Lines(o.log()) {
		if strings.Contains(line, "warning") {
			continue
		}
		for _, code := range faultCode.FindAllString(line, -1) {
			if !slices.Contains(codes, code) {
				codes = append(codes, code)
			}
		}
	}
	return codes
}

// runTime is how long a run may take.
const runTime = 90 * time.Second

// run runs the program and holds what it left against what must never be left.
func (c *child) run(args ...string) outcome {
	t := c.w.t
	t.Helper()
	file, err := program()
	if err != nil {
		t.Fatal(err)
	}
	before := c.files()
	ctx, cancel := context.WithTimeout(context.Background(), runTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, file, args...)
	cmd.Dir = c.work
	for _, name := range slices.Sorted(maps.Keys(c.env)) {
		cmd.Env = append(cmd.Env, name+"="+c.env[name])
	}
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	// What a test has set up until here is seen by whoever answers the child: each of them takes this lock first.
	c.w.mu.Lock()
	c.w.mu.Unlock() //nolint:staticcheck // It orders, and guards nothing.
	start := time.Now()
	err = cmd.Run()
	o := outcome{stdout: stdout.String(), stderr: stderr.String(), took: time.Since(start)}
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		o.exit = exit.ExitCode()
	} else if err != nil {
		t.Fatalf("run the program: %v", err)
	}
	if ctx.Err() != nil {
		c.w.blame("the program had to be stopped after %s:\n%s", runTime, o)
	}
	if c.env["GITLAB_CI"] == "true" {
		// A job takes these with it as its artifacts.
		for file, to := range map[string]*string{"airbyte-publish.env": &o.outputs, "airbyte-publish.md": &o.summary} {
			if b, err := os.ReadFile(filepath.Join(c.work, file)); err == nil {
				*to = string(b)
				_ = os.Remove(filepath.Join(c.work, file))
			}
		}
	}
	for variable, to := range map[string]*string{"GITHUB_OUTPUT": &o.outputs, "GITHUB_STEP_SUMMARY": &o.summary} {
		if file := c.env[variable]; file != "" {
			b, err := os.ReadFile(file)
			if err != nil {
				t.Fatal(err)
			}
			*to = string(b)
			_ = os.WriteFile(file, nil, 0o600)
		}
	}
	c.searchOutput(o)
	c.searchFiles(before)
	c.searchMarks()
	if strings.Contains(o.stderr, "panic:") || strings.Contains(o.stderr, "goroutine ") {
		c.w.blame("the program panicked:\n%s", o)
	}
	return o
}

// searchOutput looks for secrets in what the run said.
func (c *child) searchOutput(o outcome) {
	stdout, stderr := o.stdout, o.stderr
	if c.env["GITHUB_ACTIONS"] == "true" {
		stdout, stderr = withoutMasks(stdout), withoutMasks(stderr)
	}
	for where, text := range map[string]string{"standard output": stdout, "standard error": stderr, "the summary": o.summary, "the outputs": o.outputs} {
		if found := c.w.find([]byte(text)); len(found) > 0 {
			c.w.blame("%s has %q in it:\n%s", where, found, text)
		}
	}
}

// withoutMasks drops the lines that GitHub's runner takes for itself and shows nobody.
func withoutMasks(text string) string {
	var b strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "::add-mask::") {
			b.WriteString(line)
		}
	}
	return b.String()
}

// state is what is known of a file.
type state struct {
	mode fs.FileMode
	sum  [sha256.Size]byte
	size int64
}

// files are the files of the machine, below the folders that the program may write to.
func (c *child) files() map[string]state {
	all := map[string]state{}
	for _, root := range []string{c.home, c.tmp, c.work, c.bin} {
		err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
			if err != nil {
				return err
			}
			info, err := d.Info()
			if err != nil {
				return err
			}
			s := state{mode: info.Mode()}
			if info.Mode().IsRegular() {
				content, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				s.sum, s.size = sha256.Sum256(content), info.Size()
			}
			all[path] = s
			return nil
		})
		if err != nil {
			c.w.t.Fatal(err)
		}
	}
	return all
}

// searchFiles holds the machine's files against what they were: none may be left behind or changed.
func (c *child) searchFiles(before map[string]state) {
	after := c.files()
	for path, s := range after {
		if was, there := before[path]; there && was == s {
			continue
		}
		c.w.blame("the run left or changed %s", path)
		if content, err := os.ReadFile(path); err == nil {
			if found := c.w.find(content); len(found) > 0 {
				c.w.blame("%s has %q in it", path, found)
			}
		}
	}
	for path := range before {
		if _, there := after[path]; !there {
			c.w.blame("the run removed %s", path)
		}
	}
}

// searchMarks blames the run for the programs that it has run.
func (c *child) searchMarks() {
	marks, err := os.ReadFile(c.marks())
	if err != nil {
		return
	}
	for line := range strings.Lines(string(marks)) {
		name, _, _ := strings.Cut(line, " ")
		if name != "az" || !c.az {
			c.w.blame("a program was run: %s", line)
		}
	}
	if found := c.w.find(marks); len(found) > 0 {
		c.w.blame("a program's arguments have %q in them", found)
	}
	_ = os.Remove(c.marks())
}
