package build

import (
	"bytes"
	"context"
	"errors"
	"io"
	"io/fs"
	"maps"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-containerregistry/pkg/authn"
	"github.com/moby/buildkit/session/auth/authprovider"

	"github.com/airbyte-publish/airbyte-publish/internal/connector"
	"github.com/airbyte-publish/airbyte-publish/internal/fault"
)

func TestParseCache(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		"registry.example.com/x/cache:1":   "registry map[ref:registry.example.com/x/cache:1]",
		"type=registry,ref=a/b:1,mode=max": "registry map[mode:max ref:a/b:1]",
		"type=local,dest=/tmp/x":           "local map[dest:/tmp/x]", "type=inline": "inline map[]", "type=gha,scope=x": "gha map[scope:x]",
		"type=registry": "", "type=local,src=x": "", "type=nothing": "", "type=registry,ref=x,odd": "", "type=registry,=x,ref=y": "",
	} {
		entry, err := parseCache(text, true)
		got := ""
		if err == nil {
			var attrs []string
			for _, key := range slices.Sorted(maps.Keys(entry.Attrs)) {
				attrs = append(attrs, key+":"+entry.Attrs[key])
			}
			got = entry.Type + " map[" + strings.Join(attrs, " ") + "]"
		}
		if got != want {
			t.Errorf("%s: got %q, %v, want %q", text, got, err, want)
		}
	}
	if _, err := parseCache("type=inline", false); err == nil {
		t.Error("an inline cache can't be named to be read")
	}
	if _, err := New(Options{}).caches(connector.Connector{Label: "x"}, "cache-to", []string{"type=local"}, quiet{}); fault.CodeOf(err) != fault.CacheFailed {
		t.Errorf("got %v", err)
	}
}

func TestCacheInAPlainRegistry(t *testing.T) {
	t.Parallel()
	b := New(Options{PlainHTTP: func(host string) bool { return host == "plain.example.com:5000" }})
	for ref, want := range map[string]string{"plain.example.com:5000/x:1": "true", "other.example.com/x:1": "",
		"type=registry,registry.insecure=false,ref=plain.example.com:5000/x:1": "false"} {
		got, err := b.caches(connector.Connector{}, "cache-from", []string{ref}, quiet{})
		if err != nil || len(got) != 1 || got[0].Attrs["registry.insecure"] != want {
			t.Errorf("%s: got %+v, %v", ref, got, err)
		}
	}
}

func TestGitHubCacheIsLent(t *testing.T) {
	t.Parallel()
	for name, tc := range map[string]struct {
		env  map[string]string
		want map[string]string
	}{
		"new": {map[string]string{"ACTIONS_RUNTIME_TOKEN": "t", "ACTIONS_RESULTS_URL": "https://r", "ACTIONS_CACHE_SERVICE_V2": "True", "ACTIONS_CACHE_URL": "https://c"},
			map[string]string{"scope": "s", "token": "t", "url_v2": "https://r", "version": "2"}},
		"old":     {map[string]string{"ACTIONS_RUNTIME_TOKEN": "t", "ACTIONS_CACHE_URL": "https://c"}, map[string]string{"scope": "s", "token": "t", "url": "https://c"}},
		"nothing": {nil, nil},
		"no url":  {map[string]string{"ACTIONS_RUNTIME_TOKEN": "t"}, nil},
	} {
		got, err := New(Options{Getenv: env(tc.env)}).caches(connector.Connector{}, "cache-to", []string{"type=gha,scope=s"}, quiet{})
		if err != nil {
			t.Fatal(err)
		}
		if len(got) == 0 && tc.want == nil {
			continue
		}
		if len(got) != 1 || !maps.Equal(got[0].Attrs, tc.want) {
			t.Errorf("%s: got %+v, want %v", name, got, tc.want)
		}
	}
}

