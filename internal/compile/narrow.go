package compile

import (
	"fmt"
	"maps"
	"slices"

	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Endpoints behind paths that are narrower than their network: driver/overlay/path.go. What
// is too large for the path and may be cut, the host cuts: it is sent up to it, as if it
// had been for it. All that may be cut is, as a part of a packet is as large as it is.
var mapCut = &kstate.NftSet{Table: bridgeTable, Name: "cut4", Type: "ipv4_addr", Data: "ether_addr"} // an endpoint there → the bridge that leads to it

// narrowing reports whether a network on this host has narrow paths.
func narrowing(in Intent) bool {
	for _, n := range in.Networks {
		if n.Overlay != nil && !n.Absent() && len(n.Overlay.Narrow) > 0 {
			return true
		}
	}
	return false
}

const cutUp = "ether type ip ip frag-off and 0x4000 == 0 ether daddr set ip daddr map @cut4 meta pkttype set host"

// cutting returns the map and the chain that asks it, in the bridges' table.
func cutting() []kstate.Object {
	return []kstate.Object{*mapCut, kstate.Chain{
		Table: bridgeTable, Name: "cut", Type: "filter", Hook: "prerouting", Priority: -260, Rules: []string{
			"iifname " + model.PortPrefix + "* " + cutUp, fmt.Sprintf("iifgroup %d %s", kstate.GroupNamed, cutUp),
		}}}
}

// narrowed is the rule that lowers what both ends of a connection to a service say of the
// segments that they take: where bridged packets pass here, the kernel rewrites and bridges
// them, and what a vxlan device then says of one that is too large reaches nobody.
func narrowed() string {
	return "tcp flags syn / syn,rst ct status dnat iifname @bridges oifname @bridges tcp option maxseg size set rt mtu"
}

// mate returns what leads to an endpoint on another host.
func mate(n *model.Network, f *model.Far) []kstate.Object {
	objs := overlay.Mate(n, f)
	if _, narrow := overlay.Cut(n, f, false); !narrow || !n.ByHost() {
		return objs
	}
	for _, a := range f.Addrs {
		if a.Is4() {
			objs = append(objs, elem(mapCut, a.String(), model.MACForID(model.MACBridge, n.ID)))
		}
	}
	return objs
}

// narrow returns the narrow paths of all networks that use them.
func narrow(in Intent) overlay.Narrow {
	paths := overlay.Narrow{}
	for _, n := range in.Networks {
		if n.Overlay != nil && (!n.Absent() || Published(n)) {
			paths.Add(n)
		}
	}
	return paths
}

// paths returns the host's routes for narrow paths, for tunnels at all their UDP ports.
func paths(in Intent) []kstate.Object {
	ways := narrow(in)
	if len(ways) == 0 {
		return nil
	}
	ports := map[int]bool{}
	for _, n := range in.Networks {
		switch {
		case n.Overlay == nil || n.Absent() && !Published(n):
		case n.Options.Encrypted:
			ports[model.CipherPort] = true
		default:
			ports[n.Overlay.Port] = true
			ports[overlay.MeshPort(false)] = ports[overlay.MeshPort(false)] || Published(n)
		}
	}
	maps.DeleteFunc(ports, func(_ int, used bool) bool { return !used })
	return ways.Paths(slices.Sorted(maps.Keys(ports)))
}
