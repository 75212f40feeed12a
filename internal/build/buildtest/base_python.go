//go:build linux

package buildtest

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	v1 "github.com/google/go-containerregistry/pkg/v1"
)

// python makes the image with Python out of Debian's packages: they are unpacked, not installed, so that it needs neither
// root nor a whole Debian.
func python(t testing.TB, base v1.Image) v1.Image {
	t.Helper()
	return cachedImage(t, "image-python-"+debian(t), func(scratch string) (v1.Image, error) {
		if err := downloadPython(scratch); err != nil {
			return nil, err
		}
		root := filepath.Join(scratch, "root")
		if err := unpackDebian(scratch, root); err != nil {
			return nil, err
		}
		made, err := compressedLayer(filepath.Join(scratch, "python.tar.gz"), func(l *layer) error {
			return l.tree(root, "", func(path string, _ fs.DirEntry) bool {
				// In the base, /bin is no link to /usr/bin as it is here.
				return path != "bin" && path != "sbin" && path != "usr/share/doc" && path != "usr/share/man"
			})
		})
		if err != nil {
			return nil, err
		}
		config := v1.Config{Env: []string{"PATH=/usr/local/bin:/usr/bin:/bin", "LANG=C.UTF-8"}, Cmd: []string{"python3"}}
		return image(base, config, made)
	})
}

// debian is which release the packages are of.
func debian(t testing.TB) string {
	t.Helper()
	release, err := os.ReadFile("/etc/os-release")
	if err != nil {
		t.Fatal(err)
	}
	value := func(key string) string {
		found := regexp.MustCompile(`(?m)^` + key + `="?([\w.-]+)"?$`).FindSubmatch(release)
		if found == nil {
			return "unknown"
		}
		return string(found[1])
	}
	return value("ID") + "-" + value("VERSION_ID")
}

// notForPython are packages that python3 depends on for its installation, which does not take place here.
var notForPython = regexp.MustCompile(
	`^(dpkg|tar|perl.*|libperl.*|libgdbm.*|install-info|mailcap|mime-support|readline-common)$`)

// downloadPython downloads python3 and what it depends on. Where apt has no lists of packages yet, it gets them.
func downloadPython(dir string) error {
	names := func() ([]string, error) {
		out, err := exec.Command("apt-cache", "depends", "--recurse", "--no-recommends", "--no-suggests", "--no-conflicts",
			"--no-breaks", "--no-replaces", "--no-enhances", "python3").Output()
		var found []string
		for line := range strings.Lines(string(out)) {
			// What a package depends on is indented, and again a line of its own. Virtual packages are in angle brackets.
			name := strings.TrimRight(line, "\n")
			if !strings.HasPrefix(name, " ") && !strings.HasPrefix(name, "<") && !notForPython.MatchString(name) {
				found = append(found, name)
			}
		}
		if err == nil && len(found) < 10 {
			err = errors.New("apt knows no python3")
		}
		return found, err
	}
	download := func() error {
		found, err := names()
		if err != nil {
			return err
		}
		return run(dir, nil, "apt-get", append([]string{"-qq", "-o", "APT::Sandbox::User=root", "download"}, found...)...)
	}
	if download() == nil {
		return nil
	}
	if err := run(dir, nil, "apt-get", "-qq", "update"); err != nil {
		return err
	}
	return download()
}

// unpackDebian unpacks all packages in a folder into one root.
func unpackDebian(packages, root string) error {
	// Packages of a Debian whose /lib is a link to /usr/lib have files in both.
	for _, dir := range []string{"bin", "lib", "lib64", "sbin"} {
		if err := os.MkdirAll(filepath.Join(root, "usr", dir), 0o755); err != nil {
			return err
		}
		if err := os.Symlink("usr/"+dir, filepath.Join(root, dir)); err != nil {
			return err
		}
	}
	files, err := filepath.Glob(filepath.Join(packages, "*.deb"))
	if err != nil {
		return err
	}
	for _, file := range files {
		content, err := exec.Command("dpkg-deb", "--fsys-tarfile", file).Output()
		if err != nil {
			return fmt.Errorf("read %s: %w", file, err)
		}
		unpack := exec.Command("tar", "-x", "--keep-directory-symlink", "-C", root)
		unpack.Stdin = bytes.NewReader(content)
		if out, err := unpack.CombinedOutput(); err != nil {
			return fmt.Errorf("unpack %s: %w\n%s", file, err, out)
		}
	}
	return nil
}
