package flannel

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"github.com/sealane/sealane/internal/model"
)

// Config is what all hosts of a fabric share: net-conf.json, which Flannel keeps
// under the key config. ParseConfig fills in what the text leaves out.
type Config struct {
	EnableIPv4     bool
	EnableIPv6     bool
	EnableNFTables bool  // of flanneld's masquerading; nothing to us
	V4             Range // zero without IPv4
	V6             Range
	Backend        Backend
	Others         []Field // of the config
	BackendOthers  []Field // of its Backend
}

// Range is where the hosts' subnets of one family are.
type Range struct {
	Network   netip.Prefix
	SubnetLen int        // bits: of the prefix of a host's subnet
	Min, Max  netip.Addr // of the first subnet that a host may have, and of the last
}

// Fits says whether a host may have the subnet. The zero Range fits no prefix at
// all: the zero one.
func (r Range) Fits(p netip.Prefix) bool {
	if !r.Network.IsValid() || !p.IsValid() {
		return r.Network.IsValid() == p.IsValid()
	}
	return p.Bits() == r.SubnetLen && p == p.Masked() && r.Min.Compare(p.Addr()) <= 0 && p.Addr().Compare(r.Max) <= 0
}

// Fits says whether a host may have the subnets, in each family that is enabled.
func (c Config) Fits(s Subnet) bool { return c.V4.Fits(s.V4) && c.V6.Fits(s.V6) }

// family is what differs between IPv4 and IPv6 in a config.
type family struct {
	name                     string
	network, length, lo, hi  string // the fields
	bits                     int    // of an address
	usual, longest, smallest int    // prefixes: of a host's subnet, and of the network
}

// The numbers are flanneld's (pkg/subnet/config.go): a subnet has four addresses at
// least, for a tunnel's and a bridge's, and a network holds four subnets at least.
func ipv4() family {
	return family{"IPv4", "Network", "SubnetLen", "SubnetMin", "SubnetMax", 32, 24, 30, 28}
}

func ipv6() family {
	return family{"IPv6", "IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax", 128, 64, 126, 124}
}

// configText is a config as it is written.
type configText struct {
	EnableIPv4, EnableIPv6, EnableNFTables bool
	Network, SubnetMin, SubnetMax          string
	IPv6Network                            string
	IPv6SubnetMin, IPv6SubnetMax           string
	SubnetLen, IPv6SubnetLen               int
	Backend                                json.RawMessage
}

// ParseConfig reads net-conf.json. Names compare without regard to case, and
// fields that nobody knows are kept, as in flanneld. An error says in one line
// which field is wrong and what would be right.
func ParseConfig(text []byte) (Config, error) {
	t := configText{EnableIPv4: true}
	if err := decode(text, &t); err != nil {
		return Config{}, err
	}
	rest, err := others(text, "EnableIPv4", "EnableIPv6", "EnableNFTables", "Network", "SubnetLen", "SubnetMin", "SubnetMax",
		"IPv6Network", "IPv6SubnetLen", "IPv6SubnetMin", "IPv6SubnetMax", "Backend")
	if err != nil {
		return Config{}, err
	}
	c := Config{EnableIPv4: t.EnableIPv4, EnableIPv6: t.EnableIPv6, EnableNFTables: t.EnableNFTables, Others: rest}
	if !c.EnableIPv4 && !c.EnableIPv6 {
		return Config{}, errors.New("EnableIPv4: false: EnableIPv6 has to be true then")
	}
	if c.EnableIPv4 {
		if c.V4, err = ipv4().parse(t.Network, t.SubnetLen, t.SubnetMin, t.SubnetMax); err != nil {
			return Config{}, err
		}
	}
	if c.EnableIPv6 {
		if c.V6, err = ipv6().parse(t.IPv6Network, t.IPv6SubnetLen, t.IPv6SubnetMin, t.IPv6SubnetMax); err != nil {
			return Config{}, err
		}
	}
	if c.Backend, c.BackendOthers, err = parseBackend(t.Backend); err != nil {
		return c, err
	}
	return c, c.checkMTU()
}

// checkMTU says why an MTU leaves containers too little: IPv6 needs 1280 bytes (RFC 8200),
// IPv4 68 (RFC 791). Around packets are the headers of the backend, as flanneld counts
// them; of vxlan between IPv6 addresses, as the kernel does.
func (c Config) checkMTU() error {
	mtu, around, least := 0, 0, 68
	switch b := c.Backend.(type) {
	case VXLAN:
		mtu, around = b.MTU, 50
		if c.EnableIPv6 {
			around = 70
		}
	case WireGuard:
		mtu, around = b.MTU, 80
	}
	if c.EnableIPv6 {
		least = 1280
	}
	if mtu != 0 && mtu-around < least {
		return fmt.Errorf("Backend: MTU: %d: %d at least: %d of it are not the containers'", mtu, least+around, around)
	}
	return nil
}

