package model

import (
	"net/netip"
	"slices"
)

// Disjoint returns the prefixes in order, without those that are inside others.
func Disjoint(prefixes []netip.Prefix) []netip.Prefix {
	all := slices.Clone(prefixes)
	for i, p := range all {
		all[i] = p.Masked()
	}
	slices.SortFunc(all, netip.Prefix.Compare) // a prefix comes before what is inside it
	out := all[:0]
	for _, p := range all {
		if len(out) == 0 || !out[len(out)-1].Overlaps(p) {
			out = append(out, p)
		}
	}
	return out
}

// Overlapping finds one of disjoint prefixes that p overlaps: the last one that
// begins at p or before, or the one after that.
func Overlapping(p netip.Prefix, apart []netip.Prefix) (netip.Prefix, bool) {
	i, _ := slices.BinarySearchFunc(apart, p, netip.Prefix.Compare)
	for _, t := range apart[max(i-1, 0):min(i+1, len(apart))] {
		if t.Overlaps(p) {
			return t, true
		}
	}
	return netip.Prefix{}, false
}
