// Package git asks the git program which paths of a working tree changed since a commit. It reads only, and it is not
// for anything else that a repository could tell: the tag of a CI job is in its environment, which package config reads.
package git

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"path"
	"path/filepath"
	"strings"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

// input is the name under which users know what this package does.
const input = `input "changed-since"`

// Changes tells what changed since a commit. The commit is the one where the history of the working tree and the named
// one part, so that what happened there in the meantime is no change here; what is not committed yet counts as well.
type Changes struct {
	// Ref names the commit.
	Ref string
	// Environ is the environment of the git program.
	Environ []string

	// trees are what was found, by the root of the working tree.
	trees map[string]*tree
}

// tree is what changed in one working tree.
type tree struct {
	// The paths are relative to its root, with slashes.
	tracked, untracked []string
	err                error
}

// none is the commit that GitHub and GitLab name as the one before a branch's first push.
const none = "0000000000000000000000000000000000000000"

// Everything tells that there is no commit to compare with, so that all counts as changed.
func (c *Changes) Everything() bool { return c.Ref == none }

// Any tells whether anything changed in the folder dir, or at one of the others, which are files or folders that belong to
// it. Of the others only what git knows counts: what an earlier step of the same job made there says nothing of a change.
// A path outside of dir's working tree is passed over. All are as this process would open them.
func (c *Changes) Any(ctx context.Context, dir string, others ...string) (bool, error) {
	if c.Everything() {
		return true, nil
	}
	root, err := c.root(ctx, dir)
	if err != nil {
		return false, err
	}
	t, known := c.trees[root]
	if !known {
		if c.trees == nil {
			c.trees = map[string]*tree{}
		}
		t = &tree{}
		t.err = c.compare(ctx, root, t)
		c.trees[root] = t
	}
	if t.err != nil {
		return false, t.err
	}
	// A folder that is a link has changed when the link has, and when that has which it leads to.
	folders := []string{dir}
	if behind, err := filepath.EvalSymlinks(dir); err == nil {
		folders = append(folders, behind)
	}
	for _, one := range folders {
		if relative, inside := within(root, one); inside && (holds(t.tracked, relative) || holds(t.untracked, relative)) {
			return true, nil
		}
	}
	for _, one := range others {
		if relative, inside := within(root, one); inside && holds(t.tracked, relative) {
			return true, nil
		}
	}
	return false, nil
}

// within is path relative to root, with slashes. Both are compared by what they are behind symbolic links, since git
// names the root that way.
func within(root, path string) (string, bool) {
	absolute, err := filepath.Abs(path)
	if err != nil {
		return "", false
	}
	// The last part stays as it is: git records a link as a link.
	if dir, err := filepath.EvalSymlinks(filepath.Dir(absolute)); err == nil {
		absolute = filepath.Join(dir, filepath.Base(absolute))
	}
	if root, err = filepath.EvalSymlinks(root); err != nil {
		return "", false
	}
	relative, err := filepath.Rel(root, absolute)
	if err != nil || !filepath.IsLocal(relative) {
		return "", false
	}
	return filepath.ToSlash(relative), true
}

// holds tells whether a changed path is the wanted one, lies below it, or is a folder above it (a submodule is one path).
func holds(paths []string, wanted string) bool {
	for _, changed := range paths {
		if wanted == "." || changed == wanted || strings.HasPrefix(changed, wanted+"/") || strings.HasPrefix(wanted, changed+"/") {
			return true
		}
	}
	return false
}

// root is the root of the working tree that dir lies in.
func (c *Changes) root(ctx context.Context, dir string) (string, error) {
	out, err := c.git(ctx, dir, "rev-parse", "--show-toplevel")
	if err != nil {
		return "", unusable(dir, err)
	}
	root := strings.TrimRight(out, "\r\n")
	if root == "" {
		return "", unusable(dir, errors.New("it has no working tree"))
	}
	return filepath.FromSlash(path.Clean(root)), nil
}

// compare lists the paths that changed.
func (c *Changes) compare(ctx context.Context, root string, t *tree) error {
	base, err := c.base(ctx, root)
	if err != nil {
		return err
	}
	tracked, err := c.git(ctx, root, "diff", "--name-only", "-z", "--no-renames", "--no-ext-diff", "--ignore-submodules=none", base, "--")
	if err != nil {
		return unusable(root, err)
	}
	untracked, err := c.git(ctx, root, "ls-files", "--others", "--exclude-standard", "-z")
	if err != nil {
		return unusable(root, err)
	}
	t.tracked, t.untracked = names(tracked), names(untracked)
	return nil
}

