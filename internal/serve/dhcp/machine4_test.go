package dhcp

import (
	"encoding/binary"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"

	"github.com/sealane/sealane/internal/model"
)

// begin is when the tests of machines begin.
var begin = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// counter counts from 1<<31, of which the random numbers between 0 and 1 are a
// half: nothing is earlier or later by chance.
func counter() func() uint32 {
	n := uint32(1 << 31)
	return func() uint32 { n++; return n }
}

// rig4 is a machine with a clock, and what it said last.
type rig4 struct {
	t   *testing.T
	m   *machine4
	now time.Time
	out []action
}

func newRig4(t *testing.T, lease *model.Lease) *rig4 {
	t.Helper()
	c, err := client4Of(Want{Key: Key{Endpoint: "0123456789ab"}, MAC: clientMAC, Request: model.DHCP{Hostname: "web"}})
	if err != nil {
		t.Fatal(err)
	}
	r := &rig4{t: t, m: newMachine4(c, lease, counter()), now: begin}
	r.out = r.m.start(r.now)
	return r
}

// sent returns the message that the machine wants sent.
func (r *rig4) sent() (*dhcpv4.DHCPv4, *packet) {
	r.t.Helper()
	for _, a := range r.out {
		if a.send != nil {
			p, err := dhcpv4.FromBytes(a.send.payload)
			if err != nil {
				r.t.Fatal(err)
			}
			return p, a.send
		}
	}
	r.t.Fatalf("in state %s nothing is sent", r.m.state)
	return nil, nil
}

// expect checks the type of what is sent.
func (r *rig4) expect(typ dhcpv4.MessageType) (*dhcpv4.DHCPv4, *packet) {
	r.t.Helper()
	p, raw := r.sent()
	if p.MessageType() != typ {
		r.t.Fatalf("in state %s %s is sent, want %s", r.m.state, p.MessageType(), typ)
	}
	return p, raw
}

// tick lets the time come that the machine waits for.
func (r *rig4) tick() time.Duration {
	r.t.Helper()
	at := r.m.wake()
	if at.IsZero() {
		r.t.Fatalf("in state %s it waits for nothing", r.m.state)
	}
	passed := at.Sub(r.now)
	r.now = at
	r.out = r.m.tick(r.now)
	return passed
}

// answer has a server answer what was sent last.
func (r *rig4) answer(typ dhcpv4.MessageType, addr string, change ...dhcpv4.Modifier) error {
	r.t.Helper()
	p, _ := r.sent()
	return r.answerTo(p, typ, addr, change...)
}

func (r *rig4) answerTo(p *dhcpv4.DHCPv4, typ dhcpv4.MessageType, addr string, change ...dhcpv4.Modifier) error {
	r.t.Helper()
	with := append([]dhcpv4.Modifier{
		dhcpv4.WithMessageType(typ), dhcpv4.WithYourIP(net.ParseIP(addr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
		dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(1000), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 254)),
	}, change...)
	reply, err := dhcpv4.NewReplyFromRequest(p, with...)
	if err != nil {
		r.t.Fatal(err)
	}
	out, err := r.m.receive(r.now, reply.ToBytes(), sender{serverMAC, netip.MustParseAddr("192.0.2.1")})
	if len(out) > 0 {
		r.out = out
	}
	return err
}

// bind goes the straight way to a lease.
func (r *rig4) bind() {
	r.t.Helper()
	r.expect(dhcpv4.MessageTypeDiscover)
	r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50")
	r.expect(dhcpv4.MessageTypeRequest)
	r.answer(dhcpv4.MessageTypeAck, "192.0.2.50")
	if len(r.out) != 1 || r.out[0].take == nil || !r.out[0].fresh {
		r.t.Fatalf("taken: %+v", r.out)
	}
	r.out = r.m.settled(r.now, nil)
	if r.m.state != bound {
		r.t.Fatalf("state %s", r.m.state)
	}
}

func (r *rig4) lost() (why error) {
	for _, a := range r.out {
		if a.lost != nil {
			why = a.lost
		}
	}
	return why
}

func (r *rig4) trouble() string {
	for _, a := range r.out {
		if a.trouble != nil {
			return a.trouble.Error()
		}
	}
	return ""
}

