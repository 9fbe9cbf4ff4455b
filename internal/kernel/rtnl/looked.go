package rtnl

import (
	"sync"
	"time"

	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// lookedFor is how long a namespace stays open that was looked at: who decides by what
// is there does not think long. It lives on meanwhile, should its owner drop it.
const lookedFor = 5 * time.Millisecond

// looked keeps the namespace that Observe looked at last open for Apply: to open it, and a
// socket in it, takes a third of what looking at it does.
type looked struct {
	mu    sync.Mutex // protects the following
	path  string
	ns    *netns.Handle // nil: none
	sock  *socket
	timer *time.Timer
}

// keep takes a namespace over.
func (l *looked) keep(ns kstate.NS, h *netns.Handle, sock *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
	l.path, l.ns, l.sock = ns.Path, h, sock
	l.timer = time.AfterFunc(lookedFor, func() { l.expire(h) })
}

// take gives a namespace away, if it is the one that is kept. Whose inode is not known may be
// another one by now.
func (l *looked) take(ns kstate.NS) (*netns.Handle, *socket) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ns == nil || ns.Inode == 0 || ns.Inode != l.ns.Inode() || ns.Path != l.path {
		return nil, nil
	}
	h, sock := l.ns, l.sock
	l.timer.Stop()
	l.ns = nil
	return h, sock
}

// expire lets h go, unless it was taken.
func (l *looked) expire(h *netns.Handle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.ns == h {
		l.close()
	}
}

// drop lets go of what is kept.
func (l *looked) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.close()
}

// close lets go of what is kept. The caller holds mu.
func (l *looked) close() {
	if l.ns == nil {
		return
	}
	l.timer.Stop()
	l.sock.close()
	l.ns.Close()
	l.ns = nil
}
