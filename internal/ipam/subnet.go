package ipam

import (
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// Source is a range that subnets of one size are cut from.
type Source struct {
	Base netip.Prefix
	Bits int
}

// Sources are where automatic subnets come from, in order. The first is
// Docker's, so that the first network has the subnet people expect; then the
// rest of 172.16.0.0/12 in subnets of 4094 hosts, 192.168.0.0/16 in subnets of
// 254, and the upper half of 10.0.0.0/8: 2,800 networks. ula is the host's own
// /48 of fd00::/8 (RFC 4193) for IPv6.
func Sources(ula netip.Prefix) []Source {
	return []Source{
		{netip.MustParsePrefix("172.17.0.0/16"), 16},
		{netip.MustParsePrefix("172.18.0.0/15"), 20},
		{netip.MustParsePrefix("172.20.0.0/14"), 20},
		{netip.MustParsePrefix("172.24.0.0/13"), 20},
		{netip.MustParsePrefix("192.168.0.0/16"), 24},
		{netip.MustParsePrefix("10.128.0.0/9"), 20},
		{ula, 64},
	}
}

// Sized returns sources of the same ranges for subnets of bits, leaving out
// ranges that are smaller. 0 takes each range's own size.
func Sized(sources []Source, bits int) []Source {
	var out []Source
	for _, s := range sources {
		if bits == 0 {
			out = append(out, s)
		} else if s.Base.Bits() <= bits && bits <= s.Base.Addr().BitLen() {
			out = append(out, Source{s.Base, bits})
		}
	}
	return out
}

// NextSubnet returns the first subnet of a family in sources that overlaps none
// of taken. It returns ErrExhausted when there is none.
func NextSubnet(sources []Source, is6 bool, taken []netip.Prefix) (netip.Prefix, error) {
	// Default routes take nothing.
	apart := model.Disjoint(slices.DeleteFunc(slices.Clone(taken), func(p netip.Prefix) bool { return p.Bits() <= 0 }))
	for _, src := range sources {
		if src.Base.Addr().Is6() != is6 || !src.Base.IsValid() {
			continue
		}
		for p := netip.PrefixFrom(src.Base.Addr(), src.Bits); src.Base.Contains(p.Addr()); {
			hit, ok := model.Overlapping(p, apart)
			if !ok {
				return p, nil
			}
			// Go on after the larger of the two: a taken /8 is one step.
			if p, ok = after(p, hit); !ok {
				break
			}
		}
	}
	return netip.Prefix{}, fmt.Errorf("automatic subnets: %w", ErrExhausted)
}

// after returns the next prefix of p's size beyond both p and hit.
func after(p, hit netip.Prefix) (netip.Prefix, bool) {
	last := lastAddr(p)
	if hit.Bits() < p.Bits() {
		last = lastAddr(hit)
	}
	n := last.Next()
	return netip.PrefixFrom(n, p.Bits()), n.IsValid()
}
