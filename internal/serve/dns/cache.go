package dns

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/miekg/dns"
)

// Limits of a cache.
const (
	hostCache    = 8192 // answers of the host's servers
	privateCache = 512  // answers of one sandbox's own servers
	maxCached    = 4096 // bytes of one
	maxTTL       = time.Hour
	maxNegative  = 5 * time.Minute
)

// longestTTL is the most that a TTL can be: one with the top bit is 0 (RFC 2181, 8).
const longestTTL = 1<<31 - 1

// entry is an answer of a server, without its OPT record. It does not change.
type entry struct {
	wire    []byte
	ttls    []uint16 // where in wire the TTLs are
	born    time.Time
	expires time.Time // not after born: not to be cached
	usable  bool      // the server knew what it said: NOERROR or NXDOMAIN
	nothing bool      // and that is that there is nothing of what was asked for
}

// newEntry reads what a server answered to q.
func newEntry(q *question, wire []byte, now time.Time) (*entry, error) {
	var m dns.Msg
	if err := m.Unpack(wire); err != nil {
		return nil, err
	}
	if len(m.Question) != 1 || m.Rcode > maskRcode {
		return nil, fmt.Errorf("rcode %d, %d questions", m.Rcode, len(m.Question))
	}
	var extra []dns.RR
	for _, rr := range m.Extra {
		if rr.Header().Rrtype != typeOPT {
			extra = append(extra, rr)
		}
	}
	m.Extra, m.Compress = extra, true
	for _, section := range [][]dns.RR{m.Answer, m.Ns, m.Extra} {
		for _, rr := range section {
			if h := rr.Header(); h.Ttl > longestTTL {
				h.Ttl = 0
			}
		}
	}
	packed, err := m.Pack()
	if err != nil {
		return nil, err
	}
	e := &entry{wire: packed, born: now, usable: m.Rcode == dns.RcodeSuccess || m.Rcode == dns.RcodeNameError}
	e.nothing = e.usable && len(m.Answer) == 0
	e.expires = now.Add(lifetime(&m, q.typ))
	return e, e.index(q.rawLen)
}

// lifetime is how long an answer may be kept: the least TTL, or of an answer that
// says that there is nothing what RFC 2308, 5 says; never without a SOA, and
// never one that is cut.
func lifetime(m *dns.Msg, typ uint16) time.Duration {
	if m.Rcode != dns.RcodeSuccess && m.Rcode != dns.RcodeNameError || m.Truncated {
		return 0
	}
	life, positive := maxTTL, false
	for _, rr := range m.Answer {
		h := rr.Header()
		life = min(life, time.Duration(h.Ttl)*time.Second)
		positive = positive || h.Rrtype == typ || typ == dns.TypeANY
	}
	if positive && m.Rcode == dns.RcodeSuccess {
		return life
	}
	for _, rr := range m.Ns {
		if soa, ok := rr.(*dns.SOA); ok {
			return min(life, maxNegative, time.Duration(min(soa.Minttl, soa.Hdr.Ttl))*time.Second)
		}
	}
	return 0
}

var errCut = errors.New("message ends within a record")

// index finds the TTLs in a message whose question section is n bytes long.
func (e *entry) index(n int) error {
	at := headerLen + n
	for at < len(e.wire) {
		for at < len(e.wire) && e.wire[at] != 0 && e.wire[at] < 0xc0 {
			at += 1 + int(e.wire[at])
		}
		if at >= len(e.wire) {
			return errCut
		}
		if e.wire[at] != 0 {
			at++ // the second byte of a pointer
		}
		at++
		if at+10 > len(e.wire) {
			return errCut
		}
		e.ttls = append(e.ttls, uint16(at+4))
		at += 10 + int(binary.BigEndian.Uint16(e.wire[at+8:]))
	}
	return nil
}

// render appends the reply to q, with TTLs as they are now. What does not fit is
// left out.
func (e *entry) render(dst []byte, q *question, now time.Time, limit int) []byte {
	flags := binary.BigEndian.Uint16(e.wire[2:])&(flagAD|flagTC|maskRcode) | flagQR | flagRA | q.flags&(flagRD|flagCD)
	records, end := len(e.ttls), len(e.wire)
	whole := end+q.tail() <= limit
	if !whole {
		records, end = e.fit(headerLen+q.rawLen, limit-q.tail())
		if records < e.answers() || records == 0 || q.do {
			flags |= flagTC
		}
	}
	dst = append(dst, e.wire[:end]...)
	if !whole {
		binary.BigEndian.PutUint16(dst[6:], uint16(records))
		clear(dst[8:headerLen])
	}
	binary.BigEndian.PutUint16(dst, q.id)
	binary.BigEndian.PutUint16(dst[2:], flags)
	copy(dst[headerLen:], q.raw[:q.rawLen])
	e.age(dst, records, now)
	return q.end(dst, 0)
}

// answers is how many records answer the question; others are behind them.
func (e *entry) answers() int { return int(binary.BigEndian.Uint16(e.wire[6:])) }

// fit returns how many of those, which begin at an offset, are within room, and
// where the last of them ends.
func (e *entry) fit(begin, room int) (records, end int) {
	end = begin
	for _, at := range e.ttls[:e.answers()] {
		next := int(at) + 6 + int(binary.BigEndian.Uint16(e.wire[int(at)+4:]))
		if next > room {
			break
		}
		records, end = records+1, next
	}
	return records, end
}

// age makes the TTLs of the first records what they are now.
func (e *entry) age(b []byte, records int, now time.Time) {
	passed := uint32(max(now.Sub(e.born), 0) / time.Second)
	for _, at := range e.ttls[:records] {
		ttl := binary.BigEndian.Uint32(b[at:])
		binary.BigEndian.PutUint32(b[at:], ttl-min(ttl, passed))
	}
}

// cache keeps answers by what was asked.
type cache struct {
	most int

	mu sync.Mutex // protects m
	m  map[string]*entry
}

func newCache(most int) *cache { return &cache{most: most, m: map[string]*entry{}} }

// get returns an answer that has not expired.
func (c *cache) get(identity string, now time.Time) *entry {
	c.mu.Lock()
	defer c.mu.Unlock()
	if e := c.m[identity]; e != nil && now.Before(e.expires) {
		return e
	}
	return nil
}

// How many entries are looked at to find one that may go.
const candidates = 8

func (c *cache) put(identity string, e *entry) {
	if !e.expires.After(e.born) || len(e.wire) > maxCached {
		return
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, there := c.m[identity]; !there && len(c.m) >= c.most {
		c.evict()
	}
	c.m[strings.Clone(identity)] = e
}

// evict removes the one of a few, picked anyhow, that would expire first.
func (c *cache) evict() {
	var victim string
	var first time.Time
	n := 0
	for k, e := range c.m {
		if n == 0 || e.expires.Before(first) {
			victim, first = k, e.expires
		}
		if n++; n == candidates {
			break
		}
	}
	delete(c.m, victim)
}
