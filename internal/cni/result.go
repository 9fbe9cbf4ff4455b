package cni

import (
	"net"
	"net/netip"
	"slices"

	"github.com/containernetworking/cni/pkg/types"
	current "github.com/containernetworking/cni/pkg/types/100"
	"github.com/containernetworking/cni/pkg/version"

	"github.com/sealane/sealane/internal/api"
)

// previous is the result of the plugins before this one, or an empty one. It may
// be of another version than the configuration.
func (c *config) previous() (*current.Result, error) {
	if len(c.prev) == 0 || string(c.prev) == "null" {
		return &current.Result{}, nil
	}
	spoken := struct {
		Version string `json:"cniVersion"`
	}{}
	if err := fill(&spoken, c.prev); err != nil {
		return nil, errorf(codeDecode, "prevResult: %w", err)
	}
	if spoken.Version == "" {
		return nil, errorf(codeDecode, "prevResult: cniVersion: missing")
	}
	prev, err := version.NewResult(spoken.Version, c.prev)
	if err != nil {
		return nil, errorf(codeDecode, "prevResult: %w", err)
	}
	out, err := current.NewResultFromResult(prev)
	if err != nil {
		return nil, errorf(codeDecode, "prevResult: %w", err)
	}
	return out, nil
}

// result adds an endpoint to a result: the host's end if it has one, the
// container's, and the addresses and routes of that.
func (r *request) result(prev *current.Result, ep api.Endpoint) *current.Result {
	out := *prev
	out.CNIVersion = newest
	host := &current.Interface{Name: ep.Device, Mac: ep.DeviceMAC}
	inside := &current.Interface{Name: ep.IfName, Mac: ep.MAC, Sandbox: r.env.netns}
	if r.config.version == newest { // the version that has the field
		host.Mtu, inside.Mtu = ep.MTU, ep.MTU
	}
	out.Interfaces = slices.Clip(out.Interfaces)
	if ep.Device != "" {
		out.Interfaces = append(out.Interfaces, host)
	}
	out.Interfaces = append(out.Interfaces, inside)
	for _, p := range ep.Addresses {
		out.IPs = append(out.IPs, &current.IPConfig{
			Interface: current.Int(len(out.Interfaces) - 1), Address: ipNet(p), Gateway: gatewayOf(ep, p),
		})
	}
	for _, route := range ep.Routes {
		out.Routes = append(out.Routes, &types.Route{Dst: ipNet(route.Dst), GW: route.Via.AsSlice()})
	}
	out.DNS = merge(out.DNS, r.config.dns, r.config.runtime.DNS)
	if len(out.DNS.Nameservers) == 0 && r.config.resolves() {
		out.DNS.Nameservers = []string{api.Resolver}
	}
	return &out
}

// resolves reports whether the container is to find others by name: the
// configuration says so or names the resolver, or the container has aliases.
func (c *config) resolves() bool {
	return c.resolver || len(c.runtime.Aliases.on(c.network.Name)) > 0 || slices.Contains(merge(types.DNS{}, c.dns, c.runtime.DNS).Nameservers, api.Resolver)
}

// gatewayOf is the gateway of an address's family, or nil.
func gatewayOf(ep api.Endpoint, p netip.Prefix) net.IP {
	i := slices.IndexFunc(ep.Gateways, func(a netip.Addr) bool { return a.Is6() == p.Addr().Is6() })
	if i < 0 {
		return nil
	}
	return ep.Gateways[i].AsSlice()
}

func ipNet(p netip.Prefix) net.IPNet {
	return net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}

// merge is what the container's resolver gets. What the runtime says comes
// before what the configuration says, and that before earlier plugins.
func merge(prev, conf types.DNS, asked resolver) types.DNS {
	first := func(lists ...[]string) []string {
		for _, list := range lists {
			if len(list) > 0 {
				return list
			}
		}
		return nil
	}
	out := types.DNS{
		Nameservers: first(asked.Servers, conf.Nameservers, prev.Nameservers),
		Search:      first(asked.Searches, conf.Search, prev.Search),
		Options:     first(asked.Options, conf.Options, prev.Options),
		Domain:      prev.Domain,
	}
	if conf.Domain != "" {
		out.Domain = conf.Domain
	}
	return out
}
