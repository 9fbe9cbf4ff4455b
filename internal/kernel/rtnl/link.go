package rtnl

import (
	"errors"
	"fmt"
	"net"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// addLink queues the making of a link of ours.
func (p *pass) addLink(op int, l kstate.Link) error {
	if l.Type.OnParent() {
		return p.addLower(op, l)
	}
	if !l.NS.IsHost() {
		return fmt.Errorf("links are made in the host's namespace: %w", kernel.ErrUnsupported)
	}
	if l.Detour && !l.Type.Tunnels() {
		return errNoDetour
	}
	mac, err := parseMAC(l.MAC)
	if err != nil {
		return err
	}
	near := device{name: l.Name, kind: string(l.Type), group: groupOurs, planned: true}
	if l.Named {
		near.group = kstate.GroupNamed
	}
	near.index, near.far = p.c.indexes()
	m := newMessage(unix.RTM_NEWLINK, unix.NLM_F_CREATE|unix.NLM_F_EXCL).
		link(unix.AF_UNSPEC, near.index, 0, 0).
		str(unix.IFLA_IFNAME, l.Name).
		u32(unix.IFLA_GROUP, uint32(near.group))
	if len(mac) > 0 {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	switch l.Type {
	case kstate.TypeBridge:
		return p.addBridge(op, l, near, m)
	case kstate.TypeVeth:
		return p.addVeth(op, l, near, m)
	case kstate.TypeIFB:
		p.addIFB(op, l, near, m)
		return nil
	case kstate.TypeVXLAN, kstate.TypeTUN, kstate.TypeWireGuard:
		return p.addTunnel(op, l, near, m)
	}
	return fmt.Errorf("type %q: %w", l.Type, kernel.ErrUnsupported)
}

// errNoDetour: see [kstate.Link.Detour].
var errNoDetour = errors.New("detour is for tunnels")

// defaultMTU is what the kernel makes an Ethernet device with (ETH_DATA_LEN).
const defaultMTU = 1500

// noLinkLocalLearn is BR_BOOLOPT_NO_LL_LEARN of include/uapi/linux/if_bridge.h
// (Linux 5.0). Frames to 01:80:c2:00:00:0x pass no netfilter hook that could
// refuse a forged sender, and without it the bridge learns from them where that
// sender is.
const noLinkLocalLearn = 1 << 0

// addBridge makes a bridge without spanning tree and multicast snooping: all
// its ports are ours and none leads to another bridge.
//
// The MTU is changed afterwards, to another than it was made with: then the
// kernel takes it for a wish and does not adjust it to the ports' (br_change_mtu
// in net/bridge/br_device.c).
func (p *pass) addBridge(op int, l kstate.Link, near device, m *message) error {
	host := p.host()
	near.far = 0
	if l.MTU == defaultMTU {
		m.mtu(defaultMTU - 1)
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, string(kstate.TypeBridge))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.u32(unix.IFLA_BR_STP_STATE, 0)
			m.u8(unix.IFLA_BR_MCAST_SNOOPING, 0)
			if l.Sorting {
				m.u8(bridgeSorting, 1)
			}
			m.attr(unix.IFLA_BR_MULTI_BOOLOPT, native.AppendUint32(native.AppendUint32(nil, noLinkLocalLearn), noLinkLocalLearn)) // struct br_boolopt_multi
		})
	})
	host.add(op, m)
	host.quiet(op, near.index, l)
	m = change(near.index, l.Up, l.Up).noARP(l.NoARP).mtu(l.MTU)
	if l.Alias != "" {
		m.alias(l.Alias)
	}
	host.add(op, m)
	if err := p.sort(op, kstate.Link{}, l, near.index, true); err != nil {
		return err
	}
	near.sorting = l.Sorting
	host.devs[l.Name] = near
	p.c.recent.touch(near.index)
	return nil
}

