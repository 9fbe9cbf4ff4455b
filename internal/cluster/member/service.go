package member

import (
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
)

// Services of overlay networks are no host's: any host makes, changes and removes them.
// Their addresses are theirs as long as they are there.

// judgeService judges services: what is put has its addresses, on a network that there is.
func (b bid) judgeService(w wish, s scene) error {
	if w.put == nil {
		return nil
	}
	o, err := overlay.ParseService(w.shared, w.put.Value)
	if err != nil {
		return err
	}
	if _, ok := b.network(s, w.shared.Network); !ok {
		return errors.New("there is no such network")
	}
	for _, a := range o.VIPs {
		c, err := overlay.ParseClaim(b.then(s, overlay.Key{Kind: overlay.KindAddress, Network: w.shared.Network, Addr: a}))
		if err != nil || c != o.Claim() {
			return fmt.Errorf("address %s is not claimed by it", a)
		}
	}
	return b.checkPublished(o, s)
}

// aboutService are the keys that a service is judged by.
func (w wish) aboutService() []overlay.Key {
	out := []overlay.Key{{Kind: overlay.KindNetwork, Network: w.shared.Network}}
	if w.put == nil {
		return out
	}
	o, err := overlay.ParseService(w.shared, w.put.Value)
	if err != nil {
		return out
	}
	for _, a := range o.VIPs {
		out = append(out, overlay.Key{Kind: overlay.KindAddress, Network: w.shared.Network, Addr: a})
	}
	for _, p := range o.Publish {
		out = append(out, overlay.PortKey(p))
	}
	return out
}

// serves says whether a service, by the name in its key, is there once a bid was done
// and has an address.
func (b bid) serves(s scene, network model.ID, name string, a netip.Addr) bool {
	k := overlay.Key{Kind: overlay.KindService, Network: network, Name: name}
	o, err := overlay.ParseService(k, b.then(s, k))
	return name != "" && err == nil && slices.Contains(o.VIPs, a)
}

// services lists those that are on a network once a bid was done, but those that are new
// with it.
func (b bid) services(s scene, network model.ID) []*overlay.Service {
	var out []*overlay.Service
	for _, key := range s.under(string(b.domain) + sharedRoot + "services/" + string(network) + "/") {
		k, ok := overlay.ParseKey(strings.TrimPrefix(key, string(b.domain)+sharedRoot))
		if text := b.then(s, k); ok && text != nil {
			if o, err := overlay.ParseService(k, text); err == nil {
				out = append(out, o)
			}
		}
	}
	return out
}

// checkServed refuses to take a network away from under its services.
func (b bid) checkServed(n *overlay.Network, id model.ID, s scene) error {
	for _, o := range b.services(s, id) {
		if n == nil {
			return fmt.Errorf("service %s is on it", o.Name)
		}
		if n.Internal && len(o.Publish) > 0 {
			return fmt.Errorf("service %s publishes ports: it does not become internal", o.Name)
		}
		for _, a := range o.VIPs {
			if _, ok := n.Subnet(a); !ok {
				return fmt.Errorf("service %s has %s on it", o.Name, a)
			}
		}
	}
	return nil
}
