package model

import (
	"cmp"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
)

// item is a part of something.
type item struct{ key, value int }

// TestChangesAndRevise makes lists out of each other at random: what Changes yields is what
// is not the same value in both, and Revise with it makes the second of the first.
func TestChangesAndRevise(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	order := func(a, b *item) int { return cmp.Compare(a.key, b.key) }
	var from []*item
	for step := range 2000 {
		keys := 20 + step/5
		want := map[int]*item{}
		for _, x := range from {
			want[x.key] = x
		}
		for range r.IntN(2 + keys/16) {
			k := r.IntN(keys)
			if want[k] = (&item{k, r.IntN(100)}); r.IntN(3) == 0 {
				delete(want, k)
			}
		}
		to := slices.SortedFunc(maps.Values(want), order)
		now, yielded := map[int]*item{}, 0
		for was, is := range Changes(from, to, order) {
			if yielded++; was == is || was != nil && is != nil && was.key != is.key {
				t.Fatalf("%v and %v", was, is)
			}
			now[cmp.Or(was, is).key] = is
			if was != nil && !slices.Contains(from, was) || is != nil && want[is.key] != is {
				t.Fatalf("%v and %v: one is in neither list", was, is)
			}
		}
		if yielded != len(now) {
			t.Fatalf("%d changes of %d keys", yielded, len(now))
		}
		if got := Revise(from, func(x *item) int { return x.key }, now); !slices.Equal(got, to) {
			t.Fatalf("%v, want %v", got, to)
		}
		from = to
	}
}
