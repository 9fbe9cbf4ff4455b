package engine

import (
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// addAddresses gives an endpoint one address of each of its network's subnets,
// but none of IPv6 if its settings turn that off.
func (d *draft) addAddresses(sb *model.Sandbox, ep *model.Endpoint, n *model.Network, wanted []netip.Addr) error {
	no6 := sb.NoIPv6(ep.Sysctls)
	if err := d.checkWanted(n, wanted, no6); err != nil {
		return err
	}
	for _, s := range n.Subnets {
		is6 := s.Prefix.Addr().Is6()
		if is6 && no6 {
			continue
		}
		var want netip.Addr
		if i := slices.IndexFunc(wanted, func(a netip.Addr) bool { return a.Is6() == is6 }); i >= 0 {
			want = wanted[i]
		}
		a, err := d.takeAddress(sb, n, s, want)
		if err != nil {
			return err
		}
		ep.Addrs = append(ep.Addrs, netip.PrefixFrom(a, s.Prefix.Bits()))
	}
	if len(ep.Addrs) == 0 {
		return d.errorf(model.Invalid, "network %s: has IPv6 only, which disable_ipv6 turns off", n.Name)
	}
	if ep.MAC == "" {
		ep.MAC = model.MACFor(ep.Addrs[0].Addr())
	}
	return nil
}

// takeAddress takes the wanted address of a subnet, or the next one.
func (d *draft) takeAddress(sb *model.Sandbox, n *model.Network, s model.Subnet, want netip.Addr) (netip.Addr, error) {
	d.e.poolsMu.Lock()
	defer d.e.poolsMu.Unlock()
	key := poolKey{n.ID, s.Prefix.Addr().Is6()}
	kind := model.Exhausted
	a, err := want, error(nil)
	if sb.Mode == model.ModeRuntime && d.e.pools[key].Lent(want) {
		return want, d.notTwice(n, want)
	}
	if want.IsValid() {
		if kind = model.Conflict; !s.Prefix.Contains(a) || s.Reserved(a) {
			kind = model.Invalid
		}
		err = d.e.pools[key].Claim(a, sb.Ref())
	} else {
		a, err = d.allocate(key, sb)
	}
	if err != nil {
		return a, d.errorf(kind, "network %s: %w", n.Name, err)
	}
	return a, nil
}

// notTwice refuses a lent address that another container has: the pool does not
// know.
func (d *draft) notTwice(n *model.Network, want netip.Addr) error {
	if who := d.holder(n, want); who != lender {
		return d.errorf(model.Conflict, "network %s: address %s: taken by %s", n.Name, want, who)
	}
	return nil
}

// checkWanted refuses addresses that the network has no subnet for, or that
// are too many.
func (d *draft) checkWanted(n *model.Network, wanted []netip.Addr, no6 bool) error {
	for i, a := range wanted {
		if _, ok := n.Subnet(a.Is6()); !ok {
			return d.errorf(model.Invalid, "address %s: network %s has no subnet of that family", a, n.Name)
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
		for _, o := range d.allSandboxes() {
			if e := o.Endpoint(n.ID); o.Exit == nil && e != nil && (slices.Contains(e.LinkLocal, p) || model.LinkLocal(e.MAC) == p) {
				return nil, d.errorf(model.Conflict, "link-local-ip %s: taken by sandbox %s", a, o.Name)
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
	for _, o := range d.allSandboxes() {
		if e := o.Endpoint(n.ID); o.Exit == nil && e != nil && e.MAC == mac {
			return "", d.errorf(model.Conflict, "network %s: mac-address %s: taken by sandbox %s", n.Name, mac, o.Name)
		}
	}
	return mac, nil
}

// addLinks gives a sandbox the links of a new endpoint on n.
func (d *draft) addLinks(sb *model.Sandbox, n *model.Network, links []model.Link) error {
	if len(links) == 0 {
		return nil
	}
	sb.Links = slices.Clone(sb.Links)
	for _, l := range links {
		l.Network = n.ID
		sb.Links = append(sb.Links, l)
	}
	if err := sb.CheckLinks(); err != nil {
		return d.errorf(model.Invalid, "%w", err)
	}
	return nil
}

// dropEndpoint takes a sandbox's endpoint on a network away, with the links
// and ports that came with it.
func dropEndpoint(sb *model.Sandbox, network model.ID) {
	sb.Endpoints = slices.DeleteFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.Network == network })
	sb.Links = slices.DeleteFunc(slices.Clone(sb.Links), func(l model.Link) bool { return l.Network == network })
	sb.Ports = slices.DeleteFunc(sb.Ports, func(m model.PortMapping) bool { return m.Network == network })
}
