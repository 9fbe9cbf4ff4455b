package model

import (
	"encoding/hex"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"time"
)

// DHCP is what an endpoint asks DHCP servers for in one address family, and what
// it has from one. A value is never changed: endpoints share it with their copies.
type DHCP struct {
	Hostname    string       `json:"hostname,omitempty"` // told to the server
	ClientID    []byte       `json:"clientID,omitempty"` // option 61 of IPv4 (RFC 2132), the DUID of IPv6 (RFC 8415)
	Request     netip.Addr   `json:"request,omitzero"`   // the address that is preferred
	VendorClass string       `json:"vendorClass,omitempty"`
	Options     []DHCPOption `json:"options,omitempty"` // sent as they are
	Lease       *Lease       `json:"lease,omitempty"`   // nil: none yet
}

// DHCPOption is an option of DHCP as it is sent.
type DHCPOption struct {
	Code  uint16 `json:"code"`
	Value []byte `json:"value"`
}

// Lease is what a DHCP server gave an endpoint in one address family.
type Lease struct {
	Addr     netip.Prefix `json:"addr"`
	Server   netip.Addr   `json:"server,omitzero"`    // where the answer came from
	ServerID []byte       `json:"serverID,omitempty"` // the server's DUID, of IPv6
	Via      string       `json:"via,omitempty"`      // hardware address that the answer came from: the server's or a relay's
	Router   netip.Addr   `json:"router,omitzero"`
	Routes   []Route      `json:"routes,omitempty"`
	DNS      []netip.Addr `json:"dns,omitempty"`
	Search   []string     `json:"search,omitempty"`
	MTU      int          `json:"mtu,omitempty"` // bytes; 0: the server said none

	Obtained time.Time `json:"obtained"`
	Renew    time.Time `json:"renew,omitzero"`   // T1: when the server is asked again; never if zero
	Rebind   time.Time `json:"rebind,omitzero"`  // T2: when any server is
	Expires  time.Time `json:"expires,omitzero"` // never if zero
}

// Valid reports whether the lease may be used at a time.
func (l *Lease) Valid(now time.Time) bool {
	return l != nil && (l.Expires.IsZero() || now.Before(l.Expires))
}

// DHCP returns what the endpoint asks DHCP servers for in a family, or nil.
func (e *Endpoint) DHCP(is6 bool) *DHCP {
	if is6 {
		return e.DHCP6
	}
	return e.DHCP4
}

// SetDHCP is its counterpart.
func (e *Endpoint) SetDHCP(is6 bool, d *DHCP) {
	if is6 {
		e.DHCP6 = d
	} else {
		e.DHCP4 = d
	}
}

// Lease returns what the endpoint has from a DHCP server in a family, or nil.
func (e *Endpoint) Lease(is6 bool) *Lease {
	if d := e.DHCP(is6); d != nil {
		return d.Lease
	}
	return nil
}

// Leased reports whether the endpoint's own way out of a family is what a DHCP
// server said, not its user.
func (e *Endpoint) Leased(is6 bool) bool {
	l := e.Lease(is6)
	return l != nil && l.Router.IsValid() && l.Router == e.Router(is6)
}

// Speaks6 reports whether the endpoint needs IPv6 on its interface: it has an
// address, or a DHCP server is asked for one.
func (e *Endpoint) Speaks6() bool { return e.Has(true) || e.DHCP6 != nil }

// Auto reports whether the endpoint's IPv6 is left to its kernel and the routers of the
// link: nobody here gives addresses of the network, and none is asked of a DHCP server.
func (e *Endpoint) Auto(n *Network) bool {
	return n.Options.NoIPAM && n.OwnMAC() && !e.Speaks6()
}

