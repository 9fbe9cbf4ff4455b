package rtnl

import (
	"errors"
	"fmt"
	"time"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// Attributes of linux/if_link.h that x/sys lacks. Each kind of device has its own.
const (
	macvlanMode = 1 // u32
	ipvlanMode  = 1 // u16
	ipvlanFlags = 2 // u16
	vlanID      = 1 // u16

	ipvlanPrivate = 1
	ipvlanVEPA    = 2
)

// modes are the numbers of modes by kind, from enum macvlan_mode and enum
// ipvlan_mode.
func modes(kind string) map[string]uint32 {
	switch kstate.LinkType(kind) {
	case kstate.TypeMacvlan:
		return map[string]uint32{"private": 1, "vepa": 2, "bridge": 4, "passthru": 8}
	case kstate.TypeIPvlan:
		return map[string]uint32{"l2": 0, "l3": 1, "l3s": 2}
	}
	return nil
}

// lowerData reads IFLA_INFO_DATA of a device that is on another one.
func (d *device) lowerData(b []byte) {
	attrs(b, func(typ uint16, v []byte) {
		switch {
		case d.kind == string(kstate.TypeMacvlan) && typ == macvlanMode:
			d.mode = modeName(d.kind, u32(v))
		case d.kind == string(kstate.TypeIPvlan) && typ == ipvlanMode:
			d.mode = modeName(d.kind, uint32(u16(v)))
		case d.kind == string(kstate.TypeIPvlan) && typ == ipvlanFlags && u16(v) == ipvlanPrivate:
			d.flag = "private"
		case d.kind == string(kstate.TypeIPvlan) && typ == ipvlanFlags && u16(v) == ipvlanVEPA:
			d.flag = "vepa"
		case d.kind == string(kstate.TypeVLAN) && typ == vlanID:
			d.vlan = int(u16(v))
		}
	})
}

func modeName(kind string, n uint32) string {
	for name, number := range modes(kind) {
		if number == n {
			return name
		}
	}
	return fmt.Sprintf("mode %d", n)
}

// onParent reports whether a device is of a kind that is on another one.
func (d device) onParent() bool { return kstate.LinkType(d.kind).OnParent() }

// lowered reports whether a device is one of ours on a device of the host's: of
// our group, and its parent is in the host's namespace. A daemon of ours further
// out may have made one that is here.
func (s *space) lowered(d device, host *space) bool {
	if !d.onParent() || d.group != groupOurs && d.group != groupHanded {
		return false
	}
	return s.fromHost(d, host) && (s.inHost(host) || d.group != groupHanded)
}

// addLower queues the making of a device on one of the host's, born in its
// namespace under its final name. What ends in a namespace must be gone before:
// it may have the name there, or the parent.
func (p *pass) addLower(op int, l kstate.Link) error {
	if p.ending {
		p.ending = false
		p.flush()
	}
	p.c.parents.add(l.Parent)
	parent, err := p.host().device(l.Parent)
	if err != nil {
		return fmt.Errorf("parent: %w", err)
	}
	s, err := p.space(l.NS)
	if err != nil {
		return err
	}
	d := device{name: l.Name, kind: string(l.Type), group: groupOurs, far: parent.index, planned: true}
	if l.Handed {
		d.group = groupHanded
	}
	d.index, _ = p.c.indexes()
	m, err := p.newLower(l, d)
	if err != nil {
		return err
	}
	if !l.NS.IsHost() {
		m.u32(unix.IFLA_NET_NS_FD, uint32(s.handle.FD()))
		p.host().addForgiving(noOp, numbered(s, anyNSID), kernel.ErrInUse)
	}
	p.host().add(op, m)
	s.devs[l.Name] = d
	p.c.recent.touch(d.index, parent.index)
	if l.Handed {
		return nil // the rest is for who takes it
	}
	s.quiet(op, d.index, l)
	m = change(d.index, false, false).noARP(l.NoARP)
	if l.Alias != "" {
		m.alias(l.Alias)
	}
	m.newPort(l)
	s.add(op, m)
	if l.Up {
		s.add(op, change(d.index, true, true))
	}
	return nil
}

// newLower is the message that makes it.
func (p *pass) newLower(l kstate.Link, d device) (*message, error) {
	mac, err := parseMAC(l.MAC)
	if err != nil {
		return nil, err
	}
	mode, known := modes(d.kind)[l.Mode]
	if !known && l.Type != kstate.TypeVLAN {
		return nil, fmt.Errorf("mode %q: %w", l.Mode, kernel.ErrUnsupported)
	}
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL).
		link(unix.AF_UNSPEC, d.index, 0, 0).
		str(unix.IFLA_IFNAME, l.Name).u32(unix.IFLA_GROUP, uint32(d.group)).
		u32(unix.IFLA_LINK, uint32(d.far)).mtu(l.MTU)
	if len(mac) > 0 {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	if l.Master != "" {
		master, err := p.master(l.Master)
		if err != nil {
			return nil, err
		}
		m.u32(unix.IFLA_MASTER, master)
	}
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, d.kind)
		m.nest(unix.IFLA_INFO_DATA, func() {
			switch l.Type {
			case kstate.TypeMacvlan:
				m.u32(macvlanMode, mode)
			case kstate.TypeIPvlan:
				m.u16(ipvlanMode, uint16(mode)).u16(ipvlanFlags, ipvlanFlag(l.Flag))
			case kstate.TypeVLAN:
				m.u16(vlanID, uint16(l.VLAN))
			}
		})
	}), nil
}

