package dhcp

import (
	"bytes"
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv6"
	"github.com/insomniacslk/dhcp/iana"
	"github.com/insomniacslk/dhcp/rfc1035label"

	"github.com/sealane/sealane/internal/model"
)

// client6 is who asks.
type client6 struct {
	duid    []byte
	iaid    [4]byte
	request model.DHCP
}

// client6Of returns who asks for w. Its DUID is made of the hardware address (RFC
// 8415, section 11.4), which a server's administrator knows, or of the endpoint's
// ID (section 11.5) where others have that too.
func client6Of(w Want) (client6, error) {
	mac, err := net.ParseMAC(w.MAC)
	if err != nil || len(mac) != 6 {
		return client6{}, fmt.Errorf("hardware address %q: want six bytes", w.MAC)
	}
	c := client6{duid: w.Request.ClientID, iaid: [4]byte(mac[2:]), request: w.Request}
	sum := sha256.Sum256([]byte("sealane " + w.Endpoint))
	if w.SharedMAC {
		copy(c.iaid[:], sum[16:])
	}
	switch {
	case len(c.duid) > 0:
	case w.SharedMAC:
		c.duid = (&dhcpv6.DUIDUUID{UUID: [16]byte(sum[:16])}).ToBytes()
	default:
		c.duid = (&dhcpv6.DUIDLL{HWType: iana.HWTypeEthernet, LinkLayerAddr: mac}).ToBytes()
	}
	return c, nil
}

// mine reports whether a message answers one of ours.
func (c client6) mine(p *dhcpv6.Message, xid uint32) bool {
	id := p.Options.ClientID()
	return id != nil && bytes.Equal(id.ToBytes(), c.duid) && number24(p.TransactionID) == xid&(1<<24-1)
}

func number24(id dhcpv6.TransactionID) uint32 {
	return binary.BigEndian.Uint32([]byte{0, id[0], id[1], id[2]})
}

// message returns a message that has what all have.
func (c client6) message(typ dhcpv6.MessageType, xid uint32, elapsed time.Duration) *dhcpv6.Message {
	var b [4]byte
	binary.BigEndian.PutUint32(b[:], xid)
	p := &dhcpv6.Message{MessageType: typ, TransactionID: dhcpv6.TransactionID(b[1:])}
	p.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionClientID, OptionData: c.duid})
	p.AddOption(dhcpv6.OptElapsedTime(min(elapsed, (1<<16-1)*10*time.Millisecond)))
	return p
}

// identity adds the IA_NA, with an address if there is one to name.
func (c client6) identity(p *dhcpv6.Message, a netip.Addr) *dhcpv6.Message {
	ia := &dhcpv6.OptIANA{IaId: c.iaid}
	if a.IsValid() {
		ia.Options.Add(&dhcpv6.OptIAAddress{IPv6Addr: a.AsSlice()})
	}
	p.AddOption(ia)
	return p
}

// wishes adds what a message says that asks for an address.
func (c client6) wishes(p *dhcpv6.Message) *dhcpv6.Message {
	p.AddOption(dhcpv6.OptRequestedOption(dhcpv6.OptionDNSRecursiveNameServer, dhcpv6.OptionDomainSearchList, dhcpv6.OptionSolMaxRT))
	if c.request.Hostname != "" { // partial name, the server updates nothing but what it wants (RFC 4704)
		p.AddOption(&dhcpv6.OptFQDN{Flags: 0, DomainName: &rfc1035label.Labels{Labels: []string{c.request.Hostname}}})
	}
	if c.request.VendorClass != "" { // of the enterprise number 0, which is nobody's
		p.AddOption(&dhcpv6.OptVendorClass{Data: [][]byte{[]byte(c.request.VendorClass)}})
	}
	for _, o := range c.request.Options {
		p.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionCode(o.Code), OptionData: o.Value})
	}
	return p
}

// to adds the server that a message is for.
func (c client6) to(p *dhcpv6.Message, l *model.Lease) *dhcpv6.Message {
	p.AddOption(&dhcpv6.OptionGeneric{OptionCode: dhcpv6.OptionServerID, OptionData: l.ServerID})
	return p
}

