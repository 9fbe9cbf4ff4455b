package kstate

import (
	"cmp"
	"slices"
	"sync"
)

// Op is one step between two states: Old is nil for an addition, New is nil
// for a removal, both are there for a change in place.
type Op struct{ Old, New Object }

// String is the op as one line: "+ …", "- …" or "~ …" with the new text. Of an address
// that is without its route it is that route.
func (o Op) String() string {
	switch {
	case o.Old == nil:
		return "+ " + o.New.String()
	case o.New == nil:
		return "- " + o.Old.String()
	}
	if a, ok := o.Old.(Addr); ok && a.Cut {
		return "+ " + Route{NS: a.NS, Dst: a.Prefix.Masked(), Dev: a.Dev}.String()
	}
	return "~ " + o.New.String()
}

// Object returns the object the op is about, in its newest state.
func (o Op) Object() Object {
	if o.New != nil {
		return o.New
	}
	return o.Old
}

// Diff returns the ops that lead from have to want: removals first, from the
// top of the rank table down, then changes and additions from its bottom up.
// An object that cannot be changed in place is removed and made again, and so
// is what stood on it. What goes away with the object it stands on gets no op
// of its own. Foreign objects are never removed nor changed.
//
// What changes in nftables follows each other, so that it is one transaction and no
// packet meets half of it: before the removals of all else, or, where anything is
// made before it, after that. A table whose sets or chains cannot stay is replaced as
// a whole: rules hold sets in place, so no order of single steps would work. Its
// removal comes right before its addition.
func Diff(have, want Set) []Op {
	gone := vanishing(have, want)
	var del []placed
	add := make([]placed, 0, max(0, len(want)-len(have)))
	for k, h := range have {
		_, stays := want[k]
		switch {
		case Foreign(h), stays && !gone[k], standsOn(h, gone) && !lent(h):
		case stays && k.Kind == KindTable:
			add = append(add, placed{place{k, rank(h)}, Op{Old: h}})
		default:
			del = append(del, placed{place{k, rank(h)}, Op{Old: h}})
		}
	}
	for k, w := range want {
		h, ok := have[k]
		op := Op{New: w}
		switch {
		case taken(w), !ok && (twin(have, gone, w) || raised(have, w)):
			continue
		case !ok || gone[k] || standsOn(h, gone):
		case Satisfies(h, w) && !unbridged(h, gone):
			continue
		case Foreign(h): // Apply says what is in the way
		default:
			op.Old = h
		}
		add = append(add, placed{place{k, rank(w)}, op})
	}
	ops := arrange(make([]Op, 0, len(del)+len(add)), del)
	slices.Reverse(ops)
	ops = arrange(ops, add)
	together(ops, len(del))
	return ops
}

// together moves the changes of nftables among the first n ops, which remove, next to
// those among the others.
func together(ops []Op, n int) {
	from, to := ofNft(ops[:n])
	first, last := ofNft(ops[n:])
	switch first, last = n+first, n+last; {
	case from == to || first == last:
	case first == n:
		swap(ops[to:last], n-to)
	default:
		swap(ops[from:first], to-from)
	}
}

// ofNft is where ops of nftables are among some that are arranged.
func ofNft(ops []Op) (from, to int) {
	is := func(op Op) bool {
		switch op.Object().(type) { // to make a key of each takes long where there are many
		case Table, NftSet, Chain, Elem:
			return true
		}
		return false
	}
	if from = slices.IndexFunc(ops, is); from < 0 {
		return 0, 0
	}
	for to = from; to < len(ops) && is(ops[to]); {
		to++
	}
	return from, to
}

// swap has the first n ops come after the others.
func swap(ops []Op, n int) {
	slices.Reverse(ops[:n])
	slices.Reverse(ops[n:])
	slices.Reverse(ops)
}

// placed is an op and where the object it is about stands.
type placed struct {
	place
	op Op
}

// many is from how many ops on it pays to sort two halves at once.
const many = 4096

// arrange appends ops in the order in which objects are made. It sorts what it is given.
func arrange(to []Op, ops []placed) []Op {
	var a, b []placed = ops, nil
	var both sync.WaitGroup
	if n := len(ops); n >= many {
		a, b = ops[:n/2], ops[n/2:]
		both.Go(func() { slices.SortFunc(b, placed.compare) })
	}
	slices.SortFunc(a, placed.compare)
	both.Wait()
	for len(a)+len(b) > 0 {
		if len(b) == 0 || len(a) > 0 && a[0].compare(b[0]) <= 0 {
			to, a = append(to, a[0].op), a[1:]
		} else {
			to, b = append(to, b[0].op), b[1:]
		}
	}
	return to
}

func (a placed) compare(b placed) int {
	if c := a.place.compare(b.place); c != 0 {
		return c
	}
	return removalFirst(a.op, b.op)
}

// removalFirst orders the two ops of a table that is replaced.
func removalFirst(a, b Op) int {
	switch {
	case a.New == nil && b.New != nil:
		return -1
	case a.New != nil && b.New == nil:
		return 1
	}
	return 0
}

