package dns

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// BenchmarkReply is everything but the sockets.
func BenchmarkReply(b *testing.B) {
	var host atomic.Pointer[forwarder]
	host.Store(forwarderTo(b, serve(b, "127.0.0.1:0", nil, says(0, "%s 3600 IN A 192.0.2.1")).addr))
	v := &view{zones: []*Zone{bigZone(3000)}, host: &host}
	forwards(b, host.Load(), question1("example.org."))
	for _, name := range []string{"web7.", "web7.front.", "nobody.", "7.0.0.10.in-addr.arpa.", "example.org."} {
		b.Run(name, func(b *testing.B) {
			m := question1(name)
			if len(name) > 20 {
				m.Question[0].Qtype = dns.TypePTR
			}
			msg, err := m.Pack()
			if err != nil {
				b.Fatal(err)
			}
			q, dst := new(question), make([]byte, 0, maxUDP)
			for now := time.Now(); b.Loop(); {
				if r, f := v.reply(dst, q, msg, true, now); f != nil || len(r) == 0 {
					b.Fatal("no reply")
				}
			}
		})
	}
}

// BenchmarkUDP keeps questions under way to the sandbox's server and, for
// comparison, to a plain echo server on the same loopback.
func BenchmarkUDP(b *testing.B) {
	r, s := start(b), newSpace(b, "up")
	put(b, r, "a", View{NS: s.NS(), Zones: []*Zone{bigZone(3000)}})
	echo, err := netspace.In(s.Space, func() (*net.UDPConn, error) {
		return net.ListenUDP("udp4", &net.UDPAddr{IP: net.IPv4(127, 0, 0, 1), Port: 5300})
	})
	if err != nil {
		b.Fatal(err)
	}
	defer echo.Close()
	go func() {
		buf := make([]byte, maxUDP)
		for {
			n, from, err := echo.ReadFromUDPAddrPort(buf)
			if err != nil {
				return
			}
			echo.WriteToUDPAddrPort(buf[:n], from)
		}
	}()
	for _, c := range []struct{ name, addr string }{{"echo", "127.0.0.1:5300"}, {"sandbox", "127.0.0.11:53"}} {
		b.Run(c.name, func(b *testing.B) { askAll(b, s, c.addr) })
	}
}

// askAll sends questions, 32 under way at a time.
func askAll(b *testing.B, s space, addr string) {
	conn, err := netspace.In(s.Space, func() (net.Conn, error) { return net.Dial("udp", addr) })
	if err != nil {
		b.Fatal(err)
	}
	defer conn.Close()
	var asks [][]byte
	for i := range 100 {
		wire, err := question1(fmt.Sprintf("web%d.", i)).Pack()
		if err != nil {
			b.Fatal(err)
		}
		asks = append(asks, wire)
	}
	buf, underWay := make([]byte, maxUDP), 0
	conn.SetDeadline(time.Now().Add(time.Minute))
	b.ResetTimer()
	for i := range b.N {
		if underWay == 32 {
			if _, err := conn.Read(buf); err != nil {
				b.Fatal(err)
			}
			underWay--
		}
		if _, err := conn.Write(asks[i%len(asks)]); err != nil {
			b.Fatal(err)
		}
		underWay++
	}
	for ; underWay > 0; underWay-- {
		if _, err := conn.Read(buf); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkRestart is a resolver that finds 300 sandboxes with the rules of one
// that was killed.
func BenchmarkRestart(b *testing.B) {
	views := map[string]View{}
	for i := range 300 {
		views[fmt.Sprint(i)] = View{NS: newSpace(b, "up").NS()}
	}
	for b.Loop() {
		r := start(b)
		if err := r.Set(views); err != nil {
			b.Fatal(err)
		}
		b.StopTimer()
		if err := r.Close(); err != nil {
			b.Fatal(err)
		}
		b.StartTimer()
	}
}
