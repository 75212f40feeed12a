package host

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"time"
)

const (
	// dotenvFile is the report that the GitLab component declares as artifacts:reports:dotenv; summaryFile lies
	// beside it.
	dotenvFile  = "airbyte-publish.env"
	summaryFile = "airbyte-publish.md"

	// dotenvPrefix begins the variables' names. It is not AIRBYTE_PUBLISH_, the prefix of the inputs: GitLab gives the
	// variables of a report to all later jobs, where AIRBYTE_PUBLISH_TAG or AIRBYTE_PUBLISH_DEFINITION_ID would be
	// taken for the inputs of another publish.
	dotenvPrefix = "AIRBYTE_PUBLISHED_"

	// GitLab refuses a report that is larger, or that holds more variables, unless its administrator allows it
	// (limits dotenv_size and dotenv_variables).
	dotenvSize      = 5 << 10
	dotenvVariables = 20
)

// gitLab writes GitLab's collapsible sections, and files for its reports. GitLab has no command for masking: there,
// taking secrets out of all that is printed is everything.
type gitLab struct {
	dir    string
	colour bool
}

func newGitLab(o Options) *gitLab {
	dir := o.Getenv("CI_PROJECT_DIR")
	if dir == "" {
		dir = o.Dir
	}
	return &gitLab{dir: dir, colour: colourful(o)}
}

func (g *gitLab) name() string { return "gitlab" }

func (g *gitLab) nests() bool { return true }

func (g *gitLab) harmless() func(string, bool) string { return harmlessAnywhere }

func (g *gitLab) mask([]string) string { return "" }

func (g *gitLab) heading(id int, title string, at time.Time) (string, func(time.Time) string) {
	return g.section(id, title, "", at)
}

func (g *gitLab) group(id int, title string, _ int, at time.Time) (string, func(time.Time) string) {
	return g.section(id, title, "[collapsed=true]", at)
}

// notSectionName is what a section's name may not hold.
var notSectionName = regexp.MustCompile(`[^a-z0-9]+`)

// section writes GitLab's marks of a section (docs.gitlab.com, "Custom collapsible sections"). Its name is made unique
// by the id, because GitLab takes two sections of one name for the same.
func (g *gitLab) section(id int, title, options string, at time.Time) (string, func(time.Time) string) {
	name := strings.Trim(shorten(notSectionName.ReplaceAllString(strings.ToLower(title), "_"), 40), "_…")
	name = fmt.Sprintf("airbyte_publish_%d_%s", id, name)
	shown := title
	if g.colour {
		shown = bold(title)
	}
	return fmt.Sprintf("\x1b[0Ksection_start:%d:%s%s\r\x1b[0K%s\n", at.Unix(), name, options, shown),
		func(at time.Time) string { return fmt.Sprintf("\x1b[0Ksection_end:%d:%s\r\x1b[0K\n", at.Unix(), name) }
}

func (g *gitLab) lines(lines []string, _ int) string { return strings.Join(lines, "\n") + "\n" }

func (g *gitLab) guarded(lines []string, depth int) string { return g.lines(lines, depth) }

func (g *gitLab) annotation(a Annotation, depth int) string {
	return g.lines(strings.Split(coloured(a.Level, annotationText(a), g.colour), "\n"), depth)
}

// writeOutputs writes the report that becomes the variables of later jobs. GitLab reads a line as name, equals sign
// and value, without quotes and continuations, and refuses the whole report when it breaks a limit: values go in as
// long as they fit, on one line each.
func (g *gitLab) writeOutputs(outputs []Output) ([]string, error) {
	var (
		b     strings.Builder
		notes []string
		count int
	)
	for _, o := range outputs {
		key := dotenvPrefix + strings.ToUpper(strings.ReplaceAll(o.Name, "-", "_"))
		line := key + "=" + strings.Join(cleanLines(o.Value), " ") + "\n"
		if b.Len()+len(line) > dotenvSize || count == dotenvVariables {
			notes = append(notes, fmt.Sprintf("%s is left out of %s: GitLab takes at most %d variables and %d bytes.",
				key, dotenvFile, dotenvVariables, dotenvSize))
			continue
		}
		count++
		b.WriteString(line)
	}
	return notes, replaceFile("write the outputs to", filepath.Join(g.dir, dotenvFile), b.String())
}

func (g *gitLab) writeSummary(markdown string) ([]string, error) {
	return nil, replaceFile("write the summary to", filepath.Join(g.dir, summaryFile), markdown)
}

// replaceFile puts a file with the text in the place of file in one act, so that nobody ever reads half of it and a
// link that the project's tree holds there is not followed.
func replaceFile(op, file, text string) (err error) {
	defer func() {
		if err != nil {
			err = writeFailed(op, file, err)
		}
	}()
	f, err := os.CreateTemp(filepath.Dir(file), ".airbyte-publish-*")
	if err != nil {
		return err
	}
	defer func() {
		if err != nil {
			_ = os.Remove(f.Name())
		}
	}()
	_, err = f.WriteString(text)
	if e := f.Chmod(0o644); err == nil {
		err = e
	}
	if e := f.Close(); err == nil {
		err = e
	}
	if err != nil {
		return err
	}
	return os.Rename(f.Name(), file)
}
