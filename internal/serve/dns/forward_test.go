package dns

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// teller is a waiter.
type teller chan *entry

func (c teller) told(e *entry) { c <- e }

// parsed is a question as it comes in.
func parsed(t testing.TB, m *dns.Msg) *question {
	t.Helper()
	wire, err := m.Pack()
	if err != nil {
		t.Fatal(err)
	}
	q := new(question)
	if v := q.parse(wire); v != valid {
		t.Fatalf("%v: %v", m.Question, v)
	}
	return q
}

// forwards asks f, and returns the reply and how long it took.
func forwards(t testing.TB, f *forwarder, m *dns.Msg) (*dns.Msg, time.Duration) {
	t.Helper()
	q, c, begun := parsed(t, m), make(teller, 1), time.Now()
	f.ask(q, c)
	e := <-c
	took := time.Since(begun)
	r := new(dns.Msg)
	if err := r.Unpack(q.forwarded(nil, e, maxTCP)); err != nil {
		t.Fatal(err)
	}
	return r, took
}

func question1(name string) *dns.Msg { return new(dns.Msg).SetQuestion(name, dns.TypeA) }

func forwarderTo(t testing.TB, servers ...netip.AddrPort) *forwarder {
	f := newForwarder(servers, nil, hostCache, new(counts))
	t.Cleanup(f.close)
	return f
}

func hole(dns.ResponseWriter, *dns.Msg) {}

func slow(d time.Duration, h dns.HandlerFunc) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		time.Sleep(d)
		h(w, m)
	}
}

// busy is what a machine may add to a time when it has much else to do: less than what
// is between the times that tell one reason for an answer from another.
const busy = 2 * time.Second

func TestRace(t *testing.T) {
	good, other := says(0, "%s 60 IN A 192.0.2.1"), says(0, "%s 60 IN A 192.0.2.2")
	soon := 100 * time.Millisecond
	for _, c := range []struct {
		what     string
		servers  []dns.HandlerFunc
		want     string
		min, max time.Duration
	}{
		{"one", []dns.HandlerFunc{good}, "NOERROR 192.0.2.1", 0, soon},
		{"NXDOMAIN is an answer", []dns.HandlerFunc{says(dns.RcodeNameError), good}, "NXDOMAIN", 0, soon},
		{"SERVFAIL is none", []dns.HandlerFunc{says(dns.RcodeServerFailure), good}, "NOERROR 192.0.2.1", 0, soon},
		{"REFUSED is none", []dns.HandlerFunc{says(dns.RcodeRefused), good}, "NOERROR 192.0.2.1", 0, soon},
		{"all refuse", []dns.HandlerFunc{says(dns.RcodeRefused), says(dns.RcodeRefused)}, "REFUSED", 0, soon},
		{"nobody there", []dns.HandlerFunc{nil}, "SERVFAIL", 0, soon},
		{"nobody there, then one", []dns.HandlerFunc{nil, good}, "NOERROR 192.0.2.1", 0, soon},
		{"silent", []dns.HandlerFunc{hole, good}, "NOERROR 192.0.2.1", stagger, stagger + soon},
		{"two silent", []dns.HandlerFunc{hole, hole, good}, "NOERROR 192.0.2.1", 2 * stagger, 2*stagger + soon},
		{"slower", []dns.HandlerFunc{slow(8*stagger, good), other}, "NOERROR 192.0.2.2", stagger, stagger + soon},
		{"first after all", []dns.HandlerFunc{slow(stagger*3/2, good), slow(time.Second, other)}, "NOERROR 192.0.2.1", stagger * 3 / 2, stagger*3/2 + soon},
		{"five refuse", []dns.HandlerFunc{nil, nil, says(dns.RcodeRefused), nil, says(dns.RcodeServerFailure), good}, "NOERROR 192.0.2.1", 0, soon},
		{"no server", nil, "SERVFAIL", 0, soon},
		{"all silent", []dns.HandlerFunc{hole, hole}, "SERVFAIL", giveUp, giveUp + soon},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			var servers []netip.AddrPort
			for _, h := range c.servers {
				if h == nil {
					servers = append(servers, deadAddr(t))
				} else {
					servers = append(servers, serve(t, "127.0.0.1:0", nil, h).addr)
				}
			}
			r, took := forwards(t, forwarderTo(t, servers...), question1("example.org."))
			if got := line(r); got != c.want || took < c.min || took > c.max+busy {
				t.Errorf("%s after %v, want %s within %v", got, took, c.want, c.max)
			}
		})
	}
}

