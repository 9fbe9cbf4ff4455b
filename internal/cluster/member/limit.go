package member

import (
	"net/netip"
	"sync"
	"time"
)

// Who tries to join may fail so often, and then again so soon.
const (
	limitBurst = 5
	limitEvery = 10 * time.Second
	limitHosts = 1024 // remembered; beyond these, all share one
)

// limiter counts failures by address: of IPv6, by /64, of which a host has all.
type limiter struct {
	now func() time.Time

	mu   sync.Mutex                 // protects the following
	full map[netip.Prefix]time.Time // when nothing will be held against it
}

func newLimiter(now func() time.Time) *limiter {
	return &limiter{now: now, full: map[netip.Prefix]time.Time{}}
}

// source is whom an address stands for.
func source(a netip.Addr) netip.Prefix {
	a = a.Unmap().WithZone("")
	p, err := a.Prefix(min(a.BitLen(), 64))
	if err != nil {
		return netip.Prefix{}
	}
	return p
}

// allows says whether an address may try now.
func (l *limiter) allows(a netip.Addr) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.full[l.slot(a)].Sub(l.now()) <= (limitBurst-1)*limitEvery
}

// failed holds a failure against an address.
func (l *limiter) failed(a netip.Addr) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	for p, t := range l.full {
		if !t.After(now) {
			delete(l.full, p)
		}
	}
	s := l.slot(a)
	from := l.full[s]
	if from.Before(now) {
		from = now
	}
	l.full[s] = from.Add(limitEvery)
}

// slot is where an address is counted. The caller holds mu.
func (l *limiter) slot(a netip.Addr) netip.Prefix {
	p := source(a)
	if _, known := l.full[p]; !known && len(l.full) >= limitHosts {
		return netip.Prefix{}
	}
	return p
}
