package trace

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/model"
)

// mateName is an endpoint on another host in words.
func mateName(f *model.Far) string {
	if f.Sandbox == "" {
		return "endpoint " + string(f.ID)
	}
	return "sandbox " + f.Sandbox
}

// linkOf returns the overlay network that an endpoint on another host is on, or nil.
func linkOf(in compile.Intent, f *model.Far) *model.Network {
	for _, n := range in.Networks {
		if n.Overlay != nil && slices.ContainsFunc(n.Overlay.Far, func(o *model.Far) bool { return o.ID == f.ID }) {
			return n
		}
	}
	return nil
}

// nearestMate chooses the address of a sandbox on another host that one here, or this
// host, sends to: one on a network of both.
func nearestMate(in compile.Intent, from *model.Sandbox, mates []*model.Far) (best netip.Addr) {
	near := false
	for _, f := range mates {
		n := linkOf(in, f)
		shared := n != nil && from != nil && from.Endpoint(n.ID) != nil
		for _, a := range f.Addrs {
			if speaks(from, a.Is6()) && (!best.IsValid() || shared && !near) {
				best, near = a, shared
			}
		}
	}
	return best
}

// explainInto is Explain for what an endpoint on another host sends. It comes by a network
// of both; by what other way it might come is for that host to say.
func explainInto(w World, q Question) (Answer, error) {
	name := mateName(q.FromMates[0])
	if len(q.ToMates) > 0 {
		return Answer{}, bothAway(q.FromMates[0], q.ToMates[0])
	}
	if q.To != nil && !q.To.Live() {
		return Answer{}, fmt.Errorf("%s: does not run", q.To.Ref())
	}
	s := newSight(w)
	if q.Service == nil && q.To == nil {
		q.Service = s.served(q.Addr)
	}
	if q.Service != nil {
		return Answer{}, fmt.Errorf("%s is on host %s, which chooses a backend of %s for it: ask there", name, q.FromMates[0].Host, q.Service.Ref())
	}
	for _, f := range q.FromMates {
		n := linkOf(w.Intent, f)
		if n == nil {
			continue
		}
		for _, src := range f.Addrs {
			dst := s.facing(n, q, src.Is6())
			if to := s.elsewhere(n, dst); to != nil {
				return Answer{}, bothAway(f, to)
			}
			if dst.IsValid() {
				into := &walk{sight: s, src: src, dst: dst, proto: q.Proto, dport: q.Port}
				into.way.Src, into.way.Dst = src, dst
				into.comeAcross(n, f)
				return into.both(), nil
			}
		}
	}
	return Answer{}, fmt.Errorf("%s: shares no network with what is asked for: which way it sends is for host %s to say", name, q.FromMates[0].Host)
}

func bothAway(a, b *model.Far) error {
	return fmt.Errorf("%s is on host %s, %s on host %s: ask there", mateName(a), a.Host, mateName(b), b.Host)
}

// facing returns the address on a network of both that an endpoint on another host sends
// to, or the zero one.
func (s *sight) facing(n *model.Network, q Question, is6 bool) netip.Addr {
	if q.To == nil {
		if sub, ok := n.Subnet(is6); ok && q.Addr.Is6() == is6 && sub.Prefix.Contains(q.Addr) {
			return q.Addr
		}
		return netip.Addr{}
	}
	for ep := range q.To.On(n.ID) {
		if a, ok := ep.Addr(is6); ok {
			return a.Addr()
		}
	}
	return netip.Addr{}
}
