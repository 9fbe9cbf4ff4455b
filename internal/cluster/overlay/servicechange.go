package overlay

import (
	"context"
	"maps"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/model"
)

// CreateService makes a service and claims its addresses, at once: both or none. It
// asks want for them as Claim does, one of each subnet; without want they are the
// lowest free ones, and with DNSRR there are none. Its published ports are claimed with
// it: one that another service publishes, or a container of any host, is a Conflict. A name that a service, or somebody
// on the network, has is a Conflict. The service's VIPs are of no consequence.
func (d *Directory) CreateService(ctx context.Context, s Service, want func(taken func(netip.Addr) bool) ([]netip.Addr, error)) (Service, error) {
	e := Endpoint{Network: s.Network, Host: d.o.ID, ID: s.ID}
	made := s
	err := d.contend(ctx, s.Ref(), "create", func() (u unit, err error) {
		at, err := d.scene(ctx, &e, true)
		if err != nil {
			return unit{}, fault(s.Ref(), "create", err)
		}
		network, err := at.network(s.Ref(), "create")
		if err != nil {
			return unit{}, err
		}
		at.as = s.Claim()
		u, made, err = d.offer(ctx, at, network, s, want)
		return u, err
	})
	if err != nil {
		return s, err
	}
	return made, nil
}

// Servable says why CreateService would refuse a service, or UpdateService in the place of
// what it was, as far as it does not matter which addresses are free. Of the network its
// name, whether it is internal, and its ID count, which one that is to be made has not.
func (d *Directory) Servable(ctx context.Context, n *Network, s Service, was *model.Service) error {
	op, before := "create", []model.Publish(nil)
	if was != nil {
		op, before = "update", was.Publish
	}
	if err := s.fits(); err != nil {
		return model.Errorf(model.Invalid, s.Ref(), op, "%w", err)
	}
	if s.Network = n.ID; was == nil && n.ID != "" {
		if err := d.unnamed(ctx, &s, n); err != nil {
			return err
		}
	}
	u := newUnit()
	return d.publish(ctx, &u, &s, before, n.Internal, op)
}

// network finds the network that a scene is on.
func (s *scene) network(ref, op string) (*item, error) {
	i := s.item(Key{Kind: KindNetwork, Network: s.e.Network})
	switch {
	case i == nil:
		return nil, model.Errorf(model.NotFound, ref, op, "network %s: the cluster has no such network", s.e.Network)
	case i.err != nil:
		return nil, model.Errorf(model.Internal, ref, op, "network %s: %w", s.e.Network, i.err)
	}
	return i, nil
}

// offer makes the unit that puts a service and claims its addresses.
func (d *Directory) offer(ctx context.Context, at *scene, network *item, s Service, want func(func(netip.Addr) bool) ([]netip.Addr, error)) (unit, Service, error) {
	u, n := newUnit(), &network.net
	if at.item(s.Key()) != nil {
		return u, s, model.Errorf(model.Conflict, s.Ref(), "create", "network %s has a service of that name", n.Name)
	}
	if err := d.unnamed(ctx, &s, n); err != nil {
		return u, s, err
	}
	if want == nil {
		want = n.lowest
	}
	if s.VIPs = nil; !s.DNSRR {
		addrs, err := at.ask(n, want)
		if err != nil {
			return u, s, err
		}
		s.VIPs = slices.Clone(addrs)
	}
	if err := s.Validate(); err != nil {
		return u, s, model.Errorf(model.Invalid, s.Ref(), "create", "%w", err)
	}
	for _, a := range s.VIPs {
		if err := d.lay(ctx, u, at, n, a); err != nil {
			return u, s, err
		}
	}
	if err := d.publish(ctx, &u, &s, nil, n.Internal, "create"); err != nil {
		return u, s, err
	}
	text, err := s.Marshal()
	if err != nil {
		return u, s, err
	}
	u.put(s.Key(), 0, text, 0)
	u.on(network)
	return u, s, nil
}

// unnamed says who on a network is asked for by a service's name, and is no backend of it:
// those are often called as their service is.
func (d *Directory) unnamed(ctx context.Context, s *Service, n *Network) error {
	r, err := d.read(ctx, "hosts/", "endpoints/"+string(n.ID)+"/")
	if err != nil {
		return fault(s.Ref(), "create", err)
	}
	for _, k := range slices.SortedFunc(maps.Keys(r.items), byKey) {
		host := r.items[Key{Kind: KindHost, Host: k.Host}]
		if k.Kind != KindEndpoint || host == nil {
			continue
		}
		e, err := ParseEndpoint(k, r.items[k].entry.Value)
		named := func(name string) bool { return strings.EqualFold(name, s.Name) }
		if err == nil && slices.ContainsFunc(e.Names, named) && !slices.ContainsFunc(e.Services, func(m Membership) bool { return named(m.Name) }) {
			return model.Errorf(model.Conflict, s.Ref(), "create", "%s is asked for by that name on network %s", whose(Claim{Host: k.Host, Endpoint: k.Endpoint}, host, r.items[k]), n.Name)
		}
	}
	return nil
}