func TestDiscoverForEver(t *testing.T) {
	r := newRig4(t, nil)
	var pauses []time.Duration
	var xids []dhcpv4.TransactionID
	for range 9 {
		p, _ := r.expect(dhcpv4.MessageTypeDiscover)
		if p.HostName() != "web" || p.ClientHWAddr.String() != clientMAC || len(p.ToBytes()) < 300 {
			t.Errorf("sent %s", p.Summary())
		}
		xids = append(xids, p.TransactionID)
		pauses = append(pauses, r.tick())
	}
	want := []time.Duration{1, 2, 4, 8, 16, 32, 64, 64, 64}
	for i := range want {
		want[i] *= time.Second
	}
	near := func(a, b time.Duration) bool { return (a - b).Abs() < time.Millisecond }
	if !slices.EqualFunc(pauses, want, near) {
		t.Errorf("pauses %v", pauses)
	}
	if len(slices.Compact(xids)) != 1 {
		t.Error("an offer that comes late would not be taken")
	}
	if r.trouble() != Silent {
		t.Errorf("trouble %q", r.trouble())
	}
}

// The whole life of a lease whose server goes away.
func TestLifeOfALease(t *testing.T) {
	r := newRig4(t, nil)
	r.bind()
	if at := r.tick(); at != 500*time.Second || r.m.state != renewing {
		t.Fatalf("after %v: %s", at, r.m.state)
	}
	p, raw := r.expect(dhcpv4.MessageTypeRequest)
	if raw.to != netip.MustParseAddr("192.0.2.1") || raw.from != netip.MustParseAddr("192.0.2.50") || !p.ClientIPAddr.Equal(net.IPv4(192, 0, 2, 50)) ||
		p.ServerIdentifier() != nil || p.RequestedIPAddress() != nil {
		t.Errorf("renewed by %+v %s", raw, p.Summary())
	}
	var tries int
	for r.tick(); r.m.state == renewing; r.tick() {
		r.expect(dhcpv4.MessageTypeRequest)
		tries++
	}
	if r.now != begin.Add(875*time.Second) || r.m.state != rebinding || tries < 2 || tries > 6 {
		t.Fatalf("after %v and %d tries %s", r.now.Sub(begin), tries, r.m.state)
	}
	if _, raw := r.expect(dhcpv4.MessageTypeRequest); raw.to.IsValid() || !raw.from.IsValid() {
		t.Errorf("rebound by %+v", raw)
	}
	if !strings.HasPrefix(r.trouble(), "no server renews 192.0.2.50") {
		t.Errorf("trouble %q", r.trouble())
	}
	for r.tick(); r.m.state == rebinding; r.tick() {
		r.expect(dhcpv4.MessageTypeRequest)
	}
	if r.now != begin.Add(1000*time.Second) || r.lost() == nil || r.m.state != selecting {
		t.Fatalf("after %v: %s, %v", r.now.Sub(begin), r.m.state, r.lost())
	}
	r.expect(dhcpv4.MessageTypeDiscover)
}

func TestRenewed(t *testing.T) {
	r := newRig4(t, nil)
	r.bind()
	for range 3 {
		r.tick()
		if err := r.answer(dhcpv4.MessageTypeAck, "192.0.2.50"); err != nil || r.out[0].take == nil || r.out[0].fresh {
			t.Fatalf("%+v, %v", r.out, err)
		}
		r.out = r.m.settled(r.now, nil)
	}
	if got := r.m.wake().Sub(begin); got != 2000*time.Second {
		t.Errorf("next renewal after %v", got)
	}
	// The server has another address for us now: it is looked at first.
	r.tick()
	if r.answer(dhcpv4.MessageTypeAck, "192.0.2.60"); r.out[0].take == nil || !r.out[0].fresh {
		t.Errorf("%+v", r.out)
	}
	// Never again, if it is for ever.
	r = newRig4(t, nil)
	r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50")
	r.answer(dhcpv4.MessageTypeAck, "192.0.2.50", dhcpv4.WithLeaseTime(infinite))
	if r.m.settled(r.now, nil); !r.m.wake().IsZero() || !r.m.lease.Valid(begin.AddDate(100, 0, 0)) {
		t.Errorf("an infinite lease is renewed at %v", r.m.wake())
	}
}

