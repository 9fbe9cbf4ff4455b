package compile

import (
	"slices"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// place returns a network's elements in the firewall.
func place(n *model.Network) []kstate.Object {
	if n.ByOthers() {
		return lodge(n)
	}
	dev := n.Device()
	objs := []kstate.Object{elem(setBridges, dev, "")}
	objs = append(objs, elem(setInside, dev+" . "+dev, inside(n)))
	objs = append(objs, elem(mapOnward, dev, verdictWithin))
	if n.Internal {
		objs = append(objs, elem(setClosed, dev, ""), elem(mapEgress, dev, verdictStay))
	} else {
		objs = append(objs, elem(mapEgress, dev, verdictLeave))
	}
	for _, t := range n.Options.TrustedDevices() {
		objs = append(objs, elem(setTrusted, t+" . "+dev, ""))
	}
	for _, is6 := range []bool{false, true} {
		objs = append(objs, elem(mapIngress.of(is6), dev, ingress(n, is6)))
		switch {
		case isolated(n, is6) || strangers(n, is6):
			objs = append(objs, elem(mapToHost.of(is6), dev, verdictDrop))
		case n.Options.NoHostAccess:
			objs = append(objs, elem(mapToHost.of(is6), dev, verdictNoHost))
		}
		if sub, ok := n.Subnet(is6); ok && !n.Internal {
			objs = append(objs, leaving(n, sub)...)
		}
	}
	if listed(n, false) || listed(n, true) {
		objs = append(objs, elem(setListed, dev, ""))
	}
	for i := 1; i <= n.Shards; i++ {
		objs = append(objs, forwards(n.Bridge(i))...)
	}
	return objs
}

// asides returns the elements of the bridges of VLANs where the host is not. Where
// bridged packets pass here, those of the network's subnets do not leave it there.
func asides(n *model.Network) []kstate.Object {
	var objs []kstate.Object
	for _, l := range n.Ways() {
		if !n.Hostless(l) {
			continue
		}
		objs = append(objs, hostless(l.Bridge)...)
		if !n.ByHost() || n.Internal {
			continue
		}
		for _, sub := range n.Subnets {
			objs = append(objs, elem(setHome.of(sub.Prefix.Addr().Is6()), sub.Prefix.String()+" . "+l.Bridge, ""))
		}
	}
	return objs
}

// forwards returns the elements of a shard, which only forwards. Where bridged
// packets pass here they are judged, tracked and rewritten at the first bridge.
func forwards(dev string) []kstate.Object {
	return append(hostless(dev), elem(setShards, dev, ""))
}

// hostless returns the elements of a bridge that is for its ports alone: what is
// sent to itself goes nowhere.
func hostless(dev string) []kstate.Object {
	return []kstate.Object{
		elem(setInside, dev+" . "+dev, verdictPass), elem(mapEgress, dev, verdictStay),
		elem(mapToHost.of(false), dev, verdictDrop), elem(mapToHost.of(true), dev, verdictDrop),
	}
}

func elem(set *kstate.NftSet, at, value string) kstate.Object {
	return kstate.Elem{Set: set, At: at, Value: value}
}

// isolated reports whether nothing may come from a network's containers to the
// host in a family. A family that the network does not have is as the other one.
func isolated(n *model.Network, is6 bool) bool {
	if _, has := n.Subnet(is6); !has && n.Mode(!is6) == model.GatewayIsolated {
		return true
	}
	return n.Mode(is6) == model.GatewayIsolated
}

// strangers reports whether a network's containers have nothing to say to the
// host in a family: it does not have IPv6, and a host that routes none believes
// the router advertisements that antispoof=off lets containers send. On an
// adopted bridge they may be somebody else's, and meant.
func strangers(n *model.Network, is6 bool) bool {
	_, has := n.Subnet(is6)
	return is6 && !has && !n.Options.Adopted
}

// inside is what containers of a network may send each other through the host.
// With icc=false that is what may enter it from elsewhere, and in no mode more
// than published ports.
func inside(n *model.Network) string {
	if n.Options.NoICC {
		return verdictToNAT
	}
	return verdictPass
}

// ingress is what may enter a network of packets of a family.
func ingress(n *model.Network, is6 bool) string {
	switch _, has := n.Subnet(is6); {
	case n.Internal || !has:
		return verdictDrop
	case n.Mode(is6) == model.GatewayRouted:
		return verdictToRouted
	case n.Mode(is6) == model.GatewayOpen:
		return verdictToOpen
	}
	return verdictToNAT
}

// listed reports whether a network lets in more than published ports, but only to
// addresses that its endpoints are known to have.
func listed(n *model.Network, is6 bool) bool {
	m, o := n.Mode(is6), n.Options
	return (m == model.GatewayRouted || m == model.GatewayOpen) && !o.NoAntispoof && !o.Adopted && o.Parent == "" && o.Trunks == ""
}

// present returns the addresses of an endpoint that others may find it at.
func present(e *model.Endpoint, n *model.Network) []kstate.Object {
	var objs []kstate.Object
	for _, p := range slices.Concat(e.Addrs, e.Outside) {
		if is6 := p.Addr().Is6(); listed(n, is6) {
			objs = append(objs, elem(setThere.of(is6), p.Addr().String(), ""))
		}
	}
	return objs
}

// leaving says whose address packets of a subnet leave with.
func leaving(n *model.Network, sub model.Subnet) []kstate.Object {
	is6 := sub.Prefix.Addr().Is6()
	prefix := sub.Prefix.String()
	objs := []kstate.Object{elem(setHome.of(is6), prefix+" . "+n.Device(), "")}
	if !n.Mode(is6).NAT() || n.Options.NoMasq {
		return objs
	}
	if a, ok := n.Options.Source(is6); ok {
		objs = append(objs, elem(mapSource.of(is6), prefix, a.String()))
	}
	return append(objs, elem(setMasq.of(is6), prefix, ""))
}
