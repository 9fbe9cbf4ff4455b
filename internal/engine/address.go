package engine

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/ipam"
	"github.com/sealane/sealane/internal/model"
)

// addAddresses gives an endpoint one address of each family of its network's subnets,
// but none of IPv6 if its settings turn that off.
func (d *draft) addAddresses(sb *model.Sandbox, ep *model.Endpoint, n *model.Network, spec EndpointSpec) error {
	wanted := spec.Addrs
	no6 := sb.NoIPv6(ep.Sysctls)
	if err := d.checkWanted(n, wanted, no6); err != nil {
		return err
	}
	if err := d.checkNeighbours(n, wanted); err != nil {
		return err
	}
	for _, s := range n.Subnets {
		is6 := s.Prefix.Addr().Is6()
		if _, has := ep.Addr(is6); has || is6 && no6 || ep.DHCP(is6) != nil {
			continue
		}
		var want netip.Addr
		if i := slices.IndexFunc(wanted, func(a netip.Addr) bool { return a.Is6() == is6 }); i >= 0 {
			want = wanted[i]
		}
		a, err := d.takeAddress(sb, n, is6, want, spec.chosen, spec.unknown)
		if err != nil {
			return err
		}
		s, _ := n.SubnetWith(a)
		ep.Addrs = append(ep.Addrs, netip.PrefixFrom(a, s.Prefix.Bits()))
	}
	if len(ep.Addrs) == 0 && len(n.Subnets) > 0 && ep.DHCP4 == nil && ep.DHCP6 == nil {
		return d.errorf(model.Invalid, "network %s: has IPv6 only, which disable_ipv6 turns off", n.Name)
	}
	if ep.MAC == "" && n.OwnMAC() && n.Driver != model.DriverPhys { // which a NIC brings
		ep.MAC = ep.DerivedMAC()
	}
	d.shut6(sb, ep, n)
	return nil
}

// shut6 turns IPv6 off on an interface that is to have none, where others' routers
// would give it an address and a way out. On a bridge of ours the guard keeps them from it.
func (d *draft) shut6(sb *model.Sandbox, ep *model.Endpoint, n *model.Network) {
	_, has := n.Subnet(true)
	theirs := n.Wired() || n.Options.Adopted || n.Options.Parent != ""
	if has || !theirs || n.Options.NoIPAM || ep.Handed || ep.Speaks6() || sb.NoIPv6(ep.Sysctls) || d.can(feature.IPv6) != nil {
		return
	}
	said := slices.ContainsFunc(ep.Sysctls, func(s string) bool { return strings.HasPrefix(s, noIPv6) })
	wanted := slices.ContainsFunc(ep.LinkLocal, func(p netip.Prefix) bool { return p.Addr().Is6() }) || ep.Router(true).IsValid()
	if !said && !wanted {
		ep.Sysctls = append(slices.Clip(ep.Sysctls), noIPv6+"1")
	}
}

// noIPv6 begins the setting of an interface that turns IPv6 off.
const noIPv6 = "net.ipv6.conf.IFNAME.disable_ipv6="

// takeAddress takes the wanted address of a family, the one that was chosen, or the
// next one. Of an overlay network that this host heard of since the endpoint's addresses
// were chosen, and so not claimed, it takes none.
func (d *draft) takeAddress(sb *model.Sandbox, n *model.Network, is6 bool, want netip.Addr, chosen []*choice, unclaimed bool) (netip.Addr, error) {
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	key := poolKey{n.ID, is6}
	if !want.IsValid() {
		want = d.chosenOf(chosen, key)
	}
	if n.Overlay != nil && (unclaimed || !want.IsValid()) {
		return want, d.errorf(model.NotFound, "network %s: this host has heard of it this moment: try again", n.Name)
	}
	kind := model.Exhausted
	a, err := want, error(nil)
	if sb.Mode == model.ModeRuntime && d.e.pools[key].Lent(want) {
		return want, d.notTwice(n, want)
	}
	if want.IsValid() {
		kind = refusal(n, a)
		err = d.e.pools[key].Claim(a, sb.Ref())
	} else {
		a, err = d.allocate(key, sb)
	}
	if err != nil {
		return a, d.errorf(kind, "network %s: %w", n.Name, err)
	}
	return a, nil
}

