//go:build linux

package buildtest

import (
	"archive/tar"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io/fs"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// modules makes the image with Go, the modules that this program is built from, and the packages of those, compiled.
// Its proxy is a folder of its own: go finds there what it would find at a proxy, and nothing else.
func modules(t testing.TB, base v1.Image) v1.Image {
	t.Helper()
	root := moduleRoot(t)
	sum := sha256.New()
	for _, name := range []string{"go.mod", "go.sum"} {
		content, err := os.ReadFile(filepath.Join(root, name))
		if err != nil {
			t.Fatal(err)
		}
		sum.Write(content)
	}
	entry := "image-modules-" + runtime.Version() + "-" + hex.EncodeToString(sum.Sum(nil)[:6])
	return cachedImage(t, entry, func(scratch string) (v1.Image, error) {
		mods, cache := filepath.Join(scratch, "mod"), filepath.Join(scratch, "cache")
		if err := compileModules(root, mods, cache); err != nil {
			return nil, err
		}
		proxy, err := compressedLayer(filepath.Join(scratch, "proxy.tar.gz"), func(l *layer) error {
			l.dir("go-proxy", 0o755, 0)
			return l.tree(filepath.Join(mods, "cache", "download"), "go-proxy", func(path string, _ fs.DirEntry) bool {
				return path != "sumdb" && !strings.HasSuffix(path, ".lock")
			})
		})
		if err != nil {
			return nil, err
		}
		packages, err := compressedLayer(filepath.Join(scratch, "packages.tar.gz"), func(l *layer) error {
			l.dir("go-cache", 0o755, 0)
			return l.tree(cache, "go-cache", func(string, fs.DirEntry) bool { return true })
		})
		if err != nil {
			return nil, err
		}
		file, err := base.ConfigFile()
		if err != nil {
			return nil, err
		}
		config := *file.Config.DeepCopy()
		config.Env = slices.DeleteFunc(config.Env, func(s string) bool { return strings.HasPrefix(s, "GOPROXY=") })
		config.Env = append(config.Env, "GOPROXY=file:///go-proxy", "GOSUMDB=off")
		return image(base, config, proxy, packages)
	})
}

// moduleRoot is the folder of this module.
func moduleRoot(t testing.TB) string {
	t.Helper()
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Dir(strings.TrimSpace(string(out)))
}

// compileModules fills an empty module cache and an empty build cache with what the program needs of other modules.
func compileModules(root, mods, cache string) error {
	out, err := exec.Command("go", "env", "GOMODCACHE", "GOPROXY").Output()
	if err != nil {
		return err
	}
	have, upstream, _ := strings.Cut(strings.TrimSpace(string(out)), "\n")
	for _, arch := range []string{"amd64", "arm64"} {
		env := []string{"GOMODCACHE=" + mods, "GOCACHE=" + cache, "CGO_ENABLED=0", "GOOS=linux", "GOARCH=" + arch, "GOAMD64=v1", "GOARM64=v8.0",
			"GOFLAGS=-modcacherw", "GOWORK=off", "GOPROXY=file://" + filepath.Join(have, "cache", "download") + "," + upstream}
		list := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{$.ImportPath}}{{end}}{{end}}", ".")
		list.Dir, list.Env = root, append(os.Environ(), env...)
		packages, err := list.Output()
		if err != nil {
			return fmt.Errorf("list the packages for %s: %w", arch, err)
		}
		args := append([]string{"-n", "10", "go", "build", "-trimpath", "-buildvcs=false"}, strings.Fields(string(packages))...)
		if err := run(root, env, "nice", args...); err != nil {
			return err
		}
	}
	return nil
}

