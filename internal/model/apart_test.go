package model

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"testing"
)

// TestDisjoint: what overlaps any of random prefixes, one inside another, overlaps
// one of those that are left, and is found.
func TestDisjoint(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	random := func() netip.Prefix {
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{10, byte(r.IntN(4)), byte(r.IntN(4) << 6), byte(r.IntN(256))}), 9+r.IntN(24))
	}
	for range 5000 {
		var all []netip.Prefix
		for range r.IntN(12) {
			all = append(all, random())
		}
		apart := Disjoint(all)
		for i := 1; i < len(apart); i++ {
			if apart[i-1].Overlaps(apart[i]) || apart[i-1].Compare(apart[i]) > 0 {
				t.Fatalf("%v: of %v", apart, all)
			}
		}
		p := random().Masked()
		hit, got := Overlapping(p, apart)
		if want := slices.ContainsFunc(all, p.Overlaps); got != want || got && !hit.Overlaps(p) {
			t.Fatalf("%v: %v %v among %v", p, hit, got, all)
		}
	}
}
