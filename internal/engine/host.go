package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// hostView is what others have on this host: devices, addresses, routes. New
// networks stay clear of it.
type hostView struct {
	links  map[string]kstate.Link
	own    map[string]kstate.Link // ours
	lent   map[string]kstate.Link // NICs that are with sandboxes, by their names at home
	addrs  []kstate.Addr
	routes []kstate.Route
	detour []kstate.Route // of tables that are asked before the main one

	switches map[string]kstate.OVSBridge
}

// defaultMTU is Ethernet's.
const defaultMTU = 1500

// host observes the host's devices once per draft.
func (d *draft) host(ctx context.Context) (*hostView, error) {
	if d.view != nil {
		return d.view, nil
	}
	have, err := d.e.cfg.Kernel.Observe(ctx, kernel.Scope{Devices: true})
	if err != nil {
		return nil, err
	}
	d.e.leaveAlone(have)
	d.view = viewOf(have)
	return d.view, nil
}

// viewOf picks what others have in the host's namespace.
func viewOf(have kstate.Set) *hostView {
	v := &hostView{links: map[string]kstate.Link{}, own: map[string]kstate.Link{}, lent: map[string]kstate.Link{}, switches: map[string]kstate.OVSBridge{}}
	for _, o := range have {
		if !kstate.Foreign(o) {
			switch l, ok := o.(kstate.Link); {
			case ok && l.Type == kstate.TypeNIC:
				v.lent[l.Parent] = l
			case ok && l.NS.IsHost():
				v.own[l.Name] = l
			}
			continue
		}
		switch o := o.(type) {
		case kstate.OVSBridge:
			v.switches[o.Name] = o
		case kstate.Link:
			if o.NS.IsHost() {
				v.links[o.Name] = o
			}
		case kstate.Addr:
			if o.NS.IsHost() {
				v.addrs = append(v.addrs, o)
			}
		case kstate.Route:
			switch {
			case !o.NS.IsHost():
			case o.Table == 0:
				v.routes = append(v.routes, o)
			default:
				v.detour = append(v.detour, o)
			}
		}
	}
	return v
}

// mtu returns the MTU of the device with the IPv4 default route, else of the
// one with the IPv6 default route, else Ethernet's.
func (v *hostView) mtu() int {
	for _, is6 := range []bool{false, true} {
		if dev := v.uplink(is6); dev != "" {
			return v.linkMTU(dev)
		}
	}
	return defaultMTU
}

// linkMTU is that of a device, which may be a bridge of ours that has the host's NIC.
func (v *hostView) linkMTU(dev string) int {
	if l, ok := v.links[dev]; ok {
		return l.MTU
	}
	return v.own[dev].MTU
}

// uplink returns the device with the best default route of a family that is big
// enough for both families, or "".
func (v *hostView) uplink(is6 bool) string {
	var best kstate.Route
	for _, r := range v.routes {
		if r.Dst.Bits() != 0 || r.Dst.Addr().Is6() != is6 || v.linkMTU(r.Dev) < 1280 {
			continue
		}
		if best.Dev == "" || cmp.Or(cmp.Compare(r.Metric, best.Metric), cmp.Compare(r.Dev, best.Dev)) < 0 {
			best = r
		}
	}
	return best.Dev
}

// address returns a device's address in a family: the first of those that others know it
// by. One without a subnet may be a service's, which moves between hosts.
func (v *hostView) address(dev string, is6 bool) (best netip.Prefix, ok bool) {
	rank := 0
	for _, a := range v.addrs {
		if a.Dev != dev || a.Prefix.Addr().Is6() != is6 || a.Prefix.Addr().IsLinkLocalUnicast() {
			continue
		}
		this := 0
		if a.Prefix.IsSingleIP() {
			this = 1
		}
		if a.Second {
			this = 2
		}
		if !ok || cmp.Or(cmp.Compare(this, rank), a.Prefix.Addr().Compare(best.Addr())) < 0 {
			best, rank, ok = a.Prefix, this, true
		}
	}
	return best, ok
}

// hasAddr reports whether a device has an address.
func (v *hostView) hasAddr(dev string, addr netip.Addr) bool {
	return slices.ContainsFunc(v.addrs, func(a kstate.Addr) bool { return a.Dev == dev && a.Prefix.Addr() == addr })
}

// prefixes lists all on-link prefixes and route destinations of the host.
func (v *hostView) prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, a := range v.addrs {
		out = append(out, a.Prefix.Masked())
	}
	for _, r := range slices.Concat(v.routes, v.detour) {
		if r.Dst.Bits() > 0 {
			out = append(out, r.Dst)
		}
	}
	return out
}

// conflict says what of the host's a given subnet meets, or "". A network
// may lie inside a routed prefix, as inside a VPN's 10.0.0.0/8, but not inside
// or around one the host is connected to, nor meet one of a table that is asked
// before the main one, where the network's own route is. devs are the network's own devices.
func (v *hostView) conflict(p netip.Prefix, devs ...string) string {
	for _, a := range v.addrs {
		if !slices.Contains(devs, a.Dev) && a.Prefix.Masked().Overlaps(p) {
			return fmt.Sprintf("overlaps %s on the host's device %s", a.Prefix, a.Dev)
		}
	}
	for _, r := range v.routes {
		if !slices.Contains(devs, r.Dev) && r.Dst.Bits() > 0 && p.Bits() <= r.Dst.Bits() && p.Overlaps(r.Dst) {
			return fmt.Sprintf("overlaps the host's route to %s by device %s", r.Dst, r.Dev)
		}
	}
	for _, r := range v.detour {
		if !slices.Contains(devs, r.Dev) && r.Dst.Overlaps(p) {
			return fmt.Sprintf("overlaps the host's route to %s by device %s in table %d, which a rule has asked before the main one", r.Dst, r.Dev, r.Table)
		}
	}
	return ""
}

// hidden says which route of the host's a given subnet hides a part of, or "".
func (v *hostView) hidden(p netip.Prefix, devs ...string) string {
	for _, r := range v.routes {
		if !slices.Contains(devs, r.Dev) && r.Dst.Bits() > 0 && r.Dst.Bits() < p.Bits() && r.Dst.Overlaps(p) {
			return fmt.Sprintf("hides a part of the host's route to %s by device %s", r.Dst, r.Dev)
		}
	}
	return ""
}
