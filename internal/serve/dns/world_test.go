package dns

import (
	"context"
	"fmt"
	"log/slog"
	"net"
	"net/netip"
	"os/exec"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/miekg/dns"

	"github.com/sealane/sealane/internal/lab/netspace"
)

// The tests run in a network namespace of their own, which is the host; sandboxes
// are more, anonymous ones.
func TestMain(m *testing.M) { netspace.Main(m, func() { shell("ip link set lo up") }) }

// shell runs a command line on the thread's own namespace.
func shell(line string) string {
	f := strings.Fields(line)
	out, err := exec.Command(f[0], f[1:]...).CombinedOutput()
	if err != nil {
		panic(fmt.Sprintf("%s: %v: %s", line, err, out))
	}
	return string(out)
}

// space is a sandbox's network namespace.
type space struct{ netspace.Space }

// newSpace makes one, with lo up unless it says "down".
func newSpace(t testing.TB, lo string) space {
	t.Helper()
	s := space{netspace.New(t)}
	if lo != "down" {
		s.shell("ip link set lo up")
	}
	return s
}

func (s space) shell(line string) string {
	out, _ := netspace.In(s.Space, func() (string, error) { return shell(line), nil })
	return out
}

// exchange asks the server that sandboxes have.
func (s space) exchange(network string, m *dns.Msg) (*dns.Msg, error) {
	return netspace.In(s.Space, func() (*dns.Msg, error) {
		c := dns.Client{Net: network, Timeout: 20 * time.Second}
		r, _, err := c.Exchange(m, "127.0.0.11:53")
		return r, err
	})
}

// ask asks for a name and returns the answer as line does.
func (s space) ask(t testing.TB, name string, typ uint16) string {
	t.Helper()
	m := new(dns.Msg).SetQuestion(dns.Fqdn(name), typ)
	r, err := s.exchange("udp", m)
	if err != nil {
		return err.Error()
	}
	return line(r)
}

// line is a reply's rcode and data, sorted as they came.
func line(r *dns.Msg) string {
	out := []string{dns.RcodeToString[r.Rcode]}
	for _, rr := range r.Answer {
		out = append(out, strings.TrimPrefix(rr.String(), rr.Header().String()))
	}
	return strings.Join(out, " ")
}

// server is a name server; it counts what it is asked.
type server struct {
	addr  netip.AddrPort
	asked atomic.Int64
}

// serve starts a server at an address, in a namespace or on the host (nil).
func serve(t testing.TB, at string, where *space, h dns.HandlerFunc) *server {
	t.Helper()
	s := &server{}
	count := dns.HandlerFunc(func(w dns.ResponseWriter, m *dns.Msg) {
		s.asked.Add(1)
		h(w, m)
	})
	var pc net.PacketConn
	var l net.Listener
	open := func() (_ any, err error) {
		if pc, err = net.ListenPacket("udp", at); err != nil {
			return nil, err
		}
		l, err = net.Listen("tcp", pc.LocalAddr().String())
		return nil, err
	}
	var err error
	if where == nil {
		_, err = open()
	} else {
		_, err = netspace.In(where.Space, open)
	}
	if err != nil {
		t.Fatal(err)
	}
	s.addr = pc.LocalAddr().(*net.UDPAddr).AddrPort()
	for _, x := range []*dns.Server{{PacketConn: pc, Handler: count}, {Listener: l, Handler: count}} {
		started := make(chan struct{})
		x.NotifyStartedFunc = func() { close(started) }
		go x.ActivateAndServe()
		<-started
		t.Cleanup(func() { x.ShutdownContext(context.Background()) })
	}
	return s
}

// says answers every question with records in zone-file form; %s is the name.
func says(rcode int, records ...string) dns.HandlerFunc {
	return func(w dns.ResponseWriter, m *dns.Msg) {
		r := new(dns.Msg).SetRcode(m, rcode)
		r.RecursionAvailable = true
		for _, text := range records {
			section := &r.Answer
			if strings.Contains(text, "SOA") {
				section = &r.Ns
			}
			rr, err := dns.NewRR(strings.ReplaceAll(text, "%s", m.Question[0].Name))
			if err != nil {
				panic(err)
			}
			*section = append(*section, rr)
		}
		w.WriteMsg(r)
	}
}

func start(t testing.TB, servers ...netip.AddrPort) *Resolver {
	r := New(slog.New(slog.NewTextHandler(t.Output(), &slog.HandlerOptions{Level: slog.LevelDebug})))
	r.SetServers(servers)
	t.Cleanup(func() {
		if err := r.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func put(t testing.TB, r *Resolver, key string, v View) {
	t.Helper()
	if err := r.Put(key, v); err != nil {
		t.Fatal(err)
	}
}

func prefixes(list ...string) []netip.Prefix {
	var out []netip.Prefix
	for _, p := range list {
		out = append(out, netip.MustParsePrefix(p))
	}
	return out
}

func addrs(list ...string) []netip.Addr {
	var out []netip.Addr
	for _, a := range list {
		out = append(out, netip.MustParseAddr(a))
	}
	return out
}