// names splits what git prints with -z.
func names(list string) []string {
	var found []string
	for one := range strings.SplitSeq(list, "\x00") {
		if one != "" {
			// A folder that is a repository of its own ends in a slash.
			found = append(found, strings.TrimSuffix(one, "/"))
		}
	}
	return found
}

// base is the commit to compare with.
func (c *Changes) base(ctx context.Context, root string) (string, error) {
	out, err := c.git(ctx, root, "rev-parse", "--verify", "--quiet", "--end-of-options", c.Ref+"^{commit}")
	if err != nil {
		return "", c.missing(ctx, root, err)
	}
	commit := strings.TrimSpace(out)
	out, err = c.git(ctx, root, "merge-base", commit, "HEAD")
	if err == nil {
		return strings.TrimSpace(out), nil
	}
	if e, ok := errors.AsType[*failed](err); !ok || e.code != 1 {
		return "", unusable(root, err)
	}
	if c.shallow(ctx, root) {
		return "", c.tooShallow("the clone does not reach back to where it and HEAD part")
	}
	return "", &fault.Error{Code: fault.NoSuchCommit, Op: "compare with", Object: c.object(), Cause: "it has no commit in common with HEAD",
		Remedy: "Name a commit, tag or branch of the same history.", Err: err}
}

// missing says why the commit is not there.
func (c *Changes) missing(ctx context.Context, root string, err error) error {
	if e, ok := errors.AsType[*failed](err); !ok || e.code != 1 && e.code != 128 {
		return unusable(root, err)
	}
	if c.shallow(ctx, root) {
		return c.tooShallow("the clone does not hold it")
	}
	return &fault.Error{Code: fault.NoSuchCommit, Op: "find", Object: c.object(), Cause: "the repository has no such commit, tag or branch",
		Remedy: "Name one that is there: a branch of the server is origin/BRANCH, a tag has to be fetched, and a commit that a push by force replaced is gone.", Err: err}
}

func (c *Changes) tooShallow(cause string) error {
	return &fault.Error{Code: fault.ShallowClone, Op: "compare with", Object: c.object(), Cause: cause + ", because it is a shallow one",
		Remedy: "Clone the whole history: with actions/checkout by fetch-depth: 0, on GitLab by GIT_DEPTH: 0, else by git fetch --unshallow."}
}

func (c *Changes) object() string { return fmt.Sprintf("%s: %q", input, fault.Bounded(c.Ref)) }

func (c *Changes) shallow(ctx context.Context, root string) bool {
	out, err := c.git(ctx, root, "rev-parse", "--is-shallow-repository")
	return err == nil && strings.TrimSpace(out) == "true"
}

// unusable says why git can't be asked.
func unusable(dir string, err error) error {
	remedy := "Run in a clone of the repository with its .git folder, or leave changed-since unset."
	switch text := err.Error(); {
	case errors.Is(err, exec.ErrNotFound):
		remedy = "Install git, or leave changed-since unset."
	case strings.Contains(text, "dubious ownership"):
		remedy = "The clone belongs to another user, as in a job's container: run git config --global --add safe.directory '*' before."
	case errors.Is(err, context.Canceled):
		return &fault.Error{Code: fault.Interrupted, Op: "ask git what changed in", Object: dir, Cause: "the run was interrupted", Err: err}
	}
	return &fault.Error{Code: fault.NoGit, Op: "ask git what changed in", Object: fault.Bounded(dir), Cause: err.Error(), Remedy: remedy, Err: err}
}

// failed is a git program that ended with another code than 0.
type failed struct {
	code int
	text string
}

func (f *failed) Error() string { return f.text }

// git runs the program in dir and returns what it printed.
func (c *Changes) git(ctx context.Context, dir string, args ...string) (string, error) {
	cmd := exec.CommandContext(ctx, "git", args...)
	cmd.Dir = dir
	// Its messages are told from one another by their words, and nobody is there to be asked for a password.
	cmd.Env = append(c.Environ[:len(c.Environ):len(c.Environ)], "LC_ALL=C", "GIT_OPTIONAL_LOCKS=0", "GIT_TERMINAL_PROMPT=0")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return "", ctx.Err()
	}
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		text := strings.TrimSpace(stderr.String())
		if text == "" {
			text = fmt.Sprintf("git %s ended with code %d", args[0], e.ExitCode())
		}
		return "", &failed{e.ExitCode(), fault.Bounded(text)}
	}
	return stdout.String(), err
}
