package engine

import (
	"cmp"

	"github.com/sealane/sealane/internal/feature"
	"github.com/sealane/sealane/internal/model"
)

// settleSwitch decides about a network's bridge of Open vSwitch: one that exists
// and is adopted, that of other networks of ours, or a new one.
func (d *draft) settleSwitch(n *model.Network, view *hostView) error {
	dev, asked := n.Device(), n.Options.Datapath
	others, err := d.sameSwitch(dev)
	if err != nil {
		return err
	}
	if nic := d.lenderOf(dev); nic != nil {
		return d.isNICOf(nic, "device")
	}
	there, exists := view.switches[dev]
	l, taken := view.links[dev]
	switch {
	case others != nil:
		n.Options.Adopted, n.Options.Datapath = others.Options.Adopted, others.Options.Datapath
	case exists:
		n.Options.Adopted, n.Options.Datapath = true, there.Datapath
	case taken:
		return d.errorf(model.Conflict, "device %s: exists and is a %s, not a bridge of Open vSwitch", dev, cmp.Or(string(l.Type), "plain device"))
	default:
		if err := d.chooseDatapath(n); err != nil {
			return err
		}
	}
	if asked != "" && asked != n.Options.Datapath {
		return d.errorf(model.Conflict, "option datapath: %s: bridge %s has %s", asked, dev, n.Options.Datapath)
	}
	if n.Options.MTU == 0 {
		n.Options.MTU = view.mtu()
	}
	return nil
}

// sameSwitch returns a network on the same bridge, or nil. A network of another
// kind has the device for itself.
func (d *draft) sameSwitch(dev string) (*model.Network, error) {
	var same *model.Network
	for _, o := range d.allNetworks() {
		switch {
		case o.Driver == model.DriverPool || o.Device() != dev:
		case o.Driver != model.DriverOVS:
			return nil, d.errorf(model.Conflict, "device %s: belongs to network %s", dev, o.Name)
		default:
			same = o
		}
	}
	return same, nil
}

// chooseDatapath takes the kernel's where it has one, unless the user chose.
func (d *draft) chooseDatapath(n *model.Network) error {
	err := d.can(feature.OpenVSwitch)
	switch n.Options.Datapath {
	case model.DatapathSystem:
		return err
	case "":
		n.Options.Datapath = model.DatapathSystem
		if err != nil {
			n.Options.Datapath = model.DatapathNetdev
		}
	}
	return nil
}

// checkSwitched refuses an endpoint that a port of Open vSwitch cannot be.
func (d *draft) checkSwitched(n *model.Network, spec EndpointSpec) error {
	if n.Driver == model.DriverOVS && spec.Limits != (model.Limits{}) {
		return d.errorf(model.Unsupported, "network %s: rates are Open vSwitch's own business there", n.Name).
			WithHint("see ingress_policing_rate and QoS in ovs-vswitchd.conf.db(5)")
	}
	return nil
}