func ipvlanFlag(name string) uint16 {
	switch name {
	case "private":
		return ipvlanPrivate
	case "vepa":
		return ipvlanVEPA
	}
	return 0
}

// anyNSID is a number that the kernel chooses.
const anyNSID = 0xffffffff

// numbered has the host give a namespace a number, as a veth would: by it Watch
// hears what happens there (rtnl_net_newid in net/core/net_namespace.c).
func numbered(s *space, nsid uint32) *message {
	return newMessage(unix.RTM_NEWNSID, 0).family(unix.AF_UNSPEC).u32(unix.NETNSA_NSID, nsid).u32(unix.NETNSA_FD, uint32(s.handle.FD()))
}

// ownLower looks up a device of ours by an object.
func (p *pass) ownLower(l kstate.Link) (*space, device, error) {
	s, err := p.space(l.NS)
	if err != nil {
		return nil, device{}, err
	}
	d, err := s.device(l.Name)
	if err == nil && !d.planned && !s.lowered(d, p.host()) {
		err = foreign("device " + l.Name)
	}
	return s, d, err
}

// changeLower queues what differs between two states of such a device.
func (p *pass) changeLower(op int, old, l kstate.Link) error {
	s, d, err := p.ownLower(l)
	if err != nil {
		return err
	}
	m, err := p.changeNear(old, l, d)
	if err != nil {
		return err
	}
	s.add(op, m)
	m = change(d.index, l.Up != old.Up, l.Up)
	if l.NoARP != old.NoARP {
		m.noARP(l.NoARP)
	}
	if l.Master != "" {
		m.port(l)
	}
	s.add(op, m)
	p.c.recent.touch(d.index, d.far)
	return nil
}

// removeLower queues the end of such a device: at once, for nobody else can have
// the parent while the only device of a passthru is there.
func (p *pass) removeLower(op int, l kstate.Link) error {
	s, d, err := p.ownLower(l)
	if errors.Is(err, kernel.ErrNoNamespace) || errors.Is(err, kernel.ErrMissing) {
		return nil
	}
	if err != nil {
		return err
	}
	p.endLower(op, s, d)
	return nil
}

func (p *pass) endLower(op int, s *space, d device) {
	s.addForgiving(op, newMessage(unix.RTM_DELLINK, 0).link(unix.AF_UNSPEC, d.index, 0, 0), kernel.ErrMissing)
	delete(s.devs, d.name)
	p.ending = true
	p.c.recent.remove(d.index)
	p.c.recent.touch(d.far)
}

// settleLower looks at what is in the way of such a device: one of ours as wanted
// is what was asked for, another of ours goes.
func (p *pass) settleLower(l kstate.Link, failed error) (settled error, cleared bool) {
	s, err := p.space(l.NS)
	if err != nil {
		return failed, false
	}
	clear(s.devs)
	d, err := s.device(l.Name)
	switch {
	case errors.Is(err, kernel.ErrMissing) && errors.Is(failed, unix.EBUSY):
		// Or its index is taken, and the next round has another.
		return fmt.Errorf("parent %s: is used by something else, as a bridge, a bond, Open vSwitch, or macvlan beside ipvlan: %w", l.Parent, failed), true
	case err != nil:
		return failed, errors.Is(err, kernel.ErrMissing)
	case !s.lowered(d, p.host()):
		return fmt.Errorf("device %s is not ours: %w", l.Name, failed), false
	}
	if kstate.Satisfies(d.lower(l.NS, p.host().nameOf(d.far), p.host().nameOf(d.master)), l) {
		return nil, false
	}
	p.endLower(noOp, s, d)
	p.flush()
	return failed, true
}

// twinPatience is how long a round waits for a macvlan that has the hardware address of a
// new one: that of a container that has just ended, whose namespace the kernel takes down
// at leisure.
const twinPatience = 150 * time.Millisecond

// settleTwin waits for that. Who does not go may be in any namespace.
func (p *pass) settleTwin(l kstate.Link, failed error) (settled error, cleared bool) {
	time.Sleep(twinPatience)
	_, cleared = p.settleLower(l, failed)
	return fmt.Errorf("hardware address %s: another macvlan on %s has it: %w", l.MAC, l.Parent, failed), cleared
}

// lower returns a device of ours on one of the host's as an object.
func (d device) lower(ns kstate.NS, parent, master string) kstate.Link {
	l := d.link(ns, master, nil)
	l.Parent, l.Other = parent, false
	return l
}

// parent returns the name of the host's device that one of ours is on.
func (v *view) parent(d device) string {
	near, ok := v.devs[d.far]
	if !ok && !v.all {
		if got, err := v.host.sock.get(getDevice("", d.far)); err == nil {
			near = parseDevice(got)
			v.devs[d.far] = near
		}
	}
	v.c.parents.add(near.name)
	return near.name
}
