// Package flannel speaks Flannel's words in a cluster's store: the config that the
// hosts of a fabric share, their leases of subnets, and subnet.env. Hosts that run
// flanneld and hosts that run Sealane are of one fabric.
//
//	PREFIX/config                                   {"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}
//	PREFIX/subnets/10.5.34.0-24                     {"PublicIP":"192.168.0.2","PublicIPv6":null,…}
//	PREFIX/subnets/10.5.34.0-24&fd10:10:0:3b::-64
//
// The words are those of flannel v0.28: pkg/subnet, pkg/lease and pkg/backend.
package flannel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
	"time"
)

// Subnet is what one host has a lease of: a prefix of each family that is enabled,
// and the zero prefix of the other.
type Subnet struct{ V4, V6 netip.Prefix }

// IsZero says whether there is none.
func (s Subnet) IsZero() bool { return !s.V4.IsValid() && !s.V6.IsValid() }

// Prefixes returns the one or two.
func (s Subnet) Prefixes() []netip.Prefix {
	var out []netip.Prefix
	for _, p := range []netip.Prefix{s.V4, s.V6} {
		if p.IsValid() {
			out = append(out, p)
		}
	}
	return out
}

// String is for people.
func (s Subnet) String() string {
	var text []string
	for _, p := range s.Prefixes() {
		text = append(text, p.String())
	}
	return strings.Join(text, " and ")
}

// Overlaps says whether the two share an address.
func (s Subnet) Overlaps(o Subnet) bool { return overlap(s.V4, o.V4) || overlap(s.V6, o.V6) }

func overlap(a, b netip.Prefix) bool { return a.IsValid() && b.IsValid() && a.Overlaps(b) }

// Compare orders subnets by their IPv4 prefix, then by the other.
func (s Subnet) Compare(o Subnet) int {
	if c := s.V4.Compare(o.V4); c != 0 {
		return c
	}
	return s.V6.Compare(o.V6)
}

// Key is its name under PREFIX/subnets/. Without IPv4 that begins with 0.0.0.0-0,
// for flanneld demands an IPv4 part.
func (s Subnet) Key() string {
	v4 := "0.0.0.0-0"
	if s.V4.IsValid() {
		v4 = fmt.Sprintf("%s-%d", s.V4.Addr(), s.V4.Bits())
	}
	if !s.V6.IsValid() {
		return v4
	}
	return fmt.Sprintf("%s&%s-%d", v4, s.V6.Addr(), s.V6.Bits())
}

// ParseKey reads such a name.
func ParseKey(key string) (Subnet, error) {
	v4, v6, both := strings.Cut(key, "&")
	var s Subnet
	var err error
	if s.V4, err = parseHalf(v4, netip.Addr.Is4, 31); err != nil {
		return Subnet{}, fmt.Errorf("%q: %w", v4, err)
	}
	if s.V4.Bits() == 0 {
		if !both || !s.V4.Addr().IsUnspecified() {
			return Subnet{}, fmt.Errorf("%q: an IPv4 prefix belongs there", v4)
		}
		s.V4 = netip.Prefix{}
	}
	if both {
		if s.V6, err = parseHalf(v6, func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() }, 127); err != nil || s.V6.Bits() == 0 {
			return Subnet{}, fmt.Errorf("%q: an IPv6 prefix belongs there", v6)
		}
	}
	return s, nil
}

// parseHalf reads ADDRESS-LENGTH. Lengths are as long as flanneld reads them.
func parseHalf(text string, family func(netip.Addr) bool, longest int) (netip.Prefix, error) {
	addr, length, _ := strings.Cut(text, "-")
	a, err := netip.ParseAddr(addr)
	if err != nil || !family(a) || a.Zone() != "" {
		return netip.Prefix{}, errors.New("ADDRESS-LENGTH belongs there")
	}
	bits, err := strconv.ParseUint(length, 10, 8)
	if err != nil || int(bits) > longest {
		return netip.Prefix{}, fmt.Errorf("a length up to %d belongs there", longest)
	}
	p := netip.PrefixFrom(a, int(bits))
	if p != p.Masked() {
		return netip.Prefix{}, fmt.Errorf("the subnet begins at %s", p.Masked().Addr())
	}
	return p, nil
}

