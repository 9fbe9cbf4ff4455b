package compile

import (
	"cmp"
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// Gateway returns the endpoint that gives a sandbox its default route of a
// family, or nil. One whose user named a router comes before the others of its
// priority; the rest of the order is Docker's, made total: a network that the
// host routes, then one with both families, then by network name (Endpoint.Less
// in libnetwork/sandbox.go). Internal networks lead nowhere.
func Gateway(sb *model.Sandbox, nets map[model.ID]*model.Network, is6 bool) *model.Endpoint {
	return best(sb, nets, is6, func(e *model.Endpoint, n *model.Network) bool {
		return Router(e, n, is6).IsValid() || n.ByHost() || n.Pointed()
	})
}

// Carrier returns the endpoint that carries a sandbox's published ports of a
// family, or nil: as Gateway, but of a network that the host routes.
func Carrier(sb *model.Sandbox, nets map[model.ID]*model.Network, is6 bool) *model.Endpoint {
	return best(sb, nets, is6, func(e *model.Endpoint, n *model.Network) bool { _, has := e.Addr(is6); return has && n.ByHost() })
}

// best returns the first, in the order of Gateway, of the endpoints that may be it.
func best(sb *model.Sandbox, nets map[model.ID]*model.Network, is6 bool, may func(*model.Endpoint, *model.Network) bool) *model.Endpoint {
	var best *model.Endpoint
	for i := range sb.Endpoints {
		e := &sb.Endpoints[i]
		if n := nets[e.Network]; n == nil || n.Internal || !e.Has(is6) && !e.Unnumbered(is6) || !may(e, n) {
			continue
		}
		if best == nil || less(e, best, nets, is6) {
			best = e
		}
	}
	return best
}

func less(a, b *model.Endpoint, nets map[model.ID]*model.Network, is6 bool) bool {
	later := func(e *model.Endpoint, is func(*model.Endpoint) bool) int {
		if is(e) {
			return 0
		}
		return 1
	}
	named := func(e *model.Endpoint) bool { return e.Router(is6).IsValid() && !e.Leased(is6) }
	byHost := func(e *model.Endpoint) bool { return nets[e.Network].ByHost() }
	return cmp.Or(
		cmp.Compare(b.Priority, a.Priority),
		cmp.Compare(later(a, named), later(b, named)),
		cmp.Compare(later(a, byHost), later(b, byHost)),
		cmp.Compare(len(b.Addrs), len(a.Addrs)),
		cmp.Compare(nets[a.Network].Name, nets[b.Network].Name),
	) < 0
}

// Router returns where an endpoint sends what is on none of its subnets, or the
// zero address.
func Router(e *model.Endpoint, n *model.Network, is6 bool) netip.Addr {
	if a := e.Router(is6); a.IsValid() || n.Pointed() {
		return a
	}
	own, has := e.Addr(is6)
	if !has {
		return netip.Addr{}
	}
	sub, _ := n.SubnetWith(own.Addr())
	return sub.Router()
}

// defaultRoutes returns the ways out of a sandbox. A router that is on none of the
// endpoint's subnets is on the link. One that the user named is used instead of
// what a namespace of others has.
func defaultRoutes(sb *model.Sandbox, nets map[model.ID]*model.Network, ns kstate.NS) []kstate.Object {
	var objs []kstate.Object
	if sb.Mode == model.ModeRuntime {
		return nil
	}
	for _, is6 := range []bool{false, true} {
		e := Gateway(sb, nets, is6)
		if e == nil || sb.Routed(is6) && !e.Router(is6).IsValid() {
			continue
		}
		via := Router(e, nets[e.Network], is6)
		if !via.IsValid() && !nets[e.Network].Pointed() {
			continue
		}
		dst := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if is6 {
			dst = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		if via.IsValid() && !e.Reaches(via) {
			objs = append(objs, kstate.Route{NS: ns, Dst: netip.PrefixFrom(via, via.BitLen()), Dev: e.IfName})
		}
		instead := sb.Mode == model.ModeOther && e.Router(is6).IsValid()
		if instead && !is6 {
			objs = append(objs, kstate.Aside{NS: ns})
		}
		objs = append(objs, kstate.Route{NS: ns, Dst: dst, Via: via, Dev: e.IfName, First: instead && is6})
	}
	return objs
}
