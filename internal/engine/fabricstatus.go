package engine

import (
	"fmt"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// followMoves has leases say where this host is now, when its uplink, the addresses
// there or its MTU have changed. The caller holds work.
func (e *Engine) followMoves(view *hostView) {
	e.fabrics.mu.Lock()
	defer e.fabrics.mu.Unlock()
	for key, l := range e.fabrics.runs {
		l.mu.Lock()
		v := l.view
		l.mu.Unlock()
		n := e.fabricNetwork(key)
		if n == nil || v.Config == nil {
			continue
		}
		if v.Removed {
			l.again() // nobody may be on it by now
			continue
		}
		if v.Loss != nil && len(e.users(n.ID)) == 0 {
			l.leaser.AskAgain() // nobody's addresses hinder any more
		}
		f, err := e.here(view, key, *v.Config)
		if err != nil {
			continue // it may be back
		}
		have, moved := n.Fabric, false
		if f.Uplink != have.Uplink || f.Public4 != have.Public4 || f.Public6 != have.Public6 || f.MTU != have.MTU {
			l.leaser.Refresh()
			moved = true
		}
		moved = moved || e.lodgesOtherwise(n, view)
		for i := range have.Peers {
			p := &have.Peers[i]
			moved = moved || p.OnLink != onLink(p, f.Uplink, view) || led(have, p, view)
		}
		if moved {
			l.again()
		}
	}
}

// onLink reports whether a peer's addresses are on the link of this host's uplink.
func onLink(p *model.Peer, uplink string, view *hostView) bool {
	for _, is6 := range []bool{false, true} {
		a := p.Public(is6)
		if a.IsValid() && !slices.ContainsFunc(view.addrs, func(at kstate.Addr) bool { return at.Dev == uplink && at.Prefix.Contains(a) }) {
			return false
		}
	}
	return true
}

// fabricStatus says what is wrong with a network's way to other hosts, or false.
func (e *Engine) fabricStatus(n *model.Network) (Status, bool) {
	if n.Fabric == nil {
		return Status{}, false
	}
	e.fabrics.mu.Lock()
	l := e.fabrics.runs[n.Fabric.Key]
	e.fabrics.mu.Unlock()
	if l == nil {
		return Status{StateDegraded, "this host is in no cluster any more: what it knew of the others stays", n.Created}, true
	}
	copied := ""
	if v := e.overlayView(); v != nil {
		copied = v.Copied
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	since := l.view.Since
	switch {
	case copied != "":
		return Status{StateConflict, copied, since}, true
	case l.view.Removed:
		return Status{StateDegraded, "was removed from the cluster: it goes when nobody on this host is on it", since}, true
	case l.view.Loss != nil:
		return Status{StateConflict, fmt.Sprintf("subnet %s: %s: containers keep their addresses until they are removed", l.view.Loss.Subnet, l.view.Loss.Reason), since}, true
	case l.failed != nil:
		return Status{StateDegraded, l.failed.Error(), since}, true
	case l.view.LastError != "":
		return Status{StateDegraded, l.view.LastError, since}, true
	case len(l.view.Problems) > 0:
		return Status{StateDegraded, fmt.Sprintf("%s: %s%s", l.view.Problems[0].Key, l.view.Problems[0].Text, more(len(l.view.Problems)-1)), since}, true
	}
	if err := e.tunnelTrouble(n); err != nil {
		return Status{StateDegraded, err.Error(), since}, true
	}
	for i := range n.Fabric.Peers {
		for _, is6 := range []bool{false, true} {
			p := &n.Fabric.Peers[i]
			if s, ok := p.Subnet(is6); ok {
				if why := fabric.Unreached(n.Fabric, p, is6); why != "" {
					return Status{StateDegraded, fmt.Sprintf("subnet %s: %s", s, why), since}, true
				}
			}
		}
	}
	return Status{}, false
}

func more(n int) string {
	if n <= 0 {
		return ""
	}
	return fmt.Sprintf(" (and %d more)", n)
}

// FabricView is what this host knows of a fabric, for people.
type FabricView struct {
	Key       string
	InTouch   bool // with the store
	Lost      bool // another host has this host's subnet
	Since     time.Time
	LastError string
}

// FabricOf tells it of a network, or false.
func (e *Engine) FabricOf(n *model.Network) (v FabricView, ok bool) {
	if n.Fabric == nil {
		return v, false
	}
	v.Key = n.Fabric.Key
	e.fabrics.mu.Lock()
	l := e.fabrics.runs[n.Fabric.Key]
	e.fabrics.mu.Unlock()
	if l == nil {
		return v, true
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	v.InTouch, v.Since, v.LastError, v.Lost = l.view.InTouch, l.view.Since, l.view.LastError, l.view.Loss != nil
	return v, true
}
