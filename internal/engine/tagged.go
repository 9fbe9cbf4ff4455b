package engine

import (
	"cmp"
	"context"
	"errors"
	"slices"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// beside reports whether a new network may be on the bridge of another one: as
// another VLAN of a bridge that is neither's own.
func beside(n, o *model.Network) bool {
	vlan := func(n *model.Network) bool { return n.Options.VLAN != 0 || n.Options.Trunks != "" }
	return n.Driver == model.DriverBridge && o.Driver == model.DriverBridge && o.Options.Adopted && vlan(n) && vlan(o) &&
		(n.Options.VLAN != o.Options.VLAN || n.Options.Trunks != o.Options.Trunks)
}

// settleVLAN decides how a network's bridge comes by its VLAN: it sorts frames, or
// the VLAN is a bridge of its own, on a parent or on the network's bridge.
func (d *draft) settleVLAN(n *model.Network, view *hostView) error {
	switch {
	case n.Options.VLAN == 0 && n.Options.Trunks == "":
		return nil
	case n.Options.Parent != "":
		return d.bridgeOnVLAN(n, view)
	}
	sorts, err := d.sorts(n, n.Options.Trunks)
	if err != nil || sorts {
		return err
	}
	*n = *n.WithLane(n.Options.VLAN)
	return d.laneFree(n, n.Options.VLAN, view)
}

// sorts chooses between the two ways to VLANs on a network's bridge: whether it
// sorts, or each VLAN has a bridge of its own. A network keeps to the first choice:
// containers that are there stay where they are when the kernel is another.
func (d *draft) sorts(n *model.Network, trunks model.Trunks) (bool, error) {
	if n.Sorts() && d.e.intent.Networks[n.ID] != nil {
		return true, d.can(feature.Sorting)
	}
	var lacks error
	if len(n.Lanes) == 0 {
		if lacks = d.can(feature.Sorting); lacks == nil {
			return true, nil
		}
	}
	switch tags := d.can(feature.VLAN); {
	case trunks != "" && lacks != nil:
		return false, d.sortsNot(trunks, lacks)
	case trunks != "":
		return false, d.errorf(model.Conflict, "option trunks: %s: each VLAN of network %s has a bridge of its own, since it was made where bridges do not sort", trunks, n.Name)
	case tags != nil && lacks != nil:
		return false, d.errorf(model.Unsupported, "VLANs of a bridge take one of two: %w; or %w", errors.Unwrap(lacks), errors.Unwrap(tags))
	default:
		return false, tags
	}
}

// sortsNot says that no bridge here has tags, and what the kernel lacks for that.
func (d *draft) sortsNot(trunks model.Trunks, lacks error) error {
	return d.errorf(model.Unsupported, "option trunks: %s: takes a bridge that sorts by VLAN: %w", trunks, errors.Unwrap(lacks))
}

// laneFree refuses a VLAN of a network's bridge that is somebody's already.
func (d *draft) laneFree(n *model.Network, vlan int, view *hostView) error {
	for _, l := range n.Ways() {
		if l.VLAN != vlan {
			continue
		}
		if err := d.portFree(l, view); err != nil {
			return err
		}
		if base, there := view.links[l.Parent]; there && n.Options.MTU > base.MTU && base.MTU > 0 {
			return d.errorf(model.Invalid, "mtu %d: bridge %s has %d", n.Options.MTU, base.Name, base.MTU)
		}
	}
	return nil
}

// portFree refuses the device of a VLAN that is there already, or another network's.
func (d *draft) portFree(l model.Lane, view *hostView) error {
	if have, there := view.links[l.Port]; there {
		return d.errorf(model.Conflict, "option vlan: %d: device %s exists already, as a %s", l.VLAN, l.Port, cmp.Or(string(have.Type), "plain device"))
	}
	for _, o := range d.allNetworks() {
		if o.HasPort(l.Port) || o.OnParent() && o.Lower() == l.Port {
			return d.errorf(model.Conflict, "option vlan: %d: network %s has device %s", l.VLAN, o.Name, l.Port)
		}
	}
	return nil
}

// bridgeOnVLAN is about the VLAN of a parent that a bridge of ours has as its port.
func (d *draft) bridgeOnVLAN(n *model.Network, view *hostView) error {
	if err := d.can(feature.VLAN); err != nil {
		return err
	}
	parent := n.Options.Parent
	l, there := view.links[parent]
	switch {
	case !there:
		return d.noParent(parent, view)
	case l.Type == kstate.TypeLoopback:
		return d.errorf(model.Invalid, "parent %s: is no Ethernet device", parent)
	case l.Type == kstate.TypeVLAN:
		return d.errorf(model.Invalid, "option vlan: %d: parent %s is VLAN %d of %s itself", n.Options.VLAN, parent, l.VLAN, l.Parent)
	}
	for _, way := range n.Ways() {
		if err := d.portFree(way, view); err != nil {
			return err
		}
	}
	for _, o := range d.allNetworks() {
		if o.Driver == model.DriverPhys && o.Lower() == parent {
			return d.errorf(model.Conflict, "parent %s: belongs to network %s", parent, o.Name)
		}
	}
	if n.Options.MTU == 0 {
		n.Options.MTU = l.MTU
	}
	return nil
}

// settleTags lets the bridge of an endpoint with a VLAN of its own sort frames, or
// gives the VLAN a bridge.
func (d *draft) settleTags(ctx context.Context, ep *model.Endpoint, n *model.Network) error {
	switch {
	case ep.VLAN == 0 && ep.Trunks == "":
		if (n.Sorts() || len(n.Lanes) > 0) && ep.Shard > 0 {
			return d.errorf(model.Exhausted, "network %s: all endpoints of a bridge with VLANs are taken", n.Name)
		}
		return nil
	case n.Driver == model.DriverOVS:
		return nil
	case n.Driver != model.DriverBridge:
		return d.errorf(model.Invalid, "network %s: option vlan: with driver %s the VLAN is the network's", n.Name, n.Driver)
	case n.Options.Parent != "":
		return d.errorf(model.Conflict, "network %s: option vlan: it is on VLAN %d of %s alone", n.Name, n.Options.VLAN, n.Options.Parent)
	case n.Shards > 0 || ep.Shard > 0:
		return d.errorf(model.Unsupported, "network %s: option vlan: it has too many endpoints for one bridge", n.Name)
	}
	now := d.allNetworks()[n.ID]
	sorts, err := d.sorts(now, ep.Trunks)
	switch {
	case err != nil:
		return err
	case !sorts:
		return d.addLane(ctx, now, ep.VLAN)
	case !now.Tagged:
		tagged := *now
		tagged.Tagged = true
		d.networks[n.ID] = &tagged
	}
	return nil
}

// addLane gives a VLAN of a network a bridge, unless it has one.
func (d *draft) addLane(ctx context.Context, n *model.Network, vlan int) error {
	if n.HasLane(vlan) {
		return nil
	}
	view, err := d.host(ctx)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	more := n.WithLane(vlan)
	if err := d.laneFree(more, vlan, view); err != nil {
		return err
	}
	d.networks[n.ID] = more
	return nil
}

// dropLanes takes the bridges of VLANs out of the draft's future that it takes the
// last endpoint from. That of a network's own VLAN stays.
func (d *draft) dropLanes() {
	left := map[model.ID]bool{}
	for id := range d.sandboxes {
		if old := d.e.intent.Sandboxes[id]; old != nil {
			for i := range old.Endpoints {
				ep := &old.Endpoints[i]
				if n := d.e.intent.Networks[ep.Network]; n != nil && ep.VLAN != n.Options.VLAN && n.HasLane(ep.VLAN) {
					left[n.ID] = true
				}
			}
		}
	}
	for id := range left {
		n := d.allNetworks()[id]
		if n == nil {
			continue
		}
		used := map[int]bool{n.Options.VLAN: true}
		for sb := range d.allSandboxes() {
			for i := range sb.Endpoints {
				if ep := &sb.Endpoints[i]; ep.Network == id {
					used[ep.VLAN] = true
				}
			}
		}
		c := *n
		c.Lanes = slices.DeleteFunc(slices.Clone(n.Lanes), func(v int) bool { return !used[v] })
		if len(c.Lanes) < len(n.Lanes) {
			d.networks[id] = &c
		}
	}
}
