package engine

import (
	"context"
	"sync"
	"time"

	"github.com/sealane/sealane/internal/cluster/flannel"
)

// lease is this host's part of one fabric.
type lease struct {
	key    string
	leaser *flannel.Leaser
	news   chan struct{}   // readable when there is a view that was not settled
	ctx    context.Context // ends with the fabric
	end    context.CancelFunc

	mu     sync.Mutex // protects the following
	view   flannel.View
	failed error // of settling it
}

// report takes a view. It does not wait.
func (l *lease) report(v flannel.View) {
	l.mu.Lock()
	l.view = v
	l.mu.Unlock()
	l.again()
}

// again has the latest view settled once more: the host may be another. It does not wait.
func (l *lease) again() {
	select {
	case l.news <- struct{}{}:
	default:
	}
}

// tendFabric settles what is reported, the latest.
func (e *Engine) tendFabric(l *lease) {
	said, refused := "", 0
	for {
		select {
		case <-l.ctx.Done():
			return
		case <-l.news:
		}
		l.mu.Lock()
		v := l.view
		l.mu.Unlock()
		err := e.settleFabric(l.ctx, l.key, v)
		if v.Removed && err == nil && !e.fabricKept(l.key) {
			err = e.endFabric(l)
		}
		wait := retry
		if opErrors(err) == nil {
			refused = 0
		} else { // by the kernel: each time a part of it is done, and undone
			wait = min(retry<<min(refused, 5), interval)
			refused++
		}
		if err != nil && l.ctx.Err() == nil {
			time.AfterFunc(wait, l.again)
		}
		l.mu.Lock()
		l.failed = err
		l.mu.Unlock()
		if why := obstacle(v, err); why != said && l.ctx.Err() == nil {
			if said = why; why != "" {
				e.cfg.Log.Error("fabric", "key", l.key, "err", why)
			}
		}
	}
}

// obstacle is what hinders this host's part of a fabric, for the log; "" is nothing. Of
// what hinders one that is there, its status tells.
func obstacle(v flannel.View, err error) string {
	switch {
	case err != nil:
		return err.Error()
	case v.InTouch && v.Own == nil && v.Loss == nil && !v.Removed:
		return v.LastError
	}
	return ""
}

// endFabric gives up the lease of a fabric that is no more. Another may come to be
// under its key.
func (e *Engine) endFabric(l *lease) error {
	if err := l.leaser.Release(l.ctx); err != nil {
		return err
	}
	e.fabrics.mu.Lock()
	delete(e.fabrics.runs, l.key)
	e.fabrics.mu.Unlock()
	l.end()
	if l.key == e.cfg.Cluster.Prefix {
		e.followFabric(l.key)
	}
	return nil
}
