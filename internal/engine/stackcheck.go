package engine

import (
	"context"
	"slices"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// What a step would be refused for is found before the first one is taken, as far as it
// can be known then: by this host, and by the cluster's store.

// makeable says why networks cannot be made, each beside those before it.
func (e *Engine) makeable(ctx context.Context, specs []NetworkSpec) error {
	recs, err := e.draftNetworks(ctx, specs)
	if err != nil || len(recs) == 0 {
		return err
	}
	dir := e.directory()
	if dir == nil {
		return notClustered("network "+recs[0].Name, "create")
	}
	return dir.Creatable(ctx, recs...)
}

// draftNetworks drafts networks and gives them up again. It returns what all hosts would
// be told of those that span hosts. The making of a fabric is its test.
func (e *Engine) draftNetworks(ctx context.Context, specs []NetworkSpec) (recs []overlay.Network, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("", "create")
	defer d.discard()
	for _, spec := range specs {
		d.ref = "network " + spec.Name
		switch spec.Driver {
		case model.DriverFabric:
		case model.DriverOverlay:
			rec, err := d.addOverlay(ctx, spec)
			if err != nil {
				return nil, err
			}
			recs = append(recs, rec)
		default:
			if _, err := d.addNetwork(ctx, spec); err != nil {
				return nil, err
			}
		}
	}
	return recs, nil
}

// servable says why services cannot be made, or not be published where they are to be.
func (p *stackPlan) servable(ctx context.Context) error {
	dir := p.e.directory()
	for _, c := range p.same {
		if c.have.Service != nil && len(c.add) == 0 {
			continue
		}
		n, err := p.ground(c.spec)
		if err != nil {
			return err
		}
		if dir == nil {
			return notClustered("service "+c.spec.Name, "create")
		}
		s := overlay.Service{Service: model.Service{Name: c.spec.Name, Ports: c.spec.Ports, Publish: p.contended(c)}}
		if err := dir.Servable(ctx, n, s, c.have.Service); err != nil {
			return err
		}
	}
	return nil
}

// ground is the network of a service, without an ID if it is to be made.
func (p *stackPlan) ground(spec ServiceSpec) (*overlay.Network, error) {
	out, driver := overlay.Network{Name: spec.Network}, ""
	if n := p.networks[spec.Network]; n != nil {
		out.ID, out.Internal, driver = n.ID, n.Internal, n.Driver
	}
	if i := slices.IndexFunc(p.fresh, func(f NetworkSpec) bool { return f.Name == spec.Network }); i >= 0 {
		out.Internal, driver = p.fresh[i].Internal, p.fresh[i].Driver
	}
	switch driver {
	case "":
		return nil, model.Errorf(model.NotFound, "service "+spec.Name, "create", "network %s: no such network", spec.Network).WithHint("sealane network ls shows those there are")
	case model.DriverOverlay:
		return &out, nil
	}
	return nil, model.Errorf(model.Invalid, "service "+spec.Name, "create", "network %s: services are of overlay networks", spec.Network)
}

// contended are the published ports of a service that the stack does not give up elsewhere
// before.
func (p *stackPlan) contended(c pairing) []model.Publish {
	return slices.DeleteFunc(slices.Clone(c.spec.Publish), func(w model.Publish) bool {
		freed := func(all []model.Publish) bool {
			return slices.ContainsFunc(all, func(o model.Publish) bool { return servicePort(o) == servicePort(w) })
		}
		return slices.ContainsFunc(p.gone, func(s Service) bool { return freed(s.Publish) }) ||
			slices.ContainsFunc(p.same, func(o pairing) bool { return o.spec.Name != c.spec.Name && freed(o.drop) })
	})
}
