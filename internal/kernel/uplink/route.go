package uplink

import (
	"cmp"
	"encoding/binary"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"
)

// A route is struct rtmsg and attributes:
//
//	 0       1          2         3     4       5          6       7      8       12
//	┌───────┬──────────┬─────────┬─────┬───────┬──────────┬───────┬──────┬───────┐
//	│family │ dst bits │ src bits│ tos │ table │ protocol │ scope │ type │ flags │ RTA_…
//	└───────┴──────────┴─────────┴─────┴───────┴──────────┴───────┴──────┴───────┘

// routes returns the routes by a device of all tables, but those that every device
// has, and those to the addresses themselves.
func (c conn) routes(index int) ([]item, error) {
	var out []item
	for _, family := range []byte{unix.AF_INET, unix.AF_INET6} {
		header := make([]byte, unix.SizeofRtMsg)
		header[0] = family
		bodies, err := c.list(unix.RTM_GETROUTE, header)
		if err != nil {
			return nil, err
		}
		for _, b := range bodies {
			if len(b) >= unix.SizeofRtMsg && item(b).by(index) && !item(b).kernels() {
				out = append(out, b)
			}
		}
	}
	slices.SortStableFunc(out, func(a, b item) int { return cmp.Compare(a.steps(), b.steps()) })
	return out, nil
}

// ownRoutes returns the IPv6 addresses that packets come to by a device and go no
// further: the kernel has a route to each.
func (c conn) ownRoutes(index int) ([]netip.Addr, error) {
	header := make([]byte, unix.SizeofRtMsg)
	header[0] = unix.AF_INET6
	bodies, err := c.list(unix.RTM_GETROUTE, header)
	if err != nil {
		return nil, err
	}
	var out []netip.Addr
	for _, b := range bodies {
		if len(b) >= unix.SizeofRtMsg && b[7] == unix.RTN_LOCAL && item(b).by(index) {
			out = append(out, item(b).dst().Addr())
		}
	}
	return out, nil
}

func (r item) attrs() []attr { return split(r[unix.SizeofRtMsg:]) }

// by reports whether a route, or one of its next hops, leads through a device. One
// that names next hops by number moves with them.
func (r item) by(index int) bool {
	attrs := r.attrs()
	if find(attrs, rtaNHID) != nil || binary.NativeEndian.Uint32(r[8:])&unix.RTM_F_CLONED != 0 {
		return false
	}
	if int(number(find(attrs, unix.RTA_OIF))) == index {
		return true
	}
	return slices.ContainsFunc(hops(find(attrs, unix.RTA_MULTIPATH)), func(h hop) bool { return h.index == index })
}

// kernels reports whether the kernel makes the route itself wherever the address is
// that it is for. Those to the subnets of addresses are not among them: they decide
// which of two devices that have an address is used, and have to move in time.
func (r item) kernels() bool {
	dst := r.dst().Addr()
	return r.automatic() && (r[7] != unix.RTN_UNICAST || dst.Is6() && dst.IsLinkLocalUnicast() || dst.IsMulticast())
}

// automatic reports whether a route comes and goes with addresses.
func (r item) automatic() bool { return r[5] == unix.RTPROT_KERNEL }

func (r item) dst() netip.Prefix {
	a := address(find(r.attrs(), unix.RTA_DST))
	switch {
	case a.IsValid():
	case r[0] == unix.AF_INET6:
		a = netip.IPv6Unspecified()
	default:
		a = netip.IPv4Unspecified()
	}
	return netip.PrefixFrom(a, int(r[1]))
}

// via returns the routers that a route leads to through a device.
func (r item) via(index int) []netip.Addr {
	attrs := r.attrs()
	if gw := address(find(attrs, unix.RTA_GATEWAY)); gw.IsValid() {
		return []netip.Addr{gw}
	}
	var out []netip.Addr
	for _, h := range hops(find(attrs, unix.RTA_MULTIPATH)) {
		if gw := address(find(h.attrs, unix.RTA_GATEWAY)); gw.IsValid() && h.index == index {
			out = append(out, gw)
		}
	}
	return out
}

// steps orders routes so that a router is reached before what is behind it.
func (r item) steps() int {
	if find(r.attrs(), unix.RTA_GATEWAY) != nil || find(r.attrs(), unix.RTA_MULTIPATH) != nil || find(r.attrs(), unix.RTA_VIA) != nil {
		return 1
	}
	return 0
}

// rtaNHID is RTA_NH_ID of include/uapi/linux/rtnetlink.h: the number of a next hop.
const rtaNHID = 30

// keptFlags are the flags of a route that are wishes, not news.
const keptFlags = unix.RTNH_F_ONLINK

// told are the attributes that only the kernel says.
var told = []uint16{unix.RTA_CACHEINFO, unix.RTA_IIF, unix.RTA_UID}

// forms are the messages that a route takes: an IPv6 route with several next hops
// is several that are alike but for that, and each is made and removed by itself.
func (r item) forms(from int) []item {
	attrs := r.attrs()
	multi := find(attrs, unix.RTA_MULTIPATH)
	if r[0] != unix.AF_INET6 || multi == nil {
		return []item{r}
	}
	var out []item
	for _, h := range hops(multi) {
		if h.index != from {
			continue
		}
		one := slices.Clone(attrs)
		i := slices.IndexFunc(one, func(a attr) bool { return a.typ&typeMask == unix.RTA_MULTIPATH })
		one[i] = attr{unix.RTA_MULTIPATH, h.bytes()}
		out = append(out, join(r[:unix.SizeofRtMsg], one))
	}
	return out
}

