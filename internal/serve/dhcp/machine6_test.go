package dhcp

import (
	"encoding/binary"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/sealane/sealane/internal/model"
)

// rig6 is a machine with a clock, and what it said last.
type rig6 struct {
	t   *testing.T
	m   *machine6
	now time.Time
	out []action
}

var want6 = Want{Key: Key{Endpoint: "0123456789ab", Is6: true}, MAC: clientMAC, Request: model.DHCP{Hostname: "web"}}

func newRig6(t *testing.T, lease *model.Lease) *rig6 {
	t.Helper()
	c, err := client6Of(want6)
	if err != nil {
		t.Fatal(err)
	}
	r := &rig6{t: t, m: newMachine6(c, lease, counter()), now: begin}
	r.out = r.m.start(r.now)
	return r
}

func (r *rig6) sent(typ dhcpv6.MessageType) *dhcpv6.Message {
	r.t.Helper()
	for _, a := range r.out {
		if a.send != nil {
			p, err := dhcpv6.MessageFromBytes(a.send.payload)
			if err != nil {
				r.t.Fatal(err)
			}
			if p.MessageType != typ {
				r.t.Fatalf("in state %s %s is sent, want %s", r.m.state, p.MessageType, typ)
			}
			return p
		}
	}
	r.t.Fatalf("in state %s nothing is sent", r.m.state)
	return nil
}

func (r *rig6) tick() time.Duration {
	r.t.Helper()
	at := r.m.wake()
	passed := at.Sub(r.now)
	r.now = at
	r.out = r.m.tick(r.now)
	return passed
}

// reply is an answer to p: from a server of a number, with an address for a time
// in seconds, and other options.
func reply(p *dhcpv6.Message, typ dhcpv6.MessageType, server byte, address string, valid int, more ...dhcpv6.Option) *dhcpv6.Message {
	out := &dhcpv6.Message{MessageType: typ, TransactionID: p.TransactionID}
	out.AddOption(p.GetOneOption(dhcpv6.OptionClientID))
	out.AddOption(dhcpv6.OptServerID(&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: net.HardwareAddr{2, 0, 0, 0, 1, server}}))
	if address != "" {
		ia := &dhcpv6.OptIANA{IaId: p.Options.OneIANA().IaId}
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: net.ParseIP(address), PreferredLifetime: time.Duration(valid) * time.Second / 2, ValidLifetime: time.Duration(valid) * time.Second})
		out.AddOption(ia)
	}
	for _, o := range more {
		out.AddOption(o)
	}
	return out
}

func (r *rig6) hear(p *dhcpv6.Message) error {
	out, err := r.m.receive(r.now, p.ToBytes(), sender{serverMAC, addr("fe80::1")})
	if len(out) > 0 {
		r.out = out
	}
	return err
}

func (r *rig6) bind() {
	r.t.Helper()
	r.hear(reply(r.sent(dhcpv6.MessageTypeSolicit), dhcpv6.MessageTypeAdvertise, 1, "2001:db8::50", 1000, dhcpv6.OptPreference(255)))
	r.hear(reply(r.sent(dhcpv6.MessageTypeRequest), dhcpv6.MessageTypeReply, 1, "2001:db8::50", 1000))
	if len(r.out) != 1 || r.out[0].take == nil || !r.out[0].fresh {
		r.t.Fatalf("taken: %+v", r.out)
	}
	r.out = r.m.settled(r.now, nil)
}

func (r *rig6) lost() bool {
	for _, a := range r.out {
		if a.lost != nil {
			return true
		}
	}
	return false
}

// The best of the offers of the first second is requested, or any that comes later.
func TestBestOffer(t *testing.T) {
	r := newRig6(t, nil)
	p := r.sent(dhcpv6.MessageTypeSolicit)
	if p.Options.FQDN().DomainName.Labels[0] != "web" || p.Options.OneIANA() == nil || p.Options.ServerID() != nil {
		t.Errorf("sent %s", p.Summary())
	}
	r.hear(reply(p, dhcpv6.MessageTypeAdvertise, 1, "2001:db8::1:1", 1000))
	r.hear(reply(p, dhcpv6.MessageTypeAdvertise, 2, "2001:db8::2:1", 1000, dhcpv6.OptPreference(7)))
	r.hear(reply(p, dhcpv6.MessageTypeAdvertise, 3, "2001:db8::3:1", 1000, dhcpv6.OptPreference(3)))
	if r.m.state != selecting {
		t.Fatalf("state %s", r.m.state)
	}
	if took := r.tick(); took != time.Second {
		t.Errorf("chosen after %v", took)
	}
	if id := r.sent(dhcpv6.MessageTypeRequest).Options.ServerID().(*dhcpv6.DUIDLL); id.LinkLayerAddr[5] != 2 {
		t.Errorf("server %d is asked", id.LinkLayerAddr[5])
	}
	late := newRig6(t, nil)
	late.tick()
	late.hear(reply(late.sent(dhcpv6.MessageTypeSolicit), dhcpv6.MessageTypeAdvertise, 1, "2001:db8::1:1", 1000))
	late.sent(dhcpv6.MessageTypeRequest)
}

