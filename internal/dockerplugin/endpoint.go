package dockerplugin

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"path"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// createEndpoint notes what an endpoint shall be. It is made when Docker says
// for which container: nothing is to be undone before.
func (p *Plugin) createEndpoint(ctx context.Context, req endpointRequest) (any, error) {
	id, err := short(req.EndpointID)
	if err != nil {
		return nil, err
	}
	n, err := p.network(req.NetworkID)
	if err != nil {
		return nil, err
	}
	w := model.Waiting{ID: id}
	var out endpointInterface
	if req.Interface == nil {
		req.Interface = &endpointInterface{}
	}
	for _, text := range []string{req.Interface.Address, req.Interface.AddressIPv6} {
		if text == "" {
			continue
		}
		a, err := address(text)
		if err != nil {
			return nil, err
		}
		w.Addrs = append(w.Addrs, a)
	}
	if len(w.Addrs) == 0 {
		return nil, errors.New("the endpoint has no address: want an IPAM driver, as Docker's own or sealane")
	}
	w.MAC = req.Interface.MacAddress
	if w.MAC != "" && !n.OwnMAC() {
		return nil, fmt.Errorf("mac-address %s: network %s: its interfaces have their parent's", w.MAC, n.Name)
	}
	if w.MAC == "" && n.OwnMAC() {
		w.MAC = model.MACFor(w.Addrs[0])
		out.MacAddress = w.MAC
	}
	if w.Services, err = services(req.Options); err != nil {
		return nil, err
	}
	err = p.insist(ctx, func() error { return p.engine.Expect(ctx, string(n.ID), w) })
	return endpointAnswer{out}, err
}

// services reads the option that lists those that the endpoint is a backend of. No
// other option is for us, and one that looks like it is misspelt.
func services(options map[string]any) ([]model.Membership, error) {
	for key := range options {
		if strings.HasPrefix(key, "sealane.") && key != optionService {
			return nil, fmt.Errorf("option %q: not known: want %s", key, optionService)
		}
	}
	option := options[optionService]
	if option == nil {
		return nil, nil
	}
	text, ok := option.(string)
	if !ok {
		return nil, fmt.Errorf("option %s: want a string", optionService)
	}
	all, err := model.ParseMemberships(text)
	if err != nil {
		return nil, fmt.Errorf("option %s: %w", optionService, err)
	}
	return all, nil
}

// join makes the endpoint, and says what of it is the container's.
func (p *Plugin) join(ctx context.Context, req endpointRequest) (any, error) {
	id, err := short(req.EndpointID)
	if err != nil {
		return nil, err
	}
	n, err := p.network(req.NetworkID)
	if err != nil {
		return nil, err
	}
	if !path.IsAbs(req.SandboxKey) {
		return nil, fmt.Errorf("sandbox key %q: want an absolute path", req.SandboxKey)
	}
	spec := engine.EndpointSpec{ID: id, Network: string(n.ID)}
	if w := n.WaitingFor(id); w != nil {
		spec.Addrs, spec.MAC, spec.Services = w.Addrs, w.MAC, w.Services
	} else if !isIn(p.engine.ByEndpoint(id), req.SandboxKey, id, n) {
		return nil, fmt.Errorf("endpoint %s: not known, or in another container: or on another network: it has to be created first", id)
	}
	_, ep, err := p.engine.Join(ctx, req.SandboxKey, model.OriginDocker, spec)
	if err != nil {
		return nil, err
	}
	return joined(n, ep), nil
}

// isIn reports whether a sandbox is that of a namespace, and has the endpoint on the
// network.
func isIn(sb *model.Sandbox, netns string, id model.ID, n *model.Network) bool {
	return sb != nil && sb.NetNS == netns && slices.ContainsFunc(sb.Endpoints, func(ep model.Endpoint) bool { return ep.ID == id && ep.Network == n.ID })
}

// joined is what Docker has to do in the container.
func joined(n *model.Network, ep *model.Endpoint) joinAnswer {
	out := joinAnswer{InterfaceName: interfaceName{SrcName: ep.FarDevice(), DstPrefix: cmp.Or(n.Options.IfPrefix, "eth")}}
	for _, own := range ep.Addrs {
		s, _ := n.SubnetWith(own.Addr())
		a := s.Router()
		switch {
		case n.Internal:
		case n.Pointed():
			out.StaticRoutes = append(out.StaticRoutes, everything(s.Prefix.Addr().Is6()))
		case !a.IsValid():
		case a.Is6():
			out.GatewayIPv6 = a.String()
		default:
			out.Gateway = a.String()
		}
	}
	for _, r := range n.Detours(ep) {
		way := staticRoute{Destination: r.Dst.String(), RouteType: routeConnected}
		if r.Via.IsValid() {
			way = staticRoute{Destination: r.Dst.String(), RouteType: routeNextHop, NextHop: r.Via.String()}
		}
		out.StaticRoutes = append(out.StaticRoutes, way)
	}
	out.DisableGatewayService = out.Gateway == ""
	return out
}

// everything is a default route of a family that is the interface, without a router.
func everything(is6 bool) staticRoute {
	if is6 {
		return staticRoute{Destination: "::/0", RouteType: routeConnected}
	}
	return staticRoute{Destination: "0.0.0.0/0", RouteType: routeConnected}
}

