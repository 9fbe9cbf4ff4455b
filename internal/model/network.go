package model

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
	"time"
)

// Network is a network as its user wants it.
type Network struct {
	ID       ID                `json:"id"`
	Name     string            `json:"name"`
	Driver   string            `json:"driver"` // one of the drivers', or DriverPool
	Subnets  []Subnet          `json:"subnets"`
	Internal bool              `json:"internal"` // no way out, no way in
	Options  Options           `json:"options"`
	Labels   map[string]string `json:"labels,omitempty"`
	Shards   int               `json:"shards,omitempty"` // bridges besides the first, see Bridge
	Tagged   bool              `json:"tagged,omitempty"` // an endpoint on its bridge has had a VLAN of its own, see Sorts
	Lanes    []int             `json:"lanes,omitempty"`  // VLANs that are bridges of their own, in order: see Ways
	Origin   string            `json:"origin,omitempty"` // the protocol it was asked for by, and goes by; empty for our own API
	Waiting  []Waiting         `json:"waiting,omitempty"`
	Fabric   *Fabric           `json:"fabric,omitempty"`  // of driver fabric: its parts on other hosts; never changed, but replaced
	Overlay  *Overlay          `json:"overlay,omitempty"` // of driver overlay: its parts on other hosts
	Docker   ID                `json:"docker,omitempty"`  // of one over hosts: the network of Docker's on this host that it is too
	Chosen   bool              `json:"chosen,omitempty"`  // of driver pool: any subnet was asked for
	Created  time.Time         `json:"created"`
}

// Waiting is an endpoint that a container engine has named, and has put into no
// container yet. What it will have is nobody else's.
type Waiting struct {
	ID    ID           `json:"id"`
	Addrs []netip.Addr `json:"addrs"`
	MAC   string       `json:"mac"`
	// Services are those that it will be a backend of.
	Services []Membership `json:"services,omitempty"`
}

// Ref names the endpoint in errors.
func (w *Waiting) Ref() string { return "endpoint " + string(w.ID) }

// Subnet is one pool of a network's addresses. Dual stack is two subnets.
type Subnet struct {
	Prefix  netip.Prefix          `json:"prefix"`         // masked
	Gateway netip.Addr            `json:"gateway"`        // on the bridge; the default route. Zero: none
	Range   netip.Prefix          `json:"range,omitzero"` // automatic addresses come from here
	Aux     map[string]netip.Addr `json:"aux,omitempty"`  // addresses that others use
	// Lent are addresses that a container engine holds: its own containers may
	// have them, nobody else.
	Lent []netip.Addr `json:"lent,omitempty"`
	// Theirs, if valid, is what a container engine gives out addresses of without
	// a word here, from its beginning: automatic ones come from the subnet's end,
	// of Theirs when nothing else is left.
	Theirs netip.Prefix `json:"theirs,omitzero"`
}

// The drivers.
const (
	DriverBridge  = "bridge"
	DriverMacvlan = "macvlan"
	DriverIPvlan  = "ipvlan"
	DriverOVS     = "ovs"
	DriverPhys    = "phys"
)

// ByHost reports whether what containers of the network send elsewhere, and what
// is sent to them, goes through the host, which judges it. A network that is not
// so is a wire: others are on it too, and how to leave it is a router's business.
func (n *Network) ByHost() bool { return n.Bridged() && len(n.Subnets) > 0 && !n.Wired() }

// Bridged reports whether endpoints are ports of a bridge of the network's own on
// this host.
func (n *Network) Bridged() bool {
	return n.Driver == DriverBridge || n.Driver == DriverFabric || n.Driver == DriverOverlay
}

// Drivers returns the names of the drivers that networks can have.
func Drivers() []string {
	return []string{DriverBridge, DriverMacvlan, DriverIPvlan, DriverOVS, DriverPhys, DriverFabric, DriverOverlay}
}

