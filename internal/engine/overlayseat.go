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
	uplink := cmp.Or(e.cfg.Cluster.Uplink, view.uplink(false), view.uplink(true))
	if uplink == "" {
		return nil, errors.New("no default route: which device leads to the other hosts? sealane daemon --uplink IFACE says so")
	}
	s := &seat{uplink: uplink, mtu: view.linkMTU(uplink), told: e.nodeAddrs(view)}
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
// elsewhere than when that was last looked at. The caller holds work.
func (e *Engine) followSeat(view *hostView) {
	dir := e.directory()
	if dir == nil {
		return
	}
	was := e.overlays.seat
	now, _ := e.seatOf(view) // settling says why there is none
	if e.overlays.seat = now; !reflect.DeepEqual(was, now) {
		dir.Refresh()
		e.recallOverlays()
	}
}
