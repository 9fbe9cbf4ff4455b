package main

import (
	"fmt"
	"net/netip"
	"strconv"

	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// bridgeSettings are the addresses of the network `bridge`, by Docker's names for those
// of docker0.
type bridgeSettings struct {
	BIP         string
	BIP6        string
	FixedCIDR   string
	FixedCIDRv6 string
	IPv6        string // a boolean, or empty
}

func (s *bridgeSettings) all() []setting {
	return []setting{
		{to: &s.BIP, name: "bip", usage: "the host's address on network bridge with the length of its subnet, `ADDRESS/N`, as 10.8.0.1/24 (default one of a free subnet)"},
		{to: &s.BIP6, name: "bip6", usage: "the same of IPv6, `ADDRESS/N`"},
		{to: &s.FixedCIDR, name: "fixed-cidr", usage: "`PREFIX` that containers on network bridge get their addresses from; the subnet itself without --bip"},
		{to: &s.FixedCIDRv6, name: "fixed-cidr-v6", usage: "`PREFIX`: the same of IPv6 and --bip6"},
		{to: &s.IPv6, name: "ipv6", usage: "`BOOL`: network bridge has IPv6, without --bip6 and --fixed-cidr-v6 in a subnet of the host's own"},
	}
}

func (s *bridgeSettings) flags(f *pflag.FlagSet) {
	for _, x := range s.all() {
		f.StringVar(x.to, x.name, "", x.usage)
	}
	f.Lookup("ipv6").NoOptDefVal = "true"
}

// network returns what the settings say together.
func (s *bridgeSettings) network() (n engine.DefaultNetwork, err error) {
	for _, x := range []struct {
		is6       bool
		bip, cidr prefixSetting
	}{
		{false, prefixSetting{"bip", s.BIP, "10.8.0.1/24"}, prefixSetting{"fixed-cidr", s.FixedCIDR, "10.8.0.128/25"}},
		{true, prefixSetting{"bip6", s.BIP6, "fd08::1/64"}, prefixSetting{"fixed-cidr-v6", s.FixedCIDRv6, "fd08::/80"}},
	} {
		if x.bip.text == "" && x.cidr.text == "" {
			continue
		}
		sub, err := subnet(x.is6, x.bip, x.cidr)
		if err != nil {
			return n, err
		}
		n.Subnets = append(n.Subnets, sub)
		n.IPv6 = n.IPv6 || x.is6
	}
	if s.IPv6 == "" {
		return n, nil
	}
	on, err := strconv.ParseBool(s.IPv6)
	switch {
	case err != nil:
		return n, fmt.Errorf("ipv6 %q: want true or false", s.IPv6)
	case n.IPv6 && !on:
		return n, fmt.Errorf("ipv6 %s: bip6 or fixed-cidr-v6 says a subnet of IPv6", s.IPv6)
	}
	n.IPv6 = on
	return n, nil
}

// prefixSetting is a setting that is a prefix, or empty.
type prefixSetting struct{ name, text, example string }

func (s prefixSetting) parse(is6 bool) (netip.Prefix, error) {
	if s.text == "" {
		return netip.Prefix{}, nil
	}
	p, err := netip.ParsePrefix(s.text)
	if err != nil || p.Addr().Is6() != is6 {
		return p, fmt.Errorf("%s %q: want one as %s", s.name, s.text, s.example)
	}
	return p, nil
}

// subnet is the one that bip says, with cidr as its range, or cidr itself.
func subnet(is6 bool, bip, cidr prefixSetting) (s model.Subnet, err error) {
	at, err := bip.parse(is6)
	if err != nil {
		return s, err
	}
	part, err := cidr.parse(is6)
	if err != nil {
		return s, err
	}
	name := bip
	switch {
	case part.IsValid() && part != part.Masked():
		return s, fmt.Errorf("%s %s: host bits are set, should be %s", cidr.name, part, part.Masked())
	case !at.IsValid():
		name, s.Prefix, s.Gateway = cidr, part, part.Addr()
		if s.Reserved(s.Gateway) {
			s.Gateway = s.Gateway.Next()
		}
	case part.IsValid() && (part.Bits() < at.Bits() || !at.Contains(part.Addr())):
		return s, fmt.Errorf("%s %s: not inside %s, which %s says", cidr.name, part, at.Masked(), bip.name)
	default:
		s = model.Subnet{Prefix: at.Masked(), Gateway: at.Addr(), Range: part}
	}
	if err := s.Validate(); err != nil {
		return s, fmt.Errorf("%s %s: %w", name.name, name.text, err)
	}
	return s, nil
}
