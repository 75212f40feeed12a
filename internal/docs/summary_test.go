package docs_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

var update = flag.Bool("update", false, "write the summary that the documentation shows anew")

// TestTheShownSummaryIsReal compares the job's summary that the documentation shows with the one that package report's
// tests hold the program to.
func TestTheShownSummaryIsReal(t *testing.T) {
	t.Parallel()
	const begin, end = "<!-- summary:begin -->\n", "<!-- summary:end -->\n"
	file := filepath.Join(root, "docs/ci/github.md")
	content, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	golden, err := os.ReadFile(filepath.Join(root, "internal/report/testdata/published.md"))
	if err != nil {
		t.Fatal(err)
	}
	var want strings.Builder
	for line := range strings.Lines(string(golden)) {
		want.WriteString(strings.TrimRight("> "+line, " \n") + "\n")
	}
	before, rest, found := strings.Cut(string(content), begin)
	shown, after, ended := strings.Cut(rest, end)
	if !found || !ended {
		t.Fatalf("%s has no place for the summary", file)
	}
	if *update {
		if err := os.WriteFile(file, []byte(before+begin+want.String()+end+after), 0o644); err != nil {
			t.Fatal(err)
		}
		return
	}
	if shown != want.String() {
		t.Errorf("the summary in %s is not that of the program; -update to write it anew:\n%s", file, shown)
	}
}