// TestWhatAnEngineIsLent: everything of the credential, under the host's one name, and anew each time, since it may have
// ended in between.
func TestWhatAnEngineIsLent(t *testing.T) {
	t.Parallel()
	var asked []string
	b := &Builder{options: Options{Credentials: func(_ context.Context, host string) (authn.AuthConfig, error) {
		asked = append(asked, host)
		if host == "bad.example.com" {
			return authn.AuthConfig{}, errors.New("helper failed")
		}
		return authn.AuthConfig{Username: host, Password: "p", IdentityToken: "i", RegistryToken: "r"}, nil
	}}}
	for _, host := range []string{authprovider.DockerHubRegistryHost, "ghcr.io", "ghcr.io"} {
		got, err := b.lent(t.Context(), host, nil, nil)
		if err != nil || got.Password != "p" || got.IdentityToken != "i" || got.RegistryToken != "r" {
			t.Errorf("%s: got %+v, %v", host, got, err)
		}
	}
	if _, err := b.lent(t.Context(), "bad.example.com", nil, nil); err == nil {
		t.Error("the helper's failure is lost")
	}
	if want := []string{"index.docker.io", "ghcr.io", "ghcr.io", "bad.example.com"}; !slices.Equal(asked, want) {
		t.Errorf("asked for %q, want %q", asked, want)
	}
	if got, err := (&Builder{}).lent(t.Context(), "x", nil, nil); err != nil || got.Username != "" {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestPushFaults has what engines and registries were seen to say, and what containerd's and Docker's sources have.
func TestPushFaults(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]fault.Code{
		"failed to push x: unexpected status from HEAD request to https://x/v2/: 401 Unauthorized":                       fault.CredentialsRefused,
		"failed to push x: server message: insufficient_scope: authorization failed":                                     fault.PushDenied,
		"denied: requested access to the resource is denied":                                                             fault.PushDenied,
		"failed to push x: unexpected status from POST request to https://x/v2/: 403 Forbidden":                          fault.PushDenied,
		"failed to push x: unexpected status from PUT request: 429 Too Many Requests":                                    fault.RateLimited,
		"failed to push x: unexpected status from PUT request: 413 Request Entity Too Large":                             fault.BodyTooLarge,
		"name unknown: The repository with name 'x' does not exist in the registry":                                      fault.RepositoryMissing,
		"http: server gave HTTP response to HTTPS client":                                                                fault.PlainHTTPRefused,
		"failed to do request: Head \"https://x\": tls: failed to verify certificate: x509: signed by unknown authority": fault.RegistryTLS,
		"failed to do request: Head \"https://x\": dial tcp: lookup x: no such host":                                     fault.RegistryUnreachable,
		"failed to push x: 500 Internal Server Error":                                                                    fault.PushFailed,
	} {
		s := &solving{blueprint: &blueprint{connector: connector.Connector{Repository: "registry.example.com/x/y"}}, engine: &engine{name: "engine"},
			builder:  New(Options{Credentials: func(context.Context, string) (authn.AuthConfig, error) { return authn.AuthConfig{Username: "u"}, nil }}),
			progress: &progress{secrets: secretReplacer(nil)}}
		if got := fault.CodeOf(s.explainPush(t.Context(), errors.New(text))); got != want {
			t.Errorf("%s: got %s, want %s", text, got, want)
		}
	}
}

func TestScannerThatCannotBePulled(t *testing.T) {
	t.Parallel()
	s := &solving{blueprint: &blueprint{connector: connector.Connector{Recipe: connector.Recipe{SBOM: true}}}, engine: &engine{name: "engine"}}
	err := s.explainPull(errors.New("x"), "docker.io/docker/buildkit-syft-scanner:stable-1", "i/o timeout")
	if fault.CodeOf(err) != fault.ScannerFailed || !strings.Contains(err.Error(), "docker.io") {
		t.Errorf("got %v", err)
	}
}

func TestBlobReaderReadsAtOffsets(t *testing.T) {
	t.Parallel()
	content := bytes.Repeat([]byte("0123456789"), 1000)
	opened := 0
	r := &blobReader{size: int64(len(content)), open: func() (io.ReadCloser, error) {
		opened++
		return io.NopCloser(iotest.OneByteReader(bytes.NewReader(content))), nil
	}}
	p := make([]byte, 15)
	for _, offset := range []int64{0, 15, 100, 5, 9990} {
		n, err := r.ReadAt(p, offset)
		if !bytes.Equal(p[:n], content[offset:offset+int64(n)]) || n < 10 || (err != nil) != (n < 15) {
			t.Errorf("at %d: %q, %v", offset, p[:n], err)
		}
	}
	if _, err := r.ReadAt(p, r.Size()); !errors.Is(err, io.EOF) {
		t.Errorf("at the end: %v", err)
	}
	if opened != 2 {
		t.Errorf("it was opened %d times", opened)
	}
	if err := errors.Join(r.Close(), r.Close()); err != nil {
		t.Error(err)
	}
}

func TestMemoryFS(t *testing.T) {
	t.Parallel()
	m := memoryFS{"Dockerfile": []byte("FROM x"), "Dockerfile.dockerignore": nil}
	for target, want := range map[string][]string{"": {"Dockerfile", "Dockerfile.dockerignore"}, "/": {"Dockerfile", "Dockerfile.dockerignore"},
		"Dockerfile": {"Dockerfile"}, "dockerfile": nil} {
		var got []string
		if err := m.Walk(t.Context(), target, func(path string, entry fs.DirEntry, err error) error {
			info, infoErr := entry.Info()
			if infoErr != nil || info.Size() != int64(len(m[path])) {
				t.Errorf("%s: %v, %v", path, info, infoErr)
			}
			got = append(got, path)
			return err
		}); err != nil || !slices.Equal(got, want) {
			t.Errorf("%q: got %q, %v", target, got, err)
		}
	}
	f, err := m.Open("/Dockerfile")
	if err != nil {
		t.Fatal(err)
	}
	if content, err := io.ReadAll(f); err != nil || string(content) != "FROM x" {
		t.Errorf("got %q, %v", content, err)
	}
	if _, err := m.Open("x"); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}

func TestBoundedOutput(t *testing.T) {
	t.Parallel()
	full := 0
	o := &boundedOutput{limit: 5, full: func() { full++ }}
	for _, text := range []string{"abc", "defg", "h"} {
		if n, err := o.Write([]byte(text)); n != len(text) || err != nil {
			t.Errorf("got %d, %v", n, err)
		}
	}
	if kept, truncated := o.kept(); string(kept) != "abcde" || !truncated || full != 1 {
		t.Errorf("got %q, %v, %d", kept, truncated, full)
	}
}
