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