// SetLease gives the endpoint what a DHCP server said, in place of what it had
// from one in that family; nil takes that away. What the user chose stays: a
// router, an MTU, routes. most is the largest MTU in bytes that the network takes;
// with keepRouter the server's router is not used.
func (e *Endpoint) SetLease(is6 bool, l *Lease, most int, keepRouter bool) {
	d := *e.DHCP(is6)
	if old := d.Lease; old != nil {
		e.Outside = without(e.Outside, func(p netip.Prefix) bool { return p == old.Addr })
		e.Routers = without(e.Routers, func(a netip.Addr) bool { return a == old.Router })
		e.Routes = without(e.Routes, func(r Route) bool { return slices.Contains(old.Routes, r) })
		if e.MTU == old.MTU {
			e.MTU = 0
		}
	}
	d.Lease = l
	e.SetDHCP(is6, &d)
	if l == nil {
		return
	}
	e.Outside = append(slices.Clip(e.Outside), l.Addr)
	if l.Router.IsValid() && !keepRouter && !e.Router(is6).IsValid() {
		e.Routers = append(slices.Clip(e.Routers), l.Router)
	}
	for _, r := range l.Routes {
		if !slices.ContainsFunc(e.Routes, func(o Route) bool { return o.Dst == r.Dst }) {
			e.Routes = append(slices.Clip(e.Routes), r)
		}
	}
	if l.MTU != 0 && l.MTU <= most && e.MTU == 0 {
		e.MTU = l.MTU
	}
}

// without returns a copy of list without what is meant.
func without[T any](list []T, meant func(T) bool) []T {
	return slices.DeleteFunc(slices.Clone(list), meant)
}

// LeasedDNS returns the name servers that DHCP servers told the sandbox's
// endpoints, and the domains to search. Those of endpoints with a higher
// priority come first.
func (s *Sandbox) LeasedDNS() DNS {
	eps := slices.Clone(s.Endpoints)
	slices.SortStableFunc(eps, func(a, b Endpoint) int { return b.Priority - a.Priority })
	var d DNS
	for i := range eps {
		for _, is6 := range []bool{false, true} {
			l := eps[i].Lease(is6)
			if l == nil {
				continue
			}
			for _, a := range l.DNS {
				if !slices.Contains(d.Servers, a) {
					d.Servers = append(d.Servers, a)
				}
			}
			for _, name := range l.Search {
				if !slices.Contains(d.Search, name) {
					d.Search = append(d.Search, name)
				}
			}
		}
	}
	return d
}

// DHCPOptions are the endpoint options about DHCP.
type DHCPOptions struct {
	Hostname    string
	ClientID    []byte
	DUID        []byte
	Request     []netip.Addr // at most one of each family
	VendorClass string
	Options4    []DHCPOption
	Options6    []DHCPOption
	// Timeout is how long the first answer is waited for; 0 is the default.
	Timeout time.Duration
}

// endpointDAD is the endpoint option that turns duplicate address detection off.
const endpointDAD = "dad"

// The names of endpoint options about DHCP.
const (
	dhcpHostname    = "dhcp-hostname"
	dhcpClientID    = "dhcp-client-id"
	dhcpDUID        = "dhcp-duid"
	dhcpRequest     = "dhcp-request"
	dhcpVendorClass = "dhcp-vendor-class"
	dhcpOption4     = "dhcp-option"
	dhcpOption6     = "dhcp6-option"
	dhcpTimeout     = "dhcp-timeout"
	dhcpKeys        = dhcpClientID + ", " + dhcpDUID + ", " + dhcpHostname + ", " + dhcpOption4 + ", " + dhcpOption6 + ", " +
		dhcpRequest + ", " + dhcpTimeout + ", " + dhcpVendorClass
)

// Given reports whether any of them is given.
func (o DHCPOptions) Given() bool {
	return o.Hostname != "" || len(o.ClientID)+len(o.DUID)+len(o.Request)+len(o.Options4)+len(o.Options6) > 0 ||
		o.VendorClass != "" || o.Timeout != 0
}

// Of returns the request of a family.
func (o DHCPOptions) Of(is6 bool) *DHCP {
	d := &DHCP{Hostname: o.Hostname, ClientID: o.ClientID, VendorClass: o.VendorClass, Options: o.Options4}
	if is6 {
		d.ClientID, d.Options = o.DUID, o.Options6
	}
	for _, a := range o.Request {
		if a.Is6() == is6 {
			d.Request = a
		}
	}
	return d
}

