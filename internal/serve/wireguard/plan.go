package wireguard

import (
	"bytes"
	"cmp"
	"net/netip"
	"slices"
	"sync"
	"time"
)

// state is what a device has.
type state struct {
	Private Secret
	port    uint16
	peers   map[Public]peerState
}

type peerState struct {
	Shared    Secret
	endpoint  netip.AddrPort
	keepalive time.Duration
	allowed   []netip.Prefix
	shook     time.Time // hands, last; zero: never
}

// change is what a device is to have from now on. What is nil stays as it is.
type change struct {
	Private *Secret
	port    *uint16
	peers   []peerChange // in order
}

type peerChange struct {
	key       Public
	remove    bool
	Shared    *Secret
	endpoint  netip.AddrPort // not valid: stays
	keepalive *time.Duration
	allowed   *[]netip.Prefix // all it has then
}

// empty says whether nothing is to change.
func (c change) empty() bool { return c.Private == nil && c.port == nil && len(c.peers) == 0 }

// How long things take, by WireGuard's own clock (section 6.1 of the paper).
const (
	// session is how long after a handshake packets of it are taken (Reject-After-Time).
	session = 180 * time.Second
	// patience is how long a new key of a host waits for a handshake while the old one
	// still works.
	patience = 10 * time.Second
)

// memory is what no device tells.
type memory struct {
	aimed map[Public]netip.AddrPort // the endpoints that were wanted, when they were last looked at
	since map[Public]time.Time      // that a peer waits to take another's place
	greet map[Public]time.Time      // when a peer is to be greeted
}

func newMemory() *memory {
	return &memory{map[Public]netip.AddrPort{}, map[Public]time.Time{}, map[Public]time.Time{}}
}

// step is what is to be done about a device.
type step struct {
	change
	greet []peerChange  // peers that packets are sent to, so that there is a session
	again time.Duration // until the next look; 0: whenever

	own func() Public
}

// soon asks for a look after a time at most.
func (s *step) soon(d time.Duration) {
	if s.again == 0 || d < s.again {
		s.again = d
	}
}

// plan compares a device with what it is to be.
//
// A host that gets another key says so in its lease, and uses it a moment later. Until
// then its old key works and the new one does not. So the new one is a peer beside the
// old, without prefixes, until there is a handshake with it; then it gets them, and the
// old one goes.
//
//	lease has the new key      handshake by it       prefixes
//	         │                        │              moved
//	  old ═══╪════════════════════════╪════════════════╪
//	  new    ╪───────── no prefixes ──┴─── ≤ 20 ms ────╪═══
//
// A session of the other host's old key decrypts meanwhile, on both sides.
func plan(have state, w Want, now time.Time, m *memory) step {
	s := step{own: sync.OnceValue(w.Private.Public)}
	if have.Private != w.Private {
		s.Private = &w.Private
	}
	if have.port != w.Port {
		s.port = &w.Port
	}
	wanted, owner, kept := map[Public]bool{}, have.owners(), map[Public]bool{}
	for _, p := range w.Peers {
		wanted[p.Key] = true
	}
	for _, p := range w.Peers {
		before, beside := have.predecessor(p, wanted, owner, now)
		if beside && m.waits(p.Key, have.peers[p.Key], now) {
			kept[before], p.Allowed = true, nil
			s.soon(often)
		} else {
			delete(m.since, p.Key)
		}
		s.settle(have, w, p, now, m)
	}
	for key := range have.peers {
		if !wanted[key] && !kept[key] {
			s.peers = append(s.peers, peerChange{key: key, remove: true})
		}
	}
	m.forget(wanted)
	s.greetings(have, w, now, m)
	return s
}

