package server

import (
	"cmp"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/api"
	"github.com/sealane/sealane/internal/compile"
	"github.com/sealane/sealane/internal/driver"
	"github.com/sealane/sealane/internal/driver/fabric"
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
		ID: string(n.ID), Name: n.Name, Driver: n.Driver, Subnets: []api.Subnet{}, Options: n.OptionMap(),
		Internal: n.Internal, Origin: n.Origin, Labels: map[string]string{}, Endpoints: []api.NetworkEndpoint{},
		Status: statusOf(s.engine.NetworkStatus(n)), Exceptions: s.engine.Exceptions(), Device: deviceOf(n), Created: n.Created,
	}
	for k, v := range n.Labels {
		out.Labels[k] = v
	}
	usage := s.engine.Usage(n)
	for i, sub := range n.Subnets {
		out.Subnets = append(out.Subnets, api.Subnet{Prefix: sub.Prefix, Gateway: sub.Gateway, Range: sub.Range, Aux: sub.Aux, Usage: api.Usage(usage[i])})
	}
	s.addFabric(&out, n)
	addOverlay(&out, n)
	if n.Overlay != nil && n.Options.Encrypted {
		out.Overlay.PublicKey = s.engine.OverlayKey()
	}
	return out
}

// addOverlay adds what there is of other hosts of an overlay network.
func addOverlay(out *api.Network, n *model.Network) {
	o := n.Overlay
	if o == nil {
		return
	}
	out.VNI = o.VNI
	out.Overlay = &api.Overlay{Port: o.Port, Uplink: o.Uplink, Address: o.Local, MTU: o.MTU, Members: []api.OverlayMember{}, Services: []api.OverlayService{}}
	for _, s := range o.Services {
		out.Overlay.Services = append(out.Overlay.Services, api.OverlayService{Name: s.Name, VIPs: present(s.VIPs)})
	}
	if o.Used {
		out.Overlay.Tunnel = n.Trunk()
	} else {
		out.Device = ""
	}
	at := map[string]int{}
	for i := range o.Far {
		f := o.Far[i]
		if _, has := at[f.Host]; !has {
			at[f.Host] = len(out.Overlay.Members)
			m := api.OverlayMember{Host: f.Host, Address: f.At, Alive: !f.HostGone}
			if narrow, ok := engine.NarrowPathTo(n, f.At); ok {
				m.Paths = []api.PathMTU{api.PathMTU(narrow)}
			}
			out.Overlay.Members = append(out.Overlay.Members, m)
		}
		m := &out.Overlay.Members[at[f.Host]]
		m.Endpoints = append(m.Endpoints, api.OverlayEndpoint{ID: string(f.ID), Sandbox: f.Sandbox, MAC: f.MAC, Addresses: f.Addrs, Names: f.Names, Stopped: f.Stopped})
	}
	slices.SortFunc(out.Overlay.Members, func(a, b api.OverlayMember) int { return strings.Compare(a.Host, b.Host) })
}

// addFabric adds what there is of other hosts.
func (s *service) addFabric(out *api.Network, n *model.Network) {
	v, ok := s.engine.FabricOf(n)
	if !ok {
		return
	}
	f := n.Fabric
	out.Backend, out.VNI = string(f.Backend.Type), f.Backend.VNI
	out.Fabric = &api.Fabric{Prefixes: f.Whole, Key: v.Key, Uplink: f.Uplink, Tunnels: []string{}, Addresses: valid(f.Public4, f.Public6), MTU: f.MTU,
		Peers: []api.FabricPeer{}, InTouch: v.InTouch, Since: v.Since, Error: v.LastError, PublicKey: f.PublicKey}
	out.Fabric.Lost, out.Fabric.Docker = v.Lost, string(n.Docker)
	if n.ByOthers() {
		out.Device, out.Fabric.Bridge = "", n.Device()
	}
	for _, is6 := range []bool{false, true} {
		if _, has := f.Of(is6); has && n.Tunnel(is6) != "" && !slices.Contains(out.Fabric.Tunnels, n.Tunnel(is6)) {
			out.Fabric.Tunnels = append(out.Fabric.Tunnels, n.Tunnel(is6))
		}
	}
	for i := range f.Peers {
		p := &f.Peers[i]
		peer := api.FabricPeer{Subnets: p.Subnets, Addresses: valid(p.Public4, p.Public6), Direct: fabric.Direct(f, p), PublicKey: cmp.Or(p.Key4, p.Key6)}
		for _, sub := range p.Subnets {
			peer.Unreached = cmp.Or(peer.Unreached, fabric.Unreached(f, p, sub.Addr().Is6()))
		}
		for _, narrow := range engine.NarrowPaths(f, p) {
			peer.Paths = append(peer.Paths, api.PathMTU(narrow))
		}
		out.Fabric.Peers = append(out.Fabric.Peers, peer)
	}
}

// valid leaves out addresses that there are not.
func valid(all ...netip.Addr) []netip.Addr {
	return slices.DeleteFunc(all, func(a netip.Addr) bool { return !a.IsValid() })
}

// deviceOf is the host's device that a network's endpoints are on.
func deviceOf(n *model.Network) string {
	if n.OnParent() {
		return n.Lower()
	}
	return n.Device()
}

