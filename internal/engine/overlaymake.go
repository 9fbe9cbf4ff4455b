package engine

import (
	"cmp"
	"context"
	"fmt"
	"net/netip"
	"slices"
	"time"

	"github.com/sealane/sealane/internal/cluster/overlay"
	"github.com/sealane/sealane/internal/model"
	"github.com/sealane/sealane/internal/serve/dns"
)

// createOverlay puts a network into the cluster's store, and waits until this host has
// it.
func (e *Engine) createOverlay(ctx context.Context, spec NetworkSpec) (*model.Network, error) {
	dir := e.directory()
	if dir == nil {
		return nil, notClustered("network "+spec.Name, "create")
	}
	rec, err := e.draftOverlay(ctx, spec)
	if err != nil {
		return nil, err
	}
	made, err := dir.Create(ctx, rec)
	if err != nil {
		if model.KindOf(err) == model.Conflict {
			e.awaitCalled(ctx, spec.Name)
		}
		return nil, err
	}
	n, err := e.overlayKnown(ctx, made.ID)
	if err == nil {
		return n, nil
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), joinTime)
	defer cancel()
	if gone := dir.Remove(ctx, made.ID); gone != nil {
		e.cfg.Log.Warn("overlay: remove it again", "network", spec.Name, "err", gone)
	}
	return nil, model.Errorf(model.Conflict, "network "+spec.Name, "create", "this host cannot join: %w", err)
}

// draftOverlay is what all hosts are to know of a new network: as it would be if it
// were of this host only.
func (e *Engine) draftOverlay(ctx context.Context, spec NetworkSpec) (rec overlay.Network, err error) {
	e.work.Lock()
	defer e.work.Unlock()
	d := e.draft("network "+spec.Name, "create")
	defer d.discard()
	return d.addOverlay(ctx, spec)
}

// addOverlay puts an overlay network into the draft, and returns what all hosts are to know
// of it.
func (d *draft) addOverlay(ctx context.Context, spec NetworkSpec) (rec overlay.Network, err error) {
	if spec.Origin != "" {
		return rec, d.errorf(model.Unsupported, "driver overlay: its networks are made by Sealane's own API")
	}
	if spec.FromPools {
		d.dropPools(spec.Subnets)
	}
	if err := d.checkNewNetwork(spec); err != nil {
		return rec, err
	}
	o, err := model.ParseOptions(model.DriverOverlay, spec.Options)
	if err != nil {
		return rec, d.errorf(model.Invalid, "%w", err)
	}
	view, err := d.host(ctx)
	if err != nil {
		return rec, internal(d.ref, d.op, err)
	}
	n := &model.Network{ID: newID(), Name: spec.Name, Driver: model.DriverOverlay, Internal: spec.Internal, Subnets: slices.Clone(spec.Subnets), Options: o,
		Labels: spec.Labels, Created: d.e.cfg.Now().UTC(), Overlay: &model.Overlay{VNI: cmp.Or(o.Backend.VNI, model.MinOverlayVNI)}}
	if err := d.settleSubnets(n, spec, view); err != nil {
		return rec, err
	}
	if err := n.Validate(); err != nil {
		return rec, err
	}
	if err := d.checkOverlap(n, view); err != nil {
		return rec, err
	}
	if err := d.checkTrunk(n, view); err != nil {
		return rec, err
	}
	d.networks[n.ID] = n
	return overlay.Network{ID: n.ID, Name: n.Name, Subnets: n.Subnets, VNI: o.Backend.VNI, Internal: n.Internal, Options: spec.Options, Labels: n.Labels, Created: n.Created}, nil
}

