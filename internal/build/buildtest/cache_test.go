//go:build linux

package buildtest

import (
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
)

// recorder is a test that notes how it was ended.
type recorder struct {
	testing.TB
	end string
}

// ended is what a recorder's methods end the test's function with, as testing's own end the goroutine.
type ended struct{}

func (*recorder) Helper() {}

func (r *recorder) Fatalf(format string, _ ...any) {
	r.end = "fatal: " + format
	panic(ended{})
}

func (r *recorder) Skipf(format string, _ ...any) {
	r.end = "skip: " + format
	panic(ended{})
}

func (r *recorder) run(f func()) {
	defer func() {
		if p := recover(); p != nil && p != (ended{}) {
			panic(p)
		}
	}()
	f()

}

func TestUnavailableFailsInCI(t *testing.T) {
	for ci, want := range map[string]string{"true": "fatal: ", "": "skip: NOT TESTED"} {
		t.Setenv("CI", ci)
		r := &recorder{TB: t}
		r.run(func() { lookPath(r, "no-such-program", "no-such-package") })
		if !strings.HasPrefix(r.end, want) {
			t.Errorf("with CI=%q a missing program ends the test with %q, want %q", ci, r.end, want)
		}
	}
}

func TestCached(t *testing.T) {
	t.Setenv("AIRBYTE_PUBLISH_TEST_CACHE", filepath.Join(t.TempDir(), "cache"))
	t.Setenv("CI", "")
	r := &recorder{TB: t}
	r.run(func() {
		cached(r, "entry", func(dir, _ string) error {
			return errors.Join(os.WriteFile(filepath.Join(dir, "half"), nil, 0o644), errors.New("it can't be made"))
		})
	})
	if !strings.HasPrefix(r.end, "skip: ") {
		t.Errorf("what can't be made ends the test with %q", r.end)
	}
	var made int // guarded by cached
	var all sync.WaitGroup
	for range 4 {
		all.Go(func() {
			path := cached(t, "entry", func(dir, _ string) error {
				made++
				return os.WriteFile(filepath.Join(dir, "whole"), nil, 0o644)
			})
			entries, err := os.ReadDir(path)
			if err != nil || len(entries) != 1 || entries[0].Name() != "whole" {
				t.Errorf("the entry holds %v, %v", entries, err)
			}
		})
	}
	all.Wait()
	if made != 1 {
		t.Errorf("the entry was made %d times", made)
	}
}

func TestCacheDir(t *testing.T) {
	for _, c := range []struct{ name, chosen, home, want string }{
		{"chosen", "/chosen", "/home/u", "/chosen"},
		{"home", "", "/home/u", "/home/u/.cache/airbyte-publish-test"},
		{"no home", "", "", filepath.Join(os.TempDir(), "airbyte-publish-test-"+strconv.Itoa(os.Getuid()))},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Setenv("AIRBYTE_PUBLISH_TEST_CACHE", c.chosen)
			t.Setenv("HOME", c.home)
			t.Setenv("XDG_CACHE_HOME", "")
			if got := cacheDir(); got != c.want {
				t.Errorf("the cache is %s, want %s", got, c.want)
			}
		})
	}
}