// addVeth makes a veth whose far end is born in its namespace, under its final
// name. One queue is enough: a veth's queues only pay with XDP programs, and
// each costs time and memory.
func (p *pass) addVeth(op int, l kstate.Link, near device, m *message) error {
	far, err := p.space(l.Peer.NS)
	if err != nil {
		return err
	}
	mac, err := parseMAC(l.Peer.MAC)
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	host := p.host()
	m.mtu(l.MTU).u32(unix.IFLA_NUM_TX_QUEUES, 1).u32(unix.IFLA_NUM_RX_QUEUES, 1)
	if l.Master != "" {
		master, err := p.master(l.Master)
		if err != nil {
			return err
		}
		m.u32(unix.IFLA_MASTER, master)
	}
	m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_KIND, string(kstate.TypeVeth))
		m.nest(unix.IFLA_INFO_DATA, func() {
			m.nest(vethInfoPeer, func() {
				m.link(unix.AF_UNSPEC, near.far, 0, 0).str(unix.IFLA_IFNAME, l.Peer.Name).mtu(l.MTU)
				m.u32(unix.IFLA_NUM_TX_QUEUES, 1).u32(unix.IFLA_NUM_RX_QUEUES, 1)
				m.u32(unix.IFLA_NET_NS_FD, uint32(far.handle.FD()))
				if len(mac) > 0 {
					m.attr(unix.IFLA_ADDRESS, mac)
				}
				if l.Peer.NS.IsHost() && !l.Handed {
					m.u32(unix.IFLA_GROUP, groupOurs)
				}
			})
		})
	})
	if !l.Peer.NS.IsHost() {
		// For each notification about the near end the kernel looks through all
		// numbers, upwards (peernet2id in net/core/net_namespace.c); its own go
		// upwards too, so that it would find the newest last.
		host.addForgiving(noOp, numbered(far, uint32(lastIndex-near.index)), kernel.ErrInUse)
	}
	host.add(op, m)
	host.quiet(op, near.index, l)
	// Before it is up: a device that changes while it waits for its far end has
	// the kernel look through all IPv6 routes (rt6_sync_down_dev).
	m = change(near.index, false, false).noARP(l.NoARP)
	if err := p.complete(op, l, near.index, m); err != nil {
		return err
	}
	if err := p.repin(op, kstate.Link{}, l, near); err != nil {
		return err
	}
	if !l.Handed {
		if err := p.furnishFar(op, l, near, far); err != nil {
			return err
		}
	}
	host.devs[l.Name] = near
	far.devs[l.Peer.Name] = device{name: l.Peer.Name, kind: string(kstate.TypeVeth), index: near.far, far: near.index, planned: true}
	p.c.recent.touch(near.index, near.far)
	return nil
}

// complete furnishes a device of the host's that was just made, by what m says already and
// what else belongs to it, and sets it up.
func (p *pass) complete(op int, l kstate.Link, index int, m *message) error {
	host := p.host()
	if l.Alias != "" {
		m.alias(l.Alias)
	}
	m.newPort(l)
	host.add(op, m)
	if err := p.sort(op, kstate.Link{}, l, index, true); err != nil {
		return err
	}
	if l.Up {
		host.add(op, change(index, true, true))
	}
	return nil
}

// furnishFar queues what makes the new far end of a veth as it shall be.
func (p *pass) furnishFar(op int, l kstate.Link, near device, far *space) error {
	far.quiet(op, near.far, kstate.Link{Auto: l.Peer.Auto})
	if err := p.portFar(op, kstate.Peer{}, l.Peer, near.far); err != nil {
		return err
	}
	if l.Up {
		far.add(op, change(near.far, true, true))
		p.ports = append(p.ports, getDevice("", near.index))
		if l.Master != "" && !l.Auto {
			p.ports = append(p.ports, noMulticast(near.index))
		}
	}
	return nil
}

// noMulticast removes the route that the kernel makes for IPv6 multicast by each device
// that carries packets (addrconf_add_mroute in net/ipv6/addrconf.c). A port of a bridge
// has no use for it, and there the kernel looks through those of all ports for each new one
// (fib6_add_rt2node in net/ipv6/ip6_fib.c).
func noMulticast(index int) *message {
	return newMessage(unix.RTM_DELROUTE, 0).
		route(unix.AF_INET6, 8, unix.RTPROT_KERNEL, unix.RT_SCOPE_UNIVERSE, unix.RTN_MULTICAST).table(unix.RT_TABLE_LOCAL).
		attr(unix.RTA_DST, netip.MustParseAddr("ff00::").AsSlice()).u32(unix.RTA_OIF, uint32(index))
}

