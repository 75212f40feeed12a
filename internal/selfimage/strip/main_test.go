package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

// TestStrippedProgramsRun strips a program that is for this machine and one that is for another.
func TestStrippedProgramsRun(t *testing.T) {
	t.Parallel()
	for _, arch := range []string{"amd64", "arm64"} {
		program := filepath.Join(t.TempDir(), "strip")
		build := exec.Command("go", "build", "-o", program, ".")
		build.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=")
		if out, err := build.CombinedOutput(); err != nil {
			t.Fatalf("%v\n%s", err, out)
		}
		before, err := os.Stat(program)
		if err != nil {
			t.Fatal(err)
		}
		for range 2 {
			if err := strip(program); err != nil {
				t.Fatal(err)
			}
		}
		after, err := os.Stat(program)
		if err != nil || after.Size() > before.Size()*8/10 || after.Mode() != before.Mode() {
			t.Errorf("%s: %d bytes of %d are left, %v, %v", arch, after.Size(), before.Size(), after.Mode(), err)
		}
		if runtime.GOOS != "linux" || runtime.GOARCH != arch {
			continue
		}
		out, err := exec.Command(program, filepath.Join(t.TempDir(), "nothing")).CombinedOutput()
		if err == nil || !strings.HasPrefix(string(out), "strip ") {
			t.Errorf("the stripped program says %q, %v", out, err)
		}
	}
}

func TestStripRefuses(t *testing.T) {
	t.Parallel()
	for name, content := range map[string]string{"a script": "#!/bin/sh\n", "nothing": "", "half a header": "\x7fELF\x02\x01\x01"} {
		file := filepath.Join(t.TempDir(), "file")
		if err := os.WriteFile(file, []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := strip(file); err == nil {
			t.Errorf("%s is stripped", name)
		}
		if left, err := os.ReadFile(file); err != nil || string(left) != content {
			t.Errorf("%s is changed: %q, %v", name, left, err)
		}
	}
}