func TestLifeOfALease6(t *testing.T) {
	r := newRig6(t, nil)
	r.bind()
	if at := r.tick(); at != 250*time.Second {
		t.Errorf("renewed after %v", at)
	}
	if p := r.sent(dhcpv6.MessageTypeRenew); p.Options.ServerID() == nil {
		t.Error("nobody is asked to renew")
	}
	for r.tick(); r.m.state == renewing; r.tick() {
		r.sent(dhcpv6.MessageTypeRenew)
	}
	if r.now != begin.Add(400*time.Second) || r.m.state != rebinding {
		t.Fatalf("after %v %s", r.now.Sub(begin), r.m.state)
	}
	if p := r.sent(dhcpv6.MessageTypeRebind); p.Options.ServerID() != nil {
		t.Error("only one is asked to rebind")
	}
	for r.tick(); r.m.state == rebinding; r.tick() {
		r.sent(dhcpv6.MessageTypeRebind)
	}
	if r.now != begin.Add(1000*time.Second) || !r.lost() || r.m.state != selecting {
		t.Fatalf("after %v %s", r.now.Sub(begin), r.m.state)
	}
}

func status(code iana.StatusCode) dhcpv6.Option {
	return &dhcpv6.OptStatusCode{StatusCode: code, StatusMessage: "so\nwhat"}
}

func TestReplies6(t *testing.T) {
	inIA := func(p *dhcpv6.Message, code iana.StatusCode) *dhcpv6.Message {
		r := reply(p, dhcpv6.MessageTypeReply, 2, "", 0)
		ia := &dhcpv6.OptIANA{IaId: p.Options.OneIANA().IaId}
		ia.Options.Add(status(code))
		r.AddOption(ia)
		return r
	}
	r := newRig6(t, nil)
	r.bind()
	r.tick()
	r.hear(inIA(r.sent(dhcpv6.MessageTypeRenew), iana.StatusNoBinding))
	if id := r.sent(dhcpv6.MessageTypeRequest).Options.ServerID().(*dhcpv6.DUIDLL); id.LinkLayerAddr[5] != 2 || r.lost() {
		t.Error("a server that has forgotten is not asked again")
	}
	r = newRig6(t, nil)
	r.bind()
	r.tick()
	r.hear(reply(r.sent(dhcpv6.MessageTypeRenew), dhcpv6.MessageTypeReply, 1, "2001:db8::50", 0))
	if !r.lost() || r.m.state != waiting {
		t.Errorf("an address that is good no longer: %s", r.m.state)
	}
	r = newRig6(t, nil)
	r.hear(reply(r.sent(dhcpv6.MessageTypeSolicit), dhcpv6.MessageTypeAdvertise, 1, "2001:db8::50", 1000, dhcpv6.OptPreference(255)))
	r.hear(inIA(r.sent(dhcpv6.MessageTypeRequest), iana.StatusNoAddrsAvail))
	if r.m.state != waiting || !strings.Contains(r.out[0].trouble.Error(), `server fe80::1: NoAddrsAvail, "sowhat"`) {
		t.Errorf("%s: %+v", r.m.state, r.out)
	}
	// Offers of what no host can have.
	for _, a := range []string{"", "::", "::1", "fe80::5", "ff02::1", "::ffff:192.0.2.1"} {
		r := newRig6(t, nil)
		if err := r.hear(reply(r.sent(dhcpv6.MessageTypeSolicit), dhcpv6.MessageTypeAdvertise, 1, a, 1000, dhcpv6.OptPreference(255))); err == nil || r.m.state != selecting {
			t.Errorf("%q: %v, %s", a, err, r.m.state)
		}
	}
}

