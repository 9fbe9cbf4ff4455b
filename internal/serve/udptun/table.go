package udptun

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"slices"
	"sync/atomic"

	"golang.org/x/sys/unix"
)

// table says which peer has an address. It does not change: readers need no
// lock, and a new one replaces it as a whole.
type table struct {
	v4, v6 []tier // longest prefixes first
	hosts  map[netip.Addr]*host
}

// tier holds the prefixes of one length. A network has one length, or a few.
type tier struct {
	mask  key
	peers map[key]*peer
}

// key is an address in network order, to the left.
type key struct{ hi, lo uint64 }

// peer is a prefix with where to send what it has.
type peer struct {
	Peer
	family  int                            // of Addr
	name    [unix.SizeofSockaddrInet6]byte // struct sockaddr_in or sockaddr_in6
	nameLen uint32
	host    *host
}

// host is where peers are.
type host struct {
	addr    netip.Addr
	vouched [2]atomic.Uint32 // in which round of a shortcut's, by its ways
}

// newTable makes a table of peers that are sent to at our own port.
func newTable(peers []Peer, local underlay) (*table, error) {
	t := &table{hosts: make(map[netip.Addr]*host, len(peers))}
	for _, p := range peers {
		p.Addr = p.Addr.Unmap()
		switch {
		case !p.Prefix.IsValid() || p.Prefix.Addr().Is4In6():
			return nil, fmt.Errorf("peer %v: no prefix", p.Addr)
		case !p.Addr.IsValid() || p.Addr.IsUnspecified() || !local[familyOf(p.Addr)].IsValid():
			return nil, fmt.Errorf("peer %v: address %v: not of the underlay", p.Prefix, p.Addr)
		}
		p.Prefix = p.Prefix.Masked()
		if t.hosts[p.Addr] == nil {
			t.hosts[p.Addr] = &host{addr: p.Addr}
		}
		entry := &peer{Peer: p, family: familyOf(p.Addr), host: t.hosts[p.Addr]}
		entry.nameLen = putName(&entry.name, netip.AddrPortFrom(p.Addr, local[entry.family].Port()))
		t.tier(p.Prefix).peers[keyOf(p.Prefix.Addr())] = entry
	}
	return t, nil
}

// tier returns the tier of a prefix's length, after making it if need be.
func (t *table) tier(p netip.Prefix) *tier {
	tiers := &t.v4
	if p.Addr().Is6() {
		tiers = &t.v6
	}
	mask := maskOf(p.Bits())
	i, found := slices.BinarySearchFunc(*tiers, mask, func(a tier, m key) int {
		switch {
		case a.mask == m:
			return 0
		case a.mask.hi > m.hi || a.mask.hi == m.hi && a.mask.lo > m.lo:
			return -1
		}
		return 1
	})
	if !found {
		*tiers = slices.Insert(*tiers, i, tier{mask, map[key]*peer{}})
	}
	return &(*tiers)[i]
}

// find returns the peer with the longest prefix of an address, or nil.
func (t *table) find(a netip.Addr) *peer {
	tiers := t.v4
	if a.Is6() {
		tiers = t.v6
	}
	k := keyOf(a)
	for i := range tiers {
		m := tiers[i].mask
		if p := tiers[i].peers[key{k.hi & m.hi, k.lo & m.lo}]; p != nil {
			return p
		}
	}
	return nil
}

func keyOf(a netip.Addr) key {
	if a.Is4() {
		b := a.As4()
		return key{hi: uint64(binary.BigEndian.Uint32(b[:])) << 32}
	}
	b := a.As16()
	return key{binary.BigEndian.Uint64(b[:]), binary.BigEndian.Uint64(b[8:])}
}

// maskOf returns a key whose first bits are ones.
func maskOf(bits int) key {
	ones := func(n int) uint64 { return ^uint64(0) << (64 - max(0, min(n, 64))) }
	return key{ones(bits), ones(bits - 64)}
}

// putName writes a struct sockaddr_in or sockaddr_in6 (ip(7), ipv6(7)) and
// returns its length.
func putName(b *[unix.SizeofSockaddrInet6]byte, a netip.AddrPort) uint32 {
	binary.BigEndian.PutUint16(b[2:], a.Port())
	if a.Addr().Is4() {
		binary.NativeEndian.PutUint16(b[:], unix.AF_INET)
		ip := a.Addr().As4()
		copy(b[4:], ip[:])
		return unix.SizeofSockaddrInet4
	}
	binary.NativeEndian.PutUint16(b[:], unix.AF_INET6)
	ip := a.Addr().As16()
	copy(b[8:], ip[:])
	return unix.SizeofSockaddrInet6
}

// nameAddr is the address in what putName writes, or the zero Addr.
func nameAddr(b *[unix.SizeofSockaddrInet6]byte) netip.Addr {
	switch binary.NativeEndian.Uint16(b[:]) {
	case unix.AF_INET:
		return netip.AddrFrom4([4]byte(b[4:8]))
	case unix.AF_INET6:
		return netip.AddrFrom16([16]byte(b[8:24])).Unmap()
	}
	return netip.Addr{}
}
