package xtables

import (
	"bytes"
	"encoding/binary"
	"slices"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// table is a table's rules as the kernel has them: entries one after the other,
// each an address match, other matches, and a target.
type table struct {
	family
	first   [5]int // where the chain of each hook begins
	entries []byte
	mark    uint32
	walked  map[int]int // where chains lead, by where they begin
}

// rule is one entry.
type rule struct {
	next, target int
	jumps        bool // its target is a verdict or a chain, in verdict
	verdict      int
	stops        bool // its target ends packets
	free         bool // no condition decides
	marked       bool // the mark is its only condition
	leaves       bool // it does not come back from the chain that it leads to
}

// What a rule's target says (include/uapi/linux/netfilter/x_tables.h).
const (
	drops    = -1 // -NF_DROP - 1
	returns  = -5 // XT_RETURN
	partHead = 32 // struct xt_entry_match and xt_entry_target: size, name, revision
)

// stoppers are targets that packets do not leave.
var stoppers = []string{"REJECT", "NFQUEUE", "TARPIT", "DELUDE", "CHAOS"}

// filters returns what the table does at its two hooks.
func (t *table) filters() []kstate.Filter {
	var out []kstate.Filter
	for _, h := range []struct {
		chain, hook string
		number      int
	}{{"INPUT", "input", unix.NF_INET_LOCAL_IN}, {"FORWARD", "forward", unix.NF_INET_FORWARD}} {
		f := kstate.Filter{Table: kstate.Table{Family: t.name, Name: "filter"}, Chain: h.chain, Hook: h.hook, Policy: "accept", Legacy: true}
		if t.ends(t.first[h.number]) {
			f.Ends = kstate.EndsInside
		}
		out = append(out, f)
	}
	return out
}

// ends reports whether packets that bear the mark, and that no condition
// decides, end in the chain of a hook.
func (t *table) ends(first int) bool {
	t.walked = map[int]int{}
	return t.chain(first) == drops
}

// chain says where such a packet leads that comes to a chain: it is accepted,
// dropped, or returns. The kernel has no chains in a circle.
func (t *table) chain(first int) int {
	if _, ok := t.walked[first]; !ok {
		t.walked[first] = returns
		t.walked[first] = t.walk(first)
	}
	return t.walked[first]
}

func (t *table) walk(at int) int {
	for {
		r, ok := t.rule(at)
		if !ok {
			return returns
		}
		at = r.next
		switch {
		case !r.free && !r.marked:
		case r.stops:
			return drops
		case !r.jumps:
		case r.verdict < 0:
			return r.verdict
		default:
			if end := t.chain(r.verdict); end != returns || r.leaves {
				return end
			}
		}
	}
}

// rule reads the entry at an offset; not ok, there is none.
func (t *table) rule(at int) (rule, bool) {
	if at < 0 || at+t.entry > len(t.entries) {
		return rule{}, false
	}
	e := t.entries[at:]
	half := func(i int) int { return int(binary.NativeEndian.Uint16(e[i:])) }
	// After the head come nfcache, and where the target and the next entry are.
	r := rule{target: half(t.head + 4), next: half(t.head + 6)}
	if r.target < t.entry || r.next < r.target+partHead || r.next > len(e) {
		return rule{}, false
	}
	r.leaves = e[t.flags]&t.leaves != 0
	r.free, r.marked = t.conditions(e[:r.target])
	target := e[r.target:r.next]
	switch name := partName(target); {
	case name == "" && len(target) >= partHead+4:
		r.jumps, r.verdict = true, int(int32(binary.NativeEndian.Uint32(target[partHead:])))
	case slices.Contains(stoppers, name):
		r.stops = true
	}
	r.next += at
	return r, true
}

// conditions reports whether a rule has none, comments aside, or that the mark is
// on the packet and no other.
func (t *table) conditions(e []byte) (free, marked bool) {
	head := slices.Clone(e[:t.head])
	head[t.flags] &^= t.leaves
	if slices.ContainsFunc(head, func(b byte) bool { return b != 0 }) {
		return false, false
	}
	free = true
	for at := t.entry; at < len(e); {
		if at+partHead > len(e) {
			return false, false
		}
		size := int(binary.NativeEndian.Uint16(e[at:]))
		if size < partHead || at+size > len(e) {
			return false, false
		}
		switch part := e[at : at+size]; {
		case partName(part) == "comment":
		case t.asks(part):
			free, marked = false, true
		default:
			return false, false
		}
		at += size
	}
	return free, marked
}

// asks reports whether a match is for the mark (struct xt_mark_mtinfo1).
func (t *table) asks(match []byte) bool {
	if partName(match) != "mark" || len(match) < partHead+9 {
		return false
	}
	mark, mask, invert := binary.NativeEndian.Uint32(match[partHead:]), binary.NativeEndian.Uint32(match[partHead+4:]), match[partHead+8]
	return invert == 0 && mask != 0 && t.mark&mask == mark
}

// partName is the name of a match or a target.
func partName(part []byte) string {
	name, _, _ := bytes.Cut(part[2:partHead-1], []byte{0})
	return string(name)
}