// DriverPool is the driver of what is no network yet: a subnet that a container
// engine holds, to give it to a network of ours or of its own.
const DriverPool = "pool"

// Whose returns the protocol that the network is removed by, and containers of that
// engine join it by; "" is our own API.
func (n *Network) Whose() string {
	if n.Docker != "" {
		return OriginDocker
	}
	return n.Origin
}

// Ref names the network in errors.
func (n *Network) Ref() string { return "network " + n.Name }

// Device returns the name of the network's bridge: Base, or the one of its VLAN
// where that has one of its own.
func (n *Network) Device() string {
	if v := n.Options.VLAN; n.HasLane(v) {
		return n.laneBridge(v)
	}
	return n.Base()
}

// Base returns the name of the bridge that all VLANs of the network are on: the
// option, or one made of the ID.
func (n *Network) Base() string {
	if n.Options.Device != "" {
		return n.Options.Device
	}
	return n.plainBridge()
}

func (n *Network) plainBridge() string { return "slb" + string(n.ID) }

// Subnet returns the first subnet of a family, or false. Networks on a parent may have
// more of it.
func (n *Network) Subnet(is6 bool) (Subnet, bool) {
	for _, s := range n.Subnets {
		if s.Prefix.Addr().Is6() == is6 {
			return s, true
		}
	}
	return Subnet{}, false
}

// SubnetWith returns the subnet that contains a, or else the first of its family, or
// false.
func (n *Network) SubnetWith(a netip.Addr) (Subnet, bool) {
	for _, s := range n.Subnets {
		if s.Prefix.Contains(a) {
			return s, true
		}
	}
	return n.Subnet(a.Is6())
}

// SubnetOf returns the index of this host's subnet of a fabric's whole prefix, or -1.
func (n *Network) SubnetOf(whole netip.Prefix) int {
	if n.Fabric == nil || !slices.Contains(n.Fabric.Whole, whole) {
		return -1
	}
	return slices.IndexFunc(n.Subnets, func(s Subnet) bool { return s.Prefix.Addr().Is6() == whole.Addr().Is6() })
}

// WaitingFor returns the endpoint that waits under an ID, or nil.
func (n *Network) WaitingFor(id ID) *Waiting {
	for i := range n.Waiting {
		if n.Waiting[i].ID == id {
			return &n.Waiting[i]
		}
	}
	return nil
}

// Mode returns the gateway mode of a family, never "".
func (n *Network) Mode(is6 bool) GatewayMode {
	if is6 {
		return cmp.Or(n.Options.Mode6, GatewayNAT)
	}
	return cmp.Or(n.Options.Mode4, GatewayNAT)
}

// TakesGateway reports whether a subnet of a family has a gateway address at
// all. Without one, both addresses of a /31 are for containers.
func (n *Network) TakesGateway(is6 bool) bool {
	return n.Mode(is6) != GatewayIsolated && !(n.Internal && !is6 && n.Options.Inhibit4)
}

// OnBridge reports whether the gateway address of a family is the bridge's.
func (n *Network) OnBridge(is6 bool) bool {
	return n.TakesGateway(is6) && (is6 || !n.Options.Inhibit4)
}

// checkModes reports options that contradict the network or each other.
func (n *Network) checkModes() error {
	for _, is6 := range []bool{false, true} {
		_, has := n.Subnet(is6)
		switch m := n.Mode(is6); {
		case m == GatewayIsolated && !n.Internal:
			return fmt.Errorf("gateway-mode isolated: only an internal network can be isolated, with --internal")
		case n.Internal && (m == GatewayRouted || m == GatewayOpen):
			return fmt.Errorf("gateway-mode %s: an internal network has no way out", m)
		case !has && m != GatewayNAT && m != n.Mode(!is6): // gateway-mode is for those there are
			return fmt.Errorf("gateway-mode-%s %s: the network has no subnet of that family", map[bool]string{false: "ipv4", true: "ipv6"}[is6], m)
		}
		if a, ok := n.Options.Source(is6); ok {
			switch {
			case !has:
				return fmt.Errorf("option source-ip: %s: the network has no subnet of that family", a)
			case n.Internal:
				return fmt.Errorf("option source-ip: %s: an internal network has no way out", a)
			case !n.Mode(is6).NAT():
				return fmt.Errorf("option source-ip: %s: gateway-mode %s leaves packets the container's own address", a, n.Mode(is6))
			}
		}
	}
	return nil
}

