// Package compile turns intent into desired kernel state. It is pure: the same
// intent and facts give the same set, on any machine.
//
// The state is the union of fragments: one for the host, one per network, one
// per sandbox. That of an overlay network is the union of smaller ones: its frame,
// and one for each of its parts, see [Change]. No object is in two fragments, so the
// difference between a fragment before and after a change is the whole effect of
// the change. That is what makes the engine's short pass the same code as its long one.
package compile

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/driver/bridge"
	"github.com/sealane/sealane/internal/driver/ipvlan"
	"github.com/sealane/sealane/internal/driver/macvlan"
	"github.com/sealane/sealane/internal/driver/ovs"
	"github.com/sealane/sealane/internal/driver/phys"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Facts are what is known about the host.
type Facts = driver.Facts

// Intent is everything wanted on this host, by ID. Compile only reads it.
type Intent struct {
	Networks  map[model.ID]*model.Network
	Sandboxes map[model.ID]*model.Sandbox
}

// drivers are the drivers by name.
func drivers(name string) (driver.Driver, error) {
	switch name {
	case model.DriverBridge, model.DriverFabric, model.DriverOverlay:
		return bridge.Driver{}, nil // the way to other hosts is fabric.Ways, or overlay.Reach
	case model.DriverMacvlan:
		return macvlan.Driver{}, nil
	case model.DriverIPvlan:
		return ipvlan.Driver{}, nil
	case model.DriverOVS:
		return ovs.Driver{}, nil
	case model.DriverPhys:
		return phys.Driver{}, nil
	}
	return nil, fmt.Errorf("driver %q: not known", name)
}