// deadAddr is an address that nobody listens on.
func deadAddr(t testing.TB) netip.AddrPort {
	c, err := net.ListenPacket("udp", "127.0.0.2:0")
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	return c.LocalAddr().(*net.UDPAddr).AddrPort()
}

// TestLost has the network lose the first question.
func TestLost(t *testing.T) {
	var seen atomic.Int32
	s := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		if seen.Add(1) > 1 {
			says(0, "%s 60 IN A 192.0.2.1")(w, m)
		}
	})
	if r, took := forwards(t, forwarderTo(t, s.addr), question1("example.org.")); line(r) != "NOERROR 192.0.2.1" || took >= giveUp {
		t.Error(line(r), took)
	}
}

// TestSilentIsAskedLast sees that only the first question waits for a server
// that is gone.
func TestSilentIsAskedLast(t *testing.T) {
	gone := serve(t, "127.0.0.1:0", nil, hole)
	f := forwarderTo(t, gone.addr, serve(t, "127.0.0.1:0", nil, says(0, "%s 60 IN A 192.0.2.1")).addr)
	for i := range 5 {
		r, _ := forwards(t, f, question1(fmt.Sprintf("x%d.example.", i)))
		if line(r) != "NOERROR 192.0.2.1" {
			t.Error(line(r))
		}
	}
	if n := gone.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestLongAnswer is cut over UDP and whole over TCP.
func TestLongAnswer(t *testing.T) {
	var texts []string
	for i := range 100 {
		texts = append(texts, fmt.Sprintf("%%s 60 IN TXT %d%s", i, strings.Repeat("x", 90)))
	}
	s := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		if w.LocalAddr().Network() == "udp" {
			r := new(dns.Msg).SetReply(m)
			r.Truncated = true
			w.WriteMsg(r)
			return
		}
		says(0, texts...)(w, m)
	})
	r, _ := forwards(t, forwarderTo(t, s.addr), new(dns.Msg).SetQuestion("example.org.", dns.TypeTXT))
	if len(r.Answer) != 100 || r.Truncated {
		t.Errorf("%d records, cut %v", len(r.Answer), r.Truncated)
	}
}

// TestOldServer knows no OPT.
func TestOldServer(t *testing.T) {
	s := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		if m.IsEdns0() != nil {
			says(dns.RcodeFormatError)(w, m)
			return
		}
		says(0, "%s 60 IN A 192.0.2.1")(w, m)
	})
	if r, took := forwards(t, forwarderTo(t, s.addr), question1("example.org.")); line(r) != "NOERROR 192.0.2.1" || took > stagger {
		t.Error(line(r), took)
	}
}

// TestForged has answers come that are to other questions.
func TestForged(t *testing.T) {
	s := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		for _, change := range []func(*dns.Msg){
			func(r *dns.Msg) { r.Id++ },
			func(r *dns.Msg) { r.Question[0].Name = "example.net." },
			func(r *dns.Msg) { r.Question[0].Qtype = dns.TypeAAAA },
			func(r *dns.Msg) { r.Response = false },
			func(r *dns.Msg) { r.Question = nil },
		} {
			r := new(dns.Msg).SetReply(m)
			change(r)
			w.WriteMsg(r)
		}
		w.Write([]byte("junk"))
		says(0, "%s 60 IN A 192.0.2.1")(w, m)
	})
	if r, _ := forwards(t, forwarderTo(t, s.addr), question1("Example.ORG.")); line(r) != "NOERROR 192.0.2.1" {
		t.Error(line(r))
	}
}

