package engine

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// settleOutside gives an endpoint the addresses that are of no subnet of its
// network, and its own ways out. An address of a subnet that was given with the
// subnet's length is one of the pool's: it goes to spec.Addrs.
func (d *draft) settleOutside(ctx context.Context, sb *model.Sandbox, ep *model.Endpoint, n *model.Network, spec *EndpointSpec) error {
	no6 := sb.NoIPv6(spec.Sysctls)
	for _, p := range spec.Outside {
		sub, has := n.SubnetWith(p.Addr())
		switch {
		case has && sub.Prefix == p.Masked():
			spec.Addrs = append(slices.Clone(spec.Addrs), p.Addr())
			continue
		case has && sub.Prefix.Contains(p.Addr()):
			return d.errorf(model.Invalid, "address %s: is of subnet %s", p, sub.Prefix).WithHint("give it without a length")
		case no6 && p.Addr().Is6():
			return d.errorf(model.Invalid, "address %s: disable_ipv6 turns IPv6 off", p)
		case slices.Contains(ep.Outside, p):
			return d.errorf(model.Invalid, "address %s: is there twice", p)
		}
		if err := model.CheckOutside(p); err != nil {
			return d.errorf(model.Invalid, "%w", err)
		}
		if who := d.hasOutside(n, p.Addr()); who != "" {
			return d.errorf(model.Conflict, "network %s: address %s: taken by sandbox %s", n.Name, p.Addr(), who)
		}
		ep.Outside = append(ep.Outside, p)
	}
	if err := d.checkSameSubnet(ctx, sb, ep); err != nil {
		return err
	}
	ep.Routers, ep.Routes, ep.MTU = spec.Routers, spec.Routes, spec.MTU
	ep.VLAN, ep.Trunks, ep.Alias, ep.Plug = spec.VLAN, spec.Trunks, spec.Alias, spec.Plug
	return d.checkWays(sb, ep, n)
}

