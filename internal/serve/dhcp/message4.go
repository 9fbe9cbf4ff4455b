package dhcp

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"time"

	"github.com/insomniacslk/dhcp/dhcpv4"
	"github.com/insomniacslk/dhcp/iana"

	"github.com/sealane/sealane/internal/model"
)

// client4 is who asks.
type client4 struct {
	mac       net.HardwareAddr
	broadcast bool // answers are to go to all
	request   model.DHCP
}

// client4Of returns who asks for w.
func client4Of(w Want) (client4, error) {
	mac, err := net.ParseMAC(w.MAC)
	if err != nil || len(mac) != 6 {
		return client4{}, fmt.Errorf("hardware address %q: want six bytes", w.MAC)
	}
	c := client4{mac: mac, broadcast: w.SharedMAC, request: w.Request}
	if len(c.request.ClientID) > 0 {
		return c, nil
	}
	c.request.ClientID = append([]byte{byte(iana.HWTypeEthernet)}, mac...) // RFC 2132, section 9.14
	if w.SharedMAC {
		c.request.ClientID = append([]byte{0}, w.Endpoint...)
	}
	return c, nil
}

// mine reports whether a message answers one of ours.
func (c client4) mine(p *dhcpv4.DHCPv4, xid uint32) bool {
	return p.OpCode == dhcpv4.OpcodeBootReply && bytes.Equal(p.ClientHWAddr, c.mac) && binary.BigEndian.Uint32(p.TransactionID[:]) == xid
}

// asked are the options that a server is asked for.
var asked = []dhcpv4.OptionCode{
	dhcpv4.OptionSubnetMask, dhcpv4.OptionRouter, dhcpv4.OptionDomainNameServer, dhcpv4.OptionDomainName, dhcpv4.OptionInterfaceMTU,
	dhcpv4.OptionStaticRoutingTable, dhcpv4.OptionIPAddressLeaseTime, dhcpv4.OptionServerIdentifier, dhcpv4.OptionRenewTimeValue,
	dhcpv4.OptionRebindingTimeValue, dhcpv4.OptionDNSDomainSearchList, dhcpv4.OptionClasslessStaticRoute,
}

// maxMessage is the longest message that is taken, in bytes with its headers.
const maxMessage = 1500

// message returns a message that has what all have. ciaddr is the address that
// the client has, if any.
func (c client4) message(typ dhcpv4.MessageType, xid uint32, secs time.Duration, ciaddr netip.Addr) *dhcpv4.DHCPv4 {
	p := &dhcpv4.DHCPv4{
		OpCode: dhcpv4.OpcodeBootRequest, HWType: iana.HWTypeEthernet, ClientHWAddr: c.mac,
		NumSeconds:   uint16(min(secs/time.Second, 1<<16-1)),
		ClientIPAddr: net.IPv4zero, YourIPAddr: net.IPv4zero, ServerIPAddr: net.IPv4zero, GatewayIPAddr: net.IPv4zero,
		Options: dhcpv4.Options{},
	}
	binary.BigEndian.PutUint32(p.TransactionID[:], xid)
	if ciaddr.IsValid() {
		p.ClientIPAddr = ciaddr.AsSlice()
	} else if c.broadcast {
		p.SetBroadcast()
	}
	p.UpdateOption(dhcpv4.OptMessageType(typ))
	p.UpdateOption(dhcpv4.OptClientIdentifier(c.request.ClientID))
	return p
}

// wishes adds what a message says that asks for an address.
func (c client4) wishes(p *dhcpv4.DHCPv4) *dhcpv4.DHCPv4 {
	codes := slices.Clone(asked)
	for _, o := range c.request.Options {
		p.UpdateOption(dhcpv4.OptGeneric(dhcpv4.GenericOptionCode(o.Code), o.Value))
	}
	if c.request.Hostname != "" {
		p.UpdateOption(dhcpv4.OptHostName(c.request.Hostname))
	}
	if c.request.VendorClass != "" {
		p.UpdateOption(dhcpv4.OptClassIdentifier(c.request.VendorClass))
	}
	p.UpdateOption(dhcpv4.OptParameterRequestList(codes...))
	p.UpdateOption(dhcpv4.OptMaxMessageSize(maxMessage - 28))
	return p
}

func requested(p *dhcpv4.DHCPv4, a netip.Addr) {
	if a.IsValid() {
		p.UpdateOption(dhcpv4.OptRequestedIPAddress(a.AsSlice()))
	}
}

// discovery names the address that the user would like, but not one that somebody
// has.
func (c client4) discovery(xid uint32, secs time.Duration, taken netip.Addr) *packet {
	p := c.wishes(c.message(dhcpv4.MessageTypeDiscover, xid, secs, netip.Addr{}))
	if c.request.Request != taken {
		requested(p, c.request.Request)
	}
	return &packet{payload: p.ToBytes()}
}