// solicitation names the address that the user would like, but not one that
// somebody has.
func (c client6) solicitation(xid uint32, elapsed time.Duration, taken netip.Addr) *packet {
	like := c.request.Request
	if like == taken {
		like = netip.Addr{}
	}
	p := c.wishes(c.identity(c.message(dhcpv6.MessageTypeSolicit, xid, elapsed), like))
	return &packet{payload: p.ToBytes()}
}

// about returns a message about the address of a lease, to its server unless the
// message is for all.
func (c client6) about(typ dhcpv6.MessageType, xid uint32, elapsed time.Duration, l *model.Lease) *packet {
	p := c.identity(c.message(typ, xid, elapsed), l.Addr.Addr())
	switch typ {
	case dhcpv6.MessageTypeRequest, dhcpv6.MessageTypeRenew:
		p = c.to(c.wishes(p), l)
	case dhcpv6.MessageTypeRebind:
		p = c.wishes(p)
	case dhcpv6.MessageTypeRelease, dhcpv6.MessageTypeDecline:
		p = c.to(p, l)
	}
	return &packet{payload: p.ToBytes()}
}

// statusError is a status code of a server's that is no success.
type statusError struct {
	code iana.StatusCode
	text string
}

func (e *statusError) Error() string {
	if e.text == "" {
		return e.code.String()
	}
	return fmt.Sprintf("%s, %q", e.code, e.text)
}

func statusOf(s *dhcpv6.OptStatusCode) error {
	if s == nil || s.StatusCode == iana.StatusSuccess {
		return nil
	}
	text := strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return -1
		}
		return r
	}, s.StatusMessage)
	return &statusError{s.StatusCode, text[:min(len(text), 100)]}
}

// lease6 reads what a server offers or gives. An error says what is wrong with
// it, and with which server.
func (c client6) lease6(p *dhcpv6.Message, from sender, now time.Time) (*model.Lease, error) {
	bad := func(format string, args ...any) (*model.Lease, error) {
		return nil, fmt.Errorf("server %s: "+format, append([]any{from.addr}, args...)...)
	}
	id := p.Options.ServerID()
	if id == nil || len(id.ToBytes()) < 3 {
		return bad("does not say who it is")
	}
	if err := statusOf(p.Options.Status()); err != nil {
		return bad("%w", err)
	}
	ias := p.Options.IANA()
	i := slices.IndexFunc(ias, func(ia *dhcpv6.OptIANA) bool { return ia.IaId == c.iaid })
	if i < 0 {
		return bad("offers nothing")
	}
	if err := statusOf(ias[i].Options.Status()); err != nil {
		return bad("%w", err)
	}
	addrs := ias[i].Options.Addresses()
	j := slices.IndexFunc(addrs, func(a *dhcpv6.OptIAAddress) bool { return a.ValidLifetime > 0 })
	if j < 0 {
		return bad("offers no address")
	}
	a := address(addrs[j].IPv6Addr)
	if !a.Is6() || !ofHost(a) || a.IsLinkLocalUnicast() {
		return bad("offers %s, which is no address of a host", a)
	}
	l := &model.Lease{Addr: netip.PrefixFrom(a, 128), Server: from.addr, ServerID: id.ToBytes(), Via: from.mac, Obtained: now}
	times6(l, ias[i], addrs[j])
	l.DNS = hosts(p.Options.DNS())
	if labels := p.Options.DomainSearchList(); labels != nil {
		l.Search = domains(labels.Labels)
	}
	return l, nil
}

// times6 sets how long a lease is good, and when it is to be renewed (RFC 8415,
// section 21.4).
func times6(l *model.Lease, ia *dhcpv6.OptIANA, a *dhcpv6.OptIAAddress) {
	const forever = infinite * time.Second
	if a.ValidLifetime == forever {
		return
	}
	good := a.PreferredLifetime
	if good == 0 || good > a.ValidLifetime {
		good = a.ValidLifetime
	}
	t1, t2 := good/2, good*4/5
	if 0 < ia.T1 && ia.T1 <= ia.T2 && ia.T2 < a.ValidLifetime {
		t1, t2 = ia.T1, ia.T2
	}
	l.Renew, l.Rebind, l.Expires = l.Obtained.Add(t1), l.Obtained.Add(t2), l.Obtained.Add(a.ValidLifetime)
}

func (c client6) release(xid uint32, l *model.Lease) *packet {
	return c.about(dhcpv6.MessageTypeRelease, xid, 0, l)
}
