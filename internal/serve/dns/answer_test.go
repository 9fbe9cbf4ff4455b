package dns

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// town is a view of two networks; nobody is asked for other names.
func town() *view {
	front := NewZone("Front", prefixes("192.0.2.0/24", "2001:db8::/64"))
	front.Update([]Host{
		{ID: "1", Names: []string{"Web", "www", "0123456789ab"}, Addrs: addrs("192.0.2.2", "2001:db8::2"), Ports: []Port{{Proto: "tcp", Number: 8080}, {Proto: "udp", Number: 53}}},
		{ID: "2", Names: []string{"web2", "www"}, Addrs: addrs("192.0.2.3"), Ports: []Port{{Proto: "tcp", Number: 8080}}},
		{ID: "3", Names: []string{"db"}, Addrs: addrs("192.0.2.4"), Ports: []Port{{Proto: "tcp", Number: 65530, Count: 6}, {Proto: "udp", Number: 7, Count: 2}}},
		{ID: "4", Names: []string{"a.b"}, Addrs: addrs("192.0.2.5")},
		{ID: "5", Names: []string{"six"}, Addrs: addrs("2001:db8::6")},
		{ID: "6", Names: nil, Addrs: addrs("192.0.2.7")},
	})
	back := NewZone("back.example", prefixes("198.51.100.0/24"))
	back.Update([]Host{
		{ID: "1", Names: []string{"db", "web"}, Addrs: addrs("198.51.100.2")},
		{ID: "2", Names: []string{"store"}, Addrs: addrs("198.51.100.3", "192.0.2.2")},
	})
	return &view{zones: []*Zone{front, back}, links: map[string]string{"cache": "store", "db": "store"}, host: nobody()}
}

// nobody is a host without servers: what would be asked of it is SERVFAIL.
func nobody() *atomic.Pointer[forwarder] {
	var p atomic.Pointer[forwarder]
	p.Store(newForwarder(nil, nil, hostCache, new(counts)))
	return &p
}

// over asks v and returns the reply.
func over(t testing.TB, v *view, m *dns.Msg, udp bool) *dns.Msg {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	var q question
	b, f := v.reply(nil, &q, wire, udp, time.Now())
	if f != nil || len(b) == 0 {
		t.Fatalf("%v: no reply", m.Question)
	}
	r := new(dns.Msg)
	if err := r.Unpack(b); err != nil {
		t.Fatalf("%v: %v: %x", m.Question, err, b)
	}
	if r.Id != m.Id || !r.Response || !r.RecursionAvailable || r.RecursionDesired != m.RecursionDesired || !slices.Equal(r.Question, m.Question) {
		t.Errorf("%v: %v", m, r)
	}
	return r
}

