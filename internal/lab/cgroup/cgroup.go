// Package cgroup is test-only: it gives a host that a test or a benchmark makes
// a cgroup of its own. A BPF program that the product attaches to the root of
// the cgroup tree is then seen by the processes of that host, not by the
// machine.
package cgroup

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Cgroup is a cgroup v2 below that of this process.
type Cgroup struct{ dir *os.File }

// New makes a cgroup whose name begins with prefix.
func New(prefix string) (*Cgroup, error) {
	parent, err := Own()
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, prefix)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("cgroup: %w", err)
	}
	return &Cgroup{dir}, nil
}

// FD is the open directory, which a process can be started in.
func (c *Cgroup) FD() int { return int(c.dir.Fd()) }

// Path is the directory's.
func (c *Cgroup) Path() string { return c.dir.Name() }

// Own returns the directory of the cgroup v2 that this process is in.
func Own() (string, error) {
	self, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", err
	}
	for line := range strings.Lines(string(self)) {
		path, ok := strings.CutPrefix(strings.TrimSpace(line), "0::")
		if !ok {
			continue
		}
		for _, root := range []string{"/sys/fs/cgroup", "/sys/fs/cgroup/unified"} {
			var s unix.Statfs_t
			if unix.Statfs(root, &s) == nil && s.Type == unix.CGROUP2_SUPER_MAGIC {
				return filepath.Join(root, path), nil
			}
		}
	}
	return "", errors.New("cgroup v2 is not mounted")
}

// Remove removes the cgroup and those that the host's processes made in it.
// A process leaves its cgroup a moment after it was reaped.
func (c *Cgroup) Remove() error {
	defer c.dir.Close()
	var err error
	for range 200 {
		if err = RemoveTree(c.Path()); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("cgroup: left behind: %w", err)
}

// RemoveTree removes a directory with those in it; a cgroup's files go with it
// and cannot be removed alone.
func RemoveTree(root string) error {
	var dirs []string
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err == nil && d.IsDir() {
			dirs = append(dirs, path)
		}
		return err
	})
	for _, dir := range slices.Backward(dirs) {
		err = errors.Join(err, os.Remove(dir))
	}
	return err
}
