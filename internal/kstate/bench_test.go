package kstate

import (
	"fmt"
	"testing"
)

// BenchmarkDiff leads from next to nothing to what a host has of ten thousand services.
func BenchmarkDiff(b *testing.B) {
	set := &NftSet{Table: Table{"inet", "sealane"}, Name: "backend4"}
	have, want := Set{}, Set{}
	for i := range 10000 {
		at := fmt.Sprintf("10.32.%d.%d . tcp . 80", i>>8, i&255)
		for n := range 14 {
			if err := want.Add(Elem{Set: set, At: fmt.Sprintf("%s . 0x%08x", at, n), Value: "10.34.0.1 . 80"}); err != nil {
				b.Fatal(err)
			}
		}
	}
	for i := range 75 {
		o := Elem{Set: set, At: fmt.Sprintf("10.0.0.%d . tcp . 80 . 0x00000000", i)}
		have[o.Key()], want[o.Key()] = o, o
	}
	b.ReportAllocs()
	for b.Loop() {
		Diff(have, want)
	}
}
