package docs_test

import (
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"
)

const root = "../.."

// readFile reads a file of the repository.
func readFile(t *testing.T, name string) string {
	t.Helper()
	content, err := os.ReadFile(filepath.Join(root, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(content)
}

// page is a Markdown file, with its path relative to the repository.
type page struct {
	name, text string
}

// pages are README.md and all of docs.
func pages(t *testing.T) []page {
	t.Helper()
	var all []page
	add := func(name string) {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, page{filepath.ToSlash(name), string(content)})
	}
	add("README.md")
	err := filepath.WalkDir(filepath.Join(root, "docs"), func(file string, _ fs.DirEntry, err error) error {
		if err == nil && strings.HasSuffix(file, ".md") {
			name, err := filepath.Rel(root, file)
			if err != nil {
				return err
			}
			add(name)
		}
		return err
	})
	if err != nil || len(all) < 10 {
		t.Fatalf("%d pages, %v", len(all), err)
	}
	return all
}

// block is a fenced block of code.
type block struct {
	page     string
	line     int
	language string
	text     string
}

// name is the file that the block's first line says it is, in a comment: "# .github/workflows/publish.yml".
func (b block) name() string {
	first, _, _ := strings.Cut(b.text, "\n")
	name, found := strings.CutPrefix(first, "# ")
	if !found || strings.ContainsAny(name, " \t") || !strings.Contains(name, ".y") {
		return ""
	}
	return name
}

// blocks are the page's, and the rest of it is its prose.
func (p page) blocks(t *testing.T) (found []block, prose string) {
	t.Helper()
	var rest strings.Builder
	var open *block
	indent := ""
	number := 0
	for line := range strings.Lines(p.text) {
		number++
		line = strings.TrimSuffix(line, "\n")
		trimmed := strings.TrimLeft(line, " ")
		switch {
		case open == nil && strings.HasPrefix(trimmed, "```"):
			indent = line[:len(line)-len(trimmed)]
			open = &block{page: p.name, line: number, language: strings.TrimPrefix(trimmed, "```")}
		case open == nil:
			rest.WriteString(line + "\n")
		case trimmed == "```":
			found = append(found, *open)
			open = nil
		default:
			open.text += strings.TrimPrefix(line, indent) + "\n"
		}
	}
	if open != nil {
		t.Errorf("%s:%d: the block of code does not end", p.name, open.line)
	}
	return found, rest.String()
}

var (
	inlineCode = regexp.MustCompile("`[^`]*`")
	link       = regexp.MustCompile(`\]\(([^()\s]+)\)`)
	heading    = regexp.MustCompile(`(?m)^#+ (.*)$`)
	htmlAnchor = regexp.MustCompile(`<a (?:id|name)="([^"]+)"`)
)

// anchors are the names by which a page's headings can be linked to, as GitHub makes them.
func anchors(prose string) map[string]bool {
	found := map[string]bool{}
	for _, match := range heading.FindAllStringSubmatch(prose, -1) {
		slug := strings.Map(func(r rune) rune {
			switch {
			case unicode.IsLetter(r), unicode.IsDigit(r), r == '-', r == '_':
				return unicode.ToLower(r)
			case r == ' ':
				return '-'
			}
			return -1
		}, strings.TrimSpace(match[1]))
		found[slug] = true
	}
	for _, match := range htmlAnchor.FindAllStringSubmatch(prose, -1) {
		found[match[1]] = true
	}
	return found
}

func TestLinksLeadSomewhere(t *testing.T) {
	t.Parallel()
	of := map[string]map[string]bool{}
	all := pages(t)
	for _, p := range all {
		_, prose := p.blocks(t)
		of[p.name] = anchors(prose)
	}
	const self = "https://github.com/airbyte-publish/airbyte-publish/blob/main/"
	links := 0
	for _, p := range all {
		_, prose := p.blocks(t)
		for _, match := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(prose, "code"), -1) {
			target := match[1]
			base := path.Dir(p.name)
			if rest, ours := strings.CutPrefix(target, self); ours {
				target, base = rest, "."
			}
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			links++
			file, anchor, _ := strings.Cut(target, "#")
			name := p.name
			if file != "" {
				name = path.Join(base, file)
			}
			if _, err := os.Stat(filepath.Join(root, name)); err != nil {
				t.Errorf("%s links to %s: %v", p.name, match[1], err)
				continue
			}
			if anchor != "" && of[name] != nil && !of[name][anchor] {
				t.Errorf("%s links to %s, and %s has no such heading", p.name, match[1], name)
			}
		}
	}
	if links < 100 {
		t.Errorf("only %d links were found", links)
	}
}

// TestEveryGuideIsLinked keeps pages from being there and found by nobody.
func TestEveryGuideIsLinked(t *testing.T) {
	t.Parallel()
	linked := map[string]bool{"README.md": true}
	all := pages(t)
	for _, p := range all {
		_, prose := p.blocks(t)
		for _, match := range link.FindAllStringSubmatch(prose, -1) {
			file, _, _ := strings.Cut(match[1], "#")
			linked[path.Join(path.Dir(p.name), file)] = true
		}
	}
	for _, p := range all {
		if !linked[p.name] {
			t.Errorf("no page links to %s", p.name)
		}
	}
}
