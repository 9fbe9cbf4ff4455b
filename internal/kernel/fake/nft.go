package fake

import (
	"errors"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kernel/nft"
	"github.com/sealane/sealane/internal/kstate"
)

// transact carries out all ops or none, and returns the first that is wrong.
// A chain may be jumped to before it is made, as long as it is there in the
// end; but what a rule refers to cannot be removed before the rule, not even
// in one transaction (nf_tables_delchain and nf_tables_delset say EBUSY).
func (w *world) transact(ops []kstate.Op) (kstate.Op, error) {
	next := ruleset{maps.Clone(w.nft)}
	for _, op := range ops {
		if err := next.do(op); err != nil {
			return op, err
		}
	}
	if op, err := next.check(ops); err != nil {
		return op, err
	}
	w.nft = next.Set
	return kstate.Op{}, nil
}

// ruleset is the nftables part of the world while it is changed.
type ruleset struct{ kstate.Set }

func (r ruleset) do(op kstate.Op) error {
	if op.New != nil {
		return r.put(op.New, op.Old != nil)
	}
	k := op.Old.Key()
	if k.Kind == kstate.KindSet || k.Kind == kstate.KindChain {
		for _, o := range r.Set {
			if slices.Contains(refs(o), k) {
				return fmt.Errorf("used by %q: %w", o, kernel.ErrInUse)
			}
		}
	}
	r.drop(k)
	return nil
}

// drop removes an object with all that is in it.
func (r ruleset) drop(k kstate.Key) {
	if _, ok := r.Set[k]; !ok {
		return
	}
	delete(r.Set, k)
	if k.Kind != kstate.KindTable && k.Kind != kstate.KindSet {
		return
	}
	for key, o := range r.Set {
		if key.Kind > k.Kind && slices.Contains(o.On(), k) {
			r.drop(key)
		}
	}
}

func (r ruleset) put(o kstate.Object, change bool) error {
	for _, k := range o.On() {
		if r.Set[k] == nil {
			return fmt.Errorf("%s: %w", k.ID, kernel.ErrMissing)
		}
	}
	have, ok := r.Set[o.Key()]
	switch {
	case ok && have.String() == o.String():
		return nil
	case !ok && change:
		return fmt.Errorf("%s: %w", o.Key().ID, kernel.ErrMissing)
	case ok && !change && o.Key().Kind != kstate.KindChain: // a chain's rules are written anew
		return fmt.Errorf("is there as %q: %w", have, kernel.ErrInUse)
	}
	var err error
	switch o := o.(type) {
	case kstate.NftSet:
		err = nft.ParseSet(o)
	case kstate.Chain:
		err = r.checkChain(have, o)
	case kstate.Elem:
		err = r.checkElem(o)
	}
	if err != nil {
		return err
	}
	r.Set[o.Key()] = o
	return nil
}

func (r ruleset) checkChain(have kstate.Object, o kstate.Chain) error {
	if h, ok := have.(kstate.Chain); ok && (h.Type != o.Type || h.Hook != o.Hook || h.Priority != o.Priority) {
		return errors.New("type, hook and priority cannot be changed in place")
	}
	parsed, err := nft.ParseChain(o)
	if err != nil {
		return err
	}
	for _, use := range parsed.Sets {
		set, ok := r.Set[kstate.NftSet{Table: o.Table, Name: use.Name}.Key()].(kstate.NftSet)
		if !ok {
			return fmt.Errorf("set %s %w", use.Name, kernel.ErrMissing)
		}
		if set.Type != use.Type || set.Data != use.Data {
			return fmt.Errorf("%s is not of type %q : %q", set, use.Type, use.Data)
		}
	}
	return nil
}

func (r ruleset) checkElem(o kstate.Elem) error {
	set := r.Set[o.Set.Key()].(kstate.NftSet)
	if set != *o.Set {
		return fmt.Errorf("set %s has another type", set.Name)
	}
	if err := nft.ParseElem(o); err != nil {
		return err
	}
	if !set.Interval {
		return nil
	}
	for _, have := range r.Set {
		if e, ok := have.(kstate.Elem); ok && e.Set.Key() == o.Set.Key() && overlap(e.At, o.At) {
			return fmt.Errorf("interval overlaps with %s", e)
		}
	}
	return nil
}

// overlap reports whether two keys of an interval set have a value in common.
func overlap(a, b string) bool {
	as, bs := strings.Split(a, " . "), strings.Split(b, " . ")
	for i := range as {
		alo, ahi := span(as[i])
		blo, bhi := span(bs[i])
		if !alo.IsValid() || !blo.IsValid() {
			if as[i] != bs[i] {
				return false
			}
		} else if ahi.Less(blo) || bhi.Less(alo) {
			return false
		}
	}
	return true
}

// span returns the ends of a prefix, an address, a port or a range of them,
// or no valid addresses for a name. A port is taken for an IPv4 address.
func span(s string) (lo, hi netip.Addr) {
	if p, err := netip.ParsePrefix(s); err == nil {
		b := p.Masked().Addr().AsSlice()
		for i := p.Bits(); i < len(b)*8; i++ {
			b[i/8] |= 1 << (7 - i%8)
		}
		hi, _ := netip.AddrFromSlice(b)
		return p.Masked().Addr(), hi
	}
	first, last, ok := strings.Cut(s, "-")
	if !ok {
		last = first
	}
	return point(first), point(last)
}

func point(s string) netip.Addr {
	if n, err := strconv.ParseUint(s, 10, 16); err == nil {
		return netip.AddrFrom4([4]byte{0, 0, byte(n >> 8), byte(n)})
	}
	a, _ := netip.ParseAddr(s)
	return a
}

// check refuses what was added with a jump to a chain that is not there in
// the end, or with a look-up in a set that is not.
func (r ruleset) check(ops []kstate.Op) (kstate.Op, error) {
	for _, op := range ops {
		if op.New == nil || r.Set[op.New.Key()] == nil {
			continue
		}
		for _, ref := range refs(op.New) {
			if o, ok := r.Set[ref]; !ok {
				return op, fmt.Errorf("%s %w", ref.ID, kernel.ErrMissing)
			} else if isBase(o) {
				return op, fmt.Errorf("%s is a base chain: %w", ref.ID, kernel.ErrUnsupported)
			}
		}
	}
	return kstate.Op{}, nil
}

func isBase(o kstate.Object) bool {
	c, ok := o.(kstate.Chain)
	return ok && c.Hook != ""
}

// refs returns the sets and chains that a chain's rules or an element's
// verdict refer to.
func refs(o kstate.Object) []kstate.Key {
	var out []kstate.Key
	switch o := o.(type) {
	case kstate.Chain:
		for _, rule := range o.Rules {
			out = append(out, scan(o.Table, rule)...)
		}
	case kstate.Elem:
		if o.Set.Data == "verdict" {
			out = scan(o.Set.Table, o.Value)
		}
	}
	return out
}

func scan(t kstate.Table, text string) []kstate.Key {
	var out []kstate.Key
	words := strings.Fields(text)
	for i, w := range words {
		if name, ok := strings.CutPrefix(w, "@"); ok && !strings.Contains(name, ",") { // with commas it is a piece of the packet
			out = append(out, kstate.NftSet{Table: t, Name: name}.Key())
		}
		if (w == "jump" || w == "goto") && i+1 < len(words) {
			out = append(out, kstate.Chain{Table: t, Name: words[i+1]}.Key())
		}
	}
	return out
}
