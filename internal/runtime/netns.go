package runtime

import (
	"context"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"

	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/model"
)

// namespaces are netns:PATH. The path is the ID: ip netns del and add again is a
// restart.
type namespaces struct{}

func (namespaces) here() bool { return true }

func (namespaces) find(_ context.Context, g model.Guest) (Container, error) {
	if !filepath.IsAbs(g.Name) || strings.Contains(g.Name, "\x00") {
		return Container{Guest: g}, nil
	}
	g.Name = filepath.Clean(g.Name)
	g.ID = g.Name
	inode, err := inode(g.Name)
	if err != nil || inode == 0 {
		return Container{Guest: g, State: Stopped}, err
	}
	return Container{Guest: g, State: Running, PID: owner(g.Name), NetNS: g.Name, Inode: inode}, nil
}

// owner returns the process with which a path goes, 0 for a mount: nobody mounts
// or removes anything when /proc/PID/ns/net goes, to which a path may be a link.
func owner(path string) int {
	if target, err := os.Readlink(path); err == nil && !strings.HasPrefix(path, "/proc/") {
		path = target
	}
	rest, ok := strings.CutPrefix(path, "/proc/")
	if !ok {
		return 0
	}
	number, _, _ := strings.Cut(rest, "/")
	pid, err := strconv.Atoi(number)
	if err != nil {
		return 0
	}
	return pid
}

func (namespaces) watch(ctx context.Context, w *watcher) {
	m := &mounts{was: map[string]uint64{}}
	go m.watch(ctx, w)
	watchFiles(ctx, w, m)
}

// mounts watches what is mounted on paths, and their directories.
type mounts struct {
	mu  sync.Mutex        // protects the following
	was map[string]uint64 // the namespace at a path after the last mount, unless its directory changed since
}

// watch hints those whose path leads to another namespace after something was
// mounted or unmounted.
func (m *mounts) watch(ctx context.Context, w *watcher) {
	hints, err := netns.WatchMounts(ctx)
	if err != nil {
		return // their directories are watched
	}
	for range hints {
		for _, g := range w.guests() {
			if m.changed(g.Name) {
				w.hint(ctx, g)
			}
		}
	}
}

func (m *mounts) changed(path string) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	now, err := inode(path)
	before, known := m.was[path]
	m.was[path] = now
	return err != nil || !known || before != now
}

func (m *mounts) dirs(g model.Guest, real func(string) string) []string {
	if strings.HasPrefix(g.Name, "/proc/") || !filepath.IsAbs(g.Name) {
		return nil
	}
	// By whichever path, a directory is watched once.
	return []string{real(filepath.Dir(g.Name))}
}

// concerns forgets what was there: a namespace that comes has often the number of
// the one that went.
func (m *mounts) concerns(path string, g model.Guest) bool {
	if filepath.Base(path) != filepath.Base(g.Name) {
		return false
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.was, g.Name)
	return true
}