func TestAnswer(t *testing.T) {
	const six = "2.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.0.8.b.d.0.1.0.0.2.ip6.arpa"
	v := town()
	for _, c := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"web", dns.TypeA, "NOERROR 192.0.2.2"},
		{"wEB", dns.TypeAAAA, "NOERROR 2001:db8::2"},
		{"0123456789AB", dns.TypeA, "NOERROR 192.0.2.2"},
		{"web.front", dns.TypeA, "NOERROR 192.0.2.2"},
		{"web.back.example", dns.TypeA, "NOERROR 198.51.100.2"},
		{"a.b", dns.TypeA, "NOERROR 192.0.2.5"},
		{"a.b.front", dns.TypeA, "NOERROR 192.0.2.5"},
		{"store", dns.TypeA, "NOERROR 192.0.2.2 198.51.100.3"},
		// A link comes before the networks.
		{"cache", dns.TypeA, "NOERROR 192.0.2.2 198.51.100.3"},
		{"db", dns.TypeA, "NOERROR 192.0.2.2 198.51.100.3"},
		{"db.front", dns.TypeA, "NOERROR 192.0.2.4"},
		{"cache.front", dns.TypeA, "SERVFAIL"},
		{"Cache.back.example", dns.TypeA, "NOERROR 192.0.2.2 198.51.100.3"},
		// Known, but not of this type.
		{"web2", dns.TypeAAAA, "NOERROR"},
		{"six", dns.TypeA, "NOERROR"},
		{"web", dns.TypeMX, "NOERROR"},
		{"web", dns.TypeTXT, "NOERROR"},
		{"web", dns.TypeHTTPS, "NOERROR"},
		{"web", dns.TypeSRV, "NOERROR"},
		{"web2", dns.TypeANY, "NOERROR 192.0.2.3"},
		{"six", dns.TypeANY, "NOERROR 2001:db8::6"},
		{"web", dns.TypeAXFR, "REFUSED"},
		// Services.
		{"_8080._tcp.web", dns.TypeSRV, "NOERROR 0 0 8080 web.front."},
		{"_8080._TCP.web.front", dns.TypeSRV, "NOERROR 0 0 8080 web.front."},
		{"_53._udp.web", dns.TypeSRV, "NOERROR 0 0 53 web.front."},
		{"_8080._tcp.www", dns.TypeSRV, "NOERROR 0 0 8080 web.front. 0 0 8080 web2.front."},
		{"_8080._tcp.web", dns.TypeA, "NOERROR"},
		{"_8080._udp.web", dns.TypeSRV, "NXDOMAIN"},
		{"_0._tcp.web", dns.TypeSRV, "NXDOMAIN"},
		{"_65530._tcp.db.front", dns.TypeSRV, "NOERROR 0 0 65530 db.front."},
		{"_65535._tcp.db.front", dns.TypeSRV, "NOERROR 0 0 65535 db.front."},
		{"_99999._tcp.db.front", dns.TypeSRV, "NXDOMAIN"},
		{"_65529._tcp.db.front", dns.TypeSRV, "NXDOMAIN"},
		{"_0._tcp.db.front", dns.TypeSRV, "NXDOMAIN"},
		{"_8._udp.db.front", dns.TypeSRV, "NOERROR 0 0 8 db.front."},
		{"_9._udp.db.front", dns.TypeSRV, "NXDOMAIN"},
		{"_6._udp.db.front", dns.TypeSRV, "NXDOMAIN"},
		{"_http._tcp.web", dns.TypeSRV, "NXDOMAIN"},
		{"_99999._tcp.web", dns.TypeA, "NXDOMAIN"},
		// Addresses.
		{"2.2.0.192.in-addr.arpa", dns.TypePTR, "NOERROR web.front."},
		{"3.2.0.192.IN-ADDR.ARPA", dns.TypePTR, "NOERROR web2.front."},
		{"3.100.51.198.in-addr.arpa", dns.TypePTR, "NOERROR store.back.example."},
		{six, dns.TypePTR, "NOERROR web.front."},
		{"2.2.0.192.in-addr.arpa", dns.TypeA, "NOERROR"},
		{"7.2.0.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		{"99.2.0.192.in-addr.arpa", dns.TypePTR, "NXDOMAIN"},
		{"f" + six[1:], dns.TypePTR, "NXDOMAIN"},
		// Single names stay here, all others would be forwarded.
		{"nobody", dns.TypeA, "NXDOMAIN"},
		{"nobody", dns.TypeMX, "NXDOMAIN"},
		{"_tcp.nobody", dns.TypeTXT, "NXDOMAIN"},
		{"_8080._tcp.nobody", dns.TypeSRV, "NXDOMAIN"},
		{"_dmarc", dns.TypeTXT, "NXDOMAIN"},
		{`we\.b`, dns.TypeA, "NXDOMAIN"},
		{`we\000b`, dns.TypeA, "NXDOMAIN"},
		{`b\195\188cher`, dns.TypeA, "NXDOMAIN"},
		{"_8080._tcp.example.org", dns.TypeSRV, "SERVFAIL"},
		{`w\.b.org`, dns.TypeA, "SERVFAIL"},
		// What only a zone has is asked by who validates answers.
		{"org", dns.TypeDS, "SERVFAIL"},
		{"org", dns.TypeDNSKEY, "SERVFAIL"},
		{"org", dns.TypeNS, "SERVFAIL"},
		{"org", dns.TypeSOA, "SERVFAIL"},
		{"web", dns.TypeDS, "NOERROR"},
		// RFC 6761, 6.3.
		{"LocalHost", dns.TypeA, "NOERROR 127.0.0.1"},
		{"localhost", dns.TypeAAAA, "NOERROR ::1"},
		{"any.localhost", dns.TypeA, "NOERROR 127.0.0.1"},
		{"localhost", dns.TypeMX, "NOERROR"},
		{"notlocalhost", dns.TypeA, "NXDOMAIN"},
		{"1.0.0.127.in-addr.arpa", dns.TypePTR, "NOERROR localhost."},
		{strings.Repeat("1.", 1) + strings.Repeat("0.", 31) + "ip6.arpa", dns.TypePTR, "NOERROR localhost."},
		{"nobody.front", dns.TypeA, "SERVFAIL"},
		{"example.org", dns.TypeA, "SERVFAIL"},
		{"x.web", dns.TypeA, "SERVFAIL"},
		{"9.9.9.9.in-addr.arpa", dns.TypePTR, "SERVFAIL"},
		{"2.0.192.in-addr.arpa", dns.TypePTR, "SERVFAIL"},
		{"256.2.0.192.in-addr.arpa", dns.TypePTR, "SERVFAIL"},
		{"x" + six[1:], dns.TypePTR, "SERVFAIL"},
		{strings.ReplaceAll(six, "0.0", "00"), dns.TypePTR, "SERVFAIL"},
		{".", dns.TypeNS, "SERVFAIL"},
	} {
		for _, udp := range []bool{true, false} {
			r := over(t, v, new(dns.Msg).SetQuestion(dns.Fqdn(c.name), c.typ), udp)
			words := strings.Split(line(r), " ")
			got := sorted(words)
			if want := sorted(strings.Split(c.want, " ")); got != want {
				t.Errorf("%s %s: %s, want %s", c.name, dns.TypeToString[c.typ], strings.Join(words, " "), c.want)
			}
			for _, rr := range append(r.Answer, r.Extra...) {
				if rr.Header().Ttl != localTTL {
					t.Errorf("%s: TTL of %v", c.name, rr)
				}
			}
		}
	}
}

