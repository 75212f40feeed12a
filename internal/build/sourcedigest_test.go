package build

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// env has a few variables and no more.
func env(values map[string]string) func(string) string {
	return func(name string) string { return values[name] }
}

// digestOfFolder is the source digest of a folder with a Dockerfile.
func digestOfFolder(t *testing.T, c connector.Connector) string {
	t.Helper()
	p, err := newBuilder(t, Options{}).blueprint(t.Context(), c, wayOf(c))
	if err != nil {
		t.Fatal(err)
	}
	return p.source
}

func TestSourceDigest(t *testing.T) {
	t.Parallel()
	files := map[string]string{"Dockerfile": "FROM scratch\nCOPY . /\n", ".dockerignore": "*.log\nsecret\n!secret/kept\n# a comment\n",
		"a.txt": "a", "sub/b.txt": "b", "x.log": "log", "secret/hidden": "h", "secret/kept": "k", ".git/config": "git"}
	// What is done to the folder, or to the connector, and whether that changes the digest.
	for name, tc := range map[string]struct {
		do      func(dir string) error
		change  func(*connector.Connector)
		changes bool
	}{
		"nothing":         {},
		"times":           {do: func(dir string) error { return os.Chtimes(filepath.Join(dir, "a.txt"), time.Now(), time.Unix(1, 0)) }},
		"git's own":       {do: func(dir string) error { return os.WriteFile(filepath.Join(dir, ".git/config"), []byte("other"), 0o644) }},
		"an ignored file": {do: func(dir string) error { return os.WriteFile(filepath.Join(dir, "x.log"), []byte("other"), 0o644) }},
		"a file in an ignored": {do: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "secret/hidden"), []byte("other"), 0o644)
		}},
		"group's rights":    {do: func(dir string) error { return os.Chmod(filepath.Join(dir, "a.txt"), 0o600) }},
		"a file taken back": {do: func(dir string) error { return os.WriteFile(filepath.Join(dir, "secret/kept"), nil, 0o644) }, changes: true},
		"content":           {do: func(dir string) error { return os.WriteFile(filepath.Join(dir, "sub/b.txt"), []byte("c"), 0o644) }, changes: true},
		"executable":        {do: func(dir string) error { return os.Chmod(filepath.Join(dir, "a.txt"), 0o755) }, changes: true},
		"name":              {do: func(dir string) error { return os.Rename(filepath.Join(dir, "a.txt"), filepath.Join(dir, "c.txt")) }, changes: true},
		"an empty folder":   {do: func(dir string) error { return os.Mkdir(filepath.Join(dir, "empty"), 0o755) }, changes: true},
		"a symbolic link":   {do: func(dir string) error { return os.Symlink("/etc/passwd", filepath.Join(dir, "link")) }, changes: true},
		"an ignored link":   {do: func(dir string) error { return os.Symlink("nowhere", filepath.Join(dir, "y.log")) }},
		"the Dockerfile": {do: func(dir string) error {
			return os.WriteFile(filepath.Join(dir, "Dockerfile"), []byte("FROM scratch\n"), 0o644)
		}, changes: true},
		"target":                 {change: func(c *connector.Connector) { c.Recipe.Target = "x" }, changes: true},
		"platforms":              {change: func(c *connector.Connector) { c.Recipe.Platforms = []string{"linux/amd64", "linux/arm64"} }, changes: true},
		"the default platform":   {change: func(c *connector.Connector) { c.Recipe.Platforms = []string{"linux/amd64"} }},
		"an argument":            {change: func(c *connector.Connector) { c.Recipe.Args = map[string]string{"A": "b"} }, changes: true},
		"a label":                {change: func(c *connector.Connector) { c.Recipe.Labels = map[string]string{"A": "b"} }, changes: true},
		"a label, not argument":  {change: func(c *connector.Connector) { c.Recipe.Labels = map[string]string{"args": "A"} }, changes: true},
		"a secret":               {change: func(c *connector.Connector) { c.Recipe.Secrets = map[string][]byte{"s": []byte("v")} }, changes: true},
		"name, tag, repository":  {change: func(c *connector.Connector) { c.Name, c.Tag, c.Repository = "N", "2", "r.io/x/y" }},
		"caches and attestation": {change: func(c *connector.Connector) { c.Recipe.CacheFrom, c.Recipe.Provenance = []string{"x"}, true }},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := connector.Connector{Dir: folderOf(t, files)}
			before := digestOfFolder(t, c)
			if tc.do != nil {
				if err := tc.do(c.Dir); err != nil {
					t.Fatal(err)
				}
			}
			if tc.change != nil {
				tc.change(&c)
			}
			if after := digestOfFolder(t, c); (after != before) != tc.changes {
				t.Errorf("before %s, after %s", before, after)
			}
		})
	}
}