// changeLink queues what differs between two states of a link of ours.
func (p *pass) changeLink(op int, old, l kstate.Link) error {
	if l.Type.OnParent() && old.Type == l.Type {
		return p.changeLower(op, old, l)
	}
	host := p.host()
	d, err := host.device(l.Name)
	switch {
	case err != nil:
		return err
	case !d.ours():
		return foreign("device " + l.Name)
	case l.Detour && !l.Type.Tunnels():
		return errNoDetour
	case string(l.Type) != d.kind || !l.Handed && (l.Peer.NS != old.Peer.NS || l.Peer.Name != old.Peer.Name):
		return errors.New("type and far end cannot be changed in place")
	}
	p.c.recent.touch(d.index)
	if err := p.changeTunnel(op, old, l, d); err != nil {
		return err
	}
	m, err := p.changeNear(old, l, d)
	if err != nil {
		return err
	}
	host.add(op, m)
	if l.Master != old.Master {
		if err := p.plugged(l, d); err != nil {
			return err
		}
	}
	if old.Localnet != l.Localnet || old.ProxyARP != l.ProxyARP || !old.Detour && l.Detour {
		host.pass(op, d.index, l)
	}
	m = change(d.index, l.Up != old.Up, l.Up)
	if l.NoARP != old.NoARP {
		m.noARP(l.NoARP)
	}
	if l.Master != "" {
		m.port(l)
	}
	host.add(op, m)
	if l.Sorting != old.Sorting {
		host.add(op, sorting(d.index, l.Sorting))
	}
	if err := p.sort(op, old, l, d.index, false); err != nil {
		return err
	}
	if err := p.repin(op, old, l, d); err != nil {
		return err
	}
	if l.Type == kstate.TypeVeth && !l.Handed {
		return p.changeFar(op, old, l, d)
	}
	return nil
}

// changeNear is the first message about the near end: the master, whose port
// it must be before the port is set up.
func (p *pass) changeNear(old, l kstate.Link, d device) (*message, error) {
	m := change(d.index, false, false)
	if l.MTU != old.MTU {
		m.mtu(l.MTU)
	}
	if l.MAC != old.MAC {
		mac, err := parseMAC(l.MAC)
		if err != nil {
			return nil, err
		}
		if len(mac) > 0 {
			m.attr(unix.IFLA_ADDRESS, mac)
		}
	}
	if l.Alias != old.Alias {
		m.alias(l.Alias)
	}
	if l.Master == old.Master {
		return m, nil
	}
	master, err := p.master(l.Master)
	return m.u32(unix.IFLA_MASTER, master), err
}

// master returns the index of a bridge in the host's namespace that a device is
// to be a port of, 0 for none.
func (p *pass) master(name string) (uint32, error) {
	if name == "" {
		return 0, nil
	}
	index, err := p.host().index(name)
	if err != nil {
		return 0, fmt.Errorf("master: %w", err)
	}
	p.c.recent.touch(index)
	return uint32(index), nil
}

// plugged remembers which bridge a device is a port of from now on.
func (p *pass) plugged(l kstate.Link, d device) error {
	master, err := p.master(l.Master)
	d.master = int(master)
	p.host().devs[l.Name] = d
	return err
}

// changeFar is about the far end, as far as we care for it.
func (p *pass) changeFar(op int, old, l kstate.Link, d device) error {
	if l.MTU == old.MTU && l.Up == old.Up && l.Peer.MAC == old.Peer.MAC && l.Peer.Master == old.Peer.Master && l.Peer.Isolated == old.Peer.Isolated {
		return nil
	}
	far, err := p.space(l.Peer.NS)
	if err != nil {
		return err
	}
	if !p.leadsTo(d, far) {
		return missing("peer", l.Peer.Name)
	}
	mac, err := parseMAC(l.Peer.MAC)
	if err != nil {
		return fmt.Errorf("peer: %w", err)
	}
	if err := p.portFar(op, old.Peer, l.Peer, d.far); err != nil {
		return err
	}
	m := change(d.far, l.Up != old.Up, l.Up)
	if l.MTU != old.MTU {
		m.mtu(l.MTU)
	}
	if len(mac) > 0 && l.Peer.MAC != old.Peer.MAC {
		m.attr(unix.IFLA_ADDRESS, mac)
	}
	far.add(op, m)
	p.c.recent.touch(d.far)
	return nil
}

// portFar queues what makes the far end the bridge port it shall be, before it
// is set up.
func (p *pass) portFar(op int, old, peer kstate.Peer, index int) error {
	switch {
	case peer.Master == old.Master && peer.Isolated == old.Isolated:
		return nil
	case !peer.NS.IsHost():
		return fmt.Errorf("peer: bridge ports are in the host's namespace: %w", kernel.ErrUnsupported)
	}
	if peer.Master != old.Master {
		master, err := p.master(peer.Master)
		if err != nil {
			return fmt.Errorf("peer: %w", err)
		}
		p.host().add(op, change(index, false, false).u32(unix.IFLA_MASTER, master))
	}
	if peer.Master != "" {
		p.host().add(op, change(index, false, false).port(kstate.Link{Isolated: peer.Isolated}))
	}
	return nil
}

// change is a message that changes a device, and sets it up or down if flag.
func change(index int, flag, up bool) *message {
	var flags, mask uint32
	if flag {
		mask = unix.IFF_UP
	}
	if up {
		flags = mask
	}
	return newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, index, flags, mask)
}

