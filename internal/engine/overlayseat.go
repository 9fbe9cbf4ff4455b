package engine

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"reflect"
	"slices"
)

// seat is where this host is among the others, for tunnels that it makes itself.
type seat struct {
	uplink string
	local  netip.Addr
	mtu    int          // of the uplink, bytes
	told   []netip.Addr // where the others are told that it is
	ways   []way        // that lead somewhere by the uplink, the best first
}

// way is a route by the uplink: to routers, or on its link.
type way struct {
	to     netip.Prefix
	via    netip.Addr // zero: on the link
	metric uint32
}

// waysBy lists those of a device. What an address of its says is on the link comes before all
// others to there.
func (v *hostView) waysBy(dev string) []way {
	var all []way
	for _, a := range v.addrs {
		if a.Dev == dev {
			all = append(all, way{to: a.Prefix.Masked()})
		}
	}
	for _, r := range v.routes {
		if r.Dev == dev {
			all = append(all, way{r.Dst, r.Via, r.Metric})
		}
	}
	slices.SortFunc(all, func(a, b way) int {
		return cmp.Or(b.to.Bits()-a.to.Bits(), a.to.Addr().Compare(b.to.Addr()), cmp.Compare(a.metric, b.metric), a.via.Compare(b.via))
	})
	return slices.Compact(all)
}

// by returns the router by which an address is reached, none if it is on the link, or false.
func (s *seat) by(a netip.Addr) (via netip.Addr, ok bool) {
	for _, w := range s.ways {
		if w.to.Contains(a) {
			return w.via, true
		}
	}
	return via, false
}

// from returns where another host finds this one that is found at an address of some family.
func (s *seat) from(to netip.Addr) netip.Addr {
	for _, a := range append([]netip.Addr{s.local}, s.told...) {
		if a.Is6() == to.Is6() {
			return a
		}
	}
	return netip.Addr{}
}

// ownSeat returns where this host was when that was last looked at, which each pass does,
// or looks: what the others say is settled without looking at the host.
func (d *draft) ownSeat(ctx context.Context) (*seat, error) {
	if s := d.e.overlays.seat; s != nil {
		return s, nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return nil, err
	}
	s, err := d.e.seatOf(view)
	if err == nil {
		d.e.overlays.seat = s
	}
	return s, err
}

// seatOf says where this host is.
func (e *Engine) seatOf(view *hostView) (*seat, error) {
	uplink := cmp.Or(e.uplink(view), view.uplink(false), view.uplink(true))
	if uplink == "" {
		return nil, errors.New("no default route: which device leads to the other hosts? sealane daemon --uplink IFACE says so")
	}
	s := &seat{uplink: uplink, mtu: view.linkMTU(uplink), told: e.nodeAddrs(view), ways: view.waysBy(uplink)}
	if s.mtu == 0 {
		return nil, fmt.Errorf("uplink %s: no such device", uplink)
	}
	for _, is6 := range []bool{false, true} {
		if i := slices.IndexFunc(e.cfg.Cluster.Addrs, func(a netip.Addr) bool { return a.Is6() == is6 }); i >= 0 {
			s.local = e.cfg.Cluster.Addrs[i]
			return s, nil
		}
		if p, ok := view.address(uplink, is6); ok && len(e.cfg.Cluster.Addrs) == 0 {
			s.local = p.Addr()
			return s, nil
		}
	}
	return nil, fmt.Errorf("uplink %s: has no address", uplink)
}

// followSeat has the others told, and this host's networks settled, when it is found
// elsewhere than when that was last looked at, or goes elsewhere. The caller holds work.
func (e *Engine) followSeat(view *hostView) {
	dir := e.directory()
	if dir == nil {
		return
	}
	was := e.overlays.seat
	now, _ := e.seatOf(view) // settling says why there is none
	if reflect.DeepEqual(was, now) {
		return
	}
	if e.overlays.seat = now; !was.same(now) {
		dir.Refresh()
		e.recallOverlays()
	}
	e.reviewPaths() // routers are others now
}

// same reports whether a host is at the same place, whatever leads to others.
func (s *seat) same(other *seat) bool {
	if s == nil || other == nil {
		return s == other
	}
	return s.uplink == other.uplink && s.local == other.local && s.mtu == other.mtu && slices.Equal(s.told, other.told)
}