// TestMerge asks the same a hundred times at once.
func TestMerge(t *testing.T) {
	s := serve(t, "127.0.0.1:0", nil, slow(50*time.Millisecond, says(0, "%s 0 IN A 192.0.2.1")))
	f := forwarderTo(t, s.addr)
	var group sync.WaitGroup
	for i := range 100 {
		group.Go(func() {
			name := "example.org."
			if i%2 == 0 {
				name = "EXAMPLE.org."
			}
			if r, _ := forwards(t, f, question1(name)); line(r) != "NOERROR 192.0.2.1" || r.Question[0].Name != name {
				t.Error(r)
			}
		})
	}
	group.Wait()
	if n := s.asked.Load(); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

// TestWhatIsCached asks everything twice.
func TestWhatIsCached(t *testing.T) {

	for _, c := range []struct {
		what string
		h    dns.HandlerFunc
		typ  uint16
		asks int64
	}{
		{"address", says(0, "%s 60 IN A 192.0.2.1"), dns.TypeA, 1},
		{"no TTL", says(0, "%s 0 IN A 192.0.2.1"), dns.TypeA, 2},
		{"one without TTL", says(0, "%s 60 IN A 192.0.2.1", "%s 0 IN A 192.0.2.2"), dns.TypeA, 2},
		{"TTL with the top bit", says(0, "%s 2147483648 IN A 192.0.2.1"), dns.TypeA, 2},
		{"longest TTL", says(0, "%s 2147483647 IN A 192.0.2.1"), dns.TypeA, 1},
		{"no such name", says(dns.RcodeNameError, soa), dns.TypeA, 1},
		{"no such name, no SOA", says(dns.RcodeNameError), dns.TypeA, 2},
		{"no such name, short", says(dns.RcodeNameError, ". 60 IN SOA a. b. 1 2 3 4 0"), dns.TypeA, 2},
		{"no such type", says(0, soa), dns.TypeA, 1},
		{"alias of nothing", says(0, "%s 60 IN CNAME x.example.", soa), dns.TypeA, 1},
		{"alias of nothing, no SOA", says(0, "%s 60 IN CNAME x.example."), dns.TypeA, 2},
		{"alias", says(0, "%s 60 IN CNAME x.example.", "x.example. 60 IN A 192.0.2.1"), dns.TypeA, 1},
		{"error", says(dns.RcodeServerFailure), dns.TypeA, 2},
		{"error with SOA", says(dns.RcodeRefused, soa), dns.TypeA, 2},
	} {
		s := serve(t, "127.0.0.1:0", nil, c.h)
		var p atomic.Pointer[forwarder]
		p.Store(forwarderTo(t, s.addr))
		v := &view{host: &p}
		for range 2 {
			m := new(dns.Msg).SetQuestion("example.org.", c.typ)
			wire, _ := m.Pack()
			var q question
			if _, f := v.reply(nil, &q, wire, true, time.Now()); f != nil {
				forwards(t, f, m)
			}
		}
		if n := s.asked.Load(); n != c.asks {
			t.Errorf("%s: asked %d times, want %d", c.what, n, c.asks)
		}
	}
}

// TestKeyOfCache wants questions that may have other answers to be others.
func TestKeyOfCache(t *testing.T) {
	seen := map[string]string{}
	for _, name := range []string{"a.example.", "b.example."} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA} {
			for i := range 16 {
				m := new(dns.Msg).SetQuestion(name, typ)
				m.RecursionDesired, m.CheckingDisabled, m.AuthenticatedData = i&1 > 0, i&2 > 0, i&4 > 0
				if i&8 > 0 {
					m.SetEdns0(1232, true)
				}
				what := fmt.Sprint(name, typ, i)
				id := strings.Clone(parsed(t, m).identity())
				if seen[id] != "" {
					t.Errorf("%s and %s are the same", what, seen[id])
				}
				seen[id] = what
			}
		}
	}
	a, b := parsed(t, question1("Example.ORG.")), parsed(t, question1("example.org.").SetEdns0(4096, false))
	if a.identity() != b.identity() {
		t.Error("case or size make a difference")
	}
}

// TestTopBitOfTTL wants a TTL with the top bit to be 0 (RFC 2181, 8), also where it
// is handed on: who asks may know of no such rule, and keep it for 136 years.
func TestTopBitOfTTL(t *testing.T) {
	m := question1("example.org.")
	q := parsed(t, m)
	e := kept(t, m, []string{"example.org. 2147483648 IN A 192.0.2.1", "example.org. 2147483647 IN A 192.0.2.2"},
		"example.org. 4294967295 IN NS a.example.net.", "a.example.net. 2147483649 IN A 192.0.2.3")
	var r dns.Msg
	if err := r.Unpack(e.render(nil, q, e.born, maxTCP)); err != nil {
		t.Fatal(err)
	}
	for i, want := range []uint32{0, 1<<31 - 1, 0, 0} {
		if h := slices.Concat(r.Answer, r.Ns, r.Extra)[i].Header(); h.Ttl != want {
			t.Errorf("TTL %d of %s, want %d", h.Ttl, h.Name, want)
		}
	}
}

