package bpf

import (
	"encoding/binary"
	"net/netip"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kstate"
)

// record is a hold as a key of the hash `held`, whose values mean nothing.
//
//	0       1         2       4      6      8                24
//	┌───────┬─────────┬───────┬──────┬──────┬────────────────┐
//	│ proto │ 0, 4, 6 │ first │ last │ zero │ address        │
//	└───────┴─────────┴───────┴──────┴──────┴────────────────┘
//	          family    big endian            IPv4 as ::ffff:…
type record [recordSize]byte

const recordSize = 24

func recordOf(h kstate.Hold) record {
	var r record
	r[0] = protocol(h.Proto)
	binary.BigEndian.PutUint16(r[2:], h.First)
	binary.BigEndian.PutUint16(r[4:], h.Last)
	if !h.Addr.IsValid() {
		return r
	}
	r[1] = 6
	if h.Addr.Is4() {
		r[1] = 4
	}
	a := h.Addr.As16()
	copy(r[8:], a[:])
	return r
}

// hold is the inverse of recordOf.
func (r record) hold() kstate.Hold {
	h := kstate.Hold{
		Proto: "tcp",
		First: binary.BigEndian.Uint16(r[2:]),
		Last:  binary.BigEndian.Uint16(r[4:]),
	}
	if r[0] == unix.IPPROTO_UDP {
		h.Proto = "udp"
	}
	switch r[1] {
	case 4:
		h.Addr = netip.AddrFrom16([16]byte(r[8:])).Unmap()
	case 6:
		h.Addr = netip.AddrFrom16([16]byte(r[8:]))
	}
	return h
}
