package driver

import (
	"net/netip"
	"path"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Shared returns what a network needs of the host that others may need as well, in
// the same words: of a parent its being up, and its VLAN; of Open vSwitch a bridge.
func Shared(n *model.Network) []kstate.Object {
	if n.Driver == model.DriverOVS && !n.Options.Adopted {
		return []kstate.Object{kstate.OVSBridge{Name: n.Device(), Datapath: n.Options.Datapath}}
	}
	if n.Driver == model.DriverBridge {
		return sharedBridge(n)
	}
	if n.Driver == model.DriverPhys && n.NIC() == "" {
		return []kstate.Object{kstate.Raise{Dev: n.Options.Parent}}
	}
	on, id, tagged := n.Tag()
	switch {
	case !n.OnParent() || n.Options.Parent == "":
		return nil
	case !tagged:
		return []kstate.Object{kstate.Raise{Dev: n.Lower()}}
	}
	tag := kstate.Link{Name: n.Lower(), Type: kstate.TypeVLAN, Parent: on, VLAN: id, Up: true, NoARP: true, Alias: "sealane"}
	return []kstate.Object{kstate.Raise{Dev: on}, tag}
}

// sharedBridge is what a network needs of a bridge that is not ours, and of the
// device that its VLANs are on, one for all.
func sharedBridge(n *model.Network) []kstate.Object {
	var objs []kstate.Object
	if n.Sorts() && n.Options.Adopted {
		objs = append(objs, kstate.Trunk{Bridge: n.Device()})
	}
	for _, l := range n.Ways() {
		if l.Parent == n.Base() && !n.Options.Adopted {
			continue // is ours, and up
		}
		return append(objs, kstate.Raise{Dev: l.Parent})
	}
	return objs
}

// Stub returns what stands for the parent of a network that has none: a veth to a
// namespace where nobody is, so that it has a carrier and leads nowhere.
func Stub(n *model.Network, f Facts) []kstate.Object {
	if n.Options.Parent != "" {
		return nil
	}
	dev, name := n.Parked()
	ns := kstate.NS{Path: path.Join(f.RunDir, "netns", name)}
	return []kstate.Object{kstate.NetNS{NS: ns}, kstate.Link{
		Name: n.Lower(), Type: kstate.TypeVeth, MTU: n.Options.MTU, MAC: model.MACForID(model.MACVeth, n.ID),
		Up: true, NoARP: true, Alias: "sealane " + n.Name,
		Peer: kstate.Peer{NS: ns, Name: dev, MAC: model.MACForID(model.MACSide, n.ID)},
	}}
}

// Handed returns the device of a handed endpoint: it is made in the host's
// namespace, for the container engine to take.
func Handed(l kstate.Link, e *model.Endpoint) kstate.Link {
	l.NS, l.Name, l.Up, l.Alias = kstate.NS{}, e.FarDevice(), false, ""
	l.NoARP = false // of ipvlan, which has it from when it is set up (ipvlan_open)
	l.Handed, l.Taken = true, e.Taken
	return l
}

// Leg returns the host's own device on a network's parent, made like, with its
// addresses. Without one there is nothing.
func Leg(n *model.Network, like kstate.Link) []kstate.Object {
	legs := n.Legs()
	if len(legs) == 0 {
		return nil
	}
	like.NS, like.Name = kstate.NS{}, n.Leg()
	objs := []kstate.Object{like}
	for _, a := range legs {
		objs = append(objs, kstate.Addr{Dev: like.Name, Prefix: netip.PrefixFrom(a, a.BitLen())})
	}
	return objs
}

// ToLeg returns the host's ways to an endpoint by its leg.
func ToLeg(n *model.Network, e *model.Endpoint) []kstate.Object {
	var objs []kstate.Object
	for _, leg := range n.Legs() {
		for _, list := range [][]netip.Prefix{e.Addrs, e.Outside} {
			for _, p := range list {
				if a := p.Addr(); a.Is6() == leg.Is6() {
					objs = append(objs, kstate.Route{Dst: netip.PrefixFrom(a, a.BitLen()), Dev: n.Leg(), Src: leg})
				}
			}
		}
	}
	return objs
}
