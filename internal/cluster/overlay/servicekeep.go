package overlay

import (
	"context"
	"net/netip"
	"slices"

	"github.com/sealane/sealane/internal/model"
)

// KeepServices says which services the networks have that Keep is told of: they are put
// again with their network, at once. What it is told is not changed by anybody.
func (d *Directory) KeepServices(services map[model.ID][]*model.Service) {
	d.keep.mu.Lock()
	d.keep.offers = services
	d.keep.mu.Unlock()
}

// offered are the services that a network is to have.
func (k *keeper) offered(network model.ID) []Service {
	k.mu.Lock()
	defer k.mu.Unlock()
	var all []Service
	for _, s := range k.offers[network] {
		all = append(all, Service{Network: network, Service: *s})
	}
	return all
}

// takenIn says whether an address of a service's is somebody else's.
func (s *Service) takenIn(r stock) func(netip.Addr) bool {
	return func(a netip.Addr) bool {
		i := r.claims[s.Network][a]
		return i != nil && i.claim != s.Claim()
	}
}

// reoffer adds services of a network to a unit that puts it again, but those that are
// there, or whose addresses are somebody else's by now; and as many as fit.
func (d *Directory) reoffer(ctx context.Context, u unit, network model.ID, services []Service) error {
	if len(services) == 0 {
		return nil
	}
	r, err := d.read(ctx, "services/"+string(network)+"/", "addresses/"+string(network)+"/")
	if err != nil {
		return err
	}
	for _, s := range services {
		if u.size()+1+len(s.VIPs)+len(s.Publish) > maxBatch {
			break
		}
		taken := slices.ContainsFunc(s.VIPs, s.takenIn(r))
		claim, bad := s.Claim().Marshal()
		if taken || r.items[s.Key()] != nil || bad != nil || s.Validate() != nil {
			continue
		}
		if err := d.republish(ctx, &u, &s); err != nil {
			return err
		}
		text, err := s.Marshal()
		if err != nil {
			return err
		}
		u.put(s.Key(), 0, text, 0)
		for _, a := range s.VIPs {
			k := Key{Kind: KindAddress, Network: network, Addr: a}
			u.put(k, r.rev(k), claim, 0)
		}
	}
	return nil
}