func TestSecretsDoNotEnterTheSourceDigest(t *testing.T) {
	t.Parallel()
	c := connector.Connector{Dir: folderOf(t, map[string]string{"Dockerfile": "FROM scratch\n"})}
	c.Recipe.Secrets = map[string][]byte{"s": []byte("one")}
	first := digestOfFolder(t, c)
	c.Recipe.Secrets = map[string][]byte{"s": []byte("two")}
	if second := digestOfFolder(t, c); first != second {
		t.Error("the secret's value is in the digest")
	}
}

func TestSourceDigestIsPinned(t *testing.T) {
	t.Parallel()
	// A change of this digest makes every published connector look changed.
	c := connector.Connector{Dir: folderOf(t, map[string]string{"Dockerfile": "FROM scratch\n", "run.sh": "x", "empty/.keep": ""})}
	if err := os.Chmod(filepath.Join(c.Dir, "run.sh"), 0o755); err != nil {
		t.Fatal(err)
	}
	c.Recipe.Args, c.Recipe.Target = map[string]string{"A": "b"}, "t"
	const want = "sha256:b5cfe9d184b80bbe48abb8813eaebc483ab4a2863f910da4f345cbfa68d2a4e5"
	if got := digestOfFolder(t, c); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
}

func TestGitStaysOutUnlessAskedFor(t *testing.T) {
	t.Parallel()
	dir := folderOf(t, map[string]string{"Dockerfile": "FROM scratch\n", ".dockerignore": "!.git\n", ".git/config": "x", "sub/.git": "gitdir: x"})
	for argument, want := range map[string][]string{
		"":  {".dockerignore", "Dockerfile", "sub"},
		"1": {".dockerignore", ".git", ".git/config", "Dockerfile", "sub", "sub/.git"},
	} {
		p := &blueprint{connector: connector.Connector{Dir: dir, Recipe: connector.Recipe{Args: map[string]string{"BUILDKIT_CONTEXT_KEEP_GIT_DIR": argument}}}}
		entries, err := walkContext(t.Context(), dir, []string{"!.git"}, p.keepsGit())
		if err != nil {
			t.Fatal(err)
		}
		var hashed, sent []string
		for _, e := range entries {
			hashed = append(hashed, e.path)
		}
		folder, err := p.contextFS()
		if err == nil {
			err = folder.Walk(t.Context(), "", func(path string, _ fs.DirEntry, err error) error {
				sent = append(sent, path)
				return err
			})
		}
		if err != nil {
			t.Fatal(err)
		}
		slices.Sort(sent)
		if !slices.Equal(hashed, want) || !slices.Equal(sent, want) {
			t.Errorf("%q: hashed %q, sent %q, want %q", argument, hashed, sent, want)
		}
	}
}

func TestDockerfileOwnIgnoreFile(t *testing.T) {
	t.Parallel()
	files := map[string]string{"docker/Dev.Dockerfile": "FROM scratch\n", "docker/Dev.Dockerfile.dockerignore": "a\n", ".dockerignore": "b\n", "a": "1", "b": "1"}
	c := connector.Connector{Dir: folderOf(t, files), Recipe: connector.Recipe{Dockerfile: "docker/Dev.Dockerfile"}}
	before := digestOfFolder(t, c)
	for file, changes := range map[string]bool{"a": false, "b": true} {
		if err := os.WriteFile(filepath.Join(c.Dir, file), []byte("2"), 0o644); err != nil {
			t.Fatal(err)
		}
		if after := digestOfFolder(t, c); (after != before) != changes {
			t.Errorf("%s: %s and %s", file, before, after)
		}
	}
}

