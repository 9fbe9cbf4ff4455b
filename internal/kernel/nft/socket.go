package nft

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"

	"github.com/mdlayher/netlink"
	"golang.org/x/sys/unix"
)

// socket is a netlink socket to nfnetlink, used by one goroutine at a time.
//
// The kernel works a request off within sendmsg (nfnetlink_rcv is called by
// netlink_unicast), so whatever it has to say is in the receive queue when
// sendmsg returns: a queue that is empty then means no complaint. That is why
// a transaction asks for no acknowledgement at all.
type socket struct {
	nl   *netlink.Conn
	fd   int // of nl, valid until it is closed
	port uint32
	in   []byte
	room int // send buffer asked for so far
}

// Sizes of buffers, in bytes. The kernel makes dumps of at most 32 KiB a piece
// (netlink_dump); an error takes about 1 KiB of the receive buffer however
// short, and a transaction may have as many errors as messages.
const (
	datagram   = 64 << 10
	receiveAll = 64 << 20
	sendFirst  = 1 << 20
)

// dial opens a socket in the namespace of the descriptor ns.
func dial(ns int) (*socket, error) {
	nl, err := netlink.Dial(unix.NETLINK_NETFILTER, &netlink.Config{NetNS: max(ns, 0)})
	if err != nil {
		return nil, fmt.Errorf("nfnetlink socket: %w", err)
	}
	s := &socket{nl: nl, in: make([]byte, datagram)}
	if err := s.setUp(); err != nil {
		return nil, errors.Join(fmt.Errorf("nfnetlink socket: %w", err), nl.Close())
	}
	return s, nil
}

func (s *socket) setUp() error {
	raw, err := s.nl.SyscallConn()
	if err != nil {
		return err
	}
	var name unix.Sockaddr
	cerr := raw.Control(func(fd uintptr) {
		s.fd = int(fd)
		name, err = unix.Getsockname(s.fd)
	})
	if err := errors.Join(cerr, err); err != nil {
		return os.NewSyscallError("getsockname", err)
	}
	if a, ok := name.(*unix.SockaddrNetlink); ok {
		s.port = a.Pid
	}
	// Errors come without a copy of the message they are about.
	for _, o := range []netlink.ConnOption{netlink.ExtendedAcknowledge, netlink.CapAcknowledge} {
		if err := s.nl.SetOption(o, true); err != nil {
			return err
		}
	}
	return s.nl.SetReadBuffer(receiveAll)
}

// send sends everything in one datagram: a transaction cannot be cut in two.
func (s *socket) send(b []byte) error {
	if want := max(len(b)+4096, sendFirst); want > s.room {
		if err := s.nl.SetWriteBuffer(want); err != nil {
			return err
		}
		s.room = want
	}
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if err != unix.EINTR {
			return os.NewSyscallError("sendto", err)
		}
	}
}

// receive returns the next datagram, valid until the next call, or EAGAIN.
func (s *socket) receive() ([]byte, error) {
	for {
		n, _, err := unix.Recvfrom(s.fd, s.in, unix.MSG_DONTWAIT|unix.MSG_TRUNC)
		switch {
		case err == unix.EINTR:
		case err != nil:
			return nil, err
		case n > len(s.in):
			return nil, fmt.Errorf("nfnetlink: datagram of %d bytes", n)
		default:
			return s.in[:n], nil
		}
	}
}

// complaint is an error the kernel returned.
type complaint struct {
	seq    uint32
	errno  unix.Errno
	offset int    // of the attribute in the message, 0: not said
	detail string // the kernel's words, mostly ""
}

// decodeError reads an NLMSG_ERROR: struct nlmsgerr, then attributes of
// enum nlmsgerr_attrs. A success is a complaint with errno 0.
//
//	| errno i32 | struct nlmsghdr of the request | attributes …
func decodeError(r reply) complaint {
	c := complaint{seq: r.seq, errno: unix.EBADMSG}
	if len(r.body) < 4+headerLen {
		return c
	}
	c.errno = unix.Errno(-int32(binary.NativeEndian.Uint32(r.body)))
	if more := attrs(r.body[4+headerLen:]); r.flags&unix.NLM_F_ACK_TLVS != 0 {
		c.detail = text(more.find(unix.NLMSGERR_ATTR_MSG))
		if v := more.find(unix.NLMSGERR_ATTR_OFFS); len(v) == 4 {
			c.offset = int(binary.NativeEndian.Uint32(v))
		}
	}
	return c
}

// transact sends a batch and returns the kernel's complaints.
func (s *socket) transact(batch []byte) ([]complaint, error) {
	if err := s.send(batch); err != nil {
		return nil, err
	}
	var all []complaint
	for {
		b, err := s.receive()
		switch {
		case err == unix.EAGAIN:
			return all, nil
		case err == unix.ENOBUFS && len(all) > 0:
			continue // there were more
		case err != nil:
			return nil, os.NewSyscallError("recvfrom", err)
		}
		for r, rest, ok := nextReply(b); ok; r, rest, ok = nextReply(rest) {
			if r.typ == unix.NLMSG_ERROR {
				if c := decodeError(r); c.errno != 0 {
					all = append(all, c)
				}
			}
		}
	}
}

// errChanged says that the rules changed while they were read.
var errChanged = errors.New("nftables changed while being read")

// dump sends a request and calls got for each answer, whose bytes are valid
// during the call only.
func (s *socket) dump(request []byte, got func(reply)) error {
	if err := s.send(request); err != nil {
		return err
	}
	changed := false
	for {
		b, err := s.receive()
		if err != nil {
			return s.cut(err)
		}
		for r, rest, ok := nextReply(b); ok; r, rest, ok = nextReply(rest) {
			changed = changed || r.flags&unix.NLM_F_DUMP_INTR != 0
			switch r.typ {
			case unix.NLMSG_DONE, unix.NLMSG_ERROR:
				return finish(r, changed)
			}
			got(r)
		}
	}
}

// finish judges a dump by its last message, which says how it went:
//
//	NLMSG_DONE  | errno i32 |
//	NLMSG_ERROR | errno i32 | struct nlmsghdr of the request | attributes …
func finish(r reply, changed bool) error {
	errno := unix.Errno(0)
	if len(r.body) >= 4 {
		errno = unix.Errno(-int32(binary.NativeEndian.Uint32(r.body)))
	}
	switch errno {
	case 0:
	case unix.ENOENT, unix.EINTR, unix.EAGAIN:
		return errChanged
	default:
		return fmt.Errorf("nftables: dump: %w", errno)
	}
	if changed {
		return errChanged
	}
	return nil
}

// cut ends a dump that broke off; what is left in the queue is thrown away.
func (s *socket) cut(err error) error {
	for {
		switch _, more := s.receive(); more {
		case nil, unix.ENOBUFS:
		default:
			if err == unix.EAGAIN || err == unix.ENOBUFS {
				return errChanged
			}
			return os.NewSyscallError("recvfrom", err)
		}
	}
}
