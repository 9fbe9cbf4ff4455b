package udptun

import (
	"golang.org/x/sys/unix"
)

// Limits of one sendmsg: the segments that every kernel with UDP_SEGMENT takes
// (include/linux/udp.h), and the longest payload of a datagram over IPv6, which
// is more of a limit than IPv4's.
const (
	maxSegments = 64
	maxDatagram = 65535 - 40 - udpLen
)

// batch gathers packets that can go out at once: for one peer and of one length,
// but for the last, which may be shorter.
//
//	buffers   header payload header payload … packet packet …
//	          ╰──── piece ──╯               ╰ piece ╯
type batch struct {
	msg     message
	headers [maxSegments][maxHeader]byte
	ends    [maxSegments]int // of each piece, in buffers
	peer    *peer
	size    int // of each piece but the last
	pieces  int
	buffers int
	bytes   int
	full    bool // nothing can follow
}

// takes says whether a piece of n bytes for a peer can join.
func (b *batch) takes(p *peer, n int) bool {
	return b.pieces == 0 || !b.full && p == b.peer && n <= b.size && b.bytes+n <= maxDatagram
}

// header is where the headers of the next piece may be written.
func (b *batch) header() []byte { return b.headers[b.pieces][:] }

// add adds a piece that takes accepts. A part may be empty.
func (b *batch) add(p *peer, header, payload []byte) {
	n := len(header) + len(payload)
	if b.pieces == 0 {
		b.peer, b.size = p, n
	}
	for _, part := range [][]byte{header, payload} {
		if len(part) > 0 {
			b.msg.setBuffer(b.buffers, part)
			b.buffers++
		}
	}
	b.ends[b.pieces] = b.buffers
	b.pieces++
	b.bytes += n
	b.full = n < b.size || b.pieces == maxSegments
}

// send sends the batch. It returns how many pieces were sent,
// and how many bytes, and whether the socket can have several at once.
func (b *batch) send(fd int, gso bool) (pieces, bytes int, stillGSO bool) {
	pieces, bytes, stillGSO = b.pieces, b.bytes, gso
	err := error(unix.EIO)
	if b.pieces == 1 {
		err = b.msg.send(fd, b.peer, b.msg.iov[:b.buffers], 0)
	} else if gso {
		err = b.msg.send(fd, b.peer, b.msg.iov[:b.buffers], b.size)
	}
	switch {
	case err == nil:
	case b.pieces > 1 && (err == unix.EIO || err == unix.EINVAL || err == unix.EMSGSIZE):
		// EIO: the device to the peer computes no checksums. The others: a piece is
		// longer than the path's MTU, and goes as fragments if it goes alone.
		stillGSO = gso && err != unix.EIO
		pieces, bytes = b.singly(fd)
	default:
		pieces, bytes = 0, 0
	}
	return pieces, bytes, stillGSO
}

// empty makes room for another batch.
func (b *batch) empty() { b.pieces, b.buffers, b.bytes, b.full = 0, 0, 0, false }

// singly sends one piece after the other.
func (b *batch) singly(fd int) (pieces, bytes int) {
	begin := 0
	for _, end := range b.ends[:b.pieces] {
		if b.msg.send(fd, b.peer, b.msg.iov[begin:end], 0) == nil {
			pieces++
			for _, v := range b.msg.iov[begin:end] {
				bytes += int(v.Len)
			}
		}
		begin = end
	}
	return pieces, bytes
}
