package dns

import (
	"math/rand/v2"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"github.com/miekg/dns"
)

// view is a View made ready for lookups. It does not change.
type view struct {
	zones   []*Zone
	links   map[string]string
	private *forwarder                 // the sandbox's own servers; may be nil
	host    *atomic.Pointer[forwarder] // the host's; nil: not to be asked
}

// out is who is asked for other names, nil if nobody.
func (v *view) out() *forwarder {
	f := v.private
	if f == nil && v.host != nil {
		f = v.host.Load()
	}
	if f == nil || len(f.servers) == 0 {
		return nil
	}
	return f
}

// reply appends the reply to a request over UDP or TCP. If nothing was appended
// there is none to be given, or not at once: then the forwarder has to be asked.
func (v *view) reply(dst []byte, q *question, msg []byte, udp bool, now time.Time) ([]byte, *forwarder) {
	q.by = senseless
	switch said := q.parse(msg); said {
	case valid:
	case ignored:
		return dst, nil
	default:
		return q.refuse(dst, said), nil
	}
	q.by = fromHere
	limit := maxTCP
	if udp {
		limit = q.limit()
	}
	if b, done := v.answer(dst, q, limit); done {
		return b, nil
	}
	q.by = fromNobody
	if v.private == nil && v.host == nil {
		return q.empty(dst, dns.RcodeNameError), nil // musl waits 5 s for a better answer than any other error
	}
	f := v.out()
	if f == nil {
		return q.empty(dst, dns.RcodeServerFailure), nil
	}
	if e := f.cache.get(q.identity(), now); e != nil {
		q.by = fromCache
		return e.render(dst, q, now, limit), nil
	}
	q.by = fromServer
	return dst, f
}

// forwarded appends the reply to a question that was forwarded.
func (q *question) forwarded(dst []byte, e *entry, limit int) []byte {
	if e == nil {
		return q.empty(dst, dns.RcodeServerFailure)
	}
	return e.render(dst, q, time.Now(), limit)
}

// answer appends the reply to q, if it can be given without asking anybody.
func (v *view) answer(dst []byte, q *question, limit int) ([]byte, bool) {
	switch q.typ {
	case dns.TypeAXFR, dns.TypeIXFR, dns.TypeOPT, dns.TypeTSIG, dns.TypeTKEY, dns.TypeMAILA, dns.TypeMAILB:
		return q.empty(dst, dns.RcodeRefused), true
	}
	switch {
	case q.labels == 0:
		return dst, false
	case q.class != classIN:
		return q.elsewhere(dst, dns.RcodeRefused)
	case q.odd:
		return q.elsewhere(dst, dns.RcodeNameError)
	}
	name := q.host()
	if isLocalhost(name) {
		return q.known(dst, localhost(), limit), true
	}
	if r, _ := v.find(name); r != nil {
		return q.known(dst, r, limit), true
	}
	if name[0] == '_' {
		if s, ok := v.service(name); ok {
			return s.answer(dst, q, limit), true
		}
	}
	if strings.HasSuffix(name, ".arpa") {
		return v.reverse(dst, q, limit)
	}
	return q.elsewhere(dst, flagAA|dns.RcodeNameError)
}

// elsewhere leaves a name to others, but for one that could be a sandbox's: it
// is answered so. Of that name others are asked for what only a zone has, such as
// org: who validates answers has to know.
func (q *question) elsewhere(dst []byte, answer uint16) ([]byte, bool) {
	if !q.single() {
		return dst, false
	}
	switch q.typ {
	case dns.TypeDS, dns.TypeDNSKEY, dns.TypeNS, dns.TypeSOA:
		if q.class == classIN && !q.odd {
			return dst, false
		}
	}
	return q.empty(dst, answer), true
}

// single reports whether the name is one label, not counting what is said of it
// in front, as in _80._tcp.web.
func (q *question) single() bool {
	left, name := q.labels, q.host()
	for left > 1 && !q.odd && name[0] == '_' {
		_, name, _ = strings.Cut(name, ".")
		left--
	}
	return left == 1
}

// isLocalhost reports whether name is one that every host has for itself
// (RFC 6761, 6.3).
func isLocalhost(name string) bool {
	before, ok := strings.CutSuffix(name, "localhost")
	return ok && (before == "" || before[len(before)-1] == '.')
}

func localhost() *record {
	return newRecord([]*host{{addrs: []netip.Addr{netip.AddrFrom4([4]byte{127, 0, 0, 1}), netip.IPv6Loopback()}}})
}

// known appends the reply for a name of a zone. A type the name has nothing of
// is still answered: others do not know the name better.
func (q *question) known(dst []byte, r *record, limit int) []byte {
	switch {
	case q.typ == typeA, q.typ == dns.TypeANY && len(r.aaaa) == 0:
		return q.addresses(dst, r.a, recordA, limit)
	case q.typ == typeAAAA, q.typ == dns.TypeANY:
		return q.addresses(dst, r.aaaa, recordAAAA, limit)
	default:
		return q.empty(dst, flagAA)
	}
}

// find looks a name up: links first, then each network for the whole name, then
// for a name that ends with the network's, or a link that does.
func (v *view) find(name string) (*record, *snapshot) {
	if target, ok := v.links[name]; ok {
		name = target
	}
	for _, z := range v.zones {
		s := z.now.Load()
		if r, ok := s.names.get(name); ok {
			return r, s
		}
	}
	for _, z := range v.zones {
		s := z.now.Load()
		if short, ok := under(name, s.suffix); ok {
			if r, ok := s.names.get(short); ok {
				return r, s
			}
			if r, ok := s.names.get(v.links[short]); ok {
				return r, s
			}
		}
	}
	return nil, nil
}

