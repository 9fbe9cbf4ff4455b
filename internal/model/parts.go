package model

import (
	"cmp"
	"iter"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"strings"
)

// An overlay network has parts, by the thousand: endpoints on other hosts, services, and
// who answers for them. A part is never changed, but replaced: what is the same value in
// two states of a network is the same, and is not looked at. So what it costs to bring a
// host from one state to another depends on what is different, and not on what there is.

// Changes walks two lists in order, and yields what is not the same in both: an item that
// one of them does not have is the zero value. Items for which order returns 0 are two
// states of one thing.
func Changes[T comparable](from, to []T, order func(a, b T) int) iter.Seq2[T, T] {
	return func(yield func(T, T) bool) {
		var none T
		for len(from) > 0 || len(to) > 0 {
			was, is := none, none
			switch {
			case len(to) == 0:
				was = from[0]
			case len(from) == 0:
				is = to[0]
			case from[0] == to[0]:
				n := alike(from, to)
				from, to = from[n:], to[n:]
				continue
			default:
				c := order(from[0], to[0])
				if c <= 0 {
					was = from[0]
				}
				if c >= 0 {
					is = to[0]
				}
			}
			if was != none {
				from = from[1:]
			}
			if is != none {
				to = to[1:]
			}
			if !yield(was, is) {
				return
			}
		}
	}
}

// alike returns how many items two lists begin with that are the same values. Most are, so
// many are compared at once.
func alike[T comparable](a, b []T) (n int) {
	const many = 64
	for most := min(len(a), len(b)); n+many <= most && *(*[many]T)(a[n:]) == *(*[many]T)(b[n:]); n += many {
	}
	for n < len(a) && n < len(b) && a[n] == b[n] {
		n++
	}
	return n
}

// same reports whether two lists are of the same values.
func same[T comparable](a, b []T) bool { return len(a) == len(b) && alike(a, b) == len(a) }

// Revise returns a list, which is in the order of its keys, with some items as they are
// now: the zero value is gone. Without any it is the list itself.
func Revise[T comparable, K cmp.Ordered](list []T, key func(T) K, now map[K]T) []T {
	if len(now) == 0 {
		return list
	}
	var none T
	out := make([]T, 0, len(list)+len(now))
	for _, k := range slices.Sorted(maps.Keys(now)) {
		n, there := slices.BinarySearchFunc(list, k, func(x T, k K) int { return cmp.Compare(key(x), k) })
		out = append(out, list[:n]...)
		if list = list[n:]; there {
			list = list[1:]
		}
		if now[k] != none {
			out = append(out, now[k])
		}
	}
	return append(out, list...)
}

// Key is what an overlay network's endpoints on other hosts are in the order of.
func (f *Far) Key() string { return string(f.ID) + " " + f.Node }

// Key is what an overlay network's services are in the order of: the name, whose case is of
// no consequence.
func (s *Service) Key() string { return strings.ToLower(s.Name) }

// Key is what those who answer for services are in the order of.
func (s *Servant) Key() string { return string(s.Endpoint) }

// Order orders endpoints on other hosts as an overlay network has them.
func (f *Far) Order(o *Far) int {
	return cmp.Or(cmp.Compare(f.ID, o.ID), cmp.Compare(f.Node, o.Node))
}

// Order orders services as an overlay network has them.
func (s *Service) Order(o *Service) int { return cmp.Compare(s.Key(), o.Key()) }

// Order orders those who answer for services as an overlay network has them.
func (s *Servant) Order(o *Servant) int { return cmp.Compare(s.Endpoint, o.Endpoint) }

// Servant is an endpoint, here or on another host, that is a backend: of how many services
// it may be, in the firewall it is once.
type Servant struct {
	Endpoint ID
	At       []Answer // where it answers for services' addresses; in order, each once
	Exposed  []Answer // where published ports lead to; the same
}

// Answer is where a backend answers.
type Answer struct {
	Addr  netip.Addr
	Proto string
	Port  uint16
	Local bool // on this host
	Node  int  // its host's number, of what is exposed
}

// NewServant is an endpoint as services have it, or nil if none does that has an address or
// a published port.
func NewServant(endpoint ID, services []*Service) *Servant {
	s := &Servant{Endpoint: endpoint}
	for _, o := range services {
		n, _ := slices.BinarySearchFunc(o.Backends, endpoint, func(m Member, id ID) int { return cmp.Compare(m.Endpoint, id) })
		for ; n < len(o.Backends) && o.Backends[n].Endpoint == endpoint; n++ {
			s.answer(o, &o.Backends[n])
		}
	}
	if len(s.At)+len(s.Exposed) == 0 {
		return nil
	}
	for _, list := range []*[]Answer{&s.At, &s.Exposed} {
		slices.SortFunc(*list, Answer.order)
		*list = slices.Compact(*list)
	}
	return s
}

func (a Answer) order(b Answer) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Proto, b.Proto), cmp.Compare(a.Port, b.Port), cmp.Compare(a.Node, b.Node),
		falseLast(a.Local, b.Local))
}

func falseLast(a, b bool) int {
	switch {
	case a == b:
		return 0
	case a:
		return -1
	}
	return 1
}

// answer notes where a backend answers for a service.
func (s *Servant) answer(o *Service, m *Member) {
	for _, vip := range o.VIPs {
		if a := m.Addr(vip.Is6()); a.IsValid() {
			for _, p := range o.Ports {
				s.At = append(s.At, Answer{Addr: a, Proto: p.Proto, Port: cmp.Or(m.Port, p.Port), Local: m.Local})
			}
		}
	}
	for _, p := range o.Publish {
		for _, is6 := range []bool{false, true} {
			if a := m.Addr(is6); a.IsValid() {
				s.Exposed = append(s.Exposed, Answer{Addr: a, Proto: p.Proto, Port: cmp.Or(m.Port, p.Target), Local: m.Local, Node: m.Node})
			}
		}
	}
}

// Derive makes what follows from the parts: Hosts and Servants.
func (o *Overlay) Derive() {
	of := map[ID][]*Service{}
	for _, s := range o.Services {
		for i := range s.Backends {
			if id := s.Backends[i].Endpoint; i == 0 || s.Backends[i-1].Endpoint != id {
				of[id] = append(of[id], s)
			}
		}
	}
	o.Servants = nil
	for _, id := range slices.Sorted(maps.Keys(of)) {
		if s := NewServant(id, of[id]); s != nil {
			o.Servants = append(o.Servants, s)
		}
	}
	at := map[netip.Addr]int{}
	for _, f := range o.Far {
		if f.Reached() {
			at[f.At]++
		}
	}
	o.Hosts = slices.SortedFunc(maps.Keys(at), netip.Addr.Compare)
}

// SameParts reports whether two overlays have the same parts.
func (o *Overlay) SameParts(other *Overlay) bool {
	return same(o.Far, other.Far) && same(o.Services, other.Services) && same(o.Servants, other.Servants) && same(o.Hosts, other.Hosts)
}

// SameFrame reports whether two states of a network are the same but for the parts of an
// overlay.
func (n *Network) SameFrame(other *Network) bool {
	if n.Overlay == nil || other.Overlay == nil {
		return reflect.DeepEqual(n, other)
	}
	a, b, oa, ob := *n, *other, *n.Overlay, *other.Overlay
	for _, o := range []*Overlay{&oa, &ob} {
		o.Far, o.Services, o.Servants, o.Hosts = nil, nil, nil, nil
	}
	a.Overlay, b.Overlay = &oa, &ob
	return reflect.DeepEqual(&a, &b)
}
