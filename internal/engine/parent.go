package engine

import (
	"cmp"
	"context"
	"errors"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// settleParent decides about what a network's endpoints are on: a device of the
// host's, a VLAN of it that is there or has to be made, or nothing.
func (d *draft) settleParent(n *model.Network, view *hostView) error {
	if err := d.can(n.Driver); err != nil {
		return err
	}
	base, err := d.base(n, view)
	if err != nil {
		return err
	}
	if _, _, tagged := n.Tag(); tagged {
		if err := d.can(feature.VLAN); err != nil {
			return err
		}
	}
	if err := d.checkLower(n, base, view); err != nil {
		return err
	}
	for _, leg := range n.Legs() {
		if dev := view.holder(leg); dev != "" {
			return d.errorf(model.Conflict, "option host-leg: %s: is the host's already, on device %s", leg, dev)
		}
	}
	return d.parentMTU(n, base, view)
}

// can refuses what the kernel cannot do.
func (d *draft) can(name string) error {
	if d.e.cfg.Feature == nil {
		return nil
	}
	if err := d.e.cfg.Feature(name); errors.Is(err, kernel.ErrUnsupported) {
		return d.errorf(model.Unsupported, "%w", err)
	}
	return nil
}

// base returns the host's device that a network is on, below its VLAN if that has
// to be made, and notes whether it has to be. Without a parent there is none.
func (d *draft) base(n *model.Network, view *hostView) (kstate.Link, error) {
	parent := n.Options.Parent
	l, there := view.links[parent]
	switch {
	case parent == "":
		return kstate.Link{}, nil
	case there && n.Options.VLAN == 0:
		n.Options.Adopted = true
		return l, nil
	case there:
		return d.tagged(n, l, view)
	}
	if on, _, ok := model.SplitVLAN(parent); ok && n.Options.VLAN == 0 {
		if l, there := view.links[on]; there {
			return l, nil
		}
	}
	return kstate.Link{}, d.noParent(parent, view)
}

// tagged is about a VLAN that was asked for by its number.
func (d *draft) tagged(n *model.Network, base kstate.Link, view *hostView) (kstate.Link, error) {
	l, there := view.links[n.Lower()]
	switch {
	case base.Type == kstate.TypeVLAN:
		return base, d.errorf(model.Invalid, "option vlan: %d: parent %s is VLAN %d of %s itself", n.Options.VLAN, base.Name, base.VLAN, base.Parent)
	case !there:
		return base, nil
	case l.Type != kstate.TypeVLAN || l.VLAN != n.Options.VLAN || l.Parent != base.Name:
		return base, d.errorf(model.Conflict, "option vlan: %d: device %s exists and is not that", n.Options.VLAN, l.Name)
	}
	n.Options.Adopted = true
	return l, nil
}

// noParent says why a device cannot be a parent that is not one of others.
func (d *draft) noParent(name string, view *hostView) error {
	if nic := d.lenderOf(name); nic != nil {
		return d.isNICOf(nic, "parent")
	}
	if err := d.notOurBridge(name); err != nil {
		return err
	}
	if _, ours := view.own[name]; ours {
		return d.errorf(model.Invalid, "parent %s: is a device of Sealane's own", name)
	}
	if on, tail, dotted := strings.Cut(name, "."); dotted {
		if _, there := view.links[on]; there {
			return d.errorf(model.NotFound, "parent %s: the host has no such device, and %q is no VLAN: want 1 to 4094", name, tail)
		}
	}
	return d.errorf(model.NotFound, "parent %s: the host has no such device", name)
}

// notOurBridge refuses the bridge of a network of ours.
func (d *draft) notOurBridge(name string) error {
	for _, o := range d.allNetworks() {
		if o.Bridged() && o.HasBridge(name) || o.Driver == model.DriverOVS && o.Base() == name && !o.Options.Adopted {
			return d.errorf(model.Invalid, "parent %s: is the bridge of network %s", name, o.Name).WithHint("connect containers to that one")
		}
	}
	return nil
}

// checkLower refuses a device that is somebody else's kind of parent already.
func (d *draft) checkLower(n *model.Network, base kstate.Link, view *hostView) error {
	name, lower := base.Name, n.Lower()
	switch {
	case name == "":
		return nil
	case base.Type == kstate.TypeLoopback:
		return d.errorf(model.Invalid, "parent %s: is no Ethernet device", name)
	case d.isSwitch(name) && d.notOurBridge(name) != nil:
		return d.notOurBridge(name)
	case d.masterOf(base) != "" && name == lower:
		return d.errorf(model.Conflict, "parent %s: is a port of %s", name, d.masterOf(base)).WithHint("what goes in by it is that one's: make it the parent")
	case alike(base.Type, n.Driver) && name == lower:
		// The kernel puts one on the device that the other is on, which would be
		// repaired without end.
		err := d.errorf(model.Invalid, "parent %s: is itself a device of type %s: another is never on it but beside it", name, base.Type)
		if base.Parent != "" {
			err = err.WithHint("on %s: make that the parent", base.Parent)
		}
		return err
	case n.Driver == model.DriverMacvlan && slices.Contains(d.e.cfg.Host().Wireless, name):
		return d.errorf(model.Invalid, "parent %s: is wireless, and access points take no more than one hardware address", name).WithHint("driver ipvlan has one")
	}
	for _, l := range view.links {
		if (l.Type == kstate.TypeMacvlan || l.Type == kstate.TypeIPvlan) && l.Parent == lower && string(l.Type) != n.Driver {
			return d.errorf(model.Conflict, "parent %s: device %s, an %s, is on it: a device takes macvlan or ipvlan", lower, l.Name, l.Type)
		}
	}
	return d.checkBeside(n)
}

// alike reports whether a device is of the kind that a driver makes: macvtap and ipvtap
// are macvlan and ipvlan to the kernel.
func alike(t kstate.LinkType, driver string) bool {
	return string(t) == driver || strings.HasSuffix(string(t), "vtap") && strings.TrimSuffix(string(t), "tap") == strings.TrimSuffix(driver, "lan")
}

// checkBeside refuses a network that cannot be on one device with another.
func (d *draft) checkBeside(n *model.Network) error {
	for _, o := range d.allNetworks() {
		if o.Driver == model.DriverPhys && (o.Lower() == n.Lower() || o.Lower() == n.Options.Parent) {
			return d.errorf(model.Conflict, "parent %s: belongs to network %s", o.Lower(), o.Name)
		}
		if o.HasPort(n.Lower()) {
			return d.errorf(model.Conflict, "parent %s: network %s has it as a port of its bridge", n.Lower(), o.Name)
		}
		if !o.OnParent() || o.Lower() != n.Lower() {
			continue
		}
		at := func(format string, args ...any) error {
			return d.errorf(model.Conflict, "parent %s: network %s "+format, append([]any{n.Lower(), o.Name}, args...)...)
		}
		switch {
		case o.Driver != n.Driver:
			return at("is on it with driver %s: a device takes macvlan or ipvlan", o.Driver)
		case o.LinkMode() == model.ModePassthru:
			return at("has it for itself, by mode passthru")
		case n.LinkMode() == model.ModePassthru:
			return at("is on it: mode passthru takes a device of its own")
		case n.Driver == model.DriverIPvlan && (o.LinkMode() != n.LinkMode() || o.Options.LinkFlag != n.Options.LinkFlag):
			return at("is on it in mode %s: all ipvlans of a device have one", strings.TrimSpace(string(o.LinkMode())+" "+string(o.Options.LinkFlag)))
		}
	}
	return nil
}

// masterOf returns the bridge that a device is a port of, or "". Of a port of Open
// vSwitch the kernel knows none, or the datapath; a bridge there is a port of itself.
func (d *draft) masterOf(l kstate.Link) string {
	if d.e.cfg.SwitchOf == nil {
		return l.Master
	}
	if d.isSwitch(l.Name) {
		return ""
	}
	return cmp.Or(d.e.cfg.SwitchOf(l.Name), l.Master)
}

// isSwitch reports whether a device is a bridge of Open vSwitch.
func (d *draft) isSwitch(dev string) bool {
	return d.e.cfg.SwitchOf != nil && d.e.cfg.SwitchOf(dev) == dev
}

// parentMTU gives a network the MTU of its parent, or checks that it is no larger.
func (d *draft) parentMTU(n *model.Network, base kstate.Link, view *hostView) error {
	most := base.MTU
	if n.Options.Parent == "" {
		most = view.mtu()
	}
	switch {
	case n.Options.MTU == 0:
		n.Options.MTU = most
	case n.Options.MTU > most && n.Options.Parent != "":
		return d.errorf(model.Invalid, "mtu %d: parent %s has %d", n.Options.MTU, base.Name, most)
	}
	return nil
}

// checkDevice refuses an endpoint that the network's kind of device cannot be.
func (d *draft) checkDevice(sb *model.Sandbox, n *model.Network, spec EndpointSpec) error {
	if !n.OnParent() {
		return nil
	}
	bad := func(kind model.Kind, format string, args ...any) error {
		return d.errorf(kind, "network %s: "+format, append([]any{n.Name}, args...)...)
	}
	switch {
	case spec.MAC != "" && !n.OwnMAC():
		return bad(model.Invalid, "mac-address %s: its interfaces have their parent's", spec.MAC)
	case spec.Limits != (model.Limits{}):
		return bad(model.Unsupported, "rates are kept at the host's end of a container's interface, which driver %s has not", n.Driver)
	case spec.MTU > n.Options.MTU:
		return bad(model.Invalid, "mtu %d: the network has %d", spec.MTU, n.Options.MTU)
	case n.LinkMode() != model.ModePassthru:
		return nil
	}
	for o := range d.allSandboxes() {
		if o.ID != sb.ID && o.Exit == nil && o.Endpoint(n.ID) != nil {
			return bad(model.Conflict, "sandbox %s has parent %s for itself, by mode passthru", o.Name, n.Lower())
		}
	}
	return nil
}

// checkMeeting refuses a second network with addresses of one that the sandbox is
// on already, as two VLANs may have.
func (d *draft) checkMeeting(sb *model.Sandbox, n *model.Network) error {
	for _, ep := range sb.Endpoints {
		o := d.allNetworks()[ep.Network]
		if o == nil || o.ID == n.ID {
			continue
		}
		for _, s := range n.Subnets {
			for _, t := range o.Subnets {
				if s.Prefix.Overlaps(t.Prefix) {
					return d.errorf(model.Conflict, "subnet %s: overlaps %s of network %s, which sandbox %s is on", s.Prefix, t.Prefix, o.Name, sb.Name)
				}
			}
		}
	}
	return nil
}

// checkNeighbours keeps what the host has on a network's parent, and the routers
// that it knows there, from being chosen, and refuses what is the host's own.
func (d *draft) checkNeighbours(n *model.Network, wanted []netip.Addr) error {
	if !n.Wired() {
		return nil
	}
	for _, dev := range uplinks(n) {
		there := d.e.neighbours[dev]
		for _, a := range wanted {
			if slices.Contains(there.own, a) {
				return d.errorf(model.Conflict, "network %s: address %s: is the host's, on device %s", n.Name, a, dev)
			}
		}
		if d.aside == nil {
			d.aside = map[netip.Addr]bool{}
		}
		for _, a := range slices.Concat(there.own, there.routers) {
			d.aside[a] = true
		}
	}
	return nil
}

// hosts reports whether the host has an address on a device of its own, or beside
// it by a leg, or knows that as the gateway there. The caller holds mu.
func (e *Engine) hosts(device string, a netip.Addr) bool {
	for _, n := range e.intent.Networks {
		gateway := func(s model.Subnet) bool { return s.Gateway == a }
		if n.OnParent() && n.Lower() == device && (slices.Contains(n.Legs(), a) || slices.ContainsFunc(n.Subnets, gateway)) {
			return true
		}
	}
	return slices.Contains(e.neighbours[device].own, a)
}

// uplinks lists the host's devices that a network on a parent is on.
func uplinks(n *model.Network) []string {
	if !n.OnParent() {
		return []string{n.Device()}
	}
	devs := []string{n.Lower()}
	if on, _, ok := n.Tag(); ok {
		devs = append(devs, on)
	}
	return devs
}

// neighbours are addresses on the link of a device of the host's that somebody has.
type neighbours struct{ own, routers []netip.Addr }

// neighbours returns them by device.
func (v *hostView) neighbours() map[string]neighbours {
	m := map[string]neighbours{}
	for _, a := range v.addrs {
		at := m[a.Dev]
		at.own = append(at.own, a.Prefix.Addr())
		m[a.Dev] = at
	}
	for _, r := range v.routes {
		if r.Via.IsValid() {
			at := m[r.Dev]
			at.routers = append(at.routers, r.Via)
			m[r.Dev] = at
		}
	}
	return m
}

// holder returns the host's device that has an address, or "".
func (v *hostView) holder(a netip.Addr) string {
	for _, have := range v.addrs {
		if have.Prefix.Addr() == a {
			return have.Dev
		}
	}
	return ""
}

// noteParents notes how the parents of networks fare, and bridges that others make for
// them, and whether something is where their tunnels are to be. The caller holds mu.
func (e *Engine) noteParents(view *hostView) {
	e.neighbours = view.neighbours()
	old := e.parents
	e.parents = map[model.ID]problem{}
	for id, n := range e.intent.Networks {
		if e.cfg.Heed != nil && n.Options.Parent != "" {
			e.cfg.Heed(n.Lower()) // which may go, and come again
		}
		text := ""
		switch {
		case n.OnParent() && n.Options.Parent != "":
			text = view.ails(uplinks(n))
		case n.Driver == model.DriverPhys:
			text = view.ailsNIC(n)
		case n.Driver == model.DriverBridge && n.Options.Adopted && !view.has(n.Base()):
			text = "bridge " + n.Base() + ": is gone"
		case n.Overlay != nil:
			text = view.tunnelTaken(n, true, compile.Published(n))
		case n.Fabric != nil:
			text = e.badLodging(n, view)
		}
		if text == "" {
			continue
		}
		p := problem{text, e.cfg.Now().UTC()}
		if o, ok := old[id]; ok && o.text == text {
			p.since = o.since
		}
		e.parents[id] = p
	}
}

// narrow returns the parents of networks that have a lower MTU than when these were made.
func (e *Engine) narrow(view *hostView) map[string]int {
	var m map[string]int
	for _, n := range e.intent.Networks {
		l, there := view.link(n.Lower())
		if !there || !n.OnParent() || n.Options.Parent == "" || l.MTU >= n.Options.MTU {
			continue
		}
		if m == nil {
			m = map[string]int{}
		}
		m[l.Name] = l.MTU
	}
	return m
}

// has reports whether a device of the host's is there, whosever it is.
func (v *hostView) has(dev string) bool { _, there := v.link(dev); return there }

// link returns a device of the host's, whosever it is.
func (v *hostView) link(dev string) (kstate.Link, bool) {
	if l, there := v.links[dev]; there {
		return l, true
	}
	l, there := v.own[dev]
	return l, there
}

// ails says what is wrong with devices, the last of which the others are on.
func (v *hostView) ails(devs []string) string {
	for _, dev := range slices.Backward(devs) {
		l, there := v.link(dev)
		switch {
		case !there:
			return "parent " + dev + ": is gone"
		case l.NoCarrier:
			return "parent " + dev + ": has no carrier"
		}
	}
	return ""
}

// ailsNIC says what is wrong with the NIC of a network, which is at home or with a
// sandbox, or with the one that its VLAN is made on.
func (v *hostView) ailsNIC(n *model.Network) string {
	name := cmp.Or(n.NIC(), n.Options.Parent)
	l, lent := v.lent[name]
	switch {
	case lent && l.NoCarrier:
		return "parent " + name + ": has no carrier"
	case !lent && !v.has(name):
		return "parent " + name + ": is gone"
	}
	return ""
}

// ailing returns what is wrong with the parent of one of a sandbox's networks. The
// caller holds mu.
func (e *Engine) ailing(sb *model.Sandbox) (problem, bool) {
	for _, ep := range sb.Endpoints {
		if p, ok := e.parents[ep.Network]; ok {
			p.text = e.intent.Networks[ep.Network].Ref() + ": " + p.text
			return p, true
		}
	}
	return problem{}, false
}

// defaultParentMTU is what a network on a parent gets that asks for no MTU.
func (d *draft) defaultParentMTU(ctx context.Context, n *model.Network) (int, error) {
	view, err := d.host(ctx)
	if err != nil {
		return 0, internal(d.ref, d.op, err)
	}
	for _, dev := range uplinks(n) {
		if l, ok := view.links[dev]; ok {
			return l.MTU, nil
		}
	}
	return n.Options.MTU, nil
}