func sorted(words []string) string {
	slices.Sort(words)
	return strings.Join(words, " ")
}

// TestOtherClasses are no way around: a single name is not asked elsewhere in
// those either.
func TestOtherClasses(t *testing.T) {
	for name, want := range map[string]string{"web.": "REFUSED", "nobody.": "REFUSED", "version.bind.": "SERVFAIL"} {
		for _, class := range []uint16{dns.ClassCHAOS, dns.ClassANY, dns.ClassNONE} {
			m := new(dns.Msg).SetQuestion(name, dns.TypeTXT)
			m.Question[0].Qclass = class
			if got := line(over(t, town(), m, true)); got != want {
				t.Errorf("%s in class %d: %s, want %s", name, class, got, want)
			}
		}
	}
}

// TestNamesThatAreNone has hosts and a network whose names are allowed, but
// cannot be said in a message. They are called by the next name they have.
func TestNamesThatAreNone(t *testing.T) {
	long, whole := strings.Repeat("x", 64), strings.Repeat("y", 63)
	front, back := NewZone("front", prefixes("192.0.2.0/24")), NewZone(strings.Repeat("z.", 64), nil)
	ports := []Port{{Proto: "tcp", Number: 80}}
	front.Update([]Host{
		{ID: "1", Names: []string{long, "alias"}, Addrs: addrs("192.0.2.1"), Ports: ports},
		{ID: "2", Names: []string{"a..b", "alias"}, Addrs: addrs("192.0.2.2"), Ports: ports},
		{ID: "3", Names: []string{"0123456789ab", "alias"}, Addrs: addrs("192.0.2.3"), Ports: ports},
		{ID: "4", Names: []string{".a", long}, Addrs: addrs("192.0.2.4"), Ports: ports},
	})
	back.Update([]Host{{ID: "5", Names: []string{strings.Join([]string{whole, whole, whole}, ".")}, Addrs: addrs("198.51.100.1")}})
	v := &view{zones: []*Zone{front, back}}
	for _, c := range []struct {
		name string
		typ  uint16
		want string
	}{
		{"1.2.0.192.in-addr.arpa.", dns.TypePTR, "NOERROR alias.front."},
		{"2.2.0.192.in-addr.arpa.", dns.TypePTR, "NOERROR alias.front."},
		{"4.2.0.192.in-addr.arpa.", dns.TypePTR, "NXDOMAIN"},
		{"1.100.51.198.in-addr.arpa.", dns.TypePTR, "NOERROR " + strings.Join([]string{whole, whole, whole}, ".") + "."},
		{"_80._tcp.alias.", dns.TypeSRV, "NOERROR 0 0 80 0123456789ab.front. 0 0 80 alias.front."},
	} {
		words := strings.Split(line(over(t, v, new(dns.Msg).SetQuestion(c.name, c.typ), false)), " ")
		if got, want := sorted(words), sorted(strings.Split(c.want, " ")); got != want {
			t.Errorf("%s: %s, want %s", c.name, got, want)
		}
	}
}