func TestComesBack6(t *testing.T) {
	had := model.Lease{Addr: netip.MustParsePrefix("2001:db8::50/128"), ServerID: []byte{0, 3, 0, 1, 2}, Obtained: begin,
		Renew: begin.Add(time.Minute), Rebind: begin.Add(2 * time.Minute), Expires: begin.Add(3 * time.Minute)}
	r := newRig6(t, &had)
	p := r.sent(dhcpv6.MessageTypeConfirm)
	r.hear(reply(p, dhcpv6.MessageTypeReply, 1, "", 0, status(iana.StatusSuccess)))
	if r.m.state != bound || r.m.wake() != had.Renew || r.lost() {
		t.Errorf("confirmed: %s", r.m.state)
	}
	r = newRig6(t, &had)
	r.hear(reply(r.sent(dhcpv6.MessageTypeConfirm), dhcpv6.MessageTypeReply, 1, "", 0, status(iana.StatusNotOnLink)))
	if r.m.state != selecting || !r.lost() {
		t.Errorf("on another link: %s", r.m.state)
	}
	r = newRig6(t, &had)
	for r.m.state == rebooting {
		r.tick()
	}
	if took := r.now.Sub(begin); r.m.state != bound || r.lost() || took < confirming || took > 20*time.Second {
		t.Errorf("nobody answers: %s after %v", r.m.state, took)
	}
}

func TestConflict6(t *testing.T) {
	r := newRig6(t, nil)
	r.hear(reply(r.sent(dhcpv6.MessageTypeSolicit), dhcpv6.MessageTypeAdvertise, 1, "2001:db8::50", 1000, dhcpv6.OptPreference(255)))
	r.hear(reply(r.sent(dhcpv6.MessageTypeRequest), dhcpv6.MessageTypeReply, 1, "2001:db8::50", 1000))
	r.out = r.m.settled(r.now, model.Errorf(model.Conflict, "", "", "used"))
	if p := r.sent(dhcpv6.MessageTypeDecline); !p.Options.OneIANA().Options.OneAddress().IPv6Addr.Equal(net.ParseIP("2001:db8::50")) || p.Options.ServerID() == nil {
		t.Errorf("declined by %s", p.Summary())
	}
}

// Two that have a hardware address together are two to a server.
func TestSharedMAC(t *testing.T) {
	a, b := want6, want6
	a.SharedMAC, b.SharedMAC = true, true
	b.Endpoint = "ba9876543210"
	x6, _ := client6Of(a)
	y6, _ := client6Of(b)
	if string(x6.duid) == string(y6.duid) || x6.iaid == y6.iaid {
		t.Error("IPv6: the same")
	}
	x4, _ := client4Of(a)
	y4, _ := client4Of(b)
	if string(x4.request.ClientID) == string(y4.request.ClientID) || !x4.broadcast {
		t.Error("IPv4: the same")
	}
}

func FuzzAnswer6(f *testing.F) {
	c, err := client6Of(want6)
	if err != nil {
		f.Fatal(err)
	}
	p, _ := dhcpv6.MessageFromBytes(c.solicitation(7, 0, netip.Addr{}).payload)
	f.Add(reply(p, dhcpv6.MessageTypeAdvertise, 1, "2001:db8::50", 1000).ToBytes(), uint8(selecting))
	f.Add(reply(p, dhcpv6.MessageTypeReply, 1, "2001:db8::50", 1000, dhcpv6.OptDNS(net.ParseIP("2001:db8::1"))).ToBytes(), uint8(requesting))
	f.Add(reply(p, dhcpv6.MessageTypeReply, 1, "", 0, status(iana.StatusNoBinding)).ToBytes(), uint8(renewing))
	f.Fuzz(func(t *testing.T, b []byte, s uint8) {
		had := &model.Lease{Addr: netip.MustParsePrefix("2001:db8::50/128"), ServerID: []byte{0, 3, 0, 1, 2}, Renew: begin, Rebind: begin.Add(time.Minute), Expires: begin.Add(time.Hour)}
		m := newMachine6(c, had, counter())
		m.offer, m.state = had, state(s%8)
		if len(b) > 4 {
			m.xid = binary.BigEndian.Uint32(b) & 0xffffff
		}
		out, _ := m.receive(begin, b, sender{serverMAC, addr("fe80::1")})
		for _, a := range out {
			if a.take != nil && !ofHost(a.take.Addr.Addr()) {
				t.Errorf("takes %s", a.take.Addr)
			}
		}
	})
}
