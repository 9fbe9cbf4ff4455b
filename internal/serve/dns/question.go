package dns

import (
	"encoding/binary"
	"strings"
	"unsafe"

	"github.com/miekg/dns"
)

// From RFC 1035 (4.1.1 header, 4.1.2 question, 2.3.4 sizes) and RFC 6891 (OPT).
//
//	| ID | flags | QDCOUNT | ANCOUNT | NSCOUNT | ARCOUNT |   16 bits each
//
//	flags  | QR | opcode 4 | AA | TC | RD | RA | Z | AD | CD | rcode 4 |
const (
	headerLen = 12
	maxName   = 255 // bytes of a name in a message
	maxText   = 253 // and as text
	maxLabel  = 63

	flagQR     = 1 << 15
	maskOpcode = 15 << 11
	flagAA     = 1 << 10
	flagTC     = 1 << 9
	flagRD     = 1 << 8
	flagRA     = 1 << 7
	flagAD     = 1 << 5
	flagCD     = 1 << 4
	maskRcode  = 15

	typeA    = dns.TypeA
	typeAAAA = dns.TypeAAAA
	typePTR  = dns.TypePTR
	typeOPT  = dns.TypeOPT
	classIN  = dns.ClassINET

	// OPT: | root 1 | type 2 | size 2 | rcode 1 | version 1 | DO, 15 bits | length 2 |
	optLen = 11
	flagDO = 1 << 15
	minUDP = 512
)

// Ours.
const (
	localTTL = 5    // seconds; names change while containers come and go
	maxUDP   = 4096 // bytes of a reply; what does not fit goes over TCP
	maxTCP   = 65535
	maxQuery = 2048 // bytes of a question over UDP with all its options
)

// question is a parsed request. It holds no pointers: a copy is a copy.
type question struct {
	id, flags  uint16
	typ, class uint16
	labels     int
	odd        bool // the name has bytes no host name has; zones know no such name
	edns, do   bool
	size       uint16 // what the client takes over UDP
	by         source // who answers it

	raw     [maxName + 4]byte // the question section as it came, for the reply
	rawLen  int
	text    [maxName]byte // the name in lower case, without the last dot
	textLen int
	key     [maxName + 5]byte // raw in lower case and the flags that change answers
}

// verdict is what parsing came to.
type verdict int

const (
	valid   verdict = iota
	ignored         // not a question; an answer could start a quarrel
	formErr
	notImp
	badVers
)

// parse reads a request. Unless it is valid or ignored, the question holds
// enough for a refusal.
func (q *question) parse(msg []byte) verdict {
	q.rawLen, q.textLen, q.labels = 0, 0, 0
	q.odd, q.edns, q.do, q.size = false, false, false, minUDP
	if len(msg) < headerLen {
		return ignored
	}
	q.id, q.flags = binary.BigEndian.Uint16(msg), binary.BigEndian.Uint16(msg[2:])
	switch {
	case q.flags&flagQR != 0:
		return ignored
	case q.flags&maskOpcode != 0:
		return notImp
	case binary.BigEndian.Uint16(msg[4:]) != 1 || q.flags&flagTC != 0 || !q.section(msg[headerLen:]):
		return formErr
	}
	return q.more(msg)
}

// section reads the question section.
func (q *question) section(b []byte) bool {
	n := q.name(b)
	if n == 0 || len(b) < n+4 {
		q.textLen = 0
		return false
	}
	q.typ, q.class = binary.BigEndian.Uint16(b[n:]), binary.BigEndian.Uint16(b[n+2:])
	q.rawLen = n + 4
	copy(q.raw[:], b[:q.rawLen])
	copy(q.key[n:], b[n:q.rawLen])
	return true
}

// name reads a name, which no pointer may be part of: there is nothing before it
// to point to. It returns the length, 0 if it is none.
func (q *question) name(b []byte) int {
	i := 0
	for {
		if i >= len(b) || i >= maxName {
			return 0
		}
		n := int(b[i])
		q.key[i] = b[i]
		i++
		if n == 0 {
			return i
		}
		if n > maxLabel || i+n >= maxName || i+n > len(b) {
			return 0
		}
		q.label(b[i:i+n], i)
		i += n
	}
}

func (q *question) label(b []byte, at int) {
	if q.labels > 0 {
		q.text[q.textLen] = '.'
		q.textLen++
	}
	q.labels++
	for j, c := range b {
		if 'A' <= c && c <= 'Z' {
			c += 'a' - 'A'
		}
		if c == '.' || c <= ' ' || c >= 0x7f {
			q.odd = true
		}
		q.key[at+j] = c
		q.text[q.textLen] = c
		q.textLen++
	}
}

// more reads what comes behind the question: nothing, an OPT record, or
// something rarer.
func (q *question) more(msg []byte) verdict {
	counts := binary.BigEndian.Uint64(msg[4:]) & 0xffffffffffff
	rest := msg[headerLen+q.rawLen:]
	if counts == 0 && len(rest) == 0 {
		return q.finish(valid)
	}
	if counts == 1 && len(rest) >= optLen && rest[0] == 0 && binary.BigEndian.Uint16(rest[1:]) == typeOPT &&
		int(binary.BigEndian.Uint16(rest[9:])) == 0 && len(rest) == optLen {
		return q.option(binary.BigEndian.Uint16(rest[3:]), rest[6], binary.BigEndian.Uint16(rest[7:]))
	}
	var m dns.Msg
	if counts == 0 || m.Unpack(msg) != nil || sections(&m) != counts {
		return formErr
	}
	opts := 0
	for _, rr := range m.Extra {
		if o, ok := rr.(*dns.OPT); ok {
			opts++
			if v := q.option(o.UDPSize(), o.Version(), uint16(o.Hdr.Ttl)); v != valid {
				return v
			}
		}
	}
	if opts > 1 {
		return formErr // RFC 6891, 6.1.1
	}
	return q.finish(valid)
}

// sections are the counts of records as the header has them, ANCOUNT first.
func sections(m *dns.Msg) uint64 {
	return uint64(len(m.Answer))<<32 | uint64(len(m.Ns))<<16 | uint64(len(m.Extra))
}

func (q *question) option(size uint16, version byte, flags uint16) verdict {
	q.edns, q.do, q.size = true, flags&flagDO != 0, max(size, minUDP)
	if version != 0 {
		return q.finish(badVers)
	}
	return q.finish(valid)
}

// finish completes the key.
func (q *question) finish(v verdict) verdict {
	flags := byte(q.flags&(flagAD|flagCD)) | byte(q.flags&flagRD>>8)
	if q.do {
		flags |= 2
	}
	q.key[q.rawLen] = flags
	return v
}

// host is the name as text, valid until the question is parsed again.
func (q *question) host() string { return unsafe.String(&q.text[0], q.textLen) }

// identity is what makes two questions the same one, valid as host.
func (q *question) identity() string { return unsafe.String(&q.key[0], q.rawLen+1) }

// lower is the question section in lower case.
func (q *question) lower() []byte { return q.key[:q.rawLen] }

// limit is how long a reply over UDP may be.
func (q *question) limit() int { return min(int(q.size), maxUDP) }

// under reports whether the name is in the domain of suffix, which begins with
// a dot, and returns what is before.
func under(name, suffix string) (string, bool) {
	before, ok := strings.CutSuffix(name, suffix)
	return before, ok && before != ""
}
