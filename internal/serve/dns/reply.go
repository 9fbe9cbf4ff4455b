package dns

import (
	"encoding/binary"
	"math/rand/v2"

	"github.com/miekg/dns"
)

// begin appends the header and the question of a reply to dst, which is empty.
func (q *question) begin(dst []byte, flags uint16, answers int) []byte {
	dst = binary.BigEndian.AppendUint16(dst, q.id)
	dst = binary.BigEndian.AppendUint16(dst, flagQR|flagRA|flags|q.flags&(maskOpcode|flagRD|flagCD))
	questions := uint16(1)
	if q.rawLen == 0 {
		questions = 0
	}
	dst = binary.BigEndian.AppendUint16(dst, questions)
	dst = binary.BigEndian.AppendUint16(dst, uint16(answers))
	dst = append(dst, 0, 0, 0, 0)
	return append(dst, q.raw[:q.rawLen]...)
}

// end appends the OPT record of a reply whose client sent one; ext are the
// upper bits of the rcode.
func (q *question) end(dst []byte, ext byte) []byte {
	if !q.edns {
		return dst
	}
	var flags uint16
	if q.do {
		flags = flagDO
	}
	binary.BigEndian.PutUint16(dst[10:], binary.BigEndian.Uint16(dst[10:])+1)
	dst = append(dst, 0, 0, byte(typeOPT), maxUDP>>8, maxUDP&0xff, ext, 0)
	dst = binary.BigEndian.AppendUint16(dst, flags)
	return append(dst, 0, 0)
}

// tail is how long end's part is.
func (q *question) tail() int {
	if q.edns {
		return optLen
	}
	return 0
}

// refuse appends the reply to a request that cannot be worked on.
func (q *question) refuse(dst []byte, v verdict) []byte {
	switch v {
	case notImp:
		return q.begin(dst, dns.RcodeNotImplemented, 0)
	case badVers:
		return q.end(q.begin(dst, 0, 0), dns.RcodeBadVers>>4)
	default:
		return q.begin(dst, dns.RcodeFormatError, 0)
	}
}

// empty appends a reply without records.
func (q *question) empty(dst []byte, flags uint16) []byte { return q.end(q.begin(dst, flags, 0), 0) }

// addresses appends a reply with address records of so many bytes each, in any
// order. What does not fit is left out and TC says so; over TCP there is nothing
// bigger to turn to, so it does not.
func (q *question) addresses(dst, records []byte, size, limit int) []byte {
	count, flags := len(records)/size, uint16(flagAA)
	if fit := (limit - headerLen - q.rawLen - q.tail()) / size; count > fit {
		count = fit
		if limit < maxTCP {
			flags |= flagTC
		}
	}
	dst = q.begin(dst, flags, count)
	first := 0
	if n := len(records) / size; n > 1 {
		first = rand.IntN(n) * size
	}
	begin, head := len(dst), min(count*size, len(records)-first)
	dst = append(dst, records[first:first+head]...)
	dst = append(dst, records[:count*size-head]...)
	shuffle(dst[begin:], size)
	return q.end(dst, 0)
}

// shuffle brings records of so many bytes each into any order.
func shuffle(records []byte, size int) {
	var keep [recordAAAA]byte
	rand.Shuffle(len(records)/size, func(i, j int) {
		a, b := records[i*size:(i+1)*size], records[j*size:(j+1)*size]
		copy(keep[:], a)
		copy(a, b)
		copy(b, keep[:size])
	})
}

// records appends a reply of any records. If it does not fit there are none, and
// TC says so.
func (q *question) records(dst []byte, answer, extra []dns.RR, limit int) []byte {
	var m dns.Msg
	if q.unpack(&m) != nil {
		return q.empty(dst, dns.RcodeServerFailure)
	}
	m.Answer, m.Compress = answer, true
	for _, m.Extra = range [][]dns.RR{extra, nil} {
		wire, err := m.Pack()
		if err != nil {
			return q.empty(dst, dns.RcodeServerFailure)
		}
		if len(wire)+q.tail() <= limit {
			start := headerLen + q.rawLen
			dst = append(q.begin(dst, flagAA, len(answer)), wire[start:]...)
			binary.BigEndian.PutUint16(dst[10:], uint16(len(m.Extra)))
			return q.end(dst, 0)
		}
	}
	return q.empty(dst, flagAA|flagTC)
}

// unpack gives m the question in lower case.
func (q *question) unpack(m *dns.Msg) error {
	b := append(make([]byte, headerLen, headerLen+maxName+4), q.lower()...)
	b[5] = 1
	return m.Unpack(b)
}
