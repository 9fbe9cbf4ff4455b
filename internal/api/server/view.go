package server

import (
	"net/netip"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// view turns what the engine holds into the API's words, as of one moment.
type view struct {
	s        *service
	networks map[model.ID]*model.Network
}

func (s *service) view() view {
	v := view{s, map[model.ID]*model.Network{}}
	for _, n := range s.engine.Networks() {
		v.networks[n.ID] = n
	}
	return v
}

// network returns a network by ID, or nil if it went meanwhile.
func (v view) network(id model.ID) *model.Network { return v.networks[id] }

// builtin are the networks that the engine does not hold: they are no devices
// of ours, but users name them like the others.
func builtin() []api.Network {
	var list []api.Network
	for _, b := range [][2]string{{model.NetworkHost, "host"}, {model.NetworkNone, "null"}} {
		list = append(list, api.Network{
			ID: b[0], Name: b[0], Driver: b[1], Subnets: []api.Subnet{}, Options: map[string]string{},
			Labels: map[string]string{}, Endpoints: []api.NetworkEndpoint{}, Status: api.Status{State: engine.StateReady},
		})
	}
	return list
}

// networkOf is a network without its endpoints.
func (s *service) networkOf(n *model.Network) api.Network {
	out := api.Network{
		ID: string(n.ID), Name: n.Name, Driver: n.Driver, Subnets: []api.Subnet{}, Options: n.Options.Map(),
		Internal: n.Internal, Labels: map[string]string{}, Endpoints: []api.NetworkEndpoint{},
		Status: statusOf(s.engine.NetworkStatus(n)), Exceptions: s.engine.Exceptions(), Device: n.Device(), Created: n.Created,
	}
	for k, v := range n.Labels {
		out.Labels[k] = v
	}
	usage := s.engine.Usage(n)
	for i, sub := range n.Subnets {
		out.Subnets = append(out.Subnets, api.Subnet{Prefix: sub.Prefix, Gateway: sub.Gateway, Range: sub.Range, Aux: sub.Aux, Usage: api.Usage(usage[i])})
	}
	return out
}

// endpointsByNetwork sorts the endpoints of all sandboxes by network.
func (s *service) endpointsByNetwork() map[model.ID][]api.NetworkEndpoint {
	out := map[model.ID][]api.NetworkEndpoint{}
	for _, sb := range s.engine.Sandboxes() {
		for _, ep := range sb.Endpoints {
			out[ep.Network] = append(out[ep.Network], api.NetworkEndpoint{
				ID: string(ep.ID), Sandbox: sb.Name, IfName: ep.IfName, MAC: ep.MAC, Addresses: present(ep.Addrs), Container: ep.Container,
			})
		}
	}
	return out
}

func (v view) sandbox(sb *model.Sandbox) api.Sandbox {
	out := api.Sandbox{
		ID: string(sb.ID), Name: sb.Name, Mode: string(sb.Mode), NetNS: sb.NetNS, Inode: sb.Inode, Donor: string(sb.Donor), Origin: sb.Origin, Hostname: sb.Hostname, Domain: sb.Domain,
		Command: present(sb.Command), Endpoints: []api.Endpoint{}, Ports: v.ports(sb, sb.Ports), Expose: []string{}, Links: []string{},
		Status: statusOf(v.s.engine.SandboxStatus(sb)), Dir: compile.Dir(v.s.info.RunDir, sb.ID), Created: sb.Created,
	}
	for i := range sb.Endpoints {
		out.Endpoints = append(out.Endpoints, v.endpoint(sb, &sb.Endpoints[i]))
	}
	for _, m := range sb.Expose {
		out.Expose = append(out.Expose, m.String())
	}
	for _, l := range sb.Links {
		out.Links = append(out.Links, l.Target+":"+l.Alias)
	}
	if sb.Process != nil && sb.Exit == nil {
		out.PID = sb.Process.PID
	}
	if x := sb.Exit; x != nil {
		out.Exit = &api.Exit{Code: x.Code, Signal: x.Signal, Lost: x.Lost, At: x.At}
	}
	return out
}

// endpoint is an endpoint of sb with the default routes that it gives.
func (v view) endpoint(sb *model.Sandbox, ep *model.Endpoint) api.Endpoint {
	n := v.network(ep.Network)
	out := endpointOf(ep, n)
	for _, p := range ep.Addrs {
		is6 := p.Addr().Is6()
		best := compile.Gateway(sb, v.networks, is6)
		if n == nil || best == nil || best.ID != ep.ID || sb.Routed(is6) || sb.Exit != nil {
			continue
		}
		if sub, _ := n.Subnet(is6); sub.Router().IsValid() {
			any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if is6 {
				any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			out.Routes = append(out.Routes, api.Route{Dst: any, Via: sub.Router()})
		}
	}
	return out
}

// endpointOf is an endpoint with its network's name and gateways.
func endpointOf(ep *model.Endpoint, n *model.Network) api.Endpoint {
	out := api.Endpoint{ID: string(ep.ID), IfName: ep.IfName, MAC: ep.MAC, Addresses: present(ep.Addrs), Aliases: present(ep.Aliases),
		LinkLocal: ep.LinkLocal, Sysctls: ep.Sysctls, GwPriority: ep.Priority, Container: ep.Container}
	in, from := ep.Limits.Ingress, ep.Limits.Egress
	out.EndpointLimits = api.EndpointLimits{IngressRate: in.Rate, IngressBurst: in.Burst, EgressRate: from.Rate, EgressBurst: from.Burst}
	if n == nil {
		return out
	}
	out.Network, out.MTU = n.Name, n.Options.MTU
	out.Device, out.DeviceMAC = ep.Device(), model.MACForID(model.MACVeth, ep.ID)
	for _, p := range ep.Addrs {
		if sub, _ := n.Subnet(p.Addr().Is6()); !n.Internal && sub.Router().IsValid() {
			out.Gateways = append(out.Gateways, sub.Router())
		}
	}
	if !n.Internal && len(ep.Addrs) > 0 {
		sub, _ := n.Subnet(ep.Addrs[0].Addr().Is6())
		out.Gateway = sub.Router()
	}
	return out
}

// ports are some of a sandbox's published ports.
func (v view) ports(sb *model.Sandbox, ports []model.PortMapping) []api.Port {
	out := []api.Port{}
	routed := compile.Routed(sb, v.networks)
	for _, m := range ports {
		p := api.Port{Protocol: m.Proto, HostIP: m.HostIP, HostPort: m.HostPort, Port: m.Port, Count: m.Count, From: string(m.From), Idle: m.Idle}
		if m.Idle {
			p.HostIP, p.HostPort = netip.Addr{}, 0
		}
		for _, a := range routed {
			if !m.HostIP.IsValid() || m.HostIP.Is6() == a.Is6() && !m.HostIP.IsLoopback() {
				p.Addresses = append(p.Addresses, a)
			}
		}
		out = append(out, p)
	}
	return out
}

func statusOf(st engine.Status) api.Status {
	return api.Status{State: st.State, Message: st.Message, Since: st.Since}
}

// present returns list, or an empty one: JSON lists are never null.
func present[T netip.Prefix | string](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