func TestUnreadableFilesAndCredentials(t *testing.T) {
	t.Parallel()
	c := connector.Connector{Dir: folderOf(t, map[string]string{"Dockerfile": "FROM scratch\n", "gha-creds-0123456789abcdef.json": "{}"}), Label: "x"}
	_, err := newBuilder(t, Options{}).blueprint(t.Context(), c, wayDockerfile)
	if fault.CodeOf(err) != fault.CredentialFile || !strings.Contains(err.Error(), "gha-creds-0123456789abcdef.json") {
		t.Errorf("got %v", err)
	}
	for name, dockerfile := range map[string]string{"missing": "none.Dockerfile", "a folder": "."} {
		c.Recipe.Dockerfile = dockerfile
		if _, err := newBuilder(t, Options{}).blueprint(t.Context(), c, wayOf(c)); fault.CodeOf(err) != fault.BadDockerfile {
			t.Errorf("%s: got %v", name, err)
		}
	}
	c.Recipe.Dockerfile, c.Recipe.Platforms = "", []string{"!"}
	if _, err := newBuilder(t, Options{}).blueprint(t.Context(), c, wayDockerfile); fault.CodeOf(err) != fault.InvalidInput {
		t.Errorf("got %v", err)
	}
}

// TestSourceDigestIsFast has room for a busy machine; unloaded it takes a tenth of a second.
func TestSourceDigestIsFast(t *testing.T) {
	dir := t.TempDir()
	for i := range 100 {
		sub := filepath.Join(dir, fmt.Sprintf("package%d", i))
		if err := os.Mkdir(sub, 0o755); err != nil {
			t.Fatal(err)
		}
		for j := range 100 {
			if err := os.WriteFile(filepath.Join(sub, fmt.Sprintf("file%d.py", j)), []byte(strings.Repeat("x = 1\n", 200)), 0o644); err != nil {
				t.Fatal(err)
			}
		}
	}
	best := time.Hour
	for range 3 {
		begun := time.Now()
		entries, err := walkContext(t.Context(), dir, []string{"**/__pycache__", "**/*.pyc", "secrets", "!keep"}, false)
		if err = errors.Join(err, hashContext(t.Context(), dir, entries)); err != nil || len(entries) != 10100 {
			t.Fatal(len(entries), err)
		}
		best = min(best, time.Since(begun))
	}
	t.Logf("10,000 files in %v", best)
	if best > time.Second {
		t.Errorf("10,000 files took %v", best)
	}
}

func TestCommit(t *testing.T) {
	t.Parallel()
	dir := folderOf(t, map[string]string{"a": "b"})
	none := func(string) string { return "" }
	if got := findCommit(t.Context(), dir, none); got != (commit{}) {
		t.Errorf("outside of a repository: %+v", got)
	}
	for _, args := range [][]string{{"init", "-q"}, {"add", "."},
		{"-c", "user.name=x", "-c", "user.email=x@example.com", "-c", "commit.gpgsign=false", "commit", "-q", "-m", "x", "--date=2026-01-02T03:04:05Z"},
		{"remote", "add", "origin", "https://user:pa55-word@example.com/acme/x.git"}} {
		cmd := exec.Command("git", append([]string{"-C", dir}, args...)...)
		cmd.Env = append(os.Environ(), "GIT_COMMITTER_DATE=2026-01-02T03:04:05Z")
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %s", err, out)
		}
	}
	got := findCommit(t.Context(), dir, none)
	if len(got.revision) != 40 || got.epoch != "1767323045" || got.repository != "https://example.com/acme/x" || got.created() != "2026-01-02T03:04:05Z" || got.reproducible {
		t.Errorf("got %+v %s", got, got.created())
	}
	got = findCommit(t.Context(), dir, env(map[string]string{"SOURCE_DATE_EPOCH": "7", "GITHUB_SERVER_URL": "https://github.com", "GITHUB_REPOSITORY": "acme/y"}))
	if got.epoch != "7" || !got.reproducible || got.repository != "https://github.com/acme/y" {
		t.Errorf("got %+v", got)
	}
	if got := findCommit(t.Context(), dir, env(map[string]string{"SOURCE_DATE_EPOCH": "context", "CI_PROJECT_URL": "https://gitlab.com/a/b"})); got.epoch != "1767323045" || got.repository != "https://gitlab.com/a/b" {
		t.Errorf("got %+v", got)
	}
}

func TestProjectAddress(t *testing.T) {
	t.Parallel()
	for remote, want := range map[string]string{
		"git@github.com:acme/x.git": "https://github.com/acme/x", "ssh://git@example.com:2222/acme/x.git": "https://example.com/acme/x",
		"https://oauth2:tok@gitlab.com/a/b/c.git": "https://gitlab.com/a/b/c", "https://example.com/a?token=x": "https://example.com/a",
		"/srv/git/x.git": "", "file:///srv/x": "", "": "", "http://example.com/a": "",
	} {
		if got := projectAddress(remote); got != want {
			t.Errorf("%s: got %q, want %q", remote, got, want)
		}
	}
}
