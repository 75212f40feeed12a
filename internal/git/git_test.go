package git_test

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/git"
)

// repository is one of git's with nothing of the machine's configuration.
type repository struct {
	dir string
	env []string
}

func newRepository(t *testing.T) repository {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal(err)
		}
		t.Skip(err)
	}
	r := repository{dir: t.TempDir(), env: []string{"PATH=" + os.Getenv("PATH"), "HOME=" + t.TempDir(), "GIT_CONFIG_NOSYSTEM=1",
		"GIT_AUTHOR_NAME=a", "GIT_AUTHOR_EMAIL=a@example.com", "GIT_COMMITTER_NAME=a", "GIT_COMMITTER_EMAIL=a@example.com"}}
	r.git(t, "init", "-q", "-b", "main")
	return r
}

func (r repository) git(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("git", args...)
	cmd.Dir, cmd.Env = r.dir, r.env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("git %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

func (r repository) write(t *testing.T, name, content string) {
	t.Helper()
	path := filepath.Join(r.dir, name)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
		t.Fatal(err)
	}
}

func (r repository) commit(t *testing.T, message string) string {
	t.Helper()
	r.git(t, "add", "-A")
	r.git(t, "commit", "-q", "--allow-empty", "-m", message)
	return r.git(t, "rev-parse", "HEAD")
}

// changed are those of the folders that changed since ref.
func (r repository) changed(t *testing.T, ref string, folders ...string) []string {
	t.Helper()
	c := &git.Changes{Ref: ref, Environ: r.env}
	var found []string
	for _, f := range folders {
		dir := filepath.Join(r.dir, f)
		is, err := c.Any(t.Context(), dir)
		if err != nil {
			t.Fatalf("%s since %s: %v", f, ref, err)
		}
		if is {
			found = append(found, f)
		}
	}
	return found
}

func TestWhatChanged(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.write(t, ".gitignore", "*.log\n")
	for _, f := range []string{"c/a", "c/ab", "c/ä ö\n", "c/moved", "c/link"} {
		r.write(t, f+"/metadata.yaml", f)
	}
	start := r.commit(t, "start")
	r.git(t, "tag", "v1")
	all := []string{"c/a", "c/ab", "c/ä ö\n", "c/moved", "c/link"}
	expect := func(what, ref string, want ...string) {
		t.Helper()
		if got := r.changed(t, ref, all...); !slices.Equal(got, want) {
			t.Errorf("%s: %q, want %q", what, got, want)
		}
	}
	expect("nothing", "v1")
	r.write(t, "README.md", "x")
	r.write(t, "c/a/run.log", "ignored")
	expect("others and ignored ones", "v1")
	r.write(t, "c/ab/new.py", "x")
	expect("a new file", "v1", "c/ab")
	r.commit(t, "new file")
	expect("a commit", "v1", "c/ab")
	expect("the commit before", "HEAD~1", "c/ab")
	r.write(t, "c/ä ö\n/metadata.yaml", "x")
	expect("a name that git would quote", "HEAD", "c/ä ö\n")
	r.commit(t, "odd name")
	r.git(t, "mv", "c/moved/metadata.yaml", "c/a/moved.yaml")
	r.write(t, "c/moved/other.yaml", "x")
	r.commit(t, "move")
	expect("a move changes both sides", "HEAD~1", "c/a", "c/moved")
	if err := os.Symlink("/nowhere", filepath.Join(r.dir, "c/link/to")); err != nil {
		t.Fatal(err)
	}
	expect("a link", "HEAD", "c/link")
	r.commit(t, "link")

	// What happened on the other branch since the two parted is no change of this one.
	r.git(t, "switch", "-q", "-c", "topic", start)
	r.write(t, "c/a/topic.py", "x")
	r.commit(t, "topic")
	expect("a branch that went on", "main", "c/a")
	expect("no commit at all", strings.Repeat("0", 40), all...)
	if got := r.changed(t, "main", "."); !slices.Equal(got, []string{"."}) {
		t.Errorf("the root: %q", got)
	}
}

func TestPathsOutsideOfTheFolder(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.write(t, "c/a/metadata.yaml", "x")
	r.write(t, "docker/Dockerfile", "FROM scratch")
	r.commit(t, "start")
	r.write(t, "docker/Dockerfile", "FROM scratch\n")
	r.write(t, "out/image/index.json", "made by an earlier step")
	c := &git.Changes{Ref: "HEAD", Environ: r.env}
	dir := filepath.Join(r.dir, "c/a")
	for path, want := range map[string]bool{dir: false, filepath.Join(dir, "../../docker/Dockerfile"): true, "/etc/passwd": false,
		filepath.Join(r.dir, "missing"): false, filepath.Join(r.dir, "out/image"): false} {
		if got, err := c.Any(t.Context(), dir, path); err != nil || got != want {
			t.Errorf("%s: %v, %v", path, got, err)
		}
	}
}

func TestSubmodulesAndLinks(t *testing.T) {
	t.Parallel()
	inner := newRepository(t)
	inner.write(t, "metadata.yaml", "1")
	inner.commit(t, "one")
	r := newRepository(t)
	r.write(t, "README.md", "x")
	r.git(t, "-c", "protocol.file.allow=always", "submodule", "--quiet", "add", inner.dir, "c/sub")
	r.commit(t, "start")
	r.git(t, "tag", "v1")
	sub := repository{dir: filepath.Join(r.dir, "c/sub"), env: r.env}
	sub.git(t, "tag", "v1")
	if got := r.changed(t, "v1", "c/sub"); got != nil {
		t.Errorf("%q", got)
	}
	sub.write(t, "metadata.yaml", "2")
	sub.commit(t, "two")
	// The submodule is a clone of its own, in which the commit is looked for.
	if got := r.changed(t, "v1", "c/sub"); !slices.Equal(got, []string{"c/sub"}) {
		t.Errorf("%q", got)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(r.dir, link); err != nil {
		t.Fatal(err)
	}
	r.write(t, "c/a/metadata.yaml", "x")
	through := repository{dir: link, env: r.env}
	if got := through.changed(t, "v1", "c/a"); !slices.Equal(got, []string{"c/a"}) {
		t.Errorf("%q", got)
	}
	if err := os.Symlink("../shared", filepath.Join(r.dir, "c/linked")); err != nil {
		t.Fatal(err)
	}
	r.write(t, "shared/metadata.yaml", "x")
	r.commit(t, "a folder that is a link")
	if got := r.changed(t, "HEAD", "c/linked"); got != nil {
		t.Errorf("%q", got)
	}
	r.write(t, "shared/metadata.yaml", "y")
	if got := r.changed(t, "HEAD", "c/linked"); !slices.Equal(got, []string{"c/linked"}) {
		t.Errorf("%q", got)
	}
}

func TestFailures(t *testing.T) {
	t.Parallel()
	r := newRepository(t)
	r.write(t, "c/a/metadata.yaml", "1")
	first := r.commit(t, "one")
	r.git(t, "tag", "v1")
	r.write(t, "c/a/metadata.yaml", "2")
	r.commit(t, "two")
	r.git(t, "switch", "-q", "--orphan", "other")
	r.commit(t, "unrelated")
	r.git(t, "switch", "-q", "main")
	shallow := repository{dir: filepath.Join(t.TempDir(), "shallow"), env: r.env}
	r.git(t, "clone", "-q", "--depth", "1", "--no-single-branch", "file://"+r.dir, shallow.dir)
	foreign := repository{dir: r.dir, env: append(slices.Clone(r.env), "GIT_TEST_ASSUME_DIFFERENT_OWNER=1")}
	empty := newRepository(t)
	empty.write(t, "c/a/metadata.yaml", "1")
	tests := map[string]struct {
		r      repository
		ref    string
		code   fault.Code
		phrase string
	}{
		"unknown":             {r, "nowhere", fault.NoSuchCommit, "no such commit"},
		"unknown id":          {r, strings.Repeat("ab", 20), fault.NoSuchCommit, "no such commit"},
		"a file's id":         {r, "HEAD:c/a/metadata.yaml", fault.NoSuchCommit, "no such commit"},
		"an option":           {r, "--output=/tmp/x", fault.NoSuchCommit, "no such commit"},
		"no common history":   {r, "other", fault.NoSuchCommit, "in common"},
		"not in a shallow":    {shallow, first, fault.ShallowClone, "fetch-depth: 0"},
		"shallow and parted":  {shallow, "v1", fault.ShallowClone, "fetch-depth: 0"},
		"no repository":       {repository{dir: t.TempDir(), env: r.env}, "v1", fault.NoGit, ".git folder"},
		"of somebody else":    {foreign, "v1", fault.NoGit, "safe.directory"},
		"without any commits": {empty, "HEAD", fault.NoSuchCommit, "no such commit"},
		"a bare one":          {repository{dir: filepath.Join(r.dir, ".git"), env: r.env}, "v1", fault.NoGit, ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c := &git.Changes{Ref: test.ref, Environ: test.r.env}
			_, err := c.Any(t.Context(), test.r.dir)
			if fault.CodeOf(err) != test.code || !strings.Contains(err.Error(), test.phrase) {
				t.Errorf("got %v", err)
			}
		})
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	c := &git.Changes{Ref: "v1", Environ: r.env}
	if _, err := c.Any(ctx, r.dir); fault.CodeOf(err) != fault.Interrupted {
		t.Errorf("interrupted: %v", err)
	}
}

// TestWithoutGit changes the variable by which a program is found, so that it can't run beside others.
func TestWithoutGit(t *testing.T) {
	t.Setenv("PATH", t.TempDir())
	c := &git.Changes{Ref: "v1"}
	if _, err := c.Any(t.Context(), t.TempDir()); fault.CodeOf(err) != fault.NoGit || !strings.Contains(err.Error(), "Install git") {
		t.Errorf("got %v", err)
	}
}