// refusal is the kind of error that somebody gets who asks for an address of a network
// and cannot have it.
func refusal(n *model.Network, a netip.Addr) model.Kind {
	if s, _ := n.SubnetWith(a); !s.Prefix.Contains(a) || s.Reserved(a) {
		return model.Invalid
	}
	return model.Conflict
}

// notTwice refuses a lent address that another container has: the pool does not
// know.
func (d *draft) notTwice(n *model.Network, want netip.Addr) error {
	if who := d.holder(n, want); who != lender {
		return d.errorf(model.Conflict, "network %s: address %s: taken by %s", n.Name, want, who)
	}
	return nil
}

// usual are the lengths that most subnets have, of IPv6 and not.
var usual = map[bool]int{false: 24, true: 64}

// checkWanted refuses addresses that the network has no subnet for, or that
// are too many.
func (d *draft) checkWanted(n *model.Network, wanted []netip.Addr, no6 bool) error {
	for i, a := range wanted {
		if _, ok := n.Subnet(a.Is6()); !ok {
			return d.errorf(model.Invalid, "address %s: network %s has no subnet of that family", a, n.Name).WithHint("with a length, as %s/%d, it may be any", a, usual[a.Is6()])
		}
		if no6 && a.Is6() {
			return d.errorf(model.Invalid, "address %s: disable_ipv6 turns IPv6 off", a)
		}
		if slices.ContainsFunc(wanted[:i], func(b netip.Addr) bool { return a.Is6() == b.Is6() }) {
			return d.errorf(model.Invalid, "address %s: an endpoint has one address of each family", a)
		}
	}
	return nil
}

// linkLocal returns the additional addresses of an endpoint. Nobody else on
// its network may have them.
func (d *draft) linkLocal(sb *model.Sandbox, n *model.Network, spec EndpointSpec) ([]netip.Prefix, error) {
	var out []netip.Prefix
	for _, a := range spec.LinkLocal {
		p, err := model.LinkLocalPrefix(a)
		switch {
		case err != nil:
			return nil, d.errorf(model.Invalid, "%w", err)
		case a.Is6() && sb.NoIPv6(spec.Sysctls):
			return nil, d.errorf(model.Invalid, "link-local-ip %s: disable_ipv6 turns IPv6 off", a)
		case slices.Contains(out, p):
			return nil, d.errorf(model.Invalid, "link-local-ip %s: is there twice", a)
		}
		for o := range d.allSandboxes() {
			for e := range o.On(n.ID) {
				if o.Exit == nil && (slices.Contains(e.LinkLocal, p) || model.LinkLocal(e.MAC) == p) {
					return nil, d.errorf(model.Conflict, "link-local-ip %s: taken by sandbox %s", a, o.Name)
				}
			}
		}
		out = append(out, p)
	}
	return out, nil
}

// hardwareAddress reads the one that a user chose. A bridge sends to where it saw
// an address last, so nobody else on the network may have it.
func (d *draft) hardwareAddress(n *model.Network, text string) (string, error) {
	mac, err := model.CheckMAC(text)
	if err != nil {
		return "", d.errorf(model.Invalid, "%w", err)
	}
	if mac == model.MACForID(model.MACBridge, n.ID) {
		return "", d.errorf(model.Conflict, "network %s: mac-address %s: is that of its bridge", n.Name, mac)
	}
	if who := heldFar(n, mac); who != "" {
		return "", d.errorf(model.Conflict, "network %s: mac-address %s: taken by %s", n.Name, mac, who)
	}
	for o := range d.allSandboxes() {
		for i := range o.Endpoints { // which network's a frame is, its hardware address says
			e := &o.Endpoints[i]
			if other := d.allNetworks()[e.Network]; n.Overlay != nil && e.Network != n.ID && other != nil && other.Overlay != nil && e.MAC == mac {
				return "", d.errorf(model.Conflict, "network %s: mac-address %s: taken by sandbox %s on network %s", n.Name, mac, o.Name, other.Name)
			}
		}
		for e := range o.On(n.ID) {
			if o.Exit == nil && e.MAC == mac {
				return "", d.errorf(model.Conflict, "network %s: mac-address %s: taken by sandbox %s", n.Name, mac, o.Name)
			}
		}
	}
	return mac, nil
}

