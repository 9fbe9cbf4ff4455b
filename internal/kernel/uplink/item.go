package uplink

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// item is an address, a route, a neighbour or a next hop as the kernel told it:
// the family's header and the attributes.
type item []byte

// Items are what moves with a device.
type items struct {
	Addresses  []item `json:"addresses,omitempty"` // in the order in which they were given
	Routes     []item `json:"routes,omitempty"`    // those on the link first
	Neighbours []item `json:"neighbours,omitempty"`
	NextHops   []item `json:"nextHops,omitempty"`
}

// items reads what a device has that would be lost with it.
func (c conn) items(d device) (items, error) {
	var it items
	var err error
	if it.Addresses, err = c.addresses(d.index); err != nil {
		return it, fmt.Errorf("list addresses: %w", err)
	}
	if it.Routes, err = c.routes(d.index); err != nil {
		return it, fmt.Errorf("list routes: %w", err)
	}
	if it.Neighbours, err = c.neighbours(d.index); err != nil {
		return it, fmt.Errorf("list neighbours: %w", err)
	}
	if it.NextHops, err = c.nextHops(d.index); err != nil {
		return it, fmt.Errorf("list next hops: %w", err)
	}
	return it, nil
}

// An address is struct ifaddrmsg and attributes:
//
//	 0       1      2       3       4
//	┌───────┬──────┬───────┬───────┬───────┐
//	│family │ bits │ flags │ scope │ index │ IFA_…
//	└───────┴──────┴───────┴───────┴───────┘
func (c conn) addresses(index int) ([]item, error) {
	bodies, err := c.list(unix.RTM_GETADDR, make([]byte, unix.SizeofIfAddrmsg))
	if err != nil {
		return nil, err
	}
	var out []item
	for _, b := range bodies {
		if len(b) < unix.SizeofIfAddrmsg || int(binary.NativeEndian.Uint32(b[4:])) != index || expired(b) {
			continue
		}
		out = append(out, b)
	}
	slices.SortStableFunc(out, func(a, b item) int { return int(a[0]) - int(b[0]) })
	reverse6(out)
	return out, nil
}

// reverse6 puts IPv6 addresses, which the kernel lists newest first, in the order
// in which they were made; it prefers the newest as source (ipv6_link_dev_addr in
// net/ipv6/addrconf.c).
func reverse6(list []item) {
	i := slices.IndexFunc(list, func(a item) bool { return a[0] == unix.AF_INET6 })
	if i >= 0 {
		slices.Reverse(list[i:])
	}
}

// expired reports whether an address is about to go by itself.
func expired(b []byte) bool {
	ci := find(split(b[unix.SizeofIfAddrmsg:]), unix.IFA_CACHEINFO)
	return len(ci) >= 8 && binary.NativeEndian.Uint32(ci[4:]) == 0
}

// prefix is an address with its prefix length: of a pair, our end.
func (a item) prefix() netip.Prefix {
	attrs := split(a[unix.SizeofIfAddrmsg:])
	local := find(attrs, unix.IFA_LOCAL)
	if local == nil {
		local = find(attrs, unix.IFA_ADDRESS)
	}
	return netip.PrefixFrom(address(local), int(a[1]))
}

// linkLocal reports whether an address is every device's own: it is given to the
// bridge and stays where it was, too.
func (a item) linkLocal() bool {
	ip := a.prefix().Addr()
	return ip.Is6() && ip.IsLinkLocalUnicast()
}

// flagsOf returns all flags of an address, of which the header has room for eight.
func flagsOf(a item) uint32 {
	if f := find(split(a[unix.SizeofIfAddrmsg:]), unix.IFA_FLAGS); f != nil {
		return number(f)
	}
	return uint32(a[2])
}

// asked are the flags that can be asked for.
const asked = unix.IFA_F_NOPREFIXROUTE | unix.IFA_F_MANAGETEMPADDR | unix.IFA_F_MCAUTOJOIN | unix.IFA_F_HOMEADDRESS | unix.IFA_F_NODAD

// on is the address for another device. Its label begins with the device's name,
// as ip(8) wants it. It is not looked for on the wire first (IFA_F_NODAD): it is
// ours, and has been.
func (a item) on(d device, quick bool) item {
	b := slices.Clone(a[:unix.SizeofIfAddrmsg])
	b[2] = 0
	binary.NativeEndian.PutUint32(b[4:], uint32(d.index))
	flags := flagsOf(a) & asked
	if quick && a[0] == unix.AF_INET6 {
		flags |= unix.IFA_F_NODAD
	}
	attrs := []attr{uint32Attr(unix.IFA_FLAGS, flags)}
	for _, x := range split(a[unix.SizeofIfAddrmsg:]) {
		switch x.typ & typeMask {
		case unix.IFA_FLAGS, unix.IFA_TARGET_NETNSID:
			continue
		case unix.IFA_LABEL:
			x.data = relabel(x.data, d.name)
		}
		attrs = append(attrs, x)
	}
	return join(b, attrs)
}

