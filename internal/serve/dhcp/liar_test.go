package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/dhcpv4/server4"

	"github.com/sealane/sealane/internal/lab/netspace"
	"github.com/sealane/sealane/internal/model"
)

// liar is a DHCP server that answers as the test says at the time.
type liar struct {
	t *testing.T

	mu    sync.Mutex // protects the following
	says  []func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4
	heard []string // types of messages, with the address that they are about
}

// newLiar starts one in the world's server.
func newLiar(w *world) *liar {
	l := &liar{t: w.t}
	s, err := netspace.In(w.server, func() (*server4.Server, error) {
		return server4.NewServer("eth0", &net.UDPAddr{Port: dhcpv4.ServerPort}, l.handle)
	})
	if err != nil {
		w.t.Fatal(err)
	}
	served := make(chan error)
	go func() { served <- s.Serve() }()
	w.t.Cleanup(func() { s.Close(); <-served })
	return l
}

func (l *liar) handle(c net.PacketConn, _ net.Addr, m *dhcpv4.DHCPv4) {
	l.mu.Lock()
	defer l.mu.Unlock()
	about := m.RequestedIPAddress()
	if about == nil {
		about = m.ClientIPAddr
	}
	l.heard = append(l.heard, m.MessageType().String()+" "+about.String())
	for _, say := range l.says {
		asked, err := dhcpv4.FromBytes(m.ToBytes())
		if err != nil {
			l.t.Error(err)
			return
		}
		if answer := say(asked); answer != nil {
			if _, err := c.WriteTo(answer.ToBytes(), &net.UDPAddr{IP: net.IPv4bcast, Port: dhcpv4.ClientPort}); err != nil {
				l.t.Error(err)
			}
		}
	}
}

// say sets what is answered, one after the other, and forgets what was heard.
func (l *liar) say(f ...func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.says, l.heard = f, nil
}

// awaitHeard waits until a message has come.
func (l *liar) awaitHeard(want string) {
	l.t.Helper()
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		l.mu.Lock()
		heard := append([]string(nil), l.heard...)
		l.mu.Unlock()
		for _, h := range heard {
			if h == want {
				return
			}
		}
		if time.Now().After(end) {
			l.t.Fatalf("heard %q, not %q", heard, want)
		}
	}
}

// promise is what a server gives: an offer to who asks for one, and then that.
type promise struct {
	addr, mask, router, server string
	seconds                    uint32
	renew, rebind              uint32                            // of a lease, in seconds
	deny                       func(typ dhcpv4.MessageType) bool // these are answered with a NAK
}

func (p promise) answer(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	typ := dhcpv4.MessageTypeOffer
	if m.MessageType() == dhcpv4.MessageTypeRequest {
		typ = dhcpv4.MessageTypeAck
		if m.ServerIdentifier() != nil && m.ServerIdentifier().String() != p.server {
			return nil // it has asked another one
		}
	}
	switch {
	case m.MessageType() != dhcpv4.MessageTypeDiscover && m.MessageType() != dhcpv4.MessageTypeRequest:
		return nil
	case p.deny != nil && p.deny(typ):
		typ = dhcpv4.MessageTypeNak
	}
	r, err := dhcpv4.NewReplyFromRequest(m)
	if err != nil {
		return nil
	}
	r.UpdateOption(dhcpv4.OptMessageType(typ))
	r.UpdateOption(dhcpv4.OptServerIdentifier(net.ParseIP(p.server)))
	if typ == dhcpv4.MessageTypeNak {
		return r
	}
	r.YourIPAddr = net.ParseIP(p.addr).To4()
	r.UpdateOption(dhcpv4.OptSubnetMask(net.IPMask(net.ParseIP(p.mask).To4())))
	r.UpdateOption(dhcpv4.OptRouter(net.ParseIP(p.router)))
	number := func(code dhcpv4.OptionCode, n uint32) {
		if n != 0 || code == dhcpv4.OptionIPAddressLeaseTime {
			r.UpdateOption(dhcpv4.OptGeneric(code, binary.BigEndian.AppendUint32(nil, n)))
		}
	}
	number(dhcpv4.OptionIPAddressLeaseTime, p.seconds)
	number(dhcpv4.OptionRenewTimeValue, p.renew)
	number(dhcpv4.OptionRebindingTimeValue, p.rebind)
	return r
}

