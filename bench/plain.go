package main

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// plainHost is a host with a namespace on a bridge, of the kernel's devices alone: without a
// daemon, a firewall or connection tracking.
//
//	namespace 10.9.N.2 ── br0 10.9.N.1 ── … ── eth0 ── hub
type plainHost struct {
	spot
	n byte
}

// subnet is that of the bridge.
func (h *plainHost) subnet() netip.Prefix {
	return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, 9, h.n, 0}), 24)
}

func (h *plainHost) gateway() netip.Addr { return h.subnet().Addr().Next() }

func (h *plainHost) inside() netip.Addr { return h.gateway().Next() }

// outside is where the host is at the hub.
func (h *plainHost) outside() string { return nthHost(200 + int(h.n)) }

// newPlain makes the nth, with a bridge and a namespace of an MTU.
func newPlain(x *hub, n byte, mtu int) (*plainHost, error) {
	bare, err := newHost()
	if err != nil {
		return nil, err
	}
	h := &plainHost{spot{host: bare}, n}
	spaces, err := bare.spaces("plain", 1)
	if err == nil {
		h.space = spaces[0]
		err = errors.Join(bare.filterBridged(false), x.plug(bare, h.outside()), bare.do(func() error { return h.bridge(mtu) }), bare.within(h.space, 0, h.inhabit))
	}
	if err != nil {
		bare.close()
		return nil, fmt.Errorf("plain host: %w", err)
	}
	return h, nil
}

// bridge connects the namespace. The caller is in the host.
func (h *plainHost) bridge(mtu int) error {
	f, err := os.Open(h.space)
	if err != nil {
		return err
	}
	defer f.Close()
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "br0"
	if err := netlink.LinkAdd(&netlink.Bridge{LinkAttrs: attrs}); err != nil {
		return err
	}
	br, err := netlink.LinkByName("br0")
	if err != nil {
		return err
	}
	port := netlink.LinkAttrs{Name: "port", MTU: mtu, TxQLen: -1, MasterIndex: br.Attrs().Index}
	veth := &netlink.Veth{LinkAttrs: port, PeerName: "eth0", PeerMTU: uint32(mtu), PeerNamespace: netlink.NsFd(netns.NsHandle(f.Fd()))}
	if err := netlink.LinkAdd(veth); err != nil {
		return err
	}
	return errors.Join(netlink.LinkSetUp(veth), configure("br0", h.gateway().String()+"/24"), os.WriteFile("/proc/sys/net/ipv4/ip_forward", []byte("1"), 0))
}

// inhabit gives the namespace its address and its way out. The caller is in it.
func (h *plainHost) inhabit() error {
	if err := configure("eth0", h.inside().String()+"/24"); err != nil {
		return err
	}
	return netlink.RouteAdd(&netlink.Route{Gw: h.gateway().AsSlice()})
}

// route leads to another host's subnet by its address at the hub, as host-gw does. The
// caller is in the host.
func (h *plainHost) route(o *plainHost) error {
	return netlink.RouteAdd(&netlink.Route{Dst: ipNet(o.subnet()), Gw: net.ParseIP(o.outside())})
}

// wrap leads there by a vxlan device, as flanneld makes it. The caller is in the host.
func (h *plainHost) wrap(o *plainHost) error {
	mac := func(n byte) net.HardwareAddr { return net.HardwareAddr{2, 9, 9, 9, 9, n} }
	up, err := netlink.LinkByName("eth0")
	if err != nil {
		return err
	}
	attrs := netlink.LinkAttrs{Name: "vxlan", MTU: wrappedMTU, TxQLen: -1, HardwareAddr: mac(h.n)}
	dev := &netlink.Vxlan{LinkAttrs: attrs, VxlanId: 1, VtepDevIndex: up.Attrs().Index, SrcAddr: net.ParseIP(h.outside()), Port: 8472}
	if err := errors.Join(netlink.LinkAdd(dev), configure("vxlan", h.subnet().Addr().String()+"/32")); err != nil {
		return err
	}
	via, index := net.IP(o.subnet().Addr().AsSlice()), dev.Attrs().Index
	return errors.Join(
		netlink.NeighSet(&netlink.Neigh{LinkIndex: index, State: netlink.NUD_PERMANENT, IP: via, HardwareAddr: mac(o.n)}),
		netlink.NeighSet(&netlink.Neigh{LinkIndex: index, Family: unix.AF_BRIDGE, Flags: netlink.NTF_SELF, State: netlink.NUD_PERMANENT, IP: net.ParseIP(o.outside()), HardwareAddr: mac(o.n)}),
		netlink.RouteAdd(&netlink.Route{LinkIndex: index, Dst: ipNet(o.subnet()), Gw: via, Flags: int(netlink.FLAG_ONLINK)}))
}

// wrappedMTU is that of what goes by vxlan.
const wrappedMTU = bareMTU - 50

// plainPaths are between two plain hosts by each of these: the most that there is to be had
// of the kernel's devices. The hosts are to be closed, also when there is an error.
func plainPaths(x *hub) (p paths, hosts []*plainHost, err error) {
	p = paths{}
	for i, way := range []struct {
		name string
		mtu  int
		lead func(h, o *plainHost) error
	}{{plainRoute, bareMTU, (*plainHost).route}, {plainVXLAN, wrappedMTU, (*plainHost).wrap}} {
		var pair []*plainHost
		for j := range 2 {
			h, err := newPlain(x, byte(2*i+j+1), way.mtu)
			if err != nil {
				return nil, hosts, err
			}
			hosts, pair = append(hosts, h), append(pair, h)
		}
		for j, h := range pair {
			if err := h.do(func() error { return way.lead(h, pair[1-j]) }); err != nil {
				return nil, hosts, fmt.Errorf("%s: %w", way.name, err)
			}
		}
		p[way.name] = path{pair[0].spot, pair[1].spot, pair[1].inside()}
		if err := p[way.name].open(); err != nil {
			return nil, hosts, fmt.Errorf("%s: %w", way.name, err)
		}
	}
	return p, hosts, nil
}

// The names of paths between plain hosts.
const (
	plainRoute = "bare routes"
	plainVXLAN = "bare vxlan"
)