func TestServiceBringsAddresses(t *testing.T) {
	r := over(t, town(), new(dns.Msg).SetQuestion("_8080._tcp.web.", dns.TypeSRV), true)
	var got []string
	for _, rr := range r.Extra {
		got = append(got, strings.ReplaceAll(rr.String(), "\t", " "))
	}
	want := []string{"web.front. 5 IN A 192.0.2.2", "web.front. 5 IN AAAA 2001:db8::2"}
	if slices.Sort(got); !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

func crowd(n int) *view {
	z := NewZone("front", nil)
	for i := range n {
		z.Update([]Host{{ID: fmt.Sprint(i), Names: []string{"all"}, Addrs: []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}}})
	}
	return &view{zones: []*Zone{z}}
}

// TestShuffle wants every address first at some time, all in each answer, and
// every other one behind the first: where that one is gone its neighbour does
// not get all of its clients.
func TestShuffle(t *testing.T) {
	v, firsts, pairs := crowd(5), map[string]bool{}, map[string]bool{}
	for range 300 {
		r := over(t, v, new(dns.Msg).SetQuestion("all.", dns.TypeA), true)
		seen := map[string]bool{}
		for _, rr := range r.Answer {
			seen[rr.(*dns.A).A.String()] = true
		}
		if len(seen) != 5 {
			t.Fatalf("%v", r)
		}
		firsts[r.Answer[0].(*dns.A).A.String()] = true
		pairs[r.Answer[0].(*dns.A).A.String()+" "+r.Answer[1].(*dns.A).A.String()] = true
	}
	if len(pairs) != 5*4 {
		t.Errorf("first two were only %v", pairs)
	}
	if len(firsts) != 5 {
		t.Errorf("first were only %v", firsts)
	}
}

func TestSize(t *testing.T) {
	for _, c := range []struct {
		hosts  int
		udp    bool
		size   uint16 // 0: no OPT
		want   int    // addresses
		cut    bool
		atMost int
	}{
		{30, true, 0, 30, false, 512},
		{31, true, 0, 30, true, 512},
		{31, true, 100, 30, true, 512},
		{31, true, 1232, 31, false, 1232},
		{100, true, 1232, 75, true, 1232},
		{300, true, 65535, 254, true, 4096},
		{300, false, 0, 300, false, 65535},
		{300, false, 512, 300, false, 65535},
		{4200, false, 0, 4094, false, 65535},
	} {
		m := new(dns.Msg).SetQuestion("all.", dns.TypeA)
		if c.size > 0 {
			m.SetEdns0(c.size, true)
		}
		r := over(t, crowd(c.hosts), m, c.udp)
		r.Compress = true
		if len(r.Answer) != c.want || r.Truncated != c.cut || r.Len() > c.atMost {
			t.Errorf("%+v: %d addresses, cut %v, %d bytes", c, len(r.Answer), r.Truncated, r.Len())
		}
		if o := r.IsEdns0(); (o != nil) != (c.size > 0) || o != nil && (!o.Do() || o.UDPSize() != maxUDP) {
			t.Errorf("%+v: %v", c, o)
		}
	}
}

func TestBigServiceIsCut(t *testing.T) {
	z := NewZone("front", nil)
	for i := range 40 {
		z.Update([]Host{{ID: fmt.Sprint(i), Names: []string{fmt.Sprintf("web%d", i), "web"}, Addrs: addrs("192.0.2.2"), Ports: []Port{{Proto: "tcp", Number: 80}}}})
	}
	v := &view{zones: []*Zone{z}}
	m := new(dns.Msg).SetQuestion("_80._tcp.web.", dns.TypeSRV)
	if r := over(t, v, m, true); !r.Truncated || len(r.Answer) != 0 {
		t.Error(r)
	}
	if r := over(t, v, m, false); r.Truncated || len(r.Answer) != 40 || len(r.Extra) != 40 {
		t.Error(r)
	}
	if r := over(t, v, m.SetEdns0(1500, false), true); r.Truncated || len(r.Answer) != 40 || len(r.Extra) != 1 {
		t.Error("without addresses it would fit:", len(r.Answer), len(r.Extra))
	}
}