// settle adds what differs of a peer.
func (s *step) settle(have state, w Want, p Peer, now time.Time, m *memory) {
	is, there := have.peers[p.Key]
	c := peerChange{key: p.Key}
	if is.Shared != w.Shared {
		c.Shared = &w.Shared
	}
	if is.keepalive != w.Keepalive {
		c.keepalive = &w.Keepalive
	}
	if is.endpoint != p.Endpoint && (m.aimed[p.Key] != p.Endpoint || now.Sub(is.shook) > session) {
		c.endpoint = p.Endpoint
	}
	m.aimed[p.Key] = p.Endpoint
	if !samePrefixes(is.allowed, p.Allowed) {
		c.allowed = &p.Allowed
	}
	if have.Private != (Secret{}) && s.Private != nil {
		m.greet[p.Key] = now // sessions end with the key
		if len(p.Allowed) == 0 {
			m.greet[p.Key] = s.first(p.Key, now) // it may just have done the same
		}
	} else if len(is.allowed) == 0 && len(p.Allowed) > 0 && now.Sub(is.shook) > session {
		m.greet[p.Key] = s.turn(have, p.Key, now)
	}
	if !there || c.Shared != nil || c.keepalive != nil || c.endpoint.IsValid() || c.allowed != nil {
		s.peers = append(s.peers, c)
	}
}

// usual is any interval between packets to a silent peer: turning them on sends one.
const usual = 25 * time.Second

// How long one of two hosts lets the other greet first. If both do at once, neither may
// hear the other's answer, and it takes five seconds, or fifteen, until they try again.
const (
	polite  = 300 * time.Millisecond // where both may be new
	settled = time.Second            // where this one is not
)

// turn is when a host is greeted that there is no session with. It may not have heard
// of this one yet: then that greeting is in vain, and it greets itself when it has.
func (s *step) turn(have state, key Public, now time.Time) time.Time {
	if have.Private != (Secret{}) {
		return now.Add(settled)
	}
	return s.first(key, now)
}

// first is when a host is greeted that may greet this one now.
func (s *step) first(key Public, now time.Time) time.Time {
	if own := s.own(); bytes.Compare(own[:], key[:]) < 0 {
		return now
	}
	return now.Add(polite)
}

// greetings adds those that are due and were not made unnecessary by the other side's.
func (s *step) greetings(have state, w Want, now time.Time, m *memory) {
	for key, at := range m.greet {
		switch {
		case s.Private == nil && now.Sub(have.peers[key].shook) < session:
			delete(m.greet, key)
		case !now.Before(at):
			s.greet = append(s.greet, greeting(key, w))
			delete(m.greet, key)
		default:
			s.soon(at.Sub(now))
		}
	}
}

// greeting makes a device send a packet to a peer, and so a handshake, where they have
// none: the interval of such packets is turned to another and back.
func greeting(key Public, w Want) peerChange {
	other := usual
	if w.Keepalive != 0 {
		other = 0
	}
	return peerChange{key: key, keepalive: &other}
}

// owners says whose each prefix is.
func (h state) owners() map[netip.Prefix]Public {
	out := make(map[netip.Prefix]Public, len(h.peers))
	for key, p := range h.peers {
		for _, a := range p.allowed {
			out[a] = key
		}
	}
	return out
}

// predecessor finds who has a peer's prefixes and is to have none any more, but may
// still be heard.
func (h state) predecessor(p Peer, wanted map[Public]bool, owner map[netip.Prefix]Public, now time.Time) (Public, bool) {
	for _, a := range p.Allowed {
		key, ok := owner[a]
		if ok && key != p.Key && !wanted[key] && now.Sub(h.peers[key].shook) < session {
			return key, true
		}
	}
	return Public{}, false
}

// waits says whether a peer is to wait for a handshake before it takes another's place.
func (m *memory) waits(key Public, is peerState, now time.Time) bool {
	since, waiting := m.since[key]
	if !waiting {
		m.since[key] = now
		return true
	}
	return is.shook.Before(since) && now.Sub(since) < patience
}

// forget drops what is known of peers that are not wanted.
func (m *memory) forget(wanted map[Public]bool) {
	for key := range m.aimed {
		if !wanted[key] {
			delete(m.aimed, key)
			delete(m.since, key)
			delete(m.greet, key)
		}
	}
}

// samePrefixes compares two lists regardless of order.
func samePrefixes(a, b []netip.Prefix) bool {
	if len(a) != len(b) || len(a) < 2 {
		return slices.Equal(a, b)
	}
	order := func(x, y netip.Prefix) int {
		return cmp.Or(x.Addr().Compare(y.Addr()), cmp.Compare(x.Bits(), y.Bits()))
	}
	return slices.Equal(slices.SortedFunc(slices.Values(a), order), slices.SortedFunc(slices.Values(b), order))
}