// noARP sets or clears a flag of the device that the message changes.
func (m *message) noARP(on bool) *message {
	const flags, mask = unix.SizeofNlMsghdr + 8, unix.SizeofNlMsghdr + 12 // struct ifinfomsg
	if on {
		native.PutUint32(m.buf[flags:], native.Uint32(m.buf[flags:])|unix.IFF_NOARP)
	}
	native.PutUint32(m.buf[mask:], native.Uint32(m.buf[mask:])|unix.IFF_NOARP)
	return m
}

func (m *message) mtu(n int) *message {
	if n == 0 {
		return m
	}
	return m.u32(unix.IFLA_MTU, uint32(n))
}

// alias appends a text for humans. It has no final zero.
func (m *message) alias(s string) *message { return m.attr(unix.IFLA_IFALIAS, []byte(s)) }

// allGroups has a bit for each group address of IEEE 802.1D that a port can be
// told to forward: all but that of pause frames.
const allGroups = 0xffff &^ (1 << 1)

// port appends what the bridge shall keep about its port.
func (m *message) port(l kstate.Link) *message {
	return m.nest(unix.IFLA_LINKINFO, func() {
		m.str(unix.IFLA_INFO_SLAVE_KIND, string(kstate.TypeBridge))
		m.nest(unix.IFLA_INFO_SLAVE_DATA, func() {
			m.u8(unix.IFLA_BRPORT_ISOLATED, bit(l.Isolated)).u8(unix.IFLA_BRPORT_MODE, bit(l.Hairpin))
			m.u16(unix.IFLA_BRPORT_GROUP_FWD_MASK, allGroups*uint16(bit(l.GroupForward)))
			m.u8(unix.IFLA_BRPORT_LEARNING, bit(!l.Known)).u8(unix.IFLA_BRPORT_UNICAST_FLOOD, bit(!l.Known))
			if l.Known {
				m.u8(unix.IFLA_BRPORT_MCAST_FLOOD, 1).u8(unix.IFLA_BRPORT_BCAST_FLOOD, 1)
			}
		})
	})
}

// newPort appends what of it is not so from the beginning.
func (m *message) newPort(l kstate.Link) {
	if l.Isolated || l.Hairpin || l.GroupForward || l.Known {
		m.port(l)
	}
}

// quiet queues the settings of a new device that is to do nothing by itself.
//
// IPv6 autoconfiguration ends, unless it is wanted: no address of its own, no duplicate address
// detection, no router solicitations. That must be a message of its own before
// the one that sets the device up, as do_setlink in net/core/rtnetlink.c does
// that first. Without IPv6 there is nothing to end.
//
// IPv4 addresses do not take the others of their subnet along when they go.
func (s *space) quiet(op, index int, l kstate.Link) {
	if !l.Auto {
		m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, index, 0, 0)
		m.nest(unix.IFLA_AF_SPEC, func() {
			m.nest(unix.AF_INET6, func() { m.u8(unix.IFLA_INET6_ADDR_GEN_MODE, in6AddrGenModeNone) })
		})
		s.addForgiving(op, m, kernel.ErrUnsupported)
	}
	s.pass(op, index, l, ipv4DevconfPromote, 1)
}

// pass queues the settings of a device about what passes the host by it, and others.
func (s *space) pass(op, index int, l kstate.Link, others ...uint8) {
	pairs := append(others, ipv4DevconfProxyARP, bit(l.ProxyARP), ipv4DevconfLocalnet, bit(l.Localnet))
	if l.Detour {
		pairs = append(pairs, ipv4DevconfReverse, 0, ipv4DevconfRedirect, 0)
	}
	s.add(op, inetConf(index, pairs...))
}

// inetConf changes IPv4 settings of a device: pairs of number and value.
func inetConf(index int, pairs ...uint8) *message {
	m := newMessage(unix.RTM_NEWLINK, 0).link(unix.AF_UNSPEC, index, 0, 0)
	return m.nest(unix.IFLA_AF_SPEC, func() {
		m.nest(unix.AF_INET, func() {
			m.nest(unix.IFLA_INET_CONF, func() {
				for i := 0; i < len(pairs); i += 2 {
					m.u32(uint16(pairs[i]), uint32(pairs[i+1]))
				}
			})
		})
	})
}

func bit(b bool) uint8 {
	if b {
		return 1
	}
	return 0
}

func parseMAC(s string) (net.HardwareAddr, error) {
	if s == "" {
		return nil, nil
	}
	return net.ParseMAC(s)
}
