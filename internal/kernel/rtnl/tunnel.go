package rtnl

import (
	"errors"
	"fmt"
	"net/netip"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// addTunnel makes a device that carries packets to other hosts. What the kernel
// refuses of it is found out by steps, the last of which is setting it up: then
// the UDP port may be in use. So one that fails is taken back, see takeBack.
//
// A vxlan's MTU is a message of its own: at creation the kernel lowers one that is
// too large without a word (vxlan_config_apply in drivers/net/vxlan/vxlan_core.c).
func (p *pass) addTunnel(op int, l kstate.Link, near device, m *message) error {
	if err := l.CheckTunnel(); err != nil {
		return err
	}
	near.far = 0
	host := p.host()
	p.c.recent.touch(near.index)
	master, err := p.master(l.Master)
	if err != nil {
		return err
	}
	near.master = int(master)
	if err := p.makeTunnel(op, l, near, m); err != nil {
		return err
	}
	host.devs[l.Name] = near
	p.made[op] = near.index
	host.quiet(op, near.index, l)
	m = change(near.index, false, false).mtu(l.MTU)
	if l.NoARP {
		m.noARP(true)
	}
	return p.complete(op, l, near.index, m)
}

func (p *pass) makeTunnel(op int, l kstate.Link, near device, m *message) error {
	if l.Type == kstate.TypeTUN {
		return p.makeTUN(l.Name, near.index)
	}
	if near.master != 0 {
		m.u32(unix.IFLA_MASTER, uint32(near.master))
	}
	parent, err := p.vxlanParent(l)
	if err != nil {
		return err
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, string(l.Type))
		if l.Type == kstate.TypeVXLAN {
			m.nest(unix.IFLA_INFO_DATA, func() { m.vxlan(l, parent) })
		}
	})
	p.host().add(op, m)
	return nil
}

// vxlanParent returns the index of the device that outer packets leave by, 0 for
// none.
func (p *pass) vxlanParent(l kstate.Link) (int, error) {
	if l.Parent == "" {
		return 0, nil
	}
	p.c.parents.add(l.Parent)
	d, err := p.host().device(l.Parent)
	if err != nil {
		return 0, fmt.Errorf("parent: %w", err)
	}
	p.c.recent.touch(d.index)
	return d.index, nil
}

// vxlan appends what a new vxlan is.
func (m *message) vxlan(l kstate.Link, parent int) {
	v := l.VXLAN
	m.u32(unix.IFLA_VXLAN_ID, uint32(v.VNI))
	m.attr(unix.IFLA_VXLAN_PORT, []byte{byte(v.Port >> 8), byte(v.Port)})
	m.u8(unix.IFLA_VXLAN_UDP_CSUM, 0)
	m.u8(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_TX, 0).u8(unix.IFLA_VXLAN_UDP_ZERO_CSUM6_RX, bit(v.Local.Is6()))
	if v.Proxy {
		m.u8(unix.IFLA_VXLAN_PROXY, 1)
	}
	if v.GBP {
		m.attr(unix.IFLA_VXLAN_GBP, nil)
	}
	m.underlay(v, parent)
}

// underlay appends what of a vxlan can change while it is there.
func (m *message) underlay(v kstate.VXLAN, parent int) {
	m.u8(unix.IFLA_VXLAN_LEARNING, bit(!v.NoLearning))
	if parent != 0 {
		m.u32(unix.IFLA_VXLAN_LINK, uint32(parent))
	}
	switch {
	case v.Local.Is4():
		m.attr(unix.IFLA_VXLAN_LOCAL, v.Local.AsSlice())
	case v.Local.Is6():
		m.attr(unix.IFLA_VXLAN_LOCAL6, v.Local.AsSlice())
	}
}

// changeTunnel queues what differs between two states of a vxlan and of no other
// device. It comes before another MTU, which the new parent may allow.
func (p *pass) changeTunnel(op int, old, l kstate.Link, d device) error {
	if !l.Type.Tunnels() {
		return nil
	}
	if err := l.CheckTunnel(); err != nil {
		return err
	}
	if l.VXLAN == old.VXLAN && l.Parent == old.Parent {
		return nil
	}
	parent, err := p.vxlanParent(l)
	if err != nil {
		return err
	}
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, d.index, 0, 0)
	p.host().add(op, m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, string(l.Type))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.u32(unix.IFLA_VXLAN_ID, uint32(l.VXLAN.VNI)).underlay(l.VXLAN, parent)
		})
	}))
	return nil
}

// takeBack removes a new device that could not become what it should be.
func (p *pass) takeBack(op int, l kstate.Link, failed error) error {
	index, ok := p.made[op]
	if !ok {
		return failed
	}
	delete(p.made, op)
	if errors.Is(failed, unix.EADDRINUSE) {
		failed = fmt.Errorf("udp port %d: %w", l.VXLAN.Port, failed)
	}
	got, err := p.host().sock.get(getDevice("", index))
	if errors.Is(err, unix.ENODEV) {
		return failed
	}
	if err != nil {
		return errors.Join(failed, err)
	}
	if d := parseDevice(got); d.ours() && d.name == l.Name {
		p.end(noOp, d)
		p.flush()
	}
	return failed
}

// end queues the end of a device of the host's at once: for those that are few
// and seldom, so that what they held is free at once.
func (p *pass) end(op int, d device) {
	p.host().addForgiving(op, newMessage(unix.RTM_DELLINK, 0).link(unix.AF_UNSPEC, d.index, 0, 0), kernel.ErrMissing)
	delete(p.host().devs, d.name)
	p.c.recent.remove(d.index)
	if d.under != 0 {
		p.c.recent.touch(d.under)
	}
}

// vxlanData reads IFLA_INFO_DATA of a vxlan.
func (d *device) vxlanData(b []byte) {
	if d.kind != string(kstate.TypeVXLAN) {
		return
	}
	attrs(b, func(typ uint16, v []byte) {
		switch typ {
		case unix.IFLA_VXLAN_ID:
			d.vxlan.VNI = int(u32(v))
		case unix.IFLA_VXLAN_PORT:
			if len(v) == 2 {
				d.vxlan.Port = int(v[0])<<8 | int(v[1])
			}
		case unix.IFLA_VXLAN_LINK:
			d.under = int(u32(v))
		case unix.IFLA_VXLAN_LOCAL, unix.IFLA_VXLAN_LOCAL6:
			d.vxlan.Local, _ = netip.AddrFromSlice(v)
		case unix.IFLA_VXLAN_LEARNING:
			d.vxlan.NoLearning = u8(v) == 0
		case unix.IFLA_VXLAN_PROXY:
			d.vxlan.Proxy = u8(v) != 0
		case unix.IFLA_VXLAN_GBP:
			d.vxlan.GBP = true
		}
	})
}

// indexes are those of devices that Observe found. The kernel gives none twice that
// is as high as ours are.
type indexes struct{ m sync.Map }

func (x *indexes) add(index int) { x.m.Store(index, true) }

func (x *indexes) has(index int) bool {
	_, ok := x.m.Load(index)
	return ok
}
