package dockerplugin

import (
	"context"
	"errors"
	"net/netip"

	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sealane/sealane/internal/model"
)

// What Docker took back while it could not reach us goes when it has not known it
// for a while.

// endpointGone drops an endpoint: its container ended or left the network, or it
// never came to one.
func (d *Directory) endpointGone(ctx context.Context, id model.ID) error {
	if !d.missing(id, grace) {
		return nil
	}
	delete(d.missed, id)
	return d.engine.Part(ctx, id)
}

// networkGone drops a network.
func (d *Directory) networkGone(ctx context.Context, n *model.Network) error {
	if !d.missing(n.ID, grace) {
		return nil
	}
	for _, sb := range d.engine.Sandboxes() {
		for ep := range sb.On(n.ID) {
			if !ep.Handed && n.Docker == "" {
				return nil // it goes when none of ours is on it
			}
			if !ep.Handed {
				continue
			}
			if err := d.engine.Part(ctx, ep.ID); err != nil {
				return err
			}
		}
	}
	delete(d.missed, n.ID)
	return d.engine.RemoveNetworkOf(ctx, model.OriginDocker, string(dockers(n)))
}

// addresses takes back those that are lent and that nobody has in Docker: it could
// not tell us, or has forgotten them, as 20.10 does with a container's IPv4 address
// when there is none of IPv6.
func (d *Directory) addresses(ctx context.Context, n *model.Network, there map[string]network.EndpointResource) error {
	has := map[netip.Addr]bool{}
	for _, e := range there {
		has[e.IPv4Address.Addr()], has[e.IPv6Address.Addr()] = true, true
	}
	var err error
	for _, s := range n.Subnets {
		for _, a := range s.Lent {
			if has[a] {
				delete(d.missed, model.ID(a.String()))
			} else if d.missing(model.ID(a.String()), grace) {
				err = errors.Join(err, d.engine.ReleaseAddress(ctx, s.Prefix, a))
			}
		}
	}
	return err
}

// pools takes back those that no network of Docker's has. A network says which
// subnets it has, whoever is its driver; one that says any of a size may have any.
func (d *Directory) pools(ctx context.Context, pools []*model.Network) error {
	if len(pools) == 0 {
		return nil
	}
	list, err := d.docker.NetworkList(ctx, client.NetworkListOptions{})
	if err != nil {
		return err
	}
	has := map[netip.Prefix]bool{}
	for _, n := range list.Items {
		for _, c := range n.IPAM.Config {
			if c.Subnet.Addr().IsUnspecified() {
				return nil
			}
			has[c.Subnet] = true
		}
	}
	for _, n := range pools {
		if prefix := n.Subnets[0].Prefix; has[prefix] {
			delete(d.missed, n.ID)
		} else if d.missing(n.ID, gracePool) {
			err = errors.Join(err, d.engine.ReleasePool(ctx, prefix))
		}
	}
	return err
}

// ranges lists those from which Docker's own IPAM gives out addresses.
func ranges(ipam network.IPAM) (out []netip.Prefix) {
	for _, c := range ipam.Config {
		if c.IPRange.IsValid() {
			out = append(out, c.IPRange)
		}
	}
	return out
}
