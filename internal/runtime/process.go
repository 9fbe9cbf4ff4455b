package runtime

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// processes are pid:N. The ID is "PID/START", see process.Alive: a number is used
// again, the pair is not.
type processes struct{}

func (processes) here() bool { return false } // a bare number is a name, not a process

func (processes) find(_ context.Context, g model.Guest) (Container, error) {
	pid, err := strconv.Atoi(g.Name)
	if err != nil || pid <= 0 {
		return Container{Guest: g}, nil
	}
	start, err := process.Start(pid)
	switch id := processID(pid, start); {
	case errors.Is(err, os.ErrProcessDone), err == nil && g.ID != "" && g.ID != id:
		return Container{Guest: g}, nil
	case err != nil:
		return Container{}, err
	default:
		g.ID = id
	}
	c, err := running(g, pid)
	if c.State == Stopped { // it ended while we looked
		c.State = Gone
	}
	return c, err
}

func processID(pid int, start uint64) string { return fmt.Sprintf("%d/%d", pid, start) }

// running returns the container whose first process is pid, which is Stopped if
// that has ended.
func running(g model.Guest, pid int) (Container, error) {
	path := fmt.Sprintf("/proc/%d/ns/net", pid)
	inode, err := inode(path)
	if err != nil || inode == 0 {
		return Container{Guest: g, State: Stopped}, err
	}
	return Container{Guest: g, State: Running, PID: pid, NetNS: path, Inode: inode}, nil
}

// inode returns the number of the namespace at path, 0 if there is none.
func inode(path string) (uint64, error) {
	ns, err := netns.Open(kstate.NS{Path: path})
	if errors.Is(err, kernel.ErrNoNamespace) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	defer ns.Close()
	return ns.Inode(), nil
}

// watch has nothing to watch: the end of a process that was found is hinted in any
// case.
func (processes) watch(ctx context.Context, w *watcher) { w.hintFresh(ctx) }
