package dns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/lab/netspace"
)

const soa = ". 60 IN SOA a. b. 1 2 3 4 60"

// TestNothing has servers that know different things: who lists one before the
// other means that order.
func TestNothing(t *testing.T) {
	good := says(0, "%s 60 IN A 192.0.2.1")
	none, empty := says(dns.RcodeNameError, soa), says(0, soa)
	for _, c := range []struct {
		what     string
		servers  []dns.HandlerFunc
		want     string
		min, max time.Duration
	}{
		{"the slow one knows", []dns.HandlerFunc{slow(2*stagger, good), none}, "NOERROR 192.0.2.1", 2 * stagger, 2 * stagger},
		{"the slow one knows, the other says nothing", []dns.HandlerFunc{slow(2*stagger, good), empty}, "NOERROR 192.0.2.1", 2 * stagger, 2 * stagger},
		{"none knows", []dns.HandlerFunc{slow(2*stagger, none), none}, "NXDOMAIN", 2 * stagger, 2 * stagger},
		{"the slow one fails", []dns.HandlerFunc{slow(2*stagger, says(dns.RcodeServerFailure)), none}, "NXDOMAIN", 2 * stagger, 2 * stagger},
		{"the first is silent", []dns.HandlerFunc{hole, none}, "NXDOMAIN", patience, patience},
		{"the first is not there", []dns.HandlerFunc{nil, none}, "NXDOMAIN", 0, 0},
		{"the first decides", []dns.HandlerFunc{none, good}, "NXDOMAIN", 0, 0},
		{"the first of two that know of nothing", []dns.HandlerFunc{hole, slow(stagger, empty), none}, "NOERROR", patience, patience},
		{"another knows", []dns.HandlerFunc{hole, none, slow(stagger, good)}, "NXDOMAIN", patience, patience},
	} {
		t.Run(c.what, func(t *testing.T) {
			t.Parallel()
			r, took := forwards(t, forwarderTo(t, served(t, c.servers)...), question1("example.org."))
			if got := line(r); got != c.want || took < c.min || took > c.max+busy {
				t.Errorf("%s after %v, want %s after %v", got, took, c.want, c.min)
			}
		})
	}
}

// served starts servers; nil is one that is not there.
func served(t *testing.T, list []dns.HandlerFunc) []netip.AddrPort {
	var out []netip.AddrPort
	for _, h := range list {
		if h == nil {
			out = append(out, deadAddr(t))
		} else {
			out = append(out, serve(t, "127.0.0.1:0", nil, h).addr)
		}
	}
	return out
}

// TestSlowKeepsItsPlace has the first server answer late, once: the next question
// is its again.
func TestSlowKeepsItsPlace(t *testing.T) {
	first := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		if strings.HasPrefix(m.Question[0].Name, "slow") {
			time.Sleep(8 * stagger)
		}
		says(0, "%s 60 IN A 192.0.2.1")(w, m)
	})
	second := serve(t, "127.0.0.1:0", nil, says(0, "%s 60 IN A 192.0.2.2"))
	f := forwarderTo(t, first.addr, second.addr)
	if r, _ := forwards(t, f, question1("slow.example.")); line(r) != "NOERROR 192.0.2.2" {
		t.Error(line(r))
	}
	time.Sleep(10 * stagger)
	if r, _ := forwards(t, f, question1("x.example.")); line(r) != "NOERROR 192.0.2.1" {
		t.Errorf("afterwards: %s", line(r))
	}
}

// TestCutAnswerAlone has a server that says TC and takes no connections. What it
// said is passed on, and not kept.
func TestCutAnswerAlone(t *testing.T) {
	pc, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := &dns.Server{PacketConn: pc, Handler: dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		r.Truncated = true
		rr, err := dns.NewRR("example.org. 60 IN A 192.0.2.1")
		if err != nil {
			t.Error(err)
		}
		r.Answer = append(r.Answer, rr)
		w.WriteMsg(r)
	})}
	go s.ActivateAndServe()
	defer s.Shutdown()
	f := forwarderTo(t, pc.LocalAddr().(*net.UDPAddr).AddrPort())
	r, took := forwards(t, f, question1("example.org."))
	if line(r) != "NOERROR 192.0.2.1" || !r.Truncated || took > busy {
		t.Errorf("%v after %v", r, took)
	}
	if len(f.cache.m) != 0 {
		t.Error("it is cached")
	}
}

// TestOnlyTCP has a network that lets no datagrams through.
func TestOnlyTCP(t *testing.T) {
	s := serve(t, "127.0.0.1:0", nil, func(w dns.ResponseWriter, m *dns.Msg) {
		if w.LocalAddr().Network() == "tcp" {
			says(0, "%s 60 IN A 192.0.2.1")(w, m)
		}
	})
	if r, took := forwards(t, forwarderTo(t, s.addr), question1("example.org.")); line(r) != "NOERROR 192.0.2.1" || took > giveUp {
		t.Errorf("%s after %v", line(r), took)
	}
}

// TestConnectingTakesNoThreads has a sandbox's own server say TC, and drop all
// connections: however many questions wait, the process gets no threads for it.
func TestConnectingTakesNoThreads(t *testing.T) {
	s := newSpace(t, "up")
	s.shell("nft add table ip own")
	s.shell("nft add chain ip own in { type filter hook input priority 0 ; }")
	s.shell("nft add rule ip own in ip daddr 127.0.0.1 tcp dport 53 drop")
	up := serve(t, "127.0.0.1:53", &s, func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetReply(m)
		r.Truncated = true
		w.WriteMsg(r)
	})
	r := start(t)
	put(t, r, "a", View{NS: s.NS(), Servers: []netip.AddrPort{up.addr}})
	before := threads(t)
	conn, err := netspace.In(s.Space, func() (net.Conn, error) { return net.Dial("udp", "127.0.0.11:53") })
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	for i := range 200 {
		wire, err := question1(fmt.Sprintf("x%d.example.", i)).Pack()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := conn.Write(wire); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(500 * time.Millisecond)
	if up.asked.Load() < 100 {
		t.Fatalf("only %d questions arrived", up.asked.Load())
	}
	if more := threads(t) - before; more > 50 {
		t.Errorf("%d more threads", more)
	}
}

func threads(t *testing.T) int {
	list, err := os.ReadDir("/proc/self/task")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}