// All returns the whole desired state.
func All(in Intent, f Facts) (kstate.Set, error) {
	all, err := Host(in, f)
	if err != nil {
		return nil, err
	}
	for _, n := range in.Networks {
		s, err := Network(n, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", n.Ref(), err)
		}
		if err := all.Merge(s); err != nil {
			return nil, err
		}
	}
	for _, sb := range in.Sandboxes {
		s, err := Sandbox(sb, in, f)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", sb.Ref(), err)
		}
		if err := all.Merge(s); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// Host returns the fragment that all networks share: the firewall's structure
// and forwarding. Without networks there is nothing.
func Host(in Intent, f Facts) (kstate.Set, error) {
	if !slices.ContainsFunc(slices.Collect(maps.Values(in.Networks)), func(n *model.Network) bool { return hasDevices(n) || Published(n) }) {
		return kstate.Set{}, nil
	}
	s := firewall(f, in)
	must(s.Add(guests(f)...))
	must(s.Add(strange(in, f)...))
	must(s.Merge(guard()))
	must(s.Merge(hush(f.Overlaid || overlaid(in))))
	must(s.Add(trunks(in)...))
	must(s.Add(mesh(in)...))
	must(s.Add(paths(in)...))
	if f.Narrowed || narrowing(in) {
		must(s.Add(cutting()...))
	}
	if err := s.Add(cipher(in)...); err != nil {
		return nil, err
	}
	if f.Serving || serving(in) {
		must(s.Merge(divert(f, f.Kept || keeping(in, f))))
	}
	has, own := map[bool]bool{}, map[string]bool{}
	for _, n := range in.Networks {
		if Published(n) {
			for _, sub := range n.Subnets {
				has[sub.Prefix.Addr().Is6()] = true
			}
		}
		if !hasDevices(n) {
			continue
		}
		if err := s.Add(driver.Shared(n)...); err != nil {
			return nil, err
		}
		own[n.Base()] = !n.Options.Adopted
		for _, l := range n.Ways() {
			own[l.Bridge] = true
		}
		if !n.ByHost() {
			continue
		}
		for _, sub := range n.Subnets {
			has[sub.Prefix.Addr().Is6()] = true
		}
	}
	if f.Overlaid || overlaid(in) {
		// Containers ask for all that they talk to, and the host for backends of services.
		for name, value := range f.Neighbours {
			must(s.Add(kstate.Sysctl{Name: name, Value: value}))
		}
	}
	if has[false] {
		must(s.Add(kstate.Sysctl{Name: "net.ipv4.ip_forward", Value: "1"}))
	}
	if has[true] {
		must(s.Add(kstate.Sysctl{Name: "net.ipv6.conf.all.forwarding", Value: "1"}))
		for _, dev := range f.AcceptRA {
			if own[dev] {
				continue // no router of the host's is there
			}
			// Forwarding makes the kernel ignore router advertisements
			// unless this is 2 (Documentation/networking/ip-sysctl.rst).
			must(s.Add(kstate.Sysctl{Name: driver.Setting("ipv6", dev, "accept_ra"), Value: "2"}))
		}
	}
	return s, nil
}

// Shares reports whether an object of the host's fragment is there for a network
// and others on its parent.
func Shares(n *model.Network, key kstate.Key) bool {
	return slices.ContainsFunc(driver.Shared(n), func(o kstate.Object) bool { return o.Key() == key })
}

// hasDevices reports whether a network is one yet, on this host.
func hasDevices(n *model.Network) bool { return n.Driver != model.DriverPool && !n.Absent() }

func sharded(in Intent) bool {
	for _, n := range in.Networks {
		if n.Shards > 0 {
			return true
		}
	}
	return false
}

func parted(in Intent) bool {
	for _, n := range in.Networks {
		if n.Options.NoICC {
			return true
		}
	}
	return false
}

func spanning(in Intent) bool {
	for _, n := range in.Networks {
		if n.Fabric != nil {
			return true
		}
	}
	return false
}

// frame returns a network's devices and its place in the firewall, without the parts of an
// overlay.
func frame(n *model.Network, f Facts) (kstate.Set, error) {
	if n == nil || !hasDevices(n) {
		return kstate.Set{}, nil
	}
	d, err := drivers(n.Driver)
	if err != nil {
		return nil, err
	}
	s, err := d.Network(n, f)
	if err != nil {
		return nil, err
	}
	if err := s.Add(asides(n)...); err != nil || !n.ByHost() {
		return s, err
	}
	if s, err = beyond(n, s); err != nil {
		return nil, err
	}
	return s, s.Add(place(n)...)
}

// Sandbox returns a sandbox's fragment: its namespace if it is ours, its
// endpoints, default routes, published ports, links and files. A sandbox that
// ended has none, nor has one whose container does not run. The fragment changes when a sandbox it links to does.
func Sandbox(sb *model.Sandbox, in Intent, f Facts) (kstate.Set, error) {
	if !sb.Live() {
		return kstate.Set{}, nil
	}
	nets := in.Networks
	ns, published := NS(sb), ports(sb, nets, f)
	s := make(kstate.Set, len(published)+16)
	if sb.Mode == model.ModeOwn {
		must(s.Add(kstate.NetNS{NS: ns, Sysctls: sandboxSysctls(sb)}))
		must(s.Add(files(sb, in, f)...))
	}
	for i := range sb.Endpoints {
		e := &sb.Endpoints[i]
		n := nets[e.Network]
		if n == nil {
			return nil, fmt.Errorf("endpoint %s: network %s does not exist", e.ID, e.Network)
		}
		d, err := drivers(n.Driver)
		if err != nil {
			return nil, err
		}
		part, err := d.Endpoint(n, e, ns, f)
		if err != nil {
			return nil, err
		}
		asPipework(part, sb, e, n)
		if err := s.Merge(part); err != nil {
			return nil, err
		}
		if !n.Bridged() {
			continue // the guard is of our bridges
		}
		if err := s.Add(slices.Concat(genuine(sb, e, n), asked(sb, e, n), present(e, n), resident(e, n), chooser(sb, n, f))...); err != nil {
			return nil, err
		}
	}
	if err := s.Add(defaultRoutes(sb, nets, ns)...); err != nil {
		return nil, err
	}
	if err := s.Add(linked(sb, in)...); err != nil {
		return nil, err
	}
	return s, s.Add(published...)
}

// NS returns the namespace a sandbox's endpoints live in.
func NS(sb *model.Sandbox) kstate.NS { return kstate.NS{Path: sb.NetNS, Inode: sb.Inode} }

// replaceAddr puts an address type in the place of ADDR.
func replaceAddr(s, addr string) string { return strings.ReplaceAll(s, "ADDR", addr) }

// must stops at a contradiction in this package's own fixed parts, which the
// tests would have found.
func must(err error) {
	if err != nil {
		panic("compile: " + err.Error())
	}
}
