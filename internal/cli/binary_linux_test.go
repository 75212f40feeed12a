package cli_test

import (
	"bytes"
	"errors"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"sync"
	"testing"
)

// binary is the command as users have it.
var binary = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "airbyte-publish-test-")
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "airbyte-publish")
	cmd := exec.Command("go", "build", "-o", path, "../..")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOFLAGS=")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", errors.New(string(out))
	}
	return path, nil
})

// runBinary runs the command as a child process.
func (e environment) runBinary(t testing.TB, args ...string) outcome {
	t.Helper()
	cmd, stdout, stderr := e.command(t, args...)
	err := cmd.Run()
	if _, ok := errors.AsType[*exec.ExitError](err); err != nil && !ok {
		t.Fatal(err)
	}
	return outcome{cmd.ProcessState.ExitCode(), stdout.String(), stderr.String()}
}

func (e environment) command(t testing.TB, args ...string) (cmd *exec.Cmd, stdout, stderr *bytes.Buffer) {
	t.Helper()
	path, err := binary()
	if err != nil {
		t.Fatal(err)
	}
	stdout, stderr = &bytes.Buffer{}, &bytes.Buffer{}
	cmd = exec.CommandContext(t.Context(), path, args...)
	for _, k := range slices.Sorted(maps.Keys(e)) {
		cmd.Env = append(cmd.Env, k+"="+e[k])
	}
	cmd.Stdout, cmd.Stderr = stdout, stderr
	return cmd, stdout, stderr
}
