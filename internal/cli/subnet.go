package cli

import (
	"fmt"
	"net/netip"
	"strings"

	"github.com/spf13/pflag"

	"github.com/sealane/sealane/internal/api"
)

// subnetFlags are the flags that describe subnets. Docker has them apart, and
// sorts them by which subnet contains what.
type subnetFlags struct{ subnets, gateways, ranges, aux []string }

func (f *subnetFlags) register(s *pflag.FlagSet) {
	s.StringArrayVar(&f.subnets, "subnet", nil, "`PREFIX` of addresses; one for each address family")
	s.StringArrayVar(&f.gateways, "gateway", nil, "`ADDRESS` of the gateway (default the first free one)")
	s.StringArrayVar(&f.ranges, "ip-range", nil, "`PREFIX` inside a subnet to choose addresses from")
	s.StringArrayVar(&f.aux, "aux-address", nil, "`NAME=ADDRESS` that others use; may be repeated")
}

// group sorts gateways, ranges and addresses to their subnets.
func (f *subnetFlags) group() ([]api.SubnetSpec, error) {
	var prefixes []netip.Prefix
	var specs []api.SubnetSpec
	for _, text := range split(f.subnets) {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return nil, fmt.Errorf("--subnet %q: want ADDRESS/BITS, as 10.1.0.0/16", text)
		}
		prefixes = append(prefixes, p)
		specs = append(specs, api.SubnetSpec{Prefix: text})
	}
	home := func(flag, text string, a netip.Addr) (*api.SubnetSpec, error) {
		for i, p := range prefixes {
			if p.Contains(a) {
				return &specs[i], nil
			}
		}
		return nil, fmt.Errorf("%s %s: is in no --subnet", flag, text)
	}
	for _, text := range split(f.gateways) {
		if err := f.gateway(text, home); err != nil {
			return nil, err
		}
	}
	for _, text := range split(f.ranges) {
		if err := f.ipRange(text, home); err != nil {
			return nil, err
		}
	}
	for _, text := range split(f.aux) {
		if err := f.auxAddress(text, home); err != nil {
			return nil, err
		}
	}
	return specs, nil
}

// split takes lists with commas apart, as docker does.
func split(texts []string) []string {
	var out []string
	for _, text := range texts {
		out = append(out, strings.Split(text, ",")...)
	}
	return out
}

// findSubnet returns the subnet that contains an address.
type findSubnet func(flag, text string, a netip.Addr) (*api.SubnetSpec, error)

func (f *subnetFlags) gateway(text string, home findSubnet) error {
	a, err := netip.ParseAddr(text)
	if err != nil {
		return fmt.Errorf("--gateway %q: want an IP address", text)
	}
	s, err := home("--gateway", text, a)
	if err != nil {
		return err
	}
	if s.Gateway != "" {
		return fmt.Errorf("--gateway %s: subnet %s has %s already", text, s.Prefix, s.Gateway)
	}
	s.Gateway = text
	return nil
}

func (f *subnetFlags) ipRange(text string, home findSubnet) error {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return fmt.Errorf("--ip-range %q: want ADDRESS/BITS, as 10.1.4.0/24", text)
	}
	s, err := home("--ip-range", text, p.Addr())
	if err != nil {
		return err
	}
	if s.Range != "" {
		return fmt.Errorf("--ip-range %s: subnet %s has %s already", text, s.Prefix, s.Range)
	}
	s.Range = text
	return nil
}

func (f *subnetFlags) auxAddress(text string, home findSubnet) error {
	name, addr, ok := strings.Cut(text, "=")
	a, err := netip.ParseAddr(addr)
	if !ok || name == "" || err != nil {
		return fmt.Errorf("--aux-address %q: want NAME=ADDRESS", text)
	}
	s, err := home("--aux-address", text, a)
	if err != nil {
		return err
	}
	if s.Aux == nil {
		s.Aux = map[string]string{}
	}
	if s.Aux[name] != "" {
		return fmt.Errorf("--aux-address %s: %s is %s already", text, name, s.Aux[name])
	}
	s.Aux[name] = addr
	return nil
}
