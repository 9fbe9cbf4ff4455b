package cni

import (
	"cmp"
	"encoding/json"
	"fmt"
	"net/netip"
	"slices"
	"strconv"
	"strings"

	"github.com/sealane/sealane/internal/api"
)

// networkKeys say what the network is to be where it is not there yet.
func networkKeys() []key {
	return []key{
		{"driver", func(c *config, v json.RawMessage) error { return fill(&c.network.Driver, v) }},
		{"subnet", func(c *config, v json.RawMessage) error { return c.families.subnets(v) }},
		{"subnets", func(c *config, v json.RawMessage) error { return c.families.subnets(v) }},
		{"gateway", func(c *config, v json.RawMessage) error { return fillList(&c.families.gateways, v) }},
		{"ipRange", func(c *config, v json.RawMessage) error { return fillList(&c.families.ranges, v) }},
		{"internal", func(c *config, v json.RawMessage) error { return fill(&c.network.Internal, v) }},
		{"ipv6", func(c *config, v json.RawMessage) error { return fill(&c.network.IPv6, v) }},
		{"mtu", readMTU},
		{"options", readOptions},
		{"resolver", func(c *config, v json.RawMessage) error { return fill(&c.resolver, v) }},
		{"service", func(c *config, v json.RawMessage) error { return fillList(&c.services, v) }},
		{"labels", func(c *config, v json.RawMessage) error { return fill(&c.network.Labels, v) }},
	}
}

// bridgeKeys are those that the reference plugin bridge has besides. What it
// asks for by some of them is always so here, or done by other means.
func bridgeKeys() []key {
	return []key{
		{"bridge", func(c *config, v json.RawMessage) error {
			var name string
			if err := fill(&name, v); err != nil {
				return err
			}
			return c.option("name", name)
		}},
		{"isGateway", always("the bridge has the gateway's address")},
		{"isDefaultGateway", always("containers have a default route, unless the network is internal")},
		{"macspoofchk", always("containers send from their own addresses, unless options have antispoof off")},
		{"hairpinMode", either}, {"promiscMode", either}, {"forceAddress", either}, {"enabledad", either}, {"preserveDefaultVlan", either},
		{"ipMasqBackend", func(_ *config, v json.RawMessage) error { var s string; return fill(&s, v) }},
		{"portIsolation", func(c *config, v json.RawMessage) error {
			var on bool
			if err := fill(&on, v); err != nil {
				return err
			}
			return c.option("icc", strconv.FormatBool(!on))
		}},
	}
}

// always accepts true.
func always(what string) func(*config, json.RawMessage) error {
	return func(_ *config, v json.RawMessage) error {
		on := true
		if err := fill(&on, v); err != nil {
			return err
		}
		if !on {
			return fmt.Errorf("false: %s; leave the key out", what)
		}
		return nil
	}
}

// either accepts true and false, which are the same to us.
func either(_ *config, v json.RawMessage) error {
	var on bool
	return fill(&on, v)
}

// option sets an option of the network. Two keys may not contradict each other.
func (c *config) option(name, value string) error {
	if old, ok := c.network.Options[name]; ok && old != value {
		return fmt.Errorf("option %s is %q and %q", name, old, value)
	}
	if c.network.Options == nil {
		c.network.Options = map[string]string{}
	}
	c.network.Options[name] = value
	return nil
}

func (c *config) boolOption(name string, v json.RawMessage) error {
	var on bool
	if err := fill(&on, v); err != nil {
		return err
	}
	return c.option(name, strconv.FormatBool(on))
}

// readMTU reads a number of bytes; 0 is the default.
func readMTU(c *config, v json.RawMessage) error {
	var mtu int
	if err := fill(&mtu, v); err != nil || mtu == 0 {
		return err
	}
	return c.option("mtu", strconv.Itoa(mtu))
}

func readOptions(c *config, v json.RawMessage) error {
	var options map[string]string
	if err := fill(&options, v); err != nil {
		return err
	}
	for name, value := range options {
		if err := c.option(name, value); err != nil {
			return err
		}
	}
	return nil
}

// families collects the subnets of a network and what belongs to them.
type families struct {
	specs            []api.SubnetSpec
	gateways, ranges []string
}

// subnets adds subnets without more.
func (f *families) subnets(v json.RawMessage) error {
	var texts []string
	if err := fillList(&texts, v); err != nil {
		return err
	}
	for _, text := range texts {
		f.specs = append(f.specs, api.SubnetSpec{Prefix: text})
	}
	return nil
}

// into gives each subnet its gateway and range, and the network its subnets.
func (f *families) into(n *api.NetworkSpec) error {
	for _, text := range f.gateways {
		a, err := netip.ParseAddr(text)
		if err != nil {
			return errorf(codeConfig, "gateway %q: want an IP address", text)
		}
		s := f.subnetOf(a)
		if s == nil {
			return errorf(codeConfig, "gateway %s: in none of the subnets", a)
		}
		s.Gateway = text
	}
	for _, text := range f.ranges {
		p, err := netip.ParsePrefix(text)
		if err != nil {
			return errorf(codeConfig, "ipRange %q: want ADDRESS/BITS, as 10.1.0.128/25", text)
		}
		s := f.subnetOf(p.Addr())
		if s == nil {
			return errorf(codeConfig, "ipRange %s: in none of the subnets", p)
		}
		s.Range = text
	}
	slices.SortStableFunc(f.specs, func(a, b api.SubnetSpec) int { return cmp.Compare(family(a), family(b)) })
	n.Subnets = f.specs
	if len(f.specs) > 0 && family(f.specs[0]) == 6 {
		n.IPv4 = new(bool) // nobody asked for one
	}
	return nil
}

// family puts IPv4 before IPv6, whatever the keys' order.
func family(s api.SubnetSpec) int {
	if strings.Contains(s.Prefix, ":") {
		return 6
	}
	return 4
}

func (f *families) subnetOf(a netip.Addr) *api.SubnetSpec {
	i := slices.IndexFunc(f.specs, func(s api.SubnetSpec) bool {
		p, err := netip.ParsePrefix(s.Prefix)
		return err == nil && p.Contains(a)
	})
	if i < 0 {
		return nil
	}
	return &f.specs[i]
}

// fillList decodes a string or a list of strings.
func fillList(list *[]string, v json.RawMessage) error {
	var one string
	if json.Unmarshal(v, &one) == nil {
		*list = append(*list, one)
		return nil
	}
	var many []string
	if err := fill(&many, v); err != nil {
		return fmt.Errorf("want a string or a list of strings")
	}
	*list = append(*list, many...)
	return nil
}
