package ipam

import (
	"math"
	"math/bits"
	"net/netip"
	"time"
)

// Usage counts the addresses of a subnet, up to 2^64-1, as Docker's
// Status.IPAM does.
type Usage struct {
	InUse    uint64 // nobody else can have: taken, or the network's and broadcast address
	Reserved uint64 // of InUse: no sandbox's, but the network's, broadcast, gateway and aux addresses
	Free     uint64 // can be given automatically
	Resting  uint64 // of Free: freed less than Quarantine ago, given when nothing else is left
}

// Plus returns the usage of two subnets together.
func (u Usage) Plus(o Usage) Usage {
	free, carry := bits.Add64(u.Free, o.Free, 0)
	if carry != 0 {
		free = math.MaxUint64
	}
	return Usage{InUse: u.InUse + o.InUse, Reserved: u.Reserved + o.Reserved, Free: free, Resting: u.Resting + o.Resting}
}

// Usage returns how full the pool is. The time it takes grows with the addresses
// freed lately and those in use of pools that it has joined, not with its own.
func (p *Pool) Usage(now time.Time) Usage {
	ends, near := p.ends()
	others, othersNear := p.others()
	near += othersNear
	return Usage{
		InUse:    uint64(len(p.used) + others + ends),
		Reserved: uint64(p.own + ends),
		Free:     sizeWithout(p.from, uint64(p.near+near)),
		Resting:  p.resting(now),
	}
}

// ends counts the network and the broadcast address, and those of the two in
// the range, if they may not be given.
func (p *Pool) ends() (all, near int) {
	for _, a := range []netip.Addr{p.subnet.Prefix.Addr(), lastAddr(p.subnet.Prefix)} {
		if !p.subnet.Reserved(a) {
			continue
		}
		all++
		if p.from.Contains(a) {
			near++
		}
	}
	return all, near
}

func (p *Pool) resting(now time.Time) (n uint64) {
	for _, at := range p.rests() {
		if now.Sub(at) < Quarantine {
			n++
		}
	}
	return n
}

// sizeWithout returns how many addresses p has besides n of them.
func sizeWithout(p netip.Prefix, n uint64) uint64 {
	size := p.Addr().BitLen() - p.Bits()
	if size > 64 || size == 64 && n == 0 {
		return math.MaxUint64
	}
	return 1<<size - n // with 64 bits, 2^64 is 0 and the difference still right
}
