package uplink

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// attr is one attribute of a netlink message (rtnetlink(7)).
type attr struct {
	typ  uint16
	data []byte
}

// typeMask leaves the flags of an attribute's type out.
const typeMask = ^uint16(unix.NLA_F_NESTED | unix.NLA_F_NET_BYTEORDER)

// split returns the attributes in b, until it ends or is malformed.
func split(b []byte) []attr {
	var out []attr
	for len(b) >= unix.SizeofRtAttr {
		n := int(binary.NativeEndian.Uint16(b))
		if n < unix.SizeofRtAttr || n > len(b) {
			break
		}
		out = append(out, attr{binary.NativeEndian.Uint16(b[2:]), slices.Clone(b[unix.SizeofRtAttr:n])})
		b = b[min(align(n), len(b)):]
	}
	return out
}

// join is the opposite of split, behind a header.
func join(header []byte, attrs []attr) []byte {
	b := slices.Clone(header)
	for _, a := range attrs {
		b = binary.NativeEndian.AppendUint16(b, uint16(unix.SizeofRtAttr+len(a.data)))
		b = binary.NativeEndian.AppendUint16(b, a.typ)
		b = append(b, a.data...)
		for len(b)%unix.RTA_ALIGNTO != 0 {
			b = append(b, 0)
		}
	}
	return b
}

func align(n int) int { return (n + unix.RTA_ALIGNTO - 1) &^ (unix.RTA_ALIGNTO - 1) }

// find returns the first attribute of a type, or nil.
func find(attrs []attr, typ uint16) []byte {
	for _, a := range attrs {
		if a.typ&typeMask == typ {
			return a.data
		}
	}
	return nil
}

func number(b []byte) uint32 {
	if len(b) < 4 {
		return 0
	}
	return binary.NativeEndian.Uint32(b)
}

func uint32Attr(typ uint16, v uint32) attr {
	return attr{typ, binary.NativeEndian.AppendUint32(nil, v)}
}

func address(b []byte) netip.Addr {
	a, _ := netip.AddrFromSlice(b)
	return a
}

func text(b []byte) string {
	if i := slices.Index(b, 0); i >= 0 {
		b = b[:i]
	}
	return string(b)
}

// conn talks to the kernel about this namespace. It calls before ahead of every
// change: tests let the process die there.
type conn struct {
	*netlink.Conn
	before func()
}

func dial(before func()) (conn, error) {
	c, err := netlink.Dial(unix.NETLINK_ROUTE, &netlink.Config{Strict: true})
	if err != nil {
		return conn{}, fmt.Errorf("netlink: %w", err)
	}
	return conn{c, before}, nil
}

// do makes one change and waits until it is made.
func (c conn) do(typ uint16, flags netlink.HeaderFlags, body []byte) error {
	c.before()
	_, err := c.Execute(netlink.Message{
		Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: flags | netlink.Request | netlink.Acknowledge}, Data: body,
	})
	return plain(err)
}

// list asks for all of something. What changes meanwhile has it ask again.
func (c conn) list(typ uint16, header []byte) ([][]byte, error) {
	var err error
	for range dumpTries {
		var msgs []netlink.Message
		msgs, err = c.Execute(netlink.Message{
			Header: netlink.Header{Type: netlink.HeaderType(typ), Flags: netlink.Request | netlink.Dump}, Data: header,
		})
		if err != nil {
			break
		}
		bodies, interrupted := make([][]byte, 0, len(msgs)), false
		for _, m := range msgs {
			bodies = append(bodies, m.Data)
			interrupted = interrupted || m.Header.Flags&netlink.DumpInterrupted != 0
		}
		if !interrupted {
			return bodies, nil
		}
		err = errors.New("the list kept changing")
	}
	return nil, plain(err)
}

const dumpTries = 10

// plain takes what the package netlink says around the kernel's own words off.
func plain(err error) error {
	op, ok := errors.AsType[*netlink.OpError](err)
	switch {
	case !ok:
		return err
	case op.Message != "":
		return fmt.Errorf("%s (%w)", op.Message, op.Err)
	}
	return op.Err
}

// there forgives what is there already.
func there(err error) error {
	if errors.Is(err, unix.EEXIST) {
		return nil
	}
	return err
}

// gone forgives what is gone already.
func gone(err error) error {
	for _, errno := range []unix.Errno{unix.ENOENT, unix.ESRCH, unix.EADDRNOTAVAIL, unix.ENODEV} {
		if errors.Is(err, errno) {
			return nil
		}
	}
	return err
}