// addLinks gives a sandbox the links of a new endpoint.
func (d *draft) addLinks(sb *model.Sandbox, ep *model.Endpoint, links []model.Link) error {
	if len(links) == 0 {
		return nil
	}
	if err := d.checkTargets(links, *ep); err != nil {
		return err
	}
	sb.Links = slices.Clone(sb.Links)
	for _, l := range links {
		l.Endpoint = ep.ID
		sb.Links = append(sb.Links, l)
	}
	if err := sb.CheckLinks(); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	return nil
}

// checkTargets refuses links from the default network alone to who is not on it, as
// Docker does. Elsewhere the other may come later: the link is a name that it will have.
func (d *draft) checkTargets(links []model.Link, on ...model.Endpoint) error {
	if slices.ContainsFunc(on, func(ep model.Endpoint) bool { return d.allNetworks()[ep.Network].Name != model.NetworkBridge }) {
		return nil
	}
	for _, l := range links {
		to := cmp.Or(d.sandboxNow(model.ID(l.Target)), d.findSandbox(l.Target))
		switch {
		case to == nil:
			return d.errorf(model.NotFound, "link %s: no such sandbox", l.Target).WithHint("on network bridge it has to be there before; sealane ps -a shows those there are")
		case !slices.ContainsFunc(on, func(ep model.Endpoint) bool { return to.Endpoint(ep.Network) != nil }):
			return d.errorf(model.Invalid, "link %s: is not on network bridge", l.Target).WithHint("on a network of both it has its name without a link")
		}
	}
	return nil
}

// dropEndpoint takes an endpoint of a sandbox away, with the links and ports
// that came with it.
func dropEndpoint(sb *model.Sandbox, id model.ID) {
	sb.Endpoints = slices.DeleteFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.ID == id })
	sb.Links = slices.DeleteFunc(slices.Clone(sb.Links), func(l model.Link) bool { return l.Endpoint == id })
	var ports []model.PortMapping
	for _, m := range sb.Ports {
		if m, stays := m.Without(id); stays {
			ports = append(ports, m)
		}
	}
	sb.Ports = ports
}

// openPools makes the address pools of a network. Those of one subnet on one wire know of
// each other.
func (e *Engine) openPools(n *model.Network) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	opened := map[poolKey]ipam.Pools{}
	for _, s := range n.Subnets {
		pool, key := ipam.NewPool(s), poolKey{n.ID, s.Prefix.Addr().Is6()}
		for _, leg := range n.Legs() {
			if s.Prefix.Contains(leg) {
				_ = pool.Claim(leg, "the host") // which Validate found free
			}
		}
		opened[key] = append(opened[key], pool)
	}
	for key, pools := range opened {
		for other, o := range e.pools {
			if other.is6 == key.is6 && n.OnParent() && other.network != n.ID && e.wires[other.network] == n.Wire() {
				pools.Join(o)
			}
		}
		e.pools[key] = pools
	}
	if n.OnParent() {
		e.wires[n.ID] = n.Wire()
	}
}

func (e *Engine) closePools(id model.ID) {
	e.poolsMu.Lock()
	defer e.poolsMu.Unlock()
	for _, key := range []poolKey{{id, false}, {id, true}} {
		e.pools[key].Leave()
		delete(e.pools, key)
	}
	delete(e.wires, id)
}