// wire is a message written by hand: flags, counts and what follows.
func wire(flags uint16, counts [4]byte, rest string) []byte {
	b := []byte{0x12, 0x34, byte(flags >> 8), byte(flags), 0, counts[0], 0, counts[1], 0, counts[2], 0, counts[3]}
	return append(b, rest...)
}

func junk() map[string][]byte {
	one, opt := [4]byte{1, 0, 0, 0}, [4]byte{1, 0, 0, 1}
	const web = "\x03web\x00\x00\x01\x00\x01"
	return map[string][]byte{
		"empty":              {},
		"short":              wire(0, one, "")[:11],
		"header only":        wire(0, one, ""),
		"reply":              wire(flagQR, one, web),
		"status":             wire(2<<11, one, web),
		"update":             wire(5<<11, one, web),
		"no question":        wire(0, [4]byte{}, ""),
		"two questions":      wire(0, [4]byte{2, 0, 0, 0}, web+web),
		"truncated":          wire(flagTC, one, web),
		"name cut":           wire(0, one, "\x03we"),
		"no end":             wire(0, one, "\x03web"),
		"no type":            wire(0, one, "\x03web\x00\x00\x01"),
		"loop":               wire(0, one, "\xc0\x0c\x00\x01\x00\x01"),
		"loop in the name":   wire(0, one, "\x03web\xc0\x0c\x00\x01\x00\x01"),
		"label type":         wire(0, one, "\x43web\x00\x00\x01\x00\x01"),
		"long name":          wire(0, one, strings.Repeat("\x01a", 128)+"\x00\x00\x01\x00\x01"),
		"trailing":           wire(0, one, web+"\x00\x00"),
		"OPT cut":            wire(0, opt, web+"\x00\x00\x29\x10\x00"),
		"two OPT":            wire(0, [4]byte{1, 0, 0, 2}, web+strings.Repeat("\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00", 2)),
		"version":            wire(0, opt, web+"\x00\x00\x29\x10\x00\x00\x01\x00\x00\x00\x00"),
		"OPT with a cookie":  wire(0, opt, web+"\x00\x00\x29\x10\x00\x00\x00\x00\x00\x00\x0c\x00\x0a\x00\x0812345678"),
		"OPT loop":           wire(0, opt, web+"\xc0\x15\x00\x29\x10\x00\x00\x00\x00\x00\x00\x00"),
		"counts that lie":    wire(0, [4]byte{1, 9, 9, 9}, web),
		"longest name there": wire(0, one, strings.Repeat("\x01a", 127)+"\x00\x00\x01\x00\x01"),
	}
}

func TestJunk(t *testing.T) {
	want := map[string]string{
		"empty": "", "short": "", "reply": "",
		"status": "NOTIMP", "update": "NOTIMP",
		"version":            "BADSIG", // as the library calls BADVERS
		"OPT with a cookie":  "NOERROR 192.0.2.2",
		"longest name there": "SERVFAIL",
	}
	for name, msg := range junk() {
		var q question
		b, f := town().reply(nil, &q, msg, true, time.Now())
		expect, special := want[name]
		if !special {
			expect = "FORMERR"
		}
		got := ""
		if len(b) > 0 {
			r := new(dns.Msg)
			if err := r.Unpack(b); err != nil {
				t.Errorf("%s: %v", name, err)
			}
			if got = line(r); r.Id != 0x1234 {
				t.Errorf("%s: ID %x", name, r.Id)
			}
		}
		if got != expect || f != nil {
			t.Errorf("%s: %q, want %q", name, got, expect)
		}
	}
}

func TestServersFile(t *testing.T) {
	got := fmt.Sprint(Servers("# comment\nnameserver 127.0.0.53\nnameserver  fe80::1%eth0 # x\nnameserver\nsearch a b\nnameserver junk\nnameserver ::ffff:192.0.2.1\nnameserver 127.0.0.53"))
	if want := "[127.0.0.53:53 [fe80::1%eth0]:53 192.0.2.1:53]"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
