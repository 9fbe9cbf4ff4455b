package compile

import (
	"cmp"
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Gateway returns the endpoint that gives a sandbox its default route of a
// family and carries its published ports, or nil. The order is Docker's, made
// total: the highest priority, then a network with both families, then by
// network name (Endpoint.Less in libnetwork/sandbox.go). Internal networks
// lead nowhere.
func Gateway(sb *model.Sandbox, nets map[model.ID]*model.Network, is6 bool) *model.Endpoint {
	var best *model.Endpoint
	for i := range sb.Endpoints {
		e := &sb.Endpoints[i]
		n := nets[e.Network]
		if _, ok := e.Addr(is6); !ok || n == nil || n.Internal {
			continue
		}
		if best == nil || less(e, best, nets) {
			best = e
		}
	}
	return best
}

func less(a, b *model.Endpoint, nets map[model.ID]*model.Network) bool {
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(len(b.Addrs), len(a.Addrs)),
		cmp.Compare(nets[a.Network].Name, nets[b.Network].Name),
	) < 0
}

func defaultRoutes(sb *model.Sandbox, nets map[model.ID]*model.Network, ns kstate.NS) []kstate.Object {
	var objs []kstate.Object
	if sb.Mode == model.ModeRuntime {
		return nil
	}
	for _, is6 := range []bool{false, true} {
		e := Gateway(sb, nets, is6)
		if e == nil || sb.Routed(is6) {
			continue
		}
		sub, ok := nets[e.Network].Subnet(is6)
		if !ok || !sub.Router().IsValid() {
			continue
		}
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if is6 {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		objs = append(objs, kstate.Route{NS: ns, Dst: dst, Via: sub.Router(), Dev: e.IfName})
	}
	return objs
}