// honest is what is right; the liar's answers differ from it.
func honest(addr string) promise {
	return promise{addr: addr, mask: "255.255.255.0", router: "192.0.2.254", server: "192.0.2.1", seconds: 600}
}

// TestLiesOnTheWire has a server say over a real wire what a server must not, one after the
// other, to a client that goes on asking.
func TestLiesOnTheWire(t *testing.T) {
	for name, c := range map[string]struct {
		lie  func(*promise)
		want string
	}{
		"no host's address": {func(p *promise) { p.addr = "127.0.0.9" }, "trouble: server 192.0.2.1: offers 127.0.0.9, which is no address of a host"},
		"no mask":           {func(p *promise) { p.mask = "0.0.0.0" }, "trouble: server 192.0.2.1: offers 192.0.2.60 with the mask 00000000"},
		"no time":           {func(p *promise) { p.seconds = 0 }, "trouble: server 192.0.2.1: offers 192.0.2.60 for no time"},
		"offers and denies": {func(p *promise) {
			p.deny = func(typ dhcpv4.MessageType) bool { return typ == dhcpv4.MessageTypeAck }
		}, "trouble: server 192.0.2.1: takes 192.0.2.60 back"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld(t)
			l := newLiar(w)
			p := honest("192.0.2.60")
			c.lie(&p)
			l.say(p.answer)
			w.newClient().Want([]Want{w.want(false)})
			w.await(c.want, 20*time.Second)
			if w.has("192.0.2.") || w.has("127.0.0.9") {
				t.Errorf("the interface has %s", w.addresses())
			}
			l.say(honest("192.0.2.61").answer)
			w.await("leased 192.0.2.61/24", 20*time.Second)
			w.mustHave("192.0.2.61/24")
		})
	}
}

// TestLiesThatAreTaken: what is wrong with them is left out.
func TestLiesThatAreTaken(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLiar(w)
	p := honest("192.0.2.62")
	p.router, p.seconds = "198.51.100.1", infinite
	l.say(p.answer)
	want := w.want(false)
	w.newClient().Want([]Want{want})
	w.await("leased 192.0.2.62/24", 20*time.Second)
	if lease, _ := w.lease(want.Key); lease.Router.IsValid() || !lease.Expires.IsZero() || !lease.Renew.IsZero() {
		t.Errorf("lease is %+v", lease)
	}
}

// TestUsedOffer has a server offer what a neighbour has: it is told, by DECLINE, and
// the address is not on the interface.
func TestUsedOffer(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	w.run(w.other, "ip addr add 192.0.2.63/24 dev eth0")
	l := newLiar(w)
	l.say(honest("192.0.2.63").answer)
	w.newClient().Want([]Want{w.want(false)})
	w.await("trouble: address 192.0.2.63: used by "+otherMAC, 20*time.Second)
	l.awaitHeard("DECLINE 192.0.2.63")
	if w.has("192.0.2.63") {
		t.Errorf("the interface has %s", w.addresses())
	}
	l.say(honest("192.0.2.64").answer)
	w.await("leased 192.0.2.64/24", 20*time.Second)
	w.mustHave("192.0.2.64/24")
}

