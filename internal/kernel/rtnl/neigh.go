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
		p.c.recent.touch(d.index) // its notification bears no port id
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
	if change.New == nil {
		return p.dropFDB(op, o, d)
	}
	mac, err := neighbour(o.Dst, o.MAC)
	if err = cmp.Or(err, o.Check()); err != nil {
		return err
	}
	if o.Bridged && d.master == 0 {
		return fmt.Errorf("device %s is no bridge port", o.Dev)
	}
	if !o.Bridged && !o.Listed() {
		p.unbridge(op, d, mac)
	}
	p.host().add(op, forward(o, d.index, mac))
	return nil
}

// forward is a message that makes a forwarding entry of a vxlan, and with it that of
// its bridge. To the bridge one that is permanent would be the host's own
// (fdb_to_nud in net/bridge/br_fdb.c), and vxlan forgets none of either state.
func forward(o kstate.FDB, index int, mac net.HardwareAddr) *message {
	how, state, flags := uint16(unix.NLM_F_CREATE|unix.NLM_F_REPLACE), uint16(unix.NUD_PERMANENT), uint8(unix.NTF_SELF)
	if o.Listed() {
		how = unix.NLM_F_CREATE | unix.NLM_F_APPEND
	}
	if o.Bridged {
		state, flags = unix.NUD_NOARP|unix.NUD_REACHABLE, unix.NTF_SELF|unix.NTF_MASTER|ntfSticky
	}
	return newMessage(unix.RTM_NEWNEIGH, how).neigh(unix.AF_BRIDGE, index, state, flags).
		attr(unix.NDA_LLADDR, mac).attr(unix.NDA_DST, o.Dst.AsSlice())
}

// dropFDB queues the removal of one. The kernel does not go on to the device's part
// where the bridge's is not there, so each has a message of its own. Its notifications
// bear no port id.
func (p *pass) dropFDB(op int, o kstate.FDB, d device) error {
	mac, err := net.ParseMAC(o.MAC)
	if err != nil {
		return err
	}
	p.c.recent.touch(d.index)
	if o.Bridged {
		p.unbridge(op, d, mac)
	}
	if o.Dst.IsValid() {
		m := newMessage(unix.RTM_DELNEIGH, 0).neigh(unix.AF_BRIDGE, d.index, 0, unix.NTF_SELF)
		p.host().addForgiving(op, m.attr(unix.NDA_LLADDR, mac).attr(unix.NDA_DST, o.Dst.AsSlice()), errAbsent)
	}
	return nil
}

// unbridge queues the removal of the bridge's part, if it is a port's.
func (p *pass) unbridge(op int, d device, mac net.HardwareAddr) {
	if d.master != 0 {
		p.c.recent.touch(d.index)
		p.host().addForgiving(op, unpin(d.index, mac), errAbsent)
	}
}

// neighEntry is a permanent neighbour, or a forwarding entry that is neither learnt
// nor the host's own, as the kernel reports it.
type neighEntry struct {
	index    int
	bridge   bool // a forwarding entry
	master   bool // of the bridge that the device is a port of, and not of the device
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
	n.master = n.bridge && b[10]&unix.NTF_SELF == 0
	if !lasting(native.Uint16(b[8:]), n) || !of(n.index) {
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
	return n, (n.addr.IsValid() || n.master) && n.mac != ""
}

// lasting reports whether an entry in this state stays until it is removed: a bridge's
// that is permanent is the host's own.
func lasting(state uint16, n neighEntry) bool {
	switch {
	case n.master:
		return state&unix.NUD_NOARP != 0 && state&unix.NUD_PERMANENT == 0
	case n.bridge:
		return state&(unix.NUD_PERMANENT|unix.NUD_NOARP) != 0
	}
	return state&unix.NUD_PERMANENT != 0
}

// neighbours adds the permanent neighbours on devices of ours. The kernel keeps
// those of all namespaces in one table and looks through it whole for each: so a
// namespace that had none with our mark, as one without devices of ours, and got none
// from us, is not asked again.
func (v *view) neighbours(s *space, devs map[int]device, ours func(int) bool) error {
	some, known := v.c.near.Load(s.handle.Inode())
	if !s.ns.IsHost() && known && !some.(bool) {
		return nil
	}
	if !slices.ContainsFunc(slices.Collect(maps.Keys(devs)), ours) {
		v.c.near.LoadOrStore(s.handle.Inode(), false)
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
// its own and those of its bridge that lead to it (valid_fdb_dump_strict in net/core/rtnetlink.c).
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
		v.objs = append(v.objs, entries(d.name, all)...)
	}
	return nil
}

// entries puts together what a device and its bridge know.
func entries(dev string, all []neighEntry) []kstate.Object {
	alone := map[string]bool{} // by what the bridge has: the device has it not
	for _, n := range all {
		if n.master {
			alone[n.mac] = true
		}
	}
	var out []kstate.Object
	for _, n := range all {
		if n.master {
			continue
		}
		_, both := alone[n.mac]
		if both {
			alone[n.mac] = false
		}
		out = append(out, kstate.FDB{Dev: dev, MAC: n.mac, Dst: n.addr, Bridged: both})
	}
	for mac, is := range alone {
		if is {
			out = append(out, kstate.FDB{Dev: dev, MAC: mac, Bridged: true})
		}
	}
	return out
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