// service is a question for _PORT._PROTO.NAME, where the name is known.
type service struct {
	proto string
	port  uint16 // 0: none that there is
	hosts []*host
	zone  *snapshot
}

func (v *view) service(name string) (service, bool) {
	port, rest, _ := strings.Cut(name, ".")
	proto, rest, ok := strings.Cut(rest, ".")
	if !ok || !strings.HasPrefix(proto, "_") {
		return service{}, false
	}
	r, s := v.find(rest)
	if r == nil {
		return service{}, false
	}
	n, err := strconv.ParseUint(port[1:], 10, 16)
	if err != nil {
		n = 0
	}
	return service{proto[1:], uint16(n), r.hosts, s}, true
}

// answer says which hosts have the port. A port that none has is a name that
// does not exist.
func (s *service) answer(dst []byte, q *question, limit int) []byte {
	var srv, extra []dns.RR
	name, said := escape(q.host()), map[string]bool{}
	for _, h := range s.hosts {
		if len(h.names) == 0 || !slices.ContainsFunc(h.ports, func(p Port) bool { return p.has(s.proto, s.port) }) {
			continue
		}
		target := escape(s.zone.full(h))
		if !said[target] {
			srv = append(srv, &dns.SRV{Hdr: header(name, dns.TypeSRV), Port: s.port, Target: target})
		}
		said[target] = true
		extra = append(extra, h.records(target)...)
	}
	switch {
	case len(srv) == 0:
		return q.empty(dst, flagAA|dns.RcodeNameError)
	case q.typ != dns.TypeSRV && q.typ != dns.TypeANY:
		return q.empty(dst, flagAA)
	}
	rand.Shuffle(len(srv), func(i, j int) { srv[i], srv[j] = srv[j], srv[i] })
	return q.records(dst, srv, extra, limit)
}

// records are the host's addresses under a name.
func (h *host) records(name string) []dns.RR {
	var out []dns.RR
	for _, a := range h.addrs {
		if a.Is4() {
			out = append(out, &dns.A{Hdr: header(name, dns.TypeA), A: a.AsSlice()})
		} else {
			out = append(out, &dns.AAAA{Hdr: header(name, dns.TypeAAAA), AAAA: a.AsSlice()})
		}
	}
	return out
}

func header(name string, typ uint16) dns.RR_Header {
	return dns.RR_Header{Name: name, Rrtype: typ, Class: dns.ClassINET, Ttl: localTTL}
}

// escape is a name as the library reads it.
func escape(name string) string {
	const special = `\";()@$`
	if !strings.ContainsAny(name, special) {
		return name + "."
	}
	var b strings.Builder
	for i := range len(name) {
		if strings.IndexByte(special, name[i]) >= 0 {
			b.WriteByte('\\')
		}
		b.WriteByte(name[i])
	}
	return b.String() + "."
}

// reverse answers for addresses of hosts, and for those that could be: what is
// in a subnet of ours nobody else knows.
func (v *view) reverse(dst []byte, q *question, limit int) ([]byte, bool) {
	addr, ok := arpa(q.host())
	if !ok {
		return dst, false
	}
	if addr.IsLoopback() {
		return q.pointer(dst, "localhost", limit), true
	}
	inside := false
	for _, z := range v.zones {
		s := z.now.Load()
		hosts, _ := s.addrs.get(addr)
		for _, h := range hosts {
			if len(h.names) > 0 {
				return q.pointer(dst, s.full(h), limit), true
			}
		}
		for _, p := range s.subnets {
			inside = inside || p.Contains(addr)
		}
	}
	if inside {
		return q.empty(dst, flagAA|dns.RcodeNameError), true
	}
	return dst, false
}

func (q *question) pointer(dst []byte, name string, limit int) []byte {
	if q.typ != typePTR && q.typ != dns.TypeANY {
		return q.empty(dst, flagAA)
	}
	rr := &dns.PTR{Hdr: header(escape(q.host()), typePTR), Ptr: escape(name)}
	return q.records(dst, []dns.RR{rr}, nil, limit)
}

// arpa reads the address in 4.3.2.1.in-addr.arpa (RFC 1035, 3.5) or in 32
// nibbles and ip6.arpa (RFC 3596, 2.5), the last first.
func arpa(name string) (netip.Addr, bool) {
	if s, ok := strings.CutSuffix(name, ".in-addr.arpa"); ok {
		p := strings.Split(s, ".")
		if len(p) != 4 {
			return netip.Addr{}, false
		}
		a, err := netip.ParseAddr(p[3] + "." + p[2] + "." + p[1] + "." + p[0])
		return a, err == nil && a.Is4()
	}
	s, ok := strings.CutSuffix(name, ".ip6.arpa")
	if !ok || len(s) != 63 {
		return netip.Addr{}, false
	}
	var b [16]byte
	for i := range 32 {
		n, err := strconv.ParseUint(s[62-2*i:63-2*i], 16, 4)
		if err != nil || i > 0 && s[63-2*i] != '.' {
			return netip.Addr{}, false
		}
		b[i/2] = b[i/2]<<4 | byte(n)
	}
	return netip.AddrFrom16(b), true
}
