package ipam

import (
	"net/netip"
	"slices"
)

// Join has two pools of one subnet give no address to two: networks on one wire may have
// the same subnet, each with a range, a gateway and a cursor of its own.
func (p *Pool) Join(o *Pool) {
	p.group, o.group = append(p.group, o), append(o.group, p)
}

// Leave ends what Join began.
func (p *Pool) Leave() {
	for _, o := range p.group[1:] {
		o.group = slices.DeleteFunc(o.group, func(q *Pool) bool { return q == p })
	}
	p.group = p.group[:1]
}

// Owner returns who has an address, of this pool alone.
func (p *Pool) Owner(a netip.Addr) (string, bool) {
	by, ok := p.used[a]
	return by, ok
}

// owner returns who has an address, of this pool or of one that it has joined.
func (p *Pool) owner(a netip.Addr) (string, bool) {
	for _, q := range p.group {
		if by, ok := q.used[a]; ok {
			return by, true
		}
	}
	return "", false
}

// others counts the addresses that only joined pools have taken, and those of the range.
func (p *Pool) others() (all, near int) {
	taken := map[netip.Addr]bool{}
	for _, o := range p.group[1:] {
		for a := range o.used {
			if _, mine := p.used[a]; !mine {
				taken[a] = true
			}
		}
	}
	for a := range taken {
		if p.from.Contains(a) {
			near++
		}
	}
	return len(taken), near
}
