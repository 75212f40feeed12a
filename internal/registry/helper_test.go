//go:build unix

package registry

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/airbyte-publish/airbyte-publish/internal/fault"
	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

// TestHelperPrograms runs real programs. They are written before they are run, which another test's fork may disturb
// ("text file busy"), so it is not parallel.
func TestHelperPrograms(t *testing.T) {
	const secret = "hunter2-secret"
	full := `{"ServerURL":"h","Username":"u","Secret":"` + secret + `"}`
	bin := t.TempDir()
	t.Setenv("PATH", bin+string(os.PathListSeparator)+os.Getenv("PATH"))
	for name, tt := range map[string]struct {
		script string
		fails  string // what the error says; empty when the helper works
	}{
		"a child keeps stdout open":   {`printf '%s' '` + full + `'; sleep 3 & exit 0`, ""},
		"a child stays after failing": {`echo oops >&2; sleep 3 & exit 4`, "oops"},
		"an answer, then a failure":   {`echo '` + full + `'; echo the session has ended >&2; exit 1`, "the session has ended"},
		"half an answer":              {`echo '` + full[:len(full)-1] + `'; exit 1`, "it printed nothing that can be shown"},
		"secret in words":             {`echo 'secret: ` + secret + `'; exit 1`, "it printed nothing that can be shown"},
		"a JSON string":               {`echo '"` + secret + `"'; exit 1`, "it printed nothing that can be shown"},
		"a message":                   {`echo 'no session, run login'; exit 1`, "no session, run login"},
	} {
		if err := os.WriteFile(filepath.Join(bin, "docker-credential-test"), []byte("#!/bin/sh\n"+tt.script+"\n"), 0o700); err != nil { //nolint:gosec // a program must be executable
			t.Fatal(err)
		}
		f := newFake(t).basic("u", secret)
		c, _, log := f.client(Options{Getenv: env("DOCKER_CONFIG", dockerConfigFile(t, map[string]any{"credsStore": "test"}))})
		err := c.CheckPush(t.Context(), image.Repository(f.host()+"/a/b"))
		if tt.fails == "" {
			if err != nil {
				t.Errorf("%s: %v", name, err)
			}
			continue
		}
		if got := wantFault(t, err, fault.CredentialHelper, tt.fails).Error() + log.String(); strings.Contains(got, secret) {
			t.Errorf("%s: the secret is shown: %s", name, got)
		}
	}
}
