package trace

import (
	"cmp"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// sight is a world to look things up in: as it is, and as it should be, which is what
// others have and what is wanted of ours.
type sight struct {
	World
	is, should stock
	broken     kstate.Object // a part of our tables' structure that is not as intended; nil: none is
}

// stock are the objects of one state by where they are.
type stock struct {
	set    kstate.Set
	links  map[place]kstate.Link // the far ends of veths too
	addrs  map[kstate.NS][]kstate.Addr
	routes map[kstate.NS][]kstate.Route
	rules  filter
}

// place is a device.
type place struct {
	ns   kstate.NS
	name string
}

func newSight(w World) *sight {
	should := kstate.Set{}
	for k, o := range w.Have {
		if kstate.Foreign(o) {
			should[k] = o
		}
	}
	for k, o := range w.Want {
		should[k] = o
	}
	s := &sight{World: w, is: newStock(w.Have), should: newStock(should)}
	s.broken = s.brokenFirewall()
	return s
}

func newStock(s kstate.Set) stock {
	st := stock{set: s, links: map[place]kstate.Link{}, addrs: map[kstate.NS][]kstate.Addr{}, routes: map[kstate.NS][]kstate.Route{}, rules: filter{}}
	for _, o := range s.Sorted() {
		switch o := o.(type) {
		case kstate.Link:
			st.links[place{o.NS, o.Name}] = o
			if o.Type == kstate.TypeVeth && o.Peer.Name != "" {
				st.links[place{o.Peer.NS, o.Peer.Name}] = o
			}
		case kstate.Addr:
			st.addrs[o.NS] = append(st.addrs[o.NS], o)
		case kstate.Route:
			if o.Table == 0 { // others are asked by a rule alone
				st.routes[o.NS] = append(st.routes[o.NS], o)
			}
		case kstate.Elem:
			st.rules.add(o)
		}
	}
	return st
}

// local reports whether an address is a namespace's own.
func (st *stock) local(ns kstate.NS, a netip.Addr) (dev string, ok bool) {
	i := slices.IndexFunc(st.addrs[ns], func(o kstate.Addr) bool { return o.Prefix.Addr() == a })
	if i < 0 {
		return "", false
	}
	return st.addrs[ns][i].Dev, true
}

// on reports whether an address is that of a device of a namespace.
func (st *stock) on(ns kstate.NS, dev string, a netip.Addr) bool {
	return slices.ContainsFunc(st.addrs[ns], func(o kstate.Addr) bool { return o.Dev == dev && o.Prefix.Addr() == a })
}

// route returns the route to an address as the kernel chooses it: the longest prefix,
// then the lowest metric. The kernel's own ones, to what addresses are on, are in no set.
func (st *stock) route(ns kstate.NS, dst netip.Addr) (best kstate.Route, ok bool) {
	var list []kstate.Route
	for _, r := range st.routes[ns] {
		if r.Dst.Contains(dst) {
			list = append(list, r)
		}
	}
	for _, a := range st.addrs[ns] {
		if p := a.Prefix.Masked(); p.Contains(dst) && !p.IsSingleIP() {
			list = append(list, kstate.Route{NS: ns, Dst: p, Dev: a.Dev})
		}
	}
	if len(list) == 0 {
		return best, false
	}
	return slices.MinFunc(list, func(a, b kstate.Route) int {
		return cmp.Or(b.Dst.Bits()-a.Dst.Bits(), cmp.Compare(metric(a), metric(b)))
	}), true
}

func metric(r kstate.Route) uint32 {
	if r.First {
		return 0
	}
	return r.Metric
}

// source returns the address that a namespace sends with by a route.
func (st *stock) source(r kstate.Route, dst netip.Addr) netip.Addr {
	if r.Src.IsValid() {
		return r.Src
	}
	next := hop(r, dst)
	var best netip.Prefix
	for _, a := range st.addrs[r.NS] {
		p := a.Prefix
		if a.Dev != r.Dev || p.Addr().Is6() != dst.Is6() || p.Addr().IsLinkLocalUnicast() != dst.IsLinkLocalUnicast() {
			continue
		}
		if near := p.Contains(next); !best.IsValid() || near && !best.Contains(next) || near == best.Contains(next) && p.Addr().Less(best.Addr()) {
			best = p
		}
	}
	return best.Addr()
}

// hop is where a packet goes next.
func hop(r kstate.Route, dst netip.Addr) netip.Addr {
	if r.Via.IsValid() {
		return r.Via
	}
	return dst
}

// lacks reports whether something that is wanted is not there, or is otherwise.
func (s *sight) lacks(key kstate.Key) (kstate.Object, bool) {
	want, ok := s.Want[key]
	if !ok {
		return nil, false
	}
	have, there := s.Have[key]
	return want, !there || have.String() != want.String()
}

// network returns the network that a bridge of the host is of, or nil.
func (s *sight) network(dev string) *model.Network {
	for _, n := range s.Intent.Networks {
		if n.Bridged() && n.HasBridge(dev) {
			return n
		}
	}
	return nil
}

// holder returns the endpoint on a network that has an address, and its sandbox.
func (s *sight) holder(n *model.Network, a netip.Addr) (*model.Sandbox, *model.Endpoint) {
	for _, sb := range s.Intent.Sandboxes {
		if !sb.Live() {
			continue
		}
		for ep := range sb.On(n.ID) {
			for _, p := range slices.Concat(ep.Addrs, ep.Outside, ep.LinkLocal) {
				if p.Addr() == a {
					return sb, ep
				}
			}
		}
	}
	return nil, nil
}

// inside returns the namespace of a sandbox, or false if it was not looked into.
func (s *sight) inside(sb *model.Sandbox) (kstate.NS, bool) {
	ns := compile.NS(sb)
	if ns.IsHost() {
		return ns, sb.Mode == model.ModeHost
	}
	return ns, s.Have[kstate.NetNS{NS: ns}.Key()] != nil
}

// beyond returns the network of several hosts whose whole prefix an address is in, and
// the other host that has a lease of it, if one has.
func (s *sight) beyond(a netip.Addr) (*model.Network, *model.Peer) {
	for _, n := range s.Intent.Networks {
		if n.Fabric == nil {
			continue
		}
		if whole, ok := n.Fabric.Of(a.Is6()); !ok || !whole.Contains(a) {
			continue
		}
		for i := range n.Fabric.Peers {
			p := &n.Fabric.Peers[i]
			if sub, ok := p.Subnet(a.Is6()); ok && sub.Contains(a) {
				return n, p
			}
		}
		return n, nil
	}
	return nil, nil
}

// others names the chains of others' firewalls that judge at a hook, or "".
func (s *sight) others(hook string) string {
	var names []string
	for _, f := range s.Filters {
		if f.Hook == hook && (f.Stops || f.Policy == "drop") {
			names = append(names, f.Table.Family+" "+f.Table.Name+" "+f.Chain)
		}
	}
	if len(names) == 0 {
		return ""
	}
	slices.Sort(names)
	return "; firewalls of others judge it too: " + strings.Join(slices.Compact(names), ", ")
}
