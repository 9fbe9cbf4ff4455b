package ipam

import (
	"math/rand/v2"
	"net/netip"
	"testing"
)

// TestNextSubnetAgainstSearch takes random prefixes and compares with trying one
// subnet after the other.
func TestNextSubnetAgainstSearch(t *testing.T) {
	r := rand.New(rand.NewPCG(5, 6))
	sources := []Source{{netip.MustParsePrefix("10.0.0.0/20"), 24}, {netip.MustParsePrefix("10.8.0.0/16"), 19}, {netip.MustParsePrefix("10.12.0.0/16"), 20}, {netip.MustParsePrefix("fd00::/56"), 64}}
	for round := range 3000 {
		var taken []netip.Prefix
		for range r.IntN(60) {
			if r.IntN(4) == 0 {
				a := netip.AddrFrom16([16]byte{0: 0xfd, 7: byte(r.IntN(256)), 15: byte(r.IntN(256))})
				taken = append(taken, netip.PrefixFrom(a, 50+r.IntN(79))) // host bits may be set
				continue
			}
			a := netip.AddrFrom4([4]byte{10, []byte{0, 8, 9, 12}[r.IntN(4)], byte(r.IntN(256)), byte(r.IntN(256))})
			taken = append(taken, netip.PrefixFrom(a, 16+r.IntN(17)))
			if r.IntN(50) == 0 { // begins before a source, with others in it
				taken = append(taken, netip.MustParsePrefix("10.8.0.0/13"))
			}
		}
		for _, is6 := range []bool{false, true} {
			got, err := NextSubnet(sources, is6, taken)
			if want, ok := search(sources, is6, taken); ok != (err == nil) || got != want {
				t.Fatalf("round %d, %v taken: %s %v, want %s", round, taken, got, err, want)
			}
		}
	}
}

func search(sources []Source, is6 bool, taken []netip.Prefix) (netip.Prefix, bool) {
	for _, s := range sources {
		for a := s.Base.Addr(); a.Is6() == is6 && s.Base.Contains(a); {
			p := netip.PrefixFrom(a, s.Bits)
			free := true
			for _, t := range taken {
				free = free && !t.Overlaps(p)
			}
			if free {
				return p, true
			}
			a = lastAddr(p).Next()
		}
	}
	return netip.Prefix{}, false
}

// Three hundred networks overlap nothing of each other or of the host, and the
// last one is found as quickly as the first.
func TestThreeHundredNetworks(t *testing.T) {
	host := []netip.Prefix{netip.MustParsePrefix("0.0.0.0/0"), netip.MustParsePrefix("172.20.0.0/16"), netip.MustParsePrefix("10.128.0.0/10"),
		netip.MustParsePrefix("192.168.1.7/24"), netip.MustParsePrefix("172.18.200.1/32")}
	taken := host
	for i := range 300 {
		p, err := NextSubnet(Sources(netip.Prefix{}), false, taken)
		if err != nil {
			t.Fatalf("network %d: %v", i, err)
		}
		for _, other := range taken {
			if other.Bits() > 0 && p.Overlaps(other) {
				t.Fatalf("network %d: %s overlaps %s", i, p, other)
			}
		}
		taken = append(taken, p)
	}
}

func BenchmarkNextSubnet(b *testing.B) {
	var taken []netip.Prefix
	for range 300 {
		p, err := NextSubnet(Sources(netip.Prefix{}), false, taken)
		if err != nil {
			b.Fatal(err)
		}
		taken = append(taken, p)
	}
	rand.New(rand.NewPCG(7, 8)).Shuffle(len(taken), func(i, j int) { taken[i], taken[j] = taken[j], taken[i] })
	for b.Loop() {
		if _, err := NextSubnet(Sources(netip.Prefix{}), false, taken); err != nil {
			b.Fatal(err)
		}
	}
}
