package build

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// maxStates bounds how many runs on one machine can have a buildkitd at the same time.
const maxStates = 64

// maxSocketPath is how long a socket's path may be. Linux takes 107 bytes, and BuildKit 104, which all systems take.
const maxSocketPath = 104

// stateDir is the folder of one buildkitd, which it has for itself while the lock is held.
type stateDir struct {
	dir  string
	lock *os.File
	// run is for the socket and what else ends with the process. It is in dir, unless that makes the socket's path too long.
	run string
}

func (s *stateDir) root() string    { return filepath.Join(s.dir, "root") }
func (s *stateDir) socket() string  { return filepath.Join(s.run, "buildkitd.sock") }
func (s *stateDir) address() string { return "unix://" + s.socket() }

// stateBases are the folders that may be taken, in order: the user's cache, and where that can't be written to, the
// place for temporary files. Both are kept after the run.
func stateBases(o Options) []string {
	var bases []string
	if dir := o.Getenv("XDG_CACHE_HOME"); filepath.IsAbs(dir) {
		bases = append(bases, dir)
	} else if home := o.Getenv("HOME"); filepath.IsAbs(home) {
		bases = append(bases, filepath.Join(home, ".cache"))
	}
	temp := o.TempDir
	if temp == "" {
		temp = os.TempDir()
	}
	for i, base := range bases {
		bases[i] = filepath.Join(base, "airbyte-publish")
	}
	return append(bases, filepath.Join(temp, "airbyte-publish-"+strconv.Itoa(os.Geteuid())))
}

// takeState takes the first folder that no other run has.
func takeState(bases []string) (*stateDir, error) {
	var errs []error
	for _, base := range bases {
		for i := 1; i <= maxStates; i++ {
			dir := filepath.Join(base, "buildkit")
			if i > 1 {
				dir += "-" + strconv.Itoa(i)
			}
			s, err := openState(base, dir)
			if err == nil {
				return s, nil
			}
			if !errors.Is(err, unix.EWOULDBLOCK) {
				errs = append(errs, err)
				break
			}
		}
	}
	return nil, errors.Join(errs...)
}

// openState makes a folder that only its owner may enter, and locks it. The error is EWOULDBLOCK when it is taken.
func openState(base, dir string) (_ *stateDir, err error) {
	for _, d := range []string{base, dir} {
		if err := os.MkdirAll(d, 0o700); err != nil {
			return nil, err
		}
		// In a place for temporary files, anyone could have made it before.
		info, err := os.Lstat(d)
		if err != nil {
			return nil, err
		}
		if owner, ok := info.Sys().(*syscall.Stat_t); !info.IsDir() || !ok || int(owner.Uid) != os.Geteuid() || info.Mode().Perm()&0o022 != 0 {
			return nil, fmt.Errorf("%s is not a folder that only its user can write to", d)
		}
	}
	if err := os.Chmod(dir, 0o700); err != nil {
		return nil, err
	}
	s := &stateDir{dir: dir, run: filepath.Join(dir, "run")}
	if s.lock, err = lockFile(filepath.Join(dir, "lock"), os.O_CREATE); err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			_ = s.lock.Close()
		}
	}()
	// A run that was killed lets go of its lock before its buildkitd does.
	theirs, err := lockFile(filepath.Join(s.root(), "buildkitd.lock"), 0)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, err
	}
	_ = theirs.Close() // Closing nil only gives an error.
	// The place for temporary files may be deep as well, as in a CI job's workspace.
	for _, base := range []string{"", "/tmp"} {
		if len(s.socket()) <= maxSocketPath {
			break
		}
		if base != "" {
			_ = os.Remove(s.run)
		}
		if s.run, err = os.MkdirTemp(base, "airbyte-publish-"); err != nil {
			return nil, err
		}
	}
	return s, nil
}

func lockFile(path string, flags int) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_RDWR|flags, 0o600)
	if err != nil {
		return nil, err
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// clean removes what a process that has ended left, but for its data.
func (s *stateDir) clean() error {
	if err := os.RemoveAll(s.run); err != nil {
		return err
	}
	s.removeCgroups()
	if err := os.MkdirAll(s.root(), 0o711); err != nil {
		return err
	}
	return os.Mkdir(s.run, 0o700)
}

func (s *stateDir) release() error {
	s.removeCgroups()
	return errors.Join(os.RemoveAll(s.run), s.lock.Close())
}

// cgroup is the name of the control group that holds those of the containers. A container that is killed with its
// runc leaves an empty one.
func (s *stateDir) cgroup() string {
	sum := sha256.Sum256([]byte(s.dir))
	return "airbyte-publish-" + hex.EncodeToString(sum[:6])
}

// removeCgroups removes the control groups, of which the kernel lets go when they are empty. What is left is harmless.
func (s *stateDir) removeCgroups() {
	for _, pattern := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/*"} {
		parents, _ := filepath.Glob(filepath.Join(pattern, s.cgroup()))
		for _, parent := range parents {
			var dirs []string
			_ = filepath.WalkDir(parent, func(path string, entry fs.DirEntry, err error) error {
				if err == nil && entry.IsDir() {
					dirs = append(dirs, path)
				}
				return nil
			})
			for _, dir := range slices.Backward(dirs) {
				_ = unix.Rmdir(dir)
			}
		}
	}
}

// ownConfig is where buildkitd looks for its configuration by itself.
func ownConfig(o Options) string {
	dir := o.Getenv("XDG_CONFIG_HOME")
	switch {
	case os.Geteuid() == 0:
		dir = "/etc"
	case dir == "":
		dir = filepath.Join(o.Getenv("HOME"), ".config")
	}
	return filepath.Join(dir, "buildkit", "buildkitd.toml")
}

// config is the daemon's configuration: the user's own, which it replaces, with a control group of ours and the
// registries for which plain http was asked. BuildKit takes those on loopback that way anyway.
func (s *stateDir) config(own string, o Options) (string, error) {
	content, err := os.ReadFile(own)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return "", err
	}
	config := string(content)
	// Who has configured a thing knows better, and a table must not be there twice.
	add := func(table, line string) {
		if !strings.Contains(config, table) {
			config += fmt.Sprintf("\n%s\n%s\n", table, line)
		}
	}
	add("[worker.oci]", fmt.Sprintf("defaultCgroupParent = %q", s.cgroup()))
	for _, host := range o.Hosts {
		if o.PlainHTTP(host) {
			add(fmt.Sprintf("[registry.%q]", host), "http = true")
		}
	}
	return config, nil
}
