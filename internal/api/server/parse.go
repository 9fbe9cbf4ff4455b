package server

import (
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

func parsePrefix(what, text string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("%s %q: want ADDRESS/BITS, as 10.1.0.0/16", what, text)
	}
	return p, nil
}

// parseAddr reads an address of a host. A zone is refused: it would name a
// device, which is not the user's to choose.
func parseAddr(what, text string) (netip.Addr, error) {
	a, err := netip.ParseAddr(text)
	switch {
	case err != nil:
		return netip.Addr{}, fmt.Errorf("%s %q: want an IP address", what, text)
	case a.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%s %q: want an address without a device, %s", what, text, a.WithZone(""))
	case a.Is4In6():
		return netip.Addr{}, fmt.Errorf("%s %q: want an IPv4 address written as IPv4, %s", what, text, a.Unmap())
	}
	return a, nil
}

// parsePorts reads ports as -p takes them.
func parsePorts(texts []string, ref, op string) ([]model.PortMapping, error) {
	var out []model.PortMapping
	for _, text := range texts {
		m, err := model.ParsePort(text)
		if err != nil {
			return nil, invalid(ref, op, "%w", err)
		}
		out = append(out, m)
	}
	return out, nil
}

// parseLinks reads NAME[:ALIAS].
func parseLinks(texts []string) ([]model.Link, error) {
	var out []model.Link
	for _, text := range texts {
		l, err := model.ParseLink(text)
		if err != nil {
			return nil, err
		}
		out = append(out, l)
	}
	return out, nil
}

// endpointSpec reads the strings of a wish for an endpoint.
func endpointSpec(network string, o api.EndpointOptions, ref, op string) (engine.EndpointSpec, error) {
	spec := engine.EndpointSpec{Network: network, MAC: o.MAC, IfName: o.IfName, Aliases: o.Aliases, Priority: o.GwPriority, Sysctls: o.Sysctls,
		Limits: model.Limits{Ingress: model.Limit{Rate: o.IngressRate, Burst: o.IngressBurst}, Egress: model.Limit{Rate: o.EgressRate, Burst: o.EgressBurst}}}
	for _, read := range []func(api.EndpointOptions, *engine.EndpointSpec) error{addresses, driverOptions} {
		if err := read(o, &spec); err != nil {
			return spec, invalid(ref, op, "%w", err)
		}
	}
	var err error
	if spec.Links, err = parseLinks(o.Links); err != nil {
		return spec, invalid(ref, op, "%w", err)
	}
	return spec, nil
}

func addresses(o api.EndpointOptions, spec *engine.EndpointSpec) error {
	for _, want := range []struct {
		key, text string
		is6       bool
	}{{"ip", o.IP, false}, {"ip6", o.IP6, true}} {
		if want.text == "" {
			continue
		}
		if want.text == api.DHCP {
			spec.DHCP4, spec.DHCP6 = spec.DHCP4 || !want.is6, spec.DHCP6 || want.is6
			continue
		}
		for text := range strings.SplitSeq(want.text, ",") {
			if err := address(want.key, text, want.is6, spec); err != nil {
				return err
			}
		}
	}
	for _, text := range o.LinkLocalIPs {
		a, err := parseAddr("link-local-ip", text)
		if err != nil {
			return err
		}
		spec.LinkLocal = append(spec.LinkLocal, a)
	}
	return nil
}

// address reads an address, which with a length is of no subnet, or may be.
func address(key, text string, is6 bool, spec *engine.EndpointSpec) error {
	bits := strings.Contains(text, "/")
	var p netip.Prefix
	var err error
	if bits {
		p, err = model.ParsePrefix(text)
	} else {
		var a netip.Addr
		a, err = parseAddr(key, text)
		p = netip.PrefixFrom(a, a.BitLen())
	}
	switch {
	case err != nil && bits:
		return fmt.Errorf("%s %w", key, err)
	case err != nil:
		return err
	case p.Addr().Is6() != is6:
		return fmt.Errorf("%s %s: is an address of the other family", key, p.Addr())
	case bits:
		spec.Outside = append(spec.Outside, p)
	default:
		spec.Addrs = append(spec.Addrs, p.Addr())
	}
	return nil
}

// driverOptions reads options by name, which may say what fields say too.
func driverOptions(o api.EndpointOptions, spec *engine.EndpointSpec) error {
	options, err := model.ParseEndpointOptions(o.Options)
	switch {
	case err != nil:
		return err
	case options.IfName != "" && o.IfName != "" && options.IfName != o.IfName:
		return fmt.Errorf("interface name %q: endpoint options say %q", o.IfName, options.IfName)
	case options.IfName != "":
		spec.IfName = options.IfName
	}
	spec.Sysctls = slices.Concat(spec.Sysctls, options.Sysctls)
	spec.Routers, spec.Routes, spec.MTU, spec.Alias = options.Routers, options.Routes, options.MTU, options.Alias
	spec.VLAN, spec.Trunks = options.VLAN, options.Trunks
	spec.DHCP, spec.NoDAD, spec.Services = options.DHCP, options.NoDAD, options.Services
	spec.Limits, err = spec.Limits.With(options.Limits)
	return err
}
