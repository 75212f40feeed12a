package host

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"

	"github.com/sethvargo/go-githubactions"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	// annotationsPerStep is how many annotations of each level GitHub shows of a step.
	annotationsPerStep = 10
	// stepSummaryLimit is how many bytes a step's summary may have; the runner drops a longer one whole
	// (actions/runner, FileCommandManager.cs).
	stepSummaryLimit = 1 << 20
)

// outputName is what GitHub takes as an output's name.
var outputName = regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_-]*$`)

// gitHub speaks with GitHub's runner: by workflow commands in the log, and by files named in the environment. The
// commands are written by go-githubactions into memory, because it panics when a writer fails; the files are written
// here, because it panics when there is none and closes every value with the same delimiter.
type gitHub struct {
	getenv    func(string) string
	dir       string
	annotated map[Level]int
	random    func() string
}

func newGitHub(o Options) *gitHub {
	return &gitHub{getenv: o.Getenv, dir: o.Dir, annotated: map[Level]int{}, random: rand.Text}
}

func (g *gitHub) name() string { return "github" }

// nests is false: the runner closes all groups at the first end.
func (g *gitHub) nests() bool { return false }

func (g *gitHub) command(issue func(*githubactions.Action)) string {
	var b strings.Builder
	issue(githubactions.New(githubactions.WithWriter(&b), githubactions.WithGetenv(g.getenv)))
	return b.String()
}

// heading is a line: a section around the groups would be a group around groups.
func (g *gitHub) heading(_ int, title string, _ time.Time) (string, func(time.Time) string) {
	return g.lines([]string{"== " + title}, 0), nil
}

func (g *gitHub) group(_ int, title string, _ int, _ time.Time) (string, func(time.Time) string) {
	return g.command(func(a *githubactions.Action) { a.Group(defuse(title)) }),
		func(time.Time) string { return g.command((*githubactions.Action).EndGroup) }
}

func (g *gitHub) lines(lines []string, _ int) string {
	var b strings.Builder
	for _, l := range lines {
		b.WriteString(defuse(l) + "\n")
	}
	return b.String()
}

// guarded has the runner stop listening while another party's text is printed, until it hears a word that the text
// can't know.
func (g *gitHub) guarded(lines []string, depth int) string {
	text := g.lines(lines, depth)
	token := g.unlike("airbyte-publish-", text)
	stop := g.command(func(a *githubactions.Action) {
		a.IssueCommand(&githubactions.Command{Name: "stop-commands", Message: token})
	})
	return stop + text + "::" + token + "::\n"
}

// unlike returns a random word that text does not hold.
func (g *gitHub) unlike(prefix, text string) string {
	for {
		if word := prefix + g.random(); !strings.Contains(text, word) {
			return word
		}
	}
}

func (g *gitHub) annotation(a Annotation, depth int) string {
	file, inside := g.inWorkspace(a.File)
	g.annotated[a.Level]++
	if g.annotated[a.Level] > annotationsPerStep {
		return g.lines(strings.Split(annotationText(a), "\n"), depth)
	}
	fields := map[string]string{}
	if a.Title != "" {
		fields["title"] = defuse(a.Title)
	}
	switch {
	case a.File != "" && inside:
		fields["file"] = defuse(file)
		if a.Line > 0 {
			fields["line"] = strconv.Itoa(a.Line)
		}
	case a.File != "":
		a.Message += " (" + place(a) + ")"
	}
	message := strings.TrimSuffix(g.lines(strings.Split(a.Message, "\n"), 0), "\n")
	return g.command(func(act *githubactions.Action) {
		act = act.WithFieldsMap(fields)
		switch a.Level {
		case LevelError:
			act.Errorf("%s", message)
		case LevelWarning:
			act.Warningf("%s", message)
		default:
			act.Noticef("%s", message)
		}
	})
}

// inWorkspace returns the path by which GitHub finds a file beside a change: from the root of the workspace, with
// slashes. The second result is false for a file elsewhere.
func (g *gitHub) inWorkspace(file string) (string, bool) {
	workspace := g.getenv("GITHUB_WORKSPACE")
	if file == "" || workspace == "" {
		return file, file != "" && !filepath.IsAbs(file)
	}
	if !filepath.IsAbs(file) {
		file = filepath.Join(g.dir, file)
	}
	asGiven := func(path string) (string, error) { return path, nil }
	for _, resolve := range []func(string) (string, error){asGiven, filepath.EvalSymlinks} {
		root, err := resolve(workspace)
		if err != nil {
			continue
		}
		path, err := resolve(file)
		if err != nil {
			continue
		}
		if rel, err := filepath.Rel(root, path); err == nil && filepath.IsLocal(rel) {
			return filepath.ToSlash(rel), true
		}
	}
	return file, false
}

func (g *gitHub) harmless() func(string, bool) string { return defuseText }

func (g *gitHub) mask(forms []string) string {
	return g.command(func(a *githubactions.Action) {
		for _, f := range forms {
			a.AddMask(f)
		}
	})
}

// writeOutputs appends to the file that GITHUB_OUTPUT names, all at once. Each value stands between two lines of a
// random delimiter that it does not hold, so that no value can begin another output.
func (g *gitHub) writeOutputs(outputs []Output) ([]string, error) {
	file := g.getenv("GITHUB_OUTPUT")
	if file == "" {
		var notes []string
		for _, o := range outputs {
			notes = append(notes, "output "+o.Name+": "+o.Value)
		}
		return notes, nil
	}
	var b bytes.Buffer
	for _, o := range outputs {
		delimiter := g.unlike("ghadelimiter_", o.Value)
		fmt.Fprintf(&b, "%s<<%s\n%s\n%s\n", o.Name, delimiter, o.Value, delimiter)
	}
	if err := appendTo(file, func(int64) []byte { return b.Bytes() }); err != nil {
		return nil, writeFailed("write the outputs to", file, err)
	}
	return nil, nil
}

// writeSummary appends to the file that GITHUB_STEP_SUMMARY names. Outside a step there is no such file, and no place
// where Markdown would be shown.
func (g *gitHub) writeSummary(markdown string) ([]string, error) {
	file := g.getenv("GITHUB_STEP_SUMMARY")
	if file == "" {
		return nil, nil
	}
	var notes []string
	err := appendTo(file, func(size int64) []byte {
		fit := fitSummary(markdown, stepSummaryLimit-size)
		if len(fit) < len(markdown) {
			notes = append(notes, "The summary is longer than GitHub shows; the rest of it was left out.")
		}
		return []byte(fit)
	})
	if err != nil {
		return nil, writeFailed("write the summary to", file, err)
	}
	return notes, nil
}

// summaryCut says that a summary was cut. The empty line before it ends a table.
const summaryCut = "\n_The rest was left out: GitHub shows 1 MiB per step. All of it is in the output `results`._\n"

// fitSummary cuts markdown to limit bytes, at the end of a line, which is the end of a table's row.
func fitSummary(markdown string, limit int64) string {
	if !strings.HasSuffix(markdown, "\n") {
		markdown += "\n"
	}
	// One byte is for the line break that an unfinished line before it may need.
	limit--
	if int64(len(markdown)) <= limit {
		return markdown
	}
	room := limit - int64(len(summaryCut))
	if room < 0 {
		return ""
	}
	return markdown[:strings.LastIndexByte(markdown[:room], '\n')+1] + summaryCut
}

// appendTo appends to a file what make returns for the size that it has, in one write, and on a line of its own: what
// another program of the same step wrote before may lack its last line break.
func appendTo(file string, make func(size int64) []byte) (err error) {
	f, err := os.OpenFile(file, os.O_RDWR|os.O_APPEND|os.O_CREATE, 0o644)
	if err != nil {
		return err
	}
	defer func() {
		if e := f.Close(); err == nil {
			err = e
		}
	}()
	info, err := f.Stat()
	if err != nil {
		return err
	}
	text := make(info.Size())
	if len(text) == 0 {
		return nil
	}
	if info.Size() > 0 {
		last := []byte{0}
		if _, err := f.ReadAt(last, info.Size()-1); err != nil {
			return err
		}
		if last[0] != '\n' {
			text = append([]byte("\n"), text...)
		}
	}
	_, err = f.Write(text)
	return err
}

func writeFailed(op, file string, err error) error {
	return &fault.Error{Code: fault.OutputsFailed, Op: op, Object: file, Cause: fault.Bounded(err.Error()),
		Remedy: "See that this job may write the file and that its disk is not full.", Err: err}
}
