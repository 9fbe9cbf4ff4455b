package udptun

import "sync/atomic"

// Drop is a reason why a packet was not carried.
type Drop int

// The reasons. The first three are of packets out, the next five of packets in.
const (
	NoRoute   Drop = iota // no peer has the destination; ICMP may have said so
	Expired               // the TTL came to its end; ICMP may have said so
	Unsent                // the socket did not take it: no memory, no route to the peer, too long
	Stranger              // from an address that is no peer's
	Spoofed               // from a peer, with a source that is not in its subnet
	NotOurs               // from a peer, with a destination that is not in our subnets
	Unwritten             // the device did not take it: it is down, or it found the packet bad
	Malformed             // no whole IP packet, either way
	drops
)

// String is the reason as one word, for a metric's label.
func (d Drop) String() string {
	names := [drops]string{"no-route", "expired", "unsent", "stranger", "spoofed", "not-ours", "unwritten", "malformed"}
	if d < 0 || d >= drops {
		return "unknown"
	}
	return names[d]
}

// Traffic is what was carried in one direction.
type Traffic struct {
	Packets uint64 // as many as datagrams
	Bytes   uint64 // of them, without the outer headers
}

// Stats is what a tunnel has done since it was opened.
type Stats struct {
	Sent, Received Traffic
	Drops          map[Drop]uint64 // packets, for every reason
}

// Stats returns the tunnel's counters. They only grow.
func (t *Tunnel) Stats() Stats {
	s := Stats{Drops: make(map[Drop]uint64, drops)}
	for _, q := range t.queues {
		s.Sent.add(&q.sent)
		q.sent.addDrops(s.Drops)
		for f := range q.received {
			s.Received.add(&q.received[f])
			q.received[f].addDrops(s.Drops)
		}
	}
	return s
}

func (t *Traffic) add(c *counters) {
	t.Packets += c.packets.Load()
	t.Bytes += c.bytes.Load()
}

func (c *counters) addDrops(to map[Drop]uint64) {
	for d := range drops {
		to[d] += c.drops[d].Load()
	}
}

// counters have one writer and a cache line that is nobody else's.
type counters struct {
	packets, bytes atomic.Uint64
	drops          [drops]atomic.Uint64
	_              [64]byte
}

func (c *counters) carried(packets, bytes int) {
	c.packets.Add(uint64(packets))
	c.bytes.Add(uint64(bytes))
}

func (c *counters) drop(why Drop, packets int) { c.drops[why].Add(uint64(packets)) }