// Satisfies reports whether have is all that want asks for: the same text,
// but for what a wanted link leaves to the kernel's choice.
func Satisfies(have, want Object) bool {
	if h, ok := have.(Elem); ok {
		w, same := want.(Elem) // of one key: only the value can differ
		return same && h.Value == w.Value && h.At == w.At
	}
	h, ok := have.(Link)
	w, isLink := want.(Link)
	if ok && isLink {
		w.MTU, w.MAC = cmp.Or(w.MTU, h.MTU), cmp.Or(w.MAC, h.MAC)
		w.Peer.MAC = cmp.Or(w.Peer.MAC, h.Peer.MAC)
		w.Detour = w.Detour || h.Detour
		if w.Handed {
			h.Peer, w.Peer = Peer{}, Peer{}
			have = h
		}
		want = w
	}
	return have.String() == want.String()
}

// twin reports whether somebody else's route already is the wanted one; their
// keys differ, see [Route.Key].
func twin(have Set, gone map[Key]bool, want Object) bool {
	r, ok := want.(Route)
	r.Other = true
	return ok && have[r.Key()] != nil && !standsOn(r, gone)
}

// vanishing returns the keys of objects that will be removed or remade, with
// the far ends of veths and the links and sets that go with them.
func vanishing(have, want Set) map[Key]bool {
	gone := map[Key]bool{}
	for k, h := range have {
		if Foreign(h) {
			continue
		}
		w, ok := want[k]
		if ok && !remake(h, w) {
			goesDown(gone, h, w)
			continue
		}
		mark(gone, k, h)
		if k.Kind == KindSet || k.Kind == KindChain {
			gone[h.On()[0]] = true
		}
	}
	if len(gone) == 0 {
		return gone
	}
	// A namespace takes links with it, they take what is on them, and that takes
	// addresses; a table takes sets with it and they take elements.
	for more := true; more; {
		more = false
		for k, h := range have {
			if (k.Kind == KindLink || k.Kind == KindSet) && !gone[k] && standsOn(h, gone) {
				mark(gone, k, h)
				more = more || k.Kind == KindLink
			}
		}
	}
	lastAddr(gone, have)
	return gone
}

// goesDown marks what a device loses when it is set down, gets another hardware
// address, or leaves its bridge.
func goesDown(gone map[Key]bool, have, want Object) {
	h, ok := have.(Link)
	w, _ := want.(Link)
	if !ok || w.Taken {
		return
	}
	if h.Up && !w.Up {
		gone[upKey(h.NS, h.Name)] = true
	}
	if h.Master != "" && w.Master != h.Master {
		gone[portKey(h.NS, h.Name)] = true
	}
	if w.MAC != "" && w.MAC != h.MAC || w.NoARP != h.NoARP {
		gone[macKey(h.NS, h.Name)] = true
	}
	if w.Peer.MAC != "" && w.Peer.MAC != h.Peer.MAC && !w.Handed {
		gone[macKey(h.Peer.NS, h.Peer.Name)] = true
	}
}

// lastAddr marks devices that will lose all of their IPv4 addresses, even if
// they get others afterwards.
func lastAddr(gone map[Key]bool, have Set) {
	lost, kept := map[Key]bool{}, map[Key]bool{}
	for k, h := range have {
		if a, ok := h.(Addr); ok && a.Prefix.Addr().Is4() {
			if gone[k] {
				lost[ip4Key(a.NS, a.Dev)] = true
			} else {
				kept[ip4Key(a.NS, a.Dev)] = true
			}
		}
	}
	for k := range lost {
		if !kept[k] {
			gone[k] = true
		}
	}
}

func mark(gone map[Key]bool, k Key, o Object) {
	gone[k] = true
	if l, ok := o.(Link); ok && l.Type == TypeVeth {
		gone[l.PeerKey()] = true
	}
}

func standsOn(o Object, gone map[Key]bool) bool {
	if len(gone) == 0 {
		return false
	}
	for _, k := range o.On() {
		if gone[k] {
			return true
		}
	}
	return false
}

// lent reports whether an object is a NIC of the host's, which does not go with the
// namespace that it is in, and must be brought home before.
func lent(o Object) bool {
	l, ok := o.(Link)
	return ok && l.Type == TypeNIC
}

// taken reports whether a device is what somebody else does with it, see [Link.Taken].
func taken(want Object) bool {
	l, ok := want.(Link)
	return ok && l.Taken
}

// remake reports whether have cannot become want in place.
func remake(have, want Object) bool {
	switch h := have.(type) {
	case Link:
		w := want.(Link)
		return !w.Taken && (h.Type != w.Type || moved(h, w) || !w.Handed && (h.Peer.NS != w.Peer.NS || h.Peer.Name != w.Peer.Name))
	case NftSet:
		return h != want.(NftSet)
	case Chain:
		w := want.(Chain)
		return h.Type != w.Type || h.Hook != w.Hook || h.Priority != w.Priority
	case Elem:
		return h.Value != want.(Elem).Value
	case OVSPort:
		return h.Stale
	case Route:
		w := want.(Route)
		if h.Blackhole || w.Blackhole { // one takes the other's place at once
			return h.First != w.First
		}
		return h.Via != w.Via || h.Dev != w.Dev || h.First != w.First || h.Src != w.Src
	}
	return false
}