// moved is the route by another device, to be made (with the time it has left) or
// to be removed.
func (r item) moved(from, to int, make bool) item {
	header := slices.Clone(r[:unix.SizeofRtMsg])
	binary.NativeEndian.PutUint32(header[8:], binary.NativeEndian.Uint32(header[8:])&keptFlags)
	var attrs []attr
	for _, a := range r.attrs() {
		switch t := a.typ & typeMask; {
		case slices.Contains(told, t), t == unix.RTA_EXPIRES, !make && t == unix.RTA_PREF:
			continue
		case t == unix.RTA_OIF && int(number(a.data)) == from:
			a.data = binary.NativeEndian.AppendUint32(nil, uint32(to))
		case t == unix.RTA_MULTIPATH:
			a.data = redirect(a.data, from, to)
		}
		attrs = append(attrs, a)
	}
	if left := r.left(); make && left > 0 {
		attrs = append(attrs, uint32Attr(unix.RTA_EXPIRES, left))
	}
	return join(header, attrs)
}

// replaced is the route, as it was told, by another device.
func (r item) replaced(from, to int) item {
	attrs := r.attrs()
	for i, a := range attrs {
		switch t := a.typ & typeMask; {
		case t == unix.RTA_OIF && int(number(a.data)) == from:
			attrs[i].data = binary.NativeEndian.AppendUint32(nil, uint32(to))
		case t == unix.RTA_MULTIPATH:
			attrs[i].data = redirect(a.data, from, to)
		}
	}
	return join(r[:unix.SizeofRtMsg], attrs)
}

// userHZ is what the kernel counts time in towards programs (USER_HZ in
// include/asm-generic/param.h).
const userHZ = 100

// left returns the seconds that a route has left, 0 for ever: rta_expires of struct
// rta_cacheinfo. Only IPv6 routes expire.
func (r item) left() uint32 {
	ci := find(r.attrs(), unix.RTA_CACHEINFO)
	if r[0] != unix.AF_INET6 || len(ci) < 12 {
		return 0
	}
	expires := int32(binary.NativeEndian.Uint32(ci[8:]))
	if expires <= 0 {
		return 0
	}
	return max(1, uint32(expires)/userHZ)
}

// hop is struct rtnexthop and attributes: one way of several.
//
//	 0        2       3      4       8
//	┌────────┬───────┬──────┬───────┐
//	│ length │ flags │ hops │ index │ RTA_…
//	└────────┴───────┴──────┴───────┘
type hop struct {
	flags, weight byte
	index         int
	attrs         []attr
}

func hops(b []byte) []hop {
	var out []hop
	for len(b) >= unix.SizeofRtNexthop {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtNexthop || n > len(b) {
			break
		}
		out = append(out, hop{b[2], b[3], int(binary.NativeEndian.Uint32(b[4:])), split(b[unix.SizeofRtNexthop:n])})
		b = b[min(align(n), len(b)):]
	}
	return out
}

func (h hop) bytes() []byte {
	b := []byte{0, 0, h.flags & keptFlags, h.weight}
	b = binary.NativeEndian.AppendUint32(b, uint32(h.index))
	b = join(b, h.attrs)
	binary.NativeEndian.PutUint16(b, uint16(len(b)))
	return b
}

// redirect has the next hops by one device lead through another.
func redirect(b []byte, from, to int) []byte {
	var out []byte
	for _, h := range hops(b) {
		if h.index == from {
			h.index = to
		}
		out = append(out, h.bytes()...)
	}
	return out
}

// Next hops that routes name by number are struct nhmsg and attributes
// (include/uapi/linux/nexthop.h).
const (
	sizeofNhMsg = 8
	nhaID       = 1
	nhaOIF      = 5
)

func (c conn) nextHops(index int) ([]item, error) {
	bodies, err := c.list(unix.RTM_GETNEXTHOP, make([]byte, sizeofNhMsg))
	if err != nil {
		return nil, err
	}
	var out []item
	for _, b := range bodies {
		if len(b) >= sizeofNhMsg && int(number(find(split(b[sizeofNhMsg:]), nhaOIF))) == index {
			out = append(out, b)
		}
	}
	return out, nil
}

// nextHopBy is the next hop by another device, to be made, or compared: without its state.
func (h item) nextHopBy(index int) item {
	header := slices.Clone(h[:sizeofNhMsg])
	binary.NativeEndian.PutUint32(header[4:], binary.NativeEndian.Uint32(header[4:])&keptFlags)
	header[1] = 0 // the scope is the kernel's to say
	attrs := split(h[sizeofNhMsg:])
	for i, a := range attrs {
		if a.typ&typeMask == nhaOIF {
			attrs[i] = uint32Attr(nhaOIF, uint32(index))
		}
	}
	return join(header, attrs)
}

// nextHopID says which next hop is to be removed.
func (h item) nextHopID() item {
	return join(make([]byte, sizeofNhMsg), []attr{uint32Attr(nhaID, number(find(split(h[sizeofNhMsg:]), nhaID)))})
}
