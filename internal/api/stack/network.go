package stack

import (
	"net/netip"
	"slices"
	"strings"

	"gopkg.in/yaml.v3"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/model"
)

// network is an entry of networks.
type network struct {
	value
	spec     api.NetworkSpec
	external bool
}

// readNetworks reads networks.
func (f *file) readNetworks(v value) error {
	all, err := v.pairs()
	if err != nil {
		return err
	}
	for _, p := range all {
		if extension(p.key) {
			continue
		}
		n := &network{value: p.name, spec: api.NetworkSpec{Driver: model.DriverOverlay}}
		if err := f.readNetwork(n, p.value); err != nil {
			return err
		}
		f.networks[p.key], f.order = n, append(f.order, p.key)
	}
	return nil
}

func (f *file) readNetwork(n *network, v value) error {
	all, err := v.pairs()
	if err != nil {
		return err
	}
	for _, p := range all {
		if err := n.take(p); err != nil {
			return err
		}
	}
	if i := slices.IndexFunc(all, func(p pair) bool { return p.key != "name" && p.key != "external" && !extension(p.key) }); n.external && i >= 0 {
		return all[i].name.fail("the network is external: it is taken as it is")
	}
	return nil
}

// take reads one key of a network.
func (n *network) take(p pair) (err error) {
	switch {
	case extension(p.key):
		return nil
	case p.empty() && slices.Contains(networkKeys, p.key):
		return nil
	}
	switch p.key {
	case "attachable": // all of Sealane's are
		_, err = p.truth()
	case "driver":
		err = n.driver(p.value)
	case "driver_opts":
		err = n.options(p.value)
	case "enable_ipv4":
		var on bool
		on, err = p.truth()
		n.spec.IPv4 = &on
	case "enable_ipv6":
		n.spec.IPv6, err = p.truth()
	case "external":
		err = n.outside(p.value)
	case "internal":
		n.spec.Internal, err = p.truth()
	case "ipam":
		err = n.ipam(p.value)
	case "labels":
		n.spec.Labels, err = p.labels()
	case "name":
		err = n.rename(p.value)
	default:
		err = p.unknown(nil, networkKeys)
	}
	return err
}

// rename reads what a network is called.
func (n *network) rename(v value) error {
	text, err := v.text()
	if err != nil {
		return err
	}
	if err := model.CheckName(text); err != nil {
		return v.fail("%w", err)
	}
	if n.spec.Name != "" && n.spec.Name != text {
		return v.fail("%q: it has the name %s already", text, n.spec.Name)
	}
	n.spec.Name = text
	return nil
}

// driver reads the driver of a network.
func (n *network) driver(v value) error {
	text, err := v.text()
	if err == nil && !slices.Contains(model.Drivers(), text) {
		return v.fail("%q: no such driver: want %s", text, strings.Join(model.Drivers(), ", "))
	}
	n.spec.Driver = text
	return err
}

// options reads driver_opts. encrypted without a value is Docker's.
func (n *network) options(v value) (err error) {
	if n.spec.Options, err = v.words(); err != nil {
		return err
	}
	if value, has := n.spec.Options["encrypted"]; has && value == "" {
		n.spec.Options["encrypted"] = "true"
	}
	return nil
}

// outside reads external: true, or its old form {name: NAME}.
func (n *network) outside(v value) (err error) {
	if v.node().Kind != yaml.MappingNode {
		n.external, err = v.truth()
		return err
	}
	all, err := v.pairs()
	if err != nil {
		return err
	}
	n.external = true
	for _, p := range all {
		if p.key != "name" {
			return p.unknown(nil, []string{"name"})
		}
		if err := n.rename(p.value); err != nil {
			return err
		}
	}
	return nil
}

// ipam reads the subnets of a network.
func (n *network) ipam(v value) error {
	all, err := v.pairs()
	for _, p := range all {
		switch {
		case p.empty() || extension(p.key):
		case p.key == "driver":
			_, err = p.choice("default", "")
		case p.key == "config":
			err = n.pools(p.value)
		default:
			err = p.unknown(map[string]string{"options": "there are no options of it"}, ipamKeys)
		}
		if err != nil {
			return err
		}
	}
	return err
}

func (n *network) pools(v value) error {
	items, err := v.list()
	if err != nil {
		return err
	}
	for _, item := range items {
		s, err := item.pool()
		if err != nil {
			return err
		}
		n.spec.Subnets = append(n.spec.Subnets, s)
	}
	return nil
}

// pool reads one subnet.
func (v value) pool() (s api.SubnetSpec, err error) {
	all, err := v.pairs()
	for _, p := range all {
		switch p.key {
		case "subnet":
			s.Prefix, err = p.prefix("10.1.0.0/16")
		case "ip_range":
			s.Range, err = p.prefix("10.1.128.0/17")
		case "gateway":
			s.Gateway, err = p.addr()
		case "aux_addresses":
			s.Aux, err = p.addrs()
		default:
			err = p.unknown(nil, poolKeys)
		}
		if err != nil {
			return s, err
		}
	}
	if err == nil && s.Prefix == "" {
		err = v.fail("subnet: missing")
	}
	return s, err
}

// prefix reads an address with the length of its subnet.
func (v value) prefix(example string) (string, error) {
	text, err := v.text()
	if err != nil {
		return "", err
	}
	p, err := netip.ParsePrefix(text)
	switch {
	case err != nil:
		return "", v.want("ADDRESS/BITS, as " + example)
	case p != p.Masked():
		return "", v.fail("%s: host bits are set, should be %s", p, p.Masked())
	}
	return text, nil
}

// addr reads an address.
func (v value) addr() (string, error) {
	text, err := v.text()
	if err != nil {
		return "", err
	}
	if a, err := netip.ParseAddr(text); err != nil || a.Zone() != "" {
		return "", v.want("an IP address")
	}
	return text, nil
}

// addrs reads addresses by name.
func (v value) addrs() (map[string]string, error) {
	all, err := v.pairs()
	out := map[string]string{}
	for _, p := range all {
		if out[p.key], err = p.addr(); err != nil {
			return nil, err
		}
	}
	return out, err
}

// labels reads labels, but that of stacks.
func (v value) labels() (map[string]string, error) {
	out, err := v.words()
	if _, has := out[model.StackLabel]; err == nil && has {
		err = v.fail("%s: is what says which stack something is of; choose another", model.StackLabel)
	}
	return out, err
}