func (c client4) asking(xid uint32, secs time.Duration, offer *model.Lease) *packet {
	p := c.wishes(c.message(dhcpv4.MessageTypeRequest, xid, secs, netip.Addr{}))
	requested(p, offer.Addr.Addr())
	p.UpdateOption(dhcpv4.OptServerIdentifier(offer.Server.AsSlice()))
	return &packet{payload: p.ToBytes()}
}

func (c client4) reboot(xid uint32, secs time.Duration, l *model.Lease) *packet {
	p := c.wishes(c.message(dhcpv4.MessageTypeRequest, xid, secs, netip.Addr{}))
	requested(p, l.Addr.Addr())
	return &packet{payload: p.ToBytes()}
}

func (c client4) renewal(xid uint32, secs time.Duration, l *model.Lease) *packet {
	p := c.wishes(c.message(dhcpv4.MessageTypeRequest, xid, secs, l.Addr.Addr()))
	return &packet{payload: p.ToBytes(), from: l.Addr.Addr(), to: l.Server, via: l.Via}
}

func (c client4) rebind(xid uint32, secs time.Duration, l *model.Lease) *packet {
	p := c.renewal(xid, secs, l)
	return &packet{payload: p.payload, from: p.from}
}

func (c client4) decline(xid uint32, l *model.Lease) *packet {
	p := c.message(dhcpv4.MessageTypeDecline, xid, 0, netip.Addr{})
	requested(p, l.Addr.Addr())
	p.UpdateOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice()))
	return &packet{payload: p.ToBytes()}
}

func (c client4) release(xid uint32, l *model.Lease) *packet {
	p := c.message(dhcpv4.MessageTypeRelease, xid, 0, l.Addr.Addr())
	p.UpdateOption(dhcpv4.OptServerIdentifier(l.Server.AsSlice()))
	return &packet{payload: p.ToBytes(), from: l.Addr.Addr(), to: l.Server, via: l.Via, urgent: true}
}

// lease4 reads what a server offers or gives. An error says what is wrong with
// it, and with which server.
func lease4(p *dhcpv4.DHCPv4, from sender, now time.Time) (*model.Lease, error) {
	server := address(p.ServerIdentifier())
	bad := func(format string, args ...any) (*model.Lease, error) {
		who := from.addr
		if server.IsValid() {
			who = server
		}
		return nil, fmt.Errorf("server %s: "+format, append([]any{who}, args...)...)
	}
	if !ofHost(server) {
		return bad("does not say who it is")
	}
	a := address(p.YourIPAddr)
	if !ofHost(a) || a.IsLinkLocalUnicast() {
		return bad("offers %s, which is no address of a host", a)
	}
	prefix, ok := mask4(a, p.Options.Get(dhcpv4.OptionSubnetMask))
	if !ok {
		return bad("offers %s with the mask %x", a, p.Options.Get(dhcpv4.OptionSubnetMask))
	}
	if err := model.CheckOutside(prefix); err != nil {
		return bad("offers %w", err)
	}
	l := &model.Lease{Addr: prefix, Server: server, Via: from.mac, Obtained: now}
	if !times4(l, p) {
		return bad("offers %s for no time", a)
	}
	l.Router, l.Routes = ways4(p, prefix)
	l.DNS = hosts(p.DNS())
	l.Search = domains4(p)
	if b := p.Options.Get(dhcpv4.OptionInterfaceMTU); len(b) == 2 {
		if n := int(binary.BigEndian.Uint16(b)); n >= leastMTU {
			l.MTU = n
		}
	}
	return l, nil
}

// leastMTU is what every host takes (RFC 791), in bytes. Servers may say less
// (RFC 2132, section 5.1), which serves nobody.
const leastMTU = 576

// mask4 returns a with its subnet's length: the mask's, or that of its class
// without one (RFC 950).
func mask4(a netip.Addr, mask []byte) (netip.Prefix, bool) {
	bits := 0
	switch b := a.As4()[0]; {
	case mask != nil && len(mask) != 4:
		return netip.Prefix{}, false
	case mask != nil:
		ones, size := net.IPMask(mask).Size()
		if size == 0 || ones == 0 {
			return netip.Prefix{}, false
		}
		bits = ones
	case b < 128:
		bits = 8
	case b < 192:
		bits = 16
	default:
		bits = 24
	}
	return netip.PrefixFrom(a, bits), true
}

// infinite is the time that never ends (RFC 2131, section 3.3), in seconds.
const infinite = 1<<32 - 1

