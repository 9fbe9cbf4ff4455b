package rtnl

import (
	"context"
	"errors"
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// planRoute queues an op on a route. A change replaces the route.
func (p *pass) planRoute(op int, change kstate.Op) error {
	r := change.Object().(kstate.Route)
	if r.Dst != r.Dst.Masked() || !r.Dst.IsValid() {
		return fmt.Errorf("%s has host bits", r.Dst)
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
		s.addForgiving(op, routeMessage(newMessage(unix.RTM_DELROUTE, 0), r, d.index), kernel.ErrMissing)
	case change.Old == nil:
		s.add(op, routeMessage(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_EXCL), r, d.index))
	default:
		s.add(op, routeMessage(newMessage(unix.RTM_NEWROUTE, unix.NLM_F_CREATE|unix.NLM_F_REPLACE), r, d.index))
	}
	return nil
}

func (p *pass) routeDevice(r kstate.Route) (*space, device, error) {
	s, err := p.space(r.NS)
	if err != nil {
		return nil, device{}, err
	}
	d, err := s.device(r.Dev)
	return s, d, err
}

// routeMessage appends a route of ours in the main table.
func routeMessage(m *message, r kstate.Route, index int) *message {
	var scope uint8 = unix.RT_SCOPE_UNIVERSE
	if !r.Via.IsValid() && r.Dst.Addr().Is4() {
		scope = unix.RT_SCOPE_LINK
	}
	m.route(family(r.Dst.Addr()), uint8(r.Dst.Bits()), protocol, scope, unix.RTN_UNICAST)
	if r.Dst.Bits() > 0 {
		m.attr(unix.RTA_DST, r.Dst.Addr().AsSlice())
	}
	if r.Via.IsValid() {
		m.attr(unix.RTA_GATEWAY, r.Via.AsSlice())
	}
	return m.u32(unix.RTA_OIF, uint32(index))
}

// settleRoute takes a route that is there exactly as wanted for done.
func (p *pass) settleRoute(r kstate.Route, failed error) error {
	s, d, err := p.routeDevice(r)
	if err != nil {
		return failed
	}
	all, err := s.sock.routes(context.Background())
	if err != nil {
		return errors.Join(failed, err)
	}
	for _, have := range all {
		if have.dst == r.Dst && have.via == r.Via && have.index == d.index {
			return nil
		}
	}
	return fmt.Errorf("another route to %s: %w", r.Dst, failed)
}

// route is a unicast route of the main table as the kernel reports it.
type route struct {
	dst      netip.Prefix
	via      netip.Addr
	index    int
	protocol uint8
	metric   uint32
}

func (s *socket) routes(ctx context.Context) ([]route, error) {
	request := func() *message { return newMessage(unix.RTM_GETROUTE, 0).route(unix.AF_UNSPEC, 0, 0, 0, 0) }
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
	r := route{protocol: b[5]}
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
		case unix.RTA_OIF:
			r.index = int(u32(v))
		case unix.RTA_PRIORITY:
			r.metric = u32(v)
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
	cloned := native.Uint32(b[8:])&unix.RTM_F_CLONED != 0
	return r, r.dst.IsValid() && table == unix.RT_TABLE_MAIN && b[7] == unix.RTN_UNICAST && !cloned
}
