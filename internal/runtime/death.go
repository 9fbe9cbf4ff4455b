package runtime

import (
	"context"
	"sync"

	"github.com/sealane/sealane/internal/kernel/process"
	"github.com/sealane/sealane/internal/model"
)

// identity is what a container is called for good.
type identity struct {
	runtime model.Runtime
	id      string
}

func identify(g model.Guest) identity { return identity{g.Runtime, g.ID} }

// deaths waits for the ends of containers' first processes, which the kernel
// tells: what a runtime would say of it is lost when the runtime was killed.
type deaths struct {
	ended chan<- identity

	mu   sync.Mutex // protects the following
	over map[identity]mortal
}

type mortal struct {
	pid   int
	start uint64
	stop  context.CancelFunc
}

// follow waits for the end of a container's process, and no longer for that of the
// one it had before.
func (d *deaths) follow(ctx context.Context, c Container) {
	key := identify(c.Guest)
	d.mu.Lock()
	defer d.mu.Unlock()
	was, known := d.over[key]
	start, err := uint64(0), error(nil)
	if c.PID != 0 {
		start, err = process.Start(c.PID)
	}
	if known && err == nil && was.pid == c.PID && was.start == start {
		return
	}
	if known {
		was.stop()
		delete(d.over, key)
	}
	if c.PID == 0 || err != nil {
		return
	}
	wait, err := process.Watch(c.PID, start)
	if err != nil { // it has ended, or there are too many open files
		return
	}
	ctx, stop := context.WithCancel(ctx)
	d.over[key] = mortal{c.PID, start, stop}
	go d.await(ctx, stop, key, wait)
}

func (d *deaths) await(ctx context.Context, stop context.CancelFunc, key identity, wait func(context.Context) error) {
	defer stop()
	if wait(ctx) != nil {
		return
	}
	select {
	case <-ctx.Done():
	case d.ended <- key:
	}
}

// keep ends the waiting for all containers but these.
func (d *deaths) keep(guests map[identity]bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for key, m := range d.over {
		if !guests[key] {
			m.stop()
			delete(d.over, key)
		}
	}
}