// rootless makes a stand-in for moby/buildkit's image without root, which has Alpine's programs: it has those of Debian
// in their place, under the same names.
func rootless(t testing.TB, base v1.Image) v1.Image {
	t.Helper()
	programs := Programs(t)
	found := map[string]string{
		"usr/bin/buildkitd":     filepath.Join(programs, "buildkitd"),
		"usr/bin/buildctl":      filepath.Join(programs, "buildctl"),
		"usr/bin/buildkit-runc": lookPath(t, "runc", "runc"),
		"usr/bin/rootlesskit":   lookPath(t, "rootlesskit", "rootlesskit"),
		"usr/bin/newuidmap":     lookPath(t, "newuidmap", "uidmap"),
		"usr/bin/newgidmap":     lookPath(t, "newgidmap", "uidmap"),
		"usr/bin/git":           lookPath(t, "git", "git"),
	}
	core, err := exec.Command("git", "--exec-path").Output()
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"git-remote-http", "git-remote-https"} {
		found["usr/lib/git-core/"+name] = filepath.Join(strings.TrimSpace(string(core)), name)
	}
	return cachedImage(t, "image-rootless-"+buildkitVersion+"-"+debian(t), func(scratch string) (v1.Image, error) {
		made, err := compressedLayer(filepath.Join(scratch, "rootless.tar.gz"), func(l *layer) error {
			for _, dir := range []string{"etc/ssl", "etc/ssl/certs", "home/user", "lib", "lib64", "run", "usr/lib", "usr/lib/git-core", "usr/share"} {
				l.dir(dir, 0o755, 0)
			}
			if err := addPrograms(l, found); err != nil {
				return err
			}
			// What the real one has, and the image does not need.
			for _, name := range []string{"buildctl-daemonless.sh", "buildkit-cni-bridge", "buildkit-qemu-aarch64", "buildkit-qemu-riscv64", "buildkit-qemu-s390x"} {
				l.file("usr/bin/"+name, 0o755, []byte("#!/bin/sh\nexit 1\n"))
			}
			certificates, err := os.ReadFile("/etc/ssl/certs/ca-certificates.crt")
			if err != nil {
				return err
			}
			l.file("etc/ssl/certs/ca-certificates.crt", 0o644, certificates)
			l.file("etc/passwd", 0o644, []byte("root:x:0:0:root:/root:/bin/sh\nuser:x:1000:1000::/home/user:/bin/sh\n"))
			l.file("etc/group", 0o644, []byte("root:x:0:\nuser:x:1000:\n"))
			l.file("etc/subuid", 0o644, []byte("user:100000:65536\n"))
			l.file("etc/subgid", 0o644, []byte("user:100000:65536\n"))
			return l.err
		})
		if err != nil {
			return nil, err
		}
		return image(base, v1.Config{User: "1000:1000", Entrypoint: []string{"rootlesskit", "buildkitd"}, Env: []string{
			"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/home/user", "USER=user", "XDG_RUNTIME_DIR=/run/user/1000",
			"TMPDIR=/home/user/.local/tmp", "BUILDKIT_HOST=unix:///run/user/1000/buildkit/buildkitd.sock"}}, made)
	})
}

// rights are the capabilities that programs have, CAP_SETUID and CAP_SETGID, as the kernel keeps them in an extended
// attribute (capabilities(7)). Debian's own programs are setuid instead, which makes another user of who calls them, and
// that one may not write the map of a user namespace without being allowed to do everything.
var rights = map[string]map[string]string{
	"usr/bin/newuidmap": {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x80" + strings.Repeat("\x00", 15)},
	"usr/bin/newgidmap": {"SCHILY.xattr.security.capability": "\x01\x00\x00\x02\x40" + strings.Repeat("\x00", 15)},
}

// libraries are the lines of ldd that name a file.
var libraries = regexp.MustCompile(`(?m)(/\S+) \(0x`)

// addPrograms adds programs, by the path that they get, with the shared libraries that they need.
func addPrograms(l *layer, programs map[string]string) error {
	needed := map[string]bool{}
	for _, at := range slices.Sorted(maps.Keys(programs)) {
		content, err := os.ReadFile(programs[at])
		if err != nil {
			return err
		}
		l.add(tar.Header{Typeflag: tar.TypeReg, Name: at, Mode: 0o755, PAXRecords: rights[at]}, content)
		// A static program has none, which ldd takes for an error.
		out, _ := exec.Command("ldd", programs[at]).Output()
		for _, line := range libraries.FindAllStringSubmatch(string(out), -1) {
			needed[line[1]] = true
		}
	}
	dirs := map[string]bool{"lib": true, "lib64": true, "usr/lib": true}
	for _, path := range slices.Sorted(maps.Keys(needed)) {
		content, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		at := strings.TrimPrefix(path, "/")
		if dir := filepath.Dir(at); !dirs[dir] {
			dirs[dir] = true
			l.dir(dir, 0o755, 0)
		}
		l.file(at, 0o755, content)
	}
	return l.err
}
