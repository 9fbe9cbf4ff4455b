package compile

import (
	"cmp"
	"maps"
	"net/netip"
	"slices"
	"strconv"

	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// What comes by an overlay network's UDP port is from the cluster's other hosts, or
// dropped: the kernel takes a vxlan packet from whoever sends it.
var (
	setTrunks = set("trunks", "inet_service", "") // UDP ports of overlay networks
	setVXLAN  = set("vxlan", "inet_service", "")  // the same, and those of fabrics
	setSealed = set("sealed", "inet_service", "") // those of encrypted ones: what comes by them has come through the tunnel
	setHosts  = perFamily("hosts", "ADDR", "")    // where other hosts with endpoints on them are
)

// overlaid reports whether somebody on this host is on an overlay network, or one has
// published ports.
func overlaid(in Intent) bool {
	for _, n := range in.Networks {
		if n.Overlay != nil && !n.Absent() || Published(n) {
			return true
		}
	}
	return false
}

// sealing reports whether one of those is encrypted.
func sealing(in Intent) bool {
	for _, n := range in.Networks {
		if n.Overlay != nil && n.Options.Encrypted && (!n.Absent() || Published(n)) {
			return true
		}
	}
	return false
}

// outer lets in what the cluster's other hosts send through tunnels. sealed: some of that
// is encrypted, and comes by no other way.
func (b builder) outer(sealed bool) {
	must(b.Add(*setTrunks, *setHosts.v4, *setHosts.v6))
	must(b.Add(*setVIP.v4, *setVIP.v6, *mapService.v4, *mapService.v6, *mapBackend.v4, *mapBackend.v6, *setHairpin.v4, *setHairpin.v6))
	rules := []string{"ip saddr @hosts4 accept", "ip6 saddr @hosts6 accept", "drop"}
	if sealed {
		must(b.Add(*setSealed))
		rules = append([]string{"iifname " + model.CipherDevice + " udp dport @sealed accept", "iifname " + model.CipherDevice + " drop", "udp dport @sealed drop"}, rules...)
	}
	b.chain("outer", rules...)
}

// cipher returns what encrypted networks share: the device, and that nothing but their
// own packets comes by it or, but from the host itself, leaves by it. Whoever could
// send into it would be taken for this host.
func cipher(in Intent) []kstate.Object {
	var objs []kstate.Object
	ways := narrow(in)
	var least *model.Network // they differ for a moment when the uplink does
	for _, n := range in.Networks {
		if n.Overlay == nil || !n.Options.Encrypted || n.Absent() && !Published(n) {
			continue
		}
		if least == nil || cmp.Or(cmp.Compare(n.Overlay.MTU, least.Overlay.MTU), cmp.Compare(n.ID, least.ID)) < 0 {
			least = n
		}
		if !n.Absent() {
			objs = append(objs, overlay.Through(n, ways)...)
		}
		if Published(n) {
			objs = append(objs, overlay.MeshThrough(n.Overlay.Mesh, ways)...)
		}
	}
	if least == nil {
		return nil
	}
	dev := model.CipherDevice
	return append(append(objs, overlay.Cipher(least)...),
		elem(mapEgress, dev, verdictDrop), elem(mapOnward, dev, verdictDrop), elem(mapIngress.v4, dev, verdictDrop), elem(mapIngress.v6, dev, verdictDrop),
		elem(mapToHost.v4, dev, verdictDrop), elem(mapToHost.v6, dev, verdictDrop))
}

// wrapped leaves the packets of vxlan devices untracked: nobody asks for their
// connections, and each flow inside is one more of them. meshed: what comes by the mesh is
// told apart before, so that it is tracked.
func (b builder) wrapped(meshed bool) {
	must(b.Add(*setVXLAN))
	const untrack = "udp dport @vxlan notrack"
	come := []string{untrack}
	if meshed {
		come = []string{originating(), untrack}
	}
	b.base("wrapped_prerouting", "filter", "prerouting", -300, come...)
	b.base("wrapped_output", "filter", "output", -300, untrack)
}

// trunks returns the elements of both, of all networks together.
func trunks(in Intent) []kstate.Object {
	wrapped, ports, sealed, hosts := map[int]bool{}, map[int]bool{}, map[int]bool{}, map[netip.Addr]bool{}
	for _, n := range in.Networks {
		if n.Fabric != nil && n.Fabric.Backend.Type == model.BackendVXLAN {
			wrapped[n.Fabric.Backend.Port] = true
		}
		if n.Overlay == nil || n.Absent() {
			continue
		}
		ports[n.Overlay.Port], wrapped[n.Overlay.Port] = true, true
		if n.Options.Encrypted {
			sealed[n.Overlay.Port] = true
			continue // who sends there, the tunnel knows
		}
		for _, a := range n.Overlay.Hosts {
			hosts[a] = true
		}
	}
	plain, secret := meshed(in)
	for _, a := range meshAddrs(plain) {
		hosts[a] = true
	}
	for i, nets := range [][]*model.Network{plain, secret} {
		if port := overlay.MeshPort(i == 1); len(nets) > 0 {
			ports[port], wrapped[port] = true, true
			if i == 1 {
				sealed[port] = true
			}
		}
	}
	var objs []kstate.Object
	for _, port := range slices.Sorted(maps.Keys(ports)) {
		objs = append(objs, elem(setTrunks, strconv.Itoa(port), ""))
	}
	for _, port := range slices.Sorted(maps.Keys(sealed)) {
		objs = append(objs, elem(setSealed, strconv.Itoa(port), ""))
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