// Who said what decides whether it is believed.
func TestNak(t *testing.T) {
	other := dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 9)))
	had := &model.Lease{Addr: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1"),
		Renew: begin.Add(time.Minute), Rebind: begin.Add(2 * time.Minute), Expires: begin.Add(3 * time.Minute)}
	for _, c := range []struct {
		name   string
		to     func(*rig4)
		lease  *model.Lease
		by     []dhcpv4.Modifier
		heeded bool
	}{
		{"selecting", func(*rig4) {}, nil, nil, false},
		{"requesting", func(r *rig4) { r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50") }, nil, nil, true},
		{"requesting, by another", func(r *rig4) { r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50") }, nil, []dhcpv4.Modifier{other}, false},
		{"rebooting", func(*rig4) {}, had, nil, true},
		{"rebooting, by another", func(*rig4) {}, had, []dhcpv4.Modifier{other}, true},
		{"renewing", func(r *rig4) { r.bind(); r.tick() }, nil, nil, true},
		{"renewing, by another", func(r *rig4) { r.bind(); r.tick() }, nil, []dhcpv4.Modifier{other}, false},
	} {
		r := newRig4(t, c.lease)
		c.to(r)
		before := r.m.state
		p, _ := r.sent()
		r.out = nil
		r.answerTo(p, dhcpv4.MessageTypeNak, "0.0.0.0", c.by...)
		if heeded := r.m.state != before; heeded != c.heeded {
			t.Errorf("%s: heeded %v, now %s", c.name, heeded, r.m.state)
		}
		if had := c.lease != nil || before == renewing; had && c.heeded && r.lost() == nil {
			t.Errorf("%s: nothing is lost", c.name)
		}
	}
	// A server that takes back what it gives is asked ever more seldom.
	r := newRig4(t, nil)
	for range 10 {
		r.expect(dhcpv4.MessageTypeDiscover)
		r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50")
		r.answer(dhcpv4.MessageTypeNak, "0.0.0.0")
		r.tick()
	}
	if took := r.now.Sub(begin); took < 4*time.Minute {
		t.Errorf("10 times in %v", took)
	}
}

func TestConflict(t *testing.T) {
	used := model.Errorf(model.Conflict, "", "", "address 192.0.2.50: used by somebody")
	r := newRig4(t, nil)
	r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50")
	r.answer(dhcpv4.MessageTypeAck, "192.0.2.50")
	r.out = r.m.settled(r.now, used)
	p, _ := r.expect(dhcpv4.MessageTypeDecline)
	if !p.RequestedIPAddress().Equal(net.IPv4(192, 0, 2, 50)) || !p.ServerIdentifier().Equal(net.IPv4(192, 0, 2, 1)) {
		t.Errorf("declined by %s", p.Summary())
	}
	if wait := r.tick(); wait < 900*time.Millisecond || r.m.state != selecting {
		t.Errorf("after %v: %s", wait, r.m.state)
	}
	if err := r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50"); err == nil || r.m.state != selecting || err.Error() != "server 192.0.2.1: offers address 192.0.2.50: used by somebody" {
		t.Errorf("the same address again is believed: %v", err)
	}
	r.m.again(r.now)
	// Something else in the way is nobody's address.
	r = newRig4(t, nil)
	r.answer(dhcpv4.MessageTypeOffer, "192.0.2.50")
	r.answer(dhcpv4.MessageTypeAck, "192.0.2.50")
	for _, a := range r.m.settled(r.now, errors.New("disk full")) {
		if a.send != nil {
			t.Error("declined because of a disk")
		}
	}
}

func TestComesBack(t *testing.T) {
	had := model.Lease{Addr: netip.MustParsePrefix("192.0.2.50/24"), Server: netip.MustParseAddr("192.0.2.1"), Obtained: begin,
		Renew: begin.Add(time.Minute), Rebind: begin.Add(2 * time.Minute), Expires: begin.Add(3 * time.Minute)}
	r := newRig4(t, &had)
	p, raw := r.expect(dhcpv4.MessageTypeRequest)
	if !p.RequestedIPAddress().Equal(net.IPv4(192, 0, 2, 50)) || p.ServerIdentifier() != nil || !p.ClientIPAddr.IsUnspecified() || raw.to.IsValid() {
		t.Errorf("asked by %s", p.Summary())
	}
	for r.m.state == rebooting {
		r.tick()
	}
	if r.m.state != bound || r.m.wake() != had.Renew || r.lost() != nil {
		t.Errorf("nobody answers: %s until %v", r.m.state, r.m.wake())
	}
	had.Expires = begin.Add(-time.Second)
	if r := newRig4(t, &had); r.lost() == nil || r.m.state != selecting {
		t.Errorf("with an old lease: %s", r.m.state)
	}
}

func TestUnheard(t *testing.T) {
	r := newRig4(t, nil)
	p, _ := r.sent()
	good, _ := dhcpv4.NewReplyFromRequest(p, dhcpv4.WithMessageType(dhcpv4.MessageTypeOffer))
	other := *good
	other.TransactionID = dhcpv4.TransactionID{1, 2, 3, 4}
	stranger := *good
	stranger.ClientHWAddr = net.HardwareAddr{2, 0, 0, 0, 0, 99}
	question := *good
	question.OpCode = dhcpv4.OpcodeBootRequest
	for name, b := range map[string][]byte{"nothing": nil, "another's": stranger.ToBytes(), "an old answer": other.ToBytes(), "a question": question.ToBytes(),
		"the half": good.ToBytes()[:120], "the header": good.ToBytes()[:236]} {
		out, _ := r.m.receive(r.now, b, sender{})
		if len(out) > 0 || r.m.state != selecting {
			t.Errorf("%s is heard: %+v", name, out)
		}
	}
}

// What servers should not say is not believed, or left out.
func TestLies(t *testing.T) {
	option := func(code dhcpv4.OptionCode, b ...byte) dhcpv4.Modifier {
		return dhcpv4.WithOption(dhcpv4.OptGeneric(code, b))
	}
	without := func(code dhcpv4.OptionCode) dhcpv4.Modifier { return func(p *dhcpv4.DHCPv4) { p.Options.Del(code) } }
	for _, c := range []struct {
		name, addr string
		with       []dhcpv4.Modifier
		wrong      string
		check      func(*model.Lease) bool
	}{
		{"all well", "192.0.2.50", nil, "", func(l *model.Lease) bool { return l.Router == addr("192.0.2.254") }},
		{"loopback", "127.0.0.5", nil, "no address of a host", nil},
		{"none", "0.0.0.0", nil, "no address of a host", nil},
		{"multicast", "224.0.0.5", nil, "no address of a host", nil},
		{"reserved", "240.0.0.5", nil, "no address of a host", nil},
		{"broadcast", "255.255.255.255", nil, "no address of a host", nil},
		{"of nobody", "169.254.1.2", nil, "no address of a host", nil},
		{"network address", "192.0.2.0", nil, "is the network or broadcast address", nil},
		{"broadcast of the subnet", "192.0.2.255", nil, "is the network or broadcast address", nil},
		{"mask 0", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionSubnetMask, 0, 0, 0, 0)}, "with the mask 00000000", nil},
		{"mask with a hole", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionSubnetMask, 255, 0, 255, 0)}, "with the mask ff00ff00", nil},
		{"half a mask", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionSubnetMask, 255, 255)}, "with the mask ffff", nil},
		{"no mask", "192.0.2.50", []dhcpv4.Modifier{without(dhcpv4.OptionSubnetMask)}, "", func(l *model.Lease) bool { return l.Addr.Bits() == 24 }},
		{"no time", "192.0.2.50", []dhcpv4.Modifier{without(dhcpv4.OptionIPAddressLeaseTime)}, "for no time", nil},
		{"time 0", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithLeaseTime(0)}, "for no time", nil},
		{"no server", "192.0.2.50", []dhcpv4.Modifier{without(dhcpv4.OptionServerIdentifier)}, "does not say who it is", nil},
		{"server on loopback", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(127, 0, 0, 1)))}, "does not say who it is", nil},
		{"renewal after the end", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionRenewTimeValue, 0, 1, 0, 0), option(dhcpv4.OptionRebindingTimeValue, 0, 0, 0, 1)}, "",
			func(l *model.Lease) bool { return l.Renew.Equal(begin.Add(500 * time.Second)) }},
		{"router elsewhere", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1))}, "", func(l *model.Lease) bool { return !l.Router.IsValid() }},
		{"router elsewhere, of a lone address", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithNetmask(net.CIDRMask(32, 32)), dhcpv4.WithRouter(net.IPv4(10, 0, 0, 1))}, "",
			func(l *model.Lease) bool { return l.Router == addr("10.0.0.1") }},
		{"itself as router", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithRouter(net.IPv4(192, 0, 2, 50))}, "", func(l *model.Lease) bool { return !l.Router.IsValid() }},
		{"router on loopback", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithRouter(net.IPv4(127, 0, 0, 1))}, "", func(l *model.Lease) bool { return !l.Router.IsValid() }},
		{"names on loopback", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithDNS(net.IPv4(127, 0, 0, 1), net.IPv4(192, 0, 2, 3))}, "",
			func(l *model.Lease) bool { return slices.Equal(l.DNS, addrs("192.0.2.3")) }},
		{"a domain of two lines", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptDomainName("x\nnameserver 1.2.3.4"))}, "",
			func(l *model.Lease) bool { return len(l.Search) == 0 }},
		{"an MTU for nothing", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionInterfaceMTU, 0, 68)}, "", func(l *model.Lease) bool { return l.MTU == 0 }},
		{"half an MTU", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionInterfaceMTU, 5)}, "", func(l *model.Lease) bool { return l.MTU == 0 }},
		{"old routes", "192.0.2.50", []dhcpv4.Modifier{option(dhcpv4.OptionStaticRoutingTable, 10, 0, 0, 0, 192, 0, 2, 2, 10, 1, 2, 3, 192, 0, 2, 2, 0, 0, 0, 0, 192, 0, 2, 2, 127, 0, 0, 0, 192, 0, 2, 2, 9)}, "",
			func(l *model.Lease) bool {
				return len(l.Routes) == 2 && l.Routes[0].Dst.String() == "10.0.0.0/8" && l.Routes[1].Dst.String() == "10.1.2.3/32"
			}},
		{"new routes", "192.0.2.50", []dhcpv4.Modifier{dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(
			route("10.0.0.0/8", "192.0.2.2"), route("10.0.0.0/8", "192.0.2.3"), route("10.9.0.0/16", "0.0.0.0"), route("10.8.0.0/16", "10.9.0.1"),
			route("10.7.0.0/16", "10.6.0.1"), route("192.0.2.0/24", "192.0.2.9"), route("127.0.0.0/8", "192.0.2.2")))}, "",
			func(l *model.Lease) bool { return len(l.Routes) == 3 && !l.Router.IsValid() }},
	} {
		p, err := dhcpv4.New(append([]dhcpv4.Modifier{
			dhcpv4.WithYourIP(net.ParseIP(c.addr)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithLeaseTime(1000), dhcpv4.WithRouter(net.IPv4(192, 0, 2, 254)),
		}, c.with...)...)
		if err != nil {
			t.Fatal(err)
		}
		p, err = dhcpv4.FromBytes(p.ToBytes())
		if err != nil {
			t.Fatal(err)
		}
		l, err := lease4(p, sender{addr: addr("192.0.2.1")}, begin)
		switch {
		case c.wrong == "" && (err != nil || !c.check(l)):
			t.Errorf("%s: %+v, %v", c.name, l, err)
		case c.wrong != "" && (err == nil || !strings.Contains(err.Error(), c.wrong) || !strings.HasPrefix(err.Error(), "server 192.0.2.1: ") && c.name != "server on loopback"):
			t.Errorf("%s: %+v, %v", c.name, l, err)
		}
	}
}

