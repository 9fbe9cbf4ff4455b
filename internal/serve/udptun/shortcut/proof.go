package shortcut

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"time"

	"golang.org/x/sys/unix"
)

// proof is what sockets have found out of the firewall, and of a host.
type proof struct {
	out bool
	in  int // for so many rounds more
}

// inRounds is for how many rounds a datagram that came by the socket counts: this one and
// another, for the other host's rounds begin at other times.
const inRounds = 2

// Round counts the rounds of proofs, from 1 on.
func (s *Shortcut) Round() uint32 { return s.rounds.Load() }

// Prove says that a socket has just sent to a host, or heard from it: what is easy may
// take the shortcut from now on. It has to be said in each Round. The first time, the host
// is told that there is a shortcut here.
func (s *Shortcut) Prove(host netip.Addr, w Way) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	p := s.proofs[host]
	switch {
	case p == nil:
		return nil
	case w == In:
		p.in = inRounds
	case p.out:
		return nil
	default:
		if err := s.tell(host); err != nil {
			return err
		}
		p.out = true
	}
	return s.note(host, p)
}

// Renew begins a round: whether datagrams to hosts are let pass is tried, and what was
// not heard of a host for a while does not count any more. Keep does so each minute.
func (s *Shortcut) Renew() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.renew()
}

// renew is Renew for who holds mu.
func (s *Shortcut) renew() error {
	var errs []error
	for host, p := range s.proofs {
		if !p.out && p.in == 0 {
			continue
		}
		p.out = p.out && s.tell(host) == nil
		p.in = max(p.in-1, 0)
		errs = append(errs, s.note(host, p))
	}
	s.begun = time.Now()
	s.rounds.Add(1)
	return errors.Join(errs...)
}

// note writes down what the programs have to know. The caller holds mu.
func (s *Shortcut) note(host netip.Addr, p *proof) error {
	var k known
	if err := s.hosts.Lookup(host.As4(), &k); err != nil {
		return fmt.Errorf("look up %v: %w", host, err)
	}
	k.Out, k.In = 0, uint32(p.in)
	if p.out {
		k.Out = 1
	}
	return s.hosts.Put(host.As4(), k)
}

// tell sends a host an empty datagram without a checksum. Its kernel notes that there is a
// shortcut here, and its socket that such datagrams come through; flanneld drops it.
//
//	IP(20) source port(16) destination port(16) length(16) checksum(16)
func (s *Shortcut) tell(host netip.Addr) error {
	var b [overhead]byte
	b[0], b[ipTTL], b[ipProto] = plainIP, outerTTL, unix.IPPROTO_UDP
	binary.BigEndian.PutUint16(b[ipFlags:], dontFragment)
	local, to := s.Local.As4(), host.As4()
	copy(b[ipSrc:], local[:])
	copy(b[ipDst:], to[:])
	binary.BigEndian.PutUint16(b[ipLen:], s.Port)
	binary.BigEndian.PutUint16(b[ipLen+udpDport:], s.Port)
	binary.BigEndian.PutUint16(b[ipLen+udpLength:], udpLen)
	return os.NewSyscallError("sendto", unix.Sendto(s.raw, b[:], unix.MSG_DONTWAIT, &unix.SockaddrInet4{Addr: to}))
}