// overlayKnown waits until a network is one of this host's.
func (e *Engine) overlayKnown(ctx context.Context, id model.ID) (*model.Network, error) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for {
		e.mu.RLock()
		n := e.intent.Networks[id]
		e.mu.RUnlock()
		if n != nil {
			return n, nil
		}
		e.overlays.mu.Lock()
		failed, wrong := e.overlays.failed[id]
		e.overlays.mu.Unlock()
		if wrong {
			return nil, fmt.Errorf("%s", failed.text)
		}
		select {
		case <-ctx.Done():
			return nil, ctx.Err()
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// overlayUnknown waits until this host has heard that a network is no more: before, it
// would make it again as one that it has heard of. Who is not told for long goes on.
func (e *Engine) overlayUnknown(ctx context.Context, id model.ID) {
	ctx, cancel := context.WithTimeout(ctx, joinTime)
	defer cancel()
	for v := e.overlayView(); v != nil && v.Networks[id] != nil; v = e.overlayView() {
		select {
		case <-ctx.Done():
			return
		case <-time.After(time.Millisecond):
		}
	}
}

// dissolveOverlay removes a network from the cluster, if it is an overlay that nobody
// is on anywhere.
func (e *Engine) dissolveOverlay(ctx context.Context, ref string) (done bool, err error) {
	e.mu.RLock()
	n := (&draft{e: e}).find(ref)
	used := n != nil && (n.Docker != "" || len(e.users(n.ID)) > 0)
	e.mu.RUnlock()
	dir := e.directory()
	if n == nil || n.Overlay == nil || used {
		return false, nil
	}
	if dir == nil {
		return false, nil // left over: it is this host's alone
	}
	if err = dir.Remove(ctx, n.ID); err == nil {
		e.overlayUnknown(ctx, n.ID)
	}
	return true, err
}

// maxFarUsers is how many endpoints of other hosts and services an error names.
const maxFarUsers = 16

// farUsers lists who on other hosts is on a network, and its services.
func farUsers(n *model.Network) (names []string) {
	o := partsOf(n)
	for _, f := range o.Far {
		names = append(names, cmp.Or(f.Sandbox, string(f.ID))+" of host "+f.Host)
	}
	for _, s := range o.Services {
		names = append(names, s.Ref())
	}
	if more := len(names) - maxFarUsers; more > 0 {
		names = append(names[:maxFarUsers], fmt.Sprintf("%d more", more))
	}
	return names
}

// claimAddresses claims an endpoint's addresses on an overlay network in the cluster, and
// holds them here. done gives back what came to nothing. What ref and op say has the
// network's name.
func (e *Engine) claimAddresses(ctx context.Context, ref, op string, n *model.Network, spec EndpointSpec) (_ EndpointSpec, done func(), err error) {
	dir := e.directory()
	if dir == nil {
		return spec, func() {}, notClustered(ref, op)
	}
	if mac, err := model.CheckMAC(spec.MAC); err == nil {
		if who := heldFar(n, mac); who != "" {
			return spec, func() {}, model.Errorf(model.Conflict, ref, op, "mac-address %s: taken by %s", mac, who)
		}
		spec.MAC = mac
	}
	spec.ID = cmp.Or(spec.ID, newID())
	var chosen []*choice
	held := func() { e.unchoose(chosen); chosen = nil }
	claimed, err := dir.Claim(ctx, overlay.Endpoint{ID: spec.ID, Network: n.ID, MAC: spec.MAC}, func(taken func(netip.Addr) bool) ([]netip.Addr, error) {
		held()
		var all []netip.Addr
		for _, s := range n.Subnets {
			is6 := s.Prefix.Addr().Is6()
			if i := slices.IndexFunc(spec.Addrs, func(a netip.Addr) bool { return a.Is6() == is6 }); i >= 0 {
				all = append(all, spec.Addrs[i])
				continue
			}
			c, ok := e.pickUnclaimed(n, poolKey{n.ID, is6}, taken)
			if !ok {
				return nil, model.Errorf(model.Exhausted, ref, op, "subnet %s: no free address", s.Prefix)
			}
			chosen = append(chosen, c)
			all = append(all, c.addr)
		}
		return all, nil
	})
	if err != nil {
		held()
		return spec, func() {}, err
	}
	e.cfg.Log.Debug("claimed", "network", n.Name, "endpoint", spec.ID, "addresses", claimed)
	spec.chosen = chosen
	return spec, func() { held(); dir.Unclaim(n.ID, spec.ID) }, nil
}

// heldFar says which endpoint on another host has a hardware address, or "".
func heldFar(n *model.Network, mac string) string {
	if n.Overlay == nil {
		return ""
	}
	i := slices.IndexFunc(n.Overlay.Far, func(f *model.Far) bool { return f.MAC == mac })
	if i < 0 {
		return ""
	}
	f := n.Overlay.Far[i]
	return cmp.Or(f.Sandbox, string(f.ID)) + " of host " + f.Host
}

// pickUnclaimed holds the next address of a pool that no other host has claimed.
func (e *Engine) pickUnclaimed(n *model.Network, key poolKey, taken func(netip.Addr) bool) (*choice, bool) {
	var passed []netip.Addr
	defer func() {
		e.poolsMu.Lock()
		defer e.poolsMu.Unlock()
		for _, a := range passed {
			if pool := e.pools[key]; pool != nil {
				pool.Undo(a)
			}
		}
	}()
	for {
		a, ok := e.pick(n, key)
		if !ok {
			return nil, false
		}
		if !taken(a) {
			return &choice{key: key, addr: a}, true
		}
		passed = append(passed, a)
	}
}

// renameParts brings the names of a network's endpoints on other hosts and of its services,
// which are in a zone, from one state of it to another; nil: it has none.
func renameParts(z *dns.Zone, from, to *model.Network) {
	renameFar(z, partsOf(from).Far, partsOf(to).Far)
	renameServices(z, partsOf(from).Services, partsOf(to).Services)
}

// partsOf are the parts of a network; there may be no network.
func partsOf(n *model.Network) *model.Overlay {
	if n == nil || n.Overlay == nil {
		return &model.Overlay{}
	}
	return n.Overlay
}

func renameFar(z *dns.Zone, from, to []*model.Far) {
	var put []dns.Host
	var gone []string
	for was, is := range model.Changes(from, to, (*model.Far).Order) {
		switch {
		case is != nil && !is.Stopped:
			put = append(put, dns.Host{ID: string(is.ID), Names: is.Names, Addrs: is.Addrs})
		case was != nil:
			gone = append(gone, string(was.ID))
		}
	}
	if len(put)+len(gone) > 0 {
		z.Update(put, gone...)
	}
}