func route(dst, via string) *dhcpv4.Route {
	_, n, err := net.ParseCIDR(dst)
	if err != nil {
		panic(err)
	}
	return &dhcpv4.Route{Dest: n, Router: net.ParseIP(via)}
}

// No answer of a server's brings a machine down, or gives it what no host can have.
func FuzzAnswer4(f *testing.F) {
	c, err := client4Of(Want{Key: Key{Endpoint: "0123456789ab"}, MAC: clientMAC})
	if err != nil {
		f.Fatal(err)
	}
	p, _ := dhcpv4.FromBytes(c.discovery(7, 0, netip.Addr{}).payload)
	for _, typ := range []dhcpv4.MessageType{dhcpv4.MessageTypeOffer, dhcpv4.MessageTypeAck, dhcpv4.MessageTypeNak} {
		reply, _ := dhcpv4.NewReplyFromRequest(p, dhcpv4.WithMessageType(typ), dhcpv4.WithYourIP(net.IPv4(192, 0, 2, 50)), dhcpv4.WithLeaseTime(1000),
			dhcpv4.WithNetmask(net.CIDRMask(24, 32)), dhcpv4.WithOption(dhcpv4.OptServerIdentifier(net.IPv4(192, 0, 2, 1))), dhcpv4.WithOption(dhcpv4.OptClasslessStaticRoute(route("10.0.0.0/8", "192.0.2.2"))))
		f.Add(reply.ToBytes(), uint8(typ))
	}
	f.Fuzz(func(t *testing.T, b []byte, s uint8) {
		had := &model.Lease{Addr: netip.MustParsePrefix("192.0.2.50/24"), Server: addr("192.0.2.1"), Renew: begin, Rebind: begin.Add(time.Minute), Expires: begin.Add(time.Hour)}
		m := newMachine4(c, had, counter())
		m.offer, m.state = had, state(s%8)
		if len(b) > 8 {
			m.xid = binary.BigEndian.Uint32(b[4:])
		}
		out, _ := m.receive(begin, b, sender{serverMAC, addr("192.0.2.1")})
		for _, a := range out {
			if a.take != nil && (!ofHost(a.take.Addr.Addr()) || a.take.Addr.Bits() == 0) {
				t.Errorf("takes %s", a.take.Addr)
			}
		}
	})
}