// TestServerGoesAndComes has a server fall silent when it is asked to renew, come back
// in time, and at last take the address away from who asks all servers.
func TestServerGoesAndComes(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLiar(w)
	p := honest("192.0.2.65")
	p.seconds, p.renew, p.rebind = 6, 1, 2
	l.say(p.answer)
	want := w.want(false)
	w.newClient().Want([]Want{want})
	w.await("leased 192.0.2.65/24", 20*time.Second)
	first, _ := w.lease(want.Key)

	l.say() // it is away: asked alone, then with all others
	w.await("trouble: no server renews 192.0.2.65", 20*time.Second)
	w.mustHave("192.0.2.65/24")
	l.say(p.answer)
	w.await("leased 192.0.2.65/24", 20*time.Second)
	if again, _ := w.lease(want.Key); !again.Expires.After(first.Expires) {
		t.Errorf("good until %v, and then %v", first.Expires, again.Expires)
	}

	l.say(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 { // asked to renew, it says no
		p := honest("192.0.2.66")
		p.deny = func(dhcpv4.MessageType) bool { return m.ClientIPAddr.Equal(net.IPv4(192, 0, 2, 65)) }
		return p.answer(m)
	})
	w.await("lost: server 192.0.2.1: takes 192.0.2.65 back", 20*time.Second)
	w.await("leased 192.0.2.66/24", 20*time.Second)
	w.mustHave("192.0.2.66/24")
	if w.has("192.0.2.65") {
		t.Errorf("the interface has %s", w.addresses())
	}
}

// TestDeniedReturn: a client that comes back with a lease is told no, and has no
// address until it has another.
func TestDeniedReturn(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLiar(w)
	l.say(func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		p := honest("192.0.2.68")
		p.deny = func(dhcpv4.MessageType) bool { return m.RequestedIPAddress().Equal(net.IPv4(192, 0, 2, 67)) }
		return p.answer(m)
	})
	want, now := w.want(false), now()
	want.Request.Lease = &model.Lease{Addr: netip.MustParsePrefix("192.0.2.67/24"), Server: addr("192.0.2.1"), Obtained: now,
		Renew: now.Add(time.Minute), Rebind: now.Add(2 * time.Minute), Expires: now.Add(time.Hour)}
	w.leases[want.Key] = *want.Request.Lease
	w.newClient().Want([]Want{want})
	w.await("lost: server 192.0.2.1: takes 192.0.2.67 back", 20*time.Second)
	w.await("leased 192.0.2.68/24", 20*time.Second)
}

// TestTwoServers has one server be quicker, and the other offer, give and deny
// another address when the quicker one has been asked already.
func TestTwoServers(t *testing.T) {
	t.Parallel()
	w := newWorld(t)
	l := newLiar(w)
	quick, late := honest("192.0.2.71"), honest("192.0.2.70")
	late.server = "192.0.2.8"
	lateSays := func(typ dhcpv4.MessageType) func(*dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
		return func(m *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
			if m.MessageType() != dhcpv4.MessageTypeRequest {
				return nil
			}
			m.Options.Del(dhcpv4.OptionServerIdentifier)
			r := late.answer(m)
			r.UpdateOption(dhcpv4.OptMessageType(typ))
			return r
		}
	}
	l.say(quick.answer, late.answer, lateSays(dhcpv4.MessageTypeOffer), lateSays(dhcpv4.MessageTypeAck), lateSays(dhcpv4.MessageTypeNak), quick.answer)
	want := w.want(false)
	w.newClient().Want([]Want{want})
	w.await("leased 192.0.2.71/24", 20*time.Second)
	l.awaitHeard("REQUEST 192.0.2.71")
	if lease, _ := w.lease(want.Key); lease.Server != addr("192.0.2.1") {
		t.Errorf("lease is %+v", lease)
	}
	w.mustHave("192.0.2.71/24")
}

// addresses returns what the client's interface has.
func (w *world) addresses() string { return w.run(w.client, "ip -4 -o addr show dev eth0") }

// has reports whether it has an address that begins so.
func (w *world) has(prefix string) bool {
	out, err := w.client.Command("ip", "-4", "-o", "addr", "show", "dev", "eth0").Output()
	return err == nil && strings.Contains(string(out), " "+prefix)
}

func (w *world) mustHave(addr string) {
	w.t.Helper()
	if !w.has(addr) {
		w.t.Errorf("the interface has not %s, but %s", addr, w.addresses())
	}
}
