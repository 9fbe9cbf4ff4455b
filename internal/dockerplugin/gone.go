package dockerplugin

import (
	"context"
	"errors"
	"maps"
	"net/netip"
	"slices"
	"time"

	"github.com/containerd/errdefs"
	"github.com/moby/moby/api/types/network"
	"github.com/moby/moby/client"

	"github.com/sealane/sealane/internal/model"
)

// What Docker took back while it could not reach us goes when it has not known it
// for a while, or at once if it is in the way of what Docker asks for: that it has
// itself forgotten is no reason to refuse it.

// verdict says whether something that Docker does not know is gone, and not about to
// be known, for which enough is the time; where are the addresses that it has.
type verdict func(id model.ID, enough time.Duration, where ...netip.Prefix) bool

// askTime is how long Docker may take to say what it has while it waits for us: as it
// starts, it answers nobody.
const askTime = 5 * time.Second

// sweep drops what is in the way of something that Docker asks for: the endpoints that
// Docker has no more, and what else of that has some of the subnets and addresses that
// it wants. It drops only what there was when sealaned began, or dockerd ended, and once:
// what Docker told us of later it may not have noted yet, and takes back itself. Of a
// Docker that is silent only the first sweep waits. If it cannot be asked, the next look
// says so.
func (d *Directory) sweep(ctx context.Context, want []netip.Prefix) {
	d.sweeping.Lock()
	defer d.sweeping.Unlock()
	former := d.former.Load()
	left := maps.Clone(*former)
	gone := func(id model.ID, _ time.Duration, where ...netip.Prefix) bool {
		wanted := func(p netip.Prefix) bool { return slices.ContainsFunc(want, p.Overlaps) }
		is := (*former)[id] && (len(where) == 0 || slices.ContainsFunc(where, wanted))
		if is {
			delete(left, id)
		}
		return is
	}
	if !d.silent.Load() {
		asking, cancel := context.WithTimeout(ctx, askTime)
		_ = d.compare(asking, gone, func(*model.Network, network.Inspect) error { return nil })
		d.silent.Store(asking.Err() != nil && ctx.Err() == nil)
		cancel()
	}
	if d.silent.Load() {
		_ = d.dropEnded(ctx, gone)
	}
	d.former.CompareAndSwap(former, &left) // what was dropped may be there anew
}

// dropEnded drops what compare does of endpoints, without asking Docker. As it starts, it
// forgets first what has no container that runs, and asks for anything only then; and a
// container that runs has its namespace.
func (d *Directory) dropEnded(ctx context.Context, gone verdict) error {
	running, err := d.engine.Inhabited(ctx)
	if err != nil {
		return err
	}
	for _, n := range d.networks() {
		if n.Driver == model.DriverPool {
			continue // who has addresses there is on a network that we do not know
		}
		there := map[string]network.EndpointResource{}
		for _, sb := range running {
			for ep := range sb.On(n.ID) {
				there[string(ep.ID)] = resource(ep)
			}
		}
		err = errors.Join(err, d.dropEndpoints(ctx, n, there, gone))
	}
	return err
}

// resource is an endpoint as Docker says it, as far as that is compared.
func resource(ep *model.Endpoint) network.EndpointResource {
	out := network.EndpointResource{EndpointID: string(ep.ID)}
	for _, p := range ep.Addrs {
		if p.Addr().Is6() {
			out.IPv6Address = p
		} else {
			out.IPv4Address = p
		}
	}
	return out
}

// compare asks Docker what it has of all that we have of it. What it has not, and is
// gone, is dropped; the networks that it has are shown to known.
func (d *Directory) compare(ctx context.Context, gone verdict, known func(*model.Network, network.Inspect) error) (err error) {
	select {
	case d.turn <- struct{}{}: // another one may be about to drop what is wanted
		defer func() { <-d.turn }()
	case <-ctx.Done():
		return ctx.Err()
	}
	var pools []*model.Network
	for _, n := range d.networks() {
		if n.Driver == model.DriverPool {
			pools = append(pools, n)
			continue
		}
		seen, failed := d.docker.NetworkInspect(ctx, string(dockers(n)), client.NetworkInspectOptions{})
		switch {
		case errdefs.IsNotFound(failed):
			failed = d.dropNetwork(ctx, n, gone)
		case failed == nil:
			failed = errors.Join(known(n, seen.Network), d.dropEndpoints(ctx, n, seen.Network.Containers, gone))
		}
		err = errors.Join(err, failed)
		if client.IsErrConnectionFailed(failed) {
			return failed
		}
	}
	return errors.Join(err, d.dropPools(ctx, pools, gone))
}

// endpoints lists those of Docker's on a network, with their addresses.
func (d *Directory) endpoints(n *model.Network) map[model.ID][]netip.Addr {
	all := map[model.ID][]netip.Addr{}
	for _, w := range n.Waiting {
		all[w.ID] = w.Addrs
	}
	for _, sb := range d.engine.Sandboxes() {
		for ep := range sb.On(n.ID) {
			for _, p := range ep.Addrs {
				if ep.Handed {
					all[ep.ID] = append(all[ep.ID], p.Addr())
				}
			}
		}
	}
	return all
}

// dropEndpoints drops those on a network whose containers ended or left it, or that
// never came to one, with the addresses that Docker has for them; and the addresses
// that it has for nobody: it could not tell us, or has forgotten them, as 20.10 does
// with a container's IPv4 address when there is none of IPv6.
func (d *Directory) dropEndpoints(ctx context.Context, n *model.Network, there map[string]network.EndpointResource, gone verdict) (err error) {
	known, has := map[model.ID]bool{}, map[netip.Addr]bool{}
	for _, e := range there {
		if id, err := short(e.EndpointID); err == nil {
			known[id] = true
		}
		has[e.IPv4Address.Addr()], has[e.IPv6Address.Addr()] = true, true
	}
	with := map[netip.Addr]bool{}
	for id, addrs := range d.endpoints(n) {
		if known[id] || !gone(id, grace) {
			continue
		}
		err = errors.Join(err, d.engine.Part(ctx, id))
		for _, a := range addrs {
			with[a] = true
		}
	}
	for _, s := range n.Subnets {
		for _, a := range s.Lent {
			if !has[a] && (gone(model.ID(a.String()), grace, netip.PrefixFrom(a, a.BitLen())) || with[a]) {
				err = errors.Join(err, d.engine.ReleaseAddress(ctx, s.Prefix, a))
			}
		}
	}
	return err
}

// dropNetwork drops a network.
func (d *Directory) dropNetwork(ctx context.Context, n *model.Network, gone verdict) error {
	var where []netip.Prefix
	for _, s := range n.Subnets {
		where = append(where, s.Prefix)
	}
	if !gone(n.ID, grace, where...) {
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
	return d.engine.RemoveNetworkOf(ctx, model.OriginDocker, string(dockers(n)))
}

// dropPools takes back those that no network of Docker's has. A network says which
// subnets it has, whoever is its driver; one that says any of a size may have any.
func (d *Directory) dropPools(ctx context.Context, pools []*model.Network, gone verdict) error {
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
		if prefix := n.Subnets[0].Prefix; !has[prefix] && gone(n.ID, gracePool, prefix) {
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
