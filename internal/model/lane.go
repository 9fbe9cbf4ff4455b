package model

import (
	"fmt"
	"hash/fnv"
	"slices"
)

// Lane is a VLAN with a bridge of its own: the VLAN's device is a port of it, so
// that nothing has to sort frames.
type Lane struct {
	VLAN   int
	Bridge string // whose ports are in the VLAN
	Port   string // the VLAN's device, a port of Bridge
	Parent string // the device that Port is on, where frames have tags
}

// Ways returns the lanes of a network in the order of Lanes, or the one that
// leads to the VLAN of its parent.
func (n *Network) Ways() []Lane {
	if n.Driver != DriverBridge {
		return nil
	}
	if on := n.Options.Parent; on != "" {
		return []Lane{{n.Options.VLAN, n.Base(), VLANDevice(on, n.Options.VLAN), on}}
	}
	var out []Lane
	for _, v := range n.Lanes {
		out = append(out, Lane{v, n.laneBridge(v), VLANDevice(n.Base(), v), n.Base()})
	}
	return out
}

// HasLane reports whether a VLAN is a bridge of its own on the network's bridge.
func (n *Network) HasLane(vlan int) bool { return vlan != 0 && slices.Contains(n.Lanes, vlan) }

// WithLane returns the network with one more lane, in order.
func (n *Network) WithLane(vlan int) *Network {
	c := *n
	c.Lanes = append(slices.Clone(n.Lanes), vlan)
	slices.Sort(c.Lanes)
	return &c
}

// laneBridge names the bridge of a lane: that of the network's own VLAN as the
// bridge of a network without a name for it, where that name is free.
func (n *Network) laneBridge(vlan int) string {
	if vlan == n.Options.VLAN && n.Options.Device != "" {
		return n.plainBridge()
	}
	h := fnv.New32a()
	h.Write([]byte(n.ID))
	return fmt.Sprintf("slw%08x%04d", h.Sum32(), vlan)
}

// BridgeOf returns the name of the bridge that an endpoint is a port of.
func (n *Network) BridgeOf(e *Endpoint) string {
	if v := n.VLANOf(e); n.HasLane(v) {
		return n.laneBridge(v)
	}
	return n.Bridge(e.Shard)
}

// Hostless reports whether the host has no part in a lane: it is another VLAN than
// the network's, or one of somebody's bridge, where the router is theirs.
func (n *Network) Hostless(l Lane) bool { return l.Bridge != n.Device() || n.Wired() }

// checkLanes reports VLANs with their tags, which no lane has.
func (n *Network) checkLanes() error {
	if len(n.Lanes) > 0 && n.Options.Trunks != "" {
		return fmt.Errorf("option trunks: %s: each VLAN of the network has a bridge of its own, which has no tags", n.Options.Trunks)
	}
	return nil
}
