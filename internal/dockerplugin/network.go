package dockerplugin

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/engine"
	"github.com/sealane/sealane/internal/model"
)

// optionDriver is the -o key that chooses one of our drivers.
const optionDriver = "driver"

// optionService is the endpoint's option that lists services, as --service does.
const optionService = "sealane.service"

// createNetwork makes a network, once. Docker says its name to nobody: it gets
// that when it can be asked for.
func (p *Plugin) createNetwork(ctx context.Context, req networkRequest) (any, error) {
	id, err := short(req.NetworkID)
	if err != nil {
		return nil, err
	}
	if _, err := p.network(req.NetworkID); err == nil {
		return struct{}{}, nil
	}
	spec := engine.NetworkSpec{ID: id, Origin: model.OriginDocker, Name: model.OriginDocker + "-" + string(id), NoIPv4: true, FromPools: true}
	if spec.Options, err = driverOptions(req.Options); err != nil {
		return nil, err
	}
	spec.Driver = spec.Options[optionDriver]
	delete(spec.Options, optionDriver)
	spec.Internal, _ = req.Options[optionInternal].(bool)
	for _, d := range append(req.IPv4Data, req.IPv6Data...) {
		s, err := d.subnet()
		if err != nil {
			return nil, err
		}
		spec.Subnets = append(spec.Subnets, s)
	}
	if err = p.insist(ctx, func() error { return p.make(ctx, spec) }, p.unasked(spec)...); err == nil {
		p.follow()
	}
	return struct{}{}, err
}

func (p *Plugin) make(ctx context.Context, spec engine.NetworkSpec) (err error) {
	switch spec.Driver {
	case model.DriverFabric:
		return p.engine.TakeFabric(ctx, spec)
	case model.DriverOverlay:
		return p.engine.TakeOverlay(ctx, spec)
	}
	_, err = p.engine.CreateNetwork(ctx, spec)
	return err
}

// unasked lists the subnets that Docker has not asked us for: in the way of the others
// is nobody.
func (p *Plugin) unasked(spec engine.NetworkSpec) (out []netip.Prefix) {
	for _, s := range spec.Subnets {
		asked := func(n *model.Network) bool { return n.Driver == model.DriverPool && n.Subnets[0].Prefix == s.Prefix }
		if !slices.ContainsFunc(p.engine.Networks(), asked) {
			out = append(out, s.Prefix)
		}
	}
	return out
}

// follow says that there is something of Docker's to be followed there.
func (p *Plugin) follow() {
	select {
	case p.came <- struct{}{}:
	default: // one waits already
	}
}

// driverOptions returns what -o said.
func driverOptions(options map[string]any) (map[string]string, error) {
	out := map[string]string{}
	generic, ok := options[optionGeneric].(map[string]any)
	if !ok && options[optionGeneric] != nil {
		return nil, fmt.Errorf("option %s: want an object", optionGeneric)
	}
	for k, v := range generic {
		text, ok := v.(string)
		if !ok {
			return nil, fmt.Errorf("option %s: want a string", k)
		}
		out[k] = text
	}
	return out, nil
}

// subnet reads one of the network's.
func (d ipamData) subnet() (model.Subnet, error) {
	prefix, err := netip.ParsePrefix(d.Pool)
	if err != nil {
		return model.Subnet{}, fmt.Errorf("subnet %q: want one like 10.8.0.0/24", d.Pool)
	}
	if prefix.Bits() == 0 {
		return model.Subnet{}, fmt.Errorf("subnet %s: want one with addresses, not the IPAM driver null", prefix)
	}
	s := model.Subnet{Prefix: prefix.Masked()}
	if d.Gateway != "" {
		if s.Gateway, err = address(d.Gateway); err != nil {
			return s, fmt.Errorf("gateway: %w", err)
		}
	}
	for name, text := range d.AuxAddresses {
		a, err := address(text)
		if err != nil {
			return s, fmt.Errorf("aux-address %s: %w", name, err)
		}
		if s.Aux == nil {
			s.Aux = map[string]netip.Addr{}
		}
		s.Aux[name] = a
	}
	return s, nil
}

// address reads an address, with the length of its subnet or without.
func address(text string) (netip.Addr, error) {
	if p, err := netip.ParsePrefix(text); err == nil {
		return p.Addr().Unmap(), nil
	}
	a, err := netip.ParseAddr(text)
	if err != nil || a.Zone() != "" {
		return netip.Addr{}, fmt.Errorf("address %q: want one like 10.8.0.2", text)
	}
	return a.Unmap(), nil
}

func (p *Plugin) deleteNetwork(ctx context.Context, req networkRequest) (any, error) {
	id, err := short(req.NetworkID)
	if err != nil {
		return nil, err
	}
	err = p.engine.RemoveNetworkOf(ctx, model.OriginDocker, string(id))
	if model.KindOf(err) == model.NotFound {
		err = nil
	}
	return struct{}{}, err
}

// network returns the network that a request is about.
func (p *Plugin) network(id string) (*model.Network, error) {
	s, err := short(id)
	if err != nil {
		return nil, err
	}
	if n, err := p.engine.Network(string(s)); err == nil && n.ID == s && n.Origin == model.OriginDocker {
		return n, nil
	}
	for _, n := range p.engine.Networks() {
		if n.Docker == s {
			return n, nil
		}
	}
	return nil, model.Errorf(model.NotFound, "network "+string(s), "find", "no such network of Docker's")
}

// dockers is the ID that a network of Docker's has there: one over hosts has another of
// its own, on all of them.
func dockers(n *model.Network) model.ID { return cmp.Or(n.Docker, n.ID) }
