package rtnl

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// planRoute queues an op on a route. A change replaces the route.
func (p *pass) planRoute(op int, change kstate.Op) error {
	r := change.Object().(kstate.Route)
	if err := r.Check(); err != nil {
		return err
	}
	s, d, err := p.routeDevice(r)
	if change.New == nil && (errors.Is(err, kernel.ErrNoNamespace) || errors.Is(err, kernel.ErrMissing)) {
		return nil
	}
	if err != nil {
		return err
	}
	switch {
	case change.New == nil:
		r.MTU = 0 // the kernel would compare it with what it may be by now
		s.addForgiving(op, routeMessage(newMessage(unix.RTM_DELROUTE, 0), r, unix.RT_SCOPE_NOWHERE, d.index), kernel.ErrMissing)
	case change.Old == nil:
		s.add(op, routeMessage(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL), r, scope(r, p.crowded), d.index))
	default:
		s.add(op, routeMessage(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE), r, scope(r, p.crowded), d.index))
	}
	return nil
}

func (p *pass) routeDevice(r kstate.Route) (*space, device, error) {
	s, err := p.space(r.NS)
	if err != nil || r.Blackhole {
		return s, device{}, err
	}
	d, err := s.device(r.Dev)
	return s, d, err
}

// interior is how many scopes there are for routes within one's own networks: all
// between that of the whole world and RT_SCOPE_SITE (include/uapi/linux/rtnetlink.h).
const interior = unix.RT_SCOPE_SITE - 1

// throng is from how many routes on, that come in one pass, they get interior scopes: it
// takes the kernel long to add so many of one scope. Before it adds a route of IPv4, it looks for
// one by the same device with the same scope (fib_info_hash_bucket in net/ipv4/fib_semantics.c leaves the
// gateway out), and compares it with each: 5,000 of one scope take a third of a second longer
// than of many. Metrics would do that too, but then a route of somebody else's without
// one would win in silence.
const throng = 512

// scope is how near a route of ours leads. Of those by other hosts any interior scope is
// as good as that of the whole world: who looks up a route asks for all of them, or for none.
func scope(r kstate.Route, crowded bool) uint8 {
	switch {
	case !r.Dst.Addr().Is4() || r.Blackhole:
		return unix.RT_SCOPE_UNIVERSE
	case !r.Via.IsValid():
		return unix.RT_SCOPE_LINK
	case r.Dst.Bits() == 0 || !r.NS.IsHost() || !crowded:
		return unix.RT_SCOPE_UNIVERSE
	}
	nth := binary.BigEndian.Uint32(r.Dst.Addr().AsSlice()) >> (32 - r.Dst.Bits())
	return uint8(1 + nth%interior)
}

// crowded reports whether so many routes come by some ops.
func crowded(ops []kstate.Op) bool {
	n := 0
	for _, op := range ops {
		if _, is := op.New.(kstate.Route); is && op.Old == nil {
			n++
		}
	}
	return n >= throng
}

