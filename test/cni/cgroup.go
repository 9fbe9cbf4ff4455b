package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is a host's own, so that programs which a plugin's daemon attaches to
// the root of the tree are seen by the host only.
type cgroup struct{ dir *os.File }

// newCgroup makes one below our own. It is called like those of internal/lab,
// which sweeps up after programs that were killed.
func newCgroup() (*cgroup, error) {
	parent, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, fmt.Sprintf("sealane-lab-%d-cni-", os.Getpid()))
	if err != nil {
		return nil, err
	}
	dir, err := os.Open(path)
	return &cgroup{dir}, err
}

// ownCgroup returns the directory of the cgroup v2 that this process is in.
func ownCgroup() (string, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(self)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			var s unix.Statfs_t
			if ok && unix.Statfs(root, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC {
				return filepath.Join(root, path), nil
			}
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

// remove removes the cgroup and those that were made in it once their processes
// have left, which they do a moment after they were reaped.
func (c *cgroup) remove() {
	defer c.dir.Close()
	for range 200 {
		if removeTree(c.dir.Name()) == nil {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
	fmt.Fprintf(os.Stderr, "cni: cgroup %s is left behind\n", c.dir.Name())
}

// removeTree removes a directory in which only directories can be removed.
func removeTree(root string) error {
	entries, err := os.ReadDir(root)
	for _, e := range entries {
		if e.IsDir() {
			err = errors.Join(err, removeTree(filepath.Join(root, e.Name())))
		}
	}
	return errors.Join(err, os.Remove(root))
}
