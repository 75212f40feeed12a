package connectors

import (
	"bufio"
	"bytes"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"
)

func TestMisbehaveDoesWhatItsModeSays(t *testing.T) {
	t.Parallel()
	p := build(t, "./internal/sandbox/connectors/misbehave")
	for mode, want := range map[string]struct {
		code           int
		stdout, stderr string
		spec           bool
		atLeast        int // bytes on standard output
	}{
		"":              {stdout: "all is well", spec: true},
		Crash:           {code: 3, stderr: "Traceback"},
		NoSpec:          {stdout: `"type":"LOG"`},
		ErrorTrace:      {code: 1, stdout: `"failure_type":"config_error"`},
		HugeOutput:      {spec: true, atLeast: 64 << 20},
		NeedsNetwork:    {spec: true},
		EchoEnvironment: {stdout: "CANARY=tweet", spec: true},
		Print:           {code: 7, stdout: "::error::out", stderr: "err"},
		"no such mode":  {code: 1, stderr: "no mode"},
	} {
		t.Run(mode, func(t *testing.T) {
			t.Parallel()
			cmd := exec.CommandContext(t.Context(), p.path, "spec")
			cmd.Env = append(os.Environ(), "MISBEHAVE="+mode, "CANARY=tweet",
				"MISBEHAVE_STDOUT=::error::out", "MISBEHAVE_STDERR=err", "MISBEHAVE_EXIT=7")
			var stdout, stderr bytes.Buffer
			cmd.Stdout, cmd.Stderr = &stdout, &stderr
			_ = cmd.Run() // the exit code below says it all
			if code := cmd.ProcessState.ExitCode(); code != want.code {
				t.Errorf("it ends with %d, want %d", code, want.code)
			}
			if !bytes.Contains(stdout.Bytes(), []byte(want.stdout)) || !strings.Contains(stderr.String(), want.stderr) || stdout.Len() < want.atLeast {
				t.Errorf("it prints %d bytes and on standard error %q", stdout.Len(), &stderr)
			}
			if got := bytes.Contains(stdout.Bytes(), []byte(`{"type":"SPEC"`)); got != want.spec {
				t.Errorf("it prints a SPEC: %t, want %t", got, want.spec)
			}
			if want.atLeast == 0 && mode != Print {
				messages(t, stdout.Bytes())
			}
		})
	}
}

func TestMisbehaveHangsUntilItIsKilled(t *testing.T) {
	t.Parallel()
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no SIGTERM that could be ignored")
	}
	p := build(t, "./internal/sandbox/connectors/misbehave")
	cmd := exec.CommandContext(t.Context(), p.path, "spec")
	cmd.Env = append(os.Environ(), "MISBEHAVE="+Hang)
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	out := bufio.NewReader(stdout)
	if _, err := out.ReadString('\n'); err != nil {
		t.Error(err)
	}
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Error(err)
	}
	if line, err := out.ReadString('\n'); err != nil || !strings.Contains(line, "not listening") {
		t.Errorf("after a SIGTERM it says %q (%v)", line, err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Error(err)
	}
	_ = cmd.Wait() // it was killed
}
