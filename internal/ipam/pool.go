// Package ipam gives out addresses, subnets and host ports. It is pure: it
// remembers what is taken and decides what is next; time comes in as an
// argument and the store keeps what must last.
package ipam

import (
	"encoding/binary"
	"errors"
	"fmt"
	"hash/fnv"
	"net/netip"
	"time"

	"github.com/sealane/sealane/internal/model"
)

// Quarantine is how long a freed address rests before it is handed out again,
// unless nothing else is left: neighbours and clients may still remember its
// last owner.
const Quarantine = 30 * time.Second

// ErrExhausted says that every address, subnet or port that could be given is
// taken.
var ErrExhausted = errors.New("none is free")

// Pool hands out the addresses of one subnet: one after the other from the
// last one given, so that a freed address comes back as late as possible. Where
// somebody else counts up in the same subnet ([model.Subnet.Theirs]), it begins at
// the end each time, so that the two meet only when nothing is left between them.
type Pool struct {
	subnet model.Subnet
	from   netip.Prefix // automatic addresses come from here
	used   map[netip.Addr]string
	near   int                      // of used, those that could be given automatically
	own    int                      // of used, the gateway and the aux addresses
	lent   map[netip.Addr]bool      // of used, those of a container engine
	freed  map[netip.Addr]time.Time // when; some are used again since
	last   netip.Addr               // the last address given automatically; invalid at first
	group  []*Pool                  // itself, and those that it has joined
}

// NewPool returns the pool of a subnet with its gateway and aux addresses taken.
func NewPool(s model.Subnet) *Pool {
	p := &Pool{subnet: s, from: s.Prefix, used: map[netip.Addr]string{}, freed: map[netip.Addr]time.Time{}}
	if s.Range.IsValid() {
		p.from = s.Range
	}
	p.group = []*Pool{p}
	if s.Gateway.IsValid() {
		p.take(s.Gateway, "the gateway")
	}
	for name, a := range s.Aux {
		p.take(a, "aux-address "+name)
	}
	p.own = len(p.used)
	for _, a := range s.Lent {
		p.Lend(a)
	}
	return p
}

// Lend notes that a container engine holds an address, which is taken already or
// not. Its containers come and go without a word here: Release and Undo leave a
// lent address taken.
func (p *Pool) Lend(a netip.Addr) {
	if p.lent == nil {
		p.lent = map[netip.Addr]bool{}
	}
	p.lent[a] = true
	p.take(a, "a container engine")
}

// Lent reports whether a container engine holds an address.
func (p *Pool) Lent(a netip.Addr) bool { return p.lent[a] }

// TakeBack ends what Lend began: the address is freed now.
func (p *Pool) TakeBack(a netip.Addr, now time.Time) {
	delete(p.lent, a)
	p.Release(a, now)
}

// Yield changes what somebody else gives out, see [model.Subnet.Theirs].
func (p *Pool) Yield(theirs netip.Prefix) { p.subnet.Theirs = theirs }

func (p *Pool) take(a netip.Addr, owner string) {
	if _, taken := p.used[a]; !taken && p.from.Contains(a) {
		p.near++
	}
	p.used[a] = owner
}

// drop reports whether a was taken, and is not any more.
func (p *Pool) drop(a netip.Addr) bool {
	if p.lent[a] {
		return false
	}
	_, taken := p.used[a]
	if taken && p.from.Contains(a) {
		p.near--
	}
	delete(p.used, a)
	return taken
}

// Claim takes one address for owner. It fails if the address is not one of the
// subnet's hosts or is taken; the error names by whom.
func (p *Pool) Claim(a netip.Addr, owner string) error {
	switch {
	case !p.subnet.Prefix.Contains(a):
		return fmt.Errorf("address %s: outside subnet %s", a, p.subnet.Prefix)
	case p.subnet.Reserved(a):
		return fmt.Errorf("address %s: is the network or broadcast address of %s", a, p.subnet.Prefix)
	}
	if by, ok := p.owner(a); ok {
		return fmt.Errorf("address %s: taken by %s", a, by)
	}
	p.take(a, owner)
	return nil
}

// Allocate takes the next free address for owner. Addresses freed less than
// Quarantine before now are given only when nothing else is left, the longest
// free first. It returns ErrExhausted when all are taken.
func (p *Pool) Allocate(owner string, now time.Time) (netip.Addr, error) {
	return Pools{p}.Allocate(owner, now)
}

