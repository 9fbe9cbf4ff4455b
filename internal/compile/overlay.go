package compile

import (
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// What comes by an overlay network's UDP port is from the cluster's other hosts, or
// dropped: the kernel takes a vxlan packet from whoever sends it.
var (
	setTrunks = set("trunks", "inet_service", "") // UDP ports of overlay networks
	setVXLAN  = set("vxlan", "inet_service", "")  // the same, and those of fabrics
	setHosts  = perFamily("hosts", "ADDR", "")    // where other hosts with endpoints on them are
)

// overlaid reports whether somebody on this host is on an overlay network.
func overlaid(in Intent) bool {
	for _, n := range in.Networks {
		if n.Overlay != nil && !n.Absent() {
			return true
		}
	}
	return false
}

// outer lets in what the cluster's other hosts send through tunnels.
func (b builder) outer() {
	must(b.Add(*setTrunks, *setHosts.v4, *setHosts.v6))
	must(b.Add(*setVIP.v4, *setVIP.v6, *mapService.v4, *mapService.v6, *mapBackend.v4, *mapBackend.v6, *setHairpin.v4, *setHairpin.v6))
	b.chain("outer", "ip saddr @hosts4 accept", "ip6 saddr @hosts6 accept", "drop")
}

// wrapped leaves the packets of vxlan devices untracked: nobody asks for their
// connections, and each flow inside is one more of them.
func (b builder) wrapped() {
	must(b.Add(*setVXLAN))
	for _, hook := range []string{"prerouting", "output"} {
		b.base("wrapped_"+hook, "filter", hook, -300, "udp dport @vxlan notrack")
	}
}

// trunks returns the elements of both, of all networks together.
func trunks(in Intent) []kstate.Object {
	wrapped, ports, hosts := map[int]bool{}, map[int]bool{}, map[netip.Addr]bool{}
	for _, n := range in.Networks {
		if n.Fabric != nil && n.Fabric.Backend.Type == model.BackendVXLAN {
			wrapped[n.Fabric.Backend.Port] = true
		}
		if n.Overlay == nil || n.Absent() {
			continue
		}
		ports[n.Overlay.Port], wrapped[n.Overlay.Port] = true, true
		for _, a := range n.Overlay.Hosts() {
			hosts[a] = true
		}
	}
	var objs []kstate.Object
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		objs = append(objs, elem(setTrunks, strconv.Itoa(port), ""))
	}
	for _, port := range slices.Sorted(maps.Keys(wrapped)) {
		objs = append(objs, elem(setVXLAN, strconv.Itoa(port), ""))
	}
	for a := range hosts {
		objs = append(objs, elem(setHosts.of(a.Is6()), a.String(), ""))
	}
	return objs
}

// unsaid are rules for what the host itself sends through a trunk: nothing to all but
// what the device answers. It has the network's gateway there, as every other host.
func unsaid() []string {
	trunk := "oifname " + model.TrunkPrefix + "* "
	return []string{trunk + "icmpv6 type nd-neighbor-solicit accept", trunk + "ip daddr 224.0.0.0/3 drop", trunk + "ip6 daddr ff00::/8 drop"}
}
