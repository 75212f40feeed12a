package build

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

func connectorImage(t *testing.T, mode string, env ...string) v1.Image {
	t.Helper()
	shell, connector := buildPrograms(t)
	return imageOf(t, hostPlatform, v1.Config{Env: append(env, "AIRBYTE_ENTRYPOINT=/bin/connector "+mode)},
		layerOf(t, tarOf(t,
			file("bin/sh", string(shell), 0o755),
			file("bin/connector", string(connector), 0o755),
			owned(dir("airbyte", 0o755), 1000, 1000),
			file("etc/secret-of-root", "x", 0o600),
			file("etc/passwd", "root:x:0:0:root:/root:/bin/sh\nairbyte:x:1000:1000::/airbyte:/bin/sh\n", 0o644))))
}

func TestSmoke(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	secret := t.TempDir() + "/secret"
	os.WriteFile(secret, []byte("x"), 0o644)
	run, err := RunSpec(t.Context(), connectorImage(t, "report", "DIAL="+l.Addr().String(), "HOST_FILE="+secret), SpecOptions{})
	if err != nil {
		t.Fatal(err)
	}
	var out any
	json.Unmarshal(run.Stdout, &out)
	raw, _ := json.MarshalIndent(out, "", " ")
	fmt.Println(string(raw), string(run.Stderr), run.ExitCode, run.TimedOut)
}
