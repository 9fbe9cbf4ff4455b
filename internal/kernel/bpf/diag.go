package bpf

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"

	"github.com/cilium/ebpf"
	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/kernel"
	"github.com/sealane/sealane/internal/kstate"
)

// From linux/sock_diag.h, linux/inet_diag.h and net/tcp_states.h.
const (
	sockDiagByFamily = 20
	reqBytecode      = 1 // INET_DIAG_REQ_BYTECODE
	bcSrcGE          = 2 // INET_DIAG_BC_S_GE
	bcSrcLE          = 3 // INET_DIAG_BC_S_LE
	reqStorages      = 2 // INET_DIAG_REQ_SK_BPF_STORAGES
	reqStorageMap    = 1 // SK_DIAG_BPF_STORAGE_REQ_MAP_FD
	attrV6Only       = 11
	attrStorages     = 20 // INET_DIAG_SK_BPF_STORAGES
	attrStorage      = 1  // SK_DIAG_BPF_STORAGE
	attrStorageValue = 3  // SK_DIAG_BPF_STORAGE_MAP_VALUE
	stateOpen        = 1
	stateClose       = 7 // an unconnected UDP socket
	stateListen      = 10
	stateBound       = 13 // TCP_BOUND_INACTIVE, Linux 6.8: bound, and nothing else yet
	reqSize          = 56 // struct inet_diag_req_v2
	msgSize          = 72 // struct inet_diag_msg
)

// boundWorth is the number of ports in one look from which TCP sockets are
// looked for that are bound and do not listen: that walks the whole hash of
// bound ports, half a millisecond with 65,536 buckets, where the walk over the
// listeners of both families takes a tenth of that. A program hardly ever stays
// in that state, so it is looked for where it does not show: whoever publishes
// so many ports waits longer for the rest of it.
const boundWorth = 256

// socket is one that may be in a hold's way.
type socket struct {
	proto string
	addr  netip.Addr // IPv4-mapped ones are IPv4 here
	port  uint16
	only6 bool // IPV6_V6ONLY
	inode uint32
}

// diag asks the kernel for the sockets of one network namespace (sock_diag(7)).
type diag struct {
	conn   *netlink.Conn
	spared uint16 // see Holder.Spare
}

// openDiag opens in the calling thread's network namespace, and asks once for
// each protocol: where a kernel cannot answer, that is kernel.ErrUnsupported.
func openDiag() (*diag, error) {
	conn, err := netlink.Dial(unix.NETLINK_SOCK_DIAG, nil)
	if err != nil {
		return nil, fmt.Errorf("sock_diag: %w", err)
	}
	d := &diag{conn: conn}
	if _, err := d.look([]kstate.Hold{{Proto: "tcp", First: 1, Last: 1}, {Proto: "udp", First: 1, Last: 1}}); err != nil {
		_ = d.close()
		if errors.Is(err, unix.ENOENT) {
			err = fmt.Errorf("%w: %w", kernel.ErrUnsupported, err)
		}
		return nil, err
	}
	return d, nil
}

func (d *diag) close() error { return d.conn.Close() }

// look returns the sockets that have a port somewhere between the lowest and
// the highest of holds, with one dump per protocol and family. The kernel
// filters by port: most of a dump's cost is its messages.
func (d *diag) look(holds []kstate.Hold) (*sight, error) {
	var out []socket
	for _, proto := range protocols {
		first, last, count := span(proto, holds)
		if count == 0 {
			continue
		}
		states := uint32(1) << stateListen
		if proto == "udp" {
			states = 1 << stateClose
		} else if count >= boundWorth {
			states |= 1 << stateBound
		}
		for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
			found, err := d.dump(family, proto, states, first, last)
			if err != nil {
				return nil, fmt.Errorf("look for %s sockets: %w", proto, err)
			}
			out = append(out, found...)
		}
	}
	slices.SortFunc(out, func(a, b socket) int {
		return cmp.Or(cmp.Compare(a.port, b.port), a.addr.Compare(b.addr), cmp.Compare(a.inode, b.inode))
	})
	return &sight{sockets: out, spared: d.spared}, nil
}

// span returns the lowest and highest port of a protocol and how many there
// are.
func span(proto string, holds []kstate.Hold) (first, last uint16, count int) {
	first = 0xffff
	for _, h := range holds {
		if h.Proto == proto {
			first, last = min(first, h.First), max(last, h.Last)
			count += int(h.Last-h.First) + 1
		}
	}
	return first, last, count
}

