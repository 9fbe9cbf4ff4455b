package rtnl

import (
	"cmp"
	"errors"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// ndaProtocol is NDA_PROTOCOL of linux/neighbour.h: who made a neighbour. Kernels
// before 5.0 do not keep it.
const ndaProtocol = 12

// planNeigh queues an op on a neighbour. It takes the place of one that the kernel
// has found out itself.
func (p *pass) planNeigh(op int, change kstate.Op) error {
	n := change.Object().(kstate.Neigh)
	s, err := p.space(n.NS)
	var d device
	if err == nil {
		d, err = s.device(n.Dev)
	}
	switch {
	case change.New == nil && (errors.Is(err, kernel.ErrNoNamespace) || errors.Is(err, kernel.ErrMissing)):
		return nil
	case err != nil:
		return err
	}
	if mine, err := p.mine(s, d); err != nil || !mine {
		return cmp.Or(err, foreign("device "+n.Dev))
	}
	m := newMessage(unix.RTM_DELNEIGH, 0).neigh(family(n.Addr), d.index, 0, 0)
	if change.New == nil {
		s.addForgiving(op, m.attr(unix.NDA_DST, n.Addr.AsSlice()), errAbsent)
		return nil
	}
	mac, err := neighbour(n.Addr, n.MAC)
	if err == nil && !kstate.LinkType(d.kind).HasMAC() {
		err = fmt.Errorf("device %s: a %s has no neighbours", n.Dev, d.kind)
	}
	if err != nil {
		return err
	}
	m = newMessage(unix.RTM_NEWNEIGH, unix.NLM_F_CREATE|unix.NLM_F_REPLACE).neigh(family(n.Addr), d.index, unix.NUD_PERMANENT, 0)
	s.add(op, m.attr(unix.NDA_DST, n.Addr.AsSlice()).attr(unix.NDA_LLADDR, mac).u8(ndaProtocol, protocol))
	p.c.near.Store(s.handle.Inode(), true)
	return nil
}

// neighbour reads a hardware address of somebody else's, who is at ip.
func neighbour(ip netip.Addr, mac string) (net.HardwareAddr, error) {
	if !ip.IsValid() || ip.IsMulticast() || ip.IsUnspecified() || ip.Zone() != "" || ip.Is4In6() {
		return nil, fmt.Errorf("%s: not an address of one host", ip)
	}
	hw, err := net.ParseMAC(mac)
	if err == nil && (len(hw) != 6 || hw[0]&1 != 0) {
		err = fmt.Errorf("address %s: not one of one Ethernet device", mac)
	}
	return hw, err
}

// planFDB queues an op on a vxlan's forwarding entry.
func (p *pass) planFDB(op int, change kstate.Op) error {
	o := change.Object().(kstate.FDB)
	d, err := p.own(o.Dev)
	switch {
	case change.New == nil && errors.Is(err, kernel.ErrMissing):
		return nil
	case err != nil:
		return err
	case d.kind != string(kstate.TypeVXLAN):
		return fmt.Errorf("device %s is no vxlan", o.Dev)
	}
	mac, err := neighbour(o.Dst, o.MAC)
	if err != nil {
		return err
	}
	entry := func(m *message, state uint16) *message {
		return m.neigh(unix.AF_BRIDGE, d.index, state, unix.NTF_SELF).attr(unix.NDA_LLADDR, mac).attr(unix.NDA_DST, o.Dst.AsSlice())
	}
	if change.New == nil {
		p.host().addForgiving(op, entry(newMessage(unix.RTM_DELNEIGH, 0), 0), errAbsent)
		return nil
	}
	how := uint16(unix.NLM_F_CREATE | unix.NLM_F_REPLACE)
	if o.Listed() {
		how = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	}
	p.host().add(op, entry(newMessage(unix.RTM_NEWNEIGH, how), unix.NUD_PERMANENT))
	return nil
}

// neighEntry is a permanent neighbour, or a forwarding entry of a device itself, as
// the kernel reports it.
type neighEntry struct {
	index    int
	bridge   bool // a forwarding entry
	addr     netip.Addr
	mac      string
	protocol uint8
}

// parseNeigh reads the body of an RTM_NEWNEIGH; which are of interest is asked
// first, by the device's index: there may be many others.
func parseNeigh(b []byte, of func(index int) bool) (neighEntry, bool) {
	if len(b) < unix.SizeofNdMsg {
		return neighEntry{}, false
	}
	n := neighEntry{index: int(int32(native.Uint32(b[4:]))), bridge: b[0] == unix.AF_BRIDGE}
	if native.Uint16(b[8:])&unix.NUD_PERMANENT == 0 || n.bridge && b[10]&unix.NTF_SELF == 0 || !of(n.index) {
		return n, false
	}
	attrs(b[unix.SizeofNdMsg:], func(typ uint16, v []byte) {
		switch typ {
		case unix.NDA_DST:
			n.addr, _ = netip.AddrFromSlice(v)
		case unix.NDA_LLADDR:
			n.mac = net.HardwareAddr(v).String()
		case ndaProtocol:
			n.protocol = u8(v)
		}
	})
	return n, n.addr.IsValid() && n.mac != ""
}

// neighbours adds the permanent neighbours on devices of ours. The kernel keeps
// those of all namespaces in one table and looks through it whole for each: so a
// namespace that had none with our mark, and got none from us, is not asked again.
func (v *view) neighbours(s *space, devs map[int]device, ours func(int) bool) error {
	some, known := v.c.near.Load(s.handle.Inode())
	if !s.ns.IsHost() && known && !some.(bool) || !slices.ContainsFunc(slices.Collect(maps.Keys(devs)), ours) {
		return nil
	}
	request := func() *message { return newMessage(unix.RTM_GETNEIGH, 0).neigh(unix.AF_UNSPEC, 0, 0, 0) }
	all, err := dump(v.ctx, s.sock, request, func(b []byte) (neighEntry, bool) {
		n, ok := parseNeigh(b, ours)
		return n, ok && (s.ns.IsHost() || n.protocol == protocol)
	})
	if err != nil {
		return fmt.Errorf("list neighbours: %w", err)
	}
	for _, n := range all {
		v.objs = append(v.objs, kstate.Neigh{NS: s.ns, Dev: devs[n.index].name, Addr: n.addr, MAC: n.mac})
	}
	if len(all) == 0 {
		v.c.near.LoadOrStore(s.handle.Inode(), false)
	}
	return nil
}

// forwarding adds the entries of vxlan devices of ours, each of which is asked for
// its own (valid_fdb_dump_strict in net/core/rtnetlink.c).
func (v *view) forwarding() error {
	for _, d := range v.devs {
		if d.kind != string(kstate.TypeVXLAN) || !d.ours() {
			continue
		}
		request := func() *message { return newMessage(unix.RTM_GETNEIGH, 0).neigh(unix.AF_BRIDGE, d.index, 0, 0) }
		all, err := dump(v.ctx, v.host.sock, request, func(b []byte) (neighEntry, bool) {
			return parseNeigh(b, func(index int) bool { return index == d.index })
		})
		if err != nil {
			return fmt.Errorf("list forwarding entries of %s: %w", d.name, err)
		}
		for _, n := range all {
			v.objs = append(v.objs, kstate.FDB{Dev: d.name, MAC: n.mac, Dst: n.addr})
		}
	}
	return nil
}

// forget drops what is known of namespaces that are no longer looked at.
func (c *Conn) forget(seen map[uint64]bool) {
	c.near.Range(func(inode, _ any) bool {
		if !seen[inode.(uint64)] {
			c.near.Delete(inode)
		}
		return true
	})
}