// leave is all right: the endpoint goes when Docker deletes it, with what Docker
// brings back until then.
func (p *Plugin) leave(_ context.Context, req endpointRequest) (any, error) {
	_, err := short(req.EndpointID)
	return struct{}{}, err
}

func (p *Plugin) deleteEndpoint(ctx context.Context, req endpointRequest) (any, error) {
	id, err := short(req.EndpointID)
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.engine.Part(ctx, id)
}

// publish publishes the container's ports: this endpoint is its way out now.
func (p *Plugin) publish(ctx context.Context, req endpointRequest) (any, error) {
	sb, err := p.sandbox(req)
	if err != nil {
		return nil, err
	}
	ports, err := portMappings(req.Options[optionPorts])
	if err != nil {
		return nil, err
	}
	return struct{}{}, p.insist(ctx, func() error { return p.carry(ctx, sb, ports) })
}

// carry has Docker's ports of a container be these, or leaves them as they are.
func (p *Plugin) carry(ctx context.Context, sb *model.Sandbox, ports []model.PortMapping) error {
	old := theirs(sb)
	if len(old) > 0 { // asked twice, or the way out moved
		if err := p.engine.Unpublish(ctx, string(sb.ID), old); err != nil {
			return err
		}
	}
	if len(ports) == 0 {
		return nil
	}
	err := p.engine.Carry(ctx, sb.ID, ports)
	if err != nil && len(old) > 0 {
		err = errors.Join(err, p.engine.Carry(ctx, sb.ID, old))
	}
	return err
}

// theirs are the ports of a container that Docker publishes, and no user, as Docker says
// them: without an address of the host's that their network gives them.
func theirs(sb *model.Sandbox) (out []model.PortMapping) {
	for _, m := range sb.Ports {
		if m.Bound {
			m.HostIP = netip.Addr{}
		}
		if !m.Added {
			out = append(out, m)
		}
	}
	return out
}

func (p *Plugin) unpublish(ctx context.Context, req endpointRequest) (any, error) {
	id, err := short(req.EndpointID)
	if err != nil {
		return nil, err
	}
	if sb := p.engine.ByEndpoint(id); sb != nil {
		err = p.carry(ctx, sb, nil)
	}
	return struct{}{}, err
}

// sandbox returns the container that a request's endpoint is in.
func (p *Plugin) sandbox(req endpointRequest) (*model.Sandbox, error) {
	id, err := short(req.EndpointID)
	if err != nil {
		return nil, err
	}
	sb := p.engine.ByEndpoint(id)
	if sb == nil {
		return nil, fmt.Errorf("endpoint %s: is in no container", id)
	}
	return sb, nil
}

// portMappings reads the option that lists the published ports, and puts them in order:
// Docker's is another each time.
func portMappings(option any) ([]model.PortMapping, error) {
	text, err := json.Marshal(option)
	var list []portBinding
	if err == nil {
		err = json.Unmarshal(text, &list)
	}
	if err != nil {
		return nil, fmt.Errorf("option %s: %w", optionPorts, err)
	}
	var out []model.PortMapping
	for _, b := range list {
		m, err := b.mapping()
		if err != nil {
			return nil, fmt.Errorf("option %s: %w", optionPorts, err)
		}
		if !slices.Contains(out, m) {
			out = append(out, m)
		}
	}
	slices.SortFunc(out, func(a, b model.PortMapping) int {
		return cmp.Or(cmp.Compare(a.Port, b.Port), cmp.Compare(a.Proto, b.Proto), a.HostIP.Compare(b.HostIP), cmp.Compare(a.HostPort, b.HostPort))
	})
	return out, nil
}

// mapping is the port as -p says it.
func (b portBinding) mapping() (model.PortMapping, error) {
	proto, ok := map[uint8]string{6: "tcp", 17: "udp", 132: "sctp"}[b.Proto]
	if !ok {
		return model.PortMapping{}, fmt.Errorf("port %d: protocol %d: want TCP, UDP or SCTP", b.Port, b.Proto)
	}
	host := ""
	switch {
	case b.HostPortEnd > b.HostPort:
		host = fmt.Sprintf("%d-%d", b.HostPort, b.HostPortEnd)
	case b.HostPort != 0:
		host = fmt.Sprint(b.HostPort)
	}
	text := fmt.Sprintf("%s:%d/%s", host, b.Port, proto)
	if host == "" && b.HostIP == "" {
		text = text[1:]
	}
	if a, err := netip.ParseAddr(b.HostIP); err == nil && a.Is6() {
		text = "[" + b.HostIP + "]:" + text
	} else if b.HostIP != "" {
		text = b.HostIP + ":" + text
	}
	return model.ParsePort(text)
}

// endpointInfo is what docker inspect may show.
func (p *Plugin) endpointInfo(_ context.Context, req endpointRequest) (any, error) {
	sb, err := p.sandbox(req)
	if err != nil {
		return nil, err
	}
	n, err := p.network(req.NetworkID)
	if err != nil {
		return nil, err
	}
	value := map[string]any{"sealane.sandbox": sb.Name}
	for i := range sb.Endpoints {
		if ep := &sb.Endpoints[i]; string(ep.ID) == req.EndpointID[:model.IDLen] && !n.OnParent() {
			value["sealane.device"] = ep.Device()
		}
	}
	var ports []string
	for _, m := range sb.Ports {
		ports = append(ports, m.String())
	}
	value["sealane.ports"] = ports
	return infoAnswer{value}, nil
}
