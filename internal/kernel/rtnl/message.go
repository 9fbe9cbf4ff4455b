package rtnl

import (
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// message is one rtnetlink request under construction: the netlink header, a
// family header and attributes (rtnetlink(7)). Sequence number and length are
// filled in when it is sent.
//
//	 0        4      6      8      12      16
//	┌────────┬──────┬──────┬──────┬───────┬───────────────┬────────────┐
//	│ length │ type │flags │ seq  │ port  │ family header │ attributes │
//	└────────┴──────┴──────┴──────┴───────┴───────────────┴────────────┘
type message struct{ buf []byte }

var native = binary.NativeEndian

func newMessage(typ, flags uint16) *message {
	buf := make([]byte, unix.SizeofNlMsghdr, 256)
	native.PutUint16(buf[4:], typ)
	native.PutUint16(buf[6:], flags|unix.NLM_F_REQUEST)
	return &message{buf}
}

// link appends struct ifinfomsg.
func (m *message) link(family uint8, index int, flags, change uint32) *message {
	m.buf = append(m.buf, family, 0, 0, 0)
	m.buf = native.AppendUint32(m.buf, uint32(index))
	m.buf = native.AppendUint32(m.buf, flags)
	m.buf = native.AppendUint32(m.buf, change)
	return m
}

// addr appends struct ifaddrmsg.
func (m *message) addr(family, bits, scope uint8, index int) *message {
	m.buf = append(m.buf, family, bits, 0, scope)
	m.buf = native.AppendUint32(m.buf, uint32(index))
	return m
}

// route appends struct rtmsg for the main table.
func (m *message) route(family, bits, protocol, scope, typ uint8) *message {
	m.buf = append(m.buf, family, bits, 0, 0, unix.RT_TABLE_MAIN, protocol, scope, typ, 0, 0, 0, 0)
	return m
}

// table changes which one struct rtmsg is about.
func (m *message) table(n uint8) *message {
	m.buf[unix.SizeofNlMsghdr+4] = n
	return m
}

// rule appends struct fib_rule_hdr, for any table.
func (m *message) rule(family, action uint8, flags uint32) *message {
	m.buf = append(m.buf, family, 0, 0, 0, unix.RT_TABLE_UNSPEC, 0, 0, action)
	m.buf = native.AppendUint32(m.buf, flags)
	return m
}

// family appends struct rtgenmsg, padded.
func (m *message) family(family uint8) *message {
	m.buf = append(m.buf, family, 0, 0, 0)
	return m
}

func (m *message) attr(typ uint16, data []byte) *message {
	m.buf = native.AppendUint16(m.buf, uint16(unix.SizeofRtAttr+len(data)))
	m.buf = native.AppendUint16(m.buf, typ)
	m.buf = append(m.buf, data...)
	for len(m.buf)%unix.NLMSG_ALIGNTO != 0 {
		m.buf = append(m.buf, 0)
	}
	return m
}

func (m *message) u8(typ uint16, v uint8) *message { return m.attr(typ, []byte{v}) }

func (m *message) u16(typ uint16, v uint16) *message {
	return m.attr(typ, native.AppendUint16(nil, v))
}

func (m *message) u32(typ uint16, v uint32) *message {
	return m.attr(typ, native.AppendUint32(nil, v))
}

// str appends a string with its final zero.
func (m *message) str(typ uint16, s string) *message { return m.attr(typ, append([]byte(s), 0)) }

// nest appends an attribute that holds what body appends.
func (m *message) nest(typ uint16, body func()) *message {
	start := len(m.buf)
	m.attr(typ|unix.NLA_F_NESTED, nil)
	body()
	native.PutUint16(m.buf[start:], uint16(len(m.buf)-start))
	return m
}

// seal fills in what is known only when the message is sent.
func (m *message) seal(seq uint32, flags uint16) {
	native.PutUint32(m.buf, uint32(len(m.buf)))
	native.PutUint16(m.buf[6:], native.Uint16(m.buf[6:])|flags)
	native.PutUint32(m.buf[8:], seq)
}

// attrs calls each for every attribute in b, until b ends or is malformed.
func attrs(b []byte, each func(typ uint16, data []byte)) {
	for len(b) >= unix.SizeofRtAttr {
		n := int(native.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			return
		}
		each(native.Uint16(b[2:])&^(unix.NLA_F_NESTED|unix.NLA_F_NET_BYTEORDER), b[unix.SizeofRtAttr:n])
		b = b[min(align(n), len(b)):]
	}
}

func align(n int) int { return (n + unix.NLMSG_ALIGNTO - 1) &^ (unix.NLMSG_ALIGNTO - 1) }

// The readers of attribute values give zero for one that is too short.

func u16(b []byte) uint16 {
	if len(b) < 2 {
		return 0
	}
	return native.Uint16(b)
}

func u8(b []byte) uint8 {
	if len(b) < 1 {
		return 0
	}
	return b[0]
}

func u32(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return native.Uint32(b)
}

func text(b []byte) string {
	for i, c := range b {
		if c == 0 {
			return string(b[:i])
		}
	}
	return string(b)
}