// Value is what a host says of itself in its lease.
type Value struct {
	Public4       netip.Addr      // where its peers find it; zero without IPv4
	Public6       netip.Addr      // zero without IPv6
	BackendType   string          // of vxlan, host-gw, wireguard and extension; udp and alloc have none
	BackendData   json.RawMessage // IPv4; VXLANData, WireGuardData, or a string of the extension's; nil: none
	BackendV6Data json.RawMessage
	Node          *Node   // of Sealane's; nil: the host runs flanneld
	Others        []Field // somebody else's
}

// Node is what a host that runs Sealane adds under the name Sealane, which flanneld
// does not read.
type Node struct {
	ID     string    // of this host and no other
	Name   string    // for people
	Since  time.Time // when it took the subnet; zero: it does not say
	Others []Field   // of later versions
}

// valueText is a value as it is written, in flanneld's order (pkg/lease/lease.go).
type valueText struct {
	PublicIP      string
	PublicIPv6    *string
	BackendType   string
	BackendData   json.RawMessage
	BackendV6Data json.RawMessage
	Sealane       json.RawMessage
}

// ParseValue reads a lease's value. Who may say that there is for View to judge.
func ParseValue(text []byte) (Value, error) {
	var t valueText
	if err := decode(text, &t); err != nil {
		return Value{}, err
	}
	v := Value{BackendType: t.BackendType, BackendData: t.BackendData, BackendV6Data: t.BackendV6Data}
	var err error
	if v.Public4, err = parsePublic("PublicIP", t.PublicIP, "IPv4", netip.Addr.Is4); err != nil {
		return Value{}, err
	}
	if t.PublicIPv6 != nil {
		six := func(a netip.Addr) bool { return a.Is6() && !a.Is4In6() && a.Zone() == "" }
		if v.Public6, err = parsePublic("PublicIPv6", *t.PublicIPv6, "IPv6", six); err != nil {
			return Value{}, err
		}
	}
	if len(t.Sealane) > 0 {
		if v.Node, err = parseNode(t.Sealane); err != nil {
			return Value{}, fmt.Errorf("Sealane: %w", err)
		}
	}
	v.Others, err = others(text, "PublicIP", "PublicIPv6", "BackendType", "BackendData", "BackendV6Data", "Sealane")
	return v, err
}

// parsePublic reads an address. "0.0.0.0" is flanneld's word for none, "::" too.
func parsePublic(field, text, family string, is func(netip.Addr) bool) (netip.Addr, error) {
	if text == "" {
		return netip.Addr{}, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || !is(a) {
		return a, fmt.Errorf("%s: %q: an %s address belongs there", field, text, family)
	}
	if a.IsUnspecified() {
		return netip.Addr{}, nil
	}
	return a, nil
}

func parseNode(text []byte) (*Node, error) {
	var n struct {
		Node, Name string
		Since      time.Time
	}
	if err := decode(text, &n); err != nil {
		return nil, err
	}
	if n.Node == "" {
		return nil, errors.New("Node: missing: the host's ID")
	}
	rest, err := others(text, "Node", "Name", "Since")
	return &Node{n.Node, n.Name, n.Since, rest}, err
}

// Marshal writes the value as flanneld does, and ours and others' behind that.
func (v Value) Marshal() ([]byte, error) {
	var o object
	public4, public6 := "0.0.0.0", any(nil)
	if v.Public4.IsValid() {
		public4 = v.Public4.String()
	}
	if v.Public6.IsValid() {
		public6 = v.Public6
	}
	o.add("PublicIP", public4)
	o.add("PublicIPv6", public6)
	addUnless(&o, "BackendType", v.BackendType, "")
	if len(v.BackendData) > 0 {
		o.add("BackendData", v.BackendData)
	}
	if len(v.BackendV6Data) > 0 {
		o.add("BackendV6Data", v.BackendV6Data)
	}
	if v.Node != nil {
		node, err := v.Node.marshal()
		if err != nil {
			return nil, err
		}
		o.add("Sealane", json.RawMessage(node))
	}
	o.addAll(v.Others)
	return o.bytes()
}

func (n Node) marshal() ([]byte, error) {
	var o object
	o.add("Node", n.ID)
	addUnless(&o, "Name", n.Name, "")
	addUnless(&o, "Since", n.Since, time.Time{})
	o.addAll(n.Others)
	return o.bytes()
}
