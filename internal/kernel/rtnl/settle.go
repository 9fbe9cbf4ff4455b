package rtnl

import (
	"cmp"
	"context"
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// settleLink looks at what is in the way of a new link. A link of ours exactly
// as wanted is what was asked for. What is doomed, or has lost its far end, is
// reaped.
func (p *pass) settleLink(l kstate.Link, failed error) (settled error, cleared bool) {
	if errors.Is(failed, unix.EBUSY) {
		return failed, true // an index is taken; the next round has others
	}
	if p.c.reaper.since(p.reaped) {
		err := p.c.reaper.reap()
		return cmp.Or(err, failed), err == nil
	}
	if errors.Is(failed, unix.EXFULL) {
		return failed, false
	}
	host := p.host()
	clear(host.devs)
	d, err := host.device(l.Name)
	switch {
	case errors.Is(err, kernel.ErrMissing) && l.Type == kstate.TypeVXLAN:
		return p.settleVNI(l, failed)
	case errors.Is(err, kernel.ErrMissing):
		return p.settlePeer(l, failed)
	case err != nil:
		return errors.Join(failed, err), false
	case !d.ours():
		return fmt.Errorf("device %s is not ours: %w", l.Name, failed), false
	}
	have, whole := p.whole(d, l)
	if !whole {
		p.doom(noOp, d, kstate.NS{})
		p.flush()
		err := p.c.reaper.reap()
		return cmp.Or(err, failed), err == nil
	}
	if kstate.Satisfies(have, l) {
		return nil, false
	}
	return fmt.Errorf("device %s is there with other settings: %w", l.Name, failed), false
}

// settlePeer looks further when the name is free: then the far end's is not, or
// an index was taken, which gives the same errno in the host's namespace.
func (p *pass) settlePeer(l kstate.Link, failed error) (settled error, cleared bool) {
	s, err := p.space(l.Peer.NS)
	if err != nil || l.Type != kstate.TypeVeth {
		return failed, true
	}
	clear(s.devs)
	if _, err := s.device(l.Peer.Name); err != nil {
		return failed, true
	}
	return fmt.Errorf("peer device %s: %w", l.Peer.Name, failed), false
}

// settleVNI looks for who has a vxlan's VNI when its name is free, as a device does that
// flanneld left.
func (p *pass) settleVNI(l kstate.Link, failed error) (settled error, cleared bool) {
	all, err := p.host().sock.devices(context.Background())
	if err != nil {
		return errors.Join(failed, err), false
	}
	for _, d := range all {
		if d.kind == string(l.Type) && d.vxlan.VNI == l.VXLAN.VNI && d.vxlan.Port == l.VXLAN.Port {
			return fmt.Errorf("vni %d at port %d: is device %s's: remove that, or choose another (%w)", l.VXLAN.VNI, l.VXLAN.Port, d.name, &refusal{errno: unix.EEXIST}), false
		}
	}
	return failed, true
}

// whole returns device d of ours as a link, and whether its far end is where
// the wanted link says.
func (p *pass) whole(d device, want kstate.Link) (kstate.Link, bool) {
	master := p.host().nameOf(d.master)
	if d.kind != string(kstate.TypeVeth) {
		l := d.link(want.NS, master, nil)
		l.Parent = p.host().nameOf(d.under)
		return l, true
	}
	s, err := p.space(want.Peer.NS)
	if err != nil || !p.leadsTo(d, s) {
		return kstate.Link{}, false
	}
	got, err := s.sock.get(getDevice("", d.far))
	if err != nil {
		return kstate.Link{}, false
	}
	far := end{device: parseDevice(got), ns: want.Peer.NS}
	if far.ns.IsHost() {
		far.master = p.host().nameOf(far.device.master)
	}
	return d.link(want.NS, master, &far), true
}

// nameOf returns the name of a device, "" for none.
func (s *space) nameOf(index int) string {
	if index == 0 {
		return ""
	}
	got, err := s.sock.get(getDevice("", index))
	if err != nil {
		return ""
	}
	return parseDevice(got).asMaster()
}
