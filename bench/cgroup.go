package main

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// cgroup is a host's own, so that programs which the daemon attaches to the root
// of the tree are seen by the host only.
type cgroup struct{ dir *os.File }

// newCgroup makes one below our own.
func newCgroup() (*cgroup, error) {
	parent, err := ownCgroup()
	if err != nil {
		return nil, err
	}
	path, err := os.MkdirTemp(parent, fmt.Sprintf("sealane-bench-%d-", os.Getpid()))
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

// confine has all threads of the processes run on one processor, and those that
// they will start.
func (c *cgroup) confine(cpu int) error {
	var cpus unix.CPUSet
	cpus.Set(cpu % runtime.NumCPU())
	return filepath.WalkDir(c.dir.Name(), func(path string, _ fs.DirEntry, err error) error {
		if err != nil || filepath.Base(path) != "cgroup.threads" {
			return err
		}
		list, err := os.ReadFile(path)
		for _, id := range strings.Fields(string(list)) {
			tid, failed := strconv.Atoi(id)
			if failed == nil {
				failed = unix.SchedSetaffinity(tid, &cpus)
			}
			if failed != nil && failed != unix.ESRCH {
				err = errors.Join(err, fmt.Errorf("thread %s: processor %d: %w", id, cpu, failed))
			}
		}
		return err
	})
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
	fmt.Fprintf(os.Stderr, "bench: cgroup %s is left behind\n", c.dir.Name())
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
