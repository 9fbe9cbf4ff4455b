package rtnl

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// removeLink queues the end of a link of ours.
func (p *pass) removeLink(op int, l kstate.Link) error {
	if l.Type.OnParent() {
		return p.removeLower(op, l)
	}
	if !l.NS.IsHost() {
		return foreign("device " + l.Name)
	}
	d, err := p.host().device(l.Name)
	switch {
	case errors.Is(err, kernel.ErrMissing):
		return nil
	case err != nil:
		return err
	case d.doomed():
		return nil
	case !d.ours():
		return foreign("device " + l.Name)
	}
	if d.kind == string(kstate.TypeBridge) || kstate.LinkType(d.kind).Tunnels() {
		p.end(op, d)
		return nil
	}
	p.doom(op, d, l.Peer.NS)
	return nil
}

// doom queues that a veth carries nothing from now on and belongs to the
// reaper. The far end goes down too, for its routes to go at once and not to be
// in the way of others.
func (p *pass) doom(op int, d device, farNS kstate.NS) {
	host := p.host()
	m := newMessage(unix.RTM_SETLINK, 0).link(unix.AF_UNSPEC, d.index, 0, unix.IFF_UP).u32(unix.IFLA_GROUP, groupDoomed)
	host.addForgiving(op, m, kernel.ErrMissing)
	delete(host.devs, d.name)
	p.c.recent.remove(d.index, d.far)
	p.c.recent.touch(d.master)
	p.dooming = true
	if d.far == 0 {
		return
	}
	if far, err := p.space(farNS); err == nil && p.leadsTo(d, far) {
		far.addForgiving(op, change(d.far, true, false), kernel.ErrMissing)
	}
}

// doomAll dooms all veths of ours whose far end is in a namespace, and ends what
// is there on devices of the host's.
func (p *pass) doomAll(ns kstate.NS) error {
	far, err := p.space(ns)
	if err != nil {
		return err
	}
	devs, err := far.sock.devices(context.Background())
	if err != nil {
		return fmt.Errorf("%s: %w", ns, err)
	}
	for _, inner := range devs {
		if far.lowered(inner, p.host()) {
			p.endLower(noOp, far, inner)
		}
		if inner.kind != string(kstate.TypeVeth) || inner.far == 0 {
			continue
		}
		got, err := p.host().sock.get(getDevice("", inner.far))
		if err != nil {
			continue // its other end is not in the host's namespace
		}
		if d := parseDevice(got); d.ours() && d.far == inner.index && p.leadsTo(d, far) {
			p.doom(noOp, d, kstate.NS{})
		}
	}
	p.flush()
	return nil
}

// The cost of a reap is mostly that of the kernel's grace periods, however many
// devices are in it, and meanwhile nobody else can change a device: so the
// reaper waits for a pause, but not for ever.
const (
	reapAfter  = 10 * time.Millisecond // since a device was doomed
	reapLatest = 50 * time.Millisecond // since the first one was
)

// reaper removes the devices of the doomed group. Its life:
//
//	idle ──arm──▶ armed ──timer or caller──▶ busy ──▶ idle, or armed if
//	                                                  armed meanwhile
type reaper struct {
	turn sync.Mutex // one reap at a time; protects sock
	sock *socket

	mu    sync.Mutex // protects the following
	timer *time.Timer
	due   time.Time // when the timer fires at the latest
	busy  bool
	shut  bool
	count int // reaps so far
}

// arm makes the reaper reap soon, or a little later if it was to reap already.
func (r *reaper) arm() {
	r.mu.Lock()
	defer r.mu.Unlock()
	switch {
	case r.shut:
	case r.timer == nil:
		r.due = time.Now().Add(reapLatest)
		r.timer = time.AfterFunc(reapAfter, func() { r.reap() })
	case r.timer.Stop(): // else it has fired, and will reap what is doomed by now
		r.timer.Reset(min(reapAfter, time.Until(r.due)))
	}
}

// reaps returns how often the reaper has reaped.
func (r *reaper) reaps() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.count
}

// since reports whether something is being reaped, will be, or was since the
// given count.
func (r *reaper) since(count int) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.timer != nil || r.busy || r.count != count
}

// reap removes all doomed devices and returns when they are gone. An error is
// of use to a caller only: what stays doomed is reaped the next time.
func (r *reaper) reap() error {
	r.turn.Lock()
	defer r.turn.Unlock()
	if !r.begin() {
		return nil
	}
	defer r.end()
	m := newMessage(unix.RTM_DELLINK, 0).link(unix.AF_UNSPEC, 0, 0, 0).u32(unix.IFLA_GROUP, groupDoomed)
	err := r.sock.send([]*message{m})[0]
	if errors.Is(err, unix.ENODEV) {
		return nil // none
	}
	return err
}

func (r *reaper) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.timer == nil || r.shut {
		return false
	}
	r.timer.Stop()
	r.timer, r.busy = nil, true
	return true
}

func (r *reaper) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.busy = false
	r.count++
}

// close reaps what is doomed and lets the socket go.
func (r *reaper) close() error {
	err := r.reap()
	r.turn.Lock()
	defer r.turn.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if !r.shut {
		r.shut = true
		r.sock.close()
	}
	return err
}