// parse makes a Range of what is written; "" and 0 are what is not.
func (f family) parse(network string, length int, lo, hi string) (Range, error) {
	if network == "" {
		return Range{}, fmt.Errorf("%s: missing: the %s prefix that the hosts' subnets are of", f.network, f.name)
	}
	p, err := netip.ParsePrefix(network)
	if err != nil || p.Addr().BitLen() != f.bits || p.Addr().Is4In6() || p.Bits() == 0 {
		return Range{}, fmt.Errorf("%s: %q: an %s prefix belongs there, with its length", f.network, network, f.name)
	}
	r := Range{Network: p.Masked()}
	if err := (model.Subnet{Prefix: r.Network}).Validate(); err != nil {
		return Range{}, fmt.Errorf("%s: %w", f.network, err)
	}
	if r.SubnetLen, err = f.subnetLen(r.Network, length); err != nil {
		return Range{}, err
	}
	usual := f.whole(r.Network, r.SubnetLen)
	if r.Min, err = f.bound(f.lo, lo, r, usual.Min); err != nil {
		return Range{}, err
	}
	if r.Max, err = f.bound(f.hi, hi, r, usual.Max); err != nil {
		return Range{}, err
	}
	if r.Max.Less(r.Min) {
		return Range{}, fmt.Errorf("%s: %s: %s, %s, has to be at it or below", f.hi, r.Max, f.lo, r.Min)
	}
	return r, nil
}

// subnetLen is the length of subnets that is written, or what it is then.
func (f family) subnetLen(network netip.Prefix, length int) (int, error) {
	switch {
	case network.Bits() > f.smallest:
		return 0, fmt.Errorf("%s: %s: /%d at most: four subnets of four addresses each have to fit", f.network, network, f.smallest)
	case length == 0 && network.Bits()+2 <= f.usual:
		return f.usual, nil
	case length == 0:
		return network.Bits() + 2, nil
	case length > f.longest:
		return 0, fmt.Errorf("%s: %d: %d at most: a host's subnet needs four addresses", f.length, length, f.longest)
	case length < network.Bits()+2:
		return 0, fmt.Errorf("%s: %d: %s needs at least %d: four subnets have to fit", f.length, length, network, network.Bits()+2)
	}
	return length, nil
}

// whole is all of a network but the first subnet, whose address is the network's.
func (f family) whole(network netip.Prefix, length int) Range {
	first := netip.PrefixFrom(network.Addr(), length)
	last := netip.PrefixFrom(model.Last(network), length).Masked()
	return Range{network, length, model.Last(first).Next(), last.Addr()}
}

// bound is an end of the range that is written, or what it is then.
func (f family) bound(field, text string, r Range, usual netip.Addr) (netip.Addr, error) {
	if text == "" {
		return usual, nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.BitLen() != f.bits || a.Is4In6() || a.Zone() != "" {
		return a, fmt.Errorf("%s: %q: an %s address belongs there", field, text, f.name)
	}
	if a.IsUnspecified() {
		return usual, nil
	}
	if !r.Network.Contains(a) {
		return a, fmt.Errorf("%s: %s: an address of %s belongs there", field, a, r.Network)
	}
	if first := netip.PrefixFrom(a, r.SubnetLen).Masked().Addr(); first != a {
		return a, fmt.Errorf("%s: %s: is within a subnet, which begins at %s", field, a, first)
	}
	return a, nil
}

// Marshal writes the config in Flannel's names, without what is meant anyway.
func (c Config) Marshal() ([]byte, error) {
	var o object
	addUnless(&o, "EnableIPv4", c.EnableIPv4, true)
	addUnless(&o, "EnableIPv6", c.EnableIPv6, false)
	addUnless(&o, "EnableNFTables", c.EnableNFTables, false)
	if c.EnableIPv4 {
		ipv4().add(&o, c.V4)
	}
	if c.EnableIPv6 {
		ipv6().add(&o, c.V6)
	}
	if c.Backend == nil {
		return nil, errors.New("Backend: missing")
	}
	backend, err := marshalBackend(c.Backend, c.BackendOthers)
	if err != nil {
		return nil, fmt.Errorf("Backend: %w", err)
	}
	o.add("Backend", json.RawMessage(backend))
	o.addAll(c.Others)
	return o.bytes()
}

// add writes a Range; one that has a Network alone is of the usual subnets.
func (f family) add(o *object, r Range) {
	if !r.Network.IsValid() {
		return
	}
	o.add(f.network, r.Network)
	length, err := f.subnetLen(r.Network, 0)
	if err == nil && r.SubnetLen != 0 {
		addUnless(o, f.length, r.SubnetLen, length)
		length = r.SubnetLen
	}
	usual := f.whole(r.Network, length)
	if r.Min.IsValid() {
		addUnless(o, f.lo, r.Min, usual.Min)
	}
	if r.Max.IsValid() {
		addUnless(o, f.hi, r.Max, usual.Max)
	}
}
