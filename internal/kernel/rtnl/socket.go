package rtnl

import (
	"errors"

	"golang.org/x/sys/unix"
)

// socket is a NETLINK_ROUTE socket in one namespace. It is used by one
// goroutine at a time.
type socket struct {
	fd    int
	seq   uint32
	buf   *[bufferSize]byte // for what is received
	ports *ports
}

// maxBatch messages are sent at once: the answers to all of them, should all
// fail, must fit the default receive buffer.
const maxBatch = 64

func (s *socket) close() {
	unix.Close(s.fd)
	s.ports.bufs.Put(s.buf)
}

// send sends messages in as few system calls as may be and returns an error or
// nil for each. The kernel carries them out in order and goes on after one
// that fails.
func (s *socket) send(msgs []*message) []error {
	errs := make([]error, len(msgs))
	for start := 0; start < len(msgs); start += maxBatch {
		end := min(start+maxBatch, len(msgs))
		if err := s.batch(msgs[start:end], errs[start:end]); err != nil {
			for i := start; i < len(errs); i++ {
				errs[i] = err
			}
			break
		}
	}
	return errs
}

// batch sends messages at once. Failures are always answered; success only by
// the last one, which asks for it.
func (s *socket) batch(msgs []*message, errs []error) error {
	first := s.seq + 1
	var out []byte
	for i, m := range msgs {
		s.seq++
		var flags uint16
		if i == len(msgs)-1 {
			flags = unix.NLM_F_ACK
		}
		m.seal(s.seq, flags)
		out = append(out, m.buf...)
	}
	if err := s.write(out); err != nil {
		return err
	}
	for {
		done := false
		err := s.read(func(h header, body []byte) error {
			if h.typ == unix.NLMSG_ERROR && h.seq-first < uint32(len(msgs)) {
				errs[h.seq-first] = answer(h, body)
				done = done || h.seq == s.seq
			}
			return nil
		})
		if done || err != nil {
			return err
		}
	}
}

// get sends one request and returns the body of its one answer, which is valid
// until the socket is used again.
func (s *socket) get(m *message) ([]byte, error) {
	s.seq++
	m.seal(s.seq, 0)
	if err := s.write(m.buf); err != nil {
		return nil, err
	}
	var got []byte
	for got == nil {
		err := s.read(func(h header, body []byte) error {
			switch {
			case h.seq != s.seq:
			case h.typ == unix.NLMSG_ERROR:
				return answer(h, body)
			default:
				got = body
			}
			return nil
		})
		if err != nil {
			return nil, err
		}
	}
	return got, nil
}

func (s *socket) write(b []byte) error {
	for {
		err := unix.Sendto(s.fd, b, 0, &unix.SockaddrNetlink{Family: unix.AF_NETLINK})
		if !errors.Is(err, unix.EINTR) {
			return err
		}
	}
}

// header is the part of struct nlmsghdr that answers are told apart by.
type header struct {
	typ, flags uint16
	seq, port  uint32
}

// bufferSize is the largest piece a dump comes in (netlink_dump in
// net/netlink/af_netlink.c) and more than any other answer needs.
const bufferSize = 32 << 10

// read receives once and calls each for every message. Bodies are valid until
// the next read.
func (s *socket) read(each func(header, []byte) error) error {
	n, _, err := unix.Recvfrom(s.fd, s.buf[:], 0)
	switch {
	case errors.Is(err, unix.EINTR):
		return nil
	case err != nil:
		return err
	}
	return messages(s.buf[:n], each)
}

// messages calls each for every message in b.
func messages(b []byte, each func(header, []byte) error) error {
	for len(b) >= unix.SizeofNlMsghdr {
		n := int(native.Uint32(b))
		if n < unix.SizeofNlMsghdr || n > len(b) {
			return errors.New("malformed netlink message")
		}
		h := header{native.Uint16(b[4:]), native.Uint16(b[6:]), native.Uint32(b[8:]), native.Uint32(b[12:])}
		if err := each(h, b[unix.SizeofNlMsghdr:n]); err != nil {
			return err
		}
		b = b[min(align(n), len(b)):]
	}
	return nil
}
