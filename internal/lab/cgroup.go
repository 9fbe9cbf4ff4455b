package lab

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

// cgroup is a host's own: a BPF program that the product attaches to the root
// of the cgroup tree is seen by the processes of one host, not by the machine.
type cgroup struct{ dir *os.File }

// newCgroup makes a cgroup below the test's own, or returns nil where that
// cannot be done.
func newCgroup(name string) *cgroup {
	parent, err := ownCgroup()
	if err != nil {
		return nil
	}
	path, err := os.MkdirTemp(parent, mark(os.Getpid())+name+"-")
	if err != nil {
		return nil
	}
	dir, err := os.Open(path)
	if err != nil {
		return nil
	}
	return &cgroup{dir}
}

// ownCgroup returns the directory of the cgroup v2 that this process is in.
func ownCgroup() (string, error) {
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

// remove removes the cgroup and those that the host's processes made in it.
// A process leaves its cgroup a moment after it was reaped.
func (c *cgroup) remove() error {
	if c == nil {
		return nil
	}
	defer c.dir.Close()
	var err error
	for range 100 {
		if err = removeTree(c.dir.Name()); err == nil {
			return nil
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("cgroup: %w", err)
}

func removeTree(root string) error {
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
