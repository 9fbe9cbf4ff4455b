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

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/lab/cgroup"
)

// confine has all threads of a cgroup's processes run on one processor, and
// those that they will start.
func confine(c *cgroup.Cgroup, cpu int) error {
	var cpus unix.CPUSet
	cpus.Set(cpu % runtime.NumCPU())
	return filepath.WalkDir(c.Path(), func(path string, _ fs.DirEntry, err error) error {
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
