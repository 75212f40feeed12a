package cli_test

import (
	"context"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-containerregistry/pkg/name"
	"github.com/google/go-containerregistry/pkg/v1/layout"
	"github.com/google/go-containerregistry/pkg/v1/tarball"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/registry/registrytest"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox"
	"github.com/airbyte-publish/airbyte-publish/internal/sandbox/connectors"
)

// TestScripts runs the whole command by the scripts in testdata/script, against Debian's docker-registry and stand-ins.
// A script finds in its environment:
//
//	OPEN, HTPASSWD, TLS, TOKEN   host and port of a registry of that kind; publisher / registry-password signs in
//	CA                           the file with the authority of TLS
//	HELLO, JSONL                 OCI layouts of the test connectors
//	CONNECTORS                   a folder with the test connectors, source-manifest with a base image in OPEN
//
// and the command "airbyte [VERSION]" starts a stand-in and signs the command in to it.
func TestScripts(t *testing.T) {
	t.Parallel()
	const user, password = "publisher", "registry-password"
	users := map[string]string{user: password}
	open := registrytest.Start(t, registrytest.Config{})
	htpasswd := registrytest.Start(t, registrytest.Config{Users: users})
	secure := registrytest.Start(t, registrytest.Config{Users: users, TLS: true})
	token := registrytest.Start(t, registrytest.Config{Token: &registrytest.Token{Users: users}})
	shared := t.TempDir()
	write(t, filepath.Join(shared, "ca.pem"), string(secure.CAPEM))
	folders := filepath.Join(shared, "connectors")
	for _, c := range []string{"source-hello", "destination-jsonl"} {
		if err := os.CopyFS(filepath.Join(folders, c), os.DirFS(filepath.Join("..", "..", "testdata", "connectors", c))); err != nil {
			t.Fatal(err)
		}
	}
	if _, err := connectors.WithBase(t.Context(), folders, pushBase(t, open.Addr+"/airbyte/source-declarative-manifest", "", "")); err != nil {
		t.Fatal(err)
	}
	hello, jsonl := layoutOf(t, "source-hello"), layoutOf(t, "destination-jsonl")
	run := sandbox.PullAndRun(sandbox.PullOptions{Registry: htpasswd.Addr, Username: user, Password: password})
	testscript.Run(t, testscript.Params{
		Dir:                filepath.Join("..", "..", "testdata", "script"),
		RequireUniqueNames: true,
		Setup: func(e *testscript.Env) error {
			e.Vars = append(e.Vars,
				"OPEN="+open.Addr, "HTPASSWD="+htpasswd.Addr, "TLS="+secure.Addr, "TOKEN="+token.Addr, "CA="+filepath.Join(shared, "ca.pem"),
				"HELLO="+hello, "JSONL="+jsonl, "CONNECTORS="+folders, "HOME="+filepath.Join(e.WorkDir, "home"),
				"BASIC="+base64.StdEncoding.EncodeToString([]byte(user+":"+password)))
			return os.Mkdir(filepath.Join(e.WorkDir, "home"), 0o755)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"airbyte": func(ts *testscript.TestScript, _ bool, args []string) { scriptAirbyte(ts, run, args) },
			"archive": scriptArchive,
			"holds":   scriptHolds,
		},
	})
}

// scriptAirbyte starts a stand-in: airbyte [VERSION [WORKSPACE-ID...]].
func scriptAirbyte(ts *testscript.TestScript, run sandbox.RunSpec, args []string) {
	o := sandbox.AirbyteOptions{Auth: sandbox.Auth{Mode: sandbox.ClientCredentials, ClientID: "client", ClientSecret: "client-secret"},
		// Only the registry that asks for a password is one that the stand-in signs in to; the spec of images in the
		// others is read without.
		RunSpec: func(ctx context.Context, ref string) (connector.SpecRun, error) { return run(ctx, ref) }}
	if len(args) > 0 {
		o.Version = args[0]
		for i, id := range args[1:] {
			o.Workspaces = append(o.Workspaces, connector.Workspace{ID: id, Name: fmt.Sprintf("Workspace %d", i+1)})
		}
	}
	a := sandbox.NewAirbyte(o)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ts.Check(err)
	server := &http.Server{Handler: a}
	go func() { _ = server.Serve(l) }()
	ts.Defer(func() {
		_ = server.Close()
		a.Close()
	})
	ts.Setenv("AIRBYTE_PUBLISH_AIRBYTE_URL", "http://"+l.Addr().String())
	ts.Setenv("AIRBYTE_PUBLISH_AIRBYTE_CLIENT_ID", "client")
	ts.Setenv("AIRBYTE_PUBLISH_AIRBYTE_CLIENT_SECRET", "client-secret")
}

// scriptArchive makes a docker-archive of a layout: archive LAYOUT FILE REF.
func scriptArchive(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 3 {
		ts.Fatalf("usage: archive LAYOUT FILE REF")
	}
	l, err := layout.FromPath(args[0])
	ts.Check(err)
	index, err := l.ImageIndex()
	ts.Check(err)
	manifest, err := index.IndexManifest()
	ts.Check(err)
	img, err := index.Image(manifest.Manifests[0].Digest)
	ts.Check(err)
	ref, err := name.NewTag(args[2])
	ts.Check(err)
	ts.Check(tarball.WriteToFile(ts.MkAbs(args[1]), ref, img))
}

// scriptHolds asks the stand-in itself: holds COUNT [TEXT...] tells how many custom definitions its page lists and what
// else stands on it.
func scriptHolds(ts *testscript.TestScript, _ bool, args []string) {
	response, err := http.Get(ts.Getenv("AIRBYTE_PUBLISH_AIRBYTE_URL") + "/sandbox/definitions")
	ts.Check(err)
	defer response.Body.Close()
	var page strings.Builder
	buffer := make([]byte, 1<<16)
	for {
		n, err := response.Body.Read(buffer)
		page.Write(buffer[:n])
		if err != nil {
			break
		}
	}
	if n := strings.Count(page.String(), "\n  image "); fmt.Sprint(n) != args[0] {
		ts.Fatalf("Airbyte holds %d definitions, want %s:\n%s", n, args[0], page.String())
	}
	for _, text := range args[1:] {
		if !strings.Contains(page.String(), text) {
			ts.Fatalf("Airbyte's definitions do not say %q:\n%s", text, page.String())
		}
	}
}
