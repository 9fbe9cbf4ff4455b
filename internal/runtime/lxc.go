package runtime

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// lxc finds LXC's containers by the cgroup that liblxc 4 and later give them,
// lxc.payload.NAME, or lxc/NAME as before. The name is the ID.
//
//	/sys/fs/cgroup/lxc.monitor.web/    lxc-start, which is no container
//	/sys/fs/cgroup/lxc.payload.web/    the container's processes, or cgroups of them
//	/sys/fs/cgroup/lxc.payload.web-1/  instead, if the other was left over
type lxc struct {
	mounts []string // of cgroups
	paths  []string // lxcpath
}

const payload = "lxc.payload."

func (l *lxc) here() bool { return slices.ContainsFunc(l.paths, exists) }

func (l *lxc) find(ctx context.Context, g model.Guest) (Container, error) {
	if !fileName(g.Name) {
		return Container{Guest: g}, nil
	}
	g.ID = g.Name
	for _, dir := range l.cgroups(g.Name) {
		pid, err := first(dir)
		if err != nil {
			return Container{}, err
		}
		if pid == 0 {
			continue
		}
		if err := begun(ctx, pid); err != nil {
			return Container{}, err
		}
		if c, err := running(g, pid); err != nil || c.State == Running {
			return c, err
		}
	}
	known, err := l.known(g.Name)
	if err != nil {
		return Container{}, err
	}
	if !known {
		return Container{Guest: g}, nil
	}
	return Container{Guest: g, State: Stopped}, nil
}

// fileName reports whether a name can be one of a file.
func fileName(name string) bool {
	return name != "" && name != "." && name != ".." && len(name) < 256 && !strings.ContainsAny(name, "/\x00\n")
}

// known reports whether a container is configured. Incus and LXD have a directory
// of it, and the configuration elsewhere.
func (l *lxc) known(name string) (bool, error) {
	for _, path := range l.paths {
		file := filepath.Join(path, name)
		if _, err := os.Stat(filepath.Join(file, "config")); err == nil {
			return true, nil
		} else if !missing(err) {
			return false, err
		}
		if !strings.HasSuffix(path, "/containers") {
			continue
		}
		if exists(file) {
			return true, nil
		}
	}
	return false, nil
}

// cgroups lists those that may be of a container, the likeliest first.
func (l *lxc) cgroups(name string) []string {
	var dirs, others []string
	for _, mount := range l.mounts {
		dirs = append(dirs, filepath.Join(mount, payload+name), filepath.Join(mount, "lxc", name))
		entries, _ := os.ReadDir(mount) // it need not be mounted
		for _, e := range entries {
			n, ok := strings.CutPrefix(e.Name(), payload+name+"-")
			if !ok || n == "" || strings.Trim(n, "0123456789") != "" {
				continue
			}
			if another, err := l.known(name + "-" + n); err == nil && !another {
				others = append(others, filepath.Join(mount, e.Name()))
			}
		}
	}
	return append(dirs, others...)
}

// first returns the first process of a container by its cgroup, 0 if there is
// none: the one that is 1 in the pid namespace next to ours or, in a container
// that shares ours, the one whose parent is outside.
func first(cgroup string) (int, error) {
	all, err := processesIn(cgroup)
	if err != nil {
		return 0, err
	}
	outside := 0
	for _, pid := range all {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
		if err != nil {
			continue // it has ended
		}
		if ids := statusOf(status, "NSpid"); len(ids) == 2 && ids[1] == 1 {
			return pid, nil
		}
		if p := statusOf(status, "PPid"); outside == 0 && len(p) == 1 && !slices.Contains(all, p[0]) {
			outside = pid
		}
	}
	return outside, nil
}

// How long a container may take from its first process to its program, if it is to
// be found at once, and how often that is looked at.
const (
	beginTime  = time.Second
	beginAgain = 5 * time.Millisecond
)

// begun waits until the first process has executed the container's program. Before
// that it is a copy of lxc-start, which still has to name the container's own
// interfaces, and gives up if a name is taken.
func begun(ctx context.Context, pid int) error {
	ctx, cancel := context.WithTimeout(ctx, beginTime)
	defer cancel()
	for {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || !forked(stat) {
			return nil // it has ended, which others notice
		}
		if !rest(ctx, beginAgain) {
			return errors.New("it is being started")
		}
	}
}

// forked reports whether a process with that file /proc/PID/stat has executed
// nothing yet: PF_FORKNOEXEC (include/linux/sched.h) in field 9
// (proc_pid_stat(5)), which is the seventh after the name.
func forked(stat []byte) bool {
	const noExec = 0x40
	fields := bytes.Fields(stat[bytes.LastIndexByte(stat, ')')+1:])
	if len(fields) < 7 {
		return false
	}
	flags, err := strconv.ParseUint(string(fields[6]), 10, 32)
	return err == nil && flags&noExec != 0
}

// processesIn lists the processes of a cgroup and of those in it. One that is not
// there has none.
func processesIn(cgroup string) (pids []int, err error) {
	err = filepath.WalkDir(cgroup, func(path string, d fs.DirEntry, err error) error {
		if missing(err) {
			return nil
		}
		if err != nil || d.Name() != "cgroup.procs" {
			return err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return nil // the cgroup has gone, or is of threads; its parent has them then
		}
		pids = append(pids, parseProcs(data)...)
		return nil
	})
	return pids, err
}

// parseProcs reads a file as cgroup.procs. A process that our pid namespace does
// not have is 0 in it.
func parseProcs(data []byte) (pids []int) {
	for line := range bytes.Lines(data) {
		if pid := parsePID(line); pid != 0 {
			pids = append(pids, pid)
		}
	}
	return pids
}

func (l *lxc) watch(ctx context.Context, w *watcher) { watchFiles(ctx, w, l) }

// dirs has the files cgroup.events themselves: of a file that nobody has opened or
// watches, kernfs tells nobody who watches its directory (kernfs_notify_workfn in
// fs/kernfs/file.c).
func (l *lxc) dirs(g model.Guest, _ func(string) string) []string {
	var dirs []string
	for _, mount := range l.mounts {
		dirs = append(dirs, mount, filepath.Join(mount, "lxc"))
	}
	if fileName(g.Name) {
		for _, dir := range l.cgroups(g.Name) {
			dirs = append(dirs, filepath.Join(dir, "cgroup.events"))
		}
	}
	for _, path := range l.paths {
		if dirs = append(dirs, path); fileName(g.Name) {
			dirs = append(dirs, filepath.Join(path, g.Name))
		}
	}
	return dirs
}

// concerns goes by the names of files: the cgroup, whether there is anybody in it
// (cgroup.events), and the configuration.
func (l *lxc) concerns(path string, g model.Guest) bool {
	base := filepath.Base(path)
	if base == "cgroup.events" || base == "config" {
		base = filepath.Base(filepath.Dir(path))
	}
	base = strings.TrimPrefix(base, payload)
	return base == g.Name || strings.HasPrefix(base, g.Name+"-")
}