// times4 sets how long a lease is good, and when it is to be renewed.
func times4(l *model.Lease, p *dhcpv4.DHCPv4) bool {
	seconds := func(code dhcpv4.OptionCode) (uint32, bool) {
		b := p.Options.Get(code)
		if len(b) != 4 {
			return 0, false
		}
		return binary.BigEndian.Uint32(b), true
	}
	n, _ := seconds(dhcpv4.OptionIPAddressLeaseTime)
	if n == 0 {
		return false
	}
	if n == infinite {
		return true
	}
	whole := time.Duration(n) * time.Second
	t1, t2 := whole/2, whole*7/8 // RFC 2131, section 4.4.5
	a, has1 := seconds(dhcpv4.OptionRenewTimeValue)
	b, has2 := seconds(dhcpv4.OptionRebindingTimeValue)
	if has1 && has2 && 0 < a && a < b && b < n {
		t1, t2 = time.Duration(a)*time.Second, time.Duration(b)*time.Second
	}
	l.Renew, l.Rebind, l.Expires = l.Obtained.Add(t1), l.Obtained.Add(t2), l.Obtained.Add(whole)
	return true
}

// maxRoutes are taken of a server, and maxServers for names.
const (
	maxRoutes  = 64
	maxServers = 4
)

// ways4 returns the router and the other routes: the classless ones if there are
// any, which make the others void (RFC 3442).
func ways4(p *dhcpv4.DHCPv4, own netip.Prefix) (router netip.Addr, routes []model.Route) {
	near := func(a netip.Addr) bool { return ofHost(a) && a != own.Addr() && (own.Contains(a) || own.IsSingleIP()) }
	classless := p.ClasslessStaticRoute()
	if len(classless) == 0 {
		if all := p.Router(); len(all) > 0 && near(address(all[0])) {
			router = address(all[0])
		}
		return router, classful(p.Options.Get(dhcpv4.OptionStaticRoutingTable), near)
	}
	for _, r := range classless[:min(len(classless), maxRoutes)] {
		ones, _ := r.Dest.Mask.Size()
		dst, via := netip.PrefixFrom(address(r.Dest.IP), ones).Masked(), address(r.Router)
		switch {
		case !dst.IsValid() || ones > 0 && !ofHost(dst.Addr()):
		case ones == 0 && !router.IsValid() && near(via):
			router = via
		case ones > 0 && via.IsUnspecified():
			routes = add(routes, model.Route{Dst: dst}, own)
		case ones > 0 && (near(via) || onLink(routes, via)):
			routes = add(routes, model.Route{Dst: dst, Via: via}, own)
		}
	}
	return router, routes
}

// classful reads pairs of a destination and a router (RFC 2132, section 5.8). A
// destination is a network of its class, or a host.
func classful(b []byte, near func(netip.Addr) bool) []model.Route {
	var out []model.Route
	for ; len(b) >= 8 && len(out) < maxRoutes; b = b[8:] {
		dst, via := netip.AddrFrom4([4]byte(b[:4])), netip.AddrFrom4([4]byte(b[4:8]))
		if !ofHost(dst) || !near(via) {
			continue
		}
		to, _ := mask4(dst, nil)
		if to != to.Masked() {
			to = netip.PrefixFrom(dst, 32)
		}
		out = add(out, model.Route{Dst: to, Via: via}, netip.Prefix{})
	}
	return out
}

// add adds a route to a destination that is new, and no part of the link.
func add(list []model.Route, r model.Route, own netip.Prefix) []model.Route {
	if r.Dst == own.Masked() || slices.ContainsFunc(list, func(o model.Route) bool { return o.Dst == r.Dst }) {
		return list
	}
	return append(list, r)
}

// onLink reports whether a route says that a is on the link.
func onLink(list []model.Route, a netip.Addr) bool {
	return slices.ContainsFunc(list, func(r model.Route) bool { return !r.Via.IsValid() && r.Dst.Contains(a) })
}

// domains4 returns the domains to search (RFC 3397), or else the domain.
func domains4(p *dhcpv4.DHCPv4) []string {
	if labels := p.DomainSearch(); labels != nil {
		return domains(labels.Labels)
	}
	return domains([]string{p.DomainName()})
}

// domains returns those that may stand in a resolv.conf: a server may write
// anything.
func domains(list []string) []string {
	var out []string
	for _, name := range list {
		name = strings.TrimSuffix(strings.TrimRight(name, "\x00"), ".")
		if model.CheckHostname(name) == nil && len(out) < maxServers {
			out = append(out, name)
		}
	}
	return out
}

// hosts returns the addresses that hosts can have.
func hosts(list []net.IP) []netip.Addr {
	var out []netip.Addr
	for _, ip := range list {
		if a := address(ip); ofHost(a) && !slices.Contains(out, a) && len(out) < maxServers {
			out = append(out, a)
		}
	}
	return out
}

// address returns an address of the library's, or the zero one.
func address(ip net.IP) netip.Addr {
	a, _ := netip.AddrFromSlice(ip)
	return a.Unmap()
}

// ofHost reports whether an address may be one of a host on the wire.
func ofHost(a netip.Addr) bool {
	return a.IsValid() && !a.IsUnspecified() && !a.IsLoopback() && !a.IsMulticast() &&
		!(a.Is4() && (a.As4()[0] == 0 || a.As4()[0] >= 240))
}