// Limits of labels, in bytes: tools write whole documents into the values.
const (
	maxLabelKey   = 255
	maxLabelValue = 64 << 10
)

// checkLabels looks at what lists and templates print.
func (n *Network) checkLabels() error {
	for _, k := range slices.Sorted(maps.Keys(n.Labels)) {
		switch v := n.Labels[k]; {
		case k == "" || len(k) > maxLabelKey || !printable(k) || strings.TrimSpace(k) != k:
			return fmt.Errorf("label %q: want a KEY of 1 to %d printable bytes, without spaces around", k, maxLabelKey)
		case len(v) > maxLabelValue || !printable(v):
			return fmt.Errorf("label %s: value %q: want one line of at most %d bytes", k, v, maxLabelValue)
		}
	}
	return nil
}

// Validate reports the first thing that makes n impossible on any host.
func (n *Network) Validate() error {
	bad := func(format string, args ...any) *Error { return Errorf(Invalid, n.Ref(), "create", format, args...) }
	if err := CheckName(n.Name); err != nil {
		return bad("%w", err)
	}
	if len(n.Subnets) == 0 && !n.Options.NoIPAM {
		return bad("no subnet: both address families are off")
	}
	seen := map[bool]bool{}
	for i, s := range n.Subnets {
		if err := s.Validate(); err != nil {
			return bad("%w", err)
		}
		is6 := s.Prefix.Addr().Is6()
		if seen[is6] && !n.OnParent() {
			return bad("subnet %s: a %s network takes one subnet of each address family", s.Prefix, n.Driver)
		}
		for _, o := range n.Subnets[:i] {
			if s.Prefix.Overlaps(o.Prefix) {
				return bad("subnet %s: overlaps %s of the same network", s.Prefix, o.Prefix)
			}
		}
		seen[is6] = true
	}
	for _, check := range []func() error{n.checkLabels, n.Options.Validate} {
		if err := check(); err != nil {
			return bad("%w", err)
		}
	}
	for _, check := range []func() error{n.checkNoIPAM, n.checkModes, n.checkParent, n.checkVLANs, n.checkPort, n.checkLanes, n.checkNIC, n.checkOverlay} {
		if err := check(); err != nil {
			return bad("%w", err)
		}
	}
	if m := n.Options.MTU; m != 0 && m < 1280 && seen[true] {
		return bad("mtu %d: IPv6 needs at least 1280 (RFC 8200)", m)
	}
	return nil
}

// notForHosts are addresses that no network has: "this host", loopback,
// multicast, and link-local ones of IPv6 (RFC 6890, RFC 5771, RFC 4291).
var notForHosts = []netip.Prefix{
	netip.MustParsePrefix("0.0.0.0/8"), netip.MustParsePrefix("127.0.0.0/8"), netip.MustParsePrefix("224.0.0.0/4"),
	netip.MustParsePrefix("::/127"), netip.MustParsePrefix("fe80::/10"), netip.MustParsePrefix("ff00::/8"),
}

