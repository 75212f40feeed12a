//go:build unix

package registry

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"runtime/debug"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/google/go-containerregistry/pkg/v1/layout"

	"github.com/airbyte-publish/airbyte-publish/internal/image"
)

const (
	// bigLayer is the size of the layer, zeroes in a sparse file, and bigDigest their digest.
	bigLayer    = 1 << 30
	bigDigest   = "sha256:49bc20df15e412a64472421e13fe86ff1c5165e18b2afccf160d4dc19fe68a14"
	memoryLimit = 64 << 20
	// bigPush tells the test program to be the child process, with the registry and the layout.
	bigPush = "AIRBYTE_PUBLISH_TEST_BIG_PUSH"
)

// TestMain is the child process of TestMemory where it is asked to be.
func TestMain(m *testing.M) {
	if args := os.Getenv(bigPush); args != "" {
		host, dir, _ := strings.Cut(args, " ")
		if err := pushLayout(host, dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		var stats runtime.MemStats
		runtime.ReadMemStats(&stats)
		fmt.Println(stats.HeapSys)
		os.Exit(0)
	}
	os.Exit(m.Run())
}

func pushLayout(host, dir string) error {
	idx, err := layout.ImageIndexFromPath(dir)
	if err != nil {
		return err
	}
	manifest, err := idx.IndexManifest()
	if err != nil {
		return err
	}
	img, err := idx.Image(manifest.Manifests[0].Digest)
	if err != nil {
		return err
	}
	c := New(Options{Hosts: []string{host}, PlainHTTP: true})
	return publish(context.Background(), c, image.Repository(host+"/acme/big"), "1", image.Artifact{Image: img}, &recorder{})
}

// TestMemory pushes a gibibyte from a child process and holds the child's heap and resident memory to 64 MiB.
func TestMemory(t *testing.T) {
	dir := bigLayout(t)
	var received atomic.Int64
	var manifest atomic.Value
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		n, _ := io.Copy(io.Discard, r.Body)
		switch stepOf(r) {
		case atPing:
		case atPost:
			w.Header().Set("Location", "/v2/acme/big/blobs/uploads/1")
			w.WriteHeader(http.StatusAccepted)
		case atPatch:
			received.Add(n)
			w.Header().Set("Location", r.URL.Path)
			w.WriteHeader(http.StatusAccepted)
		case atPutBlob, atPutManifest:
			w.WriteHeader(http.StatusCreated)
		case atPutTag:
			manifest.Store(r.URL.Path)
			w.WriteHeader(http.StatusCreated)
		case atHead:
			if manifest.Load() == nil {
				w.WriteHeader(http.StatusNotFound)
				return
			}
			index, err := layout.ImageIndexFromPath(dir)
			if err != nil {
				t.Error(err)
				return
			}
			m, err := index.IndexManifest()
			if err != nil {
				t.Error(err)
				return
			}
			w.Header().Set("Docker-Content-Digest", m.Manifests[0].Digest.String())
			w.Header().Set("Content-Type", string(m.Manifests[0].MediaType))
			w.Header().Set("Content-Length", fmt.Sprint(m.Manifests[0].Size))
		default:
			w.WriteHeader(http.StatusNotFound)
		}
	}))
	defer s.Close()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), self)
	cmd.Env = append(os.Environ(), bigPush+"="+s.Listener.Addr().String()+" "+dir)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if n := received.Load(); n < bigLayer {
		t.Fatalf("the registry received %d bytes", n)
	}
	var heap int64
	if _, err := fmt.Sscan(string(out), &heap); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	if heap > memoryLimit {
		t.Errorf("the heap grew to %d MiB", heap>>20)
	}
	usage, ok := cmd.ProcessState.SysUsage().(*syscall.Rusage)
	if !ok || runtime.GOOS != "linux" {
		return // other systems count in other units
	}
	rss := int64(usage.Maxrss) << 10 //nolint:unconvert // it is an int32 elsewhere
	if rss > memoryLimit && !raceDetector() {
		t.Errorf("the process grew to %d MiB", rss>>20)
	}
	t.Logf("heap %d MiB, resident %d MiB", heap>>20, rss>>20)
}

// raceDetector tells whether this program was built with it, whose own memory is several times the program's.
func raceDetector() bool {
	info, _ := debug.ReadBuildInfo()
	return info != nil && slices.Contains(info.Settings, debug.BuildSetting{Key: "-race", Value: "true"})
}

// bigLayout writes an OCI layout with one image of one uncompressed layer.
func bigLayout(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	blobs := filepath.Join(dir, "blobs", "sha256")
	if err := os.MkdirAll(blobs, 0o700); err != nil {
		t.Fatal(err)
	}
	big, err := os.Create(filepath.Join(blobs, strings.TrimPrefix(bigDigest, "sha256:")))
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(big.Truncate(bigLayer), big.Close()); err != nil {
		t.Fatal(err)
	}
	add := func(v any) map[string]any {
		b, err := json.Marshal(v)
		if err != nil {
			t.Fatal(err)
		}
		digest := sum(b)
		if err := os.WriteFile(filepath.Join(blobs, strings.TrimPrefix(digest, "sha256:")), b, 0o600); err != nil {
			t.Fatal(err)
		}
		return map[string]any{"digest": digest, "size": len(b)}
	}
	config := add(map[string]any{"os": "linux", "architecture": "amd64", "rootfs": map[string]any{"type": "layers", "diff_ids": []string{bigDigest}}})
	config["mediaType"] = "application/vnd.oci.image.config.v1+json"
	manifest := add(map[string]any{"schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "config": config,
		"layers": []any{map[string]any{"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": bigDigest, "size": bigLayer}}})
	manifest["mediaType"] = "application/vnd.oci.image.manifest.v1+json"
	index, err := json.Marshal(map[string]any{"schemaVersion": 2, "manifests": []any{manifest}})
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range map[string]string{"index.json": string(index), "oci-layout": `{"imageLayoutVersion":"1.0.0"}`} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(content), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}
