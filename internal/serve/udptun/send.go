package udptun

import (
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/sealane/sealane/internal/serve/udptun/shortcut"
)

// Room for what is read from the device: a slot holds any packet. While pieces
// of one wait for more to go with, the next are read behind it.
const (
	slotBytes  = vnetLen + maxPacket + 1<<7
	arenaBytes = 3 * slotBytes
	align      = 64
)

// perTurn is how many packets are taken before a look whether the tunnel has been
// closed.
const perTurn = 64

// sender carries from a queue of the device to the peers.
type sender struct {
	*Tunnel
	*queue
	arena []byte
	at    int // where to read next
	batch batch
	begin int            // of the first packet that the batch has pieces of
	ahead bool           // begin is: the arena has been begun anew since
	gso   [families]bool // the sockets can send several at once
	icmp  errorMaker

	// The last packet's destination, likely the next one's too.
	table *table
	dst   netip.Addr
	peer  *peer
}

func newSender(t *Tunnel, q *queue) *sender {
	return &sender{Tunnel: t, queue: q, arena: make([]byte, arenaBytes), gso: [families]bool{true, true}}
}

// run carries until the tunnel is closed, or its device deleted.
func (s *sender) run() error { return s.stopper.serve(s.tun, s.turn) }

// turn takes what there is to read, up to a number of packets.
func (s *sender) turn() (more bool, err error) {
	for range perTurn {
		n, err := unix.Read(s.tun, s.room())
		switch {
		case err == unix.EAGAIN:
			s.flush()
			return false, nil
		case err == unix.EINTR:
		case err != nil:
			return false, os.NewSyscallError("read", err)
		case n < vnetLen:
			s.sent.drop(Malformed, 1)
		default:
			s.packet(s.arena[s.at : s.at+n])
			s.advance(n)
		}
	}
	return true, nil
}

// room is a slot of the arena that no waiting piece is in.
func (s *sender) room() []byte {
	if s.at+slotBytes > len(s.arena) {
		s.at, s.ahead = 0, s.batch.pieces > 0
	}
	if s.ahead && s.at+slotBytes > s.begin {
		s.flush()
	}
	return s.arena[s.at : s.at+slotBytes]
}

// advance leaves a packet where it is, unless nothing of it waits.
func (s *sender) advance(n int) {
	if s.at += (n + align - 1) &^ (align - 1); s.batch.pieces == 0 {
		s.at = 0
	}
}

// packet sends one packet as the device gave it.
func (s *sender) packet(b []byte) {
	v := parseVnet(b)
	p, ok := parse(b[vnetLen:], v.kind != unix.VIRTIO_NET_HDR_GSO_NONE)
	if !ok {
		s.sent.drop(Malformed, 1)
		return
	}
	to := s.route(p.dst)
	switch {
	case to == nil:
		s.sent.drop(NoRoute, 1)
		s.answer(&p, noRoute, p.dst)
	case !p.age():
		s.sent.drop(Expired, 1)
		s.answer(&p, expired, to.Prefix.Addr())
	case !s.cut(&p, v, to):
		s.sent.drop(Malformed, 1)
	}
}

// route is the peer that has a destination, or nil.
func (s *sender) route(dst netip.Addr) *peer {
	if t := s.Tunnel.table.Load(); t != s.table || dst != s.dst {
		s.table, s.dst, s.peer = t, dst, t.find(dst)
	}
	return s.peer
}

// cut adds a packet to the batch, in pieces if it is to be cut; false if it
// makes no sense.
func (s *sender) cut(p *packet, v vnet, to *peer) bool {
	if v.kind == unix.VIRTIO_NET_HDR_GSO_NONE {
		if v.needsSum && !v.complete(p.data) {
			return false
		}
		s.join(to, len(p.data))
		s.batch.add(to, p.data, nil)
		return true
	}
	c, ok := cut(p, v)
	if !ok {
		return false
	}
	for len(c.payload) > 0 {
		s.join(to, len(c.header)+min(c.size, len(c.payload)))
		header := s.batch.header()
		n, payload := c.next(header)
		s.batch.add(to, header[:n], payload)
	}
	return true
}

// join makes the batch one that takes a piece of n bytes.
func (s *sender) join(to *peer, n int) {
	if !s.batch.takes(to, n) {
		s.flush()
	}
	if s.batch.pieces == 0 {
		s.begin, s.ahead = s.at, false
	}
}

// flush sends what waits. It never waits itself: a peer that does not answer ARP
// would stop all others.
func (s *sender) flush() {
	all := s.batch.pieces
	if all == 0 {
		return
	}
	to := s.batch.peer
	f := to.family
	sent, bytes, gso := s.batch.send(s.udp[f], s.gso[f])
	s.gso[f] = gso
	s.batch.empty()
	s.ahead = false
	s.sent.carried(sent, bytes)
	s.sent.drop(Unsent, all-sent)
	if sent > 0 {
		s.vouch(to.host, shortcut.Out)
	}
}

// answer writes an ICMP error about a packet to the device, as if it came from
// the network.
func (s *sender) answer(p *packet, why problem, from netip.Addr) {
	if b := s.icmp.about(p, why, from); b != nil {
		_, _ = unix.Write(s.tun, b) // the next such packet gets one
	}
}