// ServiceChange is what becomes of a service. An error of Do's is returned as it is.
type ServiceChange struct {
	Network model.ID
	Name    string
	Do      func(*Service) error
}

// UpdateService changes a service, and returns it as it is then: see UpdateServices.
func (d *Directory) UpdateService(ctx context.Context, network model.ID, name string, f func(*Service) error) (Service, error) {
	all, err := d.UpdateServices(ctx, ServiceChange{network, name, f})
	if err != nil {
		return Service{}, err
	}
	return all[0], nil
}

// UpdateServices changes services at once, all or none, and returns them as they are then.
// Network, ID, name and addresses stay, and the time at which each was created; of those that drain, who is
// on the network no more is forgotten. Ports that they are to publish are claimed as in
// CreateService, others given back, also from one of them to another.
func (d *Directory) UpdateServices(ctx context.Context, changes ...ServiceChange) ([]Service, error) {
	var made []Service
	err := d.contend(ctx, "service "+changes[0].Name, "update", func() (unit, error) {
		u := newUnit()
		made = nil
		var before [][]model.Publish
		var internal []bool
		for _, c := range changes {
			i, r, err := d.reread(ctx, c.Network, c.Name, "update")
			if err != nil {
				return u, err
			}
			s, was, err := r.revised(i, c)
			if err != nil {
				return u, err
			}
			text, err := s.Marshal()
			if err != nil {
				return u, err
			}
			u.put(i.key, i.entry.Rev, text, 0)
			n := r.items[Key{Kind: KindNetwork, Network: c.Network}]
			made, before, internal = append(made, *s), append(before, was), append(internal, n != nil && n.net.Internal)
		}
		for i := range made {
			if err := d.publish(ctx, &u, &made[i], before[i], internal[i], "update"); err != nil {
				return u, err
			}
		}
		return u, nil
	})
	return made, err
}

// revised is a service as a change has it, and what it published before.
func (r stock) revised(i *item, c ServiceChange) (*Service, []model.Publish, error) {
	s, err := ParseService(i.key, i.entry.Value)
	if err != nil {
		return nil, nil, model.Errorf(model.Internal, "service "+c.Name, "update", "%w", err)
	}
	was := *s
	if err := c.Do(s); err != nil {
		return nil, nil, err
	}
	s.Network, s.ID, s.Name, s.VIPs, s.DNSRR, s.Created, s.others = was.Network, was.ID, was.Name, was.VIPs, was.DNSRR, was.Created, was.others
	s.Draining = slices.DeleteFunc(slices.Clone(s.Draining), func(id model.ID) bool { return !r.has(id) })
	slices.Sort(s.Draining)
	s.Draining = slices.Compact(s.Draining)
	if err := s.Validate(); err != nil {
		return nil, nil, model.Errorf(model.Invalid, s.Ref(), "update", "%w", err)
	}
	return s, was.Publish, nil
}

// has says whether an endpoint is in a stock, of whatever host.
func (r stock) has(endpoint model.ID) bool {
	for k := range r.items {
		if k.Kind == KindEndpoint && k.Endpoint == endpoint {
			return true
		}
	}
	return false
}

// RemoveService removes a service; its addresses rest for Options.Rest. Who was a
// backend of it stays on the network.
func (d *Directory) RemoveService(ctx context.Context, network model.ID, name string) error {
	return d.contend(ctx, "service "+name, "remove", func() (unit, error) {
		i, r, err := d.reread(ctx, network, name, "remove")
		if err != nil {
			return unit{}, err
		}
		u := gone(i.key, i.entry.Rev)
		u.puts = map[Key]value{}
		text, err := Claim{Host: d.o.ID}.Marshal()
		if err != nil {
			return u, err
		}
		for a, claim := range r.claims[network] {
			if claim.err == nil && claim.claim == (Claim{Service: i.key.Name}) {
				u.put(Key{Kind: KindAddress, Network: network, Addr: a}, claim.entry.Rev, text, d.o.Rest)
			}
		}
		d.unpublish(&u, r, &Service{Network: network, Service: model.Service{Name: i.key.Name}}, nil)
		return u, nil
	})
}

// reread reads a service, with what is on its network.
func (d *Directory) reread(ctx context.Context, network model.ID, name, op string) (*item, stock, error) {
	k, ref := serviceKey(network, name), "service "+name
	r, err := d.read(ctx, k.String(), "addresses/"+string(network)+"/", "endpoints/"+string(network)+"/", "networks/"+string(network), "ports/")
	if err != nil {
		return nil, r, fault(ref, op, err)
	}
	i := r.items[k]
	if i == nil {
		return nil, r, model.Errorf(model.NotFound, ref, op, "no such service")
	}
	return i, r, nil
}
