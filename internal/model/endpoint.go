package model

import (
	"cmp"
	"fmt"
	"maps"
	"net/netip"
	"slices"
	"strings"
)

// EndpointOptions are an endpoint's driver options, typed.
type EndpointOptions struct {
	IfName  string
	Sysctls []string // "net.ipv4.conf.IFNAME.key=value"
	Limits  Limits
	Routers []netip.Addr // see [Endpoint]
	Routes  []Route
	MTU     int // bytes; 0 is the network's
	Alias   string
	VLAN    int // see [Endpoint]
	Trunks  Trunks
	DHCP    DHCPOptions
	NoDAD   bool // the wire is not asked who has the addresses
	// Services are those that it is a backend of.
	Services []Membership
}

// The names of endpoint options: ours, and Docker's.
const (
	endpointIfName   = "ifname"
	endpointSysctls  = "sysctls"
	endpointService  = "service"
	dockerEndpoint   = dockerNetwork + "endpoint."
	wantEndpointKeys = "known: " + endpointIfName + ", " + endpointSysctls + ", " + endpointGateway + ", " + endpointRoute + ", " + endpointMTU + ", " + endpointHostIf + ", " + endpointVLAN + ", " + endpointTrunks + ", " + endpointDAD + ", " + dhcpKeys + ", " +
		endpointIngressRate + ", " + endpointIngressBurst + ", " + endpointEgressRate + ", " + endpointEgressBurst + ", " + endpointService + ", " +
		dockerEndpoint + endpointIfName + ", " + dockerEndpoint + endpointSysctls
)

// ParseEndpointOptions reads KEY=VALUE pairs of an endpoint. Several settings
// have commas between them. An unknown key is an error that lists the known ones.
func ParseEndpointOptions(kv map[string]string) (EndpointOptions, error) {
	var o EndpointOptions
	given := map[string]string{}
	for _, k := range slices.Sorted(maps.Keys(kv)) {
		name := strings.TrimPrefix(k, dockerEndpoint)
		if first, twice := given[name]; twice {
			return o, fmt.Errorf("endpoint option %s: given twice, as %s and %s", name, first, k)
		}
		given[name] = k
		switch name {
		case endpointIfName:
			o.IfName = kv[k]
			if err := CheckIfName(o.IfName); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		case endpointSysctls:
			o.Sysctls = strings.Split(kv[k], ",")
			if err := CheckEndpointSysctls(o.Sysctls); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		case endpointIngressRate, endpointIngressBurst, endpointEgressRate, endpointEgressBurst:
			n, err := parseBits(kv[k])
			if err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
			*o.Limits.named(name) = n
		case endpointGateway, endpointRoute, endpointMTU, endpointHostIf:
			if err := o.setWay(name, kv[k]); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		case endpointDAD:
			var err error
			if o.NoDAD, err = not(kv[k]); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		case dhcpHostname, dhcpClientID, dhcpDUID, dhcpRequest, dhcpVendorClass, dhcpOption4, dhcpOption6, dhcpTimeout:
			if err := o.DHCP.set(name, kv[k]); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		case endpointService:
			var err error
			if o.Services, err = ParseMemberships(kv[k]); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		case endpointVLAN, endpointTrunks:
			if err := o.setVLAN(name, kv[k]); err != nil {
				return o, fmt.Errorf("endpoint option %s: %w", k, err)
			}
		default:
			return o, fmt.Errorf("endpoint option %q: not known (%s)", k, wantEndpointKeys)
		}
	}
	return o, nil
}

// bridgeLinkLocal is the link-local address of every bridge, as in Docker.
var bridgeLinkLocal = netip.MustParseAddr("fe80::1")

// LinkLocalPrefix returns an additional link-local address with its subnet: /16
// of IPv4 (RFC 3927), /64 of IPv6 (RFC 4291), as Docker has them.
func LinkLocalPrefix(a netip.Addr) (netip.Prefix, error) {
	switch {
	case !a.IsLinkLocalUnicast() || a.Is4In6() || a.Zone() != "":
		return netip.Prefix{}, fmt.Errorf("link-local-ip %s: want an address of 169.254.0.0/16 or fe80::/64", a)
	case a.Is4():
		p := netip.PrefixFrom(a, 16)
		if b := a.As4(); a == p.Masked().Addr() || b[2] == 255 && b[3] == 255 {
			return netip.Prefix{}, fmt.Errorf("link-local-ip %s: is the network or broadcast address of %s", a, p.Masked())
		}
		return p, nil
	case a == bridgeLinkLocal:
		return netip.Prefix{}, fmt.Errorf("link-local-ip %s: is the bridge's own address", a)
	}
	return netip.PrefixFrom(a, 64), nil
}

// ParseLink reads NAME[:ALIAS].
func ParseLink(text string) (Link, error) {
	target, alias, named := strings.Cut(text, ":")
	if named && alias == "" {
		return Link{}, fmt.Errorf("link %q: want NAME or NAME:ALIAS", text)
	}
	l := Link{Target: target, Alias: cmp.Or(alias, target)}
	return l, l.validate()
}

func (l Link) validate() error {
	if err := CheckName(l.Target); err != nil {
		return fmt.Errorf("link: %w", err)
	}
	if err := CheckHostname(l.Alias); err != nil {
		return fmt.Errorf("link %s: %w", l.Target, err)
	}
	return nil
}

// NoIPv6 reports whether an endpoint of the sandbox has no IPv6, because a
// setting of the sandbox or of the endpoint turns it off.
func (s *Sandbox) NoIPv6(endpoint []string) bool {
	off := func(v string) bool { return strings.TrimLeft(strings.TrimSpace(v), "0") != "" }
	for _, scope := range []string{"all", "default"} {
		if off(s.Sysctls["net.ipv6.conf."+scope+".disable_ipv6"]) {
			return true
		}
	}
	return slices.ContainsFunc(endpoint, func(setting string) bool {
		v, ok := strings.CutPrefix(setting, "net.ipv6.conf."+placeholder+".disable_ipv6=")
		return ok && off(v)
	})
}
