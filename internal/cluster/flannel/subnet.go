package flannel

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"net/netip"

	"github.com/sealane/sealane/internal/model"
)

// ErrFull says that no subnet is free. Each host that leaves frees one, as does
// the end of the lease of one that died.
var ErrFull = errors.New("no subnet is free")

// choices is among how many free subnets one is chosen: as in flanneld, so few that
// subnets stay near each other, so many that hosts that come at once seldom want the same.
const choices = 100

// Choose returns a free subnet: one of the first hundred of each family. pick
// returns a number from 0 up to, but not including, n. Of two families the same
// place is taken in both where that is free: then two hosts that choose at once want
// the same key, and one of them is told, or nothing of each other's.
func Choose(c Config, taken []Subnet, pick func(n int) int) (Subnet, error) {
	var s Subnet
	var err error
	if c.EnableIPv4 {
		used := disjoint(taken, func(s Subnet) netip.Prefix { return s.V4 })
		if s.V4, err = c.V4.pick(used, pick); err != nil {
			return Subnet{}, err
		}
	}
	if !c.EnableIPv6 {
		return s, nil
	}
	used := disjoint(taken, func(s Subnet) netip.Prefix { return s.V6 })
	if c.EnableIPv4 {
		same := c.V6.at(c.V4.place(s.V4))
		if _, hit := model.Overlapping(same, used); !hit && c.V6.Fits(same) {
			s.V6 = same
			return s, nil
		}
	}
	s.V6, err = c.V6.pick(used, pick)
	return s, err
}

// pick returns a free one of a family's.
func (r Range) pick(used []netip.Prefix, pick func(n int) int) (netip.Prefix, error) {
	free := r.free(used)
	if len(free) == 0 {
		return netip.Prefix{}, fmt.Errorf("%w: all /%d from %s to %s are taken", ErrFull, r.SubnetLen, r.Min, r.Max)
	}
	return free[pick(len(free))], nil
}

// free returns the first free subnets.
func (r Range) free(used []netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for p := netip.PrefixFrom(r.Min, r.SubnetLen); r.Fits(p) && len(out) < choices; {
		larger := p
		if hit, ok := model.Overlapping(p, used); !ok {
			out = append(out, p)
		} else if hit.Bits() < p.Bits() {
			larger = hit
		}
		p = netip.PrefixFrom(model.Last(larger).Next(), r.SubnetLen)
	}
	return out
}

// disjoint returns the prefixes of a family in order, without those inside others.
func disjoint(of []Subnet, half func(Subnet) netip.Prefix) []netip.Prefix {
	var out []netip.Prefix
	for _, s := range of {
		if p := half(s); p.IsValid() {
			out = append(out, p)
		}
	}
	return model.Disjoint(out)
}

// place is a subnet's number, counted from Min. There are less than 2³⁰ of IPv4.
func (r Range) place(p netip.Prefix) uint64 {
	first, here := r.Min.As4(), p.Addr().As4()
	return uint64(binary.BigEndian.Uint32(here[:])-binary.BigEndian.Uint32(first[:])) >> (32 - r.SubnetLen)
}

// at is the IPv6 subnet with a number, be it in the range or not.
func (r Range) at(n uint64) netip.Prefix {
	b := r.Min.As16()
	hi, lo := binary.BigEndian.Uint64(b[:8]), binary.BigEndian.Uint64(b[8:])
	shift := 128 - r.SubnetLen
	if shift >= 64 {
		hi += n << (shift - 64)
	} else {
		var carry uint64
		lo, carry = bits.Add64(lo, n<<shift, 0)
		hi += n>>(64-shift) + carry
	}
	binary.BigEndian.PutUint64(b[:8], hi)
	binary.BigEndian.PutUint64(b[8:], lo)
	return netip.PrefixFrom(netip.AddrFrom16(b), r.SubnetLen)
}
