package model

import (
	"slices"
	"strconv"
)

// A Linux bridge holds 1,023 ports (BR_MAX_PORTS in net/bridge/br_private.h). A
// network with more endpoints has shards: bridges without addresses, each tied
// to the first one by an uplink, which is a veth.
const (
	// ShardPorts is how many endpoints one bridge takes.
	ShardPorts = 1000
	// AdoptedPorts is how many an adopted bridge takes: others use it too.
	AdoptedPorts = 500
	// MaxShards is how many shards a network may have: all their uplinks are
	// ports of the first bridge, as is what leads to other hosts.
	MaxShards = 20
)

// Room returns how many endpoints a bridge of the network takes.
func (n *Network) Room(shard int) int {
	if shard == 0 && n.Options.Adopted {
		return AdoptedPorts
	}
	return ShardPorts
}

// Bridge returns the name of one of the network's bridges: Device for 0, those
// of its shards from 1 to n.Shards.
func (n *Network) Bridge(shard int) string {
	if shard == 0 {
		return n.Device()
	}
	return n.shardName(shard, "b")
}

// HasBridge reports whether a device is one of the network's bridges.
func (n *Network) HasBridge(dev string) bool {
	if dev == n.Base() || slices.ContainsFunc(n.Ways(), func(l Lane) bool { return l.Bridge == dev }) {
		return true
	}
	for i := range n.Shards + 1 {
		if n.Bridge(i) == dev {
			return true
		}
	}
	return false
}

// Uplink returns the names of the two ends of the veth between the first bridge
// and a shard: the first bridge's port, and the shard's.
func (n *Network) Uplink(shard int) (first, last string) {
	return n.shardName(shard, "u"), n.shardName(shard, "d")
}

// shardName is 15 bytes, as many as a device's name may have: the number is one
// digit to the base 36, and never the l of the other devices' names.
func (n *Network) shardName(shard int, what string) string {
	return "s" + strconv.FormatInt(int64(shard), 36) + what + string(n.ID)
}
