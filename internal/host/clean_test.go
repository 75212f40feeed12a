package host

import (
	"regexp"
	"slices"
	"strings"
	"testing"
)

// foreign are commands of agents that run us without our knowing, and what may stand before and in them.
var foreign = []string{"##vso[task.setvariable variable=PATH]x", "##VSO[task.complete result=Succeeded]", "##[section]x", "####[error]x", "text ##teamcity[buildStatus text='x']", "##\x1b[0mvso[task.complete]"}

var readAsCommand = regexp.MustCompile(`##[A-Za-z]*\[`)

// TestNoAgentReadsACommand has other parties say what the agents of other CI hosts act upon, on every host that we know.
func TestNoAgentReadsACommand(t *testing.T) {
	t.Parallel()
	for name, env := range map[string]string{"plain": "TF_BUILD=True", "gitlab": "GITLAB_CI=true", "github": "GITHUB_ACTIONS=true"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for _, text := range foreign {
				w := newWorld(t, env)
				h := Detect(w.options())
				s := h.Section(text)
				end := s.Group(text)
				s.Info("%s", text)
				s.Untrusted(text, text)
				s.Annotate(Annotation{Level: LevelError, Title: text, Message: text, File: text})
				end()
				if err := s.Close(); err != nil {
					t.Fatal(err)
				}
				for size := range len(text) {
					// Another party's text may come in parts, and so long that its line is passed on unfinished.
					r := h.Redacting(w.options().Stdout)
					for part := range slices.Chunk([]byte(strings.Repeat("x", heldBack)+text), heldBack+size+1) {
						if _, err := r.Write(part); err != nil {
							t.Fatal(err)
						}
					}
					if err := r.Close(); err != nil {
						t.Fatal(err)
					}
				}
				if got := readAsCommand.FindString(w.stdout.String() + w.stderr.String()); got != "" {
					t.Errorf("an agent reads %q after %q", got, text)
				}
			}
		})
	}
}
