package engine

import (
	"cmp"
	"context"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/kstate"
	"github.com/sealane/sealane/internal/model"
)

// settleNIC decides about the NIC of a network: it must be there, nobody's port or
// parent, and no other network's.
func (d *draft) settleNIC(n *model.Network, view *hostView) error {
	if n.Origin == model.OriginDocker {
		return d.errorf(model.Unsupported, "driver phys: Docker would not give the NIC back: it is in no plugin's power to have it returned as it was").
			WithHint("make it with sealane network create -d phys, and put a container on it with sealane network connect NETWORK docker:NAME")
	}
	name := n.Options.Parent
	if name == "" {
		return nil // Validate says what to give
	}
	for _, o := range d.allNetworks() {
		whole := n.Options.VLAN == 0 || o.Driver == model.DriverPhys && o.Options.VLAN == 0
		if o.Options.Parent == name && (whole || o.Lower() == n.Lower()) {
			return d.errorf(model.Conflict, "parent %s: belongs to network %s", name, o.Name)
		}
	}
	l, there := view.links[name]
	if !there {
		return d.noParent(name, view)
	}
	if err := d.settleNICVLAN(n, &l, view); err != nil {
		return err
	}
	n.Options.MTU = cmp.Or(n.Options.MTU, l.MTU)
	return nil
}

// settleNICVLAN decides about the VLAN of a NIC, whose device is l afterwards if it is
// there. What moves must be free to.
func (d *draft) settleNICVLAN(n *model.Network, l *kstate.Link, view *hostView) (err error) {
	if n.Options.VLAN != 0 {
		if *l, err = d.tagged(n, *l, view); err != nil {
			return err
		}
	}
	switch {
	case n.NIC() != "":
		return d.lendable(*l, view)
	case l.Type == kstate.TypeLoopback:
		return d.errorf(model.Invalid, "parent %s: is no NIC", l.Name)
	}
	return d.can(feature.VLAN)
}

// lenderOf returns the network whose NIC a device of the host's is, at home or away, or
// nil.
func (d *draft) lenderOf(dev string) *model.Network {
	for _, n := range d.allNetworks() {
		if n.Driver == model.DriverPhys && n.NIC() == dev {
			return n
		}
	}
	return nil
}

// isNICOf refuses the name of a NIC, which is to be its own when it comes home.
func (d *draft) isNICOf(n *model.Network, what string) error {
	if what != "" {
		what += " " + n.NIC() + ": "
	}
	who := ""
	if sb := d.borrower(n, ""); sb != nil {
		who = ", and is with sandbox " + sb.Name
	}
	return d.errorf(model.Conflict, "%sbelongs to network %s%s", what, n.Name, who)
}

// borrower returns the sandbox that has a network's NIC, by another endpoint, or nil.
func (d *draft) borrower(n *model.Network, not model.ID) *model.Sandbox {
	for sb := range d.allSandboxes() {
		for e := range sb.On(n.ID) {
			if e.ID != not && sb.Exit == nil {
				return sb
			}
		}
	}
	return nil
}

// lendable refuses a device that others need where it is.
func (d *draft) lendable(l kstate.Link, view *hostView) error {
	switch {
	case l.Type == kstate.TypeLoopback:
		return d.errorf(model.Invalid, "parent %s: is no NIC", l.Name)
	case d.masterOf(l) != "":
		return d.errorf(model.Conflict, "parent %s: is a port of %s", l.Name, d.masterOf(l))
	case l.Type == kstate.TypeBridge:
		return d.errorf(model.Invalid, "parent %s: is a bridge, and cannot move", l.Name).WithHint("use -d bridge -o name=%s", l.Name)
	case d.isSwitch(l.Name):
		return d.errorf(model.Invalid, "parent %s: is a bridge, and cannot move", l.Name).WithHint("use -d ovs -o name=%s", l.Name)
	}
	for _, on := range view.links {
		if on.Type.OnParent() && on.Parent == l.Name {
			return d.errorf(model.Conflict, "parent %s: device %s is on it", l.Name, on.Name)
		}
	}
	for _, r := range view.routes {
		if r.Dev == l.Name && (r.Dst.Bits() == 0 || r.Via.IsValid()) {
			return d.errorf(model.Conflict, "parent %s: the host's route to %s leads there", l.Name, r.Dst)
		}
	}
	return nil
}

// lendNIC refuses a second endpoint of a NIC. Without another it keeps the NIC's own
// hardware address.
func (d *draft) lendNIC(ctx context.Context, ep *model.Endpoint, n *model.Network) error {
	if n.Driver != model.DriverPhys {
		return nil
	}
	if ep.Handed {
		return d.errorf(model.Unsupported, "network %s: driver phys: a container engine takes no NIC from us", n.Name)
	}
	if sb := d.borrower(n, ep.ID); sb != nil {
		return d.errorf(model.InUse, "network %s: device %s is with sandbox %s", n.Name, n.Lower(), sb.Name)
	}
	view, err := d.host(ctx)
	if err != nil {
		return internal(d.ref, d.op, err)
	}
	l, there := view.links[cmp.Or(n.NIC(), n.Options.Parent)]
	if !there { // it is awaited
		return nil
	}
	if ep.MAC = cmp.Or(ep.MAC, l.MAC); n.NIC() == "" {
		return nil
	}
	return d.lendable(l, view)
}
