package nft

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// The messages are put together here and not by the nftables library, whose
// expr package makes the expressions only: it asks for an acknowledgement of
// every message (they overflow the receive buffer of a large batch), cannot
// tell which message an error is about, puts no bound on an attribute's length
// and needs some 20 allocations per element.
//
// A netlink message of nfnetlink (include/uapi/linux/netfilter/nfnetlink.h):
//
//	 0       4     6     8     12     16  17  18      20
//	| length | type|flags| seq | port | AF| V | res_id | attributes …
//
// and an attribute, padded to 4 bytes; length counts the header:
//
//	| length u16 | type u16 | value … |
const (
	headerLen = 16 // struct nlmsghdr
	genLen    = 4  // struct nfgenmsg
)

// encoder appends messages to one buffer.
type encoder struct {
	buf []byte
	msg int // where the current message begins
}

// Sizes of the buffer, in bytes: what an element takes, as a rule, and how much is kept.
const (
	usual = 48
	kept  = 1 << 20
)

// shrink lets go of a buffer that was for a large transaction.
func (e *encoder) shrink() {
	if cap(e.buf) > kept {
		e.buf = nil
	}
}

// message begins a message of the nftables subsystem.
func (e *encoder) message(typ, flags int, family byte, seq uint32) {
	e.raw(unix.NFNL_SUBSYS_NFTABLES<<8|typ, flags, family, 0, seq)
}

// bound writes a mark that begins or ends a transaction.
func (e *encoder) bound(typ int, seq uint32) {
	e.raw(typ, 0, unix.AF_UNSPEC, unix.NFNL_SUBSYS_NFTABLES, seq)
	e.close()
}

func (e *encoder) raw(typ, flags int, family byte, res uint16, seq uint32) {
	e.msg = len(e.buf)
	b := binary.NativeEndian.AppendUint32(e.buf, 0)
	b = binary.NativeEndian.AppendUint16(b, uint16(typ))
	b = binary.NativeEndian.AppendUint16(b, uint16(unix.NLM_F_REQUEST|flags))
	b = binary.NativeEndian.AppendUint32(b, seq)
	b = binary.NativeEndian.AppendUint32(b, 0)
	b = append(b, family, unix.NFNETLINK_V0)
	e.buf = binary.BigEndian.AppendUint16(b, res)
}

// close ends the current message.
func (e *encoder) close() {
	binary.NativeEndian.PutUint32(e.buf[e.msg:], uint32(len(e.buf)-e.msg))
}

func (e *encoder) header(typ, n int) {
	b := binary.NativeEndian.AppendUint16(e.buf, uint16(4+n))
	e.buf = binary.NativeEndian.AppendUint16(b, uint16(typ))
}

func (e *encoder) pad() {
	for len(e.buf)%4 != 0 {
		e.buf = append(e.buf, 0)
	}
}

// bytes, str and u32 append an attribute.
func (e *encoder) bytes(typ int, v []byte) {
	e.header(typ, len(v))
	e.buf = append(e.buf, v...)
	e.pad()
}

func (e *encoder) str(typ int, v string) {
	e.header(typ, len(v)+1)
	e.buf = append(append(e.buf, v...), 0)
	e.pad()
}

func (e *encoder) u32(typ int, v uint32) {
	e.header(typ, 4)
	e.buf = binary.BigEndian.AppendUint32(e.buf, v)
}

// nest begins an attribute of attributes and returns what to give to unnest.
func (e *encoder) nest(typ int) int {
	at := len(e.buf)
	e.header(typ|unix.NLA_F_NESTED, 0)
	return at
}

func (e *encoder) unnest(at int) {
	binary.NativeEndian.PutUint16(e.buf[at:], uint16(len(e.buf)-at))
}

// attrs reads attributes in order. Something cut short ends the reading.
type attrs []byte

// next returns the next attribute's type, without its flags, and its value.
func (a *attrs) next() (typ int, value []byte, ok bool) {
	b := *a
	if len(b) < 4 {
		return 0, nil, false
	}
	n := int(binary.NativeEndian.Uint16(b))
	if n < 4 || n > len(b) {
		return 0, nil, false
	}
	typ = int(binary.NativeEndian.Uint16(b[2:])) &^ (unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)
	*a = b[min(aligned(n), len(b)):]
	return typ, b[4:n], true
}

// find returns the value of the first attribute of a type, nil if none.
func (a attrs) find(want int) []byte {
	for typ, v, ok := a.next(); ok; typ, v, ok = a.next() {
		if typ == want {
			return v
		}
	}
	return nil
}

// text is a string without its closing zero.
func text(v []byte) string {
	if n := len(v); n > 0 && v[n-1] == 0 {
		v = v[:n-1]
	}
	return string(v)
}

// number is a 32 bit number; 0 if it is not one.
func number(v []byte) uint32 {
	if len(v) != 4 {
		return 0
	}
	return binary.BigEndian.Uint32(v)
}

// reply is a message received.
type reply struct {
	typ, flags int
	seq, port  uint32
	body       []byte // after struct nlmsghdr
}

// family is the first byte of struct nfgenmsg.
func (r reply) family() byte {
	if len(r.body) == 0 {
		return 0
	}
	return r.body[0]
}

// attrs is what follows struct nfgenmsg.
func (r reply) attrs() attrs { return attrs(r.body[min(genLen, len(r.body)):]) }

// nextReply cuts one message off a datagram.
func nextReply(b []byte) (r reply, rest []byte, ok bool) {
	if len(b) < headerLen {
		return reply{}, nil, false
	}
	n := int(binary.NativeEndian.Uint32(b))
	if n < headerLen || n > len(b) {
		return reply{}, nil, false
	}
	r = reply{
		typ:   int(binary.NativeEndian.Uint16(b[4:])),
		flags: int(binary.NativeEndian.Uint16(b[6:])),
		seq:   binary.NativeEndian.Uint32(b[8:]),
		port:  binary.NativeEndian.Uint32(b[12:]),
		body:  b[headerLen:n],
	}
	return r, b[min(aligned(n), len(b)):], true
}