// set sets one of them by its name.
func (o *DHCPOptions) set(name, v string) (err error) {
	switch name {
	case dhcpHostname:
		o.Hostname = v
		err = CheckHostname(v)
	case dhcpClientID:
		o.ClientID, err = parseClientID(v)
	case dhcpDUID:
		if o.DUID, err = parseHex(v); err == nil && (len(o.DUID) < 3 || len(o.DUID) > 130) {
			err = fmt.Errorf("%q: want 3 to 130 bytes (RFC 8415, section 11.1)", v)
		}
	case dhcpRequest:
		o.Request, err = parseRouters(v)
	case dhcpVendorClass:
		o.VendorClass = v
		if v == "" || len(v) > 255 || !printable(v) {
			err = fmt.Errorf("%q: want 1 to 255 printable bytes", v)
		}
	case dhcpOption4:
		o.Options4, err = parseDHCPOptions(v, 254, ours4)
	case dhcpOption6:
		o.Options6, err = parseDHCPOptions(v, 65535, ours6)
	case dhcpTimeout:
		o.Timeout, err = parseTimeout(v)
	}
	return err
}

// Options that the protocol itself needs, or that have a name here: of IPv4 (RFC
// 2132) pad, host name, address, time, overload, type, server, parameters,
// message, size, T1, T2, class, client, relay (RFC 3046); of IPv6 (RFC 8415) all
// up to the interface's ID, but for the user's and the vendor's, and the name (RFC
// 4704).
var (
	ours4 = []uint16{0, 12, 50, 51, 52, 53, 54, 55, 56, 57, 58, 59, 60, 61, 82}
	ours6 = []uint16{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 11, 12, 13, 14, 16, 18, 19, 20, 39}
)

// parseDHCPOptions reads CODE:HEX,….
func parseDHCPOptions(text string, last int, ours []uint16) ([]DHCPOption, error) {
	var out []DHCPOption
	for one := range strings.SplitSeq(text, ",") {
		code, value, ok := strings.Cut(one, ":")
		n, err := number(code, 1, last, "")
		if !ok || err != nil {
			return nil, fmt.Errorf("%q: want CODE:HEX with a code of 1 to %d", one, last)
		}
		o := DHCPOption{Code: uint16(n)}
		if o.Value, err = parseHex(value); err != nil {
			return nil, err
		}
		switch {
		case slices.Contains(ours, o.Code):
			return nil, fmt.Errorf("%d: is part of the protocol, or has an option of its own", n)
		case len(o.Value) > 255:
			return nil, fmt.Errorf("%d: %d bytes, at most 255", n, len(o.Value))
		case slices.ContainsFunc(out, func(b DHCPOption) bool { return b.Code == o.Code }):
			return nil, fmt.Errorf("%d: is there twice", n)
		}
		out = append(out, o)
	}
	return out, nil
}

// parseHex reads bytes as 0a0b or 0a:0b.
func parseHex(text string) ([]byte, error) {
	b, err := hex.DecodeString(strings.ReplaceAll(text, ":", ""))
	if err != nil {
		return nil, fmt.Errorf("%q: want bytes as 0a:0b:0c", text)
	}
	return b, nil
}

// parseClientID reads bytes as 01:0a:0b, or takes the text as it is.
func parseClientID(text string) ([]byte, error) {
	b, err := parseHex(text)
	if err != nil || !strings.Contains(text, ":") {
		b = []byte(text)
	}
	if len(b) < 2 || len(b) > 255 || !printable(text) {
		return nil, fmt.Errorf("%q: want 2 to 255 bytes, as text or as 01:0a:0b", text)
	}
	return b, nil
}

// parseTimeout reads a time as 5s, or a number of seconds.
func parseTimeout(text string) (time.Duration, error) {
	d, err := time.ParseDuration(text)
	if n, errN := strconv.ParseUint(text, 10, 16); errN == nil {
		d, err = time.Duration(n)*time.Second, nil
	}
	if err != nil || d < time.Second || d > 10*time.Minute {
		return 0, errors.New(strconv.Quote(text) + ": want 1s to 10m")
	}
	return d, nil
}