// routeMessage appends a route of ours. That it is of scope RT_SCOPE_NOWHERE asks for
// one of any scope.
func routeMessage(m *message, r kstate.Route, scope uint8, index int) *message {
	var typ uint8 = unix.RTN_UNICAST
	if r.Blackhole {
		typ = unix.RTN_BLACKHOLE
	}
	m.route(family(r.Dst.Addr()), uint8(r.Dst.Bits()), protocol, scope, typ)
	if r.Onlink {
		native.PutUint32(m.buf[len(m.buf)-4:], unix.RTNH_F_ONLINK) // rtm_flags
	}
	if r.Table != 0 {
		m.table(unix.RT_TABLE_UNSPEC).u32(unix.RTA_TABLE, uint32(r.Table))
	}
	if r.Dst.Bits() > 0 {
		m.attr(unix.RTA_DST, r.Dst.Addr().AsSlice())
	}
	if r.Via.IsValid() {
		m.attr(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	if r.First {
		m.u32(unix.RTA_PRIORITY, firstMetric)
	}
	if r.Src.IsValid() {
		m.attr(unix.RTA_PREFSRC, r.Src.AsSlice())
	}
	if r.MTU != 0 {
		m.nest(unix.RTA_METRICS, func() {
			m.u32(unix.RTAX_MTU, uint32(r.MTU))
			if r.Dst.Addr().Is6() { // without the lock it is for packets of the host's own alone (ip6_dst_mtu_maybe_forward in include/net/ip6_route.h)
				m.u32(unix.RTAX_LOCK, 1<<unix.RTAX_MTU)
			}
		})
	}
	if r.Blackhole {
		return m
	}
	return m.u32(unix.RTA_OIF, uint32(index))
}

// firstMetric is the lowest metric that an IPv6 route can have.
const firstMetric = 1

// settleRoute takes a route that is there exactly as wanted for done, and says which
// other one is in its place.
func (p *pass) settleRoute(r kstate.Route, failed error) error {
	s, d, err := p.routeDevice(r)
	if err != nil {
		return failed
	}
	list := s.sock.routes
	if r.Table != 0 {
		list = s.sock.tables
	}
	all, err := list(context.Background())
	if err != nil {
		return errors.Join(failed, err)
	}
	way := " of no device" // unreachable, prohibit and throw ones are not listed
	for _, have := range all {
		if have.dst != r.Dst || have.table != r.Table || have.metric != metric(r) {
			continue
		}
		if have.via == r.Via && have.src == r.Src && have.index == d.index && have.onlink == r.Onlink && have.blackhole == r.Blackhole && have.mtu == r.MTU {
			return nil
		}
		if !have.blackhole {
			if way = ""; have.via.IsValid() {
				way = " via " + have.via.String()
			}
			way += " dev " + s.nameOf(have.index)
		}
	}
	return fmt.Errorf("another route to %s is %w,%s", r.Dst, kernel.ErrInUse, way)
}

// metric is what the kernel gives a route of ours: what is no other's in the same table
// to the same destination. See IP6_RT_PRIO_USER in include/uapi/linux/ipv6_route.h.
func metric(r kstate.Route) uint32 {
	switch {
	case r.First:
		return firstMetric
	case r.Dst.Addr().Is6():
		return 1024
	}
	return 0
}

// route is a unicast route, or a blackhole, as the kernel reports it.
type route struct {
	dst      netip.Prefix
	table    int // 0 is the main one
	via      netip.Addr
	src      netip.Addr // what the host's own packets leave with
	index    int
	protocol uint8
	metric   uint32
	mtu      int
	onlink   bool
	// blackhole has no device, although the kernel says lo of IPv6.
	blackhole bool
	raw       string // of a default route of IPv4 that ours gives way to, or the other way round: the message's body
}

// routes lists those of the main table.
func (s *socket) routes(ctx context.Context) ([]route, error) {
	all, err := s.listRoutes(ctx, unix.RT_TABLE_MAIN, unix.RTPROT_UNSPEC)
	return slices.DeleteFunc(all, func(r route) bool { return r.table != 0 }), err
}

// tables lists ours in all others.
func (s *socket) tables(ctx context.Context) ([]route, error) {
	all, err := s.listRoutes(ctx, unix.RT_TABLE_UNSPEC, protocol)
	return slices.DeleteFunc(all, func(r route) bool { return r.table == 0 || r.protocol != protocol }), err
}

// listRoutes lists those of a table and a protocol, each of which may be any. Kernels
// before 4.20 give all.
func (s *socket) listRoutes(ctx context.Context, table, proto uint8) ([]route, error) {
	request := func() *message {
		return newMessage(unix.RTM_GETROUTE, 0).route(unix.AF_UNSPEC, 0, proto, 0, 0).table(table)
	}
	all, err := dump(ctx, s, request, parseRoute)
	if err != nil {
		return nil, fmt.Errorf("list routes: %w", err)
	}
	return all, nil
}

// parseRoute reads the body of an RTM_NEWROUTE. Of a route with several next
// hops it takes the first.
func parseRoute(b []byte) (route, bool) {
	if len(b) < unix.SizeofRtMsg || b[0] != unix.AF_INET && b[0] != unix.AF_INET6 {
		return route{}, false
	}
	flags := native.Uint32(b[8:])
	r := route{protocol: b[5], onlink: flags&unix.RTNH_F_ONLINK != 0, blackhole: b[7] == unix.RTN_BLACKHOLE}
	table := uint32(b[4])
	addr := netip.IPv4Unspecified()
	if b[0] == unix.AF_INET6 {
		addr = netip.IPv6Unspecified()
	}
	var read func(typ uint16, v []byte)
	read = func(typ uint16, v []byte) {
		switch typ {
		case unix.RTA_DST:
			addr, _ = netip.AddrFromSlice(v)
		case unix.RTA_GATEWAY:
			r.via, _ = netip.AddrFromSlice(v)
		case unix.RTA_PREFSRC:
			r.src, _ = netip.AddrFromSlice(v)
		case unix.RTA_OIF:
			r.index = int(u32(v))
		case unix.RTA_PRIORITY:
			r.metric = u32(v)
		case unix.RTA_METRICS:
			attrs(v, func(typ uint16, v []byte) {
				if typ == unix.RTAX_MTU {
					r.mtu = int(u32(v))
				}
			})
		case unix.RTA_TABLE:
			table = u32(v)
		case unix.RTA_MULTIPATH:
			if n := len(v); n >= unix.SizeofRtNexthop && int(native.Uint16(v)) <= n {
				r.index = int(native.Uint32(v[4:]))
				attrs(v[unix.SizeofRtNexthop:max(native.Uint16(v), unix.SizeofRtNexthop)], read)
			}
		}
	}
	attrs(b[unix.SizeofRtMsg:], read)
	r.dst = netip.PrefixFrom(addr, int(b[1]))
	if table != unix.RT_TABLE_MAIN {
		r.table = int(table)
	}
	if r.first() || r.aside() || r.instead() {
		r.raw = string(b)
	}
	if r.blackhole {
		r.index = 0
	}
	return r, r.dst.IsValid() && (b[7] == unix.RTN_UNICAST || r.blackhole) && flags&unix.RTM_F_CLONED == 0
}
