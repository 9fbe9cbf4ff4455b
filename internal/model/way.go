package model

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
)

// The names of endpoint options about ways out, and of devices.
const (
	endpointGateway = "gateway"
	endpointRoute   = "route"
	endpointMTU     = "mtu"
	endpointHostIf  = "hostif"
)

// setWay sets one of them.
func (o *EndpointOptions) setWay(name, value string) (err error) {
	switch name {
	case endpointGateway:
		o.Routers, err = parseRouters(value)
	case endpointRoute:
		o.Routes, err = parseRoutes(value)
	case endpointMTU:
		o.MTU, err = number(value, 68, 65535, " bytes")
	case endpointHostIf:
		o.Alias, err = value, CheckIfName(value)
	}
	return err
}

// Ways returns the endpoint's routes, after those to their routers that no
// address of the endpoint leads to: such a router is on the link. The way to its
// own way out, see [Endpoint.Router], is not among them.
func (e *Endpoint) Ways() []Route {
	var out []Route
	for _, r := range e.Routes {
		on := Route{Dst: netip.PrefixFrom(r.Via, r.Via.BitLen())}
		if r.Via.IsValid() && !e.Reaches(r.Via) && !slices.Contains(out, on) && !slices.Contains(e.Routes, on) {
			out = append(out, on)
		}
	}
	return append(out, e.Routes...)
}

// Detours returns the routes by which an endpoint sends to the host what is for others of
// its subnet of IPv6, where containers are kept apart (icc=false): so links lead there, and
// the host refuses what is for services, which nobody on the link answers for. By IPv4 it
// answers ARP for all (proxy_arp_pvlan); of IPv6 that would be for single addresses.
// They go before the subnet's own route by being halves of it, and do not hide the router
// that they go by.
func (n *Network) Detours(e *Endpoint) []Route {
	var out []Route
	if !n.Options.NoICC || !n.OnBridge(true) || n.Wired() || n.ByOthers() {
		return nil
	}
	for _, a := range e.Addrs {
		sub, has := n.SubnetWith(a.Addr())
		if !has || !a.Addr().Is6() || !sub.Prefix.Contains(a.Addr()) || sub.Prefix.Bits() > 126 {
			continue
		}
		low := netip.PrefixFrom(sub.Prefix.Addr(), sub.Prefix.Bits()+1)
		first := sub.Prefix.Addr().As16()
		first[sub.Prefix.Bits()/8] |= 0x80 >> (sub.Prefix.Bits() % 8)
		high := netip.PrefixFrom(netip.AddrFrom16(first), low.Bits())
		out = append(out, Route{Dst: netip.PrefixFrom(sub.Gateway, 128)}, Route{Dst: low, Via: sub.Gateway}, Route{Dst: high, Via: sub.Gateway})
	}
	return slices.DeleteFunc(out, func(d Route) bool {
		return slices.ContainsFunc(e.Ways(), func(r Route) bool { return r.Dst == d.Dst })
	})
}

// parseRouters reads the routers of an endpoint, at most one of each family.
func parseRouters(text string) ([]netip.Addr, error) {
	var out []netip.Addr
	for one := range strings.SplitSeq(text, ",") {
		a, err := parseNeighbour(one)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o netip.Addr) bool { return o.Is6() == a.Is6() }) {
			return nil, fmt.Errorf("%s: is the second of its family", a)
		}
		out = append(out, a)
	}
	return out, nil
}

// parseNeighbour reads the address of a machine that packets can be sent to.
func parseNeighbour(text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" || a.Is4In6() || a.IsUnspecified() || a.IsLoopback() || a.IsMulticast() || a == broadcast {
		return netip.Addr{}, fmt.Errorf("%q: want the address of a router", text)
	}
	return a, nil
}

// parseRoutes reads DESTINATION=ROUTER,…; without a router the destination is on
// the link.
func parseRoutes(text string) ([]Route, error) {
	var out []Route
	for one := range strings.SplitSeq(text, ",") {
		r, err := parseRoute(one)
		if err != nil {
			return nil, err
		}
		if slices.ContainsFunc(out, func(o Route) bool { return o.Dst == r.Dst }) {
			return nil, fmt.Errorf("%s: is there twice", r.Dst)
		}
		out = append(out, r)
	}
	return out, nil
}

func parseRoute(text string) (r Route, err error) {
	dst, via, routed := strings.Cut(text, "=")
	if r.Dst, err = ParsePrefix(dst); err != nil {
		return r, err
	}
	switch {
	case r.Dst != r.Dst.Masked():
		return r, fmt.Errorf("%s: host bits are set, should be %s", r.Dst, r.Dst.Masked())
	case r.Dst.Bits() == 0:
		return r, fmt.Errorf("%s: the way to everything else is option gateway", r.Dst)
	case r.Dst.IsSingleIP() && r.Dst.Addr().IsUnspecified(), r.Dst.Addr().IsLoopback(), r.Dst.Addr() == broadcast:
		return r, fmt.Errorf("%s: is nobody that a router leads to", r.Dst)
	}
	if !routed {
		return r, nil
	}
	if r.Via, err = parseNeighbour(via); err != nil {
		return r, err
	}
	if r.Via.Is6() != r.Dst.Addr().Is6() {
		return r, fmt.Errorf("%s by %s: are of two address families", r.Dst, r.Via)
	}
	return r, nil
}

// ParsePrefix reads ADDRESS/BITS. An address alone is one with all its bits.
func ParsePrefix(text string) (netip.Prefix, error) {
	bad := fmt.Errorf("%q: want ADDRESS/BITS, as 192.0.2.1/24", text)
	if a, err := netip.ParseAddr(text); err == nil && a.Zone() == "" && !a.Is4In6() {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil || p.Addr().Is4In6() {
		return netip.Prefix{}, bad
	}
	return p, nil
}

// CheckOutside reports why an interface cannot have an address that is of no
// subnet of ours, or nil.
func CheckOutside(p netip.Prefix) error {
	a := p.Addr()
	switch {
	case a.IsUnspecified(), a.IsLoopback(), a.IsMulticast(), a == broadcast, a.Is4() && a.As4()[0] == 0:
		return fmt.Errorf("address %s: not an address of a host", p)
	case a.Is6() && a.IsLinkLocalUnicast():
		return fmt.Errorf("address %s: link-local addresses are given with --link-local-ip", p)
	case p.Bits() == 0:
		return fmt.Errorf("address %s: all other addresses would be on the link", p)
	case Subnet{Prefix: p.Masked()}.Reserved(a):
		return fmt.Errorf("address %s: is the network or broadcast address of %s", p, p.Masked())
	}
	return nil
}
