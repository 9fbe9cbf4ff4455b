package ipam

import (
	"fmt"
	"net/netip"
	"strings"
	"time"
)

// Pools are those of a network's subnets of one family, in their order. An address is
// of the one whose subnet contains it.
type Pools []*Pool

// Of returns the pool of a subnet, or nil.
func (ps Pools) Of(subnet netip.Prefix) *Pool {
	for _, p := range ps {
		if p.subnet.Prefix == subnet {
			return p
		}
	}
	return nil
}

// holding returns the pool that an address is of, or nil. One alone says itself what is
// not its own.
func (ps Pools) holding(a netip.Addr) *Pool {
	if len(ps) == 1 {
		return ps[0]
	}
	for _, p := range ps {
		if p.subnet.Prefix.Contains(a) {
			return p
		}
	}
	return nil
}

// Claim is [Pool.Claim].
func (ps Pools) Claim(a netip.Addr, owner string) error {
	if p := ps.holding(a); p != nil {
		return p.Claim(a, owner)
	}
	return fmt.Errorf("address %s: outside subnet %s", a, ps.list(func(p *Pool) netip.Prefix { return p.subnet.Prefix }))
}

// Allocate is [Pool.Allocate] of the first pool that has an address left. One that
// rests is given only when no pool has another.
func (ps Pools) Allocate(owner string, now time.Time) (netip.Addr, error) {
	var from *Pool
	var a netip.Addr
	for _, p := range ps {
		if next, ok := p.next(now); ok {
			from, a = p, next
			break
		}
	}
	if from == nil {
		from, a = ps.oldestFreed()
	}
	if from != nil {
		from.take(a, owner)
		from.last = a
		return a, nil
	}
	return netip.Addr{}, fmt.Errorf("addresses of %s: %w", ps.list(func(p *Pool) netip.Prefix { return p.from }), ErrExhausted)
}

// oldestFreed returns, of the addresses that rest, the one that does longest, and its
// pool; nil if there is none.
func (ps Pools) oldestFreed() (from *Pool, best netip.Addr) {
	var since time.Time
	for _, p := range ps {
		for a, at := range p.rests() {
			if from == nil || at.Before(since) || at.Equal(since) && a.Less(best) {
				from, best, since = p, a, at
			}
		}
	}
	return from, best
}

// list names a prefix of each pool.
func (ps Pools) list(of func(*Pool) netip.Prefix) string {
	var words []string
	for _, p := range ps {
		words = append(words, of(p).String())
	}
	return strings.Join(words, " and ")
}

// Release is [Pool.Release].
func (ps Pools) Release(a netip.Addr, now time.Time) {
	if p := ps.holding(a); p != nil {
		p.Release(a, now)
	}
}

// Undo is [Pool.Undo].
func (ps Pools) Undo(a netip.Addr) {
	if p := ps.holding(a); p != nil {
		p.Undo(a)
	}
}

// Lend is [Pool.Lend].
func (ps Pools) Lend(a netip.Addr) {
	if p := ps.holding(a); p != nil {
		p.Lend(a)
	}
}

// Lent is [Pool.Lent].
func (ps Pools) Lent(a netip.Addr) bool {
	p := ps.holding(a)
	return p != nil && p.Lent(a)
}

// TakeBack is [Pool.TakeBack].
func (ps Pools) TakeBack(a netip.Addr, now time.Time) {
	if p := ps.holding(a); p != nil {
		p.TakeBack(a, now)
	}
}

// Cursor returns the cursors of the pools, for the store: the last address of each
// that has given one.
func (ps Pools) Cursor() string {
	var lasts []string
	for _, p := range ps {
		if p.last.IsValid() {
			lasts = append(lasts, p.last.String())
		}
	}
	return strings.Join(lasts, ",")
}

// SetCursor puts them back, as [Pool.SetLast] does.
func (ps Pools) SetCursor(text string) {
	lasts := map[*Pool]netip.Addr{}
	for word := range strings.SplitSeq(text, ",") {
		if a, err := netip.ParseAddr(word); err == nil {
			lasts[ps.holding(a)] = a
		}
	}
	for _, p := range ps {
		p.SetLast(lasts[p])
	}
}

// Join has the pools and others of networks on one wire give no address to two, see
// [Pool.Join].
func (ps Pools) Join(others Pools) {
	for _, p := range ps {
		if o := others.Of(p.subnet.Prefix); o != nil {
			p.Join(o)
		}
	}
}

// Leave ends what Join began.
func (ps Pools) Leave() {
	for _, p := range ps {
		p.Leave()
	}
}
