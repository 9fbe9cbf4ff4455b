package udptun

import (
	"bytes"
	"encoding/binary"

	"golang.org/x/sys/unix"
)

// Limits of a run: the kernel's of a packet, and ours of pieces.
const (
	maxPacket = 65535
	maxRun    = 128
)

// run is a row of packets that can be one: pieces of one TCP stream or UDP flow,
// in order, of one length but for the last. What may be put together is what the
// kernel's GRO would (net/ipv4/tcp_offload.c: tcp_gro_receive).
type run struct {
	first    packet
	payloads [maxRun][]byte
	count    int
	header   int // length of all headers of first
	size     int // of the payload of all but the last
	total    int // of headers and payloads
	open     bool
	checked  bool // the checksums of first are right
}

// start begins a run with a packet that may go in.
func (r *run) start(p *packet, uso bool) {
	r.first, r.count, r.total, r.checked = *p, 1, len(p.data), false
	r.header, r.open = headers(p, uso)
	if r.open {
		r.payloads[0] = p.data[r.header:]
		r.size = len(p.data) - r.header
	}
}

// headers returns the length of the headers of a packet, and whether it may be
// the first of several.
func headers(p *packet, uso bool) (length int, ok bool) {
	if p.fragment || p.header != ip4Len && !p.v6 {
		return 0, false
	}
	l4 := p.data[p.header:]
	switch {
	case p.proto == unix.IPPROTO_TCP && len(l4) >= tcpLen:
		length = int(l4[tcpOffset]>>4) * 4
		ok = length >= tcpLen && l4[tcpFlags] == flagACK
	case p.proto == unix.IPPROTO_UDP && len(l4) >= udpLen:
		length = udpLen
		ok = uso && int(binary.BigEndian.Uint16(l4[udpLength:])) == len(l4) && l4[udpSum]|l4[udpSum+1] != 0
	}
	return p.header + length, ok && length < len(l4)
}

// add takes one more packet into the run, if it fits.
func (r *run) add(p *packet) bool {
	n := len(p.data) - r.header
	if !r.open || n <= 0 || n > r.size || r.count == maxRun || r.total+n > maxPacket || !r.follows(p) {
		return false
	}
	if !r.checked && !r.first.verified() {
		r.open = false
		return false
	}
	r.checked = true
	if !p.verified() {
		return false
	}
	r.payloads[r.count] = p.data[r.header:]
	r.count++
	r.total += n
	r.open = n == r.size
	if p.proto == unix.IPPROTO_TCP && p.data[p.header+tcpFlags]&flagPSH != 0 {
		r.first.data[p.header+tcpFlags] |= flagPSH
		r.open = false
	}
	return true
}

// follows says whether a packet is the next of the run, by its headers.
func (r *run) follows(p *packet) bool {
	f := &r.first
	if p.v6 != f.v6 || p.proto != f.proto || p.header != f.header || p.fragment || !bytes.Equal(p.addrs(), f.addrs()) || !r.sameIP(p) {
		return false
	}
	a, b := f.data[f.header:], p.data[p.header:]
	if f.proto == unix.IPPROTO_UDP {
		return bytes.Equal(a[:udpLength], b[:udpLength]) && int(binary.BigEndian.Uint16(b[udpLength:])) == len(b) && b[udpSum]|b[udpSum+1] != 0
	}
	options := r.header - f.header
	seq := binary.BigEndian.Uint32(a[tcpSeq:]) + uint32(r.total-r.header)
	return bytes.Equal(a[:tcpSeq], b[:tcpSeq]) && binary.BigEndian.Uint32(b[tcpSeq:]) == seq &&
		bytes.Equal(a[tcpAck:tcpFlags], b[tcpAck:tcpFlags]) && b[tcpFlags]&^flagPSH == flagACK &&
		bytes.Equal(a[tcpWindow:tcpSum], b[tcpWindow:tcpSum]) && bytes.Equal(a[tcpLen:options], b[tcpLen:options])
}

// sameIP compares what is left of the IP headers.
func (r *run) sameIP(p *packet) bool {
	a, b := r.first.data, p.data
	if p.v6 { // traffic class and flow label, hop limit
		return bytes.Equal(a[:ip6Payload], b[:ip6Payload]) && a[ip6Hops] == b[ip6Hops]
	}
	if a[1] != b[1] || a[ip4Flags] != b[ip4Flags] || a[ip4TTL] != b[ip4TTL] {
		return false
	}
	// Numbers that nobody needs need not be in order (RFC 6864 4.1).
	id := binary.BigEndian.Uint16(a[ip4ID:]) + uint16(r.count)
	return a[ip4Flags]&dontFragment != 0 || binary.BigEndian.Uint16(b[ip4ID:]) == id
}

// finish makes the first packet's headers those of the whole run and returns
// what the kernel has to know of it.
func (r *run) finish() vnet {
	if r.count == 1 {
		return vnet{}
	}
	p := &r.first
	header, length := p.data[:r.header], r.total-p.header
	setLength(header, p.v6, r.total)
	v := vnet{needsSum: true, header: r.header, size: r.size, sumStart: p.header, sumOffset: sumOffset(p.proto)}
	switch {
	case p.proto == unix.IPPROTO_UDP:
		v.kind = unix.VIRTIO_NET_HDR_GSO_UDP_L4
		binary.BigEndian.PutUint16(header[p.header+udpLength:], uint16(length))
	case p.v6:
		v.kind = unix.VIRTIO_NET_HDR_GSO_TCPV6
	default:
		v.kind = unix.VIRTIO_NET_HDR_GSO_TCPV4
	}
	putSum(header[p.header+v.sumOffset:], fold(pseudo(p.addrs(), p.proto, length)))
	return v
}
