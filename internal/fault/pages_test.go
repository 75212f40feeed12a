package fault_test

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

const (
	pagesDir  = "../../docs/errors"
	sourceDir = ".."
)

// constants are the codes of code.go by the names of their constants.
func constants(t *testing.T) map[string]fault.Code {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), "code.go", nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	codes := map[string]fault.Code{}
	ast.Inspect(file, func(n ast.Node) bool {
		spec, ok := n.(*ast.ValueSpec)
		if !ok {
			return true
		}
		if kind, ok := spec.Type.(*ast.Ident); !ok || kind.Name != "Code" {
			return true
		}
		for i, name := range spec.Names {
			text, err := strconv.Unquote(spec.Values[i].(*ast.BasicLit).Value)
			if err != nil {
				t.Fatal(err)
			}
			codes[name.Name] = fault.Code(text)
		}
		return true
	})
	if len(codes) == 0 {
		t.Fatal("code.go has no codes")
	}
	return codes
}

func TestEveryCodeIsOneNumberWithATitle(t *testing.T) {
	t.Parallel()
	shape := regexp.MustCompile(`^AP[1-69]\d\d$`)
	seen := map[fault.Code]string{}
	for name, code := range constants(t) {
		if other, taken := seen[code]; taken {
			t.Errorf("%s and %s are both %s", name, other, code)
		}
		seen[code] = name
		if !shape.MatchString(string(code)) {
			t.Errorf("%s is %q", name, code)
		}
		if fault.Titles[code] == "" {
			t.Errorf("%s (%s) has no title", name, code)
		}
	}
	for code := range fault.Titles {
		if seen[code] == "" {
			t.Errorf("there is a title for %s, which is no code", code)
		}
	}
}

// sections are a page's headings in their order; the last is left out where there is nothing to point to.
var sections = []string{"## What happened", "## Why", "## What to do", "## See also"}

func TestEveryCodeHasItsPage(t *testing.T) {
	t.Parallel()
	heading := regexp.MustCompile(`(?m)^## .*$`)
	fence := regexp.MustCompile("(?ms)^ *```.*?^ *```$")
	for code, title := range fault.Titles {
		content, err := os.ReadFile(filepath.Join(pagesDir, string(code)+".md"))
		if err != nil {
			t.Errorf("%s has no page: %v", code, err)
			continue
		}
		page := string(content)
		if want := fmt.Sprintf("# %s: %s\n", code, title); !strings.HasPrefix(page, want) {
			t.Errorf("the page of %s begins with %.80q, want %q", code, page, want)
		}
		found := heading.FindAllString(fence.ReplaceAllString(page, ""), -1)
		if !slices.Equal(found, sections) && !slices.Equal(found, sections[:3]) {
			t.Errorf("the page of %s has the sections %q, want %q", code, found, sections)
		}
		if strings.Count(page, "```")%2 != 0 {
			t.Errorf("the page of %s has a block of code that does not end", code)
		}
		if !strings.HasSuffix(code.Page(), "/docs/errors/"+string(code)+".md") {
			t.Errorf("%s says that its page is %s", code, code.Page())
		}
	}
}

func TestEveryPageHasItsCodeAndIsListed(t *testing.T) {
	t.Parallel()
	files, err := os.ReadDir(pagesDir)
	if err != nil {
		t.Fatal(err)
	}
	index, err := os.ReadFile(filepath.Join(pagesDir, "README.md"))
	if err != nil {
		t.Fatal(err)
	}
	row := regexp.MustCompile(`(?m)^\| \[(AP\d+)\]\((AP\d+)\.md\) \| (.*) \|$`)
	listed := map[fault.Code]string{}
	for _, match := range row.FindAllStringSubmatch(string(index), -1) {
		if match[1] != match[2] || listed[fault.Code(match[1])] != "" {
			t.Errorf("the index links %s to %s, or lists it twice", match[1], match[2])
		}
		listed[fault.Code(match[1])] = match[3]
	}
	link := regexp.MustCompile(`\]\(([^):]+)\)`)
	for _, f := range files {
		content, err := os.ReadFile(filepath.Join(pagesDir, f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		for _, target := range link.FindAllStringSubmatch(string(content), -1) {
			if _, err := os.Stat(filepath.Join(pagesDir, target[1])); err != nil {
				t.Errorf("%s links to %s: %v", f.Name(), target[1], err)
			}
		}
		code, isPage := strings.CutSuffix(f.Name(), ".md")
		if f.Name() == "README.md" {
			continue
		}
		if title := fault.Titles[fault.Code(code)]; !isPage || title == "" || listed[fault.Code(code)] != title {
			t.Errorf("%s: its title is %q and the index says %q", f.Name(), title, listed[fault.Code(code)])
		}
	}
	if len(listed) != len(fault.Titles) {
		t.Errorf("the index lists %d codes of %d", len(listed), len(fault.Titles))
	}
}

// TestEveryCodeIsUsed keeps codes from being promised in the pages that nothing ever gives out.
func TestEveryCodeIsUsed(t *testing.T) {
	t.Parallel()
	use := regexp.MustCompile(`\bfault\.([A-Z]\w*)`)
	used := map[string]bool{}
	err := filepath.WalkDir(sourceDir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() || !strings.HasSuffix(path, ".go") || strings.HasSuffix(path, "_test.go") {
			return err
		}
		source, err := os.ReadFile(path)
		for _, match := range use.FindAllSubmatch(source, -1) {
			used[string(match[1])] = true
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	for name, code := range constants(t) {
		if !used[name] {
			t.Errorf("%s (%s) is given out nowhere", name, code)
		}
	}
}
