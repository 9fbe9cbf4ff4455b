package model

import "fmt"

// checkNIC reports what contradicts itself in a network that is a NIC.
func (n *Network) checkNIC() error {
	switch {
	case n.Driver != DriverPhys:
		return nil
	case n.Options.Parent == "":
		return fmt.Errorf("parent: missing: give the NIC that is to move, as -o parent=eth2")
	case n.Options.Parent == "lo":
		return fmt.Errorf("option parent: lo: is no NIC")
	}
	return nil
}

// NIC returns the host's device that a network of driver phys moves: the parent, or a
// VLAN of it that was there. Of one that was not the device is made where it is to be,
// and the name is "".
func (n *Network) NIC() string {
	if n.Options.VLAN != 0 && !n.Options.Adopted {
		return ""
	}
	return n.Lower()
}
