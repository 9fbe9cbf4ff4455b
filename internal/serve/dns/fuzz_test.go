package dns

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"
)

// FuzzQuery sends anything through everything: parser, zones, cache and a server
// that answers whatever it is asked.
func FuzzQuery(f *testing.F) {
	for _, msg := range junk() {
		f.Add(msg, true)
	}
	for _, name := range []string{"web.", "all.front.", "_8080._tcp.web.", "2.2.0.192.in-addr.arpa.", "example.org.", "."} {
		for _, typ := range []uint16{dns.TypeA, dns.TypeAAAA, dns.TypePTR, dns.TypeSRV, dns.TypeANY} {
			wire, err := new(dns.Msg).SetQuestion(name, typ).SetEdns0(1232, true).Pack()
			if err != nil {
				f.Fatal(err)
			}
			f.Add(wire, typ%2 == 0)
		}
	}
	var host atomic.Pointer[forwarder]
	host.Store(forwarderTo(f, serve(f, "127.0.0.1:0", nil, says(0, "x.example. 60 IN A 192.0.2.1")).addr))
	v := town()
	v.zones, v.host = append(v.zones, crowd(400).zones...), &host
	f.Fuzz(func(t *testing.T, msg []byte, udp bool) {
		var q question
		b, ask := v.reply(nil, &q, msg, udp, time.Now())
		limit := maxTCP
		if udp {
			limit = q.limit()
		}
		if ask != nil {
			c := make(teller, 1)
			ask.ask(&q, c)
			b = q.forwarded(nil, <-c, limit)
		}
		if len(b) == 0 {
			if len(msg) >= headerLen && msg[2]&0x80 == 0 {
				t.Fatal("no reply to a question")
			}
			return
		}
		var r dns.Msg
		if err := r.Unpack(b); err != nil {
			t.Fatalf("%v: %x", err, b)
		}
		if !r.Response || r.Id != binary.BigEndian.Uint16(msg) || len(b) > limit || sections(&r) != binary.BigEndian.Uint64(b[4:])&0xffffffffffff {
			t.Fatalf("%d bytes: %v", len(b), &r)
		}
	})
}

// FuzzServer has a server say anything.
func FuzzServer(f *testing.F) {
	r := new(dns.Msg).SetReply(question1("example.org."))
	for _, text := range []string{"example.org. 9 IN CNAME a.example.org.", "a.example.org. 9 IN A 192.0.2.1", "a.example.org. 9 IN MX 1 b.example.org."} {
		rr, err := dns.NewRR(text)
		if err != nil {
			f.Fatal(err)
		}
		r.Answer = append(r.Answer, rr)
	}
	wire, err := r.Pack()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(wire)
	f.Add(wire[:len(wire)-3])
	q := parsed(f, question1("example.org.").SetEdns0(1232, true))
	f.Fuzz(func(t *testing.T, wire []byte) {
		if !answers(wire, binary.BigEndian.Uint16(append(wire, 0, 0)), q.lower()) {
			return
		}
		e, err := newEntry(q, wire, time.Now())
		if err != nil {
			return
		}
		var m dns.Msg
		for _, limit := range []int{headerLen + q.rawLen + q.tail(), 80, 512, maxTCP} {
			b := e.render(nil, q, time.Now(), limit)
			if err := m.Unpack(b); err != nil || len(b) > limit || sections(&m) != binary.BigEndian.Uint64(b[4:])&0xffffffffffff {
				t.Fatalf("%v: %d bytes of %d: %x", err, len(b), limit, wire)
			}
		}
	})
}

// FuzzServersFile reads any resolv.conf.
func FuzzServersFile(f *testing.F) {
	f.Add("nameserver 127.0.0.53\n")
	f.Fuzz(func(t *testing.T, text string) {
		seen := map[netip.AddrPort]bool{}
		for _, s := range Servers(text) {
			if seen[s] || !s.IsValid() || s.Port() != domain {
				t.Fatal(s)
			}
			seen[s] = true
		}
	})
}