// endpointsByNetwork sorts the endpoints of all sandboxes by network.
func (s *service) endpointsByNetwork() map[model.ID][]api.NetworkEndpoint {
	out := map[model.ID][]api.NetworkEndpoint{}
	for _, sb := range s.engine.Sandboxes() {
		name := sb.Name
		if sb.Guest != nil {
			if twin := s.engine.Twin(sb); twin != nil {
				name = twin.Name
			}
		}
		for _, ep := range sb.Endpoints {
			out[ep.Network] = append(out[ep.Network], api.NetworkEndpoint{
				ID: string(ep.ID), Sandbox: name, IfName: ep.IfName, MAC: ep.MAC, Addresses: present(slices.Concat(ep.Addrs, ep.Outside)), Container: ep.Container,
			})
		}
	}
	return out
}

// sandbox is a sandbox with what its twin has, under the name that Docker knows.
func (v view) sandbox(sb *model.Sandbox) api.Sandbox {
	twin := v.s.engine.Twin(sb)
	if twin == nil {
		return v.one(sb)
	}
	if sb.Guest != nil {
		sb, twin = twin, sb
	}
	out, guest := v.one(sb), v.one(twin)
	out.Guest, out.PID = guest.Guest, guest.PID
	out.Endpoints, out.Ports = append(out.Endpoints, guest.Endpoints...), append(out.Ports, guest.Ports...)
	if out.Status.State == engine.StateRunning {
		out.Status = guest.Status
	}
	return out
}

func (v view) one(sb *model.Sandbox) api.Sandbox {
	out := api.Sandbox{
		ID: string(sb.ID), Name: sb.Name, Mode: string(sb.Mode), NetNS: sb.NetNS, Inode: sb.Inode, Donor: string(sb.Donor), Origin: sb.Origin, Hostname: sb.Hostname, Domain: sb.Domain,
		Command: present(sb.Command), Endpoints: []api.Endpoint{}, Ports: v.ports(sb, sb.Ports), Expose: []string{}, Links: []string{},
		Status: statusOf(v.s.engine.SandboxStatus(sb)), Dir: compile.Dir(v.s.info.RunDir, sb.ID), Created: sb.Created,
	}
	if g := sb.Guest; g != nil {
		out.Guest = &api.Guest{Runtime: string(g.Runtime), Name: g.Name, ID: g.ID, Awaited: g.Awaited}
		fmt.Sscanf(sb.NetNS, "/proc/%d/ns/net", &out.PID) // else it stays 0
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
	for _, is6 := range []bool{false, true} {
		best := compile.Gateway(sb, v.networks, is6)
		if n == nil || best == nil || best.ID != ep.ID || sb.Routed(is6) && !ep.Router(is6).IsValid() || !sb.Live() {
			continue
		}
		if via := compile.Router(ep, n, is6); via.IsValid() {
			any := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
			if is6 {
				any = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
			}
			out.Routes = append(out.Routes, api.Route{Dst: any, Via: via})
		}
	}
	return out
}

// endpointOf is an endpoint with its network's name and gateways.
func endpointOf(ep *model.Endpoint, n *model.Network) api.Endpoint {
	out := api.Endpoint{ID: string(ep.ID), IfName: ep.IfName, MAC: ep.MAC, Addresses: present(slices.Concat(ep.Addrs, ep.Outside)), Aliases: present(ep.Aliases),
		LinkLocal: ep.LinkLocal, Sysctls: ep.Sysctls, GwPriority: ep.Priority, Container: ep.Container}
	in, from := ep.Limits.Ingress, ep.Limits.Egress
	out.EndpointLimits = api.EndpointLimits{IngressRate: in.Rate, IngressBurst: in.Burst, EgressRate: from.Rate, EgressBurst: from.Burst}
	if n == nil {
		return out
	}
	out.Network, out.MTU = n.Name, driver.MTU(n, ep)
	if !n.OnParent() && n.Driver != model.DriverPhys {
		out.Device, out.DeviceMAC = ep.Device(), model.MACForID(model.MACVeth, ep.ID)
	}
	for _, r := range ep.Routes {
		out.MoreRoutes = append(out.MoreRoutes, api.Route{Dst: r.Dst, Via: r.Via})
	}
	out.Leases, out.Services = leases(ep), memberships(ep, n)
	if n.Internal {
		return out
	}
	for _, is6 := range []bool{false, true} {
		if via := compile.Router(ep, n, is6); via.IsValid() {
			out.Gateways = append(out.Gateways, via)
		}
	}
	if len(out.Addresses) > 0 {
		out.Gateway = compile.Router(ep, n, out.Addresses[0].Addr().Is6())
	}
	return out
}

// leases are what an endpoint has from DHCP servers, or waits for.
func leases(ep *model.Endpoint) []api.Lease {
	var out []api.Lease
	for _, is6 := range []bool{false, true} {
		d := ep.DHCP(is6)
		if d == nil {
			continue
		}
		l := api.Lease{Family: "ipv4"}
		if is6 {
			l.Family = "ipv6"
		}
		if h := d.Lease; h != nil {
			l.Address, l.Server, l.Router, l.DNS, l.Search, l.MTU = h.Addr, h.Server, h.Router, h.DNS, h.Search, h.MTU
			l.Obtained, l.Renew, l.Expires = h.Obtained, h.Renew, h.Expires
		}
		out = append(out, l)
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
func present[T netip.Prefix | netip.Addr | string](list []T) []T {
	if list == nil {
		return []T{}
	}
	return list
}