// settleHostIf refuses a name for the host's end of an endpoint that is taken. Where
// there is no such end there is no name.
func (d *draft) settleHostIf(ctx context.Context, ep *model.Endpoint, n *model.Network) error {
	if n.Driver != model.DriverBridge && n.Driver != model.DriverOVS {
		ep.Alias = ""
	}
	if ep.Alias == "" {
		return nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	l, there := view.links[ep.Alias]
	if !there {
		l, there = view.own[ep.Alias]
	}
	switch {
	case there && l.Up && ep.Plug != nil:
		return model.Errorf(model.Conflict, "", "", "Link %s exists and is up", ep.Alias) // the script's words
	case there:
		return d.errorf(model.Conflict, "hostif %s: the host has a device of that name", ep.Alias)
	}
	for _, o := range d.allNetworks() {
		if o.HasBridge(ep.Alias) || o.Options.Parent == ep.Alias {
			return d.errorf(model.Conflict, "hostif %s: is the device of network %s", ep.Alias, o.Name)
		}
	}
	for sb := range d.allSandboxes() {
		for _, o := range sb.Endpoints {
			if o.Alias == ep.Alias {
				return d.errorf(model.Conflict, "hostif %s: is the host's end of interface %s of sandbox %s", ep.Alias, o.IfName, sb.Name)
			}
		}
	}
	return nil
}

// hasOutside returns the sandbox on a network that has an address, or "".
func (d *draft) hasOutside(n *model.Network, a netip.Addr) string {
	for o := range d.allSandboxes() {
		for e := range o.On(n.ID) {
			if o.Exit == nil && slices.ContainsFunc(e.Outside, func(p netip.Prefix) bool { return p.Addr() == a }) {
				return o.Name
			}
		}
	}
	return ""
}

// checkSameSubnet refuses an address whose subnet another interface of the
// sandbox leads to already: which one packets take would be a matter of chance.
func (d *draft) checkSameSubnet(ctx context.Context, sb *model.Sandbox, ep *model.Endpoint) error {
	there := map[netip.Prefix]string{}
	for _, other := range sb.Endpoints {
		for _, p := range slices.Concat(other.Addrs, other.Outside) {
			there[p.Masked()] = other.IfName
		}
	}
	if sb.Mode == model.ModeOther && sb.Live() {
		s, err := d.look(ctx, sb.NetNS)
		if err != nil {
			return internal(d.ref, d.op, err)
		}
		if s != nil {
			for _, have := range s.subnets {
				there[have.prefix] = have.dev
			}
		}
	}
	for _, p := range ep.Outside {
		if dev := there[p.Masked()]; dev != "" && dev != ep.IfName && !p.IsSingleIP() {
			return d.errorf(model.Conflict, "address %s: device %s of the sandbox leads to %s", p, dev, p.Masked())
		}
	}
	return nil
}

// checkWays refuses routes that cannot be, or that another endpoint has.
func (d *draft) checkWays(sb *model.Sandbox, ep *model.Endpoint, n *model.Network) error {
	has := func(is6 bool) bool {
		_, pooled := n.Subnet(is6)
		return pooled || ep.Has(is6) || ep.DHCP(is6) != nil
	}
	for _, a := range ep.Routers {
		if !has(a.Is6()) && ep.Plug == nil {
			return d.errorf(model.Invalid, "gateway %s: the endpoint has no address of that family", a)
		}
		if slices.ContainsFunc(ep.Outside, func(p netip.Prefix) bool { return p.Addr() == a }) {
			return d.errorf(model.Invalid, "gateway %s: is the endpoint's own address", a)
		}
		for _, p := range ep.Outside {
			if a.Is4() && (model.Subnet{Prefix: p.Masked()}).Reserved(a) { // of IPv6, the first is any router's
				return d.errorf(model.Invalid, "gateway %s: is the network or broadcast address of %s", a, p.Masked())
			}
		}
	}
	for _, r := range ep.Routes {
		if !has(r.Dst.Addr().Is6()) {
			return d.errorf(model.Invalid, "route %s: the endpoint has no address of that family", r.Dst)
		}
	}
	taken := map[kstate.Key]string{}
	for i := range sb.Endpoints {
		for _, o := range driver.Inside(&sb.Endpoints[i], kstate.NS{}) {
			if _, ok := o.(kstate.Route); ok {
				taken[o.Key()] = sb.Endpoints[i].IfName
			}
		}
	}
	for _, r := range ep.Ways() {
		if dev := taken[kstate.Route{Dst: r.Dst}.Key()]; dev != "" {
			return d.errorf(model.Conflict, "route %s: interface %s has one", r.Dst, dev)
		}
	}
	return nil
}

// leaveAlone takes for others' the addresses that somebody put on the bridge of a
// network without subnets: how the host meets that is not ours to say.
func (e *Engine) leaveAlone(have kstate.Set) {
	wires := map[string]bool{}
	for _, n := range e.intent.Networks {
		wires[n.Device()] = n.Options.NoIPAM
	}
	for _, bridge := range e.uplinked() {
		wires[bridge] = true // the host's own are there
	}
	for k, o := range have {
		if a, ok := o.(kstate.Addr); ok && a.NS.IsHost() && wires[a.Dev] {
			a.Other = true
			have[k] = a
		}
	}
}

// hasWays reports whether an endpoint has the addresses from outside and the ways
// that a declaration says.
func hasWays(ep *model.Endpoint, spec EndpointSpec) bool {
	lacks := func(p netip.Prefix) bool { return !slices.Contains(ep.Outside, p) && !slices.Contains(ep.Addrs, p) }
	return !slices.ContainsFunc(spec.Outside, lacks) &&
		!slices.ContainsFunc(spec.Routers, func(a netip.Addr) bool { return ep.Router(a.Is6()) != a }) &&
		!slices.ContainsFunc(spec.Routes, func(r model.Route) bool { return !slices.Contains(ep.Routes, r) }) &&
		(spec.MTU == 0 || spec.MTU == ep.MTU)
}