// Validate reports the first thing that makes s impossible.
func (s Subnet) Validate() error {
	p := s.Prefix
	switch {
	case !p.IsValid():
		return fmt.Errorf("subnet: missing")
	case p != p.Masked():
		return fmt.Errorf("subnet %s: host bits are set, should be %s", p, p.Masked())
	case p.Addr().Is4In6():
		return fmt.Errorf("subnet %s: write an IPv4 subnet as IPv4", p)
	case p.Addr().Is6() && p.Addr().IsLinkLocalUnicast():
		return fmt.Errorf("subnet %s: link-local addresses are the same on every network", p)
	case slices.ContainsFunc(notForHosts, p.Overlaps):
		return fmt.Errorf("subnet %s: not a subnet for hosts", p)
	case p.Addr().BitLen()-p.Bits() < 1:
		return fmt.Errorf("subnet %s: no room for a gateway and a container", p)
	}
	if s.Gateway.IsValid() {
		if err := s.usable(s.Gateway); err != nil {
			return fmt.Errorf("gateway %w", err)
		}
	}
	if r := s.Range; r.IsValid() {
		if r != r.Masked() {
			return fmt.Errorf("ip-range %s: host bits are set, should be %s", r, r.Masked())
		}
		if r.Bits() < p.Bits() || !p.Contains(r.Addr()) {
			return fmt.Errorf("ip-range %s: not inside subnet %s", r, p)
		}
	}
	used := map[netip.Addr]string{s.Gateway: "the gateway"}
	for _, name := range slices.Sorted(maps.Keys(s.Aux)) {
		a := s.Aux[name]
		if name == "" || len(name) > maxLabelKey || !printable(name) {
			return fmt.Errorf("aux-address %q=%s: want a NAME of 1 to %d printable bytes", name, a, maxLabelKey)
		}
		if err := s.usable(a); err != nil {
			return fmt.Errorf("aux-address %s=%w", name, err)
		}
		if name == auxGateway4 && a.Is6() || name == auxGateway6 && a.Is4() {
			return fmt.Errorf("aux-address %s=%s: is of the other address family", name, a)
		}
		if by, ok := used[a]; ok {
			return fmt.Errorf("aux-address %s=%s: is %s already", name, a, by)
		}
		used[a] = "aux-address " + name
	}
	return nil
}

// The names of auxiliary addresses that Docker gives a meaning: they are the
// containers' default route instead of the bridge's address.
const (
	auxGateway4 = "DefaultGatewayIPv4"
	auxGateway6 = "DefaultGatewayIPv6"
)

// Router returns the address that containers send to what is not on the
// subnet: the gateway, or the auxiliary address that stands for it.
func (s Subnet) Router() netip.Addr {
	name := auxGateway4
	if s.Prefix.Addr().Is6() {
		name = auxGateway6
	}
	if a, ok := s.Aux[name]; ok {
		return a
	}
	return s.Gateway
}

// usable reports why a cannot be a host's address in s. The cause starts with
// the address.
func (s Subnet) usable(a netip.Addr) error {
	switch {
	case !s.Prefix.Contains(a):
		return fmt.Errorf("%s: outside subnet %s", a, s.Prefix)
	case s.Reserved(a):
		return fmt.Errorf("%s: is the network or broadcast address of %s", a, s.Prefix)
	}
	return nil
}

// Reserved reports whether a may not be given to a host: the network address
// and the IPv4 broadcast address, neither in a /31 (RFC 3021) or /127 (RFC 6164).
func (s Subnet) Reserved(a netip.Addr) bool {
	if s.Prefix.Addr().BitLen()-s.Prefix.Bits() <= 1 {
		return false
	}
	return a == s.Prefix.Addr() || a.Is4() && a == Last(s.Prefix)
}

// Last returns the highest address of p.
func Last(p netip.Prefix) netip.Addr {
	if p.Addr().Is4() {
		b := p.Addr().As4()
		fill(b[:], p.Bits())
		return netip.AddrFrom4(b)
	}
	b := p.Addr().As16()
	fill(b[:], p.Bits())
	return netip.AddrFrom16(b)
}

// fill sets all bits of b after the first ones.
func fill(b []byte, first int) {
	for i := first / 8; i < len(b); i++ {
		b[i] |= 0xff >> max(first-8*i, 0)
	}
}