// next walks once around the range from the last address given. A walk meets
// at most as many unusable addresses as are taken, freed or reserved, so it is
// short even in an IPv6 subnet.
func (p *Pool) next(now time.Time) (netip.Addr, bool) {
	if p.subnet.Theirs.IsValid() {
		return p.highest(now)
	}
	a := p.from.Addr()
	if p.last.IsValid() && p.from.Contains(p.last) {
		a = p.step(p.last)
	}
	tries := 3
	for _, q := range p.group {
		tries += len(q.used) + len(q.freed)
	}
	for range tries {
		if p.free(a, now) {
			return a, true
		}
		a = p.step(a)
	}
	return netip.Addr{}, false
}

// highest returns the last free address: above what is somebody else's to give
// out, below it, and of that.
func (p *Pool) highest(now time.Time) (netip.Addr, bool) {
	theirs := p.subnet.Theirs
	for _, part := range []struct{ first, last netip.Addr }{
		{lastAddr(theirs).Next(), lastAddr(p.subnet.Prefix)},
		{p.subnet.Prefix.Addr(), theirs.Addr().Prev()},
		{theirs.Addr(), lastAddr(theirs)},
	} {
		if !part.first.IsValid() {
			continue // theirs ends with the last address there is
		}
		for a := part.last; a.IsValid() && !a.Less(part.first); a = a.Prev() {
			if p.free(a, now) {
				return a, true
			}
		}
	}
	return netip.Addr{}, false
}

// step returns the address after a, at the end of the range its first.
func (p *Pool) step(a netip.Addr) netip.Addr {
	if n := a.Next(); n.IsValid() && p.from.Contains(n) {
		return n
	}
	return p.from.Addr()
}

func (p *Pool) free(a netip.Addr, now time.Time) bool {
	if _, taken := p.owner(a); taken || p.subnet.Reserved(a) {
		return false
	}
	for _, q := range p.group {
		if at, freed := q.freed[a]; freed && now.Sub(at) < Quarantine {
			return false
		}
	}
	return true
}

// rests returns the addresses of the range that were freed and are not used again, and
// when, the last time.
func (p *Pool) rests() map[netip.Addr]time.Time {
	out := map[netip.Addr]time.Time{}
	for _, q := range p.group {
		for a, at := range q.freed {
			if _, taken := p.owner(a); !taken && p.from.Contains(a) && at.After(out[a]) {
				out[a] = at
			}
		}
	}
	return out
}

// Release frees an address at a time. Freeing one that is not taken does
// nothing.
func (p *Pool) Release(a netip.Addr, now time.Time) {
	if !p.drop(a) {
		return
	}
	p.freed[a] = now
	for b, at := range p.freed { // forget the old ones while we are here
		if now.Sub(at) >= Quarantine {
			delete(p.freed, b)
		}
	}
}

// Undo takes back an Allocate or Claim that came to nothing: the address is
// free at once, or goes on resting.
func (p *Pool) Undo(a netip.Addr) { p.drop(a) }

// Last returns the cursor, for the store; invalid before the first Allocate.
func (p *Pool) Last() netip.Addr { return p.last }

// SetLast puts the cursor back, after a restart or when nothing came of an
// Allocate. An address outside the range is ignored.
func (p *Pool) SetLast(a netip.Addr) {
	if !a.IsValid() || p.from.Contains(a) {
		p.last = a
	}
}

// StartAt has a pool that has given nothing out begin at a place of its own for each
// seed, so that pools of one subnet on several hosts seldom give out the same.
func (p *Pool) StartAt(seed string) {
	if p.last.IsValid() {
		return
	}
	h := fnv.New32a()
	h.Write([]byte(seed))
	p.last = plus(p.from.Addr(), h.Sum32()%(1<<min(p.from.Addr().BitLen()-p.from.Bits(), 31)))
}

// plus returns the address n after another, in the last 32 bits.
func plus(a netip.Addr, n uint32) netip.Addr {
	b := a.As16()
	binary.BigEndian.PutUint32(b[12:], binary.BigEndian.Uint32(b[12:])+n)
	if a.Is4() {
		return netip.AddrFrom16(b).Unmap()
	}
	return netip.AddrFrom16(b)
}

// Used returns how many addresses are taken, the gateway and aux ones included.
func (p *Pool) Used() int { return len(p.used) }
