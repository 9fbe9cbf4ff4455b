package compile

import (
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// place returns a network's elements in the firewall.
func place(n *model.Network) []kstate.Object {
	dev := n.Device()
	objs := []kstate.Object{elem(setBridges, dev, "")}
	if !n.Options.NoICC {
		objs = append(objs, elem(setInside, dev+" . "+dev, ""))
	}
	if n.Internal {
		objs = append(objs, elem(setClosed, dev, ""), elem(mapEgress, dev, verdictDrop))
	}
	for _, t := range n.Options.TrustedDevices() {
		objs = append(objs, elem(setTrusted, t+" . "+dev, ""))
	}
	for _, is6 := range []bool{false, true} {
		objs = append(objs, elem(mapIngress.of(is6), dev, ingress(n, is6)))
		switch {
		case n.Mode(is6) == model.GatewayIsolated:
			objs = append(objs, elem(mapToHost.of(is6), dev, verdictDrop))
		case n.Options.NoHostAccess:
			objs = append(objs, elem(mapToHost.of(is6), dev, verdictNoHost))
		}
		if sub, ok := n.Subnet(is6); ok && !n.Internal {
			objs = append(objs, leaving(n, sub)...)
		}
	}
	return objs
}

func elem(set *kstate.NftSet, at, value string) kstate.Object {
	return kstate.Elem{Set: set, At: at, Value: value}
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

// leaving says whose address packets of a subnet leave with.
func leaving(n *model.Network, sub model.Subnet) []kstate.Object {
	is6 := sub.Prefix.Addr().Is6()
	prefix := sub.Prefix.String()
	objs := []kstate.Object{elem(setHome.of(is6), prefix+" . "+n.Device(), "")}
	if !n.Mode(is6).NAT() || n.Options.NoMasq {
		return objs
	}
	if a, ok := n.Options.Source(is6); ok {
		return append(objs, elem(mapSource.of(is6), prefix, a.String()))
	}
	return append(objs, elem(setMasq.of(is6), prefix, ""))
}
