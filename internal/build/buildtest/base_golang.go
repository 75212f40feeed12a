//go:build linux

package buildtest

import (
	"io/fs"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// compiled are packages of the standard library that connectors use, compiled into the image with all that they import.
var compiled = []string{
	"bufio", "crypto/sha256", "encoding/csv", "encoding/json", "flag", "fmt", "net/http", "os/signal", "path/filepath",
}

// golang makes the image with Go: one layer for Go itself, one for its compiled packages.
func golang(t testing.TB, base v1.Image) v1.Image {
	t.Helper()
	return cachedImage(t, "image-golang-"+runtime.Version(), func(scratch string) (v1.Image, error) {
		root, err := exec.Command("go", "env", "GOROOT").Output()
		if err != nil {
			return nil, err
		}
		goItself, err := compressedLayer(filepath.Join(scratch, "go.tar.gz"), func(l *layer) error {
			return l.tree(strings.TrimSpace(string(root)), "usr/local/go", partOfGo)
		})
		if err != nil {
			return nil, err
		}
		cache := filepath.Join(scratch, "cache")
		env := []string{"GOCACHE=" + cache, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=amd64", "GOAMD64=v1", "GOFLAGS=", "GOWORK=off"}
		if err := run(scratch, env, "go", append([]string{"build", "-trimpath"}, compiled...)...); err != nil {
			return nil, err
		}
		packages, err := compressedLayer(filepath.Join(scratch, "packages.tar.gz"), func(l *layer) error {
			l.dir("go-cache", 0o755, 0)
			return l.tree(cache, "go-cache", func(string, fs.DirEntry) bool { return true })
		})
		if err != nil {
			return nil, err
		}
		return image(base, v1.Config{
			Env: []string{
				"PATH=/usr/local/go/bin:/usr/local/bin:/usr/bin:/bin", "GOTOOLCHAIN=local", "GOPROXY=off", "GOCACHE=/go-cache",
				"CGO_ENABLED=0",
			},
			Cmd: []string{"sh"},
		}, goItself, packages)
	})
}

// partOfGo tells what of a GOROOT it takes to build a program without cgo.
func partOfGo(path string, d fs.DirEntry) bool {
	switch top, _, _ := strings.Cut(path, "/"); {
	case path == "src/cmd" || path == "bin/gofmt" || d.Name() == "testdata" || strings.HasSuffix(path, "_test.go"):
		return false
	case strings.HasPrefix(path, "pkg/tool/linux_amd64/"):
		return d.Name() == "asm" || d.Name() == "compile" || d.Name() == "link"
	default:
		return top == "bin" || top == "lib" || top == "pkg" || top == "src" || path == "VERSION" || path == "go.env"
	}
}
