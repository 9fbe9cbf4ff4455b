package model

import "fmt"

func parseIPAM(o *Options, v string) error {
	switch v {
	case "none":
		o.NoIPAM = true
	case "default":
	default:
		return fmt.Errorf("%q: want none, or default for addresses of subnets", v)
	}
	return nil
}

// checkNoIPAM refuses for a network without subnets what only a host that has an
// address on it and routes for it can do.
func (n *Network) checkNoIPAM() error {
	if !n.Options.NoIPAM {
		return nil
	}
	if len(n.Subnets) > 0 {
		return fmt.Errorf("option ipam: none: a subnet is given, %s", n.Subnets[0].Prefix)
	}
	o := n.Options
	for _, opt := range []struct {
		name  string
		given bool
	}{
		{"gateway-mode", o.Mode4 != "" || o.Mode6 != ""},
		{"inhibit-ipv4", o.Inhibit4},
		{"masquerade", o.NoMasq},
		{"source-ip", o.Source4.IsValid() || o.Source6.IsValid()},
		{"host-binding", o.HostBinding.IsValid()},
		{"trusted-interfaces", o.Trusted != ""},
		{"host-access", o.NoHostAccess},
	} {
		if opt.given {
			return fmt.Errorf("option %s: a network with ipam=none is not routed by the host", opt.name)
		}
	}
	if n.Internal && n.Driver == DriverBridge {
		return fmt.Errorf("internal: a network with ipam=none is not routed by the host")
	}
	return nil
}
