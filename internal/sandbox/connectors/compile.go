package connectors

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
)

// module is this module's path, under which every program that goes into an image is built.
const module = "github.com/airbyte-publish/airbyte-publish"

// Dir is the folder of a connector of testdata/connectors, such as "source-hello".
func Dir(ctx context.Context, name string) (string, error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "testdata", "connectors", name)
	if _, err := os.Stat(filepath.Join(dir, "metadata.yaml")); err != nil {
		return "", fmt.Errorf("find the connector %s: %w", name, err)
	}
	return dir, nil
}

// moduleRoot is where this module's source lies. The compiler knows it, so that it does not matter which folder a test
// runs in; with -trimpath the compiler leaves it out and the go command is asked.
func moduleRoot(ctx context.Context) (string, error) {
	if _, file, _, ok := runtime.Caller(0); ok && filepath.IsAbs(file) {
		root := filepath.Join(filepath.Dir(file), "..", "..", "..")
		if _, err := os.Stat(filepath.Join(root, "go.mod")); err == nil {
			return root, nil
		}
	}
	out, err := exec.CommandContext(ctx, "go", "list", "-m", "-f", "{{.Dir}}", module).Output()
	root := strings.TrimSpace(string(out))
	if err != nil || root == "" {
		return "", fmt.Errorf("find the source of %s: run this from inside its module: %w", module, goError(err))
	}
	return root, nil
}

// platform is what a program is built for, as GOOS and GOARCH name it.
type platform struct{ os, arch string }

// inImages is the platform of every image here: the one that Airbyte needs.
var inImages = platform{"linux", "amd64"}

// compile builds the program of a package into one static file and returns its bytes, the same on every machine for
// the same Go version: without paths, a version-control stamp or symbols. The go command keeps what it compiles in its
// own cache, so only the first run on a machine is slow.
func compile(ctx context.Context, p platform, pkg string) (_ []byte, err error) {
	root, err := moduleRoot(ctx)
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "airbyte-publish-compile-")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	binary := filepath.Join(dir, "program")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -buildid=", "-o", binary, pkg)
	cmd.Dir = root
	cmd.Env = append(cmd.Environ(), "CGO_ENABLED=0", "GOOS="+p.os, "GOARCH="+p.arch, "GOAMD64=v1")
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("go build %s for %s/%s: %w\n%s", pkg, p.os, p.arch, err, bytes.TrimSpace(out))
	}
	return os.ReadFile(binary)
}

// goError adds what the go command said on standard error.
func goError(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, bytes.TrimSpace(exit.Stderr))
	}
	return err
}
