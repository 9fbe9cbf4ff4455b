package compile

import (
	"slices"

	"github.com/sealane/sealane/internal/driver/fabric"
	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// beyond adds to what a network is on this host what leads to its parts on others, and
// what the firewall has to know of them. There may be thousands: the smaller set goes
// into the larger one, which is returned.
func beyond(n *model.Network, here kstate.Set) (kstate.Set, error) {
	switch {
	case n.Overlay != nil:
		return here, here.Add(overlay.Trunk(n)) // the rest is parts
	case n.Fabric == nil:
		return here, nil
	}
	s, err := fabric.Ways(n)
	if err == nil {
		err = s.Add(across(n)...)
	}
	if err != nil {
		return nil, err
	}
	return s, s.Merge(here)
}

// lodging judges what comes from another program's bridge with the host's part of a
// network, and what goes there. What containers there send, with addresses of theirs, is
// let pass as that of containers of ours, and so are the answers, and what comes from
// the network's other hosts. The rest is for that program's firewall to judge, and ours
// says nothing, but of what enters networks of ours or goes to the other hosts.
func (b builder) lodging(parting, arriving []string) {
	b.chain("lodgers", slices.Concat([]string{
		"ip saddr . iifname @home4 goto leave",
		"ip6 saddr . iifname @home6 goto leave",
	}, parting, []string{
		"meta nfproto ipv4 oifname vmap @ingress4",
		"meta nfproto ipv6 oifname vmap @ingress6",
	})...)
	b.chain("to_lodge", append([]string{
		"ct direction reply ct state established goto pass",
		"ct state related goto pass",
	}, arriving...)...)
}

// lodge returns the elements of such a bridge.
func lodge(n *model.Network) []kstate.Object {
	dev := n.Device()
	objs := []kstate.Object{elem(mapEgress, dev, verdictLodgers), elem(mapOnward, dev, verdictToOthers)}
	for _, sub := range n.Subnets {
		objs = append(objs, elem(mapIngress.of(sub.Prefix.Addr().Is6()), dev, verdictToLodge))
		objs = append(objs, leaving(n, sub)...)
	}
	return objs
}

// across lets in what comes from other hosts of a network, by the device that it
// comes by, and out to them only what is of it, with its own address. By a tunnel comes what is of the
// network; by a link that strangers are on too, only what is of a peer there, and the
// peer's own packets; where commands made the way to a peer, what is of it and comes by
// that way.
func across(n *model.Network) []kstate.Object {
	var objs []kstate.Object
	for _, is6 := range []bool{false, true} {
		own, ok := n.Subnet(is6)
		whole, in := n.Fabric.Of(is6)
		if !ok || !in {
			continue
		}
		objs = append(objs, elem(setWhole.of(is6), whole.String(), ""), elem(setWithin.of(is6), own.Prefix.String()+" . "+whole.String(), ""))
		from := func(dev, source string) {
			objs = append(objs, elem(setFabric.of(is6), dev+" . "+source+" . "+own.Prefix.String(), ""))
		}
		if dev := n.Tunnel(is6); dev != "" {
			from(dev, whole.String())
			// What comes by it goes nowhere else, and nothing else goes out by it.
			objs = append(objs, elem(mapEgress, dev, verdictArrived), elem(mapOnward, dev, verdictAcross))
		}
		for i := range n.Fabric.Peers {
			p := &n.Fabric.Peers[i]
			sub, has := p.Subnet(is6)
			if has && p.Dev(is6) != "" {
				from(p.Dev(is6), sub.String())
			}
			if !has || fabric.Unreached(n.Fabric, p, is6) != "" || !fabric.Direct(n.Fabric, p) {
				continue
			}
			from(n.Fabric.Uplink, sub.String())
			from(n.Fabric.Uplink, p.Public(is6).String())
		}
	}
	return objs
}
