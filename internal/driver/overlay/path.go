package overlay

import (
	"cmp"
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// A path between two hosts may take less than their devices do, and an overlay network has
// one MTU on all of them: it is one link. So the vxlan device is told by the route of
// its own packets, which has the path's MTU. What is then too large it does not send, and
// answers the container in the other one's name with what fits (skb_tunnel_check_pmtu in
// net/ipv4/ip_tunnel_core.c), as a router between them would.
//
//	plain:     rule 24223, to UDP port 8473: table 242249999: 198.51.100.1 via 192.0.2.254 dev eth0 mtu 1400
//	encrypted: fd5e:…:B dev slw0 mtu 1350, inside; outside a route as above: what is larger
//	           all the same goes in pieces
//	the mesh:  table 242250002: default via 169.254.0.2 dev slm0 mtu 1350
//
// Packets of IPv4 that may be cut are not answered so. They go up to the host (set cut of
// the firewall), which has a route to each endpoint behind such a path, and cuts them.

// minMTU6 is what every way of IPv6 carries, in bytes (RFC 8200 5).
const minMTU6 = 1280

const (
	pathPriority = 24223
	pathTable    = firstTable - 1
)

// Narrow are narrow paths by where the hosts are found.
type Narrow map[netip.Addr]model.NarrowPath

// Add adds the paths that a network knows. Networks know different ones for a moment when
// they change: the narrower counts.
func (w Narrow) Add(n *model.Network) {
	for _, p := range n.Overlay.Narrow {
		if have, ok := w[p.At]; !ok || narrower(p, have) < 0 {
			w[p.At] = p
		}
	}
}

func narrower(a, b model.NarrowPath) int {
	return cmp.Or(cmp.Compare(a.MTU, b.MTU), cmp.Compare(a.Full, b.Full), cmp.Compare(b.Dev, a.Dev), a.Via.Compare(b.Via))
}

// Fits is the largest packet of a family, in bytes, that a vxlan device sends by a narrow
// path.
func Fits(p model.NarrowPath, is6 bool) int {
	fits := p.MTU
	if p.At != p.To {
		fits = inside(p)
	}
	fits -= kstate.VXLAN{Local: p.At}.Overhead()
	if is6 {
		fits = max(fits, minMTU6)
	}
	return fits
}

// inside is the largest packet that goes through the tunnel of encrypted networks by a narrow path. WireGuard
// fills them up to multiples of 16 bytes. So much that vxlan can pass on any packet of
// IPv6 always goes.
func inside(p model.NarrowPath) int {
	least := minMTU6 + kstate.VXLAN{Local: p.At}.Overhead()
	return min(max((p.MTU-aroundCipher)&^15, least), p.Full-aroundCipher)
}

// through is the way to a host through the tunnel.
func (w Narrow) through(at netip.Addr) kstate.Object {
	r := kstate.Route{Dst: whole(at), Dev: model.CipherDevice}
	if p, ok := w[at]; ok {
		r.MTU = inside(p)
	}
	return r
}

// fits is the same as Fits, or 0 where the path to a host is not narrow.
func (w Narrow) fits(at netip.Addr, is6 bool) int {
	if p, ok := w[at]; ok {
		return Fits(p, is6)
	}
	return 0
}

// Paths returns the routes that have the MTU of narrow paths, and the rules by which
// packets to UDP ports of tunnels, and no others, go by them.
func (w Narrow) Paths(ports []int) []kstate.Object {
	var objs []kstate.Object
	to := map[netip.Addr]model.NarrowPath{}
	for _, p := range w {
		if have, ok := to[p.To]; p.Dev != "" && (!ok || narrower(p, have) < 0) {
			to[p.To] = p
		}
	}
	var families [2]bool
	for a, p := range to {
		objs = append(objs, kstate.Route{Dst: whole(a), Via: p.Via, Dev: p.Dev, Onlink: p.Via.IsValid(), Table: pathTable, MTU: p.MTU})
		if a.Is6() {
			families[1] = true
		} else {
			families[0] = true
		}
	}
	for f, wanted := range families {
		for _, port := range ports {
			if wanted {
				objs = append(objs, kstate.Rule{Is6: f == 1, Priority: pathPriority, Port: port, Table: pathTable})
			}
		}
	}
	return objs
}

// Cut returns what fits the path to an endpoint on another host, of each family, in bytes,
// where that is less than the network's MTU.
func Cut(n *model.Network, f *model.Far, is6 bool) (fits int, narrow bool) {
	p, narrow := n.Overlay.PathTo(f.At)
	if !narrow || !f.Reached() {
		return 0, false
	}
	fits = Fits(p, is6)
	return fits, fits < n.Options.MTU
}

// narrowed returns the host's routes to an endpoint behind a narrow path: for what
// the host passes on to it, services' packets and those that may be cut.
func narrowed(n *model.Network, f *model.Far) []kstate.Object {
	var objs []kstate.Object
	for _, a := range f.Addrs {
		if fits, narrow := Cut(n, f, a.Is6()); narrow {
			objs = append(objs, kstate.Route{Dst: whole(a), Dev: n.Device(), MTU: fits})
		}
	}
	return objs
}