func TestAge(t *testing.T) {
	q := parsed(t, question1("Example.org.").SetEdns0(1232, false))
	r := new(dns.Msg).SetReply(question1("example.org."))
	for _, text := range []string{"example.org. 100 IN CNAME a.example.org.", "a.example.org. 30 IN A 192.0.2.1"} {
		rr, err := dns.NewRR(text)
		if err != nil {
			t.Fatal(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	r.SetEdns0(1232, false)
	wire, err := r.Pack()
	if err != nil {
		t.Fatal(err)
	}
	born := time.Now()
	e, err := newEntry(q, wire, born)
	if err != nil {
		t.Fatal(err)
	}
	if life := e.expires.Sub(born); life != 30*time.Second {
		t.Errorf("kept for %v", life)
	}
	var got dns.Msg
	if err := got.Unpack(e.render(nil, q, born.Add(12*time.Second), 1232)); err != nil {
		t.Fatal(err)
	}
	if a, b := got.Answer[0].Header().Ttl, got.Answer[1].Header().Ttl; a != 88 || b != 18 {
		t.Errorf("TTLs %d, %d", a, b)
	}
	if got.Question[0].Name != "Example.org." || got.IsEdns0() == nil || len(got.Extra) != 1 || got.Id != q.id {
		t.Error(&got)
	}
	if err := got.Unpack(e.render(nil, q, born, 50)); err != nil || !got.Truncated || len(got.Answer) != 0 || got.IsEdns0() == nil {
		t.Errorf("%v %v", &got, err)
	}
}

func TestCacheIsBounded(t *testing.T) {
	c, now := newCache(100), time.Now()
	for i := range 1000 {
		c.put(fmt.Sprint(i), &entry{born: now, expires: now.Add(time.Hour)})
	}
	if len(c.m) != 100 {
		t.Errorf("%d entries", len(c.m))
	}
	if c.put("big", &entry{wire: make([]byte, maxCached+1), born: now, expires: now.Add(time.Hour)}); c.get("big", now) != nil {
		t.Error("a big one is kept")
	}
	c.put("x", &entry{born: now, expires: now.Add(time.Second)})
	if c.get("x", now.Add(999*time.Millisecond)) == nil || c.get("x", now.Add(time.Second)) != nil {
		t.Error("expires at another time")
	}
}

// TestFlood has one sandbox ask what nobody answers; another is served as ever.
func TestFlood(t *testing.T) {
	up := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		if !strings.HasPrefix(m.Question[0].Name, "hole") {
			says(0, "%s 0 IN A 192.0.2.1")(w, m)
		}
	})
	r, bad, good := start(t, up.addr), newSpace(t, "up"), newSpace(t, "up")
	put(t, r, "bad", View{NS: bad.NS(), Zones: []*Zone{webZone()}})
	put(t, r, "good", View{NS: good.NS()})
	conn, err := netspace.In(bad.Space, func() (net.Conn, error) { return net.Dial("udp", "127.0.0.11:53") })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	const excess = 20
	for i := range maxAsking + excess {
		m := question1(fmt.Sprintf("hole%d.example.", i))
		wire, err := m.Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(wire); err != nil {
			t.Fatal(err)
		}
		if i%64 == 63 {
			time.Sleep(5 * time.Millisecond) // the socket's queue is not what is tested
		}
	}
	buf := make([]byte, 512)
	conn.SetReadDeadline(time.Now().Add(2 * time.Second))
	for i := range excess {
		if n, err := conn.Read(buf); err != nil || binary.BigEndian.Uint16(buf[2:])&maskRcode != dns.RcodeServerFailure {
			t.Fatalf("refusal %d: %x %v", i, buf[:n], err)
		}
	}
	if got := bad.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
		t.Errorf("own names: %s", got)
	}
	if got := good.ask(t, "example.org", dns.TypeA); got != "NOERROR 192.0.2.1" {
		t.Errorf("the other sandbox: %s", got)
	}
}

// TestManyConnections opens more than a sandbox may have.
func TestManyConnections(t *testing.T) {
	r, s := start(t), newSpace(t, "up")
	put(t, r, "a", View{NS: s.NS(), Zones: []*Zone{webZone()}})
	var conns []net.Conn
	defer func() {
		for _, c := range conns {
			c.Close()
		}
	}()
	served := 0
	for range maxConns + 5 {
		c, err := netspace.In(s.Space, func() (net.Conn, error) { return net.Dial("tcp", "127.0.0.11:53") })
		if err != nil {
			t.Fatal(err)
		}
		conns = append(conns, c)
		dc := dns.Conn{Conn: c}
		dc.SetDeadline(time.Now().Add(2 * time.Second))
		for range 2 { // the connection stays
			if dc.WriteMsg(question1("web.")) != nil {
				break
			}
			if m, err := dc.ReadMsg(); err == nil && line(m) == "NOERROR 192.0.2.2" {
				served++
			}
		}
	}
	if served != 2*maxConns {
		t.Errorf("%d answers over %d connections", served, len(conns))
	}
	if got := s.ask(t, "web", dns.TypeA); got != "NOERROR 192.0.2.2" {
		t.Error(got)
	}
}