// relabel is eth0:1 as br1:1. One that does not fit keeps its own.
func relabel(label []byte, dev string) []byte {
	_, tail, has := strings.Cut(text(label), ":")
	if has {
		dev += ":" + tail
	}
	if len(dev) >= unix.IFNAMSIZ {
		return label
	}
	return append([]byte(dev), 0)
}

// removal is what deletes the address from a device.
func (a item) removal(d device) item {
	b := slices.Clone(a[:unix.SizeofIfAddrmsg])
	binary.NativeEndian.PutUint32(b[4:], uint32(d.index))
	var attrs []attr
	for _, x := range split(a[unix.SizeofIfAddrmsg:]) {
		if t := x.typ & typeMask; t == unix.IFA_ADDRESS || t == unix.IFA_LOCAL {
			attrs = append(attrs, x)
		}
	}
	return join(b, attrs)
}

// A neighbour is struct ndmsg and attributes:
//
//	 0       1       4       8       10      11     12
//	┌───────┬───────┬───────┬───────┬───────┬──────┐
//	│family │       │ index │ state │ flags │ type │ NDA_…
//	└───────┴───────┴───────┴───────┴───────┴──────┘
const (
	sizeofNdMsg = 12
	ndaProtocol = 12 // NDA_PROTOCOL of include/uapi/linux/neighbour.h
)

// neighbours returns those that somebody put there, those known, which are known by
// the bridge then, and those answered for.
func (c conn) neighbours(index int) ([]item, error) {
	var out []item
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		for _, flags := range []byte{0, unix.NTF_PROXY} {
			header := make([]byte, sizeofNdMsg)
			header[0], header[10] = family, flags
			bodies, err := c.list(unix.RTM_GETNEIGH, header)
			if err != nil {
				return nil, err
			}
			for _, b := range bodies {
				if n, ok := neighbour(b, index, flags); ok {
					out = append(out, n)
				}
			}
		}
	}
	return out, nil
}

func neighbour(b []byte, index int, flags byte) (item, bool) {
	if len(b) < sizeofNdMsg || int(binary.NativeEndian.Uint32(b[4:])) != index {
		return nil, false
	}
	attrs := split(b[sizeofNdMsg:])
	state := binary.NativeEndian.Uint16(b[8:])
	const useful = unix.NUD_PERMANENT | unix.NUD_REACHABLE | unix.NUD_STALE | unix.NUD_DELAY | unix.NUD_PROBE
	if flags == 0 && (state&useful == 0 || len(find(attrs, unix.NDA_LLADDR)) != 6) {
		return nil, false
	}
	n := slices.Clone(b[:sizeofNdMsg])
	n[10] |= flags
	var keep []attr
	for _, a := range attrs {
		if t := a.typ & typeMask; t == unix.NDA_DST || t == unix.NDA_LLADDR || t == ndaProtocol {
			keep = append(keep, a)
		}
	}
	return join(n, keep), true
}

func (n item) neighbourAddr() netip.Addr { return address(find(split(n[sizeofNdMsg:]), unix.NDA_DST)) }

// permanent reports whether somebody put the neighbour there; others come and go.
func (n item) permanent() bool {
	return binary.NativeEndian.Uint16(n[8:])&unix.NUD_PERMANENT != 0 || n.proxy()
}

// proxy reports whether the host answers for the neighbour.
func (n item) proxy() bool { return n[10]&unix.NTF_PROXY != 0 }

// proxies are the neighbours that the host answers for, alone.
func (it items) proxies() items {
	return items{Neighbours: slices.DeleteFunc(slices.Clone(it.Neighbours), func(n item) bool { return !n.proxy() })}
}

// neighbourOn is the neighbour for another device, to be confirmed when it is used. One
// answered for is permanent, which the kernel does not list, but without which it goes
// when the device loses its carrier (pneigh_ifdown_and_unlock in net/core/neighbour.c).
func (n item) neighbourOn(d device) item {
	b := slices.Clone(n)
	binary.NativeEndian.PutUint32(b[4:], uint32(d.index))
	state := uint16(unix.NUD_STALE)
	if n.permanent() {
		state = unix.NUD_PERMANENT
	}
	binary.NativeEndian.PutUint16(b[8:], state)
	return b
}
