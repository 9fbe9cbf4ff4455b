package model

import (
	"fmt"
	"slices"
)

// Sorts reports whether the network's bridge sorts frames by VLAN (IEEE 802.1Q):
// where the network has one, or an endpoint one of its own. A bridge that a VLAN of
// a device leads to has that one alone, and nothing to sort.
func (n *Network) Sorts() bool {
	return n.Driver == DriverBridge && len(n.Lanes) == 0 && (n.onVLAN() && n.Options.Parent == "" || n.Tagged)
}

func (n *Network) onVLAN() bool { return n.Options.VLAN != 0 || n.Options.Trunks != "" }

// onOthers reports whether the network is a VLAN of somebody's bridge, which others
// are on, and where the host has its own address or none.
func (n *Network) onOthers() bool {
	return n.Driver == DriverBridge && n.Options.Adopted && n.onVLAN()
}

// HasPort reports whether a device is one that a VLAN leads to a bridge of the
// network by.
func (n *Network) HasPort(dev string) bool {
	return slices.ContainsFunc(n.Ways(), func(l Lane) bool { return l.Port == dev })
}

// checkPort reports what contradicts a bridge's being on a VLAN of a device.
func (n *Network) checkPort() error {
	o := n.Options
	switch {
	case n.Driver != DriverBridge || o.Parent == "":
		return nil
	case o.VLAN == 0:
		return fmt.Errorf("option parent: %s: takes option vlan: a bridge is on one VLAN of it", o.Parent)
	case o.Trunks != "":
		return fmt.Errorf("option trunks: %s: option parent leads to VLAN %d alone", o.Trunks, o.VLAN)
	case o.Adopted:
		return fmt.Errorf("option parent: %s: bridge %s is not ours to give a port", o.Parent, n.Device())
	}
	return nil
}