// dump returns the sockets of a family in some states that have a port from first to last.
func (d *diag) dump(family uint8, proto string, states uint32, first, last uint16) ([]socket, error) {
	msgs, err := d.ask(family, proto, states, portFilter(first, last))
	if err != nil {
		return nil, err
	}
	out := make([]socket, 0, len(msgs))
	for _, m := range msgs {
		s, err := parseSocket(m.Data)
		if err != nil {
			return nil, err
		}
		s.proto = proto
		out = append(out, s)
	}
	return out, nil
}

// ask is one request and its answers.
func (d *diag) ask(family uint8, proto string, states uint32, attrs []byte) ([]netlink.Message, error) {
	req := make([]byte, reqSize, reqSize+len(attrs))
	req[0], req[1] = family, protocol(proto)
	binary.NativeEndian.PutUint32(req[4:], states)
	msgs, err := d.conn.Execute(netlink.Message{
		Header: netlink.Header{Type: sockDiagByFamily, Flags: netlink.Request | netlink.Dump},
		Data:   append(req, attrs...),
	})
	if errors.Is(err, unix.ENOENT) && family == unix.AF_INET6 {
		return nil, nil // a kernel without IPv6
	}
	return msgs, err
}

// stored returns what open TCP sockets have each as its part of a map, those that have one.
func (d *diag) stored(m *ebpf.Map) (values [][]byte, err error) {
	ae := netlink.NewAttributeEncoder()
	ae.Nested(reqStorages, func(ae *netlink.AttributeEncoder) error {
		ae.Uint32(reqStorageMap, uint32(m.FD()))
		return nil
	})
	attrs, err := ae.Encode()
	if err != nil {
		return nil, err
	}
	for _, family := range []uint8{unix.AF_INET, unix.AF_INET6} {
		msgs, err := d.ask(family, "tcp", 1<<stateOpen, attrs)
		if err != nil {
			return nil, fmt.Errorf("look for open connections: %w", err)
		}
		for _, msg := range msgs {
			if len(msg.Data) < msgSize {
				return nil, fmt.Errorf("sock_diag: %d bytes: want at least %d", len(msg.Data), msgSize)
			}
			found, err := under(msg.Data[msgSize:], attrStorages, attrStorage, attrStorageValue)
			if err != nil {
				return nil, fmt.Errorf("sock_diag: %w", err)
			}
			values = append(values, found...)
		}
	}
	return values, nil
}

// under returns what the attributes hold that lie within others, at a path of types.
func under(attrs []byte, path ...uint16) (values [][]byte, err error) {
	if len(path) == 0 {
		return [][]byte{attrs}, nil
	}
	ad, err := netlink.NewAttributeDecoder(attrs)
	if err != nil {
		return nil, err
	}
	for ad.Next() {
		if ad.Type() != path[0] {
			continue
		}
		found, err := under(ad.Bytes(), path[1:]...)
		if err != nil {
			return nil, err
		}
		values = append(values, found...)
	}
	return values, ad.Err()
}

// portFilter is an attribute with a program of two tests, port >= first and
// port <= last. A test is struct inet_diag_bc_op and a second one that only
// carries the port: what to do is in code, and how far to go on in yes and no.
// Four bytes past the end refuses the socket.
//
//	0 S_GE yes 8 no 20    8 S_LE yes 8 no 12    16 the end: accepted
//	4      port first    12      port last      20 refused
func portFilter(first, last uint16) []byte {
	b := binary.NativeEndian.AppendUint16(nil, 4+16)
	b = binary.NativeEndian.AppendUint16(b, reqBytecode)
	op := func(code, yes uint8, no uint16) {
		b = append(b, code, yes)
		b = binary.NativeEndian.AppendUint16(b, no)
	}
	op(bcSrcGE, 8, 20)
	op(0, 0, first)
	op(bcSrcLE, 8, 12)
	op(0, 0, last)
	return b
}

// parseSocket reads struct inet_diag_msg and the one attribute that matters.
func parseSocket(b []byte) (socket, error) {
	if len(b) < msgSize {
		return socket{}, fmt.Errorf("sock_diag: %d bytes: want at least %d", len(b), msgSize)
	}
	s := socket{
		port:  binary.BigEndian.Uint16(b[4:]),
		inode: binary.NativeEndian.Uint32(b[68:]),
	}
	if b[0] == unix.AF_INET {
		s.addr = netip.AddrFrom4([4]byte(b[8:]))
		return s, nil
	}
	s.addr = netip.AddrFrom16([16]byte(b[8:])).Unmap()
	attrs, err := netlink.NewAttributeDecoder(b[msgSize:])
	if err != nil {
		return socket{}, fmt.Errorf("sock_diag: %w", err)
	}
	for attrs.Next() {
		if attrs.Type() == attrV6Only {
			s.only6 = attrs.Uint8() != 0
		}
	}
	return s, attrs.Err()
}
