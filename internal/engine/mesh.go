package engine

import (
	"cmp"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// meshOf is how this host and the others pass on what comes to published ports: a host
// that has no number yet is not of it. The caller holds work.
func (e *Engine) meshOf(v *overlay.View, uplink string, local netip.Addr, mtu int) *model.Mesh {
	self := e.cfg.Cluster.Node.ID
	m := model.Mesh{ID: self, Uplink: uplink, Local: local, MTU: mtu, Inner: overlay.InnerOf(self), Public: publicOf(v.Hosts[self])}
	at, inner := publics(v, local.Is6()), inners(e.peersOf(v))
	for id, h := range v.Hosts {
		if id != self && h.Number > 0 {
			m.Hosts = append(m.Hosts, model.MeshHost{ID: id, Name: cmp.Or(h.Name, id), Number: h.Number, At: at[id], Inner: inner[id], Public: publicOf(h)})
		}
	}
	slices.SortFunc(m.Hosts, func(a, b model.MeshHost) int { return a.Number - b.Number })
	return &m
}

// publicOf are the addresses that a host says of itself.
func publicOf(h overlay.Peer) []netip.Addr {
	return slices.DeleteFunc([]netip.Addr{h.Public4, h.Public6}, func(a netip.Addr) bool { return !a.IsValid() })
}

// publishedAt is where the host asks at a port that a service is published at, for its own
// programs and for containers that are kept apart: at one of its addresses, and not a
// loopback one. The caller holds mu.
func (e *Engine) publishedAt(proto string, dst netip.AddrPort) (at netip.AddrPort, ok bool) {
	for _, n := range e.intent.Networks {
		if n.Overlay == nil || n.Overlay.Mesh == nil {
			continue
		}
		for i := range n.Overlay.Services {
			for _, p := range n.Overlay.Services[i].Publish {
				switch {
				case p.Proto != proto || p.Port != dst.Port() || p.Taken != "":
				case !dst.Addr().IsLoopback() && (len(p.Addrs) == 0 || slices.Contains(p.Addrs, dst.Addr())):
					return dst, true
				case dst.Addr().IsLoopback() && len(p.Addrs) == 0:
					return netip.AddrPortFrom(n.Overlay.Mesh.Local, dst.Port()), true
				}
			}
		}
	}
	return at, false
}
