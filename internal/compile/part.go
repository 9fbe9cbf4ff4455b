package compile

import (
	"cmp"
	"net/netip"
	"slices"
	"sync"

	"github.com/sealane/sealane/internal/driver/overlay"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// The fragment of an overlay network is its frame, which is what there is of any network,
// and one for each of its parts: other hosts, endpoints there, services, and who answers
// for those. A part's depends on the part and on what a frame has; no object is in two,
// as nobody has the address of somebody else.

// Network returns a network's fragment: its devices, its place in the firewall, and its
// parts.
func Network(n *model.Network, f Facts) (kstate.Set, error) {
	_, s, err := Change(nil, n, f)
	return s, err
}

// Change returns what is not the same in a network's fragment in two states of it, nil for
// none: the objects of parts that are other values, and if the frame is another one, all.
func Change(from, to *model.Network, f Facts) (before, after kstate.Set, err error) {
	anew := from == nil || to == nil || !from.SameFrame(to)
	c, half := newChange(from, to, anew), newChange(from, to, anew)
	a, b := parts(from), parts(to)
	var both sync.WaitGroup
	rest := [2][]*model.Service{a.Services, b.Services}
	if n, m := len(a.Services)/2, len(b.Services)/2; anew && n+m >= many {
		half.from.room(perService * n)
		half.to.room(perService * m)
		both.Go(func() { half.services(a.Services[:n], b.Services[:m], f) })
		rest = [2][]*model.Service{a.Services[n:], b.Services[m:]}
	}
	c.frame(f)
	compare(c, a.Hosts, b.Hosts, netip.Addr.Compare, onTrunk(overlay.ToAll))
	compare(c, a.Far, b.Far, (*model.Far).Order, onTrunk(mate))
	compare(c, a.Servants, b.Servants, (*model.Servant).Order, func(n *model.Network, s *model.Servant) []kstate.Object { return servant(n, s, f) })
	c.services(rest[0], rest[1], f)
	both.Wait()
	c.merge(half)
	if c.from.err != nil {
		return nil, nil, c.from.err
	}
	return c.from.set, c.to.set, c.to.err
}

// From many services on it pays to compile half of them beside the rest. One has some
// perService objects.
const (
	many       = 512
	perService = 16
)

// change is how a network becomes another.
type change struct {
	from, to side
	anew     bool // no part is the same
}

// side is one state of the network, and what was compiled of it.
type side struct {
	n   *model.Network
	set kstate.Set
	err error // the first
}

// newChange returns one of which nothing is compiled yet.
func newChange(from, to *model.Network, anew bool) *change {
	return &change{side{n: from, set: kstate.Set{}}, side{n: to, set: kstate.Set{}}, anew}
}

// frame begins with what there is of any network, if that is not the same.
func (c *change) frame(f Facts) {
	if c.anew {
		c.from.frame(f)
		c.to.frame(f)
	}
}

func (s *side) frame(f Facts) {
	p := parts(s.n)
	s.room(32 + 2*len(p.Far) + 2*len(p.Servants) + perService*len(p.Services))
	own, err := frame(s.n, f)
	if s.err = err; err == nil {
		s.err = s.set.Merge(own)
	}
}

// room has room for so many objects, unless nobody here is on the network.
func (s *side) room(n int) {
	if s.n != nil && !s.n.Absent() {
		s.set = make(kstate.Set, n)
	}
}

// services compiles services.
func (c *change) services(from, to []*model.Service, f Facts) {
	compare(c, from, to, (*model.Service).Order, func(n *model.Network, s *model.Service) []kstate.Object { return service(n, s, f) })
}

// merge takes in another change of the network.
func (c *change) merge(o *change) {
	for _, s := range []struct{ to, from *side }{{&c.from, &o.from}, {&c.to, &o.to}} {
		if s.to.err = cmp.Or(s.to.err, s.from.err); s.to.err == nil {
			s.to.err = s.to.set.Merge(s.from.set)
		}
	}
}

// add adds objects, after the first error none.
func (s *side) add(objs []kstate.Object) {
	if s.err == nil {
		s.err = s.set.Add(objs...)
	}
}

// parts are what there is of an overlay network.
func parts(n *model.Network) *model.Overlay {
	if n == nil || n.Overlay == nil {
		return &model.Overlay{}
	}
	return n.Overlay
}

// compare compiles the parts of one kind that are not the same on both sides.
func compare[T comparable](c *change, from, to []T, order func(a, b T) int, objects func(*model.Network, T) []kstate.Object) {
	var none T
	lists := [][2][]T{{from, to}}
	if c.anew {
		lists = [][2][]T{{from, nil}, {nil, to}}
	}
	for _, l := range lists {
		for was, is := range model.Changes(l[0], l[1], order) {
			if was != none {
				c.from.add(objects(c.from.n, was))
			}
			if is != none {
				c.to.add(objects(c.to.n, is))
			}
		}
	}
}

// onTrunk has parts be nothing on a host where nobody is on the network.
func onTrunk[T any](objects func(*model.Network, T) []kstate.Object) func(*model.Network, T) []kstate.Object {
	return func(n *model.Network, part T) []kstate.Object {
		if n.Absent() {
			return nil
		}
		return objects(n, part)
	}
}

// servant returns what there is of who answers for services.
func servant(n *model.Network, s *model.Servant, f Facts) []kstate.Object {
	var objs []kstate.Object
	if !n.Absent() {
		objs = answering(n, s, f)
	}
	if n.Overlay.Mesh != nil {
		objs = append(objs, exposed(n, s)...)
	}
	return objs
}

// service returns what there is of a service.
func service(n *model.Network, s *model.Service, f Facts) []kstate.Object {
	var objs []kstate.Object
	if !n.Absent() {
		objs = served(n, s, f)
	}
	if n.Overlay.Mesh != nil {
		objs = append(objs, offered(n, s, f)...)
	}
	return objs
}

// LeavesHost reports whether a change of a network leaves the host's fragment as it is.
func LeavesHost(from, to *model.Network, f Facts) bool {
	if from == nil || to == nil || to.Overlay == nil || !from.SameFrame(to) || Published(from) != Published(to) {
		return false
	}
	for _, s := range model.Changes(from.Overlay.Services, to.Overlay.Services, (*model.Service).Order) {
		if s != nil && !prepared(to, s, f) {
			return false
		}
	}
	for _, s := range model.Changes(from.Overlay.Servants, to.Overlay.Servants, (*model.Servant).Order) {
		if s != nil && !f.Kept && Keeps(to, f, []*model.Servant{s}) {
			return false
		}
	}
	return to.Absent() || slices.Equal(from.Overlay.Hosts, to.Overlay.Hosts)
}

// prepared reports whether the firewall has what a service needs of it.
func prepared(n *model.Network, s *model.Service, f Facts) bool {
	if !n.Absent() && len(s.VIPs) > 0 && !f.Serving {
		return false
	}
	seen := map[Pick]bool{}
	picksOf(n, s, seen)
	for p := range seen {
		if !slices.Contains(f.Picks, p) {
			return false
		}
	}
	return true
}
