package bpf

import (
	"bytes"
	"encoding/binary"
	"net/netip"

	"github.com/sealane/sealane/internal/kstate"
)

// What the maps of choices consist of. Numbers are in the host's order but for ports.
type (
	// place is an address and port: 16 bytes, IPv4 as ::ffff:a.b.c.d, the port in
	// network order, and 2 of zero.
	place [placeSize]byte
	// ballot is what there is to choose from: how many seats, whose turn it is,
	// the VNI, and whether turns count.
	ballot [16]byte
	// seat is a service's place, and a number below how many it has.
	seat [placeSize + 4]byte
	// chooser is a namespace's cookie, a VNI, and 4 bytes of zero.
	chooser [16]byte
	// home is where a chooser's namespace is: its inode, and the path.
	home [8 + kstate.MaxChooserPath]byte
	// chosen is what a socket asked for, and where it was led to.
	chosen [2 * placeSize]byte
)

const placeSize = 20

// Where the numbers of a ballot are.
const (
	ballotSeats = 4 * iota
	ballotTurn
	ballotVNI
	ballotTurns
)

func placeOf(a netip.AddrPort) (p place) {
	b := a.Addr().As16()
	copy(p[:], b[:])
	binary.BigEndian.PutUint16(p[16:], a.Port())
	return p
}

func (p place) addrPort() netip.AddrPort {
	return netip.AddrPortFrom(netip.AddrFrom16([16]byte(p[:16])).Unmap(), binary.BigEndian.Uint16(p[16:]))
}

func ballotOf(seats, vni int, turns bool) (b ballot) {
	binary.NativeEndian.PutUint32(b[ballotSeats:], uint32(seats))
	binary.NativeEndian.PutUint32(b[ballotVNI:], uint32(vni))
	if turns {
		binary.NativeEndian.PutUint32(b[ballotTurns:], 1)
	}
	return b
}

func (b ballot) number(at int) int { return int(binary.NativeEndian.Uint32(b[at:])) }

func seatOf(service place, i int) (s seat) {
	copy(s[:], service[:])
	binary.NativeEndian.PutUint32(s[placeSize:], uint32(i))
	return s
}

func (s seat) service() place { return place(s[:placeSize]) }

func (s seat) number() int { return int(binary.NativeEndian.Uint32(s[placeSize:])) }

func chooserOf(cookie uint64, vni int) (c chooser) {
	binary.NativeEndian.PutUint64(c[:], cookie)
	binary.NativeEndian.PutUint32(c[8:], uint32(vni))
	return c
}

func (c chooser) cookie() uint64 { return binary.NativeEndian.Uint64(c[:]) }

func (c chooser) vni() int { return int(binary.NativeEndian.Uint32(c[8:])) }

func homeOf(ns kstate.NS) (h home) {
	binary.NativeEndian.PutUint64(h[:], ns.Inode)
	copy(h[8:], ns.Path)
	return h
}

func (h home) ns() kstate.NS {
	path, _, _ := bytes.Cut(h[8:], []byte{0})
	return kstate.NS{Path: string(path), Inode: binary.NativeEndian.Uint64(h[:])}
}

func (c chosen) asked() place { return place(c[:placeSize]) }

func (c chosen) served() place { return place(c[placeSize:]) }
