package rtnl

import (
	"errors"
	"io/fs"
	"testing"
	"time"

	"github.com/sealane/sealane/internal/kernel/netns"
	"github.com/sealane/sealane/internal/kstate"
)

// TestLookedIsKeptForAMoment: for the one who says which namespace it was, once; else it
// is let go, which would keep it alive.
func TestLookedIsKeptForAMoment(t *testing.T) {
	var l looked
	at := kstate.NS{Path: "/proc/thread-self/ns/net"}
	p := newPorts()
	keep := func() (kstate.NS, *netns.Handle) {
		t.Helper()
		h, err := netns.Open(at)
		if err != nil {
			t.Fatal(err)
		}
		sock, err := p.open(h)
		if err != nil {
			t.Fatal(err)
		}
		l.keep(at, h, sock)
		return kstate.NS{Path: at.Path, Inode: h.Inode()}, h
	}
	is, _ := keep()
	for _, other := range []kstate.NS{{}, at, {Path: at.Path, Inode: is.Inode + 1}, {Path: "/proc/1/ns/net", Inode: is.Inode}} {
		if h, _ := l.take(other); h != nil {
			t.Errorf("%v is taken for %v", is, other)
		}
	}
	var h *netns.Handle
	var sock *socket
	for try := 0; h == nil; try++ { // the machine may be busy for longer than it is kept
		if try == 100 {
			t.Fatal("is not kept")
		}
		keep() // instead of the one that is kept
		h, sock = l.take(is)
	}
	if h, _ := l.take(is); h != nil {
		t.Error("is given away twice")
	}
	time.Sleep(2 * lookedFor)
	if _, err := sock.devices(t.Context()); err != nil {
		t.Errorf("what was taken is closed: %v", err)
	}
	sock.close()
	h.Close()
	_, h = keep()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		l.mu.Lock()
		kept := l.ns
		l.mu.Unlock()
		if kept == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("is kept for ever")
		}
	}
	if err := h.Close(); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("is open still: %v", err)
	}
}
