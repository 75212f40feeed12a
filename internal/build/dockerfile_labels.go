package build

import (
	"context"
	"maps"
	"net/url"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// The labels by which an image's base is recorded (OCI image specification, annotations).
const (
	baseNameLabel   = "org.opencontainers.image.base.name"
	baseDigestLabel = "org.opencontainers.image.base.digest"
)

// commit is what is known of the commit that is built. Each field may be empty.
type commit struct {
	// revision is its id; epoch its time in seconds since 1970; repository the address of its project.
	revision, epoch, repository string
	// reproducible tells that the time was given, not found: then files in the image that are younger get that time, so
	// that the same commit gives the same digest on every machine. It costs: every layer is written anew for each export,
	// is another one for each commit, and Python no longer trusts its compiled files.
	reproducible bool
}

// gitTimeout is more than git takes for its last commit on the slowest disk.
const gitTimeout = 10 * time.Second

// findCommit asks git, and the CI host's variables for what git does not know. SOURCE_DATE_EPOCH counts for more than
// git (https://reproducible-builds.org/specs/source-date-epoch). A folder outside of any repository has no commit.
func findCommit(ctx context.Context, dir string, getenv func(string) string) commit {
	ctx, cancel := context.WithTimeout(ctx, gitTimeout)
	defer cancel()
	var found commit
	if id, epoch, ok := strings.Cut(git(ctx, dir, "log", "-1", "--no-show-signature", "--format=%H %ct"), " "); ok {
		found.revision, found.epoch = id, epoch
		found.repository = projectAddress(git(ctx, dir, "config", "--get", "remote.origin.url"))
	}
	if epoch := getenv("SOURCE_DATE_EPOCH"); epoch != "" {
		if _, err := strconv.ParseUint(epoch, 10, 63); err == nil {
			found.epoch, found.reproducible = epoch, true
		}
	}
	if repository := getenv("GITHUB_REPOSITORY"); repository != "" && getenv("GITHUB_SERVER_URL") != "" {
		found.repository = getenv("GITHUB_SERVER_URL") + "/" + repository
	} else if project := getenv("CI_PROJECT_URL"); project != "" {
		found.repository = project
	}
	return found
}

// git runs a git command that only reads. In a CI job's container the folder often belongs to another user, which git
// refuses to read without being told.
func git(ctx context.Context, dir string, args ...string) string {
	cmd := exec.CommandContext(ctx, "git", append([]string{"-c", "safe.directory=*", "-C", dir}, args...)...)
	out, err := cmd.Output()
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(out))
}

var sshAddress = regexp.MustCompile(`^(?:ssh://)?[\w.-]+@([\w.-]+)(?::\d+/|[:/])([\w./-]+)$`)

// projectAddress is the address for people of a git remote, without the credentials that it may hold; empty where there
// is none.
func projectAddress(remote string) string {
	if parts := sshAddress.FindStringSubmatch(remote); parts != nil {
		remote = "https://" + parts[1] + "/" + parts[2]
	}
	u, err := url.Parse(remote)
	if err != nil || u.Scheme != "https" || u.Host == "" {
		return ""
	}
	return (&url.URL{Scheme: u.Scheme, Host: u.Host, Path: strings.TrimSuffix(u.Path, ".git")}).String()
}

// created is the commit's time as labels have it; empty when it is not known.
func (c commit) created() string {
	seconds, err := strconv.ParseInt(c.epoch, 10, 64)
	if err != nil {
		return ""
	}
	return time.Unix(seconds, 0).UTC().Format(time.RFC3339)
}

// labels are the image's, beside those of the Dockerfile: what is known of the connector, its commit and its base; then
// the input's, which replace them; and the sources' digest, which nothing does.
func (p *blueprint) labels(on base) map[string]string {
	all := labels(p.connector, on)
	if on.digest == "" {
		delete(all, baseNameLabel)
		delete(all, baseDigestLabel)
	}
	for label, value := range map[string]string{
		"org.opencontainers.image.revision": p.commit.revision,
		"org.opencontainers.image.source":   p.commit.repository,
		"org.opencontainers.image.created":  p.commit.created(),
	} {
		if value != "" {
			all[label] = value
		}
	}
	maps.Copy(all, p.connector.Recipe.Labels)
	all[sourceLabel] = p.source
	return all
}
